"""The CNN and LSTM systems reproduce what their authors' TensorFlow graphs computed."""

from __future__ import annotations

import copy
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rrsis_bench import registry
from rrsis_bench.interfaces import SegmenterOutput
from tests.fakes.classic import ARGS, NAMES, Case, old_resize, relative_error, target
from tests.fakes.config import model_args

FOLDER = "RRSIS_CLASSIC_PARITY"
SMALL = {
    "rrn_small": "rrn",
    "cmpc_plus_small": "cmpc_plus",
    "cmpc_visual_small": "cmpc",
    "brinet_small": "brinet",
    "cmsa_small": "cmsa",
    "lscm_small": "lscm",
}
PAPER = {"rrn": "rrn", "cmpc_plus": "cmpc_plus", "brinet": "brinet", "cmsa": "cmsa", "lscm": "lscm"}
SIZES = {"cmsa_small": {"volume_widths": {"c4": 18, "c3": 15}, "attention_widths": {"c5": 14, "c4": 10, "c3": 6}}}
"""File -> arguments that the graph's own do not name."""
LEARNING_RATE, FLOOR, POWER = 2.5e-4, 1e-5, 0.9
DECAY_STEPS = {"brinet": 750_000}
DECAY = 5e-4


def build(case: Case, name: str, **sizes):
    args = {ours: case.sizes[theirs] for ours, theirs in ARGS[name].items() if theirs in case.sizes}
    model = case.build(name, **args, **sizes)
    return model, case.load(model, NAMES[name])


@pytest.fixture(params=SMALL, scope="module")
def small(request: pytest.FixtureRequest):
    case, name = Case.read(request.param), SMALL[request.param]
    return (case, name, *build(case, name, **SIZES.get(request.param, {})))


def run(model, case: Case, *indices: int) -> SegmenterOutput:
    maps, text = case.inputs(*indices, taps=model.taps)
    kind = next(model.parameters()).dtype
    return model.decode(model.project({tap: value.to(kind) for tap, value in maps.items()}), text)


def side_errors(output: SegmenterOutput, case: Case, rows: list[int]) -> dict[str, float]:
    return {
        side: relative_error(logits, case.expected[f"side_{side}"][rows])
        for side, (_, logits) in output.side_logits.items()
        if f"side_{side}" in case.expected  # CMPC+'s file at paper size has none
    }


def test_parameters_are_those_of_the_graph(small) -> None:
    case, _, model, found = small
    parameters = dict(model.named_parameters())
    assert sum(parameters[ours].numel() for ours in found.values()) == case.without_table + 60 * case.sizes["w_emb_dim"]
    tables = ("text_objseg/embedding", "text_objseg/Variable")
    shapes = [shape for name, shape in case.variables.items() if name not in tables]
    assert case.without_table == sum(int(np.prod(shape)) for shape in shapes)


def test_logits_and_side_maps_one_by_one_and_as_a_batch(small) -> None:
    case, _, model, _ = small
    rows = list(range(len(case.counts)))
    model.train()  # with side maps
    model.backbone.eval()
    with torch.no_grad():
        outputs = [(run(model, case, row), [row]) for row in rows] + [(run(model, case, *rows), rows)]
    for output, chosen in outputs:
        assert relative_error(output.logits, case.expected["logits"][chosen]) <= 1e-9
        errors = side_errors(output, case, chosen)
        assert {f"side_{side}" for side in errors} == {key for key in case.expected if re.fullmatch(r"side_c\d", key)}
        assert all(error <= 1e-9 for error in errors.values()), errors
    resized = old_resize(outputs[-1][0].logits)[:, ::3, ::3]
    assert relative_error(resized, case.expected["logits_resized_every_3rd"]) <= 1e-9
    model.eval()
    with torch.no_grad():
        assert run(model, case, 0).side_logits == {}


def test_float32_is_close(small) -> None:
    case, _, model, _ = small
    rows = list(range(len(case.counts)))
    model = copy.deepcopy(model).float().train()
    with torch.no_grad():
        output = run(model, case, *rows)
    assert relative_error(output.logits, case.expected["logits"]) <= 1e-4
    assert all(error <= 1e-4 for error in side_errors(output, case, rows).values())


def data_loss(name: str, output: SegmenterOutput, mask_1SS: Tensor) -> tuple[Tensor, Tensor]:
    """The authors' loss of the main map, and with the side maps: a sum over pixels."""

    def term(logits_1hw: Tensor) -> Tensor:
        if name == "brinet":
            return F.binary_cross_entropy_with_logits(logits_1hw, mask_1SS[:, ::8, ::8], reduction="sum")
        return F.binary_cross_entropy_with_logits(old_resize(logits_1hw), mask_1SS, reduction="sum")

    main = term(output.logits)
    sides = sum((weight * term(logits) for weight, logits in output.side_logits.values()), torch.zeros(()))
    return main, output.main_weight * main + sides


