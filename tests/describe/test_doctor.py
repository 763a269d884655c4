"""``rrsis-bench doctor``: each finding where all is well, where something is missing, and where something will fail."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch

from rrsis_bench import cli
from rrsis_bench.describe import doctor
from rrsis_bench.describe.doctor import EnvironmentCheck


def test_all_parts_of_this_machine_are_checked(tmp_path, capsys):
    code = cli.main(["doctor", "--json", "--runs", str(tmp_path)])
    found = [EnvironmentCheck(**one) for one in json.loads(capsys.readouterr().out)]
    assert [one.name for one in found] == [
        "Python", "packages", "torch", "GeoTIFF", "PROJ", "disk", "hub", "NLTK", "spaCy", "fonts",
    ]  # fmt: skip
    assert {one.state for one in found} <= {"ok", "note", "problem"}
    assert all(one.fix for one in found if one.state != "ok")
    assert code == int(any(one.state == "problem" for one in found))


@pytest.mark.parametrize(("states", "code"), [(("ok", "note"), 0), (("ok", "problem", "note"), 1)])
def test_one_line_each_with_the_fix_and_the_exit_code(monkeypatch, capsys, states, code):
    found = [EnvironmentCheck(f"look{i}", state, f"found [{state}]", "do this" * (state != "ok")) for i, state in
             enumerate(states)]  # fmt: skip
    monkeypatch.setattr(doctor, "check_environment", lambda _: found)
    assert cli.main(["doctor"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(states)
    for line, one in zip(lines, found, strict=True):
        assert line.startswith(one.state)
        assert one.text in line
        assert line.endswith("-> do this") == (one.state != "ok")


def test_packages(monkeypatch):
    assert doctor.packages().state == "ok"
    known = importlib.metadata.version

    def version(name: str) -> str:
        if name == "timm":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.0.1" if name == "rich" else known(name)

    monkeypatch.setattr(doctor, "version", version)
    found = doctor.packages()
    assert found.state == "problem"
    assert "timm is missing" in found.text
    assert "rich 0.0.1, needed >=" in found.text
    assert "pip install" in found.fix

    def gone(name: str):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "distribution", gone)
    assert doctor.packages().state == "problem"


def test_a_missing_package_stops_no_other_check(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nltk", None)
    found = {one.name: one for one in doctor.check_environment(tmp_path)}
    assert found["NLTK"].state == "problem"
    assert "nltk" in found["NLTK"].text
    assert found["fonts"].state in ("ok", "note")


def test_torch_and_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert doctor.torch_and_device().state == "ok"
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    found = doctor.torch_and_device()
    assert (found.state, "driver" in found.text, "driver" in found.fix) == ("problem", True, True)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    card = SimpleNamespace(name="Fast Card", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    found = doctor.torch_and_device()
    assert found.state == "ok"
    assert "Fast Card, 80 GiB" in found.text

    import torchvision

    def broken(*_):
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    found = doctor.torch_and_device()
    assert found.state == "problem"
    assert "nms does not exist" in found.text
    assert "more" not in found.text


def test_geotiff_libraries(monkeypatch):
    import pyogrio
    import rasterio

    assert doctor.gdal().state == "ok"
    major, minor, patch = pyogrio.__gdal_version__
    monkeypatch.setattr(rasterio, "__gdal_version__", f"{major}.{minor + 7}.{patch}")
    assert doctor.gdal().state == "ok", "two copies of one generation are usual"
    monkeypatch.setattr(rasterio, "__gdal_version__", f"{major - 1}.{minor}.{patch}")
    found = doctor.gdal()
    assert (found.state, f"GDAL {major - 1}.{minor}.{patch}" in found.text) == ("problem", True)
    monkeypatch.setattr(rasterio, "__gdal_version__", f"{major}.{minor}.{patch}")

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyogrio" else real(name))
    found = doctor.gdal()
    assert (found.state, "pyogrio not installed" in found.text, "[geo]" in found.fix) == ("note", True, True)
    monkeypatch.setattr(importlib.util, "find_spec", real)
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    assert doctor.gdal().state == "problem"


def test_proj(monkeypatch):
    assert doctor.proj({}).state == "ok"
    found = doctor.proj({"PROJ_LIB": "/opt/postgis/proj"})
    assert (found.state, found.fix) == ("note", "unset PROJ_LIB")
    assert "PROJ_LIB=/opt/postgis/proj" in found.text
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    found = doctor.proj({})
    assert (found.state, "[geo]" in found.fix) == ("note", True)


def test_a_foreign_proj_database_is_a_problem(tmp_path):
    """In a process of its own: PROJ reads the variable when it is loaded."""
    (tmp_path / "proj.db").write_bytes(b"of another program")
    script = (
        "import os; from rrsis_bench.describe.doctor import proj; one = proj(os.environ); print(one.state, one.fix)"
    )
    environment = {**os.environ, "PROJ_LIB": str(tmp_path), "PROJ_DATA": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "problem unset PROJ_LIB PROJ_DATA"


def test_disk(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1e12, 0, 500e9))
    found = doctor.disk(tmp_path / "not" / "yet")
    assert (found.state, found.text) == ("ok", f"500 GB free in {tmp_path}")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1e12, 0, 3e9))
    found = doctor.disk(tmp_path)
    assert found.state == "problem"
    assert "3 GB free" in found.text
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = doctor.disk(tmp_path)
    assert (found.state, "cannot be written" in found.text) == ("problem", True)


def test_hub(monkeypatch):
    asked = []

    def connect(address, timeout):
        asked.append(address)
        assert timeout <= 5
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(socket, "create_connection", connect)
    assert doctor.hub({"HF_HUB_OFFLINE": "1"}).state == "note"
    assert not asked
    assert doctor.hub({"HF_HUB_OFFLINE": "0"}).state == "ok"
    doctor.hub({"HF_ENDPOINT": "http://mirror.example:8080"})
    doctor.hub({"https_proxy": "http://proxy.example:3128"})
    assert asked == [("huggingface.co", 443), ("mirror.example", 8080), ("proxy.example", 3128)]

    def refused(*_, **__):
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refused)
    found = doctor.hub({})
    assert (found.state, "Connection refused" in found.text) == ("note", True)
    assert "vision.weights=" in found.fix


def test_nltk_data_and_fonts(monkeypatch):
    import nltk

    from rrsis_bench.results.render import fonts

    monkeypatch.setattr(nltk.data, "find", lambda _: "here")
    assert doctor.nltk_data().state == "ok"

    def missing(_):
        raise LookupError

    monkeypatch.setattr(nltk.data, "find", missing)
    found = doctor.nltk_data()
    assert (found.state, "nltk.downloader" in found.fix) == ("note", True)

    monkeypatch.setattr(fonts, "lettering", lambda *_: fonts.Lettering(("DejaVu Sans",), frozenset("船")))
    assert doctor.cjk_font().state == "note"
    monkeypatch.setattr(fonts, "lettering", lambda *_: fonts.Lettering(("DejaVu Sans", "Noto"), frozenset()))
    assert doctor.cjk_font() == EnvironmentCheck("fonts", "ok", "Chinese characters from Noto")


def test_the_parser_of_lscm(monkeypatch):
    installed = set()
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name if name in installed else None)
    monkeypatch.setattr(doctor, "version", lambda name: f"3.8 of {name}")
    assert (doctor.parser().state, doctor.parser().fix) == ("note", "pip install 'rrsis-bench[parse]'")
    installed.add("spacy")
    assert (doctor.parser().state, doctor.parser().fix) == ("note", "python -m spacy download en_core_web_sm")
    installed.add("en_core_web_sm")
    assert doctor.parser().state == "ok"
