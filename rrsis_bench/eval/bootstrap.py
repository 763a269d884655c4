"""95% percentile intervals by a bootstrap over images (Efron and Tibshirani, 1993, chapter 13).

Samples of one image are not independent, so images are resampled, each with all of its samples. Every metric here
is a ratio of two sums over samples, so a resample only needs the sums per image.
"""

# R = bootstrap replicates, K = images, M = summed quantities, P = ratios of a mean

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from rrsis_bench.eval.counts import Array

RESAMPLES = 10_000
LEVEL = 95.0
_CHUNK = 1 << 22  # drawn images per chunk: 32 MB of counts
_CACHED = 1 << 18  # drawn images at a time: counted in a core's cache

K = TypeVar("K")

Ratio = tuple[Array, Array]
"""Numerator and denominator per sample, (N,) each; the metric is sum over sum."""


def intervals(
    ratios: Mapping[K, Ratio],
    image_ids: Sequence[str],
    *,
    means: Mapping[K, Sequence[K]] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[K, tuple[float, float] | None]:
    """Percentile interval of each ratio of sums, resampling images with replacement.

    Args:
        ratios: metric -> (numerator, denominator) per sample.
        image_ids: the image of each sample.
        means: further metrics, each the mean of some of the ratios. A replicate's mean is over the ratios that it
            defines.
        resamples: bootstrap replicates.
        seed: of the generator; the same seed and data give the same interval.

    Returns:
        metric -> (low, high) in the units of the ratio; None if there are fewer than two images, or if the
        denominator is zero in every replicate.
    """
    index_N, n_images = clusters(image_ids)
    if n_images < 2 or not ratios:
        return dict.fromkeys([*ratios, *(means or ())])
    columns = [np.asarray(side, dtype=np.float64) for ratio in ratios.values() for side in ratio]
    sums_KM = np.stack([np.bincount(index_N, weights=column, minlength=n_images) for column in columns], axis=1)
    totals_RM = np.concatenate([times_RK @ sums_KM for times_RK in draws(n_images, resamples, seed)])
    tail = (100.0 - LEVEL) / 2
    out: dict[K, tuple[float, float] | None] = {}
    for position, name in enumerate(ratios):
        numerator_R, denominator_R = totals_RM[:, 2 * position], totals_RM[:, 2 * position + 1]
        defined = denominator_R > 0
        if not defined.any():
            out[name] = None
            continue
        low, high = np.percentile(numerator_R[defined] / denominator_R[defined], [tail, 100.0 - tail])
        out[name] = (float(low), float(high))
    places = {name: position for position, name in enumerate(ratios)}
    for name, parts in (means or {}).items():
        columns_P = [2 * places[part] for part in parts]
        up_RP, down_RP = totals_RM[:, columns_P], totals_RM[:, [column + 1 for column in columns_P]]
        known_RP = down_RP > 0
        ratio_RP = np.divide(up_RP, down_RP, out=np.zeros_like(up_RP), where=known_RP)
        known_R = known_RP.sum(1)
        mean_R = ratio_RP.sum(1)[known_R > 0] / known_R[known_R > 0]
        low, high = np.percentile(mean_R, [tail, 100.0 - tail]) if len(mean_R) else (np.nan, np.nan)
        out[name] = (float(low), float(high)) if len(mean_R) else None
    return out


def clusters(image_ids: Sequence[str]) -> tuple[Array, int]:
    """Number the images in order of first appearance: (N,) int64 indices and how many there are."""
    numbers: dict[str, int] = {}
    index_N = np.array([numbers.setdefault(image_id, len(numbers)) for image_id in image_ids], dtype=np.int64)
    return index_N, len(numbers)


def draws(n_images: int, resamples: int, seed: int = 0) -> Iterator[Array]:
    """Draw images with replacement; yield how often each one is drawn, in chunks of resamples.

    Args:
        n_images: K images; each resample draws K of them with replacement.
        resamples: how many resamples all chunks have together.
        seed: of the generator. Equal arguments give the same resamples.

    Yields:
        float64 (R, K); whole numbers, every row sums to K.
    """
    rng = np.random.default_rng(seed)
    per_chunk = max(1, _CHUNK // n_images)
    at_once = max(1, _CACHED // n_images)
    for start in range(0, resamples, per_chunk):
        size = min(per_chunk, resamples - start)
        times_RK = np.empty((size, n_images))
        for first in range(0, size, at_once):
            rows_RK = times_RK[first : first + at_once]
            drawn_RK = rng.integers(n_images, size=rows_RK.shape, dtype=np.int32)
            drawn_RK += (np.arange(len(rows_RK), dtype=np.int32) * n_images)[:, None]
            rows_RK[:] = np.bincount(drawn_RK.ravel(), minlength=rows_RK.size).reshape(rows_RK.shape)
        yield times_RK
