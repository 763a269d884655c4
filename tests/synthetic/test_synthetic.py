"""The synthetic scenes: layout on disk, meaning of the expressions, determinism, and the frozen default."""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.formats.rrsisd.dataset import CATEGORIES
from rrsis_bench.data.formats.scenes import SceneSample
from rrsis_bench.errors import UserError
from rrsis_bench.synthetic import (
    DEFAULT_SPEC,
    Scene,
    SceneSpec,
    category_oracle_ious,
    category_oracle_miou,
    is_complete,
    render_scene,
    synthesize,
    writer,
)
from rrsis_bench.synthetic.language.realise import NOUNS, realise
from rrsis_bench.synthetic.language.semantics import Query
from tests.fakes.scenes import scenes_hash, understand

Encode = Callable[[np.ndarray], bytes]

TINY = SceneSpec(train=18, val=2, test=3, size=96, expressions_per_image=2, seed=5)

# Pinned when the default scenes were frozen: models' tiny sizes and recipes are tuned on exactly these pixels. The JPEG
# encoder is not part of them. A change of the counts alone moves only the second.
FROZEN_SAMPLE = "c1bfa3b5549b92358589f84ae45722d67b8eca6282b14e7bad1db96fd5ded803"
FROZEN_ALL = "cc0be982c4a745f997d3f3821f3b615c8beb9942d5d183276ac1d525d19153c0"


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """A few hundred default scenes of all splits."""
    counts = {"train": 170, "val": 20, "test": 60}
    return [render_scene(DEFAULT_SPEC, split, index) for split, n in counts.items() for index in range(n)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "one"
    synthesize(TINY, out, workers=1, progress=False)
    return out


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# ---------------------------------------------------------------------------------------------------------- on disk


def test_same_bytes_for_any_number_of_processes(written: Path, tmp_path: Path) -> None:
    synthesize(TINY, tmp_path / "two", workers=2, progress=False)
    assert _files(tmp_path / "two") == _files(written)


def test_another_seed_gives_other_pictures(written: Path, tmp_path: Path) -> None:
    synthesize(replace(TINY, train=2, val=0, test=0, seed=6), tmp_path / "other", workers=1, progress=False)
    name = "images/rrsisd/JPEGImages/00001.jpg"
    assert (tmp_path / "other" / name).read_bytes() != (written / name).read_bytes()


def test_rrsisd_layout_and_its_traps(written: Path) -> None:
    refs = pickle.loads((written / "rrsisd" / "refs(unc).p").read_bytes())  # noqa: S301 - written above
    instances = json.loads((written / "rrsisd" / "instances.json").read_text())
    total = (TINY.train + TINY.val + TINY.test) * TINY.expressions_per_image
    assert len(refs) == len(instances["images"]) == len(instances["annotations"]) == total
    assert [item["name"] for item in instances["categories"]] == list(CATEGORIES)
    assert [item["id"] for item in instances["categories"]] == list(range(20))
    assert [sum(ref["split"] == split for ref in refs) for split in SPLITS] == [36, 4, 6]
    assert len({ref["image_id"] for ref in refs}) == total, "every image id carries exactly one reference"
    for ref, image, annotation in zip(refs, instances["images"], instances["annotations"], strict=True):
        number = ref["image_id"]
        assert ref["ann_id"] == ref["ref_id"] == annotation["id"] == annotation["image_id"] == image["id"] == number
        assert set(ref) == {
            "image_id", "split", "sentences", "file_name", "category_id", "ann_id", "sent_ids", "ref_id"
        }  # fmt: skip
        (sentence,) = ref["sentences"]
        assert ref["sent_ids"] == [number] == [sentence["sent_id"]]
        assert sentence["raw"] == sentence["sent"] == " ".join(sentence["tokens"]) == sentence["sent"].lower()
        assert "category_id" not in annotation
        assert annotation["categories_id"] == ref["category_id"]
        assert NOUNS[CATEGORIES[ref["category_id"]]]["en"] in sentence["sent"]
        assert isinstance(annotation["segmentation"], list)
        (rle,) = annotation["segmentation"]
        assert isinstance(rle["counts"], str)
        mask_HW = coco_mask.decode(rle)
        assert rle["size"] == [image["height"], image["width"]] == list(mask_HW.shape) == [TINY.size, TINY.size]
        assert annotation["area"] == int((mask_HW.astype(np.int64) * 255).sum()) > 0
        rows, columns = np.nonzero(mask_HW)
        assert annotation["bbox"] == [columns.min(), rows.min(), columns.max(), rows.max()], "x1, y1, x2, y2"
        assert image["file_name"] == ref["file_name"] == f"{number:05d}.jpg"
        with Image.open(written / "images" / "rrsisd" / "JPEGImages" / image["file_name"]) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (TINY.size, TINY.size))


