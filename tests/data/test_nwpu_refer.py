from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rrsis_bench.console import Terminal
from rrsis_bench.data.checks.verify import print_report
from rrsis_bench.data.formats import known_formats, open_split
from rrsis_bench.data.formats.nwpu_refer.dataset import CATEGORIES
from rrsis_bench.data.text.tokenizers import build_wordpiece
from rrsis_bench.errors import UserError
from rrsis_bench.run.data import OpenData, expected_counts, open_splits, scene_spec
from rrsis_bench.synthetic import SceneSpec, render_scene, synthesize, writer
from rrsis_bench.synthetic.language.realise import NOUNS, realise
from rrsis_bench.synthetic.language.semantics import PLACES, RELATIONS, SIDES, Query
from tests.fakes.checks import fingerprint, verify
from tests.fakes.config import parsed
from tests.fakes.nwpu import ERRORS, HEIGHT, WARNINGS, WIDTH, write_fake_nwpu
from tests.fakes.rrsisd import write_fake_rrsisd

SPEC = SceneSpec(
    train=14, val=3, test=3, size=96, expressions_per_image=3, seed=4, multi_target=0.3, no_target=0.2,
    languages=("en", "zh"),
)  # fmt: skip


def read(root: Path, split: str = "train", **options):
    return open_split("nwpu_refer", root, split, options)


# ------------------------------------------------------------------------------------------------------------- reading


def test_references_with_the_same_picture_and_words_are_one_sample(tmp_path):
    tree = write_fake_nwpu(tmp_path)
    dataset = read(tmp_path)
    assert (dataset.name, dataset.category_names) == ("nwpu_refer", CATEGORIES)
    single, several, none = (dataset[index] for index in range(3))
    assert (single.expression, several.expression) == ("The car on the left", "all ships")
    assert [sample.n_targets for sample in dataset] == [1, 2, 0] * 2
    assert [sample.category for sample in dataset] == ["car", "ship", "no target"] * 2
    assert {sample.language for sample in dataset} == {"en"}
    assert [sample.image_id for sample in dataset] == ["500"] * 3 + ["501"] * 3
    np.testing.assert_array_equal(single.read_mask(), tree.masks[tree.refs[0]["ann_id"]])
    union_HW = tree.masks[tree.refs[1]["ann_id"]] | tree.masks[tree.refs[2]["ann_id"]]
    np.testing.assert_array_equal(several.read_mask(), union_HW)
    assert none.read_mask().shape == (HEIGHT, WIDTH)
    assert not none.read_mask().any(), "the box of an annotation without polygons is no target"
    assert single.read_image().shape == (HEIGHT, WIDTH, 3)


def test_the_unmerged_reading_has_one_sample_per_reference_with_a_part_of_the_mask(tmp_path):
    tree = write_fake_nwpu(tmp_path)
    dataset = read(tmp_path, merge=False)
    refs = [ref for ref in tree.refs if ref["split"] == "train"]
    assert len(dataset) == len(refs) == 8
    assert [sample.n_targets for sample in dataset] == [1, 1, 1, 0] * 2
    for sample, ref in zip(dataset, refs, strict=True):
        np.testing.assert_array_equal(sample.read_mask(), tree.masks[ref["ann_id"]])
        assert sample.sample_id == f"{ref['ref_id']:05d}-0"


@pytest.mark.parametrize(("language", "merged", "unmerged"), [("en", 6, 8), ("zh", 6, 8), ("all", 12, 16)])
def test_language_and_both_counts(tmp_path, language, merged, unmerged):
    write_fake_nwpu(tmp_path)
    dataset = read(tmp_path, language=language)
    assert len(dataset) == merged
    assert len(read(tmp_path, language=language, merge=False)) == unmerged
    languages = {sample.language for sample in dataset}
    assert languages == ({"en", "zh"} if language == "all" else {language})
    (note,) = dataset.notes
    assert f"{merged} samples merged by image and expression, {unmerged} unmerged. Read: {merged} (merged)." in note
    assert "8 references with expressions en 8, zh 8" in note


def test_a_text_with_any_chinese_character_is_chinese(tmp_path):
    tree = write_fake_nwpu(tmp_path)
    for ref, text in zip(tree.refs, ("左边的 car", "the ship’s café", "船 2", "plain"), strict=False):
        ref["sentences"] = [{"raw": text}]
    tree.write()
    found = {sample.expression: sample.language for sample in read(tmp_path, language="all")}
    assert [found[text] for text in ("左边的 car", "the ship’s café", "船 2", "plain")] == ["zh", "en", "zh", "en"]
    assert "2 references have no expression of this language" in read(tmp_path).notes[0]


