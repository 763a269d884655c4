"""The verb ``doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path

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
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape

    from rrsis_bench.describe.doctor import check_environment

    checks = check_environment(args.runs)
    if args.json:
        print(json.dumps([asdict(one) for one in checks], indent=1, ensure_ascii=False))
    else:
        console = Console()
        colours = {"ok": "green", "note": "yellow", "problem": "bold red"}
        for one in checks:
            fix = f"  -> {one.fix}" if one.fix else ""
            console.print(
                f"[{colours[one.state]}]{one.state:8}[/] {one.name:9} {escape(one.text + fix)}",
                soft_wrap=True,
                highlight=False,
            )
    return int(any(one.state == "problem" for one in checks))
