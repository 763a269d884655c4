"""Attainability: can a printed Pr@X be a count over n samples at all?

Pr@X is the share of samples with an IoU of X or more, so over n samples it is k/n for a whole k. With two decimals only
n + 1 of the 10,001 values from 0.00 to 100.00 can then be printed. Five figures of one row that all fit are strong
evidence for the number of samples that were scored, and one that does not fit rules that number out.

Everything is computed in whole numbers. A figure is compared with every count under three rules of rounding, see
`RULES`. The rules differ by one unit of the last digit, and half up and half even differ only for exact halves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rrsis_bench.results.published.numbers import Overall

HALF_UP, HALF_EVEN, TRUNCATION = "half up", "half even", "truncation"
RULES = (HALF_UP, HALF_EVEN, TRUNCATION)
"""How a share becomes a printed figure; the first rule that fits best is reported.

``half up`` rounds exact halves up, ``half even`` to the even last digit, ``truncation`` drops the further digits.
"""

RANKS = (2, 4, 8)
"""Numbers of processes that are tried for a sampler that pads the split, and for one process's share of it."""

MAX_CHANCE = 0.05
"""Largest probability that a random row fits any of the sizes tried, for a fit that is reported as evidence."""

_FIGURE = re.compile(r"\d{1,3}(\.\d{1,9})?")


@dataclass(frozen=True, slots=True)
class Fit:
    """How a row fits a number of samples.

    Attributes:
        n: number of samples.
        meaning: where the number comes from.
        rule: one of `RULES`, the one under which most figures fit.
        fitting: figures that can be printed for a count over `n`.
        misfits: the figures that cannot, as printed.
        chance: probability that a row of random figures fits at least as well.
    """

    n: int
    meaning: str
    rule: str
    fitting: int
    misfits: tuple[str, ...]
    chance: float


@dataclass(frozen=True, slots=True)
class Attainability:
    """One printed row against the number of samples that it should be over.

    Attributes:
        data: the dataset's name; the file for a table of a user.
        source: paper and table.
        split: the split.
        method: the system, with its encoder if the table has several.
        figures: metric -> figure as printed.
        stated: the fit to the split's number of samples.
        others: other sizes that more figures fit than `stated`, the least likely by chance first. Sizes that a random
            row may well fit are left out, see `MAX_CHANCE`.
        tried: sizes that were compared, the stated one included.
    """

    data: str
    source: str
    split: str
    method: str
    figures: dict[str, str]
    stated: Fit
    others: tuple[Fit, ...]
    tried: int

    @property
    def possible(self) -> bool:
        """Whether every figure can be a count over the stated number of samples."""
        return not self.stated.misfits


def _units(digits: int) -> int:
    """Return one hundred percent in units of the last digit."""
    return 100 * int(10**digits)


def printed(count: int, n: int, digits: int, rule: str) -> int:
    """Return `count` of `n` in percent as it is printed, in units of the last digit.

    Args:
        count: samples, at most `n`.
        n: all samples, at least 1.
        digits: decimals of the figure.
        rule: one of `RULES`.
    """
    whole, rest = divmod(_units(digits) * count, n)
    up = {HALF_UP: 2 * rest >= n, HALF_EVEN: 2 * rest > n or (2 * rest == n and whole % 2 == 1), TRUNCATION: False}
    return whole + up[rule]


