"""What RefSegRS and RISBench have in common: lines, files, defects, and the way there and back."""

from __future__ import annotations

import pickle
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image

from rrsis_bench import cli
from rrsis_bench.data.formats import SPLITS, open_split
from rrsis_bench.data.pixels.mask_files import ABOVE, read_levels, read_mask
from rrsis_bench.errors import UserError
from rrsis_bench.synthetic import SceneSpec, render_scene, synthesize, writer
from tests.fakes.checks import fingerprint, verify
from tests.fakes.file_list import DEFECTS, FILE_LISTS, NAME_DEFECTS, entailed, write_fake_file_list

FORMATS = tuple(FILE_LISTS)
OPTIONS = [
    {},
    {"object_scale": 0.4, "languages": ("zh",)},
    {"multi_target": 0.3, "no_target": 0.3, "languages": ("en", "zh"), "expressions_per_image": 5},
]


draw = lru_cache(render_scene)  # the formats' tests hold the same scenes


def defects_of(fmt: str) -> list[str]:
    return [*DEFECTS, *(NAME_DEFECTS if fmt == "risbench" else ())]


# -------------------------------------------------------------------------------------------------------- the loaders


@pytest.mark.parametrize("fmt", FORMATS)
def test_samples_are_what_was_written(fmt, tmp_path):
    tree = write_fake_file_list(fmt, tmp_path, n_train=6)
    for split in SPLITS:
        dataset = open_split(fmt, tmp_path, split)
        assert (dataset.name, dataset.split) == (fmt, split)
        assert dataset.category_names == tuple(tree.form.categories)
        assert len(dataset) == len(tree.lines[split])
        for index, (name, text) in enumerate(tree.lines[split]):
            sample = dataset[index]
            assert (sample.sample_id, sample.expression) == (tree.form.stem(name), text)
            assert (sample.language, sample.n_targets, sample.read_rle) == ("en", None, None)
            np.testing.assert_array_equal(sample.read_image(), tree.images[name])
            mask_HW = sample.read_mask()
            assert mask_HW.dtype == bool
            np.testing.assert_array_equal(mask_HW, tree.masks[name])
        with pytest.raises(IndexError):
            dataset[len(dataset)]


@pytest.mark.parametrize("fmt", FORMATS)
def test_lines_are_read_as_the_format_says(fmt, tmp_path):
    tree = write_fake_file_list(fmt, tmp_path, n_train=4)
    one, two, three, four = (name for name, _ in tree.lines["train"])
    text = f"\ufeff{one}   The  big   bus  \r\n\n{two}\tvan\u2028left\r{three} 左边的车\u3000右边\n"
    text += f"{one} a car I'm here\n{four} road\n\n \n"
    tree.path("train").write_bytes(text.encode())
    dataset = open_split(fmt, tmp_path, "train")
    expected = ["The big bus", "van\u2028left", "左边的车\u3000右边", "a car I'm here", "road"]
    assert [sample.expression for sample in dataset] == expected
    stems = [tree.form.stem(name) for name in (one, two, three)]
    ids = [*stems, f"{stems[0]}-2", tree.form.stem(four)]
    assert [sample.sample_id for sample in dataset] == ids, "the second line of a name is numbered"
    assert [sample.language for sample in dataset] == ["en", "en", "zh", "en", "en"]
    np.testing.assert_array_equal(dataset[3].read_mask(), tree.masks[one])


@pytest.mark.parametrize("fmt", FORMATS)
def test_foreground_lies_above_fifty(fmt, tmp_path):
    tree = write_fake_file_list(fmt, tmp_path)
    name = tree.lines["train"][0][0]
    Image.fromarray(np.array([[0, 50, 51, 255]], dtype=np.uint8)).save(tree.mask(name))
    assert open_split(fmt, tmp_path, "train")[0].read_mask().tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("fmt", FORMATS)
def test_expressions_without_a_category_are_counted_and_said(fmt, tmp_path):
    tree = write_fake_file_list(fmt, tmp_path)
    assert open_split(fmt, tmp_path, "train").notes == ()
    tree.lines["train"][2] = (tree.lines["train"][2][0], "the thing")
    tree.write()
    dataset = open_split(fmt, tmp_path, "train")
    assert [sample.category is None for sample in dataset] == [index == 2 for index in range(8)]
    assert "1 of 8 train expressions" in dataset.notes[0]


