"""The control socket: where it is, who may use it, what may be asked, and that nothing asked can harm the balancer."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from lb_core import Command, LbError, LoadBalancer, hookimpl
from lb_core.cli import lb as group
from lb_core.cli import status_of
from lb_core.cli.commands import _as_click
from lb_core.config import config_from_tree
from lb_core.control import LARGEST_REQUEST, client, listener, peers, places
from lb_core.control.asks import Asks
from lb_core.control.listener import ControlSocket
from lb_core.errors import ConfigError
from lb_core.plugins import Plugins

UID = os.geteuid()
TREE: dict[str, Any] = {"access_log": False, "routes": {"shop.example": ["127.0.0.1:9001"]}}


def fail(balancer: LoadBalancer, how: str) -> str:
    if how == "exit":
        raise SystemExit(3)
    raise LbError("there is no such thing") if how == "known" else ZeroDivisionError("by zero")


class Commanding:
    @hookimpl
    def register_commands(self) -> Iterator[Command]:
        yield Command("routes-of", lambda balancer: ", ".join(balancer.routes), "List the routes.")
        yield Command("fail", fail, "Fail.", ("HOW",))


def made(**more: Any) -> LoadBalancer:
    plugins = Plugins.discover(extra=[Commanding()])
    return LoadBalancer(config_from_tree({**TREE, **more}, plugins), plugins=plugins)


BALANCER = made()


@asynccontextmanager
async def listening(path: Path, **options: Any) -> AsyncIterator[ControlSocket]:
    control = ControlSocket(Asks(BALANCER, lambda: ["http://127.0.0.1:1"]), {}, **options)
    await control.follow(str(path))
    try:
        yield control
    finally:
        await control.close()


async def say(path: Path, data: bytes) -> bytes:
    """What is answered to some bytes, up to the end of the first line or of the connection."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 20)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.readline(), 5)
    finally:
        writer.close()


async def ask(path: Path, **request: Any) -> Any:
    return await asyncio.to_thread(client.ask, str(path), request)


# what may be asked


