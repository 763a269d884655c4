"""One split of a dataset of loose files; `phrase_files.py` describes them."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rrsis_bench.data.checks.fingerprint import FingerprintRow
from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.formats.columns import Texts
from rrsis_bench.data.formats.file_list import Line, PhraseLayout, phrases_path, read_lines, require_layout, sample_ids
from rrsis_bench.data.formats.index_cache import Kept, collector_paused
from rrsis_bench.data.formats.refer_files import language_of
from rrsis_bench.data.pixels.images import read_rgb
from rrsis_bench.data.pixels.mask_files import read_mask
from rrsis_bench.data.text.categories import CategoryParser
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import ReferringDataset, Sample


class PhraseDataset(ReferringDataset):
    """One split, in the order of its lines.

    Raises:
        UserError: the dataset is missing (with where to get it), the text file is no UTF-8 or has no line, a line has
            no expression, a picture or mask is missing, or a name stands in two splits.
    """

    layout: PhraseLayout

    def __init__(self, root: Path | str, split: str):
        self.root = Path(root)
        self.split = split
        require_layout(self.layout, self.root, (split,))
        self._columns = _columns(self.layout, self.root, split)
        self.category_names = tuple(self.layout.categories)
        if self._columns.damage:
            raise UserError(f"{self._columns.damage} {self._hint}")
        self._refuse_repeated_ids()
        self._refuse_missing_files()
        self._image_ids: Texts | None = None
        self.unmatched = int((self._columns.category_N < 0).sum())
        if self.unmatched:
            self.notes = (
                f"{self.layout.title}: {self.unmatched:,} of {len(self):,} {split} expressions name none of the "
                f"{len(self.category_names)} categories and stand in the tables' row for unmatched ones.",
            )

    @property
    def _hint(self) -> str:
        return f"List every defect with: rrsis-bench data verify {self.layout.fmt} --root {self.root}"

    def _refuse_repeated_ids(self) -> None:
        """Refuse a name of two splits, and a name that is also the numbered id of another."""
        repeated = [sample_id for sample_id, count in Counter(self._columns.ids).items() if count > 1]
        if repeated:
            raise UserError(
                f"{phrases_path(self.root, self.split)}: the name '{repeated[0]}' is also the id of another line, "
                f"whose name stands there several times. Rename one of the files. {self._hint}"
            )
        own = set(self._columns.ids)
        for split in SPLITS:
            path = phrases_path(self.root, split)
            if split == self.split or not path.exists():
                continue
            for sample_id in _columns(self.layout, self.root, split).ids:
                if sample_id in own:
                    raise UserError(
                        f"'{sample_id}' stands in {phrases_path(self.root, self.split)} and in {path}: a sample of "
                        f"one split cannot be in another. {self._hint}"
                    )

    def _refuse_missing_files(self) -> None:
        """Refuse names without a picture or a mask."""
        for what, folder in (("pictures", self.layout.images), ("masks", self.layout.masks)):
            present = set(os.listdir(self.root / folder))
            files = dict.fromkeys(name + self.layout.suffix for name in self._columns.names)
            missing = [name for name in files if name not in present]
            if missing:
                shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
                raise UserError(
                    f"{len(missing)} of {len(files)} {what} of split '{self.split}' are missing in "
                    f"{self.root / folder}: {shown} Unpack the dataset again. {self._hint}"
                )

    def __len__(self) -> int:
        """Number of lines."""
        return len(self._columns.ids)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample; nothing is read from disk but, once per object, what `image_ids` needs."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        columns = self._columns
        name, expression = columns.names[index], columns.expressions[index]
        path = str(self.layout.image(self.root, name))
        return Sample(
            sample_id=columns.ids[index],
            image_id=self.image_ids[index],
            expression=expression,
            language=language_of(expression),
            category=self._category(index),
            n_targets=None,
            read_image=partial(read_rgb, path),
            read_mask=partial(read_mask, str(self.layout.mask(self.root, name))),
            image_path=path,
        )

    def _category(self, index: int) -> str | None:
        """The text-derived category; None where the expression names none."""
        return (*self.category_names, None)[self._columns.category_N[index]]

    @property
    def image_ids(self) -> Sequence[str]:
        """One id per sample, equal where samples show the same picture; found once per object."""
        if self._image_ids is None:
            self._image_ids = Texts(self._find_image_ids(list(self._columns.names)))
        return self._image_ids

    @abstractmethod
    def _find_image_ids(self, names: list[str]) -> list[str]:
        """An id for each of the lines' names, equal where samples show the same picture."""

    def fingerprint_rows(self) -> Iterator[FingerprintRow]:
        """What identifies each sample; masks count by their files."""
        columns = self._columns
        rows = zip(columns.ids, columns.expressions, columns.names, strict=True)
        for index, (sample_id, expression, name) in enumerate(rows):
            yield FingerprintRow(
                sample_id=sample_id,
                expression=expression,
                category=self._category(index),
                mask=self.layout.mask(self.root, name),
                image=self.layout.image(self.root, name),
            )

    def files(self) -> Iterator[Path]:
        """Every file that the split is read from."""
        yield phrases_path(self.root, self.split)
        for name in self._columns.names:
            yield from (self.layout.image(self.root, name), self.layout.mask(self.root, name))


@dataclass(frozen=True, slots=True)
class _Columns:
    """The lines of a split.

    Attributes:
        names: the files'.
        expressions: what is said of them.
        ids: the samples'.
        category_N: int8, positions in the layout's categories, -1 where an expression names none.
        damage: what is wrong with the first line that is not sound; empty where nothing is.
    """

    names: Texts
    expressions: Texts
    ids: Texts
    category_N: np.ndarray
    damage: str


def _columns(layout: PhraseLayout, root: Path, split: str) -> _Columns:
    """The lines of a split; a file that has not changed is read once."""
    path = phrases_path(root, split)
    return _read_once([path], layout, path)


def _read(layout: PhraseLayout, path: Path) -> _Columns:
    with collector_paused():
        lines, _ = read_lines(path)
        parser = CategoryParser(layout.categories)
        position = {name: index for index, name in enumerate(parser.names)}
        found = (parser(line.expression) for line in lines)
        return _Columns(
            names=Texts(line.name for line in lines),
            expressions=Texts(line.expression for line in lines),
            ids=Texts(sample_ids(layout, lines)),
            category_N=np.fromiter((-1 if name is None else position[name] for name in found), np.int8, len(lines)),
            damage=_damage(path, lines),
        )


_read_once = Kept(_read, 2 * len(SPLITS))


def _damage(path: Path, lines: list[Line]) -> str:
    """A file without samples, or a line that is not a name and an expression."""
    if not lines:
        return f"{path} has no line. Fetch the file again."
    for line in lines:
        if line.undecodable:
            return f"{path}, line {line.number}, is not UTF-8. Save the file as UTF-8."
        if not line.expression:
            return f"{path}, line {line.number}: '{line.name}' has no expression."
    return ""
