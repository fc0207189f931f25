"""Who the backend is told the client is."""

from __future__ import annotations

from tests.conformance.case import Requests, Seen, field_line, get

NOBODY = Requests("forwarding fields of clients", "RFC 7239 section 8.1")
OURS = {"x-forwarded-proto": (b"http",), "x-forwarded-host": (b"example.com",)}
NOBODY.take("none", get(), Seen(fields=OURS, absent=("forwarded", "x-forwarded-prefix")))
for text in (
    b"X-Forwarded-For: 192.0.2.1",
    b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 127.0.0.1",
    b"X-Real-IP: 192.0.2.1",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: other.example",
    b"X-Forwarded-Port: 443",
    b"X-Forwarded-Prefix: /other",
    b"X-Forwarded-Server: other.example",
    b"x-forwarded-anything: other",
    b"Forwarded: for=192.0.2.1",
    b"Forwarded: for=192.0.2.1\r\nforwarded: for=192.0.2.2",
):
    NOBODY.take(
        text.decode(),
        field_line(text),
        Seen(fields=OURS, absent=("forwarded", "x-forwarded-prefix", "x-forwarded-server", "x-forwarded-anything")),
    )
NOBODY.take("Via is appended to", field_line(b"Via: 1.0 old"), Seen(fields={"via": (b"1.0 old", b"1.1 lb")}))

TRUSTED = Requests("forwarding fields of a trusted proxy", "RFC 7239 section 5.2")
TRUST = ("trusting",)
TRUSTED.take("none", get(), Seen(fields=OURS), lanes=TRUST)
TRUSTED.take(
    "its scheme and host",
    field_line(b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: other.example"),
    Seen(fields={"x-forwarded-proto": (b"https",), "x-forwarded-host": (b"other.example",)}),
    lanes=TRUST,
)
TRUSTED.take(
    "the client's address",
    field_line(b"X-Forwarded-For: 192.0.2.7"),
    Seen(fields={"x-real-ip": (b"192.0.2.7",)}),
    lanes=TRUST,
)
TRUSTED.take(
    "a chain",
    field_line(b"X-Forwarded-For: 192.0.2.6, 192.0.2.7"),
    Seen(fields={"x-real-ip": (b"192.0.2.7",)}),
    lanes=TRUST,
)
TRUSTED.take(
    "a chain in two fields",
    field_line(b"X-Forwarded-For: 192.0.2.6\r\nX-Forwarded-For: 192.0.2.7"),
    Seen(fields={"x-real-ip": (b"192.0.2.7",)}),
    lanes=TRUST,
)
TRUSTED.take(
    "Forwarded", field_line(b"Forwarded: for=192.0.2.7"), Seen(fields={"forwarded": (b"for=192.0.2.7",)}), lanes=TRUST
)
TRUSTED.take("a shadow", field_line(b"X_Forwarded_Proto: https"), Seen(fields=OURS), lanes=TRUST)
TRUSTED.take(
    "two schemes", field_line(b"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http"), Seen(fields=OURS), lanes=TRUST
)
TRUSTED.take(
    "two hosts",
    field_line(b"X-Forwarded-Host: a.example\r\nX-Forwarded-Host: b.example"),
    Seen(fields=OURS),
    lanes=TRUST,
)
TRUSTED.take("an empty scheme", field_line(b"X-Forwarded-Proto:"), Seen(fields=OURS), lanes=TRUST)
TRUSTED.take(
    "named in Connection",
    field_line(b"X-Forwarded-Proto: https\r\nConnection: x-forwarded-proto"),
    lanes=TRUST,
    cve="CVE-2022-31813",
)
