"""The verb ``score``: masks of another system, into the leaderboards."""

from __future__ import annotations

import argparse
from pathlib import Path

from rrsis_bench.resources import choices

_DESCRIPTION = """\
Score masks that another system predicted, and enter them into the leaderboards.

PREDICTIONS is a file of JSON Lines,
  {"sample_id": "00012", "rle": {"size": [800, 800], "counts": "<COCO's compressed string, or a list of runs>"}}
or a folder of PNG masks (one grey channel, 0 and 255 or 0 and 1) named <sample id>.png, every character of the id
other than letters, digits and _.-~ percent-encoded (sample a/b is a%2Fb.png).
There must be exactly one mask per sample of the split, at the sample's native size. Every problem is listed."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    score = verbs.add_parser(
        "score",
        help="score another system's masks (JSON Lines with RLE, or PNG files)",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: rrsis-bench score --data rrsisd --predictions masks.jsonl --name ours --selected-on val",
    )
    splits = ("train", "val", "test")
    score.add_argument("--data", required=True, help=f"dataset: {choices('data')}")
    score.add_argument("--data-root", type=Path, metavar="DIR", help="its folder (default: conf/data/<name>.yaml)")
    score.add_argument("--split", default="test", choices=splits, help="the split predicted (default: %(default)s)")
    score.add_argument("--predictions", type=Path, required=True, help="a JSON Lines file or a folder of PNG masks")
    score.add_argument("--name", required=True, help="the system's name in the tables")
    score.add_argument("--protocol", default="native", help=f"{choices('protocol')} (default: %(default)s)")
    score.add_argument(
        "--selected-on",
        choices=splits,
        help="the split that picked the system's checkpoint; without it, or with test, the row is not ranked",
    )
    score.add_argument(
        "--trained-on", action="append", default=[], metavar="NAME[:SPLIT]",
        help="a dataset or image source that the system has seen, such as rrsisd, risbench:all, DIOR, SAMRS; may be "
        "repeated. The row notes what it shares with the scored data",
    )  # fmt: skip
    score.add_argument(
        "--leaderboards", type=Path, default=Path("leaderboards"), metavar="DIR", help="default: %(default)s"
    )
    score.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="default: %(default)s")
    score.add_argument("--force", action="store_true", help="replace another record of the same predictions")
    score.add_argument(
        "overrides", nargs="*", help="data.counts='{train: 8, val: 4, test: 4}' protocol.strict=true ..."
    )
    score.set_defaults(call=_score)


def _score(args: argparse.Namespace) -> int:
    from rrsis_bench.console import Terminal
    from rrsis_bench.run import score

    given = {"leaderboards": args.leaderboards, "runs": args.runs, "data.root": args.data_root, "force": args.force}
    config = score.configure(args.data, args.protocol, args.overrides, given)
    score.score(
        config,
        Terminal(),
        name=args.name,
        predictions=args.predictions,
        split=args.split,
        selected_on=args.selected_on,
        trained_on=args.trained_on,
    )
    return 0
