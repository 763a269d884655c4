"""The verbs for own data: ``data init``, ``data show`` and ``data convert``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrsis_bench.errors import UserError
from rrsis_bench.resources import CHECKOUT, choices, formats

if TYPE_CHECKING:
    from rrsis_bench.data.formats.index import DatasetIndex

COCO, GEOJSON = "coco", "geojson"


def add(data: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parsers."""
    init = data.add_parser(
        "init",
        help="write the configuration of your own data: name, counts, card",
        description="Read a dataset in the plain format of data=custom and write conf/local/data/NAME.yaml, which git "
        "ignores: its counts, so that rows are ranked, and a card, so that `rrsis-bench cite` knows it.",
        epilog="example: rrsis-bench data init harbour --root /data/harbour --title 'Ships of a harbour'",
    )
    init.add_argument("name", help="name of the dataset in every table: small letters, digits and _")
    init.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder with train, val and test.jsonl")
    init.add_argument("--title", help="of the dataset (default: its name)")
    init.add_argument("--source", help="how to get it (default: own data)")
    init.add_argument("--licence", help="of the data (default: not stated)")
    init.add_argument("--bibtex", type=Path, metavar="FILE", help="an entry to cite (default: one with the title)")
    init.add_argument("--overwrite", action="store_true", help="replace an earlier configuration of this name")
    init.set_defaults(call=_init)

    show = data.add_parser(
        "show",
        help="draw samples: image, mask and expression",
        description="Draw samples of a split on one image: each with its mask and its expression.",
        epilog="example: rrsis-bench data show rrsisd --data-root /data/rrsis --out contact.png",
    )
    show.add_argument("name", help=f"dataset: {choices('data')}")
    show.add_argument(
        "--data-root", type=Path, metavar="DIR", help="folder of the dataset (default: data.root of its configuration)"
    )
    show.add_argument("--split", default="train", choices=("train", "val", "test"), help="default: %(default)s")
    show.add_argument("--samples", type=int, default=12, metavar="N", help="how many, at random (default: %(default)s)")
    show.add_argument("--seed", type=int, default=0, metavar="S", help="of the choice (default: %(default)s)")
    show.add_argument("--out", type=Path, required=True, metavar="FILE.png", help="file to write")
    show.set_defaults(call=_show)
    _add_convert(data)


def _add_convert(data: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    convert = data.add_parser(
        "convert",
        help="convert a dataset, COCO annotations or polygons on a raster to the plain format of data=custom",
        description="Write a dataset in the plain format of data=custom: JSON Lines with the masks as run lengths. "
        "Images become hard links if the file system allows it, else copies. coco reads --annotations (COCO's "
        "instances file) and --expressions (a CSV file with expression, annotation_id and more). geojson reads "
        "--annotations (polygons with the property expression) and cuts --raster into images of --tile pixels.",
        epilog="examples: rrsis-bench data convert rrsisd --data-root /data/rrsis --out plain; "
        "rrsis-bench data convert coco --annotations instances.json --expressions expressions.csv --out plain; "
        "rrsis-bench data convert geojson --annotations objects.geojson --raster scene.tif --bands 4,3,2 --out plain",
    )
    convert.add_argument("format", help=f"what to read: {COCO}, {GEOJSON}, {formats()}")
    convert.add_argument("--data-root", type=Path, metavar="DIR", help="folder of the dataset")
    convert.add_argument(
        "--to", choices=["custom"], default="custom", help="the format to write (default: %(default)s)"
    )
    convert.add_argument("--out", type=Path, required=True, help="folder to write; must not exist or be empty")
    convert.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="as data.options of the format read, such as language=all (nwpu_refer)",
    )  # fmt: skip
    own = convert.add_argument_group("coco, geojson")
    own.add_argument("--annotations", type=Path, metavar="FILE", help="COCO's instances file, or polygons")
    own.add_argument("--expressions", type=Path, metavar="CSV", help="coco: the referring expressions")
    own.add_argument("--images", type=Path, metavar="DIR", help="coco: folder of the images (default: beside the file)")
    own.add_argument("--raster", type=Path, metavar="FILE", help="geojson: the image that the polygons are on")
    own.add_argument("--bands", metavar="R,G,B", help="geojson: bands shown as red, green and blue")
    own.add_argument("--scale", default="auto", help="geojson: limits for 8 bits, as in predict (default: %(default)s)")
    own.add_argument("--tile", type=int, default=512, metavar="PX", help="geojson: side of an image (%(default)s)")
    own.add_argument(
        "--split",
        default="80,10,10",
        metavar="TRAIN,VAL,TEST",
        help="percent, if nothing names the split (%(default)s)",
    )
    convert.set_defaults(call=_convert)


