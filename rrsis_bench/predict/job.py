"""One call of ``rrsis-bench predict``: an image and sentences in, complete files out, or none."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rrsis_bench.errors import UserError
from rrsis_bench.predict import pipeline
from rrsis_bench.predict.frame_words import frame_words
from rrsis_bench.predict.outputs import sinks, vectors
from rrsis_bench.predict.outputs.files import OutputSet
from rrsis_bench.predict.outputs.overlay import Overlay
from rrsis_bench.predict.outputs.polygons import Polygoniser
from rrsis_bench.predict.outputs.rasters import RasterWriter, open_writer
from rrsis_bench.predict.pipeline import Options, Sink
from rrsis_bench.predict.predictor import Predictor
from rrsis_bench.predict.sources import scaling
from rrsis_bench.predict.sources.aoi import AreaOfInterest
from rrsis_bench.predict.sources.raster import EXTRA, installed, require
from rrsis_bench.predict.sources.source import Cropped, Source, Window, open_source
from rrsis_bench.predict.warnings import remarks
from rrsis_bench.run.provenance import versions
from rrsis_bench.train.checkpoint import sha256

VECTORS = ("auto", "none", *vectors.FORMATS)


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be predicted and written; the fields are the verb's options.

    Attributes:
        image: the file.
        expressions: in order, at least one.
        out: folder of the files.
        window: x, y, width, height in pixels, or None.
        aoi: a file of polygons, or None.
        bands, nodata, scale: how the image is read.
        options: of the pipeline; ``tile`` may be missing.
        min_area: smallest object and its unit, ``px`` or ``m2``.
        simplify: pixels.
        save_prob, overlay: also write these files.
        vector: one of `VECTORS`.
        to_crs: of the polygons; None: the image's.
        overwrite: replace files of the same names.
    """

    image: Path
    expressions: tuple[str, ...]
    out: Path
    options: dict[str, Any]
    window: tuple[int, int, int, int] | None = None
    aoi: Path | None = None
    bands: tuple[int, ...] | None = None
    nodata: float | None = None
    scale: str = "auto"
    min_area: tuple[float, str] = (0.0, "px")
    simplify: float = 0.0
    save_prob: bool = False
    overlay: bool = True
    vector: str = "auto"
    to_crs: str | None = None
    overwrite: bool = False


