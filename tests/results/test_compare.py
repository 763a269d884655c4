from __future__ import annotations

import csv
import io
import subprocess
import sys

import pytest
from rich.cells import cell_len

from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.results.board.rows import rank
from rrsis_bench.results.compare.rows import compare
from rrsis_bench.results.record import store
from rrsis_bench.results.render import text as formats
from rrsis_bench.results.render.terminal import board as show
from rrsis_bench.results.render.terminal import compare as show_compare
from tests.fakes.records import LAVT, put, random_table, record_of


@pytest.fixture
def root(tmp_path):
    """Two models, one of them with two trainings and two seeds of the better one, and an unranked third."""
    put(tmp_path, model="lavt", quality=0.4)
    put(tmp_path, model="fianet", quality=0.6, run_id="weak", train_hash="b" * 64)
    for seed in (0, 1):
        put(tmp_path, model="fianet", quality=0.9, seed=seed)
    put(tmp_path, model="toy", quality=0.2, git_dirty=True)
    return tmp_path


def run_ids(row):
    return [record.run_id for record in row.records]


def test_a_model_stands_for_its_best_ranked_row(root):
    result = compare(root, "lavt", "fianet", "synthetic")
    assert run_ids(result.b) == ["fianet-synthetic-tiny-s0-0123abcd", "fianet-synthetic-tiny-s1-0123abcd"]
    overall = {difference.name: difference for difference in result.overall}
    assert overall["miou"].gap == result.b.score("miou").value - result.a.score("miou").value > 0
    assert overall["shuffled_text"].gap == 0
    assert overall["same_image_other_expression"].gap is None
    categories = {group.name: group.miou for group in result.families["category"]}
    assert set(categories) == {"airplane", "ship", "储罐"}
    assert categories["ship"].a == result.a.head.per_category["ship"].value("miou")


def test_a_run_id_stands_for_itself(root):
    result = compare(root, "fianet-synthetic-tiny-s0-bbbbbbbb-weak", "fianet-synthetic-tiny-s1-0123abcd", "synthetic")
    assert (run_ids(result.a), run_ids(result.b)) == (
        ["fianet-synthetic-tiny-s0-bbbbbbbb-weak"],
        ["fianet-synthetic-tiny-s1-0123abcd"],
    )
    assert result.b.rank == 1, "the rank is that of the run's row"


def test_the_comparison_is_antisymmetric_and_zero_with_itself(root):
    forth, back = compare(root, "lavt", "fianet", "synthetic"), compare(root, "fianet", "lavt", "synthetic")
    for there, here in zip(scores_of(forth), scores_of(back), strict=True):
        assert there.gap is None or there.gap == -here.gap
        assert there.p_holm == here.p_holm
        if there.test is not None:
            assert -there.test == here.test, "gap, interval and p to the last bit"
    same = compare(root, "lavt", "lavt", "synthetic")
    assert {score.gap for score in scores_of(same)} == {0, None}
    assert {score.test.p for score in scores_of(same) if score.test} == {1.0}
    assert (same.wins.a, same.wins.b, same.wins.ties, same.most) == (0, 0, 40, ())


def scores_of(result):
    groups = [group for groups in result.families.values() for group in groups]
    return [*result.overall, *(score for group in groups for score in group.scores)]


def test_an_unranked_row_is_compared_with_its_reason(root):
    result = compare(root, "toy", "lavt", "synthetic")
    assert (result.a.rank, result.a.reason) == (None, "dirty tree")
    assert "toy-synthetic-tiny-s0-0123abcd is not ranked: dirty tree" in printed(show_compare.comparison, result)


def test_a_name_with_several_unranked_rows_is_ambiguous(root):
    put(root, model="toy", run_id="toy-b", train_hash="c" * 64, git_dirty=True)
    with pytest.raises(UserError, match=r"'toy' has several rows and none of them is ranked") as caught:
        compare(root, "toy", "lavt", "synthetic")
    assert "toy-synthetic-tiny-s0-cccccccc-toyb" in str(caught.value)
    assert "toy-synthetic-tiny-s0-0123abcd" in str(caught.value)


