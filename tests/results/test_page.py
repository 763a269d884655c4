"""The report page, a run's gallery and the figures: what they say, that they say it twice alike, and harmlessly."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

from rrsis_bench import cli
from rrsis_bench.data.formats import open_split
from rrsis_bench.errors import UserError
from rrsis_bench.eval.counts import CountsTable, count_pixels
from rrsis_bench.eval.predictions import PredictionWriter
from rrsis_bench.eval.scores import Score
from rrsis_bench.registry import ROOT
from rrsis_bench.results import leaderboards
from rrsis_bench.results.board.rows import BoardRow, rank
from rrsis_bench.results.published.numbers import PublishedRow
from rrsis_bench.results.record import store
from rrsis_bench.results.render import charts, figures, gallery, page
from rrsis_bench.results.render.board_charts import label_of
from rrsis_bench.results.render.page import content
from tests.fakes.config import compose, tiny_overrides
from tests.fakes.records import LAVT, NATIVE, put, random_table, record_of, row, table_of

VOID = {"meta", "link", "br", "img", "input"}


class Strict(HTMLParser):
    """Fails on tags that do not nest; collects tags, ids and what the page would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.text = [], [], [], [], ""

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        self.links += [value for name, value in values.items() if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(page_bytes: bytes) -> Strict:
    parser = Strict()
    parser.feed(page_bytes.decode("utf-8"))
    parser.close()
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids)), "ids are unique"
    return parser


def build(root: Path) -> bytes:
    return page.build(root, rank(store.read_all(root), root))


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("page")
    put(root, quality=0.5)
    put(root, model="fianet", quality=0.9, train_hash="1" * 64, run_id="fianet-a")
    put(root, model="fianet", quality=0.9, train_hash="1" * 64, run_id="fianet-b", seed=1)
    put(root, model="csinet", train_hash="2" * 64, run_id="csinet-dirty", git_dirty=True)
    put(root, model="lavt", data="rrsisd", train_hash="3" * 64, run_id="lavt-r", protocol=LAVT)
    return root


def test_every_row_stands_in_its_table_with_interval_rank_and_reason(root):
    found = parsed(build(root))
    for record in store.read_all(root):
        assert (
            f"{record.overall.scores['miou'].lo:.1f}" in found.text or record.model == "fianet"
        )  # a mean over its seeds
    rows = [r for r in rank(store.read_all(root), root) if r.head.model == "fianet"]
    assert f"{rows[0].score('miou').value:.2f} ± {rows[0].deviation('miou'):.2f}" in found.text
    assert f"[{rows[0].score('pr50').lo:.1f}, {rows[0].score('pr50').hi:.1f}]" in found.text
    assert "dirty tree" in found.text
    boards = [(values["data-split"], values["data-protocol"]) for tag, values in found.tags if tag == "article"]
    assert sorted(boards) == [("test", "lavt"), ("test", "native")]


def test_links_are_relative_and_lead_to_files(root):
    leaderboards.regenerate(root)
    links = [link for link in parsed(build(root)).links if not link.startswith(("#", "data:"))]
    assert len(links) == 2 * 5 + 2 * 5, "two files per record, five tables per dataset"
    assert all((root / link).is_file() for link in links)


def test_the_same_records_give_the_same_bytes_and_another_record_other_ones(root, tmp_path):
    first = build(root)
    assert build(root) == first
    put(tmp_path)
    one = build(tmp_path)
    put(tmp_path, model="fianet", train_hash="9" * 64)
    assert build(tmp_path) != one


def test_names_from_records_are_text_never_markup():
    evil = '<script>alert("x")</script>'
    record = record_of(random_table(categories=("ship", evil)), model=evil, notes=[evil], device_name=evil)
    record = dataclasses.replace(record, variant=['"><img src=x onerror=alert(1)>'], git_dirty=True)
    printed = PublishedRow("fianet", evil, "synthetic", "test", evil, evil, evil, {"miou": 1.0}, evil, "")
    found = parsed(page.render([BoardRow((record,), evil, None)], {"synthetic": [printed], evil: [printed]}))
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    assert not any(tag == "img" or any(name.startswith("on") for name in values) for tag, values in found.tags)
    assert evil in found.text


def test_no_request_can_leave_the_page(root):
    text = build(root).decode()
    assert "default-src 'none'" in text
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//|@import|url\(", text)


