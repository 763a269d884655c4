"""Writes a tiny dataset in RRSIS-D's layout, with its traps, and on demand with seeded defects."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rrsis_bench.data.formats.rrsisd.dataset import CATEGORIES, images_dir, instances_path, refs_path
from rrsis_bench.data.pixels import rle as masks

COLOURS = {"red": (210, 50, 40), "blue": (40, 70, 210), "white": (235, 235, 235), "green": (40, 190, 60)}
PLACES = {
    "on the upper left": (0, 0),
    "on the upper right": (0, 1),
    "on the lower left": (1, 0),
    "at the bottom": (1, 1),
}
SHAPES = {"tenniscourt": "tennis court", "ship": "ship", "storagetank": "storage tank"}

DEFECTS = (
    "missing_image", "empty_image", "truncated_image", "size_differs", "empty_mask", "duplicate_id", "id_in_two_splits",
    "unknown_category", "category_mismatch", "missing_annotation", "empty_expression", "several_sentences",
    "unreadable_mask", "shared_image", "long_expression", "non_ascii_expression",
)  # fmt: skip


@dataclass
class FakeTree:
    """What was written.

    Attributes:
        root: the dataset's folder.
        refs: the records of refs(unc).p.
        instances: the content of instances.json.
        masks: ref_id -> bool (H, W), as drawn.
        defects: defect -> the sample id (or split) that a check should name.
    """

    root: Path
    refs: list[dict[str, Any]]
    instances: dict[str, Any]
    masks: dict[int, np.ndarray]
    defects: dict[str, str] = field(default_factory=dict)

    def image(self, ref: dict[str, Any]) -> Path:
        """The picture of a reference."""
        return images_dir(self.root) / ref["file_name"]

    def write(self, protocol: int = 2) -> None:
        """Write both annotation files."""
        refs_path(self.root).parent.mkdir(parents=True, exist_ok=True)
        refs_path(self.root).write_bytes(pickle.dumps(self.refs, protocol=protocol))
        instances_path(self.root).write_text(json.dumps(self.instances), encoding="utf-8")


def write_fake_rrsisd(
    root: Path,
    n_train: int = 8,
    n_val: int = 4,
    n_test: int = 4,
    size: int = 64,
    seed: int = 0,
    *,
    per_image: int = 2,
    protocol: int = 2,
    defects: Collection[str] = (),
) -> FakeTree:
    """Write the tree: `per_image` references show one picture (equal jpg files), each a coloured square at a place.

    Args:
        root: written to.
        n_train: references per split.
        n_val: the same.
        n_test: the same.
        size: side of pictures and masks in pixels.
        seed: same seed, same bytes.
        per_image: references that share a picture.
        protocol: pickle protocol.
        defects: from `DEFECTS`; each hits another reference of the train split (needs n_train >= their number + 1).
    """
    rng = np.random.default_rng(seed)
    tree = FakeTree(root, [], {"images": [], "annotations": [], "categories": _categories()}, {})
    images_dir(root).mkdir(parents=True, exist_ok=True)
    for split, count in (("train", n_train), ("val", n_val), ("test", n_test)):
        for start in range(0, count, per_image):
            _write_scene(tree, rng, split, min(per_image, count - start), size)
    train = [ref for ref in tree.refs if ref["split"] == "train"]
    assert len(defects) < len(train), "too few references for the defects"
    for defect, ref in zip(sorted(defects), train, strict=False):
        tree.defects[defect] = _spoil(tree, defect, ref)
    tree.write(protocol)
    return tree


def rename(root: Path, folder: str) -> None:
    """Give the folders of a copy another dataset's name; the layout is the same."""
    (root / "rrsisd").rename(root / folder)
    (root / "images" / "rrsisd").rename(root / "images" / folder)


def _categories() -> list[dict[str, Any]]:
    return [{"id": index, "name": name} for index, name in enumerate(CATEGORIES)]


