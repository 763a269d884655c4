"""The verbs ``bench``, ``evaluate``, ``runs``, ``show`` and ``list``."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from rrsis_bench.errors import UserError
from rrsis_bench.printing import emit, emit_json
from rrsis_bench.resources import choices


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parsers. Hydra reads the overrides of ``bench`` and ``evaluate``; their parsers print the help."""
    bench = verbs.add_parser(
        "bench",
        help="train, evaluate, write the leaderboards (Hydra overrides)",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a model, evaluate it, and write its record and the leaderboards. The groups are:\n\n"
        + "\n".join(
            textwrap.fill(f"{group}= {choices(group)}", 100, initial_indent="  ", subsequent_indent=" " * 6)
            for group in ("model", "data", "size", "vision", "text", "trainer", "protocol", "logger", "launcher")
        ),
        epilog="example: rrsis-bench bench model=lavt data=synthetic seed=0 (`rrsis-bench config` prints all fields)",
    )
    bench.add_argument("overrides", nargs="*", help="model=lavt data=synthetic size=tiny seed=0 train.epochs=5 ...")
    bench.add_argument("--rerun", choices=["failed"], help="run again what failed in the folder --runs")
    _add_runs(bench)
    bench.set_defaults(call=_rerun)
    evaluate = verbs.add_parser(
        "evaluate",
        help="score a finished run or an official checkpoint (Hydra overrides)",
        description="Score weights that exist already. For a run, its folder gives model, data, seed and recipe. "
        "predictions=save keeps the masks in runs/<run_id>/predictions/, as `rrsis-bench score` reads them.",
        epilog="examples: rrsis-bench evaluate checkpoint=RUN protocol=lavt | "
        "rrsis-bench evaluate checkpoint=RUN splits=[val] | "
        "rrsis-bench evaluate model=fianet data=rrsisd checkpoint=official:/path/file.pth",
    )
    evaluate.add_argument("overrides", nargs="*", help="checkpoint=RUN | checkpoint=official:/path ...")
    evaluate.add_argument("--rescore", metavar="RUN", help="a run id: derive its metrics from its integers, no model")
    evaluate.add_argument(
        "--leaderboards", type=Path, default=Path("leaderboards"), metavar="DIR", help="for --rescore (%(default)s)"
    )
    evaluate.set_defaults(call=_rescore)

    runs = verbs.add_parser("runs", help="list the runs with their status", epilog="example: rrsis-bench runs --json")
    runs.add_argument("--json", action="store_true", help="print JSON")
    _add_runs(runs)
    runs.set_defaults(call=_runs)
    show = verbs.add_parser(
        "show",
        help="settings, validations, scores and files of a run",
        epilog="example: rrsis-bench show lavt-synthetic-tiny-s0-d8503d64",
    )
    show.add_argument("run", help="run id, or the folder of a run")
    _add_runs(show)
    show.set_defaults(call=_show)

    check = verbs.add_parser(
        "check", help="check a model's contract with the harness", epilog="example: rrsis-bench check lavt"
    )
    check.add_argument("model", metavar="MODEL", help=f"such as {choices('model')}")
    check.set_defaults(call=_check)

    listing = verbs.add_parser("list", help="models and datasets", epilog="example: rrsis-bench list --json")
    forms = listing.add_mutually_exclusive_group()
    forms.add_argument("--json", action="store_true", help="print JSON")
    forms.add_argument("--markdown", action="store_true", help="print the models as a Markdown table")
    listing.set_defaults(call=_list)


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of the runs (%(default)s)"
    )


def _rerun(args: argparse.Namespace) -> int:
    from rrsis_bench.console import Terminal
    from rrsis_bench.run.bench import bench
    from rrsis_bench.run.sweep import rerun_failed

    if args.overrides:
        raise UserError("--rerun takes the configuration of each run from its folder. Leave the overrides out.")
    return rerun_failed(args.runs, bench, Terminal())


def _runs(args: argparse.Namespace) -> int:
    from rrsis_bench.console import Terminal
    from rrsis_bench.run.overview import show_runs, summaries

    found = summaries(args.runs)
    if args.json:
        emit_json(found)
    elif found:
        show_runs(Terminal(), found)
    else:
        emit(f"{args.runs} has no runs yet. Start one with: rrsis-bench bench model=lavt")
    return 0


def _show(args: argparse.Namespace) -> int:
    from rrsis_bench.console import Terminal
    from rrsis_bench.run.overview import find_run, show_run

    show_run(Terminal(), find_run(args.run, args.runs))
    return 0


def _check(args: argparse.Namespace) -> int:
    from rrsis_bench.run.check import run_checks

    failed = 0
    for title, problem in run_checks(args.model):
        emit(f"{'FAILED' if problem else 'ok':<8}{title}" + (f"\n        {problem}" if problem else ""))
        failed += bool(problem)
    return 1 if failed else 0


def _list(args: argparse.Namespace) -> int:
    from rrsis_bench.config.cards import collect, markdown, show

    found = collect()
    if args.json:
        emit_json(found)
    elif args.markdown:
        emit(markdown(found), end="")
    else:
        show(found)
    return 0


def _rescore(args: argparse.Namespace) -> int:
    from rrsis_bench.console import Terminal
    from rrsis_bench.results.board import rows
    from rrsis_bench.results.record import store
    from rrsis_bench.results.render.terminal import board as show

    path = store.find(args.leaderboards, args.rescore)
    if path is None:
        raise UserError(
            f"{args.leaderboards} has no record '{args.rescore}'. `rrsis-bench report DATA` lists the run ids."
        )
    old = store.read(path)
    new = store.rescore(old, store.read_counts(path))
    console = Terminal()
    same = new.overall == old.overall and new.per_category == old.per_category
    console.print(
        f"{old.run_id}: {old.counts.n if old.counts else 0} samples, metric version {new.metric_version}; "
        + ("the integers give the recorded scores." if same else "the integers give other scores than the record.")
    )
    show.leaderboard(console, rows.rank([new], args.leaderboards), highlight=new.run_id)
    return 0 if same else 1
