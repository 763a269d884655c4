"""Leaderboards as Markdown, LaTeX (booktabs) and CSV, for a README, a paper and a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rrsis_bench.csv_files import write_csv
from rrsis_bench.eval.metrics import METRICS, Metric
from rrsis_bench.eval.scores import Score
from rrsis_bench.eval.seeds import MIN_SEEDS
from rrsis_bench.results.board import tables
from rrsis_bench.results.board.rows import BoardRow
from rrsis_bench.results.published.numbers import PublishedRow
from rrsis_bench.results.record.identity import attestation

FEW = "†"
"""Marks a row with fewer seeds than its comparison needs to know what another seed is worth."""
LEGEND = (
    "±: standard deviation over seeds; [lo, hi]: 95% bootstrap interval over images, of the mean seed; "
    f"{FEW}: fewer than {MIN_SEEDS} seeds, so its rank is about these trainings only"
)
BOLD = "bold: the best of its column, of mIoU only if it is significantly higher than in every other row"
SHOWN_CONTROLS = ("shuffled_text", "category_only")
AS_PRINTED = "as printed in the papers: other code, protocols and checkpoint selection; not ranked with measured rows"
_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    FEW: r"\dag{}", "±": r"$\pm$",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TextRow:
    """One row of a table as text; `scores` are the table's metrics, then the controls, empty if not measured."""

    rank: str
    name: str
    size: str
    seeds: str
    epochs: str
    scores: tuple[str, ...]
    deviation: str
    interval: str
    params: str
    remark: str = ""


def groups(rows: Sequence[BoardRow]) -> Iterator[tuple[str, list[BoardRow]]]:
    """Yield the ranked rows of each comparable group, with a title that distinguishes the groups."""
    ranked = [row for row in rows if row.rank is not None]
    keys = list(dict.fromkeys(row.comparable for row in ranked))
    for key, members in groupby(ranked, key=lambda row: row.comparable):
        data, split, protocol, scoring_id, version, fingerprint = key
        group = list(members)
        title = f"{data} {split}, protocol {protocol}, n = {group[0].head.n}"
        if sum(other[:3] == key[:3] for other in keys) > 1:  # groups that the title alone does not distinguish
            title += f" (rules {scoring_id}, metric version {version}, data {fingerprint[:8] or 'unknown'})"
        yield title, group


def shown_metrics(rows: Sequence[BoardRow], published: Sequence[PublishedRow] = ()) -> list[Metric]:
    """Return the metrics that get a column: those that any row has. Means over categories have a table of their own."""
    return [
        metric for name, metric in METRICS.items() if not metric.mean_of
        and (any(row.score(name).value is not None for row in rows) or any(name in row.scores for row in published))
    ]  # fmt: skip


def markdown(rows: Sequence[BoardRow], published: Sequence[PublishedRow] = (), *, unranked: bool = False) -> str:
    """Return Markdown tables: the ranked rows, one table per comparable group, then the unranked and the printed ones.

    Args:
        rows: from `board.rows.rank`.
        published: rows of papers, for a table of their own.
        unranked: also list the rows without a rank, with the reason.
    """
    parts = []
    for title, members in groups(rows):
        shown = shown_metrics(members)
        header = [
            "#",
            "Model",
            "Size",
            "Seeds",
            "Epochs",
            *_labels(shown),
            "Shuffled text",
            "Category only",
            "Params (M)",
        ]
        body = []
        for line in (_line(row, shown) for row in members):
            names = [line.rank, line.name, line.size, line.seeds, line.epochs]
            body.append([*names, miou_text(line), *line.scores[1:], line.params])
        parts.append(markdown_table(title, header, "rll" + "r" * (len(header) - 3), body))
        parts += [LEGEND + ".", *(f"{plain_markdown(line)}." for line in footnotes(members))]
    rest = [row for row in rows if row.rank is None]
    if unranked and rest:
        header = ["Model", "Size", "Split", "Protocol", "Seeds", "mIoU", "Reason"]
        body = [
            [line.name, line.size, row.head.split, row.head.protocol.name, line.seeds, miou_text(line), line.remark]
            for row, line in ((row, _line(row, [METRICS["miou"]])) for row in rest)
        ]
        parts.append(markdown_table("Not ranked", header, "llllrrl", body))
    if published:
        shown = shown_metrics([], published)
        body = [
            [row.method, encoders(row), row.split, *_printed(row, shown), row.source, row.notes] for row in published
        ]
        header = ["Method", "Encoders", "Split", *_labels(shown), "Source", "Notes"]
        parts.append(markdown_table(AS_PRINTED.capitalize(), header, "lll" + "r" * len(shown) + "ll", body))
    return "\n\n".join(parts) + "\n" if parts else ""


