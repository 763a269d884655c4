"""``rrsis-bench data stats``: count a dataset's contents in one pass. Pixels are read only if masks are files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.progress import Progress
from rich.table import Table
from tokenizers import Tokenizer

from rrsis_bench.console import Terminal
from rrsis_bench.data.checks.fingerprint import hash_files
from rrsis_bench.data.pixels import rle as masks
from rrsis_bench.data.text.language import names_place, words_of
from rrsis_bench.data.text.pipeline import lost_text
from rrsis_bench.data.text.strata import STRATA, Training
from rrsis_bench.eval.counts import Counts, SampleCounts
from rrsis_bench.eval.scores import SIZE_CLASSES, UNMATCHED, size_class
from rrsis_bench.interfaces import ReferringDataset, Sample

TARGETS = ("none", "one", "several", "unknown")
"""Number of objects that an expression denotes; unknown if the dataset has no count and the mask is not empty."""

SHARE_EDGES = np.geomspace(1e-5, 1, 26)
"""Bins of the histogram of target area over image area. The first one also counts smaller targets."""

_CHUNK = 1024  # samples in memory at once
_T = TypeVar("_T")


@dataclass(slots=True)
class TextLimit:
    """A tokenizer and a model's token limit.

    Attributes:
        tokenizer: encodes with special tokens.
        max_tokens: the limit, special tokens included.
        label: names both, such as ``"wordpiece, limit of fianet"``.
    """

    tokenizer: Tokenizer
    max_tokens: int
    label: str


@dataclass(slots=True)
class SplitStats:
    """Counts of one split; a Counter maps a value to samples."""

    n: int = 0
    images: int = 0
    distinct: int = 0  # distinct expressions
    category: Counter[str] = field(default_factory=Counter)
    size: dict[str, Counter[str]] = field(default_factory=lambda: {scheme: Counter() for scheme in SIZE_CLASSES})
    share: np.ndarray = field(default_factory=lambda: np.zeros(len(SHARE_EDGES) - 1, dtype=np.int64))
    words: Counter[int] = field(default_factory=Counter)
    pieces: Counter[int] = field(default_factory=Counter)  # special tokens included; empty without a tokenizer
    lost_places: int = 0  # expressions that lose a place word at the token limit
    language: Counter[str] = field(default_factory=Counter)
    targets: Counter[str] = field(default_factory=Counter)
    shared: tuple[int, int] | None = None  # samples and images (by content) that are also in train
    strata: dict[str, Counter[str]] = field(default_factory=dict)  # stratum -> class; without train, not all strata

    def truncated(self, max_tokens: int) -> int:
        """Return the number of samples whose expression is truncated."""
        return sum(n for length, n in self.pieces.items() if length > max_tokens)


@dataclass(slots=True)
class DatasetStats:
    """Counts of all splits, with the dataset's name and folder and the token limit."""

    name: str
    root: Path
    splits: dict[str, SplitStats]
    limit: TextLimit | None


