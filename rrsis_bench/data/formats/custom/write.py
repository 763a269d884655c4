"""``rrsis-bench data convert``: any known dataset in the plain format of `custom.py`.

Everything goes through `Sample`: ids, expressions, categories and masks (as run lengths) come back the same. A picture
keeps its file where the dataset names one, as a hard link where the file system allows it and as a copy elsewhere;
otherwise it is written as PNG. Each picture is stored once, also where the source has a file per sample.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from rrsis_bench.data.checks.fingerprint import FingerprintRow
from rrsis_bench.data.formats import SPLITS, open_split
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import ReferringDataset, Sample

TARGETS = ("custom",)


@dataclass
class Converted:
    """What was written.

    Attributes:
        samples: lines per split.
        pictures: files that were written or linked.
        linked: of these, hard links to the source's own files.
    """

    samples: dict[str, int] = field(default_factory=dict)
    pictures: int = 0
    linked: int = 0


def convert(
    fmt: str, root: Path, out: Path, console: Console | None = None, options: Mapping[str, Any] | None = None
) -> Converted:
    """Write the dataset at `root` below `out`; the folder appears only when everything is written.

    Args:
        fmt: its on-disk format, such as ``"rrsisd"``.
        root: its folder.
        out: a folder that does not exist yet, or is empty.
        console: where progress is shown, and what the reader says of the files, or None.
        options: ``data.options`` of the format's reader, such as ``{"language": "all"}``.

    Raises:
        UserError: the dataset cannot be read, `out` is not empty, the disk refuses, or two samples share an image_id
            and show different pictures.
    """
    splits = {split: open_split(fmt, Path(root), split, options) for split in SPLITS}
    if console is not None:
        for note in (note for dataset in splits.values() for note in dataset.notes):
            console.print(escape(note), soft_wrap=True, highlight=False)
    total = sum(len(dataset) for dataset in splits.values())
    done = Converted()
    with _published(Path(out)) as draft, Progress(console=console, disable=console is None, transient=True) as bar:
        task = bar.add_task("converting", total=total)
        for split, dataset in splits.items():
            pictures = _Pictures(draft, split, done)
            files = _files(dataset)
            with (draft / f"{split}.jsonl").open("w", encoding="utf-8") as file:
                for sample in (dataset[index] for index in range(len(dataset))):
                    image = pictures.place(sample, files.get(sample.sample_id))
                    file.write(json.dumps(_line(sample, image), ensure_ascii=False) + "\n")
                    bar.advance(task)
            done.samples[split] = len(dataset)
    return done


def _files(dataset: ReferringDataset) -> dict[str, Path]:
    """Sample id -> picture file, where the dataset names them."""
    rows: Any = getattr(dataset, "fingerprint_rows", None)
    found: Iterator[FingerprintRow] = iter(()) if rows is None else rows()
    return {row.sample_id: row.image for row in found}


def _line(sample: Sample, image: str) -> dict[str, Any]:
    rle = sample.read_rle() if sample.read_rle is not None else masks.encode(sample.read_mask())
    line = {
        "sample_id": sample.sample_id,
        "image_id": sample.image_id,
        "image": image,
        "expression": sample.expression,
        "language": sample.language,
        "mask": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
    }
    optional = {"category": sample.category, "n_targets": sample.n_targets}
    return line | {name: value for name, value in optional.items() if value is not None}


class _Pictures:
    """Puts each picture of a split once into ``images/<split>/``."""

    def __init__(self, draft: Path, split: str, done: Converted):
        self.folder = draft / "images" / split
        self.folder.mkdir(parents=True)
        self.split, self.done = split, done
        self._placed: dict[str, tuple[Path, Path | None]] = {}  # image_id -> (our file, its source)
        self._names: set[str] = set()
        self._digests: dict[Path, str] = {}

    def place(self, sample: Sample, source: Path | None) -> str:
        """The path below the dataset's folder of a sample's picture."""
        if sample.image_id not in self._placed:
            target = self.folder / self._free(source.name if source else f"{len(self._placed):06d}.png")
            self._write(sample, source, target)
            self._placed[sample.image_id] = (target, source)
            self.done.pictures += 1
            return f"images/{self.split}/{target.name}"
        target, first = self._placed[sample.image_id]
        if first is None or source is None or (first != source and self._digest(first) != self._digest(source)):
            self._require_same(sample, target, source)
        return f"images/{self.split}/{target.name}"

    def _free(self, name: str) -> str:
        stem, suffix = os.path.splitext(name)
        number = 1
        while name.casefold() in self._names:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._names.add(name.casefold())
        return name

    def _write(self, sample: Sample, source: Path | None, target: Path) -> None:
        if source is None:
            Image.fromarray(sample.read_image()).save(target, "PNG")
            return
        try:
            os.link(source.resolve(), target)
            self.done.linked += 1
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise UserError(f"The picture {source} is missing.") from None
            shutil.copyfile(source, target)  # another disk, or a file system without hard links

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            with path.open("rb") as file:
                self._digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[path]

    def _require_same(self, sample: Sample, target: Path, source: Path | None) -> None:
        """Refuse two pictures of one image_id: the plain format has one file for it."""
        from rrsis_bench.data.pixels.images import read_rgb

        if not np.array_equal(read_rgb(target), sample.read_image()):
            raise UserError(
                f"Sample {sample.sample_id} of split '{self.split}' has the image_id '{sample.image_id}' of an earlier "
                f"one, but {source or 'its picture'} shows another picture. Nothing was written."
            )


@contextmanager
def _published(out: Path) -> Iterator[Path]:
    """Give a temporary sibling folder that becomes `out` only when the block ends without an error."""
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
