"""Side maps are supervised by the mask with their weights."""

from __future__ import annotations

import pytest
import torch

from rrsis_bench.data.loading.reader import BatchReader
from rrsis_bench.train.optim import build_optimizer
from tests.fakes.toy import Toy, make_trainer


class WithSides(Toy):
    """The toy with a main weight and two side maps of other sizes."""

    def forward(self, views, text):
        output = super().forward(views, text)
        output.main_weight = 0.7
        output.side_logits = {
            "half": (0.1, output.logits[:, ::2, ::2] * 2),
            "quarter": (0.2, output.logits[:, ::4, ::4]),
        }
        return output


def test_the_loss_is_the_weighted_sum(fake_root, tmp_path) -> None:
    torch.manual_seed(0)
    trainer = make_trainer(fake_root, tmp_path, model=WithSides())
    with BatchReader(trainer.data, 2, [0, 1], num_workers=0, pin_memory=False, timeout=0) as batches:
        batch = next(iter(batches))
    with torch.no_grad():
        logits = Toy.forward(trainer.raw_model, batch.views, batch.text).logits
        target = batch.target_BSS
        wanted = 0.7 * trainer.loss(logits, target)
        wanted += 0.1 * trainer.loss(logits[:, ::2, ::2] * 2, target) + 0.2 * trainer.loss(logits[:, ::4, ::4], target)
        assert float(trainer._loss(batch, [batch])) == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize("eps", [None, 1e-13])
def test_eps_of_adamw(eps) -> None:
    entry = {"name": "adamw", "lr": 1e-3} | ({} if eps is None else {"eps": eps})
    optimizer = build_optimizer(Toy(), entry)
    assert {group["eps"] for group in optimizer.param_groups} == {1e-8 if eps is None else eps}


def test_adams_step_does_not_depend_on_the_losss_scale_if_eps_follows_it() -> None:
    """A mean over 102,400 pixels instead of their sum moves weights alike only with an eps as much smaller."""
    steps = {}
    for scale, eps in ((1.0, 1e-8), (1 / 102_400, 1e-8), (1 / 102_400, 1e-13)):
        torch.manual_seed(0)
        model = Toy()
        optimizer = build_optimizer(model, {"name": "adamw", "lr": 1e-3, "eps": eps})
        before = model.head.weight.detach().clone()
        (model.head.weight.sum() * 1e-4 * scale).backward()
        optimizer.step()
        steps[scale, eps] = float((model.head.weight.detach() - before).mean())
    assert steps[1 / 102_400, 1e-13] == pytest.approx(steps[1.0, 1e-8], rel=1e-3)
    assert abs(steps[1 / 102_400, 1e-8]) < 0.2 * abs(steps[1.0, 1e-8])
