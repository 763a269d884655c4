"""Stop on a signal: at once, or between two steps of work that must not be cut in the middle."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

STOP = (signal.SIGINT, signal.SIGTERM)
WARNING = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which SLURM announces the end of a job, where `sbatch --signal` asked for it."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to stop; `exit_code` is 128 + its number (130 for Ctrl-C, 143 for SIGTERM).

    It is a KeyboardInterrupt, so that no ``except Exception`` of a library takes it for a failure.
    """

    def __init__(self, signum: int):
        super().__init__(f"Stopped by {signal.Signals(signum).name}.")
        self.signum, self.exit_code = signum, 128 + signum


class StopRequest:
    """Raise Interrupted on SIGINT and SIGTERM, in a job of SLURM also on SIGUSR1 and SIGUSR2; a context manager.

    In a `deferred` block the first signal is only remembered, and `raise_if_requested` raises it. A second signal acts
    at once. Child processes ignore SIGINT, because the parent stops them, and end on SIGTERM. Outside the main thread
    no handler can be installed, and nothing changes.
    """

    def __init__(self) -> None:
        self._signum: int | None = None
        self._previous: dict[int, object] = {}
        self._deferred = False
        self._pid = os.getpid()

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._signum is not None

    @property
    def signum(self) -> int:
        """Number of the signal that has come; 0: none."""
        return self._signum or 0

    def raise_if_requested(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self._signum is not None:
            raise Interrupted(self._signum)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """In the block, remember a signal instead of raising it."""
        with self._switched(deferred=True):
            yield

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """In the block, raise at once again; also a signal that was remembered before."""
        with self._switched(deferred=False):
            self.raise_if_requested()
            yield

    @contextmanager
    def _switched(self, *, deferred: bool) -> Iterator[None]:
        before, self._deferred = self._deferred, deferred
        try:
            yield
        finally:
            self._deferred = before

    def _handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        if os.getpid() != self._pid:
            if signum == signal.SIGTERM:
                os._exit(128 + signum)
            return
        again, self._signum = self._signum is not None, signum
        if again or not self._deferred:
            raise Interrupted(signum)

    def __enter__(self) -> StopRequest:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for signum in (*STOP, *(WARNING if "SLURM_JOB_ID" in os.environ else ())):
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the previous handlers."""
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]


def ignore_interrupts() -> None:
    """Ignore Ctrl-C in a process of a pool: the terminal sends it to all processes, and the main one stops the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
