"""From the composed configuration to data, text, model and device."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from rich.console import Console

from rrsis_bench import registry
from rrsis_bench.data.formats import DatasetIndex, read_index
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import (
    FIELD,
    WORDPIECE,
    build_vocabulary,
    load_tokenizer,
    save_vocabulary,
    tokenizer_source,
)
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import ReferringDataset, Sample, Segmenter
from rrsis_bench.synthetic import SceneSpec, is_complete, synthesize
from rrsis_bench.train import checkpoint, frozen

SPLITS = ("train", "val", "test")
PRECISIONS = ("32-true", "bf16-mixed")
CATEGORIES = "categories.json"  # in a run's folder: the names that its phrase masks were found by


class FirstSamples(ReferringDataset):
    """The first `n` samples of a split (``limit.<split>``); rows made from it are never ranked."""

    def __init__(self, dataset: ReferringDataset, n: int):
        self._dataset, self._n = dataset, min(n, len(dataset))
        self.name, self.split, self.category_names = dataset.name, dataset.split, dataset.category_names

    def __len__(self) -> int:
        """Number of samples kept."""
        return self._n

    def __getitem__(self, index: int) -> Sample:
        """Sample `index` of the whole split."""
        if not 0 <= index < self._n:
            raise IndexError(index)
        return self._dataset[index]


def scene_spec(scenes: Mapping[str, Any]) -> SceneSpec:
    """The ``data.scenes`` node as a spec; UserError names a field that does not fit."""
    try:
        return SceneSpec(**{**scenes, "languages": tuple(scenes["languages"])})
    except TypeError as error:
        raise UserError(f"data.scenes does not fit the scene generator: {error}.") from error


def data_root(data: Mapping[str, Any], console: Console) -> Path:
    """Where the dataset lies; synthetic scenes are written on first use, one folder per set of options."""
    root = Path(data["root"])
    if not data["scenes"]:
        return root
    spec = scene_spec(data["scenes"])
    root = root / hashlib.sha256(json.dumps(spec.options(), sort_keys=True).encode()).hexdigest()[:8]
    if not is_complete(spec, root, data["format"]):
        console.print(f"Writing synthetic scenes to {root} (once)")
        synthesize(spec, root, data["format"])
    return root


def expected_counts(data: Mapping[str, Any]) -> dict[str, int] | None:
    """Samples per split that a complete copy has, or None where nothing is known."""
    if data["counts"]:
        return dict(data["counts"])
    spec = data["scenes"]
    return {split: spec[split] * spec["expressions_per_image"] for split in SPLITS} if spec else None


def data_options(data: Mapping[str, Any]) -> dict[str, Any]:
    """What ``data.options`` hands to the format's reader; most datasets have none."""
    return dict(data.get("options") or {})


def open_data(config: Mapping[str, Any], root: Path, names: Sequence[str] = SPLITS) -> dict[str, ReferringDataset]:
    """The splits `names`, cut to ``limit`` where it is set."""
    index = read_index(config["data"]["format"], root, data_options(config["data"]))
    return open_splits(index, config["limit"], names)


def open_splits(
    index: DatasetIndex, limit: Mapping[str, int | None], names: Sequence[str] = SPLITS
) -> dict[str, ReferringDataset]:
    """The splits `names`, cut to ``limit`` where it is set."""
    splits: dict[str, ReferringDataset] = {}
    for split in names:
        dataset = index.open(split)
        n = limit[split]
        splits[split] = FirstSamples(dataset, n) if n else dataset
    return splits


def expressions_of(dataset: ReferringDataset) -> list[str]:
    """The referring expressions of a split, in order."""
    return [dataset[index].expression for index in range(len(dataset))]


def build_text(config: Mapping[str, Any], model: Segmenter, train: ReferringDataset, saved: Path) -> TextPipeline:
    """The tokenizer and the masks over its tokens that `model` reads.

    `tokenizer_source` says which tokenizer. ``wordpiece`` builds a vocabulary from the training expressions and keeps
    it in `saved` (``vocab.txt``); anything else is a name, a hub id or a local folder.

    Raises:
        UserError: the tokenizer is not at hand, or ``text=`` names a BERT that the model does not have.
    """
    source = tokenizer_source(config)
    if source == WORDPIECE:
        if not saved.exists():
            tokenizer = build_vocabulary(config, expressions_of(train))
            saved.parent.mkdir(parents=True, exist_ok=True)
            save_vocabulary(tokenizer, saved)
        source = str(saved)
    return TextPipeline(
        load_tokenizer(source, FIELD),
        model.max_tokens,
        phrase_masks=model.phrase_masks,
        phrases=config["phrases"],
        categories=train.category_names,
    )


def build_model(config: Mapping[str, Any]) -> Segmenter:
    """Construct the model with ``model.args``; UserError where an argument does not fit its constructor."""
    cls = registry.load_class(config["model"]["name"])
    try:
        return cls(**config["model"]["args"])
    except TypeError as error:
        if "__init__" not in str(error):
            raise
        raise UserError(f"model.args does not fit {cls.__name__}: {error}.") from error


def restore_model(config: Mapping[str, Any], saved: checkpoint.Checkpoint, hint: str) -> Segmenter:
    """The model of a checkpoint, with its weights.

    Pretrained weights are read only where the checkpoint leaves frozen parts out: otherwise it holds all of them.

    Args:
        config: names the model and its arguments.
        saved: the checkpoint.
        hint: what to do where the two do not fit.

    Raises:
        UserError: they do not fit, or the pretrained weights of the frozen parts are missing or others.
    """
    if not saved.state.get("frozen"):
        config = {**config, "model": {**config["model"], "args": _without_weights(config["model"]["args"])}}
    model = build_model(config)
    try:
        frozen.load(model, saved)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{saved.path} does not fit model={config['model']['name']}: {reason} ...\n{hint}") from error
    return model


def _without_weights(values: Any) -> Any:
    """Nested arguments with every hub id or path under ``weights`` as ``random``, for a model about to be filled."""
    if not isinstance(values, Mapping):
        return values

    def is_source(value: Any) -> bool:  # a model's own argument of that name may be a list, or a word
        return isinstance(value, str) and any(sign in value for sign in ":/.\\")

    return {
        key: "random" if key == "weights" and is_source(value) else _without_weights(value)
        for key, value in values.items()
    }


def build_fabric(trainer: Mapping[str, Any]) -> Fabric:
    """Device and precision by lightning.fabric."""
    if trainer["precision"] not in PRECISIONS:
        raise UserError(f"trainer.precision must be one of {', '.join(PRECISIONS)}, not '{trainer['precision']}'.")
    if trainer["accelerator"] == "cuda" and not torch.cuda.is_available():
        raise UserError("There is no CUDA device here (`rrsis-bench doctor` may say why). Use trainer=cpu, or auto.")
    return Fabric(accelerator=trainer["accelerator"], devices=1, precision=trainer["precision"])