def latex(
    rows: Sequence[BoardRow], published: Sequence[PublishedRow] = (), names: Mapping[str, str] | None = None
) -> str:
    """Return one ``table`` (package booktabs) per comparable group, the best ranked value of each column in bold.

    The best mIoU is bold only if its row is significantly better than every other one. Rows without a rank and printed
    numbers follow in blocks of their own.

    Args:
        rows: from `board.rows.rank`.
        published: rows of papers.
        names: how models and rows are called: name of a model, or label of a row -> text.
    """
    names = names or {}
    out = [r"% needs \usepackage{booktabs}; equal ranks: not significantly different"]
    for title, members in groups(rows):
        rest = [row for row in rows if row.rank is None and row.comparable == members[0].comparable]
        printed = [row for row in published if row.split == members[0].head.split]
        out += _latex_table(title, members, rest, printed, names)
    ranked = [row for row in rows if row.rank is not None]
    comparable, splits = {row.comparable for row in ranked}, {row.head.split for row in ranked}
    rest = [row for row in rows if row.rank is None and row.comparable not in comparable]
    others = [row for row in published if row.split not in splits]
    if rest or others:
        out += _latex_table("Not ranked", [], rest, others, names)
    return "\n".join(out)


def _latex_table(
    title: str,
    ranked: Sequence[BoardRow],
    rest: Sequence[BoardRow],
    printed: Sequence[PublishedRow],
    names: Mapping[str, str],
) -> list[str]:
    shown = shown_metrics([*ranked, *rest], printed)
    header = ["", "Model", "Size", "Seeds", "Epochs", *_labels(shown), "Source or remark"]
    body = [_named(_line(row, shown), row, names) for row in ranked]
    alone = sum(row.rank == 1 for row in ranked) == 1
    best = [
        metric.best(float(line.scores[column]) for line in body if line.scores[column])
        if alone or metric.name != "miou" else None
        for column, metric in enumerate(shown)
    ]  # fmt: skip
    *notes, attested = footnotes(ranked) or [""]
    legend = _tex("; ".join([LEGEND, BOLD, *notes]))
    place = re.sub(r"[^a-z0-9]+", "-", title.partition(",")[0].lower()).strip("-")
    out = [r"\begin{table}[t]", r"\centering", rf"\caption{{{_tex(' '.join(title.split()))}. {legend}.}}"]
    out += [
        rf"\label{{tab:{place}}}",
        r"\begin{tabular}{rllrr" + "r" * len(shown) + "l}",
        r"\toprule",
        " & ".join(map(_tex, header)) + r" \\",
    ]
    if body:
        out += [r"\midrule", *(_latex_line(line, best) for line in body)]
    out += _latex_block("not ranked", [_named(_line(row, shown), row, names) for row in rest], len(shown))
    out += _latex_block(AS_PRINTED, [_printed_line(row, shown) for row in printed], len(shown))
    out += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return [*out, *([f"% {' '.join(attested.split())}"] if attested else []), ""]


def _named(line: TextRow, row: BoardRow, names: Mapping[str, str]) -> TextRow:
    """Return a line with the name of its row: the one given for the row, or the model's with the variant."""
    own = " ".join([names.get(row.head.model, row.head.model), *row.head.variant])
    return replace(line, name=names.get(row.label, own) if row.head.variant else own)


def table_csv(rows: Sequence[BoardRow], published: Sequence[PublishedRow] = ()) -> str:
    """Return the columns of ``<data>.csv``, with a column `source`; printed numbers follow the measured rows."""
    columns = ("source", *tables.leaderboard_columns())
    lines: list[dict[str, object]] = [{"source": "measured", **cells} for cells in tables.leaderboard_cells(rows)]
    for row in published:
        scores = {name: f"{value:.2f}" for name, value in row.scores.items()}
        notes = "; ".join(part for part in (encoders(row), row.notes) if part)
        lines.append({
            "source": row.source, "model": row.method, "split": row.split, "data": row.data, "notes": notes,
            "reason": "as printed", **scores,
        })  # fmt: skip
    return write_csv(columns, lines)


def encoders(row: PublishedRow) -> str:
    """Return the encoders as printed, such as ``Swin-B + BERT``."""
    return " + ".join(name for name in (row.vision_encoder, row.text_encoder) if name)


def interval(row: BoardRow, metric: str = "miou", decimals: int = 2) -> str:
    """Return the 95% bootstrap interval as ``[lo, hi]``, its ends averaged over the seeds; empty without one."""
    return interval_text(row.score(metric), decimals)


def interval_text(score: Score, decimals: int = 1) -> str:
    """Return the interval of a score as ``[lo, hi]``; empty without one."""
    return "" if score.lo is None or score.hi is None else f"[{score.lo:.{decimals}f}, {score.hi:.{decimals}f}]"


