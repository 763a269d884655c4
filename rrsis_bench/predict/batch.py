"""Predict on many images: a folder or a list, one job per image, resumable, with one table and one GeoPackage."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rrsis_bench.codec import parse_json
from rrsis_bench.csv_files import read_csv, write_csv
from rrsis_bench.errors import UserError, reason
from rrsis_bench.files import replacing, sha256_bytes, sha256_file, write_text
from rrsis_bench.predict import job
from rrsis_bench.predict.outputs import vectors
from rrsis_bench.predict.predictor import Device, Predictor
from rrsis_bench.predict.sources.drivers import SUFFIXES
from rrsis_bench.predict.sources.opening import PLAIN
from rrsis_bench.printing import emit
from rrsis_bench.run.folder import RunFolder
from rrsis_bench.train import checkpoint, frozen

LISTS = (".txt", ".lst", ".csv", ".tsv")
SUMMARY, MERGED = "summary.csv", "predictions.gpkg"
COLUMNS = (
    "image", "status", "expression", "area_px", "objects", "score_mean", "probability_max", "seconds", "reason", "json",
)  # fmt: skip
Status = Literal["predicted", "kept", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image.

    Attributes:
        image: as the user named it.
        out: folder of its files.
        status: ``kept``: an earlier call with the same settings has predicted it.
        reason: why it failed.
        content: of ``<stem>.predict.json``; empty if it failed.
    """

    image: str
    out: str
    status: Status
    reason: str = ""
    content: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The model of a prediction, as the user named it.

    Attributes:
        run: a run or one of its checkpoints; None: `weights` is given.
        weights: a file of weights, or a checkpoint.
        model: registry name, for a file.
        overrides: Hydra overrides of the model, for a file.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    run: Path | None
    weights: Path | None
    model: str | None
    overrides: tuple[str, ...]
    device: Device

    def load(self) -> Predictor:
        """Load the model; UserError if that fails or the options do not fit."""
        if self.run is not None:
            if self.model or self.overrides:
                raise UserError("--model and --set apply to --weights only. A run records its model: remove them.")
            return Predictor.from_run(self.run, device=self.device)
        assert self.weights is not None
        return Predictor.from_weights(self.weights, self.model, self.overrides, device=self.device)

    def sha256(self) -> str:
        """Return the sha256 of the weights without loading them; UserError if they are missing or damaged."""
        path = (self.run or self.weights or Path()).expanduser()
        if path.is_file():
            return sha256_file(path)
        weights = RunFolder.open(path).weights
        problem = checkpoint.check(weights)
        if problem:
            raise UserError(
                f"The checkpoint {weights} is damaged: {problem}. Name another one, or train the run again."
            )
        return frozen.weights_sha256(weights)


def is_batch(path: Path) -> bool:
    """Return whether a path is a folder or a list of images, rather than an image."""
    return path.is_dir() or path.suffix.lower() in LISTS


def find_images(path: Path) -> list[Path]:
    """Return the images of a folder, or of a list: one per line, or the column ``image`` of a CSV file.

    The files that `rrsis-bench predict` wrote into the folder are left out. Paths in a list are relative to its folder.

    Raises:
        UserError: a folder or list without images, or one that cannot be read.
    """
    if path.is_dir():
        try:
            files = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in (*PLAIN, *SUFFIXES))
        except OSError as error:
            raise UserError(f"{path} cannot be read: {reason(error)}.") from error
        written = {str(name) for entry in path.glob("*.predict.json") for name in _content(entry).get("files", ())}
        found = [file for file in files if not file.name.startswith(".") and file.name not in written]
        if not found:
            raise UserError(f"{path} has no image. Known suffixes: {', '.join((*PLAIN, *SUFFIXES))}.")
        return found
    if path.suffix.lower() in (".csv", ".tsv"):
        names = [row.cells["image"] for row in read_csv(path, ["image"]).rows]
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {reason(error)}. Write one path per line in UTF-8.") from error
        names = [line.strip() for line in text.splitlines() if not line.startswith("#")]
    found = [path.parent / Path(name).expanduser() for name in dict.fromkeys(names) if name]
    if not found:
        raise UserError(f"{path} names no image. Write one path per line, or a CSV file with the column image.")
    return found


def requests(images: Sequence[Path], base: job.Request) -> list[job.Request]:
    """Return one request per image. Images of equal stems write into subfolders, which the path of the image names."""
    stems = Counter(image.stem for image in images)
    return [
        dataclasses.replace(
            base,
            image=image,
            out=base.out
            if stems[image.stem] == 1
            else base.out / f"{image.stem}-{sha256_bytes(str(image.absolute()).encode())[:8]}",
        )
        for image in images
    ]


