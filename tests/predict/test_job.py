"""One call: all files are complete, or none is written."""

from __future__ import annotations

import errno
import json
import os
import resource

import geopandas
import numpy as np
import pyogrio
import pytest
import rasterio
from PIL import Image
from rasterio.features import rasterize

from rrsis_bench.errors import UserError
from rrsis_bench.predict import job
from rrsis_bench.predict.outputs import vectors
from tests.fakes.echo import CUT, Echo, EchoFirst, RaisesOnSeventh, make_predictor
from tests.predict.jobs import NO_PROGRESS, QUIET, SENTENCES, SIDE, left_in, predict, square
from tests.predict.rasters import write_raster


def test_a_plain_image_gives_png_masks_and_an_overlay(tmp_path):
    Image.fromarray(square()).save(tmp_path / "scene.png")
    content = predict(tmp_path / "scene.png", tmp_path / "out", sentences=("the red vehicle",))
    assert left_in(tmp_path / "out") == ["scene.mask.png", "scene.overlay.png", "scene.predict.json"]
    assert sorted(content["files"]) == left_in(tmp_path / "out")
    mask = np.asarray(Image.open(tmp_path / "out/scene.mask.png"))
    np.testing.assert_array_equal(mask, np.where(square()[..., 0] > CUT, 255, 0))
    predict(tmp_path / "scene.png", tmp_path / "gpkg", vector="gpkg", save_prob=True)
    table = geopandas.read_file(tmp_path / "gpkg/scene.gpkg")
    assert table.crs is None
    assert table.area_m2.isna().all()
    np.testing.assert_array_equal(rasterize(table[table.expression_id == 0].geometry, out_shape=mask.shape), mask > 0)
    assert left_in(tmp_path / "gpkg") == [
        "scene.gpkg", "scene.mask.001.png", "scene.mask.002.png", "scene.overlay.png", "scene.predict.json",
        "scene.prob.001.png", "scene.prob.002.png",
    ]  # fmt: skip
    with pytest.raises(UserError, match="not georeferenced"):
        predict(tmp_path / "scene.png", tmp_path / "geojson", vector="geojson")
    assert left_in(tmp_path / "geojson") == []


def test_nodata_stays_nodata_in_both_views(tmp_path):
    image_HWC = square().astype(np.uint16) * 40
    image_HWC[:, 70:] = 0
    image_HWC[:4, :4] = 65535
    image = write_raster(tmp_path / "scene.tif", image_HWC, nodata=0)
    found = {}
    for view in ("frame", "tile"):
        options = {"view": view, **({"tile": SIDE} if view == "tile" else {})}
        content = predict(image, tmp_path / view, options=options, save_prob=True)
        found[view] = content["image"]["scaling"]
        for kind in ("mask", "prob"):
            with rasterio.open(tmp_path / view / f"scene.{kind}.tif") as file:
                values = file.read(1)
            assert (values[:, 70:] == 255).all()
            assert (values[:, :70] != 255).all()
    assert found["frame"] == found["tile"]
    assert found["frame"]["kind"] == "percentile"


def test_fifty_sentences_one_decode_one_encoding_and_any_text_survives(tmp_path, monkeypatch):
    sentences = [f"the ship number {index}" for index in range(46)]
    sentences += ["左边的船", "a \"quoted\" ship; the 'last' one", "two\nlines of\ttext", "a ship " * 1429]
    assert len(sentences[-1]) > 10_000
    Image.fromarray(square()).save(tmp_path / "scene.png")
    decodes = []
    from rrsis_bench.data.pixels import images

    original = images.read_rgb
    monkeypatch.setattr(images, "read_rgb", lambda path: decodes.append(path) or original(path))
    model = EchoFirst(SIDE)
    predictor = make_predictor(model, sentences)
    predict(tmp_path / "scene.png", tmp_path / "png", sentences, predictor, vector="gpkg")
    assert (len(decodes), model.encodings) == (1, 1)
    assert list(dict.fromkeys(geopandas.read_file(tmp_path / "png/scene.gpkg").expression)) == sentences
    stored = json.loads((tmp_path / "png/scene.predict.json").read_text(encoding="utf-8"))
    assert [row["expression"] for row in stored["expressions"]] == sentences

    image = write_raster(tmp_path / "scene.tif", square())
    predict(image, tmp_path / "tif", sentences, make_predictor(EchoFirst(SIDE), sentences), overlay=False)
    with rasterio.open(tmp_path / "tif/scene.mask.tif") as file:
        assert list(file.descriptions) == sentences


