"""The verb ``predict``: every option does something, and the README's commands run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from PIL import Image

from rrsis_bench import cli
from rrsis_bench.commands import predict as verb
from rrsis_bench.errors import UserError
from rrsis_bench.predict.predictor import Predictor
from rrsis_bench.registry import ROOT
from tests.fakes.echo import CUT, Echo, make_predictor
from tests.predict.rasters import NORTH_UP, UTM, blobs, write_raster

SIDE = 96
WORDS = ("the quick brown fox jumps over the lazy dog", "[a/b]")  # every letter is known
HEAVY = ("torch", "rasterio", "numpy", "PIL", "shapely", "hydra")


@pytest.fixture
def loaded(monkeypatch):
    """Runs and weights are all the echo model; returns what was asked for."""
    asked = []

    def from_run(run, *, device):
        asked.append(("run", str(run), device))
        return make_predictor(Echo(SIDE), WORDS)

    def from_weights(path, model, overrides, *, device):
        asked.append(("weights", str(path), model, list(overrides), device))
        return make_predictor(Echo(SIDE), WORDS)

    monkeypatch.setattr(Predictor, "from_run", from_run)
    monkeypatch.setattr(Predictor, "from_weights", from_weights)
    return asked


@pytest.fixture
def image(tmp_path):
    return write_raster(tmp_path / "scene.tif", blobs(SIDE, SIDE))


def predict(image, tmp_path, *arguments, sentence="the ship on the left"):
    """The verb's exit code; its JSON is in the folder."""
    sentences = [] if sentence is None else [sentence]
    model = [] if "--weights" in arguments else ["--run", "runs/x"]
    return cli.main(["predict", str(image), *sentences, *model, "-o", str(tmp_path / "out"), *arguments])


def content(tmp_path, stem="scene"):
    return json.loads((tmp_path / f"out/{stem}.predict.json").read_text(encoding="utf-8"))


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom rrsis_bench import cli\n"
        "try:\n    cli.main(['predict', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "--presence-min" in done.stdout
    assert "rrsis-bench predict scene.png" in done.stdout


def test_sentences_come_in_their_order_and_json_is_alone_on_stdout(loaded, image, tmp_path, capsys):
    (tmp_path / "more.csv").write_text("expression\nthe vehicle\nthe red ship\n")
    arguments = ["-e", "the red vehicle", "--expressions", str(tmp_path / "more.csv"), "-e", "the ship", "--json"]
    assert predict(image, tmp_path, *arguments, "--view", "tile", "--tile", "64") == 0
    shown = capsys.readouterr()
    printed = json.loads(shown.out)
    assert printed == content(tmp_path)
    given = ["the ship on the left", "the red vehicle", "the ship", "the vehicle", "the red ship"]
    assert [row["expression"] for row in printed["expressions"]] == given
    assert "left in 'the ship on the left'" in shown.err
    assert loaded == [("run", "runs/x", "auto")]


def test_the_table_names_every_file(loaded, image, tmp_path, capsys):
    assert predict(image, tmp_path, "-e", "[bold]the red[/bold] ship", "--device", "cpu") == 0
    shown = capsys.readouterr().out
    assert "[bold]the red[/bold] ship" in shown
    for name in content(tmp_path)["files"]:
        assert name in shown
        assert (tmp_path / "out" / name).is_file()
    assert loaded == [("run", "runs/x", "cpu")]


def test_every_option_reaches_the_prediction(loaded, tmp_path):
    pixels = np.dstack([blobs(SIDE, SIDE).astype(np.uint16) * 10, np.zeros((SIDE, SIDE, 1), np.uint16)])
    image = write_raster(tmp_path / "scene.tif", pixels, photometric="MINISBLACK")
    code = predict(
        image, tmp_path, "--bands", "2,1,3", "--scale", "0,2550", "--nodata", "0", "--window", "8,4,64,80",
        "--view", "tile", "--tile", "32", "--overlap", "0.5", "--blend", "mean", "--batch", "3", "--presence-min",
        "0.6", "--max-memory", "1MiB", "--threshold", "0.4", "--save-prob", "--vector", "geojson", "--min-area", "3px",
        "--simplify", "1px", "--no-overlay", "--weights", "x.pth", "--model", "rmsin", "--set", "data=rrsisd",
        "--set", "size=paper",
    )  # fmt: skip
    assert code == 0
    assert loaded == [("weights", "x.pth", "rmsin", ["data=rrsisd", "size=paper"], "auto")]
    found = content(tmp_path)
    assert found["image"]["bands"] == [2, 1, 3]
    assert found["image"]["window"] == [8, 4, 64, 80]
    assert found["image"]["nodata"] == 0
    assert found["image"]["scaling"] == {"kind": "range", "limits": [[0.0, 2550.0]] * 3}
    assert found["options"] == {
        "view": "tile", "threshold": 0.4, "tile": 32, "overlap": 0.5, "blend": "mean", "batch": 3, "presence_min": 0.6,
        "max_memory": 2**20,
    }  # fmt: skip
    assert found["polygons"] == {"min_area": "3px", "simplify_px": 1.0, "to_crs": None}
    assert found["files"] == ["scene.predict.json", "scene.mask.tif", "scene.prob.tif", "scene.geojson"]
    with rasterio.open(tmp_path / "out/scene.mask.tif") as file:
        mask_HW = file.read(1)
    expected = pixels[4:84, 8:72, 1] / 10 > CUT  # of green, shown as red
    np.testing.assert_array_equal(mask_HW == 1, expected)


