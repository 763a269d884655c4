"""Checkpoints: folders of safetensors files with a manifest of their sha256, written atomically.

A checkpoint is a folder ``step-00001234`` with these files. None of them can execute code.

=========================  =============================================================================
``model.safetensors``      the weights that were validated
``training.safetensors``   the weights in training, if a callback validates others, such as their average
``optimizer.safetensors``  the optimiser's tensors
``callbacks.safetensors``  tensors of the callbacks, if there are any
``rng.safetensors``        states of the random generators
``state.json``             progress, and the rest of the optimiser's and generators' states
``manifest.json``          sha256 of every other file
=========================  =============================================================================
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rrsis_bench.codec import parse_json
from rrsis_bench.errors import UserError, reason
from rrsis_bench.files import replacing_folder, sha256_file
from rrsis_bench.train.sharding import like

PREFIX = "step-"
_NAME = re.compile(rf"{PREFIX}([0-9]{{1,18}})")
MANIFEST = "manifest.json"
STATE = "state.json"


@dataclass
class Checkpoint:
    """One checkpoint in memory.

    Attributes:
        step: optimiser steps done.
        tensors: part (``model``, ``optimizer``, ...) -> name -> tensor.
        state: JSON-ready values.
        path: its folder.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    path: Path


def folder(root: Path, step: int) -> Path:
    """Return the folder of the checkpoint at `step`."""
    return root / f"{PREFIX}{step:08d}"


def save(root: Path, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> Path:
    """Write a checkpoint atomically and return its folder.

    Raises:
        UserError: the disk is full or read-only; earlier checkpoints are intact.
    """
    final = folder(root, step)
    try:
        with replacing_folder(final) as temporary:
            for part, content in tensors.items():
                save_file(_separate(content), temporary / f"{part}.safetensors")
            (temporary / STATE).write_text(json.dumps(state), encoding="utf-8")
            hashes = {path.name: sha256_file(path) for path in sorted(temporary.iterdir())}
            manifest = json.dumps({"step": step, "sha256": hashes}, indent=1)
            (temporary / MANIFEST).write_text(manifest, encoding="utf-8")
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as its own error
        raise UserError(
            f"The checkpoint {final} could not be written: {reason(error)}. Earlier checkpoints are intact. "
            "Free some space or set runs=/other/folder, then run the same command again to continue."
        ) from error
    return final


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Move tensors to the CPU and make them contiguous; copy those that share memory (tied weights)."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        memory = value.untyped_storage().data_ptr()
        found[name] = value.clone() if memory in seen else value
        seen.add(memory)
    return found


def paths(root: Path) -> list[Path]:
    """Return the checkpoint folders below `root` by step; entries with other names are no checkpoints."""
    steps = {path: int(match[1]) for path in root.glob(f"{PREFIX}*") if (match := _NAME.fullmatch(path.name))}
    return sorted(steps, key=lambda path: (steps[path], path.name))


def check(path: Path) -> str | None:
    """Return how the checkpoint in `path` is damaged, or None if every file matches its manifest."""
    try:
        manifest = parse_json((path / MANIFEST).read_text(encoding="utf-8"))
        hashes = manifest["sha256"]
        sound = type(manifest["step"]) is int and {STATE, "model.safetensors"} <= hashes.keys()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        sound = False
    if not sound:
        return "its manifest is missing or unreadable"
    for name, expected in hashes.items():
        if Path(name).name != name or not (path / name).is_file():
            return f"{name} is missing"
        if sha256_file(path / name) != expected:
            return f"{name} does not match its sha256"
    return None


class _Damaged(Exception):
    """A checkpoint cannot be read; the message says how."""


def _read(path: Path) -> Checkpoint:
    problem = check(path)
    if problem:
        raise _Damaged(problem)
    try:
        tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
        state = parse_json((path / STATE).read_text(encoding="utf-8"))
        step = parse_json((path / MANIFEST).read_text(encoding="utf-8"))["step"]
    except (OSError, ValueError, SafetensorError) as error:
        raise _Damaged(reason(error)) from error
    if not isinstance(state, dict):
        raise _Damaged(f"{STATE} holds no object")
    return Checkpoint(step, tensors, state, path)


def load(path: Path) -> Checkpoint:
    """Read one checkpoint, whatever the name of its folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if not path.is_dir():
        raise UserError(f"There is no checkpoint folder {path}. Name one of runs/<run id>/checkpoints/{PREFIX}*.")
    try:
        return _read(path)
    except _Damaged as problem:
        raise UserError(
            f"The checkpoint {path} is damaged: {problem}. Delete the folder and run the command again."
        ) from problem


def latest(root: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest undamaged checkpoint below `root`, and a line for every newer one, which is damaged."""
    notes: list[str] = []
    for path in reversed(paths(root)):
        try:
            return _read(path), notes
        except _Damaged as problem:
            notes.append(f"{path.name} is damaged ({problem}); falling back to the one before")
    return None, notes


def prune(root: Path, keep: set[int], newest: int = 2) -> None:
    """Delete all checkpoints but the `newest` ones and the steps in `keep`, and what killed writers left."""
    found = paths(root)
    kept = {folder(root, step) for step in keep}
    for path in found[:-newest] if newest else found:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)
    for path in root.glob(f".{PREFIX}*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimiser's state into tensors and JSON-ready values.

    Tensors are named ``<parameter index>.<key>``, or ``group.<group index>.<key>`` for those of a parameter group.
    """
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            (tensors if isinstance(value, Tensor) else values)[f"{index}.{key}"] = value
    groups = []
    for index, group in enumerate(state["param_groups"]):
        tensors |= {f"group.{index}.{key}": value for key, value in group.items() if isinstance(value, Tensor)}
        groups.append({key: value for key, value in group.items() if not isinstance(value, Tensor)})
    return tensors, {"param_groups": groups, "values": values}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
    """Load what `flatten_optimizer` returned."""
    state: dict[int, dict[str, Any]] = {}
    groups = [dict(group) for group in rest["param_groups"]]
    for name, value in {**tensors, **rest["values"]}.items():
        index, key = name.split(".", 1)
        if index == "group":
            place, key = key.split(".", 1)
            groups[int(place)][key] = value
        else:
            state.setdefault(int(index), {})[key] = value
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entries in state.items():
        of = parameters[index] if index < len(parameters) else None
        for key, value in entries.items():
            if of is not None and isinstance(value, Tensor) and value.shape == of.shape:
                entries[key] = like(value, of)
    optimizer.load_state_dict({"state": state, "param_groups": groups})
