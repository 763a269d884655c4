"""Tables in the terminal about printed figures that no count over the samples gives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.table import Table
from rich.text import Text

from rrsis_bench.console import Terminal
from rrsis_bench.results.published.attainable import HALF_UP, RULES, Attainability
from rrsis_bench.results.render.terminal.published import plain_table, print_plain

RULE_NOTE = (
    f"Rules of rounding: {', '.join(RULES)}. A row is compared under each, and shown under the one that most figures "
    "fit. Chance: probability that a row of random figures fits as well; for another size, times the sizes tried."
)


def attainability(console: Terminal, rows: Sequence[Attainability]) -> None:
    """Print one table per dataset and split: what each row fits. Splits that any row fits are named only."""
    for (data, split), group in groupby(sorted(rows, key=_split), key=_split):
        members = list(group)
        n = members[0].stated.n
        if all(row.possible and row.stated.chance > 0.5 for row in members):
            console.print(f"{data} {split}: any figure with two decimals can be a count over {n:,} samples.\n")
            continue
        print_plain(console, _table(f"{data} {split}: can the printed Pr@X be counts over {n:,} samples?", members))
    console.print(RULE_NOTE, highlight=False)


def _split(row: Attainability) -> tuple[str, str]:
    return row.data, row.split


def checked(console: Terminal, rows: Sequence[Attainability]) -> None:
    """Print the result for a table of a user."""
    n = rows[0].stated.n
    print_plain(console, _table(f"{rows[0].data}: can the figures be counts over {n:,} samples?", rows))
    wrong = sum(not row.possible for row in rows)
    weak = sum(row.possible and row.stated.chance > 0.5 for row in rows)
    line = f"{wrong} of {len(rows)} rows cannot be counts over {n:,} samples." if wrong else "Every row can be."
    if weak:
        line += f" {weak} would fit anyway: figures with more decimals, or more of them, would say more."
    console.print(line, highlight=False)
    console.print(RULE_NOTE, highlight=False)


def _table(title: str, rows: Sequence[Attainability]) -> Table:
    table = plain_table(title)
    table.add_column("row", overflow="fold")
    table.add_column("fit", justify="right")
    table.add_column("chance", justify="right")
    table.add_column("finding", overflow="fold")
    for source, group in groupby(rows, key=lambda row: row.source):
        members = list(group)
        if len(members) > 1:
            table.add_section()
            table.add_row(Text(source, style="bold"))
        for row in members:
            name = row.method if len(members) > 1 else ", ".join(filter(None, (source, row.method)))
            fit = f"{row.stated.fitting}/{len(row.figures)}"
            style = "" if row.possible else "bold red"
            table.add_row(name, fit, chance(row.stated.chance), finding(row), style=style)
    return table


def chance(value: float) -> str:
    """Return a probability in a few characters."""
    return f"{value:.2g}".replace("e-0", "e-")


def finding(row: Attainability) -> str:
    """Return what the comparison of one row says, in words."""
    if row.possible:
        return "" if row.stated.rule == HALF_UP else f"by {row.stated.rule} only"
    if row.others:
        return ". ".join(
            f"{other.n:,} fits {_of(other.fitting, row)} ({other.meaning}; chance {chance(other.chance * row.tried)})"
            for other in row.others
        )
    if len(row.figures) - row.stated.fitting <= 1 < row.stated.fitting:
        return f"all but {', '.join(row.stated.misfits)}"
    return f"none of {row.tried} sizes fits: {', '.join(row.stated.misfits)}"


def _of(fitting: int, row: Attainability) -> str:
    return "all" if fitting == len(row.figures) else f"{fitting} of {len(row.figures)}"
