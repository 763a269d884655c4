"""Open a dataset once per run: its splits, limits, checks and fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from rrsis_bench import codec
from rrsis_bench.config.schema import SPLITS, Config, DataConfig, LimitConfig
from rrsis_bench.console import Terminal
from rrsis_bench.data.checks.fingerprint import fingerprint
from rrsis_bench.data.checks.gate import require_verified
from rrsis_bench.data.checks.overlap import train_overlap
from rrsis_bench.data.formats import DatasetIndex, read_index
from rrsis_bench.data.formats.dataset import IndexedDataset
from rrsis_bench.data.formats.labelled import chosen, share_of
from rrsis_bench.data.loading.cache import ViewCache
from rrsis_bench.data.text.strata import Training
from rrsis_bench.errors import UserError
from rrsis_bench.eval.membership import Membership
from rrsis_bench.interfaces import ReferringDataset, Sample
from rrsis_bench.synthetic import SceneSpec, is_complete, synthesize
from rrsis_bench.synthetic.known import SyntheticScenes


class ChosenSamples(ReferringDataset):
    """Some samples of a split, by their places in it."""

    def __init__(self, dataset: ReferringDataset, places: Sequence[int]):
        self._dataset, self._places = dataset, places
        self.name, self.split, self.category_names = dataset.name, dataset.split, dataset.category_names

    def __len__(self) -> int:
        """Return the number of samples kept."""
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample that was kept."""
        if not 0 <= index < len(self._places):
            raise IndexError(index)
        return self._dataset[self._places[index]]


class FirstSamples(ChosenSamples):
    """The first `n` samples of a split (``limit.<split>``). Rows made from it are never ranked."""

    def __init__(self, dataset: ReferringDataset, n: int):
        super().__init__(dataset, range(min(n, len(dataset))))


@dataclass(frozen=True, slots=True)
class OpenData:
    """An opened dataset, and the facts about it that a record names.

    Attributes:
        root: its folder.
        splits: the opened splits, cut to ``limit``.
        expected: split -> samples of a complete copy; None if unknown.
        limit: splits that are not whole, by choice or because the copy is incomplete: split -> samples.
        fingerprint: content hash over all splits; None if a split that was not asked for cannot be read.
        found: split -> samples of this copy, before ``limit.<split>`` and with what is not labelled.
        train_overlap: val, test -> samples whose image is also a training image; None if a split cannot be read.
        index: the dataset as its files describe it, all splits.
        unlabelled: training samples that ``data.options.labelled`` leaves out.
    """

    root: Path
    splits: dict[str, ReferringDataset]
    expected: dict[str, int] | None
    limit: dict[str, int]
    fingerprint: str | None
    found: dict[str, int]
    train_overlap: dict[str, int] | None
    index: DatasetIndex
    unlabelled: int = 0

    @property
    def notes(self) -> list[str]:
        """Notes on the data for the reader of a row."""
        shared = {split: n for split, n in (self.train_overlap or {}).items() if n}
        notes = [f"{n} {split} samples show training images" for split, n in shared.items()]
        if self.unlabelled:
            whole = self.found["train"]
            notes.append(f"trained on {whole - self.unlabelled} of {whole} training samples")
        return notes

    @classmethod
    def open(
        cls, config: Config, console: Terminal, root: Path | None = None, names: Sequence[str] = SPLITS
    ) -> OpenData:
        """Open the splits `names`; warn if the copy is not complete.

        Args:
            config: of the run.
            console: for warnings.
            root: the dataset's folder; None: ``data.root``, where synthetic scenes are written on first use.
            names: the splits to open.

        Raises:
            UserError: a split cannot be read; or, if all are asked for, the dataset has any error.
        """
        data, whole = config.data, set(names) == set(SPLITS)
        root = data_root(data, console) if root is None else root
        index = read_index(data.format, root, data.options)
        for split in config.splits:
            if split in names and split in index.absent:
                raise UserError(index.absent[split])
        names = [split for split in names if split not in index.absent]
        full = _opened(index, data, names)
        for note in (note for split in names for note in index.notes.get(split, ())):
            console.print(note, soft_wrap=True, highlight=False)
        cache = Path(config.runs) / ".fingerprints"
        if whole:
            require_verified(index, cache, console)
        content, overlap = None, None
        try:
            content = fingerprint(index, cache)
            overlap = train_overlap(index, cache)
        except UserError as error:
            if whole:
                raise
            console.print(Text.assemble(("The dataset's fingerprint is unknown:", "yellow"), f" {error}"))
        expected = expected_counts(data)
        found = {split: index.counts[split] for split in names}
        short = {split: n for split, n in (expected or {}).items() if split in found and n != found[split]}
        if short:
            counts = ", ".join(f"{split} {found[split]:,} of {n:,}" for split, n in short.items())
            console.print(
                f"{data.name} in {root} is not a complete copy ({counts} samples): the row will not be ranked.",
                style="yellow",
            )
        unlabelled = len(index.rows["train"]) - len(full["train"]) if "train" in full else 0
        if unlabelled:
            n, share = len(full["train"]), share_of(data.options)
            console.print(f"labelled={share}: train is {n:,} of {found['train']:,} samples.", highlight=False)
        splits = _limited(full, config.limit)
        limit = {split: found[split] for split in short}
        limit |= {split: len(dataset) for split, dataset in splits.items() if len(dataset) != len(full[split])}
        return cls(root, splits, expected, limit, content, found, overlap, index, unlabelled)

    def membership(self, split: str) -> Membership | None:
        """Return the strata of a whole split; None if the training expressions cannot be read."""
        return membership_of(self.index, split)

    def with_limits(self, **limits: int | None) -> OpenData:
        """Return the data with other entries in `limit`; None removes an entry."""
        limit = {split: n for split, n in {**self.limit, **limits}.items() if n is not None}
        return dataclasses.replace(self, limit=limit)


