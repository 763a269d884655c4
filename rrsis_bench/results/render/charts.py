"""The charts of a leaderboard: one definition each, drawn by matplotlib for the page and for papers.

Equal numbers give equal bytes: the SVG has no date, and its ids have a fixed salt. Each series has a colour and a mark.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from rrsis_bench.eval.scores import Score
from rrsis_bench.printing import printable
from rrsis_bench.results.render import fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 300
WIDTH = 3.5  # inches: one column of a two-column paper
SLOTS = 5  # series with a colour and a mark of their own
COLOURS = ("#0072b2", "#c84e00", "#00795c", "#a3458a", "#7d6200", "#8b939c")  # the last one: all other series
INK, SOFT, GRID = "#1a1d21", "#5a626c", "#e2e6eb"
_MARKERS = ("o", "s", "^", "D", "v", ".")
_LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (8, 2)))
_CONTROL_STYLE = {  # control -> slot, marker
    "score": (0, "o"), "category_only": (4, "D"), "same_image_other_expression": (2, "^"), "shuffled_text": (3, "x"),
}  # fmt: skip
STYLE: Any = {  # plain text: a name may contain a dollar sign
    "svg.hashsalt": "rrsis-bench", "svg.fonttype": "none", "font.family": fonts.OWN, "font.size": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "text.color": INK,
    "axes.labelcolor": INK, "axes.edgecolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT, "axes.axisbelow": True,
    "text.parse_math": False, "legend.frameon": False, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
}  # fmt: skip
_PAGE_COLOURS = {  # colour -> variable of the page's style sheet, so that one drawing serves light and dark
    **{colour: f"var(--s{slot})" for slot, colour in enumerate(COLOURS)},
    INK: "var(--ink)", SOFT: "var(--soft)", GRID: "var(--grid)", "#ffffff": "var(--card)",
}  # fmt: skip


_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


@dataclass(frozen=True, slots=True)
class Series:
    """One row of the leaderboard: its name, its colour, and a score (or None) per position."""

    label: str
    slot: int
    scores: tuple[Score | None, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One row in a scatter plot."""

    label: str
    slot: int
    x: float
    score: Score


