"""Write synthetic scenes in the on-disk format of a real dataset, so that the real loader reads them.

``rrsis_bench/data/formats/<format>/write.py`` takes the samples in order and writes the files. Rendering, progress and
atomic publication are shared and are here.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rrsis_bench.codec import parse_json
from rrsis_bench.console import Terminal
from rrsis_bench.data.formats import SPLITS, format_module
from rrsis_bench.data.formats.scenes import SceneSample, encode_image
from rrsis_bench.data.pixels import rle
from rrsis_bench.errors import UserError
from rrsis_bench.stop import ignore_interrupts
from rrsis_bench.synthetic.scene import render_scene
from rrsis_bench.synthetic.spec import SceneSpec

SPEC_FILE = "spec.json"
JPEG_QUALITY = 92
# Fixed, so that neither the work's division nor the order of results depends on the number of processes.
CHUNK = 16
FEW = 64
"""Up to this many scenes, starting processes takes longer than drawing them."""


def encode_jpeg(image_HW3: np.ndarray) -> bytes:
    """Return the JPEG file of a uint8 (H, W, 3) image, with fixed quality and chroma subsampling."""
    return encode_image(image_HW3, "JPEG", quality=JPEG_QUALITY, subsampling=0)


def _encode_mask(mask_HW: np.ndarray) -> str:
    """Return COCO's run lengths of a bool (H, W) mask as text."""
    return str(rle.encode(mask_HW)["counts"].decode("ascii"))


def _box(mask_HW: np.ndarray) -> tuple[int, int, int, int]:
    """Return x1, y1, x2, y2 of a bool (H, W) mask, the last row and column included, zeros for an empty one."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def scene_samples(
    spec: SceneSpec, split: str, index: int, encode: Callable[[np.ndarray], bytes] = encode_jpeg
) -> list[SceneSample]:
    """Render one scene and return one sample per expression, with the image as the file that `encode` makes of it."""
    scene = render_scene(spec, split, index)
    image = encode(scene.image_HW3)
    objects = [(number, item.category, _encode_mask(item.mask_HW)) for number, item in enumerate(scene.objects)]
    samples = []
    for expression in scene.expressions:
        mask_HW = scene.target_HW(expression)
        counts, area, box = _encode_mask(mask_HW), int(np.count_nonzero(mask_HW)), _box(mask_HW)
        denoted = tuple(objects[number] for number in expression.targets)
        text, category = expression.text, expression.category
        samples.append(SceneSample(split, text, category, scene.shape, counts, box, area, image, index, denoted))
    return samples


def _render_chunk(job: tuple[SceneSpec, str, int, int, str]) -> list[SceneSample]:
    """Render scenes start..stop of a split for a format; runs in a worker process."""
    spec, split, start, stop, fmt = job
    encode = getattr(format_module(fmt, "write"), "encode", encode_jpeg)
    return [sample for index in range(start, stop) for sample in scene_samples(spec, split, index, encode)]


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
            # Another process may have finished the same dataset in the meantime; anything else is an error.
            if not is_complete(spec, out, fmt):
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def synthesize(
    spec: SceneSpec, out: Path, fmt: str = "rrsisd", *, workers: int | None = None, progress: bool = True
) -> None:
    """Write the data set of `spec` below `out`; the same spec gives the same bytes for any number of processes.

    Beside the format's own files a ``spec.json`` records what the folder holds; `is_complete` reads it.

    Args:
        spec: counts, size, seed and options.
        out: a folder that does not exist yet, or is empty. It appears only when everything is written.
        fmt: a format with a ``write`` module.
        workers: processes; None takes one per available core, and this one alone for up to `FEW` scenes.
        progress: show a progress bar.

    Raises:
        UserError: for an unknown format, an `out` that is not empty, or a script that lets no process start.
    """
    writer = format_module(fmt, "write")
    out = Path(out)
    jobs = [
        (spec, split, start, min(start + CHUNK, spec.scenes(split)), fmt)
        for split in SPLITS
        for start in range(0, spec.scenes(split), CHUNK)
    ]
    scenes = sum(spec.scenes(split) for split in SPLITS)
    count = max(1, min(workers or (1 if scenes <= FEW else _cores()), len(jobs)))
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with _published(out, spec, fmt) as draft, Progress(*columns, console=Terminal(), disable=not progress) as bar:
        task = bar.add_task("drawing scenes", total=scenes)

        def samples() -> Iterator[SceneSample]:
            for job, chunk in zip(jobs, _chunks(jobs, count), strict=True):
                yield from chunk
                bar.advance(task, job[3] - job[2])

        writer.write(samples(), draft)
        (draft / SPEC_FILE).write_text(json.dumps(spec.to_json(fmt), indent=1) + "\n", encoding="utf-8")


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chunks(jobs: list[tuple[SceneSpec, str, int, int, str]], workers: int) -> Iterator[list[SceneSample]]:
    """Yield the chunks of samples in order, rendered in this process or in `workers` spawned ones."""
    if workers == 1:
        yield from map(_render_chunk, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=ignore_interrupts) as pool:
        try:
            yield from pool.map(_render_chunk, jobs)
        except BrokenProcessPool as error:
            raise UserError(
                "The processes that draw scenes ended at once. In a Python script, put the call below "
                '`if __name__ == "__main__":`, or write the scenes first with `rrsis-bench data synthesize`.'
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)  # after a signal, do not draw the remaining scenes


def is_complete(spec: SceneSpec, out: Path, fmt: str = "rrsisd") -> bool:
    """Return whether `out` holds exactly the data set of `spec` in this generator's version."""
    try:
        found = parse_json((Path(out) / SPEC_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return False
    return bool(found == spec.to_json(fmt))
