"""The Autobahn suite against a server direct and through a balancer: the same verdict for every case.

The suite needs Python 2.7, so it is no dependency. Where it is installed, WSTEST is the command that runs it:

    pip2 install --target /opt/autobahn autobahntestsuite; touch /opt/autobahn/zope/__init__.py
    WSTEST="env PYTHONPATH=/opt/autobahn python2.7 /opt/autobahn/bin/wstest" pytest tests/integration/test_autobahn.py

test_websocket_frames.py has its classes of cases as bytes, and always runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.test_websocket_frames import answers
from tests.support.backends import Backend
from tests.support.balancing import balancing

WSTEST = os.environ.get("WSTEST") or shutil.which("wstest") or ""
CASES = os.environ.get("WSTEST_CASES", "1.* 2.* 3.* 4.* 5.* 6.* 7.* 10.*").split()
VERDICT = ("behavior", "behaviorClose", "remoteCloseCode")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not WSTEST, reason="WSTEST, the command of the Autobahn suite, is not set")
async def test_the_same_verdicts_as_direct(tmp_path: Path) -> None:
    async with Backend(answers) as backend, balancing(backend) as balancer:
        servers = {"direct": backend.port, "through": balancer.port}
        spec = {
            "outdir": str(tmp_path / "reports"),
            "servers": [{"agent": name, "url": f"ws://127.0.0.1:{port}"} for name, port in servers.items()],
            "cases": CASES,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        command = [*shlex.split(WSTEST), "-m", "fuzzingclient", "-s", "spec.json"]
        suite = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL)
        assert await suite.wait() == 0
    found = json.loads((tmp_path / "reports" / "index.json").read_text())
    direct, through = (
        {case: tuple(verdict[key] for key in VERDICT) for case, verdict in found[name].items()} for name in servers
    )
    print(f"Autobahn: {len(through)} cases, {dict(Counter(verdict[0] for verdict in through.values()))}")
    assert len(direct) > 200 or "WSTEST_CASES" in os.environ
    assert through == direct
