"""The contract of a model: for ``rrsis-bench check``, before a run, and for the tests over all models."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from rrsis_bench import registry
from rrsis_bench.config.compose import compose_config
from rrsis_bench.config.schema import Config
from rrsis_bench.errors import UserError, reason
from rrsis_bench.interfaces import Segmenter, SegmenterOutput
from rrsis_bench.run.model import build_model

SIDE, TOKENS, WORDS = 64, 12, 200
"""Size of the check: pixels, tokens, and ids, which are below every vocabulary's size."""

Inputs = tuple[dict[str, Tensor], dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under check and the name of its files for messages."""

    model: Segmenter
    where: str

    def fail(self, text: str) -> UserError:
        """Return the error for a broken rule."""
        return UserError(f"{self.where}: {text}")

    def inputs(self, samples: int, seed: int = 0) -> Inputs:
        """Return views and text of a batch; samples differ in length, object and position."""
        return make_inputs(samples, self.model.views, self.model.max_tokens, seed)

    def forward(self, views: Mapping[str, Tensor], text: Mapping[str, Tensor]) -> Tensor:
        """Return the logits after a check of the output's form."""
        try:
            output = self.model(views, text)
        except UserError:
            raise
        except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
            raise self.fail(f"forward raises {type(error).__name__}: {reason(error)}.") from error
        samples = len(text["input_ids"])
        if not isinstance(output, SegmenterOutput):
            raise self.fail(f"forward returns a {type(output).__name__}. Return SegmenterOutput(logits).")
        logits = output.logits
        if not isinstance(logits, Tensor):
            raise self.fail(f"the logits are a {type(logits).__name__}. Return a tensor (B, h, w).")
        if logits.ndim != 3 or len(logits) != samples:
            raise self.fail(f"the logits have shape {tuple(logits.shape)}. Return ({samples}, h, w) for B={samples}.")
        if not logits.is_floating_point():
            raise self.fail(f"the logits are {logits.dtype}. Return floating-point logits, not masks.")
        if not bool(logits.isfinite().all()):
            raise self.fail("the logits hold NaN or infinity with its first weights.")
        return logits


def make_inputs(samples: int, views: Mapping[str, int], tokens: int, seed: int = 0) -> Inputs:
    """Return uint8 views (B, 3, S, S) and int64 text (B, L) with every mask that a model may ask for.

    Args:
        samples: B; each has another length, object and position.
        views: view name -> S in pixels.
        tokens: L.
        seed: of pixels and ids.
    """
    generator = torch.Generator().manual_seed(seed)
    images = {
        name: torch.randint(0, 256, (samples, 3, side, side), dtype=torch.uint8, generator=generator)
        for name, side in views.items()
    }
    ids = torch.randint(1, WORDS, (samples, tokens), generator=generator)
    masks = torch.zeros(5, samples, tokens, dtype=torch.int64)
    for row in range(samples):
        length = tokens - row % 4
        masks[0, row, :length] = 1
        masks[1, row, 1 + row % 3 : 3 + row % 3] = 1
        masks[2, row, 5 : 6 + row % 4] = 1
        masks[3, row, 1 : length - 1] = 1  # without the special tokens around the words
        masks[4, row, 2 : 2 + row % 3] = 1  # an expression may be without nouns
    keys = ("attention_mask", "object_mask", "position_mask", "word_mask", "noun_mask")
    text = dict(zip(keys, masks, strict=True))
    heads = torch.randint(0, tokens, (samples, tokens), generator=generator)
    return images, {"input_ids": ids, **text, "head_ids": heads}


def check_attributes(subject: Subject) -> None:
    """Check ``views`` and ``max_tokens``."""
    views, tokens = getattr(subject.model, "views", None), getattr(subject.model, "max_tokens", None)
    if not isinstance(views, Mapping) or not views:
        raise subject.fail("__init__ does not set self.views. Set it to name -> side, such as {'image': 480}.")
    for name, side in views.items():
        if type(side) is not int or side <= 0:
            raise subject.fail(f"self.views['{name}'] is {side!r}. It must be a side in pixels.")
    if type(tokens) is not int or tokens <= 0:
        raise subject.fail(f"self.max_tokens is {tokens!r}. __init__ must set it to the number of text tokens.")


def check_output(subject: Subject) -> None:
    """Check the form of the output, in training and in evaluation, for several samples and for one."""
    with torch.no_grad():
        for samples in (3, 1):
            subject.model.eval()
            subject.forward(*subject.inputs(samples))
        subject.model.train()
        subject.forward(*subject.inputs(3))


def check_gradients(subject: Subject) -> None:
    """Check that the logits reach every parameter but those that the class declares dead."""
    model = subject.model.train()
    model.zero_grad()
    subject.forward(*subject.inputs(3)).square().mean().backward()
    dead = {name for name, value in model.named_parameters() if value.requires_grad and value.grad is None}
    declared = {name for name, _ in model.named_parameters() if re.match(model.contract.dead_parameters, name)}
    if dead - declared:
        raise subject.fail(
            f"no gradient reaches {', '.join(sorted(dead - declared)[:5])}. Use the parameter, delete it, or declare "
            "it in the class's `contract`."
        )
    alive = {name for name, value in model.named_parameters() if value.grad is not None}
    if alive & declared:
        raise subject.fail(f"{sorted(alive & declared)[0]} is declared dead in `contract`, but a gradient reaches it.")


def check_batch(subject: Subject) -> None:
    """Check that a sample's logits do not depend on the other samples of its batch."""
    subject.model.double().eval()
    views, text = subject.inputs(4)
    with torch.no_grad():
        together = subject.forward(views, text)
        for row in range(4):
            alone = subject.forward(*({key: value[[row]] for key, value in part.items()} for part in (views, text)))
            if alone.shape[1:] != together.shape[1:] or not torch.allclose(together[[row]], alone, rtol=0, atol=1e-10):
                raise subject.fail("a sample's logits change with the other samples of its batch (in evaluation).")


def check_text(subject: Subject) -> None:
    """Check that another expression gives other logits."""
    subject.model.eval()
    views, text = subject.inputs(2)
    with torch.no_grad():
        before = subject.forward(views, text)
        after = subject.forward(views, {**text, "input_ids": text["input_ids"].flip(1)})
    if before.equal(after):
        raise subject.fail("the logits do not change with the text. forward must use text['input_ids'].")


def check_state(subject: Subject) -> None:
    """Check that a state dict holds all that the output depends on."""
    model = subject.model.eval()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
        other.load_state_dict(model.state_dict())
        again = Subject(other, subject.where).forward(*subject.inputs(2))
        if not again.equal(subject.forward(*subject.inputs(2))):
            raise subject.fail("the logits differ after its state dict was saved and loaded.")


def check_bf16(subject: Subject) -> None:
    """Check that it runs under autocast to bfloat16."""
    subject.model.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        subject.forward(*subject.inputs(2))


def check_compile(subject: Subject) -> None:
    """Check that torch.compile can trace it and gives the same logits; no code is generated."""
    model = subject.model.eval()
    with torch.no_grad():
        plain = subject.forward(*subject.inputs(2))
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="eager")
        try:
            traced = compiled(*subject.inputs(2)).logits
        except Exception as error:
            raise subject.fail(f"torch.compile cannot trace it: {reason(error)}.") from error
        finally:
            torch._dynamo.reset()
    if not torch.allclose(plain, traced, rtol=1e-4, atol=1e-4):
        raise subject.fail("torch.compile gives other logits.")


