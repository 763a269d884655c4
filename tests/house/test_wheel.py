"""A wheel works from any folder, without the checkout: its verbs, its files, and what it calls itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import rrsis_bench
from rrsis_bench.resources import ROOT

SCENES = ("data.synthetic.train=8", "data.synthetic.val=4", "data.synthetic.test=4", "train.epochs=1")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel of a copy of the sources: a build in the checkout would leave its traces there."""
    pytest.importorskip("setuptools", minversion="77", reason="make installs the setuptools that builds the wheel")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("rrsis_bench", "models", "conf", "leaderboards/published"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "CITATION.cff"):
        shutil.copy(ROOT / name, source)
    (source / "conf" / "local").mkdir(exist_ok=True)
    (source / "conf" / "local" / "default.yaml").write_text("data: {root: /somewhere}\n")
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "-q", "-w", str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(out / "site")
    return out / "site"


def run(site: Path, cwd: Path, *arguments: str, code: int = 0) -> str:
    """The output of the wheel's ``rrsis-bench``, started in another folder; the checkout is not on its path."""
    environment = os.environ | {"PYTHONPATH": str(site), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "rrsis_bench.cli", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_one_package_is_installed_and_no_local_file_travels(site):
    assert {path.name for path in site.iterdir()} == {"rrsis_bench", f"rrsis_bench-{rrsis_bench.__version__}.dist-info"}
    assert not (site / "rrsis_bench" / "conf" / "local").exists()
    shipped = {path.name for path in (site / "rrsis_bench" / "leaderboards" / "published").glob("*.csv")}
    assert shipped == {path.name for path in (ROOT / "leaderboards" / "published").glob("*.csv")}
    configurations = {str(path.relative_to(site / "rrsis_bench")) for path in site.rglob("*.yaml")}
    tracked = {str(path.relative_to(ROOT)) for path in (ROOT / "conf").rglob("*.yaml")}
    assert configurations == {path for path in tracked if not path.startswith("conf/local/")}


def test_verbs_that_read_what_travels_with_it(site, tmp_path):
    assert run(site, tmp_path, "--version") == f"rrsis-bench {rrsis_bench.__version__}\n"
    assert "sgsrf" in run(site, tmp_path, "list")
    assert "SGSRF" in run(site, tmp_path, "published", "show", "rrsisd")
    assert "JPEGImages" in run(site, tmp_path, "data", "info", "rrsisd", code=1)  # the dataset itself is not here
    assert f"{{{rrsis_bench.__version__}}}" in run(site, tmp_path, "cite", "lavt", "rrsisd")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_and_a_prediction_stay_in_the_current_folder(site, tmp_path):
    """The folder is a repository of the user, whose commit is not the suite's."""
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x", "--allow-empty"],
                   cwd=tmp_path, check=True)  # fmt: skip
    run(site, tmp_path, "bench", "model=lavt", "data=synthetic", *SCENES)
    (record,) = (tmp_path / "leaderboards" / "records").rglob("*.json")
    assert json.loads(record.read_text())["git_sha"] is None
    (run_folder,) = (path for path in (tmp_path / "runs").iterdir() if (path / "config.yaml").exists())
    image = next((tmp_path / ".cache").rglob("*.jpg"))
    run(site, tmp_path, "predict", str(image), "the car", "--run", str(run_folder), "--out", "out")
    assert any((tmp_path / "out").iterdir())
    assert not list(site.rglob("runs"))


def test_the_version_has_one_source():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {rrsis_bench.__version__}\n" in citation
    assert f"## {rrsis_bench.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
