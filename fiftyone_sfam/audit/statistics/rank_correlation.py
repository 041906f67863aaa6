"""How well two columns agree in their order, with an interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 1000

_NAN = float("nan")
_FEWEST = 5


@dataclass(frozen=True)
class Correlation:
    """A rank correlation (C. Spearman, 1904) and its 95 % interval."""

    value: float  # in [-1, 1]
    low: float  # in [-1, 1]
    high: float  # in [-1, 1]

    def __str__(self) -> str:
        return f"{self.value:.2f} (95 % interval {self.low:.2f} to {self.high:.2f})"


def rank_correlation(
    one: NDArray[np.floating],
    other: NDArray[np.floating],
    clusters: NDArray[np.integer],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Correlation:
    """Correlate the ranks of two columns."""
    names, place = np.unique(clusters, return_inverse=True)
    members = [np.flatnonzero(place == number) for number in range(len(names))]
    value = _spearman(one, other)
    if len(names) < _FEWEST or np.isnan(value):
        return Correlation(value, _NAN, _NAN)
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(resamples):
        chosen = generator.integers(0, len(names), len(names))
        rows = np.concatenate([members[number] for number in chosen.tolist()])
        draws.append(_spearman(one[rows], other[rows]))
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return Correlation(value, float(low), float(high))


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def _spearman(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Return Spearman's rank correlation; NaN where a column is constant."""
    if len(one) < 2:
        return _NAN
    # scipy's spearmanr also tests for significance, which costs most of its time.
    ranks = stats.rankdata(one), stats.rankdata(other)
    first, second = (column - column.mean() for column in ranks)
    length = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / length if length > 0 else _NAN