async def test_the_socket_answers_and_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    async with listening(path) as control:
        assert control.path == str(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        status = await ask(path, ask="status")
        assert (status["pid"], status["urls"]) == (os.getpid(), ["http://127.0.0.1:1"])
        assert {"routes-of", "fail"} <= set(status["commands"])
        assert await ask(path, ask="command", name="routes-of", arguments=[]) == "shop.example"
        with pytest.raises(LbError, match="there is no such thing"):
            await ask(path, ask="command", name="fail", arguments=["known"])
        found = await ask(path, ask="explain", method="GET", url="http://shop.example/")
        assert (found["route"], found["choice"]) == ("shop.example", "127.0.0.1:9001")
        assert await ask(path, ask="decision", request_id="nobody") == {
            "decisions": [],
            "kept": 0,
            "seconds": pytest.approx(BALANCER.engine.decisions.reach, abs=5),
        }
    assert not path.exists()


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"ask": "command", "name": "nope"}, "has no command 'nope'; there are: "),
        ({"ask": "command", "name": "fail", "arguments": ["known"]}, "there is no such thing"),
        ({"ask": "command", "name": "fail", "arguments": ["other"]}, "ZeroDivisionError: by zero; the balancer's log"),
        ({"ask": "command", "name": "fail", "arguments": ["exit"]}, "SystemExit: 3"),
        ({"ask": "command", "name": "fail"}, "0 arguments for `lb fail HOW`"),
        ({"ask": "command", "name": "fail", "arguments": "known"}, "arguments: give a list of texts"),
        ({"ask": "command", "name": 7}, "name: give a text"),
        ({"ask": "explain", "method": "GET"}, "url: give a text"),
        ({"ask": "explain", "method": "GET", "url": "http://[x/"}, "no URL to ask about"),
        ({"ask": "explain", "method": "GET", "url": "http://x/", "headers": {"a": 1}}, "headers: give an object"),
        ({"ask": "decision"}, "request_id: give a text"),
        ({"ask": "stop"}, "nothing is known of 'stop'; there are command, decision, explain, status"),
        ({"ask": ["x"]}, "nothing is known of ['x']"),
    ],
)
def test_what_cannot_be_done_is_told(request_: dict[str, Any], error: str) -> None:
    answer = json.loads(asyncio.run(Asks(BALANCER, list).answer(json.dumps(request_).encode())))
    assert answer["ok"] is False
    assert error in answer["error"]


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n", b"[]\n", b"\xff\xfe\n", b"[" * 50_000 + b"\n", b"\n", b"7\n"]
)
async def test_garbage_is_answered_with_an_error_and_the_next_one_is_served(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "c.sock"
    async with listening(path):
        answer = json.loads(await say(path, garbage))
        assert answer["ok"] is False
        assert (await ask(path, ask="status"))["pid"] == os.getpid()


async def test_a_line_that_is_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    async with listening(path):
        assert b"longer than 524288 bytes" in await say(path, b"x" * (LARGEST_REQUEST + 100))
        assert (await ask(path, ask="status"))["pid"] == os.getpid()


async def test_several_lines_over_one_connection_and_several_connections_at_once(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    line = b'{"ask": "status"}\n'
    async with listening(path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(line * 3)
        assert all([json.loads(await reader.readline())["ok"] for _ in range(3)])
        answers = await asyncio.gather(*[say(path, line) for _ in range(10)])
        assert all(json.loads(answer)["ok"] for answer in answers)
        writer.close()


async def test_who_is_silent_is_cut_and_more_than_a_few_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "CONNECTIONS", 2)
    path = tmp_path / "c.sock"
    async with listening(path, seconds=0.2):
        first, second = [await asyncio.open_unix_connection(str(path)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert b"too many connections" in await say(path, b"")
        first[1].write(b'{"ask": "sta')
        assert await asyncio.wait_for(first[0].read(), 5) == b""
        assert await asyncio.wait_for(second[0].read(), 5) == b""
        assert json.loads(await say(path, b'{"ask": "status"}\n'))["ok"]
        for _, writer in (first, second):
            writer.close()


async def test_who_does_not_read_the_answer_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.sock"

    async def much(self: Asks, line: bytes) -> bytes:
        return b"x" * 8_000_000

    monkeypatch.setattr(Asks, "answer", much)
    async with listening(path, seconds=0.1) as control:
        with socket.socket(socket.AF_UNIX) as slow:
            slow.setblocking(False)
            slow.connect(str(path))
            slow.send(b"{}\n")
            await asyncio.sleep(0.05)
            assert control._connections
            async with asyncio.timeout(3):
                while control._connections:
                    await asyncio.sleep(0.01)


async def test_who_comes_just_before_the_end_is_cut(tmp_path: Path) -> None:
    closed = ControlSocket(Asks(BALANCER, list), {})
    async with await asyncio.start_unix_server(closed._accept, tmp_path / "c.sock"):
        assert await say(tmp_path / "c.sock", b"") == b""


async def test_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "user_at", lambda connection: UID + 4711)
    async with listening(tmp_path / "c.sock"):
        answer = json.loads(await say(tmp_path / "c.sock", b'{"ask": "status"}\n'))
    assert answer == {"ok": False, "error": "only the user of this balancer and root may ask it"}


async def test_what_fails_on_our_side_is_logged_and_serves_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "c.sock"
    async with listening(path):
        with monkeypatch.context() as patched:
            patched.setattr(Asks, "answer", lambda self, line: 1 / 0)
            assert await say(path, b"{}\n") == b""
        assert "a connection to the control socket failed" in caplog.text
        assert (await ask(path, ask="status"))["pid"] == os.getpid()


# where it is


async def test_it_follows_the_configuration(tmp_path: Path) -> None:
    control = ControlSocket(Asks(BALANCER, list), {"XDG_RUNTIME_DIR": str(tmp_path)})
    await control.follow("")
    usual = tmp_path / "lb" / f"{os.getpid()}.sock"
    assert control.path == str(usual)
    await control.follow("")
    assert usual.exists()
    await control.follow(str(tmp_path / "named.sock"))
    assert not usual.exists()
    assert (await ask(tmp_path / "named.sock", ask="status"))["file"] == ""
    await control.follow("off")
    assert (control.path, list(tmp_path.glob("*.sock"))) == ("", [])


async def test_where_no_socket_can_be_made_there_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "lb").write_text("not a directory")
    control = ControlSocket(Asks(BALANCER, list), {"XDG_RUNTIME_DIR": str(tmp_path)})
    await control.follow("")
    assert control.path == ""
    assert "no command can reach this balancer" in caplog.text
    assert "is no directory" in caplog.text
    await control.follow(str(tmp_path / "nowhere" / "c.sock"))
    assert "there is no directory" in caplog.text
    await control.close()


def test_the_usual_places_by_environment_and_user() -> None:
    assert places.directories({"XDG_RUNTIME_DIR": "/run/user/7"}, 7) == [Path("/run/user/7/lb"), Path("/tmp/lb-7")]
    assert places.directories({"XDG_RUNTIME_DIR": "relative"}, 0) == [Path("/run/lb"), Path("/tmp/lb-0")]
    assert places.directories({"TMPDIR": "/var/tmp"}, 7) == [Path("/var/tmp/lb-7")]


def test_a_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "lb"
    places.make_directory(path, UID)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    path.chmod(0o755)
    places.make_directory(path, UID)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "lb").mkdir()
    with pytest.raises(LbError, match=f"belongs to user {UID}, not to user {UID + 1}: remove it, or name another"):
        places.make_directory(tmp_path / "lb", UID + 1)
    (tmp_path / f"lb-{UID + 1}").mkdir()
    (tmp_path / f"lb-{UID + 1}" / "1.sock").touch()
    assert places.sockets({"TMPDIR": str(tmp_path)}, UID + 1) == []


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "lb").symlink_to(tmp_path / "real")
    with pytest.raises(LbError, match="is no directory"):
        places.make_directory(tmp_path / "lb", UID)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(LbError, match=r"cannot make .*: No such file or directory; name another place"):
        places.make_directory(tmp_path / "nowhere" / "lb", UID)


