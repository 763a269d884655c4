"""Own data: any dataset in a plain format, read without code (``data=custom data.root=/path/to/it``).

One JSON Lines file (UTF-8) per split, one sample per line, in the layout of `LAYOUT`::

    {"image": "images/0001.png", "expression": "the red ship", "mask": "masks/0001.png"}
    {"image": "images/0001.png", "expression": "左边的船", "mask": {"size": [800, 800], "counts": "..."}}
    {"image": "images/0002.jpg", "expression": "cars", "mask": {"size": [800, 800], "polygons": [[3, 4, 30, 4, 3, 9]]}}

Fields; all others are refused:

``image``
    path of the picture, relative to the root, with slashes; it must not leave the root, by a symbolic link neither.
``expression``
    the referring expression; taken as it is.
``mask``
    the path of a grey PNG with the levels 0 and 255 (or 0 and 1); or COCO's run-length encoding, ``counts`` being the
    compressed string or the plain list of run lengths (background first, column-major); or ``polygons``, a list of
    ``[x, y, x, y, ...]`` in pixels from the upper left corner, the target being their union. Polygons are rasterised by
    pycocotools, that is by COCO's rule, and cut off at the border; an empty list is an empty mask. ``size`` is
    [height, width]. The native size is the mask's, whatever the picture's is.
``category``
    a name; optional.
``language``
    ``"en"`` or ``"zh"``; by default ``"zh"`` where the expression has a Chinese character, else ``"en"``.
``image_id``
    which lines show the same picture; by default the image's path. Within a split one id names one file.
``sample_id``
    by default ``<split>-<line>``, the line counted from 1; unique over all splits.
``n_targets``
    how many objects the expression denotes: 0 for a no-target expression. By default 0 where the run lengths or the
    polygons are empty, else unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rrsis_bench.data.checks.fingerprint import FingerprintRow
from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.formats.columns import Rles, Shapes, Texts, areas
from rrsis_bench.data.formats.custom.files import LAYOUT, Folders, lines_of, require_files, split_path
from rrsis_bench.data.formats.custom.rows import LANGUAGES, Mask, Row, identity, parse
from rrsis_bench.data.formats.index_cache import Kept, collector_paused
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.data.pixels.images import read_rgb
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import ReferringDataset, Sample

__all__ = ["LAYOUT", "Custom", "open_split"]


def open_split(root: Path, split: str) -> Custom:
    """Open one split; see `Custom`."""
    return Custom(root, split)


class Custom(ReferringDataset):
    """One split of an own dataset, in the order of its lines.

    Raises:
        UserError: a file is missing, or a line is not as the module describes it: with the file and the line.
    """

    name = "custom"

    def __init__(self, root: Path | str, split: str):
        self.root = Path(root)
        self.split = split
        require_files(self.root)
        path = split_path(self.root, split)
        found = _read_once([path], path, split)
        if isinstance(found, str):
            raise UserError(f"{found}{self._hint}")
        if not len(found.ids):
            raise UserError(f"{path} has no line. Each split needs samples.{self._hint}")
        self._columns = found
        self._refuse_repeated_ids()
        self._refuse_missing_files(path)
        names = {category for other in SPLITS for category in _outline(self.root, other).categories}
        self.category_names = tuple(sorted(names))

    @property
    def _hint(self) -> str:
        return f" List every defect with: rrsis-bench data verify custom --root {self.root}"

    def _refuse_repeated_ids(self) -> None:
        """Refuse an id that stands twice, in one split or in two: rows of a record are told apart by it."""
        seen: dict[str, tuple[str, int]] = {}
        for split in SPLITS:
            for number, sample_id in enumerate(_outline(self.root, split).ids, start=1):
                other = seen.setdefault(sample_id, (split, number))
                if other != (split, number):
                    here, there = (f"{split_path(self.root, s)}, line {n}" for s, n in ((split, number), other))
                    raise UserError(f"{here}: the sample_id '{sample_id}' stands at {there} too.{self._hint}")

    def _refuse_missing_files(self, path: Path) -> None:
        """Refuse files that are not there or outside the root, and an image_id that names two files."""
        folders, columns = Folders(self.root), self._columns
        image_of: dict[str, str] = {}
        rows = zip(columns.images, columns.image_ids, columns.pngs, strict=True)
        for number, (image, image_id, png) in enumerate(rows, start=1):
            for what, name in (("picture", image), ("mask", png)):
                reason = folders.problem(name) if name else ""
                if reason:
                    raise UserError(f"{path}, line {number}: the {what} {self.root / name} {reason}.{self._hint}")
            other = image_of.setdefault(image_id, image)
            if other != image:
                raise UserError(
                    f"{path}, line {number}: the image_id '{image_id}' names {image}, but an earlier line's "
                    f"names {other}. One id names one picture.{self._hint}"
                )

    def __len__(self) -> int:
        """Number of lines."""
        return len(self._columns.ids)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample; nothing is read from disk."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        columns, mask = self._columns, self._columns.mask(index)
        n_targets = int(columns.n_targets_N[index])
        path = str(self.root / columns.images[index])
        return Sample(
            sample_id=columns.ids[index],
            image_id=columns.image_ids[index],
            expression=columns.expressions[index],
            language=LANGUAGES[columns.language_N[index]],
            category=columns.category(index),
            n_targets=None if n_targets < 0 else n_targets,
            read_image=partial(read_rgb, path),
            read_mask=partial(mask.read, self.root),
            read_rle=partial(mask.read_rle, self.root) if mask.png is None else None,
            image_path=path,
        )

    def fingerprint_rows(self) -> Iterator[FingerprintRow]:
        """What identifies each sample; a mask counts by its pixels, however it is written."""
        columns = self._columns
        rows = zip(columns.ids, columns.expressions, columns.images, strict=True)
        for index, (sample_id, expression, image) in enumerate(rows):
            yield FingerprintRow(
                sample_id=sample_id,
                expression=expression,
                category=columns.category(index),
                mask=_mask_bytes(columns.mask(index), self.root),
                image=self.root / image,
            )

    def files(self) -> Iterator[Path]:
        """Every file that the split is read from."""
        yield split_path(self.root, self.split)
        yield from (self.root / name for name in (*self._columns.images, *self._columns.pngs) if name)


def _mask_bytes(mask: Mask, root: Path) -> bytes:
    """Size and spans: the same for every way to write the same mask."""
    rle = mask.read_rle(root)
    spans = masks.spans_of_runs(masks.check_rle(rle))
    head = f"{rle['size'][0]} {rle['size'][1]} ".encode()
    return head + spans.start_R.astype("<i8").tobytes() + spans.stop_R.astype("<i8").tobytes()


@dataclass(frozen=True, slots=True)
class _Columns:
    """The lines of a split; every column has an entry for each line.

    Attributes:
        ids: the samples'.
        image_ids: which lines show the same picture.
        images: paths of the pictures, below the root.
        expressions: what is said.
        language_N: uint8, positions in `LANGUAGES`.
        category_N: int32, positions in `categories`, -1 for None.
        categories: the names that occur.
        n_targets_N: int64, -1 where unknown.
        pngs: paths of the masks that are PNG files; empty for others.
        rles: the masks that are run lengths; of size 0 x 0 for others.
        polygons: the masks that are polygons.
        size_N2: int32, height and width of these; 0 x 0 for others.
    """

    ids: Texts
    image_ids: Texts
    images: Texts
    expressions: Texts
    language_N: np.ndarray
    category_N: np.ndarray
    categories: tuple[str, ...]
    n_targets_N: np.ndarray
    pngs: Texts
    rles: Rles
    polygons: Shapes
    size_N2: np.ndarray

    def category(self, index: int) -> str | None:
        """The category of a line."""
        return (*self.categories, None)[self.category_N[index]]

    def mask(self, index: int) -> Mask:
        """The mask of a line."""
        if png := self.pngs[index]:
            return Mask(png=png)
        height, width = self.size_N2[index].tolist()
        if height:
            (parts,) = self.polygons[index]
            return Mask(polygons=tuple(parts), size=(height, width))
        rle = self.rles[index]
        return Mask(rle=rle, size=tuple(rle["size"]))


def _read(path: Path, split: str) -> _Columns | str:
    """The lines of a file, or what is wrong with the first one that is not sound."""
    with collector_paused():
        rows: list[Row] = []
        for number, line in lines_of(path):
            row, problems = parse(line, f"{split}-{number}", runs=False)
            if problems or row is None:
                return f"{path}, line {number}: {problems[0].message}."
            rows.append(row)
        empty: masks.Rle = {"size": [0, 0], "counts": b""}
        rles = [row.mask.rle or empty for row in rows]
        area_N = areas(rles)
        n_targets_N = np.array([-1 if row.n_targets is None else row.n_targets for row in rows], dtype=np.int64)
        compressed_N = np.array([row.mask.rle is not None for row in rows], dtype=bool)
        strange_N = compressed_N & ((area_N < 0) | ((area_N > 0) & (n_targets_N == 0)))
        if strange_N.any():
            wanted = int(strange_N.argmax()) + 1
            line = next(text for number, text in lines_of(path) if number == wanted)
            _, problems = parse(line, f"{split}-{wanted}")
            return f"{path}, line {wanted}: {problems[0].message}."
        n_targets_N[compressed_N & (area_N == 0) & (n_targets_N < 0)] = 0
        return _columns(rows, Rles.of(rles, area_N), n_targets_N)


_read_once = Kept(_read, 2 * len(SPLITS))


def _columns(rows: list[Row], rles: Rles, n_targets_N: np.ndarray) -> _Columns:
    position: dict[str, int] = {}
    for row in rows:
        if row.category is not None:
            position.setdefault(row.category, len(position))
    polygons = [row.mask.polygons for row in rows]
    sizes = [row.mask.size if row.mask.polygons is not None else (0, 0) for row in rows]
    return _Columns(
        ids=Texts(row.sample_id for row in rows),
        image_ids=Texts(row.image_id for row in rows),
        images=Texts(row.image for row in rows),
        expressions=Texts(row.expression for row in rows),
        language_N=np.array([LANGUAGES.index(row.language) for row in rows], dtype=np.uint8),
        category_N=np.array([-1 if row.category is None else position[row.category] for row in rows], dtype=np.int32),
        categories=tuple(position),
        n_targets_N=n_targets_N,
        pngs=Texts(row.mask.png or "" for row in rows),
        rles=rles,
        polygons=Shapes([] if parts is None else [list(parts)] for parts in polygons),
        size_N2=np.array(sizes, dtype=np.int32).reshape(-1, 2),
    )


class _Outline(NamedTuple):
    """Sample ids and categories of a split."""

    ids: Iterable[str]
    categories: Iterable[str]


def _outline(root: Path, split: str) -> _Outline:
    """What a split holds, also where some of its lines are not sound: another split may be opened all the same."""
    path = split_path(root, split)
    found = _read_once([path], path, split)
    if not isinstance(found, str):
        return _Outline(found.ids, found.categories)
    pairs = [identity(line, f"{split}-{number}") for number, line in lines_of(path)]
    return _Outline([sample_id for sample_id, _ in pairs], [name for _, name in pairs if name is not None])