def collect(
    name: str,
    root: Path,
    datasets: Mapping[str, ReferringDataset],
    limit: TextLimit | None = None,
    console: Terminal | None = None,
) -> DatasetStats:
    """Count everything.

    Args:
        name: the dataset's name.
        root: its folder.
        datasets: split -> dataset.
        limit: tokenizer and token limit; None: word-pieces are not counted.
        console: shows a progress bar; None: no bar.

    Raises:
        UserError: a mask or an image file cannot be read.
    """
    found = {}
    total = sum(len(dataset) for dataset in datasets.values())
    digests: dict[str, Counter[str]] = {}
    train = datasets.get("train")
    expressions = [] if train is None else [train[index].expression for index in range(len(train))]
    training = Training(expressions, next(iter(datasets.values())).category_names)
    kinds = {name: stratum for name, stratum in STRATA.items() if len(stratum.classes) > 1}
    with Progress(console=console, disable=console is None, transient=True) as bar:
        task = bar.add_task("counting", total=total)
        for split, dataset in datasets.items():
            found[split] = _split(dataset, limit, lambda n: bar.advance(task, n))
            texts = Counter(dataset[index].expression for index in range(len(dataset)))
            for name, stratum in kinds.items():
                if not stratum.held_out or (split != "train" and train is not None):
                    counter = found[split].strata.setdefault(name, Counter())
                    for text, n in texts.items():
                        counter[stratum.class_of(text, training)] += n
        files = {split: _files(dataset) for split, dataset in datasets.items()}
        task = bar.add_task("hashing images", total=len({path for rows in files.values() for path in rows}))
        hashes: dict[Path, str] = {}
        for chunk in _batched({path: None for rows in files.values() for path in rows}, _CHUNK):
            hashes |= {path: digest for path, (_, digest) in hash_files(chunk).items()}
            bar.advance(task, len(chunk))
    for split, rows in files.items():
        digests[split] = Counter({hashes[path]: 0 for path in rows})
        for path, n in rows.items():
            digests[split][hashes[path]] += n
    for split in datasets:
        if split != "train" and digests.get("train") and digests[split]:
            both = digests[split].keys() & digests["train"].keys()
            found[split].shared = (sum(digests[split][digest] for digest in both), len(both))
    return DatasetStats(name, root, found, limit)


def _split(dataset: ReferringDataset, limit: TextLimit | None, advance: Callable[[int], None]) -> SplitStats:
    stats, images, expressions = SplitStats(), set(), set()
    for chunk in _batched((dataset[index] for index in range(len(dataset))), _CHUNK):
        for sample in chunk:
            _count(stats, sample)
            images.add(sample.image_id)
            expressions.add(sample.expression)
            advance(1)
        if limit is not None:
            encodings = limit.tokenizer.encode_batch([sample.expression for sample in chunk])
            stats.pieces.update(len(encoding.ids) for encoding in encodings)
            stats.lost_places += sum(
                names_place(lost_text(sample.expression, encoding, limit.max_tokens))
                for sample, encoding in zip(chunk, encodings, strict=True)
            )
    stats.images, stats.distinct = len(images), len(expressions)
    return stats


def _batched(items: Iterable[_T], n: int) -> Iterator[list[_T]]:
    """Lists of `n` items, the last one shorter."""
    left = iter(items)
    while chunk := list(islice(left, n)):
        yield chunk


def _count(stats: SplitStats, sample: Sample) -> None:
    if sample.read_rle is not None:
        rle = sample.read_rle()
        (height, width), area = rle["size"], masks.area(rle)
    else:
        mask_HW = sample.read_mask()
        (height, width), area = mask_HW.shape, int(np.count_nonzero(mask_HW))
    stats.n += 1
    stats.category[sample.category or UNMATCHED] += 1
    stats.language[sample.language] += 1
    stats.words[len(words_of(sample.expression))] += 1
    row = SampleCounts.of(sample, (height, width, area), Counts(0, area, 0, area))
    for scheme, counter in stats.size.items():
        counter[size_class(row, scheme)] += 1
    if area:
        place = int(np.searchsorted(SHARE_EDGES, area / (height * width), side="right")) - 1
        stats.share[min(max(place, 0), len(stats.share) - 1)] += 1
    if sample.n_targets is None:
        stats.targets["unknown" if area else "none"] += 1
    else:
        stats.targets[TARGETS[min(sample.n_targets, 2)]] += 1


def _files(dataset: ReferringDataset) -> Counter[Path]:
    """Return image file -> samples that show it."""
    paths = (dataset[index].image_path for index in range(len(dataset)))
    return Counter(Path(path) for path in paths if path is not None)


def quantile(counter: Counter[int], share: float) -> int:
    """Return the smallest value that at least `share` of the counted values do not exceed; 0 without any."""
    total, seen = counter.total(), 0
    for value in sorted(counter):
        seen += counter[value]
        if seen >= share * total:
            return value
    return 0


