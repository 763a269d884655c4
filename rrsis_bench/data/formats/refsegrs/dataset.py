"""RefSegRS: 4,420 expressions on crops of 512 x 512 px at 0.13 m, 14 categories (Yuan et al., TGRS 2024).

On disk: see `LAYOUT` and `phrase_files.py`. Facts of the format that a reader has to know:

- A line's name has no extension: ``1361 paved road``. It names the picture and the mask; lines share a name only if
  they share both.
- A mask is one channel, foreground above 50. It often shows several objects ("vehicles along the road").
- No category is stored: they are read from the expressions, with FIANet's fourteen names.
- The crops come from 285 scenes that the files do not name. Crops of one scene are no independent samples, so the
  intervals of any result are too narrow.
- Another division, with 2,264 training samples and files named ``annotations_*``, circulates: it is not this one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rrsis_bench.data.formats.file_list import REFSEGRS
from rrsis_bench.data.formats.file_list_dataset import PhraseDataset
from rrsis_bench.errors import UserError

LAYOUT = REFSEGRS.tree

_SAMPLED = 16 * 1024  # bytes at three places tell nearly all files of one size apart


def open_split(root: Path, split: str) -> RefSegRS:
    """Open one split; see `RefSegRS`."""
    return RefSegRS(root, split)


class RefSegRS(PhraseDataset):
    """One split of RefSegRS, or of whatever is written in its layout; errors as `PhraseDataset`."""

    name = "refsegrs"
    layout = REFSEGRS

    def _find_image_ids(self, names: list[str]) -> list[str]:
        """The name of the first sample of the split whose picture file is equal byte for byte."""
        single = list(dict.fromkeys(names))
        first = equal_files([self.layout.image(self.root, name) for name in single])
        of_name = dict(zip(single, (single[index] for index in first), strict=True))
        return [of_name[name] for name in names]


def equal_files(paths: Sequence[Path]) -> list[int]:
    """For each file the position of the first one that holds the same bytes.

    Uncompressed pictures share one size. So files of one size are compared by three small stretches first, and read
    as a whole only where these agree too.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        rough = [_stretches(path) for path in paths]
        counts = Counter(rough)
        keys = [key if counts[key] == 1 else (*key, _whole(path)) for key, path in zip(rough, paths, strict=True)]
    except OSError as error:
        raise UserError(f"Cannot read {error.filename}: {error.strerror or error}.") from None
    first: dict[tuple[int | bytes, ...], int] = {}
    return [first.setdefault(key, index) for index, key in enumerate(keys)]


def _stretches(path: Path) -> tuple[int | bytes, ...]:
    """A file's size, and a hash of its beginning, middle and end."""
    size, digest = path.stat().st_size, hashlib.sha256()
    with open(path, "rb") as file:
        for start in (0, size // 2, max(0, size - _SAMPLED)):
            file.seek(start)
            digest.update(file.read(_SAMPLED))
    return size, digest.digest()


def _whole(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
