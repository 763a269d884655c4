"""The verbs that draw: ``gallery`` and ``figures``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rrsis_bench.errors import UserError

if TYPE_CHECKING:
    from rrsis_bench.eval.counts import CountsTable
    from rrsis_bench.results.record.schema import Record


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parsers."""
    gallery = verbs.add_parser(
        "gallery",
        help="write a page with a run's worst, best and most different predictions",
        description="Write runs/<RUN>/report.html from the masks that predictions=save keeps.",
        epilog="example: rrsis-bench gallery lavt-rrsisd-paper-s0-0123abcd",
    )
    gallery.add_argument("run", help="run id")
    gallery.add_argument(
        "--against", metavar="RUN", help="another run id: also show the samples on which the two differ most"
    )
    gallery.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: %(default)s)")
    gallery.set_defaults(call=_gallery)

    figures = verbs.add_parser(
        "figures",
        help="write the leaderboard's charts as PNG and SVG, for papers",
        epilog="example: rrsis-bench figures rrsisd --out figures",
    )
    figures.add_argument("data", help="dataset of the leaderboard")
    figures.add_argument("--out", type=Path, required=True, help="folder of the images")
    figures.add_argument("--split", default="test", choices=("test", "val", "train"), help="default: %(default)s")
    figures.add_argument("--protocol", default="native", help="default: %(default)s")
    figures.add_argument(
        "--leaderboards", type=Path, default=Path("leaderboards"), help="folder of the tables (default: %(default)s)"
    )
    figures.set_defaults(call=_figures)


def _gallery(args: argparse.Namespace) -> int:
    from omegaconf import OmegaConf
    from rich.console import Console

    from rrsis_bench.results.render import gallery
    from rrsis_bench.run import build

    console = Console()
    run_dir = args.runs / args.run
    record, table = _kept(run_dir)
    file = run_dir / "config.yaml"
    if not file.is_file():
        raise UserError(f"{file} is missing: only a run that was trained here says where its dataset lies.")
    kept = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    assert isinstance(kept, dict)
    config = {str(key): value for key, value in kept.items()}
    root = build.data_root(config["data"], console)
    dataset = build.open_data(config, root, [record.split])[record.split]
    against = None
    if args.against:
        other_dir = args.runs / args.against
        other, counts = _kept(other_dir)
        if other.dataset_fingerprint != record.dataset_fingerprint:
            raise UserError(f"{args.run} and {args.against} did not score the same data: their fingerprints differ.")
        against = (other, counts, gallery.stored(_masks(other_dir, other), dataset))
    path = gallery.write(
        run_dir / gallery.NAME, record, table, dataset, gallery.stored(_masks(run_dir, record), dataset), against
    )
    console.print(f"Wrote {path}", soft_wrap=True)
    return 0


def _masks(run_dir: Path, record: Record) -> Path:
    return run_dir / "predictions" / f"{record.split}.jsonl"


def _kept(run_dir: Path) -> tuple[Record, CountsTable]:
    """The record and the integers that a run keeps in its own folder."""
    from rrsis_bench.results.record import store

    paths = sorted((run_dir / "record" / store.RECORDS).glob("*/*/*.json"))
    if not paths:
        raise UserError(f"{run_dir} holds no finished run. `ls {run_dir.parent}` shows the run ids.")
    return store.read(paths[0]), store.read_counts(paths[0])


def _figures(args: argparse.Namespace) -> int:
    from rich.console import Console

    from rrsis_bench.results.board.rows import rank
    from rrsis_bench.results.record import store
    from rrsis_bench.results.render import figures

    records = [record for record in store.read_all(args.leaderboards) if record.data == args.data]
    for path in figures.write(rank(records, args.leaderboards), args.split, args.protocol, args.out):
        Console().print(f"Wrote {path}", soft_wrap=True)
    return 0
