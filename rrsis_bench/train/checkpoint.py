"""Checkpoints: safetensors files and a manifest with their sha256, made visible in one rename.

A checkpoint is a folder ``step-00001234`` with ``model.safetensors``, ``optimizer.safetensors``, ``rng.safetensors``,
``state.json`` and ``manifest.json``. It is written under a temporary name and renamed when complete, so a kill at any
moment leaves either the whole folder or none. Nothing in it can execute code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from rrsis_bench.errors import UserError
from rrsis_bench.files import fsync

PREFIX = "step-"
MANIFEST = "manifest.json"
STATE = "state.json"


@dataclass
class Checkpoint:
    """One checkpoint in memory.

    Attributes:
        step: optimiser steps done.
        tensors: part (``model``, ``optimizer``, ``rng``) -> name -> tensor.
        state: JSON-ready values.
        path: where it was read from.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    path: Path


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder(root: Path, step: int) -> Path:
    """The folder of the checkpoint at `step`."""
    return root / f"{PREFIX}{step:08d}"


def save(root: Path, step: int, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> Path:
    """Write a checkpoint atomically and return its folder.

    Raises:
        UserError: the disk refused (full, read-only); earlier checkpoints stay as they are.
    """
    final = folder(root, step)
    temporary = root / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed writer that had the same process id
    try:
        temporary.mkdir(parents=True)
        for part, content in tensors.items():
            save_file(_separate(content), temporary / f"{part}.safetensors")
        (temporary / STATE).write_text(json.dumps(state))
        hashes = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
        (temporary / MANIFEST).write_text(json.dumps({"step": step, "sha256": hashes}, indent=1))
        for path in temporary.iterdir():
            fsync(path)
        if final.exists():  # the same step again, after a resume
            shutil.rmtree(final)
        os.replace(temporary, final)
        fsync(root)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk as its own error
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"The checkpoint {final} could not be written: {reason}. Earlier checkpoints are intact; "
            "free some space or set runs=/other/folder, then run the same command again to continue."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already where all went well
    return final


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU and contiguous; of tensors that share memory (tied weights), all but the first become copies."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        memory = value.untyped_storage().data_ptr()
        found[name] = value.clone() if memory in seen else value
        seen.add(memory)
    return found


def check(path: Path) -> str | None:
    """Why the checkpoint in `path` cannot be trusted, or None where every file matches its manifest."""
    try:
        hashes = json.loads((path / MANIFEST).read_text())["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return "its manifest is missing or unreadable"
    for name, expected in hashes.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if sha256(path / name) != expected:
            return f"{name} does not match its sha256"
    return None


def load(path: Path) -> Checkpoint:
    """Read one checkpoint; UserError where there is none or a file is torn."""
    if not path.is_dir():
        raise UserError(f"There is no checkpoint folder {path}. They lie in runs/<run id>/checkpoints/{PREFIX}*.")
    problem = check(path)
    if problem:
        raise UserError(f"The checkpoint {path} is damaged: {problem}. Delete the folder and run the command again.")
    tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    state = json.loads((path / STATE).read_text())
    return Checkpoint(int(path.name.removeprefix(PREFIX)), tensors, state, path)


def latest(root: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest undamaged checkpoint below `root`, and a line for every newer one that was passed over."""
    notes: list[str] = []
    for path in sorted(root.glob(f"{PREFIX}*"), reverse=True):
        problem = check(path)
        if problem is None:
            return load(path), notes
        notes.append(f"{path.name} is damaged ({problem}); falling back to the one before")
    return None, notes


def prune(root: Path, keep: set[int], newest: int = 2) -> None:
    """Delete all checkpoints but the `newest` ones and the steps in `keep`; leftovers of killed writers go too."""
    paths = sorted(root.glob(f"{PREFIX}*"))
    for path in paths[:-newest] if newest else paths:
        if int(path.name.removeprefix(PREFIX)) not in keep:
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
    optimizer.load_state_dict({"state": state, "param_groups": groups})
