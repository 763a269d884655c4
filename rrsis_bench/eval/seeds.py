"""The share of another seed in the difference of two rows, beside that of other images.

A bootstrap over images knows nothing of the training's randomness. With at least `MIN_SEEDS` seeds on both sides, the
test is hierarchical: a resample first draws each row's mean over seeds, then the images. Resampling three seeds would
understate their variance by a third, so the first level draws from Student's t instead. Its standard error and degrees
of freedom come from the deviations of the seeds, pooled over the compared rows. A row whose own deviation is larger
keeps it.
"""

# R = bootstrap replicates, M = rows

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rrsis_bench.eval.counts import Array

MIN_SEEDS = 3


def seed_errors(scores: Sequence[Sequence[float]]) -> tuple[Array, int]:
    """Return each row's standard error over seeds, and the degrees of freedom of all rows together.

    Args:
        scores: per row, its score under each seed.

    Returns:
        (M,) standard errors of the rows' means, NaN below `MIN_SEEDS` seeds, and the degrees of
        freedom, 0 if no row has enough.
    """
    enough = [np.asarray(row, dtype=np.float64) for row in scores if len(row) >= MIN_SEEDS]
    freedom = sum(len(row) - 1 for row in enough)
    if not freedom:
        return np.full(len(scores), np.nan), 0
    pooled = sum(float(((row - row.mean()) ** 2).sum()) for row in enough) / freedom
    errors = [
        np.sqrt(max(pooled, float(np.var(row, ddof=1))) / len(row)) if len(row) >= MIN_SEEDS else np.nan
        for row in scores
    ]
    return np.asarray(errors, dtype=np.float64), freedom


def seed_draws(errors_M: Array, freedom: int, resamples: int, rng: np.random.Generator) -> Array:
    """Draw the deviation of each row's mean over seeds: (R, M), NaN for rows without an error."""
    return rng.standard_t(max(freedom, 1), (resamples, len(errors_M))) * errors_M


def random_signs(resamples: int, rng: np.random.Generator) -> Array:
    """Draw -1 or 1, (R,): the test over images knows the size of a change, which is symmetric."""
    return rng.integers(2, size=resamples) * 2.0 - 1.0


def with_images(seeds_R: Array, t_R: Array, signs_R: Array, error: float) -> Array:
    """Return |change| of each resample, of seeds and images together.

    Args:
        seeds_R: change of the difference by the seeds.
        t_R: |t*| of the images.
        signs_R: of the images' change.
        error: standard error over images that `t_R` is in units of.
    """
    images_R = signs_R * t_R * error if error > 0 else np.zeros_like(t_R)
    return np.abs(seeds_R + images_R)
