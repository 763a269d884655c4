"""``leaderboards/index.html``: one page without a single request, a pure function of records and published numbers."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from rrsis_bench.results.published import numbers as published
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record
from rrsis_bench.results.render.page import content, intervals

if TYPE_CHECKING:
    from rrsis_bench.results.board.tables import Row
    from rrsis_bench.results.published.numbers import PublishedRow

INDEX = "index.html"
_TEMPLATES = Path(__file__).parent / "templates"
_SPLITS = ("test", "val", "train")


def build(root: Path, rows: Sequence[Row]) -> bytes:
    """The page of the leaderboards at `root`.

    Args:
        root: the leaderboards folder; integers and published numbers are read from it.
        rows: every row of every dataset, each dataset's in the order of `tables.rows`.

    Raises:
        UserError: a counts file or a published CSV is not sound.
    """
    printed: dict[str, list[PublishedRow]] = {}
    if (root / published.FOLDER).is_dir():
        printed = {data: published.overall(root, data) for data in published.datasets(root)}
    return render(rows, printed, bounds_at(root))


def bounds_at(root: Path) -> content.Bounds:
    """Intervals per category and size class from the integers below `root`, read when they are asked for."""

    def bounds(record: Record) -> Mapping[intervals.Path, tuple[float, float] | None]:
        if record.counts is None:
            return {}
        path = store.record_path(root, record.data, record.model, record.run_id)
        return intervals.of_groups(store.read_counts(path), record.protocol)

    return bounds


def render(rows: Sequence[Row], printed: Mapping[str, Sequence[PublishedRow]], bounds: content.Bounds) -> bytes:
    """The page as UTF-8; the same arguments give the same bytes.

    Args:
        rows: every row, each dataset's in the order of `tables.rows`.
        printed: dataset -> the figures of papers.
        bounds: intervals per category and size class of a record.
    """
    boards: dict[str, list[content.Board]] = {}
    for board in content.boards(rows, bounds):
        boards.setdefault(board.data, []).append(board)
    sections = []
    for index, data in enumerate([*sorted(boards), *sorted(set(printed) - set(boards))]):
        figures = printed.get(data, [])
        sections.append(
            {
                "ident": f"d{index}",
                "data": data,
                "boards": boards.get(data, []),
                "printed": content.published_table(figures, f"d{index}-printed", data) if figures else None,
                "papers": ", ".join(dict.fromkeys(row.source.rsplit(" Table", 1)[0] for row in figures)),
            }
        )
    every = [board for members in boards.values() for board in members]
    splits = {board.split for board in every} | {row.split for figures in printed.values() for row in figures}
    choices = {
        "data": [section["data"] for section in sections],
        "split": sorted(splits, key=lambda split: (_SPLITS.index(split) if split in _SPLITS else 9, split)),
        "protocol": sorted({board.protocol for board in every}, key=lambda name: (name != "native", name)),
    }
    return fill("index.html.j2", sections=sections, choices=choices)


def fill(template: str, **values: Any) -> bytes:
    """A template of this package, filled and encoded; style and script are put in, and named by their hash.

    The page's content security policy forbids every request and every script but that one.
    """
    style, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = (
        _environment()
        .get_template(template)
        .render(
            style=Markup(style),  # our own file
            script=Markup(script),  # our own file
            script_hash=digest,
            **values,
        )
    )
    return page.encode("utf-8")


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
