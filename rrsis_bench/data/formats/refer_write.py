"""Write synthetic scenes in RRSIS-D's layout, for every dataset that has it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rrsis_bench.data.formats.refer import ReferFormat
from rrsis_bench.data.formats.scenes import SceneSample, write_pickle
from rrsis_bench.data.text.categories import RRSISD


def write(layout: ReferFormat, samples: Iterable[SceneSample], root: Path) -> None:
    """Write the dataset's files below `root`, with RRSIS-D's categories.

    As published, every image id has one annotation and one sentence, so the expressions of one scene are image ids of
    their own with equal images. Annotations say ``categories_id``, references ``category_id``. ``segmentation`` is a
    list of one compressed RLE, ``bbox`` is x1, y1, x2, y2, and ``area`` is the sum of a mask of 255.
    """
    folder, categories_of = root / "images" / layout.folder / "JPEGImages", tuple(RRSISD)
    folder.mkdir(parents=True)
    refs: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, sample in enumerate(samples, start=1):
        name, category_id = f"{number:05d}.jpg", categories_of.index(sample.category)
        (folder / name).write_bytes(sample.image)
        height, width = sample.size
        sentence = {"tokens": sample.text.split(" "), "raw": sample.text, "sent_id": number, "sent": sample.text}
        refs.append({
            "image_id": number, "split": sample.split, "sentences": [sentence], "file_name": name,
            "category_id": category_id, "ann_id": number, "sent_ids": [number], "ref_id": number,
        })  # fmt: skip
        images.append({"file_name": name, "height": height, "width": width, "id": number})
        annotations.append({
            "bbox": list(sample.box), "categories_id": category_id, "id": number, "image_id": number,
            "segmentation": [{"size": [height, width], "counts": sample.rle}], "area": 255 * sample.area,
        })  # fmt: skip
    categories = [{"supercategory": "object", "id": number, "name": name} for number, name in enumerate(categories_of)]
    instances = {"images": images, "annotations": annotations, "categories": categories}
    (root / layout.folder).mkdir()
    write_pickle(root / layout.folder / "refs(unc).p", refs)
    (root / layout.folder / "instances.json").write_text(json.dumps(instances), encoding="utf-8")
