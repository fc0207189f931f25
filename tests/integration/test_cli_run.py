"""`lb run` as its users meet it: a process, signals, files that change, and errors that say what to do."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.integration import lb_process
from tests.integration.lb_process import backend, free_port, get, wait_until

lb = partial(lb_process.lb, covered=True)

CONFIG = """\
listeners: {{web: {{address: "127.0.0.1:{port}"}}}}
access_log: {{format: "off"}}
routes:
  "*":
    backends: [{backend}]
"""


def write(path: Path, text: str) -> None:
    """Replace a file in one step."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def test_backends_without_a_file_are_balanced_and_sigterm_ends_with_status_0() -> None:
    port = free_port()
    with (
        backend("a") as a,
        backend("b") as b,
        lb("run", a.address, f"http://{b.address}", "--listen", f"127.0.0.1:{port}") as run,
    ):
        run.wait_for("twice quits")
        assert f"http://127.0.0.1:{port}" in run.errors
        assert a.address in run.errors
        assert "least_connections" in run.errors
        answers = Counter(get(port) for _ in range(20))
        assert answers == {(200, "a"): 10, (200, "b"): 10}
        run.signal(signal.SIGTERM)
        assert run.wait() == 0
        assert "Traceback" not in run.errors
        with pytest.raises(ConnectionRefusedError):
            get(port)


def test_the_access_log_goes_to_standard_output_and_nothing_else_does() -> None:
    port = free_port()
    with backend("a") as a, lb("run", a.address, "--listen", f"127.0.0.1:{port}", "--access-log", "clf") as run:
        run.wait_for("twice quits")
        get(port, "/logged")
        run.signal(signal.SIGINT)
        assert run.wait() == 0
        assert len(run.output) == 1
        assert '"GET /logged HTTP/1.1" 200' in run.output[0]


def test_a_request_in_flight_is_answered_when_sigterm_comes() -> None:
    port = free_port()
    with backend("slow", latency_ms=800) as slow, lb("run", slow.address, "--listen", f"127.0.0.1:{port}") as run:
        run.wait_for("twice quits")
        answers: list[tuple[int, str]] = []
        asking = threading.Thread(target=lambda: answers.append(get(port)))
        asking.start()
        time.sleep(0.3)
        run.signal(signal.SIGTERM)
        run.wait_for("draining")
        assert run.wait() == 0
        asking.join(5)
        assert answers == [(200, "slow")]


def test_a_second_signal_ends_at_once() -> None:
    port = free_port()
    with backend("slow", latency_ms=20_000) as slow, lb("run", slow.address, "--listen", f"127.0.0.1:{port}") as run:
        run.wait_for("twice quits")
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        client.request("GET", "/")
        time.sleep(0.2)
        run.signal(signal.SIGINT)
        run.wait_for("draining")
        assert run.process.poll() is None
        run.signal(signal.SIGINT)
        assert run.wait(5) == 0
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            client.getresponse()
        client.close()


def test_the_drain_has_a_limit() -> None:
    port = free_port()
    arguments = ("--listen", f"127.0.0.1:{port}", "--drain", "500ms")
    with backend("slow", latency_ms=20_000) as slow, lb("run", slow.address, *arguments) as run:
        run.wait_for("twice quits")
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        client.request("GET", "/")
        time.sleep(0.2)
        run.signal(signal.SIGTERM)
        assert run.wait(5) == 0
        assert "1 connection" in run.errors
        client.close()


