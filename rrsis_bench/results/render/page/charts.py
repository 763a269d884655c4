"""The page's charts as SVG text: plain functions from numbers to markup, the same bytes for the same numbers.

Colours are the page's CSS variables, so that light and dark need no second drawing. A series is told by its colour and
by its mark. Text from records is escaped here, since it does not pass through a template.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from rrsis_bench.eval.scores import Score as Value

WIDTH = 400  # user units; about the pixels of a column, so that a phone shows the text at readable size
SLOTS = 5  # series with a colour and a mark of their own
REST = SLOTS  # the slot of everything else

MARKS = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z",  # disc
    "M-3.6,-3.6h7.2v7.2h-7.2Z",  # square
    "M0,-4.8L4.6,3.4H-4.6Z",  # triangle
    "M0,-5.2L4.6,0L0,5.2L-4.6,0Z",  # diamond
    "M0,4.8L4.6,-3.4H-4.6Z",  # triangle, tip down
    "M-2.6,0a2.6,2.6 0 1,0 5.2,0a2.6,2.6 0 1,0 -5.2,0Z",  # small disc
)
CONTROL_MARKS = {
    "score": MARKS[0],
    "category_only": MARKS[3],
    "same_image_other_expression": MARKS[2],
    "shuffled_text": "M-4,-4L4,4M-4,4L4,-4",
}


@dataclass(frozen=True, slots=True)
class Series:
    """One row of the leaderboard in a chart: its name, its slot, and a figure (or None) per position."""

    label: str
    slot: int
    values: tuple[Value | None, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One row in a scatter plot."""

    label: str
    slot: int
    x: float
    y: Value


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear or logarithmic map from data to user units."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of `value`."""
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        share = ((math.log10(value) if self.log else value) - low) / (high - low)
        return self.start + share * (self.stop - self.start)


def mark(slot: int, shape: str = "") -> Markup:
    """A legend's mark."""
    path = _path(shape or MARKS[slot], f"m s{slot}")
    return _join('<svg class="key" viewBox="-7 -7 14 14" aria-hidden="true">', path, "</svg>")


