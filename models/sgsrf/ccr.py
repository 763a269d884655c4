"""Cross-modal consistency refinement, after CLIP's encoders: the attention-induced structural consistency (3.2.2)."""

# G = context tokens, U = words and context tokens

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..blocks.multihead import Attention
from .consistency import consistency_loss, relations
from .layers import FeedForward

INITS = ("pooled", "zero", "random")


@dataclass(slots=True)
class Refined:
    """Output of the refinement.

    Attributes:
        patches_BNC: H_f, the refined image tokens.
        words_BLC: H_l, the refined words.
        context_BGC: G, the grounding cues; None without context tokens.
        consistency: the unweighted loss; None if it was not requested.
    """

    patches_BNC: Tensor
    words_BLC: Tensor
    context_BGC: Tensor | None
    consistency: Tensor | None


def pool_words(words_BLC: Tensor, mask_BL: Tensor, count: int) -> Tensor:
    """Average the words adaptively in their order, (B, count, C): `adaptive_avg_pool1d` over the words alone.

    Bin g of `count` averages the words floor(g n / count) to ceil((g + 1) n / count) - 1 of n; without words it is 0.
    """
    mask_BL = mask_BL.bool()
    n_B1 = mask_BL.sum(1, keepdim=True)
    bins_G = torch.arange(count, device=mask_BL.device)
    first_BG = bins_G * n_B1 // count
    last_BG = -(-(bins_G + 1) * n_B1 // count)
    rank_BL = mask_BL.cumsum(1) - 1
    inside_BGL = (rank_BL[:, None] >= first_BG[..., None]) & (rank_BL[:, None] < last_BG[..., None]) & mask_BL[:, None]
    weights_BGL = inside_BGL / (last_BG - first_BG).clamp_min(1)[..., None]
    return weights_BGL.to(words_BLC.dtype) @ words_BLC


class ContextTokens(nn.Module):
    """C, N_g tokens beside the words, with learnable positions that the attention adds to queries and keys."""

    def __init__(self, dim: int, count: int, init: str) -> None:
        """Build `count` tokens of `dim` features.

        Args:
            dim: features.
            count: N_g.
            init: ``"pooled"`` from the words; ``"zero"`` or ``"random"``: learnable tokens that start so (Table 8).
        """
        super().__init__()
        self.count = count
        self.tokens_GC = None
        if init != "pooled":
            self.tokens_GC = nn.Parameter(torch.zeros(count, dim) if init == "zero" else torch.randn(count, dim))
        self.positions_GC = nn.Parameter(torch.randn(count, dim))

    def forward(self, words_BLC: Tensor, mask_BL: Tensor) -> Tensor:
        """Return (B, N_g, C)."""
        if self.tokens_GC is None:
            return pool_words(words_BLC, mask_BL, self.count)
        return self.tokens_GC.to(words_BLC.dtype).expand(len(words_BLC), -1, -1)


class ConsistencyRefinement(nn.Module):
    """Self-attention over words and context tokens, then two-way cross-attention with the image tokens.

    Every attention has a residual, a norm behind it, and a feed-forward layer; the printed equations have none.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        heads: int,
        *,
        context: int,
        init: str,
        both_ways: bool,
        reduction: str = "sum",
    ) -> None:
        """Build for tokens of `dim` features.

        Args:
            dim: d, CLIP's width.
            hidden: width inside the feed-forward layers.
            heads: attention heads; the structures are averaged over them.
            context: N_g context tokens; 0 leaves them out (Table 7, CLSM).
            init: see `ContextTokens`.
            both_ways: off leaves out the attention of the text to the image (Table 7, BCMI).
            reduction: see `consistency_loss`.
        """
        super().__init__()
        self.reduction = reduction
        self.context = ContextTokens(dim, context, init) if context else None
        self.of_text = Attention(dim, dim, heads)
        self.of_text_norm = nn.LayerNorm(dim)
        self.of_text_ff = FeedForward(dim, hidden)
        self.to_text = Attention(dim, dim, heads) if both_ways else None
        if both_ways:
            self.to_text_norm = nn.LayerNorm(dim)
            self.to_text_ff = FeedForward(dim, hidden)
        self.to_image = Attention(dim, dim, heads)
        self.to_image_norm = nn.LayerNorm(dim)
        self.to_image_ff = FeedForward(dim, hidden)

    def start_as_identity(self) -> None:
        """Start every residual branch at 0, so that CLIP's tokens pass, normalised, at first.

        Random branches would mix the same words into every image token, and drown what CLIP's tokens say.
        """
        for module in self.modules():
            if isinstance(module, (Attention, FeedForward)):
                module.start_at_zero()

    def forward(self, patches_BNC: Tensor, words_BLC: Tensor, mask_BL: Tensor, *, structures: bool) -> Refined:
        """Refine image tokens and words.

        Args:
            patches_BNC: F, CLIP's image tokens.
            words_BLC: L, CLIP's text tokens.
            mask_BL: True for words; special tokens and padding are not attended to.
            structures: compute the consistency loss.
        """
        u_BUC, mask_BU, positions_UC = words_BLC, mask_BL, words_BLC.new_zeros(())
        if self.context is not None:
            u_BUC = torch.cat([words_BLC, self.context(words_BLC, mask_BL)], dim=1)
            mask_BU = torch.cat([mask_BL, mask_BL.new_ones(len(mask_BL), self.context.count)], dim=1)
            blank_LC = words_BLC.new_zeros(words_BLC.shape[1:])
            positions_UC = torch.cat([blank_LC, self.context.positions_GC.to(words_BLC.dtype)])

        language_BUU = vision_BNU = None
        keys_BUC = u_BUC + positions_UC
        if structures:
            found_BUC, language_BUU = self.of_text.with_weights(keys_BUC, keys_BUC, u_BUC, mask_BU)
        else:
            found_BUC = self.of_text(keys_BUC, keys_BUC, u_BUC, mask_BU)
        u_BUC = self.of_text_ff(self.of_text_norm(u_BUC + found_BUC))

        if self.to_text is not None:
            found_BUC = self.to_text(u_BUC + positions_UC, patches_BNC, patches_BNC)
            u_BUC = self.to_text_ff(self.to_text_norm(u_BUC + found_BUC))

        keys_BUC = u_BUC + positions_UC
        if structures:
            found_BNC, vision_BNU = self.to_image.with_weights(patches_BNC, keys_BUC, u_BUC, mask_BU)
        else:
            found_BNC = self.to_image(patches_BNC, keys_BUC, u_BUC, mask_BU)
        patches_BNC = self.to_image_ff(self.to_image_norm(patches_BNC + found_BNC))

        loss = None
        length = words_BLC.shape[1]
        if language_BUU is not None and vision_BNU is not None:
            language_BLL, vision_BLL = language_BUU[:, :length, :length], relations(vision_BNU[..., :length])
            loss = consistency_loss(language_BLL, vision_BLL, mask_BL, reduction=self.reduction)
        return Refined(patches_BNC, u_BUC[:, :length], None if self.context is None else u_BUC[:, length:], loss)
