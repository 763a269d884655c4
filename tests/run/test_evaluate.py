"""What is evaluated does not depend on how: batch size, workers, order of calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric

from rrsis_bench.data.formats import open_split
from rrsis_bench.data.loading.loader import collate
from rrsis_bench.errors import UserError
from rrsis_bench.eval.evaluate import predict_and_count
from rrsis_bench.eval.scoring import replaced_expressions
from rrsis_bench.interfaces import Segmenter, SegmenterOutput, resize_logits
from tests.fakes.config import parsed
from tests.fakes.toy import SIDE, Toy, views_of

PROTOCOLS = {name: parsed(f"protocol={name}").protocol for name in ("native", "lavt")}


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1, precision="32-true")


class Recorder(Toy):
    """A toy whose logits, at half the side, fall on both sides of zero; keeps them in the order of the samples."""

    def __init__(self):
        torch.manual_seed(0)
        super().__init__()
        self.kept: list[torch.Tensor] = []

    def forward(self, views, text):
        logits = torch.nn.functional.avg_pool2d(super().forward(views, text).logits, 2)
        logits = logits - logits.mean(dim=(1, 2), keepdim=True)
        self.kept.extend(logits.detach())
        return SegmenterOutput(logits)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_batch_size_and_workers_change_nothing_but_masks_at_zero(fake_root, fabric, name):
    protocol = PROTOCOLS[name]
    data = views_of(fake_root, native_masks=True)
    tables, logits = {}, {}
    for batch_size, workers in [(8, 0), (8, 0), (8, 2), (1, 0), (3, 0), (3, 2)]:
        model = Recorder()
        table = predict_and_count(model, data, protocol, fabric, batch_size=batch_size, num_workers=workers)
        key = (batch_size, workers)
        assert key not in tables or list(tables[key]) == list(table), "the same call twice"
        tables[key], logits[key] = table, torch.stack(model.kept)
        assert [row.sample_id for row in table] == [data.dataset[index].sample_id for index in range(len(data))]
    assert list(tables[8, 0]) == list(tables[8, 2])
    assert list(tables[3, 0]) == list(tables[3, 2])
    side = 64 if name == "native" else SIDE
    reference = resize_logits(logits[8, 0], [(side, side)] * 8, align_corners=protocol.align_corners)
    assert any(0.2 < float((map_HW > 0).float().mean()) < 0.8 for map_HW in reference), (
        "masks of one value show nothing"
    )
    for key in [(1, 0), (3, 0)]:
        torch.testing.assert_close(logits[key], logits[8, 0], rtol=0, atol=1e-4)
        other = resize_logits(logits[key], [(side, side)] * 8, align_corners=protocol.align_corners)
        for a_HW, b_HW in zip(reference, other, strict=True):
            assert bool((a_HW.abs()[(a_HW > 0) != (b_HW > 0)] < 1e-4).all())


@pytest.mark.parametrize("name", PROTOCOLS)
def test_integers_equal_a_count_by_hand(fake_root, fabric, name):
    """Without loader, protocol or counts: the logits of one sample after the other, resized as the protocol says."""
    data = views_of(fake_root, native_masks=True)
    table = predict_and_count(Recorder(), data, PROTOCOLS[name], fabric, batch_size=4)
    model = Recorder().eval()
    for index, row in enumerate(table):
        batch = collate([data[index]])
        with torch.no_grad():
            logits_11SS = model(batch.views, batch.text).logits[None]
        if name == "native":
            target_HW = batch.samples[0].read_mask()
            up_HW = torch.nn.functional.interpolate(logits_11SS, target_HW.shape, mode="bilinear", align_corners=False)
        else:
            target_HW = batch.target_BSS[0].numpy().astype(bool)
            up_HW = torch.nn.functional.interpolate(logits_11SS, target_HW.shape, mode="bilinear", align_corners=True)
        pred_HW = up_HW[0, 0].numpy() > 0
        assert row.intersection == sum(int(a and b) for a, b in zip(pred_HW.flat, target_HW.flat, strict=True))
        assert row.union == sum(int(a or b) for a, b in zip(pred_HW.flat, target_HW.flat, strict=True))
        assert row.native_area == int(batch.samples[0].read_mask().sum())


def test_only_the_samples_asked_for_are_scored(fake_root, fabric):
    data = views_of(fake_root, native_masks=True)
    done: list[int] = []
    table = predict_and_count(
        Recorder(), data, PROTOCOLS["native"], fabric, batch_size=2, indices=[5, 1, 6], on_batch=done.append
    )
    assert [row.sample_id for row in table] == [data.dataset[index].sample_id for index in (5, 1, 6)]
    assert done == [2, 1]


def test_evaluation_is_in_eval_mode_and_draws_no_random_numbers(fake_root, fabric):
    data = views_of(fake_root, native_masks=True)
    model = Toy(dropout=0.5).train()
    before = torch.get_rng_state()
    one = predict_and_count(model, data, PROTOCOLS["native"], fabric, batch_size=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(predict_and_count(model.train(), data, PROTOCOLS["native"], fabric, batch_size=4)) == list(one)


def test_an_expression_of_another_language_is_refused_also_as_a_replacement(fake_root):
    with pytest.raises(UserError, match="another language"):
        views_of(fake_root, native_masks=True, expressions=["左边的船"] * 8)


def test_replacements_of_a_real_split_are_read_by_the_model(fake_root, fabric):
    """An oracle for words: it answers everything where the word "ship" is read, nothing elsewhere."""
    dataset = open_split("rrsisd", fake_root, "train")
    replaced = replaced_expressions(dataset)
    assert set(replaced) == {"shuffled_text", "same_image_other_expression", "category_only"}

    class Reader(Segmenter):
        def __init__(self, word: int):
            super().__init__()
            self.views, self.max_tokens, self.word = {"image": SIDE}, 16, word

        def forward(self, views, text):  # noqa: ARG002 - words only
            found_B = (text["input_ids"] == self.word).any(1).float()
            return SegmenterOutput((2 * found_B - 1)[:, None, None].expand(-1, SIDE, SIDE))

    texts = replaced["category_only"]
    words = views_of(fake_root, native_masks=True, expressions=texts)
    ships = [index for index, text in enumerate(texts) if text == "ship"]
    assert 0 < len(ships) < len(texts), "the tree must have ships and other things"
    ship = int(words.text["input_ids"][ships[0]][1])
    table = predict_and_count(Reader(ship), words, PROTOCOLS["native"], fabric, batch_size=3)
    assert [row.pred_area > 0 for row in table] == [text == "ship" for text in texts]
    assert [row.category for row in table] == [dataset[index].category for index in range(len(dataset))]
    assert np.all([row.target_area > 0 for row in table]), "the true targets stay"
