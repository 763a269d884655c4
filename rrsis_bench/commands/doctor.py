"""The verb ``doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rrsis_bench.printing import emit_json

_DESCRIPTION = """\
Check Python, packages, torch and device, GDAL and PROJ, disk, hub and optional data, and suggest fixes.

  rrsis-bench doctor --runs /data/runs

The exit code is 1 if something will fail."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    doctor = verbs.add_parser(
        "doctor",
        help="check this machine and suggest fixes",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(call=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from rich.text import Text

    from rrsis_bench.console import Terminal
    from rrsis_bench.describe.doctor import check_environment

    checks = check_environment(args.runs)
    if args.json:
        emit_json([asdict(one) for one in checks])
    else:
        console = Terminal()
        colours = {"ok": "green", "note": "yellow", "problem": "bold red"}
        for one in checks:
            fix = f"  -> {one.fix}" if one.fix else ""
            console.print(
                Text.assemble((f"{one.state:8}", colours[one.state]), f" {one.name:9} {one.text}{fix}"), soft_wrap=True
            )
    return int(any(one.state == "problem" for one in checks))
