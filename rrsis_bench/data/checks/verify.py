"""`rrsis-bench data verify`: every defect of a dataset in one pass.

Errors are what would stop or falsify a run. Warnings are known quirks of the public files (empty masks, a few pictures
whose size differs from their mask's) and what a reader of the results should know (shared pictures, other counts).
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rrsis_bench.data.formats import FORMATS, SPLITS
from rrsis_bench.data.formats.refer_files import words_of
from rrsis_bench.data.pixels.images import PictureCheck
from rrsis_bench.errors import UserError

ERROR, WARNING = "error", "warning"
LONG_EXPRESSION_WORDS = 60
"""Above this an expression is more likely a broken line than a sentence; RRSIS-D's longest has about twenty words."""

Check = Callable[[Path, dict[str, int] | None, Console | None], "VerifyReport"]
"""Root, expected samples per split, console for a progress bar -> everything that is wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One defect.

    Attributes:
        severity: ``"error"`` or ``"warning"``.
        kind: a short fixed name, such as ``"truncated_image"``.
        where: the sample's id, the file or the split.
        message: what is wrong, for a person.
    """

    severity: str
    kind: str
    where: str
    message: str


@dataclass(slots=True)
class VerifyReport:
    """What a pass over a dataset found.

    Attributes:
        fmt: on-disk format.
        root: the dataset's folder.
        counts: samples per split, as found.
        expected: samples per split as published, or None where nothing is expected.
        findings: every defect.
        notes: what else a reader of the report has to know, one line each.
    """

    fmt: str
    root: Path
    counts: dict[str, int]
    expected: dict[str, int] | None = None
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, severity: str, kind: str, where: str, message: str) -> None:
        """Note one defect."""
        self.findings.append(Finding(severity, kind, where, message))

    @property
    def errors(self) -> list[Finding]:
        """Findings that stop or falsify a run."""
        return [finding for finding in self.findings if finding.severity == ERROR]

    @property
    def warnings(self) -> list[Finding]:
        """Findings that a run lives with."""
        return [finding for finding in self.findings if finding.severity == WARNING]

    @property
    def ok(self) -> bool:
        """Whether a run may use the dataset."""
        return not self.errors

    def compare_counts(self) -> None:
        """Warn of splits that hold another number of samples than expected."""
        for split, expected in (self.expected or {}).items():
            found = self.counts.get(split, 0)
            if found != expected:
                self.add(
                    WARNING, "count", split,
                    f"{found} samples, the published split has {expected}: rows on it are shown unranked",
                )  # fmt: skip

    def add_length(self, where: str, expression: str) -> None:
        """Warn of an expression that is too long to be one."""
        if remark := length_remark(expression):
            self.add(WARNING, "long_expression", where, remark)

    def add_picture(self, where: str, name: str, picture: PictureCheck) -> None:
        """Note what decoding a sample's picture showed; `name` is the file's for a person."""
        if picture.kind:
            self.add(ERROR, picture.kind, where, f"{name} {picture.message}")
        for kind, message in picture.quirks:
            self.add(WARNING, kind, where, f"{name} {message}")

    def compare_pictures(self, shown: Iterable[tuple[str, str]]) -> None:
        """Warn of pictures, by content, that a held-out split shares with training.

        Args:
            shown: split and sha256 of the picture for each sample; an empty sha256 is left out.
        """
        seen: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        for split, digest in shown:
            if digest and split in seen:
                seen[split][digest] += 1
        for split in SPLITS[1:]:
            shared = [digest for digest in seen[split] if digest in seen["train"]]
            if shared:
                samples = sum(seen[split][digest] for digest in shared)
                message = f"{samples} samples show {len(shared)} pictures that train shows too (equal files)"
                self.add(WARNING, "shared_image", split, message)


def verify(
    fmt: str, root: Path, expected_counts: Mapping[str, int] | None = None, *, console: Console | None = None
) -> VerifyReport:
    """Check a dataset in the named on-disk format.

    Args:
        fmt: a dataset format with a check, such as ``"rrsisd"``.
        root: the dataset's folder.
        expected_counts: published samples per split, or None.
        console: where a progress bar is shown while pictures are decoded, or None.

    Raises:
        UserError: unknown format, the dataset is missing, or its annotation files cannot be read at all.
    """
    known = [name for name in FORMATS if find_spec(_module(name)) is not None]
    if fmt not in known:
        near = difflib.get_close_matches(fmt.lower(), known, n=2, cutoff=0.4)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"There is no check for the dataset format '{fmt}' (present: {', '.join(known)}).{hint}")
    check: Check = getattr(import_module(_module(fmt)), f"verify_{fmt}")
    return check(Path(root), dict(expected_counts) if expected_counts else None, console)


def _module(fmt: str) -> str:
    """The module that holds the check of a format, its function ``verify_<format>``."""
    return f"rrsis_bench.data.formats.{fmt}.verify"


def print_report(report: VerifyReport, console: Console, *, per_kind: int = 20) -> None:
    """Print the findings and a summary table.

    Args:
        report: from `verify`.
        console: where to.
        per_kind: findings of one kind that are listed; the table counts them all.
    """
    for note in report.notes:
        console.print(escape(note), soft_wrap=True, highlight=False)
    shown: Counter[str] = Counter()
    for finding in sorted(report.findings, key=lambda f: (f.severity, f.kind, f.where)):
        shown[finding.kind] += 1
        if shown[finding.kind] <= per_kind:
            colour = "red" if finding.severity == ERROR else "yellow"
            text = f"{finding.kind} {finding.where}: {finding.message}"
            console.print(f"[{colour}]{finding.severity}[/] {escape(text)}", soft_wrap=True, highlight=False)
    for kind, count in sorted(shown.items()):
        if count > per_kind:
            console.print(f"... and {count - per_kind} more of kind {kind}", highlight=False)

    splits = Table(title=f"{report.fmt} in {report.root}", title_justify="left")
    splits.add_column("split")
    splits.add_column("samples", justify="right")
    splits.add_column("published", justify="right")
    for split in {**dict.fromkeys(report.counts), **dict.fromkeys(report.expected or {})}:
        published = (report.expected or {}).get(split)
        splits.add_row(split, str(report.counts.get(split, 0)), "" if published is None else str(published))
    console.print(splits)
    if report.findings:
        kinds = Table(title="findings", title_justify="left")
        kinds.add_column("severity")
        kinds.add_column("kind")
        kinds.add_column("count", justify="right")
        for (severity, kind), count in sorted(Counter((f.severity, f.kind) for f in report.findings).items()):
            kinds.add_row(severity, kind, str(count))
        console.print(kinds)
    verdict = "[green]usable[/]" if report.ok else "[red]not usable until the errors are mended[/]"
    console.print(f"{len(report.errors)} errors, {len(report.warnings)} warnings: {verdict}", highlight=False)


def length_remark(expression: str) -> str | None:
    """What is to be said of an expression that is too long to be one, by words or Chinese characters; else None."""
    words = len(words_of(expression))
    return f"{words} words: a model sees only the first" if words > LONG_EXPRESSION_WORDS else None
