"""CLIP's towers: tokens against open_clip's own pooled vectors, weights in open_clip's layouts, what is trained."""

from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import save_file
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer, _create_vision_transformer
from torch import Tensor, nn

from rrsis_bench import codec
from rrsis_bench.backbones import build_text, weights
from rrsis_bench.backbones.clip import ClipConfig, ClipEncoder, _describe
from rrsis_bench.backbones.lora import trainable_parts
from rrsis_bench.backbones.positions import sine_positions
from rrsis_bench.errors import UserError
from tests.fakes.backbones import node

SIDE, LENGTH, VOCABULARY = 32, 10, 99
PLAIN = node(
    "text/clip_tiny", image=SIDE, patch=8, width=32, layers=2, heads=4, text_width=16, text_layers=2, text_heads=2,
    vocab_size=VOCABULARY, context_length=LENGTH, positions="normal", adapt="none",
)  # fmt: skip
TEXT = {"context_length": LENGTH, "vocab_size": VOCABULARY, "width": 16, "layers": 2, "heads": 2}
VISION = {"image_size": SIDE, "patch_size": 8, "width": 32, "layers": 2, "head_width": 8}
# Two small models beside open_clip's: built like SigLIP 2 (timm's tower, no mask), and like OpenAI's (causal).
SIGLIP = {
    "embed_dim": 32,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {
        "image_size": SIDE,
        "timm_model_name": "vit_of_this_test",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": TEXT | {"width": 32, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
}
OPENAI = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}


@register_model
def vit_of_this_test(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    sizes = {"img_size": SIDE, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "class_token": False}
    return _create_vision_transformer("vit_of_this_test", pretrained=pretrained, **{**sizes, **kwargs})


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, description in (("siglip-of-this-test", SIGLIP), ("openai-of-this-test", OPENAI)):
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, description)


def reference(description: dict[str, Any]) -> nn.Module:
    """open_clip's own model, random but for nothing that starts at zero or one."""
    torch.manual_seed(3)
    description = copy.deepcopy(description)
    model = (CustomTextCLIP if description.pop("custom_text", False) else CLIP)(**description)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def view(side: int = SIDE) -> Tensor:
    return torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def ids() -> Tensor:
    return torch.randint(1, VOCABULARY, (2, LENGTH), generator=torch.Generator().manual_seed(0))


