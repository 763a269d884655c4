from __future__ import annotations

import argparse
import csv
import json
import random
from collections import defaultdict
from pathlib import Path

import pytest
from rich.cells import cell_len

from rrsis_bench.commands import published as command
from rrsis_bench.config.cards import printed_names
from rrsis_bench.errors import UserError
from rrsis_bench.results.published import audit as published_audit
from rrsis_bench.results.published import numbers as published
from rrsis_bench.results.published.audit import SHIFTS, PublishedColumn, correlate, shifted
from rrsis_bench.results.published.numbers import COPIED, PAPERS

ROOT = Path(__file__).resolve().parents[2] / "leaderboards"
HEADER = "paper,table,data,split,method,vision_encoder,text_encoder,metric,value,copied_from,notes\n"
LINE = "fianet,Table I,refsegrs,test,LAVT,,,miou,57.30,,\n"


@pytest.fixture(scope="module")
def audit():
    return published_audit.audit(ROOT)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers(required=True))
    args = parser.parse_args(["published", *arguments])
    return args.call(args)


def folder(tmp_path, text, name="refsegrs_overall.csv"):
    (tmp_path / "published").mkdir(exist_ok=True)
    (tmp_path / "published" / name).write_text(text, encoding="utf-8")
    return tmp_path


# The data


@pytest.mark.parametrize(
    ("kind", "count"), [("overall", 1388), ("per_category", 345), ("ablations", 506), ("efficiency", 33)]
)
def test_every_figure_is_there_with_its_paper_and_table(kind, count):
    figures = published.load(ROOT, kind)
    assert len(figures) == count
    for figure in figures:
        assert figure.paper in PAPERS
        assert figure.table == "README" or figure.table.startswith("Table ")
        assert figure.condition if kind == "efficiency" else figure.split and figure.data


def test_no_file_of_the_folder_is_left_unread():
    names = {path.name for path in (ROOT / "published").glob("*.csv")}
    kinds = ("overall", "per_category", "ablations")
    read = {f"{figure.data}_{kind}.csv" for kind in kinds for figure in published.load(ROOT, kind)}
    assert names == read | {"efficiency.csv"}


def test_values_keep_their_digits():
    values = {(f.method, f.metric): f.value for f in published.load(ROOT, "overall", "rrsisd") if f.paper == "sgsrf"}
    assert values["SGSRF", "pr50"] == "80.93"
    assert {f.value for f in published.load(ROOT, "overall", "rrsisd")} >= {"65.10", "64.20", "76.50"}
    costs = {(f.method, f.quantity): f.value for f in published.load(ROOT, "efficiency") if f.paper == "sgsrf"}
    assert (costs["FIANet", "gflops"], costs["RMSIN", "fps"]) == ("1712.90", "14.02")


def test_a_row_said_to_equal_an_earlier_table_does():
    figures = [*published.load(ROOT, "overall"), *published.load(ROOT, "per_category")]
    printed = {(f.paper, f.table, f.split, f.method, f.metric, getattr(f, "category", "")): f.value for f in figures}
    different, checked = [], 0
    for figure in figures:
        match = COPIED.fullmatch(figure.copied_from)
        if match and match["paper"]:
            key = (match["paper"], match["table"], figure.split)
            category = getattr(figure, "category", "")
            value = printed.get((*key, figure.system, figure.metric, category))
            checked += 1
            if value != figure.value:
                different.append((figure.method, category, value))
    # FIANet Table IV does not print the row that stands at airplane.
    assert different == [(method, "airplane", None) for method in ("RMSIN", "LGCE", "FIANet")]
    assert checked > 200


def test_one_method_has_one_name_beside_the_papers_labels():
    labels = {figure.method for figure in published.load(ROOT, "overall") if figure.system == "RRN"}
    assert labels == {"RRN", "RNN", "ConvLSTM"}


def test_a_system_that_the_suite_cannot_train_says_so_in_its_remarks():
    """MAttNet needs a detector of the domain: its row is printed only, on the page too."""
    rows = [row for row in published.overall(ROOT, "risbench") if row.method == "MAttNet"]
    assert {row.split for row in rows} == {"val", "test"}
    assert all("printed only: MAttNet" in row.notes for row in rows)
    assert "MAttNet" not in printed_names()
    assert b"printed only: MAttNet picks among the boxes of a detector" in (ROOT / "index.html").read_bytes()


