"""From rows to what the templates show: tables of cells, charts, provenance. No layout here, no HTML but the charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from markupsafe import Markup

from rrsis_bench.data.text.strata import stratum_label
from rrsis_bench.eval.metrics import METRICS, Metric
from rrsis_bench.eval.scores import CONTROLS, Score
from rrsis_bench.eval.seeds import MIN_SEEDS
from rrsis_bench.results.board.rows import BoardRow
from rrsis_bench.results.published.numbers import PublishedRow
from rrsis_bench.results.record.schema import Record
from rrsis_bench.results.render.board_charts import CONTROL_LABELS, board_charts, label_of
from rrsis_bench.results.render.charts import inline_svg
from rrsis_bench.results.render.probes import ProbeBlock, label, number_of, refused
from rrsis_bench.results.render.probes import blocks as probe_blocks
from rrsis_bench.results.render.text import FEW, encoders, footnotes, interval_text, seeds, shown_metrics

BALANCED = "macro_miou"


@dataclass(frozen=True, slots=True)
class TableColumn:
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
    columns: tuple[TableColumn, ...]
    rows: tuple[tuple[Cell, ...], ...]
    attributes: tuple[dict[str, str], ...] = ()


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
    charts: tuple[tuple[str, Markup, str], ...]  # title, SVG, note
    probes: tuple[tuple[str, str, Table], ...]  # title, one sentence, figures
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = field(default=())
    strata: Table | None = None


def boards(rows: Sequence[BoardRow]) -> list[Board]:
    """One board per comparable group, in the order of the rows: ranked groups first, then groups without a rank."""
    keys = list(dict.fromkeys(row.comparable for row in rows))
    members = {key: list(group) for key, group in groupby(sorted(rows, key=lambda r: keys.index(r.comparable)), _key)}
    crowded = {key: sum(other[:3] == key[:3] for other in keys) > 1 for key in keys}
    return [_board(members[key], f"b{index}", crowded[key]) for index, key in enumerate(keys)]


def _key(row: BoardRow) -> tuple[str, ...]:
    return row.comparable


def _board(rows: Sequence[BoardRow], ident: str, crowded: bool) -> Board:
    head = rows[0].head
    ranked = [row for row in rows if row.rank is not None]
    unranked = [row for row in rows if row.rank is None]
    facts = [
        f"protocol {head.protocol.name}",
        f"IoU at {'the mask’s own size' if head.protocol.resolution == 'native' else 'the model’s input size'}",
        f"checkpoint by {head.protocol.selection_split} {METRICS[head.protocol.selection_metric].label}",
        f"n = {max(row.head.n for row in rows):,} expressions",
    ]
    if crowded:  # tell apart what the title alone would not
        fingerprint = (head.dataset_fingerprint or "unknown")[:8]
        facts.append(f"rules {head.protocol.scoring_id}, metric version {head.metric_version}, data {fingerprint}")
    noted = dict.fromkeys(f"{row.label}: {note}" for row in rows for note in row.text("notes").split("; ") if note)
    noted |= dict.fromkeys(footnotes(ranked))
    scored = [row for row in ranked or unranked if row.score("miou").value is not None]
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
        charts=tuple(
            (chart.title, inline_svg(chart, f"{ident}-{chart.name}"), chart.note) for chart in board_charts(scored)
        )
        if scored
        else (),
        probes=tuple(
            (block.title, block.summary, _probe(block, f"{ident}-{block.name}")) for block in probe_blocks(rows)
        ),
        runs=tuple(_run(record, row) for row in rows for record in row.records),
        notes=tuple(noted),
        strata=_strata(scored, f"{ident}-strata", f"mIoU by stratum of {head.data} {head.split}"),
    )


def _scores(rows: Sequence[BoardRow], ident: str, caption: str) -> Table:
    """Scores, language controls and cost; a reason instead of a rank where rows have none."""
    ranked = rows[0].rank is not None
    values = [row.score("miou") for row in rows]
    ends = [end for v in values for end in (v.value, v.lo, v.hi) if end is not None]
    metrics = shown_metrics(rows)
    if any(row.score(BALANCED).value is not None for row in rows):
        metrics[1:1] = [METRICS[BALANCED]]
    shown_controls = [
        name for name in reversed(CONTROLS) if any(row.score("miou", "control", name).value is not None for row in rows)
    ]
    columns = [
        TableColumn("#", "1 + the number of models that are significantly better"), TableColumn("Model", number=False)
    ] if ranked else [TableColumn("Model", number=False), TableColumn("Not ranked because", number=False)]  # fmt: skip
    columns += [
        TableColumn("Size", "set-up: paper is the published one, tiny the same modules at toy width", number=False),
        TableColumn("Seeds", f"{FEW} fewer than {MIN_SEEDS}: the rank is about these trainings only"),
        TableColumn("Epochs"),
        *(
            TableColumn(
                metric.label, f"{metric.meaning}; ± standard deviation over seeds; [lo, hi] 95% interval over images"
            )
            for metric in metrics
        ),
        *(TableColumn(CONTROL_LABELS[name][0].capitalize(), CONTROL_LABELS[name][1]) for name in shown_controls),
        TableColumn("Params (M)", "all parameters, millions"),
        TableColumn("GFLOPs", "one forward pass"),
        TableColumn("FPS", "expressions per second, at the batch size and on the device under Provenance"),
        TableColumn(
            "Run (min)", "wall time of training and evaluation on the machine under Provenance, mean over seeds"
        ),
    ]
    lines = []
    for row in rows:
        label = Cell(row.head.model, row.label, " ".join(row.head.variant))
        first = [Cell(str(row.rank), str(row.rank)), label] if ranked else [label, Cell(row.reason, row.reason)]
        scores = {metric.name: _score_cell(row, metric) for metric in metrics}
        if row.score("miou").value is not None:
            score = scores["miou"]
            forest = _with_forest(str(score.text), row.score("miou"), min(ends), max(ends))
            scores["miou"] = Cell(forest, score.sort, score.sub)
        params, wall = row.mean("efficiency", "params_total"), row.mean("wall_s")
        lines.append(
            (
                *first, Cell(row.head.size, row.head.size), Cell(seeds(row), str(len(row.records))),
                Cell(row.text("epochs"), row.text("epochs")),
                *scores.values(),
                *(_number(row.score("miou", "control", name).value) for name in shown_controls),
                _number(None if params is None else params / 1e6),
                _number(row.mean("efficiency", "gflops")), _number(row.mean("efficiency", "fps"), 1),
                _number(None if wall is None else wall / 60, 1),
            )
        )  # fmt: skip
    return Table(ident, caption, tuple(columns), tuple(lines))


def _probe(block: ProbeBlock, ident: str) -> Table:
    """The figures of one probe, and how many samples it could use."""
    columns = (
        TableColumn("Model", number=False),
        *(
            TableColumn(label(figure), f"{figure.meaning}; [lo, hi] 95% interval over images")
            for figure in block.figures
        ),
        TableColumn("n", "comparisons"),
        TableColumn("Predictions", "inputs that the probe needed beyond those of the split"),
        TableColumn("Not used", "samples that the probe could not use", number=False),
    )
    lines = []
    for row in block.rows:
        cells = []
        for figure in block.figures:
            score = row.score(figure.name, "probes", block.name)
            bounds = "" if score.lo is None or score.hi is None else f"[{score.lo:.1f}, {score.hi:.1f}]"
            cells.append(Cell() if score.value is None else Cell(f"{score.value:.2f}", f"{score.value:.6f}", bounds))
        counts = [number_of(row, block.name, field) for field in ("n", "predictions")]
        name = Cell(row.head.model, row.label, " ".join(row.head.variant))
        lines.append((name, *cells, *(Cell(count, count) for count in counts), Cell(refused(row, block.name))))
    return Table(ident, f"Probe: {block.title}", columns, tuple(lines))


def _strata(rows: Sequence[BoardRow], ident: str, caption: str) -> Table | None:
    """One line per class of every stratum, one column per row of the leaderboard; None if the strata are unknown."""
    names = list(dict.fromkeys(name for row in rows for name in row.names("per_stratum")))
    if not names:
        return None
    columns = [
        *(TableColumn(label, number=False) for label in ("Stratum", "Class", "Mean over")), TableColumn("n"),
        *(TableColumn(label_of(row, rows), "mIoU; [lo, hi] 95% interval over images") for row in rows),
    ]  # fmt: skip
    lines = []
    for name in names:
        for entry in dict.fromkeys(entry for row in rows for entry in row.names("per_stratum", name)):
            path = ("per_stratum", name, entry)
            n = "/".join(map(str, sorted({n for row in rows for n in row.values(*path, "n") if n is not None})))
            for metric, over in (("miou", "expressions"), (BALANCED, "categories")):
                scores = [row.score(metric, *path) for row in rows]
                cells = [Cell(*_two(score), interval_text(score)) for score in scores]
                words = [Cell(text, text) for text in (stratum_label(name), entry, over)]
                lines.append((*words, Cell(n, n), *cells))
    return Table(ident, caption, tuple(columns), tuple(lines))


def _two(score: Score) -> tuple[str, str]:
    return ("", "") if score.value is None else (f"{score.value:.2f}", f"{score.value:.6f}")


def _with_forest(text: str, score: Score, low: float, high: float) -> Markup:
    """The score with its interval drawn on the scale of the table, in percent of its width."""
    span = (high - low) or 1.0

    def place(value: float | None) -> str:
        return f"{100 * (((score.value if value is None else value) or 0.0) - low) / span:.1f}%"

    return Markup('{}<span class="forest" style="--lo:{};--hi:{};--at:{}" aria-hidden="true"></span>').format(
        text, place(score.lo), place(score.hi), place(score.value)
    )


def published_table(rows: Sequence[PublishedRow], ident: str, data: str) -> Table:
    """Figures as printed, in the order of the papers' tables; never ranked."""
    metrics = shown_metrics([], rows)
    columns = (
        *(TableColumn(name, number=False) for name in ("Method", "Encoders", "Printed in", "Split")),
        *(TableColumn(metric.label) for metric in metrics),
        TableColumn("Remarks", number=False),
    )  # fmt: skip
    lines = []
    for row in rows:
        words = [Cell(text, text) for text in (row.method, encoders(row), row.source, row.split)]
        scores = [_number(row.scores.get(metric.name)) for metric in metrics]
        remark = "; ".join(filter(None, (row.notes, f"copied, {row.copied_from}" if row.copied_from else "")))
        lines.append((*words, *scores, Cell(remark, remark)))
    return Table(
        ident, f"Figures printed in papers, {data}", columns, tuple(lines), tuple({"split": r.split} for r in rows)
    )


