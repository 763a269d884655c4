"""The console script ``rrsis-bench``. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rrsis_bench.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code (2 after a message for the user)."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] in (["bench"], ["evaluate"]) and not {"-h", "--help", "--rescore"} & set(arguments):
        from rrsis_bench import run

        return run.main(arguments[1:], verb=arguments[0])
    args = build_parser().parse_args(arguments)
    try:
        return args.call(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def build_parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    parser = argparse.ArgumentParser(
        prog="rrsis-bench", description="Benchmark suite for referring remote sensing image segmentation."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)

    bench = verbs.add_parser("bench", help="train, evaluate, write the leaderboards (Hydra overrides)")
    bench.add_argument("overrides", nargs="*", help="model=lavt data=synthetic size=tiny seed=0 train.epochs=5 ...")
    evaluate = verbs.add_parser(
        "evaluate",
        help="score a finished run or an official checkpoint (Hydra overrides)",
        description="Score weights: rrsis-bench evaluate model=fianet data=rrsisd checkpoint=official:/path/file.pth",
    )
    evaluate.add_argument("overrides", nargs="*", help="checkpoint=official:/path | checkpoint=/path/step-... ...")
    evaluate.add_argument("--rescore", metavar="RUN", help="a run id: derive its metrics from its integers, no model")
    evaluate.add_argument("--root", type=Path, default=Path("leaderboards"), help="results.root (default: %(default)s)")
    evaluate.set_defaults(call=_rescore)

    listing = verbs.add_parser("list", help="models and datasets")
    listing.add_argument("--json", action="store_true", help="machine-readable")
    listing.set_defaults(call=_list)

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

    data = verbs.add_parser("data", help="write or check a dataset").add_subparsers(dest="what", required=True)
    _add_synthesize(data)
    verify = data.add_parser("verify", help="list every defect of a dataset in one pass; exit code 1 on errors")
    verify.add_argument("name", help="dataset, as in conf/data")
    verify.add_argument("--root", type=Path, help="its folder (default: conf/data/<name>.yaml)")
    verify.set_defaults(call=_verify)
    return parser


def _add_synthesize(data: argparse._SubParsersAction) -> None:
    synth = data.add_parser("synthesize", help="write procedural aerial scenes in a dataset's exact layout")
    synth.add_argument("--format", default="rrsisd", choices=["rrsisd"], help="layout (default: %(default)s)")
    synth.add_argument("--out", type=Path, required=True, help="folder to write; must not exist or be empty")
    for split, count in (("train", 1200), ("val", 60), ("test", 150)):
        synth.add_argument(f"--{split}", type=int, default=count, metavar="N", help="scenes (default: %(default)s)")
    synth.add_argument("--size", type=int, default=192, metavar="PX", help="side in pixels (default: %(default)s)")
    synth.add_argument("--expressions-per-image", type=int, default=3, metavar="K", help="default: %(default)s")
    synth.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    share = {"type": float, "default": 0.0, "metavar": "F"}
    synth.add_argument("--multi-target", **share, help="share of expressions that denote several objects")
    synth.add_argument("--no-target", **share, help="share of expressions that denote nothing")
    synth.add_argument("--languages", default="en", help="en, zh or en,zh (default: %(default)s)")
    synth.set_defaults(call=_synthesize)


def _list(args: argparse.Namespace) -> int:
    from rrsis_bench.listing import collect, show

    found = collect()
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        show(found)
    return 0


def _rescore(args: argparse.Namespace) -> int:
    from rich.console import Console

    from rrsis_bench.results import show, store, tables

    path = store.find(args.root, args.rescore)
    if path is None:
        raise UserError(f"{args.root} has no record '{args.rescore}'. `rrsis-bench report DATA` lists the run ids.")
    old = store.read(path)
    new = store.rescore(old, store.read_counts(path))
    console = Console()
    same = new.metrics == old.metrics and new.per_category == old.per_category
    console.print(
        f"{old.run_id}: {old.counts.n if old.counts else 0} samples, metric version {new.metric_version}; "
        + ("the integers give the recorded scores." if same else "the integers give other scores than the record.")
    )
    show.leaderboard(console, tables.rows([new]), highlight=new.run_id)
    return 0 if same else 1


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


def _synthesize(args: argparse.Namespace) -> int:
    from rrsis_bench.data.synthetic import SceneSpec, synthesize

    spec = SceneSpec(
        train=args.train,
        val=args.val,
        test=args.test,
        size=args.size,
        expressions_per_image=args.expressions_per_image,
        seed=args.seed,
        multi_target=args.multi_target,
        no_target=args.no_target,
        languages=tuple(args.languages.split(",")),
    )
    synthesize(spec, args.out, args.format)
    return 0


def _verify(args: argparse.Namespace) -> int:
    from rich.console import Console

    from rrsis_bench.data.verify import print_report, verify
    from rrsis_bench.listing import data_config

    console = Console()
    config = data_config(args.name)
    root = args.root or _default_root(config)
    report = verify(config["format"], root, config["counts"], console=console)
    print_report(report, console)
    return 1 if report.errors else 0


def _default_root(config: dict[str, Any]) -> Path:
    """Where the configuration says that the dataset lies; synthetic scenes are written first."""
    if not config["scenes"]:
        return Path(config["root"])
    from rich.console import Console

    from rrsis_bench.build import data_root

    return data_root(config, Console())


if __name__ == "__main__":
    sys.exit(main())
