import dataclasses
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from rrsis_bench.data.formats import open_split
from rrsis_bench.data.formats.rrsisd.dataset import CATEGORIES
from rrsis_bench.data.loading.augment import AUGMENTATIONS, Scene, mirror_expression
from rrsis_bench.data.loading.loader import ViewDataset, make_loader
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import build_wordpiece
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Batch
from tests.fakes.rrsisd import write_fake_rrsisd

VIEWS = {"image": 32, "close": 96}
SCATTERED = [0, 3, 6, 9, 1, 4, 7, 2, 5, 8]  # three references in a row show a picture: here no neighbours share one


@pytest.fixture
def tree(tmp_path):
    return write_fake_rrsisd(tmp_path, n_train=10, per_image=3)


@pytest.fixture
def make(tree):
    dataset = open_split("rrsisd", tree.root, "train")
    expressions = [dataset[i].expression for i in range(len(dataset))]
    text = TextPipeline(build_wordpiece(expressions, 200), 14, ("object_mask", "position_mask"), "nltk", CATEGORIES)

    def build(**options):
        return ViewDataset(dataset, VIEWS, text, **{"native_masks": True, **options})

    return build


@pytest.fixture(autouse=True)
def _augmentations(monkeypatch):
    """Two augmentations of these tests; the registry is as before afterwards."""
    monkeypatch.setattr(AUGMENTATIONS, "_targets", dict(AUGMENTATIONS._targets))
    AUGMENTATIONS.add("noise")(_noise)
    AUGMENTATIONS.add("paint")(_paint)


def _noise(scene, rng):
    noisy_HWC = (scene.image_HWC + rng.integers(0, 50, size=scene.image_HWC.shape)).astype(np.uint8)
    return dataclasses.replace(scene, image_HWC=noisy_HWC)


NOISE = [{"name": "noise"}]
LARGE = 2**30


def _equal(left, right):
    assert left.views.keys() == right.views.keys()
    assert left.text.keys() == right.text.keys()
    for name in left.views:
        assert torch.equal(left.views[name], right.views[name])
    for key in left.text:
        assert torch.equal(left.text[key], right.text[key])
    assert torch.equal(left.target_BSS, right.target_BSS)
    assert [s.sample_id for s in left.samples] == [s.sample_id for s in right.samples]
    for a, b in zip(left.masks, right.masks, strict=True):
        np.testing.assert_array_equal(a, b)