@pytest.mark.parametrize("kind", list(vectors.FORMATS))
def test_an_empty_prediction_gives_valid_empty_files(tmp_path, kind):
    image = write_raster(tmp_path / "scene.tif", np.zeros((SIDE, SIDE, 3), np.uint8))
    content = predict(image, tmp_path / "out", vector=kind)
    path = tmp_path / "out" / f"scene{vectors.FORMATS[kind]}"
    table = geopandas.read_parquet(path) if kind == "parquet" else geopandas.read_file(path)
    assert len(table) == 0
    if kind != "geojson":  # which names the columns of its features only
        assert list(table.columns) == [*vectors.COLUMNS, "geometry"]
    with rasterio.open(tmp_path / "out/scene.mask.tif") as file:
        assert not file.read().any()
    assert content["expressions"][0] | {"frame_words": 0} == {
        "expression": SENTENCES[0], "frame_words": 0, "area_px": 0, "score_mean": None,
        "probability_max": pytest.approx(0), "objects": 0,
    }  # fmt: skip
    assert pyogrio.list_layers(path).shape[0] == 1 if kind == "gpkg" else True


def test_existing_files_are_kept_or_replaced_broken_or_not(tmp_path):
    image = write_raster(tmp_path / "scene.tif", square())
    out = tmp_path / "out"
    out.mkdir()
    for name in ("scene.mask.tif", "scene.gpkg", "scene.overlay.png", "scene.predict.json"):
        (out / name).write_bytes(b"II*\0broken by an earlier crash")

    def never():
        raise AssertionError("the model was loaded before the folder was checked")

    request = job.Request(image, SENTENCES, out, {"view": "frame"})
    with pytest.raises(UserError, match="--overwrite"):
        job.run(request, never, QUIET, NO_PROGRESS)
    assert (out / "scene.gpkg").read_bytes().endswith(b"crash")
    predict(image, out, overwrite=True)
    with rasterio.open(out / "scene.mask.tif") as file:
        np.testing.assert_array_equal(file.read(1), square()[..., 0] > CUT)
    assert len(geopandas.read_file(out / "scene.gpkg")) > 0
    assert left_in(out) == ["scene.gpkg", "scene.mask.tif", "scene.overlay.png", "scene.predict.json"]


def test_fewer_sentences_leave_no_mask_of_another_one(tmp_path):
    Image.fromarray(square()).save(tmp_path / "scene.png")
    out = tmp_path / "out"
    predict(tmp_path / "scene.png", out)
    (out / "scene.notes.txt").write_text("mine")
    predict(tmp_path / "scene.png", out, SENTENCES[:1], overwrite=True)
    assert left_in(out) == ["scene.mask.png", "scene.notes.txt", "scene.overlay.png", "scene.predict.json"]
    (out / "scene.predict.json").write_text('{"files": ["../scene.png", "scene.notes.txt/", 7]}')
    predict(tmp_path / "scene.png", out, SENTENCES[:1], overwrite=True)
    assert (tmp_path / "scene.png").exists()
    assert (out / "scene.notes.txt").exists()


def test_a_model_that_fails_on_tile_7_leaves_nothing(tmp_path):
    image = write_raster(tmp_path / "scene.tif", square())
    predictor = make_predictor(RaisesOnSeventh(32), SENTENCES[:1])
    options = {"view": "tile", "tile": 32, "overlap": 0.0, "batch": 1}
    with pytest.raises(UserError, match="Tile 7 of 9"):
        predict(image, tmp_path / "out", SENTENCES[:1], predictor, options=options)
    assert left_in(tmp_path / "out") == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    image = write_raster(tmp_path / "scene.tif", square())
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="file/out cannot be written"):
        predict(image, tmp_path / "file/out")

    def read_only(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(job, "TemporaryFile", read_only)
    with pytest.raises(UserError, match="out cannot be written.*Read-only file system"):
        predict(image, tmp_path / "out")
    assert left_in(tmp_path / "out") == []


@pytest.mark.parametrize("vector", ["gpkg", "none"])
@pytest.mark.parametrize("limit", [100, 1000, 20_000])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, limit, vector):
    """The limit on file sizes makes every writer fail as on a full disk, wherever it stands."""
    image_HWC = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    image = write_raster(tmp_path / "scene.tif", image_HWC)
    predictor = make_predictor(Echo(200))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(UserError) as caught:
            predict(image, tmp_path / "out", predictor=predictor, save_prob=True, vector=vector)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert left_in(tmp_path / "out") == []


