"""Stop a run in an orderly way on a signal."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

from rrsis_bench.errors import UserError


class Interrupted(UserError):
    """A signal asked the run to stop; `exit_code` is 128 + its number (130 for Ctrl-C, 143 for SIGTERM)."""

    def __init__(self, signum: int):
        super().__init__(
            f"Stopped by {signal.Signals(signum).name}. Run the same command again to continue where it stopped."
        )
        self.exit_code = 128 + signum


class StopRequest:
    """Turn SIGINT and SIGTERM into a flag that the loop checks between steps; a second signal acts at once."""

    def __init__(self) -> None:
        self._signum: int | None = None
        self._previous: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self._signum is not None

    def raise_if_requested(self) -> None:
        """Raise Interrupted if a signal has come."""
        if self._signum is not None:
            raise Interrupted(self._signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        if self._signum is not None:
            raise Interrupted(signum)
        self._signum = signum

    def __enter__(self) -> StopRequest:
        """Install the handlers."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Restore the previous handlers."""
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
