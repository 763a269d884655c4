"""RefSegRS: what it does not share with RISBench."""

from __future__ import annotations

import io
import shutil

from PIL import Image

from rrsis_bench.console import Terminal
from rrsis_bench.data.formats import dataset as datasets
from rrsis_bench.data.formats import open_split
from rrsis_bench.eval.scores import UNMATCHED
from rrsis_bench.run import score
from rrsis_bench.run.data import OpenData
from rrsis_bench.synthetic import SceneSpec, synthesize
from tests.fakes.config import compose, parsed
from tests.fakes.file_list import write_fake_file_list


def test_the_layout_on_disk(tmp_path):
    write_fake_file_list("refsegrs", tmp_path, n_train=2, n_val=1, n_test=1)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        *(f"{folder}/{number}.tif" for folder in ("images", "masks") for number in range(1361, 1365)),
        "output_phrase_test.txt", "output_phrase_train.txt", "output_phrase_val.txt",
    ]  # fmt: skip
    assert (tmp_path / "output_phrase_train.txt").read_text() == "1361 paved road\n1362 vehicles along the road\n"


def test_categories_come_from_the_words(tmp_path):
    write_fake_file_list("refsegrs", tmp_path)
    categories = [sample.category for sample in open_split("refsegrs", tmp_path, "val")]
    assert categories == ["road", "vehicle", "road marking", "low vegetation"]


def test_equal_pictures_under_two_names_are_one_image(tmp_path):
    tree = write_fake_file_list("refsegrs", tmp_path)
    shutil.copyfile(tree.image("1362"), tree.image("1365"))
    tree.lines["train"].append(("1362", "road"))
    tree.write()
    ids = [sample.image_id for sample in open_split("refsegrs", tmp_path, "train")]
    assert ids == ["1361", "1362", "1363", "1364", "1362", "1366", "1367", "1368", "1362"]


def test_files_are_equal_only_where_every_byte_is(tmp_path, monkeypatch):
    """Also where beginning, middle and end agree; and files that differ there are not read as a whole."""
    data = bytes(200_000)
    contents = [data, data, data[:60_000] + b"x" + data[60_001:], data[:-1] + b"x", data + b"x", b""]
    paths = [tmp_path / str(index) for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    read = []
    whole = datasets.sha256_file
    monkeypatch.setattr(datasets, "sha256_file", lambda path: read.append(path) or whole(path))
    assert datasets.equal_files(paths) == [0, 0, 2, 3, 4, 5]
    assert read == paths[:3]


def test_synthetic_expressions_of_one_target_share_a_name(tmp_path):
    spec = SceneSpec(train=4, val=1, test=1, size=96, expressions_per_image=4, seed=1, no_target=0.8)
    synthesize(spec, tmp_path / "out", "refsegrs", workers=1, progress=False)
    lines = (tmp_path / "out" / "output_phrase_train.txt").read_text().splitlines()
    names = [line.partition(" ")[0] for line in lines]
    assert len(lines) == 16
    assert len(set(names)) < 16, "empty masks of one scene are one file"
    written = {path.stem for path in (tmp_path / "out" / "masks").iterdir()}
    assert written == {path.stem for path in (tmp_path / "out" / "images").iterdir()} >= set(names)


def test_the_configuration_says_what_a_record_must():
    config = compose("data=refsegrs", "model=fianet")
    assert config["data"]["counts"] == {"train": 2172, "val": 431, "test": 1817}
    assert sum(config["data"]["counts"].values()) == 4420
    assert config["data"]["notes"] == [
        "text-derived categories", "intervals are too narrow: its 285 scenes are not named"
    ]  # fmt: skip
    assert (config["model"]["args"]["num_tmem"], config["model"]["args"]["max_tokens"]) == (1, 20)
    assert (config["train"]["optimizer"]["lr"], config["train"]["epochs"]) == (5.0e-5, 60)
    assert compose("data=refsegrs", "model=csinet")["train"]["epochs"] == 60


def test_opening_for_a_run_prints_the_unmatched_ones_and_the_short_copy(tmp_path, capsys):
    tree = write_fake_file_list("refsegrs", tmp_path / "data", defects=["unmatched_category"])
    config = parsed("data=refsegrs", f"data.root={tree.root}", f"runs={tmp_path / 'runs'}")
    opened = OpenData.open(config, Terminal(width=200))
    shown = capsys.readouterr().out
    assert "1 of 8 train expressions name none of the 14 categories" in shown
    assert "not a complete copy" in shown
    assert opened.fingerprint is not None


def test_a_record_says_what_its_readers_must_know_and_counts_the_unmatched(tmp_path):
    tree = write_fake_file_list("refsegrs", tmp_path / "data")
    tree.lines["test"][1] = (tree.lines["test"][1][0], "cargo near the bush")
    tree.write()
    (tmp_path / "masks").mkdir()
    for sample in open_split("refsegrs", tree.root, "test"):
        Image.fromarray(sample.read_mask()).save(tmp_path / "masks" / f"{sample.sample_id}.png")
    given = {"data.root": tree.root, "runs": tmp_path / "runs", "leaderboards": tmp_path / "leaderboards"}
    config = score.configure("refsegrs", "native", [], given)
    record = score.score(config, Terminal(file=io.StringIO()), name="perfect", predictions=tmp_path / "masks")
    assert record.notes[-2:] == list(config.data.notes)
    assert (record.value("miou"), record.n, record.n_expected) == (100.0, 4, 1817)
    assert {name: group.n for name, group in record.per_category.items()} == {
        "road": 1, UNMATCHED: 1, "road marking": 1, "low vegetation": 1
    }  # fmt: skip
