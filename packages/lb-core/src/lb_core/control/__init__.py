"""The control socket: how commands reach the running balancer.

A unix stream socket that only its owner and root may use. One line of JSON a request, one an answer, as many as one
likes over a connection:

    {"ask": "status"}                                          {"ok": true, "result": {"pid": 4711, …}}
    {"ask": "command", "name": "shift", "arguments": ["api"]}  {"ok": true, "result": "…"}
    anything else                                              {"ok": false, "error": "…"}

`lb run` opens it; a balancer inside somebody's application has none.
"""

LARGEST_REQUEST = 512 * 1024
LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes of a line."""
