"""The check of RefSegRS's and RISBench's files; see `verify.py` for what is an error and what a warning."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from rrsis_bench.data.checks.verify import ERROR, WARNING, VerifyReport
from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.formats.file_list import Line, PhraseLayout, phrases_path, read_lines, require_layout, sample_ids
from rrsis_bench.data.pixels.images import PictureCheck, check_pictures
from rrsis_bench.data.pixels.mask_files import LEVEL, read_levels
from rrsis_bench.data.text.categories import CategoryParser
from rrsis_bench.errors import UserError

SHOWN = 3  # examples in a finding that counts


@dataclass(frozen=True, slots=True)
class _MaskCheck:
    """What decoding one mask completely showed: its (width, height) and grey levels, or why it cannot be read."""

    size: tuple[int, int] | None = None
    levels: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """A line with the id of its sample."""

    split: str
    sample_id: str
    line: Line


def verify_phrase_files(
    layout: PhraseLayout,
    picture_of: Callable[[str], str] | None,
    root: Path,
    expected_counts: dict[str, int] | None = None,
    console: Console | None = None,
) -> VerifyReport:
    """Check every line, picture and mask; files are decoded completely, on all cores.

    Args:
        layout: the dataset's.
        picture_of: the picture's id in a name without extension, where names say which pictures are the same, and
            returns the whole name where it does not say; None where they never do.
        root: the dataset's folder.
        expected_counts: published samples per split, or None.
        console: where a progress bar is shown, or None.

    Raises:
        UserError: a folder or text file is missing, or a text file cannot be read at all.
    """
    require_layout(layout, root)
    report = VerifyReport(layout.fmt, root, {}, expected_counts)
    found: list[_Found] = []
    for split in SPLITS:
        lines = _read(report, root, split)
        report.counts[split] = len(lines)
        ids = sample_ids(layout, lines)
        found += [_Found(split, sample_id, line) for sample_id, line in zip(ids, lines, strict=True)]
    report.compare_counts()
    _check_ids(report, found)
    for each in found:
        _check_expression(report, each)
    _check_categories(report, layout, found)
    pictures = _check_files(report, layout, root, found, console)
    report.compare_pictures(
        (each.split, pictures[each.line.name].sha256) for each in found if each.line.name in pictures
    )
    if picture_of is not None:
        _check_names(report, layout, picture_of, found, pictures)
    return report


def _read(report: VerifyReport, root: Path, split: str) -> list[Line]:
    """The lines of a split, with what is wrong with the file itself."""
    path = phrases_path(root, split)
    lines, blank = read_lines(path)
    if not lines:
        report.add(ERROR, "empty_split", split, f"{path.name} has no line")
    for number in blank:
        report.add(WARNING, "blank_line", f"{path.name}:{number}", "is blank and no sample")
    for line in lines:
        if line.undecodable:
            report.add(ERROR, "undecodable_text", f"{path.name}:{line.number}", "is not UTF-8")
    return lines


def _check_ids(report: VerifyReport, found: list[_Found]) -> None:
    """Names of two splits, ids that two lines share, and lines that say the same of one name."""
    splits: dict[str, set[str]] = defaultdict(set)
    ids: Counter[tuple[str, str]] = Counter()
    said: Counter[tuple[str, str, str]] = Counter()
    for each in found:
        splits[each.line.name].add(each.split)
        ids[each.split, each.sample_id] += 1
        said[each.split, each.line.name, each.line.expression] += 1
    for name, where in splits.items():
        if len(where) > 1:
            report.add(ERROR, "id_in_two_splits", name, f"stands in the splits {', '.join(sorted(where))}")
    for (split, sample_id), count in ids.items():
        if count > 1:
            message = f"{split} has a file of this name, and several lines of another that are numbered so"
            report.add(ERROR, "duplicate_id", sample_id, message)
    for (split, name, expression), count in said.items():
        if count > 1:
            report.add(WARNING, "duplicate_line", name, f"{split} says '{expression}' of it {count} times")


def _check_expression(report: VerifyReport, each: _Found) -> None:
    """Emptiness, length and script."""
    text = each.line.expression
    if not text:
        report.add(ERROR, "empty_expression", each.sample_id, "its line has no expression")
    else:
        report.add_length(each.sample_id, text)
    if not each.line.undecodable and not text.isascii():
        report.add(WARNING, "non_ascii_expression", each.sample_id, f"'{text}' holds characters outside ASCII")


def _check_categories(report: VerifyReport, layout: PhraseLayout, found: list[_Found]) -> None:
    """Per split, how many expressions name no category."""
    parser = CategoryParser(layout.categories)
    for split in SPLITS:
        texts = [each.line.expression for each in found if each.split == split and each.line.expression]
        unmatched = [text for text in texts if parser(text) is None]
        if unmatched:
            message = f"{len(unmatched)} of {len(texts)} expressions name no category: {_some(unmatched)}"
            report.add(WARNING, "unmatched_category", split, message)


def _check_files(
    report: VerifyReport, layout: PhraseLayout, root: Path, found: list[_Found], console: Console | None
) -> dict[str, PictureCheck]:
    """Every picture and mask once, noted under the first sample that shows it; returns the pictures by name."""
    first: dict[str, str] = {}
    for each in found:
        first.setdefault(each.line.name, each.sample_id)
    image_names, mask_names = set(os.listdir(root / layout.images)), set(os.listdir(root / layout.masks))
    with_image = [name for name in first if name + layout.suffix in image_names]
    with_mask = [name for name in first if name + layout.suffix in mask_names]
    checked = check_pictures([layout.image(root, name) for name in with_image], console)
    pictures = {name: checked[layout.image(root, name)] for name in with_image}
    masks = _check_masks([layout.mask(root, name) for name in with_mask], console)
    for name, where in first.items():
        file = name + layout.suffix
        if name in pictures:
            report.add_picture(where, f"{layout.images}/{file}", pictures[name])
        else:
            report.add(ERROR, "missing_image", where, f"{layout.images}/{file} is missing")
        mask = masks.get(layout.mask(root, name))
        if mask is None:
            report.add(ERROR, "missing_mask", where, f"{layout.masks}/{file} is missing")
        elif mask.problem:
            report.add(ERROR, "unreadable_mask", where, mask.problem)
        else:
            _check_mask(report, where, f"{layout.masks}/{file}", mask, pictures.get(name))
    used = {name + layout.suffix for name in first}
    for folder, present in ((layout.images, image_names), (layout.masks, mask_names)):
        unused = sorted(present - used)
        if unused:
            report.add(WARNING, "unused_file", folder, f"no line names {len(unused)} of its files: {_some(unused)}")
    return pictures


def _check_mask(report: VerifyReport, where: str, file: str, mask: _MaskCheck, picture: PictureCheck | None) -> None:
    """Grey levels and size of a mask that can be read."""
    below = sum(level <= LEVEL for level in mask.levels)
    above = len(mask.levels) - below
    if below > 1 or above > 1:
        shown = ", ".join(map(str, mask.levels[:4])) + (" ..." if len(mask.levels) > 4 else "")
        message = f"{file} has the grey levels {shown}, expected one background and one foreground above {LEVEL}"
        report.add(ERROR, "grey_levels", where, message)
    elif not above:
        report.add(WARNING, "empty_mask", where, f"{file} has no pixel above {LEVEL}")
    if picture is not None and picture.size is not None and picture.size != mask.size and mask.size is not None:
        wide, high = picture.size
        message = f"the picture is {wide} x {high}, but its mask is {mask.size[0]} x {mask.size[1]}"
        report.add(WARNING, "size_differs", where, message)


def _check_masks(paths: list[Path], console: Console | None) -> dict[Path, _MaskCheck]:
    """Decode every mask completely, on all cores."""

    def one(path: Path) -> _MaskCheck:
        try:
            level_HW = read_levels(path)
        except UserError as error:
            return _MaskCheck(problem=str(error))
        present = np.flatnonzero(np.bincount(level_HW.reshape(-1), minlength=256))
        return _MaskCheck((level_HW.shape[1], level_HW.shape[0]), tuple(present.tolist()))

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        checked: Iterable[_MaskCheck] = pool.map(one, paths)
        if console is not None:
            checked = track(checked, "decoding masks", total=len(paths), console=console, transient=True)
        return dict(zip(paths, checked, strict=True))


def _check_names(
    report: VerifyReport,
    layout: PhraseLayout,
    picture_of: Callable[[str], str],
    found: list[_Found],
    pictures: dict[str, PictureCheck],
) -> None:
    """Names that do not say which split and picture they belong to, and pictures of one id that differ."""
    seen: dict[str, tuple[str, str]] = {}
    for each in found:
        stem = layout.stem(each.line.name)
        picture_id = picture_of(stem)
        if picture_id == stem or not picture_id.startswith(f"{each.split}_"):
            message = f"is not named {each.split}_<picture>_<object>"
            report.add(WARNING, "unusual_name", each.sample_id, message)
        check = pictures.get(each.line.name)
        if check is not None and check.sha256:
            name, sha256 = seen.setdefault(picture_id, (each.line.name, check.sha256))
            if sha256 != check.sha256:
                message = f"its picture's file is not {name}'s, though both are named as picture {picture_id}"
                report.add(WARNING, "image_differs", each.sample_id, message)


def _some(texts: list[str]) -> str:
    return ", ".join(f"'{text}'" for text in texts[:SHOWN]) + (" ..." if len(texts) > SHOWN else "")
