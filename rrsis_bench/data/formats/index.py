"""A dataset as its index files describe it: the samples of every split, and every defect that was found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rrsis_bench.config import schema
from rrsis_bench.data.formats.masks import StoredMask
from rrsis_bench.errors import UserError

SPLITS: tuple[str, ...] = schema.SPLITS
ERROR, WARNING = "error", "warning"

DIFFERS = "differs_from_description"
"""Kind of the findings about a copy that is not as the dataset's authors describe it."""

SHOWN = 20
"""Errors that a message names. It counts all of them."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect.

    Attributes:
        severity: ``"error"`` or ``"warning"``.
        kind: a short fixed name, such as ``"truncated_image"``.
        where: the sample's id, the file or the split.
        message: what is wrong, for a person.
        split: the split whose samples it makes wrong; None: all of them.
    """

    severity: str
    kind: str
    where: str
    message: str
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One sample of an index.

    Attributes:
        sample_id: stable and unique over all splits.
        image_id: equal for samples that show the same image; None: found by comparing the image files.
        expression: the referring expression.
        language: ``"en"`` or ``"zh"``.
        category: its name, or None.
        n_targets: objects that the expression denotes; None where unknown.
        image: path of the image file.
        mask: the target mask, not yet decoded.
        where: how a finding names the sample.
    """

    sample_id: str
    image_id: str | None
    expression: str
    language: str
    category: str | None
    n_targets: int | None
    image: str
    mask: StoredMask
    where: str


@dataclass(slots=True)
class DatasetIndex:
    """All splits of a dataset. `open` gives the samples of a split.

    Attributes:
        fmt: on-disk format.
        root: the dataset's folder.
        files: the index files.
        category_names: every category, in the dataset's own order.
        rows: split -> usable samples, in their order. A sample with an error of its own may be left out.
        counts: split -> samples in the files, usable or not.
        notes: split -> lines for a user about how the files were read.
        findings: every defect of the index files.
        masks_by_pixels: the fingerprint sees a mask's pixels, not how the file stores them.
        absent: splits that the dataset does not have -> what to do instead.
    """

    fmt: str
    root: Path
    files: tuple[Path, ...]
    category_names: tuple[str, ...] = ()
    rows: dict[str, Sequence[Row]] = field(default_factory=lambda: {split: [] for split in SPLITS})
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    masks_by_pixels: bool = False
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, severity: str, kind: str, where: str, message: str, split: str | None = None) -> None:
        """Add a finding."""
        self.findings.append(Finding(severity, kind, where, message, split))

    def append(self, split: str, *rows: Row) -> None:
        """Add samples to a split."""
        found = self.rows[split]
        assert isinstance(found, list), f"the samples of {split} are not a list"
        found += rows

    def require_readable(self, splits: Iterable[str]) -> None:
        """Raise UserError if the index files have errors that affect one of the splits."""
        affected = {*splits, None}
        errors = [finding for finding in self.findings if finding.severity == ERROR]
        own = [finding for finding in errors if finding.split in affected]
        if own:
            others = [finding for finding in errors if finding.split not in affected]
            raise refusal(self.fmt, self.root, [*own, *others])

    def files_read(self) -> Iterator[Path]:
        """Yield every file that the samples are read from: index, images, masks."""
        yield from self.files
        for row in self.all_rows():
            yield Path(row.image)
            identity = row.mask.identity()
            if isinstance(identity, Path):
                yield identity

    def all_rows(self) -> Iterator[Row]:
        """Yield the samples of all splits."""
        for split in SPLITS:
            yield from self.rows[split]


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key under which 2 comes before 10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", text)
    return [(0, int(part[:18]), part) if part[0].isascii() and part[0].isdigit() else (1, 0, part) for part in parts]


def refusal(fmt: str, root: Path, errors: list[Finding]) -> UserError:
    """Return the error for a dataset that cannot be used; it names the first `SHOWN` errors and counts all."""
    found = [f"  {error.kind} {error.where}: {error.message}" for error in errors[:SHOWN]]
    kinds = Counter(error.kind for error in errors[SHOWN:])
    if kinds:
        found.append("  and " + ", ".join(f"{count} more of kind {kind}" for kind, count in sorted(kinds.items())))
    listed = "\n".join(found)
    return UserError(
        f"The dataset in {root} has {len(errors)} errors, so it is not used:\n{listed}\n"
        f"Repair or remove these samples. {verify_hint(fmt, root)}"
    )


def verify_hint(fmt: str, root: Path) -> str:
    """Return the sentence that names the command for a full list."""
    return f"List every defect with: rrsis-bench data verify {fmt} --data-root {root}"
