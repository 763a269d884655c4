"""The verb ``data``: write or check a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the parsers."""
    data = verbs.add_parser("data", help="write or check a dataset").add_subparsers(dest="what", required=True)
    _add_synthesize(data)
    verify = data.add_parser("verify", help="list every defect of a dataset in one pass; exit code 1 on errors")
    verify.add_argument("name", help="dataset, as in conf/data")
    verify.add_argument("--root", type=Path, help="its folder (default: conf/data/<name>.yaml)")
    verify.set_defaults(call=_verify)


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
    synth.add_argument(
        "--object-scale",
        type=float,
        default=1.0,
        metavar="F",
        help="below 1: smaller objects and more of them, 0.4 in data=synthetic_small (default: %(default)s)",
    )
    synth.set_defaults(call=_synthesize)


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
        object_scale=args.object_scale,
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
