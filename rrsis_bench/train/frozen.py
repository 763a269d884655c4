"""Frozen pretrained parts of a model: checkpoints omit them, store their sha256, and refuse other weights.

A model declares its parts (`Segmenter.frozen_parts`). Only parameters without gradients below such a prefix are
omitted. Adapters, trained parameters and all buffers are in every checkpoint, since a BatchNorm's statistics change
without gradients. A checkpoint whose ``state.json`` names no frozen parts holds the whole model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rrsis_bench.codec import parse_json
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.official import require_numbers
from rrsis_bench.train.checkpoint import MANIFEST, STATE, Checkpoint
from rrsis_bench.train.sharding import full, like

Part = dict[str, Any]
"""``weights``: where they come from; ``sha256``: of the omitted tensors; ``tensors``: their number."""

_SHOWN = 16  # characters of a sha256 in messages


def frozen_keys(model: Segmenter) -> dict[str, list[str]]:
    """Return the state dict keys that a checkpoint omits, by prefix of a frozen part; parts without any are absent.

    Raises:
        ValueError: two of the model's prefixes contain one another.
    """
    prefixes = sorted(model.frozen_parts())
    for shorter, longer in zip(prefixes, prefixes[1:], strict=False):
        if longer.startswith(shorter):
            raise ValueError(f"{type(model).__name__}.frozen_parts: '{longer}' is inside '{shorter}'.")
    # By the parameters themselves: a module may give its state dict other keys than its parameters have.
    frozen = [
        key
        for key, value in model.state_dict(keep_vars=True).items()
        if isinstance(value, nn.Parameter) and not value.requires_grad
    ]
    found = {prefix: sorted(key for key in frozen if key.startswith(prefix)) for prefix in prefixes}
    return {prefix: keys for prefix, keys in found.items() if keys}


def tensors_sha256(tensors: Mapping[str, Tensor], keys: Sequence[str]) -> str:
    """Return a sha256 over names, dtypes, shapes and bytes of the tensors named by `keys`; the same on every device."""
    digest = hashlib.sha256()
    for key in sorted(keys):
        value = full(tensors[key].detach()).cpu().contiguous()
        digest.update(json.dumps([key, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def describe(model: Segmenter) -> dict[str, Part]:
    """Describe the parts that a checkpoint omits: prefix -> `Part`. Takes seconds per billion parameters."""
    specs, tensors = model.frozen_parts(), model.state_dict()
    return {
        prefix: {"weights": specs[prefix], "sha256": tensors_sha256(tensors, keys), "tensors": len(keys)}
        for prefix, keys in frozen_keys(model).items()
    }


def trainable_state(model: Segmenter) -> dict[str, Tensor]:
    """Return the state dict without the keys that a checkpoint omits."""
    absent = {key for keys in frozen_keys(model).values() for key in keys}
    return {key: value for key, value in model.state_dict().items() if key not in absent}


def load(model: Segmenter, saved: Checkpoint, part: str = "model") -> None:
    """Load a model from a checkpoint; the frozen parts that it omits must equal those of `model`, bit for bit.

    Args:
        model: receives the weights.
        saved: the checkpoint.
        part: its file; ``training`` if a callback's model was saved as ``model``.

    Raises:
        UserError: a tensor holds NaN, or a frozen part of `model` has other weights; nothing is loaded then.
        RuntimeError: keys or shapes do not fit, as from `load_state_dict`.
    """
    tensors, own = saved.tensors[part], model.state_dict()
    require_numbers(tensors, str(saved.path))
    complete = dict(tensors)
    for prefix, known in saved.state.get("frozen", {}).items():
        absent = [key for key in own if key.startswith(prefix) and key not in tensors]
        if len(absent) == known["tensors"]:
            now = tensors_sha256(own, absent)
        else:
            now = f"over {len(absent)} tensors, not {known['tensors']}"
        if now != known["sha256"]:
            raise _other_weights(saved.path, prefix, known, now, model.frozen_parts().get(prefix))
        complete |= {key: own[key] for key in absent}
    model.load_state_dict({key: like(value, own[key]) if key in own else value for key, value in complete.items()})


def weights_sha256(path: Path) -> str:
    """Return the sha256 of the weights of the checkpoint in `path`: that of ``model.safetensors``.

    If frozen parts are omitted, it also covers their hashes, because the same adapters on another backbone are other
    weights.
    """
    file: str = parse_json((path / MANIFEST).read_text(encoding="utf-8"))["sha256"]["model.safetensors"]
    parts = parse_json((path / STATE).read_text(encoding="utf-8")).get("frozen", {})
    if not parts:
        return file
    known = {"model": file, "frozen": {prefix: part["sha256"] for prefix, part in parts.items()}}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _other_weights(path: Path, prefix: str, part: Part, now: str, spec: str | None) -> UserError:
    name = prefix.rstrip(".")
    cure = "Use the weights that it was trained with"
    if part["weights"] == "random":
        cure += ", which were random: they come from the seed, on the same version of PyTorch"
    return UserError(
        f"The checkpoint {path} omits the frozen part '{name}', which has other weights here:\n"
        f"  there {part['weights']}, sha256 {part['sha256'][:_SHOWN]}\n"
        f"  here  {spec or 'no such part'}, sha256 {now[:_SHOWN] if ' ' not in now else now}\n"
        f"{cure}. (Checkpoints written with trainer.full_checkpoints=true hold the frozen parts too.)"
    )
