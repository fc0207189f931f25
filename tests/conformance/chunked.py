"""Transfer-Encoding, and chunked bodies."""

from __future__ import annotations

from tests.conformance.case import GOOD, HOST, Requests, Seen, get, post
from tests.support.wire import chunked

CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n"
HELLO = Seen(b"POST", body=b"hello", fields={"transfer-encoding": (b"chunked",)}, absent=("content-length", "trailer"))
BY_ASGI = "takes the coding off: the length may come instead"

CODING = Requests("Transfer-Encoding", "RFC 9112 sections 6.1 and 6.3, RFC 9112 section 7")
CODING.take("chunked", post(CHUNKED, chunked(b"hello")), HELLO)
CODING.take("in capitals", post(b"TRANSFER-ENCODING: CHUNKED", chunked(b"hello")), Seen(b"POST", body=b"hello"))
CODING.take("no blank", post(b"Transfer-Encoding:chunked", chunked(b"hello")), HELLO)
CODING.take("a tab before it", post(b"Transfer-Encoding:\tchunked", chunked(b"hello")), HELLO)
CODING.take("blanks around it", post(b"Transfer-Encoding:  chunked  ", chunked(b"hello")), HELLO)
CODING.take("with GET", get(HOST + CHUNKED + b"\r\n") + chunked(b"hello"), Seen(body=b"hello"))
for name, text, cve in (
    ("beside a length", b"Content-Length: 5\r\n" + CHUNKED, "CVE-2005-2088"),
    ("before a length", CHUNKED + b"\r\nContent-Length: 5", "CVE-2017-7658"),
    ("beside a length of 0", b"Content-Length: 0\r\n" + CHUNKED, "CVE-2019-20445"),
    ("beside the right length", b"Content-Length: 52\r\n" + CHUNKED, "CVE-2005-2088"),
    ("a list", CHUNKED + b", chunked", "CVE-2020-25613"),
    ("in two fields", CHUNKED + b"\r\n" + CHUNKED, "CVE-2020-8287"),
    ("in two fields, the second unknown", CHUNKED + b"\r\nTransfer-Encoding: x", "CVE-2020-8287"),
    ("in two fields, the first unknown", b"Transfer-Encoding: x\r\n" + CHUNKED, "CVE-2021-21299"),
    ("a comma behind it", CHUNKED + b",", ""),
    ("a comma before it", b"Transfer-Encoding: ,chunked", "CVE-2022-32213"),
    ("identity", b"Transfer-Encoding: identity", "CVE-2021-33037"),
    ("identity beside a length", b"Transfer-Encoding: identity\r\nContent-Length: 5", "CVE-2021-33037"),
    ("gzip", b"Transfer-Encoding: gzip", ""),
    ("gzip, chunked", b"Transfer-Encoding: gzip, chunked", ""),
    ("chunked, identity", CHUNKED + b", identity", "CVE-2021-33037"),
    ("chunked, gzip", CHUNKED + b", gzip", "CVE-2021-33037"),
    ("xchunked", b"Transfer-Encoding: xchunked", "CVE-2022-1705"),
    ("chunkedx", b"Transfer-Encoding: chunkedx", "CVE-2022-32213"),
    ("two words", b"Transfer-Encoding: x chunked", "CVE-2022-1705"),
    ("a parameter", CHUNKED + b";q=1", ""),
    ("quotes", b'Transfer-Encoding: "chunked"', ""),
    ("single quotes", b"Transfer-Encoding: 'chunked'", ""),
    ("empty", b"Transfer-Encoding:", "CVE-2020-11077"),
    ("vertical tab before it", b"Transfer-Encoding: \x0bchunked", "CVE-2019-18277"),
    ("form feed before it", b"Transfer-Encoding: \x0cchunked", "CVE-2019-16789"),
    ("no-break space before it", b"Transfer-Encoding: \xa0chunked", ""),
    ("NUL behind it", CHUNKED + b"\0", ""),
    ("CR behind it", CHUNKED + b"\r", ""),
    ("the sign of Kelvin for its k", "Transfer-Encoding: chun\u212aed".encode(), ""),
    ("a tab behind it", CHUNKED + b"\t", ""),
    ("blank before the colon", b"Transfer-Encoding : chunked", "CVE-2019-16869"),
    ("tab before the colon", b"Transfer-Encoding\t: chunked", "CVE-2019-16869"),
    ("a Connection that names it", CHUNKED + b"\r\nConnection: Transfer-Encoding", ""),
):
    CODING.refuse(name, post(text, SMUGGLED), cve=cve)
