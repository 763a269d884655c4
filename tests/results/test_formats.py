"""Leaderboards as CSV, Markdown and LaTeX; two files compared; BibTeX."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
import yaml

from rrsis_bench import cli, registry
from rrsis_bench.describe.cite import cite
from rrsis_bench.errors import UserError
from rrsis_bench.results import leaderboards
from rrsis_bench.results.board.rows import rank
from rrsis_bench.results.compare.files import compare_files
from rrsis_bench.results.published.numbers import PublishedRow
from rrsis_bench.results.record import store
from rrsis_bench.results.render import text as formats
from tests.fakes.records import put, random_table, record_of

PRINTED = [
    PublishedRow(
        "fianet", "Table I", "synthetic", "test", "A_B & C", "Swin-B", "BERT", {"miou": 64.01, "oiou": 76.9}, "", ""
    ),
    PublishedRow("csinet", "Table II", "synthetic", "val", "D", "", "", {"miou": 99.0}, "pools val and test", ""),
]


@pytest.fixture
def rows(tmp_path):
    put(tmp_path, model="lavt", quality=0.4)
    for seed in (0, 1):
        put(tmp_path, model="fianet", quality=0.9, seed=seed)
    put(tmp_path, model="toy_net", quality=0.2, git_dirty=True)
    return rank(store.read_all(tmp_path), tmp_path)


def test_latex_is_escaped_and_bold_where_best(rows):
    text = formats.latex(rows, PRINTED)
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    for tabular in text.split(r"\begin{tabular}")[1:]:
        cells = [line for line in tabular.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in cells}) == 1
    first = next(line for line in body if " fianet " in line)
    assert rf"\textbf{{{rows[0].score('miou').value:.2f}}} $\pm$" in first
    assert r"\textbf" not in next(line for line in body if " lavt " in line)
    assert r"A\_B \& C (Swin-B + BERT)" in text
    assert r"toy\_net" in text
    assert r"\textbf{64.01}" not in text, "a printed number is never the best of a measured table"
    for command in (r"\toprule", r"\bottomrule"):
        assert text.count(command) == text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2


def test_latex_calls_models_and_rows_by_their_names(tmp_path, capsys):
    for quality, model, variant in ((0.8, "fianet", []), (0.6, "mrsnet", []), (0.3, "mrsnet", ["a=1"])):
        put(tmp_path, model=model, quality=quality, variant=variant, train_hash=str(len(variant)) * 64)
    out = tmp_path / "table.tex"
    command = ["leaderboard", "synthetic", "--format", "latex", "--leaderboards", str(tmp_path), "--out", str(out)]
    assert cli.main([*command, "--label", "mrsnet a=1", "one & only"]) == 0
    text = out.read_text()
    assert "table.tex" in capsys.readouterr().out
    for expected in ("& FIANet &", "& MRSNet &", r"& one \& only &", r"\label{tab:synthetic-test}"):
        assert expected in text
    assert r"\caption{synthetic test, protocol native, n = " in text
    assert cli.main([*command, "--label", "mrnet", "x"]) == 2
    assert "mrsnet" in capsys.readouterr().err
    for wrong in (["--label", "mrsnet", "x"], ["--out", "x"]):
        assert cli.main(["leaderboard", "synthetic", "--leaderboards", str(tmp_path), *wrong]) == 2


def test_the_best_miou_is_bold_only_if_it_is_significantly_better(rows):
    value = f"{rows[0].score('miou').value:.2f}"
    assert rf"\textbf{{{value}}} $\pm$" in formats.latex(rows)
    tied = [replace(row, rank=1) if row.rank else row for row in rows]
    assert rf"\textbf{{{value}}} $\pm$" not in formats.latex(tied)


@pytest.mark.slow
def test_latex_compiles(rows, tmp_path):
    compiler = shutil.which("pdflatex") or pytest.skip("no LaTeX: Debian's texlive-latex-recommended")
    table = formats.latex(rows, PRINTED, {"toy_net": "Toy & net"})
    page = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{table}\end{{document}}"
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    command = [compiler, "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "page.pdf").stat().st_size > 10_000


def test_csv_and_markdown_keep_printed_numbers_apart(rows):
    lines = list(csv.DictReader(io.StringIO(formats.table_csv(rows, PRINTED))))
    assert [line["source"] for line in lines] == ["measured"] * 3 + ["FIANet Table I", "CSINet Table II"]
    assert [line["rank"] for line in lines] == ["1", "2", "", "", ""]
    assert (lines[3]["miou"], lines[3]["reason"], lines[4]["notes"]) == ("64.01", "as printed", "pools val and test")
    text = formats.markdown(rows, PRINTED, unranked=True)
    assert text.index("| toy_net |") > text.index("**Not ranked**")
    assert text.index("| A_B & C |") > text.index("**As printed")
    for part in text.split("\n\n**"):
        assert len({line.count("|") for line in part.splitlines() if line.startswith("|")}) == 1


def test_a_record_writes_no_html_no_link_and_no_formula(tmp_path, capsys):
    """Records come from other people: variants and categories are text in every file and on the terminal."""
    hostile = ["<img src=x onerror=alert(1)>", "![x](http://a.b/c.png)", "a|b", "&lt;i&gt;", "=1+1", "x\x1b[2Jy"]
    put(tmp_path, model="lavt", variant=hostile, train_hash="1" * 64)
    put(tmp_path, model="lavt", variant=["=HYPERLINK(0)"], train_hash="2" * 64, quality=0.3)
    table = random_table(40, categories=("=1+1", "<b>ship</b>", "@SUM(A1)", "-x", "pier\x1b[31m"))
    store.write(tmp_path, record_of(table, model="fianet"), table)
    assert cli.main(["leaderboard", "synthetic", "--format", "md", "--leaderboards", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "<" not in text
    assert "](" not in text
    assert "\x1b" not in text
    assert "&amp;lt;i&amp;gt;" in text
    (line,) = [line for line in text.splitlines() if "onerror" in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", text.splitlines()[2]))
    for name in ("synthetic.csv", "synthetic_per_category.csv", "efficiency.csv"):
        leaderboards.regenerate(tmp_path)
        cells = [cell for row in csv.reader((tmp_path / name).open(encoding="utf-8")) for cell in row]
        started = [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]
        assert not started, "numbers of these tables have no sign"
    drawn = re.findall(r"<svg.*?</svg>", (tmp_path / "index.html").read_text(encoding="utf-8"), re.DOTALL)
    assert any("pier␛[31m" in figure for figure in drawn)
    assert not any("\x1b" in figure for figure in drawn)
    assert "'=HYPERLINK(0)" in (tmp_path / "synthetic.csv").read_text(encoding="utf-8")
    assert "'@SUM(A1)" in (tmp_path / "synthetic_per_category.csv").read_text(encoding="utf-8")
    assert [row.category for row in store.read_counts(next(tmp_path.rglob("fianet*.json")))][0] == "=1+1"
    for command in (["leaderboard", "synthetic", "--by", "category"], ["report", "synthetic"]):
        assert cli.main([*command, "--leaderboards", str(tmp_path)]) == 0
        shown = capsys.readouterr().out
        assert "\x1b[31m" not in shown.replace("\x1b[0m", "")
        assert "pier␛[31m" in shown


def test_the_leaderboard_verb_filters_and_names_what_there_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    put(tmp_path, model="lavt", quality=0.4)
    put(tmp_path, model="lavt", split="val", run_id="on-val")
    root = ["--leaderboards", str(tmp_path)]
    assert cli.main(["leaderboard", "synthetic", "--split", "val", "--format", "csv", *root]) == 0
    assert [line["split"] for line in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["val"]
    assert cli.main(["leaderboard", "synthetic", *root]) == 0
    assert "synthetic val, protocol native" in capsys.readouterr().out
    assert cli.main(["leaderboard", "synthetic", "--by", "threshold", *root]) == 0
    assert "Pr@0.7" in capsys.readouterr().out
    assert cli.main(["leaderboard", "synthetic", "--protocol", "lavt", *root]) == 2
    assert "rows on: test under native, val under native" in capsys.readouterr().err
    assert cli.main(["leaderboard", "synthetic", "--by", "size", "--format", "md", *root]) == 2
    assert "--by size is for the terminal" in capsys.readouterr().err


def test_printed_numbers_stand_beside_measured_ones_without_a_rank(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    shutil.copytree(registry.ROOT / "leaderboards" / "published", tmp_path / "published")
    put(tmp_path, model="lavt", data="rrsisd")
    assert (
        cli.main(["leaderboard", "rrsisd", "--split", "test", "--with-published", "--leaderboards", str(tmp_path)]) == 0
    )
    shown = capsys.readouterr().out
    measured, printed = shown.split(formats.AS_PRINTED.split(":")[0])
    assert "lavt" in measured
    assert "FIANet Table III" in printed
    assert "FIANet" not in measured
    assert max(map(len, shown.splitlines())) <= 120


def changed(root):
    """Two states of a leaderboard: lavt better, toy gone, rmsin new, fianet as before."""
    for model, quality in (("lavt", 0.4), ("fianet", 0.9), ("toy", 0.2)):
        put(root, model=model, quality=quality)
    leaderboards.regenerate(root)
    shutil.copytree(root, root.parent / "old")
    shutil.rmtree(root / "records" / "synthetic" / "toy")
    shutil.rmtree(root / "records" / "synthetic" / "lavt")
    put(root, model="lavt", quality=0.6, train_hash="9" * 64)
    put(root, model="rmsin", quality=0.5)
    leaderboards.regenerate(root)
    return root.parent / "old", root


@pytest.mark.parametrize("name", ["synthetic.csv", "synthetic_per_category.csv", "synthetic_per_threshold.csv"])
def test_two_files_show_what_changed_came_and_went(tmp_path, name):
    old, new = changed(tmp_path / "new")
    found = compare_files(old / name, new / name)
    changes = {line.name.split()[0]: line.change for line in found.lines}
    assert changes == {"lavt": "changed", "fianet": "same", "toy": "removed", "rmsin": "added"}
    before, after = (list(csv.DictReader((folder / name).open(encoding="utf-8"))) for folder in (old, new))
    line = next(line for line in found.lines if line.name.startswith("lavt"))
    metric = found.metrics[0]
    pick = [next(float(row[metric]) for row in rows if row["model"] == "lavt") for rows in (before, after)]
    assert line.gaps[0] == pytest.approx(pick[1] - pick[0])
    assert {line.change for line in compare_files(new / name, new / name).lines} == {"same"}


def test_two_files_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    old, new = changed(tmp_path / "new")
    names = [str(folder / "synthetic.csv") for folder in (old, new)]
    assert cli.main(["compare", *names]) == 0
    assert "1 same, 1 changed, 1 added, 1 removed" in capsys.readouterr().out
    assert cli.main(["compare", *names, "--format", "csv"]) == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == 4
    assert cli.main(["compare", *names, "--format", "md"]) == 0
    assert "| Row | Change |" in capsys.readouterr().out
    assert cli.main(["compare", names[0], "lavt"]) == 2
    assert "two .csv files" in capsys.readouterr().err
    assert cli.main(["compare", "lavt", "fianet"]) == 2
    assert "--data" in capsys.readouterr().err
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="has no column model, train_hash"):
        compare_files(tmp_path / "other.csv", old / "synthetic.csv")


def test_expressions_come_from_data_with_the_records_fingerprint_only(tmp_path, monkeypatch):
    from rrsis_bench.results.render.expressions import expressions
    from tests.fakes.checks import fingerprint
    from tests.fakes.rrsisd import write_fake_rrsisd

    folder = write_fake_rrsisd(tmp_path / "data").root
    monkeypatch.chdir(tmp_path)
    record = dataclasses.replace(
        put(tmp_path / "boards", model="lavt"), data="rrsisd", dataset_fingerprint=fingerprint("rrsisd", folder)
    )
    found, why = expressions(record, folder)
    assert why == ""
    assert found
    assert all(found.values())
    found, why = expressions(dataclasses.replace(record, dataset_fingerprint="0" * 64), folder)
    assert found == {}
    assert "another version of it was found" in why
    assert "none was found" in expressions(record, tmp_path / "nowhere")[1]


def test_bibtex_is_what_the_cards_give():
    text = cite("lavt", "rrsisd")
    entries = re.findall(r"^@(\w+)\{([^,]+),$", text, re.MULTILINE)
    assert [kind for kind, _ in entries] == ["inproceedings", "inproceedings", "software"]
    assert text.count("{") == text.count("}")
    assert "Yang, Zhao and Wang, Jiaqi" in text
    assert text.endswith("}\n")
    assert len(re.findall("^@", cite("fianet", "synthetic"), re.MULTILINE)) == 2, "scenes are part of the suite"
    with pytest.raises(UserError, match="Did you mean fianet"):
        cite("fianett", "rrsisd")


def test_a_card_without_bibtex_gives_its_title_and_address(tmp_path):
    for folder in ("conf/model", "conf/data", "models"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(registry.ROOT / "CITATION.cff", tmp_path)
    (tmp_path / "models" / "toy.py").write_text("")
    card = {"title": "Toys & 100% more", "venue": "CVPR 2031", "url": "https://arxiv.org/abs/3101.00001", "params_m": 1}
    (tmp_path / "conf/model/toy.yaml").write_text(yaml.safe_dump({"name": "toy", "card": card, "args": {}}))
    (tmp_path / "conf/data/d.yaml").write_text(
        "name: d\nformat: custom\nroot: d\ncounts: null\nsynthetic: null\n"
        "card: {title: Data, source: here, licence: free}\n"
    )
    text = cite("toy", "d", tmp_path)
    assert r"title = {{Toys \& 100\% more}}," in text
    assert "year = {2031}," in text
    assert "eprint = {3101.00001}," in text
    assert "author" not in text.split("@software")[0], "nothing is invented"
