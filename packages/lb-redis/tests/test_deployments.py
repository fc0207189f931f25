"""Users and passwords, TLS, Sentinels, a Redis Cluster: all with real servers."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lb_redis.testing import RedisServer, free_port

from .conftest import need

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Node, Nodes, Start

RIGHTS = ("~{lb*", "&{lb*", "+@read", "+@write", "+@scripting", "+@pubsub", "+@connection", "+time")
"""What docs/cluster.md says a user needs."""


async def works(nodes: Nodes, url: str, **cluster: object) -> tuple[Node, Node]:
    """Two nodes that see each other, tell each other a fact, and edit."""
    one, two = await nodes.start("n1", url, **cluster), await nodes.start("n2", url, **cluster)
    await one.until(lambda: len(one.cluster.members()) == 2)
    await two.until(lambda: two.cluster.facts.settled)
    heard: list[object] = []
    two.balancer.sharing.channel("t", heard.append)
    channel = one.balancer.sharing.channel("t", heard.append)
    channel.send("fact")
    await two.until(lambda: heard == ["fact"])
    await two.cluster.edits.write({"routes": {"b.example": ["127.0.0.1:8"]}})
    await one.until(lambda: "b.example" in one.balancer.routes)
    assert [one.balancer.sharing.leads, two.balancer.sharing.leads].count(True) == 1
    return one, two


async def test_a_user_with_few_rights_is_enough(nodes: Nodes, redis: RedisServer) -> None:
    redis.command("ACL", "SETUSER", "lb", "on", ">geheim", "resetkeys", "resetchannels", "-@all", *RIGHTS)
    redis.command("ACL", "SETUSER", "default", "off")
    one, _ = await works(nodes, redis.url, username="lb", password="geheim")
    assert not one.told("cluster_lost")


async def test_without_a_right_it_is_told_which_page_lists_them(nodes: Nodes, redis: RedisServer) -> None:
    redis.command("ACL", "SETUSER", "lb", "on", ">geheim", "~other:*", "&*", "-@all", "+@connection", "+@scripting")
    one = await nodes.start("n1", redis.url, joined=False, username="lb", password="geheim")
    assert "docs/cluster.md" in (await one.until_told("cluster_lost")).message


@pytest.mark.parametrize(
    ("cluster", "message"),
    [({}, "give `password`"), ({"password": "falsch"}, "is wrong"), ({"username": "who", "password": "x"}, "is wrong")],
)
async def test_a_wrong_password(nodes: Nodes, start_redis: Start, cluster: dict[str, object], message: str) -> None:
    server = start_redis("--requirepass", "geheim")
    one = await nodes.start("n1", server.url, joined=False, **cluster)
    lost = await one.until_told("cluster_lost")
    assert message in lost.message
    assert "geheim" not in str(lost) + repr(lost)
    assert "falsch" not in str(lost) + repr(lost)
    await nodes.start("n2", f"redis://:geheim@127.0.0.1:{server.port}")


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """An authority, and certificates for a server at 127.0.0.1 and for a client, made by openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is missing: apt-get install openssl")
    folder = tmp_path / "tls"
    folder.mkdir()

    def make(*words: str) -> None:
        subprocess.run([str(openssl), *words], cwd=folder, check=True, capture_output=True, timeout=30)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    make(*new, "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt")
    for name, names in (("server", "IP:127.0.0.1"), ("client", "DNS:client")):
        make(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / "ext").write_text(f"subjectAltName={names}\n")
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext")
        make("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.crt")
    return folder


def tls_options(folder: Path) -> tuple[str, ...]:
    cert, key, ca = (str(folder / name) for name in ("server.crt", "server.key", "ca.crt"))
    return "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca


async def test_tls_with_a_certificate_of_our_own(nodes: Nodes, start_redis: Start, certificates: Path) -> None:
    server = start_redis(*tls_options(certificates), tls=True)
    files = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key"}
    await works(
        nodes,
        f"rediss://127.0.0.1:{server.port}",
        tls={name: str(certificates / file) for name, file in files.items()},
    )


async def test_tls_that_cannot_be_trusted_or_is_not_there(
    nodes: Nodes, start_redis: Start, redis: RedisServer, certificates: Path
) -> None:
    server = start_redis(*tls_options(certificates), "--tls-auth-clients", "no", tls=True)
    url = f"rediss://127.0.0.1:{server.port}"
    untrusted = await nodes.start("n1", url, joined=False)
    assert "name the authority's file" in (await untrusted.until_told("cluster_lost")).message
    other = await nodes.start(
        "n2", f"rediss://localhost:{server.port}", joined=False, tls={"ca": str(certificates / "ca.crt")}
    )
    assert "certificate" in (await other.until_told("cluster_lost")).message
    unchecked = {"ca": str(certificates / "ca.crt"), "check_hostname": False}
    await nodes.start("n3", f"rediss://localhost:{server.port}", tls=unchecked)
    plain = await nodes.start("n4", f"rediss://127.0.0.1:{redis.port}", joined=False)
    await plain.until_told("cluster_lost")
    assert "joined" not in str(plain.events)


