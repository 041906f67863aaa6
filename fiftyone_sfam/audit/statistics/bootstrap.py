"""Equal error rates, and intervals by the bootstrap.

A pair is accepted from a threshold on. The false non-match rate (FNMR) is the share of
genuine pairs below it, the false match rate (FMR) the share of impostor pairs from it
on. At the equal error rate both are the same.

Queries are drawn again with replacement, many times, and the 2.5 % and 97.5 % quantiles
of the figure are its 95 % interval (B. Efron, "Bootstrap Methods: Another Look at the
Jackknife", 1979). All pairs of a query are drawn with it, as a cluster.

Taken literally, that gives one query, or ten that all succeed, an interval of no width.
So estimates draw from the queries and two imagined ones, one at each end of what a
query can be. For a share this is close to the interval of Agresti and Coull
("Approximate Is Better than Exact", 1998): ten successes of ten give 0.7 to 1, one of
one gives 0 to 1. With hundreds of queries it makes no difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.errors import DataError

RESAMPLES = 1000
"""Draws per interval."""

QUANTILES = (0.025, 0.975)

NAN = float("nan")
# Numbers drawn at once.
_DRAWN = 2**22
FEWEST = 5
"""Clusters below which a rank correlation or a share has no interval."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float = NAN
    low: float = NAN
    high: float = NAN


@dataclass(frozen=True)
class Correlation(Estimate):
    """A rank correlation (C. Spearman, 1904) and its 95 % interval, in [-1, 1]."""

    def __str__(self) -> str:
        return f"{self.value:.2f} (95 % interval {self.low:.2f} to {self.high:.2f})"