def test_words_of_the_frame_are_named_in_tile_mode(tmp_path):
    image = write_raster(tmp_path / "scene.tif", square())
    options = {"view": "tile", "tile": SIDE}
    content = predict(image, tmp_path / "out", ("the ship on the left", "white ship"), options=options)
    assert any("left" in line for line in content["warnings"])
    assert content["expressions"][0]["frame_words"] == {"position": ["left"]}
    assert content["expressions"][1]["frame_words"] == {}
    assert content["options"]["tile"] == SIDE


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"vector": "shp"}, "'shp'"),
        ({"window": (0, 0, 999, 5)}, "window"),
        ({"options": {"view": "panorama"}}, "view=panorama"),
        ({"options": {"view": "frame", "threshold": 1.0}}, "threshold"),
        ({"to_crs": "EPSG:99999999"}, "no coordinate system"),
        ({"scale": "none,"}, "scale="),
        ({"vector": "none", "simplify": 1.0}, "simplify"),
        ({"sentences": ()}, "no expression"),
        ({"sentences": ("the ship", "a\0b")}, "'a␀b' has a control character"),
        ({"sentences": ("the \x1b[31mship",)}, "control character"),
        ({"sentences": ("the \udcff ship",)}, "control character"),
        ({"bands": (9, 1, 2)}, "no band 9"),
    ],
)  # fmt: skip
def test_bad_requests_stop_before_the_model_is_loaded(tmp_path, fields, said):
    image = write_raster(tmp_path / "scene.tif", square())
    sentences = fields.pop("sentences", SENTENCES)
    request = job.Request(image, sentences, tmp_path / "out", **{"options": {"view": "frame"}, **fields})

    def never():
        raise AssertionError("the model was loaded")

    with pytest.raises(UserError, match=said):
        job.run(request, never, QUIET, NO_PROGRESS)
    assert left_in(tmp_path / "out") == []


def test_expressions_are_read_from_files(tmp_path):
    (tmp_path / "a.csv").write_text('id,expression\n1,"a ship, white"\n2,左边的船\n', encoding="utf-8-sig")
    assert job.read_expressions(tmp_path / "a.csv") == ["a ship, white", "左边的船"]
    (tmp_path / "a.txt").write_text("a ship\n\n the bridge \n", encoding="utf-8")
    assert job.read_expressions(tmp_path / "a.txt") == ["a ship", "the bridge"]
    (tmp_path / "b.csv").write_text("text\na\n")
    (tmp_path / "empty.txt").write_text("\n")
    for name, said in [("b.csv", "column expression"), ("empty.txt", "no expression"), ("c.txt", "No such file")]:
        with pytest.raises(UserError, match=f"{name}.*{said}"):
            job.read_expressions(tmp_path / name)
    assert job.parse_area("5 m2") == (5.0, "m2")
    assert job.parse_area("20") == (20.0, "px")
    with pytest.raises(UserError, match="min-area"):
        job.parse_area("5ha")


def test_names_with_brackets_leave_nothing_behind(tmp_path):
    image = write_raster(tmp_path / "scene[1].tif", square())
    options = {"view": "tile", "tile": 32, "overlap": 0.0, "batch": 1}
    with pytest.raises(UserError, match="out of luck"):
        predict(image, tmp_path / "out", SENTENCES[:1], make_predictor(RaisesOnSeventh(32)), options=options)
    assert left_in(tmp_path / "out") == []
    predict(image, tmp_path / "out")
    assert "scene[1].mask.tif" in left_in(tmp_path / "out")
    (tmp_path / "other/scene[1].gpkg").mkdir(parents=True)
    with pytest.raises(UserError, match="is a folder"):
        predict(image, tmp_path / "other", overwrite=True)
    assert left_in(tmp_path / "other") == ["scene[1].gpkg"]


def test_too_little_memory_and_a_nodata_of_nan_are_recorded(tmp_path):
    image = write_raster(tmp_path / "scene.tif", square().astype(np.float32), nodata=np.nan)
    options = {"view": "tile", "tile": 64, "max_memory": 1000}
    content = predict(image, tmp_path / "out", options=options, nodata=float("nan"), scale="0,255")
    assert any("--max-memory" in line for line in content["warnings"])
    assert any("in 2 passes" in line for line in content["warnings"])
    text = (tmp_path / "out/scene.predict.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["image"]["nodata"] == "nan"
    roomy = predict(image, tmp_path / "roomy", options={"view": "tile", "tile": 64})
    assert not any("max-memory" in line or "passes" in line for line in roomy["warnings"])


def test_the_largest_probability_is_that_of_valid_pixels(tmp_path):
    image_HWC = np.full((SIDE, SIDE, 3), 129, np.uint8)
    image_HWC[:4] = 255
    image = write_raster(tmp_path / "scene.tif", image_HWC, nodata=255)
    row = predict(image, tmp_path / "out")["expressions"][0]
    assert row["probability_max"] == pytest.approx(1 / (1 + np.exp(-1.5)), abs=1e-6)
    assert row["score_mean"] == pytest.approx(row["probability_max"], abs=1e-6)
    assert row["area_px"] == (SIDE - 4) * SIDE
