"""What the models of LAVT's family share: a staged image encoder with language fused after each of its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.backbones import build_text, build_vision
from rrsis_bench.backbones.interfaces import StagedEncoder, TextEncoder
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Segmenter


def freeze_unread(*modules: nn.Module | None) -> None:
    """Stop the training of modules whose output nothing reads, so that no gradient reaches them.

    They are built all the same: the authors' files hold them, and the random numbers of later modules follow theirs.
    """
    for module in modules:
        if module is not None:
            module.requires_grad_(False)


class StagedSegmenter(Segmenter):
    """A model with a `StagedEncoder`, a `TextEncoder` and one fusion per stage.

    A subclass sets `norms` and, for `fused_stages`, `stages`: one module per stage of the encoder.
    """

    stages: nn.ModuleList
    norms: nn.ModuleList

    def __init__(
        self,
        views: Mapping[str, int],
        max_tokens: int,
        vision: Mapping[str, Any],
        text: Mapping[str, Any],
        *,
        needs: type[StagedEncoder] = StagedEncoder,
        needs_text: type[TextEncoder] = TextEncoder,
    ) -> None:
        """Build the encoders.

        Args:
            views: view name -> side in pixels; its one view is ``image``.
            max_tokens: L.
            vision: node of a `StagedEncoder`.
            text: node of a `TextEncoder`.
            needs: class of the image encoder, if the model changes its inside.
            needs_text: the same for the text encoder.

        Raises:
            UserError: a node that does not describe such an encoder.
        """
        super().__init__()
        self.views = dict(views)
        self.max_tokens = max_tokens
        self.backbone = build_vision(vision, needs, image_size=self.views["image"])
        self.text_encoder = build_text(text, needs_text)

    def require_size(self, image_B3SS: Tensor, tables: str) -> None:
        """Refuse views of another size than the model was built for.

        Args:
            image_B3SS: the view.
            tables: what ties the model to one size, for the message.

        Raises:
            UserError: another height or width.
        """
        side, (height, width) = self.views["image"], image_B3SS.shape[-2:]
        if (height, width) != (side, side):
            raise UserError(
                f"{type(self).__name__} was built for views of {side} pixels and got {height} x {width}. Its {tables} "
                "are tied to one image size. Set size.image."
            )

    def fused_stages(self, image_B3SS: Tensor, words_BLD: Tensor, mask_BL: Tensor) -> list[Tensor]:
        """Run the encoder with a fusion after each stage, and return the normalised fusions (B, C, H, W).

        A fusion maps the tokens (B, H, W, C) of its stage, the words and their mask to the tokens of the next stage and
        its output. This is the loop of LAVT (Yang et al., CVPR 2022, Section 3.2).

        Args:
            image_B3SS: uint8 pixels.
            words_BLD: word features.
            mask_BL: 1 for words.
        """
        x_BHWC, outputs = self.backbone.embed(image_B3SS), []
        for index, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x_BHWC, fused_BHWC = stage(self.backbone.stage(index, x_BHWC), words_BLD, mask_BL)
            outputs.append(norm(fused_BHWC).permute(0, 3, 1, 2))
        return outputs
