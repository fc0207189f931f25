"""`lb` with its memory traced, to find what grows: `python -m tests.soak.traced run -c FILE`.

When a file `trace` appears in its directory it writes what it has allocated into `trace.N` and removes it. Slow, and
larger than without: figures of a traced process say nothing but where memory is taken.
"""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path

FRAMES = 6
ASK = Path("trace")
SHOWN = 25


class Tracer:
    """Compares each state it is asked for with the one before."""

    def __init__(self) -> None:
        self._before: tracemalloc.Snapshot | None = None
        self._types: Counter[str] = Counter()
        self._number = 0

    def watch(self) -> None:
        """Answer requests until the process ends."""
        while True:
            time.sleep(0.1)
            if ASK.exists():
                self._number += 1
                Path(f"trace.{self._number}").write_text(self._compare())
                ASK.unlink()

    def _compare(self) -> str:
        gc.collect()
        types = Counter(type(each).__qualname__ for each in gc.get_objects())
        own = tracemalloc.Filter(False, tracemalloc.__file__)
        now = tracemalloc.take_snapshot().filter_traces([own])
        before, self._before = self._before, now
        more = types - self._types
        self._types = types
        if before is None:
            return ""
        lines = [f"{count:+8} {name}" for name, count in more.most_common(SHOWN)]
        for each in now.compare_to(before, "traceback")[:SHOWN]:
            lines.append(f"\n{each.size_diff / 1024:+.1f} kB in {each.count_diff:+} blocks")
            lines += each.traceback.format(FRAMES, most_recent_first=True)
        return "\n".join(lines)


if __name__ == "__main__":
    tracemalloc.start(FRAMES)
    threading.Thread(target=Tracer().watch, daemon=True).start()
    from lb_core.cli import main

    main()
