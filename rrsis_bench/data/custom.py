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

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from rrsis_bench.data import SPLITS, masks
from rrsis_bench.data.custom_files import LAYOUT, Folders, lines_of, require_files, split_path
from rrsis_bench.data.custom_rows import Mask, Row, identity, parse
from rrsis_bench.data.fingerprint import FingerprintRow
from rrsis_bench.data.images import read_rgb
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
        self._rows = list(_strict(path, split))
        if not self._rows:
            raise UserError(f"{path} has no line. Each split needs samples.{self._hint}")
        self._refuse_repeated_ids()
        self._refuse_missing_files(path)
        names = {category for other in SPLITS for _, category in _outline(self.root, other) if category is not None}
        self.category_names = tuple(sorted(names))

    @property
    def _hint(self) -> str:
        return f" List every defect with: rrsis-bench data verify custom --root {self.root}"

    def _refuse_repeated_ids(self) -> None:
        """Refuse an id that stands twice, in one split or in two: rows of a record are told apart by it."""
        seen: dict[str, str] = {}
        for split in SPLITS:
            for number, (sample_id, _) in enumerate(_outline(self.root, split), start=1):
                here = f"{split_path(self.root, split)}, line {number}"
                if sample_id in seen:
                    raise UserError(f"{here}: the sample_id '{sample_id}' stands at {seen[sample_id]} too.{self._hint}")
                seen[sample_id] = here

    def _refuse_missing_files(self, path: Path) -> None:
        """Refuse files that are not there or outside the root, and an image_id that names two files."""
        folders = Folders(self.root)
        image_of: dict[str, str] = {}
        for number, row in enumerate(self._rows, start=1):
            for what, name in (("picture", row.image), ("mask", row.mask.png)):
                reason = folders.problem(name) if name is not None else ""
                if reason:
                    raise UserError(f"{path}, line {number}: the {what} {self.root / str(name)} {reason}.{self._hint}")
            other = image_of.setdefault(row.image_id, row.image)
            if other != row.image:
                raise UserError(
                    f"{path}, line {number}: the image_id '{row.image_id}' names {row.image}, but an earlier line's "
                    f"names {other}. One id names one picture.{self._hint}"
                )

    def __len__(self) -> int:
        """Number of lines."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample; nothing is read from disk."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        row = self._rows[index]
        return Sample(
            sample_id=row.sample_id,
            image_id=row.image_id,
            expression=row.expression,
            language=row.language,
            category=row.category,
            n_targets=row.n_targets,
            read_image=partial(read_rgb, str(self.root / row.image)),
            read_mask=partial(row.mask.read, self.root),
            read_rle=partial(row.mask.read_rle, self.root) if row.mask.png is None else None,
        )

    def fingerprint_rows(self) -> Iterator[FingerprintRow]:
        """What identifies each sample; a mask counts by its pixels, however it is written."""
        for row in self._rows:
            yield FingerprintRow(
                sample_id=row.sample_id,
                expression=row.expression,
                category=row.category,
                mask=_mask_bytes(row.mask, self.root),
                image=self.root / row.image,
            )


def _mask_bytes(mask: Mask, root: Path) -> bytes:
    """Size and spans: the same for every way to write the same mask."""
    rle = mask.read_rle(root)
    spans = masks.spans_of_runs(masks.check_rle(rle))
    head = f"{rle['size'][0]} {rle['size'][1]} ".encode()
    return head + spans.start_R.astype("<i8").tobytes() + spans.stop_R.astype("<i8").tobytes()


def _strict(path: Path, split: str) -> Iterator[Row]:
    """The rows of a file; raises UserError at the first problem."""
    for number, line in lines_of(path):
        row, problems = parse(line, f"{split}-{number}")
        if problems or row is None:
            raise UserError(
                f"{path}, line {number}: {problems[0].message}. "
                f"List every defect with: rrsis-bench data verify custom --root {path.parent}"
            )
        yield row


def _outline(root: Path, split: str) -> tuple[tuple[str, str | None], ...]:
    """Sample id and category of every line of a split; a file that has not changed is read once."""
    path = split_path(root, split)
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    return _read_outline(path.absolute(), split, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=len(SPLITS))
def _read_outline(path: Path, split: str, *_: Any) -> tuple[tuple[str, str | None], ...]:
    return tuple(identity(line, f"{split}-{number}") for number, line in lines_of(path))
