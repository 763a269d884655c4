"""The origin of a result: commit, versions, machine, weights, costs."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import rrsis_bench
from rrsis_bench.eval.scores import Efficiency
from rrsis_bench.files import sha256_file
from rrsis_bench.results.record.schema import Split

PACKAGES = ("torch", "torchvision", "timm", "transformers", "open_clip_torch", "lightning", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProvenance:
    """The origin of predicted masks: the fields of a record that say how they were made. None means unknown."""

    model: str
    model_source: str
    size: str
    device: str
    seed: int | None = None
    epochs: int | None = None
    variant: list[str]
    selection_split: Split | None = None
    selection_metric: str | None = None
    weights_sha256: str | None = None
    predictions_sha256: str | None = None
    init_weights: dict[str, str]
    device_name: str | None = None
    world_size: int = 1
    precision: str = ""
    git_sha: str | None
    git_dirty: bool | None
    efficiency: Efficiency


def git_state(root: Path | None) -> tuple[str | None, bool | None]:
    """Return (commit, dirty) of the checkout at `root`. Changes under leaderboards/ are ignored.

    The result is (None, None) if `root` is None (an installed wheel) or is not the top folder of a repository: a
    repository around it says nothing about the suite.
    """

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=False)
        except OSError:  # no git on this machine
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if root is None:
        return None, None
    top = git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return None, None
    sha = git("rev-parse", "HEAD")
    changes = git("status", "--porcelain", "--", ".", ":(exclude)leaderboards")
    return sha, None if changes is None else bool(changes)


def versions() -> dict[str, str]:
    """Return the versions of Python, this suite and the packages that affect the numbers."""
    found = {"python": platform.python_version(), "rrsis_bench": rrsis_bench.__version__}
    for package in PACKAGES:
        try:
            found[package.replace("-", "_")] = version(package)
        except PackageNotFoundError:
            continue
    if torch.version.cuda and torch.cuda.is_available():
        found["cuda"] = torch.version.cuda
    return found


def device_name(device: torch.device) -> str:
    """Return the name of the GPU or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.machine()


def initial_weights(args: Mapping[str, Any]) -> dict[str, str]:
    """Return the source of each backbone's first weights: ``random``, a hub id, or the sha256 of a local file.

    A local folder is ``a local folder``. A file that is missing, because the evaluated checkpoint holds all weights, is
    ``a file that is not here``. No path of this machine enters a record.
    """
    found = {}
    for part, value in args.items():
        source = value.get("weights") if isinstance(value, Mapping) else None
        if source:
            path = Path(source)
            if source == "random" or str(source).startswith("hub:"):
                found[part] = str(source)
            elif path.is_file():
                found[part] = sha256_file(path)
            else:
                found[part] = "a local folder" if path.is_dir() else "a file that is not here"
    return found
