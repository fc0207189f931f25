"""What the features do to a request, without a balancer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb_core.testing import exchange
from lb_filters.allow_clients import REMEMBERED, AllowClients, AllowClientsSettings
from lb_filters.client_fields import ClientFields, check_request_field
from lb_filters.edit_headers import BothEdits, EditHeadersSettings, RequestEdits, ResponseEdits
from lb_filters.edit_headers import build as build_edits
from lb_filters.redirect import Redirect, RedirectSettings
from lb_filters.respond import Respond, RespondSettings
from lb_filters.rewrite import Rewrite, RewriteSettings

TARGET = st.text(st.sampled_from("/.\\%2e;?ab&="), max_size=14).map("/".__add__)


@given(TARGET)
def test_no_rewrite_leaves_its_place(target: str) -> None:
    asked = exchange(target)
    rewrite = Rewrite(RewriteSettings(prefix="/a", to="/b/c"))
    answer = rewrite.before_request(asked)
    path, _, query = target.partition("?")
    if answer is not None:
        assert answer.status == 400
        return
    if path != "/a" and not path.startswith("/a/"):
        assert asked.rewritten == ""
        return
    new, _, kept = asked.rewritten.partition("?")
    assert new.startswith("/b/c")
    assert new[4:5] in ("", "/")
    assert kept == query
    segments = new.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace("\\", "/").split("/")
    assert not {segment.partition(";")[0] for segment in segments} & {".", ".."}


@given(TARGET, st.sampled_from(["{path}", "{uri}", "/x{path}", "{path}/"]))
def test_no_redirect_leads_to_another_host(target: str, to: str) -> None:
    answer = Redirect(RedirectSettings(to=to)).before_request(exchange(target))
    assert answer is not None
    location = answer.encode().partition(b"Location: ")[2].partition(b"\r\n")[0]
    assert location[:1] == b"/"
    assert location[1:2] not in (b"/", b"\\")


def test_a_redirect_to_https() -> None:
    redirect = Redirect(RedirectSettings(https=True))
    assert redirect.before_request(exchange("/", scheme="https")) is None
    answer = redirect.before_request(exchange("/a?b"))
    assert answer is not None
    assert b"Location: https://example.com/a?b\r\n" in answer.encode()


def test_respond_says_what_it_does() -> None:
    assert Respond(RespondSettings(status=404)).describe() == "every request is answered with 404 Not Found"
    assert Respond(RespondSettings(status=599)).describe() == "every request is answered with 599"


@pytest.mark.parametrize(
    ("listed", "client", "passes"),
    [
        ({"allow": ["10.0.0.0/8"]}, "10.1.2.3", True),
        ({"allow": ["10.0.0.0/8"]}, "11.1.2.3", False),
        ({"allow": ["10.0.0.0/8"]}, "::ffff:10.1.2.3", True),
        ({"allow": ["2001:db8::/32"]}, "2001:db8::1", True),
        ({"allow": ["fe80::/10"]}, "fe80::1%eth0", True),
        ({"allow": ["10.0.0.0/8"]}, "", False),
        ({"allow": ["10.0.0.0/8"]}, "unknown", False),
        ({"allow": ["0.0.0.0/0"]}, "::1", False),
        ({"allow": ["unix"]}, "", True),
        ({"allow": ["unix"]}, "127.0.0.1", False),
        ({"deny": ["unix"]}, "", False),
        ({"deny": ["unix"]}, "127.0.0.1", True),
        ({"deny": ["10.0.0.0/8"]}, "::ffff:10.1.2.3", False),
        ({"deny": ["10.0.0.0/8"]}, "", True),
        ({"deny": ["10.0.0.0/8"]}, "not an address", False),
        ({"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"]}, "10.1.2.3", False),
    ],
)
def test_who_may_pass(listed: dict[str, list[str]], client: str, passes: bool) -> None:
    assert AllowClients(AllowClientsSettings.model_validate(listed)).may_pass(client) is passes


def test_the_memory_of_addresses_has_a_limit() -> None:
    feature = AllowClients(AllowClientsSettings.model_validate(["10.0.0.0/8"]))
    for number in range(REMEMBERED + 5):
        feature.before_request(exchange(client=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    assert len(feature._known) <= REMEMBERED
    assert feature.before_request(exchange(client="192.0.2.1")) is not None


def fields_after(taken: ClientFields, **headers: str) -> set[str]:
    asked = exchange(headers={name.replace("0", "-"): value for name, value in headers.items()})
    taken.remove(asked)
    return {name for name, _ in asked.headers.fields()}


def test_fields_of_a_client_are_taken_in_every_spelling() -> None:
    taken = ClientFields(["X-User", "Cookie"])
    assert fields_after(taken, X0User="a", x_user="b", X_USER="c", X0Users="d", cookie="e") == {"Host", "X-Users"}
    assert fields_after(taken, Accept="X-User: a") == {"Host", "Accept"}
    assert fields_after(ClientFields([]), X0User="a") == {"Host", "X-User"}


@pytest.mark.parametrize("name", ["Host", "via", "X-Real-IP", "x-request-id", "Connection", "a b", ""])
def test_fields_that_are_not_for_a_plugin(name: str) -> None:
    with pytest.raises(ValueError, match=r"Host|lb itself|framing|token"):
        check_request_field(name)


def test_edits_are_made_where_they_are_wanted() -> None:
    def made(**directions: dict[str, object]) -> type:
        return type(build_edits(exchange().route, EditHeadersSettings.model_validate(directions)))

    assert made(request={"remove": ["A"]}) is RequestEdits
    assert made(response={"remove": ["A"]}) is ResponseEdits
    assert made(request={"remove": ["A"]}, response={"remove": ["A"]}) is BothEdits


def test_edits_of_a_response() -> None:
    edits = ResponseEdits(EditHeadersSettings.model_validate({"response": {"add": {"X-A": "{uri}"}, "remove": ["B"]}}))
    asked = exchange("/x?y")
    asked.response_head = b"HTTP/1.1 200 OK\r\nB: 1\r\nX-A: 0\r\n\r\n"
    edits.on_response(asked)
    assert asked.response_headers.fields() == [("X-A", "0"), ("X-A", "/x?y")]
