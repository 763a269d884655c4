"""Which rows of a table are significantly better than which: the paired test of `paired`, on mIoU, for all pairs.

All rows of a comparable group see the same resampled images, so their pairs cost one pass over the resamples. The p
of a group's pairs are corrected by Holm's method. Two rows with three seeds or more each are compared with the seeds'
share (`rrsis_bench.eval.seeds`), pooled over all such rows of the group. A p close to the level is computed again from
more resamples, so that a rank does not depend on the seed of the bootstrap.
"""

# M = rows of the table, P = pairs of rows, R = bootstrap replicates, K = images

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from rrsis_bench.errors import UserError
from rrsis_bench.eval.bootstrap import RESAMPLES, clusters, draws
from rrsis_bench.eval.counts import Array
from rrsis_bench.eval.metrics import score_samples
from rrsis_bench.eval.paired import MIN_IMAGES, holm, observed, p_value, studentised
from rrsis_bench.eval.seeds import random_signs, seed_draws, seed_errors
from rrsis_bench.results.record import store
from rrsis_bench.results.record.schema import Record

ALPHA = 0.05
_WORK = 10**11  # multiplications for one group; seconds. Longer tables get fewer resamples, never below the next line
_FEWEST = 1000
_TINY = 1e-12  # of a mean IoU in [0, 1]: below it, a difference is rounding
_NEAR = 3  # standard errors of a p within which it is close to the level
_ROUNDS = 2  # of four times as many resamples each
_BLOCK = 1 << 22  # replicates x pairs held at a time: 32 MB

Seeds = tuple[Record, ...]


def better(rows: Sequence[Seeds], root: Path) -> list[set[int]]:
    """For each row of a comparable group, which other rows are significantly better.

    Args:
        rows: the records of each row, one per seed, all scored.
        root: the leaderboards folder that holds their integers.

    Raises:
        UserError: the integers of a record are missing or damaged, or the rows do not have the same samples.
    """
    if len(rows) < 2:
        return [set() for _ in rows]
    files = tuple(
        tuple((store.record_path(root, r.data, r.model, r.run_id), r.counts.sha256 if r.counts else "") for r in row)
        for row in rows
    )
    beaten_by: list[set[int]] = [set() for _ in rows]
    for winner, loser in _significant(files):
        beaten_by[loser].add(winner)
    return beaten_by


@lru_cache(maxsize=64)
def _significant(files: tuple[tuple[tuple[Path, str], ...], ...]) -> list[tuple[int, int]]:
    """Pairs (better, worse) of rows; kept for the process, since a run shows a table that it has just written."""
    ids: list[str] = []
    images: list[str] = []
    iou_NM = []
    seed_means: list[list[float]] = []
    for row in files:
        seeds = []
        for path, _ in row:
            table = store.read_counts(path)
            order = sorted(range(len(table)), key=lambda index, table=table: table.rows[index].sample_id)  # type: ignore[misc]
            found = [table.rows[index].sample_id for index in order]
            if not ids:
                ids, images = found, [table.rows[index].image_id for index in order]
            elif found != ids:
                raise UserError(
                    f"{path} has other samples than {files[0][0][0]}, although both name the same dataset and split. "
                    "Evaluate one of them again on the same data."
                )
            seeds.append(score_samples(table, store.read(path).protocol).iou_N[order])
        iou_NM.append(np.mean(seeds, axis=0))
        seed_means.append([float(iou_N.mean()) for iou_N in seeds])
    adjusted, gaps = settled(np.stack(iou_NM, axis=1), images, seed_means)
    return [
        ((b, a) if gap > 0 else (a, b))
        for (a, b), gap, value in zip(_pairs(len(files)), gaps, adjusted, strict=True)
        if value is not None and value <= ALPHA
    ]


def settled(
    iou_NM: Array, image_ids: Sequence[str], seed_means: Sequence[Sequence[float]] = (), *, seed: int = 0
) -> tuple[list[float | None], list[float]]:
    """Return p after Holm's correction, and the difference, of every pair; arguments as in `compare_all`.

    A p within three of its own standard errors of the level is computed again from more resamples.
    """
    resamples = RESAMPLES
    p, gaps = compare_all(iou_NM, image_ids, seed_means, resamples=resamples, seed=seed)
    for more in range(_ROUNDS):
        if not _close_to_level(p, resamples):
            break
        resamples *= 4
        p, gaps = compare_all(iou_NM, image_ids, seed_means, resamples=resamples, seed=seed + 1 + more)
    return holm(p), gaps


def _close_to_level(p: Sequence[float | None], resamples: int) -> bool:
    for value, adjusted in zip(p, holm(p), strict=True):
        if value and adjusted is not None:
            error = adjusted / value * math.sqrt(value * (1 - value) / resamples)
            if abs(adjusted - ALPHA) <= _NEAR * error:
                return True
    return False