def run(
    request: Request,
    load: Callable[[], Predictor],
    warn: Callable[[str], None],
    progress: Callable[[int], Callable[[int], None]],
) -> dict[str, Any]:
    """Predict and write; returns what ``<stem>.predict.json`` holds.

    Args:
        request: what is asked for; checked, like the image and the folder, before the model is loaded.
        load: makes the predictor.
        warn: called with every line that the user has to know.
        progress: called once with the number of steps; returns what is called with steps done.

    Raises:
        UserError: something does not fit, or failed; no file is left.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    _check(request)
    stem = request.image.stem
    with ExitStack() as stack:
        source = stack.enter_context(_opened(request))
        kind = _vector_kind(request, source)
        outputs = stack.enter_context(OutputSet(request.out, overwrite=request.overwrite))
        replaced = _written_before(request.out / f"{stem}.predict.json", stem)
        json_path = outputs.path(f"{stem}.predict.json")
        scaled = scaling.decide(source, request.scale)
        predictor = load()
        options = predictor.options(request.options)
        report = predictor.engine.read(request.expressions)
        warnings = remarks(predictor, request.expressions, options, source, report.truncated)
        for line in warnings:
            warn(line)

        meta = predictor.tags(options, scaled, request.image.name)
        count, size = len(request.expressions), (source.height, source.width)
        tiff = source.georef is not None or request.image.suffix.lower() in (".tif", ".tiff")
        writers: list[RasterWriter] = []

        def writer(name: str) -> RasterWriter:
            made = open_writer(outputs, stem, name, *size, request.expressions, source.georef, meta, tiff=tiff)
            writers.append(made)
            return made

        numbers = sinks.Numbers(count)
        keepers: list[Sink] = [numbers, sinks.MaskFile(writer("mask"))]
        if request.save_prob:
            keepers.append(sinks.ProbabilityFile(writer("prob")))
        minimum, unit = request.min_area
        polygons = [Polygoniser(minimum if unit == "px" else 0) for _ in range(count)]
        vector_path = None
        if kind != "none":
            vector_path = outputs.path(stem + vectors.FORMATS[kind])
            keepers.append(sinks.Polygons(polygons))
        overlay = Overlay(*size, request.expressions) if request.overlay else None
        if overlay is not None:
            overlay_path = outputs.path(f"{stem}.overlay.png")
            keepers.append(sinks.Picture(overlay, source, scaled))

        with outputs.named_errors():
            step = progress(pipeline.steps(source, count, options))
            pipeline.predict(source, predictor.engine, count, options, scaled, keepers, step)
            for made in writers:
                made.close()
            objects: list[int | None] = [None] * count
            if vector_path is not None:
                table = vectors.to_table(
                    [one.finish() for one in polygons],
                    request.expressions,
                    source.georef,
                    size,
                    {name: meta[name] for name in ("image", "model", "weights_sha", "view")},
                    simplify=request.simplify,
                    min_area_m2=minimum if unit == "m2" else 0,
                )
                objects = [int((table["expression_id"] == index).sum()) for index in range(count)]
                vectors.write(table, vector_path, kind, to_crs=request.to_crs)
            if overlay is not None:
                overlay.save(overlay_path)
            content = {
                **_provenance(request, predictor, options, scaled, source, started),
                "warnings": warnings,
                "expressions": [
                    {
                        "expression": expression,
                        "frame_words": frame_words(expression),
                        "area_px": numbers.area[index],
                        "score_mean": numbers.score(index),
                        "probability_max": numbers.largest[index],
                        "objects": objects[index],
                    }
                    for index, expression in enumerate(request.expressions)
                ],
                "seconds": round(time.perf_counter() - clock, 2),
                "files": [path.name for path in outputs.names()],
            }
            json_path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            outputs.commit(replaced)
    return content


def _written_before(path: Path, stem: str) -> list[str]:
    """Files that the call of this JSON wrote: fewer expressions now would leave masks of other sentences among them."""
    try:
        names = json.loads(path.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if isinstance(name, str) and Path(name).name == name and name.startswith(f"{stem}.")]


def read_expressions(path: Path) -> list[str]:
    """Expressions of a file: the column ``expression`` of a CSV file with a header, else one per line.

    Raises:
        UserError: no such file, not UTF-8, no such column, or nothing in it.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The expressions in {path} cannot be read: {error}.") from error
    if path.suffix.lower() == ".csv":
        rows = csv.DictReader(text.splitlines(keepends=True))
        if "expression" not in (rows.fieldnames or []):
            raise UserError(f"{path} has the columns {', '.join(rows.fieldnames or [])}, but none called expression.")
        found = [row["expression"] for row in rows]
    else:
        found = text.split("\n")
    found = [expression.strip() for expression in found if expression and expression.strip()]
    if not found:
        raise UserError(f"{path} holds no expression.")
    return found


