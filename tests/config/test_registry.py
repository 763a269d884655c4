"""Models are found by name, one name is one model, and the mask making is sealed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rrsis_bench import registry
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Segmenter, SegmenterOutput


def checkout(tmp_path: Path, *names: str) -> Path:
    """A folder with models/ and conf/model/ in the suite's layout; a name ending in / becomes a folder."""
    (tmp_path / "conf" / "model").mkdir(parents=True)
    for name in names:
        path = tmp_path / "models" / name.rstrip("/")
        if name.endswith("/"):
            path.mkdir(parents=True)
            (path / "__init__.py").touch()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path


def plugin(tmp_path: Path, name: str, package: str = "rrsis_plugin") -> Path:
    """An installed distribution with one entry point, as pip leaves it."""
    site = tmp_path / "site"
    conf = site / package / "conf" / "model"
    conf.mkdir(parents=True)
    (site / package / "__init__.py").touch()
    (site / package / "net.py").write_text(
        "from rrsis_bench.interfaces import Segmenter, SegmenterOutput\n"
        "class Net(Segmenter):\n"
        "    def forward(self, views, text):\n"
        "        return SegmenterOutput(views['image'].float().mean(1))\n"
    )
    (conf / f"{name}.yaml").write_text(f"name: {name}\ncard: {{title: A plugin}}\nargs: {{views: {{image: 8}}}}\n")
    info = site / "rrsis_plugin-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rrsis-plugin\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[{registry.ENTRY_POINT_GROUP}]\n{name} = {package}.net\n")
    return site


def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, name: str = "probe") -> str:
    """Make ``models.<name>`` out of a file elsewhere, so that the tracked folder stays as it is."""
    from rrsis_bench import models

    root = checkout(tmp_path, f"{name}.py")
    (root / "models" / f"{name}.py").write_text("from rrsis_bench.interfaces import *\n" + body)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(root / "models")])
    entry = registry.ModelEntry(name, f"rrsis_bench.models.{name}", "in-tree", root / "conf")
    monkeypatch.setattr(registry, "find", lambda _: entry)
    monkeypatch.delitem(sys.modules, f"rrsis_bench.models.{name}", raising=False)
    return name


def test_files_and_folders_are_models_and_shared_parts_are_not(tmp_path):
    root = checkout(tmp_path, "__init__.py", "one.py", "two/", "blocks/", "_private.py", ".hidden.py", "notes.txt")
    found = registry.entries(root)
    assert list(found) == ["one", "two"]
    assert found["two"].module == "rrsis_bench.models.two"
    assert found["one"].conf == root / "conf" / "model" / "one.yaml"


def test_the_repository_offers_its_two_models():
    assert {"lavt", "fianet"} <= set(registry.entries())


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UserError, match="Unknown model 'fianett'. Did you mean fianet.*\n.*lavt"):
        registry.find("fianett")


def test_file_and_folder_of_one_name_are_refused(tmp_path):
    with pytest.raises(UserError, match="'twin' is offered twice"):
        registry.entries(checkout(tmp_path, "twin.py", "twin/"))


def test_plugin_is_found_and_loaded_and_may_not_take_a_name(tmp_path, monkeypatch):
    site = plugin(tmp_path, "outsider")
    monkeypatch.syspath_prepend(site)
    entry = registry.find("outsider")
    assert entry.source == "rrsis-plugin 1.2"
    assert registry.card(entry) == {"title": "A plugin", "views": {"image": 8}}
    assert "rrsis_plugin.net" not in sys.modules, "finding a model must not import it"
    assert registry.load_class("outsider").__name__ == "Net"
    monkeypatch.delitem(sys.modules, "rrsis_plugin.net")
    monkeypatch.delitem(sys.modules, "rrsis_plugin")
    points = site / "rrsis_plugin-1.2.dist-info" / "entry_points.txt"
    points.write_text(f"[{registry.ENTRY_POINT_GROUP}]\nlavt = rrsis_plugin.net\n")
    with pytest.raises(UserError, match=r"'lavt' is offered twice.*models.lavt \(in-tree\).*\(rrsis-plugin 1.2\)"):
        registry.entries()


def test_a_plugin_that_is_gone_is_named(tmp_path, monkeypatch):
    site = plugin(tmp_path, "outsider")
    (site / "rrsis_plugin-1.2.dist-info" / "entry_points.txt").write_text(
        f"[{registry.ENTRY_POINT_GROUP}]\noutsider = rrsis_nowhere.net\n"
    )
    monkeypatch.syspath_prepend(site)
    with pytest.raises(UserError, match=r"rrsis_nowhere.net.*Reinstall"):
        registry.entries()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("class A(Segmenter): pass\nclass B(Segmenter): pass\n", "A, B"),
        ("x = 1\n", "none"),
    ],
)
def test_a_module_defines_exactly_one_segmenter(tmp_path, monkeypatch, body, found):
    name = module(tmp_path, monkeypatch, body)
    with pytest.raises(UserError, match=f"exactly one.*found: {found}"):
        registry.load_class(name)


def test_an_imported_segmenter_does_not_count(tmp_path, monkeypatch):
    name = module(tmp_path, monkeypatch, "from rrsis_bench.models.lavt import LAVT\nclass Mine(LAVT): pass\n")
    assert registry.load_class(name).__name__ == "Mine"


def test_predict_masks_is_sealed():
    with pytest.raises(TypeError, match="predict_masks, which is sealed"):

        class Cheat(Segmenter):
            def forward(self, views, text):  # noqa: ARG002 - never called
                return SegmenterOutput(views["image"])

            def predict_masks(self, *_, **__):
                return []


def test_a_model_without_a_configuration_is_named(tmp_path):
    root = checkout(tmp_path, "bare.py")
    with pytest.raises(UserError, match=r"'bare' has no configuration: write .*bare.yaml"):
        registry.card(registry.entries(root)["bare"])


def test_another_models_folder_on_the_path_is_not_ours(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.load_class("lavt").__module__.startswith("rrsis_bench.models.lavt")
