"""The published numbers and their audit as tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from rich import box
from rich.table import Table
from rich.text import Text

from rrsis_bench.console import Terminal
from rrsis_bench.eval.metrics import METRICS
from rrsis_bench.results.published.audit import SHIFTS, Alignment, Audit, Average, Disagreement
from rrsis_bench.results.published.numbers import PublishedRow
from rrsis_bench.results.render.text import shown_metrics


def audit(console: Terminal, result: Audit, metric: str) -> None:
    """Print the findings; of the disagreements those in `metric`."""
    _averages(console, result)
    for _, members in groupby(result.alignments, key=lambda entry: entry.data):
        _alignments(console, list(members))
    _disagreements(console, [entry for entry in result.disagreements if entry.metric == metric], metric)


def rows(console: Terminal, members: Sequence[PublishedRow], models: Mapping[str, str]) -> None:
    """Print the rows of one dataset with all their scores: one table per paper's table and split.

    Args:
        console: where to print.
        members: the rows.
        models: printed name of a method -> the suite's model of it.
    """
    for (source, split), group in groupby(members, key=lambda row: (row.source, row.split)):
        table_rows = list(group)
        table = plain_table(f"{source}: {table_rows[0].data} {split}")
        table.add_column("method", overflow="fold")
        for column in ("vision", "text"):
            table.add_column(column, style="dim", overflow="fold")
        shown = shown_metrics([], table_rows)
        for metric in shown:
            table.add_column(metric.label.removeprefix("Pr"), justify="right")
        for row in table_rows:
            scores = (f"{row.scores[metric.name]:.2f}" if metric.name in row.scores else "" for metric in shown)
            method = row.method + ("*" if row.copied_from else "")
            table.add_row(method, row.vision_encoder, row.text_encoder, *scores)
        lines = [*_remarks(table_rows), *_models(table_rows, models)]
        table.caption = "\n".join(lines) or None
        print_plain(console, table)


def matrix(console: Terminal, members: Sequence[PublishedRow], metric: str) -> None:
    """Print one metric, a column per paper's table: methods side by side, never merged into one figure."""
    for split, group in groupby(sorted(members, key=lambda row: row.split), key=lambda row: row.split):
        having = [row for row in group if metric in row.scores]
        if not having:
            continue
        sources = list(dict.fromkeys(row.source for row in having))
        table = plain_table(f"{having[0].data} {split}, {METRICS[metric].label} as printed")
        table.add_column("method", overflow="fold")
        for source in sources:
            table.add_column(source.replace(" ", "\n", 1), justify="right")
        cells: dict[str, dict[str, str]] = {}
        for row in having:
            twins = [other for other in having if (other.source, other.method) == (row.source, row.method)]
            name = f"{row.method} ({row.vision_encoder})" if len(twins) > 1 else row.method
            cells.setdefault(name, {})[row.source] = f"{row.scores[metric]:.2f}" + ("*" if row.copied_from else " ")
        for name, scores in cells.items():
            table.add_row(name, *(scores.get(source, "") for source in sources))
        if any(row.copied_from for row in having):
            table.caption = _COPIED
        print_plain(console, table)


_COPIED = "* copied: the text says so, or the row equals an earlier paper's"


def _models(members: Sequence[PublishedRow], models: Mapping[str, str]) -> list[str]:
    """The line that says which rows the suite has a model of."""
    built = [f"{models[row.method]} ({row.method})" for row in members if row.method in models]
    return [f"Models of this suite: {', '.join(dict.fromkeys(built))}"] if built else []


def _remarks(members: Sequence[PublishedRow]) -> list[str]:
    """The notes under a table: each once, with the methods that it is about unless these are all."""
    notes: dict[str, list[str]] = {}
    for row in members:
        for note in filter(None, row.notes.split("; ")):
            notes.setdefault(note, []).append(row.method)
    lines = []
    for note, methods in notes.items():
        about = "" if len(methods) == len(members) else f"{', '.join(dict.fromkeys(methods))}: "
        lines.append(about + note)
    return ([_COPIED] if any(row.copied_from for row in members) else []) + lines


def _averages(console: Terminal, result: Audit) -> None:
    for data, members in groupby(result.averages, key=lambda entry: entry.data):
        table = plain_table(f"{data}: printed category averages (mIoU) and the mean of their rows")
        table.add_column("column", no_wrap=True)
        for name in ("rows", "printed", "mean", "gap"):
            table.add_column(name, justify="right")
        table.add_column("the printed average is", overflow="fold")
        for (source, split), group in groupby(members, key=lambda entry: (entry.source, entry.split)):
            table.add_section()
            table.add_row(Text(f"{source}, {split}", style="bold"))
            for entry in group:
                gap = "0.00" if entry.right else f"{entry.gap:+.2f}"
                cells = (entry.method, str(entry.n), f"{entry.printed:.2f}", f"{entry.mean:.2f}", gap, _verdict(entry))
                table.add_row(*cells, style="" if entry.right else "bold red")
        repeats = [
            f"{entry.source}, {entry.method}: {entry.value:.2f} at {' and '.join(entry.categories)}"
            for entry in result.repeats
            if entry.data == data
        ]
        if repeats:
            table.caption = "\n".join(["One value at two labels, a copying error or chance:", *repeats])
        print_plain(console, table)


