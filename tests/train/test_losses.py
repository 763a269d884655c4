"""The losses on one logit equal the two-class losses of the papers, written out plainly."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from rrsis_bench.train.losses import LOSSES, SegmentationLoss, dice_loss, foreground_dice_loss, weighted_cross_entropy


def draw(seed: int = 0, batch: int = 3, side: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, side, side, generator=generator)
    return logits, (torch.rand(batch, side, side, generator=generator) > 0.7).float()


@pytest.mark.parametrize("weights", [(0.9, 1.1), (1.0, 1.0), (0.2, 5.0)])
def test_cross_entropy_is_that_of_two_stacked_classes(weights):
    logits, target = draw()
    stacked = torch.stack([torch.zeros_like(logits), logits], dim=1)
    expected = F.cross_entropy(stacked, target.long(), weight=torch.tensor(weights))
    torch.testing.assert_close(weighted_cross_entropy(logits, target, class_weights=weights), expected)


def test_cross_entropy_of_any_two_class_head_depends_on_the_difference_only():
    logits, target = draw(1)
    background = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    expected = F.cross_entropy(torch.stack([background, background + logits], 1), target.long())
    torch.testing.assert_close(weighted_cross_entropy(logits, target), expected)


def plain_dice(logits: torch.Tensor, target: torch.Tensor) -> list[list[float]]:
    """One value per sample and class, pixel by pixel."""
    out = []
    for sample, truth in zip(logits.tolist(), target.tolist(), strict=True):
        values = []
        for wanted in (0, 1):
            overlap = mass = size = 0.0
            for row, truth_row in zip(sample, truth, strict=True):
                for logit, label in zip(row, truth_row, strict=True):
                    foreground = 1 / (1 + math.exp(-logit))
                    probability = foreground if wanted else 1 - foreground
                    hit = float(label == wanted)
                    overlap += probability * hit
                    mass += probability
                    size += hit
            values.append(1 - (2 * overlap + 1) / (mass + size + 1))
        out.append(values)
    return out


def test_dice_equals_plain_loops_and_sum_is_mean_times_batch_and_classes():
    logits, target = draw()
    values = [value for row in plain_dice(logits, target) for value in row]
    assert float(dice_loss(logits, target, reduction="sum")) == pytest.approx(sum(values), rel=1e-5)
    assert float(dice_loss(logits, target, reduction="mean")) == pytest.approx(sum(values) / len(values), rel=1e-5)
    torch.testing.assert_close(
        dice_loss(logits, target, reduction="sum"), 2 * len(logits) * dice_loss(logits, target, reduction="mean")
    )


def test_foreground_dice_is_the_second_column_of_the_plain_loops():
    logits, target = torch.randn(3, 5, 4), (torch.rand(3, 5, 4) > 0.7).float()
    foreground = [row[1] for row in plain_dice(logits, target)]
    assert float(foreground_dice_loss(logits, target, reduction="sum")) == pytest.approx(sum(foreground), rel=1e-5)
    assert float(foreground_dice_loss(logits, target)) == pytest.approx(sum(foreground) / 3, rel=1e-5)
    named = SegmentationLoss([{"name": "foreground_dice", "weight": 2.0}], align_corners=False)
    assert float(named(logits, target)) == pytest.approx(2 * sum(foreground) / 3, rel=1e-5)


def test_dice_of_a_perfect_and_of_an_empty_mask():
    target = torch.zeros(1, 6, 6)
    target[0, 2:4, 2:4] = 1
    assert float(dice_loss(100 * (2 * target - 1), target, reduction="mean")) == pytest.approx(0, abs=1e-6)
    empty = torch.zeros(1, 6, 6)
    assert float(dice_loss(torch.full((1, 6, 6), -100.0), empty, reduction="mean")) == pytest.approx(0, abs=1e-6)


def test_terms_add_up_with_their_weights():
    logits, target = draw(side=8)
    weights = (0.9, 1.1)
    expected = (
        0.9 * weighted_cross_entropy(logits, target, class_weights=weights)
        + 0.1 * dice_loss(logits, target, reduction="sum")
        + 0.5 * F.binary_cross_entropy_with_logits(logits, target)
    )
    entries = [
        {"name": "ce", "weight": 0.9, "class_weights": list(weights)},
        {"name": "dice", "weight": 0.1, "reduction": "sum"},
        {"name": "bce", "weight": 0.5},
    ]
    loss = SegmentationLoss(entries, align_corners=False)
    torch.testing.assert_close(loss(logits, target.to(torch.uint8)), expected)


@pytest.mark.parametrize("aligned", [False, True])
def test_logits_are_resized_to_the_target_in_float32(aligned):
    logits = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    target = (torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(1)) > 0.5).to(torch.uint8)
    resized = F.interpolate(logits.float()[:, None], size=(9, 9), mode="bilinear", align_corners=aligned)[:, 0]
    found = SegmentationLoss([{"name": "bce", "weight": 1.0}], align_corners=aligned)(logits, target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(resized, target.float()))


def test_extreme_logits_stay_finite():
    target = torch.zeros(1, 4, 4, dtype=torch.uint8)
    logits = torch.full((1, 4, 4), 1e4, requires_grad=True)
    loss = SegmentationLoss([{"name": name, "weight": 1.0} for name in LOSSES], align_corners=False)(logits, target)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
