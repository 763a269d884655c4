"""Segmentation losses on one foreground logit per pixel.

A two-class softmax head and a single logit ``d = foreground - background`` give the same probabilities, so the
two-class cross-entropy and Dice of the LAVT family are computed from `d` alone, at half the memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rrsis_bench.errors import UserError


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms.

    Attributes:
        ce: weight of the class-weighted two-class cross-entropy.
        dice: weight of the Dice loss over both classes.
        bce: weight of the unweighted binary cross-entropy.
        class_weights: (background, foreground) weights of `ce`; the LAVT family uses (0.9, 1.1).
        align_corners: how the logits are resized to the target.
        dice_reduction: ``"sum"`` over batch and classes, as the LAVT family's authors (the effective weight grows with
            the batch), or ``"mean"``.
    """

    ce: float = 0.0
    dice: float = 0.0
    bce: float = 0.0
    class_weights: tuple[float, float] = (1.0, 1.0)
    align_corners: bool = False
    dice_reduction: str = "mean"

    def __post_init__(self) -> None:
        """Refuse a reduction that does not exist and a loss without terms."""
        if self.dice_reduction not in ("sum", "mean"):
            raise UserError(f"train.loss.dice_reduction must be 'sum' or 'mean', not '{self.dice_reduction}'.")
        if self.ce + self.dice + self.bce <= 0:
            raise UserError("train.loss has no term: give at least one of ce, dice, bce a weight above 0.")


def weighted_cross_entropy(logits_BHW: Tensor, target_BHW: Tensor, class_weights: tuple[float, float]) -> Tensor:
    """Two-class cross-entropy, averaged by the weights of the pixels' classes (torch's weighted mean)."""
    loss_BHW = F.binary_cross_entropy_with_logits(logits_BHW, target_BHW, reduction="none")
    background, foreground = class_weights
    weight_BHW = background + (foreground - background) * target_BHW
    return (loss_BHW * weight_BHW).sum() / weight_BHW.sum()


def dice_loss(logits_BHW: Tensor, target_BHW: Tensor, reduction: str) -> Tensor:
    """Dice loss of both classes with smoothing 1: ``1 - (2 |p t| + 1) / (|p| + |t| + 1)`` per sample and class."""
    target_BN = target_BHW.flatten(1)
    foreground_BN = torch.sigmoid(logits_BHW).flatten(1)
    per_class = []
    for probability_BN, truth_BN in ((1 - foreground_BN, 1 - target_BN), (foreground_BN, target_BN)):
        overlap_B = 2 * (probability_BN * truth_BN).sum(1) + 1
        per_class.append(1 - overlap_B / (probability_BN.sum(1) + truth_BN.sum(1) + 1))
    loss_BK = torch.stack(per_class, dim=1)
    return loss_BK.sum() if reduction == "sum" else loss_BK.mean()


def segmentation_loss(logits_Bhw: Tensor, target_BSS: Tensor, config: LossConfig) -> Tensor:
    """The training loss at the main view's size, in float32.

    Args:
        logits_Bhw: foreground logits, any resolution; resized bilinearly to the target.
        target_BSS: 0/1, already resized NEAREST to the main view.
        config: weights of the terms.
    """
    target_BHW = target_BSS.float()
    size, aligned = target_BHW.shape[-2:], config.align_corners
    logits_BHW = F.interpolate(logits_Bhw.float()[:, None], size=size, mode="bilinear", align_corners=aligned)[:, 0]
    loss = logits_BHW.new_zeros(())
    if config.ce:
        loss = loss + config.ce * weighted_cross_entropy(logits_BHW, target_BHW, config.class_weights)
    if config.bce:
        loss = loss + config.bce * F.binary_cross_entropy_with_logits(logits_BHW, target_BHW)
    if config.dice:
        loss = loss + config.dice * dice_loss(logits_BHW, target_BHW, config.dice_reduction)
    return loss
