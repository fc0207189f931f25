"""The request target: its four forms, of which two and a half are served, and the authority of the absolute form."""

from __future__ import annotations

from tests.conformance.case import HOST, Requests, Seen, get, line

ORIGIN = Requests("origin form", "RFC 9112 section 3.2.1")
for name, target in (
    ("a path and a query", b"/a/b?c=d&e"),
    ("an empty query", b"/?"),
    ("two slashes", b"//a//b"),
    ("dots", b"/a/../b/./c"),
    ("percent", b"/%00%2F%0d%0a%zz"),
    ("what a URI may not hold", b'/<a>{b}|c\\^`"'),
    ("an address within", b"/http://other.example/"),
    ("an at sign", b"//me@other.example/"),
    ("a semicolon", b"/a;b=c"),
):
    ORIGIN.take(name, line(b"GET " + target + b" HTTP/1.1"), Seen(target=target), asgi="rebuilds the target")
ORIGIN.refuse("a fragment", line(b"GET /a#b HTTP/1.1"))
ORIGIN.refuse("an empty fragment", line(b"GET /# HTTP/1.1"))
ORIGIN.refuse("a fragment in the query", line(b"GET /?a#b HTTP/1.1"))
ORIGIN.refuse("no slash", line(b"GET index.html HTTP/1.1"))
ORIGIN.refuse("a query alone", line(b"GET ?a HTTP/1.1"))
ORIGIN.refuse("a backslash", line(b"GET \\a HTTP/1.1"))
ORIGIN.refuse("NUL", line(b"GET /a\0b HTTP/1.1"), cve="CVE-2016-6816")
ORIGIN.refuse("a control character", line(b"GET /a\x01b HTTP/1.1"), cve="CVE-2016-6816")
ORIGIN.refuse("DEL", line(b"GET /a\x7fb HTTP/1.1"))
ORIGIN.refuse("a tab", line(b"GET /a\tb HTTP/1.1"))
ORIGIN.refuse("CR", line(b"GET /a\rb HTTP/1.1"), cve="CVE-2016-6816")
ORIGIN.refuse("LF", line(b"GET /a\nb HTTP/1.1"), cve="CVE-2016-6816")

ASTERISK = Requests("asterisk form", "RFC 9112 section 3.2.4")
ASTERISK.take("with OPTIONS", line(b"OPTIONS * HTTP/1.1"), Seen(b"OPTIONS", b"*"), asgi="has no path to give")
ASTERISK.refuse("with GET", line(b"GET * HTTP/1.1"))
ASTERISK.refuse("with POST", line(b"POST * HTTP/1.1"))
ASTERISK.refuse("more of them", line(b"OPTIONS ** HTTP/1.1"))
ASTERISK.refuse("with a query", line(b"OPTIONS *?a HTTP/1.1"))

AUTHORITY = Requests("authority form", "RFC 9112 section 3.2.3")
AUTHORITY.refuse("with GET", line(b"GET example.com:80 HTTP/1.1"))
AUTHORITY.refuse("without a port", line(b"GET example.com HTTP/1.1"))

ABSOLUTE = Requests("absolute form", "RFC 9112 section 3.2.2")
for name, target, host, path in (
    ("a path", b"http://example.com/a?b", b"example.com", b"/a?b"),
    ("no path", b"http://example.com", b"example.com", b"/"),
    ("a query without a path", b"http://example.com?a", b"example.com", b"/?a"),
    ("https", b"https://example.com/a", b"example.com", b"/a"),
    ("capitals", b"HTTP://EXAMPLE.com:80/A", b"EXAMPLE.com:80", b"/A"),
    ("an IPv6 literal", b"http://[2001:db8::1]:8080/", b"[2001:db8::1]:8080", b"/"),
    ("an empty port", b"http://example.com:/", b"example.com:", b"/"),
    ("two slashes", b"http://example.com//a", b"example.com", b"//a"),
    ("an at sign in its path", b"http://example.com/@other.example", b"example.com", b"/@other.example"),
):
    ABSOLUTE.take(
        name,
        line(b"GET " + target + b" HTTP/1.1"),
        Seen(target=path, fields={"host": (host,)}),
        asgi="reads the path alone",
    )
ABSOLUTE.take(
    "another Host beside it",
    get(b"Host: other.example\r\n", b"GET http://example.com/ HTTP/1.1"),
    Seen(fields={"host": (b"example.com",), "x-forwarded-host": (b"example.com",)}),
    asgi="reads the path alone",
)
ABSOLUTE.take(
    "OPTIONS for a whole host",
    line(b"OPTIONS http://example.com HTTP/1.1"),
    Seen(b"OPTIONS", b"*", fields={"host": (b"example.com",)}),
    asgi="has no path to give",
)
ABSOLUTE.refuse("no Host beside it", b"GET http://example.com/ HTTP/1.1\r\n\r\n")
ABSOLUTE.refuse("two Hosts beside it", get(HOST + HOST, b"GET http://example.com/ HTTP/1.1"))
ABSOLUTE.refuse("a bad Host beside it", get(b"Host: a b\r\n", b"GET http://example.com/ HTTP/1.1"))
ABSOLUTE.refuse("a user", line(b"GET http://me@example.com/ HTTP/1.1"))
ABSOLUTE.refuse("a user and a password", line(b"GET http://me:secret@example.com/ HTTP/1.1"))
ABSOLUTE.refuse("ftp", line(b"GET ftp://example.com/ HTTP/1.1"))
ABSOLUTE.refuse("file", line(b"GET file:///etc/passwd HTTP/1.1"))
ABSOLUTE.refuse("unix", line(b"GET unix:/run/a|http://example.com/ HTTP/1.1"), cve="CVE-2021-40438")
ABSOLUTE.refuse("javascript", line(b"GET javascript:alert(1) HTTP/1.1"))
ABSOLUTE.refuse("no authority", line(b"GET http:///a HTTP/1.1"))
ABSOLUTE.refuse("one slash", line(b"GET http:/example.com/ HTTP/1.1"))
ABSOLUTE.refuse("a port alone", line(b"GET http://:80/ HTTP/1.1"))
ABSOLUTE.refuse("two ports", line(b"GET http://example.com:80:80/ HTTP/1.1"))
ABSOLUTE.refuse("a port of letters", line(b"GET http://example.com:http/ HTTP/1.1"))
ABSOLUTE.refuse("a backslash", line(b"GET http://example.com\\@other.example/ HTTP/1.1"))
ABSOLUTE.refuse("an open bracket", line(b"GET http://[::1/ HTTP/1.1"))
ABSOLUTE.refuse("a tab in the authority", line(b"GET http://exa\tmple.com/ HTTP/1.1"))
ABSOLUTE.refuse("a high byte in the authority", line(b"GET http://ex\xe4mple.com/ HTTP/1.1"))
ABSOLUTE.refuse("a fragment", line(b"GET http://example.com/#b HTTP/1.1"))
