"""The demo's configuration file, and the edits it invites to."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lb_core.demo.processes import BackendProcess

DEFAULT_STRATEGY = "least_connections"
OTHER_STRATEGY = "round_robin"

_TEXT = """\
# The configuration of the demo. Save a change: it is taken over within two seconds.
listeners:
  web: {{address: "127.0.0.1:{port}"}}
access_log: {{format: "off"}}
routes:
  "*":
    strategy: {strategy}
    health_check: {{path: /health, interval: 1s, timeout: 1s, interval_down: 1s, unhealthy_after: 2}}
    ejection: {{duration: 3s}}
    slow_start: off          # whoever comes back takes its share at once
    backends:                # weight: 0 drains a backend
{backends}
"""
_BACKEND = '      {name}: {{url: "http://127.0.0.1:{port}", weight: 1}}'


class Scene:
    """The file `lb.yaml` in a directory of the demo's own."""

    def __init__(self, directory: Path, port: int, backends: Iterable[BackendProcess]) -> None:
        self.path = directory / "lb.yaml"
        lines = [_BACKEND.format(name=backend.name, port=backend.port) for backend in backends]
        self._write(_TEXT.format(port=port, strategy=DEFAULT_STRATEGY, backends="\n".join(lines)))

    def set_weight(self, backend: str, weight: int) -> None:
        """Give a backend another weight; 0 drains it."""
        self._edit(rf"(?m)^(\s+{re.escape(backend)}: .*weight: )\d+", rf"\g<1>{weight}")

    def set_strategy(self, strategy: str) -> None:
        """Choose another strategy."""
        self._edit(r"(?m)^(\s+strategy: ).*$", rf"\g<1>{strategy}")

    def weight_command(self, backend: str, weight: int) -> str:
        """The shell command that drains a backend (weight 0), or takes it back (weight 1)."""
        return f"sed -i.bak '/{backend}:/s/weight: [01]/weight: {weight}/' {self.path}"

    def strategy_command(self, strategy: str) -> str:
        """The shell command that changes the strategy."""
        return f"sed -i.bak 's/strategy: .*/strategy: {strategy}/' {self.path}"

    def _edit(self, pattern: str, replacement: str) -> None:
        text, edits = re.subn(pattern, replacement, self.path.read_text(encoding="utf-8"))
        if edits != 1:
            raise ValueError(f"{self.path}: {pattern!r} stands there {edits} times, not once")
        self._write(text)

    def _write(self, text: str) -> None:
        """Replace the file in one step, so that a reader sees the old one or the new one."""
        draft = self.path.with_suffix(".new")
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, self.path)
