"""The configuration of a run as one typed, frozen tree: meaning, unit and effect of every field.

Hydra composes plain containers from ``conf/``; `Config.parse` turns them into this tree once, and every error names its
dotted field. The help text, the documentation and the hashes of a run are derived from the declarations below. Default
values are in ``conf/``, not here: only a node that a file in ``conf/`` may leave out has a default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rrsis_bench import codec
from rrsis_bench.config.fields import Affects, check_bounds, section, setting
from rrsis_bench.config.protocol import Protocol
from rrsis_bench.errors import UserError

NOTHING, TRAINING, EVALUATION, BOTH = Affects.NOTHING, Affects.TRAINING, Affects.EVALUATION, Affects.BOTH

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The node ``model.card``: the paper, for lists and tables.

    Attributes:
        title: of the paper.
        venue: journal or conference, with the year.
        url: of the paper.
        code: of the authors' code.
        params_m: parameters at paper size, in millions.
        bibtex: of the paper.
        printed_as: names of the system in the tables of `rrsis-bench published`.
        parity: what of the model tests hold to the authors' code; ``paper only`` if no code is public.
        weights: what the authors released and what it was selected on; None if nothing is known to be released.
        views: view -> side in pixels at paper size, if it does not follow from ``model.args.views``.
        trained_on: datasets and image sources that the weights which every run starts from have seen.
        weights_trained_on: those that the released weights have seen.
    """

    title: str = ""
    venue: str = ""
    url: str | None = None
    code: str | None = None
    params_m: float | None = None
    bibtex: str | None = None
    printed_as: tuple[str, ...] = ()
    parity: str | None = None
    weights: str | None = None
    views: dict[str, int] | None = None
    trained_on: tuple[str, ...] = ()
    weights_trained_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataCard:
    """The node ``data.card``: what a reader of a table must know about a dataset.

    Attributes:
        title: of the dataset.
        source: how to get it.
        licence: of the data.
        defects: known ones.
        bibtex: of the dataset's paper.
        side: longer side of the images in pixels; the default tile of `rrsis-bench predict`.
        image_sources: what the images were taken from: datasets, or names in `rrsis_bench.config.leakage.SOURCES`.
        overlap: what is known about images and sentences that its splits share with train or with other datasets, each
            with its source.
    """

    title: str
    source: str
    licence: str
    defects: tuple[str, ...] = ()
    bibtex: str | None = None
    side: int | None = None
    image_sources: tuple[str, ...] = ()
    overlap: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The node ``model``."""

    name: str = setting("Registry name of the model.", TRAINING)
    args: dict[str, Any] = setting("Arguments of the model's constructor.", TRAINING)
    card: ModelCard = setting("Paper, code and parameter count, for lists and tables.", NOTHING)


@dataclass(frozen=True, slots=True)
class SizeConfig:
    """The node ``size``: how large a model is built; its values reach the model through ``model.args``."""

    name: str = setting("``paper``: the published set-up. ``tiny``: the same modules at toy width.", NOTHING)
    image: int = setting("Side of the main view.", NOTHING, unit="pixels", at_least=1)
    decoder_width: int | None = setting(
        "Channels inside the decoder; null: half of the last stage's, as in the authors' code.", NOTHING, at_least=1
    )
    max_tokens: int = setting("Text tokens per expression, special tokens included.", NOTHING, at_least=2)


@dataclass(frozen=True, slots=True)
class DataConfig:
    """The node ``data``."""

    name: str = setting("Name of the dataset in every table.", TRAINING)
    format: str = setting("On-disk format; `rrsis-bench data info` shows its files.", TRAINING)
    root: str = setting("Folder of the dataset. Its content counts, not its place.", NOTHING)
    counts: dict[str, int] | None = setting(
        "Samples per split of a complete copy; null: unknown, or given by the synthetic scenes.", NOTHING, at_least=0
    )
    synthetic: dict[str, Any] | None = setting(
        "Options of the synthetic scenes, which are written on first use; null for a real dataset.", TRAINING
    )
    card: DataCard | None = setting("Source, licence, known defects and BibTeX.", NOTHING, default=None)
    options: dict[str, Any] = setting("Options of the format's reader.", TRAINING, factory=dict)
    notes: tuple[str, ...] = setting("Notes that every record of this dataset carries.", NOTHING, default=())
    publish: bool = setting("Whether results enter the tracked tables of a checkout.", NOTHING, default=True)
    cache: str | None = setting("Folder that keeps resized views between runs; null: none.", NOTHING, default=None)
    cache_gb: float = setting("Largest size of that folder.", NOTHING, unit="GB", above=0, default=64.0)

    @property
    def image_side(self) -> int | None:
        """Longer side of the images in pixels; None if it is unknown or differs."""
        if self.synthetic:
            return int(self.synthetic["size"])
        return None if self.card is None else self.card.side


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """The node ``train``: the recipe. Every field changes the trained weights.

    Losses, the optimiser, the schedule, augmentations and callbacks are named entries: mappings with a ``name`` and the
    options of that entry. ``rrsis_bench.train`` knows the names; `rrsis-bench config` lists them.
    """

    version: int = setting("Raised when a change of the recipe's code moves numbers.", TRAINING, at_least=1)
    epochs: int = setting("Passes over the training split.", TRAINING, at_least=1)
    batch_size: int = setting(
        "Samples per forward pass of all devices together; the last, incomplete batch of an epoch is dropped.",
        TRAINING,
        at_least=1,
    )
    accumulate: int = setting("Forward passes per optimiser step.", TRAINING, at_least=1)
    group_by_image: bool = setting(
        "Expressions of one image follow each other, so that they share a batch and one encoding.",
        TRAINING,
    )
    eval_every: int = setting("Epochs between validations; the last epoch is always validated.", TRAINING, at_least=1)
    clip_norm: float | None = setting("Largest gradient norm; null: no clipping.", TRAINING, above=0)
    freeze: list[str] = setting("Patterns over parameter names that are not trained.", TRAINING)
    align_corners: bool = setting("Whether the logits are resized to the target with aligned corners.", TRAINING)
    loss: list[dict[str, Any]] = setting("Terms of the loss, added with their weights.", TRAINING)
    optimizer: dict[str, Any] = setting("The optimiser, with its learning rate and weight decay.", TRAINING)
    schedule: dict[str, Any] = setting("The learning rate per optimiser step.", TRAINING)
    augment: list[dict[str, Any]] = setting("Augmentations, applied in this order.", TRAINING)
    callbacks: list[dict[str, Any]] = setting("Callbacks of the loop, such as an average of weights.", TRAINING)


@dataclass(frozen=True, slots=True)
class TrainerConfig:
    """The node ``trainer``: the machine."""

    accelerator: Literal["auto", "cpu", "cuda"] = setting("Device type; auto: CUDA if there is any.", NOTHING)
    precision: Literal["32-true", "bf16-mixed"] = setting("Floating point precision of the forward pass.", TRAINING)
    num_workers: int = setting("Processes that load samples; 0: none beside the main one.", NOTHING, at_least=0)
    loader_timeout: float = setting(
        "Longest wait for a batch of the loader processes; 0: for ever.", NOTHING, unit="s", at_least=0
    )
    cache_gb: float = setting("Resized views kept in memory, per process; 0: none.", NOTHING, unit="GB", at_least=0)
    eval_batch_size: int = setting("Samples per forward pass of evaluation.", NOTHING, at_least=1)
    checkpoint_every: int = setting(
        "Optimiser steps between checkpoints within an epoch; 0: at the ends of epochs only.", NOTHING, at_least=0
    )
    log_every: int = setting("Optimiser steps between events in the log.", NOTHING, unit="steps", at_least=1)
    full_checkpoints: bool = setting("Whether checkpoints also hold the model's frozen parts.", NOTHING)
    strategy: Literal["ddp", "fsdp"] = setting(
        "Several devices: ``ddp`` keeps the whole model on each, ``fsdp`` (FSDP2) a share of it.",
        NOTHING,
        default="ddp",
    )
    devices: int = setting(
        "Devices of each machine, with one process each, which share ``train.batch_size``; 0: all GPUs.",
        NOTHING,
        at_least=0,
        default=1,
    )
    num_nodes: int = setting("Machines.", NOTHING, at_least=1, default=1)


@dataclass(frozen=True, slots=True)
class LoggerConfig:
    """The node ``logger``: an optional mirror of the event log."""

    name: Literal["none", "wandb"] = setting("``wandb`` mirrors events to Weights & Biases.", NOTHING)
    project: str = setting("W&B project.", NOTHING, default="rrsis-bench")
    mode: Literal["online", "offline", "disabled"] = setting("W&B mode.", NOTHING, default="offline")


@dataclass(frozen=True, slots=True)
class LauncherConfig:
    """The node ``launcher``: where runs go on. The defaults are those of ``conf/launcher/none.yaml``."""

    name: Literal["none", "slurm"] = setting("``slurm``: every run is a job of a SLURM array.", NOTHING, default="none")
    partition: str | None = setting("SLURM partition; null: the cluster's default.", NOTHING, default=None)
    account: str | None = setting("SLURM account.", NOTHING, default=None)
    qos: str | None = setting("Quality of service.", NOTHING, default=None)
    constraint: str | None = setting("Features that a node must have.", NOTHING, default=None)
    nodes: int = setting("Nodes per run.", NOTHING, at_least=1, default=1)
    tasks_per_node: int = setting("Processes per node; one per device.", NOTHING, at_least=1, default=1)
    gpus_per_node: int = setting("GPUs per node; 0: none are asked for.", NOTHING, at_least=0, default=0)
    cpus_per_task: int = setting("Cores per process, for the loaders too.", NOTHING, at_least=1, default=1)
    mem_gb: float | None = setting("Memory per node; null: the default.", NOTHING, unit="GB", above=0, default=None)
    minutes: int = setting("Time limit of a job; it is queued again.", NOTHING, unit="min", at_least=1, default=60)
    parallel: int = setting("Jobs of an array that run at once.", NOTHING, at_least=1, default=256)
    signal_s: int = setting("Time from the warning to the end of a job.", NOTHING, unit="s", at_least=10, default=120)
    requeues: int = setting("How often a job may be queued again at its end.", NOTHING, at_least=0, default=20)
    setup: tuple[str, ...] = setting("Shell lines before a job, such as ``module load``.", NOTHING, default=())
    options: dict[str, Any] | None = setting("Further options of sbatch by name.", NOTHING, default=None)


@dataclass(frozen=True, slots=True)
class LimitConfig:
    """The node ``limit``: only the first samples of a split are used. A limited run is never ranked."""

    train: int | None = setting("Samples of the training split; null: all.", TRAINING, at_least=1)
    val: int | None = setting("Samples of the validation split; null: all.", TRAINING, at_least=1)
    test: int | None = setting("Samples of the test split; null: all.", EVALUATION, at_least=1)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a run is made from."""

    model: ModelConfig = section("The model and its arguments.")
    size: SizeConfig = section("How large the model is built.")
    backbones: str = setting("Pair of backbones that a size picks; a model's file chooses it.", NOTHING)
    vision: dict[str, Any] = setting(
        "The vision backbone; reaches the model through ``model.args``.", NOTHING, at_least=0
    )
    text: dict[str, Any] = setting("The text backbone and its tokenizer.", TRAINING, at_least=0)
    data: DataConfig = section("The dataset.")
    train: TrainConfig = section("The recipe.")
    trainer: TrainerConfig = section("Device, precision, loading and checkpoints.")
    protocol: Protocol = section("How predictions are scored.")
    limit: LimitConfig = section("Sample limits per split.")
    logger: LoggerConfig = section("Mirror of the event log.")
    seed: int = setting(
        "Seed of every random generator; a table row averages over seeds.", NOTHING, at_least=0, at_most=2**32 - 1
    )
    phrase_matching: Literal["nltk", "word_index"] = setting(
        "How noun phrases are found; word_index: the authors' behaviour, for parity.", TRAINING
    )
    controls: bool = setting("Evaluate the language controls before the record is written.", NOTHING)
    predictions: Literal["none", "save"] = setting("``save`` keeps the predicted masks in the run folder.", NOTHING)
    checkpoint: str | None = setting(
        "The weights that `evaluate` scores: a run folder, a checkpoint folder, or official:/path/file.pth.", NOTHING
    )
    force: bool = setting("Train again although the run is finished.", NOTHING)
    runs: str = setting("Folder of the runs: checkpoints, logs, predictions.", NOTHING)
    leaderboards: str = setting("Folder of the records and tables.", NOTHING)
    launcher: LauncherConfig = section("Where runs go on: here, or as jobs of a cluster.", factory=LauncherConfig)
    splits: tuple[Split, ...] = setting(
        "Splits that are scored after training; each gives a record and a table row of its own. Rows of different "
        "splits are never ranked together.",
        NOTHING,
        default=("test",),
    )
    probes: tuple[str | dict[str, Any], ...] = setting(
        "Probes of understanding that are asked before the record is written: names, or mappings with a name and "
        "options. They cost further predictions.",
        NOTHING,
        default=(),
    )

    @property
    def tokenizer(self) -> str:
        """``text.tokenizer``: ``"wordpiece"``, ``"words"`` or what `data.text.tokenizers.load_tokenizer` reads."""
        return str(self.text["tokenizer"])

    @classmethod
    def parse(cls, composed: Mapping[str, Any], where: str = "The configuration") -> Config:
        """Parse and validate what Hydra composed.

        Args:
            composed: plain containers, resolved.
            where: how a message names the source.

        Raises:
            UserError: a missing or unknown field, a value of another type or out of bounds, named by its dotted field.
        """
        config = codec.decode(cls, composed, where, defaults=True)
        check_bounds(config)
        if not config.splits or len(set(config.splits)) < len(config.splits):
            raise UserError(
                f"splits={list(config.splits)} must name each split once, and at least one: splits=[val,test]."
            )
        return config

    def plain(self) -> dict[str, Any]:
        """Return the tree as plain containers, ready for YAML or JSON."""
        return dataclasses.asdict(self)
