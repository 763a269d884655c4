"""LAVT: Language-Aware Vision Transformer for Referring Image Segmentation.

Zhao Yang, Jiaqi Wang, Yansong Tang, Kai Chen, Hengshuang Zhao, Philip H. S. Torr. CVPR 2022, arXiv 2112.02244.
Official code: https://github.com/yz93/LAVT-RIS (GPL-3.0; none of it is copied here).

Deviations from the official code, none of which changes a number beyond rounding:
    - 1 x 1 convolutions on tokens are linear layers, and the output projection of the attention acts on the words.
    - The two-class head returns foreground minus background, at a quarter of the input's size; the protocol resizes it
      (the authors resize both classes to the input, bilinear with aligned corners).
    - A Swin stage that is smaller than the window attends over its whole map; the authors pad it to a window.
    - A row without any text token attends to all tokens in BERT, and adds nothing to the map.

Printed numbers. In the paper (oIoU): RefCOCO val 72.73, testA 75.82, testB 68.79; RefCOCO+ 62.14, 68.38, 55.10; G-Ref
(UMD) val 61.24, test 62.09. On remote sensing images, as reproduced by FIANet's authors (Tables I and III; test, with
the checkpoint selected on test):

    ========  =======  =======  =======  =======  =======  =====  =====
    dataset   Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ========  =======  =======  =======  =======  =======  =====  =====
    RefSegRS  70.23    55.53    30.05    14.42    4.07     76.21  57.30
    RRSIS-D   66.93    60.99    51.71    39.79    23.99    76.58  59.05
    ========  =======  =======  =======  =======  =======  =====  =====

Parameters at paper size: 227.740 M. Other papers print other numbers for the same baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.backbones.bert import BertEncoder
from rrsis_bench.backbones.swin import SwinEncoder
from rrsis_bench.interfaces import Segmenter, SegmenterOutput
from rrsis_bench.official import OfficialLayout

from .blocks.attention import GatedPWAM
from .blocks.decoder import TopDownDecoder
from .blocks.official_keys import BLOCK_RENAMES, FAMILY_BUILD_ARGS, FAMILY_IGNORED, FAMILY_PARTS, FAMILY_RENAMES


class LAVT(Segmenter):
    """Swin and BERT, with language fused between the Swin stages."""

    official_layout = OfficialLayout(
        renames=(
            (r"^backbone\.layers\.(\d)\.fusion\.", r"stages.\1.pwam."),
            (r"^backbone\.layers\.(\d)\.res_gate\.0\.", r"stages.\1.gate.inner."),
            (r"^backbone\.layers\.(\d)\.res_gate\.2\.", r"stages.\1.gate.outer."),
            *BLOCK_RENAMES,
            *FAMILY_RENAMES,
        ),
        ignored=FAMILY_IGNORED,
        parts=FAMILY_PARTS,
        build_args=FAMILY_BUILD_ARGS,
    )

    def __init__(
        self,
        views: Mapping[str, int] | None = None,
        max_tokens: int = 20,
        swin: Mapping[str, Any] | None = None,
        bert: Mapping[str, Any] | None = None,
        *,
        decoder_width: int | None = None,
    ) -> None:
        """Build the model; None stands for the paper's size.

        Args:
            views: one view, ``{"image": side}``.
            max_tokens: L.
            swin: fields of `rrsis_bench.backbones.swin.SwinConfig`.
            bert: fields of `rrsis_bench.backbones.bert.BertConfig`.
            decoder_width: channels inside the decoder; None is half the last stage's width, as the authors have it.
        """
        super().__init__()
        self.views = dict(views or {"image": 480})
        self.max_tokens = max_tokens
        self.backbone = SwinEncoder(self.views["image"], swin)
        self.text_encoder = BertEncoder(bert)
        widths = self.backbone.widths
        self.stages = nn.ModuleList(GatedPWAM(width, self.text_encoder.width) for width in widths)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.decoder = TopDownDecoder(widths, decoder_width)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4)."""
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(text["input_ids"], mask_BL)
        x_BHWC, outputs = self.backbone.embed(views["image"]), []
        for index, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x_BHWC, r_BHWC = stage(self.backbone.stage(index, x_BHWC), words_BLD, mask_BL)
            outputs.append(norm(r_BHWC).permute(0, 3, 1, 2))
        return SegmenterOutput(self.decoder(outputs))

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables, but not BERT's ``LayerNorm`` nor any ``bn``."""
        return self.backbone.no_weight_decay(name)
