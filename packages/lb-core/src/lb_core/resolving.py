"""Looking up a name: by the system's resolver, or with the times to live that only DNS itself tells.

    SystemResolver   what every program of the machine sees: hosts file, search domains, mDNS, Docker's DNS. It tells no
                     time to live; the answer is taken to hold for ten seconds.
    DnsResolver      asks DNS for A and AAAA and learns how long the answers hold. Names of the hosts file, and whatever
                     DNS does not know, are left to the system, so that both resolvers know the same names.

The second needs dnspython (`pip install 'lb-core[dns]'`) and is then the default.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver as Asking

SYSTEM_TTL = 10.0
DNS_LIMIT = 5.0
"""Seconds DNS has for an answer, over all name servers and attempts, before the system is asked."""


class Resolution(NamedTuple):
    """The addresses of a name, the preferred ones first, and for how many seconds they hold."""

    addresses: tuple[str, ...]
    ttl: float


class Resolver(Protocol):
    """Finds the addresses of a name."""

    async def resolve(self, host: str) -> Resolution:
        """Look it up, without blocking the loop; raises OSError with the reason where there is no address."""


def default_resolver() -> Resolver:
    """The system's, refined by DNS where dnspython is installed."""
    system = SystemResolver()
    return DnsResolver(system) if find_spec("dns") is not None else system


class SystemResolver:
    """getaddrinfo, in a thread of its own for each lookup.

    The threads are daemons: a name server that is silent for half a minute does not hold up the end of the program,
    as a thread of an executor would.
    """

    async def resolve(self, host: str) -> Resolution:
        """The addresses in the order of the system's preference (RFC 6724)."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()

        def tell(settle: Callable[[Any], None], outcome: object) -> None:
            if not future.done():
                settle(outcome)

        def look_up() -> None:
            settle: Callable[[Any], None] = future.set_result
            outcome: object
            try:
                outcome = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:  # UnicodeError: a label longer than 63 characters
                settle, outcome = future.set_exception, _as_os_error(error)
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(tell, settle, outcome)

        threading.Thread(target=look_up, name=f"lb-resolve {host}", daemon=True).start()
        found = await future
        return Resolution(tuple(dict.fromkeys(str(address[0]) for *_, address in found)), SYSTEM_TTL)


class DnsResolver:
    """DNS by dnspython; `system` knows the rest. `nameservers` and `port` replace those of resolv.conf."""

    def __init__(
        self,
        system: Resolver,
        *,
        nameservers: Sequence[str] = (),
        port: int = 53,
        limit: float = DNS_LIMIT,
        hosts: str = "/etc/hosts",
        resolv_conf: str = "/etc/resolv.conf",
    ) -> None:
        self._system = system
        self._nameservers = list(nameservers)
        self._port = port
        self._limit = limit
        self._hosts = _HostsFile(hosts)
        self._resolv_conf = resolv_conf
        self._asking: tuple[object, Asking] | None = None

    async def resolve(self, host: str) -> Resolution:
        """IPv6 first, as RFC 6724 has it; the shortest time to live of all records that led to an address."""
        asking = await asyncio.to_thread(self._prepare, host)
        if asking is not None:
            answers = await asyncio.gather(*(self._ask(asking, host, kind) for kind in ("AAAA", "A")))
            addresses = tuple(address for found in answers for address in found.addresses)
            if addresses:
                return Resolution(addresses, min(found.ttl for found in answers if found.addresses))
        return await self._system.resolve(host)

    def _prepare(self, host: str) -> Asking | None:
        """Whom to ask; None leaves the name to the system. In a thread: reads files, and imports at the first call."""
        name = host.lower().removesuffix(".")
        if name.rpartition(".")[2] in ("localhost", "local") or name in self._hosts.names():
            return None
        when = _modified(self._resolv_conf)
        if self._asking is None or self._asking[0] != when:
            try:
                self._asking = when, self._make()
            except Exception:  # dnspython's NoResolverConfiguration: no file, or no name server in it
                return None
        return self._asking[1]

    def _make(self) -> Asking:
        module = import_module("dns.asyncresolver")
        asking: Asking = module.Resolver(self._resolv_conf, configure=not self._nameservers)
        if self._nameservers:
            asking.nameservers = self._nameservers
            asking.port = self._port
        return asking

    async def _ask(self, asking: Asking, host: str, kind: str) -> Resolution:
        """One kind of record; no addresses where there is none or nobody answers: the other kind may do better."""
        try:
            answer = await asking.resolve(host, kind, search=True, lifetime=self._limit, raise_on_no_answer=False)
        except Exception:  # DNSException, OSError: what the system says of the name is what people know
            return Resolution((), 0.0)
        addresses = tuple(str(record) for record in answer.rrset or ())
        return Resolution(addresses, float(answer.chaining_result.minimum_ttl))


class _HostsFile:
    """The names of a hosts file, read again when it changes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._read: tuple[object, frozenset[str]] = (None, frozenset())

    def names(self) -> frozenset[str]:
        """In lower case."""
        when = _modified(self._path)
        if when is not None and when != self._read[0]:
            with open(self._path, encoding="utf-8", errors="replace") as lines:
                fields = [line.partition("#")[0].lower().split()[1:] for line in lines]
            self._read = when, frozenset(name for names in fields for name in names)
        return self._read[1] if when is not None else frozenset()


def _modified(path: str) -> tuple[int, int] | None:
    """What differs when a file has been written or replaced; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _as_os_error(error: Exception) -> OSError:
    return error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, str(error))
