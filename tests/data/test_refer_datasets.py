"""RRSIS-HR and RIS-LAD: RRSIS-D's layout under other names, read without a copy at hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from rrsis_bench import registry
from rrsis_bench.config import cards
from rrsis_bench.data.checks.verify import verify
from rrsis_bench.data.formats import open_split, read_index
from rrsis_bench.data.formats.index import DIFFERS
from rrsis_bench.errors import UserError
from rrsis_bench.synthetic import SceneSpec, synthesize
from tests.fakes.rrsisd import rename, write_fake_rrsisd

FOLDERS = {"rrsis_hr": "rrsishr", "ris_lad": "rislad"}


def differences(index):
    return {finding.where: finding.message for finding in index.findings if finding.kind == DIFFERS}


@pytest.fixture(params=FOLDERS)
def fmt(request):
    return request.param


@pytest.fixture
def copy(fmt, tmp_path):
    """A small copy with RRSIS-D's twenty categories and masks of 64 px."""
    tree = write_fake_rrsisd(tmp_path)
    rename(tmp_path, FOLDERS[fmt])
    return tree


def edit(tree, folder, change):
    """Apply `change` to the references and the instances, and write them below `folder`."""
    change(tree.refs, tree.instances)
    tree.write()
    for name in ("refs(unc).p", "instances.json"):
        (tree.root / "rrsisd" / name).rename(tree.root / folder / name)
    (tree.root / "rrsisd").rmdir()


def test_samples_are_those_of_the_files(fmt, copy):
    for split in ("train", "val", "test"):
        dataset = open_split(fmt, copy.root, split)
        refs = [ref for ref in copy.refs if ref["split"] == split]
        assert [sample.sample_id for sample in dataset] == [f"{ref['ref_id']:05d}" for ref in refs]
        assert [sample.expression for sample in dataset] == [ref["sentences"][0]["raw"] for ref in refs]
        np.testing.assert_array_equal(dataset[1].read_mask(), copy.masks[refs[1]["ref_id"]])
        assert dataset[0].read_image().shape == (64, 64, 3)
        assert dataset[0].image_id == dataset[1].image_id  # one picture, stored twice


def test_what_differs_from_the_description_is_named(fmt, copy):
    found = differences(read_index(fmt, copy.root))
    if fmt == "rrsis_hr":
        assert set(found) == {"categories", "sizes"}
        assert "20" in found["categories"]
        assert "7" in found["categories"]
        assert "16 masks are not 1024 x 1024" in found["sizes"]
        assert "64 x 64" in found["sizes"]
    else:
        assert found == {"references": "16, the authors count 13,871"}
    report = verify(read_index(fmt, copy.root), cards.data_config(fmt).counts)
    assert report.ok
    assert any(finding.kind == DIFFERS for finding in report.warnings)
    assert any(finding.kind == "count" for finding in report.warnings) == (fmt == "rrsis_hr")


def test_rrsis_d_itself_has_no_such_finding(tmp_path):
    write_fake_rrsisd(tmp_path)
    assert differences(read_index("rrsisd", tmp_path)) == {}
    (tmp_path / "rrsisd").rename(tmp_path / "rrsis-d")
    with pytest.raises(UserError, match="RRSIS-D was not found"):
        read_index("rrsisd", tmp_path)


def test_every_sentence_of_a_reference_is_a_sample(fmt, copy):
    def two_sentences(refs, _):
        refs[0]["sentences"].append({"raw": "another sentence"})

    edit(copy, FOLDERS[fmt], two_sentences)
    index = read_index(fmt, copy.root)
    assert [row.sample_id for row in index.rows["train"]][:3] == ["00000-0", "00000-1", "00001"]
    assert index.rows["train"][1].expression == "another sentence"
    assert index.counts["train"] == len(index.rows["train"]) == 9
    assert "1 references have several sentences" in differences(index)["sentences"]


@pytest.mark.parametrize("images", ["images/other/JPEGImages", "images/JPEGImages", "JPEGImages", "images"])
def test_other_names_of_folders_and_files_are_read_and_named(fmt, copy, images):
    root, folder = copy.root, FOLDERS[fmt]
    (root / folder).rename(root / "other")
    (root / "other" / "refs(unc).p").rename(root / "other" / "refs(lad).p")
    pictures = (root / "images" / folder / "JPEGImages").rename(root / "moved")
    (root / "images" / folder).rmdir()
    (root / "images").rmdir()
    (root / images).parent.mkdir(parents=True, exist_ok=True)
    pictures.rename(root / images)
    index = read_index(fmt, root)
    assert len(index.rows["train"]) == 8
    said = [finding.message for finding in index.findings if finding.where == "files"]
    assert any("'other/' stands where" in message for message in said)
    assert any("'refs(lad).p' stands where 'refs(unc).p'" in message for message in said)
    assert any(f"'{images}/' stands where" in message for message in said)


def test_both_spellings_of_the_category_s_key_are_read(fmt, copy):
    def plain_key(_, instances):
        for row in instances["annotations"]:
            row["category_id"] = row.pop("categories_id")

    edit(copy, FOLDERS[fmt], plain_key)
    assert not [finding for finding in read_index(fmt, copy.root).findings if finding.severity == "error"]


def test_two_folders_of_annotations_are_not_guessed_between(fmt, copy):
    (copy.root / FOLDERS[fmt]).rename(copy.root / "one")
    (copy.root / "two").mkdir()
    (copy.root / "two" / "refs(unc).p").write_bytes((copy.root / "one" / "refs(unc).p").read_bytes())
    with pytest.raises(UserError, match=f"{FOLDERS[fmt]}/refs"):
        read_index(fmt, copy.root)


def test_the_layout_that_ris_lad_s_readme_suggests_is_refused_with_a_way_out(tmp_path):
    for name in ("images", "masks", "ann"):
        (tmp_path / name).mkdir()
    (tmp_path / "ann" / "train.json").write_text(json.dumps([]))
    with pytest.raises(UserError, match=r"ann/\*.json.*data=custom"):
        read_index("ris_lad", tmp_path)


def test_a_synthetic_copy_is_in_the_dataset_s_layout(fmt, tmp_path):
    spec = SceneSpec(train=1, val=1, test=1, size=96, expressions_per_image=2, seed=0)
    synthesize(spec, tmp_path / "out", fmt, workers=1, progress=False)
    assert (tmp_path / "out" / FOLDERS[fmt] / "refs(unc).p").is_file()
    index = read_index(fmt, tmp_path / "out")
    assert [len(index.rows[split]) for split in ("train", "val", "test")] == [2, 2, 2]
    assert verify(index).ok


def test_the_card_says_what_is_inferred(fmt):
    card = yaml.safe_load((registry.ROOT / "conf" / "data" / f"{fmt}.yaml").read_text())["card"]
    assert "without a copy" in " ".join(card["defects"])
    assert card["licence"]
