"""The event log of a run, ``events.jsonl``, and an optional mirror in Weights & Biases."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import IO, Any, Protocol

from rrsis_bench.console import Terminal
from rrsis_bench.errors import reason


class Mirror(Protocol):
    """Something that also receives the numbers."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Receive scalars at an optimiser step."""

    def finish(self) -> None:
        """Flush and close."""


class EventLog:
    """Appends events to ``events.jsonl`` and forwards scalars to the mirror, if there is one.

    A full disk ends the log with a warning, never the run. Without a path, nothing is written.
    """

    def __init__(self, path: Path | None, mirror: Mirror | None = None, console: Terminal | None = None):
        self._file: IO[str] | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        self._path, self._mirror, self._console = path, mirror, console or Terminal()

    def write(self, event: str, *, step: int | None = None, **values: Any) -> None:
        """Append one event; numbers with a step also go to the mirror."""
        line = {"time": round(time.time(), 3), "event": event, **({} if step is None else {"step": step}), **values}
        if self._file is not None:
            try:
                self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
                self._file.flush()
            except OSError as error:
                self._give_up(error)
        scalars = {f"{event}/{key}": float(value) for key, value in values.items() if isinstance(value, int | float)}
        if self._mirror and step is not None and scalars:
            self._mirror.log(scalars, step)

    def close(self) -> None:
        """Close the file and the mirror."""
        if self._file is not None:
            self._file.close()
        if self._mirror:
            self._mirror.finish()

    def _give_up(self, error: OSError) -> None:
        text = f"{self._path} is not written any more: {reason(error)}."
        self._console.print(text, style="yellow", soft_wrap=True)
        file, self._file = self._file, None
        with contextlib.suppress(OSError):  # closing tries to write what is left
            if file is not None:
                file.close()


class WandbMirror:
    """Mirror in Weights & Biases; its first failure is reported once and switches it off."""

    def __init__(self, project: str, mode: str, run_id: str, config: dict[str, Any], folder: Path, console: Terminal):
        self._console = console
        self._run: Any = None
        try:
            import wandb

            self._run = wandb.init(project=project, mode=mode, id=run_id, config=config, dir=str(folder))  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - a mirror never ends a run
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._console.print(f"wandb is switched off: {error}. events.jsonl has all events.", style="yellow")
        self._run = None

    def log(self, values: dict[str, float], step: int) -> None:
        """Mirror scalars; a failure switches the mirror off."""
        if self._run is not None:
            try:
                self._run.log(values, step=step)
            except Exception as error:  # noqa: BLE001 - a mirror never ends a run
                self._give_up(error)

    def finish(self) -> None:
        """Close the run."""
        if self._run is not None:
            try:
                self._run.finish()
            except Exception as error:  # noqa: BLE001 - a mirror never ends a run
                self._give_up(error)
