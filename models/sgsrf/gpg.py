"""Grounding-aware prompt generation: learnable tokens attend to image and text, and become SAM 2's prompts (3.3)."""

# P = prompt tokens

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..blocks.multihead import Attention
from .layers import FeedForward, mlp


class PromptBlock(nn.Module):
    """Self-attention of the prompt tokens, then attention to the image and to the text."""

    def __init__(self, dim: int, inner: int, hidden: int, heads: int) -> None:
        """Build for tokens of `dim` features, `inner` in the attention and `hidden` in the feed-forward layers."""
        super().__init__()
        self.of_prompts, self.to_image, self.to_text = (Attention(dim, inner, heads) for _ in range(3))
        self.of_prompts_norm, self.to_image_norm, self.to_text_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.to_image_ff, self.to_text_ff = FeedForward(dim, hidden), FeedForward(dim, hidden)

    def forward(
        self, prompts_BPC: Tensor, positions_PC: Tensor, patches_BNC: Tensor, words_BLC: Tensor, mask_BL: Tensor
    ) -> Tensor:
        """Return the prompt tokens (B, P, C); `positions_PC` are added to queries and keys."""
        asked_BPC = prompts_BPC + positions_PC
        prompts_BPC = self.of_prompts_norm(prompts_BPC + self.of_prompts(asked_BPC, asked_BPC, prompts_BPC))
        found_BPC = self.to_image(prompts_BPC + positions_PC, patches_BNC, patches_BNC)
        prompts_BPC = self.to_image_ff(self.to_image_norm(prompts_BPC + found_BPC))
        found_BPC = self.to_text(prompts_BPC + positions_PC, words_BLC, words_BLC, mask_BL)
        return self.to_text_ff(self.to_text_norm(prompts_BPC + found_BPC))


class PromptGenerator(nn.Module):
    """P = [dense; sparse] through the blocks: tokens of d features, the dense token first, if any."""

    def __init__(
        self, dim: int, inner: int, hidden: int, heads: int, *, sparse: int, dense: bool, blocks: int = 2
    ) -> None:
        """Build for `sparse` sparse tokens, and a dense one if `dense`."""
        super().__init__()
        self.dense = dense
        # The first norm removes their scale; small tokens change direction faster in training.
        self.tokens_PC = nn.Parameter(0.02 * torch.randn(dense + sparse, dim))
        self.positions_PC = nn.Parameter(torch.randn(dense + sparse, dim))
        self.blocks = nn.ModuleList(PromptBlock(dim, inner, hidden, heads) for _ in range(blocks))

    def start_from_words(self) -> None:
        """Start every residual branch at 0 except the attention to the text: the first prompts consist of the words."""
        for block in self.blocks:
            assert isinstance(block, PromptBlock)
            for branch in (block.of_prompts, block.to_image, block.to_image_ff, block.to_text_ff):
                branch.start_at_zero()

    def forward(self, patches_BNC: Tensor, words_BLC: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the sparse tokens (B, P, C) and the dense one (B, C), or None."""
        prompts_BPC = self.tokens_PC.to(words_BLC.dtype).expand(len(words_BLC), -1, -1)
        positions_PC = self.positions_PC.to(words_BLC.dtype)
        for block in self.blocks:
            prompts_BPC = block(prompts_BPC, positions_PC, patches_BNC, words_BLC, mask_BL)
        return prompts_BPC[:, self.dense :], prompts_BPC[:, 0] if self.dense else None


class DenseMap(nn.Module):
    """The coarse map: the dot product of every image token and the projected dense token, over the root of its width.

    Without that scale the maps of an untrained model saturate SAM's mask downscaling, whose first norm sees their sign.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        """Build for tokens of `dim` features."""
        super().__init__()
        self.mlp = mlp(dim, hidden, dim)

    def forward(self, patches_BNC: Tensor, token_BC: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return the unnormalised map (B, 1, h, w) on CLIP's grid."""
        query_BC1 = self.mlp(token_BC)[..., None] * patches_BNC.shape[-1] ** -0.5
        map_BN = (patches_BNC @ query_BC1)[..., 0]
        return map_BN.unflatten(1, grid)[:, None]


def mean_word(words_BLC: Tensor, mask_BL: Tensor) -> Tensor:
    """Return the average of the words, (B, C); 0 without any."""
    mask_BL1 = mask_BL[..., None].to(words_BLC.dtype)
    return (words_BLC * mask_BL1).sum(1) / mask_BL1.sum(1).clamp_min(1)
