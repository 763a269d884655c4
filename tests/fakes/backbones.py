"""Nodes of the configuration for small backbones with random weights."""

from __future__ import annotations

from typing import Any

import yaml

from tests.fakes.config import CONF


def node(name: str, **options: Any) -> dict[str, Any]:
    """Return the node of a file such as ``vision/swin_b``, with `options` replaced."""
    content: dict[str, Any] = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    assert options.keys() <= content.keys()
    return content | options


SIDE = 64  # pixels
TOKENS = 12
WORDS = 200  # ids below this are in every vocabulary
SWIN = node(
    "vision/swin_tiny", embed_dim=16, depths=[1, 2, 2, 1], num_heads=[1, 2, 2, 4], window=4, positions="none"
)  # fmt: skip
BERT = node("text/bert_tiny", hidden=32, heads=2, intermediate=64, vocab_size=WORDS, max_positions=32)
CLIP = node(
    "text/clip_tiny", image=SIDE, width=32, layers=2, heads=2, text_width=32, text_layers=1, text_heads=2,
    vocab_size=WORDS, context_length=TOKENS, positions="normal",
)  # fmt: skip
SAM2 = node(
    "vision/sam2_tiny", image=SIDE, embed_dim=16, windows=[8, 4, 4, 2], background=[4, 4], width=32, mlp_dim=32,
    decoder_heads=2, mask_channels=8, positions="normal",
)  # fmt: skip
