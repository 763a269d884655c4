"""SAM 2: features, mask prompts and masks against transformers' own path and plain loops; what is trained; weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Sam2Model, Sam2VideoConfig, Sam2VideoModel

from rrsis_bench.backbones import build_vision
from rrsis_bench.backbones.positions import sine_positions
from rrsis_bench.backbones.sam2 import WITHOUT_GRADIENT, Sam2Encoder, SamFeatures
from rrsis_bench.errors import UserError
from tests.fakes.backbones import SAM2, node
from tests.fakes.config import compose

SAM: dict[str, Any] = {**SAM2, "image": 64, "windows": [4, 2, 4, 2], "background": [3, 3]}


def sam2(node: dict[str, Any]) -> Sam2Encoder:
    return build_vision(node, Sam2Encoder)


def build(**overrides: Any) -> Sam2Encoder:
    """The small encoder, the same weights every time, none of them 0."""
    torch.manual_seed(0)
    encoder = sam2({**SAM, **overrides})
    for name, parameter in encoder.named_parameters():
        if not parameter.any() and ".lora_" not in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return encoder


def inputs(encoder: Sam2Encoder, samples: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """A uint8 view, three prompt tokens per sample, and a map that is smaller than SAM's."""
    generator = torch.Generator().manual_seed(1)
    view = torch.randint(0, 256, (samples, 3, encoder.side, encoder.side), dtype=torch.uint8, generator=generator)
    sparse = torch.randn(samples, 3, encoder.widths[2], generator=generator)
    return view, sparse, torch.randn(samples, 1, 4, 4, generator=generator)


def as_list(features: SamFeatures) -> list[Tensor]:
    return [features.s4_BCHW, features.s8_BCHW, features.s16_BCHW]


def run(encoder: Sam2Encoder) -> Tensor:
    view, sparse, dense = inputs(encoder)
    return encoder.decode(encoder.encode_image(view), sparse, encoder.encode_mask(dense))


