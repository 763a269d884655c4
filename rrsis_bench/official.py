"""Read checkpoints that a paper's authors released, without executing code in them.

A model class describes its authors' files in the attribute `official_format`. This module names no model.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rrsis_bench import registry
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.weight_files import bare, opened, read_content, require_tensors

logger = logging.getLogger(__name__)

SHOWN_KEYS = 12

Renames = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]


@dataclass(frozen=True, slots=True)
class OfficialCheckpointFormat:
    """Map the tensors of the authors' files to those of a model.

    Attributes:
        renames: (regular expression, replacement) pairs, applied to a key one after another with `re.sub`.
        ignored: regular expression -> reason to drop the official keys that match it. A key is dropped only if the
            model has no tensor of the renamed key.
        constants: regular expression -> value of the official buffers that match it, up to leading axes of size 1.
            They are compared and not loaded. A file without any such buffer, or with another value, is refused.
        parts: entry of the file -> prefix of its keys. Only the first entry is required.
        build_args: constructor arguments for a model whose weights are then replaced, so that no pretrained weights
            are loaded first. Mappings are merged with the caller's.
    """

    renames: Renames
    ignored: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=lambda: {"model": ""})
    build_args: Mapping[str, Any] = field(default_factory=dict)

    def rename(self, key: str) -> str:
        """Return the model's name of the official `key`."""
        for pattern, replacement in self.renames:
            key = re.sub(pattern, replacement, key)
        return key

    def reason_to_ignore(self, key: str) -> str | None:
        """Return why the official `key` may be dropped, or None."""
        return next((reason for pattern, reason in self.ignored.items() if re.search(pattern, key)), None)


def load_official(model: str, path: str | Path, **model_args: Any) -> Segmenter:
    """Build `model` at the size of the authors' file and load it, in evaluation mode.

    Args:
        model: registry name.
        path: the released ``.pth``: ``{"model": state_dict, ...}`` or a bare state dict, or one
            under another usual name; keys with or without ``module.`` and ``_orig_mod.``.
        model_args: constructor arguments, as in ``model.args`` of the configuration.

    Raises:
        UserError: a model without `official_format`; a missing or damaged file; a file that could run code; keys or
            shapes that do not fit, which the message lists.
    """
    cls = registry.load_class(model)
    file_format: OfficialCheckpointFormat | None = getattr(cls, "official_format", None)
    if file_format is None:
        raise UserError(
            f"The model '{model}' cannot read official checkpoints: its class has no `official_format`. Give a run "
            "folder or a checkpoint folder of this suite instead."
        )
    tensors = read_official(path, file_format.parts)
    require_numbers(tensors, str(path))
    arguments = dict(model_args)
    for name, default in file_format.build_args.items():
        merges = isinstance(default, Mapping)
        arguments[name] = {**(arguments.get(name) or {}), **default} if merges else default
    built = cls(**arguments)
    built.load_state_dict(convert_official(tensors, built.state_dict(), file_format, Path(path)))
    return built.eval()


def require_numbers(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse loaded weights with NaN.

    Raises:
        UserError: naming the tensors and where they were loaded from.
    """
    broken = [name for name, value in tensors.items() if value.is_floating_point() and bool(torch.isnan(value).any())]
    if broken:
        names = ", ".join(broken[:SHOWN_KEYS]) + (" ..." if len(broken) > SHOWN_KEYS else "")
        raise UserError(f"{where} holds NaN in {names}. Use an earlier checkpoint, or train again with a lower rate.")


def read_official(path: str | Path, parts: Mapping[str, str]) -> dict[str, Tensor]:
    """Read the tensors of an official file; `parts` as in `OfficialCheckpointFormat`.

    Raises:
        UserError: a missing or damaged file, a file that could run code, or a file without tensors.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"There is no checkpoint at {path}. Download the authors' file and give its path.")
    content = opened(read_content(path), path, next(iter(parts)))
    tensors = {
        prefix + key: value for part, prefix in parts.items() for key, value in bare(content.get(part, {})).items()
    }
    return require_tensors(tensors, path)


def convert_official(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], file_format: OfficialCheckpointFormat, path: Path
) -> dict[str, Tensor]:
    """Rename `tensors` to fit the state dict `wanted`, strictly.

    Kernels of 1 x 1 convolutions become the weights of linear layers if the model has linear layers there.

    Raises:
        UserError: missing keys, unexpected keys or different shapes. The message lists them.
    """
    converted: dict[str, Tensor] = {}
    ignored: dict[str, list[str]] = {}
    problems, constant = _check_constants(tensors, file_format.constants)
    for key, value in tensors.items():
        if key in constant:
            continue
        name = file_format.rename(key)
        if name not in wanted:
            reason = file_format.reason_to_ignore(key)
            if reason is None:
                problems.append(f"unexpected in the file: {key}")
            else:
                ignored.setdefault(reason, []).append(key)
            continue
        shape = wanted[name].shape
        if value.shape[: len(shape)] == shape and all(side == 1 for side in value.shape[len(shape) :]):
            value = value.reshape(shape)
        if value.shape != shape:
            problems.append(f"{key} has shape {tuple(value.shape)}, the model needs {tuple(shape)}")
        elif name in converted:
            problems.append(f"twice in the file, as {key}: {name}")
        converted[name] = value
    problems += [f"missing in the file: {name}" for name in wanted if name not in converted]
    if problems:
        shown = "\n  ".join(problems[:SHOWN_KEYS])
        more = f"\n  and {len(problems) - SHOWN_KEYS} more" if len(problems) > SHOWN_KEYS else ""
        raise UserError(
            f"{path} does not fit this model ({len(problems)} problems). Check model=, size= and model.args (depths, "
            f"blocks, switches):\n  {shown}{more}"
        )
    for reason, keys in ignored.items():
        logger.warning("Ignored %d keys of %s, %s: %s", len(keys), path.name, reason, _summary(keys))
    return converted


def _check_constants(tensors: Mapping[str, Tensor], constants: Mapping[str, Tensor]) -> tuple[list[str], set[str]]:
    """Return what is wrong with the buffers of a fixed value, and their keys."""
    problems, found = [], set()
    for pattern, wanted in constants.items():
        keys = [key for key in tensors if re.search(pattern, key)]
        found.update(keys)
        if not keys:
            problems.append(f"missing in the file: a constant buffer {pattern}")
        for key in keys:
            value = tensors[key]
            if value.device.type == "meta":
                continue
            if value.numel() != wanted.numel() or not torch.allclose(
                value.double().flatten(), wanted.double().flatten(), rtol=0, atol=1e-6
            ):
                problems.append(f"{key} is a constant of the network and has another value in the file")
    return problems, found


def _summary(keys: list[str]) -> str:
    """Join the keys with `*` for their numbers, each pattern once."""
    return ", ".join(sorted({re.sub(r"\.\d+(?=\.)", ".*", key) for key in keys}))
