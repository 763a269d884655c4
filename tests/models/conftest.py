"""Tiny models and batches for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rrsis_bench import registry
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.run import check
from tests.fakes.backbones import SIDE, TOKENS
from tests.fakes.config import model_args


@pytest.fixture
def float64() -> Iterator[None]:
    """Random numbers from seed 0, in float64 as everything that a test builds."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def no_gradients() -> Iterator[None]:
    """Nothing is recorded for a backward pass."""
    with torch.no_grad():
        yield


def build_tiny(name: str, *overrides: str, **args: Any) -> Segmenter:
    """Build a registered model at ``size=tiny``, smaller still, with the same weights every time.

    Args:
        name: registry name.
        overrides: further configuration overrides.
        args: constructor arguments that replace composed ones.
    """
    torch.manual_seed(0)
    return registry.load_class(name)(**model_args(name, *tiny(name), *overrides, **args))


def tiny(name: str) -> tuple[str, ...]:
    """The overrides of a registered model at its tests' size."""
    contract = registry.load_class(name).contract
    return ("size=tiny", f"size.image={SIDE}", f"size.max_tokens={TOKENS}", *contract.tiny_overrides)


def moved_by_more_slots(name: str, **args: Any) -> float:
    """Return the largest change of a model's logits, in float64, when pads are added behind the text."""
    views, text = make_inputs(2)
    text["attention_mask"][:, 6:] = 0
    longer = {key: F.pad(value, (0, 4)) for key, value in text.items()}
    model = build_tiny(name, **args).double().eval()
    with torch.no_grad():
        return float((model(views, text).logits - model(views, longer).logits).abs().max())


def make_inputs(
    samples: int = 3, seed: int = 0, views: Mapping[str, int] | None = None, tokens: int = TOKENS
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Views and text of a batch; every sample has another length, object and position.

    Args:
        samples: B.
        seed: of images and ids.
        views: view name -> side; by default the views of every in-tree model at its tests' size.
        tokens: L.
    """
    views = views or {"image": SIDE, "close": SIDE, "remote": SIDE // 2, "clip": SIDE, "sam": SIDE}
    return check.make_inputs(samples, views, tokens, seed)
