"""The verb ``predict``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrsis_bench.errors import UserError
from rrsis_bench.printing import emit_json
from rrsis_bench.resources import choices

if TYPE_CHECKING:
    from rrsis_bench.console import Terminal

_DESCRIPTION = """\
Predict the masks of referring expressions on your own image.

  rrsis-bench predict scene.png "the ship on the left" --run RUN -o out/

A folder or a list of images is predicted image by image; finished ones are kept when the same command is given again.

  rrsis-bench predict scenes/ "the ship on the left" --run RUN -o out/

GeoTIFFs and other rasters keep their georeference and need pip install 'rrsis-bench[geo]'. PNG and JPEG files need no
extra. OUT receives <image>.mask.tif (or .png), .gpkg, .overlay.png and .predict.json, either all of them or none."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser."""
    predict = verbs.add_parser(
        "predict",
        help="predict masks, polygons and an overlay on your own image",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.add_argument("image", type=Path, help="PNG, JPEG, GeoTIFF, VRT, ...; a folder; a .txt or .csv list")
    predict.add_argument("expression", nargs="?", help="a referring expression")
    predict.add_argument("-e", dest="more", metavar="EXPRESSION", action="append", default=[], help="a further one")
    predict.add_argument(
        "--expressions",
        type=Path,
        metavar="FILE",
        help="read them from a CSV file with the column expression, or one per line",
    )
    model = predict.add_argument_group("model")
    either = model.add_mutually_exclusive_group(required=True)
    either.add_argument(
        "--run", type=Path, metavar="RUN", help="a finished run: its id, its folder, or one of its checkpoints"
    )
    either.add_argument("--weights", type=Path, metavar="PATH", help="released weights (.pth), or a checkpoint")
    model.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of the runs (default: %(default)s)"
    )
    model.add_argument("--model", help=f"for a .pth file: {choices('model')}")
    model.add_argument(
        "--set", dest="overrides", metavar="OVERRIDE", action="append", default=[],
        help="for a .pth file: Hydra overrides for the model, such as data=refsegrs",
    )  # fmt: skip
    model.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="default: %(default)s")
    cluster = predict.add_argument_group("cluster, for a folder or a list")
    cluster.add_argument("--launcher", metavar="NAME", help=f"one job per image: {choices('launcher')}")
    cluster.add_argument(
        "--launcher-set", dest="launcher_set", metavar="OVERRIDE", action="append", default=[],
        help="field of the launcher, such as partition=gpu",
    )  # fmt: skip
    image = predict.add_argument_group("image")
    image.add_argument("--bands", metavar="R,G,B", help="bands shown as red, green and blue, counted from 1")
    image.add_argument(
        "--scale", default="auto", metavar="auto|none|LO,HI|pLO,pHI",
        help="limits for conversion to 8 bits: values, or percentiles of the whole image (default: %(default)s)",
    )  # fmt: skip
    image.add_argument("--nodata", type=float, metavar="V", help="value of pixels without data")
    image.add_argument("--window", metavar="X,Y,W,H", help="predict on this part only, in pixels")
    image.add_argument("--aoi", type=Path, metavar="FILE", help="predict on the area of these polygons only")
    view = predict.add_argument_group("frame or tiles")
    view.add_argument(
        "--view", default="frame", choices=("frame", "tile"),
        help="predict on the whole image at once, as in evaluation, or on tiles (default: %(default)s)",
    )  # fmt: skip
    view.add_argument("--tile", type=int, metavar="PX", help="side of a tile (default: that of the training images)")
    view.add_argument("--overlap", type=float, help="share of a tile that the next one also covers (default: 0.25)")
    view.add_argument("--blend", choices=("hann", "mean"), help="weights of overlapping tiles (default: hann)")
    view.add_argument("--batch", type=int, metavar="N", help="tiles per forward pass (default: 4)")
    view.add_argument(
        "--presence-min", type=float, metavar="P", help="drop tiles without a pixel of at least this probability"
    )
    view.add_argument("--max-memory", metavar="SIZE", help="limit for blended rows, such as 500MiB (default: 2GiB)")
    out = predict.add_argument_group("output")
    out.add_argument("-o", "--out", type=Path, required=True, help="folder for the files")
    out.add_argument("--threshold", type=float, help="probability above which a pixel is in the mask (default: 0.5)")
    out.add_argument("--save-prob", action="store_true", help="also write probabilities")
    out.add_argument(
        "--vector", default="auto", choices=("auto", "gpkg", "geojson", "parquet", "none"),
        help="format of the polygons; auto: gpkg if the image is georeferenced (default: %(default)s)",
    )  # fmt: skip
    out.add_argument("--min-area", default="0", metavar="20px|5m2", help="drop smaller polygons")
    out.add_argument("--simplify", default="0", metavar="PX", help="simplify borders by at most this many pixels")
    out.add_argument(
        "--to-crs",
        metavar="CRS",
        help="coordinate system of the polygons, such as EPSG:4326 (default: that of the image)",
    )
    out.add_argument("--no-overlay", action="store_true", help="do not write the overlay")
    out.add_argument("--overwrite", action="store_true", help="replace existing files")
    out.add_argument("--json", action="store_true", help="print <image>.predict.json to stdout")
    predict.set_defaults(call=_predict)


