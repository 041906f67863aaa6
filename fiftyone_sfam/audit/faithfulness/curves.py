"""Curves of similarities while images are masked, and estimates of what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.statistics.bootstrap import (
    QUANTILES,
    RESAMPLES,
    Estimate,
    around,
    resampled_sums,
)

FEWEST = 5
"""Least number of queries for an interval."""


@dataclass(frozen=True)
class Curves:
    """Similarities of M pairs while one image, or both, are masked."""

    deletion: NDArray[np.float64]  # (M, T + 1)
    insertion: NDArray[np.float64]  # (M, T + 1)

    @property
    def margin(self) -> NDArray[np.float64]:
        """Area under insertion minus area under deletion, shape (M,).

        In units of the similarity. Larger is better; random orders have 0 on average.
        """
        return area(self.insertion) - area(self.deletion)


def area(curves: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the area under curves by the trapezoidal rule."""
    values = np.asarray(curves, dtype=np.float64)
    return np.asarray((values[..., 1:] + values[..., :-1]).mean(axis=-1) / 2)


def verification_accuracy(
    scores: NDArray[np.floating],
    genuine: NDArray[np.bool_],
    threshold: float,
) -> NDArray[np.float64]:
    """Return the balanced accuracy of a verification at each step, shape (T + 1,).

    The threshold is that of the original images.
    """
    accepted = np.asarray(scores) >= threshold
    right = accepted[genuine].mean(axis=0), 1 - accepted[~genuine].mean(axis=0)
    return np.asarray((right[0] + right[1]) / 2, dtype=np.float64)


def mean_estimate(
    values: NDArray[np.floating],
    queries: NDArray[np.integer],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate the mean of a figure of pairs."""
    return ratio_estimate(values, np.ones(len(values)), queries, resamples, seed)


def ratio_estimate(
    values: NDArray[np.floating],
    reference: NDArray[np.floating],
    queries: NDArray[np.integer],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate the ratio of two sums over pairs."""
    names, index = np.unique(np.asarray(queries), return_inverse=True)
    sums = np.stack(
        [
            np.bincount(index, np.asarray(column, np.float64), len(names))
            for column in (values, reference)
        ]
    )
    total = sums.sum(axis=1)
    if len(names) == 0 or total[1] <= 0:
        return Estimate()
    value = float(total[0] / total[1])
    if len(names) < FEWEST:
        return Estimate(value)
    gain = sums[0] - value * sums[1]
    pool = np.concatenate([sums, sums[:, [gain.argmin(), gain.argmax()]]], axis=1)
    drawn = resampled_sums(pool.T, len(names), resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(drawn[:, 1] > 0, drawn[:, 0] / drawn[:, 1], np.inf)
    low, high = np.quantile(ratios, QUANTILES, method="nearest")
    return around(value, float(low), float(high))


def decision_estimate(
    accepted: NDArray[np.floating],
    genuine: NDArray[np.bool_],
    queries: NDArray[np.integer],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate the area under the accuracy of a verification, over filled pixels.

    ``accepted`` has the share of acceptances of M pairs at each step, shape (M, T + 1).
    The accuracy is balanced, and the share of filled pixels goes from 0 to 1, so the
    area is a mean accuracy. As for shares, the draws include two imagined queries, all
    right and all wrong.
    """
    kinds = np.stack([genuine, ~genuine]).astype(np.float64)
    if not kinds.any(axis=1).all():
        return Estimate()
    right = area(np.where(genuine[:, None], accepted, 1 - np.asarray(accepted)))
    names, index = np.unique(np.asarray(queries), return_inverse=True)
    sums = np.stack(
        [
            np.bincount(index, values, len(names))
            for kind in kinds
            for values in (right * kind, kind)
        ],
        axis=1,
    )
    total = sums.sum(axis=0)
    value = float((total[0] / total[1] + total[2] / total[3]) / 2)
    if len(names) < FEWEST:
        return Estimate(value)
    counts = total[[1, 1, 3, 3]] / len(names)
    pool = np.concatenate([sums, [counts, counts * [0, 1, 0, 1]]])
    drawn = resampled_sums(pool, len(names), resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        areas = (drawn[:, 0] / drawn[:, 1] + drawn[:, 2] / drawn[:, 3]) / 2
    low, high = np.nanquantile(areas, QUANTILES)
    return around(value, float(low), float(high))
