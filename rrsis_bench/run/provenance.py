"""Where a number comes from: the commit, the versions, the machine."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import rrsis_bench

PACKAGES = ("torch", "torchvision", "timm", "transformers", "open_clip_torch", "lightning", "numpy")


def git_state(root: Path) -> tuple[str | None, bool | None]:
    """Return (commit, dirty) of the checkout at `root`. Changes under leaderboards/ are ignored.

    An installed wheel may be inside a repository of the user, which says nothing about the suite: `root` must be the
    repository's top folder, else the result is (None, None).
    """

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=False)
        except OSError:  # no git on this machine
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    top = git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return None, None
    sha = git("rev-parse", "HEAD")
    changes = git("status", "--porcelain", "--", ".", ":(exclude)leaderboards")
    return sha, None if changes is None else bool(changes)


def versions() -> dict[str, str]:
    """Versions of Python, this suite and the packages that decide the numbers."""
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
    """The GPU's name, or the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.machine()
