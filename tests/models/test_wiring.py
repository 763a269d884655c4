"""Each model end to end against a plain forward that is written from the paper's equations.

The blocks are held to plain loops elsewhere. Here they are built anew, from the values that the paper's equations ask
for, and filled with the model's weights: a model that wires, sizes or chooses them differently gives another map.
`make mutants` applies wrong wirings to the source and expects these tests to fail.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from rrsis_bench.models.blocks.attention import GatedPWAM
from rrsis_bench.models.blocks.cim import CIM
from rrsis_bench.models.blocks.decoder import TopDownDecoder
from rrsis_bench.models.blocks.guidance import GuidedBlocks
from rrsis_bench.models.blocks.intra_scale import IntraScaleInteraction
from rrsis_bench.models.csinet.cda import CollaborativeDilatedAttention
from rrsis_bench.models.csinet.cross_view import CrossViewWindows, SummedViews
from rrsis_bench.models.csinet.decoder import CDADecoder
from rrsis_bench.models.csinet.views import Views, assemble, cut
from rrsis_bench.models.fianet.tmem import TMEM
from rrsis_bench.models.mrsnet.hfim import HFIM
from rrsis_bench.models.sgsrf.consistency import relations
from rrsis_bench.models.sgsrf.gmfe import FeatureEnhancement
from rrsis_bench.models.sgsrf.gpg import mean_word
from torch import Tensor, nn

from rrsis_bench.backbones.sam2 import SamFeatures
from rrsis_bench.interfaces import Segmenter
from tests.fakes.backbones import BERT, CLIP, SAM2, SIDE, SWIN, TOKENS
from tests.fakes.config import compose

from .conftest import build_tiny, make_inputs


def moved(model: Segmenter) -> Segmenter:
    """The model with other weights everywhere, so that no branch that starts at 0 is silent."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return model.double().eval()


def filled(block: nn.Module, source: nn.Module) -> nn.Module:
    """A new block with the weights of the model's: it must have the same ones."""
    block.load_state_dict(source.state_dict())
    return block.double().eval()


def check(model: Segmenter, wanted: Tensor, views: dict[str, Tensor], text: dict[str, Tensor]) -> None:
    got = model(views, text).logits
    assert got.shape == wanted.shape
    assert wanted.std() > 1e-4, "a constant proves nothing"
    assert torch.allclose(got, wanted, rtol=1e-8, atol=1e-9)


