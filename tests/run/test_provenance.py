"""Commit, dirt and versions of a record."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
import torch

from rrsis_bench.resources import ROOT
from rrsis_bench.run import provenance


@pytest.fixture
def git(tmp_path):
    """Runs git in the checkout."""

    def call(*arguments: str) -> str:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        done = subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    return call


@pytest.fixture
def checkout(tmp_path, monkeypatch, git):
    """A repository with one commit, whatever the user's own git configuration says."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)

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


HIDING = {
    "status.showUntrackedFiles=no": lambda git: git("config", "status.showUntrackedFiles", "no"),
    "assume-unchanged": lambda git: git("update-index", "--assume-unchanged", "code.py"),
    "skip-worktree": lambda git: git("update-index", "--skip-worktree", "code.py"),
}


@pytest.mark.parametrize("name", ["code.py", "new.py"])
@pytest.mark.parametrize("hiding", HIDING)
def test_what_hides_changes_from_git_does_not_hide_dirt(checkout, git, hiding, name):
    """Bug: a tree with edited code was clean under each of these settings."""
    root, sha = checkout
    HIDING[hiding](git)
    assert provenance.git_state(root) == (sha, False)
    (root / name).write_text("x = 2\n")
    assert provenance.git_state(root) == (sha, True)


def test_variables_of_git_do_not_choose_another_repository(checkout, tmp_path_factory, monkeypatch):
    """Bug: with GIT_DIR in the environment (a git hook sets it), another repository's commit was recorded."""
    root, sha = checkout
    other = tmp_path_factory.mktemp("other")
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert provenance.git_state(root) == (sha, False)


def test_a_package_below_another_repository_has_no_commit(checkout):
    root, _ = checkout
    (root / "vendored").mkdir()
    assert provenance.git_state(root / "vendored") == (None, None)


def test_a_loaded_file_that_git_ignores_is_dirt(checkout):
    """A model file that .git/info/exclude hides is in no commit, so that nobody can repeat its row."""
    root, sha = checkout
    (root / ".git" / "info" / "exclude").write_text("secret.py\n")
    (root / "secret.py").write_text("x = 3\n")
    assert provenance.git_state(root, [root / "code.py"]) == (sha, False)
    assert provenance.git_state(root, [root / "code.py", root / "secret.py"]) == (sha, True)


def test_a_symlinked_environment_is_not_dirt(checkout, tmp_path_factory):
    """Bug: `.venv/` in .gitignore does not cover a link, which made every row of such a checkout unranked."""
    root, _ = checkout
    shutil.copy(ROOT / ".gitignore", root / ".gitignore")
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", *who, "commit", "-qm", "ignore"], cwd=root, check=True)
    for name in (".venv", "runs", ".cache"):
        (root / name).symlink_to(tmp_path_factory.mktemp("elsewhere"))
    assert provenance.git_state(root)[1] is False


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