def test_the_native_protocol_on_test_is_preferred_and_another_can_be_asked_for(root):
    for model in ("lavt", "fianet"):
        put(root, model=model, protocol=LAVT, run_id=f"{model}-legacy")
        put(root, model=model, split="val", run_id=f"{model}-val")
    assert compare(root, "lavt", "fianet", "synthetic").a.head.protocol.name == "native"
    assert compare(root, "lavt", "fianet", "synthetic").a.head.split == "test"
    assert run_ids(compare(root, "lavt", "fianet", "synthetic", protocol="lavt").b) == [
        "fianet-synthetic-tiny-s0-0123abcd-fianetlegacy"
    ]
    assert run_ids(compare(root, "lavt", "fianet", "synthetic", split="val").b) == [
        "fianet-synthetic-tiny-s0-0123abcd-fianetval"
    ]
    with pytest.raises(UserError, match=r"(?s)cannot be compared|no rows that can be compared.*-lavtlegacy"):
        compare(
            root, "lavt-synthetic-tiny-s0-0123abcd-lavtlegacy", "fianet-synthetic-tiny-s0-bbbbbbbb-weak", "synthetic"
        )


def test_several_versions_of_the_data_are_ambiguous(root):
    for model in ("lavt", "fianet"):
        put(root, model=model, run_id=f"{model}-other", dataset_fingerprint="9" * 64)
    with pytest.raises(UserError, match=r"(?s)several versions of synthetic.*-lavtother"):
        compare(root, "lavt", "fianet", "synthetic")
    others = [f"{model}-synthetic-tiny-s0-0123abcd-{model}other" for model in ("lavt", "fianet")]
    assert run_ids(compare(root, *others, "synthetic").a) == others[:1]


def test_misspelt_names_get_suggestions(root, tmp_path_factory):
    with pytest.raises(UserError, match="Unknown model or run id 'fianett'. Did you mean fianet"):
        compare(root, "fianett", "lavt", "synthetic")
    with pytest.raises(UserError, match="'synthetc'. Did you mean synthetic"):
        compare(root, "fianet", "lavt", "synthetc")
    with pytest.raises(UserError, match="run `make bench` first"):
        compare(tmp_path_factory.mktemp("empty"), "a", "b", "synthetic")


