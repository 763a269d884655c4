"""Constant tensors of a forward pass, kept on the device that reads them."""

from __future__ import annotations

from collections.abc import Callable
from functools import _lru_cache_wrapper, lru_cache
from typing import Any

import torch
from torch import Tensor


def on_device(make: Callable[..., Tensor]) -> _lru_cache_wrapper[Tensor]:
    """Return a function of `make`'s sizes, a device and a dtype, whose results are kept there for later passes.

    A pass then copies nothing from the host. The default device, and inference mode, of the first caller are not
    remembered: later callers may be elsewhere, or train.
    """

    @lru_cache(maxsize=32)
    def kept(*arguments: Any) -> Tensor:
        *sizes, device, dtype = arguments
        with torch.inference_mode(False), torch.device("cpu"):
            return make(*sizes).to(device, dtype)

    return kept
