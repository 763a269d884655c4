"""``leaderboards/index.html``: one page without a single request, a pure function of records and published numbers."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from rrsis_bench.results.board.rows import SPLITS, BoardRow
from rrsis_bench.results.published import numbers as published
from rrsis_bench.results.published.numbers import PublishedRow
from rrsis_bench.results.render.page import content

INDEX = "index.html"
_TEMPLATES = Path(__file__).parent / "templates"


def build(root: Path, rows: Sequence[BoardRow]) -> bytes:
    """The page of the leaderboards at `root`.

    Args:
        root: the leaderboards folder; published numbers are read from it.
        rows: every row of every dataset, each dataset's in the order of `board.rows.rank`.

    Raises:
        UserError: a published CSV is invalid.
    """
    printed: dict[str, list[PublishedRow]] = {}
    if (root / published.FOLDER).is_dir():
        printed = {data: published.overall(root, data) for data in published.datasets(root)}
    return render(rows, printed)


def render(rows: Sequence[BoardRow], printed: Mapping[str, Sequence[PublishedRow]]) -> bytes:
    """The page as UTF-8; the same arguments give the same bytes.

    Args:
        rows: every row, each dataset's in the order of `board.rows.rank`.
        printed: dataset -> the numbers of papers.
    """
    boards: dict[str, list[content.Board]] = {}
    for board in content.boards(rows):
        boards.setdefault(board.data, []).append(board)
    sections = []
    for index, data in enumerate([*sorted(boards), *sorted(set(printed) - set(boards))]):
        figures = printed.get(data, [])
        sections.append(
            {
                "ident": f"d{index}",
                "data": data,
                "boards": boards.get(data, []),
                "strata": any(row.names("per_stratum") for row in rows if row.head.data == data),
                "printed": content.published_table(figures, f"d{index}-printed", data) if figures else None,
                "papers": ", ".join(dict.fromkeys(row.source.rsplit(" Table", 1)[0] for row in figures)),
            }
        )
    every = [board for members in boards.values() for board in members]
    splits = {board.split for board in every} | {row.split for figures in printed.values() for row in figures}
    choices = {
        "data": [section["data"] for section in sections],
        "split": sorted(splits, key=lambda split: (SPLITS.index(split) if split in SPLITS else 9, split)),
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