def test_the_audit_compares_the_names_of_one_method():
    """ConvLSTM (FIANet) and RNN (SGSRF) are RRN: 43.34 and 41.88 for one method on RefSegRS."""
    found = [
        entry for entry in published_audit.disagreements(published.load(ROOT, "overall", "refsegrs"))
        if (entry.method, entry.split, entry.metric) == ("RRN", "test", "miou")
    ]  # fmt: skip
    assert [{source.split()[0]: value for source, value in entry.values} for entry in found] == [
        {"CSINet": 41.88, "SGSRF": 41.88, "FIANet": 43.34}
    ]


def test_known_defects_are_noted():
    overall, categories = published.load(ROOT, "overall"), published.load(ROOT, "per_category")
    ablations = published.load(ROOT, "ablations")

    def notes(figures, **wanted):
        found = [f for f in figures if all(getattr(f, name) == value for name, value in wanted.items())]
        assert found, wanted
        return {f.notes for f in found}

    assert all("val and test pooled" in note for note in notes(categories, paper="csinet", split="val+test"))
    assert all("3481" in note for note in notes(overall, paper="csinet", data="rrsisd", split="test"))
    assert all("431" in note for note in notes(overall, paper="csinet", data="refsegrs", split="val"))
    for paper in ("csinet", "sgsrf"):
        assert all("16159" in note for note in notes(overall, paper=paper, data="risbench", split="test"))
    for category in ("airport", "airplane"):
        same = notes(categories, paper="sgsrf", method="RSRefSeg2", category=category)
        assert same == {"airport and airplane print the same value: likely a copying error"}
    assert "67.59" in "".join(notes(ablations, table="Table VIII", setting="-D4", metric="miou"))
    assert {f.split for f in ablations if f.paper == "sgsrf"} == {"val or test", "not stated"}
    shifted_tables = {(f.source, f.method) for f in categories if f.corrected_category}
    assert shifted_tables == {
        *(("FIANet Table IV", method) for method in ("LAVT", "RMSIN", "LGCE", "FIANet")),
        *(("SGSRF Table 4", method) for method in ("RMSIN", "LGCE", "FIANet")),
    }


# The reader


def test_a_dataset_s_rows_carry_the_suite_s_metrics():
    rows = published.overall(ROOT, "refsegrs", "test")
    lavt = [(row.source, row.scores["miou"], row.copied_from) for row in rows if row.method == "LAVT"]
    assert lavt == [("CSINet Table II", 47.4, ""), ("FIANet Table I", 57.3, "")]
    sizes = [(row.vision_encoder, row.scores["miou"]) for row in rows if row.method == "CSINet"]
    assert sizes == [("Swin-S", 71.14), ("Swin-B", 73.88)]
    assert set(rows[0].scores) == {"miou", "oiou", "pr50", "pr60", "pr70", "pr80", "pr90"}
    stated = next(row for row in rows if row.method == "BRINet" and row.paper == "fianet")
    assert (stated.copied_from, stated.notes) == ("stated: LGCE, RMSIN", "the table names no encoders")
    nwpu = published.overall(ROOT, "nwpu_refer", "val")
    assert set(nwpu[0].scores) == {"miou", "oiou", "pr70", "pr80", "pr90"}, "what a table lacks is absent, never 0"
    assert {row.split for row in published.overall(ROOT, "rrsisd")} == {"val", "test"}


def test_a_dataset_without_published_numbers_has_none_and_a_folder_without_them_is_an_error(tmp_path):
    assert published.overall(ROOT, "synthetic") == []
    assert published.overall(ROOT, "*") == []
    assert published.datasets(ROOT) == ["aerial_d", "nwpu_refer", "refsegrs", "ris_lad", "risbench", "rrsisd"]
    assert published.datasets(tmp_path) == []
    with pytest.raises(UserError, match="no published numbers"):
        published.overall(tmp_path, "rrsisd")
    with pytest.raises(UserError, match="Did you mean overall"):
        published.load(ROOT, "overal")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace("notes", "remarks") + LINE, r"line 1: unknown column 'remarks', no column 'notes'"),
        (HEADER.replace("paper,table", "table,paper") + LINE, r"line 1: columns in another order"),
        ("", r"line 1: no column 'paper'"),
        (HEADER + LINE + LINE.replace("57.30", "57,30"), r"line 3: 12 cells, but there are 11 columns"),
        (HEADER + LINE.replace("57.30", "n/a"), r"line 2: value 'n/a' is not a plain number"),
        (HEADER + LINE.replace("57.30", "nan"), r"line 2: value 'nan' is not"),
        (HEADER + LINE.replace("57.30", "157.30"), r"line 2: value 157.30 is more than 100"),
        (HEADER + LINE.replace("miou", "mIoU"), r"line 2: unknown metric 'mIoU'. Known: miou, oiou, pr50"),
        (HEADER + LINE.replace("fianet", "fiannet"), r"line 2: unknown paper 'fiannet'"),
        (HEADER + LINE.replace(",test,", ",,"), r"line 2: column 'split' is empty"),
        (HEADER + LINE.replace("LAVT", "LAVT "), r"line 2: spaces around 'LAVT'"),
        (HEADER + LINE.replace("refsegrs", "rrsisd"), r"line 2: a number of 'rrsisd' belongs in rrsisd_overall.csv"),
        (HEADER + LINE.replace("57.30,,", "57.30,LGCE,"), r"line 2: copied_from 'LGCE' is neither"),
        (HEADER + LINE + LINE.replace("57.30", "57.40"), r"line 3: the same number as in line 2"),
        (HEADER + LINE.replace("LAVT", '"LAVT" x'), r"line 2: not CSV"),
    ],
)
def test_a_malformed_file_is_refused_with_its_name_and_line(tmp_path, text, message):
    with pytest.raises(UserError, match=r"refsegrs_overall\.csv, " + message):
        published.load(folder(tmp_path, text), "overall")


