"""Samples per second of the data loading, beside the plain way, in one run: ``python -m tests.perf.perf_data``.

Pictures of 800 x 800 as JPEG with run-length masks, at one view of 480 and at views of 384 and 768, with one and two
loader workers. Three ways are timed, in turns, and the fastest pass of each counts:

plain
    what the loaders of the LAVT family do: PIL opens and resizes the picture, pycocotools decodes the mask, both become
    tensors, the picture of floats, and torch's own collation makes the batch.
suite
    `ViewDataset`, nothing cached.
cached
    `ViewDataset` with a view cache on disk (``data.cache``) that an earlier pass has filled.

Every pixel of all three is compared before anything is timed. No two samples share a picture, and the order is random,
so that nothing is read twice by luck.
"""

from __future__ import annotations

import argparse
import json
import pickle
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, features
from pycocotools import mask as coco
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from rrsis_bench.data.formats import open_split
from rrsis_bench.data.formats.rrsisd.dataset import CATEGORIES, images_dir, instances_path, refs_path
from rrsis_bench.data.loading.cache import ViewCache
from rrsis_bench.data.loading.loader import ViewDataset, make_loader
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import build_wordpiece

SIDE = 800
VIEWS: tuple[dict[str, int], ...] = ({"image": 480}, {"image": 384, "close": 768})
TOKENS = 20


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured at one setting.

    Attributes:
        views: view name -> side.
        workers: loader processes.
        plain: samples per second of the plain way.
        suite: of this suite without a cache.
        cached: of this suite with the views on disk.
    """

    views: Mapping[str, int]
    workers: int
    plain: float
    suite: float
    cached: float


def write_tree(root: Path, n: int, side: int = SIDE) -> None:
    """RRSIS-D's layout with `n` training samples: soft colours with noise, about 2.8 bits per pixel as JPEG."""
    rng = np.random.default_rng(0)
    images_dir(root).mkdir(parents=True)
    refs_path(root).parent.mkdir(parents=True)
    refs, annotations = [], []
    y_H1, x_1W = np.ogrid[:side, :side]
    for index in range(n):
        name = f"{index:05d}.jpg"
        coarse = Image.fromarray(rng.integers(0, 255, (side // 16, side // 16, 3), dtype=np.uint8))
        soft_HWC = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy_HWC = soft_HWC + rng.integers(-12, 13, (side, side, 1), dtype=np.int16)
        Image.fromarray(noisy_HWC.clip(0, 255).astype(np.uint8)).save(images_dir(root) / name, quality=90)
        (y, x), (tall, wide) = rng.integers(side // 8, side - side // 8, 2), rng.integers(side // 40, side // 4, 2)
        rle = masks.encode(((y_H1 - y) / tall) ** 2 + ((x_1W - x) / wide) ** 2 < 1)
        sentence = {"raw": f"the ship number {index}", "tokens": ["the"], "sent": "the ship", "sent_id": index}
        refs.append({
            "ref_id": index, "ann_id": index, "category_id": 0, "file_name": name, "sentences": [sentence],
            "split": "train", "image_id": index, "sent_ids": [index],
        })  # fmt: skip
        text = {**rle, "counts": rle["counts"].decode("ascii")}
        annotations.append({"id": index, "image_id": index, "categories_id": 0, "segmentation": [text]})
    refs_path(root).write_bytes(pickle.dumps(refs, protocol=2))
    categories = [{"id": index, "name": name} for index, name in enumerate(CATEGORIES)]
    content = {"images": [], "annotations": annotations, "categories": categories}
    instances_path(root).write_text(json.dumps(content), encoding="utf-8")


class Plain(Dataset[tuple[dict[str, torch.Tensor], torch.Tensor]]):
    """What everyone writes; files and masks are looked up beforehand, as its authors do."""

    def __init__(self, files: Sequence[str], rles: Sequence[dict[str, Any]], views: Mapping[str, int]):
        self.files, self.rles, self.views = files, rles, views

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        with Image.open(self.files[index]) as file:
            image = file.convert("RGB")
        views = {
            name: TF.to_tensor(TF.resize(image, [side, side], InterpolationMode.BILINEAR))
            for name, side in self.views.items()
        }
        side = next(iter(self.views.values()))
        mask = Image.fromarray(coco.decode(self.rles[index]))
        target = TF.resize(mask, [side, side], InterpolationMode.NEAREST)
        return views, torch.as_tensor(np.array(target), dtype=torch.int64)


def measure(
    root: Path, views: Mapping[str, int], workers: Iterable[int], *, batch_size: int = 16, rounds: int = 3
) -> list[Speed]:
    """Compare the three ways pixel by pixel, then time them.

    Args:
        root: a tree of `write_tree`; the cache is made beside it, in a folder of its own.
        views: view name -> side, the main view first.
        workers: numbers of loader processes to time.
        batch_size: samples per batch.
        rounds: passes over the whole data per way.

    Raises:
        AssertionError: a pixel differs.
    """
    dataset = open_split("rrsisd", root, "train")
    samples = [dataset[index] for index in range(len(dataset))]
    rles = [sample.read_rle() for sample in samples if sample.read_rle is not None]
    plain = Plain([str(sample.image_path) for sample in samples], rles, views)
    text = TextPipeline(build_wordpiece([sample.expression for sample in samples], 300), TOKENS)
    suite = ViewDataset(dataset, views, text, native_masks=False)
    folder = root.parent / ("views_" + "_".join(map(str, views.values())))
    cached = ViewDataset(dataset, views, text, native_masks=False, view_cache=ViewCache(folder, 64 * 2**30))
    for index in range(len(plain)):
        expected, target_SS = plain[index]
        for data in (suite, cached):
            item = data[index]
            for name, view in expected.items():
                assert np.array_equal(item.views[name], (view * 255).round().byte().numpy()), f"view {name} of {index}"
            assert np.array_equal(item.target_SS, target_SS.numpy()), f"target of {index}"

    order = np.random.default_rng(1).permutation(len(plain)).tolist()
    found = []
    for count in workers:
        ways: list[DataLoader[Any]] = [
            DataLoader(plain, batch_size, sampler=order, num_workers=count, persistent_workers=count > 0),
            make_loader(suite, batch_size, order, num_workers=count),
            make_loader(cached, batch_size, order, num_workers=count),
        ]
        best = [float("inf")] * len(ways)
        for turn in range(1 + rounds):
            for way, loader in enumerate(ways):
                started = time.perf_counter()
                for _ in loader:
                    pass
                if turn:  # the first pass starts the workers
                    best[way] = min(best[way], time.perf_counter() - started)
        found.append(Speed(views, count, *(len(plain) / seconds for seconds in best)))
    return found


def main() -> None:
    """Write pictures to a temporary folder, measure, and print a table."""
    parser = argparse.ArgumentParser(description="samples per second of the data loading beside the plain way")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        write_tree(root, asked.samples)
        size = np.mean([path.stat().st_size for path in images_dir(root).iterdir()])
        print(
            f"{asked.samples} JPEG pictures of {SIDE} x {SIDE} ({size / 1000:.0f} kB each) with run-length masks; "
            f"libjpeg-turbo {features.version('libjpeg_turbo')}; samples per second, best of {asked.rounds} passes"
        )
        print(f"{'views':>10}  {'workers':>7}  {'plain':>7}  {'suite':>7}  {'factor':>6}  {'cached':>7}  {'factor':>6}")
        for views in VIEWS:
            for speed in measure(root, views, asked.workers, rounds=asked.rounds):
                sides = "+".join(map(str, views.values()))
                print(
                    f"{sides:>10}  {speed.workers:>7}  {speed.plain:>7.1f}  {speed.suite:>7.1f}  "
                    f"{speed.suite / speed.plain:>6.2f}  {speed.cached:>7.1f}  {speed.cached / speed.plain:>6.2f}"
                )
    print("Every pixel of the views and targets is that of the plain way (largest difference: 0 grey levels).")


if __name__ == "__main__":
    main()