@pytest.mark.parametrize("fmt", FORMATS)
def test_an_open_split_can_be_pickled(fmt, tmp_path):
    write_fake_file_list(fmt, tmp_path)
    dataset = open_split(fmt, tmp_path, "train")
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own bytes
    sample = pickle.loads(pickle.dumps(copy[3]))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(sample.read_mask(), dataset[3].read_mask())
    assert sample.category == dataset[3].category


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(
    ("defect", "message"),
    [
        ("missing_image", "is missing"),
        ("missing_mask", "is missing"),
        ("empty_expression", "has no expression"),
        ("undecodable_text", "line 1, is not UTF-8"),
        ("id_in_two_splits", "is in the splits"),
    ],
)
def test_defects_stop_the_reader_with_a_hint_to_the_check(fmt, defect, message, tmp_path):
    write_fake_file_list(fmt, tmp_path, defects=[defect])
    with pytest.raises(UserError, match=message) as caught:
        open_split(fmt, tmp_path, "train")
    assert f"data verify {fmt} --data-root {tmp_path}" in str(caught.value)


@pytest.mark.parametrize("fmt", FORMATS)
def test_files_that_cannot_be_decoded_are_named(fmt, tmp_path):
    defects = ["truncated_image", "empty_image", "unsupported_image", "unreadable_mask"]
    tree = write_fake_file_list(fmt, tmp_path, n_train=12, defects=defects)
    samples = {sample.sample_id: sample for sample in open_split(fmt, tmp_path, "train")}
    for defect, sample_id in tree.defects.items():
        read = samples[sample_id].read_mask if defect == "unreadable_mask" else samples[sample_id].read_image
        with pytest.raises(UserError, match=rf"{sample_id}\.(tif|png)"):
            read()


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_numbered_id_that_is_also_a_name_is_refused(fmt, tmp_path):
    tree = write_fake_file_list(fmt, tmp_path)
    name = tree.lines["train"][0][0]
    stem = tree.form.stem(name)
    other = name.replace(stem, f"{stem}-2")
    for path in (tree.image, tree.mask):
        path(other).write_bytes(path(name).read_bytes())
    tree.lines["train"] += [(name, "a van"), (other, "a car")]
    tree.write()
    with pytest.raises(UserError, match=f"duplicate_id {stem}-2"):
        open_split(fmt, tmp_path, "train")
    found = [(finding.kind, finding.where) for finding in verify(fmt, tmp_path).errors]
    assert found == [("duplicate_id", f"{stem}-2")]


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_missing_dataset_says_where_from_where_to_and_how_to_point_elsewhere(fmt, tmp_path):
    form = FILE_LISTS[fmt]
    for call in (lambda: open_split(fmt, tmp_path, "train"), lambda: verify(fmt, tmp_path)):
        with pytest.raises(UserError) as caught:
            call()
        for part in (form.source, form.tree, "output_phrase_train.txt", "data.root=", str(tmp_path)):
            assert part in str(caught.value)


@pytest.mark.parametrize("fmt", FORMATS)
def test_one_split_is_enough_to_open_it(fmt, tmp_path):
    tree = write_fake_file_list(fmt, tmp_path)
    tree.path("train").unlink()
    assert len(open_split(fmt, tmp_path, "test")) == 4
    tree.path("test").write_text("\n")
    with pytest.raises(UserError, match="empty_split test"):
        open_split(fmt, tmp_path, "test")


# -------------------------------------------------------------------------------------------------------------- masks


def test_masks_of_other_kinds_are_read_as_greys_or_refused(tmp_path):
    level_HW = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    path = tmp_path / "mask.png"
    black_white = Image.fromarray((level_HW > 0).astype(np.uint8), mode="P")
    black_white.putpalette([0, 0, 0, 255, 255, 255])
    for image in (Image.fromarray(level_HW > 0), Image.merge("RGB", [Image.fromarray(level_HW)] * 3), black_white):
        image.save(path)
        np.testing.assert_array_equal(read_levels(path), level_HW)
        np.testing.assert_array_equal(read_mask(path, ABOVE), level_HW > 0)
    red = black_white.copy()
    red.putpalette([0, 0, 0, 128, 0, 0])
    clear = Image.merge("LA", [Image.fromarray(level_HW), Image.fromarray(level_HW)])
    for image, message in (
        (red, "has colours"),
        (clear, "not opaque"),
        (Image.fromarray(level_HW.astype(np.uint16) * 257), "more than 8 bits"),
        (Image.fromarray(level_HW // 255), "grey levels 0, 1"),
    ):
        image.save(path)
        with pytest.raises(UserError, match=message) as caught:
            read_mask(path, ABOVE)
        assert str(path) in str(caught.value)
    Image.fromarray(level_HW * 0).save(path)
    assert not read_mask(path, ABOVE).any()


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's own, before it gives up
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "packbits"])
def test_a_tiff_cut_anywhere_is_refused_by_name(compression, tmp_path):
    path = tmp_path / "1361.tif"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **({"compression": compression} if compression else {}))
    np.testing.assert_array_equal(read_levels(path), pixels)
    data = path.read_bytes()
    for length in range(0, len(data) - 4, 3):  # the last four bytes say that no further page follows
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"1361\.tif"):
            read_levels(path)


