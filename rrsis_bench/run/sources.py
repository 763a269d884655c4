"""The source files that a run executes: their hashes, and which of them have changed since.

A commit and a dirty flag say nothing about a file that is edited between two commands. A run therefore keeps the sha256
of every module of this suite and of its model that was loaded, except those that only draw or print tables.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rrsis_bench import registry
from rrsis_bench.files import sha256_bytes, sha256_file

_PACKAGE, _MODELS = "rrsis_bench", "rrsis_bench.models"
_WITHOUT_EFFECT = tuple(
    f"{_PACKAGE}.{room}"
    for room in (
        "cli", "commands", "describe", "predict", "results.board", "results.compare", "results.leaderboards",
        "results.published", "results.render",
    )
)  # fmt: skip


def loaded_sources(model: str) -> dict[str, str]:
    """Return dotted module -> sha256 of its file, for the suite's loaded modules and those that the model imports.

    Args:
        model: registry name; its module must be loaded.
    """
    module = registry.find(model).module
    names = {name for name in list(sys.modules) if _below(name, _PACKAGE) and not _below(name, _MODELS)}
    names = {name for name in names if not any(_below(name, room) for room in _WITHOUT_EFFECT)}
    found = {}
    for name in sorted(names | _imported(module)):
        path = _file(name)
        if path is not None and path.is_file():
            found[name] = sha256_file(path)
    return found


def changed_sources(recorded: Mapping[str, str]) -> list[str]:
    """Return the modules whose file has changed or is gone since `loaded_sources` returned `recorded`."""
    changed = []
    for name, sha256 in recorded.items():
        path = _file(name)
        if path is None or not path.is_file() or sha256_file(path) != sha256:
            changed.append(name)
    return changed


def sources_sha256(sources: Mapping[str, str]) -> str:
    """Return one sha256 over the result of `loaded_sources`."""
    return sha256_bytes(json.dumps(sources, sort_keys=True).encode())


def source_files(names: Iterable[str]) -> list[Path]:
    """Return the files of modules; modules without a file are left out."""
    return [path for path in map(_file, names) if path is not None]


def _below(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _file(name: str) -> Path | None:
    module = sys.modules.get(name)
    origin = getattr(module, "__file__", None)
    if module is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):  # its package is gone
            return None
        origin = spec.origin if spec else None
    return Path(origin) if origin else None


def _imported(module: str) -> set[str]:
    """Return a model's module and the modules of its package that it imports, directly or not."""
    top = _MODELS if _below(module, _MODELS) else module.partition(".")[0]
    found: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        path = _file(name)
        if name in found or path is None or path.suffix != ".py" or not _below(name, top):
            continue
        found.add(name)
        parent = name.rpartition(".")[0]
        todo += [parent, *_imports(path, name if path.name == "__init__.py" else parent)]
    return found


def _imports(path: Path, package: str) -> Iterator[str]:
    """Yield the dotted names that a file imports; a name may be a module or something inside one."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(base, package) if node.level else base
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
