"""One split of an indexed dataset, as the loaders and the evaluation use it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence
from functools import partial
from pathlib import Path

from rrsis_bench.data.formats.index import SPLITS, DatasetIndex, Row
from rrsis_bench.data.pixels.images import read_rgb
from rrsis_bench.errors import UserError, unknown
from rrsis_bench.files import sha256_file
from rrsis_bench.interfaces import ReferringDataset, Sample

_SAMPLED = 16 * 1024  # bytes at three places tell nearly all files of one size apart


class IndexedDataset(ReferringDataset):
    """One split of any format.

    Attributes:
        root: the dataset's folder.
        rows: the samples as the index files give them.

    Raises:
        UserError: unknown split, one that the dataset does not have, or the index files have errors that affect it; the
            message names them.
    """

    def __init__(self, index: DatasetIndex, split: str):
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        if split in index.absent:
            raise UserError(index.absent[split])
        index.require_readable((split,))
        self.name, self.root, self.split = index.fmt, index.root, split
        self.category_names = index.category_names
        self.notes = index.notes.get(split, ())
        self.rows: Sequence[Row] = index.rows[split]
        self._image_ids: list[str] | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample. No image is decoded; the first call may compare image files, see `image_ids`."""
        row = self.rows[index]
        return Sample(
            sample_id=row.sample_id,
            image_id=self.image_ids[index],
            expression=row.expression,
            language=row.language,
            category=row.category,
            n_targets=row.n_targets,
            read_image=partial(read_rgb, row.image),
            read_mask=row.mask.read,
            read_rle=row.mask.read_rle if row.mask.compressed else None,
            image_path=row.image,
        )

    @property
    def image_ids(self) -> list[str]:
        """The image id of every sample.

        For formats that store an image once per sample without naming it, equal files are found on first use. The id is
        then the file name of the split's first sample with that image.
        """
        if self._image_ids is None:
            given = [row.image_id for row in self.rows]
            if None in given:
                paths = [Path(row.image) for row in self.rows]
                self._image_ids = [paths[first].stem for first in equal_files(paths)]
            else:
                self._image_ids = [str(image_id) for image_id in given]
        return self._image_ids


def equal_files(paths: Sequence[Path]) -> list[int]:
    """Return for each file the position of the first file with the same bytes.

    Files are compared by size first, files of equal size by three short stretches, and whole files only if these agree.

    Raises:
        UserError: a file cannot be read.
    """
    single = list(dict.fromkeys(paths))
    try:
        keys: list[tuple[Hashable, ...]] = [(path.stat().st_size,) for path in single]
        for detail in (_stretches, sha256_file):
            counts = Counter(keys)
            keys = [(*key, detail(path)) if counts[key] > 1 else key for key, path in zip(keys, single, strict=True)]
    except OSError as error:
        raise UserError(f"Cannot read {error.filename}: {error.strerror or error}.") from None
    key_of = dict(zip(single, keys, strict=True))
    first: dict[tuple[Hashable, ...], int] = {}
    return [first.setdefault(key_of[path], index) for index, path in enumerate(paths)]


def _stretches(path: Path) -> bytes:
    """Return a hash of a file's beginning, middle and end."""
    size, digest = path.stat().st_size, hashlib.sha256()
    with open(path, "rb") as file:
        for start in (0, size // 2, max(0, size - _SAMPLED)):
            file.seek(start)
            digest.update(file.read(_SAMPLED))
    return digest.digest()
