"""How long it takes to score a dataset's worth of masks from outside; `-s` shows the figures.

Processor seconds, so that what else runs on the machine does not count; everything here runs on one thread.
"""

from __future__ import annotations

import io
import json
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

from rrsis_bench.console import Terminal
from rrsis_bench.data.formats import open_split
from rrsis_bench.data.formats.rrsisd.dataset import CATEGORIES, images_dir, instances_path, refs_path
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.eval.predictions import count_predictions
from rrsis_bench.run import score as scorer

N, SIDE, DISTINCT = 17_402, 800, 300  # RRSIS-D's references, and the side of its masks
LIMIT_S = 60


def blob(rng: np.random.Generator) -> np.ndarray:
    """A target-like mask: one to six overlapping ellipses of 10 to 200 pixels."""
    y_H1, x_1W = np.ogrid[:SIDE, :SIDE]
    mask_HW = np.zeros((SIDE, SIDE), dtype=bool)
    for _ in range(rng.integers(1, 7)):
        (y, x), (tall, wide) = rng.integers(50, SIDE - 50, 2), rng.integers(10, 200, 2)
        mask_HW |= ((y_H1 - y) / tall) ** 2 + ((x_1W - x) / wide) ** 2 < 1
    return mask_HW


def write_tree(root: Path, rles: list[dict[str, Any]]) -> None:
    """RRSIS-D's layout with N test references; pictures are never decoded here, so any distinct bytes will do."""
    images_dir(root).mkdir(parents=True)
    refs_path(root).parent.mkdir(parents=True)
    refs, annotations = [], []
    for index in range(N):
        name, category = f"{index:05d}.jpg", index % len(CATEGORIES)
        (images_dir(root) / name).write_text(name * (1 + index % 97))
        sentence = {"raw": "the ship", "sent": "the ship", "tokens": ["the", "ship"], "sent_id": index}
        refs.append({
            "ref_id": index, "ann_id": index, "category_id": category, "file_name": name, "sentences": [sentence],
            "split": "test", "image_id": index, "sent_ids": [index],
        })  # fmt: skip
        annotations.append({"id": index, "categories_id": category, "segmentation": [rles[index % DISTINCT]]})
    refs_path(root).write_bytes(pickle.dumps(refs, protocol=2))
    categories = [{"id": index, "name": name} for index, name in enumerate(CATEGORIES)]
    content = {"images": [], "annotations": annotations, "categories": categories}
    instances_path(root).write_text(json.dumps(content), encoding="utf-8")


def plain_loop(source: Path, targets: dict[str, dict[str, Any]]) -> list[tuple[int, int]]:
    """What everyone writes: decode both masks, count what they share and what they cover."""
    found = []
    with source.open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            pred_HW, target_HW = coco.decode(line["rle"]), coco.decode(targets[line["sample_id"]])
            found.append((np.count_nonzero(pred_HW & target_HW), np.count_nonzero(pred_HW | target_HW)))
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pycocotools")
def test_scoring_a_whole_dataset_beats_a_plain_loop_and_a_minute(tmp_path):
    rng = np.random.default_rng(0)
    encoded = [masks.encode(blob(rng)) for _ in range(2 * DISTINCT)]
    texts = [{**rle, "counts": rle["counts"].decode("ascii")} for rle in encoded]
    write_tree(tmp_path / "data", texts[:DISTINCT])
    source = tmp_path / "p.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for index in range(N):
            pred = texts[DISTINCT + index % DISTINCT] if index % 2 else texts[(index + 1) % DISTINCT]
            file.write(json.dumps({"sample_id": f"{index:05d}", "rle": pred}) + "\n")
    dataset = open_split("rrsisd", tmp_path / "data", "test")
    targets = {sample.sample_id: sample.read_rle() for sample in map(dataset.__getitem__, range(N)) if sample.read_rle}

    started = time.process_time()
    expected = plain_loop(source, targets)
    plain_s = time.process_time() - started
    started = time.process_time()
    table, _ = count_predictions(source, dataset)
    ours_s = time.process_time() - started
    assert [(row.intersection, row.union) for row in table] == expected

    folders = {"data.root": tmp_path / "data", "runs": tmp_path / "runs", "leaderboards": tmp_path / "leaderboards"}
    config = scorer.configure("rrsisd", "native", [f"data.counts={{train: 0, val: 0, test: {N}}}"], folders)
    started = time.process_time()
    console = Terminal(file=io.StringIO())
    scorer.score(config, console, name="outsider", predictions=source)
    verb_s = time.process_time() - started
    size = np.mean([len(rle["counts"]) for rle in encoded])
    print(
        f"\n{N:,} masks of {SIDE} x {SIDE} ({size:.0f} characters each): plain pycocotools loop {plain_s:.1f} s, "
        f"this suite {ours_s:.1f} s ({plain_s / ours_s:.1f} times as fast), the whole verb {verb_s:.1f} s"
    )
    assert ours_s < plain_s
    assert verb_s < LIMIT_S