def test_expressions_of_a_scene_share_the_picture_and_differ_in_words(written: Path) -> None:
    refs = pickle.loads((written / "rrsisd" / "refs(unc).p").read_bytes())  # noqa: S301 - written above
    pictures = [(written / "images" / "rrsisd" / "JPEGImages" / ref["file_name"]).read_bytes() for ref in refs]
    for first in range(0, len(refs), 2):
        assert pictures[first] == pictures[first + 1]
        assert refs[first]["sentences"][0]["sent"] != refs[first + 1]["sentences"][0]["sent"]
        assert refs[first]["split"] == refs[first + 1]["split"]
    assert len(set(pictures)) == len(refs) // 2, "no picture appears in two scenes"


def test_one_scene_can_be_rendered_without_the_others(written: Path) -> None:
    scene = render_scene(TINY, "test", 1)
    number = (TINY.train + TINY.val + 1) * TINY.expressions_per_image + 1
    buffer = io.BytesIO()
    Image.fromarray(scene.image_HW3).save(buffer, "JPEG", quality=writer.JPEG_QUALITY, subsampling=0)
    assert (written / "images" / "rrsisd" / "JPEGImages" / f"{number:05d}.jpg").read_bytes() == buffer.getvalue()
    longer = render_scene(replace(TINY, train=900, test=900), "test", 1)
    assert np.array_equal(longer.image_HW3, scene.image_HW3), "counts do not change a scene"


def test_a_cache_is_recognised_by_its_spec(written: Path, tmp_path: Path) -> None:
    assert is_complete(TINY, written)
    assert not is_complete(replace(TINY, seed=6), written)
    assert not is_complete(TINY, written, "another")
    assert not is_complete(TINY, tmp_path)
    (tmp_path / "spec.json").write_text("{")
    assert not is_complete(TINY, tmp_path)


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(UserError, match="not an empty folder"):
        synthesize(TINY, tmp_path, workers=1, progress=False)
    assert (tmp_path / "mine.txt").read_text() == "keep me"
    with pytest.raises(UserError, match="rrsisd"):
        synthesize(TINY, tmp_path / "new", "rrsid", workers=1, progress=False)


def test_a_failure_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = writer.scene_samples

    def breaks(spec: SceneSpec, split: str, index: int, encode: Encode) -> list[SceneSample]:
        assert not (tmp_path / "data").exists(), "nothing appears under the final name before the end"
        if split == "val":
            raise OSError("disk full")
        return whole(spec, split, index, encode)

    monkeypatch.setattr(writer, "scene_samples", breaks)
    with pytest.raises(OSError, match="disk full"):
        synthesize(replace(TINY, train=2), tmp_path / "data", workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_that_fill_one_cache_agree(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = writer.scene_samples

    def other_is_faster(
        spec: SceneSpec, split: str, index: int, encode: Callable[[np.ndarray], bytes]
    ) -> list[SceneSample]:
        if not (tmp_path / "data").exists():
            shutil.copytree(written, tmp_path / "data")
        return whole(spec, split, index, encode)

    monkeypatch.setattr(writer, "scene_samples", other_is_faster)
    synthesize(TINY, tmp_path / "data", workers=1, progress=False)
    assert _files(tmp_path / "data") == _files(written)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(OSError, match="not empty"):
        synthesize(replace(TINY, train=1), tmp_path / "data", workers=1, progress=False)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"train": -1}, "train"),
        ({"size": 8}, "size"),
        ({"expressions_per_image": 0}, "expressions_per_image"),
        ({"seed": -1}, "seed"),
        ({"multi_target": 1.5}, "multi_target"),
        ({"multi_target": 0.6, "no_target": 0.6}, "no_target"),
        ({"languages": ("en", "de")}, "languages"),
        ({"languages": ()}, "languages"),
        ({"object_scale": 0.1}, "object_scale"),
        ({"object_scale": 1.1}, "object_scale"),
    ],
)
def test_impossible_specs_are_refused_by_field(change: dict[str, object], names: str) -> None:
    with pytest.raises(UserError, match=names):
        replace(TINY, **change)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="split"):
        render_scene(TINY, "tset", 0)
    with pytest.raises(IndexError):
        render_scene(TINY, "val", TINY.val)


# ------------------------------------------------------------------------------------------------- pictures and masks


