"""Build or restore a model, its text pipeline and its device from the configuration."""

from __future__ import annotations

import dataclasses
import logging
import os
import traceback
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

from rrsis_bench import official, registry
from rrsis_bench.backbones.lora import merge_lora
from rrsis_bench.backbones.words import WordEncoder
from rrsis_bench.config.compose import compose_config
from rrsis_bench.config.schema import Config, ModelConfig, TrainerConfig
from rrsis_bench.data.text.pipeline import TextPipeline
from rrsis_bench.data.text.tokenizers import (
    FROM_EXPRESSIONS,
    build_from_expressions,
    load_tokenizer,
    load_vocabulary,
    save_vocabulary,
)
from rrsis_bench.errors import UserError, is_out_of_memory, reason
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.train import checkpoint, frozen
from rrsis_bench.world import World, started_ranks

# Lightning's advice on a login node: here, docs/clusters.md tells how to use the cluster.
warnings.filterwarnings("ignore", message="The `srun` command is available on your system")

TOKENIZER = "text.tokenizer"
VOCAB_SIZE = "text.vocab_size"


def load_official(model: str, path: str | Path, *overrides: str) -> Segmenter:
    """Load the weights that a paper's authors released into the model at paper size, in evaluation mode.

    Args:
        model: registry name.
        path: the released ``.pth`` file.
        overrides: Hydra overrides of the model's arguments, such as ``data=refsegrs`` for FIANet's shorter recipe.

    Raises:
        UserError: an unknown model or override, a file that cannot be read, or keys and shapes that do not fit.
    """
    registry.find(model)
    config = compose_config([f"model={model}", "size=paper", *overrides])
    return official.load_official(model, path, **config.model.args)


def build_vocabulary(config: Config, expressions: Iterable[str], saved: Path) -> None:
    """Build the vocabulary of ``text.tokenizer=wordpiece`` or ``words`` from the training expressions.

    Nothing is built if `saved` exists, or for another tokenizer.
    """
    if config.tokenizer in FROM_EXPRESSIONS and not saved.exists():
        size = int(config.text["vocab_size"])
        tokenizer = build_from_expressions(config.tokenizer, expressions, size, VOCAB_SIZE)
        saved.parent.mkdir(parents=True, exist_ok=True)
        save_vocabulary(tokenizer, saved)


def load_text(config: Config, model: Segmenter, categories: tuple[str, ...], vocabulary: Path) -> TextPipeline:
    """Return the tokenizer of a run and the masks over its tokens that `model` reads.

    Args:
        config: of the run.
        model: the model that reads the tokens.
        categories: the dataset's category names, for phrase masks.
        vocabulary: the vocabulary file of a run with ``text.tokenizer=wordpiece`` or ``words``; not read otherwise.

    Raises:
        UserError: the vocabulary or the tokenizer is missing.
    """
    source = config.tokenizer
    if source in FROM_EXPRESSIONS:
        if not vocabulary.is_file():
            raise UserError(
                f"{TOKENIZER}={source} reads the vocabulary of the training run, and {vocabulary} is missing. Restore "
                f"the file, or set {TOKENIZER} to the tokenizer that the weights were trained with, such as "
                "hub:google-bert/bert-base-uncased."
            )
        tokenizer = load_vocabulary(source, vocabulary, TOKENIZER)
    else:
        tokenizer = load_tokenizer(source, TOKENIZER)
    return TextPipeline(
        tokenizer,
        model.max_tokens,
        phrase_masks=model.phrase_masks,
        phrase_matching=config.phrase_matching,
        categories=categories,
        parser=model.head_parser,
    )


def start_words(model: Segmenter, text: TextPipeline) -> int:
    """Give the model's words their vectors from the file that ``text.weights=glove:/path`` names.

    Returns:
        The number of words with a vector; 0 without such a file.
    """
    ids = text.tokenizer.get_vocab()
    return sum(part.start_from_vectors(ids) for part in model.modules() if isinstance(part, WordEncoder))


