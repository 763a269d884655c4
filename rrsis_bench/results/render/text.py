"""Leaderboards as Markdown, LaTeX (booktabs) and CSV, for a README, a paper and a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rrsis_bench.results.board import tables
from rrsis_bench.results.board.tables import Row
from rrsis_bench.results.published.numbers import PublishedRow
from rrsis_bench.results.record.schema import LEADERBOARD_COLUMNS, PRECISIONS

SHOWN_CONTROLS = ("shuffled_text", "category_only")
AS_PRINTED = "as printed in the papers: other code, protocols and checkpoint selection; not ranked with measured rows"
_QUALITY = ("miou", "oiou", *PRECISIONS)
_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table as text; `scores` are mIoU, oIoU and Pr@X, then the controls, empty where not measured."""

    rank: str
    name: str
    size: str
    seeds: str
    scores: tuple[str, ...]
    half: str
    params: str
    remark: str = ""


def groups(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The ranked rows per comparable group, with a title that tells the groups apart."""
    ranked = [row for row in rows if row.rank is not None]
    keys = list(dict.fromkeys(row.comparable for row in ranked))
    for key, members in groupby(ranked, key=lambda row: row.comparable):
        data, split, protocol, scoring_id, version, fingerprint = key
        group = list(members)
        title = f"{data} {split}, protocol {protocol}, n = {group[0].head.n}"
        if sum(other[:3] == key[:3] for other in keys) > 1:  # tell apart what the title alone would not
            title += f" (rules {scoring_id}, metric version {version}, data {fingerprint[:8] or 'unknown'})"
        yield title, group


def markdown(rows: Sequence[Row], published: Sequence[PublishedRow] = (), *, unranked: bool = False) -> str:
    """Markdown tables: the ranked rows, one table per comparable group; on demand the others and the printed numbers.

    Args:
        rows: what `tables.rows` returned.
        published: rows of papers, for a table of their own.
        unranked: also list the rows without a rank, with the reason.
    """
    scores = ("mIoU", "oIoU", *(f"Pr@0.{name[2]}" for name in PRECISIONS))
    parts = []
    for title, members in groups(rows):
        header = ["#", "Model", "Size", "Seeds", *scores, "Shuffled text", "Category only", "Params (M)"]
        body = []
        for line in map(_line, members):
            miou = line.scores[0] + (f" ± {line.half}" if line.half else "")
            body.append([line.rank, line.name, line.size, line.seeds, miou, *line.scores[1:], line.params])
        parts.append(markdown_table(title, header, "r" + "l" * 2 + "r" * 11, body))
    rest = [row for row in rows if row.rank is None]
    if unranked and rest:
        header = ["Model", "Size", "Split", "Protocol", "mIoU", "Reason"]
        body = [
            [line.name, line.size, row.head.split, row.head.protocol.name, line.scores[0], line.remark]
            for row, line in ((row, _line(row)) for row in rest)
        ]
        parts.append(markdown_table("Not ranked", header, "llllrl", body))
    if published:
        body = [[row.method, encoders(row), row.split, *_printed(row), row.source, row.notes] for row in published]
        header = ["Method", "Encoders", "Split", *scores, "Source", "Notes"]
        parts.append(markdown_table(AS_PRINTED.capitalize(), header, "lll" + "r" * 7 + "ll", body))
    return "\n\n".join(parts) + "\n" if parts else ""


def latex(rows: Sequence[Row], published: Sequence[PublishedRow] = ()) -> str:
    """One ``tabular`` (package booktabs) per comparable group, the best ranked value of each column in bold.

    Rows without a rank and printed numbers follow in blocks of their own.
    """
    header = ["", "Model", "Size", "mIoU", "oIoU", *(f"Pr@0.{name[2]}" for name in PRECISIONS), "Source or remark"]
    out = [r"% needs \usepackage{booktabs}; +- is half the 95% interval; equal ranks: not significantly different"]
    for title, members in groups(rows):
        body = [_line(row) for row in members]
        out += [f"% {title}", r"\begin{tabular}{rll" + "r" * len(_QUALITY) + "l}", r"\toprule"]
        out += [" & ".join(map(_tex, header)) + r" \\", r"\midrule"]
        best = [
            max((float(line.scores[column]) for line in body if line.scores[column]), default=None)
            for column in range(len(_QUALITY))
        ]
        out += [_latex_line(line, best) for line in body]
        head = members[0].head
        rest = [row for row in rows if row.rank is None and row.comparable == members[0].comparable]
        out += _latex_block("not ranked", [_line(row) for row in rest])
        out += _latex_block(AS_PRINTED, [_printed_line(row) for row in published if row.split == head.split])
        out += [r"\bottomrule", r"\end{tabular}", ""]
    shown = {row.comparable for row in rows if row.rank is not None}
    rest = [row for row in rows if row.rank is None and row.comparable not in shown]
    splits = {row.head.split for row in rows if row.rank is not None}
    others = [row for row in published if row.split not in splits]
    if rest or others:
        out += [
            r"\begin{tabular}{rll" + "r" * len(_QUALITY) + "l}",
            r"\toprule",
            " & ".join(map(_tex, header)) + r" \\",
        ]
        out += _latex_block("not ranked", [_line(row) for row in rest])
        out += _latex_block(AS_PRINTED, [_printed_line(row) for row in others])
        out += [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(out)


def table_csv(rows: Sequence[Row], published: Sequence[PublishedRow] = ()) -> str:
    """The columns of ``<data>.csv``; printed numbers follow the measured rows; `source` tells them apart."""
    columns = ("source", *LEADERBOARD_COLUMNS)
    lines: list[dict[str, object]] = [{"source": "measured", **cells} for cells in tables.leaderboard_cells(rows)]
    for row in published:
        scores = {name: f"{value:.2f}" for name, value in row.scores.items()}
        notes = "; ".join(part for part in (encoders(row), row.notes) if part)
        lines.append({
            "source": row.source, "model": row.method, "split": row.split, "data": row.data, "notes": notes,
            "reason": "as printed", **scores,
        })  # fmt: skip
    return write_csv(columns, lines)


def write_csv(columns: Sequence[str], lines: Iterable[dict[str, object]]) -> str:
    """Lines of text cells as CSV; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if line.get(name) is None else line[name] for name in columns} for line in lines)
    return text.getvalue()


