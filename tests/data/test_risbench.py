"""RISBench: what it does not share with RefSegRS."""

from __future__ import annotations

from functools import lru_cache

from rrsis_bench.data.formats import SPLITS, open_split
from rrsis_bench.data.formats.risbench.dataset import image_of
from rrsis_bench.synthetic import SceneSpec, render_scene, synthesize, writer
from tests.fakes.config import compose
from tests.fakes.file_list import write_fake_file_list

# The synthetic scenes' twelve categories by RISBench's names.
NAMES = {
    "airplane": "airplane", "baseballfield": "baseball diamond", "basketballcourt": "basketball court",
    "bridge": "bridge", "chimney": "chimney", "groundtrackfield": "ground track field", "ship": "ship",
    "stadium": "stadium", "storagetank": "storage tank", "tenniscourt": "tennis court", "vehicle": "vehicle",
    "windmill": "windmill",
}  # fmt: skip


def test_the_layout_on_disk(tmp_path):
    write_fake_file_list("risbench", tmp_path, n_train=1, n_val=1, n_test=2)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    names = ("test_0_0", "test_0_1", "train_0_0", "val_0_0")
    assert files == [
        *(f"{folder}/{name}.png" for folder in ("img_rgb", "mask") for name in names),
        "output_phrase_test.txt", "output_phrase_train.txt", "output_phrase_val.txt",
    ]  # fmt: skip
    assert (tmp_path / "output_phrase_val.txt").read_text() == "val_0_0.png The small vehicle in the middle .\n"


def test_the_objects_of_a_picture_share_its_id(tmp_path):
    write_fake_file_list("risbench", tmp_path)
    samples = list(open_split("risbench", tmp_path, "test"))
    assert [sample.sample_id for sample in samples] == ["test_0_0", "test_0_1", "test_1_0", "test_1_1"]
    assert [sample.image_id for sample in samples] == ["test_0", "test_0", "test_1", "test_1"]
    assert [sample.category for sample in samples] == ["vehicle", "airplane", "baseball diamond", "storage tank"]


def test_names_that_do_not_say_their_picture_are_pictures_of_their_own():
    assert [image_of(stem) for stem in ("test_2_6", "val_12_0", "test_2", "7", "a_b_c", "test_2_x")] == [
        "test_2", "val_12", "test_2", "7", "a_b_c", "test_2_x"
    ]  # fmt: skip


def test_the_words_of_synthetic_expressions_give_the_category_that_they_were_made_from(tmp_path, monkeypatch):
    draw = lru_cache(render_scene)
    monkeypatch.setattr(writer, "render_scene", draw)
    spec = SceneSpec(train=22, val=1, test=1, size=96, expressions_per_image=6, seed=2, multi_target=0.3, no_target=0.2)
    synthesize(spec, tmp_path / "out", "risbench", workers=1, progress=False)
    seen = set()
    for split in SPLITS:
        drawn = [each for index in range(spec.scenes(split)) for each in draw(spec, split, index).expressions]
        for sample, expression in zip(open_split("risbench", tmp_path / "out", split), drawn, strict=True):
            assert sample.category == NAMES[expression.category], sample.expression
            seen.add(sample.category)
    assert seen == set(NAMES.values())


def test_the_configuration():
    config = compose("data=risbench", "model=csinet")
    assert config["data"]["notes"] == ["text-derived categories"]
    assert config["data"]["counts"] == {"train": 26300, "val": 10013, "test": 16159}
    assert config["train"]["epochs"] == 40