async def until(condition: Callable[[], object], within: float = 15.0) -> None:
    end = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.05)


@pytest.fixture
def sentinels(start_redis: Start) -> tuple[RedisServer, RedisServer, str]:
    """A master, its replica, and the URL of the Sentinel that watches them."""
    master = start_redis()
    replica = start_redis("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0")
    watcher = start_redis(program="redis-sentinel")
    watcher.command("SENTINEL", "MONITOR", "main", "127.0.0.1", str(master.port), "1")
    watcher.command("SENTINEL", "SET", "main", "down-after-milliseconds", "300")
    watcher.command("SENTINEL", "SET", "main", "failover-timeout", "3000")
    return master, replica, f"redis+sentinel://127.0.0.1:{watcher.port}/main"


async def test_sentinels_lead_to_the_master_and_to_the_next_one_after_its_end(
    nodes: Nodes, sentinels: tuple[RedisServer, RedisServer, str]
) -> None:
    master, replica, url = sentinels
    await until(lambda: replica.command("INFO", "replication").get("master_link_status") == "up")
    one, two = await works(nodes, url)
    await until(lambda: replica.command("HGET", "{lb}:edits", "version") == "1")
    sentinel_port = int(url.split(":")[2].split("/")[0])
    await until(lambda: replica.port in _replicas(master, sentinel_port))
    master.kill()
    await one.until_told("cluster_lost")
    for node in (one, two):
        await node.until(lambda node=node: node.cluster.link.joined, within=25)  # type: ignore[misc]
    assert replica.command("ROLE")[0] == "master"
    assert one.cluster.edits.applied == two.cluster.edits.applied == 1
    await one.until(lambda: [each.state for each in one.cluster.members()] == ["up", "up"])


def _replicas(server: RedisServer, port: int) -> list[int]:
    found = server.command("SENTINEL", "REPLICAS", "main", port=port)
    return [int(each[each.index("port") + 1]) for each in found if each[each.index("flags") + 1] == "slave"]


async def test_sentinels_that_know_no_such_master(
    nodes: Nodes, sentinels: tuple[RedisServer, RedisServer, str]
) -> None:
    one = await nodes.start("n1", sentinels[2].replace("/main", "/other"), joined=False)
    assert "know no master of that name" in (await one.until_told("cluster_lost")).message


@pytest.fixture
def ring(start_redis: Start) -> list[RedisServer]:
    """Three masters of a Redis Cluster."""
    need("redis-cli")
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")
    servers = [start_redis(*options, port=free_port()) for _ in range(3)]
    addresses = [f"127.0.0.1:{server.port}" for server in servers]
    command = ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "0", "--cluster-yes"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    end = time.monotonic() + 10
    while not all("cluster_state:ok" in str(server.command("CLUSTER", "INFO")) for server in servers):
        assert time.monotonic() < end
        time.sleep(0.02)
    return servers


async def test_a_redis_cluster(nodes: Nodes, ring: list[RedisServer]) -> None:
    one, two = await works(nodes, "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in ring))
    slots = {server.port: server.command("DBSIZE") for server in ring}
    assert sum(count > 0 for count in slots.values()) == 1, "what scripts use together is in one slot"
    holder = next(server for server in ring if slots[server.port])
    holder.kill()
    await one.until_told("cluster_lost")
    await two.until_told("cluster_lost")
    assert one.balancer.sharing.nodes == 2


async def test_what_is_no_redis_cluster_and_what_is_one(
    nodes: Nodes, redis: RedisServer, ring: list[RedisServer]
) -> None:
    one = await nodes.start("n1", f"redis+cluster://127.0.0.1:{redis.port}", joined=False)
    assert "write redis:// instead of redis+cluster://" in (await one.until_told("cluster_lost")).message
    moved = [await nodes.start(f"m{at}", server.url, joined=False) for at, server in enumerate(ring)]
    for node in moved:
        await node.until(lambda node=node: node.told("cluster_lost") or node.told("cluster_joined"))  # type: ignore[misc]
    told = [node.told("cluster_lost")[0].message for node in moved if node.told("cluster_lost")]
    assert len(told) == 2, "one of them has the slot"
    assert all("write redis+cluster://" in message for message in told)
