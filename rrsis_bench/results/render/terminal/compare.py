"""A comparison of two rows, or of two leaderboard files, in the terminal, as CSV and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from rrsis_bench.console import Terminal
from rrsis_bench.csv_files import write_csv
from rrsis_bench.data.text.strata import STRATA
from rrsis_bench.eval.metrics import METRICS
from rrsis_bench.eval.paired import Wins
from rrsis_bench.eval.seeds import MIN_SEEDS
from rrsis_bench.results.board.rows import BoardRow
from rrsis_bench.results.board.significance import ALPHA
from rrsis_bench.results.compare.files import FileComparison
from rrsis_bench.results.compare.integers import IntegerComparison
from rrsis_bench.results.compare.rows import Comparison, Difference, GroupDifference
from rrsis_bench.results.render.terminal.board import CONTROL_LABELS, plain_table, print_table
from rrsis_bench.results.render.text import markdown_table, number, plain_markdown

COLUMNS = ("family", "group", "n", "metric", "a", "b", "gap", "low", "high", "p", "p_holm", "wins_a", "wins_b", "ties")
"""Columns of the CSV form of a comparison."""

_TERMINAL_FAMILIES = {
    "size in pixels": "mIoU by size in pixels",
    "category": "mIoU per category",
    **{stratum.label: f"mIoU by {stratum.label}" for stratum in STRATA.values()},
}


def label_of(name: str) -> str:
    """Return the label of a metric, or of a language control."""
    if name in METRICS:
        return METRICS[name].label
    return f"mIoU, {CONTROL_LABELS[name]}" if name in CONTROL_LABELS else name


def comparison(console: Terminal, result: Comparison) -> None:
    """Print two rows: overall scores, size classes, categories, and the samples on which they differ most."""
    head = result.a.head
    table = plain_table()
    table.add_column("", overflow="fold")
    for row in (result.a, result.b):
        table.add_column(_heading(row, with_hash=result.a.label == result.b.label), justify="right", overflow="fold")
    for name in ("difference", "95% interval", "p"):
        table.add_column(name, justify="right", no_wrap=name != "95% interval")
    table.add_row("rank", *("none" if row.rank is None else str(row.rank) for row in (result.a, result.b)), "", "", "")
    if max(len(result.a.records), len(result.b.records)) > 1:
        deviations = (number(row.deviation("miou")) for row in (result.a, result.b))
        table.add_row("mIoU, deviation over seeds", *deviations, "", "", "")
    for difference in result.overall:
        table.add_row(*_cells(label_of(difference.name), difference))
    if result.wins is not None:
        table.add_row("samples won", str(result.wins.a), str(result.wins.b), f"{result.wins.ties} ties", "", "")
    print_table(console, _title(result), table, "\n".join([*result.remarks, *_explained(result)]))
    for family, title in _TERMINAL_FAMILIES.items():
        if result.families.get(family):
            _groups(console, title, result.families[family], result)
    if result.most:
        _most(console, result)
    elif result.wins is not None:
        console.print(f"No sample of {head.data} {head.split} tells the two rows apart.")


def comparison_csv(result: Comparison) -> str:
    """One line per family, group and score; gap, interval and p are of b - a, in percent."""
    lines: list[dict[str, object]] = [
        _csv_line("overall", "", result.a.head.n, difference, result.wins) for difference in result.overall
    ]
    for family, groups in result.families.items():
        lines += [
            _csv_line(family, group.name, group.n, score, group.wins) for group in groups for score in group.scores
        ]
    return write_csv(COLUMNS, lines)


def comparison_markdown(result: Comparison) -> str:
    """Overall scores, mIoU per size class and category, and the samples on which the rows differ most."""
    header = ["", result.a.label, result.b.label, "Difference", "95% interval", "p"]
    body = [[str(cell) for cell in _cells(label_of(difference.name), difference)] for difference in result.overall]
    parts = [markdown_table(_title(result), header, "lrrrrr", body)]
    header = ["", "n", result.a.label, result.b.label, "Difference", "95% interval", "p (Holm)", "Wins"]
    for family, title in _TERMINAL_FAMILIES.items():
        groups = result.families.get(family, ())
        body = [[str(cell) for cell in _group_cells(group)] for group in groups]
        if body:
            parts.append(markdown_table(title, header, "lrrrrrrr", body))
    if result.most:
        body = [
            [sample.sample_id, sample.expression or "", sample.category, number(sample.a, 1), number(sample.b, 1)]
            for sample in result.most
        ]
        header = ["Sample", "Expression", "Category", f"IoU {result.a.label}", f"IoU {result.b.label}"]
        parts.append(markdown_table("Where they differ most", header, "lllrr", body))
    parts += map(plain_markdown, [*result.remarks, *_explained(result)])
    return "\n\n".join(parts) + "\n"


def files(console: Terminal, result: FileComparison) -> None:
    """Print the differences between two leaderboard files."""
    table = plain_table()
    for name in ("row", "change", "rank"):
        table.add_column(name, overflow="fold")
    for name in result.metrics:
        table.add_column(label_of(name), justify="right", no_wrap=True)
    for line in result.lines:
        table.add_row(
            line.name,
            line.change,
            line.rank,
            *(_signed(gap, None, name) for name, gap in zip(result.metrics, line.gaps, strict=True)),
        )
    print_table(console, f"{result.old} -> {result.new}", table, result.summary)


def integers(console: Terminal, result: IntegerComparison, most: int = 10) -> None:
    """Print how many samples have other integers, and the first `most` of them."""
    title = f"{result.old} -> {result.new}"
    if not result.changed:
        order = "the files are equal" if result.same_bytes else "their order differs"
        console.print(Text(f"{title}\nAll {result.n} samples have equal integers: {order}."))
        return
    table = plain_table()
    table.add_column("sample", overflow="fold")
    for name in ("intersection", "union", "predicted", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    for sample in result.changed[:most]:
        sides = [
            (side.intersection, side.union, side.pred_area, side.target_area) if side else ("none",) * 4
            for side in (sample.old, sample.new)
        ]
        table.add_row(
            Text(sample.sample_id), *(f"{a} -> {b}" if a != b else str(a) for a, b in zip(*sides, strict=True))
        )
    shown = "" if len(result.changed) <= most else f" The first {most} are shown."
    print_table(console, title, table, f"{len(result.changed)} of {result.n} samples differ.{shown}")


def files_csv(result: FileComparison) -> str:
    """One line per row of either file."""
    lines: list[dict[str, object]] = []
    for line in result.lines:
        gaps = zip(result.metrics, line.gaps, strict=True)
        cells = {name: "" if value is None else f"{_rounded(value):+.2f}" for name, value in gaps}
        lines.append({"row": line.name, "change": line.change, "rank": line.rank, **cells})
    return write_csv(("row", "change", "rank", *result.metrics), lines)


def files_markdown(result: FileComparison) -> str:
    """The same as a Markdown table."""
    header = ["Row", "Change", "Rank", *(label_of(name) for name in result.metrics)]
    body = [[line.name, line.change, line.rank, *(str(_signed(gap)) for gap in line.gaps)] for line in result.lines]
    title = f"{result.old} -> {result.new}"
    return markdown_table(title, header, "lll" + "r" * len(result.metrics), body) + f"\n\n{result.summary}\n"


def _title(result: Comparison) -> str:
    head = result.a.head
    return f"{head.data} {head.split}, protocol {head.protocol.name}, n = {head.n}"


def _explained(result: Comparison) -> list[str]:
    if result.wins is None:
        return []
    fewest = min(len(result.a.records), len(result.b.records))
    drawn = "seeds and images" if fewest >= MIN_SEEDS else "images"
    lines = [
        f"difference: second minus first; interval and p: paired test on {result.resamples:,} resamples of the {drawn}"
        + ("; groups: p after Holm's correction" if result.families else "")
    ]
    if fewest < MIN_SEEDS:
        lines.append(
            f"fewer than {MIN_SEEDS} seeds on a side: the test is about these trainings, not about another seed"
        )
    return lines


def _groups(console: Terminal, title: str, groups: Sequence[GroupDifference], result: Comparison) -> None:
    table = plain_table()
    table.add_column("", overflow="fold", min_width=8)
    for name in ("n", result.a.label, result.b.label, "diff.", "95% interval", "p Holm", "wins"):
        table.add_column(name, justify="right", overflow="fold", no_wrap=name == "95% interval")
    for group in groups:
        table.add_row(group.name, *_group_cells(group)[1:])
    print_table(console, title, table, "wins: samples with the higher IoU, first : second (the rest are ties)")


def _most(console: Terminal, result: Comparison) -> None:
    table = plain_table()
    table.add_column("sample", no_wrap=True)
    known = any(sample.expression for sample in result.most)
    if known:
        table.add_column("expression", overflow="fold")
    table.add_column("category", overflow="fold")
    for row in (result.a, result.b):
        table.add_column(row.label, justify="right", overflow="fold")
    for sample in result.most:
        words = [sample.sample_id, *([sample.expression or ""] if known else []), sample.category]
        table.add_row(*words, number(sample.a, 1), number(sample.b, 1))
    print_table(console, "where they differ most: IoU", table)


def _cells(label: str, difference: Difference) -> list[str | Text]:
    test = difference.test
    p = None if test is None else test.p
    scores = (number(difference.a), number(difference.b))
    return [label, *scores, _signed(difference.gap, p, difference.name), _interval(difference), _p(p)]


def _group_cells(group: GroupDifference) -> list[str | Text]:
    score, wins = group.miou, group.wins
    return [
        group.name, "" if group.n is None else str(group.n), number(score.a), number(score.b),
        _signed(score.gap, score.p_holm, score.name), _interval(score), _p(score.p_holm),
        "" if wins is None else f"{wins.a}:{wins.b}",
    ]  # fmt: skip


def _csv_line(family: str, group: str, n: int | None, score: Difference, wins: Wins | None) -> dict[str, object]:
    test = score.test
    cells: dict[str, object] = {
        "family": family, "group": group, "n": n, "metric": score.name, "a": number(score.a), "b": number(score.b),
        "gap": "" if score.gap is None else f"{_rounded(score.gap):+.2f}",
    }  # fmt: skip
    if test is not None:
        cells |= {"low": number(test.low), "high": number(test.high)}
        cells |= {"p": _figure(test.p), "p_holm": _figure(score.p_holm)}
    if wins is not None and test is not None:
        cells |= {"wins_a": wins.a, "wins_b": wins.b, "ties": wins.ties}
    return cells


def _heading(row: BoardRow, *, with_hash: bool) -> str:
    seeds = ", ".join(str(record.seed) for record in row.records)
    lines = [row.head.model, *row.head.variant, f"{row.head.size}, seed{'s' * (len(row.records) > 1)} {seeds}"]
    return "\n".join(lines + ([row.head.train_hash[:8]] if with_hash else []))


def _interval(difference: Difference) -> str:
    test = difference.test
    if test is None or test.low is None or test.high is None:
        return ""
    return f"[{_rounded(test.low):.2f}, {_rounded(test.high):.2f}]"


def _p(p: float | None) -> str:
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _figure(p: float | None) -> str:
    return "" if p is None else f"{p:.4g}"


def _signed(gap: float | None, p: float | None = None, metric: str = "") -> Text:
    """A difference with its sign; green for better, red for worse, unless a test finds it not significant."""
    if gap is None:
        return Text("")
    value = _rounded(gap)
    higher = metric not in METRICS or METRICS[metric].higher_is_better
    grey = value == 0 or (p is not None and p > ALPHA)
    return Text(f"{value:+.2f}", style="dim" if grey else "green" if (value > 0) == higher else "red")


def _rounded(value: float) -> float:
    return round(value, 2) + 0.0  # no negative zero
