"""Writes a tiny dataset in NWPU-Refer's layout, with its traps, and on demand with seeded defects."""

from __future__ import annotations

import json
import pickle
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rrsis_bench.data.formats.nwpu_refer.dataset import CATEGORIES
from rrsis_bench.data.pixels import rle as masks

HEIGHT, WIDTH = 48, 64

ERRORS = (
    "odd_coordinates", "two_points", "not_finite", "outside", "not_numbers", "missing_image", "missing_annotation",
    "unknown_category", "duplicate_id", "id_in_two_splits", "unknown_split", "empty_expression", "category_mismatch",
    "image_mismatch", "missing_image_record", "truncated_image",
)  # fmt: skip
WARNINGS = ("mixed_language", "no_target_with_polygon", "polygon_cut_off", "no_polygon", "size_differs")
CORRUPT = {"odd_coordinates", "two_points", "not_finite", "outside", "not_numbers"}


@dataclass
class FakeTree:
    """What was written.

    Attributes:
        root: the dataset's folder.
        refs: the records of new_refs(unc).p.
        instances: the content of new_instances.json.
        masks: annotation id -> bool (H, W), as drawn.
        defects: defect -> (kind, place) that a check should name.
    """

    root: Path
    refs: list[dict[str, Any]]
    instances: dict[str, Any]
    masks: dict[int, np.ndarray]
    defects: dict[str, tuple[str, str]] = field(default_factory=dict)
    refs_name: str = "new_refs(unc).p"
    instances_name: str = "new_instances.json"

    def write(self) -> None:
        """Write both annotation files."""
        (self.root / self.refs_name).write_bytes(pickle.dumps(self.refs, protocol=2))
        (self.root / self.instances_name).write_text(json.dumps(self.instances), encoding="utf-8")

    def annotation(self, ref: dict[str, Any]) -> dict[str, Any]:
        """The annotation of a reference."""
        return next(row for row in self.instances["annotations"] if row["id"] == ref["ann_id"])

    def image(self, ref: dict[str, Any]) -> Path:
        """The picture of a reference."""
        (row,) = (row for row in self.instances["images"] if row["id"] == ref["image_id"])
        return self.root / "image" / row["file_name"]


def rectangle(x0: int, y0: int, x1: int, y1: int) -> list[int]:
    """The polygon of the pixels x0 to x1 - 1, y0 to y1 - 1."""
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def write_fake_nwpu(
    root: Path, pictures: tuple[int, int, int] = (2, 1, 1), *, nested: bool = False, defects: Collection[str] = ()
) -> FakeTree:
    """Write the tree: per picture a single target, two targets in one expression, and one expression without a target.

    Every reference has an English and a Chinese sentence. So a split of P pictures has 4 P references, 8 P expressions,
    3 P merged English samples and 4 P unmerged ones. The first target has two parts, the second is a run-length mask.

    Args:
        root: written to.
        pictures: of train, val and test.
        nested: put the pictures into image/image/.
        defects: of `ERRORS` and `WARNINGS`; each hits the single target of another train picture.
    """
    rng = np.random.default_rng(0)
    rows = [{"id": number, "name": name} for number, name in enumerate(CATEGORIES)]
    tree = FakeTree(root, [], {"images": [], "annotations": [], "categories": rows}, {})
    folder = root / "image" / "image" if nested else root / "image"
    folder.mkdir(parents=True)
    for split, count in zip(("train", "val", "test"), pictures, strict=True):
        for _ in range(count):
            image_id = 500 + len(tree.instances["images"])
            pixels = rng.integers(0, 255, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"p{image_id}.jpg")
            image = {"id": image_id, "file_name": f"p{image_id}.jpg", "height": HEIGHT, "width": WIDTH}
            tree.instances["images"].append(image)
            _write_picture(tree, split, image_id, int(rng.integers(2, 12)))
    hit = [ref for ref in tree.refs if ref["split"] == "train"][::4]
    assert len(defects) <= len(hit), "too few pictures for the defects"
    for defect, ref in zip(defects, hit, strict=False):
        tree.defects[defect] = _spoil(tree, defect, ref)
    tree.write()
    return tree


