"""Intervals by the bootstrap: how far a figure would move with other queries.

Queries are drawn again with replacement, many times, and the 2.5 % and 97.5 % quantiles
of the figure are its 95 % interval (B. Efron, "Bootstrap Methods: Another Look at the
Jackknife", 1979). Taken literally, that gives one query, or ten that all succeed, an
interval of no width. So each draw is made from the queries and two imagined ones, one
at each end of what a query can be. For a share this is close to the interval of Agresti
and Coull ("Approximate Is Better than Exact", 1998): ten successes of ten give 0.7 to
1, one of one gives 0 to 1. With hundreds of queries it makes no difference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.errors import DataError

RESAMPLES = 1000
"""Draws per interval."""

QUANTILES = (0.025, 0.975)

# Numbers drawn at once.
_DRAWN = 2**22
NAN = float("nan")


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float = NAN  # the figure
    low: float = NAN  # ends of the interval
    high: float = NAN  # ends of the interval


def draw(
    count: int, resamples: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Draw ``count`` of ``count`` queries and two imagined ones, again and again."""
    size = count + 2
    chosen = generator.integers(0, size, (resamples, count))
    chosen += np.arange(resamples)[:, None] * size
    drawn = np.bincount(chosen.ravel(), minlength=resamples * size)
    return drawn.reshape(resamples, size).astype(np.float32)


def mean_estimates(
    values: NDArray[np.float64], resamples: int, seed: int
) -> list[Estimate]:
    """Estimate the means of figures that each query has."""
    count = values.shape[1]
    if count == 0:
        return [Estimate()] * len(values)
    generator = np.random.default_rng(seed)
    ends = np.tile([0.0, 1.0], (len(values), 1))
    pool = np.concatenate([values, ends], axis=1)
    means: list[NDArray[np.float64]] = []
    at_once = max(1, _DRAWN // (count + 2))
    for start in range(0, resamples, at_once):
        drawn = draw(count, min(at_once, resamples - start), generator)
        means.append(drawn.astype(np.float64) @ pool.T / count)
    low, high = np.quantile(np.concatenate(means), QUANTILES, axis=0)
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

    The draws compare rates in bins of the score. The two imagined queries have as many
    comparisons as the average one; all of them are right for the one, and wrong for the
    other.
    """
    if np.isnan(value) or genuine.sum() == 0 or impostor.sum() == 0:
        return Estimate()
    count = len(genuine)
    pools = []
    for table, right in ((genuine, -1), (impostor, 0)):
        imagined = np.zeros((2, table.shape[1]))
        imagined[0, right] = imagined[1, -1 - right] = table.sum() / count
        pools.append(np.concatenate([table, imagined]).astype(np.float32))
    generator = np.random.default_rng(seed)
    rates: list[NDArray[np.float64]] = []
    at_once = max(1, _DRAWN // (count + 2 + genuine.shape[1]))
    for start in range(0, resamples, at_once):
        drawn = draw(count, min(at_once, resamples - start), generator)
        rates.append(equal_errors(drawn @ pools[0], drawn @ pools[1]))
    found = np.concatenate(rates)
    if np.isnan(found).all():
        return Estimate(value, 0.0, 1.0)
    low, high = np.nanquantile(found, QUANTILES)
    return around(value, float(low), float(high))


def equal_errors(
    genuine: NDArray[np.floating], impostor: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Find where the error rates of binned scores meet."""
    rows = np.arange(len(genuine))
    edges = np.zeros((2, len(genuine), genuine.shape[1] + 1))
    for curve, table in zip(edges, (genuine, impostor), strict=True):
        np.cumsum(table, axis=1, dtype=np.float64, out=curve[:, 1:])
        with np.errstate(invalid="ignore", divide="ignore"):
            curve /= curve[:, -1:]
    # At an edge: genuine pairs below it are refused, impostor pairs from it accepted.
    fnmr, fmr = edges[0], 1 - edges[1]
    first = (fnmr >= fmr).argmax(axis=1)
    before = np.maximum(first - 1, 0)
    gap_before = fmr[rows, before] - fnmr[rows, before]
    gap_after = fmr[rows, first] - fnmr[rows, first]
    with np.errstate(invalid="ignore", divide="ignore"):
        step = gap_before / (gap_before - gap_after)
    found = fmr[rows, before] + step * (fmr[rows, first] - fmr[rows, before])
    both = (genuine.sum(axis=1) > 0) & (impostor.sum(axis=1) > 0)
    return np.where(both, found, np.nan)


def around(value: float, low: float, high: float) -> Estimate:
    """Return an estimate whose interval holds its value."""
    return Estimate(value, min(low, value), max(high, value))


def check_seed(seed: int) -> None:
    """Refuse a seed that no draw can begin with."""
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise DataError(f"seed is {seed!r}; a whole number from 0 is needed.")
