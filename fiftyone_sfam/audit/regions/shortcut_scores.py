"""How much more a group relies on a region than comparable pairs do.

For each image, the region's part and the score are summed over its pairs, separately
by outcome. The expected share for an outcome comes from all images outside the group,
so a group with many false matches is compared with the false matches of others. The
excess

    d = sum(carried - expected share * score) / sum(score)

is shrunk towards zero as in a random-effects model (R. DerSimonian and N. Laird,
"Meta-Analysis in Clinical Trials", 1986). With the variance ``sigma^2`` of single
images, pooled over all groups, and the variance ``tau^2`` between groups,

    v = sigma^2 * sum(score_i^2) / sum(score_i)^2       sampling variance of d
    shrunk = d * tau^2 / (tau^2 + v),   variance  v * tau^2 / (tau^2 + v)

Groups are ranked by the lower end of the 95 % interval, so that a group of one image
does not rank first by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z = 1.959964
"""Half width of a 95 % interval, in standard deviations of a normal distribution."""

_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, kw_only=True)
class GroupScores:
    """The excess of G groups; NaN where no other group has comparable pairs."""

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
    """Compare the share that a region carries in each group with all other groups."""
    units, carried_by, scores_by = _by_image(groups, images, strata, carried, scores)
    strata_count = carried_by.shape[1]
    of_group = np.zeros((2, count, strata_count))
    np.add.at(of_group[0], units, carried_by)
    np.add.at(of_group[1], units, scores_by)
    rest = of_group.sum(axis=1, keepdims=True) - of_group
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(rest[1] > 1e-9, rest[0] / rest[1], np.nan)
        # Outcomes that only this group has cannot be compared and do not count.
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
        # Without variation, rounding errors of the sums must not look significant.
        chance = np.maximum(chance, _LEAST_VARIANCE)
        between = _between(excess, chance)
        kept = between / (between + chance) if between > 0 else np.zeros(count)
        kept = np.where(np.isnan(excess), np.nan, kept)
        deviation = np.sqrt(kept * chance)
    return GroupScores(
        share=share,
        expected=share - excess,
        excess=excess,
        shrunk=kept * excess,
        low=kept * excess - Z * deviation,
        high=kept * excess + Z * deviation,
        images=np.bincount(units, minlength=count),
    )


def _by_image(
    groups: NDArray[np.integer],
    images: NDArray[np.integer],
    strata: NDArray[np.integer],
    carried: NDArray[np.floating],
    scores: NDArray[np.floating],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Sum rows by group and image; return groups (U,) and sums by stratum (U, S)."""
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
    """Estimate the variance of images within groups, pooled over all groups."""
    known = (weight > 0) & ~np.isnan(excess[units])
    units, surplus, weight = units[known], surplus[known], weight[known]
    freedom = len(units) - len(np.unique(units))
    if freedom < 1:
        return float("nan")
    residuals = surplus - excess[units] * weight
    # Images with a low score, whose ratio is noisy, get a low weight.
    scale = float(np.mean(weight**2)) * freedom
    return float(np.sum(residuals**2)) / scale


def _between(excess: NDArray[np.float64], chance: NDArray[np.float64]) -> float:
    """Estimate the variance between groups, by the method of moments."""
    known = ~np.isnan(excess) & (chance > 0)
    if known.sum() < 2:
        return 0.0
    weights = 1 / chance[known]
    effects = excess[known]
    mean = np.average(effects, weights=weights)
    heterogeneity = float(np.sum(weights * (effects - mean) ** 2))
    scale = float(weights.sum() - np.sum(weights**2) / weights.sum())
    return max(0.0, (heterogeneity - (known.sum() - 1)) / scale)