def test_sample_ids_are_unique_over_splits_and_stable(tmp_path):
    tree = write_fake_nwpu(tmp_path)
    splits = ("train", "val", "test")
    ids = [sample.sample_id for split in splits for sample in read(tmp_path, split, language="all")]
    assert len(ids) == len(set(ids)) == 4 * 6
    tree.refs.reverse()
    tree.write()
    again = [sample.sample_id for split in splits for sample in read(tmp_path, split, language="all")]
    assert sorted(again) == sorted(ids)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("names", [("new_refs(unc).p", "new_instances.json"), ("refs(unc).p", "instances.json")])
def test_both_folders_and_both_names_of_the_files_are_read(tmp_path, nested, names):
    tree = write_fake_nwpu(tmp_path, nested=nested)
    for old, new in zip((tree.refs_name, tree.instances_name), names, strict=True):
        (tmp_path / old).rename(tmp_path / new)
    assert read(tmp_path)[0].read_image().shape == (HEIGHT, WIDTH, 3)


def test_the_new_files_win_over_the_old_ones(tmp_path):
    tree = write_fake_nwpu(tmp_path)
    (tmp_path / "refs(unc).p").write_bytes(b"old")
    (tmp_path / "instances.json").write_text("old")
    assert len(read(tmp_path)) == 6
    assert tree.refs_name.startswith("new_")


def test_a_polygon_of_category_no_target_and_an_empty_one_of_another_are_empty_masks(tmp_path):
    tree = write_fake_nwpu(tmp_path, defects=["no_target_with_polygon", "no_polygon"])
    for defect in tree.defects.values():
        (sample,) = (sample for sample in read(tmp_path) if sample.sample_id == f"{defect[1]}-0")
        assert (sample.n_targets, sample.category, sample.read_mask().any()) == (0, "no target", False)


def test_merged_references_of_several_categories_have_none(tmp_path):
    tree = write_fake_nwpu(tmp_path)
    tree.refs[1]["category_id"] = tree.annotation(tree.refs[1])["category_id"] = CATEGORIES.index("car")
    tree.write()
    assert (read(tmp_path)[1].category, read(tmp_path)[1].n_targets) == (None, 2)
    assert [(f.kind, f.where) for f in verify("nwpu_refer", tmp_path).findings] == [("several_categories", "00011")]


def test_the_same_annotation_twice_counts_as_one_target(tmp_path):
    tree = write_fake_nwpu(tmp_path)
    tree.refs.append({**tree.refs[1], "ref_id": 900})
    tree.write()
    assert read(tmp_path)[1].n_targets == 2


def test_the_index_is_small_picklable_and_draws_nothing(tmp_path, monkeypatch):
    write_fake_nwpu(tmp_path)
    dataset = read(tmp_path)
    dataset = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own bytes
    monkeypatch.setattr("rrsis_bench.data.pixels.polygons.coco", None)
    sample = pickle.loads(pickle.dumps(dataset[0]))  # noqa: S301 - our own bytes
    monkeypatch.undo()
    np.testing.assert_array_equal(sample.read_mask(), dataset[0].read_mask())
    assert (sample.read_rle()["size"], sample.sample_id) == ([HEIGHT, WIDTH], "00010-0")
    assert dataset[-1].sample_id == dataset[len(dataset) - 1].sample_id
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_options_and_other_datasets(tmp_path):
    write_fake_nwpu(tmp_path / "nwpu")
    write_fake_rrsisd(tmp_path / "rrsisd")
    assert "nwpu_refer" in known_formats()
    with pytest.raises(UserError, match=r"data\.options\.language='fr' is not one of: en, zh, all"):
        read(tmp_path / "nwpu", language="fr")
    with pytest.raises(UserError, match=r"data\.options\.merge='maybe' must be true or false"):
        read(tmp_path / "nwpu", merge="maybe")
    with pytest.raises(UserError, match=r"data\.options\.x\..*language, merge"):
        read(tmp_path / "nwpu", x=1)
    with pytest.raises(UserError, match=r"data\.options\.merge\..*rrsisd': labelled"):
        open_split("rrsisd", tmp_path / "rrsisd", "train", {"merge": True})


def test_a_split_without_the_language_says_what_there_is(tmp_path):
    tree = write_fake_nwpu(tmp_path)
    for ref in tree.refs:
        del ref["sentences"][1]
    tree.write()
    with pytest.raises(UserError, match=r"empty_split train: .*en 8; language=zh"):
        read(tmp_path, language="zh")


def test_a_missing_dataset_says_where_from_where_to_and_how_to_point_elsewhere(tmp_path):
    with pytest.raises(UserError) as caught:
        read(tmp_path / "nowhere")
    for part in ("CVer-Yang/NWPU-Refer", "new_refs(unc).p", "new_instances.json", "image/", "data.root="):
        assert part in str(caught.value)


