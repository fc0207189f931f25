"""Every error of the project, in one tree.

    LbError
    ├── ConfigError        the user's file, environment or arguments; carries every Problem found at once
    ├── PluginError        an installed plugin breaks its contract; names the plugin and its distribution
    ├── StartError         the machine refuses: a port is taken, a file is missing, a right is lacking
    ├── RequestError       the client's request cannot be served as sent; knows the status to answer
    └── AttemptError       one try at one backend failed before a response head
        ├── ConnectFailed      refused, unreachable, name not resolved; nothing was sent
        ├── NoDescriptor       this process may open no more files; nothing was sent
        ├── ConnectTimeout     no connection within `timeouts.connect`; nothing was sent
        ├── BackendReset       the connection ended before a response head
        ├── HeaderTimeout      no response head within `timeouts.response_header`
        ├── InvalidResponse    what came is not HTTP/1.x, or its framing cannot be trusted
        └── NoRoom             for a request of our own there is no backend with room; nothing was sent

A message names the value, the place and the next step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class LbError(Exception):
    """The root: what the project raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a configuration.

    `where` is the dotted path of the key (`routes.example.com.strategy`), `file` and `line` where it
    stands (line 0 when unknown), `hint` the next step ("did you mean round_robin?").
    """

    message: str
    where: str = ""
    file: str = ""
    line: int = 0
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        head = ": ".join(part for part in (place, self.where, self.message) if part)
        return f"{head} ({self.hint})" if self.hint else head


class ConfigError(LbError):
    """The configuration cannot be used; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: list[Problem] | str) -> None:
        self.problems = [Problem(problems)] if isinstance(problems, str) else problems
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PluginError(LbError):
    """A plugin breaks its contract: a class registered, a misspelt hook, a name that is taken."""


class StartError(LbError):
    """The machine refuses to let us start: a taken port, a missing file, a missing right."""


class RequestError(LbError):
    """The request cannot be served as it was sent; `status` is the answer, `word` the reason in the log."""

    def __init__(self, status: int, word: str, detail: str) -> None:
        self.status = status
        self.word = word
        self.detail = detail
        super().__init__(detail)


class AttemptError(LbError):
    """One attempt failed before a response head.

    `status` answers the client when no other attempt follows; `flag` is the word in the access log;
    `unsent` is true where the backend cannot have seen a byte of the request, `reused` where a connection that had
    served before ended: that says nothing about the backend.
    """

    status: ClassVar[int] = 502
    flag: ClassVar[str] = "reset"
    unsent: ClassVar[bool] = False
    reused = False


class ConnectFailed(AttemptError):
    """Refused, unreachable, or the name does not resolve."""

    flag = "connect_failed"
    unsent = True


class NoDescriptor(AttemptError):
    """This process has no file descriptor left for a connection: nothing is wrong with the backend."""

    status = 503
    flag = "no_descriptor"
    unsent = True


class ConnectTimeout(AttemptError):
    """No connection within `timeouts.connect`."""

    status = 504
    flag = "connect_timeout"
    unsent = True


class BackendReset(AttemptError):
    """The backend closed or reset the connection before a response head.

    `reused` is true for a connection that had served a request before: most likely the backend closed it
    while idle, just as the request went out (RFC 9112 section 9.3.1).
    """

    flag = "reset"

    def __init__(self, message: str, *, reused: bool = False) -> None:
        self.reused = reused
        super().__init__(message)


class HeaderTimeout(AttemptError):
    """No response head within `timeouts.response_header`."""

    status = 504
    flag = "header_timeout"


class InvalidResponse(AttemptError):
    """Not HTTP/1.x, or framing that cannot be trusted (RFC 9112 section 6.3)."""

    flag = "invalid_response"


class NoRoom(AttemptError):
    """A request of our own found no backend: none is available, or all have as many in flight as they may."""

    status = 503
    flag = "no_backend"
    unsent = True