def _run(record: Record, row: BoardRow) -> Run:
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
        "bf16 latency": ""
        if cost.latency_amp_ms is None
        else f"{cost.latency_amp_ms:.3g} ms ({cost.latency_ms:.3g} ms)",
        "started": record.started_utc,
        "took": _duration(record),
        "source": record.model_source,
        "rescored from": "" if record.rescored_from is None else f"metric version {record.rescored_from}",
    }
    counts = f"{where}/{record.counts.file}" if record.counts else ""
    return Run(row.label, f"{where}/{record.run_id}.json", counts, tuple((k, v) for k, v in facts.items() if v))


def _duration(record: Record) -> str:
    if record.wall_s is None:
        return ""
    starts = len(record.attempts)
    return f"{record.wall_s:.0f} s" + (f" in {starts} starts" if starts > 1 else "")


def _score_cell(row: BoardRow, metric: Metric) -> Cell:
    score, deviation = row.score(metric.name), row.deviation(metric.name)
    if score.value is None:
        return Cell()
    whole = ("per_stratum", "all", "all") if metric.mean_of else ()
    bounds = interval_text(row.score(metric.name, *whole))
    return Cell(
        f"{score.value:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}"), f"{score.value:.6f}", bounds
    )


def _number(value: float | None, digits: int = 2) -> Cell:
    return Cell() if value is None else Cell(f"{value:,.{digits}f}", f"{value:.6f}")
