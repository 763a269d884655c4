"""Tile mode in bounded memory and reasonable time: on rasters of hundreds of megapixels, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from tests.predict.rasters import NORTH_UP, UTM

BUDGET_MB = 900  # above what the imports take, at 20,000 x 20,000 pixels
GENEROUS_S = 600  # 60 on an idle machine; a fault would take hours

SCRIPT = """
import json, resource, sys, time
from pathlib import Path
import torch, rasterio, geopandas, PIL.Image
from rrsis_bench.predict import job
from tests.fakes.echo import Echo, make_predictor

image, out, tile = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(2)
predictor = make_predictor(Echo(tile))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, started = peak(), time.monotonic()
request = job.Request(image, ("the red vehicle",), out, {"view": "tile", "tile": tile}, overlay=False, vector="none")
content = job.run(request, lambda: predictor, print, lambda steps: lambda done: None)
json.dump({"mb": peak() - before, "s": time.monotonic() - started, "area": content["expressions"][0]["area_px"]},
          open(sys.argv[4], "w"))
"""


def big(path: Path, height: int, width: int) -> int:
    """Write blocks of random grey levels of 64 x 64 pixels; returns how many red values are the target."""
    rng = np.random.default_rng(0)
    target = 0
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=3, dtype="uint8", tiled=True, blockxsize=512,
        blockysize=512, compress="DEFLATE", zlevel=1, crs=UTM, transform=NORTH_UP,
    ) as file:  # fmt: skip
        for row in range(0, height, 512):
            rows = min(512, height - row)
            small = rng.integers(0, 256, (3, 8, -(-width // 64)), dtype=np.uint8)
            strip = small.repeat(64, 1).repeat(64, 2)[:, :rows, :width]
            target += int(np.count_nonzero(strip[0] > 127))
            file.write(strip, window=Window(0, row, width, rows))
    return target


def measured(tmp_path: Path, height: int, width: int, tile: int) -> dict[str, float]:
    image, report = tmp_path / f"{height}.tif", tmp_path / f"{height}.json"
    target = big(image, height, width)
    arguments = [str(image), str(tmp_path / f"out{height}"), str(tile), str(report)]
    subprocess.run([sys.executable, "-c", SCRIPT, *arguments], check=True, stdout=subprocess.DEVNULL)
    found = json.loads(report.read_text())
    assert found["area"] == target
    print(f"{height} x {width}: {found['mb']:.0f} MB above the imports, {found['s']:.1f} s")
    return found


@pytest.mark.slow
def test_twenty_thousand_pixels_square(tmp_path):
    found = measured(tmp_path, 20_000, 20_000, 1024)
    assert found["mb"] <= BUDGET_MB
    assert found["s"] <= GENEROUS_S


@pytest.mark.slow
def test_four_times_the_rows_take_no_more_memory(tmp_path):
    few = measured(tmp_path, 10_000, 1500, 512)
    many = measured(tmp_path, 40_000, 1500, 512)
    assert many["mb"] <= 1.1 * few["mb"]
