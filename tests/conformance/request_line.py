"""The request line: method, target, version, and what may stand before it."""

from __future__ import annotations

from tests.conformance.case import HOST, Requests, Seen, get, line

METHODS = Requests("method", "RFC 9110 section 9.1, RFC 9112 section 3.1")
for method in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND", b"MKCOL", b"REPORT"):
    METHODS.take(method.decode(), line(method + b" / HTTP/1.1"), Seen(method))
METHODS.refuse("CONNECT", line(b"CONNECT example.com:443 HTTP/1.1"), 405)
METHODS.refuse("CONNECT with a path", line(b"CONNECT / HTTP/1.1"), 405)
METHODS.refuse("TRACE", line(b"TRACE / HTTP/1.1"), 405)
METHODS.refuse("a bracket in it", line(b"GE(T / HTTP/1.1"))
METHODS.refuse("lower case", line(b"get / HTTP/1.1"))
METHODS.refuse("unknown", line(b"BREW / HTTP/1.1"))
METHODS.refuse("none", line(b" / HTTP/1.1"))
METHODS.refuse("NUL in it", line(b"G\0ET / HTTP/1.1"))
METHODS.refuse("a high byte in it", line(b"G\xc9T / HTTP/1.1"))
METHODS.refuse("a colon behind it", line(b"GET: / HTTP/1.1"))
METHODS.refuse("a quote before it", line(b'"GET / HTTP/1.1'), cve="CVE-2016-8743")

VERSION = Requests("version", "RFC 9112 section 2.3")
VERSION.take("HTTP/1.1", line(b"GET / HTTP/1.1"))
VERSION.take("HTTP/1.0", line(b"GET / HTTP/1.0"), kept=False, followed=False)
for version in (b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.9", b"HTTP/2", b"HTTP/3"):
    VERSION.refuse(version.decode(), line(b"GET / " + version), 505)
VERSION.refuse("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, marked=False)
for version in (
    b"HTTP/1.10",
    b"HTTP/01.1",
    b"HTTP/1,1",
    b"http/1.1",
    b"HTTP/1.1x",
    b"HTTP /1.1",
    b"HTTP/+1.1",
    b"HTTP/",
):
    VERSION.refuse(version.decode(), line(b"GET / " + version), cve="CVE-2023-49081" if b"+" in version else "")
VERSION.refuse("none", line(b"GET /"), cve="CVE-2017-7656")
VERSION.refuse("RTSP/1.0", line(b"SETUP rtsp://example.com/ RTSP/1.0"))
VERSION.refuse("RTSP in HTTP", line(b"PLAY / RTSP/1.0"))
VERSION.refuse("ICE/1.0", line(b"SOURCE / ICE/1.0"))

SPACES = Requests("blanks in the request line", "RFC 9112 section 3")
SPACES.take("one each", line(b"GET /a HTTP/1.1"), Seen(target=b"/a"))
SPACES.refuse("two before the target", line(b"GET  / HTTP/1.1"))
SPACES.refuse("two before the version", line(b"GET /  HTTP/1.1"))
SPACES.refuse("one at the end", line(b"GET / HTTP/1.1 "))
SPACES.refuse("one at the start", line(b" GET / HTTP/1.1"), cve="CVE-2016-8743")
SPACES.refuse("one in the target", line(b"GET /a b HTTP/1.1"), cve="CVE-2013-4547")
SPACES.refuse("a version in the target", line(b"GET / HTTP/1.1 HTTP/1.1"))
SPACES.refuse("tabs", line(b"GET\t/\tHTTP/1.1"), cve="CVE-2016-8743")
SPACES.refuse("a vertical tab", line(b"GET\x0b/ HTTP/1.1"), cve="CVE-2016-8743")
SPACES.refuse("a form feed", line(b"GET /\x0cHTTP/1.1"), cve="CVE-2016-8743")
SPACES.refuse("a carriage return", line(b"GET\r/ HTTP/1.1"), cve="CVE-2016-8743")
SPACES.refuse("a no-break space", line(b"GET\xa0/ HTTP/1.1"))

LINE_ENDS = Requests("ends of lines", "RFC 9112 section 2.2")
LINE_ENDS.take("CR LF", get())
LINE_ENDS.refuse("LF behind the request line", b"GET / HTTP/1.1\n" + HOST + b"\r\n", cve="CVE-2022-32214")
LINE_ENDS.refuse("LF throughout", b"GET / HTTP/1.1\nHost: example.com\n\n" + get(), cve="CVE-2019-16785")
LINE_ENDS.refuse("CR throughout", b"GET / HTTP/1.1\rHost: example.com\r\r" + get(), cve="CVE-2023-30589")
LINE_ENDS.refuse("CR CR LF", b"GET / HTTP/1.1\r\r\n" + HOST + b"\r\n")
LINE_ENDS.refuse("LF CR", b"GET / HTTP/1.1\n\r" + HOST + b"\r\n")
LINE_ENDS.refuse("LF before the blank line", b"GET / HTTP/1.1\r\nHost: example.com\n\r\n" + get())
LINE_ENDS.refuse("blank line of LF", b"GET / HTTP/1.1\r\n" + HOST + b"\n" + get(), cve="CVE-2021-41136")
LINE_ENDS.refuse("blank line of CR", b"GET / HTTP/1.1\r\n" + HOST + b"\r" + get(), cve="CVE-2023-30589")
LINE_ENDS.refuse("blank line with a blank", b"GET / HTTP/1.1\r\n" + HOST + b" \r\n\r\n")

EMPTY_LINES = Requests("empty lines before a request", "RFC 9112 section 2.2")
EMPTY_LINES.take("one", b"\r\n" + get())
EMPTY_LINES.take("four", b"\r\n" * 4 + get())
EMPTY_LINES.refuse("five", b"\r\n" * 5 + get(), methods=(b"GET",))
EMPTY_LINES.refuse("forty", b"\r\n" * 40 + get(), methods=(b"GET",))
EMPTY_LINES.refuse("one of LF", b"\n" + get(), methods=(b"GET",))
EMPTY_LINES.refuse("one of CR", b"\r" + get(), methods=(b"GET",))
EMPTY_LINES.refuse("one of LF CR", b"\n\r" + get(), methods=(b"GET",))
EMPTY_LINES.refuse("one with a blank", b" \r\n" + get(), methods=(b"GET",))
EMPTY_LINES.refuse("NUL", b"\0\r\n" + get(), methods=(b"GET",))

OTHER = Requests("other protocols", "RFC 9112 section 3")
OTHER.refuse("TLS", bytes.fromhex("16030100a5010000a10303") + b"x" * 20 + b"\r\n\r\n", methods=(b"GET",))
OTHER.refuse("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", methods=(b"GET",))
OTHER.refuse("a response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", methods=(b"GET",))
OTHER.refuse("PROXY without being asked", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get(), methods=(b"GET",))
OTHER.refuse("a Redis command", b"*1\r\n$4\r\nINFO\r\n\r\n", methods=(b"GET",))
