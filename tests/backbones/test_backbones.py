"""Swin and BERT: attention against loops, weights in every layout, errors for a person."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import BertConfig, BertForMaskedLM

from rrsis_bench.backbones import build_text, build_vision
from rrsis_bench.backbones.bert import BertEncoder
from rrsis_bench.backbones.positions import sine_positions
from rrsis_bench.backbones.swin import SwinEncoder, WindowBlock
from rrsis_bench.errors import UserError
from tests.fakes.backbones import BERT, SWIN

SMALL = {**SWIN, "depths": [2, 2, 2, 2]}


def swin(side: int, node: dict[str, Any]) -> SwinEncoder:
    return build_vision(node, SwinEncoder, image_size=side)


def bert(node: dict[str, Any]) -> BertEncoder:
    return build_text(node, BertEncoder)


def plain_window_attention(block: WindowBlock, x_HWC: torch.Tensor) -> torch.Tensor:
    """Pad, roll, then every query of every window and head on its own; the mask from where a token came from."""
    height, width, dim = x_HWC.shape
    size, shift = block.window_size[0], block.shift_size[0]
    padded_h, padded_w = (math.ceil(side / size) * size for side in (height, width))
    padded = torch.zeros(padded_h, padded_w, dim, dtype=x_HWC.dtype)
    padded[:height, :width] = x_HWC
    heads, head_dim = block.attn.num_heads, dim // block.attn.num_heads
    out = torch.zeros(padded_h, padded_w, dim, dtype=x_HWC.dtype)

    def region(at: int, side: int) -> int:
        """Tokens that the roll brings together from both ends of the map may not see each other."""
        return 0 if at < side - size else 1 if at < side - shift else 2

    for top in range(0, padded_h, size):
        for left in range(0, padded_w, size):
            places = [(top + row, left + col) for row in range(size) for col in range(size)]
            origin = [((row + shift) % padded_h, (col + shift) % padded_w) for row, col in places]
            qkv = torch.stack([block.attn.qkv.weight @ padded[place] + block.attn.qkv.bias for place in origin])
            query, key, value = qkv.view(len(places), 3, heads, head_dim).unbind(1)
            for i, (row_i, col_i) in enumerate(places):
                attended = torch.zeros(heads, head_dim, dtype=x_HWC.dtype)
                for head in range(heads):
                    scores = torch.empty(len(places), dtype=x_HWC.dtype)
                    for j, (row_j, col_j) in enumerate(places):
                        entry = (row_i - row_j + size - 1) * (2 * size - 1) + col_i - col_j + size - 1
                        bias = block.attn.relative_position_bias_table[entry, head]
                        scores[j] = query[i, head] @ key[j, head] / math.sqrt(head_dim) + bias
                        same = region(row_i, padded_h) == region(row_j, padded_h)
                        if shift and not (same and region(col_i, padded_w) == region(col_j, padded_w)):
                            scores[j] -= 100
                    attended[head] = scores.softmax(0) @ value[:, head]
                out[origin[i]] = block.attn.proj.weight @ attended.flatten() + block.attn.proj.bias
    return out[:height, :width]


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 9)], ids=["fits", "padded"])
@pytest.mark.parametrize("shift", [0, 2])
def test_window_attention(height: int, width: int, shift: int) -> None:
    torch.manual_seed(0)
    block = WindowBlock(8, (8, 8), num_heads=2, window_size=4, shift_size=shift).double()
    torch.nn.init.normal_(block.attn.relative_position_bias_table)
    torch.nn.init.normal_(block.attn.qkv.bias)
    x = torch.randn(2, height, width, 8, dtype=torch.float64)
    with torch.no_grad():
        wanted = torch.stack([plain_window_attention(block, sample) for sample in x])
        assert torch.allclose(block._attn(x), wanted, rtol=0, atol=1e-5)


def timm_swin(side: int) -> torch.nn.Module:
    torch.manual_seed(1)
    return timm.models.swin_transformer.SwinTransformer(
        img_size=side, patch_size=4, embed_dim=16, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), window_size=4
    ).eval()


def timm_features(model: torch.nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x, outputs = model.patch_embed((image / 255 - mean) / std), []
    for layer in model.layers:
        x = layer(x)
        outputs.append(x)
    return outputs


def microsoft_layout(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the original code calls the same tensors, with the buffers that its files carry."""
    renamed = {}
    for key, value in tensors.items():
        parts = key.split(".")
        if parts[2:3] == ["downsample"]:
            parts[1] = str(int(parts[1]) - 1)
        renamed[".".join(parts).replace("head.fc.", "head.")] = value
    renamed["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
    renamed["layers.0.blocks.1.attn_mask"] = torch.zeros(16, 16, 16)
    return renamed


@pytest.mark.parametrize("layout", ["timm", "microsoft"])
def test_pretrained_weights_give_timms_features(layout: str, tmp_path) -> None:
    model, image = timm_swin(128), torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    tensors = model.state_dict()
    if layout == "timm":
        (tmp_path / "folder").mkdir()
        save_file(tensors, tmp_path / "folder" / "model.safetensors")
        path = tmp_path / "folder"
    else:
        path = tmp_path / "swin.pth"
        torch.save({"model": microsoft_layout(tensors)}, path)
    encoder = swin(128, {**SMALL, "weights": str(path)}).eval()
    with torch.no_grad():
        for got, wanted in zip(encoder(image), timm_features(model, image), strict=True):
            assert torch.allclose(got, wanted, atol=1e-5)


def test_another_window_is_interpolated_and_said(tmp_path, caplog) -> None:
    tensors = timm_swin(128).state_dict()
    save_file(tensors, tmp_path / "swin.safetensors")
    spec = {**SMALL, "weights": str(tmp_path / "swin.safetensors")}
    with caplog.at_level(logging.WARNING):
        swin(128, spec)
        assert not caplog.records
        encoder = swin(96, spec)  # the last stage is 3 x 3, smaller than the window
    trained = tensors["layers.3.blocks.0.attn.relative_position_bias_table"]
    wanted = F.interpolate(trained.T.view(1, 4, 7, 7), size=(5, 5), mode="bicubic").view(4, 25).T
    assert torch.allclose(encoder.layers[3].blocks[0].attn.relative_position_bias_table, wanted)
    kept = "layers.2.blocks.0.attn.relative_position_bias_table"
    assert encoder.state_dict()[kept].equal(tensors[kept])
    assert "layers.3.blocks.0, layers.3.blocks.1" in caplog.text


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_weights_that_do_not_fit_are_refused(change: str, tmp_path) -> None:
    tensors = timm_swin(64).state_dict()
    key = "layers.1.blocks.0.mlp.fc1.weight"
    value = tensors.pop(key)
    if change == "unexpected":
        tensors |= {key: value, "layers.1.adapter.weight": value.clone()}
    elif change == "shape":
        tensors[key] = value[:5].clone()
    save_file(tensors, tmp_path / "swin.safetensors")
    named = "layers.1.adapter.weight" if change == "unexpected" else key
    with pytest.raises(UserError, match=named):
        swin(64, {**SMALL, "weights": str(tmp_path / "swin.safetensors")})


@pytest.fixture
def bert_folder(tmp_path):
    """A masked language model as transformers saves it: with the head of its pre-training."""
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=200,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    model = BertForMaskedLM(config).eval()
    model.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert", model


def test_bert_reads_a_transformers_folder(bert_folder) -> None:
    folder, model = bert_folder
    encoder = bert({**BERT, "weights": str(folder)}).eval()
    ids, mask = torch.randint(1, 200, (3, 10)), torch.ones(3, 10, dtype=torch.long)
    mask[1, 6:] = 0
    with torch.no_grad():
        wanted = model.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.allclose(encoder(ids, mask), wanted, atol=1e-6)


def test_bert_reads_old_key_names(bert_folder, tmp_path) -> None:
    """Files of 2018 call LayerNorm's weight gamma and carry position ids."""
    folder, model = bert_folder
    old = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in model.state_dict().items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(32)
    torch.save(old, tmp_path / "old.bin")
    encoder = bert({**BERT, "weights": str(tmp_path / "old.bin")})
    assert encoder.bert.embeddings.LayerNorm.weight.equal(model.bert.embeddings.LayerNorm.weight)


def test_bert_attends_to_masked_in_words_only_and_to_all_where_none_is() -> None:
    torch.manual_seed(0)
    encoder = bert(BERT).eval()
    ids = torch.randint(1, 200, (2, 6))
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    with torch.no_grad():
        got = encoder(ids, mask)
        short = encoder(ids[:1, :3], torch.ones(1, 3, dtype=torch.long))
        full = encoder(ids[1:], torch.ones(1, 6, dtype=torch.long))
    assert torch.allclose(got[:1, :3], short, atol=1e-5)
    assert torch.allclose(got[1:], full, atol=1e-5)


@pytest.mark.parametrize(("backbone", "field"), [("swin", "vision"), ("bert", "text")])
@pytest.mark.parametrize(
    "spec", ["/no/such/file.pth", "hub:nobody/nothing", "hub:not an id", "{tmp}", "{tmp}/torn.pth"]
)
def test_unreachable_weights_are_one_message(backbone: str, field: str, spec: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 torn")
    spec = spec.format(tmp=tmp_path)
    build = {
        "swin": lambda: swin(64, {**SWIN, "weights": spec}),
        "bert": lambda: bert({**BERT, "weights": spec}),
    }
    with pytest.raises(UserError) as caught:
        build[backbone]()
    message = str(caught.value)
    assert spec in message
    assert f"{field}.weights=/path" in message
    assert f"{field}.weights=random" in message
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"embed_dims": 16}, r"vision\.embed_dims.*embed_dim"),
        ({"depths": 2}, r"vision\.depths is 2"),
        ({"window": "4"}, r"vision\.window is '4'"),
        ({"window": True}, r"vision\.window is True"),
        ({"num_heads": [3, 3, 3, 3]}, "do not divide"),
        ({"depths": [1, 1]}, "one entry per stage"),
    ],
    ids=str,
)
def test_wrong_fields_are_refused(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        swin(64, {**SWIN, **values})


def test_bert_refuses_heads_that_do_not_divide() -> None:
    with pytest.raises(UserError, match="does not divide"):
        bert({**BERT, "heads": 5})


def test_a_model_may_change_tokens_between_stages() -> None:
    torch.manual_seed(0)
    encoder = swin(64, SWIN).eval()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        x = encoder.embed(image)
        walked = []
        for index in range(4):
            x = encoder.stage(index, x)
            walked.append(x)
        assert all(one.equal(two) for one, two in zip(walked, encoder(image), strict=True))
        changed = encoder.stage(1, walked[0] + torch.randn_like(walked[0]))
    assert not changed.allclose(walked[1])
    assert [tuple(x.shape[1:]) for x in walked] == [(16, 16, 16), (8, 8, 32), (4, 4, 64), (2, 2, 128)]
    assert encoder.sides == (16, 8, 4, 2)
    assert encoder.widths == (16, 32, 64, 128)


def test_sine_positions_are_kept_as_numbers_where_a_model_was_built_without_any():
    """Bug: built under `torch.device("meta")` first, the kept positions were empty for every later model."""
    with torch.device("meta"):
        sine_positions(3, 5, 12)
    assert sine_positions(3, 5, 12).device.type == "cpu"
    assert bool(sine_positions(3, 5, 12).any())


def test_sine_positions_in_loops():
    height, width, dim = 3, 5, 8
    found_HWC = sine_positions(height, width, dim)
    for row in range(height):
        for column in range(width):
            for half, place, n in ((0, row, height), (dim // 2, column, width)):
                for k in range(dim // 4):
                    angle = (place + 0.5) * 2 * math.pi / n / 10000 ** (k / (dim // 4))
                    assert found_HWC[row, column, half + k] == pytest.approx(math.sin(angle), abs=1e-5)
                    assert found_HWC[row, column, half + dim // 4 + k] == pytest.approx(math.cos(angle), abs=1e-5)


def test_positions_are_added_to_the_patches_at_any_size() -> None:
    encoder, plain = swin(64, {**SWIN, "positions": "sine"}).eval(), swin(64, SWIN).eval()
    plain.load_state_dict(encoder.state_dict())  # no parameter of its own
    for height in (64, 48):
        image_BCHW = torch.randint(0, 256, (1, 3, height, 64), dtype=torch.uint8)
        added_BHWC = encoder.embed(image_BCHW) - plain.embed(image_BCHW)
        torch.testing.assert_close(added_BHWC[0], sine_positions(height // 4, 16, 16), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"positions": "learned"}, "none or sine"),
        ({"positions": "sine", "weights": "hub:any/thing"}, "weights=random"),
        ({"positions": "sine", "embed_dim": 6, "num_heads": [1, 2, 2, 2]}, "vision.embed_dim to be a multiple of 4"),
    ],
)
def test_positions_that_cannot_be_are_refused(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        swin(64, {**SWIN, **values})
