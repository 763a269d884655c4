# %% [markdown]
# # Segment your own GeoTIFF
#
# From a raster with a coordinate system and a few sentences to masks, polygons and areas, in Python. The command line
# does the same: [Predict on your own images](../predict.md). Needs the extra `[geo]`. The cells run from top to
# bottom as a script (`python docs/scripts/own_geotiff.py`), or in Jupyter with jupytext. All files go to
# `out/own_geotiff/`.

# %% [markdown]
# ## A model
#
# Any finished run will do. Without one, this trains a small LAVT on 96 synthetic samples: about a minute, and far too
# little for good masks. Set `RUN` to a run of your own, such as `runs/lavt-synthetic-tiny-s0-d8503d64`.

# %%
from pathlib import Path

from rrsis_bench.cli import main

OUT = Path("out/own_geotiff")
OUT.mkdir(parents=True, exist_ok=True)
RUN = None

if RUN is None:
    main([
        "bench", "model=lavt", "data=synthetic", "data.synthetic.train=32", "data.synthetic.val=4",
        "data.synthetic.test=4", "train.epochs=2", "controls=false", f"runs={OUT}/runs",
        f"leaderboards={OUT}/leaderboards",
    ])  # fmt: skip
    RUN = next(path for path in sorted((OUT / "runs").iterdir()) if (path / "config.yaml").exists())

# %% [markdown]
# ## A raster
#
# Yours goes here. To have one, this writes a synthetic scene the way a satellite product looks: four bands (blue,
# green, red, near infrared), 16 bits, pixels of 0.5 m in UTM zone 32, and a corner without data.

# %%
import numpy as np
import rasterio
from rasterio.transform import from_origin

from rrsis_bench.synthetic import SceneSpec, synthesize

SCENES = OUT / "scenes"
if not SCENES.exists():
    synthesize(SceneSpec(train=1, val=1, test=1, size=192, expressions_per_image=1, seed=1), SCENES, "rrsisd")

image = next((SCENES / "images").rglob("*.jpg"))
with rasterio.open(image) as source:
    red, green, blue = source.read().astype(np.uint16) * 12 + 200
bands = np.stack([blue, green, red, green])
bands[:, :20, :20] = 0

RASTER = OUT / "scene.tif"
profile = {
    "driver": "GTiff", "count": 4, "height": 192, "width": 192, "dtype": "uint16", "nodata": 0, "crs": "EPSG:32632",
    "transform": from_origin(600_000, 5_340_000, 0.5, 0.5),
}  # fmt: skip
with rasterio.open(RASTER, "w", **profile) as target:
    target.write(bands)

# %% [markdown]
# ## Masks
#
# `bands` says which bands are shown as red, green and blue. Pixels of 16 bits are scaled with the same limits in the
# whole image.

# %%
from rrsis_bench import Predictor

predictor = Predictor.from_run(RUN)
result = predictor(RASTER, ["the red car on the left", "the largest ship"], bands=(3, 2, 1))
for one in result:
    print(f"{one.expression}: {one.mask.sum()} pixels, highest probability {one.prob.max():.2f}")

assert not result[0].mask[:20, :20].any(), "pixels without data are never in a mask"

# %% [markdown]
# ## Files
#
# A GeoTIFF has one band per sentence. Polygons keep the image's coordinate system in a GeoPackage; GeoJSON is in
# longitude and latitude.

# %%
result.to_geotiff(OUT / "masks.tif")
result.to_geotiff(OUT / "probabilities.tif", probability=True)
result.to_file(OUT / "objects.gpkg", min_area=4)
result.to_file(OUT / "objects.geojson", min_area=4)

with rasterio.open(OUT / "masks.tif") as masks, rasterio.open(RASTER) as source:
    assert (masks.crs, masks.transform) == (source.crs, source.transform)
    print(masks.descriptions)

# %% [markdown]
# ## Areas
#
# One row per object, with its mean probability and its area in square metres, measured on the ellipsoid: a few in ten
# thousand from the pixels' 0.25 m2 on UTM's plane.

# %%
table = result.to_geodataframe(min_area=4)
print(table[["expression", "area_px", "area_m2", "score_mean"]].to_string())
assert np.allclose(table.area_m2, 0.25 * table.area_px, rtol=2e-3)

# %% [markdown]
# ## A large raster
#
# `view="tile"` predicts on tiles in bounded memory and blends them. Each tile is then a frame of its own: words such
# as "on the left" mean the left of every tile, which the predictor warns about.

# %%
import warnings

with warnings.catch_warnings(record=True) as noted:
    warnings.simplefilter("always")
    tiled = predictor(RASTER, "the red car on the left", bands=(3, 2, 1), view="tile", tile=96, overlap=0.25)
print(*(str(one.message) for one in noted), sep="\n")
assert tiled[0].mask.shape == result[0].mask.shape
