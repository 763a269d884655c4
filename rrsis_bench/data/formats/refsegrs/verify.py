"""The check of RefSegRS's files; see `verify_phrase_files.py`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from rrsis_bench.data.checks.verify import VerifyReport
from rrsis_bench.data.formats.file_list import REFSEGRS
from rrsis_bench.data.formats.file_list_verify import verify_phrase_files


def verify_refsegrs(
    root: Path, expected_counts: dict[str, int] | None = None, console: Console | None = None
) -> VerifyReport:
    """Check RefSegRS; arguments and errors as `verify_phrase_files`."""
    return verify_phrase_files(REFSEGRS, None, root, expected_counts, console)
