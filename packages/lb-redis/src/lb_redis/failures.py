"""What goes wrong with Redis, told so that somebody knows what to do.

reason      what has happened, and the next step; the same text for the same cause, so that it is told once
"""

from __future__ import annotations

import re
import ssl

HINTS = (
    ("WRONGPASS", "the user or the password is wrong: look at `username` and `password` of `cluster`"),
    (
        "invalid username-password pair",
        "the user or the password is wrong: look at `username` and `password` of `cluster`",
    ),
    ("invalid password", "the password is wrong: look at `password` of `cluster`"),
    ("NOAUTH", "it asks for a password: give `password` in `cluster`"),
    ("Authentication required", "it asks for a password: give `password` in `cluster`"),
    ("NOPERM", "its user may not do that: give it the rights that docs/cluster.md lists"),
    ("no permissions", "its user may not do that: give it the rights that docs/cluster.md lists"),
    ("maxmemory", "its memory is full and it refuses writes: raise `maxmemory`, or let nobody else use it"),
    ("read only replica", "this is a replica, which takes no writes: name its master, or the Sentinels"),
    ("loading the dataset", "it is loading its data: nothing is to be done"),
    ("MISCONF", "it refuses writes because it cannot save to its disk: make room there"),
    ("CLUSTERDOWN", "its Cluster is not complete: look at `redis-cli cluster info`"),
    ("Cluster mode is not enabled", "this is no Redis Cluster: write redis:// instead of redis+cluster://"),
    ("cluster support disabled", "this is no Redis Cluster: write redis:// instead of redis+cluster://"),
    ("MOVED", "this is a Redis Cluster: write redis+cluster://"),
    ("auth:AuthenticationError", "the Sentinels ask for a password: give `sentinel_password` in `cluster`"),
    (
        "network:",
        "no Sentinel that can be reached knows the master: look at the addresses, and whether they run",
    ),
    ("command 'SENTINEL'", "this is no Sentinel: name the Sentinels, whose port is 26379 as a rule, or write redis://"),
    (
        "No master found",
        "the Sentinels know no master of that name that is up: look at `redis-cli -p 26379 sentinel masters`",
    ),
    ("WRONGTYPE", "another program uses the same keys: give the cluster another `name`"),
    ("unknown command", "it is too old: Redis 6.2 is the least"),
    ("SELECT", "there is no such database: look at the number at the end of the URL"),
    ("DB index is out of range", "there is no such database: look at the number at the end of the URL"),
    ("wrong version number", "it does not speak TLS there: write redis:// instead of rediss://, or name its TLS port"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted: name the authority's file in `tls: {ca: …}`"),
    ("certificate verify failed", "its certificate is not trusted: name the authority's file in `tls: {ca: …}`"),
    ("certificate required", "it asks for a certificate: give `cert` and `key` in `tls`"),
    ("Name or service not known", "the host's name is not known: look at the URL"),
    ("Connection refused", "nobody listens there: is it running, and are address and port right?"),
    ("Error 111", "nobody listens there: is it running, and are address and port right?"),
    ("Connect call failed", "nobody listens there: is it running, and are address and port right?"),
    ("No route to host", "there is no way to that host: look at the network between"),
    ("max number of clients", "it accepts no more connections: raise its `maxclients`"),
    ("cannot be connected", "none of the Cluster's nodes can be reached: look at the addresses and whether they run"),
)
SLOW = "it does not answer: is it stopped or overloaded, or is the network between cut?"
GONE = "the connection ended: was it stopped or restarted?"
LONGEST = 300


class LostRedis(Exception):
    """Redis cannot be used now; the text says why, and what to do."""


def reason_of(error: BaseException) -> str:
    """Why a command failed and what to do about it; never a secret."""
    text = " ".join(_said(error).split())[:LONGEST]
    for part, hint in HINTS:
        if part.lower() in text.lower():
            return f"{hint} ({text})" if text else hint
    if isinstance(error, LostRedis):
        return str(error)
    if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
        return SLOW
    if isinstance(error, (ConnectionError, EOFError)) or "closed by server" in text or "Connection reset" in text:
        return GONE
    if isinstance(error, ssl.SSLError):
        return f"TLS cannot be agreed on: {text}"
    return f"{type(error).__name__}: {text}"


def _said(error: BaseException) -> str:
    """The texts of an error and of what caused it."""
    texts: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(texts) < 5:
        text = _plain(str(seen))
        if text and not any(text in other for other in texts):
            texts.append(text)
        seen = seen.__cause__ or seen.__context__
    return ": ".join(texts)


def _plain(text: str) -> str:
    """A text without the objects that redis-py shows in it."""
    while (shorter := re.sub(r"<[^<>]*>", "", text)) != text:
        text = shorter
    return text
