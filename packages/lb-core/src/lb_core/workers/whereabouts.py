"""Where a worker is when it hangs or crashes: its Python stack, on standard error.

It is written by the signal handler itself, so a loop that does not turn does not matter. One that was stopped
(SIGSTOP), or waits in the kernel, says nothing.
"""

from __future__ import annotations

import faulthandler
import signal
from contextlib import suppress

LINUX_SIGRTMIN = 34
SAY = getattr(signal, "SIGRTMIN", LINUX_SIGRTMIN) + 1
"""The signal that asks; a process that is not prepared for it ends."""
WITHIN = 0.1
"""Seconds that writing may take."""


def prepare() -> None:
    """In a worker: answer that signal, and say the same at a crash; in a process without standard error nothing is."""
    with suppress(RuntimeError, OSError, ValueError):
        faulthandler.enable(all_threads=False)
        faulthandler.register(SAY, all_threads=False)


def ask(pidfd: int) -> None:
    """Let the process of this descriptor write where it is."""
    with suppress(OSError):
        signal.pidfd_send_signal(pidfd, SAY)
