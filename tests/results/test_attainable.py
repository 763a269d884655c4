"""Printed shares that no count over the samples gives: the arithmetic, the papers' tables, a reviewer's table."""

from __future__ import annotations

import itertools
import json
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from rich.cells import cell_len

from rrsis_bench import cli
from rrsis_bench.errors import UserError
from rrsis_bench.results.published import audit as published_audit
from rrsis_bench.results.published import manuscript
from rrsis_bench.results.published.attainable import (
    HALF_EVEN,
    HALF_UP,
    TRUNCATION,
    examine,
    fit,
    fits,
    share,
    sizes,
)

ROOT = Path(__file__).resolve().parents[2] / "leaderboards"
PYTHON_S = {HALF_UP: ROUND_HALF_UP, HALF_EVEN: ROUND_HALF_EVEN, TRUNCATION: ROUND_DOWN}

# Figures that are not among the published numbers: a reproduction of RSRefSeg2's weights on RefSegRS test (1,817
# samples, printed by a program that drops last zeros), and the same with one digit changed.
MANUSCRIPT = """\
method;note;Pr@0.5;Pr@0.6;Pr@0.7;Pr@0.8;Pr@0.9;gIoU
RSRefSeg2;weights of the authors;88,11;82,94;73,97;60,81;34,4;77,36
RSRefSeg2;one digit changed;88,11;82,94;73,97;60,83;34,4;77,36
another;no figures;-;–;;n/a;-;77,36
"""


def row(*figures: str) -> dict[str, str]:
    return {f"pr{50 + 10 * place}": figure for place, figure in enumerate(figures)}


@pytest.mark.parametrize("rule", PYTHON_S)
@pytest.mark.parametrize("digits", [0, 1, 2])
def test_a_figure_fits_exactly_when_some_count_prints_it(rule, digits):
    unit = Decimal(1).scaleb(-digits)
    for n in (1, 2, 7, 16, 96, 125, 163):
        printed = {str((Decimal(100 * k) / n).quantize(unit, PYTHON_S[rule])) for k in range(n + 1)}
        every = [f"{value:.{digits}f}" for value in (step / 10**digits for step in range(100 * 10**digits + 1))]
        assert {figure for figure in every if fits(figure, n, rule)} == printed, n
        inner = printed - {f"{0:.{digits}f}", f"{100:.{digits}f}"}
        if n < 100 * 10**digits:
            assert share(digits, n) == pytest.approx(len(inner) / (len(every) - 2))


def test_rules_differ_by_the_last_digit():
    assert (fits("66.67", 3, HALF_UP), fits("66.66", 3, HALF_UP), fits("66.66", 3, TRUNCATION)) == (True, False, True)
    # 1 of 16 is exactly 6.25: one decimal is 6.3 half up and 6.2 half even.
    assert [fits(figure, 16, rule) for figure in ("6.3", "6.2") for rule in (HALF_UP, HALF_EVEN)] == [1, 0, 0, 1]


def test_a_row_is_compared_under_one_rule_at_a_time():
    assert fit(["66.67", "33.33"], 3).rule == HALF_UP
    assert fit(["66.66", "33.33"], 3).rule == TRUNCATION
    mixed = fit(["66.67", "66.66"], 3)
    assert (mixed.fitting, mixed.misfits) == (1, ("66.66",))


@pytest.mark.parametrize("n", [5, 20])
def test_the_chance_is_that_of_random_figures(n):
    """Over all pairs of figures without decimals that are not 0 or 100."""
    figures = [str(value) for value in range(1, 100)]
    able = [fits(figure, n, HALF_UP) for figure in figures]
    pairs = list(itertools.product(able, repeat=2))
    both = next(figure for figure, good in zip(figures, able, strict=True) if good)
    one = next(figure for figure, good in zip(figures, able, strict=True) if not good)
    assert fit([both, both], n).chance == pytest.approx(sum(a and b for a, b in pairs) / len(pairs))
    assert fit([both, one], n).chance == pytest.approx(sum(a or b for a, b in pairs) / len(pairs))


def test_zero_and_one_hundred_percent_say_nothing():
    assert fit(["0.00", "100.00"], 7).chance == 1.0
    assert fit(["0.00", "14.29"], 7).chance == fit(["14.29"], 7).chance