def test_gradients(small) -> None:
    case, name, model, found = small
    model.train()
    model.zero_grad(set_to_none=True)
    main, loss = data_loss(name, run(model, case, 0), target(0, case.sizes["H"], case.seeds[1]))
    loss.backward()
    assert float(main.detach()) == pytest.approx(case.expected["cls_loss"][0], rel=1e-9)
    parameters = dict(model.named_parameters())
    for theirs, (length, inner) in zip(
        case.expected["gradient_names"], case.expected["gradient_norm_and_dot"], strict=True
    ):
        parameter = parameters[found[str(theirs).removesuffix(":0")]]
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert float(gradient.norm()) == pytest.approx(length, rel=1e-9, abs=1e-9), theirs
        product = float((gradient * parameter.detach()).sum())
        assert product == pytest.approx(inner, rel=1e-9, abs=1e-9 * length * float(parameter.detach().norm()) + 1e-9)
    model.zero_grad(set_to_none=True)


def authors_step(case: Case, name: str, model, found: dict[str, str], moments: dict, step: int) -> tuple[float, ...]:
    """One step of the authors' Adam on sentence `step`; return the losses and the rate before it."""
    model.zero_grad(set_to_none=True)
    main, loss = data_loss(name, run(model, case, step), target(step, case.sizes["H"], case.seeds[1]))
    parameters = dict(model.named_parameters())
    decayed = [parameters[ours] for theirs, ours in found.items() if theirs.endswith("/DW")]
    penalty = DECAY * sum((weight.square().sum() for weight in decayed), torch.zeros(())) / 2
    cost = loss + penalty
    cost.backward()
    share = (1 - step / DECAY_STEPS.get(name, 800_000)) ** POWER
    rate = (LEARNING_RATE - FLOOR) * share + FLOOR
    factor = rate * (1 - 0.999 ** (step + 1)) ** 0.5 / (1 - 0.9 ** (step + 1))
    with torch.no_grad():
        for theirs, ours in found.items():
            parameter = parameters[ours]
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradient = gradient * 2 if "biases" in theirs else gradient
            first, second = moments.setdefault(ours, (torch.zeros_like(parameter), torch.zeros_like(parameter)))
            first.mul_(0.9).add_(gradient, alpha=0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            parameter -= factor * first / (second.sqrt() + 1e-8)
    return float(main.detach()), float(penalty.detach()), float(cost.detach()), rate


def test_three_training_steps_of_the_authors(small) -> None:
    case, name, model, found = small
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    moments: dict = {}
    for step, wanted in enumerate(case.expected["train_steps_cls_reg_cost_lr"]):
        assert authors_step(case, name, model, found, moments, step) == pytest.approx(wanted, rel=2e-6)
    with torch.no_grad():
        after = run(model, case, 0).logits
    model.load_state_dict(before)
    assert relative_error(after, case.expected["logits_after_training_text0"]) <= 1e-5


PARAMETERS = {
    "rrn": 71_872_661,
    "cmpc": 118_555_768,
    "cmpc_plus": 118_555_768,
    "brinet": 241_180_308,
    "cmsa": 83_113_528,
    "lscm": 127_911_265,
    "lstm_cnn": 65_670_161,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_paper_size_has_the_notes_parameters_to_the_unit(name: str) -> None:
    """ResNet-101 42,500,160, the authors' vocabulary of 12,112 words, and what their graph counts."""
    with torch.device("meta"):
        model = registry.load_class(name)(**model_args(name, "size=paper", "vision.weights=random"))
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]


def paper_case(name: str) -> Case:
    folder = os.environ.get(FOLDER)
    if folder is None:
        pytest.skip(f"set {FOLDER} to the folder of the golden files at paper size")
    return Case.read(name, Path(folder))


@pytest.mark.slow
@pytest.mark.parametrize("file", PAPER)
def test_paper_size(file: str) -> None:
    case, name = paper_case(file), PAPER[file]
    model, found = build(case, name)
    parameters = dict(model.named_parameters())
    table = parameters["words.embedding.weight"].numel()
    assert sum(parameters[ours].numel() for ours in found.values()) - table == case.without_table
    rows = list(range(len(case.counts)))
    model.train()
    with torch.no_grad():
        output = run(model, case, *rows)
        error64 = max(
            relative_error(output.logits, case.expected["logits"]), *side_errors(output, case, rows).values(), 0
        )
        error32 = relative_error(run(model.float(), case, *rows).logits, case.expected["logits"])
    print(f"{file}: float64 {error64:.2e}, float32 {error32:.2e}")
    assert error64 <= 1e-9
    assert error32 <= 1e-4
