"""The notebooks of the documentation, as scripts, from top to bottom in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rrsis_bench.resources import ROOT

pytestmark = pytest.mark.slow
SCRIPTS = sorted((ROOT / "docs" / "scripts").glob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_of_the_documentation_runs(path, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert {entry.name for entry in tmp_path.iterdir()} <= {"out", ".cache"}, "files belong below out/"
    if path.stem == "own_model":
        assert "gated_maps" in done.stdout
