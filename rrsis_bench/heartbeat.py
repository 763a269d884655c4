"""Progress lines for output that is no terminal, such as the log file of a batch job."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from rrsis_bench.console import Terminal

EVERY_S = 60.0


class Heartbeat:
    """Prints a line now and then where no progress bar is shown.

    Args:
        console: nothing is printed if it is a terminal, which shows a progress bar.
        total: units of work.
        done: units that an earlier process has done.
    """

    def __init__(self, console: Terminal, total: int, done: int = 0):
        self._console, self._total, self._before = console, total, done
        self._start = self._last = time.monotonic()

    def beat(self, done: int, text: Callable[[], str]) -> None:
        """Print a line if the last one is older than `EVERY_S`.

        Args:
            done: units of work done so far.
            text: makes the line.
        """
        now = time.monotonic()
        if self._console.is_terminal or now - self._last < EVERY_S:
            return
        self._last = now
        left = "unknown"
        if done > self._before:
            seconds = (now - self._start) / (done - self._before) * max(0, self._total - done)
            left = str(timedelta(seconds=round(seconds)))
        self._console.print(f"{text()}  {done}/{self._total}, {left} left", soft_wrap=True, highlight=False)