def seeds(row: BoardRow) -> str:
    """Return the number of seeds, marked if it is small, with the number of kinds of machines if there are several."""
    machines = len({record.machine for record in row.records})
    mark = FEW if len(row.records) < MIN_SEEDS else ""
    return f"{len(row.records)}{mark}" + (f" ({machines} machines)" if machines > 1 else "")


def miou_text(line: TextRow) -> str:
    """Return a row's mIoU with its deviation over seeds and its interval."""
    deviation = f"± {line.deviation}" if line.deviation else ""
    return " ".join(filter(None, [line.scores[0], deviation, line.interval]))


def footnotes(rows: Sequence[BoardRow]) -> list[str]:
    """Return lines below a table: rows of several commits, who verified rows, and the attestation of all rows."""
    lines = []
    for row in rows:
        commits = dict.fromkeys((record.git_sha or "unknown")[:10] for record in row.records)
        if len(commits) > 1:
            lines.append(f"{row.label}: seeds from several commits, {', '.join(commits)}")
        if row.verified_by:
            lines.append(f"{row.label}: verified by {'; '.join(row.verified_by)}")
    if rows and all(row.head.selection_split == row.head.split for row in rows):
        lines.append(f"every checkpoint was selected on {rows[0].head.split} itself, so these scores are optimistic")
    if rows:
        records = [record for row in rows for record in row.records]
        lines.append(f"attestation of these rows: sha256 {attestation(records)}")
    return lines


def params(row: BoardRow) -> str:
    """Return the number of parameters in millions."""
    total = row.mean("efficiency", "params_total")
    return "" if total is None else f"{total / 1e6:.2f}"


def number(value: float | None, decimals: int = 2) -> str:
    """Return a number with fixed decimals; empty if it was not measured."""
    return "" if value is None else f"{value:.{decimals}f}"


def _labels(metrics: Sequence[Metric]) -> list[str]:
    return [metric.label for metric in metrics]


def _line(row: BoardRow, metrics: Sequence[Metric]) -> TextRow:
    values = [row.score(metric.name).value for metric in metrics]
    values += [row.score("miou", "control", name).value for name in SHOWN_CONTROLS]
    return TextRow(
        "" if row.rank is None else str(row.rank), row.label, row.head.size, seeds(row), row.text("epochs"),
        tuple(map(number, values)), number(row.deviation("miou")), interval(row), params(row), row.reason,
    )  # fmt: skip


def _printed(row: PublishedRow, metrics: Sequence[Metric]) -> tuple[str, ...]:
    return tuple(number(row.scores.get(metric.name)) for metric in metrics)


def _printed_line(row: PublishedRow, metrics: Sequence[Metric]) -> TextRow:
    name = row.method + (f" ({encoders(row)})" if encoders(row) else "")
    return TextRow("", name, "", "", "", _printed(row, metrics), "", "", "", row.source)


def markdown_table(title: str, header: Sequence[str], align: str, body: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table under a bold title; `align` has one `l` or `r` per column."""
    lines = [f"**{plain_markdown(title)}**", "", "| " + " | ".join(map(plain_markdown, header)) + " |"]
    lines.append("|" + "|".join("---:" if side == "r" else "---" for side in align) + "|")
    lines += ["| " + " | ".join(map(plain_markdown, cells)) + " |" for cells in body]
    return "\n".join(lines)


def plain_markdown(text: str) -> str:
    """Return text for one line of Markdown: no HTML, no link or image, no new cell."""
    one_line = re.sub(r"&(?=#?\w+;)", "&amp;", " ".join(text.splitlines()))
    for sign, written in (("<", "&lt;"), (">", "&gt;"), ("|", r"\|"), ("](", r"]\(")):
        one_line = one_line.replace(sign, written)
    return one_line


def _latex_block(title: str, lines: Sequence[TextRow], n: int) -> list[str]:
    """Rows under a heading, in a table of `n` metrics; nothing if there are none."""
    if not lines:
        return []
    head = rf"\multicolumn{{{n + 6}}}{{l}}{{\emph{{{_tex(title)}}}}} \\"
    return [r"\midrule", head, *(_latex_line(line, [None] * n) for line in lines)]


def _latex_line(line: TextRow, best: Sequence[float | None]) -> str:
    scores = [
        rf"\textbf{{{value}}}" if value and top is not None and float(value) == top else value
        for value, top in zip(line.scores[: len(best)], best, strict=True)
    ]
    if line.deviation:
        scores[0] += rf" $\pm$ {line.deviation}"
    if line.interval:
        scores[0] += rf" {{\footnotesize {line.interval}}}"
    names = [line.rank, *map(_tex, (line.name, line.size, line.seeds, line.epochs))]
    return " & ".join([*names, *scores, _tex(line.remark)]) + r" \\"


def _tex(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
