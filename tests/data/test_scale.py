"""Indexes of many samples: opened fast and small, and each sample as the plainest reading of the files gives it."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from rrsis_bench.data.formats import SPLITS, known_formats, read_index
from rrsis_bench.data.formats.dataset import IndexedDataset
from rrsis_bench.data.formats.nwpu_refer.dataset import CATEGORIES as NWPU_CATEGORIES
from rrsis_bench.data.formats.rrsisd.dataset import CATEGORIES
from rrsis_bench.data.pixels import rle as masks
from tests.fakes.large import write_large

SECONDS, MEGABYTES = 30.0, 500  # generous: the machine may be busy
DRAWN = 21  # of as many samples one has its polygons drawn, which takes longest

Plain = dict[str, Any]
"""Fields of a sample, and its run-length mask under ``rle``."""


def plain_rrsisd(root: Path, split: str, folder: str = "rrsisd") -> Iterator[Plain]:
    refs = pickle.loads((root / folder / "refs(unc).p").read_bytes())  # noqa: S301 - our own bytes
    instances = json.loads((root / folder / "instances.json").read_text())
    chosen = [ref for ref in refs if ref["split"] == split]
    for ref in chosen:
        (annotation,) = instances["annotations"][ref["ann_id"] : ref["ann_id"] + 1]
        (segmentation,) = annotation["segmentation"]
        rle = {"size": segmentation["size"], "counts": segmentation["counts"].encode()}
        yield {
            "sample_id": f"{ref['ref_id']:05d}", "expression": ref["sentences"][0]["raw"], "language": "en",
            "category": CATEGORIES[ref["category_id"]], "n_targets": int(coco.area(rle) > 0), "rle": rle,
            "image_id": Path(chosen[0]["file_name"]).stem,  # the empty files are equal
            "image_path": str(root / "images" / folder / "JPEGImages" / ref["file_name"]),
        }  # fmt: skip


def plain_nwpu_refer(root: Path, split: str) -> Iterator[Plain]:
    refs = pickle.loads((root / "new_refs(unc).p").read_bytes())  # noqa: S301 - our own bytes
    instances = json.loads((root / "new_instances.json").read_text())
    annotations = {row["id"]: row for row in instances["annotations"]}
    images = {row["id"]: row for row in instances["images"]}
    groups: dict[tuple[int, str], list[Plain]] = {}
    for ref in refs:
        if ref["split"] == split:
            groups.setdefault((ref["image_id"], ref["sentences"][0]["raw"]), []).append(ref)
    for place, ((image_id, text), members) in enumerate(groups.items()):
        image = images[image_id]
        size = image["height"], image["width"]
        parts = [part for ref in members for part in annotations[ref["ann_id"]]["segmentation"]]
        rle = None
        if place % DRAWN == 0:
            rle = coco.merge(coco.frPyObjects(parts, *size)) if parts else masks.encode(np.zeros(size, dtype=bool))
        yield {
            "sample_id": f"{members[0]['ref_id']:05d}-0", "expression": text, "language": "en", "rle": rle,
            "category": NWPU_CATEGORIES[members[0]["category_id"]], "image_id": str(image_id),
            "n_targets": len(members) if parts else 0, "image_path": str(root / "image" / image["file_name"]),
        }  # fmt: skip


def plain_phrases(root: Path, split: str, folder: str, suffix: str) -> Iterator[Plain]:
    for line in (root / f"output_phrase_{split}.txt").read_text().splitlines():
        name, expression = line.split(" ", 1)
        path = root / folder / f"{name}{suffix}"
        found = {"sample_id": path.stem, "expression": expression, "n_targets": None, "image_path": str(path)}
        yield found | ({"image_id": path.stem.rpartition("_")[0]} if folder == "img_rgb" else {})


def plain_custom(root: Path, split: str) -> Iterator[Plain]:
    for place, line in enumerate((root / f"{split}.jsonl").read_text().splitlines()):
        row = json.loads(line)
        mask, n_targets, rle = row["mask"], None, None
        if "counts" in mask:
            rle = {"size": mask["size"], "counts": mask["counts"].encode()}
        elif "polygons" in mask:
            n_targets = None if mask["polygons"] else 0
            if mask["polygons"] and place % DRAWN < 3:
                rle = coco.merge(coco.frPyObjects(mask["polygons"], *mask["size"]))
        if rle is not None and "counts" in mask and coco.area(rle) == 0:
            n_targets = 0
        fields = {name: row[name] for name in ("sample_id", "image_id", "expression", "language", "category")}
        yield fields | {"n_targets": n_targets, "rle": rle, "image_path": str(root / row["image"])}


PLAIN = {
    "rrsisd": plain_rrsisd,
    "rrsis_hr": lambda root, split: plain_rrsisd(root, split, "rrsishr"),
    "ris_lad": lambda root, split: plain_rrsisd(root, split, "rislad"),
    "nwpu_refer": plain_nwpu_refer,
    "refsegrs": lambda root, split: plain_phrases(root, split, "images", ".tif"),
    "risbench": lambda root, split: plain_phrases(root, split, "img_rgb", ""),
    "custom": plain_custom,
}


FORMATS = tuple(fmt for fmt in known_formats() if fmt != "aerial_d")  # that one: test_aerial_d.py
ALIKE = ("rrsis_hr", "ris_lad")  # read by RRSIS-D's reader


@pytest.mark.parametrize("fmt", [pytest.param(fmt, marks=pytest.mark.slow if fmt in ALIKE else ()) for fmt in FORMATS])
def test_each_of_two_thousand_samples_is_as_it_stands_in_the_files(tmp_path, fmt):
    write_large(fmt, tmp_path, 2000)
    index = read_index(fmt, tmp_path)
    files = set(map(os.fspath, index.files_read()))
    for split in SPLITS:
        dataset = pickle.loads(pickle.dumps(IndexedDataset(index, split)))  # noqa: S301 - our own bytes
        expected = list(PLAIN[fmt](tmp_path, split))
        assert len(dataset) == len(expected) == (2000 if split == "train" else 8)
        assert files >= {fields["image_path"] for fields in expected}
        for place, fields in enumerate(expected):
            sample, rle = dataset[place], fields.pop("rle", None)
            assert {name: getattr(sample, name) for name in fields} == fields
            if rle is not None:
                assert sample.read_rle is not None
                assert sample.read_rle()["counts"] == rle["counts"]


_OPEN = """
import sys, time
from pathlib import Path
import rrsis_bench.run.plan
from rrsis_bench.data.formats import SPLITS, format_module, read_index
from rrsis_bench.data.formats.dataset import IndexedDataset
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024
fmt, root = sys.argv[1], Path(sys.argv[2])
format_module(fmt)
memory, start = resident(), time.process_time()
index = read_index(fmt, root)
opened = {split: IndexedDataset(index, split) for split in SPLITS}
print(len(opened["train"]), time.process_time() - start, resident() - memory)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("fmt", FORMATS)
def test_fifty_thousand_samples_open_fast_and_small(tmp_path, fmt):
    """All three splits in a fresh process, without an index from before: seconds of this process's work, and memory."""
    write_large(fmt, tmp_path, 50_000)
    done = subprocess.run(
        [sys.executable, "-c", _OPEN, fmt, str(tmp_path)], capture_output=True, text=True, check=True, timeout=300
    )
    n, seconds, megabytes = map(float, done.stdout.split())
    assert n == 50_000
    assert seconds < SECONDS, f"{seconds:.1f} s"
    assert megabytes < MEGABYTES, f"{megabytes:.0f} MB"
