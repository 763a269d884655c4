"""Rules that hold for every source file of the suite."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rrsis_bench import registry
from rrsis_bench.resources import ROOT

FILES = sorted([*(ROOT / "rrsis_bench").rglob("*.py"), *(ROOT / "models").rglob("*.py")])
# The one module that reads pickles, with an unpickler that admits plain containers, strings and numbers only.
RESTRICTED = "unpickle.py"


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """(dotted name, call) of every call in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
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
        if name.endswith((".from_pretrained", ".from_config")) and name.startswith("Auto"):
            words = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert words.get("trust_remote_code") == "False", f"{where}: {name} needs trust_remote_code=False"
        assert name not in ("torch.hub.load", "shelve.open", "marshal.loads", "pandas.read_pickle", "pd.read_pickle"), (
            where
        )
        assert "oc.env" not in "".join(ast.unparse(word) for word in call.args), where
        assert name not in ("yaml.load", "eval", "exec", "os.system"), where


def test_one_module_replaces_files():
    """Everything else goes through `rrsis_bench.files`, so that no reader sees half a file."""
    others = {  # what replaces more or less than one file that must survive a crash
        "rrsis_bench/data/loading/cache.py",  # thousands of views with checksums: a lost one is made again
        "rrsis_bench/eval/progress.py",  # a file that grows batch by batch; a torn line is scored again
    }
    for path in FILES:
        for name, call in calls(path):
            own = name in ("os.replace", "os.fsync") or name.endswith("NamedTemporaryFile")
            known = str(path.relative_to(ROOT)) in {"rrsis_bench/files.py", *others}
            assert not own or known, f"{path.relative_to(ROOT)}:{call.lineno}: {name}"


def test_one_console_prints_and_takes_no_data_for_markup():
    """`rrsis_bench.console.Terminal` and `rrsis_bench.printing` print; the tests use the same console."""
    own = {"rrsis_bench/console.py", "rrsis_bench/printing.py"}
    markup = re.compile(r"\[/?(?:(?:not )?(?:bold|dim|italic|underline|red|green|yellow|blue|cyan|magenta)\b[^\]]*)?\]")
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.name != Path(__file__).name]
    for path in [*FILES, *tests]:
        name = str(path.relative_to(ROOT))
        text = path.read_text(encoding="utf-8")
        if name in own:
            continue
        for imported in ("rich.markup", "import Console", "rich import print"):
            assert imported not in text, name
        for called, call in calls(path):
            where, words = f"{name}:{call.lineno}", {word.arg for word in call.keywords}
            assert called.rpartition(".")[2] not in ("Console", "get_console", "from_markup", "print_json"), where
            if path in FILES:
                assert called not in ("print", "sys.stdout.write", "sys.stderr.write"), where
                assert called not in ("Progress", "track", "Live", "Status") or "console" in words, where
                if called == "TextColumn":
                    assert "markup" in words, where
                if called.endswith((".print", "Text.assemble", ".add_row", ".add_column", ".add_task", ".status")):
                    shown = "".join(ast.unparse(word) for word in call.args)
                    assert not [found for found in markup.findall(shown) if found not in ("[]", "[/]")], where


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_error_is_swallowed_and_no_file_is_a_drawer(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert path.name not in ("utils.py", "helpers.py", "common.py", "misc.py")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            caught = "everything" if node.type is None else ast.unparse(node.type)
            reraises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            # A handler that reports the error and goes on says on its line why that is enough.
            explained = caught == "Exception" and "noqa: BLE001 - " in text.splitlines()[node.lineno - 1]
            broad = caught in ("everything", "Exception", "BaseException")
            assert not broad or reraises or explained, f"line {node.lineno}"


def test_the_harness_names_no_architecture():
    models = {entry.name for entry in registry.entries().values() if entry.source == "in-tree"}
    for path in (ROOT / "rrsis_bench").rglob("*.py"):
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


def test_every_requirement_has_a_lowest_version():
    done = subprocess.run([sys.executable, ROOT / ".ci" / "lowest.py"], capture_output=True, text=True, check=True)
    constraints = dict(line.split("==") for line in done.stdout.splitlines())
    assert {"torch", "hydra-core", "rasterio", "pytest"} <= set(constraints)
