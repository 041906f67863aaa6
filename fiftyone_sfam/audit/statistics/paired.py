"""Differences of two rankings of the same queries, with paired intervals.

A draw takes the same queries for both, as :mod:`.bootstrap` does for one: what makes a
query hard for both cancels, so the interval of a difference is much narrower than those
of the two figures suggest. Differences are the second less the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.statistics.bootstrap import (
    FEWEST,
    NAN,
    QUANTILES,
    Estimate,
    around,
    binned_equal_errors,
    binned_true_accepts,
    mean_estimates,
    resampled_sums,
    with_imagined,
)

Comparisons = tuple[NDArray[np.integer], NDArray[np.integer]]
"""Each query's genuine and impostor comparisons per bin of the score, shape (Q, B)."""


def mean_differences(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    resamples: int,
    seed: int,
) -> list[Estimate]:
    """Estimate mean differences of figures in [0, 1] that each query has, (F, Q).

    The two imagined queries of the interval are the most that one can lose and gain.
    """
    halved = mean_estimates((second - first + 1) / 2, resamples, seed)
    return [Estimate(*(2 * end - 1 for end in vars(one).values())) for one in halved]


def rate_differences(
    first: Comparisons,
    second: Comparisons,
    values: Sequence[float],
    fars: Sequence[float],
    resamples: int,
    seed: int,
) -> list[Estimate]:
    """Put intervals around differences of the equal error and of accepts at rates.

    ``values`` are the exact differences: of the equal error rate, then of the share of
    genuine pairs accepted at each of ``fars``. The imagined queries have no impostor
    comparisons for the latter: all wrong, one of them alone would use up a low rate.
    """
    if any(table.sum() == 0 for table in (*first, *second)):
        return [Estimate(value) for value in values]
    pools = [with_imagined(*first), with_imagined(*second)]
    # An imagined query is all right in the one and all wrong in the other.
    pools[1][-2:] = pools[1][-2:][::-1].copy()
    pools += [np.pad(table, ((0, 2), (0, 0))) for _, table in (first, second)]
    count = len(first[0])
    columns = np.concatenate(pools, axis=1).astype(np.float32)
    sums = resampled_sums(columns, count, resamples, seed)
    genuine, impostor, other_genuine, other_impostor, *plain = np.split(sums, 6, axis=1)
    draws = [
        binned_equal_errors(other_genuine, other_impostor)
        - binned_equal_errors(genuine, impostor)
    ]
    draws += [
        binned_true_accepts(other_genuine, plain[1], far)
        - binned_true_accepts(genuine, plain[0], far)
        for far in fars
    ]
    estimates = []
    for value, drawn in zip(values, draws, strict=True):
        low, high = np.nanquantile(drawn, QUANTILES)
        estimates.append(around(value, float(low), float(high)))
    return estimates


def share_differences(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    wholes: NDArray[np.float64],
    resamples: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Compare the shares of K parts in two wholes, with simultaneous 95 % intervals.

    ``first`` and ``second`` are what each query's parts carry, shape (Q, K), and
    ``wholes`` each query's wholes, shape (Q, 2). A share is a ratio of sums over
    queries. In 95 % of the draws, *all* K differences are within their intervals (the
    largest deviation in standard errors, as in P. H. Westfall and S. S. Young,
    "Resampling-Based Multiple Testing", 1993), so K does not make one stand out by
    chance.

    Returns the shares, shape (2, K), and the ends of the intervals of the differences,
    shape (K,): NaN below :data:`.FEWEST` queries, or if a whole is not positive.
    """
    parts = first.shape[1]
    columns = np.concatenate([first, second, wholes], axis=1)

    def shares(sums: NDArray[np.floating]) -> NDArray[np.float64]:
        wholes_of = np.where(sums[:, -2:] > 0, sums[:, -2:], NAN)
        pairs = sums[:, :-2].reshape(len(sums), 2, parts)
        return np.asarray(pairs / wholes_of[:, :, None])

    value = shares(columns.sum(axis=0, keepdims=True))[0]
    unknown = np.full(parts, NAN)
    if len(columns) < FEWEST or np.isnan(value).any():
        return value, unknown, unknown
    drawn = np.diff(
        shares(resampled_sums(columns, len(columns), resamples, seed)), axis=1
    )[:, 0]
    difference = value[1] - value[0]
    error = np.nanstd(drawn, axis=0)
    distance = np.divide(
        np.abs(drawn - difference), error, out=np.zeros_like(drawn), where=error > 1e-12
    )
    width = np.nanquantile(distance.max(axis=1), 0.95) * error
    return value, difference - width, difference + width
