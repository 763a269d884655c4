"""Writes a tiny own dataset in the plain format, on demand with seeded defects."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rrsis_bench.data.pixels import rle as masks

DEFECTS = (
    "missing_image", "truncated_image", "unsupported_image", "missing_mask", "unreadable_mask", "unknown_field",
    "missing_field", "not_json", "path_outside", "empty_expression", "duplicate_id", "target_mismatch",
)  # fmt: skip
SIZE = 24


@dataclass
class FakeCustom:
    """What was written: rows as JSON objects (or raw text) by split, masks as drawn, and defect -> where it is."""

    root: Path
    rows: dict[str, list[Any]]
    masks: dict[str, list[np.ndarray]]
    defects: dict[str, str] = field(default_factory=dict)

    def write(self) -> None:
        for split, rows in self.rows.items():
            lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
            (self.root / f"{split}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_fake_custom(root: Path, n: int = 4, *, defects: Collection[str] = ()) -> FakeCustom:
    """`n` lines per split (more in train where defects need them): PNG, RLE, list-RLE and polygon masks in turn."""
    rng = np.random.default_rng(0)
    tree = FakeCustom(root, {}, {})
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for split in ("train", "val", "test"):
        tree.rows[split], tree.masks[split] = [], []
        for number in range(1, max(n, len(defects) + 2 if split == "train" else 0) + 1):
            name = f"{split}{number}.png"
            Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)).save(root / "images" / name)
            mask_HW = np.zeros((SIZE, SIZE), dtype=bool)
            mask_HW[3 : 3 + number % 9 + 1, 5:15] = True
            if number % 4 == 1:  # a file; no two of them are equal
                mask_HW[-1, number] = mask_HW[-2, len(tree.rows)] = True
            Image.fromarray(mask_HW.astype(np.uint8) * 255).save(root / "masks" / name)
            row = {"image": f"images/{name}", "expression": f"the ship {number}", "mask": _mask(mask_HW, name, number)}
            tree.rows[split].append(row | ({"category": "ship"} if number % 2 else {}))
            tree.masks[split].append(mask_HW)
    for place, defect in enumerate(sorted(defects)):
        tree.defects[defect] = _spoil(tree, defect, place)
    tree.write()
    return tree


def _mask(mask_HW: np.ndarray, name: str, number: int) -> Any:
    if number % 4 == 0:
        bottom = int(np.flatnonzero(mask_HW.any(axis=1))[-1]) + 1
        return {"size": [SIZE, SIZE], "polygons": [[5, 3, 15, 3, 15, bottom, 5, bottom]]}
    if number % 4 == 1:
        return f"masks/{name}"
    rle = masks.encode(mask_HW)
    counts: Any = rle["counts"].decode("ascii")
    return {"size": [SIZE, SIZE], "counts": counts if number % 4 == 2 else masks.run_lengths(rle["counts"]).tolist()}


def _spoil(tree: FakeCustom, defect: str, place: int) -> str:
    """Seed one defect into a train line; returns where a check should name it."""
    row = tree.rows["train"][place]
    image = tree.root / row["image"]
    if defect == "missing_image":
        image.unlink()
    elif defect == "truncated_image":
        image.write_bytes(image.read_bytes()[:-40])
    elif defect == "unsupported_image":
        Image.new("I;16", (SIZE, SIZE)).save(image)
    elif defect == "missing_mask":
        row["mask"] = "masks/none.png"
    elif defect == "unreadable_mask":
        row["mask"] = {"size": [SIZE, SIZE], "polygons": [[1, 2, 3]]}
    elif defect == "unknown_field":
        row["categroy"] = "ship"
    elif defect == "missing_field":
        del row["expression"]
    elif defect == "not_json":
        tree.rows["train"][place] = '{"image": '
    elif defect == "path_outside":
        row["image"] = "../elsewhere.png"
    elif defect == "empty_expression":
        row["expression"] = "  "
    elif defect == "duplicate_id":
        row["sample_id"] = f"train-{len(tree.rows['train'])}"
        return f"train.jsonl:{len(tree.rows['train'])}"
    elif defect == "target_mismatch":
        row["n_targets"] = 0
    else:
        raise ValueError(defect)
    return f"train.jsonl:{place + 1}"
