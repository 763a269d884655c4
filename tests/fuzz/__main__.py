"""`make fuzz`: damaged inputs of every kind for every reader.

A reader may return or raise UserError. Anything else, more than `CASE_S` seconds, or more than `MEMORY` bytes in all is
a fault. Each case has its own seed: ``python -m tests.fuzz --seed N --cases 1`` repeats it.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rrsis_bench.backbones.weights import read_tensors
from rrsis_bench.data.checks.verify import verify
from rrsis_bench.data.formats import read_index
from rrsis_bench.data.pixels import images, mask_files
from rrsis_bench.errors import UserError
from rrsis_bench.official import read_official
from rrsis_bench.predict.job import read_expressions
from rrsis_bench.predict.sources.aoi import AreaOfInterest
from rrsis_bench.predict.sources.opening import open_source
from rrsis_bench.resources import ROOT
from rrsis_bench.results.compare.files import compare_files
from rrsis_bench.results.published.numbers import load
from rrsis_bench.results.record import store
from tests.fakes.file_list import write_fake_file_list
from tests.fakes.nwpu import write_fake_nwpu
from tests.fakes.rrsisd import write_fake_rrsisd

CASE_S = 20
MEMORY = 2**30
TOKENS = (
    b"null",
    b"NaN",
    b"1e999",
    b"-1",
    b"[]",
    b"{}",
    b'""',
    b"\xff\xfe",
    b"\0",
    b"[" * 5000,
    b"9" * 5000,
    b"\xed\xa0\x80",
)


class Hang(BaseException):
    """A case ran longer than `CASE_S`."""


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with some bytes changed, cut, doubled or replaced by a token."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(len(changed) + 1)
        length = rng.choice((1, 1, 2, 4, 64, 1024))
        kind = rng.randrange(6)
        if kind == 0 and changed:
            changed[place % len(changed)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place : place + length] = rng.randbytes(length)
        elif kind == 2:
            del changed[place : place + length]
        elif kind == 3:
            changed[place:place] = changed[place : place + length]
        elif kind == 4:
            changed[place : place + rng.choice((0, length))] = rng.choice(TOKENS)
        else:
            del changed[place:]
    return bytes(changed)


def _dataset(fmt: str, root: Path) -> None:
    verify(read_index(fmt, root, {}))


def _source(path: Path) -> None:
    with open_source(path) as source:
        source.overview(64)
        source.read(source.whole)


Case = tuple[Path, Callable[[], object]]


def targets(folder: Path) -> dict[str, Case]:
    """Write one sound input per kind; returns kind -> (file to damage, reader)."""
    write_fake_rrsisd(folder / "rrsisd")
    write_fake_nwpu(folder / "nwpu")
    write_fake_file_list("refsegrs", folder / "refsegrs")
    write_fake_file_list("risbench", folder / "risbench")
    custom = folder / "custom"
    custom.mkdir()
    size = {"size": [8, 8]}
    lines = [
        {"image": "1.png", "expression": "a", "mask": size | {"counts": [8, 8, 48]}, "category": "ship"},
        {"image": "1.png", "expression": "b", "mask": size | {"polygons": [[1, 1, 6, 1, 6, 6]]}, "sample_id": "x"},
        {"image": "1.png", "expression": "c", "mask": "2.png"},
    ]
    for number, split in enumerate(("train", "val", "test")):
        lines[1]["sample_id"] = f"x{number}"
        (custom / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    pixel_HW3 = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    Image.fromarray(pixel_HW3).save(custom / "1.png")
    Image.fromarray((pixel_HW3[..., 0] > 90).astype(np.uint8) * 255).save(custom / "2.png")
    for suffix in ("jpg", "png", "tif", "bmp"):
        Image.fromarray(pixel_HW3).save(folder / f"image.{suffix}")
    tensors = {"a": torch.ones(3), "b": torch.zeros(2, 2)}
    torch.save({"model": tensors, "best": np.float64(1)}, folder / "new.pth")
    torch.save({"model": tensors}, folder / "old.pth", _use_new_zipfile_serialization=False)
    from safetensors.torch import save_file

    save_file(tensors, folder / "weights.safetensors")
    found: dict[str, Case] = {}
    for fmt, root, name in (
        ("rrsisd", "rrsisd", "rrsisd/refs(unc).p"),
        ("rrsisd", "rrsisd", "rrsisd/instances.json"),
        ("nwpu_refer", "nwpu", "new_refs(unc).p"),
        ("nwpu_refer", "nwpu", "new_instances.json"),
        ("refsegrs", "refsegrs", "output_phrase_train.txt"),
        ("risbench", "risbench", "output_phrase_test.txt"),
        ("custom", "custom", "train.jsonl"),
        ("custom", "custom", "1.png"),
        ("custom", "custom", "2.png"),
    ):
        path = folder / root / name
        if path.is_file():
            found[f"{fmt} {path.name}"] = (path, lambda fmt=fmt, root=root: _dataset(fmt, folder / root))
    for suffix in ("jpg", "png", "tif", "bmp"):
        path = folder / f"image.{suffix}"
        found[f"image {suffix}"] = (path, lambda path=path: images.check_images([path], None))
        found[f"mask {suffix}"] = (path, lambda path=path: mask_files.read_mask(path))
        found[f"source {suffix}"] = (path, lambda path=path: _source(path))
    found |= _tables(folder)
    for name in ("new.pth", "old.pth", "weights.safetensors"):
        path = folder / name
        found[f"official {name}"] = (path, lambda path=path: read_official(path, {"model": ""}))
        found[f"weights {name}"] = (path, lambda path=path: read_tensors(path, "Swin", "vision.weights"))
    record = next((ROOT / "leaderboards" / "records").rglob("*.json"), None)  # any of the committed ones
    if record is not None:
        root = folder / "records" / Path(*record.parts[-3:-1])  # a record knows its place
        root.mkdir(parents=True)
        counts = record.parent / store.read(record).counts.file
        for source in (record, counts):
            (root / source.name).write_bytes(source.read_bytes())
        path = root / record.name
        found["record json"] = (path, lambda: store.read(path))
        found["record counts"] = (root / counts.name, lambda: store.read_counts(path))
    return found


def _tables(folder: Path) -> dict[str, Case]:
    """Write CSV files, an area of interest and a raster of 16 bits; returns as `targets`."""
    import geopandas
    import rasterio
    import shapely

    board = folder / "board.csv"
    rows = [f"{rank},lavt,tiny,test,native,{50 + rank}.60,a{rank},note" for rank in range(1, 9)]
    board.write_text("rank,model,size,split,protocol,miou,train_hash,reason\n" + "\n".join(rows) + "\n")
    (folder / "same.csv").write_bytes(board.read_bytes())
    sentences = folder / "sentences.csv"
    sentences.write_text('\ufeffid;expression\r\n1;"the ship; red"\r\n2;"左边, ""near"" it"\r\n3;the car\r\n')
    lines = folder / "sentences.txt"
    lines.write_text("the ship\nthe car, red\n")
    printed = folder / "printed" / "published" / "refsegrs_overall.csv"
    printed.parent.mkdir(parents=True)
    printed.write_bytes((ROOT / "leaderboards" / "published" / printed.name).read_bytes()[:4000].rpartition(b"\n")[0])
    scene = folder / "scene.tif"
    placed = {"crs": "EPSG:32632", "transform": rasterio.Affine(1, 0, 500_000, 0, -1, 5_300_000), "nodata": 7}
    with rasterio.open(scene, "w", width=16, height=16, count=4, dtype="uint16", **placed) as file:
        file.write(np.arange(1024, dtype=np.uint16).reshape(4, 16, 16))
    deep = folder / "deep.tif"
    deep.write_bytes(scene.read_bytes())
    area = geopandas.GeoDataFrame(geometry=[shapely.box(500_002, 5_299_990, 500_009, 5_299_998)], crs="EPSG:32632")
    found: dict[str, Case] = {
        "expressions csv": (sentences, lambda: read_expressions(sentences)),
        "expressions txt": (lines, lambda: read_expressions(lines)),
        "leaderboard csv": (board, lambda: compare_files(folder / "same.csv", board)),
        "published csv": (printed, lambda: load(folder / "printed", "overall")),
        "raster 16 bits": (scene, lambda: _source(scene)),
        "image 16 bits": (deep, lambda: images.check_images([deep], None)),
    }
    sound = folder / "sound.tif"
    sound.write_bytes(scene.read_bytes())
    for suffix in ("geojson", "gpkg"):
        path = folder / f"area.{suffix}"
        area.to_file(path)
        found[f"aoi {suffix}"] = (path, lambda path=path: _area(sound, path))
    return found


def _area(scene: Path, path: Path) -> None:
    with open_source(scene) as source:
        part = AreaOfInterest(source, path)
        part.valid(part.whole)


def _hang(*_: object) -> None:
    raise Hang


def run(seed: int, seconds: float, cases: int | None = None) -> dict[str, object]:
    """Damage inputs until the time is over; return the summary."""
    faults: list[str] = []
    done: Counter[str] = Counter()
    refused, largest = 0, None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    previous = signal.signal(signal.SIGALRM, _hang)
    end = time.monotonic() + seconds
    try:
        with tempfile.TemporaryDirectory() as folder, suppress(StopIteration):
            kinds = targets(Path(folder))
            for case in range(cases or sys.maxsize):
                if time.monotonic() > end:
                    break
                rng = random.Random(seed + case)
                kind = rng.choice(sorted(kinds))
                path, read = kinds[kind]
                sound = path.read_bytes()
                path.write_bytes(mutate(sound, rng))
                signal.alarm(CASE_S)
                try:
                    read()
                except UserError as error:
                    refused += 1
                    str(error).encode("utf-8", "backslashreplace")
                except Hang:
                    faults.append(f"seed {seed + case}: {kind}: hang")
                except Exception:  # noqa: BLE001 - what is looked for
                    faults.append(f"seed {seed + case}: {kind}: {traceback.format_exc(limit=-3)}")
                finally:
                    signal.alarm(0)
                    path.write_bytes(sound)
                done[kind] += 1
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
                if peak > (largest[0] if largest else before // 1024):
                    largest = (peak, seed + case, kind)
    finally:
        signal.signal(signal.SIGALRM, previous)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seed": seed, "cases": sum(done.values()), "refused": refused, "kinds": len(done), "faults": faults,
        "memory_mb": peak // 1024, "memory_grew_mb": (peak - before) // 1024, "largest": largest,
    }  # fmt: skip


def main() -> int:
    """Run and print the summary; return 1 if there is a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int)
    args = parser.parse_args()
    summary = run(args.seed, args.seconds, args.cases)
    faults = summary.pop("faults")
    print(*faults[:20], sep="\n")
    print(json.dumps(summary), f"faults: {len(faults)}")
    return 1 if faults or summary["memory_mb"] > MEMORY // 2**20 else 0


if __name__ == "__main__":
    sys.exit(main())
