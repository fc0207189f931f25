"""Content-Length."""

from __future__ import annotations

from tests.conformance.case import Requests, Seen, field_line, post

LENGTH = Requests("Content-Length", "RFC 9112 section 6.2, RFC 9110 section 8.6")
BODY = Seen(b"POST", body=b"hello", fields={"content-length": (b"5",)}, absent=("transfer-encoding",))
NOTHING = Seen(b"POST", fields={"content-length": (b"0",)})

LENGTH.take("a body", post(b"Content-Length: 5", b"hello"), BODY)
LENGTH.take("no body", post(b"Content-Length: 0"), NOTHING)
LENGTH.take("no length", post(b"X-A: b"), Seen(b"POST", absent=("content-length", "transfer-encoding")))
LENGTH.take("no blank", post(b"Content-Length:5", b"hello"), BODY)
LENGTH.take("in capitals", post(b"CONTENT-LENGTH: 5", b"hello"), BODY)
LENGTH.take("zeros before it", post(b"Content-Length: 005", b"hello"), BODY)
LENGTH.take("zeros alone", post(b"Content-Length: 000"), NOTHING)
LENGTH.take("tabs around it", post(b"Content-Length:\t5\t", b"hello"), BODY)
LENGTH.take("with GET", field_line(b"Content-Length: 5") + b"hello", Seen(body=b"hello"))
LENGTH.take(
    "a body that looks like a request",
    post(b"Content-Length: 18", b"GET / HTTP/1.1\r\n\r\n"),
    Seen(b"POST", body=b"GET / HTTP/1.1\r\n\r\n"),
)
LENGTH.take(
    "a body of blank lines", post(b"Content-Length: 8", b"\r\n\r\n\r\n\r\n"), Seen(b"POST", body=b"\r\n\r\n\r\n\r\n")
)
LENGTH.take(
    "two requests",
    post(b"Content-Length: 5", b"hello") + post(b"Content-Length: 4", b"body"),
    BODY,
    Seen(b"POST", body=b"body"),
)
for name, text, cve in (
    ("two", b"Content-Length: 5\r\nContent-Length: 6", "CVE-2017-7658"),
    ("two, the first 0", b"Content-Length: 0\r\nContent-Length: 5", "CVE-2020-10108"),
    ("two, the second 0", b"Content-Length: 5\r\nContent-Length: 0", "CVE-2019-20445"),
    ("the same twice", b"Content-Length: 5\r\nContent-Length: 5", "CVE-2019-20445"),
    ("the same in two spellings", b"Content-Length: 5\r\nContent-Length: 05", ""),
    ("a list", b"Content-Length: 5, 5", "CVE-2019-16792"),
    ("a list of two", b"Content-Length: 5,6", "CVE-2019-16792"),
    ("a comma behind it", b"Content-Length: 5,", ""),
    ("plus", b"Content-Length: +5", "CVE-2021-32715"),
    ("minus", b"Content-Length: -5", "CVE-2020-15049"),
    ("minus 0", b"Content-Length: -0", ""),
    ("hexadecimal", b"Content-Length: 0x5", "CVE-2022-24761"),
    ("octal", b"Content-Length: 0o5", ""),
    ("a blank within", b"Content-Length: 5 5", ""),
    ("a tab within", b"Content-Length: 5\t5", ""),
    ("a letter", b"Content-Length: 5a", ""),
    ("a letter before it", b"Content-Length: a5", ""),
    ("quotes", b'Content-Length: "5"', ""),
    ("an underscore", b"Content-Length: 1_0", "CVE-2023-47627"),
    ("a point", b"Content-Length: 5.0", ""),
    ("an exponent", b"Content-Length: 5e0", ""),
    ("a semicolon", b"Content-Length: 5;q=1", ""),
    ("empty", b"Content-Length:", "CVE-2023-40225"),
    ("blanks", b"Content-Length: \t ", "CVE-2023-40225"),
    ("20 digits", b"Content-Length: 18446744073709551621", "CVE-2014-0099"),
    ("19 digits", b"Content-Length: 9223372036854775813", "CVE-2014-0099"),
    ("40 zeros and a 5", b"Content-Length: " + b"0" * 40 + b"5", ""),
    ("digits of another script", "Content-Length: ٥".encode(), "CVE-2023-47627"),
    ("NUL behind it", b"Content-Length: 5\0", ""),
    ("vertical tab before it", b"Content-Length: \x0b5", "CVE-2020-15049"),
    ("blank before the colon", b"Content-Length : 5", "CVE-2019-16869"),
    ("no-break space before it", b"Content-Length: \xa05", ""),
):
    LENGTH.refuse(name, post(text, b"hello"), cve=cve)
