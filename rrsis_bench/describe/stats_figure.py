"""The figure of ``rrsis-bench data stats``: categories, target sizes and expression lengths, by split."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rrsis_bench.describe.stats import SHARE_EDGES, DatasetStats, SplitStats
from rrsis_bench.eval.scores import SIZE_CLASSES, UNMATCHED
from rrsis_bench.files import write_files
from rrsis_bench.results.render import fonts
from rrsis_bench.results.render.charts import COLOURS, DPI, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CATEGORIES = 40


def write(stats: DatasetStats, out: Path) -> None:
    """Write the figure as PNG: equal bytes for equal counts, for Chinese names on the same machine only.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib import rc_context

    letters = fonts.lettering([stats.name, *_categories(stats)])
    with rc_context({**STYLE, "axes.titlesize": 9, "font.family": letters.families}):
        packed = io.BytesIO()
        _draw(stats, letters).savefig(packed, format="png", dpi=DPI // 2, metadata={"Software": None})
    write_files({out: packed.getvalue()})


def _draw(stats: DatasetStats, letters: fonts.Lettering) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    categories = _categories(stats)
    figure = Figure(figsize=(11, max(5.5, 1.2 + 0.24 * len(categories))), layout="constrained")
    right: Any = figure
    FigureCanvasAgg(figure)
    counts = ", ".join(f"{split} {found.n:,}" for split, found in stats.splits.items())
    figure.suptitle(f"{letters(stats.name)}: {counts} samples", x=0.01, ha="left")
    if categories:
        left, right = list(figure.subfigures(1, 2, width_ratios=(1, 1.7), squeeze=False)[0])
        _categories_chart(left.subplots(), stats, categories, letters)
    (share, pixels), (words, pieces) = right.subplots(2, 2)
    _areas_chart(share, stats)
    _size_classes_chart(pixels, stats)
    _lengths_chart(words, stats, "words", "expression length, words")
    if stats.limit is None:
        pieces.set_axis_off()
    else:
        _lengths_chart(pieces, stats, "pieces", "expression length, word-pieces")
        # Between the last length that fits and the first that does not.
        pieces.axvline(stats.limit.max_tokens + 0.5, color="#333333", linestyle="--", linewidth=1)
        cut = sum(split.truncated(stats.limit.max_tokens) for split in stats.splits.values())
        part = cut / max(1, sum(split.n for split in stats.splits.values()))
        pieces.set_title(f"word-pieces, {part:.1%} beyond the limit of {stats.limit.max_tokens}")
    figure.legend(*share.get_legend_handles_labels(), loc="outside upper right", ncols=len(stats.splits))
    return figure


def _categories(stats: DatasetStats) -> list[str]:
    """Return the largest categories, largest first; empty for a dataset without categories."""
    total = Counter[str]()
    for split in stats.splits.values():
        total.update(split.category)
    if set(total) == {UNMATCHED}:
        return []
    return [name for name, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))][:MOST_CATEGORIES]


def _grouped_bars(
    axes: Axes,
    stats: DatasetStats,
    names: Sequence[str],
    counter: Callable[[SplitStats], Counter[str]],
    *,
    across: bool,
) -> None:
    """Draw one bar per name and split, in percent of the split: horizontal bars if `across`."""
    thick = 0.8 / len(stats.splits)
    for order, split in enumerate(stats.splits.values()):
        place_N = np.arange(len(names)) + (order - (len(stats.splits) - 1) / 2) * thick
        values = [100 * counter(split)[name] / max(1, split.n) for name in names]
        (axes.barh if across else axes.bar)(place_N, values, thick, color=COLOURS[order])
    axes.grid(axis="y" if across else "x", visible=False)


def _categories_chart(axes: Axes, stats: DatasetStats, names: list[str], letters: fonts.Lettering) -> None:
    _grouped_bars(axes, stats, names, lambda split: split.category, across=True)
    axes.set_yticks(range(len(names)), [letters(name) for name in names])
    axes.invert_yaxis()
    axes.margins(y=0.01)
    total = len({name for split in stats.splits.values() for name in split.category})
    title = "category, share of the split (%)"
    axes.set_title(title + (f", the {len(names)} largest of {total}" if total > len(names) else ""))


def _size_classes_chart(axes: Axes, stats: DatasetStats) -> None:
    names = [name for name in SIZE_CLASSES["pixels"] if any(s.size["pixels"][name] for s in stats.splits.values())]
    _grouped_bars(axes, stats, names, lambda split: split.size["pixels"], across=False)
    bounds = {"small": "< 32²", "medium": "< 96²", "large": "≥ 96²"}
    axes.set_xticks(range(len(names)), [f"{name.replace('_', ' ')}\n{bounds.get(name, '')}" for name in names])
    axes.set(title="target area, pixels", ylabel="share of the split (%)")


def _areas_chart(axes: Axes, stats: DatasetStats) -> None:
    for order, (name, split) in enumerate(stats.splits.items()):
        axes.stairs(100 * split.share / max(1, split.n), SHARE_EDGES, color=COLOURS[order], linewidth=1.4, label=name)
    axes.set_xscale("log")
    axes.set_xticks(
        [10.0**power for power in range(-5, 1)], ["≤0.001%", "0.01%", "0.1%", "1%", "10%", "100%"], minor=False
    )
    axes.set_xlim(SHARE_EDGES[0], 1)
    axes.set(title="target area, share of the image", ylabel="share of the split (%)", ylim=(0, None))


def _lengths_chart(axes: Axes, stats: DatasetStats, counted: str, title: str) -> None:
    longest = max((max(getattr(split, counted), default=0) for split in stats.splits.values()), default=0)
    edge_N = np.arange(longest + 2) - 0.5
    for order, split in enumerate(stats.splits.values()):
        counter: Counter[int] = getattr(split, counted)
        value_N = [100 * counter[length] / max(1, split.n) for length in range(longest + 1)]
        axes.stairs(value_N, edge_N, color=COLOURS[order], linewidth=1.4)
    axes.set(title=title, ylabel="share of the split (%)", ylim=(0, None))
