"""A bottleneck ResNet at output stride 8, on timm's `ResNet`: the feature maps C2 to C5 of the CNN and LSTM systems.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Chen et al., "DeepLab", TPAMI 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from timm.models.resnet import Bottleneck, ResNet
from torch import Tensor, nn

from rrsis_bench.backbones.interfaces import Backbone, BackboneConfig
from rrsis_bench.backbones.weights import load_strict, locate_weights, read_tensors
from rrsis_bench.errors import UserError

FIELD = "vision"
STRIDE = 8
TAPS = ("c2", "c3", "c4", "c5")
EXPANSION = 4
CLASSIFIERS = ("fc.", "classifier.", "aux_classifier.")  # keys of released files that are not part of the backbone
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # RGB, of values from 0 to 1
CAFFE_BGR = (104.007, 116.669, 122.679)
DEEPLAB_EPS = 1e-3


@dataclass(frozen=True, slots=True)
class ResNetConfig(BackboneConfig):
    """Options of the ResNet. `weights` may name a timm or torchvision file, or torchvision's DeepLabV3.

    Attributes:
        layers: blocks per stage.
        channels: inner width per stage; a stage returns four times as many channels.
        layout: ``"torchvision"``, or ``"deeplab"``: strides, dilations, padding, batch norm and input of the
            Caffe-converted DeepLab-v2.
        train_stages: stages, 0 (the stem) to 4, whose convolutions are trained.
        train_norms: whether the batch norms are trained and use the statistics of the batch. False: they stay as
            loaded, as in the authors' code.
    """

    layers: tuple[int, int, int, int]
    channels: tuple[int, int, int, int]
    layout: Literal["torchvision", "deeplab"]
    train_stages: tuple[int, ...]
    train_norms: bool


class ResNetEncoder(Backbone):
    """uint8 views -> feature maps C2 (stride 4), C3, C4 and C5 (stride 8).

    Attributes:
        widths: channels of each map by name.
    """

    Config = ResNetConfig
    config: ResNetConfig
    mean: Tensor
    std: Tensor

    def __init__(self, config: ResNetConfig) -> None:
        """Build the encoder, read its weights and freeze what is not trained.

        Raises:
            UserError: unknown stages, or weights that cannot be read.
        """
        super().__init__()
        self.config = cfg = config
        if unknown := sorted(set(cfg.train_stages) - set(range(5))):
            raise UserError(f"{FIELD}.train_stages has {unknown}. Stages are 0 (the stem) to 4.")
        weights = locate_weights(cfg.weights, "ResNet", f"{FIELD}.weights")
        self.widths = dict(zip(TAPS, (EXPANSION * width for width in cfg.channels), strict=True))
        block: Any = Bottleneck  # timm's annotation asks for an object, not for the class
        self.resnet: Any = ResNet(block, cfg.layers, num_classes=0, output_stride=STRIDE, channels=cfg.channels)
        if cfg.layout == "deeplab":
            _as_deeplab(self.resnet)
            mean, std = tuple(value / 255 for value in CAFFE_BGR), (1 / 255,) * 3
        else:
            mean, std = IMAGENET
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        if weights is not None:
            tensors = adapt_resnet_keys(read_tensors(weights, "ResNet", f"{FIELD}.weights"))
            load_strict(self.resnet, tensors, cfg.weights, "ResNet", ignored=CLASSIFIERS)
        self._freeze()

    def _freeze(self) -> None:
        net, cfg = self.resnet, self.config
        stages = ([net.conv1, net.bn1], [net.layer1], [net.layer2], [net.layer3], [net.layer4])
        for stage, parts in enumerate(stages):
            for module in (inner for part in parts for inner in part.modules()):
                is_norm = isinstance(module, nn.BatchNorm2d)
                trained = stage in cfg.train_stages and (cfg.train_norms or not is_norm)
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(trained)

    def train(self, mode: bool = True) -> Self:
        """Set training mode; batch norms that are not trained keep their running statistics."""
        super().train(mode)
        if not self.config.train_norms:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, image_B3SS: Tensor) -> dict[str, Tensor]:
        """Return the maps ``c2`` (B, C, S/4, S/4), ``c3``, ``c4`` and ``c5`` (B, C, S/8, S/8) of uint8 RGB views."""
        image = image_B3SS.to(self.resnet.conv1.weight.dtype) / 255
        if self.config.layout == "deeplab":
            image = image.flip(1)
        return self.maps((image - self.mean) / self.std)

    def maps(self, image_BCHW: Tensor) -> dict[str, Tensor]:
        """Return the maps of a normalised image; see `forward`."""
        net = self.resnet
        if self.config.layout == "deeplab":
            image_BCHW = pad_same(image_BCHW, 7)
        x_BCHW = net.act1(net.bn1(net.conv1(image_BCHW)))
        if self.config.layout == "deeplab":
            x_BCHW = pad_same(x_BCHW, 3)
        x_BCHW = net.maxpool(x_BCHW)
        found = {}
        for tap, stage in zip(TAPS, (net.layer1, net.layer2, net.layer3, net.layer4), strict=True):
            found[tap] = x_BCHW = stage(x_BCHW)
        return found


def _as_deeplab(net: Any) -> None:
    """Change a ResNet at output stride 8 to the layout of the Caffe-converted DeepLab-v2."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = DEEPLAB_EPS
    net.conv1.padding, net.maxpool.padding = (0, 0), 0  # `pad_same` pads
    net.layer2[0].conv1.stride, net.layer2[0].conv2.stride = (2, 2), (1, 1)
    for stage, dilation in ((net.layer3, 2), (net.layer4, 4)):
        stage[0].conv2.dilation = stage[0].conv2.padding = (dilation, dilation)


def pad_same(x_BCHW: Tensor, kernel: int) -> Tensor:
    """Pad with zeros for a stride of 2 as TensorFlow's ``SAME``: on an even side one more behind than before."""
    pads = []
    for side in (x_BCHW.shape[3], x_BCHW.shape[2]):
        total = max((-(-side // 2) - 1) * 2 + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x_BCHW, pads)  # zeros do not win the pooling, since it follows a ReLU


def adapt_resnet_keys(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of torchvision's DeepLabV3 to the keys of its ResNet; other keys stay."""
    return {key.removeprefix("backbone."): value for key, value in tensors.items()}
