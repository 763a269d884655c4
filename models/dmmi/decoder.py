"""RIS-DMMI's decoder: LAVT's steps, with a transformer layer that reads the words after all but the last."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..blocks.decoder import TopDownDecoder

HEADS = 8


def language_layer(dim: int) -> nn.TransformerDecoderLayer:
    """Return a layer of `dim` channels: self-attention, attention to a memory, and an MLP (2048 wide at 768)."""
    return nn.TransformerDecoderLayer(dim, HEADS, dim_feedforward=dim * 8 // 3, dropout=0.1, batch_first=True)


class LanguageDecoder(TopDownDecoder):
    """A top-down decoder as wide as the words, whose maps attend to themselves and to the words."""

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        """Build for stages of `widths` channels, fine to coarse, and words of `dim` features."""
        super().__init__(widths, dim)
        self.language = nn.ModuleList(language_layer(dim) for _ in self.steps[:-1])

    def maps(self, stages: Sequence[Tensor], words_BLD: Tensor, slots_BL: Tensor) -> list[Tensor]:
        """Return the map (B, D, h, w) after each step, coarse to fine.

        Args:
            stages: (B, C_i, H_i, W_i), fine to coarse.
            words_BLD: what the layers attend to.
            slots_BL: 1 for the slots that take part.
        """
        x_BDhw, maps = stages[-1], []
        for index, (step, fine_BCHW) in enumerate(zip(self.steps, reversed(stages[:-1]), strict=True)):
            x_BDhw = step(x_BDhw, fine_BCHW)
            if index < len(self.language):
                x_BND = x_BDhw.flatten(2).transpose(1, 2)
                x_BND = self.language[index](x_BND, words_BLD, memory_key_padding_mask=slots_BL == 0)
                x_BDhw = x_BND.transpose(1, 2).unflatten(2, x_BDhw.shape[-2:])
            maps.append(x_BDhw)
        return maps
