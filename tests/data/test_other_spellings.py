"""Files as people unpack and list them: a folder deeper, other capitals, suffixes, backslashes, JSON arrays."""

from __future__ import annotations

import json
import shutil

import pytest

from rrsis_bench.data.formats import read_index
from rrsis_bench.data.formats.index import natural
from rrsis_bench.data.formats.rrsisd.dataset import images_dir
from rrsis_bench.errors import UserError
from tests.fakes.file_list import write_fake_file_list
from tests.fakes.rrsisd import write_fake_rrsisd


def sound(fmt, root, count) -> None:
    index = read_index(fmt, root, {})
    assert [(finding.kind, finding.where) for finding in index.findings] == []
    assert len(list(index.all_rows())) == count
    assert all(row.image and row.mask.read().any() for row in index.all_rows())


def deeper(folder) -> None:
    inner = folder.rename(folder.with_name("inner"))
    folder.mkdir()
    inner.rename(folder / folder.name)


@pytest.mark.parametrize(("fmt", "folders"), [("refsegrs", ("images", "masks")), ("risbench", ("img_rgb", "mask"))])
def test_a_folder_deeper_and_other_capitals(fmt, folders, tmp_path):
    write_fake_file_list(fmt, tmp_path)
    for folder in folders:
        deeper(tmp_path / folder)
    sound(fmt, tmp_path, 16)
    for path in list((tmp_path / folders[0] / folders[0]).iterdir()):
        path.rename(path.with_suffix(path.suffix.upper()))
    sound(fmt, tmp_path, 16)


@pytest.mark.parametrize("spelling", ["{}.tif", "{}.TIF", "images/{}", "images/{}.tif", "images\\{}"])
def test_list_entries_with_suffix_or_folder(spelling, tmp_path):
    tree = write_fake_file_list("refsegrs", tmp_path)
    before = [row.sample_id for row in read_index("refsegrs", tmp_path, {}).all_rows()]
    tree.lines = {split: [(spelling.format(name), text) for name, text in lines] for split, lines in tree.lines.items()}
    tree.write()
    sound("refsegrs", tmp_path, 16)
    assert [row.sample_id for row in read_index("refsegrs", tmp_path, {}).all_rows()] == before


def test_a_name_in_another_folder_is_missing_with_what_is_there(tmp_path):
    tree = write_fake_file_list("refsegrs", tmp_path)
    name, text = tree.lines["train"][0]
    tree.lines["train"][0] = (f"others/{name}", text)
    tree.write()
    found = next(f for f in read_index("refsegrs", tmp_path, {}).findings if f.kind == "missing_image")
    assert f"others/{name}" in found.message
    assert "holds" in found.message
    assert ".tif" in found.message


def test_rrsisd_unpacked_in_other_ways(tmp_path):
    write_fake_rrsisd(tmp_path)
    folder = images_dir(tmp_path)
    deeper(folder)
    sound("rrsisd", tmp_path, 16)
    shutil.move(folder / "JPEGImages", tmp_path / "images" / "JPEGImages")
    shutil.rmtree(tmp_path / "images" / "rrsisd")
    for path in list(images_dir(tmp_path).iterdir()):
        path.rename(path.with_suffix(".JPG"))
    sound("rrsisd", tmp_path, 16)


def test_other_forms_of_own_data_are_named(tmp_path):
    line = {"image": "images\\1.png", "expression": "a", "mask": [[1, 1, 6, 1, 6, 6]]}
    for split in ("train", "val", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(line))
    messages = " ".join(finding.message for finding in read_index("custom", tmp_path, {}).findings)
    assert "images/1.png" in messages
    assert "COCO" in messages
    (tmp_path / "train.jsonl").write_text(json.dumps([line], indent=1))
    with pytest.raises(UserError, match=r"train\.jsonl is one JSON array"):
        read_index("custom", tmp_path, {})


def test_natural_order():
    names = ["train.jsonl:10", "train.jsonl:2", "a", "10", "9", "train.jsonl:1", "²", ""]
    assert sorted(names, key=natural) == ["", "9", "10", "a", "train.jsonl:1", "train.jsonl:2", "train.jsonl:10", "²"]