def kept(request: job.Request, weights_sha256: str) -> Outcome | None:
    """Return the outcome of an earlier call with the same image, settings and weights; None if there is none."""
    content = _content(request.out / f"{request.image.stem}.predict.json")
    if request.overwrite or not content or not _is_done(request, weights_sha256, content):
        return None
    return Outcome(str(request.image), str(request.out), "kept", content=content)


def predict_one(
    request: job.Request,
    load: Callable[[], Predictor],
    warn: Callable[[str], None],
    progress: Callable[[int], Callable[[int], None]],
) -> Outcome:
    """Predict on one image; whatever goes wrong becomes the outcome's reason.

    Args:
        request: the image and the settings. Files of an earlier call with other settings are replaced.
        load: see `job.run`.
        warn: see `job.run`.
        progress: see `job.run`.

    Raises:
        Interrupted: a signal.
    """
    image, out = str(request.image), str(request.out)
    earlier = bool(_content(request.out / f"{request.image.stem}.predict.json"))
    try:
        again = dataclasses.replace(request, overwrite=request.overwrite or earlier)
        return Outcome(image, out, "predicted", content=job.run(again, load, warn, progress))
    except UserError as error:
        return Outcome(image, out, "failed", str(error))
    except Exception as error:  # noqa: BLE001 - one image must not cost the others' masks
        return Outcome(image, out, "failed", f"{type(error).__name__}: {reason(error)}")


def in_a_job(request: job.Request, source: ModelSource) -> dict[str, Any]:
    """Predict on one image in a job of a cluster; return the fields of its outcome."""

    def silent(_: int) -> None:
        return None

    outcome = predict_one(request, source.load, emit, lambda _: silent)
    emit(f"{outcome.image}  {outcome.status}  {outcome.reason}".rstrip())
    return dataclasses.asdict(outcome)


def _content(path: Path) -> dict[str, Any]:
    """Return the JSON file of an earlier call; empty if there is none."""
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_done(request: job.Request, weights_sha256: str, content: dict[str, Any]) -> bool:
    """Return whether an earlier call has predicted this image with the same settings, and its files are there."""
    try:
        image, files = content["image"], content["files"]
        if content["settings_sha256"] != job.settings_sha256(request, weights_sha256):
            return False
        if not all((request.out / name).is_file() for name in files):
            return False
        state = request.image.stat()
        same = (image["bytes"], image["modified_ns"]) == (state.st_size, state.st_mtime_ns)
        return same or image["sha256"] == sha256_file(request.image)
    except (OSError, KeyError, TypeError):
        return False


def write_summary(outcomes: Sequence[Outcome], out: Path) -> Path:
    """Write ``summary.csv``: a row per image and expression, and one row for an image that failed."""
    rows: list[dict[str, object]] = []
    for outcome in outcomes:
        row: dict[str, object] = {"image": outcome.image, "status": outcome.status}
        if not outcome.content:
            rows.append(row | {"reason": " ".join(outcome.reason.split())})
            continue
        path = Path(outcome.out) / f"{Path(outcome.image).stem}.predict.json"
        row |= {"seconds": outcome.content["seconds"], "json": path.relative_to(out).as_posix()}
        rows += [row | {name: one[name] for name in COLUMNS if name in one} for one in outcome.content["expressions"]]
    path = out / SUMMARY
    write_text(path, write_csv(COLUMNS, rows))
    return path


def merge_polygons(outcomes: Sequence[Outcome], out: Path) -> tuple[Path | None, list[str]]:
    """Write the polygons of all images into one layer of ``predictions.gpkg``.

    The layer has the images' coordinate system if they share one, else EPSG:4326. Polygons of images without one are
    in pixels and stay in the images' own files.

    Args:
        outcomes: of the images.
        out: folder of the file.

    Returns:
        The file, or None if there are no polygons with a coordinate system, and notes on what was left out.

    Raises:
        UserError: the file cannot be written.
    """
    found = [
        (outcome, Path(outcome.out) / name)
        for outcome in outcomes
        for name in outcome.content.get("files", ())
        if Path(name).suffix in vectors.FORMATS.values()
    ]
    systems = [vectors.read(path).crs for _, path in found]
    located = [(outcome, path) for (outcome, path), crs in zip(found, systems, strict=True) if crs is not None]
    notes = []
    if len(located) < len(found):
        notes.append(f"Images without a coordinate system, which are not in {MERGED}: {len(found) - len(located)}.")
    if not located:
        return None, notes if found else []
    known = [crs for crs in systems if crs is not None]
    shared = known[0] if all(crs == known[0] for crs in known) else "EPSG:4326"
    if isinstance(shared, str):
        notes.append(f"The images have several coordinate systems. {MERGED} is in EPSG:4326.")
    path = out / MERGED
    with replacing(path) as draft:
        vectors.append([(outcome.image, file) for outcome, file in located], draft, shared)
    return path, notes