@pytest.mark.parametrize("side", [64, 96])
def test_shapes(side: int) -> None:
    """Other sides than the one that the weights come from, and maps whose positions no window divides."""
    encoder = build(image=side)
    view, sparse, dense = inputs(encoder)
    features = encoder.encode_image(view)
    assert encoder.widths == (4, 8, 32)
    assert [tuple(map_.shape) for map_ in as_list(features)] == [
        (2, 4, side // 4, side // 4),
        (2, 8, side // 8, side // 8),
        (2, 32, side // 16, side // 16),
    ]
    prompt = encoder.encode_mask(dense)
    assert prompt.shape == features.s16_BCHW.shape
    assert encoder.decode(features, sparse, prompt).shape == (2, side // 4, side // 4)


def test_same_as_the_library_path() -> None:
    """transformers' public calls give the same features and, for its own empty point, the same masks."""
    encoder = build().double().eval()
    library = Sam2Model(encoder.sam.config).double().eval()
    library.load_state_dict(encoder.sam.state_dict())
    view, _, _ = inputs(encoder)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (view.double() / 255 - mean.double().view(3, 1, 1)) / std.double().view(3, 1, 1)
    map_B1hw = torch.randn(2, 1, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        features = encoder.encode_image(view)
        for ours, theirs in zip(as_list(features), library.get_image_embeddings(pixels), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)  # our constants are float32
        points, labels = torch.zeros(2, 1, 1, 2, dtype=torch.float64), -torch.ones(2, 1, 1, dtype=torch.int32)
        sparse, dense = library.prompt_encoder(points, labels, None, map_B1hw)
        theirs = library(
            image_embeddings=as_list(features), input_points=points, input_labels=labels, input_masks=map_B1hw,
            multimask_output=False,
        )  # fmt: skip
        torch.testing.assert_close(encoder.encode_mask(map_B1hw), dense, rtol=1e-12, atol=1e-12)
        logits = encoder.decode(features, sparse[:, 0], dense)
        torch.testing.assert_close(logits, theirs.pred_masks[:, 0, 0], rtol=1e-12, atol=1e-12)


def test_positions_of_the_trunk() -> None:
    """Background interpolated over the map plus the window's table repeated: at every position, for any map."""
    encoder = build(image=96, background=[5, 3])
    hiera = encoder.sam.vision_encoder.backbone
    seen: list[Tensor] = []
    hiera.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    view = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    with torch.no_grad():
        encoder.encode_image(view)
        added = seen[0] - hiera.patch_embed((view - encoder.mean_C11) / encoder.std_C11)
        background = F.interpolate(hiera.pos_embed, size=(24, 24), mode="bicubic")[0]
    for row in range(0, 24, 5):
        for col in range(0, 24, 7):
            expected = background[:, row, col] + hiera.pos_embed_window[0, :, row % 4, col % 4]
            torch.testing.assert_close(added[0, row, col], expected, rtol=1e-4, atol=1e-5)


def test_sines_start_the_background_and_are_trained() -> None:
    encoder = build(positions="sine", background=[5, 3], adapt="all")
    table = encoder.sam.vision_encoder.backbone.pos_embed
    assert torch.equal(table[0].permute(1, 2, 0), sine_positions(5, 3, SAM["embed_dim"]))
    assert table.requires_grad
    assert not torch.equal(table, build(background=[5, 3], adapt="all").sam.vision_encoder.backbone.pos_embed)


def test_mask_prompt_against_loops() -> None:
    """Two 2 x 2 convolutions of stride 2 with a norm over the channels, then a 1 x 1 one, output by output."""
    encoder = build().double()
    embed = encoder.sam.prompt_encoder.mask_embed
    map_1hw = torch.randn(1, 16, 16, dtype=torch.float64)

    def plain(x_CHW: Tensor, conv: torch.nn.Conv2d, size: int) -> Tensor:
        out = torch.empty(conv.out_channels, x_CHW.shape[1] // size, x_CHW.shape[2] // size, dtype=x_CHW.dtype)
        for row in range(out.shape[1]):
            for col in range(out.shape[2]):
                window = x_CHW[:, row * size : (row + 1) * size, col * size : (col + 1) * size]
                out[:, row, col] = (conv.weight * window).sum((1, 2, 3)) + conv.bias
        return out

    def norm(x_CHW: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
        centred = x_CHW - x_CHW.mean(0)
        scaled = centred / (centred.square().mean(0) + 1e-6).sqrt()
        return F.gelu(scaled * layer.weight[:, None, None] + layer.bias[:, None, None])

    with torch.no_grad():
        x_CHW = norm(plain(map_1hw, embed.conv1, 2), embed.layer_norm1)
        x_CHW = plain(norm(plain(x_CHW, embed.conv2, 2), embed.layer_norm2), embed.conv3, 1)
        torch.testing.assert_close(encoder.encode_mask(map_1hw[None])[0], x_CHW)


def test_mask_prompt_is_resized_bilinearly() -> None:
    """A ramp stays a ramp between the centres of its outermost positions, at whatever size it comes."""
    encoder = build()
    seen: list[Tensor] = []
    encoder.sam.prompt_encoder.mask_embed.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder.encode_mask(torch.arange(4.0).expand(1, 1, 4, 4))
    assert seen[0].shape == (1, 1, 16, 16)
    expected = ((torch.arange(16) + 0.5) / 4 - 0.5).clamp(0, 3)
    torch.testing.assert_close(seen[0][0, 0], expected.expand(16, 16))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_first_token_however_unstable(training: bool) -> None:
    """A mask full of logits near 0 is what the dynamic choice would replace in evaluation."""
    encoder = build().train(training)
    head = encoder.sam.mask_decoder.output_hypernetworks_mlps[0].proj_out
    with torch.no_grad():
        head.weight *= 1e-3
        head.bias *= 1e-3
        view, sparse, dense = inputs(encoder)
        features, prompt = encoder.encode_image(view), encoder.encode_mask(dense)
        logits = encoder.decode(features, sparse, prompt)
        for index in (1, 2, 3):  # whatever the other tokens say
            torch.nn.init.normal_(encoder.sam.mask_decoder.output_hypernetworks_mlps[index].proj_out.weight)
        assert torch.equal(encoder.decode(features, sparse, prompt), logits)
        encoder.sam.mask_decoder.dynamic_multimask_via_stability = True
        swapped = not torch.equal(encoder.decode(features, sparse, prompt), logits)
    assert logits.abs().max() < 0.05
    assert swapped is not training


def test_prompts_belong_to_their_sample() -> None:
    """Every row of features and prompts gives what it gives alone, and both prompts matter."""
    encoder = build().eval()
    view, sparse, dense = inputs(encoder)
    with torch.no_grad():
        features, prompt = encoder.encode_image(view), encoder.encode_mask(dense)
        together = encoder.decode(features, sparse, prompt)
        for row in range(2):
            own = SamFeatures(*(map_[row : row + 1] for map_ in as_list(features)))
            alone = encoder.decode(own, sparse[row : row + 1], prompt[row : row + 1])
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(encoder.decode(features, sparse.flip(0), prompt), together)
        assert not torch.allclose(encoder.decode(features, sparse, prompt.flip(0)), together)


def test_positions_keep_their_precision_under_autocast() -> None:
    encoder = build()
    exact = encoder._positions_1CHW()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = encoder._positions_1CHW()
    assert torch.equal(mixed, exact)


@pytest.mark.parametrize("samples", [1, 3])
def test_attention_runs_fused(monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
    """Every attention of the trunk and of the decoder goes through PyTorch's kernel."""
    encoder, calls, fused = build(), [], F.scaled_dot_product_attention

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(args[0].shape)
        return fused(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    view, sparse, dense = inputs(encoder, samples)
    features = encoder.encode_image(view)
    assert len(calls) == sum(SAM["blocks"])
    encoder.decode(features, sparse, encoder.encode_mask(dense))
    assert len(calls) == sum(SAM["blocks"]) + 2 * 3 + 1  # two blocks of three, and the last look at the image


def trained(encoder: Sam2Encoder) -> set[str]:
    return {name for name, parameter in encoder.sam.named_parameters() if parameter.requires_grad}


def test_everything_that_is_trained_gets_a_gradient() -> None:
    encoder = build()
    run(encoder).square().mean().backward()
    reached = {name for name, value in encoder.sam.named_parameters() if value.grad is not None and value.grad.any()}
    assert reached == trained(encoder)
    frozen = {name for name, _ in encoder.sam.named_parameters()} - reached
    assert frozen
    assert all(name.startswith(WITHOUT_GRADIENT) for name in frozen)


def test_parts_without_gradient_would_get_none() -> None:
    """The list is right: nothing on it is frozen for another reason than that no gradient arrives."""
    encoder = build()
    encoder.sam.requires_grad_(True)
    run(encoder).square().mean().backward()
    listed = {name: value for name, value in encoder.sam.named_parameters() if name.startswith(WITHOUT_GRADIENT)}
    assert {prefix for prefix in WITHOUT_GRADIENT for name in listed if name.startswith(prefix)} == set(
        WITHOUT_GRADIENT
    )
    assert not any(value.grad is not None and value.grad.any() for value in listed.values())


def test_nothing_is_trained_on_request() -> None:
    assert not trained(build(adapt="none"))


@pytest.mark.parametrize(("targets", "per_block", "neck"), [("qk", 4, 0), ("all", 8, 8)])
def test_adapters(targets: str, per_block: int, neck: int) -> None:
    """Pairs in the image encoder, everything in prompt encoder and decoder, nothing else; outputs as without."""
    plain, adapted = build(), build(adapt="lora", lora_rank=2, lora_targets=targets)
    assert not adapted.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
    names = trained(adapted)
    pairs = {name for name in names if ".lora_" in name}
    assert len(pairs) == sum(SAM["blocks"]) * per_block + neck
    assert all(name.startswith("vision_encoder.") for name in pairs)
    rest = {name for name in trained(plain) if name.startswith(("prompt_encoder.", "mask_decoder."))}
    assert names - pairs == rest
    with torch.no_grad():
        torch.testing.assert_close(run(adapted), run(plain), rtol=0, atol=1e-5)  # kernels may sum in another order


def test_checkpointing_changes_no_gradient() -> None:
    """The same gradients, from blocks that ran twice."""
    grads, passes = [], []
    for on in (False, True):
        encoder, count = build(checkpointing=on).train(), []
        block = encoder.sam.vision_encoder.backbone.blocks[0]
        block.layer_norm1.register_forward_pre_hook(lambda *_, count=count: count.append(1))
        run(encoder).square().mean().backward()
        grads.append({name: value.grad for name, value in encoder.named_parameters() if value.grad is not None})
        passes.append(len(count))
    assert passes == [1, 2]
    assert grads[0].keys() == grads[1].keys()
    for name, value in grads[0].items():
        torch.testing.assert_close(grads[1][name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)


def test_sizes_of_the_released_models() -> None:
    """Parameters of transformers' model for each size; SAM 2.1 Hiera-L has 216.92 M."""
    counted = {}
    for size in ("sam2_l", "sam2_b", "sam2_s", "sam2_t"):
        with torch.device("meta"):
            encoder = sam2(compose(f"vision={size}", "vision.adapt=none", "vision.weights=random")["vision"])
        counted[size] = sum(parameter.numel() for parameter in encoder.parameters())
    assert counted == {"sam2_l": 216_924_865, "sam2_b": 73_328_401, "sam2_s": 38_538_577, "sam2_t": 31_440_721}


def save_video(folder: Path) -> Sam2VideoModel:
    """A checkpoint as the hub has it: of the video model, at the small size."""
    own = build().sam.config
    config = Sam2VideoConfig(
        vision_config=own.vision_config.to_dict(),
        image_size=64,
        memory_attention_hidden_size=32,
        memory_attention_feed_forward_hidden_size=32,
        memory_encoder_hidden_size=32,
        mask_downsampler_embed_dim=32,
        memory_fuser_embed_dim=32,
        memory_fuser_intermediate_dim=32,
    )
    for name in ("prompt_encoder_config", "mask_decoder_config"):
        for key in ("hidden_size", "image_size", "mask_input_channels", "mlp_dim", "num_attention_heads"):
            if hasattr(getattr(own, name), key):
                setattr(getattr(config, name), key, getattr(getattr(own, name), key))
    config.mask_decoder_config.iou_head_hidden_dim = 32
    torch.manual_seed(3)
    video = Sam2VideoModel(config)
    video.prompt_encoder.shared_embedding.positional_embedding.copy_(video.shared_image_embedding.positional_embedding)
    video.save_pretrained(folder)
    return video


def test_weights_of_the_hub(tmp_path: Path) -> None:
    """The video model's file: its memory is left out by name, all else is there and in place."""
    video = save_video(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert any(key.startswith("memory_attention.") for key in stored)
    encoder = sam2({**SAM, "weights": str(tmp_path)})
    own = encoder.sam.state_dict()
    assert own.keys() < video.state_dict().keys()
    assert all(torch.equal(value, video.state_dict()[key]) for key, value in own.items())
    again = copy.deepcopy(encoder)
    again.load_state_dict(build().state_dict())  # the suite's own checkpoints keep these names behind "sam."
    assert not torch.equal(run(again), run(encoder))


def edited(tmp_path: Path, edit: Callable[[dict[str, Tensor]], object]) -> str:
    """A transformers file of the small size after `edit`."""
    tensors = {key: value.contiguous().clone() for key, value in build().sam.state_dict().items()}
    edit(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    return str(tmp_path)


def test_one_matrix_of_positions_is_enough(tmp_path: Path) -> None:
    """Files may hold the shared frequencies once, under either name."""
    key, twin = "shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding"
    expected = run(build())
    for dropped in (key, twin):
        spec = edited(tmp_path, lambda tensors, dropped=dropped: tensors.pop(dropped))
        encoder = sam2({**SAM, "weights": spec})
        assert torch.equal(encoder.sam.state_dict()[key], encoder.sam.state_dict()[twin])
        assert torch.equal(run(encoder), expected)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("mask_decoder.conv_s0.weight"), "missing mask_decoder.conv_s0.weight"),
        (lambda t: t.update({"memories": torch.zeros(1)}), "unexpected memories"),
        (
            lambda t: t.update({"no_memory_embedding": torch.zeros(1, 1, 8)}),
            r"no_memory_embedding has shape \(1, 1, 8\)",
        ),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, edit: Callable[[dict[str, Tensor]], object], message: str) -> None:
    """Only the memory may be more than the model has."""
    with pytest.raises(UserError, match=message):
        sam2({**SAM, "weights": edited(tmp_path, edit)})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"adapt": "some"}, "vision.adapt must be one of lora, all, none"),
        ({"image": 80}, "multiple of 32"),
        ({"windows": [6, 2, 4, 2]}, "must divide the map"),
        ({"windows": [4, 1, 4, 2]}, "must be even"),
        ({"windows": [4, 2, 4]}, "4 stages"),
        ({"global_blocks": [5]}, "between 0 and 4"),
        ({"global_blocks": [2]}, "block 2 is the first of its stage"),
        ({"positions": "rope"}, "vision.positions must be normal or sine"),
        ({"positions": "sine", "weights": "/some/file"}, "positions=sine needs vision.weights=random"),
        ({"positions": "sine", "embed_dim": 18}, "vision.embed_dim to be a multiple of 4 .*, not 18"),
        ({"background": [7]}, "vision.background has 1 values"),
        ({"heads": 3}, "vision.heads=3"),
        ({"width": 36}, "vision.width=36"),
        ({"mask_channels": 6}, "multiple of 4"),
        ({"embed": 16}, r"vision\.embed\W.*embed_dim"),
        ({"weights": "/nowhere/sam2.1_hiera_large.pt"}, "vision.weights"),
        ({"adapt": "lora", "lora_targets": "v"}, "lora_targets"),
    ],
)
def test_errors_name_the_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sam2({**SAM, **fields})


def test_view_of_another_side() -> None:
    with pytest.raises(ValueError, match="sides of 64 px"):
        build().encode_image(torch.zeros(1, 3, 96, 96, dtype=torch.uint8))


@pytest.mark.slow
def test_paper_size_on_the_cpu() -> None:
    """Hiera-L at 1024 px: shapes of the features, one mask, and what is trained."""
    torch.manual_seed(0)
    encoder = sam2(node("vision/sam2_l", weights="random")).eval()
    assert encoder.widths == (32, 64, 256)
    view = torch.randint(0, 256, (1, 3, 1024, 1024), dtype=torch.uint8)
    with torch.no_grad():
        features = encoder.encode_image(view)
        prompt = encoder.encode_mask(torch.randn(1, 1, 32, 32))
        logits = encoder.decode(features, torch.randn(1, 9, 256), prompt)
    assert [tuple(map_.shape[1:]) for map_ in as_list(features)] == [(32, 256, 256), (64, 128, 128), (256, 64, 64)]
    assert logits.shape == (1, 256, 256)
    assert logits.isfinite().all()
    assert logits.std() > 0
    lora = sum(value.numel() for name, value in encoder.named_parameters() if ".lora_" in name)
    attentions = [block.attn for block in encoder.sam.vision_encoder.backbone.blocks]
    assert lora == sum(2 * 16 * (attention.dim + attention.dim_out) for attention in attentions)
    total = sum(value.numel() for value in encoder.parameters())
    assert total - lora == 216_924_865
    assert sum(value.numel() for value in encoder.parameters() if value.requires_grad) - lora == 3_535_916