def test_masks_lie_inside_are_disjoint_and_fill_their_boxes(scenes: list[Scene]) -> None:
    for scene in scenes:
        size = DEFAULT_SPEC.size
        assert scene.image_HW3.shape == (size, size, 3)
        assert scene.image_HW3.dtype == np.uint8
        covered = np.zeros((size, size), int)
        for item in scene.objects:
            assert item.mask_HW.shape == (size, size)
            assert item.mask_HW.dtype == bool
            x1, y1, x2, y2 = item.box
            inside = item.mask_HW[y1:y2, x1:x2]
            assert inside.sum() == item.mask_HW.sum() > 0
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()
            covered += item.mask_HW
        assert covered.max() == 1, "objects do not overlap"
        assert len(scene.expressions) == DEFAULT_SPEC.expressions_per_image
        assert len({item.text for item in scene.expressions}) == len(scene.expressions)
        assert all(scene.target_HW(item).any() for item in scene.expressions)


def test_objects_stand_out_from_what_surrounds_them(scenes: list[Scene]) -> None:
    """The mean colour of an object differs visibly from the ring round it, in all but a few."""
    faint = total = 0
    for scene in scenes[:100]:
        everything_HW = np.any([item.mask_HW for item in scene.objects], axis=0)
        for item in scene.objects:
            x1, y1, x2, y2 = item.box
            ring_HW = np.zeros_like(item.mask_HW)
            ring_HW[max(0, y1 - 5) : y2 + 5, max(0, x1 - 5) : x2 + 5] = True
            ring_HW &= ~everything_HW
            inner, outer = scene.image_HW3[item.mask_HW].mean(axis=0), scene.image_HW3[ring_HW].mean(axis=0)
            faint += bool(np.abs(inner - outer).max() < 10)
            total += 1
    assert faint <= 0.06 * total


def test_sizes_span_two_orders_of_magnitude_and_categories_are_many(scenes: list[Scene]) -> None:
    pixels = DEFAULT_SPEC.size**2
    areas = [item.area / pixels for scene in scenes for item in scene.objects]
    targets = [float(scene.target_HW(e).mean()) for scene in scenes for e in scene.expressions]
    assert max(areas) / min(areas) >= 100
    assert min(areas) >= 0.001
    assert max(areas) <= 0.22
    assert 0.02 <= float(np.median(targets)) <= 0.06
    assert len({item.category for scene in scenes for item in scene.objects}) >= 12
    assert {item.category for scene in scenes for item in scene.objects} <= set(CATEGORIES)
    for scene in scenes:
        for item in scene.objects:
            share = item.area / pixels
            assert item.size_class == ("small" if share < 0.01 else "medium" if share < 0.04 else "large")


def test_the_noun_alone_is_not_enough(scenes: list[Scene]) -> None:
    assert category_oracle_miou(DEFAULT_SPEC, "test", limit=60) <= 65.0
    # The oracle in the plainest form, over the pixels of one scene.
    scene = scenes[0]
    for expression, iou in zip(scene.expressions, category_oracle_ious(scene), strict=True):
        both = either = 0
        for y in range(DEFAULT_SPEC.size):
            for x in range(DEFAULT_SPEC.size):
                answer = any(o.mask_HW[y, x] for o in scene.objects if o.category == expression.category)
                target = any(scene.objects[k].mask_HW[y, x] for k in expression.targets)
                both += answer and target
                either += answer or target
        assert iou == both / either


def test_expressions_of_a_scene_denote_different_objects_where_they_can(scenes: list[Scene]) -> None:
    several = sum(len({e.targets for e in scene.expressions}) >= 2 for scene in scenes)
    assert several >= 0.97 * len(scenes)


def test_every_kind_of_expression_occurs(scenes: list[Scene]) -> None:
    kinds = [e.query.kind for scene in scenes for e in scene.expressions]
    for kind in ("category", "colour", "position", "colour_position", "size", "extreme", "relation", "ordinal"):
        assert kinds.count(kind) >= 0.01 * len(kinds), kind


# ------------------------------------------------------------------------------------------------------------ meaning


def test_expressions_are_unambiguous_by_an_independent_reading(scenes: list[Scene]) -> None:
    for number, scene in enumerate(scenes):
        for expression in scene.expressions:
            assert tuple(understand(expression.text, scene)) == expression.targets, (number, expression.text)