def _init(args: argparse.Namespace) -> int:
    from rrsis_bench.console import Terminal
    from rrsis_bench.describe.own_data import OwnCard, initialise

    bibtex = None
    if args.bibtex is not None:
        try:
            bibtex = args.bibtex.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"--bibtex {args.bibtex} cannot be read: {error}.") from error
    card = OwnCard(args.title, args.source, args.licence, bibtex)
    done = initialise(args.name, args.root, card, overwrite=args.overwrite)
    console = Terminal()
    counts = ", ".join(f"{split} {n:,}" for split, n in done.counts.items())
    console.print(f"Wrote {done.path}: {counts} samples", soft_wrap=True, highlight=False)
    if done.languages.get("zh"):
        console.print("Some expressions are Chinese. Add text=bert_zh, or text=bert_multilingual for both languages.")
    tracked = CHECKOUT is not None and Path("leaderboards").resolve() == (CHECKOUT / "leaderboards").resolve()
    board = f"leaderboard {args.name}" + (" --leaderboards runs/leaderboards" if tracked else "")
    for what, command in (
        ("Check it", f"data verify {args.name}"),
        ("Look at it", f"data show {args.name} --out contact.png"),
        ("Train on it", f"bench model=lavt data={args.name} size=tiny"),
        ("Its table", board),
    ):
        console.print(f"{what}:  rrsis-bench {command}", soft_wrap=True, highlight=False)
    return 0


def _show(args: argparse.Namespace) -> int:
    from rrsis_bench.commands.data import default_root
    from rrsis_bench.config.cards import data_config
    from rrsis_bench.console import Terminal
    from rrsis_bench.data.formats import open_split
    from rrsis_bench.describe import contact_sheet

    if args.out.suffix.lower() != ".png":
        raise UserError(f"--out {args.out}: the image is a PNG; give a name that ends in .png.")
    if args.samples < 1 or args.seed < 0:
        raise UserError("--samples must be at least 1, and --seed at least 0.")
    config = data_config(args.name)
    dataset = open_split(config.format, args.data_root or default_root(config), args.split, config.options)
    places = contact_sheet.choose(dataset, args.samples, args.seed)
    contact_sheet.write(dataset, places, args.out)
    text = f"Wrote {args.out}: {len(places)} of {len(dataset):,} samples of {args.name} {args.split}"
    Terminal().print(text, soft_wrap=True, highlight=False)
    return 0


def _convert(args: argparse.Namespace) -> int:
    from rrsis_bench.console import Terminal
    from rrsis_bench.data.formats.custom.convert import convert

    console = Terminal()
    if args.format == GEOJSON:
        from rrsis_bench.predict.chips import cut

        _require(args, "annotations", "raster")
        bands, shares = _bands(args.bands), _shares(args.split)
        with cut(args.annotations, args.raster, bands, args.scale, args.tile, shares) as index:
            done = convert(index, args.out, console)
    else:
        done = convert(_index(args), args.out, console)
    samples = ", ".join(f"{split} {n:,}" for split, n in done.samples.items())
    console.print(f"{args.out}: {samples} samples on {done.images:,} images", soft_wrap=True, highlight=False)
    if done.linked and args.format != GEOJSON:
        console.print(f"{done.linked:,} images are hard links to the source's files: do not edit them in place.")
    console.print(f"Use it: data=custom data.root={args.out}", soft_wrap=True, highlight=False)
    console.print(f"Name it: rrsis-bench data init NAME --root {args.out}", soft_wrap=True, highlight=False)
    return 0


def _index(args: argparse.Namespace) -> DatasetIndex:
    """Return the dataset that the arguments name."""
    if args.format == COCO:
        from rrsis_bench.data.formats.custom.coco import read_coco

        _require(args, "annotations", "expressions")
        return read_coco(args.annotations, args.expressions, args.images, _shares(args.split))
    from rrsis_bench.data.formats import format_module, read_index

    format_module(args.format)  # an unknown format is named before a missing folder
    _require(args, "data_root")
    return read_index(args.format, args.data_root, _typed(args.option))


def _require(args: argparse.Namespace, *names: str) -> None:
    missing = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is None]
    if missing:
        raise UserError(f"data convert {args.format} needs {' and '.join(missing)}.")


def _shares(text: str) -> tuple[int, ...]:
    try:
        shares = tuple(int(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if len(shares) != 3 or sum(shares) != 100 or min(shares) < 1:
        raise UserError(f"--split {text} must be three percentages that add to 100, such as 80,10,10.")
    return shares


def _bands(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--bands {text} must be one or three integers, separated by commas.") from None


def _typed(options: list[str]) -> dict[str, Any]:
    """``name=value`` texts as values, typed as Hydra types overrides."""
    from omegaconf import OmegaConf

    for option in options:
        if not option.partition("=")[2]:
            raise UserError(f"--option {option} is not like language=all.")
    found = OmegaConf.to_container(OmegaConf.from_dotlist(options))
    assert isinstance(found, dict)
    return {str(name): value for name, value in found.items()}
