import os
import shutil

import numpy as np
import pytest

from rrsis_bench.data.checks import fingerprint as module
from rrsis_bench.data.checks.fingerprint import hash_files
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.errors import UserError
from tests.fakes.checks import fingerprint
from tests.fakes.rrsisd import write_fake_rrsisd


def _rename(tree):
    tree.refs[0]["sentences"][0]["raw"] += "."


def _move_split(tree):
    tree.refs[7]["split"] = "val"  # the last of train before the first of val: the order of the ids stays


def _change_id(tree):
    tree.refs[0]["ref_id"] = 500


def _change_category(tree):
    tree.refs[0]["category_id"] = tree.instances["annotations"][0]["categories_id"] = 0


def _change_mask(tree):
    mask_HW = tree.masks[0].copy()
    mask_HW[-1, -1] = True
    tree.instances["annotations"][0]["segmentation"][0]["counts"] = masks.encode(mask_HW)["counts"].decode()


def _change_image(tree):
    data = bytearray(tree.image(tree.refs[0]).read_bytes())
    data[-1] ^= 1
    tree.image(tree.refs[0]).write_bytes(data)


def _drop(tree):
    del tree.refs[0]


@pytest.mark.parametrize(
    "change", [_rename, _move_split, _change_id, _change_category, _change_mask, _change_image, _drop]
)
def test_every_part_of_the_data_changes_it(tmp_path, change):
    tree = write_fake_rrsisd(tmp_path)
    before = fingerprint("rrsisd", tmp_path)
    assert fingerprint("rrsisd", tmp_path) == before
    change(tree)
    tree.write()
    assert fingerprint("rrsisd", tmp_path) != before


def test_place_order_and_dates_do_not_change_it(tmp_path):
    tree = write_fake_rrsisd(tmp_path / "a")
    before = fingerprint("rrsisd", tmp_path / "a")
    tree.refs.reverse()
    tree.write(protocol=4)
    shutil.move(tmp_path / "a", tmp_path / "b")
    for path in (tmp_path / "b").rglob("*.jpg"):
        os.utime(path, (1, 1))
    assert fingerprint("rrsisd", tmp_path / "b") == before


def test_the_cache_saves_reading_and_notices_changed_files(tmp_path, monkeypatch):
    tree = write_fake_rrsisd(tmp_path / "data")
    cache = tmp_path / "cache"
    before = fingerprint("rrsisd", tmp_path / "data", cache)
    assert before == fingerprint("rrsisd", tmp_path / "data")

    read = []
    real = module.sha256_file
    monkeypatch.setattr(module, "sha256_file", lambda path: read.append(path) or real(path))
    paths = [tree.image(ref) for ref in tree.refs]
    hash_files(paths, cache)
    assert read == []
    data = bytearray(paths[0].read_bytes())
    data[-1] ^= 1
    stat = paths[0].stat()
    paths[0].write_bytes(data)
    os.utime(paths[0], ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))  # same size, one nanosecond later
    changed = hash_files(paths, cache)
    assert read == [paths[0]]
    assert changed[paths[0]] != changed[paths[1]]
    monkeypatch.undo()
    assert fingerprint("rrsisd", tmp_path / "data", cache) != before


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"x": 1}'])
def test_a_damaged_cache_is_written_anew(tmp_path, damage):
    write_fake_rrsisd(tmp_path / "data")
    before = fingerprint("rrsisd", tmp_path / "data", tmp_path / "cache")
    store = tmp_path / "cache" / "image_hashes.json"
    good = store.read_text()
    store.write_text(damage)
    assert fingerprint("rrsisd", tmp_path / "data", tmp_path / "cache") == before
    assert store.read_text() == good
    assert list(store.parent.iterdir()) == [store]  # no temporary file stays


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(UserError, match=r"absent\.jpg"):
        hash_files([tmp_path / "absent.jpg"])


def test_masks_of_one_area_differ(tmp_path):
    """The bytes of the mask count, not a summary of it."""
    tree = write_fake_rrsisd(tmp_path)
    before = fingerprint("rrsisd", tmp_path)
    moved_HW = np.roll(tree.masks[0], 1, axis=1)
    tree.instances["annotations"][0]["segmentation"][0]["counts"] = masks.encode(moved_HW)["counts"].decode()
    tree.write()
    assert fingerprint("rrsisd", tmp_path) != before
