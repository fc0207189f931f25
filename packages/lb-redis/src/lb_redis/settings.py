"""The section `cluster` at the top of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, SecretStr, WithJsonSchema, field_validator, model_validator

from lb_core import PositiveDuration, Settings
from lb_redis.address import EXAMPLE, Address, parse

SHORTEST_LEASE, LONGEST_LEASE = 3.0, 300.0
SHORTEST_TIMEOUT, LONGEST_TIMEOUT = 0.001, 10.0


def _text(value: object) -> object:
    if not isinstance(value, (str, SecretStr)):
        raise ValueError("this is not text: put it in quotes")  # the value is a secret
    return value


Secret = Annotated[SecretStr, BeforeValidator(_text), WithJsonSchema({"type": "string"})]
Url = Annotated[Address, BeforeValidator(parse), WithJsonSchema({"type": "string", "examples": [EXAMPLE]})]


class TlsSettings(Settings):
    """How the connection to Redis is encrypted."""

    ca: str = ""
    """A file with the certificates of the authorities that are trusted; nothing for those of the system."""
    cert: str = ""
    """A file with this node's own certificate, where Redis asks for one."""
    key: str = ""
    """The file with its key."""
    check_hostname: bool = True
    """Whether Redis's certificate must be for the name in the URL."""

    @field_validator("ca", "cert", "key")
    @classmethod
    def _is_there(cls, value: str) -> str:
        if value and not Path(value).is_file():
            raise ValueError(f'there is no file "{value}"')
        return value

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key belong together: give both or none")
        return self


class ClusterSettings(Settings):
    """Nodes that share limits, facts and edits through Redis. Short form: the URL."""

    short = "redis"

    redis: Url
    """Where Redis is: `redis://`, `redis+sentinel://` or `redis+cluster://`; `rediss…` over TLS."""
    node: Annotated[str, Field(pattern=r"^([A-Za-z0-9_.-]{1,64})?$")] = ""
    """What this node is called; the host's name where nothing is said. A second one of that name gets a number."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = "lb"
    """What the cluster is called: the prefix of all its keys, so that several may use the same Redis."""
    username: str = ""
    """The user of Redis (ACL), where it is not in the URL."""
    password: Secret = SecretStr("")
    """The password, where it is not in the URL; `${NAME}` takes it from the environment."""
    password_file: str = ""
    """A file that holds the password alone."""
    sentinel_username: str = ""
    """The user of the Sentinels, where they want one."""
    sentinel_password: Secret = SecretStr("")
    """The password of the Sentinels, where they want one."""
    tls: TlsSettings | None = None
    """Files for TLS; `true` is the same as a URL that begins with `rediss`."""
    timeout: PositiveDuration = 0.05
    """How long Redis may take for an exchange of counts before this node keeps to its own share of the limits."""
    lease: PositiveDuration = 10.0
    """For how long a leader leads without being heard of; another node takes over then."""

    @field_validator("timeout")
    @classmethod
    def _short(cls, value: float) -> float:
        if value > LONGEST_TIMEOUT:
            raise ValueError(f"{value:g}s is too long to wait for Redis: write {LONGEST_TIMEOUT:g}s at most")
        if value < SHORTEST_TIMEOUT:
            raise ValueError("no Redis answers in less than 1ms: write 1ms at least, or leave it out")
        return value

    @field_validator("lease")
    @classmethod
    def _bounded(cls, value: float) -> float:
        if not SHORTEST_LEASE <= value <= LONGEST_LEASE:
            raise ValueError(f"{value:g}s cannot be the lease: write {SHORTEST_LEASE:g}s to {LONGEST_LEASE:g}s")
        return value

    @field_validator("tls", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return None if value is False else value

    @field_validator("password_file")
    @classmethod
    def _readable(cls, value: str) -> str:
        if value:
            read_secret(value)
        return value

    @model_validator(mode="after")
    def _one_password(self) -> Self:
        given = [self.password.get_secret_value(), self.redis.password.get_secret_value(), self.password_file]
        if sum(map(bool, given)) > 1:
            raise ValueError("the password is given twice: keep one of the URL's, `password` and `password_file`")
        if self.username and self.redis.username:
            raise ValueError("the user is given twice: in the URL and as `username`")
        if self.redis.kind != "sentinel" and (self.sentinel_username or self.sentinel_password.get_secret_value()):
            raise ValueError("this URL names no Sentinels: leave sentinel_username and sentinel_password out")
        return self

    @property
    def encrypted(self) -> bool:
        """Whether Redis is spoken to over TLS."""
        return self.redis.tls or self.tls is not None

    @property
    def user(self) -> str:
        """The user of Redis, wherever it is given."""
        return self.username or self.redis.username

    def secret(self) -> str:
        """The password, wherever it is given; raises OSError where its file is gone."""
        if self.password_file:
            return read_secret(self.password_file)
        return self.password.get_secret_value() or self.redis.password.get_secret_value()


def read_secret(path: str) -> str:
    """What stands in a file of one line; raises ValueError for one that cannot be read or is empty."""
    try:
        found = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ValueError(f'the password cannot be read from "{path}": {reason}') from None
    if not found:
        raise ValueError(f'the file "{path}" holds no password')
    if len(found.splitlines()) > 1:
        raise ValueError(f'the file "{path}" holds more than one line: write the password alone into it')
    return found
