"""Augmentations of training samples, as named entries of ``train.augment``.

An augmentation gets the image, the mask, the expression and a generator, because a change of the image may change the
other two: a flip turns "the ship on the left" into "the ship on the right".
"""
# A = augmentations; N = samples.

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from rrsis_bench.config.entries import Entries, option


@dataclass(frozen=True, slots=True)
class Scene:
    """What an augmentation may change. It returns a new scene and leaves the arrays of the old one as they are.

    Attributes:
        image_HWC: uint8 (H, W, 3), RGB, at native size.
        mask_HW: bool (H, W) at native size, which may differ from the image's size.
        expression: the referring expression.
    """

    image_HWC: np.ndarray
    mask_HW: np.ndarray
    expression: str


@dataclass(frozen=True, slots=True)
class Augmentation:
    """One bound entry.

    Attributes:
        apply: the augmentation.
        share: share of the training samples that it may change.
    """

    apply: Callable[[Scene, np.random.Generator], Scene]
    share: float


def with_share(
    apply: Callable[[Scene, np.random.Generator], Scene],
    *,
    share: Annotated[
        float,
        option("Share of the training samples that are augmented: a random choice by the seed.", above=0, at_most=1),
    ] = 1.0,
) -> Augmentation:
    """Add the option that every augmentation has."""
    return Augmentation(apply, share)


AUGMENTATIONS = Entries[Augmentation]("train.augment", with_share)


@AUGMENTATIONS.add("black_boxes")
def black_boxes(scene: Scene, rng: np.random.Generator) -> Scene:
    """Paint 20 to 60 (included) black squares of 32 pixels at random places.

    RMSIN, FIANet, MAFN and RS2-SAM2 do this each time they load one of a fixed random 20% of the training references
    (``share: 0.2``), before resizing; no paper mentions it. An image smaller than a square turns black.
    """
    side = 32
    image_HWC = scene.image_HWC.copy()
    height, width = image_HWC.shape[:2]
    for _ in range(int(rng.integers(20, 61))):
        y = int(rng.integers(0, max(1, height - side + 1)))
        x = int(rng.integers(0, max(1, width - side + 1)))
        image_HWC[y : y + side, x : x + side] = 0
    return replace(scene, image_HWC=image_HWC)


_MIRRORED = {"left": "right", "right": "left", "east": "west", "west": "east"} | dict(
    zip("左右东西", "右左西东", strict=True)
)
_SIDES = re.compile(
    r"(?<![a-z])(north|south|)(left|right|east|west)(?=(?:most|ern|ward|wards|hand)?(?![a-z]))|[左右东西]",
    re.IGNORECASE,
)


def mirror_expression(expression: str) -> str:
    """Swap left and right, and east and west, in an English or Chinese expression.

    The words are swapped wherever they occur: "right" in the sense of "directly" is swapped too.
    """

    def swap(match: re.Match[str]) -> str:
        prefix, side = (match[1], match[2]) if match[2] else ("", match[0])
        other = _MIRRORED[side.lower()]
        if side.istitle():
            other = other.title()
        return prefix + (other.upper() if side.isupper() else other)

    return _SIDES.sub(swap, expression)


@AUGMENTATIONS.add("hflip")
def hflip(
    scene: Scene,
    rng: np.random.Generator,
    *,
    probability: Annotated[
        float, option("Probability of a flip, each time a sample is loaded.", above=0, at_most=1)
    ] = 0.5,
) -> Scene:
    """Mirror image and mask, and swap left and right in the expression."""
    if rng.random() >= probability:
        return scene
    return Scene(scene.image_HWC[:, ::-1], scene.mask_HW[:, ::-1], mirror_expression(scene.expression))


class Augmenter:
    """Applies the entries of ``train.augment`` in order, each to its own fixed random share of the samples.

    Args:
        entries: ``train.augment``.
        n: training samples.
        seed: the run's.

    Raises:
        UserError: see `Entries.bind`.
    """

    def __init__(self, entries: Iterable[Mapping[str, Any]], n: int, seed: int):
        bound = [augmentation() for augmentation in AUGMENTATIONS.bind_all(entries)]
        self._seed = seed
        self._apply = [augmentation.apply for augmentation in bound]
        self._chosen_AN = np.zeros((len(bound), n), dtype=bool)
        for place, augmentation in enumerate(bound):
            # Entropy [seed, 0xA06, 0] gives the same draws as [seed, 0xA06].
            order_N = np.random.default_rng([seed, 0xA06, place]).permutation(n)
            self._chosen_AN[place, order_N[: round(augmentation.share * n)]] = True

    def __bool__(self) -> bool:
        """Whether there is any augmentation."""
        return bool(self._apply)

    def applies_to(self, index: int) -> bool:
        """Whether sample `index` is ever augmented."""
        return bool(self._chosen_AN[:, index].any())

    def __call__(self, scene: Scene, index: int, epoch: int) -> Scene:
        """Augment sample `index`; the draws depend on (seed, epoch, index) alone."""
        rng = np.random.default_rng([self._seed, epoch, index])
        for apply, chosen in zip(self._apply, self._chosen_AN[:, index], strict=True):
            if chosen:
                scene = apply(scene, rng)
        return scene
