"""What tables and charts show of the probes: one block per probe, with its figures and the rows that have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rrsis_bench.results.board.rows import BoardRow

if TYPE_CHECKING:  # it imports torch, which a table without probes does not need
    from rrsis_bench.eval.probes.probe import Figure

ARROWS = {"higher": "↑", "lower": "↓", "": ""}
"""Mark behind a figure's label: whether more or less of it is better."""


@dataclass(frozen=True, slots=True)
class ProbeBlock:
    """One probe of a comparable group of rows.

    Attributes:
        name: of the probe.
        summary: one sentence.
        figures: those that a row has.
        rows: those that have the probe.
    """

    name: str
    summary: str
    figures: tuple[Figure, ...]
    rows: tuple[BoardRow, ...]

    @property
    def title(self) -> str:
        """The name in plain words."""
        return self.name.replace("_", " ")

    @property
    def headline(self) -> Figure:
        """The most important figure."""
        return self.figures[0]


def blocks(rows: Sequence[BoardRow]) -> list[ProbeBlock]:
    """Return the probes that any of the rows has, in the order of the records."""
    names = list(dict.fromkeys(name for row in rows for name in row.names("probes")))
    if not names:
        return []
    from rrsis_bench.eval.probes.probe import Figure
    from rrsis_bench.eval.probing import figures_of, summary_of

    found = []
    for name in names:
        members = tuple(row for row in rows if name in row.names("probes"))
        measured = dict.fromkeys(figure for row in members for figure in row.names("probes", name, "scores"))
        known = {figure.name: figure for figure in figures_of(name)}
        figures = [figure for figure in known.values() if figure.name in measured]
        figures += [Figure(other, other.replace("_", " "), other) for other in measured if other not in known]
        if figures:
            found.append(ProbeBlock(name, summary_of(name), tuple(figures), members))
    return found


def label(figure: Figure) -> str:
    """Return a figure's label with its arrow."""
    return " ".join(filter(None, (figure.label, ARROWS.get(figure.better, ""))))


def number_of(row: BoardRow, name: str, field: str) -> str:
    """Return ``n`` or ``predictions`` of a probe, one value if the seeds agree."""
    return "/".join(map(str, dict.fromkeys(value for value in row.values("probes", name, field) if value is not None)))


def refused(row: BoardRow, name: str) -> str:
    """Return how many samples a probe could not use, and why."""
    reasons: dict[str, int] = next((value for value in row.values("probes", name, "refused") if value is not None), {})
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())
