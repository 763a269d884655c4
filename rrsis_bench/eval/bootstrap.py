"""95% percentile intervals by a bootstrap over images (Efron and Tibshirani, 1993, chapter 13).

Samples of one picture are not independent, so pictures are resampled, each with all of its samples. Every metric here
is a ratio of two sums over samples, so a resample only needs the sums per picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

RESAMPLES = 10_000
LEVEL = 95.0
_CHUNK = 1 << 21  # drawn pictures per chunk: 16 MB of counts

Ratio = tuple[np.ndarray, np.ndarray]
"""Numerator and denominator per sample, (N,) each; the metric is sum over sum."""


def intervals(
    ratios: Mapping[str, Ratio], image_ids: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float] | None]:
    """Percentile interval of each ratio of sums, resampling images with replacement.

    Args:
        ratios: metric -> (numerator, denominator) per sample.
        image_ids: the picture of each sample.
        resamples: bootstrap replicates.
        seed: of the generator; the same seed and data give the same interval.

    Returns:
        metric -> (low, high) in the units of the ratio; None where there are fewer than two pictures, or where the
        denominator is zero in every replicate.
    """
    index_N, n_images = _clusters(image_ids)
    if n_images < 2 or not ratios:
        return dict.fromkeys(ratios)
    columns = [np.asarray(side, dtype=np.float64) for ratio in ratios.values() for side in ratio]
    sums_KM = np.stack([np.bincount(index_N, weights=column, minlength=n_images) for column in columns], axis=1)
    totals_RM = _resampled_sums(sums_KM, resamples, np.random.default_rng(seed))
    tail = (100.0 - LEVEL) / 2
    out: dict[str, tuple[float, float] | None] = {}
    for position, name in enumerate(ratios):
        numerator_R, denominator_R = totals_RM[:, 2 * position], totals_RM[:, 2 * position + 1]
        defined = denominator_R > 0
        if not defined.any():
            out[name] = None
            continue
        low, high = np.percentile(numerator_R[defined] / denominator_R[defined], [tail, 100.0 - tail])
        out[name] = (float(low), float(high))
    return out


def _clusters(image_ids: Sequence[str]) -> tuple[np.ndarray, int]:
    """Number the pictures in order of first appearance: (N,) indices and how many there are."""
    numbers: dict[str, int] = {}
    index_N = np.array([numbers.setdefault(image_id, len(numbers)) for image_id in image_ids], dtype=np.int64)
    return index_N, len(numbers)


def _resampled_sums(sums_KM: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw K pictures with replacement `resamples` times; (resamples, M) sums over the drawn ones."""
    n_images = len(sums_KM)
    per_chunk = max(1, _CHUNK // n_images)
    chunks = []
    for start in range(0, resamples, per_chunk):
        size = min(per_chunk, resamples - start)
        drawn_RK = rng.integers(n_images, size=(size, n_images), dtype=np.int32)
        drawn_RK += (np.arange(size, dtype=np.int32) * n_images)[:, None]
        times_RK = np.bincount(drawn_RK.ravel(), minlength=size * n_images).reshape(size, n_images)
        chunks.append(times_RK.astype(np.float64) @ sums_KM)
    return np.concatenate(chunks)
