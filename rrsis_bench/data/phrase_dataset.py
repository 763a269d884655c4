"""One split of a dataset of loose files; `phrase_files.py` describes them."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from rrsis_bench.data import SPLITS
from rrsis_bench.data.categories import CategoryParser
from rrsis_bench.data.fingerprint import FingerprintRow
from rrsis_bench.data.images import read_rgb
from rrsis_bench.data.mask_files import read_mask
from rrsis_bench.data.phrase_files import Line, PhraseLayout, phrases_path, read_lines, require_layout, sample_ids
from rrsis_bench.data.refer_files import language_of
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
        parser = CategoryParser(self.layout.categories)
        self.category_names = parser.names
        lines, _ = read_lines(phrases_path(self.root, split))
        self._refuse_bad_lines(lines)
        self._names = [line.name for line in lines]
        self._expressions = [line.expression for line in lines]
        self._ids = sample_ids(self.layout, lines)
        self._refuse_repeated_ids()
        self._refuse_missing_files()
        self._image_ids: list[str] | None = None
        # Positions in `category_names`; one past the end where an expression names none.
        position = {name: index for index, name in enumerate(parser.names)}
        found = (parser(expression) for expression in self._expressions)
        self._category_N = np.fromiter(
            (len(position) if name is None else position[name] for name in found), np.uint8, len(lines)
        )
        self.unmatched = int((self._category_N == len(position)).sum())
        if self.unmatched:
            self.notes = (
                f"{self.layout.title}: {self.unmatched:,} of {len(self):,} {split} expressions name none of the "
                f"{len(position)} categories and stand in the tables' row for unmatched ones.",
            )

    @property
    def _hint(self) -> str:
        return f"List every defect with: rrsis-bench data verify {self.layout.fmt} --root {self.root}"

    def _refuse_bad_lines(self, lines: list[Line]) -> None:
        """Refuse a file without samples, and lines that are not a name and an expression."""
        path = phrases_path(self.root, self.split)
        if not lines:
            raise UserError(f"{path} has no line. Fetch the file again.")
        for line in lines:
            if line.undecodable:
                raise UserError(f"{path}, line {line.number}, is not UTF-8. Save the file as UTF-8. {self._hint}")
            if not line.expression:
                raise UserError(f"{path}, line {line.number}: '{line.name}' has no expression. {self._hint}")

    def _refuse_repeated_ids(self) -> None:
        """Refuse a name of two splits, and a name that is also the numbered id of another."""
        repeated = [sample_id for sample_id, count in Counter(self._ids).items() if count > 1]
        if repeated:
            raise UserError(
                f"{phrases_path(self.root, self.split)}: the name '{repeated[0]}' is also the id of another line, "
                f"whose name stands there several times. Rename one of the files. {self._hint}"
            )
        own = set(self._ids)
        for split in SPLITS:
            path = phrases_path(self.root, split)
            if split == self.split or not path.exists():
                continue
            for sample_id in sample_ids(self.layout, read_lines(path)[0]):
                if sample_id in own:
                    raise UserError(
                        f"'{sample_id}' stands in {phrases_path(self.root, self.split)} and in {path}: a sample of "
                        f"one split cannot be in another. {self._hint}"
                    )

    def _refuse_missing_files(self) -> None:
        """Refuse names without a picture or a mask."""
        for what, folder in (("pictures", self.layout.images), ("masks", self.layout.masks)):
            present = set(os.listdir(self.root / folder))
            files = dict.fromkeys(name + self.layout.suffix for name in self._names)
            missing = [name for name in files if name not in present]
            if missing:
                shown = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
                raise UserError(
                    f"{len(missing)} of {len(files)} {what} of split '{self.split}' are missing in "
                    f"{self.root / folder}: {shown} Unpack the dataset again. {self._hint}"
                )

    def __len__(self) -> int:
        """Number of lines."""
        return len(self._ids)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample; nothing is read from disk but, once per object, what `image_ids` needs."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return Sample(
            sample_id=self._ids[index],
            image_id=self.image_ids[index],
            expression=self._expressions[index],
            language=language_of(self._expressions[index]),
            category=self._category(index),
            n_targets=None,
            read_image=partial(read_rgb, str(self.layout.image(self.root, self._names[index]))),
            read_mask=partial(read_mask, str(self.layout.mask(self.root, self._names[index]))),
        )

    def _category(self, index: int) -> str | None:
        """The text-derived category; None where the expression names none."""
        return (*self.category_names, None)[self._category_N[index]]

    @property
    def image_ids(self) -> list[str]:
        """One id per sample, equal where samples show the same picture; found once per object."""
        if self._image_ids is None:
            self._image_ids = self._find_image_ids()
        return self._image_ids

    @abstractmethod
    def _find_image_ids(self) -> list[str]:
        """An id per sample, equal where samples show the same picture."""

    def fingerprint_rows(self) -> Iterator[FingerprintRow]:
        """What identifies each sample; masks count by their files."""
        for index, name in enumerate(self._names):
            yield FingerprintRow(
                sample_id=self._ids[index],
                expression=self._expressions[index],
                category=self._category(index),
                mask=self.layout.mask(self.root, name),
                image=self.layout.image(self.root, name),
            )
