"""One run belongs to one process: a lock in ``<runs>/.locks`` that ends with its process, however that ends."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from rrsis_bench.codec import parse_json
from rrsis_bench.config.hashes import digest
from rrsis_bench.config.schema import Config
from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError, reason

_OWN: set[Path] = set()  # locked by this process, for which the kernel would grant a lock again and drop both at once
_HELD = {errno.EACCES, errno.EAGAIN}


class RunLock:
    """The lock of one run; a context manager.

    A POSIX record lock on a file beside the run folders: the kernel drops it when the process ends, child processes do
    not inherit it, and it works on NFS. The file names the holder for messages. It stays when the lock is released, so
    that two processes always lock the same file.

    Args:
        runs: folder of the runs.
        run_id: name of the run.
        config: of the run; `refuse_if_running` compares it.
        console: told if the file system has no locks.

    Raises:
        UserError: on entry, if another process holds the lock. The message names it.
    """

    def __init__(self, runs: Path, run_id: str, config: Config, console: Terminal):
        self.run_id, self._console = run_id, console
        self._path = _folder(runs).absolute() / f"{run_id}.json"
        self._holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "config": _digest(config),
        }
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Take the lock; a process that holds it already goes on."""
        if self._path in _OWN:
            return self
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+", encoding="utf-8")
            _lock(self._file, fcntl.LOCK_EX, tries=5)
        except OSError as error:
            if self._file is not None and error.errno in _HELD:
                self._file.close()
                raise _running(self.run_id, _holder(self._path)) from None
            if self._file is None:
                raise UserError(
                    f"{self._path} cannot be written: {reason(error)}. Set runs= to a folder that can."
                ) from error
            self._console.print(
                f"{self._path.parent} has no file locks ({reason(error)}). Do not start a run twice.",
                style="yellow",
            )
            return self
        self._file.truncate(0)
        self._file.write(json.dumps(self._holder))
        self._file.flush()
        _OWN.add(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock, if it was taken here."""
        if self._file is not None:
            _OWN.discard(self._path)
            self._file.close()


def refuse_if_running(config: Config) -> None:
    """Refuse a run whose configuration another process is running, before the dataset is opened.

    The name of a run is known only when its data is read, so the configuration of every held lock is compared.

    Raises:
        UserError: such a process is alive. The message names it.
    """
    wanted = _digest(config)
    for path in sorted(_folder(Path(config.runs)).glob("*.json")):
        holder = _holder(path)
        if holder.get("config") == wanted and holder.get("pid") != os.getpid() and _is_held(path):
            raise _running(path.stem, holder)


def _folder(runs: Path) -> Path:
    return runs / ".locks"


def _digest(config: Config) -> str:
    return digest({name: value for name, value in config.plain().items() if name not in ("force", "launcher")})


def _holder(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lock(file: IO[str], kind: int, tries: int = 1) -> None:
    """Lock a file, or raise OSError. A process that looks at the lock with `_is_held` has it for a moment."""
    for left in reversed(range(tries)):
        try:
            fcntl.lockf(file, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD or not left:
                raise
            time.sleep(0.1)
        else:
            return


def _is_held(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            _lock(file, fcntl.LOCK_SH)
    except OSError as error:
        return error.errno in _HELD
    return False


def _running(run_id: str, holder: dict[str, Any]) -> UserError:
    who = "another process"
    if holder:
        who = f"process {holder.get('pid')} on {holder.get('host')}, started {holder.get('started')}"
    return UserError(
        f"The run {run_id} is in use by {who}. Wait until it ends, or stop it and run this command again: it continues "
        "there. force=true does not delete a run in use."
    )
