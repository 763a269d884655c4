"""Segmentation losses on one foreground logit per pixel, as named entries of ``train.loss``.

A two-class softmax head and a single logit ``d = foreground - background`` give the same probabilities, so the
two-class cross-entropy and Dice of the LAVT family are computed from `d` alone, at half the memory.
"""

# K = classes

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rrsis_bench.config.entries import Entries, option
from rrsis_bench.errors import UserError


def weighted(
    term: Callable[[Tensor, Tensor], Tensor],
    logits_BHW: Tensor,
    target_BHW: Tensor,
    *,
    weight: Annotated[float, option("Weight of the term.", above=0)],
) -> Tensor:
    """Multiply a term by its weight."""
    return weight * term(logits_BHW, target_BHW)


LOSSES = Entries[Tensor]("train.loss", weighted)


@LOSSES.add("ce")
def weighted_cross_entropy(
    logits_BHW: Tensor,
    target_BHW: Tensor,
    *,
    class_weights: Annotated[
        tuple[float, float], option("Weights of background and foreground; the LAVT family uses 0.9 and 1.1.", above=0)
    ] = (1.0, 1.0),
) -> Tensor:
    """Two-class cross-entropy, averaged by the weights of the pixels' classes (torch's weighted mean)."""
    loss_BHW = F.binary_cross_entropy_with_logits(logits_BHW, target_BHW, reduction="none")
    background, foreground = class_weights
    weight_BHW = background + (foreground - background) * target_BHW
    return (loss_BHW * weight_BHW).sum() / weight_BHW.sum()


@LOSSES.add("bce")
def binary_cross_entropy(logits_BHW: Tensor, target_BHW: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over all pixels."""
    return F.binary_cross_entropy_with_logits(logits_BHW, target_BHW)


@LOSSES.add("dice")
def dice_loss(
    logits_BHW: Tensor,
    target_BHW: Tensor,
    *,
    reduction: Annotated[
        Literal["sum", "mean"],
        option("Over batch and classes; sum: the LAVT authors' code, where the weight grows with the batch."),
    ] = "mean",
) -> Tensor:
    """Dice loss of both classes with smoothing 1: ``1 - (2 |p t| + 1) / (|p| + |t| + 1)`` per sample and class."""
    target_BN = target_BHW.flatten(1)
    foreground_BN = torch.sigmoid(logits_BHW).flatten(1)
    loss_BK = torch.stack([_dice(1 - foreground_BN, 1 - target_BN), _dice(foreground_BN, target_BN)], dim=1)
    return loss_BK.sum() if reduction == "sum" else loss_BK.mean()


@LOSSES.add("foreground_dice")
def foreground_dice_loss(
    logits_BHW: Tensor,
    target_BHW: Tensor,
    *,
    reduction: Annotated[Literal["sum", "mean"], option("Over the batch.")] = "mean",
) -> Tensor:
    """Dice loss of the foreground alone with smoothing 1.

    `dice` averages it with the background's loss, which is near 0 if the target is small, and so halves its weight.
    """
    loss_B = _dice(torch.sigmoid(logits_BHW).flatten(1), target_BHW.flatten(1))
    return loss_B.sum() if reduction == "sum" else loss_B.mean()


def _dice(probability_BN: Tensor, truth_BN: Tensor) -> Tensor:
    """Return ``1 - (2 |p t| + 1) / (|p| + |t| + 1)`` per sample."""
    overlap_B = 2 * (probability_BN * truth_BN).sum(1) + 1
    return 1 - overlap_B / (probability_BN.sum(1) + truth_BN.sum(1) + 1)


class SegmentationLoss:
    """The training loss: the terms of ``train.loss``, added.

    Args:
        entries: ``train.loss``.
        align_corners: how the logits are resized to the target.

    Raises:
        UserError: no entry, or one that does not fit; see `Entries.bind`.
    """

    def __init__(self, entries: Sequence[Mapping[str, Any]], *, align_corners: bool):
        if not entries:
            raise UserError("train.loss has no entry. Add at least one, such as {name: dice, weight: 1.0}.")
        self._terms = LOSSES.bind_all(entries)
        self._align_corners = align_corners

    def __call__(self, logits_Bhw: Tensor, target_BSS: Tensor) -> Tensor:
        """Compute the loss at the main view's size, in float32.

        Args:
            logits_Bhw: foreground logits, any resolution; resized bilinearly to the target.
            target_BSS: 0/1, already resized NEAREST to the main view.
        """
        target_BHW = target_BSS.float()
        logits_BHW = F.interpolate(
            logits_Bhw.float()[:, None],
            size=target_BHW.shape[-2:],
            mode="bilinear",
            align_corners=self._align_corners,
        )[:, 0]
        loss = logits_BHW.new_zeros(())
        for term in self._terms:
            loss = loss + term(logits_BHW, target_BHW)
        return loss
