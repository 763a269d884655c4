"""Resized views on disk: the same pixels, found again only where picture and side are the same, whole or not at all."""

import copy
import multiprocessing
import os
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from rrsis_bench.data.checks.fingerprint import hash_files
from rrsis_bench.data.formats import open_split
from rrsis_bench.data.loading import loader
from rrsis_bench.data.loading.cache import SUFFIX, ViewCache
from rrsis_bench.data.loading.loader import ViewDataset, make_loader
from rrsis_bench.data.pixels.images import read_rgb, resize_bilinear
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import build_wordpiece
from rrsis_bench.errors import UserError
from tests.fakes.rrsisd import write_fake_rrsisd

SIDE = 32
N = 10  # samples, three in a row of one picture: four pictures
PICTURES = 4
ENTRY = 3 * SIDE * SIDE + 4
LARGE = 2**30
SHA = bytes(range(32))


@pytest.fixture
def tree(tmp_path):
    return write_fake_rrsisd(tmp_path / "data", n_train=N, per_image=3)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "views"


@pytest.fixture
def reads(monkeypatch):
    """The pictures that were decoded in this process."""
    seen = []
    plain = loader.read_image

    def counting(path, *rest):
        seen.append(os.path.basename(path))
        return plain(path, *rest)

    monkeypatch.setattr(loader, "read_image", counting)
    return seen


def views_of(tree, cache=None, side=SIDE, **options):
    dataset = open_split("rrsisd", tree.root, "train")
    text = TextPipeline(build_wordpiece([sample.expression for sample in dataset], 200), 14)
    return ViewDataset(dataset, {"image": side}, text, native_masks=False, view_cache=cache, **options)


def pixels(data, workers=0):
    """Views and targets of all samples, (n, 3, S, S) and (n, S, S)."""
    batches = list(make_loader(data, 4, num_workers=workers))
    return torch.cat([batch.views["image"] for batch in batches]), torch.cat([batch.target_BSS for batch in batches])


def entries(folder):
    return sorted(path for path in folder.rglob("*") if path.suffix == SUFFIX)


def view(seed, side=SIDE):
    return np.random.default_rng(seed).integers(0, 256, (3, side, side), dtype=np.uint8)


def test_pixels_are_the_same_without_it_when_it_fills_and_when_it_is_full(tree, folder, reads):
    expected_views, expected_targets = pixels(views_of(tree))
    assert not folder.exists()  # off: no file
    plainly = [resize_bilinear(read_rgb(tree.image(ref)), SIDE) for ref in tree.refs[:N]]
    np.testing.assert_array_equal(expected_views.numpy(), np.stack(plainly))
    for decoded in (PICTURES, 0, 0):
        reads.clear()
        views, targets = pixels(views_of(tree, ViewCache(folder, LARGE)))
        assert torch.equal(views, expected_views)
        assert torch.equal(targets, expected_targets)
        assert len(reads) == decoded
    assert len(entries(folder)) == PICTURES
    assert all(path.stat().st_size == ENTRY for path in entries(folder))


def test_workers_share_it(tree, folder, reads):
    expected, _ = pixels(views_of(tree))
    cache = ViewCache(folder, LARGE)
    for _ in range(2):
        views, _ = pixels(views_of(tree, cache), workers=2)
        assert torch.equal(views, expected)
    assert len(entries(folder)) == PICTURES
    reads.clear()
    views, _ = pixels(views_of(tree, cache))
    assert torch.equal(views, expected)
    assert reads == []


def test_another_side_or_another_content_never_hits_and_a_copy_elsewhere_always(tree, folder, reads, tmp_path):
    pixels(views_of(tree, ViewCache(folder, LARGE)))
    reads.clear()
    other, _ = pixels(views_of(tree, ViewCache(folder, LARGE), side=24))
    assert len(reads) == PICTURES
    assert torch.equal(other, pixels(views_of(tree, side=24))[0])

    moved = write_fake_rrsisd(tmp_path / "elsewhere", n_train=N, per_image=3)
    reads.clear()
    pixels(views_of(moved, ViewCache(folder, LARGE)))
    assert reads == []

    # Another picture under the old name, of the old modification time and shown by one sample alone.
    path = tree.image(tree.refs[9])
    stamp = path.stat().st_mtime_ns
    Image.fromarray(255 - read_rgb(path)).save(path, quality=95)
    os.utime(path, ns=(stamp, stamp))
    views, _ = pixels(views_of(tree, ViewCache(folder, LARGE)))
    assert reads == ["00009.jpg"]
    np.testing.assert_array_equal(views[9].numpy(), resize_bilinear(read_rgb(path), SIDE))


def test_a_picture_that_changes_while_it_is_used_is_kept_under_its_own_hash(tree, folder):
    cache = ViewCache(folder, LARGE)
    data = views_of(tree, cache)  # has hashed the files
    path = tree.image(tree.refs[9])
    before = hash_files([path])[path][1]
    Image.fromarray(255 - read_rgb(path)).save(path, quality=95)
    after = hash_files([path])[path][1]
    _ = data[9]
    assert cache.get(bytes.fromhex(before), SIDE) is None
    np.testing.assert_array_equal(cache.get(bytes.fromhex(after), SIDE), resize_bilinear(read_rgb(path), SIDE))


