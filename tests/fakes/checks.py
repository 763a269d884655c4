"""The checks of a dataset by its folder, as a test calls them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rrsis_bench.console import Terminal
from rrsis_bench.data.checks import fingerprint as fingerprints
from rrsis_bench.data.checks import verify as checks
from rrsis_bench.data.formats import read_index


def verify(
    fmt: str, root: Path, expected: Mapping[str, int] | None = None, *, console: Terminal | None = None
) -> checks.VerifyReport:
    """Read the index and check everything."""
    return checks.verify(read_index(fmt, root), expected, console=console)


def fingerprint(fmt: str, root: Path, cache_dir: Path | None = None, options: Mapping[str, Any] | None = None) -> str:
    """Read the index and hash everything."""
    return fingerprints.fingerprint(read_index(fmt, root, options), cache_dir)