# The audit


def test_printed_averages_are_right_but_for_one_table(audit):
    wrong = {(a.source, a.method): (a.n, a.printed, round(a.mean, 2), a.implied, a.seen) for a in audit.averages
             if not a.right}  # fmt: skip
    assert wrong == {
        ("FIANet Table IV", "LAVT"): (19, 62.44, 62.82, 55.29, None),
        ("FIANet Table IV", "RMSIN"): (19, 65.13, 65.39, 60.17, "SGSRF Table 4"),
        ("FIANet Table IV", "LGCE"): (19, 64.12, 64.52, 56.43, "SGSRF Table 4"),
        ("FIANet Table IV", "FIANet"): (19, 66.46, 66.78, 60.32, "SGSRF Table 4"),
    }
    assert len(audit.averages) == 18
    assert {a.absent for a in audit.averages if a.source.endswith("Table IV")} == {("airplane",)}


def test_the_shifted_columns_are_found_from_the_printed_labels_alone(audit, tmp_path):
    moved = {(a.source, a.method): (a.shift, a.unprinted, a.equal_to) for a in audit.alignments if a.shift}
    assert moved == {
        **{("FIANet Table IV", m): (1, ("windmill",), None) for m in ("LAVT", "RMSIN", "LGCE", "FIANet")},
        **{("SGSRF Table 4", m): (1, (), "FIANet Table IV") for m in ("RMSIN", "LGCE", "FIANet")},
    }
    assert all(a.recorded for a in audit.alignments)
    # Without the corrected labels the same is found, and their absence is reported.
    with (ROOT / "published" / "rrsisd_per_category.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    path = folder(tmp_path, "", "rrsisd_per_category.csv") / "published" / "rrsisd_per_category.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows({**line, "corrected_category": ""} for line in lines)
    bare = published_audit.audit(tmp_path)
    assert {(a.source, a.method): (a.shift, a.unprinted, a.equal_to) for a in bare.alignments if a.shift} == moved
    assert {(a.source, a.method) for a in bare.alignments if not a.recorded} == set(moved)


def test_correlations_before_and_after_the_shift(audit):
    figures = {
        (a.source, a.method, c.against, c.method): (
            round(c.pearson[0], 2), round(c.pearson[1], 2), round(c.spearman[0], 2), round(c.spearman[1], 2), c.n[1],
        )
        for a in audit.alignments if a.shift for c in a.correlations
    }  # fmt: skip
    csinet, sgsrf = "CSINet Table IV", "SGSRF Table 4"
    assert figures == {
        ("FIANet Table IV", "LAVT", csinet, "LAVT"): (0.66, 0.97, 0.66, 0.95, 18),
        ("FIANet Table IV", "LAVT", sgsrf, "SGSRF"): (0.65, 0.97, 0.68, 0.96, 19),
        ("FIANet Table IV", "RMSIN", csinet, "RMSIN"): (0.62, 0.93, 0.63, 0.90, 18),
        ("FIANet Table IV", "RMSIN", sgsrf, "SGSRF"): (0.64, 0.98, 0.63, 0.96, 19),
        ("FIANet Table IV", "LGCE", csinet, "LGCE"): (0.68, 0.96, 0.67, 0.91, 18),
        ("FIANet Table IV", "LGCE", sgsrf, "SGSRF"): (0.67, 0.97, 0.70, 0.95, 19),
        ("FIANet Table IV", "FIANet", csinet, "CSINet"): (0.69, 0.93, 0.76, 0.87, 18),
        ("FIANet Table IV", "FIANet", sgsrf, "SGSRF"): (0.65, 0.98, 0.64, 0.96, 19),
        (sgsrf, "RMSIN", csinet, "RMSIN"): (0.62, 0.93, 0.63, 0.90, 19),
        (sgsrf, "RMSIN", sgsrf, "SGSRF"): (0.64, 0.97, 0.60, 0.96, 20),
        (sgsrf, "LGCE", csinet, "LGCE"): (0.68, 0.96, 0.67, 0.91, 19),
        (sgsrf, "LGCE", sgsrf, "SGSRF"): (0.66, 0.97, 0.67, 0.95, 20),
        (sgsrf, "FIANet", csinet, "CSINet"): (0.69, 0.93, 0.76, 0.87, 19),
        (sgsrf, "FIANet", sgsrf, "SGSRF"): (0.64, 0.98, 0.62, 0.96, 20),
    }
    for alignment in audit.alignments:
        assert {c.best for c in alignment.correlations} == {alignment.shift}, "every comparison says the same"


def test_disagreements_between_papers_come_largest_first(audit):
    gaps = [round(entry.gap, 2) for entry in audit.disagreements]
    assert gaps == sorted(gaps, reverse=True)
    miou = [entry for entry in audit.disagreements if entry.metric == "miou"]
    assert (miou[0].data, miou[0].split, miou[0].method) == ("refsegrs", "val", "RMSIN")  # a test figure, see below
    assert (miou[1].data, miou[1].split, miou[1].method) == ("refsegrs", "test", "LAVT")
    assert miou[1].values == (("CSINet Table II", 47.40), ("FIANet Table I", 57.30))
    assert [round(entry.gap, 2) for entry in miou[:5]] == [14.22, 9.90, 4.80, 4.34, 4.16]
    assert (len(miou), len(audit.disagreements)) == (17, 117)
    (rrn,) = (entry for entry in miou if entry.method == "RRN")  # printed as RRN, ConvLSTM and RNN
    assert rrn.values == (("CSINet Table II", 41.88), ("SGSRF Table 2", 41.88), ("FIANet Table I", 43.34))


def test_aerial_d_prints_test_figures_of_two_systems_as_rmsin_on_val():
    printed = {(f.source, f.data, f.split, f.method, f.metric): f for f in published.load(ROOT, "overall")}
    for data, origin, method in (("refsegrs", "CSINet Table II", "LGCE"), ("rrsisd", "FIANet Table III", "RMSIN")):
        for metric in ("miou", "oiou"):
            here = printed["Aerial-D Table IV", data, "val", "RMSIN", metric]
            assert here.value == printed[origin, data, "test", method, metric].value
            assert "captioned as validation" in here.notes


def test_a_newer_source_says_what_is_unknown_about_it():
    for paper in ("aerial_d", "geopixel", "lrb_wrel", "saarn"):
        figures = [f for f in published.load(ROOT, "overall") if f.paper == paper]
        assert figures
        assert all(f.notes or f.copied_from for f in figures)
        assert any("not stated" in f.notes for f in figures)


def test_values_at_two_labels_are_listed(audit):
    found = {(entry.source, entry.method, entry.value): entry.categories for entry in audit.repeats}
    assert found["SGSRF Table 4", "RSRefSeg2", 72.95] == ("airport", "airplane")
    assert len(found) == 5


def plain_correlation(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return covariance / (sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)) ** 0.5


def plain_ranks(values):
    return [sum(other < v for other in values) + (1 + sum(other == v for other in values)) / 2 for v in values]


def column(method, values, paper="csinet"):
    return PublishedColumn("fake", paper, "Table 1", "test", method, values, {name: name for name in values}, None)


def test_correlations_agree_with_the_plain_form():
    rng = random.Random(0)
    names = [f"class {i}" for i in range(9)]
    first = column("A", {name: float(rng.randint(0, 5)) for name in names[:-1]})
    second = column("B", {name: float(rng.randint(0, 5)) for name in names[1:]}, "fianet")
    got = correlate(first, second, names)
    for shift in SHIFTS:
        pairs = []
        for place, name in enumerate(names):  # names is also the order in which `first` prints them
            to = names[(place - shift) % len(names)]
            if name in first.values and to in second.values:
                pairs.append((first.values[name], second.values[to]))
        a, b = (list(values) for values in zip(*pairs, strict=True))
        assert got.n[shift] == len(pairs)
        assert got.pearson[shift] == pytest.approx(plain_correlation(a, b))
        assert got.spearman[shift] == pytest.approx(plain_correlation(plain_ranks(a), plain_ranks(b)))


@pytest.mark.parametrize("planted", SHIFTS)
def test_a_planted_shift_is_found(planted):
    rng = random.Random(planted)
    names = [f"class {i}" for i in range(20)]
    truth = {name: rng.uniform(30, 90) for name in names}

    def measured():
        return {name: value + rng.gauss(0, 4) for name, value in truth.items()}

    mislabelled = shifted(measured(), names, -planted)
    columns = [
        column("B", {name: mislabelled[name] for name in names[:19]}, "fianet"),
        *(column(method, measured()) for method in ("A", "B", "CSINet")),
    ]
    found = published_audit.alignments(columns)
    assert [entry.shift for entry in found] == [planted, 0, 0, 0]
    assert found[0].unprinted == (names[(19 - planted) % 20],)


def test_a_copied_column_is_no_second_witness():
    rng = random.Random(1)
    names = [f"class {i}" for i in range(20)]
    truth = {name: rng.uniform(30, 90) for name in names}
    wrong = shifted({name: value + rng.gauss(0, 4) for name, value in truth.items()}, names, -1)
    right = [{name: value + rng.gauss(0, 4) for name, value in truth.items()} for _ in range(2)]
    columns = [column("A", wrong, paper) for paper in ("fianet", "sgsrf", "mrsnet")]
    columns += [column(method, values) for method, values in zip(("A", "CSINet"), right, strict=True)]
    assert [entry.shift for entry in published_audit.alignments(columns)] == [1, 1, 1, 0, 0]


# The verb


@pytest.mark.parametrize("width", [80, 120])
def test_the_audit_reads_well_at_any_width(width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert run("audit", "--leaderboards", str(ROOT)) == 0
    text = capsys.readouterr().out
    assert max(map(cell_len, text.splitlines())) <= width
    assert "…" not in text
    plain = " ".join(text.split())
    assert "RMSIN CSINet: RMSIN 0.21 0.49 0.62 0.93 0.70 +1 0.63→0.90" in plain
    assert (
        "FIANet Table IV, LAVT, RMSIN, LGCE, FIANet: shifted, each value belongs to the category one row above its "
        "label. The row of windmill is not printed." in plain
    )
    assert "SGSRF Table 4, RMSIN, LGCE, FIANet: shifted" in plain
    assert "refsegrs test LAVT 9.90 47.40 CSINet, 57.30 FIANet" in plain
    assert "corrected_category" not in text


def test_the_audit_as_json(capsys):
    assert run("audit", "--json", "--leaderboards", str(ROOT)) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"averages", "repeats", "alignments", "disagreements", "attainability"}
    assert sum(entry["shift"] == 1 for entry in found["alignments"]) == 7


def test_show_prints_a_dataset_s_tables_and_one_metric_side_by_side(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert run("show", "refsegrs", "--leaderboards", str(ROOT)) == 0
    text = capsys.readouterr().out
    assert max(map(cell_len, text.splitlines())) <= 80
    assert "FIANet Table I: refsegrs test" in text
    assert "fianet (FIANet)" in " ".join(text.split())
    assert "FIANet: the authors' code picks the checkpoint on the test split" in " ".join(text.split())
    assert run("show", "refsegrs", "--split", "test", "--metric", "miou", "--leaderboards", str(ROOT)) == 0
    text = capsys.readouterr().out
    cells = defaultdict(list, {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.split()})
    assert cells["LAVT"] == ["47.40", "57.30"]
    assert cells["CMSA"] == ["41.47*", "41.47*", "41.47*"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("refsegr",), "Did you mean refsegrs"),
        (("nwpu_refer", "--split", "train"), "No paper prints numbers of nwpu_refer train. Splits: test, val"),
        (("nwpu_refer", "--metric", "pr50"), "No paper prints pr50 of nwpu_refer"),
    ],
)
def test_show_says_what_is_not_there(arguments, message):
    with pytest.raises(UserError, match=message):
        run("show", *arguments, "--leaderboards", str(ROOT))


def test_an_unknown_metric_is_named_with_the_known_ones():
    for verb in (["audit", "--leaderboards", str(ROOT)], ["show", "refsegrs", "--leaderboards", str(ROOT)]):
        with pytest.raises(UserError, match="miuo.*\n.*miou"):
            run(*verb, "--metric", "miuo")


def test_every_name_on_a_card_is_a_row_of_the_tables():
    printed = {figure.method for figure in published.load(ROOT, "overall")}
    names = printed_names()
    assert names.keys() <= printed
    assert names["LSCF"] == "lscf"