def control_mark(name: str) -> Markup:
    """A legend's mark of the score itself or of a language control."""
    path = _path(CONTROL_MARKS[name], f"c {name}")
    return _join('<svg class="key" viewBox="-7 -7 14 14" aria-hidden="true">', path, "</svg>")


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """At most about `n` round numbers from `low` to `high`; the first is not above `low`, the last not below `high`."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / n))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= n)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Ones, twos and fives of each decade that enclose `low` and `high`, both positive."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = [round(factor * 10.0**decade, 10) for decade in decades for factor in (1, 2, 5)]
    below = [step for step in steps if step <= low][-1:]
    return below + [step for step in steps if low < step < high] + [step for step in steps if step >= high][:1]


def thresholds(ident: str, title: str, labels: Sequence[str], series: Sequence[Series]) -> Markup:
    """Curves over evenly spaced positions, with whiskers; the y axis starts at 0."""
    height, left, right, top, bottom = 250, 34, WIDTH - 8, 10, 214
    y = _axis_from_zero(series, bottom, top)
    step = (right - left) / len(labels)
    parts = _horizontal_grid(y, left, right)
    for index, label in enumerate(labels):
        parts.append(_text(left + step * (index + 0.5), bottom + 16, label, "middle"))
    parts.append(_text((left + right) / 2, height - 4, "IoU threshold X", "middle", "muted"))
    for order, entry in enumerate(series):
        shift = (order - (len(series) - 1) / 2) * 7
        spots = [
            (left + step * (index + 0.5) + shift, value)
            for index, value in enumerate(entry.values)
            if value is not None
        ]
        line = "".join(f"{'L' if index else 'M'}{_n(x)},{_n(y(value.value))}" for index, (x, value) in enumerate(spots))
        parts.append(_path(line, f"line s{entry.slot}"))
        for (x, value), label in zip(spots, labels, strict=False):
            parts.append(_whisker(x, value, y, entry.slot, f"{entry.label}, Pr@{label}: {value.text}"))
    return _svg(ident, title, _summary(labels, series), height, parts)


def bars(ident: str, title: str, groups: Sequence[tuple[str, str]], series: Sequence[Series]) -> Markup:
    """Horizontal bars in groups of one bar per series, with whiskers and the series' mark at the end.

    Args:
        ident: unique on the page.
        title: what a screen reader says.
        groups: name and remark (such as the number of samples); an empty name leaves a gap with the remark as heading.
        series: one value per group.
    """
    thick = 7 if len(series) > 2 else 9
    block = thick * len(series) + 7
    left = 24 + 6.3 * max((_wide(_cut(name)) + _wide(remark) + 1 for name, remark in groups if name), default=8)
    left, right, top = min(left, 190.0), WIDTH - 12, 6
    heights = [max(block, 16) if name else 20 for name, _ in groups]
    bottom = top + sum(heights)
    high = max((value.hi or value.value for entry in series for value in entry.values if value), default=1.0)
    steps = ticks(0.0, min(100.0, high) or 1.0, 5)
    x = Scale(0.0, steps[-1], left, right)
    parts = [_line(x(step), top, x(step), bottom, "grid") for step in steps]
    parts += [_text(x(step), bottom + 15, _tick(step), "middle", "muted") for step in steps]
    start = float(top)
    for index, ((name, remark), height) in enumerate(zip(groups, heights, strict=True)):
        if not name:
            parts.append(_text(left - 8, start + 14, remark, "end", "muted"))
            start += height
            continue
        middle = start + height / 2
        remark_text = f' <tspan class="muted">{escape(remark)}</tspan>' if remark else ""
        parts.append(
            f'<text x="{_n(left - 8)}" y="{_n(middle + 4)}" text-anchor="end">{escape(_cut(name))}{remark_text}</text>'
        )
        for order, entry in enumerate(series):
            value = entry.values[index]
            if value is None:
                continue
            y = middle + (order - (len(series) - 1) / 2) * thick
            parts.append(_bar(x, y, thick - 2, value, entry.slot, f"{entry.label}, {name}: {value.text}"))
        start += height
    return _svg(ident, title, _summary([name for name, _ in groups], series), bottom + 22, parts)


def controls(ident: str, title: str, rows: Sequence[tuple[str, dict[str, Value]]]) -> Markup:
    """One line per row: its score with interval, and what is left of it under each language control."""
    pitch, top, right = 24, 8, WIDTH - 14
    left = min(24 + 6.3 * max((_wide(_cut(label)) for label, _ in rows), default=8), 170.0)
    bottom = top + pitch * len(rows)
    high = max((value.hi or value.value for _, values in rows for value in values.values()), default=1.0)
    steps = ticks(0.0, high or 1.0, 5)
    x = Scale(0.0, steps[-1], left, right)
    parts = [_line(x(step), top, x(step), bottom, "grid") for step in steps]
    parts += [_text(x(step), bottom + 16, _tick(step), "middle", "muted") for step in steps]
    said = []
    for index, (label, values) in enumerate(rows):
        y = top + pitch * (index + 0.5)
        parts.append(_text(left - 8, y + 4, _cut(label), "end"))
        places = [x(value.value) for value in values.values()]
        if len(places) > 1:
            parts.append(_line(min(places), y, max(places), y, "span"))
        for name, value in values.items():
            inner = _path(CONTROL_MARKS[name], f"c {name}", x(value.value), y)
            if name == "score" and value.lo is not None and value.hi is not None:
                inner = _line(x(value.lo), y, x(value.hi), y, "err ink") + inner
            words = name.replace("_", " ")
            parts.append(f"<g><title>{escape(label)}, {words}: {value.text}</title>{inner}</g>")
        said.append(
            f"{label}: " + ", ".join(f"{name.replace('_', ' ')} {value.value:.1f}" for name, value in values.items())
        )
    return _svg(ident, title, "; ".join(said), bottom + 22, parts)


def scatter(ident: str, title: str, unit: str, points: Sequence[Point]) -> Markup:
    """Draw mIoU over a cost; logarithmic where the costs span more than a factor of 20."""
    height, left, right, top, bottom = 176, 34, WIDTH - 16, 8, 138
    lows = [point.y.lo if point.y.lo is not None else point.y.value for point in points]
    highs = [point.y.hi if point.y.hi is not None else point.y.value for point in points]
    y_steps = ticks(min(lows), max(highs), 4)
    y = Scale(y_steps[0], y_steps[-1], bottom, top)
    smallest, largest = min(point.x for point in points), max(point.x for point in points)
    log = smallest > 0 and largest > 20 * smallest
    x_steps = log_ticks(smallest, largest) if log else ticks(0.0, largest * 1.05, 6)
    x = Scale(x_steps[0], x_steps[-1], left + 6, right, log)
    parts = [_line(left, y(step), right, y(step), "grid") for step in y_steps]
    parts += [_text(left - 6, y(step) + 4, _tick(step), "end", "muted") for step in y_steps]
    shown_steps = x_steps if len(x_steps) < 9 else [step for step in x_steps if f"{step:e}"[0] == "1"]
    parts += [_line(x(step), top, x(step), bottom, "grid") for step in shown_steps]
    parts += [_text(x(step), bottom + 16, _tick(step), "middle", "muted") for step in shown_steps]
    parts.append(_text((left + right) / 2, height - 4, unit + (", logarithmic" if log else ""), "middle", "muted"))
    for point in sorted(points, key=lambda point: -point.slot):
        words = f"{point.label}: {point.y.text} at {point.x:.4g} {unit}"
        parts.append(_whisker(x(point.x), point.y, y, point.slot, words))
    said = "; ".join(f"{point.label}: mIoU {point.y.value:.1f} at {point.x:.4g}" for point in points[:12])
    return _svg(ident, title, said, height, parts)


def forest(value: Value, low: float, high: float) -> Markup:
    """The interval of one row on the scale of its table; the figures stand beside it."""
    x = Scale(low, high, 5.0, 105.0) if high > low else Scale(low - 1, high + 1, 5.0, 105.0)
    whisker = ""
    if value.lo is not None and value.hi is not None:
        whisker = _line(x(value.lo), 8, x(value.hi), 8, "err ink")
    body = _line(5, 15, 105, 15, "grid") + whisker + _path(MARKS[0], "m ink", x(value.value), 8)
    return Markup(f'<svg class="forest" viewBox="0 0 110 16" aria-hidden="true">{body}</svg>')


def _axis_from_zero(series: Sequence[Series], bottom: float, top: float) -> Scale:
    high = max((value.hi or value.value for entry in series for value in entry.values if value), default=1.0)
    return Scale(0.0, ticks(0.0, high or 1.0, 5)[-1], bottom, top)


def _horizontal_grid(y: Scale, left: float, right: float) -> list[str]:
    parts = []
    for step in ticks(y.low, y.high, 5):
        parts.append(_line(left, y(step), right, y(step), "grid"))
        parts.append(_text(left - 6, y(step) + 4, _tick(step), "end", "muted"))
    return parts


def _whisker(x: float, value: Value, y: Scale, slot: int, words: str) -> str:
    inner = _path(MARKS[slot], f"m s{slot}", x, y(value.value))
    if value.lo is not None and value.hi is not None:
        inner = _line(x, y(value.lo), x, y(value.hi), f"err s{slot}") + inner
    return f"<g><title>{escape(words)}</title>{inner}</g>"


def _bar(x: Scale, y: float, thick: float, value: Value, slot: int, words: str) -> str:
    end = x(value.value)
    inner = (
        f'<rect class="bar s{slot}" x="{_n(x.start)}" y="{_n(y - thick / 2)}" '
        f'width="{_n(max(end - x.start, 0.0))}" height="{_n(thick)}"/>'
    )
    if value.lo is not None and value.hi is not None:
        inner += _line(x(value.lo), y, x(value.hi), y, f"err s{slot}")
    inner += _path(MARKS[slot], f"m s{slot}", end, y, 0.75)
    return f"<g><title>{escape(words)}</title>{inner}</g>"


def _summary(names: Sequence[str], series: Sequence[Series]) -> str:
    """What a screen reader says instead of the picture."""
    return "; ".join(
        f"{entry.label}: "
        + ", ".join(
            f"{name} {value.value:.1f}" for name, value in zip(names, entry.values, strict=True) if value is not None
        )
        for entry in series
    )


def _svg(ident: str, title: str, desc: str, height: float, parts: Sequence[str]) -> Markup:
    return Markup(  # every text in `parts` went through `escape`
        f'<svg class="chart" viewBox="0 0 {WIDTH} {_n(height)}" role="img" aria-labelledby="{ident}-t {ident}-d">'
        f'<title id="{ident}-t">{escape(title)}</title><desc id="{ident}-d">{escape(desc)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def _join(*parts: str) -> Markup:
    return Markup("".join(parts))  # constants of this module only


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<path class="{kind}" d="M{_n(x1)},{_n(y1)}L{_n(x2)},{_n(y2)}"/>'


def _path(shape: str, kind: str, x: float = 0.0, y: float = 0.0, size: float = 1.0) -> str:
    move = f" translate({_n(x)} {_n(y)})" if x or y else ""
    move += f" scale({_n(size)})" if size != 1.0 else ""
    return f'<path class="{kind}" d="{shape}"' + (f' transform="{move.strip()}"' if move else "") + "/>"


def _text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def _n(value: float) -> str:
    """A coordinate: one decimal, without a trailing zero or a minus before nothing."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def _tick(value: float) -> str:
    return f"{value:g}" if abs(value) < 100_000 else f"{value / 1000:,.0f}k"


def _cut(name: str, limit: int = 24) -> str:
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def _wide(words: str) -> int:
    """Widths of a digit: signs beyond Latin, Greek and Cyrillic count double."""
    return sum(1 if ord(sign) < 0x1100 else 2 for sign in words)
