"""The verb ``predict``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrsis_bench.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from rrsis_bench.predict.predictor import Predictor

_DESCRIPTION = """\
Predict the mask of each sentence on an image of one's own.

  rrsis-bench predict scene.png "the ship on the left" --run runs/<run_id> -o out/

PNG and JPEG files need nothing more; GeoTIFFs and other rasters need pip install 'rrsis-bench[geo]' and keep their
georeference. OUT receives <image>.mask.tif (or .png), .gpkg, .overlay.png and .predict.json, all of them or none."""


def add(verbs: argparse._SubParsersAction) -> None:
    """Add the parser."""
    predict = verbs.add_parser(
        "predict",
        help="masks, polygons and a picture for sentences on one's own image",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.add_argument("image", type=Path, help="PNG, JPEG, GeoTIFF, VRT, ...")
    predict.add_argument("sentence", nargs="?", help="a referring expression")
    predict.add_argument("-e", dest="more", metavar="SENTENCE", action="append", default=[], help="another one")
    predict.add_argument(
        "--expressions", type=Path, metavar="FILE", help="more: a CSV file with the column expression, or one per line"
    )
    model = predict.add_argument_group("model")
    either = model.add_mutually_exclusive_group(required=True)
    either.add_argument("--run", type=Path, metavar="RUN", help="a finished run, runs/<run_id>, or a checkpoint of it")
    either.add_argument("--weights", type=Path, metavar="PATH", help="released weights (.pth), or a checkpoint")
    model.add_argument("--model", help="with a .pth file: which model it is")
    model.add_argument(
        "--set", dest="overrides", metavar="OVERRIDE", action="append", default=[],
        help="with a .pth file: Hydra overrides that its model was built with (data=refsegrs ...)",
    )  # fmt: skip
    model.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: %(default)s")
    image = predict.add_argument_group("image")
    image.add_argument("--bands", metavar="R,G,B", help="bands shown as red, green and blue, counted from 1")
    image.add_argument(
        "--scale", default="auto", metavar="auto|none|LO,HI|pLO,pHI",
        help="to 8 bits: by itself, given limits, or percentiles of the whole image (default: %(default)s)",
    )  # fmt: skip
    image.add_argument("--nodata", type=float, metavar="V", help="value of pixels without data")
    image.add_argument("--window", metavar="X,Y,W,H", help="predict on this part, in pixels")
    image.add_argument("--aoi", type=Path, metavar="FILE", help="predict on the part under these polygons")
    view = predict.add_argument_group("frame or tiles")
    view.add_argument(
        "--view", default="frame", choices=("frame", "tile"),
        help="show the model the whole image, as in evaluation, or tile by tile (default: %(default)s)",
    )  # fmt: skip
    view.add_argument("--tile", type=int, metavar="PX", help="side of a tile (default: as the training pictures)")
    view.add_argument("--overlap", type=float, help="share of a tile that the next one covers too (default: 0.25)")
    view.add_argument("--blend", choices=("hann", "mean"), help="average of overlapping tiles (default: hann)")
    view.add_argument("--batch", type=int, metavar="N", help="tiles per forward pass (default: 4)")
    view.add_argument("--presence-min", type=float, metavar="P", help="drop tiles without a pixel of this probability")
    view.add_argument("--max-memory", metavar="SIZE", help="of blended rows, such as 500MiB (default: 2GiB)")
    out = predict.add_argument_group("output")
    out.add_argument("-o", "--out", type=Path, required=True, help="folder of the files")
    out.add_argument("--threshold", type=float, help="probability of a target's pixels (default: 0.5)")
    out.add_argument("--save-prob", action="store_true", help="also write the probabilities")
    out.add_argument(
        "--vector", default="auto", choices=("auto", "gpkg", "geojson", "parquet", "none"),
        help="format of the polygons (auto: gpkg where the image is georeferenced)",
    )  # fmt: skip
    out.add_argument("--min-area", default="0", metavar="20px|5m2", help="leave smaller polygons out")
    out.add_argument("--simplify", default="0", metavar="PX", help="move polygons' borders by at most this many pixels")
    out.add_argument("--to-crs", metavar="CRS", help="of the polygons, such as EPSG:4326 (default: the image's)")
    out.add_argument("--no-overlay", action="store_true", help="write no picture")
    out.add_argument("--overwrite", action="store_true", help="replace files of the same names")
    out.add_argument("--json", action="store_true", help="print <image>.predict.json for another program")
    predict.set_defaults(call=_predict)


def _predict(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    from rrsis_bench.predict import job

    request = job.Request(
        image=args.image.expanduser(),
        expressions=tuple(_sentences(args)),
        out=args.out.expanduser(),
        options=_options(args),
        window=_numbers(args.window, "window", 4),
        aoi=args.aoi,
        bands=_numbers(args.bands, "bands", None),
        nodata=args.nodata,
        scale=args.scale,
        min_area=job.parse_area(args.min_area),
        simplify=_pixels(args.simplify),
        save_prob=args.save_prob,
        overlay=not args.no_overlay,
        vector=args.vector,
        to_crs=args.to_crs,
        overwrite=args.overwrite,
    )
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress:

        def begin(steps: int) -> Callable[[int], None]:
            bar = progress.add_task("predict", total=steps)
            return lambda done: progress.advance(bar, done)

        def warn(line: str) -> None:
            console.print(f"[yellow]{escape(line)}[/yellow]", soft_wrap=True, highlight=False)

        content = job.run(request, lambda: _load(args), warn, begin)
    if args.json:
        print(json.dumps(content, ensure_ascii=False, indent=1))
    else:
        _show(Console(), content, request.out)
    return 0


def _load(args: argparse.Namespace) -> Predictor:
    from rrsis_bench.predict.predictor import Predictor

    if args.run is not None:
        if args.model or args.overrides:
            raise UserError("--model and --set are for --weights: a run knows its model.")
        return Predictor.from_run(args.run, device=args.device)
    return Predictor.from_weights(args.weights, args.model, args.overrides, device=args.device)


def _show(console: Console, content: dict[str, Any], out: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("expression", box=None, header_style="bold")
    for name in ("pixels", "objects", "mean p", "max p"):
        table.add_column(name, justify="right")
    for row in content["expressions"]:
        score, objects = row["score_mean"], row["objects"]
        table.add_row(
            Text(" ".join(row["expression"].split())),
            f"{row['area_px']:,}" if row["area_px"] else "none",
            "" if objects is None else f"{objects:,}",
            "" if score is None else f"{score:.2f}",
            f"{row['probability_max']:.2f}",
        )
    console.print(table)
    console.print(f"Wrote {', '.join(content['files'])} to {out}", soft_wrap=True, highlight=False, markup=False)


def _sentences(args: argparse.Namespace) -> list[str]:
    from rrsis_bench.predict.job import read_expressions

    found = [*([args.sentence] if args.sentence is not None else []), *args.more]
    return [*found, *(read_expressions(args.expressions) if args.expressions else [])]


def _options(args: argparse.Namespace) -> dict[str, Any]:
    given = {
        "tile": args.tile,
        "overlap": args.overlap,
        "blend": args.blend,
        "batch": args.batch,
        "presence_min": args.presence_min,
        "max_memory": None if args.max_memory is None else _bytes(args.max_memory),
    }
    typed = {name: value for name, value in given.items() if value is not None}
    if args.view == "frame" and typed:
        raise UserError(f"--{next(iter(typed)).replace('_', '-')} is for --view tile; a frame has no tiles.")
    if args.threshold is not None:
        typed["threshold"] = args.threshold
    return {"view": args.view, **typed}


def _numbers(text: str | None, name: str, count: int | None) -> Any:
    if text is None:
        return None
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or (count is not None and len(numbers) != count):
        raise UserError(f"{name}={text} must be {count or 'one or three'} whole numbers with commas between them.")
    return numbers


def _pixels(text: str) -> float:
    try:
        pixels = float(text.removesuffix("px"))
    except ValueError:
        pixels = -1.0
    if not 0 <= pixels < float("inf"):
        raise UserError(f"simplify={text} must be a number of pixels, 0 or more, such as 1.")
    return pixels


def _bytes(text: str) -> int:
    units = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    number = text.lower().rstrip("kmgib")
    try:
        value = int(float(number) * units[text.lower()[len(number) :].strip()])
    except (KeyError, ValueError, OverflowError):
        raise UserError(f"max-memory={text} must be a size such as 500MiB or 2GiB.") from None
    if value < 1:
        raise UserError(f"max-memory={text} must be more than nothing.")
    return value
