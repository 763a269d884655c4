"""Random state: one seed for every generator, saved and restored exactly.

The order of the samples needs no state: it is a pure function of (seed, epoch), so that a resumed run continues in
the middle of an epoch without replaying it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy's legacy generator (used by libraries) and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries draw from it
    torch.manual_seed(seed)


def epoch_order(n: int, seed: int, epoch: int) -> list[int]:
    """Return the order in which epoch `epoch` visits the `n` training samples."""
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(n).tolist()
    return order


def image_order(images: Sequence[str], seed: int, epoch: int) -> list[int]:
    """Return the order of an epoch in which the samples of an image follow each other, images in random order.

    Args:
        images: image id of every training sample.
        seed: the run's.
        epoch: from 0.
    """
    groups: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image, []).append(index)
    generator = np.random.default_rng([seed, epoch])
    members = list(groups.values())
    return [
        int(index) for place in generator.permutation(len(members)) for index in generator.permutation(members[place])
    ]


def get_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return all generators' states as (tensors, JSON-ready values)."""
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    numpy_state = [name, np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)]
    return tensors, {"python": [version, list(words), gauss], "numpy": numpy_state}


def set_state(tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Restore what `get_state` returned."""
    torch.set_rng_state(tensors["torch"].cpu())
    cuda = [tensors[key].cpu() for key in sorted(tensors) if key.startswith("cuda.")]
    if cuda and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)
    version, words, gauss = values["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = values["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
