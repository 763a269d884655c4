"""`data verify --against`: images that two datasets or two splits share, held to loops over all pairs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from rrsis_bench import cli
from rrsis_bench.data.checks import shared_images as shared
from rrsis_bench.data.formats import read_index
from rrsis_bench.data.pixels.images import read_rgb
from tests.fakes.custom import write_fake_custom
from tests.fakes.rrsisd import write_fake_rrsisd


def scene(seed, side=160):
    """A smooth random image, whose low frequencies differ from seed to seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def bits(a, b):
    return sum((x ^ y).bit_count() for x, y in zip(a, b, strict=True))


def test_the_hash_is_a_cosine_transform_above_its_median():
    """Against sums of cosines by plain loops, for some of the frequencies."""
    pixels = np.asarray(scene(3))
    grey = np.asarray(Image.fromarray(pixels).convert("L").resize((64, 64), Image.Resampling.LANCZOS), dtype=float)

    def term(u, v):
        return sum(
            grey[y, x] * math.cos(math.pi * (2 * y + 1) * u / 128) * math.cos(math.pi * (2 * x + 1) * v / 128)
            for y in range(64) for x in range(64)
        )  # fmt: skip

    found = np.unpackbits(np.frombuffer(shared.look(pixels), dtype=np.uint8)).reshape(16, 16)
    assert found.sum() == 128, "the median divides the bits"
    some = [(0, 0), (0, 1), (5, 2), (9, 11), (15, 15), (3, 0)]
    values = {place: term(*place) for place in some}
    ones = [value for place, value in values.items() if found[place]]
    zeros = [value for place, value in values.items() if not found[place]]
    assert max(zeros) < min(ones)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Two datasets: val 0 of the first is a file, test 0 the pixels and test 1 the look of images of the second."""
    folder = tmp_path_factory.mktemp("trees")
    first = write_fake_rrsisd(folder / "first", n_train=6, n_val=3, n_test=3, per_image=1)
    second = write_fake_custom(folder / "second")
    for number, ref in enumerate(first.refs):
        scene(number).save(first.image(ref), quality=95)
    rows = [(split, row) for split in ("train", "val", "test") for row in second.rows[split]]
    files = list(dict.fromkeys(second.root / row["image"] for _, row in rows))
    for number, file in enumerate(files):
        scene(100 + number).save(file)
    by_split = {split: [ref for ref in first.refs if ref["split"] == split] for split in ("train", "val", "test")}
    files[0].write_bytes(first.image(by_split["val"][0]).read_bytes())
    Image.open(first.image(by_split["test"][0])).convert("RGB").save(files[1].with_suffix(".png"))
    files[1].with_suffix(".png").rename(files[1])
    small = Image.open(first.image(by_split["test"][1])).convert("RGB").resize((96, 96))
    ImageEnhance.Brightness(small).enhance(1.05).save(files[2])
    return first, second, by_split, files


def test_each_kind_is_found_as_a_loop_over_all_pairs_finds_it(trees):
    first, second, by_split, files = trees
    index, other = read_index("rrsisd", first.root), read_index("custom", second.root)
    found = {(pair.split, pair.other_split, pair.image): pair for pair in shared.shared_images(index, other)}
    expected = {}
    for split in by_split:
        for other_split in by_split:
            for path in sorted({row.image for row in index.rows[split]}):
                own, best = read_rgb(path), None
                for there in sorted({row.image for row in other.rows[other_split]}):
                    pixels = read_rgb(there)
                    distance = bits(shared.look(own), shared.look(pixels))
                    if Path(path).read_bytes() == Path(there).read_bytes():
                        kind = "bytes"
                    elif own.shape == pixels.shape and (own == pixels).all():
                        kind = "pixels"
                    else:
                        kind = "alike" if distance <= shared.THRESHOLD else None
                    if kind and (best is None or list(shared.HOW).index(kind) < list(shared.HOW).index(best)):
                        best = kind
                if best:
                    expected[split, other_split, path] = best
    assert {(a, b, str(path)): pair.how for (a, b, path), pair in found.items()} == expected
    kinds = {pair.image.name: pair.how for pair in found.values()}
    names = [first.image(ref).name for ref in (by_split["val"][0], by_split["test"][0], by_split["test"][1])]
    assert kinds == dict(zip(names, ("bytes", "pixels", "alike"), strict=True))
    assert all(pair.samples == 1 for pair in found.values())


def test_a_dataset_against_itself_compares_its_splits(tmp_path):
    tree = write_fake_rrsisd(tmp_path, n_train=4, n_val=2, n_test=2, per_image=1)
    for number, ref in enumerate(tree.refs):
        scene(number).save(tree.image(ref))
    train, val = ([ref for ref in tree.refs if ref["split"] == split] for split in ("train", "val"))
    tree.image(val[1]).write_bytes(tree.image(train[2]).read_bytes())
    index = read_index("rrsisd", tmp_path)
    (pair,) = shared.shared_images(index, index)
    assert (pair.split, pair.other_split, pair.how) == ("val", "train", "bytes")
    assert (pair.image, pair.other) == (tree.image(val[1]), tree.image(train[2]))


def test_images_that_only_have_the_same_mean_do_not_look_alike():
    looks = [shared.look(np.asarray(scene(seed))) for seed in range(40)]
    distances = [bits(a, b) for i, a in enumerate(looks) for b in looks[:i]]
    assert min(distances) > 2 * shared.THRESHOLD


def test_the_nearest_hash_in_blocks_is_that_of_a_loop(monkeypatch):
    monkeypatch.setattr(shared, "_BLOCK", 64)
    rng = np.random.default_rng(0)
    a, b = ([rng.bytes(32) for _ in range(n)] for n in (9, 7))
    for own, (place, distance) in zip(a, shared._nearest(a, b), strict=True):
        assert distance == min(bits(own, entry) for entry in b) == bits(own, b[place])
    assert list(shared._nearest(a, [])) == [(0, shared.BITS + 1)] * 9


def test_the_verb_prints_counts_pairs_and_the_threshold(trees, capsys, monkeypatch):
    first, second, by_split, files = trees
    monkeypatch.setenv("COLUMNS", "140")
    command = ["data", "verify", "rrsisd", "--data-root", str(first.root), "--against", "custom"]
    assert cli.main([*command, "--against-root", str(second.root)]) in (0, 1)
    text = capsys.readouterr().out
    assert "25 of 256 bits" in " ".join(text.split())
    assert f"equal files: val {first.image(by_split['val'][0])}" in text
    assert "1 of 3 (33.3%)" in text
