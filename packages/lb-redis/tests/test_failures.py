"""What has gone wrong, and what to do."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from redis import exceptions

from lb_redis.failures import GONE, SLOW, LostRedis, reason_of


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (
            exceptions.AuthenticationError("WRONGPASS invalid username-password pair"),
            "the user or the password is wrong",
        ),
        (exceptions.AuthenticationError("Authentication required."), "give `password`"),
        (
            exceptions.NoPermissionError("NOPERM this user has no permissions to run the 'publish' command"),
            "docs/cluster.md",
        ),
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "raise `maxmemory`"),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), "name its master"),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "nothing is to be done"),
        (exceptions.ConnectionError("Error 111 connecting to 10.0.0.5:6379. Connection refused."), "is it running"),
        (exceptions.ConnectionError("Connection closed by server."), GONE),
        (exceptions.TimeoutError("Timeout reading from socket"), SLOW),
        (TimeoutError(), SLOW),
        (ConnectionResetError(104, "Connection reset by peer"), GONE),
        (asyncio.IncompleteReadError(b"", 1), GONE),
        (ssl.SSLError(1, "[SSL] unknown"), "TLS cannot be agreed on"),
        (exceptions.ResponseError("unknown command 'EVALSHA'"), "too old"),
        (exceptions.ResponseError("unknown command 'SENTINEL', with args beginning with: 'MASTERS'"), "no Sentinel"),
        (
            exceptions.ConnectionError(
                "No master found for 'main' : <r.Redis(<r.Pool(x=<y>)>)> - auth:AuthenticationError"
            ),
            "give `sentinel_password`",
        ),
        (exceptions.ConnectionError("No master found for 'main' : <r> - network:ConnectionError"), "no Sentinel that"),
        (exceptions.ConnectionError("No master found for 'main'"), "sentinel masters"),
        (LostRedis("the text itself"), "the text itself"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_a_reason_says_what_to_do(error: BaseException, part: str) -> None:
    assert part in reason_of(error)


def test_objects_of_redis_py_are_not_shown() -> None:
    error = exceptions.ConnectionError("No master found for 'main' : <r.Redis(<r.Pool(x=<y>)>)> - auth:No")
    assert reason_of(error).endswith("(No master found for 'main' : - auth:No)")


def test_the_cause_is_told_where_the_error_itself_says_nothing() -> None:
    outer = exceptions.ConnectionError("")
    outer.__cause__ = ssl.SSLCertVerificationError("certificate verify failed: self-signed certificate")
    assert "its certificate is not trusted" in reason_of(outer)
