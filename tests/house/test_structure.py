"""The structure of the house: floors, no import circle, short files, a typed configuration, names of tensors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from rrsis_bench import interfaces, registry

PACKAGE = registry.ROOT / "rrsis_bench"
MAX_LINES = 400

# Rooms from low to high. A module imports from its own room and from lower floors; the rooms of one floor are apart,
# except for the imports that BESIDE names.
FLOORS = (
    (
        "errors",
        "files",
        "codec",
        "csv_files",
        "printing",
        "console",
        "interfaces",
        "registry",
        "official",
        "stop",
        "resources",
        "weight_files",
        "heartbeat",
        "world",
    ),
    ("config",),
    ("backbones", "data"),
    ("synthetic", "train", "eval"),
    ("results",),
    ("run",),
    ("predict",),
    ("describe",),
    ("commands",),
    ("cli",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
BESIDE = {room: set(FLOORS[0]) for room in FLOORS[0]}


def modules() -> dict[str, Path]:
    """Dotted name below the package -> file; a package is its own name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:  # the package's own __init__ offers shortcuts that are imported on first use
            found[name] = path
    return found


MODULES = modules()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(name: str, *, inside_functions: bool) -> Iterator[tuple[str, int]]:
    """Modules of the package that `name` imports at run time, with their lines."""
    todo: list[ast.AST] = [tree(MODULES[name])]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not inside_functions:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        todo += ast.iter_child_nodes(node)
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
            parents = ["rrsis_bench", *filter(None, package.split("."))]
            base = node.module or ""
            if node.level:
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
            targets = [f"{base}.{alias.name}" for alias in node.names]
        for target in targets:
            top, _, rest = target.partition(".")
            while top == "rrsis_bench" and rest and rest not in MODULES:
                rest = rest.rpartition(".")[0]
            if top == "rrsis_bench" and rest:
                yield rest, getattr(node, "lineno", 0)


def arrows_against_the_order() -> list[str]:
    found = []
    for name in MODULES:
        room = name.partition(".")[0]
        if room not in FLOOR:
            found.append(f"{name}: the room {room} has no floor")
            continue
        for target, line in imports(name, inside_functions=True):
            other = target.partition(".")[0]
            if other in BESIDE.get(room, {room}) | {room} or FLOOR.get(other, len(FLOORS)) < FLOOR[room]:
                continue
            found.append(f"{MODULES[name].relative_to(registry.ROOT)}:{line} imports {target}")
    return found


def circles() -> list[list[str]]:
    """Strongly connected groups of modules, over the imports at module level (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target, _ in imports(name, inside_functions=False):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in MODULES:
        if name not in index:
            visit(name)
    return found


def sources() -> list[Path]:
    """Source files of the suite and of its models."""
    folders = [PACKAGE, registry.ROOT / "models"]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def long_files() -> list[str]:
    return [
        f"{path.relative_to(registry.ROOT)}: {lines} lines"
        for path in sources()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    ]


def string_keys() -> list[str]:
    """Places outside config/ that read a configuration by a string key."""
    found = []
    for name, path in MODULES.items():
        if name.partition(".")[0] == "config":
            continue
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Constant):
                continue
            if isinstance(node.slice.value, str) and re.fullmatch(r"(\w+\.)*(config|cfg)", ast.unparse(node.value)):
                found.append(f"{path.relative_to(registry.ROOT)}:{node.lineno} {ast.unparse(node)}")
    return found


def legend(path: Path) -> set[str]:
    """Letters of the legend in interfaces.py and of the file's comment lines ``# K = ...``, and digits."""
    table = re.findall(r"^((?:[A-Z], )*[A-Z])  +\S", interfaces.__doc__ or "", re.MULTILINE)
    letters = {letter for row in table for letter in row.split(", ")}
    text = path.read_text(encoding="utf-8")
    for line in re.findall(r"^# ([A-Za-z](?: and [A-Za-z])? = .*)$", text, re.MULTILINE):
        letters |= set(re.findall(r"\b([A-Za-z])(?= = | and [A-Za-z] = )", line))
    return letters | {letter.lower() for letter in letters} | set("0123456789")


def strange_suffixes() -> list[str]:
    """Tensor names whose suffix has letters that neither the legend nor the file explains."""
    found = []
    for path in sources():
        names = {node.id for node in ast.walk(tree(path)) if isinstance(node, ast.Name)}
        names |= {node.arg for node in ast.walk(tree(path)) if isinstance(node, ast.arg)}
        known = legend(path)
        for name in sorted(names):
            match = re.fullmatch(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*_([A-Z][A-Za-z0-9]*)", name)
            if match and (unknown := set(match[1]) - known):
                found.append(f"{path.relative_to(registry.ROOT)}: {name} ({', '.join(sorted(unknown))})")
    return found


RULES = (arrows_against_the_order, circles, long_files, string_keys, strange_suffixes)


@pytest.mark.parametrize("violations", RULES, ids=lambda rule: rule.__name__)
def test_the_house_has_no(violations) -> None:
    assert violations() == []
