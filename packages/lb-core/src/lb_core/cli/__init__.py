"""The command `lb`.

Exit status: 0 done, 1 failed, 2 the command line is wrong, 3 the configuration is wrong. Each command imports what it
needs when it runs, so that `lb --help` answers at once.
"""

from __future__ import annotations

from lb_core.cli import explaining, files, looking, serving, simulating  # noqa: F401  importing them adds their commands to the group
from lb_core.cli.app import lb, main, status_of

__all__ = ["lb", "main", "status_of"]
