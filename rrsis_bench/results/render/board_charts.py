"""Define the charts of a leaderboard from its rows, once for the page and for the files of `rrsis-bench figures`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rrsis_bench.eval.metrics import METRICS, PRECISIONS
from rrsis_bench.eval.scores import CONTROLS, Score
from rrsis_bench.results.board.rows import BoardRow
from rrsis_bench.results.render.charts import SLOTS, Bars, Chart, Controls, Curves, Point, Scatter, Series
from rrsis_bench.results.render.probes import ARROWS, blocks

CONTROL_LABELS = {
    "score": ("mIoU", "with the true expression"),
    "category_only": ("category only", "mIoU with the category's name instead of the expression"),
    "same_image_other_expression": ("other expression", "mIoU with another expression of the same image"),
    "shuffled_text": ("shuffled text", "mIoU with another image's expression"),
}
PROBE_NOTE = (
    "One figure of each probe, with 95% intervals, images resampled. An arrow up means that more is better, an arrow "
    "down that less is better."
)
_SCHEMES = {"pixels": "pixels", "share": "share of image"}
_SIZE_REMARKS = {"small": "<32²", "medium": "<96²", "large": "≥96²"}
_COSTS = (("params_total", "parameters (M)", 1e-6), ("gflops", "GFLOPs", 1.0), ("fps", "FPS", 1.0))


def board_charts(rows: Sequence[BoardRow]) -> list[Chart]:
    """Return the charts of comparable rows that have scores.

    Curves and bars show the first `SLOTS` rows, so that they stay readable. Charts without any value are left out.
    """
    few = rows[:SLOTS]
    labels = {id(row): label_of(row, rows) for row in rows}
    left_out = f" The first {len(few)} of {len(rows)} rows." if len(few) < len(rows) else ""

    def series(values: Callable[[BoardRow], Sequence[Score | None]]) -> tuple[Series, ...]:
        return tuple(Series(labels[id(row)], slot, tuple(values(row))) for slot, row in enumerate(few))

    def bars(name: str, title: str, groups: Sequence[tuple[str, ...]], note: str = "") -> list[Chart]:
        shown = tuple((_group_name(path), _group_remark(path, few)) for path in groups)
        content = Bars(shown, "mIoU (%)", series(lambda row: [_or_none(row.score("miou", *path)) for path in groups]))
        note = f"95% intervals, images resampled; each name is followed by its number of expressions.{left_out}{note}"
        return [Chart(name, title, content, note)] if groups else []

    found = []
    controls = []
    for row in rows:
        scores = {"score": row.score("miou"), **{name: row.score("miou", "control", name) for name in CONTROLS[::-1]}}
        known = {name: score for name, score in scores.items() if score.value is not None}
        if known.keys() - {"score"}:
            controls.append((labels[id(row)], tuple(known.items())))
    if controls:
        names = tuple((name, label) for name, (label, _) in CONTROL_LABELS.items())
        note = (
            "Each line is one model: its mIoU with the expression, without it, and with the category's name only. A "
            "model that ignores language would show all marks on top of each other."
        )
        found.append(Chart("controls", "Effect of language", Controls("mIoU (%)", tuple(controls), names), note))
    probes = blocks(few)
    if probes:
        shown = tuple((block.title, ARROWS[block.headline.better]) for block in probes)
        values = series(lambda row: [_or_none(row.score(b.headline.name, "probes", b.name)) for b in probes])
        named = ", ".join(f"{block.title}: {block.headline.meaning}" for block in probes)
        note = f"{PROBE_NOTE} {named}.{left_out}"
        found.append(Chart("probes", "What changes with the words (%)", Bars(shown, "%", values), note))
    curves = Curves(tuple(PRECISIONS.values()), "IoU threshold X", series(lambda row: [
        _or_none(row.score(name)) for name in PRECISIONS
    ]))  # fmt: skip
    found.append(Chart("thresholds", "Pr@X over the IoU threshold (%)", curves, f"95% intervals.{left_out}"))
    sizes = [("per_size", scheme, name) for scheme in _SCHEMES for name in _names(few, "per_size", scheme)]
    found += bars("sizes", "mIoU by target size (%)", sizes)
    panels = []
    for field, unit, factor in _COSTS:
        points = []
        for index, row in enumerate(rows):
            cost, score = row.mean("efficiency", field), row.score("miou")
            if cost is not None and score.value is not None:
                points.append(Point(labels[id(row)], min(index, SLOTS), cost * factor, score))
        if points:
            panels.append((unit, tuple(points)))
    if panels:
        devices = sorted({row.text("efficiency", "device") for row in rows} - {""})
        where = devices[0] if len(devices) == 1 else f"different devices: {', '.join(devices)}"
        note = f"FPS measured on {where}." if devices else ""
        found.append(Chart("efficiency", "mIoU (%) over cost", Scatter("mIoU (%)", tuple(panels)), note))
    categories = sorted(_names(few, "per_category"))
    if len(categories) > 1:
        macro = [(labels[id(row)], row.score("macro_miou").value) for row in few]
        means = ", ".join(f"{label} {value:.2f}" for label, value in macro if value is not None)
        note = f" {METRICS['macro_miou'].label}: {means}."
        found += bars("categories", "mIoU by category (%)", [("per_category", name) for name in categories], note)
    return found


def label_of(row: BoardRow, rows: Sequence[BoardRow]) -> str:
    """Return the row's name, with its size and hash if other rows have the same name."""
    others = [other for other in rows if other.label == row.label and other is not row]
    size = f" {row.head.size}" if any(other.head.size != row.head.size for other in others) else ""
    again = any(other.head.size == row.head.size for other in others)
    return row.label + size + (f" {row.head.train_hash[:4]}" if again else "")


def _or_none(score: Score) -> Score | None:
    return None if score.value is None else score


def _names(rows: Sequence[BoardRow], *path: str) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.names(*path)))


def _group_name(path: tuple[str, ...]) -> str:
    name = path[-1].replace("_", " ")
    return f"{name} ({_SCHEMES[path[1]]})" if path[0] == "per_size" and path[1] == "pixels" else name


def _group_remark(path: tuple[str, ...], rows: Sequence[BoardRow]) -> str:
    sizes = sorted({n for row in rows for n in row.values(*path, "n") if n is not None})
    return " ".join(filter(None, (_SIZE_REMARKS.get(path[-1], ""), "/".join(map(str, sizes)))))
