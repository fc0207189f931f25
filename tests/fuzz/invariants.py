"""What must be true whatever was sent: pure comparisons of an outcome with an independent reading of the input.

The balancer may refuse more than the reading does; what it passes on must be what the reading says, whole:

    backend-malformed   the backend sees well-formed requests only
    backend-requests    those the client sent, in order, none twice, none besides
    backend-fields      the client's fields without those of the hop, plus ours, exactly once
    backend-body        the client's body
    backend-reuse       no connection is used again behind an answer that was malformed, cut, or followed by a byte
    client-stream       well-formed responses to the requests, in order, or a cut
    client-answer       each with the body its own request was answered with
    sentinel            another client of the same pool gets its own answer
    hang                nothing stays behind
    good                a valid request is answered
"""

from __future__ import annotations

from tests.fuzz.at_backend import check_backend
from tests.fuzz.at_client import check_response, check_stream
from tests.fuzz.mutate import REQUEST, Input
from tests.fuzz.outcome import Outcome, Violation
from tests.fuzz.reading import Malformed, Message, read_request


def check(given: Input, outcome: Outcome, backend_port: int) -> list[Violation]:
    """Every invariant that this outcome breaks."""
    found = [Violation("backend-malformed", each) for each in outcome.malformed]
    found += [Violation("hang", each) for each in outcome.hangs]
    found += [Violation("sentinel", each) for each in outcome.sentinel]
    if given.direction == REQUEST:
        sent = read_requests(given.data, outcome)
        found += check_backend(given, outcome, sent, backend_port)
        found += check_stream(given, outcome, sent)
    else:
        found += check_response(given, outcome)
    return found


def read_requests(data: bytes, outcome: Outcome) -> list[Message]:
    """The requests in what a client sent, up to where nobody may read on; the last may be incomplete."""
    requests: list[Message] = []
    position = 0
    try:
        while position < len(data):
            message = read_request(data, position)
            if message is None:
                break
            requests.append(message)
            if not message.complete or message.broken:
                break
            position = message.end
            seen = outcome.seen[len(requests) - 1 : len(requests)]
            if message.tunnel and seen and seen[0].message.tunnel and b"/ws" in seen[0].message.start[1]:
                break
    except Malformed:
        pass
    return requests
