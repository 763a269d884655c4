"""The training loop: epochs over a seeded order, selection on val only, checkpoints that resume exactly."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from rrsis_bench.config.schema import TrainConfig, TrainerConfig
from rrsis_bench.console import Terminal
from rrsis_bench.data.loading.loader import ViewDataset
from rrsis_bench.data.loading.reader import BatchReader
from rrsis_bench.errors import UserError, is_out_of_memory
from rrsis_bench.files import write_text
from rrsis_bench.heartbeat import Heartbeat
from rrsis_bench.interfaces import Batch, ImageFirstSegmenter, Segmenter, distinct_images
from rrsis_bench.stop import Interrupted, StopRequest
from rrsis_bench.train import checkpoint, rng
from rrsis_bench.train.callbacks import CALLBACKS
from rrsis_bench.train.events import EventLog
from rrsis_bench.train.losses import SegmentationLoss
from rrsis_bench.train.optim import build_optimizer, freeze
from rrsis_bench.train.parallel import Parallel
from rrsis_bench.train.report import show_parts, show_warmup
from rrsis_bench.train.saving import TrainingCheckpoints, TrainState
from rrsis_bench.train.schedule import build_schedule
from rrsis_bench.train.sharding import apart, full, gathered
from rrsis_bench.world import World


class NonFiniteLoss(UserError):
    """The loss or a gradient is NaN or infinite; raised before the optimiser's step."""

    status = "nan"


class OutOfMemory(UserError):
    """The memory of the device ran out in a training step."""

    status = "oom"


def _line(*, epoch: float, epochs: float, loss: float, rate: float) -> str:
    return f"train epoch {epoch}/{epochs}  loss {loss:.4f}  {rate:.1f} samples/s"


