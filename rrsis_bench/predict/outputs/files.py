"""Output files of a prediction: written under temporary names, renamed together when all of them are complete."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from rrsis_bench.errors import UserError
from rrsis_bench.files import fsync


class OutputSet:
    """The files that one prediction writes into a folder.

    Args:
        folder: made where it does not exist.
        overwrite: replace files of the same names.

    Raises:
        UserError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, *, overwrite: bool = False):
        self.folder, self.overwrite = folder, overwrite
        self._files: dict[str, Path] = {}
        with self.named_errors():
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".rrsis-bench.{os.getpid()}.tmp"
            probe.write_bytes(b"")
            probe.unlink()

    def path(self, name: str) -> Path:
        """Where to write the file that will be called `name`: the same ending, another beginning.

        Raises:
            UserError: it is there already and may not be replaced.
        """
        final = self.folder / name
        if final.is_dir():
            raise UserError(f"{final} is a folder, and a file of that name is to be written. Give another one with -o.")
        if final.exists() and not self.overwrite:
            raise UserError(f"{final} is there already. Give another folder with -o, or replace it with --overwrite.")
        self._files[name] = self.folder / f".{os.getpid()}.{name}"
        return self._files[name]

    def names(self) -> list[Path]:
        """The files' final paths, in the order in which they were asked for."""
        return [self.folder / name for name in self._files]

    def commit(self, replaced: Collection[str] = ()) -> None:
        """Give all files their names, and remove those of an earlier call that have no successor.

        Args:
            replaced: names of the files that an earlier call wrote here.
        """
        with self.named_errors():
            for temporary in self._files.values():
                fsync(temporary)
            for name, temporary in self._files.items():
                os.replace(temporary, self.folder / name)
            for name in set(replaced) - set(self._files):
                (self.folder / name).unlink(missing_ok=True)
            fsync(self.folder)
        self._files = {}

    def abort(self) -> None:
        """Remove whatever was written."""
        for temporary in self._files.values():
            # With a database's journal and GDAL's side files.
            for leftover in self.folder.glob(f"{glob.escape(temporary.name)}*"):
                leftover.unlink(missing_ok=True)
        self._files = {}

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turn what the system says of a full disk or a read-only folder into a message."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error).strip() or type(error).__name__
            raise UserError(
                f"The folder {self.folder} cannot be written to: {reason}. Nothing was left there."
            ) from error

    def __enter__(self) -> OutputSet:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()
