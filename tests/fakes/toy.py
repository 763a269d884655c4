"""A model of a few hundred parameters for the tests of the harness, and a trainer around it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rrsis_bench.config.schema import TrainConfig, TrainerConfig
from rrsis_bench.console import Terminal
from rrsis_bench.data.formats import open_split
from rrsis_bench.data.loading.loader import ViewDataset
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import build_wordpiece
from rrsis_bench.interfaces import Segmenter, SegmenterOutput
from rrsis_bench.run.model import build_fabric
from rrsis_bench.stop import StopRequest
from rrsis_bench.train.events import EventLog
from rrsis_bench.train.loop import Trainer

SIDE = 16
TOKENS = 16


class Toy(Segmenter):
    """Convolutions on the picture, times the mean of the words; every word has an embedding.

    Args:
        dropout: probability; above 0, every step draws from torch's generator.
    """

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.views = {"image": SIDE}
        self.max_tokens = TOKENS
        self.words = nn.Embedding(300, 8)
        self.pixels = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.LayerNorm(8)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, views, text):
        image = views["image"].to(self.head.weight.dtype) / 255
        words = self.dropout(self.norm(self.words(text["input_ids"]).mean(1)))
        return SegmenterOutput(self.head(torch.relu(self.pixels(image)) * words[..., None, None])[:, 0])

    def no_weight_decay(self, name: str) -> bool:
        return name.startswith("norm.") or name.endswith("bias")


def recipe(**changes: Any) -> TrainConfig:
    """Three epochs of two steps on eight samples, unless `changes` say otherwise.

    The options of the optimiser and the schedule are merged with the default's, unless `changes` name another entry.
    """
    values: dict[str, Any] = {
        "version": 1, "epochs": 3, "batch_size": 4, "accumulate": 1, "group_by_image": False, "eval_every": 1,
        "clip_norm": 1.0, "freeze": [], "align_corners": False, "augment": [], "callbacks": [],
        "loss": [{"name": "ce", "weight": 1.0}, {"name": "dice", "weight": 1.0}],
        "optimizer": {"name": "adamw", "lr": 1e-2, "weight_decay": 0.01, "betas": (0.9, 0.98)},
        "schedule": {"name": "cosine", "warmup_steps": 1},
    }  # fmt: skip
    for name in ("optimizer", "schedule"):
        changed, default = changes.get(name, {}), values[name]
        changes[name] = changed if changed.get("name", default["name"]) != default["name"] else default | changed
    return TrainConfig(**{**values, **changes})


def machine(**changes: Any) -> TrainerConfig:
    """Checkpoints at the ends of epochs and a CPU, unless `changes` say otherwise."""
    values: dict[str, Any] = {
        "accelerator": "cpu", "precision": "32-true", "num_workers": 0, "loader_timeout": 0.0, "cache_gb": 0.0,
        "eval_batch_size": 4, "checkpoint_every": 0, "log_every": 10, "full_checkpoints": False,
    }  # fmt: skip
    return TrainerConfig(**{**values, **changes})


def views_of(root: Path, split: str = "train", *, native_masks: bool = False, **options: Any) -> ViewDataset:
    """A split of the fake tree at the toy's size; the vocabulary is always that of the training split."""
    train = open_split("rrsisd", root, "train")
    tokenizer = build_wordpiece([train[index].expression for index in range(len(train))], 300)
    dataset = open_split("rrsisd", root, split)
    return ViewDataset(dataset, {"image": SIDE}, TextPipeline(tokenizer, TOKENS), native_masks=native_masks, **options)


def make_trainer(
    root: Path,
    run_dir: Path,
    *,
    model: Segmenter | None = None,
    data: ViewDataset | None = None,
    validate: Callable[[Segmenter], dict[str, float]] | None = None,
    stop: StopRequest | None = None,
    identity: dict[str, str] | None = None,
    console: Terminal | None = None,
    seed: int = 0,
    **options: Any,
) -> Trainer:
    """A trainer on the fake tree; `options` are fields of the recipe or of the machine."""
    names = (
        "num_workers", "loader_timeout", "checkpoint_every", "log_every", "full_checkpoints", "devices", "strategy"
    )  # fmt: skip
    machine_options = {name: options.pop(name) for name in names if name in options}
    if model is None:
        torch.manual_seed(seed)
        model = Toy()
    fabric = build_fabric(machine(**machine_options))
    return Trainer(
        fabric,
        model,
        views_of(root) if data is None else data,
        validate or (lambda current: {"miou": float(sum(p.detach().abs().sum() for p in current.parameters()))}),
        selection_metric="miou",
        recipe=recipe(**options),
        machine=machine(**machine_options),
        seed=seed,
        run_dir=run_dir,
        identity=identity or {"train_hash": "same", "seed": str(seed)},
        events=EventLog(run_dir / "events.jsonl" if fabric.global_rank == 0 else None),
        stop=stop or StopRequest(),
        console=console or Terminal(file=io.StringIO(), width=200),
    )
