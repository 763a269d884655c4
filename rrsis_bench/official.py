"""Reads the checkpoints that a paper's authors released, without executing anything in them.

A model that has such files says how they are laid out in its attribute `official_layout`; this module names no model.
"""

from __future__ import annotations

import argparse
import logging
import pickle
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

logger = logging.getLogger(__name__)

# The only Python object that a file may hold beside tensors and plain containers: the authors' training arguments.
ADMITTED_GLOBALS: list[Callable | tuple[Callable, str]] = [argparse.Namespace]
SHOWN_KEYS = 12

# (regular expression, replacement) pairs, applied to a key one after another with `re.sub`.
Renames = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]


@dataclass(frozen=True, slots=True)
class OfficialLayout:
    """How the authors' files name what a model of this suite holds.

    Attributes:
        renames: from the authors' names to the suite's.
        ignored: regular expression -> why a key that it finds has no place in the model; such a key is dropped only
            where the model has nothing of its renamed name.
        parts: entry of the file -> prefix of its keys; entries that are absent are passed over, but for the first.
        build_args: constructor arguments for a model that is about to be overwritten (no pretrained weights);
            mappings are merged with the caller's.
    """

    renames: Renames
    ignored: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=lambda: {"model": ""})
    build_args: Mapping[str, Any] = field(default_factory=dict)

    def rename(self, key: str) -> str:
        """The suite's name for an official key."""
        for pattern, replacement in self.renames:
            key = re.sub(pattern, replacement, key)
        return key

    def reason_to_ignore(self, key: str) -> str | None:
        """Why the official `key` may be dropped, or None."""
        return next((reason for pattern, reason in self.ignored.items() if re.search(pattern, key)), None)


def load_official(model: str, path: str | Path, **model_args: Any) -> Segmenter:
    """Build `model` at the size of the authors' file and load it, in evaluation mode.

    Args:
        model: registry name.
        path: the released ``.pth``: ``{"model": state_dict, ...}`` or a bare state dict, keys with or without
            ``module.``.
        model_args: constructor arguments; the defaults are the paper's size.

    Raises:
        UserError: no known layout for the model; missing or damaged file; a file that wants to run code; keys or shapes
            that do not fit. The message lists all of them.
    """
    cls = registry.load_class(model)
    layout: OfficialLayout | None = getattr(cls, "official_layout", None)
    if layout is None:
        raise UserError(f"The model '{model}' has no importer for official checkpoints (no `official_layout`).")
    tensors = read_official(path, layout.parts)
    arguments = dict(model_args)
    for name, default in layout.build_args.items():
        merges = isinstance(default, Mapping)
        arguments[name] = {**(arguments.get(name) or {}), **default} if merges else default
    built = cls(**arguments)
    built.load_state_dict(convert_official(tensors, built.state_dict(), layout, Path(path)))
    return built.eval()


def read_official(path: str | Path, parts: Mapping[str, str]) -> dict[str, Tensor]:
    """Read the tensors of an official file; `parts` as in `OfficialLayout`.

    Raises:
        UserError: missing or damaged file, a file that wants to run code, or no tensors in it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"There is no checkpoint at {path}. Download the authors' file and give its path.")
    try:
        with torch.serialization.safe_globals(ADMITTED_GLOBALS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} is not a readable PyTorch checkpoint: {first_line} Download it again.") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not the state dict of a model.")
    first = next(iter(parts))
    if not isinstance(content.get(first), Mapping):
        content = {first: content}
    tensors = {
        prefix + str(key).removeprefix("module."): value
        for part, prefix in parts.items()
        for key, value in content.get(part, {}).items()
    }
    strangers = [key for key, value in tensors.items() if not isinstance(value, Tensor)]
    if strangers or not tensors:
        found = f"'{strangers[0]}' is no tensor" if strangers else "it is empty"
        raise UserError(f"{path} does not hold the state dict of a model: {found}.")
    return tensors


def convert_official(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], layout: OfficialLayout, path: Path
) -> dict[str, Tensor]:
    """Rename `tensors` to fit the state dict `wanted`, strictly.

    Kernels of 1 x 1 convolutions become the weights of linear layers where the model has those.

    Raises:
        UserError: lists keys that the model misses, keys that have no place in it, and shapes that differ.
    """
    converted: dict[str, Tensor] = {}
    ignored: dict[str, list[str]] = {}
    problems: list[str] = []
    for key, value in tensors.items():
        name = layout.rename(key)
        if name not in wanted:
            reason = layout.reason_to_ignore(key)
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
            f"{path} does not fit this model ({len(problems)} problems). Check the model's name and its size "
            f"(depths, blocks, switches):\n  {shown}{more}"
        )
    for reason, keys in ignored.items():
        logger.warning("Ignored %d keys of %s, %s: %s", len(keys), path.name, reason, _summary(keys))
    return converted


def _summary(keys: list[str]) -> str:
    """Keys with their numbers starred, each pattern once."""
    return ", ".join(sorted({re.sub(r"\.\d+(?=\.)", ".*", key) for key in keys}))


def _refused(path: Path, error: pickle.UnpicklingError) -> UserError:
    """The error for a file whose pickle asks for more than tensors."""
    match = re.search(r"GLOBAL ([\w.]+)", str(error))
    if match is None:
        return UserError(f"{path} is not a readable PyTorch checkpoint: {str(error).splitlines()[0]}")
    return UserError(
        f"{path} was refused: beside tensors it asks for '{match.group(1)}', which could run code while loading. Only "
        "tensors, plain containers and argparse.Namespace are read. If you trust the file, save its state dict alone "
        "as a new file."
    )