def test_a_hostile_pickle_is_refused_before_it_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    tree = write_fake_nwpu(tmp_path)
    (tmp_path / tree.refs_name).write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(UserError, match="Nothing was executed"):
        read(tmp_path)
    assert not (tmp_path / "touched").exists()


def test_an_id_that_is_none_is_named(tmp_path):
    tree = write_fake_nwpu(tmp_path)
    tree.refs[0]["ann_id"] = [1, 2]
    tree.write()
    with pytest.raises(UserError, match=r"new_refs\(unc\)\.p: a reference has ann_id \[1, 2\], which is not an id"):
        read(tmp_path)


def test_the_fingerprint_follows_content_and_reading(tmp_path):
    tree = write_fake_nwpu(tmp_path)
    before = fingerprint("nwpu_refer", tmp_path)
    others = [{"language": "zh"}, {"language": "all"}, {"merge": False}]
    seen = {before, *(fingerprint("nwpu_refer", tmp_path, options=options) for options in others)}
    assert len(seen) == 4
    tree.annotation(tree.refs[0])["segmentation"][0][0] += 1
    tree.write()
    assert fingerprint("nwpu_refer", tmp_path) not in seen


# ------------------------------------------------------------------------------------------------------------ checking


def test_a_sound_tree_has_no_finding(tmp_path):
    write_fake_nwpu(tmp_path)
    out = io.StringIO()
    report = verify("nwpu_refer", tmp_path, {"train": 6, "val": 3, "test": 3}, console=Terminal(file=out, width=300))
    assert report.findings == []
    assert report.index.counts == {"train": 6, "val": 3, "test": 3}
    print_report(report, Terminal(file=out, width=300))
    assert "language=en gives 6 samples merged by image and expression, 8 unmerged" in out.getvalue()


def test_every_defect_is_listed_in_one_pass(tmp_path):
    defects = (*ERRORS, *WARNINGS)
    tree = write_fake_nwpu(tmp_path, (len(defects), 1, 1), defects=defects)
    report = verify("nwpu_refer", tmp_path)
    assert {(f.kind, f.where) for f in report.findings} == set(tree.defects.values())
    assert len(report.findings) == len(defects)
    warned = {tree.defects[defect] for defect in WARNINGS}
    assert {(f.kind, f.where) for f in report.warnings} == warned
    assert not report.ok


@pytest.mark.parametrize("defect", [*ERRORS, *WARNINGS])
def test_each_defect_alone_gives_its_own_finding_and_errors_stop_a_run(tmp_path, defect):
    tree = write_fake_nwpu(tmp_path, defects=[defect])
    report = verify("nwpu_refer", tmp_path)
    kind, where = tree.defects[defect]
    assert [(f.kind, f.where) for f in report.findings] == [(kind, where)]
    assert report.ok == (defect in WARNINGS)
    if defect in WARNINGS or defect == "truncated_image":  # pictures are not decoded before a run needs them
        assert len(read(tmp_path)) == 6
    else:
        with pytest.raises(UserError, match=rf"{kind} {where}: .*(\n.*)*data verify nwpu_refer --data-root"):
            read(tmp_path)


def test_polygons_without_a_pixel_are_found(tmp_path):
    tree = write_fake_nwpu(tmp_path)
    tree.annotation(tree.refs[0])["segmentation"] = [[5, 5, 5.01, 5, 5.01, 5.01]]
    tree.write()
    assert [(f.kind, f.where) for f in verify("nwpu_refer", tmp_path).findings] == [("empty_mask", "00010")]


def test_a_run_names_every_defect_before_anything_is_built(tmp_path):
    tree = write_fake_nwpu(tmp_path, (3, 1, 1), defects=["odd_coordinates", "missing_image", "missing_annotation"])
    del next(ref for ref in tree.refs if ref["split"] == "test")["sentences"][:]
    tree.write()
    config = parsed("data=nwpu_refer", "size=tiny", f"data.root={tmp_path}", f"runs={tmp_path / 'runs'}")
    with pytest.raises(UserError) as caught:
        OpenData.open(config, Terminal(file=io.StringIO()))
    for kind, where in (*tree.defects.values(), ("empty_expression", tree.refs[-4]["ref_id"])):
        assert f"{kind} {where:>05}" in str(caught.value)


def test_defects_of_another_split_do_not_stop_the_reading_of_one(tmp_path):
    write_fake_nwpu(tmp_path, defects=["missing_image"])
    assert len(read(tmp_path, "test")) == 3
    with pytest.raises(UserError, match="missing_image"):
        read(tmp_path, "train")


def test_long_lists_are_cut_but_counted(tmp_path):
    tree = write_fake_nwpu(tmp_path, (6, 1, 1))
    for ref in tree.refs[:24]:
        ref["sentences"] = []
    tree.write()
    with pytest.raises(UserError, match=r"24 errors(.|\n)*4 more of kind empty_expression"):
        read(tmp_path)