def test_sizes_are_those_of_a_padded_sampler_and_of_one_process():
    assert sizes(431, {"the test split": 1817}) == {
        431: "the split", 1817: "the test split", 432: "n + 1, padded to 2 or 4 or 8 ranks",
        216: "one of 2 ranks", 108: "one of 4 ranks", 54: "one of 8 ranks",
    }  # fmt: skip
    assert 1740 + 4 in sizes(1740)
    assert sizes(8) == {8: "the split", 4: "one of 2 ranks", 2: "one of 4 ranks", 1: "one of 8 ranks"}


def test_a_size_whose_counts_are_all_counts_of_a_smaller_one_is_left_out():
    """218 is one of 8 ranks of 1,740; 1,744 is the padded split, of which every k of 218 is a count, too."""
    found = examine(row("64.22", "58.72", "50.00", "35.78", "24.31"), 1740)
    assert [(other.n, other.meaning) for other in found.others] == [(218, "one of 8 ranks")]


# The papers' tables


@pytest.fixture(scope="module")
def found():
    rows = published_audit.audit(ROOT).attainability
    return {(row.source, row.data, row.split, row.method): row for row in rows}


def others(entry):
    return [(other.n, other.fitting) for other in entry.others]


def test_cmpc_plus_on_refsegrs_test_was_scored_on_as_many_samples_as_val_has(found):
    for source in ("CSINet Table II", "SGSRF Table 2"):
        entry = found[source, "refsegrs", "test", "CMPC+"]
        assert (entry.stated.n, entry.stated.fitting, others(entry)) == (1817, 0, [(431, 5)])
        assert entry.others[0].meaning == "the val split"
        assert entry.others[0].chance == pytest.approx(1.5e-7, rel=0.05)
        assert found[source, "refsegrs", "val", "CMPC+"].possible


def test_rows_of_csinet_cgformer_and_lscf_fit_one_sample_more(found):
    padded = {
        (*key, other.n - row.stated.n)
        for key, row in found.items()
        for other in row.others
        if "padded" in other.meaning
    }
    assert padded == {
        ("CSINet Table II", "refsegrs", "val", "CGFormer", 1), ("CSINet Table II", "refsegrs", "test", "CGFormer", 1),
        ("CSINet Table II", "refsegrs", "val", "CSINet (Swin-S)", 1),
        ("CSINet Table II", "refsegrs", "val", "CSINet (Swin-B)", 1),
        ("SGSRF Table 2", "refsegrs", "val", "LSCF", 1), ("SGSRF Table 2", "refsegrs", "test", "LSCF", 1),
        ("CSINet Table I", "rrsisd", "test", "CGFormer", 1), ("CSINet Table I", "rrsisd", "test", "CSINet (Swin-S)", 1),
        ("CSINet Table I", "rrsisd", "test", "CSINet (Swin-B)", 1), ("SGSRF Table 3", "rrsisd", "test", "LSCF", 1),
    }  # fmt: skip
    # Its other four figures fit 432; 96.51 is a misprint or the count of another set.
    small = found["CSINet Table II", "refsegrs", "val", "CSINet (Swin-S)"]
    assert small.others[0].misfits == ("96.51",)
    # Within one paper the number of samples changes: its test rows fit the split itself.
    assert found["CSINet Table II", "refsegrs", "test", "CSINet (Swin-B)"].possible


def test_rows_on_refsegrs_that_fit_no_size(found):
    lost = {key for key, row in found.items() if not row.others and len(row.figures) - row.stated.fitting > 1}
    assert lost == {
        ("CSINet Table II", "refsegrs", "val", "RRN"), ("CSINet Table II", "refsegrs", "test", "RRN"),
        ("SGSRF Table 2", "refsegrs", "val", "RNN"), ("SGSRF Table 2", "refsegrs", "test", "RNN"),  # RRN again
        ("CSINet Table II", "refsegrs", "val", "CMSA"), ("SGSRF Table 2", "refsegrs", "val", "CMSA"),
        ("SGSRF Table 2", "refsegrs", "val", "BRINet"), ("SGSRF Table 2", "refsegrs", "test", "BRINet"),
        ("SGSRF Table 2", "refsegrs", "val", "LSCM"), ("SGSRF Table 2", "refsegrs", "test", "LSCM"),
        ("SGSRF Table 3", "rrsisd", "val", "FIANet"),  # two figures: 75.13 and 67.45
    }  # fmt: skip


def test_rows_that_were_scored_on_another_split_or_on_one_process_s_share(found):
    assert others(found["CSINet Table I", "rrsisd", "test", "CroBIM"]) == [(1740, 5)]
    assert others(found["CSINet Table I", "rrsisd", "val", "RefSeg"]) == [(218, 5)]