def dead_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def leave(path: Path) -> Path:
    """A socket nobody listens on any more."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    return path


def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    own = os.getpid()
    old, ours, parent = [leave(tmp_path / f"{pid}.sock") for pid in (dead_pid(), own, os.getppid())]
    impossible = leave(tmp_path / "9999999999.sock")
    note = tmp_path / "note.txt"
    note.touch()
    with socket.socket(socket.AF_UNIX) as elsewhere:  # another machine's process may share the directory
        elsewhere.bind(str(tmp_path / f"{dead_pid()}.sock"))
        elsewhere.listen()
        assert places.new_socket(tmp_path, own) == ours
        assert not old.exists()
        assert not ours.exists()
        assert not impossible.exists()
        assert parent.exists(), "it may only just be making it"
        assert note.exists()


def test_a_second_balancer_of_one_process_has_a_socket_too(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(str(tmp_path / "1.sock"))
        first.listen()
        assert places.new_socket(tmp_path, 1) == tmp_path / "1-2.sock"


def test_a_process_of_another_user_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(pid: int, number: int) -> None:
        raise PermissionError

    assert not places._lives(0)
    monkeypatch.setattr(os, "kill", forbidden)
    assert places._lives(1)


def test_somebody_who_is_too_busy_to_accept_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(tmp_path / "1.sock"))
        busy.listen(0)
        waiting.connect(str(tmp_path / "1.sock"))  # the one that may wait
        assert places._listens(tmp_path / "1.sock")


# the command line's side


def test_the_only_socket_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "directories", lambda environ, uid: [tmp_path])
    with pytest.raises(LbError, match="no balancer of this user runs here: start one with `lb run`"):
        client.find(None, {})
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        one.bind(str(tmp_path / "1.sock"))
        one.listen()
        leave(tmp_path / "2.sock")
        assert client.find(None, {}) == str(tmp_path / "1.sock")
        assert client.find("/named", {"LB_CONTROL": "/other"}) == "/named"
        assert client.find(None, {"LB_CONTROL": "/other"}) == "/other"
        assert client.find(None, {"LB_CONTROL": "off"}) == str(tmp_path / "1.sock")
        monkeypatch.setattr(client, "LOOK_SECONDS", 0.05)
        two.bind(str(tmp_path / "3.sock"))
        two.listen()
        with pytest.raises(LbError, match="2 balancers run here: choose one with `--control PATH`") as told:
            client.find(None, {})
    assert f"  {tmp_path}/3.sock  the balancer behind {tmp_path}/3.sock does not answer within 0.05 s" in str(
        told.value
    )


async def test_several_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "directories", lambda environ, uid: [tmp_path])
    async with listening(tmp_path / "1.sock"), listening(tmp_path / "2.sock"):
        with pytest.raises(LbError) as told:
            await asyncio.to_thread(client.find, None, {})
    line = f"pid {os.getpid()}, no file, http://127.0.0.1:1"
    assert str(told.value).splitlines()[1:] == [f"  {tmp_path}/{name}.sock  {line}" for name in (1, 2)]


async def test_who_answers_nonsense_is_no_balancer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.sock"
    async with listening(path):
        for nonsense in (b"hello\n", b"7\n", b"no line"):
            monkeypatch.setattr(Asks, "answer", lambda self, line, answer=nonsense: answer)
            if nonsense == b"no line":
                monkeypatch.setattr(ControlSocket, "_converse", hang_up)
            with pytest.raises(LbError, match=r"what answers at .* is no balancer"):
                await ask(path, ask="status")
        monkeypatch.setattr(client, "user_at", lambda connection: UID + 4711)
        monkeypatch.setattr(os, "geteuid", lambda: UID + 1)
        with pytest.raises(LbError, match=f"belongs to a process of user {UID + 4711}: it is not asked"):
            await ask(path, ask="status")
        await asyncio.sleep(0.02)  # asyncio complains of a server that is closed while it accepts
    with pytest.raises(LbError, match=r"nobody can be asked at .*: No such file or directory"):
        await ask(path, ask="status")


async def hang_up(self: ControlSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with something, but with no line."""
    await reader.readline()
    writer.write(b'{"ok": tr')


