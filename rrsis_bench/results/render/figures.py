"""The leaderboard's charts as files for papers: PNG at 300 dpi and SVG, the same bytes for the same records.

The page draws its own charts (`results.page.charts`); these are for print: fixed size, white ground, embedded names.
Names in Chinese are drawn with a font of the machine (`results.fonts`), so that then only one machine gives the same
bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rrsis_bench.errors import UserError
from rrsis_bench.eval.metrics import PRECISIONS
from rrsis_bench.eval.scores import Score as Value
from rrsis_bench.files import write_files
from rrsis_bench.results.render import fonts
from rrsis_bench.results.render.page.charts import SLOTS
from rrsis_bench.results.render.page.content import SCHEMES, group_value, label_of, value_of
from rrsis_bench.results.render.page.content import Path as Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rrsis_bench.results.board.rows import BoardRow

DPI = 300
WIDTH = 3.5  # inches: one column of a two-column paper
COLOURS = ("#0072b2", "#c84e00", "#00795c", "#a3458a", "#7d6200")
MARKERS = ("o", "s", "^", "D", "v")
LINES = ("-", "--", ":", "-.", (0, (8, 2)))
_RC: Any = {  # plain text: a variant may hold a dollar sign
    "svg.hashsalt": "rrsis-bench", "svg.fonttype": "none", "font.family": fonts.OWN, "font.size": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e2e6eb",
    "axes.axisbelow": True, "text.parse_math": False, "legend.frameon": False,
}  # fmt: skip


def write(root: Path, rows: Sequence[BoardRow], split: str, protocol: str, out: Path) -> list[Path]:
    """Write ``thresholds``, ``categories``, ``sizes`` and ``efficiency``, each as PNG and SVG, and return their paths.

    Args:
        root: the leaderboards folder, for the integers.
        rows: of one dataset, as `tables.rows` orders them.
        split: only rows of this split.
        protocol: only rows of this protocol.
        out: the folder.

    Raises:
        UserError: no row is ranked there, or the disk refused.
    """
    from matplotlib import rc_context

    ranked = [row for row in rows if row.rank is not None and row.head.split == split]
    ranked = [row for row in ranked if row.head.protocol.name == protocol]
    ranked = [row for row in ranked if row.comparable == ranked[0].comparable]
    if not ranked:
        raise UserError(
            f"No row of split '{split}' under protocol '{protocol}' is ranked in {root}, so there is nothing to draw. "
            "`rrsis-bench report DATA` shows the rows and why they are not ranked."
        )
    few = ranked[:SLOTS]
    categories = [("per_category", name) for name in _names(few, "per_category")]
    sizes = [("per_size", scheme, name) for scheme in SCHEMES for name in _names(few, "per_size", scheme)]
    names = [label_of(row, ranked) for row in ranked] + [_words(group) for group in (*categories, *sizes)]
    letters = fonts.lettering(names)
    files: dict[Path, bytes] = {}
    with rc_context({**_RC, "font.family": letters.families}):
        drawn: dict[str, Figure] = {"thresholds": _thresholds(few, letters), "efficiency": _efficiency(ranked, letters)}
        drawn |= {
            name: _bars(few, groups, letters)
            for name, groups in (("categories", categories), ("sizes", sizes))
            if groups
        }
        for name, figure in drawn.items():
            for kind in ("png", "svg"):
                packed = io.BytesIO()
                empty: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
                figure.savefig(packed, format=kind, dpi=DPI, metadata=empty)
                files[out / f"{name}.{kind}"] = packed.getvalue()
    write_files(files)
    return sorted(files)


def _names(rows: Sequence[BoardRow], *path: str) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.names(*path)))


def _new(height: float, n: int = 1) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH * (2 if n > 1 else 1), height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, n, squeeze=False, sharey=n > 1)[0]


def _errors(values: Sequence[Value]) -> list[list[float]]:
    """Whiskers' lengths below and above; 0 where there is no interval."""
    return [
        [0.0 if value.lo is None else max(value.value - value.lo, 0.0) for value in values],
        [0.0 if value.hi is None else max(value.hi - value.value, 0.0) for value in values],
    ]