@dataclass(frozen=True, slots=True)
class Curves:
    """Scores over evenly spaced positions, with intervals."""

    labels: tuple[str, ...]
    axis: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Bars:
    """Horizontal bars in groups of one bar per series, with intervals; `groups` are names with a remark."""

    groups: tuple[tuple[str, str], ...]
    axis: str
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Controls:
    """One line per row: its score with interval, and its score under each language control."""

    axis: str
    rows: tuple[tuple[str, tuple[tuple[str, Score], ...]], ...]
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Scatter:
    """A score over costs, one panel per cost."""

    axis: str
    panels: tuple[tuple[str, tuple[Point, ...]], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its file name, its heading, and a note for the reader."""

    name: str
    title: str
    content: Curves | Bars | Controls | Scatter
    note: str = ""


class _Drawing:
    """A figure, and the words that each mark shows on hover: id of the mark -> words."""

    def __init__(self, height: float, panels: int = 1) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(self.figure)
        self.axes: list[Axes] = list(self.figure.subplots(panels, 1, squeeze=False)[:, 0])
        self.words: dict[str, str] = {}

    def mark(self, words: str) -> str:
        """Return a new id for a mark with these words."""
        name = f"mark{len(self.words)}"
        self.words[name] = printable(words)
        return name

    def legend(self, columns: int = 2) -> None:
        """Put the entries of all panels above them, each once."""
        pairs = [axes.get_legend_handles_labels() for axes in self.axes]
        entries = {label: handle for handles, labels in pairs for handle, label in zip(handles, labels, strict=True)}
        self.figure.legend(list(entries.values()), list(entries), loc="outside upper center", ncols=columns)


def png(chart: Chart, letters: fonts.Lettering) -> bytes:
    """Return the chart as PNG."""
    return _save(chart, letters, "png")[0]


def svg(chart: Chart, letters: fonts.Lettering) -> bytes:
    """Return the chart as an SVG file."""
    return _save(chart, letters, "svg")[0]


@lru_cache(maxsize=256)
def inline_svg(chart: Chart, ident: str) -> Markup:
    """Return the chart as an SVG element for the page.

    Colours become the page's variables, every mark has its words on hover, and a screen reader reads all of them.

    Args:
        chart: the chart.
        ident: prefix of ids, unique on the page.
    """
    with warnings.catch_warnings():
        # The page's own fonts draw its text; here the widths of missing characters are only estimated.
        warnings.filterwarnings("ignore", message="Glyph")
        packed, words = _save(chart, fonts.Lettering((fonts.OWN,), frozenset()), "svg")
    root = ElementTree.fromstring(packed)
    space, link = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
    used = {element.attrib[link][1:] for element in root.iter() if link in element.attrib}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{space}metadata", f"{space}style", f"{space}clipPath"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(space)
        element.attrib.pop("clip-path", None)
        name = element.attrib.pop("id", "")
        if name in used:
            element.set("id", f"{ident}-{name}")
        if link in element.attrib:
            element.set("href", f"#{ident}-{element.attrib.pop(link)[1:]}")
        for key, value in element.attrib.items():
            if key == "style":
                for colour, variable in _PAGE_COLOURS.items():
                    value = value.replace(colour, variable)
            elif key in ("d", "x", "y", "transform", "points"):
                value = _LONG_NUMBER.sub(lambda found: f"{float(found[0]):.2f}", " ".join(value.split()))
            element.set(key, value)
        if name in words:
            title = ElementTree.Element("title")
            title.text = words[name]
            element.insert(0, title)
    for name, text in (("desc", "; ".join(words.values())), ("title", chart.title)):
        child = ElementTree.Element(name, {"id": f"{ident}-{name}"})
        child.text = text
        root.insert(0, child)
    view = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update(
        {"class": "chart", "viewBox": view, "role": "img", "aria-labelledby": f"{ident}-title {ident}-desc"}
    )
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # the serialiser escapes every text


def _save(chart: Chart, letters: fonts.Lettering, kind: str) -> tuple[bytes, dict[str, str]]:
    from matplotlib import rc_context

    drawers: dict[type, Any] = {Curves: _curves, Bars: _bars, Controls: _controls, Scatter: _scatter}
    packed = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with rc_context({**STYLE, "font.family": letters.families}):
        drawing: _Drawing = drawers[type(chart.content)](chart.content, letters)
        drawing.figure.savefig(packed, format=kind, dpi=DPI, metadata=metadata)
    return packed.getvalue(), drawing.words


def _value(score: Score) -> float:
    """The value for a coordinate; NaN is not drawn."""
    return math.nan if score.value is None else score.value


def _errors(score: Score) -> list[list[float]]:
    """Lengths of the whiskers below and above; 0 if there is no interval."""
    low = 0.0 if score.lo is None else max(_value(score) - score.lo, 0.0)
    high = 0.0 if score.hi is None else max(score.hi - _value(score), 0.0)
    return [[low], [high]]


def _whisker(drawing: _Drawing, axes: Axes, x: float, score: Score, slot: int, words: str, label: str) -> None:
    line, _, _ = axes.errorbar(
        [x], [_value(score)], yerr=_errors(score), color=COLOURS[slot], marker=_MARKERS[slot], markersize=3.5,
        linestyle="none", linewidth=1, elinewidth=0.8, label=label,
    )  # fmt: skip
    line.set_gid(drawing.mark(words))


def _curves(chart: Curves, letters: fonts.Lettering) -> _Drawing:
    drawing = _Drawing(2.6)
    (axes,) = drawing.axes
    for order, entry in enumerate(chart.series):
        shift = (order - (len(chart.series) - 1) / 2) * 0.08
        spots = [(place + shift, score) for place, score in enumerate(entry.scores) if score is not None]
        axes.plot(
            [x for x, _ in spots], [_value(score) for _, score in spots], color=COLOURS[entry.slot],
            linestyle=_LINES[entry.slot], linewidth=1,
        )  # fmt: skip
        for place, score in enumerate(entry.scores):
            if score is not None:
                words = f"{entry.label}, X = {chart.labels[place]}: {score.text}"
                _whisker(drawing, axes, place + shift, score, entry.slot, words, letters(entry.label))
    axes.set_xticks(range(len(chart.labels)), chart.labels)
    axes.set(xlabel=chart.axis, ylim=(0, None))
    drawing.legend()
    return drawing


def _bars(chart: Bars, letters: fonts.Lettering) -> _Drawing:
    drawing = _Drawing(0.7 + len(chart.groups) * (0.1 + 0.09 * len(chart.series)))
    (axes,) = drawing.axes
    thick = 0.8 / len(chart.series)
    for order, entry in enumerate(chart.series):
        for place, score in enumerate(entry.scores):
            if score is None or score.value is None:
                continue
            y = place + (order - (len(chart.series) - 1) / 2) * thick
            (bar,) = axes.barh([y], [score.value], height=0.85 * thick, color=COLOURS[entry.slot], alpha=0.35)
            bar.set_gid(drawing.mark(f"{entry.label}, {chart.groups[place][0]}: {score.text}"))
            axes.errorbar(
                [score.value], [y], xerr=_errors(score), color=COLOURS[entry.slot], marker=_MARKERS[entry.slot],
                markersize=2.5, linestyle="none", elinewidth=0.7, label=letters(entry.label),
            )  # fmt: skip
    labels = [letters(" ".join(filter(None, (_cut(name), remark)))) for name, remark in chart.groups]
    axes.set_yticks(range(len(labels)), labels)
    axes.margins(y=0.01)
    axes.set(xlabel=chart.axis, xlim=(0, None))
    axes.grid(axis="y", visible=False)
    axes.invert_yaxis()
    drawing.legend()
    return drawing


def _controls(chart: Controls, letters: fonts.Lettering) -> _Drawing:
    drawing = _Drawing(1.0 + 0.25 * len(chart.rows))
    (axes,) = drawing.axes
    labels = dict(chart.labels)
    for place, (label, scores) in enumerate(chart.rows):
        values = [_value(score) for _, score in scores]
        axes.plot([min(values), max(values)], [place, place], color=SOFT, linewidth=0.8)
        for name, score in scores:
            slot, marker = _CONTROL_STYLE[name]
            line, _, _ = axes.errorbar(
                [_value(score)], [place], xerr=_errors(score), color=INK if name == "score" else COLOURS[slot],
                marker=marker, markersize=4.5, linestyle="none", linewidth=1, label=labels[name],
            )  # fmt: skip
            line.set_gid(drawing.mark(f"{label}, {labels[name]}: {score.text}"))
    axes.set_yticks(range(len(chart.rows)), [letters(_cut(label)) for label, _ in chart.rows])
    axes.set(xlabel=chart.axis, xlim=(0, None), ylim=(len(chart.rows) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    drawing.legend()
    return drawing


def _scatter(chart: Scatter, letters: fonts.Lettering) -> _Drawing:
    drawing = _Drawing(0.4 + 1.6 * len(chart.panels), len(chart.panels))
    for axes, (unit, points) in zip(drawing.axes, chart.panels, strict=True):
        for point in sorted(points, key=lambda point: -point.slot):
            words = f"{point.label}: {point.score.text} at {point.x:.4g} {unit}"
            label = letters(point.label) if point.slot < SLOTS else "other rows"
            _whisker(drawing, axes, point.x, point.score, point.slot, words, label)
        costs = [point.x for point in points if point.x > 0]
        if costs and max(costs) > 20 * min(costs):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")  # matplotlib's own writes formulas, which are not parsed here
            axes.xaxis.set_minor_formatter("")
        axes.margins(x=0.15)
        axes.set(xlabel=unit, ylabel=chart.axis)
    drawing.legend()
    return drawing


def _cut(name: str, limit: int = 24) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"
