"""The preset with many small objects: its targets' sizes, the generator's promises at that scale, the frozen scenes."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rrsis_bench.commands import data as data_verbs
from rrsis_bench.config.cards import data_config
from rrsis_bench.eval.counts import SampleCounts
from rrsis_bench.eval.scores import size_class
from rrsis_bench.run.data import scene_spec
from rrsis_bench.synthetic import (
    DEFAULT_SPEC,
    Scene,
    category_oracle_ious,
    category_oracle_miou,
    is_complete,
    render_scene,
    synthesize,
)
from rrsis_bench.synthetic.places.stage import KINDS
from rrsis_bench.synthetic.spec import SPLITS
from tests.fakes.scenes import scenes_hash, understand

SMALL = replace(DEFAULT_SPEC, object_scale=0.4)
PRESET = Path(__file__).parents[2] / "conf" / "data" / "synthetic_small.yaml"

# Pinned when the preset was frozen, as the default's are in test_synthetic.py.
FROZEN_SAMPLE = "9239cb5b6f339837377c801ebb1e8f9e90f18710329c537d16e7767e5c8bb767"
FROZEN_ALL = "fb99c0de03ce2fb6e03ed10e6ccf537ad4a80bf441683e865e415b6f1c67fcbb"


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """A third of the test scenes: two deals of all settings."""
    return [render_scene(SMALL, "test", index) for index in range(50)]


def _classes(areas: list[int], scheme: str) -> dict[str, float]:
    """Share of the targets in each size class of the per-size tables."""
    side = SMALL.size
    rows = [SampleCounts("s", "i", None, "en", 1, side, side, area, 0, area, 0, area) for area in areas]
    return {name: n / len(rows) for name, n in Counter(size_class(row, scheme) for row in rows).items()}


def _target_areas(scenes: list[Scene]) -> list[int]:
    return [int(scene.target_HW(e).sum()) for scene in scenes for e in scene.expressions]


def test_the_preset_is_the_default_with_smaller_objects() -> None:
    config, default = data_config(PRESET.stem), data_config("synthetic")
    assert scene_spec(config) == SMALL
    assert config.name == PRESET.stem
    assert config.root != default.root


def test_most_targets_are_small_and_every_size_class_has_some(scenes: list[Scene]) -> None:
    areas = _target_areas(scenes)
    assert min(areas) >= 30
    assert float(np.median(areas)) < 0.008 * SMALL.size**2
    pixels, share = _classes(areas, "pixels"), _classes(areas, "share")
    assert pixels["small"] >= 0.75
    assert pixels["medium"] >= 0.08
    assert pixels["large"] >= 0.01
    assert share["0.1-1%"] >= 0.55
    assert share["1-10%"] >= 0.15
    assert share[">=10%"] >= 0.015


def test_scenes_have_more_objects_than_the_defaults(scenes: list[Scene]) -> None:
    numbers = [len(scene.objects) for scene in scenes]
    assert float(np.mean(numbers)) >= 6.0
    assert max(numbers) > 7
    default = [len(render_scene(DEFAULT_SPEC, "test", index).objects) for index in range(12)]
    assert float(np.mean(numbers)) > 1.4 * float(np.mean(default))


def test_no_object_is_too_small_for_its_shape(scenes: list[Scene]) -> None:
    """The longer side of the box, which a turned object only lengthens or keeps to within its width."""
    for scene in scenes:
        for item in scene.objects:
            x1, y1, x2, y2 = item.box
            diagonal = float(np.hypot(x2 - x1, y2 - y1))
            assert diagonal >= 0.8 * KINDS[item.category].least, item.category


def test_masks_are_disjoint_whole_and_stand_out(scenes: list[Scene]) -> None:
    faint = total = 0
    for scene in scenes:
        covered = np.sum([item.mask_HW for item in scene.objects], axis=0)
        assert covered.max() == 1, "objects do not overlap"
        for item in scene.objects:
            x1, y1, x2, y2 = item.box
            assert item.mask_HW[y1:y2, x1:x2].sum() == item.mask_HW.sum() > 0
            ring_HW = np.zeros_like(item.mask_HW)
            ring_HW[max(0, y1 - 5) : y2 + 5, max(0, x1 - 5) : x2 + 5] = True
            ring_HW &= covered == 0
            inner, outer = scene.image_HW3[item.mask_HW].mean(axis=0), scene.image_HW3[ring_HW].mean(axis=0)
            faint += bool(np.abs(inner - outer).max() < 10)
            total += 1
    assert faint <= 0.02 * total


def test_expressions_are_unambiguous_by_an_independent_reading(scenes: list[Scene]) -> None:
    for number, scene in enumerate(scenes):
        assert len({e.text for e in scene.expressions}) == SMALL.expressions_per_image
        for e in scene.expressions:
            assert tuple(understand(e.text, scene)) == e.targets, (number, e.text)


def test_every_kind_of_expression_occurs(scenes: list[Scene]) -> None:
    kinds = {e.query.kind for scene in scenes for e in scene.expressions}
    assert kinds == {
        "category", "colour", "position", "colour_position", "size", "extreme", "relation", "ordinal"
    }  # fmt: skip


def test_the_noun_alone_is_not_enough(scenes: list[Scene]) -> None:
    ious = [iou for scene in scenes for iou in category_oracle_ious(scene)]
    assert 100 * float(np.mean(ious)) <= 50.0


def test_expressions_for_many_objects_say_how_many_only_where_there_is_a_word() -> None:
    """A number is said of eight at most; the scenes drawn are among the most crowded of the first hundred."""
    spec = replace(SMALL, multi_target=1.0, languages=("en", "zh"))
    drawn = [render_scene(spec, "train", index) for index in (21, 23, 27, 41, 48)]
    numbers = [e.query.number for scene in drawn for e in scene.expressions if e.query.number]
    assert numbers
    assert max(numbers) <= 8
    assert max(len(e.targets) for scene in drawn for e in scene.expressions) > 8
    for scene in drawn:
        for e in scene.expressions:
            assert e.query.number in (None, len(e.targets))


def test_a_cache_of_the_default_written_before_the_option_is_still_complete(tmp_path: Path) -> None:
    """Exactly the keys that folders written by this generator's version hold on disk."""
    old = {
        "generator_version": 1, "format": "rrsisd", "train": 1200, "val": 60, "test": 150, "size": 192,
        "expressions_per_image": 3, "seed": 0, "multi_target": 0.0, "no_target": 0.0, "languages": ["en"],
    }  # fmt: skip
    (tmp_path / "spec.json").write_text(json.dumps(old))
    assert is_complete(DEFAULT_SPEC, tmp_path)
    assert not is_complete(SMALL, tmp_path)
    (tmp_path / "spec.json").write_text(json.dumps({**old, "object_scale": 0.4}))
    assert is_complete(SMALL, tmp_path)


def test_synthesize_takes_the_scale_from_the_command_line(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    data_verbs.add(parser.add_subparsers(required=True))
    counts = ["--train", "2", "--val", "0", "--test", "0", "--size", "96"]
    args = parser.parse_args(["data", "synthesize", "--out", str(tmp_path / "a"), "--object-scale", "0.4", *counts])
    assert args.call(args) == 0
    spec = replace(SMALL, train=2, val=0, test=0, size=96)
    assert is_complete(spec, tmp_path / "a")
    synthesize(spec, tmp_path / "b", workers=1, progress=False)
    name = "rrsisd/instances.json"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_presets_scenes_are_frozen() -> None:
    assert scenes_hash(SMALL, dict.fromkeys(SPLITS, 8)) == FROZEN_SAMPLE


@pytest.mark.slow
def test_all_of_the_presets_scenes_are_frozen() -> None:
    assert scenes_hash(SMALL, {split: SMALL.scenes(split) for split in SPLITS}) == FROZEN_ALL


@pytest.mark.slow
def test_the_noun_alone_is_not_enough_on_the_whole_test_split() -> None:
    assert category_oracle_miou(SMALL, "test") <= 65.0
