"""Own data: COCO annotations with expressions, polygons on a raster, the configuration and the contact sheet."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from rrsis_bench import cli, resources
from rrsis_bench.config import cards, compose
from rrsis_bench.data.formats import open_split, read_index
from rrsis_bench.data.formats.custom.coco import split_of
from rrsis_bench.describe import own_data
from tests.fakes.custom import write_fake_custom


@pytest.fixture
def local(tmp_path, monkeypatch) -> Path:
    """The folder of this machine's configurations, empty."""
    folder = tmp_path / "local"
    for module in (resources, cards, compose, own_data):
        monkeypatch.setattr(module, "LOCAL", folder)
    return folder


def coco(
    root: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = ("expression", "annotation_id")
) -> list[str]:
    """Write two images with three annotations and a table of expressions; return the arguments of `data convert`."""
    (root / "images").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((20, 30, 3), ord(name[0]), dtype=np.uint8)).save(root / "images" / name)
    images = [{"id": key, "file_name": name, "height": 20, "width": 30} for key, name in ((1, "a.png"), (2, "b.png"))]
    annotations = [
        {"id": 11, "image_id": 1, "category_id": 5, "segmentation": [[2, 2, 12, 2, 12, 8, 2, 8]]},
        {"id": 12, "image_id": 1, "category_id": 5, "segmentation": {"size": [20, 30], "counts": [0, 20, 580]}},
        {"id": 21, "image_id": 2, "category_id": 6, "segmentation": [], "bbox": [0, 0, 5, 5]},
    ]
    categories = [{"id": 5, "name": "ship"}, {"id": 6, "name": "car"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(content))
    with (root / "expressions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    paths = ["--annotations", str(root / "instances.json"), "--expressions", str(root / "expressions.csv")]
    return ["data", "convert", "coco", *paths, "--to", "custom", "--out", str(root / "plain")]


SPLIT = ("expression", "annotation_id", "image_id", "split")


def test_coco_annotations_and_expressions_become_plain_samples(tmp_path, capsys):
    rows = [
        {"expression": "the ship", "annotation_id": "11", "split": "train"},
        {"expression": "both ships, large and small", "annotation_id": "11 12", "split": "val"},
        {"expression": "the bridge", "image_id": "2", "split": "test"},
    ]
    assert cli.main(coco(tmp_path, rows, SPLIT)) == 0, capsys.readouterr().err
    train, val, test = (open_split("custom", tmp_path / "plain", split)[0] for split in ("train", "val", "test"))
    mask_HW = train.read_mask()
    assert mask_HW.shape == (20, 30)
    assert mask_HW[2:8, 2:12].all()
    assert mask_HW.sum() == 60
    assert train.category == "ship"
    union_HW = mask_HW.copy()
    union_HW[:, 0] = True  # 20 pixels of the first column
    assert (val.read_mask() == union_HW).all()
    assert (val.n_targets, val.expression) == (2, "both ships, large and small")
    assert (test.n_targets, test.read_mask().sum(), test.category) == (0, 0, None)
    assert (train.read_image() == ord("a")).all()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"expression": "x", "annotation_id": "99"}, "no annotation 99"),
        ({"expression": "x", "annotation_id": "11 21"}, "several images: 1, 2"),
        ({"expression": "x", "annotation_id": "21"}, "annotation 21 has no segmentation"),
        ({"expression": "x"}, "'image_id' has to name the image"),
        ({"expression": "x", "image_id": "7"}, "no image 7"),
        ({"expression": "x", "annotation_id": "11", "split": "dev"}, "'split' is 'dev'"),
    ],
)
def test_a_row_that_does_not_fit_is_named_by_its_line_and_nothing_is_written(row, said, tmp_path, capsys):
    good = {"expression": "the ship", "annotation_id": "11", "split": "train"}
    assert cli.main(coco(tmp_path, [good, row], SPLIT)) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert "expressions.csv:3" in shown
    assert not (tmp_path / "plain").exists()


def test_images_keep_their_split_whatever_else_is_added():
    names = [f"{number}.png" for number in range(2000)]
    found = [split_of(name, (70, 10, 20)) for name in names]
    assert found == [split_of(name, (70, 10, 20)) for name in names]
    assert [round(found.count(split) / 20) for split in ("train", "val", "test")] == pytest.approx([70, 10, 20], abs=3)


def test_missing_options_of_a_conversion_are_named(tmp_path, capsys):
    for form, name in (("coco", "--expressions"), ("geojson", "--raster"), ("rrsisd", "--data-root")):
        assert cli.main(["data", "convert", form, "--out", str(tmp_path / "x")]) == 2
        assert name in capsys.readouterr().err


