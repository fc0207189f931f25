"""The Host field: exactly one, of a grammar."""

from __future__ import annotations

from tests.conformance.case import HOST, Requests, Seen, get, host

COUNT = Requests("one Host", "RFC 9112 section 3.2")
COUNT.take("one", get(), Seen(fields={"host": (b"example.com",), "x-forwarded-host": (b"example.com",)}))
COUNT.take("in any case", host(b"hOsT: example.com"), Seen(fields={"host": (b"example.com",)}))
COUNT.take("as the last field", get(b"X-A: b\r\n" + HOST), Seen(fields={"host": (b"example.com",)}))
COUNT.refuse("none", get(b"X-A: b\r\n"), asgi="fills in the server's own address")
COUNT.refuse("none and no other", b"GET / HTTP/1.1\r\n\r\n", asgi="fills in the server's own address")
COUNT.refuse("two", host(b"Host: example.com\r\nHost: other.example"))
COUNT.refuse("the same twice", host(b"Host: example.com\r\nhost: example.com"))
COUNT.refuse("a second far behind", get(HOST + b"X-A: b\r\nX-B: c\r\nHOST: other.example\r\n"))
COUNT.refuse("blank before its colon", host(b"Host : example.com"), cve="CVE-2019-16276")
COUNT.refuse("folded", host(b"Host:\r\n example.com"))
COUNT.refuse("a second, folded away", get(HOST + b"X-A: b\r\n Host: other.example\r\n"))

GRAMMAR = Requests("grammar of Host", "RFC 9110 section 7.2, RFC 3986 section 3.2.2")
for value in (
    b"example.com:80",
    b"example.com:",
    b"EXAMPLE.COM",
    b"example.com.",
    b"a_b.example",
    b"a-b.example",
    b"192.0.2.1:8080",
    b"[::1]",
    b"[2001:db8::1]:8080",
    b"xn--bcher-kva.example",
    b"%61.example",
):
    GRAMMAR.take(value.decode(), host(b"Host: " + value), Seen(fields={"host": (value,)}))
GRAMMAR.take("no blank before it", host(b"Host:example.com"), Seen(fields={"host": (b"example.com",)}))
GRAMMAR.take("blanks around it", host(b"Host: \t example.com \t"), Seen(fields={"host": (b"example.com",)}))
for value in (
    b"example.com other.example",
    b"example.com, other.example",
    b"example.com/x",
    b"me@example.com",
    b"example.com:http",
    b"example.com:80:80",
    b"example.com:-1",
    b"[::1",
    b"::1",
    b"[::1]x",
    b"[zz]",
    b"<b>",
    b"http://example.com",
    b"example.com\\x",
    b"example.com?a",
    b"example.com#a",
    b'"example.com"',
    b"a%zz",
    b"a%0",
    b"ex\xe4mple.com",
    b"example\0.com",
):
    GRAMMAR.refuse(value.decode("latin-1"), host(b"Host: " + value))