class Trainer:
    """Trains one model on one split.

    Args:
        fabric: device, precision and processes; launched.
        model: the segmenter; moved to the device here.
        data: the training split as views.
        validate: called in eval mode; returns val metrics, the selection metric among them.
        selection_metric: key of `validate`'s result that picks the best checkpoint.
        recipe: the node ``train``.
        machine: the node ``trainer``.
        seed: orders the samples.
        run_dir: checkpoints go to ``run_dir/checkpoints``.
        identity: values that a checkpoint must carry to be resumed (the train hash).
        events: the run's log.
        stop: asks for an orderly stop on a signal.
        console: shows progress.

    Raises:
        UserError: the recipe does not fit the model, or the processes cannot share the samples; see `check_recipe` and
            `freeze`.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: Segmenter,
        data: ViewDataset,
        validate: Callable[[Segmenter], dict[str, float]],
        *,
        selection_metric: str,
        recipe: TrainConfig,
        machine: TrainerConfig,
        seed: int,
        run_dir: Path,
        identity: dict[str, str],
        events: EventLog,
        stop: StopRequest,
        console: Terminal,
    ):
        self.fabric, self.data, self.validate, self.seed = fabric, data, validate, seed
        self.recipe, self.machine = recipe, machine
        self.selection_metric, self.events, self.stop = selection_metric, events, stop
        self.console, self.run_dir, self.checkpoints = console, run_dir, run_dir / "checkpoints"
        freeze(model, recipe.freeze)
        self.raw_model = model
        self.world = World.of(fabric)
        sharded = self.world.size > 1 and machine.strategy == "fsdp"
        self.parallel = Parallel(fabric, model, seed, sharded=sharded)
        self.optimizer: Any
        if sharded:  # the optimiser gets the shares
            self.model = fabric.setup_module(model)
            self._raw_optimizer = build_optimizer(model, recipe.optimizer)
            self.optimizer = fabric.setup_optimizers(self._raw_optimizer)
        else:
            self._raw_optimizer = build_optimizer(model, recipe.optimizer)
            self.model, self.optimizer = fabric.setup(model, self._raw_optimizer)
        self.loss = SegmentationLoss(recipe.loss, align_corners=recipe.align_corners)
        self.callbacks = [make(model) for make in CALLBACKS.bind_all(recipe.callbacks)]
        self.saver = TrainingCheckpoints(
            run_dir,
            model,
            self.optimizer,
            self.callbacks,
            self.world,
            identity=identity,
            whole=machine.full_checkpoints,
            events=events,
            console=console,
        )
        self.batches = max(1, len(data) // recipe.batch_size)
        self._batch_size = min(recipe.batch_size, len(data)) if self.world.size > 1 else recipe.batch_size
        if self._batch_size % self.world.size:
            raise UserError(
                f"{len(data)} training samples are one batch, which {self.world.size} processes cannot share. Set "
                "trainer.devices to a number that divides it."
            )
        self.steps_per_epoch = -(-self.batches // recipe.accumulate)
        self.total_steps = self.steps_per_epoch * recipe.epochs
        self.state = TrainState()

    def fit(self) -> Path:
        """Train to the end, resuming from a checkpoint if there is one; return the best checkpoint's folder.

        Raises:
            NonFiniteLoss: the loss is NaN or infinite; nothing was updated with it.
            OutOfMemory: a step does not fit into memory.
            Interrupted: a signal asked for a stop; a checkpoint was written first.
        """
        with self.stop.deferred():
            best = self._fit()
        self.parallel.restore()
        return best

    def _fit(self) -> Path:
        show_parts(self.console, self.raw_model)
        show_warmup(self.console, self.recipe.schedule, self.total_steps)
        resumed = self.saver.resume()
        if resumed:
            self.state = resumed
            self.events.write("resumed", step=resumed.step, epoch=resumed.epoch)
            self.console.print(f"Resuming at step {resumed.step} of {self.total_steps} (epoch {resumed.epoch + 1}).")
        self._schedule = build_schedule(
            self._raw_optimizer, self.recipe.schedule, self.total_steps, step=self.state.step
        )
        started = time.perf_counter() - self.state.seconds
        heartbeat = Heartbeat(self.console, self.total_steps, self.state.step)
        with Progress(
            TextColumn("train", style="bold", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[info]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
        ) as progress:
            bar = progress.add_task("train", total=self.total_steps, completed=self.state.step, info="")
            for epoch in range(self.state.epoch, self.recipe.epochs):
                self._epoch(epoch, started, partial(progress.update, bar), heartbeat)
                self.state.epoch, self.state.batch = epoch + 1, 0
                if (epoch + 1) % self.recipe.eval_every == 0 or epoch + 1 == self.recipe.epochs:
                    self._select()
                self.state.seconds = time.perf_counter() - started
                self.saver.save(self.state)
        if self.state.best_step is None:
            raise UserError(f"No checkpoint of {self.run_dir} was ever validated. Delete the folder and start again.")
        return checkpoint.folder(self.checkpoints, self.state.best_step)

    def _epoch(self, epoch: int, started: float, show: Callable[..., None], heartbeat: Heartbeat) -> None:
        recipe, state = self.recipe, self.state
        self.model.train()
        self.data.set_epoch(epoch)
        order = self._order(epoch)[: self.batches * recipe.batch_size][state.batch * recipe.batch_size :]
        losses: list[float] = []
        parts: list[Batch] = []
        reader = BatchReader(
            self.data,
            self._batch_size // self.world.size,
            self.parallel.share_of(order, recipe.batch_size),
            num_workers=self.machine.num_workers,
            pin_memory=self.fabric.device.type == "cuda",
            timeout=self.machine.loader_timeout,
        )
        with reader as batches:
            for batch in batches:
                parts.append(batch)
                state.batch += 1
                first = (state.batch - 1) // recipe.accumulate * recipe.accumulate
                group = min(recipe.accumulate, self.batches - first)  # an epoch's last group may be smaller
                boundary = state.batch - first == group
                lr = self.optimizer.param_groups[0]["lr"]
                self.parallel.before_step(epoch, state.batch)
                try:
                    with self.fabric.no_backward_sync(self.model, enabled=not boundary):
                        loss = self._loss(batch, parts)
                        self.fabric.backward(loss / group)
                    losses.append(float(loss.detach()))
                    if not boundary:
                        continue
                    self.parallel.after_backward()
                    self._step(parts)
                except Exception as error:
                    if is_out_of_memory(error):
                        raise self._out_of_memory() from error
                    raise
                parts = []
                seconds = time.perf_counter() - started
                rate = state.step * recipe.batch_size * recipe.accumulate / max(seconds, 1e-9)
                if state.step % self.machine.log_every == 0:
                    mean = sum(losses) / len(losses)
                    self.events.write("train", step=state.step, loss=mean, lr=lr, samples_per_s=rate)
                    show(info=f"epoch {epoch + 1}/{recipe.epochs}  loss {mean:.4f}  {rate:.0f} samples/s")
                    losses = []
                show(completed=state.step)
                values = {"epoch": epoch + 1, "epochs": recipe.epochs, "loss": float(loss.detach()), "rate": rate}
                heartbeat.beat(state.step, partial(_line, **values))
                self._between_steps(started)

    def _order(self, epoch: int) -> list[int]:
        if not self.recipe.group_by_image:
            return rng.epoch_order(len(self.data), self.seed, epoch)
        images = [self.data.dataset[index].image_id for index in range(len(self.data))]
        return rng.image_order(images, self.seed, epoch)

    def _loss(self, batch: Batch, parts: list[Batch]) -> Tensor:
        device = self.fabric.device
        views = batch.views
        rows: tuple[Tensor, ...] = ()
        # Augmentation draws for every sample, so views of one augmented image differ.
        if isinstance(self.raw_model, ImageFirstSegmenter) and not self.data.augment:
            first, places = distinct_images([sample.image_id for sample in batch.samples])
            if len(first) < len(batch):
                views = {name: view[first] for name, view in views.items()}
                rows = (torch.tensor(places, device=device),)
        views = {name: view.to(device, non_blocking=True) for name, view in views.items()}
        text = {name: ids.to(device, non_blocking=True) for name, ids in batch.text.items()}
        output = self.model(views, text, *rows)
        whole = self.parallel.whole
        target_BSS = whole(batch.target_BSS.to(device))
        loss: Tensor = output.main_weight * self.loss(whole(output.logits), target_BSS)
        for weight, logits_Bhw in output.side_logits.values():
            loss = loss + weight * self.loss(whole(logits_Bhw), target_BSS)
        for auxiliary in output.aux_losses.values():
            loss = loss + self.parallel.mean(auxiliary)
        if not torch.isfinite(loss):
            self._abort_nonfinite("loss", float(loss.detach()), parts)
        return loss

    def _step(self, parts: list[Batch]) -> None:
        kinds = apart(parameter for parameter in self.raw_model.parameters() if parameter.grad is not None)
        norms = [full(torch.nn.utils.get_total_norm([p.grad for p in kind if p.grad is not None])) for kind in kinds]
        norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
        if not torch.isfinite(norm):  # checked before clipping, which would spread it over all gradients
            self._abort_nonfinite("gradient norm", float(norm), parts)
        if self.recipe.clip_norm is not None:
            for kind in kinds:
                torch.nn.utils.clip_grads_with_norm_(kind, self.recipe.clip_norm, norm)
        gradients = [[parameter.grad for parameter in kind] for kind in kinds]
        for kind in kinds:  # more than one: FSDP, and an optimiser takes a kind at a time
            for other in range(len(kinds)):
                for parameter, gradient in zip(kinds[other], gradients[other], strict=True):
                    parameter.grad = gradient if kinds[other] is kind else None
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._schedule.step()
        for callback in self.callbacks:
            callback.after_step()
        self.state.step += 1

    def _abort_nonfinite(self, quantity: str, value: float, parts: list[Batch]) -> None:
        """Stop before the update; the last checkpoint stays as it is."""
        mine = [sample.sample_id for batch in parts for sample in batch.samples]
        ids = [sample_id for share in self.world.gather(mine) for sample_id in share]
        norms = {
            name: float(full(parameter.grad.norm()))
            for name, parameter in self.raw_model.named_parameters()
            if parameter.grad is not None
        }
        report = self.run_dir / "nonfinite.json"
        step = self.state.step
        found = {"quantity": quantity, "value": str(value), "step": step, "sample_ids": ids, "grad_norms": norms}
        self.world.on_main(lambda: write_text(report, json.dumps(found)))
        self.events.write("nonfinite", quantity=quantity, sample_ids=ids)
        raise NonFiniteLoss(
            f"The {quantity} became {value} at step {step}, before the update. Samples of this step: "
            f"{', '.join(ids[:8])}{' ...' if len(ids) > 8 else ''} (all, with gradient norms, in {report}). "
            "Check these samples. A lower train.optimizer.lr or train.clip_norm=1 often helps."
        )

    def _out_of_memory(self) -> OutOfMemory:
        recipe = self.recipe
        self.events.write("oom", step=self.state.step, batch_size=recipe.batch_size)
        return OutOfMemory(
            f"The memory of {self.fabric.device.type} ran out at step {self.state.step} with train.batch_size="
            f"{recipe.batch_size}. The same effective batch needs less memory with train.batch_size="
            f"{max(1, recipe.batch_size // 2)} train.accumulate={2 * recipe.accumulate}. Other ways: "
            "trainer.precision=bf16-mixed, a smaller size=, and with SAM 2, CLIP and SigLIP 2 "
            "vision.checkpointing=true or text.checkpointing=true. Earlier checkpoints are kept."
        )

    def _between_steps(self, started: float) -> None:
        state, every = self.state, self.machine.checkpoint_every
        due = every and state.step % every == 0 and state.batch < self.batches
        state.seconds = time.perf_counter() - started
        signum = self.world.largest(self.stop.signum)  # a signal may reach some processes only
        if signum or due:
            self.saver.save(state)
        if signum:
            raise Interrupted(signum)

    def _select(self) -> None:
        state, model = self.state, self.saver.evaluated
        if self.world.size > 1:  # an interrupted validation is no moment for the processes to save together
            self._save_unvalidated()
        model.eval()
        try:
            with self.stop.immediate(), gathered(model):
                metrics = self.validate(model)
        except Interrupted:
            if self.world.size == 1:
                self._save_unvalidated()
            raise
        score = metrics[self.selection_metric]
        best = state.best_score is None or score > state.best_score
        if best:
            state.best_score, state.best_step = score, state.step
        state.history.append({"epoch": state.epoch, "step": state.step, **metrics})
        self.events.write("val", step=state.step, epoch=state.epoch, best=best, **metrics)
        numbers = "  ".join(f"{name} {value:.2f}" for name, value in metrics.items())
        self.console.print(f"epoch {state.epoch}/{self.recipe.epochs}  val {numbers}{'  *' if best else ''}")

    def _save_unvalidated(self) -> None:
        """Save an epoch that is trained, so that the resumed run has to do its validation only."""
        self.saver.save(dataclasses.replace(self.state, epoch=self.state.epoch - 1, batch=self.batches))
