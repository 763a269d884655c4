"""The verb ``doctor``."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the parser."""
    doctor = verbs.add_parser(
        "doctor",
        help="what of this machine stands in the way, with the cure",
        description="Look at Python, packages, torch and device, GDAL and PROJ, disk, hub and optional data. "
        "The exit code is 1 where something will fail.",
    )
    doctor.add_argument("--runs", type=Path, default=Path("runs"), help="runs.root (default: %(default)s)")
    doctor.add_argument("--json", action="store_true", help="machine-readable")
    doctor.set_defaults(call=_doctor)


def _doctor(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape

    from rrsis_bench.describe.doctor import examine

    findings = examine(args.runs)
    if args.json:
        print(json.dumps([asdict(one) for one in findings], indent=1, ensure_ascii=False))
    else:
        console = Console()
        colours = {"ok": "green", "note": "yellow", "problem": "bold red"}
        for one in findings:
            cure = f"  -> {one.cure}" if one.cure else ""
            console.print(
                f"[{colours[one.state]}]{one.state:8}[/] {one.name:9} {escape(one.text + cure)}",
                soft_wrap=True,
                highlight=False,
            )
    return int(any(one.state == "problem" for one in findings))
