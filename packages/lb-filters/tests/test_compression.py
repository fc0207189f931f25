"""What is compressed, decided on heads alone."""

from __future__ import annotations

import pytest

from lb_core.testing import exchange
from lb_filters.compression import STREAMS_MOST, Compression, CompressionSettings


def answered(feature: Compression, head: str = "", *, accept: str = "gzip", status: int = 200, method: str = "GET"):  # type: ignore[no-untyped-def]
    made = exchange("/", method=method, headers={"Accept-Encoding": accept} if accept else {})
    made.status = status
    made.response_head = f"HTTP/1.1 {status} Said\r\n{head}\r\n\r\n".encode()
    feature.on_response(made)
    return made


HTML = "Content-Type: text/html"


def test_a_text_is_compressed() -> None:
    made = answered(Compression(CompressionSettings()), HTML)
    assert made.transform is not None
    assert made.response_headers["Content-Encoding"] == "gzip"
    assert made.response_headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("Server: x", {}),
        ("Content-Type: image/png", {}),
        (HTML + "\r\nContent-Length: 1023", {}),
        (HTML + "\r\nContent-Encoding: gzip", {}),
        (HTML + "\r\ncache-control: no-transform", {}),
        (HTML, {"accept": ""}),
        (HTML, {"accept": "gzip" + ", br" * 100}),
        (HTML, {"method": "HEAD"}),
        (HTML, {"status": 204}),
        (HTML, {"status": 206}),
        (HTML, {"status": 304}),
    ],
)
def test_what_is_not(head: str, options: dict[str, object]) -> None:
    made = answered(Compression(CompressionSettings()), head, **options)
    assert made.transform is None
    assert "gzip" not in made.response_headers.get("content-encoding", "") or "gzip" in head


def test_the_number_of_bodies_at_a_time_has_a_limit() -> None:
    feature = Compression(CompressionSettings())
    first = [answered(feature, HTML) for _ in range(STREAMS_MOST)]
    assert all(made.transform is not None for made in first)
    assert answered(feature, HTML).transform is None
    feature.on_complete(first[0])
    assert answered(feature, HTML).transform is not None
    assert "256 answers" in feature.describe()


def test_types_are_remembered_up_to_a_limit() -> None:
    feature = Compression(CompressionSettings(types=("a/*",)))
    for number in range(2500):
        assert answered(feature, f"Content-Type: a/{number}").transform is not None or number >= STREAMS_MOST
    assert len(feature._compressible) <= 1000
