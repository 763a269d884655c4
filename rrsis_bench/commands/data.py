"""The verb ``data``: describe, check, count, show, convert or write a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrsis_bench.commands import own_data, show_help
from rrsis_bench.errors import UserError
from rrsis_bench.resources import choices, formats

if TYPE_CHECKING:
    from rrsis_bench.config.schema import DataConfig
    from rrsis_bench.console import Terminal
    from rrsis_bench.data.formats import DatasetIndex


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parsers."""
    parser = verbs.add_parser("data", help="describe, check, count, show, convert or write a dataset")
    show_help(parser)
    data = parser.add_subparsers(dest="what", metavar="VERB", title="verbs")
    info = _named(data, "info", "print the card, the files on disk, and the samples found")
    info.add_argument("--fingerprint", action="store_true", help="compute it even if gigabytes have to be read")
    info.set_defaults(call=_info)
    verify = _named(data, "verify", "list every defect of a dataset in one pass; exit code 1 on errors")
    verify.add_argument(
        "--against", metavar="OTHER",
        help="also list the images that this dataset has too, or with the same name, that the own splits share: equal "
        "files, equal pixels, and images that look alike",
    )  # fmt: skip
    verify.add_argument("--against-root", type=Path, metavar="DIR", help="its folder (default: as for --data-root)")
    verify.set_defaults(call=_verify)
    stats = _named(data, "stats", "count categories, target sizes, expression lengths, shared images")
    stats.add_argument(
        "--model", help="count word-pieces as this model reads them (default: the suite's default model)"
    )
    stats.add_argument("--size", help="paper or tiny: whose tokenizer (default: the dataset's; paper needs BERT's)")
    stats.add_argument("--max-tokens", type=int, metavar="N", help="another token limit than the model's")
    stats.add_argument(
        "--language", action="store_true",
        help="also count what the lexicon, the category parser and the phrase finder do not understand",
    )  # fmt: skip
    stats.add_argument("--out", type=Path, metavar="FILE.png", help="draw a figure too")
    stats.set_defaults(call=_stats)
    strata = _named(data, "strata", "write the strata of a split's samples, for scores by stratum of earlier records")
    strata.add_argument("--split", default="test", choices=("train", "val", "test"), help="default: %(default)s")
    strata.add_argument(
        "--leaderboards", type=Path, default=Path("leaderboards"), metavar="DIR", help="default: %(default)s"
    )
    strata.set_defaults(call=_strata)
    own_data.add(data)
    _add_synthesize(data)