def test_charts_say_their_figures_to_screen_readers(root):
    found = parsed(build(root))
    drawn = [values for tag, values in found.tags if tag == "svg" and values.get("role") == "img"]
    assert len(drawn) == 2 * 5, "controls, curves, sizes, costs and categories per board"
    words = [tag for tag, _ in found.tags].count("title")
    assert words > 60, "every mark has its words on hover"
    assert all(set(values["aria-labelledby"].split()) <= set(found.ids) for values in drawn)
    assert "tenniscourt" not in found.text
    assert "储罐" in found.text


def test_a_record_without_controls_costs_or_categories_is_shown():
    table = table_of(row(5, 10, category=None, image="a"), row(10, 10, category=None, image="b"))
    record = record_of(
        table, control={}, efficiency=dataclasses.replace(record_of(table).efficiency, params_total=None)
    )
    empty = dataclasses.replace(record.efficiency, **dict.fromkeys(("gflops", "fps", "device")))
    failed = record_of(None, status="nan", run_id="x", train_hash="4" * 64, control={}, efficiency=empty)
    rows = [BoardRow((record,), "", 1), BoardRow((failed,), "status nan", None)]
    found = parsed(page.render(rows, {}))
    assert "status nan" in found.text
    assert "75.00" in found.text
    assert "None" not in found.text


def test_the_time_of_a_run_stands_beside_its_costs():
    record = record_of(None, wall_s=459.0)
    table = content.boards([BoardRow((record,), "", 1)])[0].ranked
    assert table.columns[-1].label == "Run (min)"
    assert table.rows[0][-1].text == "7.7"
    without = content.boards([BoardRow((dataclasses.replace(record, wall_s=None),), "", 1)])[0].ranked
    assert without.rows[0][-1].text == ""


def test_published_numbers_stand_apart_from_measured_ones(root):
    printed = PublishedRow("fianet", "Table IV", "rrsisd", "val", "LAVT", "Swin-B", "BERT", {"miou": 57.16}, "x", "")
    rows = rank(store.read_all(root), root)
    text = page.render(rows, {"rrsisd": [printed], "risbench": [printed]}).decode()
    articles = re.findall(r'<article class="(\w+)".*?</article>', text, flags=re.S)
    assert articles.count("printed") == 2
    for block in re.findall(r'<article class="board".*?</article>', text, flags=re.S):
        assert "57.16" not in block
    assert "FIANet Table IV" in text
    assert "No measured row yet" in text


def test_rows_of_one_name_are_told_apart_in_charts():
    rows = [BoardRow((record_of(None, train_hash=digit * 64, size=size),), "", 1)
            for digit, size in (("a", "tiny"), ("b", "tiny"), ("c", "paper"))]  # fmt: skip
    assert [label_of(entry, rows) for entry in rows] == ["lavt tiny aaaa", "lavt tiny bbbb", "lavt paper"]


def text_of(page_bytes: bytes) -> bytes:
    """The page without the coordinates of its charts, in which versions of matplotlib differ."""
    return re.sub(rb"<path [^>]*>|<use [^>]*>|<text [^>]*>", b"", page_bytes)


def test_the_committed_page_follows_from_the_committed_records():
    committed = Path(__file__).parents[2] / "leaderboards"
    built, stored = build(committed), (committed / page.INDEX).read_bytes()
    assert text_of(stored) == text_of(built)
    assert len(stored) < 800_000


def test_figures_are_written_twice_alike_and_only_of_ranked_rows(root, tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "DPI", 40)
    rows = [entry for entry in rank(store.read_all(root), root) if entry.head.data == "synthetic"]
    one, two = (figures.write(rows, "test", "native", tmp_path / name) for name in "ab")
    assert [path.name for path in one] == [
        f"{name}.{kind}"
        for name in ("categories", "controls", "efficiency", "sizes", "thresholds")
        for kind in ("png", "svg")
    ]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    svg = (tmp_path / "a" / "thresholds.svg").read_text()
    assert ">fianet<" in svg
    assert "csinet" not in svg, "the row of a dirty tree is not drawn"
    with pytest.raises(UserError, match="split 'val' under protocol 'native'"):
        figures.write(rows, "val", "native", tmp_path)


# The gallery


def test_a_gallery_shows_the_worst_the_best_and_the_widest_pair():
    rows = [
        row(1, 10, image="a"), row(9, 10, image="a"), row(0, 10, image="b"), row(0, 90, image="c"),
        row(10, 10, image="d"), row(5, 10, image="d"),
    ]  # fmt: skip
    choice = gallery.choose(table_of(*rows), NATIVE, each=3, pairs=2)
    assert choice.worst == [3, 2, 0], "the larger missed target first, one sample per image"
    assert choice.best == [4, 1, 3]
    assert choice.pairs == [(1, 0), (4, 5)]
    assert choice.typical == [3, 0, 4]


