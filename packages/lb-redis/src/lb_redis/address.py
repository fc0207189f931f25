"""Where Redis is, as a URL says it.

    redis://10.0.0.5:6379/0                             one server; rediss:// over TLS
    redis+sentinel://10.0.0.5:26379,10.0.0.6/main/0     the master that Sentinels name `main`
    redis+cluster://10.0.0.5:7000,10.0.0.6:7000         a Redis Cluster, of which some nodes are named

`rediss+sentinel` and `rediss+cluster` stand for the same over TLS. A user and a password may stand before the hosts,
percent-encoded; no message and no `repr` shows the password, and none shows what is no such URL at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from pydantic import SecretStr

Kind = Literal["single", "sentinel", "cluster"]

KINDS: dict[str, Kind] = {"": "single", "sentinel": "sentinel", "cluster": "cluster"}
PORTS: dict[Kind, int] = {"single": 6379, "sentinel": 26379, "cluster": 6379}
EXAMPLE = "redis://10.0.0.5:6379"
HIGHEST_DATABASE = 1_000_000
NO_SECRET = SecretStr("")

_URL = re.compile(r"(rediss?)(?:\+(\w+))?://(?:([^/]*)@)?([^/]*)(?:/(.*))?", re.DOTALL).fullmatch
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?").fullmatch
_SECRET = re.compile(r"://([^/@:]*:)?.*@", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Address:
    """Hosts and ports, and what else a URL says; `service` is the master's name for Sentinels."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...]
    tls: bool = False
    database: int = 0
    service: str = ""
    username: str = ""
    password: SecretStr = NO_SECRET

    def __str__(self) -> str:
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind == "single" else f"+{self.kind}")
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        path = f"/{self.service}" if self.service else ""
        return f"{scheme}://{hosts}{path}" + (f"/{self.database}" if self.database else "")


def parse(value: object) -> Address:
    """An address from a URL; raises ValueError that says how to write one, without the password."""
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError(f"this is not the URL of a Redis: write one like {EXAMPLE}")
    found = _URL(value.strip())
    if not found:
        raise ValueError(f"this is not the URL of a Redis: write one like {EXAMPLE}")
    shown = masked(value)
    scheme, suffix, user, hosts, path = found.groups()
    kind = KINDS.get(suffix or "")
    if kind is None:
        raise ValueError(f'"{scheme}+{suffix}" is not known: write redis, redis+sentinel or redis+cluster')
    if "@" in (path or ""):
        raise ValueError(f'"{shown}": write %2F for a "/" in the user or the password, or `password:` beside `redis:`')
    if not hosts:
        raise ValueError(f'"{shown}" names no host: write one like {EXAMPLE}')
    if "?" in hosts + (path or ""):
        raise ValueError(f'"{shown}" holds options: write them as keys beside `redis:`, such as `timeout:`')
    username, _, password = (user or "").partition(":")
    service, database = _path(kind, path or "", shown)
    listed = tuple(_host(each, kind, shown) for each in hosts.split(","))
    if kind == "single" and len(listed) > 1:
        raise ValueError(f'"{shown}" names several hosts: write redis+sentinel:// or redis+cluster://')
    return Address(kind, listed, scheme == "rediss", database, service, unquote(username), SecretStr(unquote(password)))


def masked(url: str) -> str:
    """A URL with `***` for its password and without options, fit for a message."""
    return _SECRET.sub(r"://\1***@", url).partition("?")[0]


def _path(kind: Kind, path: str, shown: str) -> tuple[str, int]:
    service, rest = "", path
    if kind == "sentinel":
        service, _, rest = path.partition("/")
        if not service:
            raise ValueError(f'"{shown}" names no master: write redis+sentinel://HOST:26379/MASTER')
    if not rest:
        return service, 0
    if not rest.isdecimal() or int(rest) > HIGHEST_DATABASE:
        raise ValueError(f'"{rest}" is not the number of a database: write {EXAMPLE}/0')
    if kind == "cluster" and int(rest):
        raise ValueError(f'"{shown}": a Redis Cluster has one database only: leave /{rest} out')
    return service, int(rest)


def _host(text: str, kind: Kind, shown: str) -> tuple[str, int]:
    found = _HOST(text.strip())
    port = int(found[2]) if found and found[2] else PORTS[kind]
    if not found or not 0 < port < 65536:
        raise ValueError(f'"{shown}": "{text}" is not HOST:PORT')
    return found[1].strip("[]"), port
