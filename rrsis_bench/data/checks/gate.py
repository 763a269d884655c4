"""Before a model is built: a run on a dataset with errors in it is refused, whatever the loaders would have noticed.

What is an error is said by the checks of ``rrsis-bench data verify``, which decode every picture and mask once. What
they passed is not checked again until one of the dataset's files changes its size or its time.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.markup import escape

from rrsis_bench.data.checks.verify import verify
from rrsis_bench.errors import UserError

SHOWN = 20
"""Defects that a refusal names; it counts them all."""

CHECKS = 1
"""Rises when a check finds more than it did: what passed before is checked again."""


class OnDisk(Protocol):
    """A split that knows its files; every format's reader does."""

    def files(self) -> Iterator[Path]:
        """Every file that the split is read from: the index, the pictures, the masks."""


def require_sound(
    fmt: str, root: Path, splits: Iterable[OnDisk], cache_dir: Path, console: Console | None = None
) -> None:
    """Refuse a dataset with errors; one that passed before, and has not changed since, costs a look at its files.

    Args:
        fmt: on-disk format, such as ``"rrsisd"``.
        root: the dataset's folder.
        splits: all splits, opened.
        cache_dir: where it is kept what passed.
        console: for a progress bar and the number of warnings, or None.

    Raises:
        UserError: the check finds errors; the message names the first of them and counts all.
    """
    store = cache_dir / f"verified-{hashlib.sha256(f'{fmt} {root.absolute()}'.encode()).hexdigest()[:16]}"
    stamp = _stamp(splits)
    if _passed(store) == stamp:
        return
    report = verify(fmt, root, console=console)
    command = f"rrsis-bench data verify {fmt} --root {root}"
    if report.errors:
        found = [f"  {error.kind} {error.where}: {error.message}" for error in report.errors[:SHOWN]]
        if len(report.errors) > SHOWN:
            kinds = Counter(error.kind for error in report.errors[SHOWN:])
            found.append("  and " + ", ".join(f"{count} more of kind {kind}" for kind, count in sorted(kinds.items())))
        listed = "\n".join(found)
        raise UserError(
            f"The dataset in {root} has {len(report.errors)} errors, so nothing is trained or scored on it:\n{listed}\n"
            f"Mend or remove them. All are listed by: {command}"
        )
    if report.warnings and console is not None:
        text = f"{fmt}: checked and usable, with {len(report.warnings):,} warnings. They are listed by: {command}"
        console.print(escape(text), soft_wrap=True, highlight=False)
    store.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=store.parent, suffix=".tmp", delete=False, encoding="utf-8") as file:
        file.write(stamp)
    os.replace(file.name, store)


def _passed(store: Path) -> str:
    """The stamp of what passed; empty where nothing did."""
    try:
        return store.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _stamp(splits: Iterable[OnDisk]) -> str:
    """Sha256 over name, size and time of every file."""
    total = hashlib.sha256(f"{CHECKS}\n".encode())
    for path in sorted({os.fspath(path) for split in splits for path in split.files()}):
        try:
            stat = os.stat(path)
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
        total.update(f"{path}\0{stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
    return total.hexdigest()