@pytest.mark.usefixtures("loaded")
def test_other_coordinates_and_areas_of_interest(image, tmp_path):
    import geopandas
    from shapely.geometry import box

    left, top = NORTH_UP.c, NORTH_UP.f
    area = geopandas.GeoSeries([box(left + 5, top - 30, left + 30, top - 5)], crs=UTM.to_wkt())
    area.to_file(tmp_path / "aoi.gpkg")
    assert predict(image, tmp_path, "--to-crs", "EPSG:3035", "--aoi", str(tmp_path / "aoi.gpkg"), "--overwrite") == 0
    assert geopandas.read_file(tmp_path / "out/scene.gpkg").crs.to_epsg() == 3035
    assert (content(tmp_path)["image"]["width"], content(tmp_path)["image"]["aoi"]) == (50, str(tmp_path / "aoi.gpkg"))
    assert predict(image, tmp_path) == 2, "there are files already"
    assert predict(image, tmp_path, "--overwrite") == 0
    assert content(tmp_path)["image"]["width"] == SIDE


@pytest.mark.parametrize(
    "option", ["--tile=64", "--overlap=0", "--blend=mean", "--batch=2", "--presence-min=0.5", "--max-memory=1GiB"]
)
def test_options_of_tiles_are_refused_for_a_frame(loaded, image, tmp_path, capsys, option):
    assert predict(image, tmp_path, option) == 2
    assert f"error: {option[2:].partition('=')[0]} needs view=tile" in capsys.readouterr().err
    assert not loaded
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--window", "1,2,3"], "window=1,2,3"),
        (["--window", "1,2,3,x"], "window=1,2,3,x"),
        (["--bands", "r,g,b"], "bands=r,g,b"),
        (["--bands", "1,2"], "bands"),
        (["--simplify", "2m"], "simplify=2m"),
        (["--simplify", "nan"], "simplify=nan"),
        (["--simplify=-1"], "simplify=-1"),
        (["--min-area", "3ha"], "min-area=3ha"),
        (["--view", "tile", "--max-memory", "2GB"], "max-memory=2GB"),
        (["--view", "tile", "--max-memory", "inf"], "max-memory=inf"),
        (["--view", "tile", "--max-memory", "0"], "max-memory=0"),
        (["--view", "tile", "--overlap", "nan"], "overlap"),
        (["--threshold", "1"], "threshold=1"),
        (["--threshold", "nan"], "threshold=nan"),
        (["--expressions", "missing.csv"], "missing.csv"),
        (["--model", "rmsin"], "--model"),
        (["--window", "0,0,9,9", "--aoi", "x.gpkg"], "aoi"),
    ],
)  # fmt: skip
def test_invalid_options_give_one_line_and_exit_code_2(image, tmp_path, capsys, arguments, said):
    assert predict(image, tmp_path, *arguments) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("error: ") == 1
    assert "Traceback" not in shown


@pytest.mark.parametrize("missing", [["--run", "x", "--weights", "y"], []])
def test_one_of_run_and_weights_is_needed(image, capsys, missing):
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", str(image), "a ship", "-o", "out", *missing])
    assert end.value.code == 2
    assert "--weights" in capsys.readouterr().err


@pytest.mark.usefixtures("loaded")
def test_no_expression_is_refused(image, tmp_path, capsys):
    assert predict(image, tmp_path, sentence=None) == 2
    assert "no expression" in capsys.readouterr().err


def test_sizes_are_read_with_their_units():
    assert verb._bytes("500MiB") == 500 * 2**20
    assert verb._bytes("1.5gib") == 1.5 * 2**30
    assert verb._bytes("4096") == 4096
    assert verb._bytes("2 kib") == 2048
    assert verb._pixels("1.5px") == 1.5


def readme_commands() -> list[list[str]]:
    """Every ``rrsis-bench predict`` of the README, continued lines joined."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in re.findall(r"^rrsis-bench predict .*$", text, re.MULTILINE)]


@pytest.mark.usefixtures("loaded")
def test_the_commands_of_the_readme_run(tmp_path, monkeypatch):
    """With generated files of the same names: plain PNG and JPEG files, and georeferenced rasters."""
    commands = readme_commands()
    assert commands, "the README shows no rrsis-bench predict command"
    monkeypatch.chdir(tmp_path)
    for arguments in commands:
        image = tmp_path / arguments[2]
        image.parent.mkdir(parents=True, exist_ok=True)
        if image.suffix in (".png", ".jpg"):
            Image.fromarray(blobs(SIDE, SIDE)).save(image)
        else:
            write_raster(image, np.dstack([blobs(SIDE, SIDE), blobs(SIDE, SIDE)[..., :1]]), photometric="MINISBLACK")
        if "--expressions" in arguments:
            (tmp_path / arguments[arguments.index("--expressions") + 1]).write_text("expression\nthe ship\n")
        assert cli.main(arguments[1:]) == 0, shlex.join(arguments)
        out = tmp_path / arguments[arguments.index("-o" if "-o" in arguments else "--out") + 1]
        assert (out / f"{image.stem}.predict.json").is_file()
        shutil.rmtree(out)  # the next command may be about the same image


def test_a_run_that_is_not_there_leaves_nothing(image, tmp_path, capsys):
    assert predict(image, tmp_path) == 2
    assert "runs/x" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_unknown_options_of_the_python_interface_are_named():
    with pytest.raises(UserError, match="'tiles'.*tile"):
        make_predictor(Echo(SIDE))(blobs(), "the ship", tiles=3)
