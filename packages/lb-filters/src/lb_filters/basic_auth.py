"""The feature `basic_auth`: a name and a password for every request (RFC 7617), checked against hashes.

    basic_auth: {users: {alice: "$2y$12$…"}}
    basic_auth: {file: /etc/lb/users, realm: Staging, user_header: X-User}

    Authorization --> seen right not long ago? --> on to the backend, microseconds
                         | no
                         v
                      a thread checks the hash ---> right: remembered
                      (two of them; 64 may wait)    wrong: 401      too many: 503

A name that nobody has takes as long as a wrong password, so that names cannot be found out. Several requests with the
same credentials wait for one check.
"""

from __future__ import annotations

import asyncio
import binascii
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from lb_core import Feature, Response, Settings, hookimpl
from lb_filters.client_fields import ClientFields, check_request_field
from lb_filters.hashes import matches
from lb_filters.user_file import UserFile, Users, check_user, read_users
from lb_filters.verified import Verified

if TYPE_CHECKING:
    from typing import Self

    from lb_core import Exchange, Route

WORKERS = 2
WAITING_MOST = 64


class BasicAuthSettings(Settings):
    """Who may use a route, by name and password."""

    users: dict[str, str] = Field(default_factory=dict)
    """Names, each with the bcrypt hash of a password (`$2y$…`): `python -m lb_filters.password` makes one."""
    file: str = ""
    """A htpasswd file with further users, read again when it changes."""
    realm: str = "restricted"
    """What the browser says the password is for."""
    user_header: str = ""
    """The request field that tells the backend who it is; what a client sends under that name is removed."""
    pass_authorization: bool = False
    """Whether the backend gets the Authorization field too."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if not self.users and not self.file:
            raise ValueError("nobody may pass: write users: {NAME: HASH}, or file: and the path of a htpasswd file")
        for name, hashed in self.users.items():
            check_user(name, hashed)
        if self.user_header:
            check_request_field(self.user_header)
        if not self.realm.isascii() or not self.realm.isprintable() or '"' in self.realm or "\\" in self.realm:
            raise ValueError(f'realm "{self.realm}": write printable ASCII without quotation marks')
        if self.file:
            try:
                read_users(self.file)
            except OSError as error:
                raise ValueError(f"the file {self.file} cannot be read: {error.strerror}") from None
        return self


class _BusyError(Exception):
    """No further check can be begun."""


class BasicAuth:
    """Lets those pass who know a password."""

    def __init__(self, settings: BasicAuthSettings, *, verified: Verified | None = None) -> None:
        self._own = settings.users
        self._file = UserFile(settings.file) if settings.file else None
        self._users: Users = self._all()
        self._verified = verified or Verified()
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="lb-basic-auth")
        self._checks: dict[tuple[bytes, str], asyncio.Future[bool]] = {}
        self._user_header = settings.user_header
        self._taken = ClientFields([settings.user_header] if settings.user_header else ())
        self._passes_on = settings.pass_authorization
        challenge = {"WWW-Authenticate": f'Basic realm="{settings.realm}", charset="UTF-8"'}
        self._refused = _both(401, "unauthorized", "a name and a password are needed", challenge)
        self._busy = _both(503, "busy", "too many passwords are being checked", {"Retry-After": "2"})

    @hookimpl
    async def before_request(self, exchange: Exchange) -> Response | None:
        """Let a request pass, or answer 401."""
        if self._file is not None and self._file.due():
            self._read_again(self._file)
        values = exchange.headers.get_all("authorization")
        user = None
        if len(values) == 1:  # of two, a backend could believe the other
            digest = self._verified.digest(values[0])
            user = self._verified.find(digest)
            if user is None:
                try:
                    user = await self._check(digest, values[0])
                except _BusyError:
                    return self._busy[_wants_json(exchange)]
        if user is None:
            return self._refused[_wants_json(exchange)]
        self._tell(exchange, user)
        return None

    def close(self) -> None:
        """No checks are begun any more; those under way go on."""
        self._workers.shutdown(wait=False)

    def describe(self) -> str:
        """How many may pass."""
        return f"{len(self._users)} users may pass"

    def _all(self) -> Users:
        return {**self._file.users, **self._own} if self._file is not None else self._own

    def _read_again(self, file: UserFile) -> None:
        file.read_again()
        self._users = self._all()
        self._verified.clear()

    async def _check(self, digest: bytes, value: str) -> str | None:
        """The user, where the credentials are right. Raises _BusyError where too many are being checked."""
        credentials = _read(value)
        if credentials is None:
            return None
        name, password = credentials
        right = False
        users: Users | None = None
        while users is not self._users:  # changed meanwhile: what was right may be no more
            users = self._users
            hashed = users.get(name)
            right = await self._matches(digest, password, hashed or next(iter(users.values()), ""))
            right = right and hashed is not None
        if not right:
            return None
        self._verified.add(digest, name)
        return name

    async def _matches(self, digest: bytes, password: bytes, hashed: str) -> bool:
        key = digest, hashed
        check = self._checks.get(key)
        if check is None:
            if len(self._checks) >= WAITING_MOST:
                raise _BusyError
            try:
                check = asyncio.get_running_loop().run_in_executor(self._workers, _matches, password, hashed)
            except RuntimeError:  # this route is closed; its last requests may come back to the one after it
                raise _BusyError from None
            self._checks[key] = check
            check.add_done_callback(lambda _: self._checks.pop(key, None))
        return await asyncio.shield(check)  # others may wait for it when this client leaves

    def _tell(self, exchange: Exchange, user: str) -> None:
        """Prepare the request for the backend."""
        self._taken.remove(exchange)
        if not self._passes_on:
            del exchange.headers["authorization"]
        if self._user_header:
            exchange.headers[self._user_header] = user.encode().decode("latin-1")  # as UTF-8 on the wire


def _matches(password: bytes, hashed: str) -> bool:
    return bool(hashed) and matches(password, hashed)


def _both(status: int, word: str, detail: str, headers: dict[str, str]) -> dict[bool, Response]:
    return {
        as_json: Response.problem(status, word, detail, as_json=as_json, headers=headers) for as_json in (False, True)
    }


def _wants_json(exchange: Exchange) -> bool:
    return "json" in exchange.headers.get("accept", "")


def _read(value: str) -> tuple[str, bytes] | None:
    """Name and password of an Authorization field; None where it is of another scheme or malformed."""
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = b64decode(encoded.strip(" ").encode("latin-1"), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def build(route: Route, settings: BasicAuthSettings) -> BasicAuth:
    """The guard of a route."""
    del route
    return BasicAuth(settings)


FEATURE = Feature("basic_auth", build, settings=BasicAuthSettings)