def membership_of(index: DatasetIndex, split: str) -> Membership | None:
    """Return the strata of a split; None if it or the training expressions cannot be read."""
    try:
        index.require_readable(("train", split))
    except UserError:
        return None
    rows = index.rows[split]
    training = Training((row.expression for row in index.rows["train"]), index.category_names)
    return Membership.of((row.sample_id for row in rows), [row.expression for row in rows], training)


def open_splits(data: DataConfig, root: Path, names: Sequence[str] = SPLITS) -> dict[str, ReferringDataset]:
    """Open whole splits; UserError if one cannot be read."""
    return _opened(read_index(data.format, root, data.options), data, names)


def open_limited(config: Config, root: Path, names: Sequence[str] = SPLITS) -> dict[str, ReferringDataset]:
    """Open splits, cut to ``limit``; UserError if one cannot be read."""
    return _limited(open_splits(config.data, root, names), config.limit)


def _opened(index: DatasetIndex, data: DataConfig, names: Iterable[str]) -> dict[str, ReferringDataset]:
    """Open splits of an index; train without what ``data.options.labelled`` leaves out."""
    found: dict[str, ReferringDataset] = {split: IndexedDataset(index, split) for split in names}
    share = share_of(data.options)
    if share is not None and "train" in found:
        found["train"] = ChosenSamples(found["train"], chosen(index.rows["train"], share))
    return found


def _limited(splits: Mapping[str, ReferringDataset], limit: LimitConfig) -> dict[str, ReferringDataset]:
    return {
        split: FirstSamples(dataset, n) if (n := getattr(limit, split)) else dataset
        for split, dataset in splits.items()
    }


def scene_spec(data: DataConfig) -> SceneSpec:
    """Return the node ``data.synthetic`` as a spec; UserError names a field that does not fit."""
    return codec.decode(SceneSpec, data.synthetic or {}, "data.synthetic", path="data.synthetic", defaults=True)


def known_scenes(data: DataConfig, dataset: ReferringDataset) -> SyntheticScenes | None:
    """Return what is known about the images of a split beyond its files; None for a real dataset."""
    return SyntheticScenes(scene_spec(data), dataset.split, expressions_of(dataset)) if data.synthetic else None


def data_root(data: DataConfig, console: Terminal) -> Path:
    """Return the dataset's folder. Synthetic scenes are written on first use."""
    root, there = find_root(data)
    if not there:
        console.print(f"Writing synthetic scenes to {root} (once)")
        synthesize(scene_spec(data), root, data.format)
    return root


def find_root(data: DataConfig) -> tuple[Path, bool]:
    """Return the dataset's folder, and whether nothing has to be written to it first.

    Synthetic scenes have one folder per set of options.
    """
    root = Path(data.root)
    if not data.synthetic:
        return root, True
    spec = scene_spec(data)
    root = root / hashlib.sha256(json.dumps(spec.options(), sort_keys=True).encode()).hexdigest()[:8]
    return root, is_complete(spec, root, data.format)


def expected_counts(data: DataConfig) -> dict[str, int] | None:
    """Return the samples per split of a complete copy; None if unknown."""
    if data.counts:
        return dict(data.counts)
    if not data.synthetic:
        return None
    spec = scene_spec(data)
    return {split: getattr(spec, split) * spec.expressions_per_image for split in SPLITS}


def view_cache(data: DataConfig) -> ViewCache | None:
    """Open the cache of resized views in ``data.cache``; None if it is null."""
    return None if data.cache is None else ViewCache(data.cache, int(data.cache_gb * 2**30))


def expressions_of(dataset: ReferringDataset) -> list[str]:
    """Return the referring expressions of a split, in order."""
    return [dataset[index].expression for index in range(len(dataset))]
