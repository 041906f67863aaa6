"""Intervals of the measures of faithfulness: what other queries might have given.

Pairs of one query are masked versions of one image and no independent trials, so
queries are drawn, not pairs. As in :mod:`fiftyone_sfam.audit.statistics.bootstrap` each
draw is made from the queries and two imagined ones; a margin has no natural ends, so
these are the lowest and the highest query that was seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.statistics.bootstrap import (
    QUANTILES,
    RESAMPLES,
    Estimate,
    around,
    draw,
)

# Below this many queries no interval is given.
FEWEST = 5


def mean_estimate(
    values: NDArray[np.floating],
    queries: NDArray[np.integer],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate the mean of what pairs have."""
    return ratio_estimate(values, np.ones(len(values)), queries, resamples, seed)


def ratio_estimate(
    values: NDArray[np.floating],
    others: NDArray[np.floating],
    queries: NDArray[np.integer],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate the ratio of two sums over pairs."""
    names, place = np.unique(np.asarray(queries), return_inverse=True)
    sums = np.stack(
        [
            np.bincount(place, np.asarray(one, np.float64), len(names))
            for one in (values, others)
        ]
    )
    whole = sums.sum(axis=1)
    if len(names) == 0 or whole[1] <= 0:
        return Estimate()
    value = float(whole[0] / whole[1])
    if len(names) < FEWEST:
        return Estimate(value)
    gain = sums[0] - value * sums[1]
    pool = np.concatenate([sums, sums[:, [gain.argmin(), gain.argmax()]]], axis=1)
    drawn = draw(len(names), resamples, np.random.default_rng(seed))
    found = drawn.astype(np.float64) @ pool.T
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(found[:, 1] > 0, found[:, 0] / found[:, 1], np.inf)
    low, high = np.quantile(ratios, QUANTILES, method="nearest")
    return around(value, float(low), float(high))