def test_copied_rows_on_rrsisd_were_truncated(found):
    cut = {row.method for row in found.values() if row.possible and row.stated.rule == TRUNCATION}
    assert cut == {"RRN", "RNN", "CMSA", "BRINet", "CMPC", "CMPC+", "LSCM", "GeoPixel"}  # the last by one figure
    assert all(row.data == "rrsisd" for row in found.values() if row.possible and row.stated.rule != HALF_UP)


def test_single_misprints(found):
    single = {
        (row.data, row.split, row.method, *row.stated.misfits)
        for row in found.values() if len(row.stated.misfits) == 1 and not row.others
    }  # fmt: skip
    assert single == {
        ("refsegrs", "val", "CMPC", "46.09"), ("refsegrs", "val", "RIS-DMMI", "86.17"),
        ("refsegrs", "test", "CARIS", "8.87"), ("refsegrs", "test", "RIS-DMMI", "1.00"),
        ("rrsisd", "val", "CGFormer", "42.83"), ("rrsisd", "test", "LSCM", "37.70"),
        ("rrsisd", "test", "CMPC", "55.83"), ("rrsisd", "test", "LAVT", "63.61"), ("rrsisd", "test", "FIANet", "74.47"),
    }  # fmt: skip


def test_most_rows_fit_and_large_splits_prove_nothing(found):
    small = [row for row in found.values() if row.data in ("refsegrs", "rrsisd")]
    assert (len(small), sum(row.possible for row in small)) == (136, 99)
    assert all(row.possible and row.stated.chance == 1.0 for row in found.values() if row.data == "risbench")


# A reviewer's table


def table(tmp_path, text, name="manuscript.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_held_out_manuscript_is_checked(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    path = table(tmp_path, MANUSCRIPT)
    assert cli.main(["published", "check", str(path), "--n", "1817", "--also", "431", "2172"]) == 1
    text = capsys.readouterr().out
    assert max(map(cell_len, text.splitlines())) <= 80
    plain = " ".join(text.split())
    assert "5/5" in plain
    assert "all but 60.83" in plain
    assert "1 of 2 rows cannot be counts over 1,817 samples." in plain
    good, bad = manuscript.check(path, 1817)
    assert good.possible
    assert good.stated.chance < 0.002
    assert (bad.source, bad.method, bad.stated.misfits) == ("line 3", "RSRefSeg2, one digit changed", ("60.83",))


def test_the_check_of_a_sound_table_ends_well(tmp_path, capsys):
    sound = table(tmp_path, "method,P@.5,Prec@0.9\nA,88.11%,34.40%\n")
    assert cli.main(["published", "check", str(sound), "--n", "1817", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["figures"] == {"P@.5": "88.11", "Prec@0.9": "34.40"}


def test_a_long_table_and_chosen_columns(tmp_path):
    path = ROOT / "published" / "refsegrs_overall.csv"
    rows = {row.method: row for row in manuscript.check(path, 1817, {"val": 431})}
    (cmpc,) = (row for name, row in rows.items() if name.startswith("csinet, Table II, refsegrs, test, CMPC+"))
    assert others(cmpc) == [(431, 5)]
    picked = manuscript.check(table(tmp_path, "name,accuracy,loss\nA,33.33,0.1\n"), 3, columns=["accuracy"])
    assert [(row.figures, row.possible) for row in picked] == [({"accuracy": "33.33"}, True)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method,Pr@0.5\nA,high\n", "line 2: Pr@0.5 is 'high'"),
        ("method,Pr@0.5\nA,101.00\n", "line 2: Pr@0.5 is '101.00'"),
        ("method,mIoU\nA,50.00\n", "no column such as Pr@0.5"),
        ("method,Pr@0.5\nA,-\n", "no figure to compare"),
        ("method,metric,value\nA,pr50,50.00\nA,pr50,51.00\n", "line 3: a second pr50 of 'A'"),
    ],
)
def test_a_table_that_cannot_be_compared_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        manuscript.check(table(tmp_path, text), 100)


def test_unknown_columns_and_sizes_are_refused(tmp_path):
    path = table(tmp_path, "method,Pr@0.5\nA,50.00\n")
    with pytest.raises(UserError, match="no column accuracy"):
        manuscript.check(path, 100, columns=["accuracy"])
    assert cli.main(["published", "check", str(path), "--n", "0"]) != 0