def test_batch_holds_what_a_plain_reading_gives(make, tree):
    dataset = make()
    batches = list(make_loader(dataset, 4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert all(isinstance(batch, Batch) for batch in batches)
    row = 0
    for batch in batches:
        for i, sample in enumerate(batch.samples):
            ref = tree.refs[row]
            assert sample.sample_id == f"{row:05d}"
            with Image.open(tree.image(ref)) as image:
                for name, side in VIEWS.items():
                    resized = TF.resize(image.convert("RGB"), [side, side], InterpolationMode.BILINEAR)
                    assert torch.equal(batch.views[name][i], TF.pil_to_tensor(resized))
            target = TF.resize(
                Image.fromarray(tree.masks[row].astype(np.uint8)), [VIEWS["image"]] * 2, InterpolationMode.NEAREST
            )
            assert torch.equal(batch.target_BSS[i], TF.pil_to_tensor(target)[0])
            np.testing.assert_array_equal(batch.masks[i], tree.masks[row])
            expected = dataset.text["input_ids"][row]
            np.testing.assert_array_equal(batch.text["input_ids"][i].numpy(), expected)
            row += 1
        assert batch.views["image"].dtype == batch.target_BSS.dtype == torch.uint8
        assert {key: tensor.dtype for key, tensor in batch.text.items()} == dict.fromkeys(
            ("input_ids", "attention_mask", "object_mask", "position_mask"), torch.int64
        )
    assert row == 10


@pytest.mark.parametrize("augment", [[], NOISE])
def test_workers_and_cache_do_not_change_the_batches(make, augment):
    augment = [{**entry, "share": 0.5} for entry in augment]
    plain = make(augment=augment)
    expected = {}
    for epoch in range(2):
        plain.set_epoch(epoch)
        expected[epoch] = list(make_loader(plain, 3))
    if augment:
        assert not torch.equal(expected[0][0].views["image"], expected[1][0].views["image"])
    for workers, cache_bytes in ((0, LARGE), (2, 0), (2, LARGE)):
        dataset = make(augment=augment, cache_bytes=cache_bytes)
        loader = make_loader(dataset, 3, num_workers=workers)
        for epoch in (0, 1, 0):
            dataset.set_epoch(epoch)  # persistent workers have to see it
            for left, right in zip(loader, expected[epoch], strict=True):
                _equal(left, right)


def test_order_of_reading_does_not_change_an_augmented_sample(make):
    forwards, backwards = make(augment=NOISE), make(augment=NOISE)
    for dataset in (forwards, backwards):
        dataset.set_epoch(3)
    first = [forwards[i] for i in range(10)]
    second = [backwards[i] for i in reversed(range(10))][::-1]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.views["image"], b.views["image"])


def test_a_fixed_share_of_the_samples_is_augmented(make):
    plain, augmented = make(), make(augment=[{"name": "noise", "share": 0.3}])
    changed = []
    for epoch in range(2):
        augmented.set_epoch(epoch)
        pairs = [(plain[i].views["image"], augmented[i].views["image"]) for i in range(10)]
        changed.append([i for i, (a, b) in enumerate(pairs) if not np.array_equal(a, b)])
    assert len(changed[0]) == 3
    assert changed[0] == changed[1]
    other = make(augment=[{"name": "noise", "share": 0.3}], seed=5)
    assert [i for i in range(10) if not np.array_equal(plain[i].views["image"], other[i].views["image"])] != changed[0]


@pytest.mark.parametrize("augment", [[], NOISE])
def test_the_cache_decodes_each_picture_once(make, monkeypatch, augment):
    reads = []
    monkeypatch.setattr("rrsis_bench.data.loading.loader.read_image", _Counting(reads))
    dataset = make(cache_bytes=LARGE, augment=augment)
    for _ in range(3):
        list(make_loader(dataset, 4, SCATTERED))
    assert len(reads) == 4  # ten references show four pictures
    without = make(augment=augment)
    list(make_loader(without, 4, SCATTERED))
    assert len(reads) == 4 + 10
    list(make_loader(without, 4))
    assert len(reads) == 4 + 10 + 4  # of samples in a row that show one picture, the first one decodes it


class _Counting:
    def __init__(self, reads):
        self.reads = reads

    def __call__(self, path):
        self.reads.append(path)
        with Image.open(path) as image:
            return image.convert("RGB")


def test_the_cache_keeps_to_its_bound(make):
    one_picture = 3 * (32**2 + 96**2)
    dataset = make(cache_bytes=2 * one_picture)
    expected = list(make_loader(make(), 4))
    for _ in range(2):
        for left, right in zip(make_loader(dataset, 4), expected, strict=True):
            _equal(left, right)
        assert 0 < dataset._memory.used <= 2 * one_picture
    without = len(pickle.dumps(make()))
    assert len(pickle.dumps(dataset)) < without + 100  # the cache stays at home


def test_cached_arrays_are_not_spoilt_by_the_user_of_a_batch(make):
    dataset = make(cache_bytes=LARGE)
    first = next(iter(make_loader(dataset, 4)))
    kept = first.views["image"].clone()
    first.views["image"].zero_()
    first.target_BSS.fill_(7)
    again = next(iter(make_loader(dataset, 4)))
    assert torch.equal(again.views["image"], kept)
    assert again.target_BSS.max() == 1


def test_an_augmentation_in_place_does_not_reach_the_cache(make):
    dataset = make(cache_bytes=LARGE, augment=[{"name": "paint"}])
    for epoch in range(3):
        dataset.set_epoch(epoch)
        assert (dataset[0].views["image"] == 0).all(0).any(1).sum() <= 10, "the paint of earlier epochs is gone"


def _paint(scene, rng):
    row = int(rng.integers(0, 56))
    scene.image_HWC[row : row + 8] = 0
    return scene


def test_native_masks_only_when_asked_for(make):
    batch = next(iter(make_loader(make(native_masks=False), 4)))
    assert batch.masks == []
    assert batch.target_BSS.shape == (4, 32, 32)


def test_other_expressions_replace_text_and_sample(make):
    expressions = [f"the ship number {i}" for i in range(10)]
    dataset = make(expressions=expressions)
    batch = next(iter(make_loader(dataset, 3, [7, 2, 5])))
    assert [sample.expression for sample in batch.samples] == [
        "the ship number 7",
        "the ship number 2",
        "the ship number 5",
    ]
    assert [sample.sample_id for sample in batch.samples] == ["00007", "00002", "00005"]
    own = next(iter(make_loader(make(), 3, [7, 2, 5])))
    assert not torch.equal(batch.text["input_ids"], own.text["input_ids"])
    assert torch.equal(batch.target_BSS, own.target_BSS)
    with pytest.raises(UserError, match="9 expressions were given for 10"):
        make(expressions=expressions[:9])


def test_order_comes_from_indices_or_a_sampler(make):
    dataset = make()
    order = [9, 0, 4, 4]
    for indices in (order, torch.utils.data.SubsetRandomSampler(order)):
        ids = [sample.sample_id for batch in make_loader(dataset, 3, indices) for sample in batch.samples]
        assert sorted(ids) == sorted(f"{i:05d}" for i in order)
    assert [s.sample_id for b in make_loader(dataset, 3, order) for s in b.samples] == [
        "00009",
        "00000",
        "00004",
        "00004",
    ]
    assert [len(batch) for batch in make_loader(dataset, 4, drop_last=True)] == [4, 4]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sample_that_cannot_be_read_is_named(make, tree, workers):
    path = tree.image(tree.refs[9])  # the only reference that shows this picture
    path.write_bytes(path.read_bytes()[:200])
    dataset = make()
    with pytest.raises(UserError) as caught:
        list(make_loader(dataset, 2, num_workers=workers))
    message = str(caught.value)
    assert message.startswith("Sample 00009 of split 'train': The image")
    assert "00009.jpg" in message
    assert "Traceback" not in message


@pytest.mark.parametrize("workers", [0, 2])
def test_iterating_leaves_the_global_generator_alone(make, workers):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(make_loader(make(), 4, num_workers=workers))
    assert torch.equal(torch.rand(3), expected)


def test_picture_and_mask_of_different_sizes_are_resized_apart(tmp_path):
    tree = write_fake_rrsisd(tmp_path, defects=["size_differs"])
    dataset = open_split("rrsisd", tmp_path, "train")
    text = TextPipeline(build_wordpiece([s.expression for s in dataset], 200), 14)
    item = ViewDataset(dataset, {"image": 32}, text, native_masks=True)[int(tree.defects["size_differs"])]
    assert item.views["image"].shape == (3, 32, 32)
    assert item.mask_HW.shape == (64, 64)
    np.testing.assert_array_equal(item.target_SS, masks.resize_nearest(item.mask_HW, 32))


def test_samples_without_a_file_and_run_lengths_give_the_same_batches(make):
    def bare(sample):
        return dataclasses.replace(sample, image_path=None, read_rle=None)

    for options in ({}, {"augment": NOISE}, {"native_masks": False}):
        short, plain = make(**options), make(**options)
        plain.dataset = [bare(sample) for sample in short.dataset]
        for left, right in zip(make_loader(short, 4), make_loader(plain, 4), strict=True):
            _equal(left, right)


@pytest.mark.parametrize("size", [(64, 64), (37, 90), (1, 5), (800, 801)])
@pytest.mark.parametrize("side", [1, 32, 48, 75])
def test_targets_are_what_pillow_takes(size, side):
    mask_HW = np.random.default_rng(side).random(size) < 0.5
    expected = Image.fromarray(mask_HW.astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
    for target_SS in (masks.resize_nearest(mask_HW, side), masks.decode_nearest(masks.encode(mask_HW), side)):
        assert target_SS.dtype == np.uint8
        assert target_SS.flags.c_contiguous
        np.testing.assert_array_equal(target_SS, np.asarray(expected))


def test_run_lengths_that_do_not_cover_the_mask_are_refused():
    rle = masks.encode(np.eye(8, dtype=bool))
    with pytest.raises(ValueError, match="run lengths cover"):
        masks.decode_nearest({**rle, "size": [8, 9]}, 4)


def test_a_model_without_views_is_refused(make):
    dataset = make()
    with pytest.raises(UserError, match="no views"):
        ViewDataset(dataset.dataset, {}, lambda _: {}, native_masks=False)


def test_black_boxes_are_20_to_60_squares_of_32_pixels():
    white = np.full((150, 200, 3), 255, np.uint8)
    counts = []
    paint = AUGMENTATIONS.bind({"name": "black_boxes"})().apply
    scene = Scene(white, np.ones((150, 200), bool), "a ship")
    for seed in range(40):
        found = paint(scene, np.random.default_rng(seed))
        assert found.mask_HW is scene.mask_HW
        painted = found.image_HWC
        black_HW = (painted == 0).all(-1)
        assert ((painted == 255).all(-1) | black_HW).all()
        # Replay the draws plainly.
        rng = np.random.default_rng(seed)
        expected = np.zeros((150, 200), bool)
        counts.append(int(rng.integers(20, 61)))
        for _ in range(counts[-1]):
            y, x = int(rng.integers(0, 119)), int(rng.integers(0, 169))
            for row in range(32):
                expected[y + row, x : x + 32] = True
        np.testing.assert_array_equal(black_HW, expected)
    assert min(counts) >= 20
    assert max(counts) <= 60
    assert white.min() == 255
    small = dataclasses.replace(scene, image_HWC=np.full((16, 16, 3), 9, np.uint8))
    assert not paint(small, np.random.default_rng(0)).image_HWC.any()


def test_a_share_is_the_same_choice_as_in_the_first_records(make):
    """The entropy of the first augmentation is [seed, 0xA06], so that the authors' recipe keeps its samples."""
    chosen = np.random.default_rng([3, 0xA06]).permutation(10)[:4]
    augment = make(augment=[{"name": "noise", "share": 0.4}, {"name": "paint", "share": 0.4}], seed=3).augment
    assert [bool(augment._chosen_AN[0, index]) for index in range(10)] == [index in chosen for index in range(10)]
    assert (augment._chosen_AN[0] != augment._chosen_AN[1]).any(), "each augmentation chooses for itself"


@pytest.mark.parametrize(
    ("expression", "mirrored"),
    [
        ("the ship on the left", "the ship on the right"),
        ("Right of the leftmost tank", "Left of the rightmost tank"),
        ("the upper-LEFT harbor", "the upper-RIGHT harbor"),
        ("at least one bright northwest eastern field", "at least one bright northeast western field"),
        ("左上角的船在右侧", "右上角的船在左侧"),
        ("a ship", "a ship"),
    ],
)
def test_a_mirrored_expression_swaps_its_sides(expression, mirrored):
    assert mirror_expression(expression) == mirrored
    assert mirror_expression(mirrored) == expression


def test_a_flip_mirrors_image_target_and_words(make):
    expressions = [f"the ship on the {'left' if i % 2 else 'right'} side number {i}" for i in range(10)]
    flipped = make(expressions=expressions, augment=[{"name": "hflip", "probability": 1.0}])
    plain = make(expressions=[mirror_expression(text) for text in expressions])
    changed = 0
    for index in range(10):
        one, other = flipped[index], plain[index]
        np.testing.assert_array_equal(one.mask_HW, other.mask_HW[:, ::-1])
        np.testing.assert_array_equal(one.target_SS, masks.resize_nearest(one.mask_HW, 32))
        changed += not np.array_equal(one.target_SS, other.target_SS)
        image = Image.fromarray(np.ascontiguousarray(other.sample.read_image()[:, ::-1]))
        np.testing.assert_array_equal(one.views["close"], np.asarray(image.resize((96, 96), 2)).transpose(2, 0, 1))
        assert one.sample.expression == other.sample.expression
        assert all(np.array_equal(one.text[key], other.text[key]) for key in other.text)
    assert changed
    batches = list(make_loader(flipped, 4, num_workers=2))
    np.testing.assert_array_equal(batches[0].text["input_ids"][1].numpy(), plain[1].text["input_ids"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a GPU")
def test_batches_can_be_pinned(make):
    batch = next(iter(make_loader(make(), 4, pin_memory=True)))
    assert batch.views["image"].is_pinned()
    assert batch.text["input_ids"].is_pinned()
    assert batch.target_BSS.is_pinned()
