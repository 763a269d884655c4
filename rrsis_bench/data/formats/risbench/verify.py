"""The check of RISBench's files; see `verify_phrase_files.py`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from rrsis_bench.data.checks.verify import WARNING, VerifyReport
from rrsis_bench.data.formats.file_list import RISBENCH, picture_of
from rrsis_bench.data.formats.file_list_verify import verify_phrase_files

PRINTED_TEST = 16158
"""Test samples as the papers print them; their splits then sum to 52,471, not to the printed 52,472."""


def verify_risbench(
    root: Path, expected_counts: dict[str, int] | None = None, console: Console | None = None
) -> VerifyReport:
    """Check RISBench; arguments and errors as `verify_phrase_files`."""
    report = verify_phrase_files(RISBENCH, picture_of, root, expected_counts, console)
    if report.counts["test"] == PRINTED_TEST and (expected_counts or {}).get("test") == PRINTED_TEST + 1:
        report.add(
            WARNING, "count_as_printed", "test",
            f"{PRINTED_TEST:,} is what the papers print, but their splits sum to the printed 52,472 only with one more",
        )  # fmt: skip
    return report