def encoders(row: PublishedRow) -> str:
    """The encoders as printed, ``Swin-B + BERT``."""
    return " + ".join(name for name in (row.vision_encoder, row.text_encoder) if name)


def half_interval(row: Row) -> float | None:
    """Half the width of the 95% interval of mIoU, mean over the seeds."""
    low, high = row.mean("metrics", "miou_lo"), row.mean("metrics", "miou_hi")
    return None if low is None or high is None else (high - low) / 2


def params(row: Row) -> str:
    """Millions of parameters."""
    total = row.mean("efficiency", "params_total")
    return "" if total is None else f"{total / 1e6:.2f}"


def number(value: float | None, decimals: int = 2) -> str:
    """A figure with fixed decimals; empty where it was not measured."""
    return "" if value is None else f"{value:.{decimals}f}"


def _line(row: Row) -> Line:
    half = half_interval(row)
    scores = [number(row.mean("metrics", name)) for name in _QUALITY]
    scores += [number(row.mean("control", name, "miou")) for name in SHOWN_CONTROLS]
    rank = "" if row.rank is None else str(row.rank)
    return Line(
        rank, row.label, row.head.size, str(len(row.records)), tuple(scores), number(half), params(row), row.reason
    )


def _printed(row: PublishedRow) -> tuple[str, ...]:
    return tuple(number(row.scores.get(name)) for name in _QUALITY)


def _printed_line(row: PublishedRow) -> Line:
    name = row.method + (f" ({encoders(row)})" if encoders(row) else "")
    return Line("", name, "", "", _printed(row), "", "", row.source)


def markdown_table(title: str, header: Sequence[str], align: str, body: Iterable[Sequence[str]]) -> str:
    """A Markdown table under a bold title; `align` has one `l` or `r` per column."""
    lines = [f"**{title}**", "", "| " + " | ".join(header) + " |"]
    lines.append("|" + "|".join("---:" if side == "r" else "---" for side in align) + "|")
    lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |" for cells in body]
    return "\n".join(lines)


def _latex_block(title: str, lines: Sequence[Line]) -> list[str]:
    if not lines:
        return []
    columns = len(_QUALITY) + 4
    head = rf"\multicolumn{{{columns}}}{{l}}{{\emph{{{_tex(title)}}}}} \\"
    return [r"\midrule", head, *(_latex_line(line, [None] * len(_QUALITY)) for line in lines)]


def _latex_line(line: Line, best: Sequence[float | None]) -> str:
    scores = [
        rf"\textbf{{{value}}}" if value and top is not None and float(value) == top else value
        for value, top in zip(line.scores[: len(_QUALITY)], best, strict=True)
    ]
    if line.half:
        scores[0] += rf" $\pm$ {line.half}"
    return " & ".join([line.rank, _tex(line.name), _tex(line.size), *scores, _tex(line.remark)]) + r" \\"


def _tex(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
