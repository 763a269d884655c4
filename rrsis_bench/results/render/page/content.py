"""From rows to what the templates show: tables of cells, charts, provenance. No layout here, no HTML but the charts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from markupsafe import Markup

from rrsis_bench.results.record.schema import CONTROLS, PRECISIONS, THRESHOLDS, Record
from rrsis_bench.results.render.page import charts
from rrsis_bench.results.render.page.charts import Point, Series, Value
from rrsis_bench.results.render.page.intervals import Path

if TYPE_CHECKING:
    from rrsis_bench.results.board.tables import Row
    from rrsis_bench.results.published.numbers import PublishedRow

Bounds = Callable[[Record], Mapping[Path, tuple[float, float] | None]]
"""Intervals per category and size class of a record, see `intervals.of_groups`."""

CONTROL_LABELS = {
    "score": ("mIoU", "with the true expression"),
    "category_only": ("category only", "mIoU with the category's name instead of the expression"),
    "same_image_other_expression": ("other expression", "mIoU with another expression of the same image"),
    "shuffled_text": ("shuffled text", "mIoU with another image's expression"),
}
SCHEMES = {"pixels": "area, pixels", "share": "share of image"}
SIZE_REMARKS = {"small": "<32²", "medium": "<96²", "large": "≥96²"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a sortable table."""

    label: str
    title: str = ""
    number: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows, what it is sorted by (empty: last), and a second, smaller line."""

    text: str | Markup = ""
    sort: str = ""
    sub: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A sortable table; `attributes` are data attributes per row, for the filter."""

    ident: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    attributes: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure: heading, legend of (mark, words), pictures, and what a reader must know."""

    title: str
    legend: tuple[tuple[Markup, str], ...]
    pictures: tuple[Markup, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Provenance of one record, for people, with the paths of its files."""

    label: str
    record: str
    counts: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Board:
    """Everything about the rows that may be compared with each other."""

    ident: str
    data: str
    split: str
    protocol: str
    title: str
    facts: tuple[str, ...]
    ranked: Table | None
    unranked: Table | None
    charts: tuple[Chart, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = field(default=())


def boards(rows: Sequence[Row], bounds: Bounds) -> list[Board]:
    """One board per comparable group, in the order of the rows: ranked groups first, then groups without a rank."""
    keys = list(dict.fromkeys(row.comparable for row in rows))
    members = {key: list(group) for key, group in groupby(sorted(rows, key=lambda r: keys.index(r.comparable)), _key)}
    crowded = {key: sum(other[:3] == key[:3] for other in keys) > 1 for key in keys}
    return [_board(members[key], f"b{index}", crowded[key], bounds) for index, key in enumerate(keys)]


def _key(row: Row) -> tuple[str, ...]:
    return row.comparable


def _board(rows: Sequence[Row], ident: str, crowded: bool, bounds: Bounds) -> Board:
    head = rows[0].head
    ranked = [row for row in rows if row.rank is not None]
    unranked = [row for row in rows if row.rank is None]
    facts = [
        f"protocol {head.protocol.name}",
        f"IoU at {'the mask’s own size' if head.protocol.resolution == 'native' else 'the model’s input size'}",
        f"checkpoint by {head.protocol.selection_split} {_metric(head.protocol.selection_metric)}",
        f"n = {max(row.head.n for row in rows):,} expressions",
    ]
    if crowded:  # tell apart what the title alone would not
        fingerprint = (head.dataset_fingerprint or "unknown")[:8]
        facts.append(f"rules {head.protocol.scoring_id}, metric version {head.metric_version}, data {fingerprint}")
    noted = dict.fromkeys(f"{row.label}: {note}" for row in rows for note in row.text("notes").split("; ") if note)
    scored = [row for row in ranked or unranked if value_of(row, "miou") is not None]
    return Board(
        ident=ident,
        data=head.data,
        split=head.split,
        protocol=head.protocol.name,
        title=f"{head.data} · {head.split}",
        facts=tuple(facts),
        ranked=_scores(ranked, f"{ident}-ranked", f"Ranked rows of {head.data} {head.split}") if ranked else None,
        unranked=_scores(unranked, f"{ident}-unranked", f"Unranked rows of {head.data} {head.split}")
        if unranked
        else None,
        charts=tuple(_charts(scored, ident, bounds)) if scored else (),
        runs=tuple(_run(record, row) for row in rows for record in row.records),
        notes=tuple(noted),
    )


def _scores(rows: Sequence[Row], ident: str, caption: str) -> Table:
    """Scores, language controls and cost; a reason instead of a rank where rows have none."""
    ranked = rows[0].rank is not None
    values = [value for row in rows if (value := value_of(row, "miou"))]
    ends = [end for v in values for end in (v.value, v.low, v.high) if end is not None]
    has_empty = any(row.mean("metrics", "nacc") is not None for row in rows)
    shown_controls = [name for name in reversed(CONTROLS) if any(_control(row, name) for row in rows)]
    columns = [
        Column("#", "1 + the number of models that are significantly better"), Column("Model", number=False)
    ] if ranked else [Column("Model", number=False), Column("Not ranked because", number=False)]  # fmt: skip
    columns += [
        Column("Size", "set-up: paper is the published one, tiny the same modules at toy width", number=False),
        Column("Seeds"),
        Column("mIoU", "mean of the expressions' IoU (gIoU), 95% interval"),
        Column("oIoU", "summed intersection over summed union (cIoU), 95% interval"),
        *(Column(f"Pr@0.{tenth}", f"share of expressions with IoU of 0.{tenth} or more") for tenth in THRESHOLDS),
        *([Column("N-acc", "no-target expressions answered by an empty mask")] if has_empty else []),
        *([Column("T-acc", "targeted expressions answered by a mask")] if has_empty else []),
        *(Column(CONTROL_LABELS[name][0].capitalize(), CONTROL_LABELS[name][1]) for name in shown_controls),
        Column("Params (M)", "all parameters, millions"),
        Column("GFLOPs", "one forward pass"),
        Column("FPS", "expressions per second, at the batch size and on the device under Provenance"),
    ]
    lines = []
    for row in rows:
        label = Cell(row.head.model, row.label, " ".join(row.head.variant))
        first = [Cell(str(row.rank), str(row.rank)), label] if ranked else [label, Cell(row.reason, row.reason)]
        miou = value_of(row, "miou")
        score = _score_cell(row, "miou")
        if miou is not None:
            score = Cell(_with_forest(score.text, miou, min(ends), max(ends)), score.sort, score.sub)
        params = row.mean("efficiency", "params_total")
        lines.append(
            (
                *first, Cell(row.head.size, row.head.size), Cell(str(len(row.records)), str(len(row.records))), score,
                *(_score_cell(row, name) for name in ("oiou", *PRECISIONS)),
                *(_number(row.mean("metrics", name)) for name in ("nacc", "tacc") if has_empty),
                *(_number(row.mean("control", name, "miou")) for name in shown_controls),
                _number(None if params is None else params / 1e6),
                _number(row.mean("efficiency", "gflops")), _number(row.mean("efficiency", "fps"), 1),
            )
        )  # fmt: skip
    return Table(ident, caption, tuple(columns), tuple(lines))


def _with_forest(text: str | Markup, value: Value, low: float, high: float) -> Markup:
    return Markup("{}{}").format(text, charts.forest(value, low, high))


def _charts(rows: Sequence[Row], ident: str, bounds: Bounds) -> list[Chart]:
    """The figures of a board; curves and bars show the first few rows, so that they stay readable."""
    few = list(rows[: charts.SLOTS])
    slots = {id(row): min(index, charts.REST) for index, row in enumerate(rows)}
    legend = tuple((charts.mark(slots[id(row)]), label_of(row, rows)) for row in few)
    left_out = f" The first {len(few)} of {len(rows)} rows." if len(few) < len(rows) else ""
    found = []
    with_controls = [row for row in rows if any(_control(row, name) for name in CONTROLS)]
    if with_controls:
        found.append(_controls_chart(with_controls, rows, ident))
    labels = [f"0.{tenth}" for tenth in THRESHOLDS]
    curves = [
        Series(label_of(row, rows), slots[id(row)], tuple(value_of(row, name) for name in PRECISIONS)) for row in few
    ]
    picture = charts.thresholds(f"{ident}-pr", "Pr@X over the IoU threshold, 95% intervals", labels, curves)
    found.append(Chart("Pr@X over the threshold (%)", legend, (picture,), f"95% intervals.{left_out}"))
    intervals = {id(row): mean_bounds(row, bounds) for row in few}
    sizes = [
        (("per_size", scheme, name), name)
        for scheme in SCHEMES
        for name in dict.fromkeys(name for row in few for name in row.names("per_size", scheme))
    ]
    if sizes:
        found.append(_groups_chart("mIoU by target size (%)", f"{ident}-size", few, rows, slots, sizes, intervals))
    found += _scatter_charts(rows, slots, ident, legend)
    categories = sorted(dict.fromkeys(name for row in few for name in row.names("per_category")))
    if len(categories) > 1:
        paths: list[tuple[Path, str]] = [(("per_category", name), name) for name in categories]
        chart = _groups_chart("mIoU by category (%)", f"{ident}-cat", few, rows, slots, paths, intervals)
        macro = [(label_of(row, rows), row.mean("metrics", "macro_miou")) for row in few]
        means = ", ".join(f"{label} {value:.2f}" for label, value in macro if value is not None)
        note = f"{chart.note}{left_out} Mean over the categories: {means}."
        found.append(Chart(chart.title, chart.legend, chart.pictures, note))
    return found


def _controls_chart(shown: Sequence[Row], rows: Sequence[Row], ident: str) -> Chart:
    lines = []
    for row in shown:
        values = {"score": value_of(row, "miou"), **{name: _control(row, name) for name in reversed(CONTROLS)}}
        lines.append((label_of(row, rows), {name: value for name, value in values.items() if value is not None}))
    used = [name for name in CONTROL_LABELS if any(name in values for _, values in lines)]
    legend = tuple((charts.control_mark(name), CONTROL_LABELS[name][0]) for name in used)
    picture = charts.controls(f"{ident}-ctl", "mIoU and the language controls", lines)
    note = (
        "Each line is one model: what is left of its mIoU when the expression is taken away or cut to its category. "
        "A model that ignores language would show its marks on top of each other."
    )
    return Chart("What language is worth: mIoU (%)", legend, (picture,), note)


def _groups_chart(
    title: str,
    ident: str,
    few: Sequence[Row],
    rows: Sequence[Row],
    slots: Mapping[int, int],
    paths: Sequence[tuple[Path, str]],
    intervals: Mapping[int, Mapping[Path, tuple[float, float]]],
) -> Chart:
    groups: list[tuple[str, str]] = []
    columns: list[list[Value | None]] = []
    scheme = ""
    for path, name in paths:
        if path[0] == "per_size" and path[1] != scheme:
            scheme = path[1]
            groups.append(("", SCHEMES[scheme]))
            columns.append([None] * len(few))
        sizes = sorted({n for row in few for n in row.values(*path, "n") if n is not None})
        remark = " ".join(filter(None, (SIZE_REMARKS.get(name, ""), "/".join(map(str, sizes)))))
        groups.append((name.replace("_", " "), remark))
        columns.append([group_value(row, path, intervals[id(row)].get(path)) for row in few])
    series = [
        Series(label_of(row, rows), slots[id(row)], tuple(column[index] for column in columns))
        for index, row in enumerate(few)
    ]
    legend = tuple((charts.mark(entry.slot), entry.label) for entry in series)
    note = "95% intervals, images resampled; beside each name its expressions."
    return Chart(title, legend, (charts.bars(ident, title, groups, series),), note)


def group_value(row: Row, path: Path, pair: tuple[float, float] | None) -> Value | None:
    """Mean mIoU of a group over the seeds, with its interval."""
    value = row.mean(*path, "miou")
    return None if value is None else Value(value, *(pair or (None, None)))


def mean_bounds(row: Row, bounds: Bounds) -> dict[Path, tuple[float, float]]:
    """Bounds averaged over the seeds that have them, as the tables do with the bounds in the records."""
    seeds = [bounds(record) for record in row.records]
    found = {}
    for path in dict.fromkeys(path for seed in seeds for path in seed):
        pairs = [pair for seed in seeds if (pair := seed.get(path)) is not None]
        if pairs:
            found[path] = (sum(low for low, _ in pairs) / len(pairs), sum(high for _, high in pairs) / len(pairs))
    return found


def _scatter_charts(
    rows: Sequence[Row], slots: Mapping[int, int], ident: str, legend: tuple[tuple[Markup, str], ...]
) -> list[Chart]:
    pictures, devices = [], sorted({row.text("efficiency", "device") for row in rows} - {""})
    costs = (("params_total", "parameters (M)", 1e-6), ("gflops", "GFLOPs", 1.0), ("fps", "FPS", 1.0))
    for name, unit, factor in costs:
        points = []
        for row in rows:
            x, y = row.mean("efficiency", name), value_of(row, "miou")
            if x is not None and y is not None:
                points.append(Point(label_of(row, rows), slots[id(row)], x * factor, y))
        if points:
            pictures.append(charts.scatter(f"{ident}-{name}", f"mIoU over {unit}", unit, points))
    if not pictures:
        return []
    if len(rows) > charts.SLOTS:
        legend = (*legend, (charts.mark(charts.REST), "other rows"))
    note = "FPS measured on " + (devices[0] if len(devices) == 1 else "different devices: " + ", ".join(devices))
    return [Chart("mIoU (%) over cost", legend, tuple(pictures), f"{note}." if devices else "")]


def published_table(rows: Sequence[PublishedRow], ident: str, data: str) -> Table:
    """Figures as printed, in the order of the papers' tables; never ranked."""
    columns = (
        Column("Method", number=False), Column("Encoders", number=False), Column("Printed in", number=False),
        Column("Split", number=False), Column("mIoU"), Column("oIoU"),
        *(Column(f"Pr@0.{tenth}") for tenth in THRESHOLDS), Column("Remarks", number=False),
    )  # fmt: skip
    lines = []
    for row in rows:
        encoders = " + ".join(filter(None, (row.vision_encoder, row.text_encoder)))
        words = [Cell(text, text) for text in (row.method, encoders, row.source, row.split)]
        scores = [_number(row.scores.get(name)) for name in ("miou", "oiou", *PRECISIONS)]
        remark = "; ".join(filter(None, (row.notes, f"copied, {row.copied_from}" if row.copied_from else "")))
        lines.append((*words, *scores, Cell(remark, remark)))
    return Table(
        ident, f"Figures printed in papers, {data}", columns, tuple(lines), tuple({"split": r.split} for r in rows)
    )


def _run(record: Record, row: Row) -> Run:
    where = f"records/{record.data}/{record.model}"
    cost = record.efficiency
    facts = {
        "seed": str(record.seed),
        "commit": (record.git_sha or "unknown")[:10] + (" (dirty tree)" if record.git_dirty else ""),
        "device": " ".join(filter(None, (record.device, record.device_name))),
        "precision": record.precision,
        "torch": record.versions.get("torch", ""),
        "suite": record.versions.get("rrsis_bench", ""),
        "epochs": "" if record.epochs is None else str(record.epochs),
        "train hash": record.train_hash[:12],
        "eval hash": record.eval_hash[:12],
        "weights sha256": (record.weights_sha256 or "")[:12],
        "masks sha256": (record.predictions_sha256 or "")[:12],
        "data sha256": (record.dataset_fingerprint or "")[:12],
        "first weights": ", ".join(f"{part} {source}" for part, source in record.init_weights.items()),
        "FPS at": "" if cost.fps is None else f"batch {cost.batch}, {cost.device}, {cost.precision}",
        "started": record.started_utc,
        "took": "" if record.wall_s is None else f"{record.wall_s:.0f} s",
        "source": record.model_source,
        "rescored from": "" if record.rescored_from is None else f"metric version {record.rescored_from}",
    }
    counts = f"{where}/{record.counts.file}" if record.counts else ""
    return Run(row.label, f"{where}/{record.run_id}.json", counts, tuple((k, v) for k, v in facts.items() if v))


def label_of(row: Row, rows: Sequence[Row]) -> str:
    """The row's name, with what tells it from others of that name."""
    others = [other for other in rows if other.label == row.label and other is not row]
    size = f" {row.head.size}" if any(other.head.size != row.head.size for other in others) else ""
    again = any(other.head.size == row.head.size for other in others)
    return row.label + size + (f" {row.head.train_hash[:4]}" if again else "")


def _metric(name: str) -> str:
    return {"miou": "mIoU", "oiou": "oIoU"}[name]


def value_of(row: Row, name: str) -> Value | None:
    """Mean of a metric over the seeds, with the mean bounds of its interval."""
    value = row.mean("metrics", name)
    if value is None:
        return None
    return Value(value, row.mean("metrics", f"{name}_lo"), row.mean("metrics", f"{name}_hi"))


def _control(row: Row, name: str) -> Value | None:
    value = row.mean("control", name, "miou")
    return None if value is None else Value(value)


def _score_cell(row: Row, name: str) -> Cell:
    value, std = value_of(row, name), row.std("metrics", name)
    if value is None:
        return Cell()
    bounds = "" if value.low is None or value.high is None else f"{value.low:.1f}–{value.high:.1f}"
    return Cell(f"{value.value:.2f}" + ("" if std is None else f" ± {std:.2f}"), f"{value.value:.6f}", bounds)


def _number(value: float | None, digits: int = 2) -> Cell:
    return Cell() if value is None else Cell(f"{value:,.{digits}f}", f"{value:.6f}")
