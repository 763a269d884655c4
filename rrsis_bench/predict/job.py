"""Run one call of ``rrsis-bench predict``, which writes all of its files or none."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from rrsis_bench.codec import parse_json
from rrsis_bench.csv_files import read_csv, read_text
from rrsis_bench.errors import UserError, reason, unknown
from rrsis_bench.files import replacing_all, sha256_bytes, sha256_file
from rrsis_bench.predict import pipeline
from rrsis_bench.predict.frame_words import frame_words
from rrsis_bench.predict.outputs import sinks, vectors
from rrsis_bench.predict.outputs.overlay import Overlay
from rrsis_bench.predict.outputs.polygons import Polygoniser
from rrsis_bench.predict.outputs.rasters import open_writer
from rrsis_bench.predict.pipeline import Options, Sink
from rrsis_bench.predict.predictor import Predictor
from rrsis_bench.predict.sources import scaling
from rrsis_bench.predict.sources.aoi import AreaOfInterest
from rrsis_bench.predict.sources.opening import open_source
from rrsis_bench.predict.sources.raster import EXTRA, installed, require
from rrsis_bench.predict.sources.source import Cropped, Source, Window
from rrsis_bench.printing import printable
from rrsis_bench.run.provenance import versions

VECTORS = ("auto", "none", *vectors.FORMATS)


@dataclass(frozen=True, slots=True)
class Request:
    """What to predict and write. The fields are the options of the command line.

    Attributes:
        image: the file.
        expressions: in order, at least one.
        out: folder for the files.
        options: fields of `rrsis_bench.predict.pipeline.Options`.
        window: x, y, width, height in pixels, or None.
        aoi: a file of polygons, or None.
        bands, nodata, scale: how the image is read.
        min_area: smallest object and its unit, ``px`` or ``m2``.
        simplify: pixels.
        save_prob, overlay: whether to write these files.
        vector: one of `VECTORS`.
        to_crs: CRS of the polygons; None: the image's.
        overwrite: whether to replace existing files.
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
    """Predict and write the files; return the content of ``<stem>.predict.json``.

    Args:
        request: checked, with the image and the folder, before the model is loaded.
        load: loads the predictor.
        warn: called with each warning for the user.
        progress: called once with the number of steps; returns a function that is called with finished steps.

    Raises:
        UserError: the request does not fit, or the prediction failed. No file was written or replaced.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    check(request)
    with _open(request) as source:
        files = _files(request, source)
        stale = _written_before(files["json"][0], request.image.stem)
        with _named_errors(request.out):  # before the model is loaded
            request.out.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=request.out).close()
        scaled = scaling.decide(source, request.scale)
        predictor = load()
        options = predictor.options(request.options)
        warnings = predictor.read(request.expressions, options, source)
        for line in warnings:
            warn(line)
        paths = [path for each in files.values() for path in each]
        content = _provenance(request, predictor, options, scaled, source, started) | {"warnings": warnings}
        with _named_errors(request.out):
            with replacing_all(paths) as drafts:
                draft = {kind: [drafts[path] for path in each] for kind, each in files.items()}
                content["expressions"] = _write(request, predictor, options, scaled, source, draft, progress)
                content["seconds"] = round(time.perf_counter() - clock, 2)
                content["files"] = [path.name for path in paths]
                text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
                draft["json"][0].write_text(text, encoding="utf-8")
            for path in stale.difference(paths):
                path.unlink(missing_ok=True)
    return content


@contextmanager
def _named_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder} cannot be written to: {reason(error)}. Choose another folder with -o.") from error


def _files(request: Request, source: Source) -> dict[str, list[Path]]:
    """Return the paths to write by kind: json, mask, prob, vector, overlay.

    Raises:
        UserError: one exists and may not be replaced.
    """
    stem, count = request.image.stem, len(request.expressions)
    numbers = [""] if count == 1 else [f".{index + 1:0{max(3, len(str(count)))}d}" for index in range(count)]
    tiff = source.georef is not None or request.image.suffix.lower() in (".tif", ".tiff")
    names = {"json": [f"{stem}.predict.json"]}
    for kind in ("mask", "prob") if request.save_prob else ("mask",):
        names[kind] = [f"{stem}.{kind}.tif"] if tiff else [f"{stem}.{kind}{number}.png" for number in numbers]
    vector = _vector_format(request, source)
    if vector != "none":
        names["vector"] = [stem + vectors.FORMATS[vector]]
    if request.overlay:
        names["overlay"] = [f"{stem}.overlay.png"]
    files = {kind: [request.out / name for name in each] for kind, each in names.items()}
    for path in (path for paths in files.values() for path in paths):
        if path.is_dir():
            raise UserError(f"{path} is a folder, but a file of that name has to be written. Choose another -o.")
        if path.exists() and not request.overwrite:
            raise UserError(f"{path} exists. Choose another folder with -o, or replace it with --overwrite.")
    return files


def _write(
    request: Request,
    predictor: Predictor,
    options: Options,
    scaled: scaling.Scaling,
    source: Source,
    files: dict[str, list[Path]],
    progress: Callable[[int], Callable[[int], None]],
) -> list[dict[str, Any]]:
    """Predict into `files`; return the JSON's rows, one per expression."""
    meta = predictor.tags(options, scaled, request.image.name)
    expressions, count, size = request.expressions, len(request.expressions), (source.height, source.width)
    writers = {
        kind: open_writer(files[kind], *size, expressions, source.georef, meta, probabilities=kind == "prob")
        for kind in ("mask", "prob")
        if kind in files
    }
    statistics = sinks.StatisticsSink(count)
    minimum, unit = request.min_area
    polygons = [Polygoniser(minimum if unit == "px" else 0) for _ in range(count)]
    overlay = Overlay(*size, expressions)
    receivers: list[Sink] = [statistics, *(sinks.RasterSink(made, kind == "prob") for kind, made in writers.items())]
    if "vector" in files:
        receivers.append(sinks.PolygonSink(polygons))
    if "overlay" in files:
        receivers.append(sinks.OverlaySink(overlay, source, scaled))
    step = progress(pipeline.steps(source, count, options))
    pipeline.predict(source, predictor.engine, count, options, scaled, receivers, step)
    for made in writers.values():
        made.close()
    objects: list[int | None] = [None] * count
    if "vector" in files:
        table = vectors.to_table(
            [one.finish() for one in polygons],
            expressions,
            source.georef,
            size,
            meta,
            simplify=request.simplify,
            min_area_m2=minimum if unit == "m2" else 0,
        )
        objects = [int((table["expression_id"] == index).sum()) for index in range(count)]
        vectors.write(table, files["vector"][0], to_crs=request.to_crs)
    if "overlay" in files:
        overlay.save(files["overlay"][0])
    return [
        {
            "expression": expression,
            "frame_words": frame_words(expression),
            "area_px": statistics.area[index],
            "score_mean": statistics.score(index),
            "probability_max": statistics.largest[index],
            "objects": objects[index],
        }
        for index, expression in enumerate(expressions)
    ]


