"""How many workers a configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lb_core.process import usable_cores

if TYPE_CHECKING:
    from lb_core.config import Config


def wanted_workers(config: Config) -> int:
    """How many workers a configuration asks for on this machine."""
    return usable_cores() if config.workers == "auto" else config.workers
