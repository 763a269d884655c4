"""``rrsis-bench data convert``: any known dataset in the plain format of `dataset.py`.

Ids, expressions, categories and masks (as run lengths) come back the same. An image keeps its file, as a hard link if
the file system allows it and as a copy otherwise. Each image is stored once, even if the source has a file per sample.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from rrsis_bench.console import Terminal
from rrsis_bench.data.formats.dataset import IndexedDataset
from rrsis_bench.data.formats.index import SPLITS, DatasetIndex
from rrsis_bench.data.pixels.images import read_rgb
from rrsis_bench.errors import UserError
from rrsis_bench.files import sha256_file


@dataclass
class Converted:
    """The extent of a conversion.

    Attributes:
        samples: lines per split.
        images: files that were written or linked.
        linked: of these, hard links to the source's own files.
    """

    samples: dict[str, int] = field(default_factory=dict)
    images: int = 0
    linked: int = 0


def convert(index: DatasetIndex, out: Path, console: Terminal | None = None) -> Converted:
    """Write a dataset below `out`; the folder appears only when everything is written.

    Args:
        index: the dataset, from `rrsis_bench.data.formats.read_index`.
        out: a folder that does not exist yet, or is empty.
        console: where progress and the index's notes are shown, or None.

    Raises:
        UserError: the dataset has errors, `out` is not empty, the disk refuses, or two samples share an image_id and
            show different images.
    """
    splits = {split: IndexedDataset(index, split) for split in SPLITS}
    if console is not None:
        for note in (note for dataset in splits.values() for note in dataset.notes):
            console.print(note, soft_wrap=True, highlight=False)
    done = Converted()
    with _published(out) as draft, Progress(console=console, disable=console is None, transient=True) as bar:
        task = bar.add_task("converting", total=sum(map(len, splits.values())))
        for split, dataset in splits.items():
            images = _Images(draft, split, done)
            with (draft / f"{split}.jsonl").open("w", encoding="utf-8") as file:
                for place in range(len(dataset)):
                    line = _line(dataset, place, images)
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    bar.advance(task)
            done.samples[split] = len(dataset)
    return done


def _line(dataset: IndexedDataset, place: int, images: _Images) -> dict[str, Any]:
    row, image_id = dataset.rows[place], dataset.image_ids[place]
    rle = row.mask.read_rle()
    line = {
        "sample_id": row.sample_id,
        "image_id": image_id,
        "image": images.place(row.sample_id, image_id, Path(row.image)),
        "expression": row.expression,
        "language": row.language,
        "mask": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
    }
    optional = {"category": row.category, "n_targets": row.n_targets}
    return line | {name: value for name, value in optional.items() if value is not None}


class _Images:
    """Puts each image of a split once into ``images/<split>/``."""

    def __init__(self, draft: Path, split: str, done: Converted):
        self.folder = draft / "images" / split
        self.folder.mkdir(parents=True)
        self.split, self.done = split, done
        self._placed: dict[str, tuple[Path, Path]] = {}  # image_id -> (our file, its source)
        self._names: set[str] = set()

    def place(self, sample_id: str, image_id: str, source: Path) -> str:
        """Return the path below the dataset's folder of a sample's image."""
        if image_id not in self._placed:
            target = self.folder / self._free(source.name)
            self._link(source, target)
            self._placed[image_id] = (target, source)
            self.done.images += 1
        target, first = self._placed[image_id]
        if first != source and sha256_file(first) != sha256_file(source):
            self._require_same(sample_id, image_id, target, source)
        return f"images/{self.split}/{target.name}"

    def _free(self, name: str) -> str:
        stem, suffix = os.path.splitext(name)
        number = 1
        while name.casefold() in self._names:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._names.add(name.casefold())
        return name

    def _link(self, source: Path, target: Path) -> None:
        try:
            os.link(source.resolve(), target)
            self.done.linked += 1
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise UserError(f"The image {source} is missing. Restore it and convert again.") from None
            shutil.copyfile(source, target)  # another disk, or a file system without hard links

    def _require_same(self, sample_id: str, image_id: str, target: Path, source: Path) -> None:
        """Refuse two images of one image_id: the plain format has one file for it."""
        if not np.array_equal(read_rgb(target), read_rgb(source)):
            raise UserError(
                f"Sample {sample_id} of split '{self.split}' has the image_id '{image_id}' of an earlier one, but "
                f"{source} shows another image. Nothing was written. Correct the image or its name."
            )


@contextmanager
def _published(out: Path) -> Iterator[Path]:
    """Yield a temporary sibling folder that becomes `out` only when the block ends without an error."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an empty folder. Name another folder, or delete this one.")
    draft = out.parent / f".{out.name}.{os.getpid()}.partial"
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        draft.rename(out)
    except OSError as error:
        raise UserError(f"{out} could not be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
