"""The ResNet at output stride 8: the authors' maps, its layouts, its frozen parts, its weights."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet101
from torchvision.models.segmentation import deeplabv3_resnet101

from rrsis_bench.backbones import build_vision
from rrsis_bench.backbones.resnet import ResNetEncoder, pad_same
from rrsis_bench.errors import UserError
from tests.fakes.backbones import node
from tests.fakes.classic import GOLDEN, stream


def tiny(**options) -> ResNetEncoder:
    torch.manual_seed(0)
    return build_vision(
        node("vision/resnet_tiny", layers=[1, 1, 1, 1], channels=[4, 6, 8, 10], **options), ResNetEncoder
    )


def images(samples: int = 2, side: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (samples, 3, side, side), dtype=torch.uint8, generator=generator)


def resnet_key(variable: str) -> str:
    """The key of a variable of the Caffe-converted DeepLab-v2, such as bn4b3_branch2a/gamma."""
    part, kind = variable.split("/")
    last = {"weights": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}.get(
        kind, "running_var"
    )
    if part in ("conv1", "bn_conv1"):
        return f"{part.removeprefix('bn_').replace('conv1', 'conv1' if kind == 'weights' else 'bn1')}.{last}"
    name, branch = part.removeprefix("res").removeprefix("bn").split("_")
    stage, place = int(name[0]) - 1, name[1:]
    block = int(place[1:]) if len(place) > 1 else "abc".index(place)
    inner = (
        ("conv" if kind == "weights" else "bn") + str("abc".index(branch[-1]) + 1)
        if branch != "branch1"
        else ("downsample.0" if kind == "weights" else "downsample.1")
    )
    return f"layer{stage}.{block}.{inner}.{last}"


def noise(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    drawn, kind = stream(seed, name).standard_normal(shape), name.split("/")[-1]
    if kind == "gamma":
        return (1 + 0.1 * drawn) * (0.3 if "branch2c" in name else 1)
    if kind == "moving_variance":
        return 0.5 + 0.5 * np.abs(drawn)
    return 0.1 * drawn if kind in ("beta", "moving_mean") else drawn * np.sqrt(2 / np.prod(shape[:-1]))


@pytest.fixture(scope="module")
def authors() -> tuple[ResNetEncoder, Tensor, dict[str, np.ndarray]]:
    with np.load(GOLDEN / "expected_deeplab_resnet101.npz") as file:
        expected = dict(file)
    shapes = json.loads((GOLDEN / "deeplab_resnet101_variables.json").read_text())
    seed = int(expected["seeds_weight_input"][0])
    weights = {}
    for name, shape in shapes.items():
        value = torch.from_numpy(noise(name, tuple(shape), seed))
        weights[resnet_key(name)] = value.permute(3, 2, 0, 1) if value.ndim == 4 else value
    encoder = build_vision(node("vision/resnet101", weights="random", layout="deeplab"), ResNetEncoder).double()
    missing = encoder.resnet.load_state_dict(weights, strict=False)
    assert not missing.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
    image = stream(11, "picture").uniform(-120, 130, (1, 80, 80, 3)) / 60
    return encoder.eval(), torch.from_numpy(image).permute(0, 3, 1, 2), expected


def map_errors(encoder: ResNetEncoder, image: Tensor, expected: dict[str, np.ndarray]) -> dict[str, float]:
    with torch.no_grad():
        maps = encoder.maps(image)
    errors = {}
    for tap, every in (("c2", 8), ("c3", 8), ("c4", 8), ("c5", 32)):
        suffix = "every_32nd_channel" if every == 32 else "every_8th_channel"
        wanted = torch.from_numpy(expected[f"{tap}_{suffix}"]).permute(0, 3, 1, 2)
        errors[tap] = float((maps[tap][:, ::every] - wanted).norm() / (wanted - wanted.mean()).norm())
    return errors


@pytest.mark.slow
def test_the_deeplab_layout_gives_the_authors_maps(authors) -> None:
    encoder, image, expected = authors
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 42_500_160
    errors = map_errors(encoder, image, expected)
    assert max(errors.values()) <= 1e-9, errors


MUTATIONS: dict[str, Callable[[nn.Module], None]] = {
    "batch norm eps": lambda net: [setattr(m, "eps", 1e-5) for m in net.modules() if isinstance(m, nn.BatchNorm2d)],
    "dilation of first blocks": lambda net: (
        setattr(net.layer4[0].conv2, "dilation", (2, 2)), setattr(net.layer4[0].conv2, "padding", (2, 2)),
    ),
    "stride on the 3x3": lambda net: (
        setattr(net.layer2[0].conv1, "stride", (1, 1)), setattr(net.layer2[0].conv2, "stride", (2, 2)),
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_another_layout_is_seen(authors, name) -> None:
    encoder, image, expected = authors
    kept = {
        key: (module.stride, module.dilation, module.padding)
        for key, module in encoder.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    MUTATIONS[name](encoder.resnet)
    errors = map_errors(encoder, image, expected)
    for key, module in encoder.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
        elif key in kept:
            module.stride, module.dilation, module.padding = kept[key]
    assert max(errors.values()) > 1e-3


def test_same_padding_of_an_even_side_is_one_more_behind() -> None:
    """7 x 7: two before, three behind; 3 x 3: none before, one behind. On an odd side both are equal."""
    assert pad_same(torch.ones(1, 1, 8, 8), 7)[0, 0].sum(1).tolist() == [0] * 2 + [8] * 8 + [0] * 3
    assert pad_same(torch.ones(1, 1, 8, 8), 3)[0, 0].sum(1).tolist() == [8] * 8 + [0]
    assert pad_same(torch.ones(1, 1, 9, 9), 7)[0, 0].sum(1).tolist() == [0] * 3 + [9] * 9 + [0] * 3


def test_the_deeplab_layout_differs_from_torchvisions_in_strides_and_dilations() -> None:
    found = {}
    for layout in ("torchvision", "deeplab"):
        encoder = tiny(layout=layout)
        blocks = [stage[0] for stage in (encoder.resnet.layer2, encoder.resnet.layer3, encoder.resnet.layer4)]
        found[layout] = [(block.conv1.stride[0], block.conv2.stride[0], block.conv2.dilation[0]) for block in blocks]
        assert {tap: value.shape[-1] for tap, value in encoder.eval()(images()).items()} == {
            "c2": 16, "c3": 8, "c4": 8, "c5": 8,
        }  # fmt: skip
    assert found == {"torchvision": [(1, 2, 1), (1, 1, 1), (1, 1, 2)], "deeplab": [(2, 1, 1), (1, 1, 2), (1, 1, 4)]}


def test_the_deeplab_layout_reads_bgr_minus_caffes_mean() -> None:
    encoder, seen = tiny(layout="deeplab"), []
    encoder.maps = lambda image: seen.append(image) or {}  # type: ignore[method-assign]
    encoder(torch.tensor([10, 20, 30], dtype=torch.uint8)[None, :, None, None])
    assert seen[0].flatten().tolist() == pytest.approx([30 - 104.007, 20 - 116.669, 10 - 122.679], abs=1e-3)


def test_the_torchvision_layout_is_torchvisions() -> None:
    theirs = resnet101(replace_stride_with_dilation=[False, True, True], weights=None).eval()
    ours = build_vision(node("vision/resnet101", weights="random"), ResNetEncoder).eval()
    ours.resnet.load_state_dict({key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")})
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        maps = ours.maps(x)
        x = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x)))))
        assert torch.allclose(maps["c2"], x, rtol=1e-4, atol=1e-5)
        for tap, layer in (("c3", theirs.layer2), ("c4", theirs.layer3), ("c5", theirs.layer4)):
            x = layer(x)
            assert torch.allclose(maps[tap], x, rtol=1e-3, atol=1e-4 * float(x.abs().max())), tap


@pytest.mark.slow
def test_torchvisions_deeplab_can_be_loaded(tmp_path) -> None:
    theirs = deeplabv3_resnet101(weights=None, weights_backbone=None, aux_loss=True)
    torch.save(theirs.state_dict(), tmp_path / "deeplab.pth")
    ours = build_vision(node("vision/resnet101", weights=str(tmp_path / "deeplab.pth")), ResNetEncoder)
    assert ours.resnet.layer4[2].conv3.weight.equal(theirs.backbone.layer4[2].conv3.weight)


def test_maps_have_the_declared_widths_and_strides() -> None:
    maps = tiny().eval()(images())
    assert {tap: tuple(value.shape) for tap, value in maps.items()} == {
        "c2": (2, 16, 16, 16), "c3": (2, 24, 8, 8), "c4": (2, 32, 8, 8), "c5": (2, 40, 8, 8),
    }  # fmt: skip


def test_frozen_stages_and_norms_do_not_move() -> None:
    encoder = tiny(train_stages=[3, 4], train_norms=False).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    sum(value.sum() for value in encoder(images()).values()).backward()
    learning = {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert learning == {
        name for name, parameter in encoder.named_parameters()
        if name.startswith(("resnet.layer3", "resnet.layer4")) and parameter.ndim == 4
    }  # fmt: skip
    assert all(value.equal(before[key]) for key, value in encoder.state_dict().items())
    assert not any(module.training for module in encoder.modules() if isinstance(module, nn.BatchNorm2d))


def test_trained_norms_use_the_batch() -> None:
    encoder = tiny().train()
    before = encoder.resnet.bn1.running_mean.clone()
    encoder(images())
    assert not encoder.resnet.bn1.running_mean.equal(before)


def test_unknown_stages_and_missing_weights_are_errors(tmp_path) -> None:
    with pytest.raises(UserError, match=r"train_stages.*5"):
        tiny(train_stages=[5])
    with pytest.raises(UserError, match=r"vision\.weights"):
        tiny(weights=str(tmp_path / "none.pth"))
