"""The training loop: epochs over a seeded order, selection on val only, checkpoints that resume exactly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from torch import Tensor

from rrsis_bench.backbones.lora import trainable_parts
from rrsis_bench.data.loading.loader import ViewDataset, make_loader
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Batch, ImageFirstSegmenter, Segmenter, distinct_pictures
from rrsis_bench.stop import Interrupted, NonFiniteLoss, StopRequest
from rrsis_bench.train import checkpoint, frozen, rng
from rrsis_bench.train.events import EventLog
from rrsis_bench.train.losses import LossConfig, segmentation_loss
from rrsis_bench.train.optim import build_optimizer, freeze, learning_rate_factor


@dataclass(frozen=True)
class TrainConfig:
    """The recipe; every field changes the trained weights.

    Attributes:
        epochs: passes over the training split.
        batch_size: samples per forward pass; the last, incomplete batch of an epoch is dropped.
        group_pictures: the samples of a picture follow one another in an epoch, so that most of them share a batch: a
            model that tells expressions apart by their common picture learns so sooner, and an `ImageFirstSegmenter`
            encodes the picture once for them, unless it is augmented. If false, the samples are shuffled one by one.
        eval_every: epochs between validations; the last epoch is always validated.
        lr: base learning rate of AdamW.
        weight_decay: decay of all parameters but those that the model excludes.
        betas: AdamW's momenta.
        schedule: polynomial, cosine or constant, per optimiser step.
        power: exponent of the polynomial schedule.
        min_lr_ratio: floor of the schedule as a share of `lr`.
        warmup_steps: optimiser steps of linear warm-up.
        accumulate: forward passes per optimiser step.
        clip_norm: largest gradient norm, or None.
        freeze: patterns over parameter names that are not trained.
        black_boxes: the LAVT family's black squares on a fixed random fifth of the training references.
        loss: terms and weights.
    """

    epochs: int
    batch_size: int
    group_pictures: bool
    eval_every: int
    lr: float
    weight_decay: float
    betas: tuple[float, float]
    schedule: str
    power: float
    min_lr_ratio: float
    warmup_steps: int
    accumulate: int
    clip_norm: float | None
    freeze: tuple[str, ...]
    black_boxes: bool
    loss: LossConfig

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build from the ``train`` node of the configuration; UserError names a field that is unknown or missing."""
        try:
            loss = LossConfig(**{**values["loss"], "class_weights": tuple(values["loss"]["class_weights"])})
            fixed = {"betas": tuple(values["betas"]), "freeze": tuple(values["freeze"]), "loss": loss}
            config = cls(**{**values, **fixed})
        except TypeError as error:
            raise UserError(f"conf: the node 'train' does not fit its fields: {error}.") from error
        for name in ("epochs", "batch_size", "eval_every", "accumulate"):
            if getattr(config, name) < 1:
                raise UserError(f"train.{name} must be at least 1, not {getattr(config, name)}.")
        for name in ("group_pictures", "black_boxes"):
            if not isinstance(getattr(config, name), bool):
                raise UserError(f"train.{name} must be true or false, not {getattr(config, name)!r}.")
        return config


