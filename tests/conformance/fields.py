"""Field lines: their syntax, and what passes untouched."""

from __future__ import annotations

from tests.conformance.case import HOST, Requests, Seen, field_line, get, post

SYNTAX = Requests("field syntax", "RFC 9112 section 5.1, RFC 9110 section 5.5")


def passes(name: str, text: bytes, key: str, *values: bytes, cve: str = "") -> None:
    """A field that reaches the backend as it is."""
    SYNTAX.take(name, field_line(text), Seen(fields={key: values}), cve=cve)


passes("a field", b"X-A: b", "x-a", b"b")
passes("no blank", b"X-A:b", "x-a", b"b")
passes("blanks around the value", b"X-A: \t b \t ", "x-a", b"b")
passes("an empty value", b"X-A:", "x-a", b"")
passes("every token character", b"!#$%&'*+-.^_`|~09azAZ: b", "!#$%&'*+-.^_`|~09azaz", b"b")
passes("high bytes in a value", b"X-A: \x80\xff", "x-a", b"\x80\xff")
passes("a tab in a value", b"X-A: b\tc", "x-a", b"b\tc")
passes("colons in a value", b"X-A: b: c::d", "x-a", b"b: c::d")
passes("quotes that do not end", b'X-A: "b', "x-a", b'"b')
passes("the same twice", b"X-A: b\r\nx-a: c", "x-a", b"b", b"c")
passes("two Cookies", b"Cookie: a=b\r\nCookie: c=d", "cookie", b"a=b", b"c=d")
passes("one that begins like Content-Length", b"Content-Lengthy: 5", "content-lengthy", b"5")
passes("one that ends like Host", b"X-Host: other.example", "x-host", b"other.example")
passes("one that begins like Transfer-Encoding", b"Transfer-Encodings: chunked", "transfer-encodings", b"chunked")
SYNTAX.take(
    "a name that overflows one byte",
    post(b"Content-Length0" + b"a" * 255 + b":\r\nContent-Length: 5", b"hello"),
    Seen(b"POST", body=b"hello", fields={"content-length": (b"5",)}),
    cve="CVE-2021-40346",
)
for name, text, cve in (
    ("no colon", b"X-A", "CVE-2019-20444"),
    ("no colon in the last", b"X-A: b\r\nX-B", "CVE-2019-20444"),
    ("no name", b": b", "CVE-2023-25725"),
    ("a colon alone", b":", "CVE-2023-25725"),
    ("blank before the colon", b"X-A : b", "CVE-2019-16276"),
    ("tab before the colon", b"X-A\t: b", "CVE-2019-16276"),
    ("blank in a name", b"X A: b", ""),
    ("bracket in a name", b"X(A): b", ""),
    ("quote in a name", b'X"A: b', ""),
    ("slash in a name", b"X/A: b", ""),
    ("comma in a name", b"X,A: b", ""),
    ("at sign in a name", b"X@A: b", ""),
    ("high byte in a name", b"X\xe9: b", ""),
    ("NUL in a name", b"X\0A: b", "CVE-2021-43797"),
    ("a control character before a name", b"\x01X-A: b", "CVE-2021-43797"),
    ("DEL in a name", b"X\x7fA: b", ""),
    ("NUL in a value", b"X-A: b\0c", ""),
    ("NUL alone", b"X-A: \0", ""),
    ("a control character in a value", b"X-A: b\x01c", ""),
    ("vertical tab in a value", b"X-A: b\x0bc", ""),
    ("form feed in a value", b"X-A: b\x0cc", ""),
    ("escape in a value", b"X-A: \x1b[2J", ""),
    ("DEL in a value", b"X-A: b\x7fc", ""),
    ("bare CR in a value", b"X-A: b\rContent-Length: 5", "CVE-2023-30589"),
    ("bare CR at the end of a value", b"X-A: b\r", "CVE-2023-30589"),
    ("bare LF in a value", b"X-A: b\nX-B: c", "CVE-2022-32214"),
    ("a request behind bare LFs", b"X-A: b\n\nGET /smuggled HTTP/1.1\nHost: example.com", "CVE-2022-32214"),
    ("LF CR LF", b"X-A: b\n\r\n", "CVE-2022-35256"),
):
    SYNTAX.refuse(name, field_line(text), cve=cve)

FOLDING = Requests("obsolete folding", "RFC 9112 section 5.2")
FOLDING.take("none", field_line(b"X-A: b c"), Seen(fields={"x-a": (b"b c",)}))
FOLDING.refuse("with a blank", field_line(b"X-A: b\r\n c: d"))
FOLDING.refuse("with a tab", field_line(b"X-A: b\r\n\tc"))
FOLDING.refuse("at once", get(b" X-A: b\r\n" + HOST), marked=False)
FOLDING.refuse(
    "at once, with a Content-Length", get(b" Content-Length: 5\r\n" + HOST), cve="CVE-2024-27982", marked=False
)
FOLDING.refuse("a blank before a length", post(b" Content-Length: 5", b"hello"), cve="CVE-2024-27982")
FOLDING.refuse("a blank before a coding", post(b" Transfer-Encoding: chunked", b"0\r\n\r\n"), cve="CVE-2020-7238")
FOLDING.refuse("into nothing", field_line(b"X-A:\r\n b"))
FOLDING.refuse("a blank line of blanks", field_line(b"X-A: b\r\n "))
FOLDING.refuse("the coding", post(b"Transfer-Encoding:\r\n chunked", b"0\r\n\r\n"), cve="CVE-2022-32215")
FOLDING.refuse(
    "the coding, within", post(b"Transfer-Encoding: chunked\r\n , identity", b"0\r\n\r\n"), cve="CVE-2022-32215"
)
FOLDING.refuse("the length", post(b"Content-Length:\r\n 5", b"hello"), cve="CVE-2019-16792")

SHADOWS = Requests("underscores", "RFC 3875 section 4.1.18")
for shadow in (
    b"Content_Length",
    b"Transfer_Encoding",
    b"X_Forwarded_For",
    b"X-Forwarded_For",
    b"X_Forwarded-Proto",
    b"X_Real_IP",
    b"X_Request_Id",
    b"Proxy_Connection",
):
    SHADOWS.take(shadow.decode(), field_line(shadow + b": 5"), Seen(absent=(shadow.decode().lower(),)))
SHADOWS.take("one that shadows nothing", field_line(b"X_Tenant: 5"), Seen(fields={"x_tenant": (b"5",)}))
