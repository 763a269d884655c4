"""Refuse to run on a dataset that fails `rrsis-bench data verify`.

The checks decode every image and mask. A dataset that passed is not checked again until one of its files changes its
size or its modification time.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from rrsis_bench.console import Terminal
from rrsis_bench.data.checks.verify import verify
from rrsis_bench.data.formats.index import DatasetIndex, refusal, verify_hint
from rrsis_bench.errors import UserError
from rrsis_bench.files import write_text

CHECKS = 2
"""Raise it when a check finds more than before: a dataset that passed is then checked again."""


def require_verified(index: DatasetIndex, cache_dir: Path, console: Terminal | None = None) -> None:
    """Refuse a dataset with errors.

    Args:
        index: the dataset.
        cache_dir: keeps which datasets passed.
        console: for progress bars and the number of warnings, or None.

    Raises:
        UserError: the checks find errors; the message names the first of them and counts all.
    """
    name = hashlib.sha256(f"{index.fmt} {index.root.absolute()}".encode()).hexdigest()[:16]
    store = cache_dir / f"verified-{name}"
    stamp = _stamp(index)
    if store.is_file() and store.read_bytes() == stamp.encode():
        return
    report = verify(index, console=console)
    if report.errors:
        raise refusal(index.fmt, index.root, report.errors)
    if report.warnings and console is not None:
        hint = verify_hint(index.fmt, index.root)
        text = f"{index.fmt}: checked and usable, with {len(report.warnings):,} warnings. {hint}"
        console.print(text, soft_wrap=True, highlight=False)
    write_text(store, stamp)


def _stamp(index: DatasetIndex) -> str:
    """Return a sha256 over name, size and modification time of every file."""
    total = hashlib.sha256(f"{CHECKS}\n".encode())
    for path in sorted({os.fspath(path) for path in index.files_read()}):
        try:
            stat = os.stat(path)
        except OSError as error:
            raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
        total.update(f"{path}\0{stat.st_size} {stat.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
    return total.hexdigest()