def test_polygons_on_a_raster_become_images_of_one_size(tmp_path, capsys):
    rasterio = pytest.importorskip("rasterio", reason="the extra [geo]")
    geopandas = pytest.importorskip("geopandas", reason="the extra [geo]")
    from shapely.geometry import box

    transform = rasterio.transform.from_origin(500_000, 5_000_000, 2, 2)
    pixels = np.random.default_rng(0).integers(0, 4000, (3, 64, 200), dtype=np.uint16)
    profile = {"driver": "GTiff", "count": 3, "height": 64, "width": 200, "dtype": "uint16", "crs": "EPSG:32632"}
    with rasterio.open(tmp_path / "scene.tif", "w", transform=transform, **profile) as target:
        target.write(pixels)

    def ground(x0: int, y0: int, x1: int, y1: int):
        left, top, right, bottom = (500_000 + 2 * x0, 5_000_000 - 2 * y0, 500_000 + 2 * x1, 5_000_000 - 2 * y1)
        return box(left, bottom, right, top)

    shapes = [ground(10, 10, 20, 16), ground(40, 30, 44, 34), ground(100, 5, 110, 15), ground(180, 40, 190, 50)]
    columns = {
        "expression": ["the two roofs", "the two roofs", "the pond", "the car"],
        "category": ["roof", "roof", None, "car"],
    }
    table = geopandas.GeoDataFrame(columns, geometry=shapes, crs="EPSG:32632")
    table.to_crs("EPSG:4326").to_file(tmp_path / "objects.geojson", driver="GeoJSON")
    out = tmp_path / "plain"
    command = ["data", "convert", "geojson", "--annotations", str(tmp_path / "objects.geojson"), "--raster"]
    command += [
        str(tmp_path / "scene.tif"),
        "--bands",
        "1,2,3",
        "--tile",
        "64",
        "--split",
        "40,30,30",
        "--out",
        str(out),
    ]
    assert cli.main(command) == 0, capsys.readouterr().err
    samples = {split: list(open_split("custom", out, split)) for split in ("train", "val", "test")}
    (roofs,), (pond,), (car,) = samples.values()
    assert (roofs.expression, roofs.n_targets, roofs.category) == ("the two roofs", 2, "roof")
    assert (pond.category, car.category) == (None, "car")
    for sample, area in ((roofs, 60 + 16), (pond, 100), (car, 100)):
        assert sample.read_mask().shape == (64, 64)
        assert sample.read_mask().sum() == area, sample.expression
        assert sample.read_image().std() > 20, "8 bits over the whole range"
    ys, xs = np.nonzero(car.read_mask())
    assert (xs.max() - xs.min(), ys.min()) == (9, 40)
    assert cli.main([*command[:-1], str(tmp_path / "small"), "--tile", "32"]) == 2
    assert "'the two roofs': its polygons do not fit into 32 pixels" in capsys.readouterr().err


def test_a_configuration_of_own_data_names_counts_and_card(tmp_path, local, capsys):
    tree = write_fake_custom(tmp_path / "harbour")
    title = "Ships: a harbour"
    command = ["data", "init", "harbour", "--root", str(tree.root), "--title", title, "--licence", "CC-BY-4.0"]
    assert cli.main(command) == 0, capsys.readouterr().err
    path = local / "data" / "harbour.yaml"
    counts = read_index("custom", tree.root).counts
    written = yaml.safe_load(path.read_text())
    assert written["counts"] == counts
    config = cards.data_config("harbour")
    assert (config.format, config.root, config.publish) == ("custom", str(tree.root.resolve()), False)
    assert config.card is not None
    assert (config.card.title, config.card.licence) == (title, "CC-BY-4.0")
    composed = compose.compose_config(["model=lavt", "data=harbour", "size=tiny"])
    assert (composed.data.name, composed.data.counts) == ("harbour", counts)
    assert cli.main(["cite", "lavt", "harbour", "--leaderboards", str(tmp_path / "none")]) == 0
    assert "Ships: a harbour" in capsys.readouterr().out
    assert "harbour" in resources.names("data")
    assert cli.main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert cli.main([*command, "--overwrite"]) == 0


@pytest.mark.parametrize("name", ["rrsisd", "Harbour", "my-data", "../x"])
def test_a_name_that_is_taken_or_no_name_is_refused(name, tmp_path, local, capsys):
    tree = write_fake_custom(tmp_path / "harbour")
    assert cli.main(["data", "init", name, "--root", str(tree.root)]) == 2
    assert name in capsys.readouterr().err
    assert not local.exists()


def test_data_with_defects_get_no_configuration(tmp_path, local, capsys):
    tree = write_fake_custom(tmp_path / "harbour")
    (tree.root / "val.jsonl").write_text("no json\n")
    assert cli.main(["data", "init", "harbour", "--root", str(tree.root)]) == 2
    assert "val.jsonl:1" in capsys.readouterr().err
    assert not local.exists()


def test_a_contact_sheet_shows_images_masks_and_expressions(fake_root, tmp_path, capsys):
    out = tmp_path / "contact.png"
    command = ["data", "show", "rrsisd", "--data-root", str(fake_root), "--out", str(out), "--samples", "2"]
    assert cli.main(command) == 0, capsys.readouterr().err
    first = out.read_bytes()
    with Image.open(out) as sheet:
        pixels_HWC = np.asarray(sheet.convert("RGB"))
    assert pixels_HWC.shape[1] > 500
    assert (np.abs(pixels_HWC.astype(int) - (0, 114, 178)).max(-1) < 12).any(), "the border of a mask"
    assert cli.main([*command, "--seed", "3"]) == 0
    assert out.read_bytes() != first
    assert cli.main(["data", "show", "rrsisd", "--data-root", str(fake_root), "--out", str(tmp_path / "x.jpg")]) == 2
