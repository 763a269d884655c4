"""The event log of a run, ``events.jsonl``, and an optional mirror in Weights & Biases."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console


class Mirror(Protocol):
    """Something that also receives the numbers."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Receive scalars at an optimiser step."""

    def finish(self) -> None:
        """Flush and close."""


class EventLog:
    """Appends events to ``events.jsonl`` and forwards scalars to the mirror, if there is one."""

    def __init__(self, path: Path, mirror: Mirror | None = None):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        self._mirror = mirror

    def write(self, event: str, *, step: int | None = None, **values: Any) -> None:
        """Append one event; numbers with a step also go to the mirror."""
        line = {"time": round(time.time(), 3), "event": event, **({} if step is None else {"step": step}), **values}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        scalars = {f"{event}/{key}": float(value) for key, value in values.items() if isinstance(value, int | float)}
        if self._mirror and step is not None and scalars:
            self._mirror.log(scalars, step)

    def close(self) -> None:
        """Close the file and the mirror."""
        self._file.close()
        if self._mirror:
            self._mirror.finish()


class WandbMirror:
    """Mirror in Weights & Biases; its first failure is reported once and switches it off."""

    def __init__(self, project: str, mode: str, run_id: str, config: dict[str, Any], folder: Path, console: Console):
        self._console = console
        self._run: Any = None
        try:
            import wandb

            self._errors: tuple[type[BaseException], ...] = (wandb.Error, OSError, RuntimeError, ValueError)
            self._run = wandb.init(project=project, mode=mode, id=run_id, config=config, dir=str(folder))  # type: ignore[arg-type]
        except ImportError as error:
            self._give_up(error)
        except (OSError, RuntimeError, ValueError) as error:
            self._give_up(error)
        except BaseException as error:
            if type(error).__module__.startswith("wandb"):
                self._give_up(error)
            else:
                raise

    def _give_up(self, error: BaseException) -> None:
        self._console.print(f"[yellow]wandb is switched off: {error}. events.jsonl has all events.[/yellow]")
        self._run = None

    def log(self, values: dict[str, float], step: int) -> None:
        """Mirror scalars; a failure switches the mirror off."""
        if self._run is not None:
            try:
                self._run.log(values, step=step)
            except self._errors as error:
                self._give_up(error)

    def finish(self) -> None:
        """Close the run."""
        if self._run is not None:
            try:
                self._run.finish()
            except self._errors as error:
                self._give_up(error)
