"""The importer of the authors' checkpoints: every key finds its place, nothing is executed, nothing is guessed."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

import pytest
import torch

from rrsis_bench import registry
from rrsis_bench.errors import UserError
from rrsis_bench.official import convert_official, load_official
from tests.fakes.config import RANDOM_WEIGHTS, model_args
from tests.fakes.official_checkpoint import SMALL, official_shapes, official_state_dict, small_shapes

# The suite's name -> the authors', written by hand for one tensor of every kind.
BACKBONE_PAIRS = {
    "backbone.patch_embed.proj.weight": "backbone.patch_embed.proj.weight",
    "backbone.layers.2.blocks.1.attn.qkv.bias": "backbone.layers.2.blocks.1.attn.qkv.bias",
    "backbone.layers.1.downsample.reduction.weight": "backbone.layers.0.downsample.reduction.weight",
    "backbone.layers.3.downsample.norm.bias": "backbone.layers.2.downsample.norm.bias",
    "norms.2.weight": "backbone.norm2.weight",
    "decoder.steps.0.conv1.weight": "classifier.conv1_4.weight",
    "decoder.steps.2.bn2.running_var": "classifier.bn2_2.running_var",
    "decoder.head.bias": "classifier.conv1_1.bias",
    "text_encoder.bert.encoder.layer.1.output.dense.weight": "text_encoder.encoder.layer.1.output.dense.weight",
}
STAGE_PAIRS = {
    "lavt": {
        "pwam.attention.query.weight": "fusion.image_lang_att.f_query.0.weight",
        "pwam.attention.out.bias": "fusion.image_lang_att.W.0.bias",
        "pwam.visual.weight": "fusion.vis_project.0.weight",
        "pwam.mix.bias": "fusion.project_mm.0.bias",
        "gate.inner.weight": "res_gate.0.weight",
        "gate.outer.weight": "res_gate.2.weight",
    },
    "fianet": {
        "context.attention.key.weight": "context_pixel_attn.image_lang_att.f_key.0.weight",
        "context_gate.outer.weight": "context_tanh_gate.2.weight",
        "object.attention.value.bias": "object_position_align_blk.go_cross_attn.f_value.0.bias",
        "object.gate.inner.weight": "object_position_align_blk.go_tanh_gating.0.weight",
        "position.attention.out.weight": "object_position_align_blk.sp_cross_attn.W.0.weight",
        "position.conv.weight": "object_position_align_blk.conv1.weight",
        "modulation.shrink.weight": "fc1.weight",
        "modulation.expand.bias": "fc2.bias",
    },
    "rmsin": {
        "pwam.attention.key.bias": "fusion.image_lang_att.f_key.0.bias",
        "gate.inner.weight": "res_gate.0.weight",
        "gate.outer.weight": "res_gate.2.weight",
        "visual_gate.inner.weight": "visual_gate.0.weight",
        "visual_gate.outer.weight": "visual_gate.2.weight",
        "repblock.first.point.weight": "visual_residual.repblock.brb_1x1.conv.weight",
        "repblock.first.spatial_bn.weight": "visual_residual.repblock.brb_3x3.bn2.weight",
        "repblock.first.identity_bn.bias": "visual_residual.repblock.brb_identity.bias",
        "repblock.second.point_bn.bias": "visual_residual.repblock.brb_1x1_2.bn.bias",
        "repblock.second.inner.weight": "visual_residual.repblock.brb_3x3_2.conv1.weight",
        "repblock.second.inner_bn.running_var": "visual_residual.repblock.brb_3x3_2.bn1.running_var",
        "repblock.second.spatial.weight": "visual_residual.repblock.brb_3x3_2.conv2.weight",
        "repblock.second.identity_bn.running_mean": "visual_residual.repblock.brb_identity_2.running_mean",
    },
}
NECK_PAIRS = {
    "lavt": {},
    "fianet": {
        "tmem.down.weight": "backbone.tmem.down_channel.weight",
        "tmem.blocks.2.attention.query.bias": "backbone.tmem.block.2.tma.f_query.0.bias",
        "tmem.blocks.1.expand.weight": "backbone.tmem.block.1.ff.net.0.weight",
        "tmem.blocks.0.shrink.weight": "backbone.tmem.block.0.ff.net.3.weight",
        "tmem.bn.running_mean": "backbone.tmem.bn.running_mean",
        "tmem.gates.0.local.weight": "backbone.tmem.fusion.0.local_embedding.weight",
        "tmem.gates.1.wide_bn.weight": "backbone.tmem.fusion.1.bn2.weight",
        "tmem.gates.3.gate.bias": "backbone.tmem.fusion.3.global_act.bias",
    },
    "rmsin": {
        "cim.down.bias": "backbone.cim.down_channel.bias",
        "cim.up.weight": "backbone.cim.up_channel.weight",
        "cim.bn.running_var": "backbone.cim.bn.running_var",
        "cim.blocks.0.attention1.bn.weight": "backbone.cim.block.0.csa1.m.bn1.weight",
        "cim.blocks.0.attention1.stride2.weight": "backbone.cim.block.0.csa1.m.DWConv1.0.weight",
        "cim.blocks.0.attention1.stride2_bn.bias": "backbone.cim.block.0.csa1.m.DWConv1.1.bias",
        "cim.blocks.0.attention2.stride3.bias": "backbone.cim.block.0.csa2.m.DWConv2.0.bias",
        "cim.blocks.0.attention2.stride3_bn.weight": "backbone.cim.block.0.csa2.m.DWConv2.1.weight",
        "cim.blocks.0.attention1.qkv.weight": "backbone.cim.block.0.csa1.m.attention.qkv.c.weight",
        "cim.blocks.0.attention2.qkv_bn.running_mean": "backbone.cim.block.0.csa2.m.attention.qkv.bn.running_mean",
        "cim.blocks.0.attention1.local.weight": "backbone.cim.block.0.csa1.m.attention.parallel_conv.1.weight",
        "cim.blocks.0.attention1.tokens.weight": "backbone.cim.block.0.csa1.m.attention.proj.weight",
        "cim.blocks.0.attention2.out.bias": "backbone.cim.block.0.csa2.m.attention.to_out.bias",
        "cim.blocks.0.attention1.out_bn.running_mean": "backbone.cim.block.0.csa1.m.bn4.running_mean",
        "cim.blocks.0.attention2.mix.weight": "backbone.cim.block.0.csa2.m.conv.weight",
        "cim.blocks.0.scale_ff.scales.0.bn1.weight": "backbone.cim.block.0.intra_ff.m.ff1.m.bn1.weight",
        "cim.blocks.0.scale_ff.scales.3.local.weight": "backbone.cim.block.0.intra_ff.m.ff4.m.conv2.weight",
        "cim.blocks.0.ff.expand.weight": "backbone.cim.block.0.ff.m.conv1.weight",
        "cim.blocks.0.ff.shrink.bias": "backbone.cim.block.0.ff.m.conv3.bias",
        "cim.gates.2.local_bn.bias": "backbone.cim.fusion.2.bn1.bias",
        "decoder.steps.0.conv2.weight": "classifier.conv2_4.weight",
        "decoder.steps.1.conv2.routing.depthwise.weight": "classifier.conv2_3.rounting_func.dwc.weight",
        "decoder.steps.1.conv2.routing.norm.bias": "classifier.conv2_3.rounting_func.norm.norm.bias",
        "decoder.steps.2.conv2.routing.gate.bias": "classifier.conv2_2.rounting_func.fc_alpha.bias",
        "decoder.steps.2.conv2.routing.angle.weight": "classifier.conv2_2.rounting_func.fc_theta.weight",
    },
}


@pytest.fixture(scope="module", params=["lavt", "fianet", "rmsin"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def small(name: str) -> dict[str, torch.Tensor]:
    return official_state_dict(name, seed=0, shapes=small_shapes(name))


def save(folder: Path, content: object) -> Path:
    torch.save(content, folder / "official.pth")
    return folder / "official.pth"


def test_every_released_key_has_its_place_at_paper_size(name: str) -> None:
    shapes = official_shapes(name)
    tensors = {
        key: torch.empty(shape, device="meta") for kind in ("float", "integer") for key, shape in shapes[kind].items()
    }
    cls = registry.load_class(name)
    with torch.device("meta"):
        model = cls(**model_args(name, *RANDOM_WEIGHTS, **({"go_embedding": True} if name == "fianet" else {})))
    converted = convert_official(tensors, model.state_dict(), cls.official_format, Path("released.pth"))
    assert converted.keys() == model.state_dict().keys()
    parameters = {key: value for key, value in converted.items() if not key.endswith("num_batches_tracked")}
    assert len(parameters) == len(shapes["float"])  # no two keys in one place, none left over


def test_every_number_arrives_where_it_belongs(name: str, small, tmp_path: Path) -> None:
    model = load_official(name, save(tmp_path, {"model": small, "epoch": 3}), **model_args(name, *SMALL))
    assert not model.training
    stages = {
        f"stages.{stage}.{ours}": f"backbone.layers.{stage}.{theirs}"
        for stage in range(4)
        for ours, theirs in STAGE_PAIRS[name].items()
    }
    state = model.state_dict()
    for ours, theirs in {**BACKBONE_PAIRS, **stages, **NECK_PAIRS[name]}.items():
        assert state[ours].flatten().equal(small[theirs].flatten()), ours


def test_layouts_of_the_file_are_equal(name: str, small, tmp_path: Path) -> None:
    """Bare or under "model", with or without "module.", with the training arguments, BERT apart or not."""
    text = "text_encoder."
    contents = [
        {"model": small},
        small,
        {"model": {f"module.{key}": value for key, value in small.items()}},
        {"model": small, "args": argparse.Namespace(lr=5e-5, model_id="x"), "optimizer": {"state": {}}},
        {
            "model": {key: value for key, value in small.items() if not key.startswith(text)},
            "bert_model": {key.removeprefix(text): value for key, value in small.items() if key.startswith(text)},
        },
    ]
    models = [load_official(name, save(tmp_path, content), **model_args(name, *SMALL)) for content in contents]
    for model in models[1:]:
        for (key, value), wanted in zip(model.state_dict().items(), models[0].state_dict().values(), strict=True):
            assert value.equal(wanted), key


def test_what_is_ignored_is_named(name: str, small, tmp_path: Path, caplog) -> None:
    path = save(tmp_path, {"model": {**small, "text_encoder.pooler.dense.bias": torch.zeros(96)}})
    with caplog.at_level(logging.WARNING):
        load_official(name, path, **model_args(name, *SMALL))
    for part in ("relative_position_index", "position_ids", "text_encoder.pooler.dense.bias"):
        assert part in caplog.text
    assert ("go_embedding" in caplog.text) == (name == "fianet")


def test_go_embedding_is_loaded_where_the_model_keeps_it(tmp_path: Path, caplog) -> None:
    tensors = official_state_dict("fianet", seed=0, shapes=small_shapes("fianet"))
    with caplog.at_level(logging.WARNING):
        model = load_official("fianet", save(tmp_path, tensors), **model_args("fianet", *SMALL, go_embedding=True))
    assert "go_embedding" not in caplog.text
    wanted = tensors["backbone.layers.3.object_position_align_blk.go_embedding.weight"]
    assert model.state_dict()["stages.3.object.go_embedding.weight"].equal(wanted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("classifier.conv1_3.weight"), "missing in the file: decoder.steps.1.conv1.weight"),
        (
            lambda tensors: tensors.update({"backbone.extra.weight": torch.zeros(2)}),
            "unexpected in the file: backbone.extra.weight",
        ),
        (
            lambda tensors: tensors.update({"backbone.norm1.bias": torch.zeros(7)}),
            r"backbone.norm1.bias has shape \(7,\), the model needs \(32,\)",
        ),
        (
            lambda tensors: tensors.update({"norms.0.bias": torch.zeros(16)}),
            "twice in the file, as norms.0.bias",
        ),
    ],
    ids=["missing", "unexpected", "shape", "twice"],
)
def test_strict(name: str, small, change, message: str, tmp_path: Path) -> None:
    tensors = dict(small)
    change(tensors)
    with pytest.raises(UserError, match=message):
        load_official(name, save(tmp_path, {"model": tensors}), **model_args(name, *SMALL))


def test_another_depth_lists_what_does_not_fit(tmp_path: Path) -> None:
    tensors = official_state_dict("fianet", seed=0, shapes=small_shapes("fianet"))
    with pytest.raises(UserError, match=r"unexpected in the file: backbone\.tmem\.block\.1\.") as caught:
        load_official("fianet", save(tmp_path, {"model": tensors}), **model_args("fianet", *SMALL, num_tmem=1))
    assert "32 problems" in str(caught.value)
    assert "and 20 more" in str(caught.value)


class Sentinel:
    """Unpickling this makes a folder: code in a checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    sentinel = tmp_path / "executed"
    path = save(tmp_path, {"model": {"weight": torch.zeros(1)}, "args": Sentinel(sentinel)})
    with pytest.raises(UserError) as caught:
        load_official("lavt", path)
    assert not sentinel.exists()
    assert "posix.mkdir" in str(caught.value)
    assert str(path) in str(caught.value)
    torch.load(path, weights_only=False)  # noqa: S614 - proof that the file would have run its code
    assert sentinel.exists()


def test_namespace_cannot_smuggle_code(tmp_path: Path) -> None:
    sentinel = tmp_path / "executed"
    path = save(tmp_path, {"model": {}, "args": argparse.Namespace(lr=Sentinel(sentinel))})
    with pytest.raises(UserError, match="posix.mkdir"):
        load_official("lavt", path)
    assert not sentinel.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 torn", "not a readable PyTorch checkpoint"),
        (b"<html>quota exceeded</html>", "is an HTML page"),
        ([1, 2], "holds a list"),
        ({"model": {"weight": [1.0]}}, "'weight' is no tensor"),
        ({"model": {}}, "it is empty"),
    ],
    ids=["empty", "torn", "html", "list", "numbers", "nothing"],
)
def test_files_that_are_no_checkpoint(content, message: str, tmp_path: Path) -> None:
    path = tmp_path / "official.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=message):
        load_official("lavt", path)


def test_missing_file_and_model_without_importer(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(UserError, match="no checkpoint at"):
        load_official("lavt", tmp_path / "nowhere.pth")
    monkeypatch.delattr(registry.load_class("lavt"), "official_format")
    with pytest.raises(UserError, match="official_format"):
        load_official("lavt", tmp_path / "nowhere.pth")