def printed(function, *args, width=120) -> str:
    console = Terminal(width=width, file=io.StringIO(), color_system=None)
    function(console, *args)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_the_leaderboard_fits_the_terminal(root, width):
    text = printed(show.leaderboard, rank(store.read_all(root), root), width=width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    ranked = [line.split() for line in lines if line.strip().startswith(("1 ", "2 ", "3 "))]
    assert [cells[1] for cells in ranked] == ["fianet", "fianet", "lavt"], "names stay whole"
    assert "dirty tree" in text


def test_the_leaderboard_shows_the_records_figures(root):
    rows = rank(store.read_all(root), root)
    first = next(line for line in printed(show.leaderboard, rows).splitlines() if line.strip().startswith("1 "))
    for name in ("miou", "oiou"):
        assert f"{rows[0].score(name).value:.2f}" in first
    assert "12.5" in first
    assert "1.23 M" in first


def test_rankings_of_equal_title_are_told_apart(root):
    put(root, model="lavt", run_id="lavt-other", dataset_fingerprint="9" * 64)
    text = printed(show.leaderboard, rank(store.read_all(root), root))
    assert "data ffffffff" in text
    assert "data 99999999" in text


def test_chinese_names_align(root):
    text = printed(show.categories, rank(store.read_all(root), root))
    widths = {cell_len(line) for line in text.splitlines()[1:] if line.strip()}
    assert len(widths) == 1, "every line has the same width in terminal cells"
    assert "储罐" in text


def test_names_from_outside_are_no_markup(tmp_path):
    """A category in brackets is text, not a style."""
    table = random_table(40, categories=("[red]x[/red]",))
    store.write(tmp_path, record_of(table), table)
    assert "[red]x[/red]" in printed(show.categories, rank(store.read_all(tmp_path), tmp_path))


def test_markdown_holds_the_ranked_rows(root):
    rows = rank(store.read_all(root), root)
    text = formats.markdown(rows)
    body = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    assert len({len(cells) for cells in body}) == 1
    assert [cells[1].strip() for cells in body] == ["Model", "fianet", "fianet", "lavt"]
    assert f"{rows[0].score('oiou').value:.2f}" in body[1][6]
    assert formats.markdown([]) == ""


def test_comparing_imports_no_torch():
    code = (
        "import sys, rrsis_bench.results.compare.rows, rrsis_bench.results.render.terminal.compare; "
        "print([name for name in ('torch', 'pandas', 'matplotlib', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("width", [80, 120])
def test_a_comparison_fits_the_terminal_and_says_who_wins(root, width):
    result = compare(root, "lavt", "fianet", "synthetic", resamples=500)
    text = printed(show_compare.comparison, result, width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert f"{result.wins.ties} ties" in text
    assert "paired test on 500 resamples" in text
    assert result.wins.a + result.wins.b + result.wins.ties == 40
    assert sum(group.n for group in result.families["category"]) == 40


def test_the_ten_samples_of_the_largest_difference_are_listed_with_their_expressions(root):
    found = compare(root, "lavt", "fianet", "synthetic", resamples=50,
                    expressions=lambda record: ({"s3": f"the ship of {record.split}"}, ""))  # fmt: skip
    gaps = [abs(sample.a - sample.b) for sample in found.most]
    assert len(gaps) == 10
    assert gaps == sorted(gaps, reverse=True)
    assert {sample.sample_id: sample.expression for sample in found.most}.get("s3") in (None, "the ship of test")
    without = compare(root, "lavt", "fianet", "synthetic", resamples=50, expressions=lambda _: ({}, "not at hand"))
    assert "not at hand" in printed(show_compare.comparison, without)
    assert without.most[0].sample_id in printed(show_compare.comparison, without)


def test_the_comparison_as_csv_and_markdown(root):
    result = compare(root, "lavt", "fianet", "synthetic", resamples=500)
    lines = list(csv.DictReader(io.StringIO(show_compare.comparison_csv(result))))
    assert tuple(lines[0]) == show_compare.COLUMNS
    by_name = {(line["family"], line["group"], line["metric"]): line for line in lines}
    overall = by_name["overall", "", "miou"]
    assert float(overall["gap"]) == round(result.overall[0].gap, 2)
    assert (overall["p_holm"], by_name["overall", "", "shuffled_text"]["p"]) == ("", "")
    assert by_name["category", "ship", "oiou"]["p_holm"] != ""
    text = show_compare.comparison_markdown(result)
    tables_ = [[line.count("|") for line in part.splitlines()[2:]] for part in text.split("\n\n**")[1:]]
    assert all(len(set(counts) - {0}) <= 1 for counts in tables_)
    assert "| mIoU | " in text


def test_a_variant_is_named_by_its_label_and_the_models_name_means_its_default(tmp_path):
    put(tmp_path, model="lavt", quality=0.5)
    put(tmp_path, model="csinet", quality=0.6, run_id="default", train_hash="b" * 64)
    put(tmp_path, model="csinet", quality=0.9, run_id="one", train_hash="c" * 64, variant=["interaction=only_remote"])
    assert run_ids(compare(tmp_path, "lavt", "csinet", "synthetic", resamples=50).b) == [
        "csinet-synthetic-tiny-s0-bbbbbbbb-default"
    ]
    label = "csinet interaction=only_remote"
    assert run_ids(compare(tmp_path, "lavt", label, "synthetic", resamples=50).b) == [
        "csinet-synthetic-tiny-s0-cccccccc-one"
    ]
    rows = rank(store.read_all(tmp_path), tmp_path)
    for width in (80, 120):
        text = printed(show.leaderboard, rows, width=width)
        assert max(map(len, text.splitlines())) <= width
        assert "interaction=only_remote" in text.replace("\n", "") or "only_remote" in text
    assert f"| {label} |" in formats.markdown(rows)


def test_rows_on_other_samples_are_refused(tmp_path):
    put(tmp_path, model="lavt")
    table = random_table(30)
    store.write(tmp_path, record_of(table, model="fianet", n_expected=40), table)
    with pytest.raises(UserError, match="10 only in the first, 0 only in the second"):
        compare(tmp_path, "lavt", "fianet", "synthetic")


@pytest.mark.parametrize("by", [by for by in show.BREAKDOWNS if by != "probe"])  # see test_probe_tables.py
@pytest.mark.parametrize("width", [80, 120])
def test_breakdowns_show_every_row(root, by, width):
    rows = rank(store.read_all(root), root)
    text = printed(lambda console: show.breakdown(console, rows, by), width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    assert all(row.head.model in text for row in rows)
    value = {"size": ("miou", "per_size", "share", "1-10%"), "category": ("miou", "per_category", "ship"),
             "threshold": ("pr70",), "control": ("miou", "control", "category_only"),
             "targets": ("pr90",), "language": ("oiou",), "strata": ("macro_miou",)}[by]  # fmt: skip
    assert all(f"{row.score(*value).value:.1f}" in text for row in rows)
