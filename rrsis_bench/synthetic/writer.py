"""Writes synthetic scenes in the on-disk layout of a real data set, so that the real loader reads them.

A layout is one function that takes the scenes' parts in order and writes the index files, registered in `FORMATS`;
rendering, progress and atomic publication are shared.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rrsis_bench.data.formats import file_list_write as layout_phrases
from rrsis_bench.data.formats.nwpu_refer import write as layout_nwpu
from rrsis_bench.errors import UserError
from rrsis_bench.synthetic.scene import render_scene
from rrsis_bench.synthetic.spec import RRSISD_CATEGORIES, SPLITS, SceneSpec

SPEC_FILE = "spec.json"
JPEG_QUALITY = 92
# Fixed, so that neither the work's division nor the order of results depends on the number of processes.
CHUNK = 16


@dataclass(frozen=True)
class Part:
    """One expression with its picture, ready to be written.

    Attributes:
        split: ``"train"``, ``"val"`` or ``"test"``.
        text: the expression.
        category: RRSIS-D's name of the noun's category.
        size: height, width in pixels.
        rle: COCO run lengths of the target as text.
        box: x1, y1, x2, y2 of the target; zeros for an empty one.
        area: the target's pixels.
        picture: the picture's file, JPEG but for the layouts in ENCODERS.
        scene: number of the scene within its split.
        objects: number within the scene, RRSIS-D's category and COCO run lengths of every object denoted; none for a
            no-target expression. Their union is the target.
    """

    split: str
    text: str
    category: str
    size: tuple[int, int]
    rle: str
    box: tuple[int, int, int, int]
    area: int
    picture: bytes
    scene: int = 0
    objects: tuple[tuple[int, str, str], ...] = ()


def _encode_image(image_HW3: np.ndarray) -> bytes:
    """Return the JPEG file of a uint8 (H, W, 3) picture; fixed quality and chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(image_HW3).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _encode_mask(mask_HW: np.ndarray) -> str:
    """Return COCO's run lengths of a bool (H, W) mask as text."""
    return str(coco_mask.encode(np.asfortranarray(mask_HW.astype(np.uint8)))["counts"].decode("ascii"))


