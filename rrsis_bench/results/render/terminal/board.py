"""Leaderboards in the terminal, with as many columns as fit its width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from rich import box
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from rrsis_bench.console import Terminal
from rrsis_bench.data.text.strata import stratum_label
from rrsis_bench.eval.metrics import METRICS, PRECISIONS
from rrsis_bench.eval.scores import CONTROLS
from rrsis_bench.results.board.rows import BoardRow
from rrsis_bench.results.published.numbers import PublishedRow
from rrsis_bench.results.render.probes import blocks, label, number_of, refused
from rrsis_bench.results.render.text import (
    AS_PRINTED,
    LEGEND,
    SHOWN_CONTROLS,
    encoders,
    footnotes,
    groups,
    interval,
    number,
    params,
    seeds,
    shown_metrics,
)

# Columns left out, in this order, until the leaderboard fits the terminal: a metric's rank, or names.
_OPTIONAL_COLUMNS: tuple[int | tuple[str, ...], ...] = (
    3, 2, ("params",), ("category_only",), ("size",), ("epochs",), ("shuffled_text",), 1,
)  # fmt: skip
_CAPTION = (
    f"rank: 1 + the number of significantly better rows; {LEGEND}; shuffled, category: mIoU with another image's text, "
    "with the category's name only"
)
CONTROL_LABELS = {
    "shuffled_text": "shuffled text", "same_image_other_expression": "another expression",
    "category_only": "category only",
}  # fmt: skip
BREAKDOWNS = ("size", "category", "threshold", "control", "probe", "targets", "language", "strata")
"""Groups for which scores can be shown; `threshold` shows Pr@X."""

Column = tuple[str, tuple[str, ...]]
"""A metric and the group of samples; an empty group is the whole split."""


def leaderboard(
    console: Terminal, rows: Sequence[BoardRow], highlight: Sequence[str] = (), published: Sequence[PublishedRow] = ()
) -> None:
    """Print the leaderboard of a dataset: one table per comparable group, the unranked rows, and printed numbers.

    Printed numbers of a split follow the last group of that split; those of other splits are at the end.

    Args:
        console: where to print; columns are left out until the table fits its width.
        rows: from `board.rows.rank`.
        highlight: run ids whose rows are set in bold.
        published: rows of papers, for a table of their own.
    """
    ranked = list(groups(rows))
    last = {members[0].head.split: title for title, members in ranked}
    for title, members in ranked:
        dropped: set[str] = set()
        table = _board(members, dropped, highlight)
        for names in _OPTIONAL_COLUMNS:
            if Measurement.get(console, console.options.update(max_width=1000), table).maximum <= console.width:
                break
            dropped.update(
                names
                if isinstance(names, tuple)
                else (name for name, metric in METRICS.items() if metric.rank == names)
            )
            table = _board(members, dropped, highlight)
        print_table(console, title, table, "\n".join([_CAPTION, *footnotes(members)]))
        split = members[0].head.split
        if title == last[split]:
            _show_printed(console, [row for row in published if row.split == split])
    unranked = [row for row in rows if row.rank is None]
    if unranked:
        print_table(console, "not ranked", _unranked(unranked, highlight, narrow=console.width < 80))
    _show_printed(console, [row for row in published if row.split not in last])


def _show_printed(console: Terminal, published: Sequence[PublishedRow]) -> None:
    if published:
        notes = dict.fromkeys(f"{row.source}: {note}" for row in published for note in row.notes.split("; ") if note)
        print_table(console, AS_PRINTED, _printed(published, narrow=console.width < 100), "\n".join(notes))


def categories(console: Terminal, rows: Sequence[BoardRow], limit: int = 5) -> None:
    """Print mIoU per category of the first `limit` ranked rows (of all rows if none is ranked), best in bold."""
    shown = [row for row in rows if row.rank is not None] or list(rows)
    shown = [row for row in shown if row.comparable == shown[0].comparable and row.head.per_category][:limit]
    if shown:
        _by_category(console, shown)


def breakdown(console: Terminal, rows: Sequence[BoardRow], by: str) -> None:
    """Print mIoU of all rows per class of `by`, Pr@X, or the figures of the probes.

    Args:
        console: where to print.
        rows: from `board.rows.rank`; each comparable group has tables of its own, unranked rows too.
        by: one of `BREAKDOWNS`.
    """
    for key in dict.fromkeys(row.comparable for row in rows):
        members = [row for row in rows if row.comparable == key]
        if by == "category":
            _by_category(console, members)
            continue
        head = members[0].head
        title = f"{head.data} {head.split}, protocol {head.protocol.name}: "
        columns: dict[str, Column]
        if by == "threshold":
            columns = {METRICS[name].label: (name, ()) for name in PRECISIONS}
            _classes(console, title + "share of samples with IoU of at least X", members, columns)
        elif by == "control":
            columns = {"mIoU": ("miou", ()), **{CONTROL_LABELS[name]: ("miou", ("control", name)) for name in CONTROLS}}
            _classes(console, title + "mIoU with the right and with a wrong or reduced text", members, columns)
        elif by == "probe":
            if not probes(console, members):
                console.print(Text(f"{title}no row has probes: rrsis-bench bench ... experiment=language", style="dim"))
        elif by == "targets":
            silence = 100 if head.protocol.empty == "rela" else 0
            words = f"scores by the number of targets (a correct empty mask scores {silence})"
            _split(console, title + words, members, "per_target")
        elif by == "language":
            _split(console, title + "scores by the expression's language", members, "per_language")
        elif by == "strata":
            _by_stratum(console, title, members)
        else:
            for scheme, words in (("pixels", "the target's area in pixels"), ("share", "its share of the image")):
                names = dict.fromkeys(name for row in members for name in row.names("per_size", scheme))
                columns = {
                    f"{name}\nn={_n(members, 'per_size', scheme, name)}": ("miou", ("per_size", scheme, name))
                    for name in names
                }
                _classes(console, f"{title}mIoU by {words}", members, columns)


def probes(console: Terminal, rows: Sequence[BoardRow]) -> bool:
    """Print one table per probe of comparable rows, the best value of each figure in bold; False if there is none."""
    found = blocks(rows)
    for block in found:
        table = plain_table()
        for name in ("#", "model"):
            table.add_column(name, justify="right" if name == "#" else "left", overflow="fold")
        for figure in block.figures:
            table.add_column(label(figure), justify="right")
        for name in ("n", "predictions"):
            table.add_column(name, justify="right", style="dim")
        columns = []
        for figure in block.figures:
            values = [row.score(figure.name, "probes", block.name).value for row in block.rows]
            known = [value for value in values if value is not None]
            best = (max if figure.better == "higher" else min)(known) if figure.better and len(known) > 1 else None
            columns.append(
                [Text(number(v, 1), style="bold green" if v is not None and v == best else "") for v in values]
            )
        for index, row in enumerate(block.rows):
            rank = "" if row.rank is None else str(row.rank)
            counts = [number_of(row, block.name, field) for field in ("n", "predictions")]
            table.add_row(rank, row.label, *(column[index] for column in columns), *counts)
        reasons = refused(block.rows[0], block.name)
        caption = "; ".join(f"{label(figure)}: {figure.meaning}" for figure in block.figures)
        head = block.rows[0].head
        print_table(
            console, f"{head.data} {head.split}, probe {block.name}: {block.summary}", table,
            caption + (f"\nnot used: {reasons}" if reasons else ""),
        )  # fmt: skip
    return bool(found)


def probe_summary(console: Terminal, row: BoardRow) -> None:
    """Print the figures of all probes of one row with their intervals; nothing if it has none."""
    table = plain_table()
    for name in ("probe", "figure"):
        table.add_column(name, no_wrap=True)
    table.add_column("%", justify="right")
    table.add_column("95% interval", no_wrap=True)
    table.add_column("n", justify="right", style="dim")
    for block in blocks([row]):
        for place, figure in enumerate(block.figures):
            score = row.score(figure.name, "probes", block.name)
            bounds = "" if score.lo is None or score.hi is None else f"[{score.lo:.1f}, {score.hi:.1f}]"
            first = (block.title, number_of(row, block.name, "n")) if place == 0 else ("", "")
            table.add_row(first[0], label(figure), number(score.value, 1), Text(bounds), first[1])
    if table.row_count:
        caption = (
            f"↑: more is better, ↓: less is better; rows beside each other: rrsis-bench leaderboard {row.head.data}"
        )
        print_table(console, f"{row.label}: probes", table, f"{caption} --by probe; docs/probes.md")


def _split(console: Terminal, title: str, rows: Sequence[BoardRow], field: str) -> None:
    """Scores of the whole split, then mIoU and oIoU of each of its classes in `field`."""
    names = dict.fromkeys(name for row in rows for name in row.names(field))
    shown = [
        metric for metric in shown_metrics(rows) if metric.name not in PRECISIONS or metric.name in ("pr70", "pr90")
    ]
    _classes(console, title, rows, {metric.heading: (metric.name, ()) for metric in shown})
    columns: dict[str, Column] = {
        f"{METRICS[metric].label}\n{name}\nn={_n(rows, field, name)}": (metric, (field, name))
        for metric in ("miou", "oiou")
        for name in names
        if any(row.score(metric, field, name).value is not None for row in rows)
    }
    if columns:
        _classes(console, "each class alone", rows, columns)
    else:
        console.print(Text("all samples are of one class", style="dim"))


def _by_stratum(console: Terminal, title: str, rows: Sequence[BoardRow]) -> None:
    """Class-balanced mIoU beside mIoU, for all samples and, one table each, for the classes of every stratum."""
    whole: dict[str, Column] = {"mIoU": ("miou", ()), "balanced": ("macro_miou", ())}
    _classes(console, f"{title}mIoU and its mean over the categories", rows, whole)
    names = [name for name in dict.fromkeys(name for row in rows for name in row.names("per_stratum")) if name != "all"]
    for stratum in names:
        path = ("per_stratum", stratum)
        classes = dict.fromkeys(name for row in rows for name in row.names(*path))
        columns: dict[str, Column] = {f"{name}\nn={_n(rows, *path, name)}": ("miou", (*path, name)) for name in classes}
        columns |= {f"{name}\nbalanced": ("macro_miou", (*path, name)) for name in classes}
        _classes(console, f"{title}mIoU by {stratum_label(stratum)}", rows, columns)
    if names:
        caption = "balanced: mean of the categories' mIoU within the class"
    else:
        caption = f"Strata unknown. `rrsis-bench data strata {rows[0].head.data}` computes them from the dataset."
    console.print(Text(caption, style="dim"))


def _classes(console: Terminal, title: str, rows: Sequence[BoardRow], shown: Mapping[str, Column]) -> None:
    """One line per row, one column per class, the best ranked value of each column in bold."""
    table = plain_table()
    table.add_column("#", justify="right")
    table.add_column("model", overflow="fold", min_width=12)
    for name in shown:
        table.add_column(name, justify="right")
    columns = [
        _best_bold(metric, [row.score(metric, *group).value for row in rows]) for metric, group in shown.values()
    ]
    for index, row in enumerate(rows):
        rank = "" if row.rank is None else str(row.rank)
        table.add_row(rank, row.label, *(column[index] for column in columns))
    print_table(console, title, table)


def _by_category(console: Terminal, rows: Sequence[BoardRow]) -> None:
    """One line per category, one column per row; several tables if the terminal is too narrow for all rows."""
    names = list(dict.fromkeys(name for row in rows for name in row.names("per_category")))
    if not names:
        return
    heads = [_head(row) for row in rows]
    width = max(max(len(part) for part in head.splitlines()) for head in heads) + 2
    first = max(20, *(len(name) for name in names)) + 8
    per_table = max(1, (console.width - first) // width)
    values = {
        name: _best_bold("miou", [row.score("miou", "per_category", name).value for row in rows]) for name in names
    }
    macro = _best_bold("macro_miou", [row.score("macro_miou").value for row in rows])
    for start in range(0, len(rows), per_table):
        some = slice(start, start + per_table)
        table = plain_table()
        table.add_column("category", overflow="fold")
        table.add_column("n", justify="right", style="dim")
        for row, head in zip(rows[some], heads[some], strict=True):
            table.add_column(Text.assemble(head, "\n", (row.head.size, "dim")), justify="right")
        for name in names:
            table.add_row(name, _n(rows, "per_category", name), *values[name][some])
        table.add_section()
        table.add_row("mean over categories", "", *macro[some])
        print_table(console, f"{rows[0].head.data}: mIoU per category", table)


def _head(row: BoardRow) -> str:
    """Model and variant, one below the other."""
    return "\n".join([row.head.model, *row.head.variant])


def _n(rows: Sequence[BoardRow], *path: str) -> str:
    return "/".join(map(str, sorted({n for row in rows for n in row.values(*path, "n") if n is not None})))


def _board(rows: Sequence[BoardRow], dropped: Set[str], highlight: Sequence[str]) -> Table:
    columns = {"rank": "#", "model": "model", "size": "size", "seeds": "seeds", "epochs": "epochs"}
    columns |= {metric.name: metric.heading for metric in shown_metrics(rows)}
    columns |= {"shuffled_text": "shuffled", "category_only": "category", "params": "params"}
    table = plain_table()
    shown = [name for name in columns if name not in dropped]
    variants = any(row.head.variant for row in rows)
    for name in shown:
        left, folds = name in ("model", "size"), name == "model" and variants
        table.add_column(
            columns[name],
            justify="left" if left else "right",
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
        )
    for row in rows:
        cells = _board_cells(row)
        table.add_row(*(cells[name] for name in shown), style=_row_style(row, highlight))
    return table


def _board_cells(row: BoardRow) -> dict[str, str | Text]:
    miou = Text(number(row.score("miou").value), style="bold green" if row.rank == 1 else "bold")
    deviation = row.deviation("miou")
    if deviation is not None:
        miou.append(f" ±{deviation:.2f}", style="not bold")
    if interval(row):
        miou.append(f" {interval(row, decimals=1)}", style="dim not bold")
    millions = params(row)
    return {
        "rank": str(row.rank),
        "model": row.label,
        "size": row.head.size,
        **{name: number(row.score(name).value, 1 if metric.rank else 2) for name, metric in METRICS.items()},
        "miou": miou,
        **{name: number(row.score("miou", "control", name).value, 1) for name in SHOWN_CONTROLS},
        "params": f"{millions} M" if millions else "",
        "seeds": seeds(row),
        "epochs": row.text("epochs"),
    }


def _unranked(rows: Sequence[BoardRow], highlight: Sequence[str], *, narrow: bool) -> Table:
    table = plain_table()
    for name in ("model", "size", "split", "protocol"):
        table.add_column(name, overflow="fold")
    table.add_column("seeds", justify="right")
    table.add_column("mIoU", justify="right")
    if not narrow:
        table.add_column("shuffled", justify="right")
    table.add_column("reason", overflow="fold", style="yellow")
    for row in rows:
        head = row.head
        names = (row.label, head.size, head.split, head.protocol.name)
        shuffled = row.score("miou", "control", "shuffled_text").value
        scores = [number(row.score("miou").value), *([] if narrow else [number(shuffled, 1)])]
        table.add_row(*names, seeds(row), *scores, row.reason, style=_row_style(row, highlight))
    return table


def _printed(rows: Sequence[PublishedRow], *, narrow: bool) -> Table:
    table = plain_table()
    table.add_column("method", overflow="fold")
    if not narrow:
        table.add_column("encoders", overflow="fold", style="dim")
    table.add_column("split")
    shown = [metric for metric in shown_metrics([], rows) if metric.rank < 2 or not narrow]
    for metric in shown:
        table.add_column(metric.heading, justify="right", no_wrap=True)
    table.add_column("source", overflow="fold")
    for row in rows:
        words = [row.method] if narrow else [row.method, encoders(row)]
        scores = (number(row.scores.get(metric.name)) for metric in shown)
        table.add_row(*words, row.split, *scores, row.source)
    return table


def plain_table() -> Table:
    """Return an empty table in the style of the suite."""
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold cyan")


def print_table(console: Terminal, title: str, table: Table, caption: str = "") -> None:
    """Print a title, a table and a caption."""
    console.print(Text(title, style="bold"))
    console.print(table)
    if caption:
        console.print(Text(caption, style="dim"))
        console.print()


def _row_style(row: BoardRow, highlight: Sequence[str]) -> str:
    return "bold" if any(record.run_id in highlight for record in row.records) else ""


def _best_bold(metric: str, values: Sequence[float | None]) -> list[Text]:
    best = METRICS[metric].best(values) if len(values) > 1 else None
    return [
        Text(number(value, 1), style="bold green" if value is not None and value == best else "") for value in values
    ]
