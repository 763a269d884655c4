"""The verbs that show leaderboards: ``leaderboard``, ``compare``, ``report`` and ``cite``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rrsis_bench.errors import UserError, unknown
from rrsis_bench.printing import emit
from rrsis_bench.resources import LEADERBOARDS, choices

if TYPE_CHECKING:
    from rrsis_bench.results.board.rows import BoardRow

RESAMPLES = 10_000  # that of `rrsis_bench.eval.bootstrap`, which --help does not import


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parsers."""
    board = verbs.add_parser(
        "leaderboard",
        help="show a dataset's rows, ranked within one protocol, with intervals",
        description="Show a dataset's rows. The rank is 1 + the number of rows with a significantly higher mIoU "
        "(paired test on the samples, Holm's correction over all pairs). Rows without a "
        "significant difference share a rank.",
        epilog="example: rrsis-bench leaderboard rrsisd --by size",
    )
    board.add_argument("data", help=f"dataset: {choices('data')}")
    board.add_argument("--split", choices=["train", "val", "test"], help="only this split")
    board.add_argument("--protocol", help=f"only this protocol: {choices('protocol')}")
    board.add_argument(
        "--with-published", action="store_true", help="also show the numbers printed in papers, unranked"
    )
    board.add_argument(
        "--format", default="table", choices=["table", "csv", "md", "latex"], help="default: %(default)s"
    )
    board.add_argument(
        "--label", nargs=2, action="append", default=[], metavar=("ROW", "TEXT"),
        help="latex: call a model, or a row with its settings, as in: 'csinet interaction=only_remote' 'Remote view'",
    )  # fmt: skip
    board.add_argument("--out", type=Path, metavar="FILE", help="csv, md, latex: write a file instead of printing")
    board.add_argument(
        "--by", choices=["size", "category", "threshold", "control", "probe", "targets", "language", "strata"],
        help="in the terminal: scores of all rows per size class, category, language control, number of targets "
        "(with N-acc and T-acc), language or strata of the expressions (seen in train, position word, relation, "
        "length); Pr@X per threshold; the figures of the probes",
    )  # fmt: skip
    board.set_defaults(call=_leaderboard)

    compare = verbs.add_parser(
        "compare",
        help="compare two rows of a leaderboard, two leaderboard files, or two runs pixel by pixel",
        description="Compare two rows of a leaderboard with a paired test of their differences, two leaderboard files, "
        "or the integers per sample of two runs.",
        epilog="examples: rrsis-bench compare lavt fianet --data rrsisd; rrsis-bench compare old.csv new.csv; "
        "rrsis-bench compare ../before/runs/RUN runs/RUN (exit code 1 if an integer of a sample differs)",
    )
    compare.add_argument(
        "a",
        help="with --data: model, model with its variant in quotes, or run id; else a .csv file, a run (id or folder) "
        "or a .csv.gz file",
    )
    compare.add_argument("b", help="the other one, given like the first")
    compare.add_argument("--data", help=f"dataset of the leaderboard: {choices('data')}")
    compare.add_argument("--split", choices=["train", "val", "test"], help="only rows of this split")
    compare.add_argument("--protocol", help=f"only rows of this protocol: {choices('protocol')}")
    compare.add_argument("--resamples", type=_positive, default=RESAMPLES, metavar="N", help="default: %(default)s")
    compare.add_argument("--format", default="table", choices=["table", "csv", "md"], help="default: %(default)s")
    compare.add_argument("--data-root", type=Path, help="the dataset's folder, to show the expressions")
    compare.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")
    compare.set_defaults(call=_compare)

    report = verbs.add_parser(
        "report",
        help="audit the records, write all tables and the report page from them, and show one table",
        epilog="example: rrsis-bench report rrsisd --markdown",
    )
    report.add_argument("data", help=f"dataset of the leaderboard: {choices('data')}")
    report.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    report.set_defaults(call=_report)
    cite = verbs.add_parser(
        "cite",
        help="print BibTeX of a model, a dataset and this suite, and the attestation of the model's rows",
        epilog="example: rrsis-bench cite lavt rrsisd",
    )
    cite.add_argument("model", help=f"model: {choices('model')}")
    cite.add_argument("data", help=f"dataset: {choices('data')}")
    cite.set_defaults(call=_cite)
    for parser in (board, compare, report, cite):
        parser.add_argument(
            "--leaderboards",
            type=Path,
            default=Path("leaderboards"),
            help="folder of the tables (default: %(default)s)",
        )


