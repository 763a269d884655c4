"""`rrsis-bench data verify`: every defect of a dataset in one pass.

Errors would stop or falsify a run. Warnings are known quirks of the public files (empty masks, a few images whose size
differs from their mask's) and facts for a reader of the results (shared images, other counts).

The format checks the index files while it reads them. Here every image and mask is decoded once, by rules that are the
same for all formats.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import track
from rich.table import Table
from rich.text import Text

from rrsis_bench.console import Terminal
from rrsis_bench.data.formats.index import ERROR, SPLITS, WARNING, DatasetIndex, Finding, Row, natural
from rrsis_bench.data.formats.masks import MaskCheck
from rrsis_bench.data.pixels.images import ImageCheck, check_images
from rrsis_bench.data.text.language import words_of

LONG_EXPRESSION_WORDS = 60
"""Above this an expression is more likely a broken line than a sentence; RRSIS-D's longest has about twenty words."""


@dataclass(slots=True)
class VerifyReport:
    """The result of a pass over a dataset.

    Attributes:
        index: the dataset.
        expected: samples per split as published, or None if nothing is expected.
        findings: every defect.
    """

    index: DatasetIndex
    expected: Mapping[str, int] | None = None
    findings: list[Finding] = field(default_factory=list)

    def add(self, severity: str, kind: str, where: str, message: str, split: str | None = None) -> None:
        """Add a defect."""
        self.findings.append(Finding(severity, kind, where, message, split))

    @property
    def errors(self) -> list[Finding]:
        """Findings that stop or falsify a run."""
        return [finding for finding in self.findings if finding.severity == ERROR]

    @property
    def warnings(self) -> list[Finding]:
        """Findings that a run tolerates."""
        return [finding for finding in self.findings if finding.severity == WARNING]

    @property
    def ok(self) -> bool:
        """Whether a run may use the dataset."""
        return not self.errors


def verify(
    index: DatasetIndex, expected: Mapping[str, int] | None = None, *, console: Terminal | None = None
) -> VerifyReport:
    """Decode every image and mask of a dataset, on all cores, and collect every defect.

    A sample with an error in the index files may be left out of `index.rows`. Its image and mask are then not checked.

    Args:
        index: the dataset, from `rrsis_bench.data.formats.read_index`.
        expected: published samples per split, or None.
        console: where progress bars are shown, or None.
    """
    report = VerifyReport(index, expected, list(index.findings))
    for split, n in (expected or {}).items():
        if index.counts[split] != n:
            message = f"{index.counts[split]} samples, the published split has {n}: rows on it are shown unranked"
            report.add(WARNING, "count", split, message, split)
    rows = [(split, row) for split in SPLITS for row in index.rows[split]]
    checked = check_images([Path(row.image) for _, row in rows], console)
    images = {str(path): image for path, image in checked.items()}
    _check_images(report, rows, images)
    masks = _decode_masks([row for _, row in rows], console)
    first_of_mask: dict[bytes, Row] = {}
    sizes: set[tuple[str, tuple[int, int] | None]] = set()  # image and mask size, each compared once
    for split, row in rows:
        mask = masks.pop(_mask_key(row), None)
        _check_expression(report, split, row)
        if mask is not None:
            _check_mask(report, split, row, mask)
            if mask.digest is not None:
                _compare_masks(report, split, row, first_of_mask.setdefault(mask.digest, row), images)
            if (row.image, mask.size) not in sizes:
                sizes.add((row.image, mask.size))
                _compare_sizes(report, split, row, images[row.image], mask)
    _compare_splits(report, rows, images)
    report.findings = list(dict.fromkeys(report.findings))  # two languages of one reference have the same mask
    return report


def _mask_key(row: Row) -> object:
    """Return what names a mask: its file, if it has one, which several samples may share."""
    return row.sample_id if row.mask.compressed else row.mask.identity()


def _decode_masks(rows: list[Row], console: Terminal | None) -> dict[object, MaskCheck]:
    """Check every mask once, on all cores."""
    wanted = {_mask_key(row): row.mask for row in rows}
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        found = pool.map(lambda mask: mask.check(), wanted.values())
        shown = track(found, "decoding masks", len(wanted), console=console, transient=True, disable=console is None)
        return dict(zip(wanted, shown, strict=True))


def _check_images(report: VerifyReport, rows: list[tuple[str, Row]], images: Mapping[str, ImageCheck]) -> None:
    """Add the defects of every image file with the first sample that shows it; equal image ids need equal files."""
    seen: set[str] = set()
    first_of_id: dict[tuple[str, str], str] = {}
    for split, row in rows:
        if row.image in seen:
            continue
        seen.add(row.image)
        image, name = images[row.image], Path(row.image).name
        if image.kind:
            report.add(ERROR, image.kind, row.where, f"{row.image} {image.message}", split)
        for kind, message in image.quirks:
            report.add(WARNING, kind, row.where, f"{name} {message}", split)
        if row.image_id is not None:
            first = first_of_id.setdefault((split, row.image_id), row.image)
            if image.sha256 and images[first].sha256 and image.sha256 != images[first].sha256:
                message = f"{name} differs from {Path(first).name}, although both are image {row.image_id}"
                report.add(WARNING, "image_differs", row.where, message, split)


