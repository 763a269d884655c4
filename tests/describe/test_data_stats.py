"""`data stats`, `data info`: counts held to plain loops over what the fakes wrote; the figure is drawn."""

import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from rrsis_bench import cli
from rrsis_bench.data.formats import SPLITS, format_module, known_formats, open_split
from rrsis_bench.data.text.language import words_of
from rrsis_bench.data.text.pipeline import lost_text
from rrsis_bench.data.text.tokenizers import build_wordpiece
from rrsis_bench.describe import stats, stats_setup
from rrsis_bench.errors import UserError
from tests.fakes.custom import write_fake_custom
from tests.fakes.rrsisd import write_fake_rrsisd


def collected(fmt, root, limit=None):
    return stats.collect(fmt, root, {split: open_split(fmt, root, split) for split in SPLITS}, limit)


def test_counts_are_those_of_a_plain_loop(tmp_path):
    tree = write_fake_rrsisd(tmp_path, defects=["empty_mask", "non_ascii_expression", "shared_image"])
    found = collected("rrsisd", tmp_path)
    for split in SPLITS:
        refs = [ref for ref in tree.refs if ref["split"] == split]
        samples = list(open_split("rrsisd", tmp_path, split))
        one = found.splits[split]
        assert one.n == len(refs)
        assert one.images == len({sample.image_id for sample in samples})
        assert one.distinct == len({sample.expression for sample in samples})
        assert one.category == Counter(sample.category for sample in samples)
        assert one.language == Counter(sample.language for sample in samples)
        areas = [int(sample.read_mask().sum()) for sample in samples]
        pixels = Counter(
            "no_target" if area == 0 else "small" if area < 1024 else "medium" if area < 96 * 96 else "large"
            for area in areas
        )
        assert one.size["pixels"] == pixels
        assert one.targets == Counter("one" if area else "none" for area in areas)
        bins = Counter(math.floor(5 * (math.log10(area / 64**2) + 5) + 1e-9) for area in areas if area)
        assert {place: n for place, n in enumerate(one.share.tolist()) if n} == bins
    assert found.splits["train"].targets["none"] == 1
    assert found.splits["train"].language["zh"] == 1
    assert [found.splits[split].shared for split in SPLITS] == [None, (0, 0), (1, 1)]


def test_overlap_and_strata_are_those_of_a_plain_loop(tmp_path):
    tree = write_fake_custom(tmp_path)
    texts = ["The ship on the left", "a ship near the dock", "the ship"]
    for split, rows in tree.rows.items():
        for index, row in enumerate(rows):
            row["expression"] = texts[index % 2] if split == "train" else [*texts, "ship on left."][index % 4]
    tree.write()
    found = collected("custom", tmp_path)
    train = {row["expression"] for row in tree.rows["train"]}
    for split in ("val", "test"):
        one, expressions = found.splits[split], [row["expression"] for row in tree.rows[split]]
        seen = sum(any(text == known for known in train) for text in expressions)
        loose = sum(text in (*train, "ship on left.") for text in expressions)
        assert one.strata["seen"] == Counter(seen=seen, unseen=len(expressions) - seen)
        assert one.strata["seen_normalised"]["seen"] == loose
        left = sum("left" in text for text in expressions)
        assert one.strata["position"] == Counter({"position word": left, "no position word": len(expressions) - left})
        assert one.strata["relation"]["another object"] == sum("dock" in text for text in expressions)
    assert "seen" not in found.splits["train"].strata, "train is not held out"
    assert found.splits["train"].strata["position"].total() == len(tree.rows["train"])


def test_words_count_chinese_characters_one_by_one():
    assert len(words_of("the red ship")) == 3
    assert len(words_of("左边的船")) == 4
    assert len(words_of("左边的 2 ships")) == 5


def test_word_pieces_and_the_share_that_is_cut(tmp_path):
    tree = write_fake_custom(tmp_path)
    tree.rows["val"][0]["expression"] = "the ship " * 10
    tree.write()
    expressions = [sample.expression for sample in open_split("custom", tmp_path, "train")]
    tokenizer = build_wordpiece(expressions, 200)
    limit = stats.TextLimit(tokenizer, 20, "test")
    found = collected("custom", tmp_path, limit).splits
    assert found["val"].pieces == Counter({22: 1, 5: 3})
    assert (found["val"].truncated(20), found["val"].truncated(22), found["train"].truncated(20)) == (1, 0, 0)
    assert found["val"].lost_places == 0


def test_place_words_that_are_cut_are_counted(tmp_path):
    """Bug: a limit of 20 tokens cuts a quarter of RISBench's sentences, and nothing said what that costs."""
    tree = write_fake_custom(tmp_path)
    texts = ["the small white ship that is at the bottom-right", "the ship on the left of a big ship with a big roof"]
    for row, text in zip(tree.rows["val"], texts, strict=False):
        row["expression"] = text
    tree.write()
    tokenizer = build_wordpiece([*texts, "unrelated"], 300)
    limit = stats.TextLimit(tokenizer, 10, "test")
    found = collected("custom", tmp_path, limit).splits["val"]
    assert (found.truncated(10), found.lost_places) == (2, 1)