Check = Callable[[Subject], None]
BEFORE_A_RUN: tuple[Check, ...] = (check_attributes, check_output)
CHECKS: dict[str, Check] = {
    "views and max_tokens": check_attributes,
    "output (B, h, w), floating, finite": check_output,
    "gradients reach every parameter": check_gradients,
    "a sample is independent of its batch": check_batch,
    "the text changes the output": check_text,
    "state dict round trip": check_state,
    "bf16": check_bf16,
    "torch.compile": check_compile,
}


def configuration(name: str) -> Config:
    """Compose the smallest configuration of a model.

    Raises:
        UserError: its module or its yaml is missing, broken or names another model.
    """
    entry = registry.find(name)
    if not entry.conf.is_file():
        raise UserError(f"{entry.conf} is missing. Write it: name, card and args of the model '{name}'.")
    cls = registry.load_class(name)
    small = ("size=tiny", f"size.image={SIDE}", f"size.max_tokens={TOKENS}", *cls.contract.tiny_overrides)
    config = compose_config([f"model={name}", "data=custom", *small])
    if config.model.name != name:
        raise UserError(f"{entry.conf} has name: {config.model.name}. It must be '{name}', as the file's name.")
    return config


def build(name: str) -> Subject:
    """Build a model at the smallest size, with the same weights every time.

    Raises:
        UserError: as `configuration`; arguments that do not fit the constructor.
    """
    config = configuration(name)
    where = f"{registry.find(name).module} ({registry.find(name).conf})"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return Subject(build_model(config.model), where)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error


def run_checks(name: str) -> Iterator[tuple[str, str]]:
    """Yield (what was checked, what is wrong or an empty string). A model that cannot be built gives one failure."""
    try:
        build(name)
    except UserError as error:
        yield "yaml, module and constructor", str(error)
        return
    yield "yaml, module and constructor", ""
    for title, check in CHECKS.items():
        try:
            check(build(name))
        except UserError as error:
            yield title, str(error)
            if check in BEFORE_A_RUN:
                return  # the others would fail for the same reason
        else:
            yield title, ""


def require_contract(name: str) -> None:
    """Refuse a model whose form no run could use; some hundred milliseconds, once per process and class.

    Raises:
        UserError: the first broken rule.
    """
    _require(name, registry.load_class(name))


@cache
def _require(name: str, cls: type[Segmenter]) -> None:  # noqa: ARG001 - a class that was edited is checked again
    subject = build(name)
    with torch.random.fork_rng(devices=[]):
        for check in BEFORE_A_RUN:
            check(subject)
