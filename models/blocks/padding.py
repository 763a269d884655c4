"""Padding of the text in systems whose authors let the pads take part."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rrsis_bench.errors import UserError

PADS = ("official", "masked")


def check_pads(pads: str) -> str:
    """Return the value of ``model.args.pads``; UserError if it is none of `PADS`."""
    if pads not in PADS:
        raise UserError(f"model.args.pads={pads} is unknown. Choose one of: {', '.join(PADS)}.")
    return pads


def padded_ids(text: Mapping[str, Tensor]) -> Tensor:
    """Return the ids (B, L) with 0, BERT's [PAD], behind the words.

    BERT computes features for pads as well. Where they are used, they must not depend on the tokenizer's padding.
    """
    return text["input_ids"] * text["attention_mask"]


def used_slots(mask_BL: Tensor, pads: str) -> Tensor:
    """Return 1 for the slots that take part: all of them (official) or the words alone (masked); (B, L)."""
    return mask_BL.new_ones(mask_BL.shape) if pads == "official" else mask_BL