def settings_sha256(request: Request, weights_sha256: str) -> str:
    """Return a sha256 over everything that decides the files of an image, beside the image itself.

    Args:
        request: its image and its folder do not count.
        weights_sha256: of the model.
    """
    values = asdict(request) | {"weights": weights_sha256, "aoi": None}
    if request.aoi is not None and request.aoi.is_file():
        values["aoi"] = sha256_file(request.aoi)
    for name in ("image", "out", "overwrite"):
        del values[name]
    return sha256_bytes(json.dumps(values, sort_keys=True).encode())


def _written_before(path: Path, stem: str) -> set[Path]:
    """Return the files of an earlier call, as its JSON lists them. Those with other numbers must not remain."""
    try:
        names = parse_json(path.read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    own = (name for name in names if isinstance(name, str) and Path(name).name == name and name.startswith(f"{stem}."))
    return {path.with_name(name) for name in own}


def read_expressions(path: Path) -> list[str]:
    """Read expressions: the column ``expression`` of a CSV file with a header, or one per line of another file.

    Raises:
        UserError: no such file, not UTF-8, no such column, a damaged row, or no expression.
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        table = read_csv(path, ["expression"])
        found = []
        for row in table.rows:
            expression = row.cells["expression"]
            if not expression:
                raise table.error(row, "no expression, but other cells. Write one, or remove the row")
            if "\n" in expression or "\r" in expression:
                raise table.error(row, "a line break inside the expression. Close its quote, or write a space instead")
            found.append(expression)
    else:
        lines = re.split(r"\r\n|\r|\n", read_text(path))
        found = [line.strip() for line in lines if line.strip()]
    if not found:
        raise UserError(f"{path} contains no expression.")
    return found


def parse_area(text: str) -> tuple[float, str]:
    """Parse ``20px``, ``20`` or ``5m2`` into (number, unit); UserError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(px|m2)?", text.strip())
    if match is None:
        raise UserError(f"min-area={text} must be a number with px or m2, such as 20px or 5m2.")
    return float(match[1]), match[2] or "px"


def check(request: Request) -> None:
    """Refuse what can be refused without opening the image."""
    if not request.expressions:
        raise UserError("There is no expression to predict. Give one after the image, with -e or --expressions.")
    for expression in request.expressions:
        if printable(expression) != expression:  # files cut it at such a character, or cannot hold it
            raise UserError(f"The expression '{printable(expression)}' has a control character. Write it without.")
    if request.vector not in VECTORS:
        raise unknown("vector", request.vector, VECTORS)
    if request.vector not in ("auto", "none") or request.to_crs is not None:
        require("Making polygons")
    if request.vector == "parquet" and not importlib.util.find_spec("pyarrow"):
        raise UserError(f"vector=parquet needs pyarrow, which is not installed: {EXTRA}")
    if request.window is not None and request.aoi is not None:
        raise UserError("Give window or aoi, not both.")
    if request.simplify < 0:
        raise UserError(f"simplify={request.simplify:g} must be at least 0 pixels.")
    if request.vector == "none":
        for name in _polygon_options(request):
            raise UserError(f"{name} applies to polygons, but vector=none writes none. Remove one of them.")
    if request.to_crs is not None:
        vectors.check_crs(request.to_crs)
    Options.parse(request.options, tile=1)


def _open(request: Request) -> Source:
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


def _vector_format(request: Request, source: Source) -> str:
    """Return the format of the polygons. ``auto`` is a GeoPackage for a georeferenced image, else none."""
    located = source.georef is not None and source.georef.located
    if request.vector == "auto":
        for name in _polygon_options(request) if not located else ():
            raise UserError(f"{name} applies to polygons, but {source.name} is not georeferenced. Add --vector gpkg.")
        return "gpkg" if located and installed() else "none"
    if not located and (request.vector == "geojson" or request.to_crs):
        raise UserError(f"{source.name} is not georeferenced. Write polygons in pixels with --vector gpkg or parquet.")
    if not located and request.min_area[1] == "m2":
        raise UserError(f"{source.name} is not georeferenced. Give min-area in pixels, such as 20px.")
    return request.vector


def _polygon_options(request: Request) -> list[str]:
    """Return the given options that apply to polygons only."""
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
    """Return everything that is needed to repeat the prediction."""
    origin = predictor.origin
    not_a_number = request.nodata is not None and math.isnan(request.nodata)  # JSON has no NaN
    nodata = "nan" if not_a_number else request.nodata
    georef = source.georef
    crs = None if georef is None or georef.crs is None else georef.crs.to_wkt()
    transform = None if georef is None or georef.transform is None else list(georef.transform)[:6]
    applied = {"view": options.view, "threshold": options.threshold}
    state = request.image.stat()
    return {
        "image": {
            "file": str(request.image),
            "sha256": sha256_file(request.image),
            "bytes": state.st_size,
            "modified_ns": state.st_mtime_ns,
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
        "options": applied | (asdict(options) if options.view == "tile" else {}),
        "polygons": {
            "min_area": f"{request.min_area[0]:g}{request.min_area[1]}",
            "simplify_px": request.simplify,
            "to_crs": request.to_crs,
        },
        "settings_sha256": settings_sha256(request, origin.weights_sha256),
        "suite": {"git_sha": origin.git_sha, "versions": versions()},
        "started_utc": started.isoformat(timespec="seconds"),
    }
