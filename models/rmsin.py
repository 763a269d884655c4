"""RMSIN: Rotated Multi-Scale Interaction Network for Referring Remote Sensing Image Segmentation.

Sihan Liu, Yiwei Ma, Xiaoqing Zhang, Haowei Wang, Jiayi Ji, Xiaoshuai Sun, Rongrong Ji. CVPR 2024, arXiv 2312.12470.
Official code: https://github.com/Lsan2401/RMSIN (none of it is copied here).

LAVT with a gated visual residual in every stage (intra-scale interaction), a neck in which the pooled stages interact
(cross-scale interaction), and convolutions in the decoder whose kernels turn with the image.

Where paper and code differ, the code is followed, because it produced the printed numbers:
    - A stage hands its PWAM output on to neck and decoder, not the fused tokens, which only reach the next stage. The
      gates and the visual residual of the last stage therefore have no effect and never learn.
    - Two reshapes of the cross-scale attention are no transposes: they mix tokens and channels.
    - An adaptive rotated convolution has a single kernel.

Deviations from the code:
    - Those of `models.lavt`: linear layers, one logit at a quarter of the size, stages smaller than the window.
    - The cross-scale attention of the authors works at 480 pixels only (a last stage of 15 x 15 positions, 314 tokens
      in all). Here the counts follow from the size that the model is built for, and are the authors' own at 480; views
      of another size than that are refused. Keys are a quarter of the first stage's width (32 for Swin-B).

Printed numbers on RRSIS-D. The first rows are the numbers that CSINet's authors print (Table I), the last are runs of
others: SGSRF's (Table 3) and FIANet's (Table III, with the checkpoint selected on test).

    ==============  ====  =======  =======  =======  =======  =======  =====  =====
    printed in      part  Pr@0.5   Pr@0.6   Pr@0.7   Pr@0.8   Pr@0.9   oIoU   mIoU
    ==============  ====  =======  =======  =======  =======  =======  =====  =====
    CSINet          val   74.66    68.22    57.41    45.29    24.43    78.27  65.10
    CSINet          test  74.26    67.25    55.93    42.55    24.53    77.79  64.20
    SGSRF           val   75.40    67.70    56.67    43.68    24.94    77.91  65.11
    SGSRF           test  74.20    68.00    56.59    42.40    23.70    77.51  64.21
    FIANet          test  71.96    65.76    55.16    42.03    25.02    76.50  62.27
    ==============  ====  =======  =======  =======  =======  =======  =====  =====

Papers disagree further on other data (RefSegRS test, mIoU: CSINet's Table II 62.58, SGSRF's Table 2 60.27, FIANet's
Table I 57.78; RISBench test: CSINet's Table III 63.07, SGSRF's Table 5 66.79).

Parameters at paper size: 240.037 M (240 037 163 parameters, as in the authors' file; its buffers do not count).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rrsis_bench.backbones.bert import BertEncoder
from rrsis_bench.backbones.swin import SwinEncoder
from rrsis_bench.interfaces import Segmenter, SegmenterOutput
from rrsis_bench.official import OfficialLayout

from .blocks.cim import CIM
from .blocks.decoder import TopDownDecoder
from .blocks.intra_scale import IntraScaleInteraction
from .blocks.official_keys import (
    BLOCK_RENAMES,
    FAMILY_BUILD_ARGS,
    FAMILY_IGNORED,
    FAMILY_PARTS,
    FAMILY_RENAMES,
    ROTATED_RENAMES,
    SCALE_GATE_RENAMES,
)

# Module names inside a stage and inside the neck: the authors' on the left.
_STAGE = r"^backbone\.layers\.(\d)\."
_UNITS = (("", "first"), ("_2", "second"))
_STAGE_RENAMES = (
    (_STAGE + r"fusion\.", r"stages.\1.pwam."),
    (_STAGE + r"res_gate\.0\.", r"stages.\1.gate.inner."),
    (_STAGE + r"res_gate\.2\.", r"stages.\1.gate.outer."),
    (_STAGE + r"visual_gate\.0\.", r"stages.\1.visual_gate.inner."),
    (_STAGE + r"visual_gate\.2\.", r"stages.\1.visual_gate.outer."),
    (_STAGE + r"visual_residual\.repblock\.", r"stages.\1.repblock."),
    *(
        (rf"\.brb_{theirs.format(suffix)}\.", f".{unit}.{ours}.")
        for suffix, unit in _UNITS
        for theirs, ours in (
            (r"1x1{}\.conv", "point"),
            (r"1x1{}\.bn", "point_bn"),
            (r"3x3{}\.conv1", "inner"),
            (r"3x3{}\.bn1", "inner_bn"),
            (r"3x3{}\.conv2", "spatial"),
            (r"3x3{}\.bn2", "spatial_bn"),
            ("identity{}", "identity_bn"),
        )
    ),
)
_BLOCK = r"^backbone\.cim\.block\.(\d+)\."
_ATTENTION = r"^(cim\.blocks\.\d+\.attention\d)\."
_FEED_FORWARD = r"^(cim\.blocks\.\d+\.(?:scale_ff\.scales\.\d|ff))\."
_NECK_RENAMES = (
    (r"^backbone\.cim\.down_channel\.", "cim.down."),
    (r"^backbone\.cim\.up_channel\.", "cim.up."),
    (r"^backbone\.cim\.bn\.", "cim.bn."),
    (_BLOCK + r"csa([12])\.m\.", r"cim.blocks.\1.attention\2."),
    *((_BLOCK + rf"intra_ff\.m\.ff{scale + 1}\.m\.", rf"cim.blocks.\1.scale_ff.scales.{scale}.") for scale in range(4)),
    (_BLOCK + r"ff\.m\.", r"cim.blocks.\1.ff."),
    (_ATTENTION + r"bn1\.", r"\1.bn."),
    (_ATTENTION + r"DWConv1\.0\.", r"\1.stride2."),
    (_ATTENTION + r"DWConv1\.1\.", r"\1.stride2_bn."),
    (_ATTENTION + r"DWConv2\.0\.", r"\1.stride3."),
    (_ATTENTION + r"DWConv2\.1\.", r"\1.stride3_bn."),
    (_ATTENTION + r"attention\.qkv\.c\.", r"\1.qkv."),
    (_ATTENTION + r"attention\.qkv\.bn\.", r"\1.qkv_bn."),
    (_ATTENTION + r"attention\.parallel_conv\.1\.", r"\1.local."),
    (_ATTENTION + r"attention\.proj\.", r"\1.tokens."),
    (_ATTENTION + r"attention\.to_out\.", r"\1.out."),
    (_ATTENTION + r"bn4\.", r"\1.out_bn."),
    (_ATTENTION + r"conv\.", r"\1.mix."),
    (_FEED_FORWARD + r"conv1\.", r"\1.expand."),
    (_FEED_FORWARD + r"conv2\.", r"\1.local."),
    (_FEED_FORWARD + r"conv3\.", r"\1.shrink."),
    *SCALE_GATE_RENAMES,
)


class RMSIN(Segmenter):
    """Swin and BERT with intra-scale fusion in every stage, a cross-scale neck and a rotated decoder."""

    official_layout = OfficialLayout(
        renames=(*_STAGE_RENAMES, *_NECK_RENAMES, *BLOCK_RENAMES, *FAMILY_RENAMES, *ROTATED_RENAMES),
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
            views: one view, ``{"image": side}``; the model works at this size only.
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
        self.stages = nn.ModuleList(IntraScaleInteraction(width, self.text_encoder.width) for width in widths)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.cim = CIM(widths, self.backbone.sides[-1])
        self.decoder = TopDownDecoder(widths, decoder_width, rotated=True)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> SegmenterOutput:
        """Return foreground logits (B, S/4, S/4).

        Raises:
            UserError: views of another size than the model was built for.
        """
        mask_BL = text["attention_mask"]
        words_BLD = self.text_encoder(text["input_ids"], mask_BL)
        x_BHWC, outputs = self.backbone.embed(views["image"]), []
        for index, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x_BHWC, r_BHWC = stage(self.backbone.stage(index, x_BHWC), words_BLD, mask_BL)
            outputs.append(norm(r_BHWC).permute(0, 3, 1, 2))
        return SegmenterOutput(self.decoder(self.cim(outputs)))

    def no_weight_decay(self, name: str) -> bool:
        """The authors' rule, by name: norms and position tables of the encoder, but no ``bn`` and no decoder norm."""
        return not name.startswith("decoder.") and self.backbone.no_weight_decay(name)