def fits(figure: str, n: int, rule: str) -> bool:
    """Return whether a figure such as ``66.40`` is a percentage that a count over `n` samples can give."""
    digits = len(figure.partition(".")[2])
    target, units = int(figure.replace(".", "")), _units(digits)
    # Printing moves a share by less than one unit, so only the counts next to the figure come into question.
    first, last = max(0, (target - 1) * n // units), min(n, (target + 1) * n // units + 1)
    return any(printed(count, n, digits, rule) == target for count in range(first, last + 1))


def share(digits: int, n: int) -> float:
    """Return the share of figures with so many decimals that a count over `n` can give, 0 and 100 left out."""
    units = _units(digits)
    return (min(n, units) - 1) / (units - 1)


def fit(figures: Iterable[str], n: int, meaning: str = "") -> Fit:
    """Compare a row with one number of samples, under the rule that most of its figures fit."""
    row = tuple(figures)
    misfits = {rule: tuple(figure for figure in row if not fits(figure, n, rule)) for rule in RULES}
    rule = min(RULES, key=lambda name: len(misfits[name]))
    # Zero and one hundred percent are counts over any number of samples.
    telling = [figure for figure in row if 0 < float(figure) < 100]
    chance = _at_least([share(len(f.partition(".")[2]), n) for f in telling], len(telling) - len(misfits[rule]))
    return Fit(n, meaning, rule, len(row) - len(misfits[rule]), misfits[rule], chance)


def _at_least(shares: Sequence[float], fitting: int) -> float:
    """Return the probability that at least `fitting` of independent events with these probabilities occur."""
    exactly = [1.0]
    for value in shares:
        exactly = [
            (exactly[count] * (1 - value) if count < len(exactly) else 0.0)
            + (exactly[count - 1] * value if count else 0.0)
            for count in range(len(exactly) + 1)
        ]
    return min(1.0, sum(exactly[fitting:]))


def sizes(n: int, others: Mapping[str, int] | None = None) -> dict[int, str]:
    """Return the numbers of samples that a row may be over -> what each would mean; the stated one first.

    Args:
        n: samples of the split.
        others: name -> samples of other splits, or of whatever else may have been scored.
    """
    found: dict[int, list[str]] = {n: ["the split"]}
    for name, size in (others or {}).items():
        found.setdefault(size, []).append(name)
    padded: dict[int, list[str]] = {}
    for ranks in RANKS:
        padded.setdefault(-(-n // ranks) * ranks, []).append(str(ranks))
        found.setdefault(-(-n // ranks), []).append(f"one of {ranks} ranks")
    for size, ranks_of in padded.items():
        if size > n:
            found.setdefault(size, []).append(f"n + {size - n}, padded to {' or '.join(ranks_of)} ranks")
    return {size: "; ".join(meanings) for size, meanings in found.items() if size > 0}


def examine(
    figures: Mapping[str, str],
    n: int,
    others: Mapping[str, int] | None = None,
    *,
    data: str = "",
    source: str = "",
    split: str = "",
    method: str = "",
) -> Attainability:
    """Compare one printed row with the number of samples that it should be over, and with what else it may be over.

    Args:
        figures: metric -> figure in percent, as printed.
        n: samples of the split.
        others: as for `sizes`.
        data: for the result.
        source: for the result.
        split: for the result.
        method: for the result.
    """
    tried = sizes(n, others)
    stated = fit(figures.values(), n, tried[n])
    found: list[Fit] = []
    if stated.misfits:
        every = [fit(figures.values(), size, meaning) for size, meaning in tried.items() if size != n]
        able = [entry for entry in every if entry.fitting > stated.fitting and entry.chance * len(tried) < MAX_CHANCE]
        most = max((entry.fitting for entry in able), default=0)
        able = [entry for entry in able if entry.fitting == most]
        # Every count over a size is also one over its multiples, which say nothing more.
        found = [entry for entry in able if not any(entry.n % o.n == 0 and entry.n > o.n for o in able)]
        found.sort(key=lambda entry: (entry.chance, entry.n))
    return Attainability(data, source, split, method, dict(figures), stated, tuple(found), len(tried))


def attainability(figures: Iterable[Overall], counts: Mapping[str, Mapping[str, int]]) -> list[Attainability]:
    """Examine every printed row of Pr@X figures, in the tables' order.

    Args:
        figures: the printed numbers.
        counts: dataset -> split -> samples. Rows of other datasets and splits are left out.
    """
    rows: dict[tuple[str, str, str, str, str], dict[str, str]] = {}
    encoders: dict[tuple[str, str, str, str], set[str]] = {}
    for figure in figures:
        if figure.metric.startswith("pr") and figure.split in counts.get(figure.data, {}):
            key = (figure.data, figure.source, figure.split, figure.method)
            rows.setdefault((*key, figure.vision_encoder), {})[figure.metric] = figure.value
            encoders.setdefault(key, set()).add(figure.vision_encoder)
    found = []
    for (data, source, split, method, encoder), row in rows.items():
        several = len(encoders[data, source, split, method]) > 1
        n = counts[data][split]
        others = {f"the {name} split": size for name, size in counts[data].items() if name != split}
        name = f"{method} ({encoder})" if several else method
        found.append(examine(row, n, others, data=data, source=source, split=split, method=name))
    return found


def is_figure(text: str) -> bool:
    """Return whether a text is a percentage from 0 to 100 with its digits, such as ``66.40``."""
    return _FIGURE.fullmatch(text) is not None and float(text) <= 100