def _thresholds(rows: Sequence[BoardRow], letters: fonts.Lettering) -> Figure:
    figure, (axes,) = _new(2.6)
    for order, row in enumerate(rows):
        found = [(float(threshold), value_of(row, name)) for name, threshold in PRECISIONS.items()]
        spots = [(x + (order - (len(rows) - 1) / 2) * 0.008, value) for x, value in found if value is not None]
        values = [value for _, value in spots]
        axes.errorbar(
            [x for x, _ in spots],
            [value.value for value in values],
            yerr=_errors(values),
            color=COLOURS[order],
            marker=MARKERS[order],
            linestyle=LINES[order],
            markersize=3.5,
            linewidth=1,
            label=letters(label_of(row, rows)),
        )
    axes.set(
        xlabel="IoU threshold X",
        ylabel="Pr@X (%)",
        ylim=(0, None),
        xticks=[float(threshold) for threshold in PRECISIONS.values()],
    )
    axes.legend()
    return figure


def _bars(rows: Sequence[BoardRow], groups: Sequence[Group], letters: fonts.Lettering) -> Figure:
    figure, (axes,) = _new(0.7 + len(groups) * (0.1 + 0.09 * len(rows)))
    thick = 0.8 / len(rows)
    for order, row in enumerate(rows):
        found = [(place, group_value(row, group)) for place, group in enumerate(groups)]
        spots = [(place, value) for place, value in found if value is not None]
        values = [value for _, value in spots]
        axes.barh(
            [place + (order - (len(rows) - 1) / 2) * thick for place, _ in spots],
            [value.value for value in values],
            height=thick,
            xerr=_errors(values),
            color=COLOURS[order],
            hatch=("", "///", "...", "xx", "\\\\\\")[order],
            edgecolor="white",
            linewidth=0.3,
            error_kw={"elinewidth": 0.7},
            label=letters(label_of(row, rows)),
        )
    axes.set(xlabel="mIoU (%)", yticks=range(len(groups)))
    axes.set_yticklabels([letters(_words(group)) for group in groups])
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _words(group: Group) -> str:
    name = group[-1].replace("_", " ")
    return f"{name} ({SCHEMES[group[1]]})" if group[0] == "per_size" and group[1] == "pixels" else name


def _efficiency(rows: Sequence[BoardRow], letters: fonts.Lettering) -> Figure:
    costs: tuple[tuple[str, Callable[[float], float], str], ...] = (
        ("params_total", lambda x: x / 1e6, "parameters (M)"),
        ("gflops", lambda x: x, "GFLOPs"),
        ("fps", lambda x: x, "FPS"),
    )
    figure, panels = _new(2.4, len(costs))
    for axes, (name, convert, unit) in zip(panels, costs, strict=True):
        for order, row in enumerate(rows):
            x, y = row.mean("efficiency", name), value_of(row, "miou")
            if x is None or y is None:
                continue
            known = order < SLOTS
            axes.errorbar(
                [convert(x)],
                [y.value],
                yerr=_errors([y]),
                color=COLOURS[order] if known else "#8b939c",
                marker=MARKERS[order] if known else ".",
                markersize=4.5,
                linewidth=1,
                linestyle="none",
                label=letters(label_of(row, rows)) if known else "other rows",
            )
        costs_shown = [x for row in rows if (x := row.mean("efficiency", name))]
        if costs_shown and max(costs_shown) > 20 * min(costs_shown):
            axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.set_xlabel(unit)
    panels[0].set_ylabel("mIoU (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    entries = dict(zip(labels, handles, strict=True))  # "other rows" once
    figure.legend(list(entries.values()), list(entries), loc="outside upper center", ncols=SLOTS + 1)
    return figure
