"""The Python interface: what it says, what it refuses, where its model comes from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import rioxarray
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from rrsis_bench import cli
from rrsis_bench.config.compose import CONF, compose_config
from rrsis_bench.errors import UserError
from rrsis_bench.predict import predictor as module
from rrsis_bench.predict.predictor import Predictor
from rrsis_bench.predict.sources.opening import open_source
from rrsis_bench.run.model import build_fabric, without_weights
from tests.fakes.echo import Echo, make_predictor
from tests.fakes.rrsisd import write_fake_rrsisd
from tests.predict.rasters import blobs, write_raster


def test_notes_on_image_expressions_and_view_are_python_warnings(tmp_path):
    path = write_raster(
        tmp_path / "a.tif", np.dstack([blobs(96, 96), blobs(96, 96)[..., :1]]), photometric="MINISBLACK"
    )
    predictor = make_predictor(Echo(96), side=16)
    long = "the red vehicle " * 20
    with pytest.warns(UserWarning, match="1 of 1 expressions are longer than") as caught:
        predictor(path, long)
    lines = " ".join(str(warning.message) for warning in caught)
    assert "bands 1, 2, 3" in lines
    assert "24 pixels" in lines
    with pytest.warns(UserWarning, match="left in 'the ship on the left'"):
        predictor(blobs(96, 96), "the ship on the left", view="tile", tile=96)


def test_options_of_tiles_are_refused_for_a_frame():
    with pytest.raises(UserError, match="tile needs view=tile"):
        make_predictor(Echo(96))(blobs(96, 96), "the red vehicle", tile=32)


def test_released_weights_are_not_said_to_come_from_the_default_dataset(tmp_path, monkeypatch):
    (tmp_path / "a.pth").write_bytes(b"")
    monkeypatch.setattr("rrsis_bench.official.load_official", lambda *_, **__: Echo(96))
    monkeypatch.setattr(module, "load_text", lambda *_: make_predictor(Echo(96)).engine.text)
    found = Predictor.from_weights(tmp_path / "a.pth", "lavt", ["text.tokenizer=hub:x/y"], device="cpu")
    assert (found.origin.data, found.origin.side, found.options({"view": "tile"}).tile) == (None, None, 96)
    overrides = ["text.tokenizer=hub:x/y", "data=refsegrs"]
    found = Predictor.from_weights(tmp_path / "a.pth", "lavt", overrides, device="cpu")
    assert (found.origin.data, found.options({"view": "tile"}).tile) == ("refsegrs", 512)


def test_a_run_fetches_no_pretrained_weights_that_its_checkpoint_replaces():
    args = {"swin": {"weights": "hub:a/b", "window": 7}, "loss": {"weights": "balanced"}, "views": {"image": 9}}
    assert without_weights(args) == {
        "swin": {"weights": "random", "window": 7}, "loss": {"weights": "balanced"}, "views": {"image": 9},
    }  # fmt: skip
    assert args["swin"]["weights"] == "hub:a/b"


def test_images_in_memory_follow_the_rules_of_files():
    for mode in ("I;16", "CMYK", "F"):
        with pytest.raises(UserError, match="bits per channel|colours"):
            open_source(Image.new(mode, (4, 4)))


def test_the_order_of_dimensions_is_checked(tmp_path):
    array = rioxarray.open_rasterio(write_raster(tmp_path / "a.tif", blobs()))
    with pytest.raises(UserError, match="dimensions.*y.*x.*band"):
        open_source(array.transpose("y", "x", "band"))


def test_a_truncated_mask_band_is_the_images_fault(tmp_path):
    path = write_raster(tmp_path / "a.tif", blobs(200, 200), compress="DEFLATE", blockysize=16, nodata=0)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(UserError, match=r"a\.tif cannot be"), open_source(path) as source:
        source.valid(source.whole)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_a_message():
    with pytest.raises(UserError, match="no CUDA device"):
        build_fabric(replace(compose_config([]).trainer, accelerator="cuda"))


def test_composing_leaves_another_hydra_application_alone():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        theirs = GlobalHydra.instance().hydra
        assert theirs is not None
        assert compose_config(["model=lavt"]).model.name == "lavt"
        assert GlobalHydra.instance().hydra is theirs


def test_data_stats_knows_the_token_limit_of_a_model_with_its_own_tokenizer(tmp_path, capsys):
    root = write_fake_rrsisd(tmp_path).root
    assert cli.main(["data", "stats", "rrsisd", "--data-root", str(root), "--model", "sgsrf", "--size", "tiny"]) == 0
    assert "32" in capsys.readouterr().out