def _predict(args: argparse.Namespace) -> int:
    from rich.progress import Progress

    from rrsis_bench.console import Terminal
    from rrsis_bench.predict import batch, job
    from rrsis_bench.run.folder import RunFolder

    run = None if args.run is None else RunFolder.locate(args.run, args.runs)
    source = batch.ModelSource(run, args.weights, args.model, tuple(args.overrides), args.device)
    request = job.Request(
        image=args.image.expanduser(),
        expressions=tuple(_expressions(args)),
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
    if batch.is_batch(request.image):
        from rrsis_bench.commands import predict_batch

        return predict_batch.predict(
            request, source, as_json=args.json, launcher=predict_batch.launcher(args.launcher, args.launcher_set)
        )
    if args.launcher or args.launcher_set:
        raise UserError("--launcher applies to a folder or a list of images. Leave it out for one image.")
    console = Terminal(stderr=True)
    with Progress(console=console, transient=True) as progress:

        def begin(steps: int) -> Callable[[int], None]:
            bar = progress.add_task("predict", total=steps)
            return lambda done: progress.advance(bar, done)

        def warn(line: str) -> None:
            console.print(line, style="yellow", soft_wrap=True, highlight=False)

        content = job.run(request, source.load, warn, begin)
    if args.json:
        emit_json(content)
    else:
        _show(Terminal(), content, request.out)
    return 0


def _show(console: Terminal, content: dict[str, Any], out: Path) -> None:
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
    console.print(f"Wrote {', '.join(content['files'])} to {out}", soft_wrap=True, highlight=False)


def _expressions(args: argparse.Namespace) -> list[str]:
    from rrsis_bench.predict.job import read_expressions

    found = [*([] if args.expression is None else [args.expression]), *args.more]
    return [*found, *(read_expressions(args.expressions) if args.expressions else [])]


def _options(args: argparse.Namespace) -> dict[str, Any]:
    names = ("view", "tile", "overlap", "blend", "batch", "presence_min", "threshold")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    return given | ({} if args.max_memory is None else {"max_memory": _bytes(args.max_memory)})


def _numbers(text: str | None, name: str, count: int | None) -> Any:
    if text is None:
        return None
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or (count is not None and len(numbers) != count):
        raise UserError(f"{name}={text} must be {count or 'one or three'} integers, separated by commas.")
    return numbers


def _pixels(text: str) -> float:
    try:
        pixels = float(text.removesuffix("px"))
    except ValueError:
        pixels = -1.0
    if not 0 <= pixels < float("inf"):
        raise UserError(f"simplify={text} must be a number of pixels of at least 0, such as 1.")
    return pixels


def _bytes(text: str) -> int:
    units = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    number = text.lower().rstrip("kmgib")
    try:
        value = int(float(number) * units[text.lower()[len(number) :].strip()])
    except (KeyError, ValueError, OverflowError):
        raise UserError(f"max-memory={text} must be a size such as 500MiB or 2GiB.") from None
    if value < 1:
        raise UserError(f"max-memory={text} must be above 0.")
    return value