def swin_words(model: Any, text: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    return model.text_encoder(text["input_ids"], text["attention_mask"]), text["attention_mask"]


CSINET: dict[str, dict[str, Any]] = {
    "full": {},
    "pwam": {"fusion": "pwam"},
    "iim": {"fusion": "iim"},
    "sum": {"fusion": "sum"},
    "arc": {"decoder": "arc"},
    "one_map": {"decoder_stages": 1, "cmp_width": None},
    "two_maps": {"decoder_stages": 2},
    "only_remote": {"interaction": "only_remote", "slice_size": 3},
    "only_close": {"interaction": "only_close", "slice_size": 3},
    "no_cda_no_skip": compose("model=csinet", "experiment=csinet_table5/no_cda_no_skip")["model"]["args"],
}
CSINET["no_cda_no_skip"] = {name: CSINET["no_cda_no_skip"][name] for name in ("cda", "skip")}


@torch.no_grad()
@pytest.mark.parametrize("variant", CSINET)
def test_csinet(variant) -> None:
    """Equations 1 to 13: language, exchange in windows of the encoder's size, dilated attention, integration."""
    switches = CSINET[variant]
    model: Any = moved(build_tiny("csinet", close_size=2 * SIDE, vision=SWIN, text=BERT, max_tokens=TOKENS, **switches))
    views, text = make_inputs(2, views={"close": 2 * SIDE, "remote": SIDE})
    names = [name for name in ("remote", "close") if f"only_{name}" == variant or not variant.startswith("only_")]
    views = {name: views[name] for name in names}
    words, mask = swin_words(model, text)
    widths = [16, 32, 64, 128]
    parts = {"remote": lambda: model.backbone.embed(views["remote"])}
    parts["close"] = lambda: cut(model.backbone.embed(views["close"]), 2)
    x = torch.cat([parts[name]() for name in names])
    maps, has = [], {name: name in names for name in ("remote", "close")}
    for index, width in enumerate(widths):
        x = model.backbone.stage(index, x)
        stage, last = model.stages[index], Views.from_batch(x, 2, 2, **has)
        if variant in ("pwam", "iim"):
            kind = GatedPWAM if variant == "pwam" else IntraScaleInteraction
            fused = {
                name: filled(kind(width, BERT["hidden"]), stage.fusions.maps[name])(getattr(last, name), words, mask)[0]
                for name in names
            }
        else:
            fused = stage.fusions(last, words, mask)
            if len(names) == 2:
                block = SummedViews() if variant == "sum" else CrossViewWindows(width, SWIN["window"], 2)
                fused = dict(zip(names, filled(block, stage.exchange)(fused["remote"], fused["close"]), strict=True))
        last = Views(fused.get("remote"), fused.get("close"))
        x = torch.cat([view if name == "remote" else cut(view, 2) for name, view in fused.items()])
        maps.append(x.permute(0, 3, 1, 2))
    hidden = compose("model=csinet", "size=tiny")["model"]["args"]["cmp_width"]
    if variant == "arc":
        decoder = TopDownDecoder(widths, hidden, rotated=True)
        decoder.load_state_dict(model.decoder.state_dict(), strict=False)
        decoded = decoder.double().eval().features(maps)
    else:
        attention = None
        if variant != "no_cda_no_skip":
            attention = CollaborativeDilatedAttention(128, 2, slice_size=switches.get("slice_size", 5), **has)
        decoder = CDADecoder(
            widths,
            hidden,
            2,
            attention,
            skip=variant != "no_cda_no_skip",
            stages={"one_map": 1, "two_maps": 2}.get(variant, 4),
        )
        decoded = filled(decoder, model.decoder)(maps, last)
    remote = decoded[: 2 * has["remote"]]
    close = decoded[2 * has["remote"] :]
    found = []
    if has["close"]:
        found.append(assemble(close.permute(0, 2, 3, 1), 2).permute(0, 3, 1, 2))
    if has["remote"]:
        size = found[0].shape[-2:] if found else remote.shape[-2:]
        found.insert(0, nn.functional.interpolate(remote, size=size, mode="bilinear", align_corners=False))
    background, foreground = model.prediction.head(torch.cat(found, dim=1)).unbind(1)
    check(model, foreground - background, views, text)


def test_rotation_is_what_the_rotated_decoder_adds() -> None:
    """`decoder=arc` has RMSIN's routing heads in all three steps."""
    model = build_tiny("csinet", decoder="arc")
    assert sum("theta" in name or "routing" in name for name, _ in model.named_modules()) >= 3


@torch.no_grad()
def test_mrsnet() -> None:
    """Stages with IFIM, norms, HFIM over all of them, and RMSIN's decoder on what HFIM returns."""
    model: Any = moved(build_tiny("mrsnet", vision=SWIN, text=BERT))
    views, text = make_inputs(2)
    words, mask = swin_words(model, text)
    x, outputs = model.backbone.embed(views["image"]), []
    for index in range(4):
        x = model.backbone.stage(index, x)
        refined = model.stages[index](x, words, mask)
        x = x + refined
        outputs.append(model.norms[index](refined).permute(0, 3, 1, 2))
    integrated = filled(HFIM([16, 32, 64, 128]), model.hfim)(outputs)
    decoder = filled(TopDownDecoder([16, 32, 64, 128], 48, rotated=True), model.decoder)
    check(model, decoder(integrated), views, text)


@torch.no_grad()
@pytest.mark.parametrize("weights_from", ["map", "fused"])
@pytest.mark.parametrize("output", ["pwam", "fused"])
@pytest.mark.parametrize("neck", ["1", "3", "cim", "lgce", "none"])
def test_fianet(output, neck, weights_from) -> None:
    """Equation 10's tokens, or the PWAM output of the authors' code, to the TMEM of so many blocks."""
    depth = int(neck) if neck.isdigit() else 3
    switches = {"neck": "tmem" if neck.isdigit() else neck, "num_tmem": depth, "modulation_input": weights_from}
    model: Any = moved(build_tiny("fianet", vision=SWIN, text=BERT, stage_output=output, **switches))
    views, text = make_inputs(2)
    names = ("attention_mask", "object_mask", "position_mask")
    phrases = [(model.text_encoder(text["input_ids"], text[name]), text[name]) for name in names]
    x, outputs = model.backbone.embed(views["image"]), []
    for index in range(4):
        x = model.backbone.stage(index, x)
        stage, tokens = model.stages[index], x.flatten(1, 2)
        context = stage.context(tokens, *phrases[0])
        target = stage.object.gate(stage.object.attention(tokens, *phrases[1]))
        attended = stage.position.attention(tokens, *phrases[2])
        pooled = torch.stack([attended.mean(-1), attended.amax(-1)], dim=1).unflatten(2, x.shape[1:3])
        prior = torch.sigmoid(stage.position.conv(pooled)).flatten(2).transpose(1, 2)
        added = stage.context_gate(context) + target * prior
        squeezed = (tokens if weights_from == "map" else added).mean(1, keepdim=True)
        channels = torch.sigmoid(stage.modulation.expand(torch.relu(stage.modulation.shrink(squeezed))))
        fused = tokens + added * channels
        handed = (context if output == "pwam" else fused).view_as(x)
        outputs.append(model.norms[index](handed).permute(0, 3, 1, 2))
        x = fused.view_as(x)
    if neck == "cim":
        outputs = filled(CIM([16, 32, 64, 128], 2), model.cim)(outputs)
    elif neck == "lgce":
        words, mask = phrases[0]
        sentence = torch.stack([row[mask_L.bool()].mean(0) for row, mask_L in zip(words, mask, strict=True)])
        for place, (width, depth) in ((2, (64, 1)), (3, (128, 3))):
            block = filled(GuidedBlocks(width, BERT["hidden"], depth), model.guided[place - 2])
            outputs[place] = block(outputs[place], sentence)
    elif neck != "none":
        outputs = filled(TMEM([16, 32, 64, 128], BERT["hidden"], depth), model.tmem)(outputs, *phrases[0])
    decoder = filled(TopDownDecoder([16, 32, 64, 128], 48), model.decoder)
    check(model, decoder(outputs), views, text)


def sgsrf(**switches: Any) -> Any:
    return build_tiny("sgsrf", vision=SAM2, text=CLIP, heads=4, prompt_width=32, hidden=48, **switches)


@torch.no_grad()
@pytest.mark.parametrize("dense", ["token", "text_pool"])
def test_sgsrf(dense) -> None:
    """GPG and dense map read H_f and H_l, never CLIP's raw tokens; the cues enhance SAM's maps."""
    model = moved(sgsrf(dense=dense))
    views, text = make_inputs(2)
    features, mask = model.sam2.encode_image(views["sam"]), text["word_mask"].bool()
    patches, words = model.clip.encode_image(views["clip"]), model.clip.encode_text(text["input_ids"])
    refined = model.refinement(patches, words, mask, structures=False)
    prompts = model.generator.tokens_PC.expand(2, -1, -1)
    for block in model.generator.blocks:
        prompts = block(prompts, model.generator.positions_PC, refined.patches_BNC, refined.words_BLC, mask)
    sparse = prompts[:, 1:] if dense == "token" else prompts
    token = prompts[:, 0] if dense == "token" else mean_word(refined.words_BLC, mask)
    side = model.clip.grid[0]
    products = refined.patches_BNC * model.dense_map.mlp(token)[:, None]
    map_ = products.sum(-1).view(2, 1, side, side) / products.shape[-1] ** 0.5
    maps = [features.s4_BCHW, features.s8_BCHW, features.s16_BCHW]
    maps = filled(FeatureEnhancement(model.sam2.widths, 32, 0.1), model.enhancement)(maps, refined.context_BGC)
    wanted = model.sam2.decode(SamFeatures(*maps), model.sparse(sparse), model.sam2.encode_mask(map_))
    check(model, wanted, views, text)


def test_sgsrf_starts_as_said() -> None:
    """Refinement and prompts start as the identity on CLIP's tokens; alpha starts at `gmfe_alpha`."""
    model = sgsrf(gmfe_alpha=0.37)
    for layer in (model.refinement.of_text, model.refinement.to_text, model.refinement.to_image):
        assert not layer.out.weight.any()
    for block in model.generator.blocks:
        assert not block.of_prompts.out.weight.any()
        assert not block.to_image.out.weight.any()
        assert block.to_text.out.weight.any()
    assert [level.alpha.item() for level in model.enhancement.levels] == pytest.approx([0.37] * 3)


def test_the_consistency_loss_is_computed_in_float32_under_autocast() -> None:
    attention = torch.rand(2, 9, 8).softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        matrix = relations(attention)
        assert matrix.dtype == torch.float32
        _, weights = sgsrf().refinement.of_text.with_weights(*[torch.randn(2, 5, 32)] * 3)
    assert weights.dtype == torch.float32
    assert torch.allclose(matrix, relations(attention), rtol=0, atol=1e-6)
    model = sgsrf()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(*make_inputs(3)).aux_losses["consistency"]
    assert loss.dtype == torch.float32
