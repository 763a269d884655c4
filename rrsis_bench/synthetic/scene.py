"""Render one scene: image, objects and referring expressions, from (seed, split, index) alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from rrsis_bench.data.formats import SPLITS
from rrsis_bench.errors import UserError
from rrsis_bench.synthetic.drawing.noise import noise_HW
from rrsis_bench.synthetic.language.expressions import Expression, write_expressions
from rrsis_bench.synthetic.language.semantics import SceneObject
from rrsis_bench.synthetic.places.places import DECK, Setting
from rrsis_bench.synthetic.places.stage import Stage
from rrsis_bench.synthetic.spec import SceneSpec

_ATTEMPTS = 60
# Objects of a scene at most: of the default's size, and of smaller ones.
_MOST, _MOST_SMALL = 7, 16


@dataclass(frozen=True)
class Scene:
    """One aerial scene.

    Attributes:
        image_HW3: uint8 RGB, before JPEG compression.
        objects: what expressions may denote.
        expressions: as many as the spec asks for.
    """

    image_HW3: np.ndarray
    objects: tuple[SceneObject, ...]
    expressions: tuple[Expression, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image_HW3.shape[0], self.image_HW3.shape[1]

    def target_HW(self, expression: Expression) -> np.ndarray:
        """Return bool (H, W): the union of the objects that `expression` denotes."""
        return union_HW([self.objects[index] for index in expression.targets], self.shape)


def union_HW(objects: Sequence[SceneObject], shape: tuple[int, ...]) -> np.ndarray:
    """Return bool (H, W): the union of the objects' masks."""
    out_HW = np.zeros(shape, bool)
    for item in objects:
        out_HW |= item.mask_HW
    return out_HW


def render_scene(spec: SceneSpec, split: str, index: int) -> Scene:
    """Render scene `index` of `split`; other scenes are not needed.

    Raises:
        UserError: for a split that does not exist, or where the options leave too little to say.
        IndexError: for an index outside the split.
    """
    stage, objects, expressions = lay_out(spec, split, index)
    return Scene(_develop(stage), objects, expressions)


def lay_out(spec: SceneSpec, split: str, index: int) -> tuple[Stage, tuple[SceneObject, ...], tuple[Expression, ...]]:
    """Return the stage of a scene, its objects and its expressions, before the photograph; errors as `render_scene`."""
    if not 0 <= index < spec.scenes(split):
        raise IndexError(f"split {split!r} has {spec.scenes(split)} scenes, there is no scene {index}")
    place = (spec.seed, SPLITS.index(split), index)
    setting = _setting(*place)
    most = _MOST if spec.object_scale == 1.0 else _MOST_SMALL
    for attempt in range(1, _ATTEMPTS + 1):
        rng = _generator(*place, attempt)
        stage = Stage(rng, spec.size, spec.object_scale)
        setting(stage)
        objects = tuple(stage.objects)
        if not 3 <= len(objects) <= most:
            continue
        expressions = write_expressions(objects, spec, rng)
        if expressions is not None:
            return stage, objects, expressions
    raise UserError(
        f"synthetic scenes: none of {_ATTEMPTS} layouts of {split} scene {index} offers what the spec asks for "
        f"(expressions_per_image={spec.expressions_per_image}, multi_target={spec.multi_target}). Lower one of them."
    )


def _generator(*words: int) -> np.random.Generator:
    """Return a generator of its own for each tuple of numbers."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def _setting(seed: int, split: int, index: int) -> Setting:
    """Deal the settings like cards: small splits have the same mixture, and hard layouts are not rarer."""
    deal, card = divmod(index, len(DECK))
    return DECK[int(_generator(seed, split, deal, 0).permutation(len(DECK))[card])]


def _develop(stage: Stage) -> np.ndarray:
    """Turn a stage into a photograph: light, haze, cast, optics and sensor noise; uint8 (H, W, 3)."""
    rng, size = stage.rng, stage.size
    grain_HW = noise_HW(rng, "mid", size, size) + noise_HW(rng, "fine", size, size)
    image_HW3 = stage.canvas.compose(stage.ground.rgb_HW3, grain_HW, stage.uniform(0.42, 0.62))
    # Light that falls off across the image, and the blue veil of the air.
    ramp = np.arange(size, dtype=np.float32) / np.float32(size) - np.float32(0.5)
    slope_x, slope_y = np.float32(stage.uniform(-0.1, 0.1)), np.float32(stage.uniform(-0.1, 0.1))
    light_HW1 = (np.float32(stage.uniform(0.94, 1.12)) + ramp * slope_x + (ramp * slope_y)[:, None])[..., None]
    haze = np.float32(stage.uniform(0.03, 0.18))
    gains = np.array([stage.uniform(0.96, 1.04), 1.0, stage.uniform(0.95, 1.05)], np.float32) * (np.float32(1) - haze)
    image_HW3 = image_HW3 * gains * light_HW1 + haze * np.array([184, 192, 200], np.float32)
    image = Image.fromarray(np.clip(image_HW3 + np.float32(0.5), 0, 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(stage.uniform(0.25, 0.6) * size / 192))
    strength = np.float32(stage.uniform(1.0, 3.0))
    speckle_HW3 = np.stack([noise_HW(rng, "fine", size, size) for _ in range(3)], axis=-1) * strength
    shot_HW3 = np.asarray(image).astype(np.float32) + speckle_HW3
    developed_HW3: np.ndarray = np.clip(shot_HW3 + np.float32(0.5), 0, 255).astype(np.uint8)
    return developed_HW3
