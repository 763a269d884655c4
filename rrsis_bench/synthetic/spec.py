"""What a synthetic data set is made of: its counts, size, seed and options, and the vocabulary of its scenes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rrsis_bench.data.formats import SPLITS
from rrsis_bench.data.text.language import LANGUAGES
from rrsis_bench.errors import UserError

# Raised whenever the same spec would give other bytes: a cache written by another version is not this data set.
GENERATOR_VERSION = 1


@dataclass(frozen=True)
class SceneSpec:
    """Everything that decides the bytes of a synthetic data set.

    Attributes:
        train: scenes of the training split.
        val: scenes of the validation split.
        test: scenes of the test split.
        size: side of the square images in pixels.
        expressions_per_image: referring expressions per scene, each of which becomes one sample.
        seed: scenes of one split depend on (seed, split, index) and on nothing else.
        multi_target: share of expressions that denote several objects; their mask is the union.
        no_target: share of expressions that no object of the scene satisfies; their mask is empty.
        languages: languages of the expressions, drawn per expression with equal chances.
        object_scale: lengths of objects, as a share of the default's. Below 1 a scene has more objects, a few of them
            stay large, and no object shrinks below what its shape needs to be recognised (see `stage.Kind.least`).
    """

    train: int
    val: int
    test: int
    size: int
    expressions_per_image: int
    seed: int
    multi_target: float = 0.0
    no_target: float = 0.0
    languages: tuple[str, ...] = ("en",)
    object_scale: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that no scene can be made from.

        Raises:
            UserError: naming the field and what it may be.
        """
        for name in SPLITS:
            if getattr(self, name) < 0:
                raise UserError(f"synthetic scenes: {name} is {getattr(self, name)}; give 0 or more scenes.")
        if not 96 <= self.size <= 1024:
            raise UserError(f"synthetic scenes: size is {self.size} px; give 96 to 1024.")
        if not 1 <= self.expressions_per_image <= 6:
            raise UserError(
                f"synthetic scenes: expressions_per_image is {self.expressions_per_image}; give 1 to 6, "
                "more than a scene of three to six objects allows without repeating itself are not made."
            )
        if self.seed < 0:
            raise UserError(f"synthetic scenes: seed is {self.seed}; give 0 or a positive number.")
        for name in ("multi_target", "no_target"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"synthetic scenes: {name} is {getattr(self, name)}; give a share between 0 and 1.")
        if self.multi_target + self.no_target > 1.0:
            raise UserError("synthetic scenes: multi_target and no_target together exceed 1; lower one of them.")
        unknown = [language for language in self.languages if language not in LANGUAGES]
        if unknown or not self.languages:
            raise UserError(f"synthetic scenes: languages is {self.languages}; choose from {', '.join(LANGUAGES)}.")
        if not 0.2 <= self.object_scale <= 1.0:
            raise UserError(
                f"synthetic scenes: object_scale is {self.object_scale}; give a share between 0.2 and 1, "
                "1 for objects of the default's size."
            )

    def scenes(self, split: str) -> int:
        """Return the number of scenes of `split`; raises UserError for another name than train, val or test."""
        if split not in SPLITS:
            raise UserError(f"synthetic scenes: no split named {split!r}; choose from {', '.join(SPLITS)}.")
        return int(getattr(self, split))

    def options(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values.

        ``object_scale`` is left out at 1, where it changes nothing: caches written before it existed stay what they
        are.
        """
        values = {**asdict(self), "languages": list(self.languages)}
        if self.object_scale == 1.0:
            del values["object_scale"]
        return values

    def to_json(self, fmt: str) -> dict[str, Any]:
        """Return what a cache is recognised by: the fields, the format and the generator's version."""
        return {"generator_version": GENERATOR_VERSION, "format": fmt, **self.options()}


DEFAULT_SPEC = SceneSpec(train=1200, val=60, test=150, size=192, expressions_per_image=3, seed=0)
