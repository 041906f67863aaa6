"""The equal error rate: where a threshold refuses as many as it wrongly accepts.

A pair is accepted from the threshold on. The false non-match rate (FNMR) is the share
of genuine pairs below it, the false match rate (FMR) the share of impostor pairs from
it on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
    rates = fmr[rows, before] + step * (fmr[rows, first] - fmr[rows, before])
    both = (genuine.sum(axis=1) > 0) & (impostor.sum(axis=1) > 0)
    return np.where(both, rates, np.nan)
