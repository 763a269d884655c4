"""One schema per annotation file: what verify accepts also opens, and every reader refuses the same by name."""

from __future__ import annotations

import codecs
import io

import numpy as np
import pytest
from PIL import Image

from rrsis_bench.data.checks.verify import verify
from rrsis_bench.data.formats import read_index
from rrsis_bench.data.formats.masks import FileMask
from rrsis_bench.data.formats.rrsisd.dataset import images_dir, instances_path
from rrsis_bench.data.pixels.mask_files import ABOVE
from rrsis_bench.errors import UserError
from tests.fakes.rrsisd import write_fake_rrsisd


def refused(tree) -> str:
    tree.write()
    with pytest.raises(UserError) as caught:
        read_index("rrsisd", tree.root, {})
    return str(caught.value)


@pytest.mark.parametrize(
    "value",
    [None, "", [3], True, 3.5, -1, 10**30, 10**5000],
    ids=lambda value: f"{value!r:.6}" if value != 10**5000 else "huge",
)
@pytest.mark.parametrize("field", ["ref_id", "ann_id", "category_id"])
def test_an_id_of_a_reference_that_is_none_is_named(tmp_path, field, value):
    tree = write_fake_rrsisd(tmp_path)
    tree.refs[1][field] = value
    message = refused(tree)
    assert field in message
    assert "refs(unc).p" in message


@pytest.mark.parametrize("kind", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, [3], True, 3.5], ids=str)
def test_an_id_of_a_record_that_is_none_is_named(tmp_path, kind, value):
    tree = write_fake_rrsisd(tmp_path)
    tree.instances[kind][1]["id"] = value
    message = refused(tree)
    assert kind in message
    assert "has id" in message
    del tree.instances[kind][1]["id"]
    assert "has id" in refused(tree)


@pytest.mark.parametrize("value", [None, 7, "", ["ship"]], ids=str)
def test_a_category_without_a_name_is_named(tmp_path, value):
    tree = write_fake_rrsisd(tmp_path)
    tree.instances["categories"][2]["name"] = value
    assert "'name'" in refused(tree)
    del tree.instances["categories"][2]["name"]
    assert "'name'" in refused(tree)


@pytest.mark.parametrize("again", [{"id": 0}, {"name": "airplane"}], ids=str)
def test_two_categories_of_one_id_or_name_are_refused(tmp_path, again):
    tree = write_fake_rrsisd(tmp_path)
    tree.instances["categories"][3] |= again
    assert "twice" in refused(tree)


def test_ids_that_are_texts_open_as_verify_says(tmp_path):
    """ref_id "a12": verify and the run give the same sample."""
    tree = write_fake_rrsisd(tmp_path)
    tree.refs[0]["ref_id"] = "a12"
    tree.write()
    index = read_index("rrsisd", tmp_path, {})
    assert verify(index).ok
    assert index.rows["train"][0].sample_id == "a12"
    assert index.rows["train"][0].mask.read().tolist() == tree.masks[0].tolist()


def test_two_ids_that_are_written_alike_are_named(tmp_path):
    tree = write_fake_rrsisd(tmp_path)
    tree.refs[0]["ref_id"] = "00001"  # the suite's id of the number 1
    tree.write()
    assert [f.kind for f in read_index("rrsisd", tmp_path, {}).findings] == ["duplicate_id"]


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE], ids=str)
def test_instances_with_a_byte_order_mark_are_read(tmp_path, mark):
    tree = write_fake_rrsisd(tmp_path)
    path = instances_path(tmp_path)
    encoding = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le"}.get(mark, "utf-16-be")
    path.write_bytes(mark + path.read_text().encode(encoding))
    index = read_index("rrsisd", tmp_path, {})
    assert (len(index.rows["train"]), index.findings) == (len(tree.refs) - 8, [])


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"images": ' + b"[" * 200_000, b"\xff\xfe{", b"1" * 5000])
def test_nested_and_damaged_json_is_a_sentence(tmp_path, content):
    write_fake_rrsisd(tmp_path)
    instances_path(tmp_path).write_bytes(content)
    with pytest.raises(UserError, match="instances.json"):
        read_index("rrsisd", tmp_path, {})


def test_rrsisd_reads_polygons_and_plain_run_lengths(tmp_path):
    tree = write_fake_rrsisd(tmp_path)
    mask_HW = np.zeros((64, 64), dtype=bool)
    mask_HW[8:20, 4:16] = True
    first, second, third = tree.instances["annotations"][:3]
    first["segmentation"] = [[4, 8, 16, 8, 16, 20, 4, 20]]
    edges = np.flatnonzero(np.diff(np.r_[0, mask_HW.T.reshape(-1)]) != 0)
    second["segmentation"] = {"size": [64, 64], "counts": np.diff(np.r_[0, edges, mask_HW.size]).tolist()}
    third["segmentation"] = []  # this dataset has no no-target expressions
    tree.write()
    index = read_index("rrsisd", tmp_path, {})
    rows = index.rows["train"][:2]
    assert rows[0].mask.read().tolist() == rows[1].mask.read().tolist() == mask_HW.tolist()
    assert [row.n_targets for row in rows] == [1, 1]
    assert [(f.kind, f.where) for f in verify(index).errors] == [("unreadable_mask", "00002")]


def test_files_that_no_reference_names_are_listed(tmp_path):
    write_fake_rrsisd(tmp_path)
    (images_dir(tmp_path) / "99999.jpg").write_bytes(b"x")
    found = [f for f in read_index("rrsisd", tmp_path, {}).findings if f.kind == "unused_file"]
    assert [f.severity for f in found] == ["warning"]
    assert "99999.jpg" in found[0].message


def test_a_blurred_mask_has_the_same_answer_in_verify_and_in_a_run(tmp_path):
    """The authors' loaders take every level above 50. Verify warns, and counts the same pixels."""
    path = tmp_path / "mask.png"
    level_HW = np.zeros((32, 32), dtype=np.uint8)
    level_HW[8:20, 8:20] = 255
    blurred = io.BytesIO()
    Image.fromarray(level_HW).save(blurred, "JPEG", quality=50)
    Image.open(blurred).save(path)
    mask = FileMask(str(path), ABOVE)
    assert [kind for kind, _ in mask.check().warnings] == ["grey_levels"]
    assert (mask.check().error, mask.check().area) == (None, int(mask.read().sum()))
    Image.fromarray((level_HW // 255) + 3).save(path)  # all background
    assert mask.check().error is not None
    with pytest.raises(UserError, match="grey levels"):
        mask.read()
    assert FileMask(str(path)).check().error is not None
    with pytest.raises(UserError, match="grey levels"):
        FileMask(str(path)).read()