def _named(data: argparse._SubParsersAction[argparse.ArgumentParser], verb: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = data.add_parser(verb, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("name", help=f"dataset: {choices('data')}")
    parser.add_argument(
        "--data-root", type=Path, metavar="DIR", help="folder of the dataset (default: data.root of its configuration)"
    )
    return parser


def _add_synthesize(data: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    synth = data.add_parser("synthesize", help="write procedural aerial scenes in the exact format of a dataset")
    synth.add_argument("--format", default="rrsisd", help=f"{formats('write')} (default: %(default)s)")
    synth.add_argument("--out", type=Path, required=True, help="folder to write; must not exist or be empty")
    for split, count in (("train", 1200), ("val", 60), ("test", 150)):
        synth.add_argument(f"--{split}", type=int, default=count, metavar="N", help="scenes (default: %(default)s)")
    synth.add_argument("--size", type=int, default=192, metavar="PX", help="side in pixels (default: %(default)s)")
    synth.add_argument("--expressions-per-image", type=int, default=3, metavar="K", help="default: %(default)s")
    synth.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    share: dict[str, Any] = {"type": float, "default": 0.0, "metavar": "F"}
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
    from rrsis_bench.synthetic import SceneSpec, synthesize

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


def _info(args: argparse.Namespace) -> int:
    from rrsis_bench.config.cards import data_config
    from rrsis_bench.console import Terminal
    from rrsis_bench.describe.info import show_card, show_found

    console = Terminal()
    config = data_config(args.name)
    show_card(config, console)
    root = args.data_root or default_root(config)
    return 0 if show_found(config, root, _expected(config, args.data_root), console, deep=args.fingerprint) else 1


def _verify(args: argparse.Namespace) -> int:
    from rrsis_bench.config.cards import data_config
    from rrsis_bench.console import Terminal
    from rrsis_bench.data.checks.verify import print_report, verify
    from rrsis_bench.data.formats import read_index

    console = Terminal()
    config = data_config(args.name)
    root = args.data_root or default_root(config)
    index = read_index(config.format, root, config.options)
    report = verify(index, config.counts, console=console)
    print_report(report, console)
    if config.card is not None and config.card.defects:
        console.print("Known defects of the public files:", highlight=False)
        for defect in config.card.defects:
            console.print("- " + " ".join(defect.split()), soft_wrap=True, highlight=False)
    if args.against is not None:
        _compare_images(args, index, root, console)
    return 1 if report.errors else 0


def _compare_images(args: argparse.Namespace, index: DatasetIndex, root: Path, console: Terminal) -> None:
    """Show the images that the dataset shares with ``--against``."""
    from rrsis_bench.config.cards import data_config
    from rrsis_bench.data.checks.shared_images import shared_images, show
    from rrsis_bench.data.formats import read_index

    config = data_config(args.against)
    own = root if args.against == args.name else default_root(config)
    other = read_index(config.format, args.against_root or own, config.options)
    show(shared_images(index, other, console), index, other, console)


def _stats(args: argparse.Namespace) -> int:
    from rrsis_bench.console import Terminal
    from rrsis_bench.data.formats import SPLITS, read_index
    from rrsis_bench.data.formats.dataset import IndexedDataset
    from rrsis_bench.describe import stats, stats_setup

    console = Terminal()
    if args.out is not None and args.out.suffix.lower() != ".png":
        raise UserError(f"--out {args.out}: the figure is a PNG; give a name that ends in .png.")
    setup = stats_setup.configure(args.name, args.model, args.size)
    config = setup.data
    root = args.data_root or default_root(config)
    index = read_index(config.format, root, config.options)
    datasets = {split: IndexedDataset(index, split) for split in SPLITS}
    limit = stats_setup.text_limit(setup, datasets["train"], args.max_tokens, console, strict=bool(args.size))
    found = stats.collect(args.name, root, datasets, limit, console)
    stats.show(found, console)
    if args.language:
        from rrsis_bench.describe import language

        rows = {split: [(row.expression, row.category) for row in index.rows[split]] for split in SPLITS}
        language.show(language.audit(rows, index.category_names), console)
    if args.out is not None:
        from rrsis_bench.describe.stats_figure import write

        write(found, args.out)
        console.print(f"Figure: {args.out}", soft_wrap=True, highlight=False)
    return 0


def _strata(args: argparse.Namespace) -> int:
    from rrsis_bench.config.cards import data_config
    from rrsis_bench.console import Terminal
    from rrsis_bench.data.checks.fingerprint import fingerprint
    from rrsis_bench.data.formats import SPLITS, read_index
    from rrsis_bench.results import leaderboards
    from rrsis_bench.results.record import store
    from rrsis_bench.run.data import membership_of

    console = Terminal()
    config = data_config(args.name)
    index = read_index(config.format, args.data_root or default_root(config), config.options)
    index.require_readable(SPLITS)
    membership = membership_of(index, args.split)
    assert membership is not None, "the index is readable"
    path = store.write_membership(args.leaderboards, args.name, args.split, fingerprint(index), membership)
    leaderboards.regenerate(args.leaderboards)
    console.print(f"Strata of {len(membership.sample_ids):,} samples: {path}", soft_wrap=True, highlight=False)
    return 0


def _expected(config: DataConfig, root: Path | None) -> dict[str, int] | None:
    """Samples per split of a complete copy; of synthetic scenes only where they lie at their own root."""
    if config.counts or not config.synthetic:
        return config.counts
    from rrsis_bench.run.data import expected_counts

    return expected_counts(config) if root is None else None


def default_root(config: DataConfig) -> Path:
    """Return the folder that the configuration names; UserError if its synthetic scenes are not written yet."""
    from rrsis_bench.run.data import find_root

    root, there = find_root(config) if config.synthetic else (Path(config.root), True)
    if not there:
        raise UserError(
            f"The scenes of data={config.name} are not in {root} yet: the first run writes them. To see such "
            f"scenes now: rrsis-bench data synthesize --format {config.format} --out DIR, then --data-root DIR."
        )
    return root