def _box(mask_HW: np.ndarray) -> tuple[int, int, int, int]:
    """Return x1, y1, x2, y2 of a bool (H, W) mask, the last row and column included, zeros for an empty one."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def scene_parts(
    spec: SceneSpec, split: str, index: int, encode: Callable[[np.ndarray], bytes] = _encode_image
) -> list[Part]:
    """Render one scene and return one part per expression, the picture as the file that `encode` makes of it."""
    scene = render_scene(spec, split, index)
    picture = encode(scene.image_HW3)
    objects = [(number, item.category, _encode_mask(item.mask_HW)) for number, item in enumerate(scene.objects)]
    parts = []
    for expression in scene.expressions:
        mask_HW = scene.target_HW(expression)
        rle, area, box = _encode_mask(mask_HW), int(np.count_nonzero(mask_HW)), _box(mask_HW)
        denoted = tuple(objects[number] for number in expression.targets)
        parts.append(
            Part(split, expression.text, expression.category, scene.shape, rle, box, area, picture, index, denoted)
        )
    return parts


# Layouts whose pictures are no JPEG files.
ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "refsegrs": layout_phrases.encode_tiff,
    "risbench": layout_phrases.encode_png,
}


def _render_chunk(job: tuple[SceneSpec, str, int, int, str]) -> list[Part]:
    """Render scenes start..stop of a split for a layout; runs in a worker process."""
    spec, split, start, stop, fmt = job
    parts = partial(scene_parts, encode=ENCODERS[fmt]) if fmt in ENCODERS else scene_parts
    return [part for index in range(start, stop) for part in parts(spec, split, index)]


def _write_rrsisd(parts: Iterable[Part], root: Path) -> None:
    """Write RRSIS-D's layout below `root`.

    As published, every image id carries one annotation and one sentence, so the expressions of one scene are image ids
    of their own with equal pictures. Annotations say ``categories_id``, references ``category_id``; ``segmentation``
    is a list of one compressed RLE; ``bbox`` is x1, y1, x2, y2; ``area`` is the sum of a mask of 255.
    """
    pictures = root / "images" / "rrsisd" / "JPEGImages"
    pictures.mkdir(parents=True)
    refs: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, part in enumerate(parts, start=1):
        name = f"{number:05d}.jpg"
        category_id = RRSISD_CATEGORIES.index(part.category)
        (pictures / name).write_bytes(part.picture)
        height, width = part.size
        sentence = {"tokens": part.text.split(" "), "raw": part.text, "sent_id": number, "sent": part.text}
        refs.append(
            {
                "image_id": number,
                "split": part.split,
                "sentences": [sentence],
                "file_name": name,
                "category_id": category_id,
                "ann_id": number,
                "sent_ids": [number],
                "ref_id": number,
            }
        )
        images.append({"file_name": name, "height": height, "width": width, "id": number})
        annotations.append(
            {
                "bbox": list(part.box),
                "categories_id": category_id,
                "id": number,
                "image_id": number,
                "segmentation": [{"size": [height, width], "counts": part.rle}],
                "area": 255 * part.area,
            }
        )
    categories = [{"supercategory": "object", "id": i, "name": name} for i, name in enumerate(RRSISD_CATEGORIES)]
    index = root / "rrsisd"
    index.mkdir()
    # A pickle notes which strings are one object, and that depends on the process they come from: rebuild them all.
    rebuilt = json.loads(json.dumps(refs))
    (index / "refs(unc).p").write_bytes(pickle.dumps(rebuilt, protocol=4))
    instances = {"images": images, "annotations": annotations, "categories": categories}
    (index / "instances.json").write_text(json.dumps(instances), encoding="utf-8")


FORMATS: dict[str, Callable[[Iterable[Part], Path], None]] = {
    "rrsisd": _write_rrsisd,
    "nwpu_refer": layout_nwpu.write,
    "refsegrs": layout_phrases.write_refsegrs,
    "risbench": layout_phrases.write_risbench,
}


@contextmanager
def _published(out: Path, spec: SceneSpec, fmt: str) -> Iterator[Path]:
    """Give a temporary sibling folder that becomes `out` only when the block ends without an error."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            f"synthetic scenes: {out} exists and is not an empty folder. Name another folder, or delete this one."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.parent / f".{out.name}.{os.getpid()}.partial"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        try:
            draft.rename(out)
        except OSError:
            # Another process may have finished the same data set meanwhile; anything else stands in the way.
            if not is_complete(spec, out, fmt):
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def synthesize(
    spec: SceneSpec, out: Path, fmt: str = "rrsisd", *, workers: int | None = None, progress: bool = True
) -> None:
    """Write the data set of `spec` below `out`; the same spec gives the same bytes for any number of processes.

    Beside the layout's own files a ``spec.json`` records what the folder holds; `is_complete` reads it.

    Args:
        spec: counts, size, seed and options.
        out: a folder that does not exist yet, or is empty. It appears only when everything is written.
        fmt: a key of FORMATS.
        workers: processes; None takes one per available core.
        progress: show a progress bar.

    Raises:
        UserError: for an unknown format, or an `out` that is not empty.
    """
    if fmt not in FORMATS:
        raise UserError(f"synthetic scenes: no format named {fmt!r}; choose from {', '.join(FORMATS)}.")
    out = Path(out)
    jobs = [
        (spec, split, start, min(start + CHUNK, spec.scenes(split)), fmt)
        for split in SPLITS
        for start in range(0, spec.scenes(split), CHUNK)
    ]
    count = max(1, min(workers or _cores(), len(jobs)))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with _published(out, spec, fmt) as draft, Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("drawing scenes", total=sum(spec.scenes(split) for split in SPLITS))

        def parts() -> Iterator[Part]:
            for job, chunk in zip(jobs, _chunks(jobs, count), strict=True):
                yield from chunk
                bar.advance(task, job[3] - job[2])

        FORMATS[fmt](parts(), draft)
        (draft / SPEC_FILE).write_text(json.dumps(spec.to_json(fmt), indent=1) + "\n", encoding="utf-8")


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chunks(jobs: list[tuple[SceneSpec, str, int, int, str]], workers: int) -> Iterator[list[Part]]:
    """Yield the chunks of parts in order, rendered in this process or in `workers` spawned ones."""
    if workers == 1:
        yield from map(_render_chunk, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_render_chunk, jobs)


def is_complete(spec: SceneSpec, out: Path, fmt: str = "rrsisd") -> bool:
    """Return whether `out` holds exactly the data set of `spec` in this generator's version."""
    try:
        found = json.loads((Path(out) / SPEC_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False
    return bool(found == spec.to_json(fmt))
