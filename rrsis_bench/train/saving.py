"""Progress of a training, and the checkpoints that hold it: the same files for any number of processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rrsis_bench.console import Terminal
from rrsis_bench.errors import UserError
from rrsis_bench.interfaces import Segmenter
from rrsis_bench.train import checkpoint, frozen, rng
from rrsis_bench.train.callbacks import Callback
from rrsis_bench.train.events import EventLog
from rrsis_bench.train.sharding import full
from rrsis_bench.world import World


@dataclass
class TrainState:
    """Progress of training; saved with every checkpoint."""

    epoch: int = 0
    batch: int = 0  # batches of `epoch` already done
    step: int = 0
    best_score: float | None = None
    best_step: int | None = None
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class TrainingCheckpoints:
    """Saves and resumes one training. All processes call every method; process 0 writes.

    Args:
        run_dir: checkpoints go to ``run_dir/checkpoints``.
        model: in training, set up.
        optimizer: of the model.
        callbacks: of the loop.
        world: the processes.
        identity: values that a checkpoint must carry to be resumed.
        whole: whether frozen parts are saved too.
        events: the run's log.
        console: shows notes.
    """

    def __init__(
        self,
        run_dir: Path,
        model: Segmenter,
        optimizer: torch.optim.Optimizer,
        callbacks: Sequence[Callback],
        world: World,
        *,
        identity: dict[str, str],
        whole: bool,
        events: EventLog,
        console: Terminal,
    ):
        self.folder = run_dir / "checkpoints"
        self._model, self._optimizer, self._callbacks, self._world = model, optimizer, callbacks, world
        self._identity, self._whole, self._events, self._console = identity, whole, events, console
        self._frozen: dict[str, frozen.Part] | None = None

    @property
    def evaluated(self) -> Segmenter:
        """The model that is validated, selected and saved: the trained one, or a callback's."""
        model = self._model
        for callback in self._callbacks:
            model = callback.evaluated(model)
        return model

    def save(self, state: TrainState) -> None:
        """Write a checkpoint, then delete those that are not needed."""
        evaluated = self.evaluated
        if self._frozen is None:  # computed once: it reads all frozen weights, which do not change
            self._frozen = {} if self._whole else frozen.describe(self._model)
        optimizer, rest = checkpoint.flatten_optimizer(self._optimizer)
        random_tensors, random_values = rng.get_state()
        models = {"model": evaluated}
        if evaluated is not self._model:
            models["training"] = self._model
        tensors = {
            part: model.state_dict() if self._whole else frozen.trainable_state(model) for part, model in models.items()
        }
        tensors |= {"optimizer": optimizer}
        tensors = {part: self._gathered(content) for part, content in tensors.items()}
        tensors["rng"] = random_tensors
        if self._callbacks:
            tensors["callbacks"] = {
                f"{place}.{key}": value
                for place, callback in enumerate(self._callbacks)
                for key, value in callback.state_dict().items()
            }
        values = {
            "progress": vars(state),
            "optimizer": rest,
            "rng": random_values,
            "identity": self._identity,
            "frozen": self._frozen,
        }

        def write() -> None:
            checkpoint.save(self.folder, state.step, tensors, values)
            checkpoint.prune(self.folder, keep=set() if state.best_step is None else {state.best_step})

        self._world.on_main(write)

    def _gathered(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return whole tensors, in process 0; others take part in gathering one at a time and keep nothing."""
        found = {}
        for name, tensor in tensors.items():
            whole = full(tensor)
            if self._world.is_main:
                found[name] = whole if whole is tensor else whole.cpu()
        return found

    def resume(self) -> TrainState | None:
        """Load the newest undamaged checkpoint into model, optimiser, callbacks and generators; None if there is none.

        Raises:
            UserError: it belongs to another run, its frozen parts have other weights, or the best one is damaged.
        """
        found = self._newest()
        if found is None:
            return None
        saved = found.state["identity"]
        differing = {key: value for key, value in self._identity.items() if saved.get(key) != value}
        if differing:
            lines = "; ".join(f"{key}: {saved.get(key)} there, {value} now" for key, value in differing.items())
            raise UserError(
                f"{found.path} belongs to another run ({lines}). Set another folder with runs=, or force=true to "
                "delete it and start again."
            )
        evaluated = self.evaluated
        frozen.load(evaluated, found)
        if evaluated is not self._model:
            frozen.load(self._model, found, part="training")
        checkpoint.restore_optimizer(self._optimizer, found.tensors["optimizer"], found.state["optimizer"])
        for place, callback in enumerate(self._callbacks):
            prefix = f"{place}."
            callback.load_state_dict(
                {
                    key.removeprefix(prefix): value
                    for key, value in found.tensors["callbacks"].items()
                    if key.startswith(prefix)
                }
            )
        rng.set_state(found.tensors["rng"], found.state["rng"])
        state = TrainState(**found.state["progress"])
        self._require_best(state)
        self._require_loaded(evaluated, found.tensors["model"])
        return state

    def _newest(self) -> checkpoint.Checkpoint | None:
        """Return the same checkpoint in every process; process 0 chooses it."""
        found: checkpoint.Checkpoint | None = None
        notes: list[str] = []
        with self._world.agreed():
            if self._world.is_main:
                found, notes = checkpoint.latest(self.folder)
        for note in notes:
            self._console.print(note, style="yellow")
            self._events.write("damaged_checkpoint", note=note)
        path = self._world.share(found.path if found else None)
        with self._world.agreed():
            if path is not None and found is None:
                found = checkpoint.load(path)
        return found

    def _require_best(self, state: TrainState) -> None:
        if state.best_step is None:
            return
        best = checkpoint.folder(self.folder, state.best_step)
        problem = self._world.decided(lambda: checkpoint.check(best))
        if problem:
            raise UserError(
                f"{best}, the best checkpoint so far, is damaged: {problem}. The run cannot select it any more. "
                "Start again with force=true."
            )

    def _require_loaded(self, model: Segmenter, saved: dict[str, Any]) -> None:
        """Compare the weights of several processes with the file that they were loaded from, bit for bit."""
        if self._world.size == 1:
            return
        loaded = model.state_dict()
        if frozen.tensors_sha256(loaded, list(saved)) != frozen.tensors_sha256(saved, list(saved)):
            raise UserError(
                f"The weights of process {self._world.rank} differ from the checkpoint that they were loaded from. "
                "Report this: rrsis-bench doctor prints the versions."
            )