def compare_all(
    iou_NM: Array,
    image_ids: Sequence[str],
    seed_means: Sequence[Sequence[float]] = (),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[list[float | None], list[float]]:
    """The paired test of every pair of rows.

    Args:
        iou_NM: IoU of N samples under M rows, in [0, 1].
        image_ids: the image of each sample.
        seed_means: per row, the mean IoU of each of its seeds; left out: one training per row.
        resamples: bootstrap replicates; fewer if the table has so many rows that they would take minutes.
        seed: of the generator.

    Returns:
        p and the difference (the later row minus the earlier) of the pairs (0, 1), (0, 2), ..., (1, 2), ... ; p is None
        below two images.
    """
    index_N, n_images = clusters(image_ids)
    n_rows = iou_NM.shape[1]
    pairs = _pairs(n_rows)
    means_M = iou_NM.mean(axis=0)
    gap_P = np.array([means_M[b] - means_M[a] for a, b in pairs])
    if n_images < MIN_IMAGES:
        return [None] * len(pairs), gap_P.tolist()
    n_K = np.bincount(index_N, minlength=n_images).astype(np.float64)
    # Per image: the sum of IoU around the row's mean, so that products stay small and differences exact.
    centred = zip(iou_NM.T, means_M, strict=True)
    sums_KM = np.stack([np.bincount(index_N, iou_N - mean, n_images) for iou_N, mean in centred], axis=1)
    error_P = np.array([np.linalg.norm(sums_KM[:, b] - sums_KM[:, a]) / len(index_N) for a, b in pairs])
    t_P = np.array([observed(float(gap), float(error)) for gap, error in zip(gap_P, error_P, strict=True)])
    errors_M, freedom = seed_errors(seed_means or [()] * n_rows)
    hierarchical_P = np.array([np.isfinite(errors_M[a] + errors_M[b]) for a, b in pairs])
    resamples = min(resamples, max(_FEWEST, _WORK // (n_images * (len(pairs) + n_rows))))
    columns_KC = np.concatenate([sums_KM, sums_KM * n_K[:, None], sums_KM**2, np.stack([n_K, n_K**2], axis=1)], axis=1)
    beyond_P, finite_P, squares_P = (np.zeros(len(pairs)) for _ in range(3))
    rng = np.random.default_rng((seed, 1))
    step = max(1, _BLOCK // max(n_images, resamples))
    for times_RK in draws(n_images, resamples, seed):
        totals_RC = times_RK @ columns_KC
        seeds_RM, signs_R1 = (
            seed_draws(errors_M, freedom, len(times_RK), rng),
            random_signs(len(times_RK), rng)[:, None],
        )
        for start in range(0, len(pairs), step):
            some = slice(start, start + step)
            t_RP = _pair_t(times_RK, totals_RC, sums_KM, np.array(pairs[some]))
            finite_RP = np.isfinite(t_RP)
            a_P, b_P = np.array(pairs[some]).T
            change_RP = np.abs(
                seeds_RM[:, b_P] - seeds_RM[:, a_P] + signs_R1 * np.where(np.isfinite(t_RP), t_RP, 0.0) * error_P[some]
            )
            by_seeds_P = np.count_nonzero(change_RP >= np.abs(gap_P[some]) - _TINY, axis=0)
            by_images_P = np.count_nonzero(t_RP >= t_P[some], axis=0)
            beyond_P[some] += np.where(hierarchical_P[some], by_seeds_P, by_images_P)
            finite_P[some] += finite_RP.sum(axis=0)
            squares_P[some] += (np.where(finite_RP, t_RP, 0.0) ** 2).sum(axis=0)
    p: list[float | None] = [
        (1 + int(beyond)) / (1 + resamples)  # the normal tail that continues a p below it is not that of the seeds
        if hierarchical
        else p_value(int(beyond), resamples, float(t), math.sqrt(squares / finite) if finite else math.inf, n_images)
        for beyond, t, squares, finite, hierarchical in zip(
            beyond_P, t_P, squares_P, finite_P, hierarchical_P, strict=True
        )
    ]
    return p, gap_P.tolist()


def _pair_t(times_RK: Array, totals_RC: Array, sums_KM: Array, pairs_P2: Array) -> Array:
    """|t*| of pairs of rows in each resample; `totals_RC` are the sums of S, S n, S^2 (M columns each), n and n^2."""
    a_P, b_P = pairs_P2.T
    n_rows = sums_KM.shape[1]
    sum_RM, mixed_RM, square_RM = (totals_RC[:, part * n_rows : (part + 1) * n_rows] for part in range(3))
    n_R1, squared_R1 = totals_RC[:, -2:-1], totals_RC[:, -1:]
    change_RP = (sum_RM[:, b_P] - sum_RM[:, a_P]) / n_R1
    crossed_RP = times_RK @ (sums_KM[:, a_P] * sums_KM[:, b_P])
    variance_RP = square_RM[:, a_P] + square_RM[:, b_P] - 2 * crossed_RP
    variance_RP += change_RP * (change_RP * squared_R1 - 2 * (mixed_RM[:, b_P] - mixed_RM[:, a_P]))
    return studentised(change_RP, variance_RP / n_R1**2)


def _pairs(n: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(n) for b in range(a + 1, n)]