def _verdict(entry: Average) -> str:
    if entry.right:
        return "right" + (f" (no {', '.join(entry.absent)})" if entry.absent else "")
    if entry.implied is None:
        return "wrong"
    seen = f" (printed in {entry.seen})" if entry.seen else ""
    return f"of {entry.n + 1} rows, one with {entry.implied:.2f}{seen}"


def _alignments(console: Terminal, members: Sequence[Alignment]) -> None:
    table = plain_table(f"{members[0].data}: correlation of category columns per shift of their values, in rows")
    table.add_column("column", no_wrap=True)
    table.add_column("against", overflow="fold")
    for shift in SHIFTS:
        table.add_column(f"{shift:+d}" if shift else "0", justify="right")
    table.add_column("best", justify="right")
    table.add_column("Spearman", justify="right")
    for source, group in groupby(members, key=lambda entry: entry.source):
        table.add_section()
        table.add_row(Text(source, style="bold"))
        for entry in group:
            for correlation in entry.correlations:
                cells = [
                    Text(f"{correlation.pearson[shift]:.2f}", style="bold" if shift == correlation.best else "dim")
                    for shift in SHIFTS
                ]
                before, after = correlation.spearman[0], correlation.spearman[correlation.best]
                ranks = f"{before:.2f}→{after:.2f}" if correlation.best else f"{before:.2f}"
                against = f"{correlation.against.split()[0]}: {correlation.method}"
                if correlation.against.split()[0] == correlation.method:
                    against = correlation.method
                best = f"{correlation.best:+d}" if correlation.best else "0"
                table.add_row(entry.method, against, *cells, best, ranks)
    sizes = [correlation.n[correlation.best] for entry in members for correlation in entry.correlations]
    table.caption = (
        f"Pearson per shift, over {min(sizes)} to {max(sizes)} categories; Spearman as printed → at the best shift. "
        "Shift +1: each value moves to the category one row above."
    )
    print_plain(console, table)
    for line in _findings(members):
        console.print(f"- {line}", highlight=False)
    console.print()


def _findings(members: Iterable[Alignment]) -> list[str]:
    lines = []
    for (source, shift), group in groupby(members, key=lambda entry: (entry.source, entry.shift)):
        entries = list(group)
        names = ", ".join(entry.method for entry in entries)
        if shift == 0:
            lines.append(f"{source}, {names}: the labels agree with the other papers'.")
            continue
        way = "above" if shift > 0 else "below"
        row = "one row" if abs(shift) == 1 else f"{abs(shift)} rows"
        line = f"{source}, {names}: shifted, each value belongs to the category {row} {way} its label."
        unprinted = sorted({name for entry in entries for name in entry.unprinted})
        if unprinted:
            line += f" The row of {', '.join(unprinted)} is not printed."
        copied = sorted({entry.equal_to for entry in entries if entry.equal_to})
        if copied:
            line += f" The values equal {', '.join(copied)}."
        lines.append(line)
    wrong = [f"{entry.source} {entry.method}" for entry in members if not entry.recorded]
    if wrong:
        lines.append(f"corrected_category in the files says otherwise: {', '.join(wrong)}.")
    return lines


def _disagreements(console: Terminal, found: Sequence[Disagreement], metric: str) -> None:
    if not found:
        console.print(f"No two papers print a different {METRICS[metric].label} of the same method, dataset and split.")
        return
    table = plain_table(f"One method, several papers: {METRICS[metric].label}, largest gap first")
    table.add_column("dataset", overflow="fold")
    table.add_column("split")
    table.add_column("method", overflow="fold")
    table.add_column("gap", justify="right")
    table.add_column("printed", overflow="fold")
    for entry in found:
        values = ", ".join(f"{value:.2f} {source.split()[0]}" for source, value in entry.values)
        table.add_row(
            entry.data, entry.split, entry.method, f"{entry.gap:.2f}", values
        )  # fmt: skip
    print_plain(console, table)


def print_plain(console: Terminal, table: Table) -> None:
    """Print a table with an empty line after it."""
    console.print(table)
    console.print()


def plain_table(title: str) -> Table:
    """Return an empty table in the form of these reports."""
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        header_style="bold cyan",
    )