def build_model(config: ModelConfig) -> Segmenter:
    """Construct the model with ``model.args``; UserError if an argument does not fit, which names the line."""
    cls = registry.load_class(config.name)
    try:
        model = cls(**config.args)
    except Exception as error:
        if isinstance(error, UserError) or is_out_of_memory(error):
            raise
        raise UserError(
            f"model={config.name} cannot be built: {type(error).__name__}: {reason(error).rstrip('.')} (in "
            f"{_place(error)}). Check the values of model.args, vision, text and size."
        ) from error
    sizes = {f"views.{name}": side for name, side in getattr(model, "views", {}).items()}
    for name, value in {**sizes, "max_tokens": getattr(model, "max_tokens", 1)}.items():
        if type(value) is not int or value < 1:
            raise UserError(f"model.args.{name}={value} must be an integer of at least 1.")
    return model


def _place(error: BaseException) -> str:
    """Return file and line of the innermost frame of the suite or of a model."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if f"{os.sep}torch{os.sep}" not in frame.filename
    ]
    return f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}"


def restore_model(config: ModelConfig, saved: checkpoint.Checkpoint, hint: str) -> Segmenter:
    """Return the model of a checkpoint for inference: its weights, with adapters merged.

    Pretrained weights are read only if the checkpoint leaves frozen parts out. Otherwise it holds all weights.

    Args:
        config: names the model and its arguments.
        saved: the checkpoint.
        hint: what to do if the two do not fit.

    Raises:
        UserError: they do not fit, or the pretrained weights of the frozen parts are missing or differ.
    """
    if not saved.state.get("frozen"):
        config = dataclasses.replace(config, args=without_weights(config.args))
    model = build_model(config)
    try:
        frozen.load(model, saved)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{saved.path} does not fit model={config.name}: {reason} ...\n{hint}") from error
    merge_lora(model, keep_pairs=True)
    return model


def without_weights(values: Any) -> Any:
    """Return nested arguments with every hub id or path under ``weights`` replaced by ``random``."""
    if not isinstance(values, Mapping):
        return values

    def is_source(value: Any) -> bool:  # a model's own argument of that name may be a list, or a word
        return isinstance(value, str) and any(sign in value for sign in ":/.\\")

    return {
        key: "random" if key == "weights" and is_source(value) else without_weights(value)
        for key, value in values.items()
    }


def build_fabric(trainer: TrainerConfig) -> Fabric:
    """Return lightning's Fabric for devices, processes and precision, launched.

    Raises:
        UserError: there are no such devices, or this process is not one of as many as the configuration asks for.
    """
    if trainer.accelerator == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "trainer.accelerator=cuda, but no CUDA device was found. `rrsis-bench doctor` names possible reasons. "
            "Use trainer=cpu or trainer=auto."
        )
    devices, processes = devices_of(trainer), devices_of(trainer) * trainer.num_nodes
    _, started = started_ranks() or (0, 1)
    if started != processes:
        raise UserError(
            f"This process was started as one of {started}, and trainer.devices={devices} trainer.num_nodes="
            f"{trainer.num_nodes} are {processes} processes. Set both to what torchrun or srun starts."
        )
    if processes == 1:
        return Fabric(accelerator=trainer.accelerator, devices=1, precision=trainer.precision)
    from rrsis_bench.train.parallel import make_strategy

    for name in ("lightning.fabric", "lightning.pytorch"):  # it announces every process
        logging.getLogger(name).setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=trainer.accelerator,
        devices=devices,
        num_nodes=trainer.num_nodes,
        strategy=make_strategy(trainer.strategy, processes),
        precision=trainer.precision,
    )
    fabric.launch()
    return fabric


def connect(trainer: TrainerConfig) -> World:
    """Connect to the other processes of the run, if torchrun or srun started this one beside others.

    Raises:
        UserError: see `build_fabric`.
    """
    _, started = started_ranks() or (0, 1)
    return World() if started == 1 and trainer.devices == 1 else World.of(build_fabric(trainer))


def devices_of(trainer: TrainerConfig) -> int:
    """Return the devices of each machine.

    Raises:
        UserError: there are fewer GPUs, or none to count.
    """
    gpus = torch.cuda.device_count() if trainer.accelerator != "cpu" else 0
    if trainer.devices == 0 and not gpus:
        raise UserError(
            "trainer.devices=0 uses all GPUs of this machine, and there is none. For processes on the CPU set their "
            "number: trainer.accelerator=cpu trainer.devices=2."
        )
    if gpus and trainer.devices > gpus:
        raise UserError(f"trainer.devices={trainer.devices}, but this machine has {gpus} GPUs.")
    return trainer.devices or gpus
