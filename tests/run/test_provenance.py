"""Commit, dirt and versions of a record."""

from __future__ import annotations

import os
import subprocess

import pytest
import torch

from rrsis_bench.run import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A repository with one commit, whatever the user's own git configuration says."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        return subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    (tmp_path / "code.py").write_text("x = 1\n")
    (tmp_path / "leaderboards").mkdir()
    (tmp_path / "leaderboards" / "a.csv").write_text("a\n")
    git("add", ".")
    git("commit", "-qm", "first")
    return tmp_path, git("rev-parse", "HEAD")


def test_a_clean_checkout_names_its_commit(checkout):
    root, sha = checkout
    assert provenance.git_state(root) == (sha, False)


def test_changes_under_leaderboards_are_not_dirt(checkout):
    root, sha = checkout
    (root / "leaderboards" / "a.csv").write_text("b\n")
    (root / "leaderboards" / "new.csv").write_text("c\n")
    assert provenance.git_state(root) == (sha, False)


@pytest.mark.parametrize("name", ["code.py", "new.py"])
def test_a_changed_or_new_file_is_dirt(checkout, name):
    root, sha = checkout
    (root / name).write_text("x = 2\n")
    assert provenance.git_state(root) == (sha, True)


def test_outside_a_repository_and_without_git_nothing_is_claimed(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state(tmp_path) == (None, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_state(tmp_path) == (None, None)


def test_versions_of_what_decides_the_numbers():
    found = provenance.versions()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert {"python", "rrsis_bench", "timm", "transformers", "numpy"} <= set(found)


def test_the_device_has_a_name():
    assert provenance.device_name(torch.device("cpu"))
