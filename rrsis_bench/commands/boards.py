"""The verbs that show leaderboards: ``compare`` and ``report``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rrsis_bench.errors import UserError


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the parsers."""
    compare = verbs.add_parser("compare", help="two rows of a leaderboard and their differences")
    compare.add_argument("a", help="model name or run id")
    compare.add_argument("b", help="model name or run id")
    compare.add_argument("--data", required=True, help="dataset of the leaderboard")
    compare.add_argument("--root", type=Path, default=Path("leaderboards"), help="results.root (default: %(default)s)")
    compare.set_defaults(call=_compare)

    report = verbs.add_parser("report", help="write the tables anew from the records and show one")
    report.add_argument("data", help="dataset of the leaderboard")
    report.add_argument("--root", type=Path, default=Path("leaderboards"), help="results.root (default: %(default)s)")
    report.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    report.set_defaults(call=_report)


def _compare(args: argparse.Namespace) -> int:
    from rich.console import Console

    from rrsis_bench.results import compare, show

    show.comparison(Console(), compare.compare(args.root, args.a, args.b, args.data))
    return 0


def _report(args: argparse.Namespace) -> int:
    from rich.console import Console

    from rrsis_bench.results import show, store, tables

    tables.regenerate(args.root)
    rows = [row for row in tables.rows(store.read_all(args.root)) if row.head.data == args.data]
    if not rows:
        raise UserError(f"{args.root} has no record of {args.data}. Make one: make bench DATA={args.data}")
    if args.markdown:
        print(
            show.markdown(rows) or f"No row of {args.data} is ranked; the table without --markdown gives the reasons."
        )
    else:
        show.leaderboard(Console(), rows)
        show.categories(Console(), rows)
    return 0
