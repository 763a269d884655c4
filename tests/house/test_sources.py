"""Rules that hold for every source file of the suite."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from rrsis_bench import registry

FILES = sorted([*(registry.ROOT / "rrsis_bench").rglob("*.py"), *(registry.ROOT / "models").rglob("*.py")])
# The one module that reads pickles, with an unpickler that admits plain containers, strings and numbers only.
RESTRICTED = "unpickle.py"


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """(dotted name, call) of every call in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(registry.ROOT)))
def test_nothing_that_is_loaded_can_execute_code(path):
    for name, call in calls(path):
        where = f"{path.name}:{call.lineno}"
        assert name not in ("pickle.load", "pickle.loads", "cPickle.load", "joblib.load", "dill.load"), where
        if name == "torch.load":
            safe = {word.arg: ast.unparse(word.value) for word in call.keywords}.get("weights_only")
            assert safe == "True", f"{where}: torch.load needs weights_only=True"
        if name.endswith("Unpickler"):
            assert path.name == RESTRICTED, where
        if name in ("np.load", "numpy.load"):
            assert all(word.arg != "allow_pickle" for word in call.keywords), where
        assert name not in ("yaml.load", "eval", "exec", "os.system"), where


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(registry.ROOT)))
def test_no_error_is_swallowed_and_no_file_is_a_drawer(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert path.name not in ("utils.py", "helpers.py", "common.py", "misc.py")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            caught = "everything" if node.type is None else ast.unparse(node.type)
            reraises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            assert caught not in ("everything", "Exception", "BaseException") or reraises, f"line {node.lineno}"


def test_the_harness_names_no_architecture():
    models = {entry.name for entry in registry.entries().values() if entry.source == "in-tree"}
    for path in (registry.ROOT / "rrsis_bench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and not node.level
                else []
            )
            for name in imported:
                own = name.removeprefix("rrsis_bench.")
                assert not any(own.startswith(f"models.{model}") for model in models), f"{path.name}: {name}"