def test_sighup_and_a_changed_file_are_taken_over_without_closing_a_connection(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "lb.yaml"
    with backend("a") as a, backend("b") as b:
        write(file, CONFIG.format(port=port, backend=a.address))
        with lb("run", "-c", str(file)) as run:
            run.wait_for("twice quits")
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

            def who() -> str | None:
                client.request("GET", "/")
                answer = client.getresponse()
                answer.read()
                return answer.headers["X-Backend"]

            assert who() == "a"
            sock = client.sock
            write(file, CONFIG.format(port=port, backend=b.address))
            run.signal(signal.SIGHUP)
            wait_until(lambda: who() == "b")
            write(file, CONFIG.format(port=port, backend=a.address))
            wait_until(lambda: who() == "a", within=5)
            assert client.sock is sock
            client.close()


def test_a_bad_file_is_refused_with_every_problem_and_the_old_one_stays(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "lb.yaml"
    with backend("a") as a:
        good = CONFIG.format(port=port, backend=a.address)
        write(file, good)
        with lb("run", "-c", str(file)) as run:
            run.wait_for("twice quits")
            write(file, good + "    strategi: random\n    health_check: {interval: 5}\n")
            run.wait_for("config refused", within=6)
            run.wait_for("strategi", within=1)
            run.wait_for("interval", within=1)
            assert "lb.yaml:6" in run.errors
            assert get(port) == (200, "a")
            write(file, good + "    strategy: least_connections\n")
            run.wait_for("config loaded", within=6)
            assert get(port) == (200, "a")
            assert "Traceback" not in run.errors


def test_listeners_come_and_go_with_the_file(tmp_path: Path) -> None:
    first, second, file = free_port(), free_port(), tmp_path / "lb.yaml"
    with backend("a") as a:
        write(file, CONFIG.format(port=first, backend=a.address))
        with lb("run", "-c", str(file)) as run:
            run.wait_for("twice quits")
            client = http.client.HTTPConnection("127.0.0.1", first, timeout=10)
            client.request("GET", "/")
            client.getresponse().read()
            write(file, CONFIG.format(port=second, backend=a.address))
            run.signal(signal.SIGHUP)
            run.wait_for(f"http://127.0.0.1:{second}")
            assert get(second) == (200, "a")
            wait_until(lambda: refused(first))
            client.close()
            run.signal(signal.SIGTERM)
            assert run.wait() == 0


def test_a_listener_that_cannot_be_opened_on_reload_is_named_and_the_others_stay(tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "lb.yaml"
    with backend("a") as a, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        good = CONFIG.format(port=port, backend=a.address)
        write(file, good)
        with lb("run", "-c", str(file)) as run:
            run.wait_for("twice quits")
            two = f'{{web: {{address: "127.0.0.1:{port}"}}, more: {{address: "127.0.0.1:{number}"}}}}'
            write(file, "\n".join([f"listeners: {two}", *good.splitlines()[1:]]) + "\n")
            run.signal(signal.SIGHUP)
            run.wait_for(f"port {number} on 127.0.0.1 is taken")
            assert get(port) == (200, "a")


def test_a_taken_port_is_one_line_and_status_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with lb("run", "127.0.0.1:9", "--listen", f"127.0.0.1:{port}") as run:
            assert run.wait() == 1
            assert f"port {port} on 127.0.0.1 is taken (by" in run.errors
            assert f"pid {os.getpid()}" in run.errors
            assert "Traceback" not in run.errors


def test_a_backend_that_is_not_there_is_named_and_others_serve() -> None:
    port, gone = free_port(), free_port()
    with backend("a") as a, lb("run", a.address, f"127.0.0.1:{gone}", "--listen", f"127.0.0.1:{port}") as run:
        run.wait_for("twice quits")
        (line,) = [line for line in run.lines if f"127.0.0.1:{gone}" in line]
        assert "unreachable: Connection refused" in line
        assert [get(port) for _ in range(6)] == [(200, "a")] * 6


def test_a_killed_backend_loses_no_get_and_comes_back() -> None:
    port = free_port()
    with (
        backend("a") as a,
        backend("b", latency_ms=5) as b,
        lb("run", a.address, b.address, "--listen", f"127.0.0.1:{port}") as run,
    ):
        run.wait_for("twice quits")
        answers: list[tuple[int, str]] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                answers.append(get(port))

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        wait_until(lambda: len(answers) > 50)
        b.close()
        seen = len(answers)
        wait_until(lambda: len(answers) > seen + 200)
        stop.set()
        for thread in asking:
            thread.join(10)
        assert {status for status, _ in answers} == {200}
        assert {name for _, name in answers[-50:]} == {"a"}
        with backend("b", port=b.port):
            wait_until(lambda: get(port) == (200, "b"), or_else=lambda: run.errors)


def test_listen_moves_the_first_listener_of_a_file_and_stays_so_on_reload(tmp_path: Path) -> None:
    written, moved, other, file = free_port(), free_port(), free_port(), tmp_path / "lb.yaml"
    with backend("a") as a:
        text = CONFIG.format(port=written, backend=a.address)
        text = text.replace("}}\naccess", f'}}, two: {{address: "127.0.0.1:{other}"}}}}\naccess')
        write(file, text)
        with lb("run", "-c", str(file), "--listen", f"127.0.0.1:{moved}") as run:
            run.wait_for("twice quits")
            assert [get(moved), get(other)] == [(200, "a")] * 2
            run.signal(signal.SIGHUP)
            run.wait_for("config loaded")
            assert [get(moved), get(other)] == [(200, "a")] * 2
            assert refused(written)


def test_the_environment_counts_without_a_file_and_the_command_line_counts_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = free_port(), free_port()
    monkeypatch.setenv("LB_PORT", str(first))
    monkeypatch.setenv("LB_ACCESS_LOG__FORMAT", "off")
    with backend("a") as a:
        with lb("run", a.address) as run:
            run.wait_for("twice quits")
            assert get(first) == (200, "a")
            run.signal(signal.SIGTERM)
            assert run.wait() == 0
            assert run.output == []
        with lb("run", a.address, "--listen", f"127.0.0.1:{second}") as run:
            run.wait_for("twice quits")
            assert get(second) == (200, "a")
            assert refused(first)


def test_sigusr1_opens_the_access_log_again(tmp_path: Path) -> None:
    port, file, log = free_port(), tmp_path / "lb.yaml", tmp_path / "access.log"
    with backend("a") as a:
        text = CONFIG.format(port=port, backend=a.address)
        write(file, text.replace('{format: "off"}', f'{{format: clf, file: "{log}"}}'))
        with lb("run", "-c", str(file)) as run:
            run.wait_for("twice quits")
            get(port, "/before")
            wait_until(lambda: "/before" in log.read_text(), within=4)
            log.rename(tmp_path / "access.log.1")
            run.signal(signal.SIGUSR1)
            wait_until(log.exists)
            get(port, "/after")
            run.signal(signal.SIGTERM)
            assert run.wait() == 0
        assert "/after" in log.read_text()
        assert "/after" not in (tmp_path / "access.log.1").read_text()


def test_without_rights_a_backend_or_a_file_errors_are_one_line(tmp_path: Path) -> None:
    with lb("run", "-c", str(tmp_path / "missing.yaml")) as run:
        assert run.wait() == 3
        assert "missing.yaml" in run.errors
        assert "Traceback" not in run.errors


def refused(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
