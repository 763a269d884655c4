"""Scores as they are stored in a record, and the classes by which samples are grouped.

None (``null``, an empty cell) means "not measured" or "not defined", never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rrsis_bench import codec
from rrsis_bench.eval.counts import SampleCounts

UNMATCHED = "(unmatched)"
"""The group of samples without a category."""

NO_TARGET = "no_target"
"""The size class of samples with an empty target, and the class of those whose expression denotes no object."""

TARGET_CLASSES = ("single", "multi", NO_TARGET, "unknown")
"""Classes of samples by the number of objects that the expression denotes: one, several, none, not known."""

SIZE_CLASSES: dict[str, tuple[str, ...]] = {
    # COCO's areas (Lin et al., ECCV 2014): below 32 x 32, below 96 x 96, above; native pixels.
    "pixels": ("small", "medium", "large", NO_TARGET),
    # Share of the image, a decade each: comparable between datasets of different image sizes.
    "share": ("<0.1%", "0.1-1%", "1-10%", ">=10%", NO_TARGET),
}
_PIXEL_BOUNDS = (32 * 32, 96 * 96)
_SHARE_BOUNDS = (1000, 100, 10)  # one part in so many of the image

CONTROLS = ("shuffled_text", "same_image_other_expression", "category_only")
"""Language controls: the true targets scored against predictions for a wrong or a reduced expression."""


@dataclass(frozen=True, slots=True)
class Score:
    """One metric's value in the metric's unit, with its 95% bootstrap interval (clustered by image)."""

    value: float | None
    lo: float | None = None
    hi: float | None = None

    @property
    def text(self) -> str:
        """The value with its interval, such as ``55.2 (52.4 to 58.0)``; empty if it was not measured."""
        if self.value is None:
            return ""
        return f"{self.value:.1f}" + (
            "" if self.lo is None or self.hi is None else f" ({self.lo:.1f} to {self.hi:.1f})"
        )


@dataclass(frozen=True, slots=True)
class ScoreSet:
    """Scores of some samples: the whole split, a category, a size class, a language or a number of targets.

    Attributes:
        n: samples.
        n_targeted: samples with a target that is not empty.
        intersection: pixels, summed.
        union: pixels, summed.
        scores: name of a metric in `rrsis_bench.eval.metrics.METRICS` -> its score.
    """

    n: int
    n_targeted: int
    intersection: int
    union: int
    scores: dict[str, Score] = field(default_factory=dict)

    def value(self, metric: str) -> float | None:
        """Return the value of a metric; None if it was not measured."""
        return self.scores[metric].value if metric in self.scores else None


@dataclass(frozen=True, slots=True)
class ControlScores:
    """Scores of one language control, over the `n` samples for which the control exists."""

    n: int
    scores: dict[str, Score]


@dataclass(frozen=True, slots=True)
class ProbeGroup:
    """Figures of a probe over some of its cases: a category, a turn of the image, an axis."""

    n: int
    scores: dict[str, Score]


@dataclass(frozen=True, slots=True)
class ProbeScores:
    """Figures of one probe, in percent.

    Attributes:
        n: cases that were compared.
        refused: reason -> samples that could not be used.
        predictions: distinct inputs that the probe needed beyond those of the split.
        scores: figure -> mean over the cases.
        groups: name of a group -> its figures.
        notes: what a reader must know.
    """

    n: int
    refused: dict[str, int]
    predictions: int
    scores: dict[str, Score]
    groups: dict[str, ProbeGroup] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The cost of the evaluated model."""

    params_total: int | None = None
    params_trainable: int | None = None
    gflops: float | None = None  # one forward pass, 1 multiply-accumulate = 2 operations
    gflops_batch: int | None = None  # batch size that `gflops` covers
    input_size: dict[str, int] | None = None  # view -> side in pixels
    latency_ms: float | None = None  # median per batch
    fps: float | None = None  # samples per second at the median latency
    batch: int | None = None  # batch size of latency, fps and memory
    device: str | None = None
    precision: str | None = None
    peak_mem_gb: float | None = None  # 1 GB = 2^30 bytes
    latency_amp_ms: float | None = codec.optional()  # the same under bfloat16 autocast, if the device computes in it


def category_class(row: SampleCounts) -> str:
    """Return the category of a sample, `UNMATCHED` if it has none."""
    return UNMATCHED if row.category is None else row.category


def target_class(n_targets: int | None) -> str:
    """Return the class of a sample in `TARGET_CLASSES` by the number of objects that its expression denotes."""
    single, multi, none, unknown = TARGET_CLASSES
    if n_targets is None:
        return unknown
    return none if n_targets == 0 else single if n_targets == 1 else multi


def size_class(row: SampleCounts, scheme: str) -> str:
    """Return the class of a sample's target by its native area, in the scheme ``pixels`` or ``share``."""
    area, names = row.native_area, SIZE_CLASSES[scheme]
    if area == 0:
        return NO_TARGET
    if scheme == "pixels":
        return names[sum(area >= bound for bound in _PIXEL_BOUNDS)]
    return names[sum(area * parts >= row.height * row.width for parts in _SHARE_BOUNDS)]