def test_words_that_do_not_fit_as_a_whole():
    """A vocabulary of characters would cut inside of words: such a word counts as lost."""
    text = "ship at the right"
    tokenizer = build_wordpiece(["a"], 5 + 2 * 36)
    encoding = tokenizer.encode(text)
    whole = len(encoding.ids)
    assert lost_text(text, encoding, whole) == ""
    for cut in range(1, whole - 2):
        first = encoding.offsets[1 + whole - 2 - cut][0]
        word = text.rfind(" ", 0, first + 1) + 1
        assert lost_text(text, encoding, whole - cut) == text[word:]


def test_uncounted_targets_are_unknown(tmp_path):
    tree = write_fake_custom(tmp_path)
    tree.rows["val"][0]["n_targets"] = 3
    tree.rows["val"][1]["mask"] = {"size": [4, 4], "counts": [16]}
    tree.write()
    assert collected("custom", tmp_path).splits["val"].targets == Counter(several=1, none=1, unknown=2)


def test_quantiles():
    counter = Counter({2: 5, 3: 4, 9: 1})
    assert [stats.quantile(counter, share) for share in (0.5, 0.51, 0.9, 0.95, 1.0)] == [2, 3, 3, 9, 9]
    assert stats.quantile(Counter(), 0.5) == 0


@pytest.mark.parametrize("width", [80, 120])
def test_the_verb_prints_tables_and_draws_a_figure(tmp_path, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    root = write_fake_rrsisd(tmp_path / "data").root
    out = tmp_path / "figure.png"
    arguments = ["data", "stats", "rrsisd", "--data-root", str(root), "--size", "tiny", "--max-tokens", "6"]
    assert cli.main([*arguments, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.replace(str(tmp_path), "").splitlines())) <= width
    for part in ("cut at 6 word-pieces", "tenniscourt", "samples on images of train", "share of the image",
                 "sentence in train, normalised: unseen", "relation: no other object"):  # fmt: skip
        assert part in shown
    with Image.open(out) as figure:
        assert figure.width > 1000
        assert len(np.unique(np.asarray(figure.convert("L")))) > 20, "something is drawn"


def test_names_that_do_not_fit_are_refused(tmp_path, capsys):
    root = write_fake_rrsisd(tmp_path / "data").root
    for extra, message in (
        (["--model", "fianett"], "Did you mean fianet"),
        (["--size", "tinny"], "Did you mean tiny"),
        (["--size", "tiny", "--max-tokens", "2"], "--max-tokens 2"),
        (["--out", "figure.svg"], ".png"),
    ):
        assert cli.main(["data", "stats", "rrsisd", "--data-root", str(root), *extra]) == 2
        assert message in capsys.readouterr().err


def test_the_limit_is_the_models_and_a_missing_tokenizer_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    config = stats_setup.configure("rrsisd", "fianet", None)
    assert config.model.args["max_tokens"] == 22
    root = write_fake_rrsisd(tmp_path / "data").root
    assert cli.main(["data", "stats", "rrsisd", "--data-root", str(root)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Word-pieces are not counted" in shown
    assert "--size tiny" in shown
    assert cli.main(["data", "stats", "rrsisd", "--data-root", str(root), "--size", "paper"]) == 2


def test_info_shows_card_layout_and_what_is_there(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    root = write_fake_rrsisd(tmp_path / "data").root
    assert cli.main(["data", "info", "rrsisd", "--data-root", str(root)]) == 0
    shown = capsys.readouterr().out
    for part in ("VoyageWang/rrsis-d", "licence", "17,412", "800 x 801", "JPEGImages/", "@inproceedings", "12,181"):
        assert part in shown
    assert "fingerprint " in shown
    assert "unranked" in shown
    assert cli.main(["data", "info", "rrsisd", "--data-root", str(tmp_path / "nowhere")]) == 1
    shown = capsys.readouterr().out
    assert "not usable" in shown
    assert "Traceback" not in shown


def test_info_leaves_an_expensive_fingerprint_out(tmp_path, capsys, monkeypatch):
    root = write_fake_rrsisd(tmp_path / "data").root
    monkeypatch.setattr("rrsis_bench.describe.info.CHEAP_BYTES", 10)
    assert cli.main(["data", "info", "rrsisd", "--data-root", str(root)]) == 0
    assert "fingerprint: not computed" in capsys.readouterr().out
    assert cli.main(["data", "info", "rrsisd", "--data-root", str(root), "--fingerprint"]) == 0
    assert "not computed" not in capsys.readouterr().out


@pytest.mark.parametrize("fmt", known_formats())
def test_every_format_shows_its_layout(fmt):
    assert "<root>/" in format_module(fmt).DIRECTORY_TREE


def test_a_format_without_a_writer_is_refused(tmp_path, capsys):
    assert cli.main(["data", "synthesize", "--format", "coco", "--out", str(tmp_path / "out")]) == 2
    assert "rrsisd" in capsys.readouterr().err


def test_figure_without_categories_or_tokenizer(tmp_path):
    from rrsis_bench.describe.stats_figure import write

    tree = write_fake_custom(tmp_path / "data")
    for rows in tree.rows.values():
        for row in rows:
            row.pop("category", None)
    tree.write()
    write(collected("custom", tree.root), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000
    with pytest.raises(UserError):
        write(collected("custom", tree.root), tmp_path / "data" / "train.jsonl" / "figure.png")
