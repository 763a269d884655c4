"""The picture of ``rrsis-bench data stats``: categories, target sizes and expression lengths, by split."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rrsis_bench.describe.stats import SHARE_EDGES, DatasetStats
from rrsis_bench.eval.scores import SIZE_CLASSES, UNMATCHED
from rrsis_bench.files import write_files
from rrsis_bench.results.render import fonts
from rrsis_bench.results.render.figures import COLOURS, DPI

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CATEGORIES = 40
_RC: Any = {  # plain text: a category may hold a dollar sign
    "font.family": fonts.OWN, "font.size": 8, "axes.titlesize": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#e2e6eb", "axes.axisbelow": True,
    "text.parse_math": False, "legend.frameon": False,
}  # fmt: skip


def write(stats: DatasetStats, out: Path) -> None:
    """Write the figure as PNG, the same bytes for the same counts (with names in Chinese: on the same machine).

    Raises:
        UserError: the disk refused.
    """
    from matplotlib import rc_context

    letters = fonts.lettering([stats.name, *_categories(stats)])
    with rc_context({**_RC, "font.family": letters.families}):
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
        _bars(left.subplots(), stats, categories, letters)
    (share, pixels), (words, pieces) = right.subplots(2, 2)
    _sizes(share, stats)
    names = [name for name in SIZE_CLASSES["pixels"] if any(s.size["pixels"][name] for s in stats.splits.values())]
    _columns(pixels, stats, names)
    _lengths(words, stats, "words", "expression length, words")
    if stats.limit is None:
        pieces.set_axis_off()
    else:
        _lengths(pieces, stats, "pieces", "expression length, word-pieces")
        # Between the last length that fits and the first one that does not.
        pieces.axvline(stats.limit.max_tokens + 0.5, color="#333333", linestyle="--", linewidth=1)
        cut = sum(split.truncated(stats.limit.max_tokens) for split in stats.splits.values())
        part = cut / max(1, sum(split.n for split in stats.splits.values()))
        pieces.set_title(f"word-pieces, {part:.1%} beyond the limit of {stats.limit.max_tokens}")
    figure.legend(*share.get_legend_handles_labels(), loc="outside upper right", ncols=len(stats.splits))
    return figure


def _categories(stats: DatasetStats) -> list[str]:
    """The largest categories, largest first; none where the dataset has none."""
    total = Counter[str]()
    for split in stats.splits.values():
        total.update(split.category)
    if set(total) == {UNMATCHED}:
        return []
    return [name for name, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))][:MOST_CATEGORIES]


def _bars(axes: Axes, stats: DatasetStats, names: list[str], letters: fonts.Lettering) -> None:
    thick = 0.8 / len(stats.splits)
    for order, split in enumerate(stats.splits.values()):
        place_N = np.arange(len(names)) + (order - (len(stats.splits) - 1) / 2) * thick
        values = [100 * split.category[name] / max(1, split.n) for name in names]
        axes.barh(place_N, values, height=thick, color=COLOURS[order])
    axes.set_yticks(range(len(names)), [letters(name) for name in names])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.margins(y=0.01)
    everything = len({name for split in stats.splits.values() for name in split.category})
    title = "category, share of the split (%)"
    axes.set_title(title + (f", the {len(names)} largest of {everything}" if everything > len(names) else ""))


def _columns(axes: Axes, stats: DatasetStats, names: list[str]) -> None:
    thick = 0.8 / len(stats.splits)
    for order, split in enumerate(stats.splits.values()):
        place_N = np.arange(len(names)) + (order - (len(stats.splits) - 1) / 2) * thick
        values = [100 * split.size["pixels"][name] / max(1, split.n) for name in names]
        axes.bar(place_N, values, width=thick, color=COLOURS[order])
    remarks = {"small": "< 32²", "medium": "< 96²", "large": "≥ 96²"}
    labels = [f"{name.replace('_', ' ')}\n{remarks.get(name, '')}" for name in names]
    axes.set_xticks(range(len(names)), labels)
    axes.grid(axis="x", visible=False)
    axes.set(title="target area, pixels", ylabel="share of the split (%)")


def _sizes(axes: Axes, stats: DatasetStats) -> None:
    for order, (name, split) in enumerate(stats.splits.items()):
        axes.stairs(100 * split.share / max(1, split.n), SHARE_EDGES, color=COLOURS[order], linewidth=1.4, label=name)
    axes.set_xscale("log")
    axes.set_xticks(
        [10.0**power for power in range(-5, 1)], ["≤0.001%", "0.01%", "0.1%", "1%", "10%", "100%"], minor=False
    )
    axes.set_xlim(SHARE_EDGES[0], 1)
    axes.set(title="target area, share of the picture", ylabel="share of the split (%)", ylim=(0, None))


def _lengths(axes: Axes, stats: DatasetStats, what: str, title: str) -> None:
    longest = max((max(getattr(split, what), default=0) for split in stats.splits.values()), default=0)
    edge_N = np.arange(longest + 2) - 0.5
    for order, split in enumerate(stats.splits.values()):
        counter: Counter[int] = getattr(split, what)
        value_N = [100 * counter[length] / max(1, split.n) for length in range(longest + 1)]
        axes.stairs(value_N, edge_N, color=COLOURS[order], linewidth=1.4)
    axes.set(title=title, ylabel="share of the split (%)", ylim=(0, None))
