"""The verbs that draw: ``gallery`` and ``figures``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rrsis_bench.errors import UserError
from rrsis_bench.resources import choices


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parsers."""
    gallery = verbs.add_parser(
        "gallery",
        help="write a page with a run's worst, best and most different predictions",
        description="Write runs/<RUN>/report.html from the masks that predictions=save keeps.",
        epilog="example: rrsis-bench gallery lavt-rrsisd-paper-s0-0123abcd",
    )
    gallery.add_argument("run", help="run id, or the folder of a run")
    gallery.add_argument(
        "--against", metavar="RUN", help="another run: also show the samples on which the two differ most"
    )
    gallery.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")
    gallery.set_defaults(call=_gallery)

    figures = verbs.add_parser(
        "figures",
        help="write the leaderboard's charts as PNG and SVG, for papers",
        epilog="example: rrsis-bench figures rrsisd --out figures",
    )
    figures.add_argument("data", help=f"dataset of the leaderboard: {choices('data')}")
    figures.add_argument("--out", type=Path, required=True, help="folder of the images")
    figures.add_argument("--split", default="test", choices=("test", "val", "train"), help="default: %(default)s")
    figures.add_argument("--protocol", default="native", help=f"{choices('protocol')} (default: %(default)s)")
    figures.add_argument(
        "--leaderboards", type=Path, default=Path("leaderboards"), help="folder of the tables (default: %(default)s)"
    )
    figures.set_defaults(call=_figures)


def _gallery(args: argparse.Namespace) -> int:
    from rrsis_bench.console import Terminal
    from rrsis_bench.results.record import store
    from rrsis_bench.results.render import gallery
    from rrsis_bench.run.data import data_root, open_limited
    from rrsis_bench.run.overview import find_run

    console = Terminal()
    run = find_run(args.run, args.runs)
    record, config = run.record, run.config
    dataset = open_limited(config, data_root(config.data, console), [record.split])[record.split]
    against = None
    if args.against:
        second = find_run(args.against, args.runs)
        place = second.record_paths.get(record.split)
        if place is None:
            raise UserError(
                f"{args.against} was not scored on {record.split}, as {args.run} was. Evaluate it there first."
            )
        other = store.read(place)
        if other.dataset_fingerprint != record.dataset_fingerprint:
            raise UserError(f"{args.run} and {args.against} did not score the same data: their fingerprints differ.")
        against = (other, store.read_counts(place), gallery.stored(second.predictions(other.split), dataset))
    masks = gallery.stored(run.predictions(record.split), dataset)
    path = gallery.write(run.path / gallery.NAME, record, run.counts, dataset, masks, against)
    console.print(f"Wrote {path}", soft_wrap=True)
    return 0


def _figures(args: argparse.Namespace) -> int:
    from rrsis_bench.console import Terminal
    from rrsis_bench.results.board.rows import rank
    from rrsis_bench.results.record import store
    from rrsis_bench.results.render import figures

    records = [record for record in store.read_all(args.leaderboards) if record.data == args.data]
    for path in figures.write(rank(records, args.leaderboards), args.split, args.protocol, args.out):
        Terminal().print(f"Wrote {path}", soft_wrap=True)
    return 0