def draws(
    clusters: int, count: int, resamples: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Yield draws of ``count`` clusters with replacement, shape (some draws, count)."""
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWN // max(1, clusters))
    for start in range(0, resamples, at_once):
        yield generator.integers(0, clusters, (min(at_once, resamples - start), count))


def resampled_sums(
    values: NDArray[np.floating], count: int, resamples: int, seed: int
) -> NDArray[np.floating]:
    """Draw ``count`` rows with replacement and sum them, shape (resamples, columns)."""
    size = len(values)
    sums = []
    for chosen in draws(size, count, resamples, seed):
        chosen += np.arange(len(chosen))[:, None] * size
        times = np.bincount(chosen.ravel(), minlength=len(chosen) * size)
        sums.append(times.reshape(len(chosen), size).astype(values.dtype) @ values)
    return np.concatenate(sums)


def mean_estimates(
    values: NDArray[np.float64], resamples: int, seed: int
) -> list[Estimate]:
    """Estimate the means of figures in [0, 1] that each query has, shape (F, Q)."""
    count = values.shape[1]
    if count == 0:
        return [Estimate()] * len(values)
    ends = np.tile([0.0, 1.0], (len(values), 1))
    pool = np.concatenate([values, ends], axis=1).T
    means = resampled_sums(pool, count, resamples, seed) / count
    low, high = np.quantile(means, QUANTILES, axis=0)
    return [
        around(float(value), float(first), float(last))
        for value, first, last in zip(values.mean(axis=1), low, high, strict=True)
    ]


def equal_error_estimate(
    value: float,
    genuine: NDArray[np.integer],
    impostor: NDArray[np.integer],
    resamples: int,
    seed: int,
) -> Estimate:
    """Put an interval around an equal error rate.

    The draws compare rates in bins of the score, of each query's comparisons. The two
    imagined queries have as many comparisons as the average query; all of the first are
    right, all of the second are wrong.
    """
    if np.isnan(value) or genuine.sum() == 0 or impostor.sum() == 0:
        return Estimate()
    count, bins = genuine.shape
    pool = with_imagined(genuine, impostor)
    sums = resampled_sums(pool, count, resamples, seed)
    rates = binned_equal_errors(sums[:, :bins], sums[:, bins:])
    if np.isnan(rates).all():
        return Estimate(value, 0.0, 1.0)
    low, high = np.nanquantile(rates, QUANTILES)
    return around(value, float(low), float(high))


def with_imagined(
    genuine: NDArray[np.integer], impostor: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Join comparisons per bin, and append a query all right and one all wrong.

    Two tables of shape (Q, B) become one of shape (Q + 2, 2 B).
    """
    count, bins = genuine.shape
    pools = []
    for table, right in ((genuine, -1), (impostor, 0)):
        imagined = np.zeros((2, bins))
        imagined[0, right] = imagined[1, -1 - right] = table.sum() / count
        pools.append(np.concatenate([table, imagined]).astype(np.float32))
    return np.concatenate(pools, axis=1)


def rank_correlation(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    clusters: NDArray[np.integer],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Correlation:
    """Correlate the ranks of two columns, and draw their clusters for the interval."""
    names, place = np.unique(clusters, return_inverse=True)
    members = [np.flatnonzero(place == number) for number in range(len(names))]
    value = _spearman(first, second)
    if len(names) < FEWEST or np.isnan(value):
        return Correlation(value)
    values = []
    for drawn in draws(len(names), len(names), resamples, seed):
        for chosen in drawn.tolist():
            rows = np.concatenate([members[number] for number in chosen])
            values.append(_spearman(first[rows], second[rows]))
    low, high = np.nanquantile(values, QUANTILES)
    return Correlation(value, float(low), float(high))


def around(value: float, low: float, high: float) -> Estimate:
    """Return an estimate whose interval holds its value."""
    return Estimate(value, min(low, value), max(high, value))


def check_seed(seed: int) -> None:
    """Raise if no draw can begin with the seed."""
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise DataError(f"seed is {seed!r}; give a whole number of 0 or more.")


def _spearman(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return Spearman's rank correlation; NaN if a column is constant."""
    # A slow import, which only this function needs.
    from scipy import stats

    if len(first) < 2:
        return NAN
    # scipy's spearmanr also tests for significance, which costs most of its time.
    ranks = stats.rankdata(first), stats.rankdata(second)
    left, right = (column - column.mean() for column in ranks)
    length = math.sqrt(float(left @ left) * float(right @ right))
    return float(left @ right) / length if length > 0 else NAN


def equal_error(
    genuine: NDArray[np.floating],
    impostor: NDArray[np.floating],
    before: tuple[int, int] = (0, 0),
    totals: tuple[int, int] | None = None,
) -> tuple[float, float]:
    """Find the equal error rate and its threshold, the score where both are closest.

    The scores ascend. Only those around the threshold are needed: ``before`` are the
    genuine and impostor scores below them, ``totals`` all scores.
    """
    totals = totals or (len(genuine), len(impostor))
    if 0 in totals:
        return float("nan"), float("nan")
    thresholds = np.unique(np.concatenate([genuine, impostor]))
    refused = before[0] + np.searchsorted(genuine, thresholds)
    below = before[1] + np.searchsorted(impostor, thresholds)
    place, rate = closest((totals[1] - below) / totals[1], refused / totals[0])
    return rate, float(thresholds[place])


def closest(fmr: NDArray[np.float64], fnmr: NDArray[np.float64]) -> tuple[int, float]:
    """Return the first place where two error rates are closest, and their mean."""
    place = int(np.abs(fmr - fnmr).argmin())
    return place, float((fmr[place] + fnmr[place]) / 2)


def crossing_bins(
    genuine: NDArray[np.integer], impostor: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Return the bin of scores in which the error rates cross, and the next used one.

    The arguments are counts per bin, ascending scores. The second bin is missing if the
    rates cross in the last one.
    """
    used = np.flatnonzero(genuine + impostor)
    refused, below = np.cumsum(genuine) - genuine, np.cumsum(impostor) - impostor
    # Accepted less refused at the lowest score of each bin falls from bin to bin.
    gap = 1 - below[used] / impostor.sum() - refused[used] / genuine.sum()
    last = int(np.flatnonzero(gap >= 0)[-1])
    return used[last : last + 2]


def binned_equal_errors(
    genuine: NDArray[np.floating], impostor: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Find equal error rates of binned scores, linear within a bin.

    Counts have shape (R, bins); the rates have shape (R,), NaN without both kinds.
    """
    rows = np.arange(len(genuine))
    fmr, fnmr = _rates_at_edges(genuine, impostor)
    first = (fnmr >= fmr).argmax(axis=1)
    before = np.maximum(first - 1, 0)
    gap_before = fmr[rows, before] - fnmr[rows, before]
    gap_after = fmr[rows, first] - fnmr[rows, first]
    with np.errstate(invalid="ignore", divide="ignore"):
        step = gap_before / (gap_before - gap_after)
    rates = fmr[rows, before] + step * (fmr[rows, first] - fmr[rows, before])
    both = (genuine.sum(axis=1) > 0) & (impostor.sum(axis=1) > 0)
    return np.where(both, rates, np.nan)


def binned_true_accepts(
    genuine: NDArray[np.floating], impostor: NDArray[np.floating], far: float
) -> NDArray[np.float64]:
    """Find the shares of genuine pairs accepted at a false accept rate below 1.

    Shapes are as in :func:`binned_equal_errors`, and rates are linear within a bin.
    """
    rows = np.arange(len(genuine))
    fmr, fnmr = _rates_at_edges(genuine, impostor)
    # At the lowest edge all are accepted, at the highest none.
    first = np.maximum((fmr <= far).argmax(axis=1), 1)
    low, high = fmr[rows, first - 1], fmr[rows, first]
    with np.errstate(invalid="ignore", divide="ignore"):
        step = (low - far) / (low - high)
    low, high = fnmr[rows, first - 1], fnmr[rows, first]
    return np.asarray(1 - low - step * (high - low))


def _rates_at_edges(
    genuine: NDArray[np.floating], impostor: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the error rates FMR and FNMR at the edges of bins, (2, R, bins + 1)."""
    edges = np.zeros((2, len(genuine), genuine.shape[1] + 1))
    for curve, table in zip(edges, (impostor, genuine), strict=True):
        np.cumsum(table, axis=1, dtype=np.float64, out=curve[:, 1:])
        with np.errstate(invalid="ignore", divide="ignore"):
            curve /= curve[:, -1:]
    # At an edge: genuine pairs below it are refused, impostor pairs from it accepted.
    edges[0] = 1 - edges[0]
    return edges
