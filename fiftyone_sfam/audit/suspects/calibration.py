"""What is usual, and how far from usual something is.

Everything is robust: the data that these figures are taken from are the data that hold
the defects. All of it is this project's definition but the moments of
:func:`label_effect`, which are N. Mantel's ("The detection of disease clustering and a
generalized regression approach", 1967).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# The 80 % quantile of absolute deviations stands for the spread: it does not move when
# up to a fifth of the values are wrong, and sees heavier tails than the median does.
_QUANTILE = 0.8
_NORMAL_QUANTILE = 1.2815515655446004

CENTER_PRIOR = 4
"""Images with which the usual value of all identities counts for an identity's own."""

SCALE_PRIOR = 20
"""Images with which the spread of all identities counts for an identity's own."""


@dataclass(frozen=True)
class Spreads:
    """Usual value and spread of each of C groups, drawn towards those of all."""

    center: NDArray[np.float64]  # per group, shape (C,)
    scale: NDArray[np.float64]  # per group, shape (C,)
    pooled_center: float  # of all groups
    pooled_scale: float  # of all groups


@dataclass(frozen=True)
class LabelEffect:
    """What two names explain of the similarities of the images that bear them."""

    effect: float
    error: float  # standard deviation of the same under names dealt out at random

    @property
    def z(self) -> float:
        """The effect in units of its error; 0 where nothing varies."""
        return self.effect / self.error if self.error > 0 else 0.0


def robust_scale(deviations: NDArray[np.floating]) -> float:
    """Estimate a standard deviation from deviations, a fifth of which may be wrong."""
    if len(deviations) == 0:
        return 0.0
    return float(np.quantile(np.abs(deviations), _QUANTILE)) / _NORMAL_QUANTILE


def group_spreads(
    values: NDArray[np.float64], groups: NDArray[np.int64], count: int, floor: float
) -> Spreads:
    """Find what is usual in each group, and in all of them.

    A group's own figures count the more the more values it has, so that those of small
    and of large groups compare: with n values its center weighs n against
    :data:`CENTER_PRIOR`, its variance n against :data:`SCALE_PRIOR`.
    """
    order = np.argsort(groups, kind="stable")
    bounds = np.searchsorted(groups[order], np.arange(count + 1))
    parts = [values[order[start:stop]] for start, stop in pairwise(bounds)]
    pooled_center = float(np.median(values)) if len(values) else 0.0
    within = [
        # The center was taken from the same values.
        (part - np.median(part)) * np.sqrt(len(part) / (len(part) - 1))
        for part in parts
        if len(part) >= 3
    ]
    deviations = np.concatenate(within) if within else values - pooled_center
    pooled = max(robust_scale(deviations), floor)
    center = np.full(count, pooled_center)
    scale = np.full(count, pooled)
    for group, part in enumerate(parts):
        if len(part) == 0:
            continue
        size, middle = len(part), float(np.median(part))
        own = robust_scale(part - middle)
        center[group] = (size * middle + CENTER_PRIOR * pooled_center) / (
            size + CENTER_PRIOR
        )
        variance = (size * own**2 + SCALE_PRIOR * pooled**2) / (size + SCALE_PRIOR)
        scale[group] = max(np.sqrt(variance), floor)
    return Spreads(center, scale, pooled_center, pooled)


def label_effect(
    similarity: NDArray[np.float64], second: NDArray[np.bool_]
) -> LabelEffect | None:
    """Ask whether two names tell the images apart that bear them.

    The mean similarity within the names minus that between them, with mean and standard
    deviation over all ways to deal the same names out (Mantel's moments, exact and
    without drawing). An effect of 0 says that the names might as well be one.
    """
    count = len(second)
    if count < 4 or second.all() or not second.any():
        return None
    # An effect does not depend on the level; near it, squares lose fewer digits.
    off = ~np.eye(count, dtype=bool)
    a = np.where(off, similarity - similarity[off].mean(), 0.0)
    same = (second[:, None] == second) & off
    differ = second[:, None] != second
    b = same / same.sum() - differ / differ.sum()
    sum_a, square_a, row_a = _moments(a)
    sum_b, square_b, row_b = _moments(b)
    pairs = count * (count - 1)
    triples = pairs * (count - 2)
    quadruples = triples * (count - 3)
    mean = sum_a * sum_b / pairs
    second_moment = (
        2 * square_a * square_b / pairs
        + 4 * (row_a - square_a) * (row_b - square_b) / triples
        + (sum_a**2 + 2 * square_a - 4 * row_a)
        * (sum_b**2 + 2 * square_b - 4 * row_b)
        / quadruples
    )
    observed = float((a * b).sum())
    return LabelEffect(
        observed - mean, float(np.sqrt(max(0.0, second_moment - mean**2)))
    )


def confidence(
    margin: float | NDArray[np.floating], unit: float
) -> NDArray[np.float64]:
    """Turn the distance from a threshold into a score."""
    margin = np.asarray(margin, dtype=np.float64)
    return 0.5 * (1 + margin / (np.abs(margin) + unit))


def _moments(matrix: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the sums of the values, of their squares and of the rows' squares."""
    return (
        float(matrix.sum()),
        float(np.square(matrix).sum()),
        float(np.square(matrix.sum(axis=1)).sum()),
    )