def show(stats: DatasetStats, console: Terminal) -> None:
    """Print tables of splits, expressions, categories and target sizes."""
    console.print(_splits(stats))
    console.print(_strata(stats))
    names = Counter[str]()
    for split in stats.splits.values():
        names.update(split.category)
    if set(names) != {UNMATCHED}:
        order = sorted(names, key=lambda name: (name == UNMATCHED, -names[name], name))
        console.print(_shares("categories", stats, {name: name for name in order}, lambda split: split.category))
    labels = {"share": "target area, share of the image", "pixels": "target area, pixels (32², 96²)"}
    for scheme in ("share", "pixels"):
        order = [name for name in SIZE_CLASSES[scheme] if any(s.size[scheme][name] for s in stats.splits.values())]
        shown = {name: name.replace("_", " ") for name in order}
        console.print(_shares(labels[scheme], stats, shown, lambda split, scheme=scheme: split.size[scheme]))  # type: ignore[misc]


def _splits(stats: DatasetStats) -> Table:
    table = Table(title=f"{stats.name} in {stats.root}", title_justify="left")
    table.add_column("")
    for split in stats.splits:
        table.add_column(split, justify="right")

    def row(label: str, value: Callable[[SplitStats], str]) -> None:
        table.add_row(label, *(value(split) for split in stats.splits.values()))

    row("samples", lambda s: f"{s.n:,}")
    row("images (image ids)", lambda s: f"{s.images:,}")
    row("distinct expressions", lambda s: f"{s.distinct:,}")
    row("words, median / 95% / most", lambda s: _lengths(s.words))
    limit = stats.limit
    if limit is not None:
        row("word-pieces, median / 95% / most", lambda s: _lengths(s.pieces))
        row(f"cut at {limit.max_tokens} word-pieces", lambda s: _part(s.truncated(limit.max_tokens), s.n))
        row("  that lose a place word", lambda s: _part(s.lost_places, s.n))
        table.caption = f"word-pieces, special tokens included: {limit.label}"
        table.caption_justify = "left"
    for language in sorted({name for split in stats.splits.values() for name in split.language}):
        row(f"language {language}", lambda s, language=language: _part(s.language[language], s.n))  # type: ignore[misc]
    names = {"none": "no target", "several": "several targets", "unknown": "number of targets unknown"}
    for key, label in names.items():
        if not any(split.targets[key] for split in stats.splits.values()):
            continue
        row(label, lambda s, key=key: _part(s.targets[key], s.n))  # type: ignore[misc]
    row("samples on images of train", lambda s: "" if s.shared is None else _part(s.shared[0], s.n))
    row("  such images (equal files)", lambda s: "" if s.shared is None else f"{s.shared[1]:,}")
    return table


def _strata(stats: DatasetStats) -> Table:
    """The classes of every stratum: overlap of the sentences with train, words of position, relations, lengths."""
    table = Table(title="expressions", title_justify="left")
    table.add_column("", overflow="fold")
    for split in stats.splits:
        table.add_column(split, justify="right")
    for name, stratum in STRATA.items():
        for entry in stratum.classes:
            counts = [split.strata.get(name) for split in stats.splits.values()]
            if any(counter and counter[entry] for counter in counts):
                cells = ("" if counter is None else _part(counter[entry], counter.total()) for counter in counts)
                table.add_row(f"{stratum.label}: {entry}", *cells)
    return table


def _shares(
    title: str, stats: DatasetStats, names: Mapping[str, str], counter: Callable[[SplitStats], Counter[str]]
) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", overflow="fold")
    for split in stats.splits:
        table.add_column(split, justify="right")
    for name, label in names.items():
        table.add_row(label, *(_part(counter(split)[name], split.n) for split in stats.splits.values()))
    return table


def _lengths(counter: Counter[int]) -> str:
    return f"{quantile(counter, 0.5)} / {quantile(counter, 0.95)} / {max(counter, default=0)}"


def _part(n: int, total: int) -> str:
    return f"{n:,} ({n / total:.1%})" if total else "0"