def _leaderboard(args: argparse.Namespace) -> int:
    from rrsis_bench import files
    from rrsis_bench.config.cards import display_names
    from rrsis_bench.console import Terminal
    from rrsis_bench.results.published import numbers as published
    from rrsis_bench.results.render import text as formats
    from rrsis_bench.results.render.terminal import board as show

    if args.by and args.format != "table":
        raise UserError(
            f"--by {args.by} is for the terminal and cannot be used with --format {args.format}. Leave one out. "
            f"The files {args.data}_per_size.csv, _per_category.csv, _per_threshold.csv and _per_stratum.csv hold "
            "these numbers."
        )
    if args.label and args.format != "latex":
        raise UserError("--label is for --format latex. Leave it out, or add --format latex.")
    if args.out is not None and args.format == "table":
        raise UserError("--out writes --format csv, md or latex. Add one of them.")
    rows = _rows(args.leaderboards, args.data)
    for name, _ in args.label:
        if name not in {row.label for row in rows} | {row.head.model for row in rows}:
            raise unknown("row", name, list(dict.fromkeys(row.label for row in rows)))
    printed = published.overall(LEADERBOARDS, args.data, args.split) if args.with_published else []
    if not rows and not printed:
        raise _nothing(args.leaderboards, args.data)
    chosen = [
        row for row in rows
        if args.split in (None, row.head.split) and args.protocol in (None, row.head.protocol.name)
    ]  # fmt: skip
    if rows and not chosen and not printed:
        there = ", ".join(dict.fromkeys(f"{row.head.split} under {row.head.protocol.name}" for row in rows))
        raise UserError(f"{args.leaderboards} has no such row of {args.data}. There are rows on: {there}.")
    if args.format != "table":
        if args.format == "csv":
            text = formats.table_csv(chosen, printed)
        elif args.format == "md":
            text = formats.markdown(chosen, printed, unranked=True)
        else:
            names = display_names() | dict(args.label)
            text = formats.latex(chosen, printed, names)
        if args.out is None:
            emit(text, end="")
        else:
            files.write_text(args.out, text)
            Terminal().print(f"Wrote {args.out}", soft_wrap=True, highlight=False)
    elif args.by:
        show.breakdown(Terminal(), chosen, args.by)
    else:
        show.leaderboard(Terminal(), chosen, published=printed)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from rrsis_bench.console import Terminal
    from rrsis_bench.results.compare import rows as compare
    from rrsis_bench.results.compare.files import compare_files
    from rrsis_bench.results.compare.integers import compare_integers, is_counts
    from rrsis_bench.results.render.expressions import expressions
    from rrsis_bench.results.render.terminal import compare as show_compare
    from rrsis_bench.run.folder import RunFolder

    if args.data is None:  # beside --data, a run id names a row
        args.a, args.b = (str(RunFolder.locate(name, args.runs)) for name in (args.a, args.b))
    as_counts = [is_counts(name) for name in (args.a, args.b)]
    if any(as_counts):
        if not all(as_counts):
            raise UserError("A run folder or a .csv.gz file can only be compared with another one. Give two of them.")
        same = compare_integers(Path(args.a), Path(args.b))
        show_compare.integers(Terminal(), same)
        return 1 if same.changed else 0
    as_files = [name.endswith(".csv") for name in (args.a, args.b)]
    if any(as_files):
        if not all(as_files):
            raise UserError(
                "A leaderboard file can only be compared with another one. Give two .csv files, or two rows."
            )
        found = compare_files(Path(args.a), Path(args.b))
        if args.format == "table":
            show_compare.files(Terminal(), found)
        else:
            emit((show_compare.files_csv if args.format == "csv" else show_compare.files_markdown)(found), end="")
        return 0
    if args.data is None:
        raise UserError("--data is missing: give the dataset of the leaderboard, or two .csv files.")
    result = compare.compare(
        args.leaderboards, args.a, args.b, args.data,
        split=args.split, protocol=args.protocol, resamples=args.resamples,
        expressions=lambda record: expressions(record, args.data_root, args.runs),
    )  # fmt: skip
    if args.format == "table":
        show_compare.comparison(Terminal(), result)
    else:
        text = show_compare.comparison_csv if args.format == "csv" else show_compare.comparison_markdown
        emit(text(result), end="")
    return 0


def _report(args: argparse.Namespace) -> int:
    from rrsis_bench.console import Terminal
    from rrsis_bench.results import leaderboards
    from rrsis_bench.results.record import store
    from rrsis_bench.results.render import text as formats
    from rrsis_bench.results.render.terminal import board as show

    audited = store.audit(args.leaderboards)
    leaderboards.regenerate(args.leaderboards)
    rows = _rows(args.leaderboards, args.data)
    if not rows:
        raise _nothing(args.leaderboards, args.data)
    if args.markdown:
        missing = f"No row of {args.data} is ranked; the table without --markdown gives the reasons."
        emit(formats.markdown(rows) or missing)
    else:
        show.leaderboard(Terminal(), rows)
        show.categories(Terminal(), rows)
        Terminal().print(f"Audited: the scores of {audited} records follow from their integers.")
    return 0


def _cite(args: argparse.Namespace) -> int:
    from rrsis_bench.describe.cite import attested, cite

    emit(cite(args.model, args.data) + attested(args.model, args.data, args.leaderboards), end="")
    return 0


def _rows(root: Path, data: str) -> list[BoardRow]:
    from rrsis_bench.results.board.rows import rank
    from rrsis_bench.results.record import store

    return rank([record for record in store.read_all(root) if record.data == data], root)


def _nothing(root: Path, data: str) -> UserError:
    return UserError(f"{root} has no record of {data}. Make one: make bench DATA={data}")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value