def _check_expression(report: VerifyReport, split: str, row: Row) -> None:
    """Add a finding for an expression that is too long to be one."""
    words = len(words_of(row.expression))
    if words > LONG_EXPRESSION_WORDS:
        report.add(WARNING, "long_expression", row.where, f"{words} words: a model sees only the first", split)


def _check_mask(report: VerifyReport, split: str, row: Row, mask: MaskCheck) -> None:
    """Add the defects of a mask."""
    if mask.error is not None:
        report.add(ERROR, mask.error[0], row.where, mask.error[1], split)
        return
    for kind, message in mask.warnings:
        report.add(WARNING, kind, row.where, message, split)
    if mask.area == 0 and row.n_targets != 0:
        report.add(WARNING, "empty_mask", row.where, "the mask has no pixel", split)
    if mask.area and row.n_targets == 0:
        report.add(ERROR, "target_mismatch", row.where, "'n_targets' is 0, but the mask is not empty", split)


def _compare_masks(report: VerifyReport, split: str, row: Row, first: Row, images: Mapping[str, ImageCheck]) -> None:
    """Warn of two mask files with the same pixels; lines that name one file share it on purpose."""
    if first.mask.identity() != row.mask.identity():
        same = images[row.image].sha256 == images[first.image].sha256
        message = f"its mask has the same pixels as that of {first.where}, on {'the same' if same else 'another'} image"
        report.add(WARNING, "shared_mask", row.where, message, split)


def _compare_sizes(report: VerifyReport, split: str, row: Row, image: ImageCheck, mask: MaskCheck) -> None:
    """Warn of a mask whose size is not the image's."""
    if mask.size is not None and image.size is not None and image.size != mask.size[::-1]:
        message = (
            f"{Path(row.image).name} is {image.size[0]} x {image.size[1]}, but its mask is {mask.size[1]} x "
            f"{mask.size[0]} (width x height)"
        )
        report.add(WARNING, "size_differs", row.where, message, split)


def _compare_splits(report: VerifyReport, rows: list[tuple[str, Row]], images: Mapping[str, ImageCheck]) -> None:
    """Warn of images, by content, that a held-out split shares with training."""
    seen: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for split, row in rows:
        if images[row.image].sha256:
            seen[split][images[row.image].sha256] += 1
    for split in SPLITS[1:]:
        shared = [digest for digest in seen[split] if digest in seen["train"]]
        if shared:
            samples = sum(seen[split][digest] for digest in shared)
            message = f"{samples} samples show {len(shared)} images that train shows too (equal files)"
            report.add(WARNING, "shared_image", split, message, split)


def print_report(report: VerifyReport, console: Terminal, *, per_kind: int = 20) -> None:
    """Print the findings and a summary table.

    Args:
        report: from `verify`.
        console: where to.
        per_kind: findings of one kind that are listed; the table counts them all.
    """
    index, expected = report.index, report.expected or {}
    for note in (note for split in SPLITS for note in index.notes.get(split, ())):
        console.print(note, soft_wrap=True, highlight=False)
    shown: Counter[str] = Counter()
    for finding in sorted(report.findings, key=lambda f: (f.severity, f.kind, natural(f.where))):
        shown[finding.kind] += 1
        if shown[finding.kind] <= per_kind:
            colour = "red" if finding.severity == ERROR else "yellow"
            text = f"{finding.kind} {finding.where}: {finding.message}"
            console.print(Text.assemble((finding.severity, colour), f" {text}"), soft_wrap=True)
    for kind, count in sorted(shown.items()):
        if count > per_kind:
            console.print(f"... and {count - per_kind} more of kind {kind}", highlight=False)

    splits = Table("split", title=f"{index.fmt} in {index.root}", title_justify="left")
    splits.add_column("samples", justify="right")
    splits.add_column("published", justify="right")
    for split in SPLITS:
        splits.add_row(split, str(index.counts[split]), str(expected.get(split, "")))
    console.print(splits)
    if report.findings:
        kinds = Table("severity", "kind", title="findings", title_justify="left")
        kinds.add_column("count", justify="right")
        for (severity, kind), count in sorted(Counter((f.severity, f.kind) for f in report.findings).items()):
            kinds.add_row(severity, kind, str(count))
        console.print(kinds)
    verdict = ("usable", "green") if report.ok else ("not usable until the errors are repaired", "red")
    console.print(Text.assemble(f"{len(report.errors)} errors, {len(report.warnings)} warnings: ", verdict))
