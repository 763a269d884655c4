"""Datasets of loose files: images, masks, and one list file per split that names a file and describes its target.

RefSegRS and RISBench are stored so::

    <root>/<images>/<name>    <root>/<masks>/<name>    <root>/output_phrase_{train,val,test}.txt

A line is a name, one space, and the expression. Both datasets are read by these rules:

- The file is UTF-8, with or without a byte order mark. Lines end in any of the three ways. Blank lines are no samples.
- The name ends at the first space. Outer spaces of the expression are removed, and several inner ones become one.
  Nothing else is changed, misspellings included.
- A name in several lines of a split gives several samples of one image and mask. The first has the name as its id, the
  k-th ``<name>-<k>``.
- Categories are read from the expressions, see `categories.py`. The number of targets is unknown.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from rrsis_bench.data.formats.directory_tree import Names, require_present
from rrsis_bench.data.formats.index import ERROR, SPLITS, WARNING, DatasetIndex, Row, natural
from rrsis_bench.data.formats.masks import FileMask
from rrsis_bench.data.pixels.mask_files import ABOVE
from rrsis_bench.data.text.categories import CategoryParser
from rrsis_bench.data.text.language import language_of
from rrsis_bench.errors import UserError

_BOM = b"\xef\xbb\xbf"
_SHOWN = 3  # examples in a finding that counts


@dataclass(frozen=True, eq=False)
class FileListFormat:
    """The differences between such datasets.

    Attributes:
        fmt: the format's name.
        title: the dataset's name for a person.
        images: folder of the images, below the root.
        masks: folder of the masks.
        suffix: the part of the file names that the lines leave out, such as ``".tif"``.
        source: where to get the dataset.
        tree: the files, drawn as a tree.
        categories: names and aliases, see `categories.py`.
    """

    fmt: str
    title: str
    images: str
    masks: str
    suffix: str
    source: str
    tree: str
    categories: Mapping[str, tuple[str, ...]]

    def image(self, root: Path, name: str) -> Path:
        """Return the image that a line names."""
        return root / self.images / (name + self.suffix)

    def mask(self, root: Path, name: str) -> Path:
        """Return the mask that a line names."""
        return root / self.masks / (name + self.suffix)

    def stem(self, name: str) -> str:
        """Return a line's name without the files' extension."""
        return name if self.suffix else PurePath(name).stem


@dataclass(frozen=True, slots=True)
class ListLine:
    """A line that is not blank.

    Attributes:
        number: from 1.
        name: up to the first space.
        expression: the rest; may be empty.
        undecodable: it has bytes that are not UTF-8 (shown as replacement characters).
    """

    number: int
    name: str
    expression: str
    undecodable: bool


def list_path(root: Path, split: str) -> Path:
    """Return the list file of a split."""
    return root / f"output_phrase_{split}.txt"


def read_lines(path: Path) -> tuple[list[ListLine], list[int]]:
    """Read a list file.

    Returns:
        Its lines, and the numbers of the blank ones before the last line with words.

    Raises:
        UserError: the file cannot be read at all.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    # Line ends as in Python's text mode, which the datasets' own loaders use; `splitlines` knows more of them.
    raw = data.removeprefix(_BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    lines, blank = [], []
    for number, content in enumerate(raw, start=1):
        try:
            text, undecodable = content.decode("utf-8"), False
        except UnicodeDecodeError:
            text, undecodable = content.decode("utf-8", errors="replace"), True
        name, _, expression = text.strip().replace("\t", " ").partition(" ")
        if name:
            lines.append(ListLine(number, name, re.sub(" {2,}", " ", expression).strip(), undecodable))
        else:
            blank.append(number)
    last = lines[-1].number if lines else 0
    return lines, [number for number in blank if number < last]


def read_index(form: FileListFormat, root: Path) -> DatasetIndex:
    """Read the list files of all splits. A missing one is a finding, so that the other splits can still be opened.

    The samples' `image_id` is None; a format whose names tell the image sets it.

    Raises:
        UserError: the dataset is missing (with where to get it), or a list file cannot be read at all.
    """
    files = tuple(path for path in (list_path(root, split) for split in SPLITS) if path.is_file())
    wanted = [root / form.images, root / form.masks, *(() if files else (list_path(root, split) for split in SPLITS))]
    require_present(form.title, root, wanted, form.source, form.tree)
    index = DatasetIndex(form.fmt, root, files, tuple(form.categories))
    parse = CategoryParser(form.categories)
    present = {folder: Names(root / folder) for folder in (form.images, form.masks)}
    images, masks = present.values()
    splits_of: dict[str, set[str]] = defaultdict(set)
    for split in SPLITS:
        path = list_path(root, split)
        if path not in files:
            index.add(ERROR, "missing_file", split, f"{path} is missing", split)
            continue
        lines, blank = read_lines(path)
        lines = [_as_stored(form, line, images) for line in lines]
        index.counts[split] = len(lines)
        for number in blank:
            index.add(WARNING, "blank_line", f"{path.name}:{number}", "is blank and not a sample", split)
        for line in lines:
            splits_of[line.name].add(split)
        ids = _sample_ids(form, lines)
        _check_lines(index, split, lines, ids)
        _check_files(index, form, split, lines, ids, present)
        categories = [parse(line.expression) for line in lines]
        _check_categories(index, form, split, lines, categories)
        for line, sample_id, category in zip(lines, ids, categories, strict=True):
            text = line.expression
            image_file, mask_file = images.find(line.name, form.suffix), masks.find(line.name, form.suffix)
            if image_file is not None and mask_file is not None:
                image, mask = f"{images.folder}/{image_file}", FileMask(f"{masks.folder}/{mask_file}", ABOVE)
                row = Row(sample_id, None, text, language_of(text), category, None, image, mask, sample_id)
                index.append(split, row)
    for name, splits in splits_of.items():
        if len(splits) > 1:
            index.add(ERROR, "id_in_two_splits", name, f"is in the splits {', '.join(sorted(splits))}")
    for folder, names in present.items():
        unused = sorted(names.present - {names.find(name, form.suffix) for name in splits_of}, key=natural)
        if unused:
            message = f"no line names {len(unused)} of its files: {_some(unused)}"
            index.add(WARNING, "unused_file", folder, message)
    return index


def _as_stored(form: FileListFormat, line: ListLine, images: Names) -> ListLine:
    """Return the line with the name of the image that it means, so that two spellings of one file are one name."""
    found = images.find(line.name, form.suffix)
    if found is None:
        return line
    return replace(line, name=PurePath(found).stem if form.suffix else found)


def _sample_ids(form: FileListFormat, lines: list[ListLine]) -> list[str]:
    """Return an id for each line: its name without extension, the k-th of one name with ``-<k>`` after it."""
    seen: Counter[str] = Counter()
    ids = []
    for line in lines:
        stem = form.stem(line.name)
        seen[stem] += 1
        ids.append(stem if seen[stem] == 1 else f"{stem}-{seen[stem]}")
    return ids


def _check_lines(index: DatasetIndex, split: str, lines: list[ListLine], ids: list[str]) -> None:
    """Add findings for ids that two lines share, repeated lines, and expressions that are empty or not UTF-8."""
    path = list_path(index.root, split)
    for sample_id, count in Counter(ids).items():
        if count > 1:
            message = f"{path} names a file so, and numbers a line of another name so. Rename one of the files"
            index.add(ERROR, "duplicate_id", sample_id, message, split)
    for (name, expression), count in Counter((line.name, line.expression) for line in lines).items():
        if count > 1:
            index.add(WARNING, "duplicate_line", name, f"{split} has '{expression}' {count} times for it", split)
    for line, sample_id in zip(lines, ids, strict=True):
        if line.undecodable:
            message = f"{path}, line {line.number}, is not UTF-8. Save the file as UTF-8"
            index.add(ERROR, "undecodable_text", f"{path.name}:{line.number}", message, split)
        elif not line.expression.isascii():
            message = f"'{line.expression}' has characters outside ASCII"
            index.add(WARNING, "non_ascii_expression", sample_id, message, split)
        if not line.expression:
            message = f"{path}, line {line.number}, has no expression"
            index.add(ERROR, "empty_expression", sample_id, message, split)


def _check_files(
    index: DatasetIndex,
    form: FileListFormat,
    split: str,
    lines: list[ListLine],
    ids: list[str],
    present: Mapping[str, Names],
) -> None:
    """Add a finding for every image and mask that is missing, with the first sample that shows it."""
    first: dict[str, str] = {}
    for line, sample_id in zip(lines, ids, strict=True):
        first.setdefault(line.name, sample_id)
    for name, where in first.items():
        for kind, folder in (("missing_image", form.images), ("missing_mask", form.masks)):
            if present[folder].find(name, form.suffix) is None:
                index.add(ERROR, kind, where, f"{folder}/{present[folder].missing(name + form.suffix)}", split)


def _check_categories(
    index: DatasetIndex, form: FileListFormat, split: str, lines: list[ListLine], categories: list[str | None]
) -> None:
    """Count the expressions that name no category."""
    pairs = zip(lines, categories, strict=True)
    unmatched = [line.expression for line, category in pairs if line.expression and category is None]
    if unmatched:
        message = f"{len(unmatched)} of {len(lines)} expressions name no category: {_some(unmatched)}"
        index.add(WARNING, "unmatched_category", split, message, split)
        index.notes[split] = (
            f"{form.title}: {len(unmatched):,} of {len(lines):,} {split} expressions name none of the "
            f"{len(form.categories)} categories. The tables count them in a row of their own.",
        )


def _some(texts: list[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts[:_SHOWN]) + (" ..." if len(texts) > _SHOWN else "")
