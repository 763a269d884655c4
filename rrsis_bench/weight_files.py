"""Read a file of weights from anywhere without executing code in it, and say what a file is that holds none."""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rrsis_bench.errors import UserError, reason

# Numbers of numpy and the authors' training arguments. Besides these, tensors and plain containers, nothing is read.
_NUMPY = tuple(type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool"))
_SCALAR: Any = np.float64(0).__reduce__()[0]  # how every numpy number is saved, under two names
ADMITTED_GLOBALS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    np.dtype,
    *_NUMPY,
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]
WRAPPERS = ("model", "state_dict", "model_state_dict", "module", "net")
"""Entries under which training scripts save a state dict."""
PREFIXES = ("module.", "_orig_mod.")
"""Added to every key by DistributedDataParallel and by torch.compile."""

_CLONE = "Run `git lfs pull` in the repository that it is from, or download the file itself."
_PAGE = "Open the address in a browser and download the file itself: a page was saved in its place."


def describe(path: Path) -> str:
    """Say what a file is that is no checkpoint, and what to do; empty if its first bytes do not tell."""
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir())[:3]
        return f"is a folder ({', '.join(names) or 'empty'}). Give the path of the file in it."
    with open(path, "rb") as file:
        head = file.read(512)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    kinds = (
        (not head, "is empty. Download it again."),
        (head.startswith(b"version https://git-lfs"), f"is a Git LFS pointer, not the file itself. {_CLONE}"),
        (start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")), f"is an HTML page. {_PAGE}"),
        (start.startswith((b"{", b"[")), "is JSON text, such as the answer of a server. Download the file itself."),
        (
            head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")),
            "is an archive. Unpack it first.",
        ),
        (head.startswith(b"\x89HDF"), "is an HDF5 file of Keras. Give a PyTorch checkpoint."),
        (head.startswith(b"GGUF"), "is a GGUF file. Give a PyTorch checkpoint."),
    )
    return next((text for matches, text in kinds if matches), "")


def read_content(path: Path) -> Any:
    """Read a ``.pth`` or ``.safetensors`` file, which its content tells, not its name.

    Raises:
        UserError: a folder, a page, a pointer, an archive, a damaged file, or one that could run code.
    """
    try:
        found = describe(path)
        if found:
            raise UserError(f"{path} {found}")
        with open(path, "rb") as file:
            head = file.read(9)
        if len(head) == 9 and head[8:] == b"{":  # the length of the header, then JSON
            return load_file(path)
        if not head.startswith((b"PK", b"\x80")) and tarfile.is_tarfile(path):
            raise UserError(f"{path} is a tar archive. Unpack it and give the checkpoint in it.")
        with torch.serialization.safe_globals(ADMITTED_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a readable PyTorch checkpoint: {_first(error)} Download it again.") from error
    except (SafetensorError, OverflowError, MemoryError, AssertionError, struct.error) as error:
        raise UserError(f"{path} is damaged: {_first(error)} Download it again.") from error


def _first(error: BaseException) -> str:
    """Return the reason of a library, without its advice to switch safety off."""
    text = reason(error).split("weights_only")[0].strip()
    return text.rstrip(".") + "."


def _refused(path: Path, error: pickle.UnpicklingError) -> UserError:
    """Return the error for a file whose pickle needs more than tensors."""
    match = re.search(r"GLOBAL ([\w.]+)", str(error)) or re.search(r"(?:function|class|global) ([\w.]+)", str(error))
    if match is None:
        return UserError(f"{path} is not a readable PyTorch checkpoint. Its pickle is damaged. Download it again.")
    return UserError(
        f"{path} was refused: it needs '{match.group(1)}', which could run code while loading. Only tensors, plain "
        "containers, numbers of numpy and argparse.Namespace are read. If you trust the file, save its state dict "
        "alone as a new file."
    )


def opened(content: Any, path: Path, first: str = "model") -> Mapping[str, Any]:
    """Return the mapping of a file that holds the entry `first`, or a bare state dict as that entry.

    Raises:
        UserError: the file holds no mapping.
    """
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise UserError(f"{path} holds a {kind}, not the state dict of a model. Give the authors' checkpoint.")
    if isinstance(content.get(first), Mapping):
        return content
    inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), content)
    return {first: inner}


def bare(tensors: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the tensors without the prefixes that wrappers of a model add to every key."""
    found = {str(key): value for key, value in tensors.items()}
    while found and any(all(key.startswith(prefix) for key in found) for prefix in PREFIXES):
        found = {key.split(".", 1)[1]: value for key, value in found.items()}
    return found


def require_tensors(tensors: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Return a state dict, or raise UserError for one without tensors or with something else."""
    others = [key for key, value in tensors.items() if not isinstance(value, Tensor)]
    if others or not tensors:
        found = f"'{others[0]}' is no tensor" if others else "it is empty"
        raise UserError(f"{path} does not hold the state dict of a model: {found}. Give the authors' checkpoint.")
    return dict(tensors)
