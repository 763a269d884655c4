"""Write the leaderboard's charts as files for papers: PNG at 300 dpi and SVG.

Equal records give equal bytes. Names in Chinese need a font of the machine (`render.fonts`), so that their bytes are
equal on the same machine only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rrsis_bench.errors import UserError
from rrsis_bench.files import write_files
from rrsis_bench.results.board.rows import BoardRow
from rrsis_bench.results.render import charts, fonts
from rrsis_bench.results.render.board_charts import board_charts


def write(rows: Sequence[BoardRow], split: str, protocol: str, out: Path) -> list[Path]:
    """Write every chart of the ranked rows as PNG and SVG, and return their paths.

    Args:
        rows: of one dataset, from `board.rows.rank`.
        split: only rows of this split.
        protocol: only rows of this protocol.
        out: the folder.

    Raises:
        UserError: no such row is ranked, or a write failed.
    """
    ranked = [row for row in rows if row.rank is not None and row.head.split == split]
    ranked = [row for row in ranked if row.head.protocol.name == protocol]
    if not ranked:
        raise UserError(
            f"No row of split '{split}' under protocol '{protocol}' is ranked, so there is nothing to draw. "
            "`rrsis-bench report DATA` shows the rows and why they are not ranked."
        )
    drawn = board_charts([row for row in ranked if row.comparable == ranked[0].comparable])
    names = [name for row in ranked for name in (row.label, *row.names("per_category"))]
    letters = fonts.lettering(names)
    files = {out / f"{chart.name}.{kind}": draw(chart, letters)
             for chart in drawn for kind, draw in (("png", charts.png), ("svg", charts.svg))}  # fmt: skip
    write_files(files)
    return sorted(files)