CODING.refuse("in HTTP/1.0", get(HOST + CHUNKED + b"\r\n", b"POST / HTTP/1.0") + SMUGGLED, cve="CVE-2021-33037")

CHUNKS = Requests("chunks", "RFC 9112 section 7.1")
for name, body, whole in (
    ("several", chunked(b"hel", b"lo"), b"hello"),
    ("of one byte", chunked(b"h", b"e", b"l", b"l", b"o"), b"hello"),
    ("none", chunked(), b""),
    ("a size in capitals", b"A\r\nhellohello\r\n0\r\n\r\n", b"hellohello"),
    ("zeros before a size", b"0005\r\nhello\r\n000\r\n\r\n", b"hello"),
    (
        "data that looks like framing",
        chunked(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"),
        b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    ),
    ("data of blank lines", chunked(b"\r\n\r\n"), b"\r\n\r\n"),
):
    CHUNKS.take(name, post(CHUNKED, body), Seen(b"POST", body=whole))
CHUNKS.take(
    "two requests", post(CHUNKED, chunked(b"hello")) * 2, Seen(b"POST", body=b"hello"), Seen(b"POST", body=b"hello")
)
for name, body, cve in (
    ("letters for a size", b"zz\r\nhello\r\n", ""),
    ("a letter behind a size", b"5g\r\nhello\r\n", ""),
    ("minus", b"-5\r\nhello\r\n", "CVE-2013-2028"),
    ("plus", b"+5\r\nhello\r\n", "CVE-2022-24801"),
    ("0x", b"0x5\r\nhello\r\n", "CVE-2022-24801"),
    ("an underscore", b"0_5\r\nhello\r\n", "CVE-2023-47627"),
    ("blank before the size", b" 5\r\nhello\r\n", ""),
    ("blank behind the size", b"5 \r\nhello\r\n", ""),
    ("no size", b"\r\nhello\r\n", ""),
    ("an empty line before the size", b"5\r\nhello\r\n\r\n0\r\n\r\n", ""),
    ("size of 17 digits", b"10000000000000005\r\nhello\r\n", "CVE-2021-32714"),
    ("size of 16 digits", b"8000000000000005\r\nhello\r\n", "CVE-2017-7657"),
    ("size of 16 digits, all bits", b"ffffffffffffffff\r\nhello\r\n", "CVE-2014-0075"),
    ("size ended by LF", b"5\nhello\r\n0\r\n\r\n", "CVE-2025-22871"),
    ("size ended by CR", b"5\rhello\r\n0\r\n\r\n", ""),
    ("size ended by CR and a letter", b"5\rX\nhello\r\n0\r\n\r\n", "CVE-2025-43859"),
    ("data longer than its size", b"4\r\nhello\r\n0\r\n\r\n", ""),
    ("data shorter than its size", b"6\r\nhello\r\n0\r\n\r\n", ""),
    ("data ended by LF", b"5\r\nhello\n0\r\n\r\n", "CVE-2025-43859"),
    ("data ended by CR", b"5\r\nhello\r0\r\n\r\n", "CVE-2025-43859"),
    ("data ended by two letters", b"5\r\nhelloXX0\r\n\r\n", "CVE-2025-43859"),
    ("data ended by LF CR", b"5\r\nhello\n\r0\r\n\r\n", ""),
    ("last chunk ended by LF", b"5\r\nhello\r\n0\n\r\n", "CVE-2025-22871"),
    ("end of LF", b"5\r\nhello\r\n0\r\n\n", "CVE-2025-22871"),
    ("end of CR and a letter", b"5\r\nhello\r\n0\r\n\rX", ""),
    ("digits of another script", "٥\r\nhello\r\n".encode(), "CVE-2023-47627"),
    ("NUL", b"5\0\r\nhello\r\n", ""),
):
    # whole to whoever reads the size or the end of a line more freely
    end = b"" if body.endswith((b"0\r\n\r\n", b"0\n\r\n", b"0\r\n\n", b"\rX")) else b"0\r\n\r\n"
    CHUNKS.refuse(name, post(CHUNKED, body + end + GOOD), cve=cve, partial=True)

EXTENSIONS = Requests("chunk extensions", "RFC 9112 section 7.1.1")
for name, body in (
    ("a name", b"5;a\r\nhello\r\n0\r\n\r\n"),
    ("a value", b"5;a=b\r\nhello\r\n0;c=d\r\n\r\n"),
    ("blanks around", b"5 ; a = b\r\nhello\r\n0\r\n\r\n"),
    ("quotes", b'5;a="b;c"\r\nhello\r\n0\r\n\r\n'),
):
    EXTENSIONS.take(name, post(CHUNKED, body), Seen(b"POST", body=b"hello"))
for name, body, cve in (
    ("without a size", b";a=b\r\nhello\r\n0\r\n\r\n", ""),
    ("a control character", b"5;a=\x01\r\nhello\r\n0\r\n\r\n", ""),
    ("LF", b"5;a=b\nc\r\nhello\r\n0\r\n\r\n", "CVE-2025-55315"),
    ("LF at its end", b"5;a=b\nhello\r\n0\r\n\r\n", "CVE-2025-55315"),
    ("CR", b"5;a=b\rc\r\nhello\r\n0\r\n\r\n", "CVE-2025-55315"),
    ("CR CR LF", b"5;a=b\r\r\nhello\r\n0\r\n\r\n", "CVE-2024-52304"),
    ("LF behind the semicolon", b"2;\nxx\r\n4c\r\n0\r\n\r\n", "CVE-2021-22960"),
    ("NUL", b"5;\0\r\nhello\r\n0\r\n\r\n", ""),
    ("without end", b"5;" + b"a" * 5000, "CVE-2024-22019"),
    ("without number", b"".join(b"1;%b\r\nx\r\n" % (b"a" * 3000) for _ in range(6)), "CVE-2023-39326"),
):
    EXTENSIONS.refuse(name, post(CHUNKED, body), cve=cve, partial=True)

TRAILERS = Requests("trailer fields", "RFC 9112 section 7.1.2, RFC 9110 section 6.5")
for name, trailer in (
    ("one", b"X-A: b"),
    ("Authorization", b"Authorization: Basic YTpi"),
    ("a length", b"Content-Length: 5"),
    ("a coding", b"Transfer-Encoding: chunked"),
    ("a host", b"Host: other.example"),
    ("a forwarding field", b"X-Forwarded-For: 192.0.2.1"),
    ("two", b"X-A: b\r\nX-B: c"),
    ("an empty value", b"X-A:"),
):
    TRAILERS.take(
        name,
        post(b"Trailer: X-A\r\n" + CHUNKED, b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n"),
        Seen(
            b"POST",
            body=b"hello",
            fields={"host": (b"example.com",)},
            absent=("x-a", "x-b", "authorization", "trailer"),
        ),
        asgi="may merge trailer fields into the header",
    )
for name, trailer, cve in (
    ("no colon", b"X-A", "CVE-2023-45648"),
    ("no name", b": b", "CVE-2023-45648"),
    ("a blank in a name", b"X A: b", "CVE-2023-45648"),
    ("folded", b"X-A: b\r\n c", ""),
    ("NUL", b"X-A: \0", ""),
    ("LF", b"X-A: b\nX-B: c", "CVE-2024-35161"),
    ("CR", b"X-A: b\rX-B: c", ""),
    ("a request line", b"GET /smuggled HTTP/1.1", "CVE-2023-40175"),
    ("one without end", b"X-A: " + b"b" * 5000, "CVE-2023-46589"),
    ("without number", b"\r\n".join([b"X-A: " + b"b" * 3000] * 6), "CVE-2023-46589"),
):
    TRAILERS.refuse(
        name,
        post(CHUNKED, b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n"),
        cve=cve,
        partial=True,
    )