def test_multi_target_and_no_target_shares() -> None:
    spec = replace(DEFAULT_SPEC, multi_target=0.3, no_target=0.25)
    drawn = [render_scene(spec, "train", index) for index in range(70)]
    counts = [len(e.targets) for scene in drawn for e in scene.expressions]
    assert 0.2 <= sum(n > 1 for n in counts) / len(counts) <= 0.4
    assert 0.15 <= sum(n == 0 for n in counts) / len(counts) <= 0.35
    for scene in drawn:
        for e in scene.expressions:
            union_HW = np.zeros((spec.size, spec.size), bool)
            for k in e.targets:
                union_HW |= scene.objects[k].mask_HW
            assert np.array_equal(scene.target_HW(e), union_HW)
            assert understand(e.text, scene) == list(e.targets), e.text
            number = re.search(r"\b(two|three|four)\b", e.text)
            if number:
                assert len(e.targets) == ("two", "three", "four").index(number.group()) + 2


def test_no_target_on_disk_is_an_empty_mask_with_the_nouns_category(tmp_path: Path) -> None:
    spec = replace(TINY, train=3, val=0, test=0, no_target=1.0)
    synthesize(spec, tmp_path / "none", workers=1, progress=False)
    instances = json.loads((tmp_path / "none" / "rrsisd" / "instances.json").read_text())
    refs = pickle.loads((tmp_path / "none" / "rrsisd" / "refs(unc).p").read_bytes())  # noqa: S301 - written above
    for ref, annotation in zip(refs, instances["annotations"], strict=True):
        assert coco_mask.decode(annotation["segmentation"][0]).sum() == annotation["area"] == 0
        assert annotation["bbox"] == [0, 0, 0, 0]
        assert NOUNS[CATEGORIES[ref["category_id"]]]["en"] in ref["sentences"][0]["sent"]


def test_chinese_says_the_same_as_english() -> None:
    spec = replace(DEFAULT_SPEC, languages=("en", "zh"), multi_target=0.2, no_target=0.1)
    drawn = [render_scene(spec, "train", index) for index in range(40)]
    texts = [(e, e.text) for scene in drawn for e in scene.expressions]
    chinese = [(e, text) for e, text in texts if e.language == "zh"]
    assert 0.35 <= len(chinese) / len(texts) <= 0.65
    for e, text in chinese:
        assert not re.search("[a-z ]", text)
        assert NOUNS[e.category]["zh"] in text
    rng = np.random.default_rng(0)
    assert realise(Query("ordinal", "ship", side="left", rank=2), "zh", rng) == "从左边数第二艘船"
    assert realise(Query("size", "storagetank", size="largest"), "zh", rng) == "最大的储油罐"
    assert realise(Query("relation", "ship", relation="above", anchor="bridge"), "zh", rng) == "桥上方的船"
    assert realise(Query("colour", "vehicle", colour="red", plural=True), "zh", rng) == "所有红色车辆"
    assert realise(Query("colour", "vehicle", colour="red", plural=True, number=2), "zh", rng) == "两辆红色车辆"
    assert realise(Query("extreme", "ship", side="left"), "zh", rng) in ("最左侧的船", "最左边的船")


# ------------------------------------------------------------------------------------------------------------- frozen


def test_default_scenes_are_frozen() -> None:
    assert SceneSpec(train=1200, val=60, test=150, size=192, expressions_per_image=3, seed=0) == DEFAULT_SPEC
    assert scenes_hash(DEFAULT_SPEC, dict.fromkeys(SPLITS, 12)) == FROZEN_SAMPLE


@pytest.mark.slow
def test_all_default_scenes_are_frozen() -> None:
    assert scenes_hash(DEFAULT_SPEC, {split: DEFAULT_SPEC.scenes(split) for split in SPLITS}) == FROZEN_ALL


@pytest.mark.slow
def test_the_noun_alone_is_not_enough_on_the_whole_test_split() -> None:
    assert category_oracle_miou(DEFAULT_SPEC, "test") <= 65.0


def test_a_script_without_a_main_guard_writes_few_scenes_and_is_told_about_many(tmp_path):
    """Spawned processes import the script again, which would start processes again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom rrsis_bench.synthetic import SceneSpec, synthesize\n"
        "spec = SceneSpec(train=17, val=0, test=0, size=96, expressions_per_image=1, seed=0)\n"
        "synthesize(spec, sys.argv[1] + '/few', progress=False)\n"
        "synthesize(spec, sys.argv[1] + '/many', workers=2, progress=False)\n"
    )
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, check=False)
    assert (tmp_path / "few" / "spec.json").exists()
    assert done.returncode == 1
    assert "UserError" in done.stderr.splitlines()[-1]
    assert "__main__" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "many").exists()
