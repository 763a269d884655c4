"""Write synthetic scenes in NWPU-Refer's format."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rrsis_bench.data.formats.nwpu_refer.dataset import CATEGORIES, NO_TARGET
from rrsis_bench.data.formats.scenes import SceneSample, write_pickle
from rrsis_bench.data.pixels import polygons

NAMES: dict[str, str] = {
    "airplane": "airplane",
    "baseballfield": "baseball court",
    "basketballcourt": "basketball court",
    "bridge": "bridge",
    "chimney": "chimney",
    "groundtrackfield": "ground track field",
    "ship": "ship",
    "stadium": "building",  # NWPU-Refer has no stadiums
    "storagetank": "storage tank",
    "tenniscourt": "tennis court",
    "vehicle": "car",
    "windmill": "wind turbine",
}
"""RRSIS-D's name of each category that scenes show -> NWPU-Refer's."""


def write(samples: Iterable[SceneSample], root: Path) -> None:
    """Write NWPU-Refer's files below `root`: ``image/``, ``new_refs(unc).p`` and ``new_instances.json``.

    One image per scene, one annotation per object and one reference per expression and object, so that a multi-target
    expression is in several references. A no-target expression has an annotation of the category ``no target`` without
    polygons. Its ``bbox`` is the whole image, as a trap for readers that fill it. Polygons run along the pixels' edges
    and give the masks back exactly.
    """
    (root / "image").mkdir(parents=True)
    images: dict[tuple[str, int], dict[str, Any]] = {}
    drawn: dict[tuple[str, int, int], int] = {}  # split, scene, object -> annotation id
    annotations: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []

    def annotate(image_id: int, name: str, box: list[int], area: int, segmentation: list[list[int]]) -> int:
        ann_id = len(annotations) + 1
        annotations.append(
            {
                "id": ann_id,
                "image_id": image_id,
                "category_id": CATEGORIES.index(name),
                "bbox": box,
                "area": area,
                "iscrowd": 0,
                "segmentation": segmentation,
            }
        )
        return ann_id

    for sent_id, sample in enumerate(samples, start=1):
        scene = (sample.split, sample.scene)
        height, width = sample.size
        if scene not in images:
            image_id = len(images) + 1
            file_name = f"{image_id:05d}.jpg"
            (root / "image" / file_name).write_bytes(sample.image)
            images[scene] = {"id": image_id, "file_name": file_name, "height": height, "width": width}
        image_id = images[scene]["id"]
        found: list[tuple[str, int]] = []  # category, annotation
        for number, category, counts in sample.objects:
            if (*scene, number) not in drawn:
                mask_HW = sample.decode(counts)
                box, area = _box_xywh(mask_HW), int(mask_HW.sum())
                drawn[*scene, number] = annotate(image_id, NAMES[category], box, area, polygons.outline(mask_HW))
            found.append((NAMES[category], drawn[*scene, number]))
        if not found:
            found = [(NO_TARGET, annotate(image_id, NO_TARGET, [0, 0, width, height], 0, []))]
        for name, ann_id in found:
            tokens = sample.text.split(" ") if sample.text.isascii() else list(sample.text)
            sentence = {"tokens": tokens, "raw": sample.text, "sent_id": sent_id, "sent": sample.text}
            refs.append(
                {
                    "image_id": image_id,
                    "split": sample.split,
                    "sentences": [sentence],
                    "file_name": images[scene]["file_name"],
                    "category_id": CATEGORIES.index(name),
                    "ann_id": ann_id,
                    "sent_ids": [sent_id],
                    "ref_id": len(refs) + 1,
                }
            )
    categories = [{"supercategory": "object", "id": number, "name": name} for number, name in enumerate(CATEGORIES)]
    write_pickle(root / "new_refs(unc).p", refs)
    instances = {"images": list(images.values()), "annotations": annotations, "categories": categories}
    (root / "new_instances.json").write_text(json.dumps(instances), encoding="utf-8")


def _box_xywh(mask_HW: np.ndarray) -> list[int]:
    """COCO's box of a bool (H, W) mask that is not empty: x, y, width, height."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
