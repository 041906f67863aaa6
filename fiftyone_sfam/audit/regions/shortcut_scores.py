"""How far a group's reliance on a region lies above what its pairs let expect.

Every image has what a region carries and what it scores, summed over its pairs of each
outcome. The rest of the images tells what share to expect of pairs of that outcome, so
a group with many false matches is compared with the others' false matches. The excess

    d = sum(carried - expected share * score) / sum(score)

is then drawn towards zero by how little supports it, as in a random-effects model (R.
DerSimonian and N. Laird, "Meta-Analysis in Clinical Trials", 1986): with the spread of
single images ``sigma^2``, the same for all groups, and of groups ``tau^2``,

    v = sigma^2 * sum(score_i^2) / sum(score_i)^2       what chance gives the group
    shrunk = d * tau^2 / (tau^2 + v),   variance  v * tau^2 / (tau^2 + v)

Groups are ranked by the lower end of the 95 % interval, so that a group of one image
does not win by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959964
"""Half of a 95 % interval, in standard deviations of a normal distribution."""

_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True)
class GroupScores:
    """The excess of G groups; NaN where a group has nothing to be compared with."""

    share: NDArray[np.float64]  # (G,)
    expected: NDArray[np.float64]  # (G,)
    excess: NDArray[np.float64]  # (G,)
    shrunk: NDArray[np.float64]  # (G,)
    low: NDArray[np.float64]  # 95 % interval of shrunk, shape (G,)
    high: NDArray[np.float64]  # 95 % interval of shrunk, shape (G,)
    images: NDArray[np.int64]  # images of each group, shape (G,)

    def ranking(self) -> NDArray[np.int64]:
        """Return the groups whose interval lies above zero, strongest first."""
        above = np.flatnonzero(self.low > 0)
        return above[np.argsort(-self.low[above], kind="stable")]


def score_groups(
    groups: NDArray[np.integer],
    images: NDArray[np.integer],
    strata: NDArray[np.integer],
    carried: NDArray[np.floating],
    scores: NDArray[np.floating],
    count: int,
) -> GroupScores:
    """Find out which groups rest on a region more than the rest does."""
    units, carried_by, scores_by = _by_image(groups, images, strata, carried, scores)
    strata_count = carried_by.shape[1]
    of_group = np.zeros((2, count, strata_count))
    np.add.at(of_group[0], units, carried_by)
    np.add.at(of_group[1], units, scores_by)
    rest = of_group.sum(axis=1, keepdims=True) - of_group
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(rest[1] > 1e-9, rest[0] / rest[1], np.nan)
        # What the rest has none of cannot be compared: it does not count.
        comparable = ~np.isnan(ratio)
        usable = np.where(comparable[units], scores_by, 0.0)
        weight = usable.sum(axis=1)
        surplus = np.where(
            comparable[units], carried_by - ratio[units] * scores_by, 0.0
        ).sum(axis=1)
        total = np.bincount(units, weight, minlength=count)
        squares = np.bincount(units, weight**2, minlength=count)
        excess = np.bincount(units, surplus, minlength=count) / total
        share = np.where(comparable, of_group[0], 0.0).sum(axis=1) / total
        chance = _spread(units, surplus, weight, excess) * squares / total**2
        # Where nothing varies, the last bits of the sums are no finding.
        chance = np.maximum(chance, _LEAST_VARIANCE)
        between = _between(excess, chance)
        kept = between / (between + chance) if between > 0 else np.zeros(count)
        kept = np.where(np.isnan(excess), np.nan, kept)
        deviation = np.sqrt(kept * chance)
    return GroupScores(
        share,
        share - excess,
        excess,
        kept * excess,
        kept * excess - Z * deviation,
        kept * excess + Z * deviation,
        np.bincount(units, minlength=count),
    )


def _by_image(
    groups: NDArray[np.integer],
    images: NDArray[np.integer],
    strata: NDArray[np.integer],
    carried: NDArray[np.floating],
    scores: NDArray[np.floating],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Sum rows up by group and image; return groups and sums by stratum, (U, S)."""
    keys, place = np.unique(
        np.stack([groups, images], axis=1), axis=0, return_inverse=True
    )
    place = place.reshape(-1)
    shape = (len(keys), int(strata.max(initial=-1)) + 1)
    sums = np.zeros((2, *shape))
    np.add.at(sums[0], (place, strata), carried)
    np.add.at(sums[1], (place, strata), scores)
    return keys[:, 0].astype(np.int64), sums[0], sums[1]


def _spread(
    units: NDArray[np.int64],
    surplus: NDArray[np.float64],
    weight: NDArray[np.float64],
    excess: NDArray[np.float64],
) -> float:
    """Estimate the variance of the images of a group, from all groups together."""
    known = (weight > 0) & ~np.isnan(excess[units])
    units, surplus, weight = units[known], surplus[known], weight[known]
    freedom = len(units) - len(np.unique(units))
    if freedom < 1:
        return float("nan")
    residuals = surplus - excess[units] * weight
    # Weighted so that images without much of a score, whose ratio is noise, count less.
    scale = float(np.mean(weight**2)) * freedom
    return float(np.sum(residuals**2)) / scale


def _between(excess: NDArray[np.float64], chance: NDArray[np.float64]) -> float:
    """Estimate the variance of groups beyond chance, by the method of moments."""
    known = ~np.isnan(excess) & (chance > 0)
    if known.sum() < 2:
        return 0.0
    weights = 1 / chance[known]
    effects = excess[known]
    mean = np.average(effects, weights=weights)
    heterogeneity = float(np.sum(weights * (effects - mean) ** 2))
    scale = float(weights.sum() - np.sum(weights**2) / weights.sum())
    return max(0.0, (heterogeneity - (known.sum() - 1)) / scale)
