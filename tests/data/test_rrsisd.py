import pickle

import numpy as np
import pytest
from PIL import Image

from rrsis_bench.data.formats import known_formats, open_split
from rrsis_bench.data.formats.rrsisd.dataset import CATEGORIES, instances_path, refs_path
from rrsis_bench.errors import UserError
from tests.fakes.rrsisd import write_fake_rrsisd


def test_samples_are_what_was_written(tmp_path):
    tree = write_fake_rrsisd(tmp_path, n_train=6, n_val=4, n_test=3)
    for split, count in (("train", 6), ("val", 4), ("test", 3)):
        dataset = open_split("rrsisd", tmp_path, split)
        refs = [ref for ref in tree.refs if ref["split"] == split]
        assert len(dataset) == len(refs) == count
        assert (dataset.name, dataset.split, dataset.category_names) == ("rrsisd", split, CATEGORIES)
        for index, ref in enumerate(refs):
            sample = dataset[index]
            assert sample.sample_id == f"{ref['ref_id']:05d}"
            assert sample.expression == ref["sentences"][0]["raw"]
            assert sample.category == CATEGORIES[ref["category_id"]]
            assert (sample.language, sample.n_targets) == ("en", 1)
            mask_HW, image_HWC = sample.read_mask(), sample.read_image()
            assert mask_HW.dtype == bool
            np.testing.assert_array_equal(mask_HW, tree.masks[ref["ref_id"]])
            with Image.open(tree.image(ref)) as image:
                np.testing.assert_array_equal(image_HWC, np.asarray(image))
            assert image_HWC.dtype == np.uint8


def test_sample_ids_are_unique_over_the_splits(tmp_path):
    write_fake_rrsisd(tmp_path)
    ids = [sample.sample_id for split in ("train", "val", "test") for sample in open_split("rrsisd", tmp_path, split)]
    assert len(ids) == len(set(ids)) == 16


def test_image_ids_group_equal_files_and_only_those(tmp_path):
    tree = write_fake_rrsisd(tmp_path, n_train=9, per_image=3)
    # A fourth picture of exactly the size of the first one, with other bytes: a group by size would merge them.
    first, other = (tree.image(tree.refs[i]) for i in (0, 8))
    other.write_bytes(first.read_bytes()[:-1] + bytes([first.read_bytes()[-1] ^ 1]))
    dataset = open_split("rrsisd", tmp_path, "train")
    ids = [dataset[i].image_id for i in range(9)]
    assert ids == ["00000"] * 3 + ["00003"] * 3 + ["00006"] * 2 + ["00008"]


def test_the_index_is_small_picklable_and_without_pixels(tmp_path):
    write_fake_rrsisd(tmp_path)
    dataset = pickle.loads(pickle.dumps(open_split("rrsisd", tmp_path, "train")))  # noqa: S301 - our own bytes
    assert len(pickle.dumps(dataset)) < 20_000
    sample = pickle.loads(pickle.dumps(dataset[3]))  # noqa: S301 - our own bytes
    np.testing.assert_array_equal(sample.read_mask(), dataset[3].read_mask())
    assert sample.read_image().shape == (64, 64, 3)
    with pytest.raises(IndexError):
        dataset[8]


def test_native_size_is_the_masks_and_may_differ_from_the_pictures(tmp_path):
    tree = write_fake_rrsisd(tmp_path, defects=["size_differs"])
    sample = open_split("rrsisd", tmp_path, "train")[int(tree.defects["size_differs"])]
    assert sample.read_image().shape == (65, 64, 3)
    assert sample.read_mask().shape == (64, 64)


def test_an_empty_mask_is_a_sample_without_target(tmp_path):
    tree = write_fake_rrsisd(tmp_path, defects=["empty_mask"])
    sample = open_split("rrsisd", tmp_path, "train")[int(tree.defects["empty_mask"])]
    assert sample.n_targets == 0
    assert not sample.read_mask().any()


def test_language_follows_the_script(tmp_path):
    tree = write_fake_rrsisd(tmp_path, defects=["non_ascii_expression"])
    languages = [sample.language for sample in open_split("rrsisd", tmp_path, "train")]
    assert languages.index("zh") == int(tree.defects["non_ascii_expression"])
    assert languages.count("zh") == 1


def test_area_and_boxes_are_not_used(tmp_path):
    tree = write_fake_rrsisd(tmp_path)
    for row in tree.instances["annotations"]:
        row.update(area=-1, bbox=None)
        row["segmentation"] = row["segmentation"][0]  # a bare dict is read as well
    tree.write()
    np.testing.assert_array_equal(open_split("rrsisd", tmp_path, "train")[0].read_mask(), tree.masks[0])


@pytest.mark.parametrize(
    ("defect", "message"),
    [
        ("missing_image", r"00000\.jpg is missing"),
        ("duplicate_id", "2 times"),
        ("id_in_two_splits", "train, val"),
        ("unknown_category", "category_id 77"),
        ("missing_annotation", "no annotation 999999"),
        ("empty_expression", "no sentence"),
        ("several_sentences", "2 sentences"),
        ("unreadable_mask", "run"),
    ],
)
def test_defects_stop_the_reader_with_a_hint_to_the_check(tmp_path, defect, message):
    write_fake_rrsisd(tmp_path, defects=[defect])
    with pytest.raises(UserError, match=message) as caught:
        open_split("rrsisd", tmp_path, "train")
    assert "data verify rrsisd --data-root" in str(caught.value)


@pytest.mark.parametrize("defect", ["empty_image", "truncated_image"])
def test_a_picture_that_cannot_be_decoded_is_named(tmp_path, defect):
    tree = write_fake_rrsisd(tmp_path, defects=[defect])
    sample = open_split("rrsisd", tmp_path, "train")[int(tree.defects[defect])]
    with pytest.raises(UserError, match=f"{tree.defects[defect]}.jpg"):
        sample.read_image()


def test_a_missing_dataset_says_where_from_where_to_and_how_to_point_elsewhere(tmp_path):
    root = tmp_path / "nowhere"
    with pytest.raises(UserError) as caught:
        open_split("rrsisd", root, "train")
    message = str(caught.value)
    for part in ("VoyageWang/rrsis-d", "RMSIN", "JPEGImages", "refs(unc).p", "instances.json", "data.root=", str(root)):
        assert part in message


def test_damaged_annotation_files_are_named(tmp_path):
    tree = write_fake_rrsisd(tmp_path)
    instances_path(tmp_path).write_text(instances_path(tmp_path).read_text()[:-40])
    with pytest.raises(UserError, match=r"instances\.json is truncated"):
        open_split("rrsisd", tmp_path, "train")
    tree.write()
    instances_path(tmp_path).write_text("[]")
    with pytest.raises(UserError, match="does not hold"):
        open_split("rrsisd", tmp_path, "train")
    tree.write()
    refs_path(tmp_path).write_bytes(pickle.dumps({"refs": []}))
    with pytest.raises(UserError, match="list of references"):
        open_split("rrsisd", tmp_path, "train")


def test_unknown_formats_and_splits_are_refused(tmp_path):
    write_fake_rrsisd(tmp_path, n_val=0)
    assert "rrsisd" in known_formats()
    with pytest.raises(UserError, match="Did you mean rrsisd"):
        open_split("rrsis-d", tmp_path, "train")
    with pytest.raises(UserError, match="train, val, test"):
        open_split("rrsisd", tmp_path, "testA")
    with pytest.raises(UserError, match="empty_split val"):
        open_split("rrsisd", tmp_path, "val")