def parse_area(text: str) -> tuple[float, str]:
    """``20px``, ``20`` or ``5m2`` -> (number, unit); UserError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(px|m2)?", text.strip())
    if match is None:
        raise UserError(f"min-area={text} is not like 20px or 5m2.")
    return float(match[1]), match[2] or "px"


def _check(request: Request) -> None:
    """What can be refused without looking at the image."""
    if not request.expressions:
        raise UserError("There is no expression to predict. Give one after the image, with -e, or with --expressions.")
    if request.vector not in VECTORS:
        raise UserError(f"vector={request.vector} is not one of: {', '.join(VECTORS)}.")
    if request.vector not in ("auto", "none"):
        require("Polygons are made")
    if request.vector == "parquet" and not importlib.util.find_spec("pyarrow"):
        raise UserError(f"GeoParquet is written by pyarrow, which is not installed: {EXTRA}.")
    if request.window is not None and request.aoi is not None:
        raise UserError("Give a window or an area of interest, not both.")
    if request.simplify < 0:
        raise UserError(f"simplify={request.simplify:g} must be 0 or more pixels.")
    if request.vector == "none":
        for name in _polygon_wishes(request):
            raise UserError(f"{name} is for polygons, and vector=none writes none.")
    if request.to_crs is not None:
        require("Polygons are made")
        vectors.check_crs(request.to_crs)
    Options(**{"view": "frame", **request.options, **({} if request.options.get("tile") else {"tile": 1})})


def _opened(request: Request) -> Source:
    source = open_source(request.image, bands=request.bands, nodata=request.nodata)
    try:
        if request.window is not None:
            return Cropped(source, Window(*request.window))
        if request.aoi is not None:
            return AreaOfInterest(source, request.aoi)
    except UserError:
        source.close()
        raise
    return source


def _vector_kind(request: Request, source: Source) -> str:
    """The format of the polygons; where it is not chosen, a GeoPackage of what lies on the ground."""
    located = source.georef is not None and source.georef.transform is not None and source.georef.crs is not None
    if request.vector == "auto":
        for name in _polygon_wishes(request) if not located else ():
            raise UserError(f"{name} is for polygons; {source.name} is not georeferenced: add --vector gpkg.")
        return "gpkg" if located and installed() else "none"
    if not located and (request.vector == "geojson" or request.to_crs):
        raise UserError(f"{source.name} is not georeferenced: its polygons, in pixels, go to --vector gpkg or parquet.")
    if not located and request.min_area[1] == "m2":
        raise UserError(f"{source.name} is not georeferenced: give min-area in pixels, such as 20px.")
    return request.vector


def _polygon_wishes(request: Request) -> list[str]:
    """Options given that only polygons have."""
    given = {"to-crs": request.to_crs, "simplify": request.simplify, "min-area": request.min_area[0]}
    return [name for name, value in given.items() if value]


def _provenance(
    request: Request,
    predictor: Predictor,
    options: Options,
    scaled: scaling.Scaling,
    source: Source,
    started: datetime,
) -> dict[str, Any]:
    """All that is needed to repeat the prediction."""
    origin = predictor.origin
    not_a_number = request.nodata is not None and math.isnan(request.nodata)  # which JSON has not
    nodata = "nan" if not_a_number else request.nodata
    georef = source.georef
    crs = None if georef is None or georef.crs is None else georef.crs.to_wkt()
    transform = None if georef is None or georef.transform is None else list(georef.transform)[:6]
    chosen: dict[str, Any] = {"view": options.view, "threshold": options.threshold}
    if options.view == "tile":
        chosen |= {
            name: getattr(options, name) for name in ("tile", "overlap", "blend", "batch", "presence_min", "max_memory")
        }
    return {
        "image": {
            "file": str(request.image),
            "sha256": sha256(request.image),
            "width": source.width,
            "height": source.height,
            "window": None if request.window is None else list(request.window),
            "aoi": None if request.aoi is None else str(request.aoi),
            "bands": None if request.bands is None else list(request.bands),
            "nodata": nodata,
            "scaling": scaled.as_dict(),
            "crs": crs,
            "transform": transform,
        },
        "model": {
            "name": origin.model,
            "run_id": origin.run_id,
            "weights": origin.weights,
            "weights_sha256": origin.weights_sha256,
            "trained_on": origin.data,
            "views": predictor.engine.model.views,
        },
        "options": chosen,
        "polygons": {
            "min_area": f"{request.min_area[0]:g}{request.min_area[1]}",
            "simplify_px": request.simplify,
            "to_crs": request.to_crs,
        },
        "suite": {"git_sha": origin.git_sha, "versions": versions()},
        "started_utc": started.isoformat(timespec="seconds"),
    }
