"""Callbacks of the training loop, as named entries of ``train.callbacks``."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rrsis_bench.config.entries import Entries, option
from rrsis_bench.interfaces import Segmenter


class Callback:
    """Base class of callbacks. A subclass overrides what it needs.

    Args:
        model: the model in training, on its device, with frozen parameters marked.
    """

    def __init__(self, model: Segmenter):
        self.model = model

    def after_step(self) -> None:
        """Act after every optimiser step."""

    def evaluated(self, model: Segmenter) -> Segmenter:
        """Return the model that is validated, selected and saved in place of `model`, with the same state dict keys.

        Its weights are saved by the loop and are back when `load_state_dict` is called.
        """
        return model

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a resumed run needs beside the weights of `evaluated`."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""


CALLBACKS = Entries[Callback]("train.callbacks")


@CALLBACKS.add("ema")
class WeightAverage(Callback):
    """Exponential moving average of the weights; buffers are copied.

    The average starts from the weights after the first step.
    """

    def __init__(
        self,
        model: Segmenter,
        *,
        decay: Annotated[float, option("Weight of the old average in every step.", at_least=0, below=1)] = 0.999,
    ):
        super().__init__(model)
        average = get_ema_multi_avg_fn(decay)
        self.average = AveragedModel(model, multi_avg_fn=average)

    def after_step(self) -> None:
        """Update the average."""
        self.average.update_parameters(self.model)

    def evaluated(self, model: Segmenter) -> Segmenter:  # noqa: ARG002 - the average replaces it
        """Return the averaged model."""
        averaged = self.average.module
        assert isinstance(averaged, Segmenter)
        return averaged

    def state_dict(self) -> dict[str, Tensor]:
        """Return the number of updates."""
        return {"n_averaged": self.average.n_averaged}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the number of updates."""
        self.average.n_averaged.copy_(state["n_averaged"])
