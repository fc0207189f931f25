"""Hashes, the command that makes them, htpasswd files, and what is remembered of credentials."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import bcrypt
import pytest

from lb_filters import password
from lb_filters.hashes import check_hash, make_hash, matches
from lb_filters.user_file import UserFile, read_users
from lb_filters.verified import Verified

ALICE = bcrypt.hashpw(b"alice", bcrypt.gensalt(4)).decode()


@pytest.mark.parametrize("kind", ["2a", "2b", "2y"])
def test_hashes_of_every_tool(kind: str) -> None:
    hashed = ALICE.replace("$2b$", f"${kind}$")
    check_hash("alice", hashed)
    assert matches(b"alice", hashed)
    assert not matches(b"bob", hashed)
    assert not matches(b"a" * 73, hashed)
    assert not matches(b"alice\0", hashed)


@pytest.mark.parametrize(
    "text",
    [
        *("", "secret", "$apr1$a$b", "{SHA}x=", "$6$a$b", "$2b$04$x"),
        pytest.param(ALICE + "x", id="a character too many"),
        pytest.param(ALICE + "\n", id="a line's end too many"),
    ],
)
def test_what_is_no_hash(text: str) -> None:
    with pytest.raises(ValueError, match="a bcrypt hash is wanted") as caught:
        check_hash("alice", text)
    assert not text or text not in str(caught.value)


def test_costs() -> None:
    for cost in ("03", "17", "31"):
        with pytest.raises(ValueError, match="the cost"):
            check_hash("alice", ALICE.replace("$04$", f"${cost}$"))


@pytest.mark.parametrize("bad", [b"", b"x" * 73, b"a\0b"])
def test_passwords_that_cannot_be(bad: bytes) -> None:
    with pytest.raises(ValueError, match="password"):
        make_hash(bad, 4)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("bøb's\n"))
    assert password.main(["bob", "--cost", "4"]) == 0
    name, _, hashed = capsys.readouterr().out.strip().partition(":")
    assert (name, matches("bøb's".encode(), hashed)) == ("bob", True)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert password.main([]) == 1
    assert "empty" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        password.main(["a:b"])


def test_on_a_terminal_it_is_typed_twice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    typed = iter(["one", "one", "one", "two"])
    monkeypatch.setattr(password.getpass, "getpass", lambda prompt: next(typed))
    assert password.main(["--cost", "4"]) == 0
    assert matches(b"one", capsys.readouterr().out.strip())
    assert password.main(["--cost", "4"]) == 1
    assert "not the same" in capsys.readouterr().err


def test_the_module_runs() -> None:
    command = [sys.executable, "-m", "lb_filters.password", "--cost", "4"]
    ended = subprocess.run(command, input="x\n", capture_output=True, text=True, timeout=20, check=True)
    assert matches(b"x", ended.stdout.strip())


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"# comment\n\n  alice:{ALICE}  \nbøb:{ALICE}\n", encoding="utf-8")
    assert read_users(str(path)) == {"alice": ALICE, "bøb": ALICE}
    for text, said in ((f"a\x01b:{ALICE}", "cannot be the name"), (f":{ALICE}", "cannot be"), ("x", "NAME:HASH")):
        path.write_text(text)
        with pytest.raises(ValueError, match=said):
            read_users(str(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="utf-8"):
        read_users(str(path))


def test_a_file_is_looked_at_once_a_second(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    path = tmp_path / "users"
    path.write_text(f"alice:{ALICE}\n")
    file = UserFile(str(path), clock=lambda: now)
    path.write_text(f"alice:{ALICE}\nbob:{ALICE}\n")
    assert not file.due()
    now = 1.0
    assert file.due()
    assert not file.due(), "the next look is a second away"
    file.read_again()
    assert set(file.users) == {"alice", "bob"}
    now = 2.0
    assert not file.due()
    path.write_text("nonsense\n")
    for _ in range(3):
        now += 1.0
        assert file.due()
        file.read_again()
    assert set(file.users) == {"alice", "bob"}
    assert len(caplog.records) == 1
    path.unlink()
    now += 1.0
    assert file.due()
    file.read_again()
    assert set(file.users) == {"alice", "bob"}
    assert len(caplog.records) == 2


def test_verified_credentials_are_forgotten() -> None:
    now = 0.0
    known = Verified(most=2, seconds=10.0, clock=lambda: now)
    one, two, three = (known.digest(text) for text in ("one", "two", "three\xff"))
    assert len({one, two, three}) == 3
    assert Verified().digest("one") != one, "every process has a key of its own"
    assert known.find(one) is None
    known.add(one, "ann")
    known.add(two, "bob")
    known.add(one, "ann")
    known.add(three, "cid")
    assert (known.find(one), known.find(two), known.find(three)) == ("ann", None, "cid")
    now = 10.1
    assert (known.find(one), known.find(one)) == (None, None)
    known.add(one, "ann")
    known.clear()
    assert known.find(one) is None
