"""Systems of the papers' tables reproduce what their authors' own code computed, from files with the authors' keys.

The small files run every time. The native ones are slow and need the folder that RRSIS_PARITY names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rrsis_bench import registry
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.official import convert_official
from rrsis_bench.train.losses import SegmentationLoss
from tests.fakes.config import RANDOM_WEIGHTS, compose, model_args
from tests.fakes.zoo import errors, expected_outputs, full_logits, load_zoo, zoo_shapes

# Parameters in the authors' files, and of these the ones that their code never uses.
COUNTS = {
    "mafn": (350_056_899, 54_122_140),
    "lgce": (276_257_786, 22_142_592),
    "dmmi": (340_578_160, 25_730_816),
    "crossvlt": (236_711_038, 2_097_156),
    "caris": (226_572_664, 18_688),
    "lscf": (248_212_224, 2_234_948),
    "refsegformer": (234_411_520, 5_514_368),
    "cgformer": (253_705_595, 4_199_426),
}
ALIGNED = {"lscf": False}
# Weights of the masks in the loss, fine to coarse, and strides of the coarser ones.
SIDE_MAPS = {"refsegformer": ((1.0, 0.4, 0.4, 0.4), (8, 16, 32))}
# What is broken; the fixture of the first image must show each.
Mutation = tuple[str, Callable[[Segmenter], object]]
MUTATIONS: dict[str, tuple[Mutation, ...]] = {
    "mafn": (
        ("no noise in a block", lambda model: setattr(model.backbone.layers[2].blocks[1], "after_attention", None)),
        ("a window less", lambda model: model.stages[1].fuse.windows.branches.__setitem__(2, torch.nn.Identity())),
        ("no second block in a step", lambda model: setattr(model.decoder.steps[1], "second", torch.nn.Identity())),
    ),
    "lgce": (
        ("the mean leaves out the pads", lambda model: setattr(model, "pads", "masked")),
        ("one block less", lambda model: model.guided[1].blocks.__setitem__(2, torch.nn.Identity())),
        ("no gate in stage 2", lambda model: setattr(model.stages[2], "gate", None)),
    ),
    "dmmi": (
        ("the decoder leaves out the pads", lambda model: setattr(model, "pads", "masked")),
        ("the words stay as they are", lambda model: setattr(model.stages[1], "word_update", torch.nn.Identity())),
        ("no gate in stage 2", lambda model: setattr(model.stages[2], "gate", None)),
        ("a language layer less", lambda model: model.decoder.language.__setitem__(1, PassedOn())),
    ),
    "crossvlt": (
        ("no second fusion in stage 1", lambda model: setattr(model.merged[0], "gate", None)),
        ("a head in stage 0", lambda model: setattr(model.stages[0].fusion, "heads", 2)),
        ("words do not read stage 3", lambda model: setattr(model.language[2], "to_pixels", PassedOn())),
    ),
    "caris": (
        ("prompts without their norm", lambda model: setattr(model.prompts, "norm", torch.nn.Identity())),
        ("pixels do not read words", lambda model: setattr(model.decoder.layers[1], "pixels_from_words", PassedOn())),
        ("the norms of pixels as their authors number them", lambda model: swap(model.decoder.layers[2].pixels_norms)),
        ("no norm behind stage 1", lambda model: model.norms.__setitem__(1, torch.nn.Identity())),
    ),
    "lscf": (
        ("the sentence leaves out the pads", lambda model: setattr(model, "pads", "masked")),
        ("no gate in stage 0", lambda model: setattr(model.stages[0], "gate", None)),
        ("one head", lambda model: [setattr(stage.attention, "heads", 1) for stage in model.stages]),
        ("no norm before the decoder", lambda model: model.norms.__setitem__(1, torch.nn.Identity())),
    ),
    "refsegformer": (
        ("the memory leaves out the pads", lambda model: setattr(model, "pads", "masked")),
        ("the decoder reads no memory in stage 3", lambda model: model.decoder.norms.__setitem__(1, Nothing())),
        ("one head in the decoder", lambda model: [setattr(part, "heads", 1) for part in model.decoder.attentions]),
        ("no norm of the queries in stage 4", lambda model: setattr(model.stages[2], "input_bn", torch.nn.Identity())),
    ),
    "cgformer": (
        ("one head in the encoder", lambda model: [setattr(part.pwam.attention, "heads", 1) for part in model.stages]),
        ("no words in level 2", lambda model: setattr(model.decoder.loads[0], "attention", Nothing())),
        (
            "one grouping for all levels",
            lambda model: model.decoder.groupings.__setitem__(0, model.decoder.groupings[1]),
        ),
        ("no gate in stage 2", lambda model: setattr(model.stages[2], "gate", None)),
    ),
}


class PassedOn(torch.nn.Module):
    """A language layer that changes nothing."""

    def forward(self, pixels: Tensor, *words: Tensor, **masks: Tensor) -> Tensor:  # noqa: ARG002
        return pixels


class Nothing(torch.nn.Module):
    """Takes away what passes."""

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:  # noqa: ARG002
        return torch.zeros_like(x)


def swap(modules: torch.nn.ModuleList) -> None:
    """Exchange the first two."""
    modules[0], modules[1] = modules[1], modules[0]


@pytest.fixture(scope="module", params=sorted(COUNTS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_key_of_the_authors_file_has_its_place(name: str) -> None:
    shapes = zoo_shapes(name)
    every = {key: torch.empty(shape, device="meta") for part in shapes.values() for key, shape in part.items()}
    cls = registry.load_class(name)
    with torch.device("meta"):
        model = cls(**model_args(name, *RANDOM_WEIGHTS))
    file_format = cls.official_format
    converted = convert_official(every, model.state_dict(), file_format, Path("released.pth"))
    assert converted.keys() == model.state_dict().keys()
    unused = [key for key in shapes["float"] if file_format.rename(key) not in converted]
    buffers = ("running_mean", "running_var", "hamming_lowpass", "hamming_highpass")
    dead = sum(torch.Size(shapes["float"][key]).numel() for key in unused if not key.endswith(buffers))
    built = sum(parameter.numel() for parameter in model.parameters())
    assert (built + dead, dead) == COUNTS[name]


def test_the_small_fixture_in_both_precisions_and_what_it_sees(name: str, tmp_path: Path) -> None:
    expected = expected_outputs(f"{name}_small")
    model = load_zoo(f"{name}_small", expected, tmp_path)
    first = {**expected, "image_shape": (1, *expected["image_shape"][1:]), "input_ids": expected["input_ids"][:1]}
    first |= {key: expected[key][:1] for key in ("attention_mask", "logits_every_8th")}
    assert max(errors(full_logits(model, first, align_corners=ALIGNED.get(name, True)), first)) <= 1e-4
    for label, mutate in MUTATIONS[name]:
        kept = {part: dict(vars(part)) for part in model.modules()}
        modules = {part: dict(part._modules) for part in model.modules()}
        mutate(model)
        error = max(errors(full_logits(model, first, align_corners=ALIGNED.get(name, True)), first))
        assert error > 1e-3, f"{label}: {error:.1e}"
        for part, attributes in kept.items():
            vars(part).update(attributes)
            part._modules.clear()
            part._modules.update(modules[part])
    levels: list[list[Tensor]] = []
    if name in SIDE_MAPS:
        model.decoder.register_forward_hook(lambda *passed: levels.append(passed[2]))
    logits = full_logits(model.double(), expected, align_corners=ALIGNED.get(name, True))
    found = errors(logits, expected)
    print(f"{name}: {max(found):.2e}")  # shown with -s
    assert max(found) <= 1e-5
    assert foreground_agrees(logits, expected["foreground_pixels"].tolist())
    assert float(logits.mean()) == pytest.approx(float(expected["logits_mean"]), abs=1e-5)
    assert float(logits.std(correction=0)) == pytest.approx(float(expected["logits_std"]), rel=1e-4)
    if name in SIDE_MAPS:
        check_side_maps(name, [torch.cat(rows) for rows in zip(*levels, strict=True)], expected)


def check_side_maps(name: str, levels: list[Tensor], expected: dict[str, np.ndarray]) -> None:
    """Compare the masks of the coarser levels and the loss of the recipe in `conf` with the authors'."""
    for level, stride in zip(levels[1:], SIDE_MAPS[name][1], strict=True):
        wanted = torch.from_numpy(expected[f"side_logits_stride_{stride}"])
        assert float((level - wanted).norm() / (wanted - wanted.mean()).norm()) <= 1e-5
    train = compose(f"model={name}", "data=custom")["train"]
    loss = SegmentationLoss(train["loss"], align_corners=train["align_corners"])
    target = torch.randint(
        0, 2, (2, *expected["image_shape"][2:]), generator=torch.Generator().manual_seed(int(expected["target_seed"]))
    )
    total = sum(weight * loss(level, target) for weight, level in zip(SIDE_MAPS[name][0], levels, strict=True))
    assert float(total) == pytest.approx(float(expected["loss"]), rel=1e-5)


def foreground_agrees(logits_BHW: Tensor, expected: list[int]) -> bool:
    """Whether the foreground pixels are as expected, up to pixels whose logit another kernel may give another sign."""
    found, unsure = (logits_BHW > 0).sum((1, 2)).tolist(), (logits_BHW.abs() < 1e-5).sum((1, 2)).tolist()
    return all(abs(one - two) <= n for one, two, n in zip(found, expected, unsure, strict=True))


@pytest.mark.slow
def test_the_native_fixture(name: str, tmp_path: Path) -> None:
    expected = expected_outputs(name)
    model = load_zoo(name, expected, tmp_path).double()
    logits = full_logits(model, expected, align_corners=ALIGNED.get(name, True))
    found = errors(logits, expected)
    print(f"{name}: {max(found):.2e}")
    assert max(found) <= 1e-5
    assert foreground_agrees(logits, expected["foreground_pixels"].tolist())
