"""Writes the indexes of large datasets, in every format: all that opening reads. The pictures are empty files."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rrsis_bench.data.formats.nwpu_refer.dataset import CATEGORIES as NWPU_CATEGORIES
from rrsis_bench.data.formats.rrsisd.dataset import CATEGORIES, images_dir, instances_path, refs_path
from rrsis_bench.data.pixels import rle as masks
from tests.fakes.rrsisd import rename

SIDE = 800
OTHERS = 8  # samples of val and of test
_WORDS = (
    "the", "large", "gray", "and", "white", "object", "that", "lies", "on", "the", "lower", "left", "of", "a", "road",
    "beside", "two", "small", "huts",
)  # fmt: skip


def write_large(fmt: str, root: Path, n: int) -> None:
    """Write an index with `n` samples in train and a few in val and test; same arguments, same bytes."""
    _WRITERS[fmt](root, n)


def splits_of(n: int) -> list[str]:
    """The split of each sample."""
    return ["train"] * n + ["val"] * OTHERS + ["test"] * OTHERS


def texts(count: int) -> list[str]:
    """Expressions of 9 to 17 words that all differ."""
    found = []
    for index in range(count):
        words = " ".join(_WORDS[index % 7 : index % 7 + 6 + index % 9])
        found.append(f"{_WORDS[index % 5].title()} {CATEGORIES[2 + index % 17]} {words} number {index}")
    return found


def ellipses(count: int = 40, side: int = SIDE) -> list[np.ndarray]:
    """Masks of objects of several sizes, bool (side, side); the first one is empty."""
    rng = np.random.default_rng(0)
    y_HW, x_HW = np.mgrid[:side, :side]
    drawn = [np.zeros((side, side), dtype=bool)]
    for _ in range(count - 1):
        y, x, high, wide = rng.uniform((80, 80, 8, 8), (side - 80, side - 80, 150, 150))
        drawn.append(((y_HW - y) / high) ** 2 + ((x_HW - x) / wide) ** 2 <= 1)
    return drawn


def polygon(rng: np.random.Generator, points: int) -> list[float]:
    """An outline with many corners, to two decimals."""
    turn = np.sort(rng.uniform(0, 2 * np.pi, points))
    y, x, size = rng.uniform((200, 200, 20), (1000, 1000, 150))
    corners_P2 = np.stack([x + size * np.cos(turn), y + size * np.sin(turn)], axis=1)
    return corners_P2.round(2).reshape(-1).tolist()


def _touch(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY))


def _categories(names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{"id": index, "name": name} for index, name in enumerate(names)]


def _rrsisd(root: Path, n: int) -> None:
    splits = splits_of(n)
    rles = [masks.encode(mask_HW)["counts"].decode() for mask_HW in ellipses()]
    refs, images, annotations = [], [], []
    for index, (split, text) in enumerate(zip(splits, texts(len(splits)), strict=True)):
        name, category = f"{index:05d}.jpg", index % len(CATEGORIES)
        sentence = {"tokens": text.lower().split(), "raw": text, "sent_id": index, "sent": text.lower()}
        refs.append({
            "image_id": index, "split": split, "sentences": [sentence], "file_name": name, "category_id": category,
            "ann_id": index, "sent_ids": [index], "ref_id": index,
        })  # fmt: skip
        images.append({"file_name": name, "height": SIDE, "width": SIDE, "id": index})
        annotations.append({
            "bbox": [1, 2, 30, 40], "categories_id": category, "id": index, "image_id": index,
            "segmentation": [{"size": [SIDE, SIDE], "counts": rles[index % len(rles)]}], "area": 279213,
        })  # fmt: skip
    _touch(images_dir(root), [image["file_name"] for image in images])
    refs_path(root).parent.mkdir(parents=True)
    refs_path(root).write_bytes(pickle.dumps(refs, protocol=2))
    instances = {"images": images, "annotations": annotations, "categories": _categories(CATEGORIES)}
    instances_path(root).write_text(json.dumps(instances), encoding="utf-8")


def _nwpu(root: Path, n: int) -> None:
    """Every fifth expression has two targets and every tenth none; each reference has a sentence of both languages."""
    rng = np.random.default_rng(0)
    splits = splits_of(n)
    refs, images, annotations = [], [], []
    for index, (split, text) in enumerate(zip(splits, texts(len(splits)), strict=True)):
        image_id = index // 3
        if index % 3 == 0:
            images.append({"id": image_id, "file_name": f"p{image_id}.jpg", "height": 1200, "width": 1200})
        category = NWPU_CATEGORIES.index("no target") if index % 10 == 9 else index % 30
        for _ in range(2 if index % 5 == 0 else 1):
            parts = [polygon(rng, 10 + index % 30)] * (1 + index % 2) if index % 10 != 9 else []
            ann_id = len(annotations)
            annotations.append({
                "id": ann_id, "image_id": image_id, "category_id": category, "bbox": [1, 2, 3, 4],
                "area": 1.5, "iscrowd": 0, "segmentation": parts,
            })  # fmt: skip
            sentences = [
                {"raw": said, "sent": said.lower(), "tokens": said.lower().split(), "sent_id": 2 * ann_id + place}
                for place, said in enumerate((text, f"第{index}个目标在道路的左边"))
            ]
            refs.append({
                "image_id": image_id, "split": split, "ann_id": ann_id, "ref_id": ann_id, "category_id": category,
                "sentences": sentences, "sent_ids": [2 * ann_id, 2 * ann_id + 1],
            })  # fmt: skip
    _touch(root / "image", [image["file_name"] for image in images])
    (root / "new_refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    instances = {"images": images, "annotations": annotations, "categories": _categories(NWPU_CATEGORIES)}
    (root / "new_instances.json").write_text(json.dumps(instances), encoding="utf-8")


def _phrases(root: Path, n: int, folders: tuple[str, str], name_of: Callable[[str, int], str], suffix: str) -> None:
    splits = splits_of(n)
    names = [name_of(split, index) for index, split in enumerate(splits)]
    for folder in folders:
        _touch(root / folder, [name + suffix for name in names])
    for wanted in ("train", "val", "test"):
        rows = zip(splits, names, texts(len(splits)), strict=True)
        lines = [f"{name} {text}\n" for split, name, text in rows if split == wanted]
        (root / f"output_phrase_{wanted}.txt").write_text("".join(lines), encoding="utf-8")


def _refsegrs(root: Path, n: int) -> None:
    _phrases(root, n, ("images", "masks"), lambda _, index: str(index), ".tif")


def _risbench(root: Path, n: int) -> None:
    _phrases(root, n, ("img_rgb", "mask"), lambda split, index: f"{split}_{index // 4}_{index % 4}.png", "")


def _custom(root: Path, n: int) -> None:
    """Masks as compressed run lengths, as polygons and as PNG files in turn."""
    rng = np.random.default_rng(0)
    splits = splits_of(n)
    rles = [masks.encode(mask_HW)["counts"].decode() for mask_HW in ellipses()]
    rows: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for index, (split, text) in enumerate(zip(splits, texts(len(splits)), strict=True)):
        mask: Any = {"size": [SIDE, SIDE], "counts": rles[index % len(rles)]}
        if index % 3 == 1:
            mask = {"size": [1200, 1200], "polygons": [polygon(rng, 10 + index % 30) for _ in range(index % 4)]}
        elif index % 3 == 2:
            mask = f"masks/{index:06d}.png"
        row = {
            "sample_id": f"s{index}", "image": f"images/{index // 2:06d}.jpg", "expression": text, "mask": mask,
            "category": CATEGORIES[index % 20], "language": "en", "image_id": f"scene {index // 2}",
        }  # fmt: skip
        rows[split].append(json.dumps(row, ensure_ascii=False) + "\n")
    _touch(root / "images", [f"{index:06d}.jpg" for index in range((len(splits) + 1) // 2)])
    (root / "masks").mkdir()
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(root / "masks" / "000002.png")
    for index in range(5, len(splits), 3):
        os.link(root / "masks" / "000002.png", root / "masks" / f"{index:06d}.png")
    for split, lines in rows.items():
        (root / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def _refer(folder: str) -> Callable[[Path, int], None]:
    def write(root: Path, n: int) -> None:
        _rrsisd(root, n)
        rename(root, folder)

    return write


_WRITERS: dict[str, Callable[[Path, int], None]] = {
    "rrsisd": _rrsisd, "refsegrs": _refsegrs, "risbench": _risbench, "nwpu_refer": _nwpu, "custom": _custom,
    "rrsis_hr": _refer("rrsishr"), "ris_lad": _refer("rislad"),
}  # fmt: skip
