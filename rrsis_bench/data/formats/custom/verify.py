"""The check of an own dataset's files; see `verify.py` for what is an error and what a warning."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from rrsis_bench.data.checks.verify import ERROR, WARNING, VerifyReport
from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.formats.custom.files import Folders, lines_of, require_files, split_path
from rrsis_bench.data.formats.custom.rows import Row, identity, parse
from rrsis_bench.data.formats.refer_files import language_of
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.data.pixels.images import PictureCheck, check_pictures
from rrsis_bench.errors import UserError


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that could be read, and where it stands (``train.jsonl:3``)."""

    split: str
    where: str
    row: Row


def verify_custom(
    root: Path, expected_counts: dict[str, int] | None = None, console: Console | None = None
) -> VerifyReport:
    """Check every line, picture and mask of `root`; pictures are decoded completely, on all cores.

    Raises:
        UserError: one of the three JSON Lines files is missing or cannot be opened.
    """
    require_files(root)
    report = VerifyReport("custom", root, {}, expected_counts)
    lines: list[_Line] = []
    ids: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for split in SPLITS:
        number = 0
        for number, text in lines_of(split_path(root, split)):
            where = f"{split}.jsonl:{number}"
            row, problems = parse(text, f"{split}-{number}")
            for problem in problems:
                report.add(ERROR, problem.kind, where, problem.message)
            if row is not None:
                lines.append(_Line(split, where, row))
            ids[identity(text, f"{split}-{number}")[0]].append((split, where))
        report.counts[split] = number
        if not number:
            report.add(ERROR, "empty_split", split, f"{split}.jsonl has no line")
    report.compare_counts()
    _check_ids(report, ids)
    folders = Folders(root)
    usable = _check_paths(report, lines, folders)
    pictures = check_pictures([root / name for name in sorted(usable)], console)
    for line in lines:
        _check_line(report, line, root, pictures.get(root / line.row.image), folders)
    _check_image_ids(report, lines)
    report.compare_pictures(
        (line.split, picture.sha256) for line in lines if (picture := pictures.get(root / line.row.image)) is not None
    )
    return report


def _check_ids(report: VerifyReport, ids: dict[str, list[tuple[str, str]]]) -> None:
    for sample_id, found in ids.items():
        if len(found) < 2:
            continue
        first, *rest = [where for _, where in found]
        kind = "id_in_two_splits" if len({split for split, _ in found}) > 1 else "duplicate_id"
        report.add(ERROR, kind, rest[0], f"the sample_id '{sample_id}' stands at {', '.join([first, *rest[1:]])} too")


def _check_paths(report: VerifyReport, lines: list[_Line], folders: Folders) -> set[str]:
    """The pictures that are there; every line that names another one is noted."""
    usable = set()
    for line in lines:
        reason = folders.problem(line.row.image)
        if not reason:
            usable.add(line.row.image)
        else:
            kind = "missing_image" if reason == "is missing" else "path_outside"
            report.add(ERROR, kind, line.where, f"{line.row.image} {reason}")
    return usable


def _check_line(report: VerifyReport, line: _Line, root: Path, picture: PictureCheck | None, folders: Folders) -> None:
    """Every defect of a line's picture, mask and expression."""
    row = line.row
    if picture is not None:
        report.add_picture(line.where, row.image, picture)
    report.add_length(line.where, row.expression)
    if row.language != language_of(row.expression):
        message = f"'language' is {row.language}, but the expression looks like {language_of(row.expression)}"
        report.add(WARNING, "language_differs", line.where, message)
    size = _check_mask(report, line, root, folders)
    if picture is not None and picture.size is not None and size is not None and picture.size != (size[1], size[0]):
        report.add(
            WARNING, "size_differs", line.where,
            f"{row.image} is {picture.size[0]} x {picture.size[1]}, but its mask is {size[1]} x {size[0]}",
        )  # fmt: skip


def _check_mask(report: VerifyReport, line: _Line, root: Path, folders: Folders) -> tuple[int, int] | None:
    """Defects of the mask; its height and width where it can be read."""
    row = line.row
    reason = "" if row.mask.png is None else folders.problem(row.mask.png)
    if reason:
        kind = "missing_mask" if reason == "is missing" else "path_outside"
        report.add(ERROR, kind, line.where, f"{row.mask.png} {reason}")
        return None
    try:
        rle = row.mask.read_rle(root)
    except UserError as error:
        report.add(ERROR, "unreadable_mask", line.where, str(error))
        return None
    empty = masks.area(rle) == 0
    if empty and row.n_targets:
        report.add(WARNING, "empty_mask", line.where, f"'n_targets' is {row.n_targets}, but its mask has no pixel")
    if not empty and row.n_targets == 0 and row.mask.png is not None:
        report.add(ERROR, "target_mismatch", line.where, "'n_targets' is 0, but its mask is not empty")
    height, width = rle["size"]
    return height, width


def _check_image_ids(report: VerifyReport, lines: list[_Line]) -> None:
    """Within a split one image_id names one file."""
    image_of: dict[tuple[str, str], str] = {}
    for line in lines:
        other = image_of.setdefault((line.split, line.row.image_id), line.row.image)
        if other != line.row.image:
            message = f"the image_id '{line.row.image_id}' names {line.row.image}, but an earlier line's names {other}"
            report.add(ERROR, "image_id_mismatch", line.where, message)