# ------------------------------------------------------------------------------------------------------------- writing


@pytest.fixture(scope="module")
def scenes():
    """The scenes of `written`, as its writer drew them: split, index -> scene."""
    return {}


@pytest.fixture(scope="module")
def written(tmp_path_factory, scenes):
    def remember(spec, split, index):
        return scenes.setdefault((split, index), render_scene(spec, split, index))

    root = tmp_path_factory.mktemp("written") / "scenes"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "render_scene", remember)
        synthesize(SPEC, root, "nwpu_refer", workers=1, progress=False)
    return root


def test_twenty_scenes_come_back_bit_for_bit(written, scenes):
    kinds = set()
    assert len(scenes) == 20
    for split in ("train", "val", "test"):
        samples = list(read(written, split, language="all"))
        drawn = [(scene, e) for (of, _), scene in scenes.items() if of == split for e in scene.expressions]
        for sample, (scene, e) in zip(samples, drawn, strict=True):
            assert (sample.expression, sample.language, sample.n_targets) == (e.text, e.language, len(e.targets))
            np.testing.assert_array_equal(sample.read_mask(), scene.target_HW(e))
            kinds.add((e.language, min(2, len(e.targets))))
            assert (sample.category == "no target") == (not e.targets)
            apart_HW3 = np.abs(sample.read_image().astype(int) - scene.image_HW3)
            assert apart_HW3.mean() < 6, "the picture, but for JPEG"
    assert kinds == {(language, targets) for language in ("en", "zh") for targets in (0, 1, 2)}


def test_the_written_layout_is_the_published_one(written):
    assert {path.name for path in written.iterdir()} == {"image", "new_refs(unc).p", "new_instances.json", "spec.json"}
    instances = json.loads((written / "new_instances.json").read_text())
    assert [row["name"] for row in instances["categories"]] == list(CATEGORIES)
    assert len(instances["images"]) == len(list((written / "image").iterdir())) == 20
    refs = pickle.loads((written / "new_refs(unc).p").read_bytes())  # noqa: S301 - written above
    assert all({"image_id", "split", "ann_id", "ref_id", "category_id", "sentences"} <= set(ref) for ref in refs)
    for row in instances["annotations"]:
        assert {"id", "image_id", "category_id", "bbox", "segmentation"} <= set(row)
        assert bool(row["segmentation"]) == (CATEGORIES[row["category_id"]] != "no target")
        assert row["bbox"][2] > 0
    merged, unmerged = (len(read(written, language="all", merge=merge)) for merge in (True, False))
    assert merged == 3 * SPEC.train < unmerged
    assert verify("nwpu_refer", written).findings == []


def test_the_preset_has_what_its_name_says(written):
    config = parsed("data=synthetic_nwpu")
    spec = scene_spec(config.data)
    assert (spec.multi_target, spec.no_target, set(spec.languages)) == (0.3, 0.2, {"en", "zh"})
    assert (config.size.name, config.data.options) == ("tiny", {"language": "all", "merge": True})
    scenes = (config.data.synthetic or {}) | {"train": SPEC.train, "val": SPEC.val, "test": SPEC.test}
    data = replace(config.data, synthetic=scenes)
    splits = open_splits(data, written)
    assert {name: len(dataset) for name, dataset in splits.items()} == expected_counts(data)
    english = replace(data, options={"language": "en", "merge": True})
    assert 0 < len(open_splits(english, written)["train"]) < len(splits["train"])


def test_the_tiny_vocabulary_spells_chinese():
    """Everything that the scenes' language can say fits beside English, one token per Chinese character."""
    rng = np.random.default_rng(0)
    queries = [
        *(Query("position", noun, place=place) for noun in NOUNS for place in PLACES for _ in range(4)),
        *(Query("relation", noun, relation=r, anchor="ship") for noun in NOUNS for r in RELATIONS for _ in range(4)),
        *(Query("colour", "ship", colour=colour) for colour in ("red", "blue", "white", "yellow", "green", "black")),
        *(Query("ordinal", "ship", side=side, rank=rank) for side in SIDES for rank in (2, 3)),
        *(Query("size", noun, size=size) for noun in NOUNS for size in ("largest", "smallest")),
        *(Query("category", noun, plural=True, number=number) for noun in NOUNS for number in (None, 2, 3, 4, 5)),
    ]
    texts = [realise(query, language, rng) for query in queries for language in ("en", "zh")]
    config = parsed("data=synthetic_nwpu", "model=lavt")
    tokenizer = build_wordpiece(texts, config.text["vocab_size"])
    for text in texts:
        tokens = tokenizer.encode(text).tokens
        assert "[UNK]" not in tokens, text
        assert len(tokens) <= config.size.max_tokens, text
        if not text.isascii():
            assert tokens[1:-1] == list(text)