async def test_who_answers_a_little_at_a_time_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ControlSocket, "_converse", trickle)
    async with listening(tmp_path / "c.sock"):
        with pytest.raises(LbError, match=r"does not answer within 0\.1 s"):
            await asyncio.to_thread(client.ask, str(tmp_path / "c.sock"), {}, seconds=0.1)


async def trickle(self: ControlSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer for ever."""
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.01)


async def test_an_answer_has_bounds_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.sock"
    monkeypatch.setattr(client, "LARGEST_ANSWER", 100_000)
    monkeypatch.setattr(Asks, "answer", lambda self, line: b"x" * 1_000_000 + b"\n")
    async with listening(path):
        with pytest.raises(LbError, match="is no balancer"):
            await ask(path, ask="status")


async def test_a_command_of_a_plugin_is_typed_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.sock"
    commands = {each.name: _as_click(each) for each in Commanding().register_commands()}
    monkeypatch.setitem(group.__dict__, "of_plugins", commands)
    async with listening(path):
        status = await asyncio.to_thread(status_of, ["routes-of", "--control", str(path)])
        assert (status, capsys.readouterr().out) == (0, "shop.example\n")
        status = await asyncio.to_thread(status_of, ["fail", "known", "--control", str(path)])
        assert (status, capsys.readouterr().err) == (1, "lb: there is no such thing\n")


def test_users() -> None:
    left, right = socket.socketpair(socket.AF_UNIX)
    with left, right:
        assert peers.user_at(left) == os.getuid()
    assert peers.is_trusted(UID)
    assert peers.is_trusted(0)
    assert peers.is_trusted(None)
    assert not peers.is_trusted(UID + 1, UID)


def test_a_system_that_does_not_tell_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_PEERCRED")
    left, right = socket.socketpair(socket.AF_UNIX)
    with left, right:
        assert peers.user_at(left) is None


# the key of the configuration


@pytest.mark.parametrize(
    ("written", "kept"), [(None, ""), ("/run/x.sock", "/run/x.sock"), ("off", "off"), (False, "off")]
)
def test_control_is_a_path_or_off(written: object, kept: str) -> None:
    tree = TREE if written is None else {**TREE, "control": written}
    assert config_from_tree(tree).control == kept


def test_control_cannot_be_switched_on() -> None:
    with pytest.raises(ConfigError, match=r"control: .*write the path of a unix socket, or off"):
        config_from_tree({**TREE, "control": True})