def test_disagreement_of_two_runs_is_the_gap_of_their_iou():
    one = table_of(row(1, 10, image="a"), row(9, 10, image="b"), row(5, 10, image="c"))
    two = table_of(row(3, 10, image="a"), row(0, 10, image="b"), row(5, 10, image="c"))
    assert gallery.most_disagreed(one, two, NATIVE, NATIVE) == [1, 0]
    with pytest.raises(UserError, match="same samples"):
        gallery.most_disagreed(one, table_of(row(1, 2)), NATIVE, NATIVE)


def test_outline_lies_around_the_mask():
    mask_HW = np.zeros((5, 6), dtype=bool)
    mask_HW[2, 2:4] = True
    expected = ["......", "..##..", ".#..#.", "..##..", "......"]
    assert ["".join(".#"[int(value)] for value in line) for line in gallery.outline(mask_HW)] == expected


def stored_run(runs: Path, fake_root: Path, name: str, shift: int) -> None:
    """A run's folder as `bench` leaves it, its prediction being the target moved by some pixels."""
    dataset, table = open_split("rrsisd", fake_root, "test"), CountsTable()
    run_dir = runs / name
    with PredictionWriter(run_dir / "predictions" / "test.jsonl") as writer:
        for index in range(len(dataset)):
            sample, target_HW = dataset[index], dataset[index].read_mask()
            pred_HW = np.roll(target_HW, shift * (index + 1), axis=1)
            writer.add(sample, pred_HW)
            table.add(count_pixels(sample, pred_HW, target_HW))
    store.write(run_dir / "record", record_of(table, data="rrsisd", run_id=name), table)
    config = compose("model=fianet", *tiny_overrides(runs.parent, fake_root))
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))


def test_the_gallery_of_a_stored_run_against_another(fake_root, tmp_path, capsys):
    runs = tmp_path / "runs"
    for name, shift in (("run-a", 1), ("run-b", 9)):
        stored_run(runs, fake_root, name, shift)
    assert cli.main(["gallery", "run-a", "--against", "run-b", "--runs", str(runs)]) == 0
    found = parsed((runs / "run-a" / gallery.NAME).read_bytes())
    images = [values for tag, values in found.tags if tag == "img"]
    assert images
    assert all(values["src"].startswith("data:image/webp;base64,") and values["alt"] for values in images)
    assert "runb, IoU" in found.text
    assert open_split("rrsisd", fake_root, "test")[0].expression in found.text
    assert cli.main(["gallery", "run-a", "--runs", str(runs)]) == 0
    assert "runb" not in (runs / "run-a" / gallery.NAME).read_text()

    masks = runs / "run-b" / "predictions" / "test.jsonl"
    masks.write_text(json.dumps({"sample_id": "?"}) + "\n")
    assert cli.main(["gallery", "run-a", "--against", "run-b", "--runs", str(runs)]) == 2
    masks.unlink()
    assert cli.main(["gallery", "run-a", "--against", "run-b", "--runs", str(runs)]) == 2
    assert cli.main(["gallery", "run-c", "--runs", str(runs)]) == 2
    said = capsys.readouterr().err
    assert "lacks sample" in said
    assert "predictions=save" in said
    assert "Unknown run 'run-c'" in said


def test_points_without_a_colour_of_their_own_are_in_the_legend(tmp_path, monkeypatch):
    """Bug: the sixth model of a table was a grey point that nothing explained."""
    monkeypatch.setattr(charts, "DPI", 40)
    root = ROOT / "leaderboards"
    rows = [entry for entry in rank(store.read_all(root), root) if entry.head.data == "synthetic"]
    assert len(rows) > charts.SLOTS
    figures.write(rows, "test", "native", tmp_path)
    assert (tmp_path / "efficiency.svg").read_text().count(">other rows<") == 1


def test_a_wide_range_of_costs_has_plain_numbers_on_its_axis():
    """Bug: the ticks of a logarithmic axis were the source of formulas, such as $\\mathdefault{10^{0}}$."""
    points = tuple(charts.Point(f"m{cost}", place, cost, Score(50.0)) for place, cost in enumerate((0.5, 3.0, 40.0)))
    chart = charts.Chart("cost", "Cost", charts.Scatter("mIoU (%)", (("parameters (M)", points),)))
    drawn = str(charts.inline_svg(chart, "c"))
    assert "mathdefault" not in drawn
    assert ">10<" in drawn