def _write_picture(tree: FakeTree, split: str, image_id: int, side: int) -> None:
    """Three objects and three expressions, one of which denotes two objects and one nothing."""
    two_parts = [rectangle(2, 3, 2 + side, 3 + side), rectangle(30, 5, 36, 9)]
    mask_HW = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask_HW[3 : 3 + side, 2 : 2 + side] = mask_HW[5:9, 30:36] = True
    single = _annotate(tree, image_id, "car", two_parts, mask_HW)
    left_HW, right_HW = np.zeros_like(mask_HW), np.zeros_like(mask_HW)
    left_HW[20:30, 0:7], right_HW[20:30, 40:64] = True, True
    left = _annotate(tree, image_id, "ship", [rectangle(0, 20, 7, 30)], left_HW)
    rle = masks.encode(right_HW)
    right = _annotate(tree, image_id, "ship", {"size": rle["size"], "counts": rle["counts"].decode()}, right_HW)
    none = _annotate(tree, image_id, "no target", [], np.zeros_like(mask_HW))
    for ann_id, english, chinese in (
        (single, "The car on the left", "左边的汽车"),
        (left, "all ships", "所有船"),
        (right, "all ships", "所有船"),
        (none, "the red airplane", "红色飞机"),
    ):
        ref_id = len(tree.refs) + 10
        annotation = tree.instances["annotations"][-1] if ann_id == none else next(
            row for row in tree.instances["annotations"] if row["id"] == ann_id
        )  # fmt: skip
        sentences = [
            {"raw": text, "sent": text.lower(), "tokens": text.split(), "sent_id": 2 * ref_id + place}
            for place, text in enumerate((english, chinese))
        ]
        tree.refs.append({
            "image_id": image_id, "split": split, "ann_id": ann_id, "ref_id": ref_id,
            "category_id": annotation["category_id"], "sentences": sentences,
            "sent_ids": [2 * ref_id, 2 * ref_id + 1],
        })  # fmt: skip


def _annotate(tree: FakeTree, image_id: int, name: str, segmentation: Any, mask_HW: np.ndarray) -> int:
    """Add an annotation; its box is the whole picture, so that a reader that uses it is found out."""
    ann_id = 1000 + len(tree.instances["annotations"])
    tree.instances["annotations"].append({
        "id": ann_id, "image_id": image_id, "category_id": CATEGORIES.index(name), "bbox": [0, 0, WIDTH, HEIGHT],
        "area": -1, "segmentation": segmentation,
    })  # fmt: skip
    tree.masks[ann_id] = mask_HW
    return ann_id


def _spoil(tree: FakeTree, defect: str, ref: dict[str, Any]) -> tuple[str, str]:
    """Seed one defect in a reference, its annotation or its picture; returns the kind and place that a check names."""
    annotation, path = tree.annotation(ref), tree.image(ref)
    parts = annotation["segmentation"]
    if defect == "odd_coordinates":
        parts[1].append(7)
    elif defect == "two_points":
        parts[1] = [1, 2, 3, 4]
    elif defect == "not_finite":
        parts[0][3] = float("nan")
    elif defect == "outside":
        parts[0] = rectangle(WIDTH, 5, WIDTH + 9, 9)
    elif defect == "not_numbers":
        parts[0][0] = "2"
    elif defect == "missing_image":
        path.unlink()
    elif defect == "truncated_image":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif defect == "size_differs":
        with Image.open(path) as image:
            image.resize((WIDTH + 1, HEIGHT)).save(path)
    elif defect == "missing_annotation":
        ref["ann_id"] = 999_999
    elif defect == "missing_image_record":
        ref["image_id"] = annotation["image_id"] = 999_999
    elif defect == "unknown_category":
        ref["category_id"] = annotation["category_id"] = 77
    elif defect == "category_mismatch":
        annotation["category_id"] = 5
    elif defect == "image_mismatch":
        annotation["image_id"] = tree.refs[-1]["image_id"]
    elif defect == "duplicate_id":
        tree.refs.append(dict(ref))
    elif defect == "id_in_two_splits":
        other = next(entry for entry in tree.refs if entry["split"] == "val")
        tree.refs.append({**other, "ref_id": ref["ref_id"]})
    elif defect == "unknown_split":
        ref["split"] = "testA"
    elif defect == "empty_expression":
        ref["sentences"][0].update(raw=" ", sent="")
    elif defect == "mixed_language":
        ref["sentences"][1]["raw"] = "左边的 car"
    elif defect == "no_target_with_polygon":
        ref["category_id"] = annotation["category_id"] = CATEGORIES.index("no target")
    elif defect == "polygon_cut_off":
        parts[0] = rectangle(50, 5, WIDTH + 9, 9)
    elif defect == "no_polygon":
        annotation["segmentation"] = [[]]
    else:
        raise ValueError(f"no defect {defect!r}; there are {(*ERRORS, *WARNINGS)}")
    return "corrupt_polygon" if defect in CORRUPT else defect, f"{ref['ref_id']:05d}"