def pixels(image: Tensor, mean: Any, std: Any) -> Tensor:
    return (image / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def save(model: nn.Module, path: Path, name: str = "open_clip_model.safetensors") -> str:
    path.mkdir(exist_ok=True)
    if name.endswith(".safetensors"):
        save_file(model.state_dict(), path / name)
    else:
        torch.save(model.state_dict(), path / name)
    return str(path)


def named(model: str, **overrides: Any) -> dict[str, Any]:
    sizes = {"image": 0, "context_length": 0, "adapt": "none", "weights": "random"}
    return node("text/siglip2", **{"model": model, **sizes, **overrides})


def clip(node: dict[str, Any]) -> ClipEncoder:
    return build_text(node, ClipEncoder)


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_siglips_tokens_pool_to_open_clips_vectors(file: str, tmp_path: Path) -> None:
    model = reference(SIGLIP)
    encoder = clip(named("siglip-of-this-test", weights=save(model, tmp_path, file))).eval()
    assert (encoder.side, encoder.grid, encoder.width) == (SIDE, (4, 4), 32)
    assert (encoder.text_width, encoder.context_length) == (32, LENGTH)
    with torch.no_grad():
        patches, words = encoder.encode_image(view()), encoder.encode_text(ids())
        assert patches.shape == (2, 16, 32)
        assert words.shape == (2, LENGTH, 32)
        assert torch.equal(list(encoder.parameters())[0], list(model.parameters())[0])
        wanted = model.encode_image(pixels(view(), (0.5,) * 3, (0.5,) * 3))
        seen = encoder.mean_C11.flatten(), encoder.std_C11.flatten()
        assert not torch.allclose(seen[0], torch.tensor(127.5))  # no released weights, so OpenAI's pixels
        encoder.mean_C11, encoder.std_C11 = torch.tensor(127.5), torch.tensor(127.5)
        patches = encoder.encode_image(view())
        torch.testing.assert_close(model.visual.trunk.attn_pool(patches), wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            model.text.text_projection(words[:, -1]), model.encode_text(ids()), rtol=1e-5, atol=1e-5
        )


def test_openais_tokens_pool_to_open_clips_vectors(tmp_path: Path) -> None:
    """The older layout, whose text tower has no prefix; the class token is no patch; the text tower is causal."""
    model = reference(OPENAI)
    assert "transformer.resblocks.0.attn.in_proj_weight" in model.state_dict()
    encoder = clip(named("openai-of-this-test", weights=save(model, tmp_path))).eval()
    image = pixels(view(), open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    with torch.no_grad():
        patches, words = encoder.encode_image(view()), encoder.encode_text(ids())
        assert patches.shape == (2, 16, 32)
        model.visual.pool_type = "avg"
        wanted = model.encode_image(image)
        torch.testing.assert_close(patches.mean(1) @ model.visual.proj, wanted, rtol=1e-5, atol=1e-5)
        last = words[torch.arange(2), ids().argmax(1)]
        torch.testing.assert_close(last @ model.text_projection, model.encode_text(ids()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", ["", "siglip-of-this-test", "openai-of-this-test"])
def test_who_sees_a_words_successor(model: str) -> None:
    torch.manual_seed(0)
    encoder = clip(PLAIN if not model else named(model)).eval()
    changed = ids()
    changed[:, -1] = 7
    with torch.no_grad():
        same = torch.isclose(encoder.encode_text(ids()), encoder.encode_text(changed), atol=1e-7).all(-1)
    assert not same.any() if model.startswith("siglip") else same[:, :-1].all()


def test_plain_towers_are_open_clips() -> None:
    """A file of open_clip's with the same sizes fits, and gives the same tokens."""
    torch.manual_seed(0)
    encoder = clip(PLAIN).eval()
    text = TEXT | {"pool_type": "last"}
    model = reference({"embed_dim": 16, "custom_text": True, "vision_cfg": VISION, "text_cfg": text})
    model.load_state_dict(encoder.state_dict())
    model.visual.pool_type = "avg"
    image = pixels(view(), open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    with torch.no_grad():
        pooled = encoder.encode_image(view()).mean(1) @ model.visual.proj
        torch.testing.assert_close(pooled, model.encode_image(image), rtol=1e-5, atol=1e-5)
        pooled = encoder.encode_text(ids())[:, -1] @ model.text.text_projection
        torch.testing.assert_close(pooled, model.encode_text(ids()), rtol=1e-5, atol=1e-5)
        assert encoder.double().encode_image(view()).dtype == torch.float64


@pytest.mark.parametrize("model", ["", "siglip-of-this-test", "class-token-of-this-test"])
def test_patches_come_row_by_row(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bright patch at row 1, column 2 moves its own token and no other, where no block mixes tokens."""
    vision = SIGLIP["vision_cfg"] | {"timm_model_name": "test_vit", "timm_pool": "token"}
    monkeypatch.setitem(
        open_clip.factory._MODEL_CONFIGS, "class-token-of-this-test", SIGLIP | {"vision_cfg": vision, "embed_dim": 64}
    )
    torch.manual_seed(0)
    encoder = clip((PLAIN if not model else named(model)) | {"adapt": "none"}).eval()
    trunk = encoder.visual.trunk if model else encoder.visual.transformer
    setattr(trunk, "blocks" if model else "resblocks", nn.Sequential(Skip()))
    side = encoder.side // encoder.grid[0]
    dark, bright = torch.zeros(2, 1, 3, encoder.side, encoder.side, dtype=torch.uint8)
    bright[..., side : 2 * side, 2 * side : 3 * side] = 255
    with torch.no_grad():
        moved = (encoder.encode_image(bright) - encoder.encode_image(dark)).abs().sum(-1)[0]
    assert len(moved) == encoder.grid[0] * encoder.grid[1]
    assert moved.nonzero().flatten().tolist() == [encoder.grid[1] + 2]


class Skip(nn.Module):
    """A block that does nothing."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:  # noqa: ARG002 - open_clip's signature
        return x


def test_the_positions_of_another_side_are_interpolated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    openai, siglip = reference(OPENAI), reference(SIGLIP)
    folders = {"openai": save(openai, tmp_path / "openai"), "siglip": save(siglip, tmp_path / "siglip")}
    larger = reference(OPENAI | {"vision_cfg": VISION | {"image_size": 48}})
    file = str(Path(folders["openai"]) / "open_clip_model.safetensors")
    open_clip.load_checkpoint(larger, file)
    siglip.visual.set_input_size(48)
    for name, model in (("openai", larger), ("siglip", siglip)):
        with caplog.at_level(logging.WARNING):
            encoder = clip(named(f"{name}-of-this-test", weights=folders[name], image=48)).eval()
        assert f"The positions in '{folders[name]}' were interpolated (bicubic) to views of 48 px." in caplog.messages
        caplog.clear()
        assert (encoder.side, encoder.grid) == (48, (6, 6))
        assert encoder.encode_image(view(48)).shape == (2, 36, 32)
        table = "positional_embedding" if name == "openai" else "trunk.pos_embed"
        assert torch.equal(encoder.visual.state_dict()[table], model.visual.state_dict()[table])


def test_no_word_is_said_where_nothing_is_interpolated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        clip(named("siglip-of-this-test", weights=save(reference(SIGLIP), tmp_path), image=SIDE))
        clip(named("siglip-of-this-test", image=48))  # random positions
    assert not [message for message in caplog.messages if "interpolated" in message]


def broken(change: str) -> dict[str, Tensor]:
    tensors = dict(reference(SIGLIP).state_dict())
    if change == "missing":
        del tensors["visual.trunk.blocks.1.attn.qkv.weight"]
    elif change == "unexpected":
        tensors["visual.trunk.blocks.2.attn.qkv.weight"] = torch.zeros(1)
    elif change == "shape":
        tensors["text.token_embedding.weight"] = torch.zeros(7, 32)
    else:
        tensors = {f"vision_model.{key}": value for key, value in tensors.items()}
    return tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", "missing visual.trunk.blocks.1.attn.qkv.weight"),
        ("unexpected", "unexpected visual.trunk.blocks.2.attn.qkv.weight"),
        ("shape", r"text.token_embedding.weight has shape \(7, 32\), the model needs \(99, 32\)"),
        ("transformers", "are in transformers' key layout .* text.weights=hub:timm/ViT-SO400M-16-SigLIP2-512"),
    ],
)
def test_weights_that_do_not_fit(change: str, message: str, tmp_path: Path) -> None:
    save_file(broken(change), tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=message):
        clip(named("siglip-of-this-test", weights=str(tmp_path / "weights.safetensors")))


def test_a_table_of_positions_that_is_no_grid_is_named(tmp_path: Path) -> None:
    tensors = reference(OPENAI).state_dict() | {"visual.positional_embedding": torch.zeros(12, 32)}
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="visual.positional_embedding has shape"):
        clip(named("openai-of-this-test", weights=str(tmp_path / "weights.safetensors")))


def test_training_checkpoints_of_open_clip_are_read(tmp_path: Path) -> None:
    """Their keys start with ``module.``, and older ones hold the scale and bias as vectors of one entry."""
    tensors = {f"module.{key}": value for key, value in reference(SIGLIP).state_dict().items()}
    tensors["module.logit_scale"] = tensors["module.logit_scale"].reshape(1)
    torch.save({"epoch": torch.tensor(3), "state_dict": tensors}, tmp_path / "epoch_3.pt")
    encoder = clip(named("siglip-of-this-test", weights=str(tmp_path / "epoch_3.pt")))
    assert torch.equal(encoder.logit_scale, tensors["module.logit_scale"][0])
    assert torch.equal(encoder.state_dict()["text.ln_final.bias"], tensors["module.text.ln_final.bias"])


def test_the_hubs_file_is_taken_in_either_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the wanted file is asked for; the pickled one where there is no other."""
    model, asked = reference(SIGLIP), []

    def download(hub_id: str, allow_patterns: str) -> str:
        asked.append((hub_id, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(weights, "snapshot_download", download)
    save(model, tmp_path, "open_clip_pytorch_model.bin")
    encoder = clip(named("siglip-of-this-test", weights="hub:some/model"))
    assert asked == [("some/model", "open_clip_model.safetensors"), ("some/model", "open_clip_pytorch_model.bin")]
    assert torch.equal(encoder.text.ln_final.bias, model.text.ln_final.bias)
    save(model, tmp_path)
    asked.clear()
    clip(named("siglip-of-this-test", weights="hub:some/model"))
    assert asked == [("some/model", "open_clip_model.safetensors")]


def test_weights_are_never_random_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(hub_id: str, allow_patterns: str) -> str:  # noqa: ARG001
        raise OSError("no route to the hub")

    monkeypatch.setattr(weights, "snapshot_download", unreachable)
    with pytest.raises(UserError, match=r"hub:timm/ViT-SO400M-16-SigLIP2-512.*no route(.|\n)*text.weights=random"):
        clip(node("text/siglip2"))
    with pytest.raises(UserError, match="no open_clip_model.safetensors or open_clip_pytorch_model.bin in it"):
        clip(named("siglip-of-this-test", weights=str(tmp_path)))
    with pytest.raises(UserError, match="no such file or folder"):
        clip(named("siglip-of-this-test", weights=str(tmp_path / "gone")))


def grads_of(encoder: ClipEncoder) -> dict[str, Tensor]:
    encoder.train()
    out = encoder.encode_image(view()).pow(2).mean(), encoder.encode_text(ids()).pow(2)[:, :4].mean()
    (out[0] + out[1]).backward()
    return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("model", ["", "siglip-of-this-test"])
def test_what_is_trained(model: str) -> None:
    def build(adapt: str) -> ClipEncoder:
        torch.manual_seed(0)
        return clip((PLAIN if not model else named(model)) | {"adapt": adapt, "lora_rank": 3})

    full = build("all")
    trained = {name for name, p in full.named_parameters() if p.requires_grad}
    assert set(grads_of(full)) == trained  # nothing is called trained that gets no gradient
    unused = {name for name, _ in full.named_parameters()} - trained
    heads = {"visual.proj", "text.text_projection", "logit_scale"} if not model else set()
    assert unused == heads or {name.split(".")[2] for name in unused if name.startswith("visual")} == {"attn_pool"}

    lora = build("lora")
    assert len(lora.adapted) == 4
    halves = [f"lora_{pair}_{half}" for pair in "qk" for half in ("up", "down")]
    wanted = {f"{name.rpartition('.')[0]}.{half}" for name in lora.adapted for half in halves}
    assert {name for name, p in lora.named_parameters() if p.requires_grad} == wanted
    assert set(grads_of(lora)) == wanted
    width, text_width = full.width, full.text_width
    assert trainable_parts(lora)["lora"] == (3 * 2 * 4 * (width + text_width),) * 2
    fresh, frozen_output = lora.encode_image(view()), build("none").train().encode_image(view())
    torch.testing.assert_close(fresh, frozen_output, rtol=0, atol=1e-5)  # kernels may sum in another order

    frozen = build("none")
    assert not frozen.encode_image(view()).requires_grad
    assert not frozen.encode_text(ids()).requires_grad
    assert frozen.adapted == []


def test_lora_targets_reach_the_encoder() -> None:
    encoder = clip(PLAIN | {"adapt": "lora", "lora_targets": "all", "lora_alpha": 4.0, "lora_rank": 2})
    assert len(encoder.adapted) == 8
    assert encoder.visual.transformer.resblocks[0].attn.adapters.scale == 2.0


def image_blocks(encoder: ClipEncoder) -> nn.Module:
    visual = encoder.visual
    return visual.trunk.blocks if hasattr(visual, "trunk") else visual.transformer.resblocks


@pytest.mark.parametrize("adapt", ["lora", "all"])
@pytest.mark.parametrize("model", ["", "siglip-of-this-test"])
def test_checkpointing_changes_no_gradient(model: str, adapt: str) -> None:
    """Every block of both towers runs a second time in the backward pass."""
    grads: list[dict[str, Tensor]] = []
    for checkpointing in (False, True):
        runs: list[nn.Module] = []
        torch.manual_seed(0)
        settings = {"adapt": adapt, "checkpointing": checkpointing}
        encoder = clip((PLAIN if not model else named(model)) | settings)
        for name, parameter in encoder.named_parameters():
            if name.endswith("_up"):
                nn.init.normal_(parameter)
        for block in (*image_blocks(encoder), *encoder.text.transformer.resblocks):
            block.register_forward_pre_hook(lambda block, _, runs=runs: runs.append(block))
        grads.append(grads_of(encoder))
        assert len(runs) == (8 if checkpointing else 4)
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.allclose(grads[0][name], grads[1][name], rtol=1e-4, atol=1e-7) for name in grads[0])


def test_sine_positions_start_the_table_and_are_trained() -> None:
    encoder = clip(PLAIN | {"positions": "sine", "adapt": "all"})
    table = encoder.visual.positional_embedding
    assert torch.equal(table[1:].view(4, 4, 32), sine_positions(4, 4, 32))
    assert not table[0].any()
    assert table.requires_grad
    assert not torch.equal(clip(PLAIN).visual.positional_embedding, table)


def test_encoders_are_copied_and_pickled() -> None:
    encoder = clip(PLAIN | {"adapt": "lora"}).eval()
    for twin in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):  # noqa: S301
        own, theirs = encoder.state_dict(), twin.state_dict()
        assert own.keys() == theirs.keys()
        assert all(torch.equal(own[key], theirs[key]) for key in own)
        torch.testing.assert_close(twin.encode_image(view()), encoder.encode_image(view()), rtol=0, atol=1e-5)
        torch.testing.assert_close(twin.encode_text(ids()), encoder.encode_text(ids()), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"wide": 3}, r"text\.wide.*width"),
        ({"adapt": "qlora"}, "text.adapt must be one of lora, all, none"),
        ({"adapt": "lora", "lora_rank": 0}, "rank of at least 1"),
        ({"patch": 0}, "text.patch must be at least 1 if text.model is empty"),
        ({"heads": 5}, "text.heads must divide text.width=32"),
        ({"text_heads": 3}, "text.text_heads must divide text.text_width=16"),
        ({"image": 36}, "text.image=36 must be a multiple of the patch, 8 pixels"),
        ({"image": -8, "model": "siglip-of-this-test"}, "text.image must be a side in pixels"),
        ({"positions": "rope"}, "text.positions must be normal or sine"),
        ({"positions": "sine", "weights": "/some/file"}, "positions=sine needs text.weights=random"),
        ({"positions": "sine", "width": 30, "heads": 2}, "needs text.width to be a multiple of 4 .*, not 30"),
        ({"positions": "sine", "model": "siglip-of-this-test"}, "needs an empty text.model"),
        (
            {"model": "siglip-of-this-test", "heads": 2},
            "text.text_width=16 does not fit text.model",
        ),
        ({"model": "ViT-SO400M-16-SigLIP2-521"}, "Did you mean ViT-SO400M-16-SigLIP2-512"),
        ({"model": "hf-hub:some/model"}, "is not one of open_clip's models"),
        ({"model": "coca_ViT-B-32"}, "'coca_ViT-B-32' cannot be used: its text tower"),
        ({"model": "roberta-ViT-B-32"}, "'roberta-ViT-B-32' cannot be used: its text tower"),
        ({"model": "resnet-of-this-test"}, "cannot be used: its image tower gives no normed patch tokens"),
    ],
)
def test_errors_for_a_person(settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resnet = {"layers": [1, 1, 1, 1], "width": 16, "head_width": 32, "image_size": 64}
    monkeypatch.setitem(
        open_clip.factory._MODEL_CONFIGS, "resnet-of-this-test", OPENAI | {"vision_cfg": resnet, "embed_dim": 16}
    )
    with pytest.raises(UserError, match=message):
        clip(PLAIN | settings)


def test_inputs_of_another_size_are_refused() -> None:
    encoder = clip(PLAIN)
    with pytest.raises(UserError, match="built for views of 32 x 32 pixels, not 48 x 48. Set text.image"):
        encoder.encode_image(view(48))
    with pytest.raises(UserError, match="reads 10 tokens per text, padding included, not 9"):
        encoder.encode_text(ids()[:, :9])


def test_the_paper_size_is_siglip_2() -> None:
    """Without building it: 512 px, 64 tokens padded to the end, no mask, pixels in [-1, 1]."""
    config = codec.decode(ClipConfig, node("text/siglip2"), "siglip2")
    assert (config.model, config.weights) == ("ViT-SO400M-16-SigLIP2-512", "hub:timm/ViT-SO400M-16-SigLIP2-512")
    assert (config.adapt, config.lora_rank, config.lora_alpha, config.lora_targets) == ("lora", 16, 16.0, "qk")
    description, mean, std = _describe(config)
    assert description["vision_cfg"]["timm_model_name"] == "vit_so400m_patch16_siglip_512"
    assert description["text_cfg"]["context_length"] == config.context_length == 64
    assert description["text_cfg"]["no_causal_mask"]
    assert mean == std == (0.5, 0.5, 0.5)


def test_the_tiny_size_builds() -> None:
    encoder = clip(node("text/clip_tiny"))
    assert encoder.config.adapt == "all"  # random weights that are frozen carry nothing
    assert encoder.encode_image(view(encoder.side)).shape == (2, encoder.grid[0] * encoder.grid[1], encoder.width)


@pytest.mark.slow
def test_paper_size_with_random_weights() -> None:
    """1,136.56 M parameters, adapters of 3.98 M (27 + 27 layers, query and key), one forward at 512 px."""
    encoder = clip(node("text/siglip2", weights="random")).eval()
    parts = trainable_parts(encoder)
    adapters = (27 + 27) * 2 * 2 * 16 * 1152
    assert parts["lora"] == (adapters, adapters)
    assert parts["visual"][1] == parts["text"][1] == 0
    total = sum(size for size, _ in parts.values()) - adapters
    assert total / 1e6 == pytest.approx(1136.56, abs=0.01)
    assert (encoder.side, encoder.grid, encoder.width, encoder.text_width) == (512, (32, 32), 1152, 1152)
    with torch.no_grad():
        patches = encoder.encode_image(view(512)[:1])
        words = encoder.encode_text(torch.randint(0, 256000, (1, 64)))
    assert patches.shape == (1, 1024, 1152)
    assert words.shape == (1, 64, 1152)
    assert patches.isfinite().all()
    assert words.isfinite().all()