@dataclass
class Progressed:
    """Where training stands; saved with every checkpoint."""

    epoch: int = 0
    batch: int = 0  # batches of `epoch` already done
    step: int = 0
    best_score: float | None = None
    best_step: int | None = None
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Trains one model on one split.

    Args:
        fabric: device and precision.
        model: the segmenter; moved to the device here.
        data: the training split as views.
        validate: called in eval mode, returns val metrics with the selection metric among them.
        selection_metric: key of `validate`'s result that picks the best checkpoint.
        config: the recipe.
        seed: orders the samples.
        run_dir: checkpoints go to ``run_dir/checkpoints``.
        identity: values that a checkpoint must carry to be resumed (the train hash).
        events: the run's log.
        stop: asks for an orderly stop on a signal.
        console: where progress is shown.
        num_workers: loader processes.
        checkpoint_every: optimiser steps between checkpoints within an epoch; 0 = at epoch ends only.
        log_every: optimiser steps between ``train`` events.
        full_checkpoints: checkpoints also hold the model's frozen parts.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: Segmenter,
        data: ViewDataset,
        validate: Callable[[Segmenter], dict[str, float]],
        *,
        selection_metric: str,
        config: TrainConfig,
        seed: int,
        run_dir: Path,
        identity: dict[str, str],
        events: EventLog,
        stop: StopRequest,
        console: Console,
        num_workers: int = 0,
        checkpoint_every: int = 0,
        log_every: int = 10,
        full_checkpoints: bool = False,
    ):
        self.fabric, self.data, self.validate, self.config, self.seed = fabric, data, validate, config, seed
        self.selection_metric, self.identity, self.events, self.stop = selection_metric, identity, events, stop
        self.console, self.num_workers = console, num_workers
        self.checkpoint_every, self.log_every, self.full_checkpoints = checkpoint_every, log_every, full_checkpoints
        self._frozen: dict[str, frozen.Part] | None = None
        self.checkpoints, self.run_dir = run_dir / "checkpoints", run_dir
        freeze(model, config.freeze)
        optimizer = build_optimizer(model, config.lr, config.weight_decay, config.betas)
        self.raw_model = model
        self.model, self.optimizer = fabric.setup(model, optimizer)
        self.batches = max(1, len(data) // config.batch_size)
        self.steps_per_epoch = -(-self.batches // config.accumulate)
        self.total_steps = self.steps_per_epoch * config.epochs
        self.at = Progressed()

    def fit(self) -> Path:
        """Train to the end, resuming where a checkpoint exists, and return the best checkpoint's folder.

        Raises:
            NonFiniteLoss: the loss is NaN or infinite; nothing was updated with it.
            Interrupted: a signal asked for a stop; a checkpoint was written first.
        """
        self._show_parts()
        self._resume()
        started = time.perf_counter() - self.at.seconds
        with Progress(
            TextColumn("[bold]train"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[info]}"),
            TimeRemainingColumn(),
            console=self.console,
        ) as progress:
            bar = progress.add_task("train", total=self.total_steps, completed=self.at.step, info="")
            for epoch in range(self.at.epoch, self.config.epochs):
                self._epoch(epoch, started, lambda **fields: progress.update(bar, **fields))
                self.at.epoch, self.at.batch = epoch + 1, 0
                if (epoch + 1) % self.config.eval_every == 0 or epoch + 1 == self.config.epochs:
                    self._select()
                self.at.seconds = time.perf_counter() - started
                self._save()
        if self.at.best_step is None:
            raise UserError(f"No checkpoint of {self.run_dir} was ever validated; delete the folder and start again.")
        return checkpoint.folder(self.checkpoints, self.at.best_step)

    def _epoch(self, epoch: int, started: float, show: Callable[..., None]) -> None:
        config = self.config
        self.model.train()
        self.data.set_epoch(epoch)
        order = self._order(epoch)[: self.batches * config.batch_size]
        losses: list[float] = []
        parts: list[Batch] = []
        # The loader has no name here: a traceback would keep it, and with it its workers, beyond a stop.
        for batch in make_loader(
            self.data,
            config.batch_size,
            order[self.at.batch * config.batch_size :],
            num_workers=self.num_workers,
            pin_memory=self.fabric.device.type == "cuda",
        ):
            parts.append(batch)
            self.at.batch += 1
            first = (self.at.batch - 1) // config.accumulate * config.accumulate
            group = min(config.accumulate, self.batches - first)  # an epoch's last group may be smaller
            boundary = self.at.batch - first == group
            with self.fabric.no_backward_sync(self.model, enabled=not boundary):
                loss = self._loss(batch, parts)
                self.fabric.backward(loss / group)
            losses.append(float(loss.detach()))
            if boundary:
                self._step(parts)
                parts = []
                seconds = time.perf_counter() - started
                rate = self.at.step * config.batch_size * config.accumulate / max(seconds, 1e-9)
                if self.at.step % self.log_every == 0:
                    mean = sum(losses) / len(losses)
                    lr = self.optimizer.param_groups[0]["lr"]
                    self.events.write("train", step=self.at.step, loss=mean, lr=lr, samples_per_s=rate)
                    show(info=f"epoch {epoch + 1}/{config.epochs}  loss {mean:.4f}  {rate:.0f} samples/s")
                    losses = []
                show(completed=self.at.step)
                self._between_steps(started)

    def _order(self, epoch: int) -> list[int]:
        if not self.config.group_pictures:
            return rng.epoch_order(len(self.data), self.seed, epoch)
        pictures = [self.data.dataset[index].image_id for index in range(len(self.data))]
        return rng.picture_order(pictures, self.seed, epoch)

    def _loss(self, batch: Batch, parts: list[Batch]) -> Tensor:
        device = self.fabric.device
        views = batch.views
        rows: tuple[Tensor, ...] = ()
        # Augmentation draws anew for every sample: then views of one picture differ.
        if isinstance(self.raw_model, ImageFirstSegmenter) and self.data.augment is None:
            first, places = distinct_pictures([sample.image_id for sample in batch.samples])
            if len(first) < len(batch):
                views = {name: view[first] for name, view in views.items()}
                rows = (torch.tensor(places, device=device),)
        views = {name: view.to(device, non_blocking=True) for name, view in views.items()}
        text = {name: ids.to(device, non_blocking=True) for name, ids in batch.text.items()}
        output = self.model(views, text, *rows)
        loss = segmentation_loss(output.logits, batch.target_BSS.to(device), self.config.loss)
        for auxiliary in output.aux_losses.values():
            loss = loss + auxiliary
        if not torch.isfinite(loss):
            self._refuse("loss", float(loss.detach()), parts)
        return loss

    def _step(self, parts: list[Batch]) -> None:
        config = self.config
        factor = learning_rate_factor(
            self.at.step,
            self.total_steps,
            schedule=config.schedule,
            warmup_steps=config.warmup_steps,
            power=config.power,
            min_lr_ratio=config.min_lr_ratio,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * factor
        touched = [parameter for parameter in self.raw_model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in touched if parameter.grad is not None])
        if not torch.isfinite(norm):  # looked at before clipping, which would spread it over all gradients
            self._refuse("gradient norm", float(norm), parts)
        if config.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(touched, config.clip_norm, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.at.step += 1

    def _refuse(self, what: str, value: float, parts: list[Batch]) -> None:
        """Stop before the update; the last checkpoint stays as it is."""
        ids = [sample.sample_id for batch in parts for sample in batch.samples]
        norms = {
            name: float(parameter.grad.norm())
            for name, parameter in self.raw_model.named_parameters()
            if parameter.grad is not None
        }
        report = self.run_dir / "nonfinite.json"
        found = {"what": what, "value": str(value), "step": self.at.step, "sample_ids": ids, "grad_norms": norms}
        report.write_text(json.dumps(found))
        self.events.write("nonfinite", what=what, sample_ids=ids)
        raise NonFiniteLoss(
            f"The {what} became {value} at step {self.at.step}, before the update. Samples of this step: "
            f"{', '.join(ids[:8])}{' ...' if len(ids) > 8 else ''} (all, with gradient norms, in {report}). "
            "Check these samples; a lower train.lr or train.clip_norm=1 often helps."
        )

    def _between_steps(self, started: float) -> None:
        epoch_ends = self.at.batch >= self.batches
        due = self.checkpoint_every and self.at.step % self.checkpoint_every == 0
        self.at.seconds = time.perf_counter() - started
        if self.stop.requested or (due and not epoch_ends):
            self._save()
        self.stop.raise_if_requested()

    def _select(self) -> None:
        self.model.eval()
        try:
            metrics = self.validate(self.raw_model)
        except Interrupted:  # the epoch is trained: only its validation is left for the resumed run
            self.at.epoch, self.at.batch = self.at.epoch - 1, self.batches
            self._save()
            raise
        score = metrics[self.selection_metric]
        best = self.at.best_score is None or score > self.at.best_score
        if best:
            self.at.best_score, self.at.best_step = score, self.at.step
        self.at.history.append({"epoch": self.at.epoch, "step": self.at.step, **metrics})
        self.events.write("val", step=self.at.step, epoch=self.at.epoch, best=best, **metrics)
        numbers = "  ".join(f"{name} {value:.2f}" for name, value in metrics.items())
        self.console.print(f"epoch {self.at.epoch}/{self.config.epochs}  val {numbers}{'  *' if best else ''}")

    def _show_parts(self) -> None:
        """What is trained, part by part; of interest only where something is not."""
        counts = trainable_parts(self.raw_model)
        total, trained = (sum(column) for column in zip(*counts.values(), strict=True))
        if total == trained:
            return
        table = Table("part", Column("parameters", justify="right"), Column("trained", justify="right"))
        for part, (parameters, of_these) in counts.items():
            table.add_row(part, f"{parameters:,}", f"{of_these:,}")
        table.add_section()
        table.add_row("total", f"{total:,}", f"{trained:,}")
        self.console.print(table)

    def _save(self) -> None:
        if self._frozen is None:  # once: these weights are read whole for it, and they do not change
            self._frozen = {} if self.full_checkpoints else frozen.describe(self.raw_model)
        model = self.raw_model.state_dict() if self.full_checkpoints else frozen.held(self.raw_model)
        optimizer, rest = checkpoint.flatten_optimizer(self.optimizer)
        random_tensors, random_values = rng.get_state()
        checkpoint.save(
            self.checkpoints,
            self.at.step,
            {"model": model, "optimizer": optimizer, "rng": random_tensors},
            {
                "progress": vars(self.at),
                "optimizer": rest,
                "rng": random_values,
                "identity": self.identity,
                "frozen": self._frozen,
            },
        )
        checkpoint.prune(self.checkpoints, keep={self.at.best_step} if self.at.best_step is not None else set())

    def _resume(self) -> None:
        found, notes = checkpoint.latest(self.checkpoints)
        for note in notes:
            self.console.print(note, style="yellow", markup=False)
            self.events.write("damaged_checkpoint", note=note)
        if found is None:
            return
        differing = {
            key: (found.state["identity"].get(key), value)
            for key, value in self.identity.items()
            if found.state["identity"].get(key) != value
        }
        if differing:
            lines = "; ".join(f"{key}: {old} there, {new} now" for key, (old, new) in differing.items())
            raise UserError(
                f"{found.path} belongs to another run ({lines}). Choose another runs.root, or start anew: force=true."
            )
        frozen.load(self.raw_model, found)
        checkpoint.restore_optimizer(self.optimizer, found.tensors["optimizer"], found.state["optimizer"])
        rng.set_state(found.tensors["rng"], found.state["rng"])
        self.at = Progressed(**found.state["progress"])
        if self.at.best_step is not None:
            best = checkpoint.folder(self.checkpoints, self.at.best_step)
            problem = checkpoint.check(best)
            if problem:
                raise UserError(
                    f"{best}, the best checkpoint so far, is damaged: {problem}. Without it the run cannot end as it "
                    "would have; start it anew with force=true."
                )
        self.events.write("resumed", step=self.at.step, epoch=self.at.epoch)
        self.console.print(f"Resuming at step {self.at.step} of {self.total_steps} (epoch {self.at.epoch + 1}).")