def _write_scene(tree: FakeTree, rng: np.random.Generator, split: str, count: int, size: int) -> None:
    """One picture with a coloured square at each place; `count` references to different ones."""
    ground = rng.integers(70, 130, size=(size, size, 3))
    colours = [list(COLOURS)[i] for i in rng.permutation(len(COLOURS))]
    kinds = [list(SHAPES)[i] for i in rng.integers(0, len(SHAPES), size=len(PLACES))]
    drawn = []
    for row, column in PLACES.values():
        side = int(rng.integers(size // 6, size // 3))
        y, x = int(row * size // 2 + size // 16), int(column * size // 2 + size // 16)
        mask_HW = np.zeros((size, size), dtype=bool)
        mask_HW[y : y + side, x : x + side] = True
        ground[mask_HW] = COLOURS[colours[len(drawn)]]
        drawn.append(mask_HW)
    image = Image.fromarray(ground.astype(np.uint8))
    for which in range(count):
        ref_id = len(tree.refs)
        place = which % len(PLACES)
        file_name = f"{ref_id:05d}.jpg"
        image.save(images_dir(tree.root) / file_name, quality=90)
        text = f"The {colours[place]} {SHAPES[kinds[place]]} {list(PLACES)[place]}"
        _append(tree, ref_id, split, file_name, text, kinds[place], drawn[place])


def _append(
    tree: FakeTree, ref_id: int, split: str, file_name: str, text: str, category: str, mask_HW: np.ndarray
) -> None:
    """Add the three records of a reference, with the real files' odd keys; the three kinds of id differ."""
    rle = masks.encode(mask_HW)
    category_id = CATEGORIES.index(category)
    ys, xs = np.nonzero(mask_HW)
    height, width = mask_HW.shape
    sentence = {"tokens": text.lower().split(), "raw": text, "sent_id": ref_id, "sent": text.lower()}
    tree.refs.append({
        "image_id": ref_id + 2000, "split": split, "sentences": [sentence], "file_name": file_name,
        "category_id": category_id, "ann_id": ref_id + 1000, "sent_ids": [ref_id], "ref_id": ref_id,
    })  # fmt: skip
    tree.instances["images"].append({"file_name": file_name, "height": height, "width": width, "id": ref_id + 2000})
    tree.instances["annotations"].append({
        "bbox": [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1],  # xyxy
        "categories_id": category_id, "id": ref_id + 1000, "image_id": ref_id + 2000,  # sic
        "segmentation": [{"size": rle["size"], "counts": rle["counts"].decode("ascii")}],
        "area": int(mask_HW.sum()) * 255,  # the sum of a 255-valued mask
    })  # fmt: skip
    tree.masks[ref_id] = mask_HW


def _spoil(tree: FakeTree, defect: str, ref: dict[str, Any]) -> str:
    """Seed one defect; returns what a check should name."""
    ref_id = ref["ref_id"]
    annotation = tree.instances["annotations"][ref_id]
    path = tree.image(ref)
    if defect == "missing_image":
        path.unlink()
    elif defect == "empty_image":
        path.write_bytes(b"")
    elif defect == "truncated_image":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif defect == "size_differs":
        with Image.open(path) as image:
            image.resize((image.width, image.height + 1)).save(path, quality=90)
    elif defect == "empty_mask":
        rle = masks.encode(np.zeros_like(tree.masks[ref_id]))
        annotation["segmentation"] = [{"size": rle["size"], "counts": rle["counts"].decode("ascii")}]
    elif defect == "duplicate_id":
        tree.refs.append(dict(ref))
    elif defect == "id_in_two_splits":
        other = next(r for r in tree.refs if r["split"] == "val")
        tree.refs.append({**other, "ref_id": ref_id})
    elif defect == "unknown_category":
        ref["category_id"] = annotation["categories_id"] = 77
    elif defect == "category_mismatch":
        annotation["categories_id"] = (ref["category_id"] + 1) % len(CATEGORIES)
    elif defect == "missing_annotation":
        ref["ann_id"] = 999_999
    elif defect == "empty_expression":
        ref["sentences"][0].update(raw="  ", sent="")
    elif defect == "several_sentences":
        ref["sentences"].append(dict(ref["sentences"][0]))
    elif defect == "unreadable_mask":
        annotation["segmentation"][0]["counts"] = annotation["segmentation"][0]["counts"][:-2]
    elif defect == "long_expression":
        ref["sentences"][0]["raw"] = "the ship " + "near the ship " * 40
    elif defect == "non_ascii_expression":
        ref["sentences"][0]["raw"] = "左边的船"
    elif defect == "shared_image":
        other = next(r for r in tree.refs if r["split"] == "test")
        shutil.copyfile(path, tree.image(other))
        return "test"
    else:
        raise ValueError(f"no defect {defect!r}; there are {DEFECTS}")
    return f"{ref_id:05d}"
