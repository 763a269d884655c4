"""Finds and loads pretrained weights: ``random``, ``hub:<id>``, or a local file or folder.

Random weights are used only if they are asked for by name. A failed download is a UserError that names the file or hub
id and the field that overrides it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from torch import Tensor

from rrsis_bench.errors import UserError, reason
from rrsis_bench.weight_files import bare, opened, read_content, require_tensors

RANDOM = "random"
HUB = "hub:"
FILES = ("model.safetensors", "pytorch_model.bin")  # in a hub repository or a local folder


def unreachable(what: str, spec: str, field: str, problem: BaseException | str) -> UserError:
    """Return the error for weights that cannot be read.

    Args:
        what: the backbone, for the reader (``"Swin"``).
        spec: the value of the ``weights`` field.
        field: that field's name (``"vision.weights"``).
        problem: the error, or a short text.
    """
    return UserError(
        f"The pretrained {what} weights '{spec}' cannot be read: "
        f"{problem if isinstance(problem, str) else reason(problem)}\n"
        f"Give a local copy with {field}=/path, or choose random weights with {field}={RANDOM}."
    )


def locate_weights(spec: str, what: str, field: str, files: tuple[str, ...] = FILES) -> Path | None:
    """Return the weights file that `spec` names, downloaded into the hub's cache if needed; None for ``"random"``.

    Args:
        spec: ``"random"``, ``"hub:<id>"``, or a local file or folder.
        what: the backbone, for messages.
        field: the configuration field that holds `spec`, for messages.
        files: names of the weights in a hub repository or a folder; the first one found is used.

    Raises:
        UserError: it cannot be reached.
    """
    if spec == RANDOM:
        return None
    path = Path(spec).expanduser()
    if spec.startswith(HUB):
        try:
            path = _download(spec.removeprefix(HUB), files)
        except (OSError, HFValidationError) as error:
            raise unreachable(what, spec, field, error) from error
    if path.is_dir():
        found = [path / name for name in files if (path / name).is_file()]
        if not found:
            raise unreachable(what, spec, field, f"no {' or '.join(files)} in it")
        path = found[0]
    if not path.is_file():
        raise unreachable(what, spec, field, "no such file or folder")
    return path


def _download(hub_id: str, files: tuple[str, ...]) -> Path:
    """Return the folder of the hub's cache, with the first of `files` that the repository has, if there is any."""
    for name in files:
        folder = Path(snapshot_download(hub_id, allow_patterns=name))
        if (folder / name).is_file():
            break
    return folder


def read_tensors(path: Path, what: str, field: str) -> dict[str, Tensor]:
    """Read a state dict of tensors from a ``.safetensors`` or ``.pth`` file; no code in it is executed.

    A dict under ``"model"`` or ``"state_dict"`` is opened: Swin's and most authors' files have one.

    Raises:
        UserError: a damaged file, code in the pickle, or values that are not tensors.
    """
    try:
        return require_tensors(bare(opened(read_content(path), path)["model"]), path)
    except UserError as error:
        raise unreachable(what, str(path), field, error) from error


def load_strict(
    module: torch.nn.Module, tensors: dict[str, Tensor], source: str, what: str, ignored: tuple[str, ...] = ()
) -> None:
    """Copy `tensors` into `module`; every key must fit, except those with a prefix from `ignored`.

    Raises:
        UserError: missing or unexpected keys, or tensors of another shape; the message lists them.
    """
    own = module.state_dict()
    used = {key: value for key, value in tensors.items() if not key.startswith(ignored)} if ignored else tensors
    problems = [f"missing {key}" for key in own if key not in used]
    problems += [f"unexpected {key}" for key in used if key not in own]
    problems += [
        f"{key} has shape {tuple(value.shape)}, the model needs {tuple(own[key].shape)}"
        for key, value in used.items()
        if key in own and own[key].shape != value.shape
    ]
    if problems:
        shown = "\n  ".join(problems[:12])
        more = f"\n  and {len(problems) - 12} more" if len(problems) > 12 else ""
        raise UserError(f"The {what} weights in '{source}' do not fit the model:\n  {shown}{more}")
    module.load_state_dict(used)
