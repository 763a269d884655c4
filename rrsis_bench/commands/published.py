"""The verb for the numbers that papers print: ``published audit``, ``published check`` and ``published show``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rrsis_bench.commands import show_help
from rrsis_bench.printing import emit_json
from rrsis_bench.resources import LEADERBOARDS


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parsers."""
    published = verbs.add_parser("published", help="show and audit the numbers that papers print")
    show_help(published)
    what = published.add_subparsers(dest="what", metavar="VERB", title="verbs")

    audit = what.add_parser(
        "audit",
        help="check printed averages, shifted category labels, impossible shares, disagreements between papers",
        description="Compute from the CSV files: printed averages against the mean of their rows, the correlation of "
        "category columns between papers for each shift of their labels, the Pr@X that no count over the split's "
        "samples gives, and scores of one method that papers print differently.",
        epilog="example: rrsis-bench published audit --metric oiou",
    )
    audit.add_argument("--metric", default="miou", help="of the disagreements, such as oiou (default: %(default)s)")
    audit.add_argument("--json", action="store_true", help="machine-readable, disagreements in all metrics")
    audit.set_defaults(call=_audit)

    check = what.add_parser(
        "check",
        help="check whether a table's Pr@X can be counts over N samples",
        description="Compare each Pr@X of a table with all counts over N samples, and with the sizes that a padded "
        "sampler or one process's share would give. Exit status 1 if a row cannot be over N samples.",
        epilog="example: rrsis-bench published check table.csv --n 3481 --also 1740",
    )
    check.add_argument(
        "file", type=Path, help="CSV: a column per metric (Pr@0.5, ...), or the columns metric and value"
    )
    check.add_argument("--n", type=int, required=True, help="samples of the split")
    check.add_argument(
        "--also", type=int, nargs="+", default=[], metavar="M", help="other sizes to try, such as another split's"
    )
    check.add_argument("--columns", nargs="+", default=[], help="columns or metrics that are shares of samples")
    check.add_argument("--json", action="store_true", help="machine-readable")
    check.set_defaults(call=_check)

    show = what.add_parser(
        "show",
        help="show a dataset's printed numbers with their paper and table",
        epilog="example: rrsis-bench published show rrsisd --split test",
    )
    show.add_argument("data", help=f"dataset: {_datasets()}")
    show.add_argument("--split", help="only this split, such as test or val")
    show.add_argument("--metric", help="only this metric, such as miou, with one column per paper's table")
    show.set_defaults(call=_show)
    for parser in (audit, show):
        parser.add_argument(
            "--leaderboards", type=Path, default=LEADERBOARDS, help="folder with published/ (default: the suite's own)"
        )


def _datasets() -> str:
    """Return the datasets with published numbers; `numbers.datasets` would import more than a help text needs."""
    end = "_overall.csv"
    return ", ".join(sorted(path.name.removesuffix(end) for path in (LEADERBOARDS / "published").glob(f"*{end}")))


def _audit(args: argparse.Namespace) -> int:
    import dataclasses

    from rrsis_bench.console import Terminal
    from rrsis_bench.results.published import audit as published_audit
    from rrsis_bench.results.render.terminal import attainable
    from rrsis_bench.results.render.terminal import published as published_show

    _require_metric(args.metric)
    result = published_audit.audit(args.leaderboards)
    if args.json:
        emit_json(dataclasses.asdict(result))
    else:
        terminal = Terminal()
        published_show.audit(terminal, result, args.metric)
        attainable.attainability(terminal, result.attainability)
    return 0


def _check(args: argparse.Namespace) -> int:
    import dataclasses

    from rrsis_bench.console import Terminal
    from rrsis_bench.errors import UserError
    from rrsis_bench.results.published import manuscript
    from rrsis_bench.results.render.terminal import attainable

    if min([args.n, *args.also]) < 1:
        raise UserError("--n and --also are numbers of samples, at least 1.")
    rows = manuscript.check(args.file, args.n, {f"--also {size}": size for size in args.also}, args.columns)
    if args.json:
        emit_json([dataclasses.asdict(row) for row in rows])
    else:
        attainable.checked(Terminal(), rows)
    return int(not all(row.possible for row in rows))


def _show(args: argparse.Namespace) -> int:
    from rrsis_bench.config.cards import printed_names
    from rrsis_bench.console import Terminal
    from rrsis_bench.errors import UserError, unknown
    from rrsis_bench.results.published import numbers as published
    from rrsis_bench.results.render.terminal import published as published_show

    if args.metric is not None:
        _require_metric(args.metric)
    rows = published.overall(args.leaderboards, args.data)
    if not rows:
        raise unknown("dataset with published numbers", args.data, published.datasets(args.leaderboards) or ["none"])
    splits = sorted({row.split for row in rows})
    if args.split not in (None, *splits):
        raise UserError(f"No paper prints numbers of {args.data} {args.split}. Splits: {', '.join(splits)}")
    rows = [row for row in rows if args.split in (None, row.split)]
    if args.metric is None:
        published_show.rows(Terminal(), sorted(rows, key=lambda row: (row.split, row.source)), printed_names())
    elif any(args.metric in row.scores for row in rows):
        published_show.matrix(Terminal(), rows, args.metric)
    else:
        raise UserError(f"No paper prints {args.metric} of {args.data}.")
    return 0


def _require_metric(name: str) -> None:
    from rrsis_bench.errors import unknown
    from rrsis_bench.eval.metrics import grouped_metrics

    known = [metric.name for metric in grouped_metrics()]
    if name not in known:
        raise unknown("metric", name, known)