def cut(path):
    path.write_bytes(path.read_bytes()[: ENTRY // 2])


def empty(path):
    path.write_bytes(b"")


def grown(path):
    path.write_bytes(path.read_bytes() + b"\0" * 4)


def flipped(path):
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


def zeroed(path):
    path.write_bytes(b"\0" * ENTRY)


def others(path):
    """Whole and sound, but another picture's."""
    path.write_bytes(next(other for other in entries(path.parents[2]) if other != path).read_bytes())


@pytest.mark.parametrize("spoil", [cut, empty, grown, flipped, zeroed, others])
def test_a_damaged_entry_is_noticed_and_written_anew(tree, folder, reads, spoil):
    cache = ViewCache(folder, LARGE)
    expected, _ = pixels(views_of(tree, cache))
    path = entries(folder)[0]
    whole = path.read_bytes()
    spoil(path)
    reads.clear()
    views, _ = pixels(views_of(tree, cache))
    assert torch.equal(views, expected)
    assert len(reads) == 1
    assert path.read_bytes() == whole


def test_a_damaged_entry_is_mended_in_a_full_cache_too(folder):
    cache = ViewCache(folder, ENTRY)
    cache.put(SHA, SIDE, view(0))
    with pytest.warns(UserWarning, match="is full"):
        cache.put(SHA[::-1], SIDE, view(1))
    flipped(entries(folder)[0])
    assert cache.get(SHA, SIDE) is None
    cache.put(SHA, SIDE, view(0))
    np.testing.assert_array_equal(cache.get(SHA, SIDE), view(0))


def test_the_bound_holds_over_runs_and_is_told_once(folder):
    for run in range(3):
        cache = ViewCache(folder, 5 * ENTRY + 100)
        workers = [copy.copy(cache), copy.copy(cache)]  # as forked: each counts for itself, what is shared stays shared
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for index in range(4):
                workers[index % 2].put(bytes([run, index]) * 16, SIDE, view(index))
        assert len(told) == (run > 0)
        assert len(entries(folder)) == (4, 5, 5)[run]
    assert "data.cache_gb" in str(told[0].message)
    assert cache.get(bytes([0, 0]) * 16, SIDE) is not None  # the first ones stay


def test_samples_that_are_ever_augmented_pass_it_by(tree, folder):
    cache = ViewCache(folder, LARGE)
    pixels(views_of(tree, cache, augment=[{"name": "black_boxes"}]))
    assert entries(folder) == []
    expected, _ = pixels(views_of(tree, cache, augment=[]))
    assert len(entries(folder)) == PICTURES
    half = {"augment": [{"name": "black_boxes", "share": 0.5}]}
    for epoch in range(2):
        cached, plain = views_of(tree, cache, **half), views_of(tree, **half)
        cached.set_epoch(epoch)
        plain.set_epoch(epoch)
        views, _ = pixels(cached)
        assert torch.equal(views, pixels(plain)[0])
        assert not torch.equal(views, expected)
    assert len(entries(folder)) == PICTURES


def _fill(folder, rounds):
    """Write and read the same 16 entries again and again; every reading must be whole or none."""
    cache = ViewCache(folder, LARGE)
    whole = [view(index) for index in range(16)]
    for _ in range(rounds):
        for index, expected_CSS in enumerate(whole):
            cache.put(bytes([index]) * 32, SIDE, expected_CSS)
            found_CSS = cache.get(bytes([index]) * 32, SIDE)
            if found_CSS is None or not np.array_equal(found_CSS, expected_CSS):
                raise SystemExit(f"entry {index} is damaged or gone")


def test_processes_that_write_the_same_entries_at_once_never_meet_a_damaged_one(folder):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fill, args=(folder, 60)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(entries(folder)) == 16
    assert not list(folder.rglob("*.tmp"))


def test_what_a_killed_process_left_is_removed_after_an_hour_and_a_living_ones_is_not(folder):
    ViewCache(folder, LARGE)
    (views,) = folder.glob("views-*")
    old, new = views / "1-ab.tmp", views / "2-cd.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    ViewCache(folder, LARGE).put(SHA, SIDE, view(0))
    assert [old.exists(), new.exists()] == [False, True]


def test_a_folder_that_cannot_be_written_is_refused_and_a_full_disk_only_ends_the_filling(folder, monkeypatch):
    folder.write_text("a file", encoding="utf-8")
    with pytest.raises(UserError, match=r"data\.cache=.* cannot be written"):
        ViewCache(folder, LARGE)
    folder.unlink()
    cache = ViewCache(folder, LARGE)
    with monkeypatch.context() as full:
        full.setattr(os, "replace", _full_disk)
        with pytest.warns(UserWarning, match="No space left"):
            cache.put(SHA, SIDE, view(0))
    cache.put(SHA, SIDE, view(0))
    assert cache.get(SHA, SIDE) is None
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def _full_disk(*_):
    raise OSError(28, "No space left on device")