# ---------------------------------------------------------------------------------------------------------- the check


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_sound_tree_has_no_finding(fmt, tmp_path):
    write_fake_file_list(fmt, tmp_path)
    report = verify(fmt, tmp_path, {"train": 8, "val": 4, "test": 4})
    assert report.findings == []
    assert report.index.counts == {"train": 8, "val": 4, "test": 4}


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_defect_is_listed_in_one_pass(fmt, tmp_path):
    tree = write_fake_file_list(fmt, tmp_path, n_train=60, defects=defects_of(fmt))
    report = verify(fmt, tmp_path)
    found = sorted((finding.kind, finding.where) for finding in report.findings)
    assert found == sorted([*tree.defects.items(), *entailed(tree)])
    for finding in report.findings:
        assert finding.severity == ("error" if DEFECTS.get(finding.kind, False) else "warning"), finding
    assert not report.ok


@pytest.mark.parametrize(("fmt", "defect"), [(fmt, defect) for fmt in FORMATS for defect in defects_of(fmt)])
def test_each_defect_alone_gives_its_own_finding_only(fmt, defect, tmp_path):
    tree = write_fake_file_list(fmt, tmp_path, defects=[defect])
    report = verify(fmt, tmp_path)
    found = sorted((finding.kind, finding.where) for finding in report.findings)
    assert found == sorted([(defect, tree.defects[defect]), *entailed(tree)])
    assert report.ok != DEFECTS.get(defect, False)


# --------------------------------------------------------------------------------------------------- fingerprint, way


@pytest.mark.parametrize("fmt", FORMATS)
def test_pictures_masks_and_words_change_the_fingerprint(fmt, tmp_path):
    tree = write_fake_file_list(fmt, tmp_path)
    seen = {fingerprint(fmt, tmp_path)}
    name = tree.lines["val"][0][0]
    Image.fromarray(np.roll(tree.masks[name], 1, axis=1).astype(np.uint8) * 255).save(tree.mask(name))
    seen.add(fingerprint(fmt, tmp_path, tmp_path / "cache"))
    Image.fromarray(255 - tree.images[name]).save(tree.image(name))
    seen.add(fingerprint(fmt, tmp_path, tmp_path / "cache"))
    tree.lines["val"][0] = (name, "the road")
    tree.write()
    seen.add(fingerprint(fmt, tmp_path, tmp_path / "cache"))
    assert len(seen) == 4


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("fmt", FORMATS)
def test_scenes_come_back_bit_for_bit(fmt, options, tmp_path, monkeypatch):
    """What the generator drew is held against what the loader reads: 20 scenes."""
    monkeypatch.setattr(writer, "render_scene", draw)
    spec = SceneSpec(**{"train": 16, "val": 2, "test": 2, "size": 96, "expressions_per_image": 3, "seed": 3, **options})
    synthesize(spec, tmp_path / "out", fmt, workers=1, progress=False)
    ids, empty, chinese = set(), 0, 0
    for split in SPLITS:
        dataset = open_split(fmt, tmp_path / "out", split)
        scenes = [draw(spec, split, index) for index in range(spec.scenes(split))]
        drawn = [(number, scene, each) for number, scene in enumerate(scenes) for each in scene.expressions]
        assert len(dataset) == len(drawn)
        groups = {}
        for sample, (number, scene, expression) in zip(dataset, drawn, strict=True):
            assert sample.expression == expression.text
            assert sample.language == expression.language
            np.testing.assert_array_equal(sample.read_mask(), scene.target_HW(expression))
            np.testing.assert_array_equal(sample.read_image(), scene.image_HW3)
            assert groups.setdefault(sample.image_id, number) == number, "an image_id is one scene's"
            ids.add(sample.sample_id)
            empty += not expression.targets
            chinese += expression.language == "zh"
        assert len(groups) == len(scenes), "a scene has one image_id"
    assert len(ids) == 20 * spec.expressions_per_image, "ids are unique over the splits"
    assert bool(empty) == bool(spec.no_target)
    assert bool(chinese) == ("zh" in spec.languages)
    assert verify(fmt, tmp_path / "out").ok


def test_verify_names_the_known_defects_of_risbench(tmp_path, capsys):
    write_fake_file_list("risbench", tmp_path)
    cli.main(["data", "verify", "risbench", "--data-root", str(tmp_path)])
    out = capsys.readouterr().out
    assert "the mask of test_3096_0 is empty, and two test samples share one mask" in out
