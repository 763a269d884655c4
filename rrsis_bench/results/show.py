"""Leaderboards and comparisons for people: tables in the terminal, Markdown for the README."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from itertools import groupby

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from rrsis_bench.results.compare import Comparison, Difference
from rrsis_bench.results.schema import PRECISIONS
from rrsis_bench.results.tables import Row

# Columns given up, in this order, until the leaderboard fits the terminal.
_OPTIONAL_COLUMNS = (("pr60", "pr80"), ("seeds", "params"), ("category_only",), ("size",), ("pr50", "pr70", "pr90"))
LABELS = {
    "miou": "mIoU", "oiou": "oIoU", "macro_miou": "mIoU, mean over categories",
    **{name: f"Pr@0.{name[2]}" for name in PRECISIONS},
    "shuffled_text": "mIoU, shuffled text", "same_image_other_expression": "mIoU, another expression",
    "category_only": "mIoU, category only",
}  # fmt: skip
_SHOWN_CONTROLS = ("shuffled_text", "category_only")
_CAPTION = "± half the 95% interval; shuffled, category: mIoU with another image's text, with the category's name only"


def leaderboard(console: Console, rows: Sequence[Row], highlight: str | None = None) -> None:
    """Print the leaderboard of a dataset: one table per comparable group, then the unranked rows.

    Args:
        console: where to print; columns are left out until the table fits its width.
        rows: what `tables.rows` returned.
        highlight: a run id whose row is set in bold.
    """
    for title, members in _ranked_groups(rows):
        dropped: set[str] = set()
        table = _board(members, title, dropped, highlight)
        for names in _OPTIONAL_COLUMNS:
            if Measurement.get(console, console.options.update(max_width=1000), table).maximum <= console.width:
                break
            dropped.update(names)
            table = _board(members, title, dropped, highlight)
        console.print(table)
    unranked = [row for row in rows if row.rank is None]
    if unranked:
        console.print(_unranked(unranked, highlight))


def categories(console: Console, rows: Sequence[Row], limit: int = 5) -> None:
    """Print mIoU per category of the first `limit` ranked rows (of all rows where none is ranked), best in bold."""
    shown = [row for row in rows if row.rank is not None] or list(rows)
    shown = [row for row in shown if row.comparable == shown[0].comparable and row.head.per_category][:limit]
    if not shown:
        return
    table = _table(f"{shown[0].head.data}: mIoU per category")
    table.add_column("category", overflow="fold")
    table.add_column("n", justify="right", style="dim")
    for row in shown:
        table.add_column(f"{row.head.model}\n[dim]{row.head.size}[/dim]", justify="right")
    for name in dict.fromkeys(name for row in shown for name in row.names("per_category")):
        sizes = {n for row in shown for n in row.values("per_category", name, "n") if n is not None}
        values = [row.mean("per_category", name, "miou") for row in shown]
        table.add_row(escape(name), "/".join(map(str, sorted(sizes))), *_best_bold(values))
    table.add_section()
    table.add_row("mean over categories", "", *_best_bold([row.mean("metrics", "macro_miou") for row in shown]))
    console.print(table)


def comparison(console: Console, result: Comparison) -> None:
    """Print two rows and their differences, overall, per category and per size class."""
    a, b = result.a, result.b
    head = a.head
    table = _table(f"{head.data} {head.split}, protocol {head.protocol.name}, n = {head.n}")
    table.add_column("", overflow="fold")
    for row in (a, b):
        table.add_column(_heading(row, with_hash=a.head.model == b.head.model), justify="right")
    table.add_column("difference", justify="right")
    table.add_row("rank", *("none" if row.rank is None else str(row.rank) for row in (a, b)), "")
    remarks = [f"{row.head.run_id} is not ranked: {row.reason}" for row in (a, b) if row.reason]
    table.caption = escape("\n".join(remarks)) or None
    for section in (result.overall, result.per_size, result.per_category):
        table.add_section()
        for difference in section:
            table.add_row(
                LABELS.get(difference.name, escape(difference.name)),
                _number(difference.a, 2),
                _number(difference.b, 2),
                _gap(difference),
            )
    console.print(table)


def markdown(rows: Sequence[Row]) -> str:
    """The ranked rows as Markdown tables, one per comparable group, for the README."""
    parts = []
    for title, members in _ranked_groups(rows):
        header = [
            "#",
            "Model",
            "Size",
            "Seeds",
            "mIoU",
            "oIoU",
            *(f"Pr@0.{name[2]}" for name in PRECISIONS),
            "Shuffled text",
            "Category only",
            "Params (M)",
        ]
        lines = [
            f"**{title}**",
            "",
            "| " + " | ".join(header) + " |",
            "|" + "|".join(["---:", "---", "---", *["---:"] * (len(header) - 3)]) + "|",
        ]
        for row in members:
            half = _half_interval(row)
            miou = _number(row.mean("metrics", "miou"), 2) + (f" ± {half:.2f}" if half is not None else "")
            cells = [
                str(row.rank),
                row.head.model,
                row.head.size,
                str(len(row.records)),
                miou,
                *(_number(row.mean("metrics", name), 2) for name in ("oiou", *PRECISIONS)),
                *(_number(row.mean("control", name, "miou"), 2) for name in _SHOWN_CONTROLS),
                _params(row),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n" if parts else ""


def _ranked_groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    ranked = [row for row in rows if row.rank is not None]
    keys = list(dict.fromkeys(row.comparable for row in ranked))
    for key, members in groupby(ranked, key=lambda row: row.comparable):
        data, split, protocol, scoring_id, version, fingerprint = key
        group = list(members)
        title = f"{data} {split}, protocol {protocol}, n = {group[0].head.n}"
        if sum(other[:3] == key[:3] for other in keys) > 1:  # tell apart what the title alone would not
            title += f" (rules {scoring_id}, metric version {version}, data {fingerprint[:8] or 'unknown'})"
        yield title, group


def _board(rows: Sequence[Row], title: str, dropped: Set[str], highlight: str | None) -> Table:
    columns = {"rank": "#", "model": "model", "size": "size", "miou": "mIoU", "oiou": "oIoU"}
    columns |= {name: f"P@.{name[2]}" for name in PRECISIONS}
    columns |= {"shuffled_text": "shuffled", "category_only": "category", "params": "params", "seeds": "seeds"}
    table = _table(title, caption=_CAPTION)
    shown = [name for name in columns if name not in dropped]
    for name in shown:
        table.add_column(columns[name], justify="left" if name in ("model", "size") else "right", no_wrap=True)
    for row in rows:
        cells = _board_cells(row)
        table.add_row(*(cells[name] for name in shown), style=_row_style(row, highlight))
    return table


def _board_cells(row: Row) -> dict[str, str | Text]:
    miou = Text(_number(row.mean("metrics", "miou"), 2), style="bold green" if row.rank == 1 else "bold")
    half = _half_interval(row)
    if half is not None:
        miou.append(f" ±{half:.2f}", style="dim not bold")
    params = _params(row)
    return {
        "rank": str(row.rank),
        "model": escape(row.head.model),
        "size": escape(row.head.size),
        "miou": miou,
        "oiou": _number(row.mean("metrics", "oiou"), 2),
        **{name: _number(row.mean("metrics", name), 1) for name in PRECISIONS},
        **{name: _number(row.mean("control", name, "miou"), 1) for name in _SHOWN_CONTROLS},
        "params": f"{params} M" if params else "",
        "seeds": str(len(row.records)),
    }


def _unranked(rows: Sequence[Row], highlight: str | None) -> Table:
    table = _table("not ranked")
    for name in ("model", "size", "split", "protocol"):
        table.add_column(name, overflow="fold")
    table.add_column("mIoU", justify="right")
    table.add_column("shuffled", justify="right")
    table.add_column("reason", overflow="fold", style="yellow")
    for row in rows:
        head = row.head
        names = map(escape, (head.model, head.size, head.split, head.protocol.name))
        scores = (_number(row.mean("metrics", "miou"), 2), _number(row.mean("control", "shuffled_text", "miou"), 1))
        table.add_row(*names, *scores, escape(row.reason), style=_row_style(row, highlight))
    return table


def _table(title: str, caption: str | None = None) -> Table:
    return Table(
        title=escape(title),
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold cyan",
    )


def _row_style(row: Row, highlight: str | None) -> str:
    return "bold" if highlight is not None and any(record.run_id == highlight for record in row.records) else ""


def _best_bold(values: Sequence[float | None]) -> list[str]:
    best = max((value for value in values if value is not None), default=None) if len(values) > 1 else None
    return [
        f"[bold green]{value:.1f}[/bold green]" if value is not None and value == best else _number(value, 1)
        for value in values
    ]


def _gap(difference: Difference) -> Text:
    if difference.gap is None:
        return Text("")
    gap = round(difference.gap, 2)
    return Text(f"{gap + 0.0:+.2f}", style="green" if gap > 0 else "red" if gap < 0 else "dim")


def _half_interval(row: Row) -> float | None:
    low, high = row.mean("metrics", "miou_lo"), row.mean("metrics", "miou_hi")
    return None if low is None or high is None else (high - low) / 2


def _params(row: Row) -> str:
    params = row.mean("efficiency", "params_total")
    return "" if params is None else f"{params / 1e6:.2f}"


def _heading(row: Row, *, with_hash: bool) -> str:
    seeds = ", ".join(str(record.seed) for record in row.records)
    lines = [row.head.model, f"{row.head.size}, seed {seeds}", *([row.head.train_hash[:8]] if with_hash else [])]
    return "\n".join(map(escape, lines))


def _number(value: float | None, decimals: int) -> str:
    return "" if value is None else f"{value:.{decimals}f}"
