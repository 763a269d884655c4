"""The origin of a result: commit, versions, machine, weights, costs."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import rrsis_bench
from rrsis_bench.backbones.words import GLOVE
from rrsis_bench.eval.scores import Efficiency
from rrsis_bench.files import sha256_file
from rrsis_bench.results.record.schema import Attempt, Split

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
    trained_on: list[str] | None = None


_KEPT = ("GIT_CEILING_DIRECTORIES", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")


def git_state(root: Path | None, sources: Iterable[Path] = ()) -> tuple[str | None, bool | None]:
    """Return (commit, dirty) of the checkout at `root`. Changes under leaderboards/ are ignored.

    The files on disk are compared with the commit through a fresh index. Flags of the real index (assume-unchanged,
    skip-worktree) and settings that hide untracked files do not matter, nor do variables such as ``GIT_DIR``.

    Args:
        root: top folder of the checkout; None for an installed wheel.
        sources: loaded files; one below `root` that is not in the commit makes the tree dirty, even if it is ignored.

    Returns:
        (None, None) if `root` is None or is not the top folder of a repository: a repository around it says nothing
        about the suite.
    """
    if root is None:
        return None, None
    with tempfile.TemporaryDirectory() as folder:
        environment = {key: value for key, value in os.environ.items() if key in _KEPT or not key.startswith("GIT_")}

        def git(*args: str) -> str | None:
            try:
                done = subprocess.run(
                    ["git", "-c", "core.fsmonitor=false", *args],
                    cwd=root, env=environment, capture_output=True, text=True, check=False,
                )  # fmt: skip
            except OSError:  # no git on this machine
                return None
            return done.stdout if done.returncode == 0 else None

        top = git("rev-parse", "--show-toplevel")
        if top is None or Path(top.removesuffix("\n")).resolve() != root.resolve():
            return None, None
        sha = git("rev-parse", "HEAD")
        if sha is None:
            return None, None
        environment["GIT_INDEX_FILE"] = str(Path(folder) / "index")
        git("read-tree", "HEAD")
        changes = git("status", "--porcelain", "--untracked-files=all", "--", ".", ":(exclude)leaderboards")
        tracked = git("ls-files", "-z")
    if changes is None or tracked is None:
        return sha.strip(), None
    known = set(tracked.split("\0"))
    top_folder = root.resolve()
    paths = [path.resolve() for path in sources]
    inside = [path.relative_to(top_folder).as_posix() for path in paths if path.is_relative_to(top_folder)]
    return sha.strip(), bool(changes.strip()) or any(path not in known for path in inside)


def any_dirty(flags: Iterable[bool | None]) -> bool | None:
    """Return whether any of several trees was dirty; None if none was, but one is unknown."""
    found = list(flags)
    return True if True in found else None if None in found else False


def attempt_notes(attempts: Iterable[Attempt]) -> list[str]:
    """Return notes on a training whose attempts did not all run the same code on the same kind of machine."""
    found = list(attempts)
    commits = dict.fromkeys((attempt.git_sha or "unknown")[:12] for attempt in found)
    machines = dict.fromkeys(attempt.device_name or attempt.device for attempt in found)
    notes = []
    if len(commits) > 1:
        notes.append("trained at several commits: " + ", ".join(commits))
    if len(machines) > 1:
        notes.append("trained on several machines: " + ", ".join(machines))
    packages = dict.fromkeys(name for attempt in found for name in attempt.versions)
    for package in packages:
        values = dict.fromkeys(attempt.versions.get(package, "none") for attempt in found)
        if len(values) > 1:
            notes.append(f"trained with several versions of {package}: " + ", ".join(values))
    return notes


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
            path = Path(str(source).removeprefix(GLOVE))
            if source == "random" or str(source).startswith("hub:"):
                found[part] = str(source)
            elif path.is_file():
                found[part] = sha256_file(path)
            else:
                found[part] = "a local folder" if path.is_dir() else "a file that is not here"
    return found
