"""A folder or a list of images: one job each, kept when it is done, one table and one GeoPackage over all."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal

import geopandas
import pytest
from PIL import Image
from rasterio.crs import CRS

from rrsis_bench import cli
from rrsis_bench.predict import batch, job
from rrsis_bench.predict.predictor import Predictor
from tests.fakes.echo import Echo, make_predictor
from tests.predict.rasters import DEGREES, blobs, write_raster

pytestmark = pytest.mark.usefixtures("loads")
SIDE = 64
WORDS = ("the ship on the left", "the red vehicle")


@pytest.fixture
def loads(monkeypatch):
    """Every run is the echo model; counts how often it is loaded."""
    found = []

    def from_run(run, *, device):  # noqa: ARG001
        found.append(str(run))
        return make_predictor(Echo(SIDE), WORDS)

    monkeypatch.setattr(Predictor, "from_run", from_run)
    monkeypatch.setattr(batch.ModelSource, "sha256", lambda _: "0" * 64)
    monkeypatch.setenv("COLUMNS", "200")
    return found


@pytest.fixture
def scenes(tmp_path):
    folder = tmp_path / "scenes"
    folder.mkdir()
    for index in range(3):
        write_raster(folder / f"s{index}.tif", blobs(SIDE, SIDE, seed=index))
    return folder


@pytest.fixture
def predicted(monkeypatch):
    """The images that a job ran on, in order."""
    found, run = [], job.run

    def spy(request, *args):
        found.append(request.image.name)
        return run(request, *args)

    monkeypatch.setattr(job, "run", spy)
    return found


def predict(images, out, *arguments) -> int:
    return cli.main(["predict", str(images), WORDS[0], "-e", WORDS[1], "--run", "runs/x", "-o", str(out), *arguments])


def rows(out) -> list[dict[str, str]]:
    with (out / "summary.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_gives_files_per_image_one_table_and_one_geopackage(loads, scenes, tmp_path, capsys):
    (scenes / "notes.txt").write_text("no image")
    (scenes / ".hidden.tif").write_bytes(b"")
    out = tmp_path / "out"
    assert predict(scenes, out) == 0
    assert len(loads) == 1, "the model is loaded once"
    for index in range(3):
        assert (out / f"s{index}.mask.tif").is_file()
        assert (out / f"s{index}.predict.json").is_file()
    assert [(row["image"], row["expression"]) for row in rows(out)] == [
        (str(scenes / f"s{index}.tif"), sentence) for index in range(3) for sentence in WORDS
    ]
    for row in rows(out):
        content = json.loads((out / row["json"]).read_text())
        one = next(entry for entry in content["expressions"] if entry["expression"] == row["expression"])
        assert (row["area_px"], row["objects"]) == (str(one["area_px"]), str(one["objects"]))
    merged = geopandas.read_file(out / "predictions.gpkg", layer="predictions")
    parts = [geopandas.read_file(out / f"s{index}.gpkg") for index in range(3)]
    assert len(merged) == sum(map(len, parts)) > 0
    assert merged.crs == parts[0].crs
    assert set(merged["image"]) == {str(scenes / f"s{index}.tif") for index in range(3)}
    assert merged.geometry.area.sum() == pytest.approx(sum(part.geometry.area.sum() for part in parts))
    shown = capsys.readouterr()
    assert "3 predicted" in shown.out
    assert "3/3" in shown.err


def test_finished_images_are_kept_until_a_setting_or_the_image_changes(loads, scenes, tmp_path, predicted, capsys):
    out = tmp_path / "out"
    assert predict(scenes, out) == 0
    assert len(predicted) == 3
    assert predict(scenes, out) == 0
    assert len(predicted) == 3, "nothing is predicted twice"
    assert len(loads) == 1, "nor is the model loaded"
    assert "3 kept" in capsys.readouterr().out
    assert {row["status"] for row in rows(out)} == {"kept"}

    os.utime(scenes / "s0.tif", (1, 1))  # copied again: the content counts
    assert predict(scenes, out) == 0
    assert len(predicted) == 3
    write_raster(scenes / "s1.tif", blobs(SIDE, SIDE, seed=9))
    assert predict(scenes, out) == 0
    assert predicted[3:] == ["s1.tif"]
    (out / "s2.mask.tif").unlink()
    assert predict(scenes, out) == 0
    assert predicted[4:] == ["s2.tif"]
    assert predict(scenes, out, "--threshold", "0.7") == 0
    assert predicted[5:] == ["s0.tif", "s1.tif", "s2.tif"]
    assert predict(scenes, out, "--threshold", "0.7", "--overwrite") == 0
    assert len(predicted) == 11


def test_other_weights_predict_again(scenes, tmp_path, predicted, monkeypatch):
    assert predict(scenes, tmp_path / "out") == 0
    monkeypatch.setattr(batch.ModelSource, "sha256", lambda _: "1" * 64)
    assert predict(scenes, tmp_path / "out") == 0
    assert len(predicted) == 6


def test_an_image_that_fails_is_a_row_and_not_the_end(scenes, tmp_path, predicted, capsys):
    (scenes / "s1.tif").write_bytes(b"no raster")
    out = tmp_path / "out"
    assert predict(scenes, out) == 1
    found = {(row["image"].rpartition("/")[2], row["status"]) for row in rows(out)}
    assert found == {("s0.tif", "predicted"), ("s1.tif", "failed"), ("s2.tif", "predicted")}
    (failed,) = (row for row in rows(out) if row["status"] == "failed")
    assert "s1.tif" in failed["reason"]
    shown = capsys.readouterr().out
    assert "1 failed" in shown
    assert "predicts the failed images again" in shown
    assert set(geopandas.read_file(out / "predictions.gpkg")["image"]) == {
        str(scenes / "s0.tif"), str(scenes / "s2.tif")
    }  # fmt: skip
    write_raster(scenes / "s1.tif", blobs(SIDE, SIDE, seed=1))
    assert predict(scenes, out) == 0
    assert predicted[3:] == ["s1.tif"], "only what is missing"


def test_a_defect_of_the_code_is_a_row_too(scenes, tmp_path, monkeypatch):
    run = job.run

    def broken(request, *args):
        if request.image.name == "s1.tif":
            raise ZeroDivisionError("a defect")
        return run(request, *args)

    monkeypatch.setattr(job, "run", broken)
    assert predict(scenes, tmp_path / "out") == 1
    assert [row["reason"] for row in rows(tmp_path / "out") if row["reason"]] == ["ZeroDivisionError: a defect"]


def test_a_model_that_cannot_be_loaded_is_the_end(scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.undo()
    assert predict(scenes, tmp_path / "out") == 2
    assert capsys.readouterr().err.count("error:") == 1
    assert not (tmp_path / "out").exists()


def test_a_stopped_command_goes_on_with_the_next_image(scenes, tmp_path, predicted, monkeypatch):
    spy = job.run

    def stopped(request, *args):
        if request.image.name == "s1.tif":
            os.kill(os.getpid(), signal.SIGTERM)
        return spy(request, *args)

    with monkeypatch.context() as patch:
        patch.setattr(job, "run", stopped)
        assert predict(scenes, tmp_path / "out") == 143
    assert predict(scenes, tmp_path / "out") == 0
    assert predicted == ["s0.tif", "s1.tif", "s2.tif"]


@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_a_list_names_the_images(scenes, tmp_path, name):
    lines = ["scenes/s2.tif", str(scenes / "s0.tif"), "scenes/s2.tif", "scenes/none.tif"]
    head = ["image,note"] if name.endswith("csv") else ["# of today", ""]
    lines = [f"{line},x" for line in lines] if name.endswith("csv") else lines
    (tmp_path / name).write_text("\n".join([*head, *lines]) + "\n")
    assert predict(tmp_path / name, tmp_path / "out") == 1
    found = list(dict.fromkeys((row["image"].rpartition("/")[2], row["status"]) for row in rows(tmp_path / "out")))
    assert found == [("s2.tif", "predicted"), ("s0.tif", "predicted"), ("none.tif", "failed")]


def test_equal_names_do_not_overwrite_each_other(scenes, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(scenes, other)
    write_raster(other / "s0.tif", blobs(SIDE, SIDE, seed=7))
    (tmp_path / "list.txt").write_text("scenes/s0.tif\nother/s0.tif\nscenes/s1.tif\n")
    out = tmp_path / "out"
    assert predict(tmp_path / "list.txt", out) == 0
    places = {row["image"].rpartition("scenes/")[0] or "other": row["json"] for row in rows(out)}
    assert len({row["json"] for row in rows(out)}) == 3, places
    assert (out / "s1.predict.json").is_file()
    assert len(set(geopandas.read_file(out / "predictions.gpkg")["image"])) == 3
    assert predict(tmp_path / "list.txt", out) == 0
    assert {row["status"] for row in rows(out)} == {"kept"}


def test_images_of_several_systems_meet_in_degrees(scenes, tmp_path, capsys):
    write_raster(scenes / "s3.tif", blobs(SIDE, SIDE, seed=3), crs=CRS.from_epsg(4326), transform=DEGREES)
    Image.fromarray(blobs(SIDE, SIDE)).save(scenes / "plain.png")
    out = tmp_path / "out"
    assert predict(scenes, out, "--vector", "gpkg") == 0
    merged = geopandas.read_file(out / "predictions.gpkg")
    assert merged.crs.to_epsg() == 4326
    assert set(merged["image"]) == {str(scenes / f"s{index}.tif") for index in range(4)}, "pixels are no place"
    assert "which are not in predictions.gpkg: 1." in capsys.readouterr().err
    shutil.rmtree(out)
    assert predict(scenes, out, "--vector", "none") == 0
    assert not (out / "predictions.gpkg").exists()


def test_the_masks_beside_the_images_are_no_images(scenes, predicted):
    assert predict(scenes, scenes) == 0
    assert predict(scenes, scenes) == 0
    assert predicted == ["s0.tif", "s1.tif", "s2.tif"]


def test_a_folder_without_images_is_a_sentence(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert predict(tmp_path / "empty", tmp_path / "out") == 2
    (tmp_path / "list.txt").write_text("\n")
    assert predict(tmp_path / "list.txt", tmp_path / "out") == 2
    (tmp_path / "list.csv").write_text("file\na.tif\n")
    assert predict(tmp_path / "list.csv", tmp_path / "out") == 2
    assert capsys.readouterr().err.count("error:") == 3


def test_json_prints_every_outcome(scenes, tmp_path, capsys):
    (scenes / "s1.tif").write_bytes(b"no raster")
    assert predict(scenes, tmp_path / "out", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [outcome["status"] for outcome in found] == ["predicted", "failed", "predicted"]
