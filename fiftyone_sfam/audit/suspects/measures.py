"""Measures of how well embeddings agree with the labels of images and identities.

These functions work on arrays.

*Images.* Figures are in spreads: the spread of nearness between images of one identity,
shrunk towards the spread of all identities if it has few images. An image is mislabeled
if it is far from its own identity and usual in another one, and uninformative if it is
far from all identities, or near to many.

*Split identities.* The labels of two identities are permuted at random. If the true
labels do not explain the similarities better than random ones, both may be one person.
Nearness alone is not enough, as look-alikes and people in front of the same wall are
near as well. Two identities must also have enough images that a usual difference
between identities would be detected.

*Merged identities.* An identity is divided into the two groups that differ most. If
they are as far apart as two identities usually are, with a clear gap, the identity may
be two persons.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.space import (
    Genuine,
    Nearest,
    Space,
    compared_with,
    find_nearest,
    group_spreads,
    label_effect,
    make_space,
    measure_genuine,
    nearness_to,
    own_nearness,
    reach,
    robust_scale,
    upper,
)
from fiftyone_sfam.retrieval.search import UNKNOWN

MISLABEL_THRESHOLD = 5.0
"""Least strength of a mislabeled image, in spreads."""

FAR = 5.0
"""Gap to the own identity from which an image is far from it, in spreads."""

USUAL_MEMBER = 4.0
"""Gap up to which an image is a usual member of another identity, in spreads."""

UNLIKE_BOTH = 0.125
"""The same as a fraction of the gap to the own identity, for very unusual images."""

LEAD = 3.0
"""Lead of the own identity from which an image is informative, in spreads."""

HUB = 5.0
"""Deviation of the reach from which an image is a hub, in spreads."""

SAME = 2.5
"""Effect of labels below which they explain nothing, in errors (1 %, one-sided)."""

USUAL = 5.0
"""Least effect of usual identities' labels for enough power, in errors."""

MOST_EFFECT = 1.0
"""Largest effect of the labels of one person, in spreads."""

GAP = 4.6
"""Threshold of the clearness of the gap between two groups times its size."""

MIN_GROUP = 2
"""Least size of a group of a merged identity."""

# Least spread, as a fraction of the gap between own and nearest other identities.
_LEAST_SPREAD = 0.02
# Identities that an identity is compared with.
_PARTNERS = 3
# Limit of the size of a gap, in usual gaps between identities.
_MOST_APART = 1.5
# Weight of the pooled variance in that of two groups, in pairs.
_SCALE_PRIOR = 10


@dataclass(frozen=True, kw_only=True)
class ImageFigures:
    """Agreement of N images with their own and with other identities, each (N,).

    ``other`` is the identity that speaks most against the label. Gaps and leads are in
    spreads; NaN if unknown.
    """

    own: NDArray[np.float64]  # nearness to the nearest images of the own identity
    own_images: NDArray[np.int64]  # number of other images of the own identity
    own_gap: NDArray[np.float64]  # how much less near than usual
    other: NDArray[np.int64]  # code, or UNKNOWN
    other_nearness: NDArray[np.float64]  # nearness to the nearest images of ``other``
    other_gap: NDArray[np.float64]  # how much less near than usual there
    lead: NDArray[np.float64]  # how much nearer the own identity is than ``other``
    mislabel: NDArray[np.float64]  # strength of the evidence; -inf if there is none
    reach: NDArray[np.int64]  # other identities with the image among their nearest
    hub: NDArray[np.float64]  # how unusual the reach is

    @property
    def is_mislabeled(self) -> NDArray[np.bool_]:
        """Images above the threshold that are usual in the other identity."""
        usual = np.maximum(USUAL_MEMBER, UNLIKE_BOTH * self.own_gap)
        return (self.mislabel >= MISLABEL_THRESHOLD) & (self.other_gap <= usual)

    @property
    def uninformative(self) -> NDArray[np.float64]:
        """Distance above the threshold for uninformative images, in spreads.

        -inf if the image is mislabeled, or if there is no other identity. An image
        reaches the threshold, 0, if it is far from its own and from all other
        identities, or a hub; and in either case hardly nearer to its own identity than
        to another one.
        """
        hardly = LEAD - np.where(np.isnan(self.own), -np.inf, self.lead)
        far = np.minimum(self.own_gap - FAR, self.other_gap - USUAL_MEMBER / 2)
        far = np.where(np.isnan(far), -np.inf, far)
        margin = np.minimum(np.fmax(far, self.hub - HUB), hardly)
        excluded = (self.other == UNKNOWN) | self.is_mislabeled
        return np.where(excluded, -np.inf, margin)


@dataclass(frozen=True, kw_only=True)
class IdentityPair:
    """Two identities that are near to each other."""

    first: int  # code of an identity
    second: int  # code of the other identity
    images: tuple[int, int]  # number of compared images of each
    between: float  # mean nearness of images of different identities
    within: float  # mean nearness of images of one identity
    effect: float  # of the labels, in spreads
    z: float  # of the labels, in errors
    usual_z: float  # z of the effect that is usual in the run
    support: float  # how far the other conditions are met, in errors

    @property
    def margin(self) -> float:
        """Distance above the threshold for one person, in errors."""
        return min(SAME - self.z, self.support)


@dataclass(frozen=True, kw_only=True)
class Division:
    """An identity in two groups."""

    identity: int  # code
    groups: tuple[NDArray[np.int64], NDArray[np.int64]]  # images, larger group first
    within: float  # mean nearness of two images of one group
    between: float  # mean nearness of two images of different groups
    apart: float  # within - between, in usual gaps between identities
    gap: float  # within - between, in standard deviations
    by_camera: bool  # whether the groups share no camera
    margin: float  # distance above the threshold for two persons, as a logarithm


@dataclass(frozen=True)
class Measured:
    """Measures of N images."""

    space: Space
    genuine: Genuine
    nearest: Nearest
    images: ImageFigures
    pairs: list[IdentityPair]
    divisions: list[Division]


def measure(
    embeddings: NDArray[np.floating],
    metric: str,
    identities: NDArray[np.int64],
    cameras: NDArray[np.int64],
    report: Callable[[int, int], None] | None = None,
) -> Measured:
    """Compare images with their own identities and with others."""
    space = make_space(embeddings, metric, identities, cameras)
    genuine = measure_genuine(space)
    nearest = find_nearest(space, report)
    images = measure_images(space, genuine, nearest)
    suspected = np.where(images.is_mislabeled, images.other, UNKNOWN)
    pairs = compare_identities(space, genuine, nearest, suspected)
    divisions = divide_identities(space, genuine, nearest_level(pairs), suspected)
    return Measured(space, genuine, nearest, images, pairs, divisions)


# --------------------------------------------------------------------------------------
# Images
# --------------------------------------------------------------------------------------


def measure_images(space: Space, genuine: Genuine, nearest: Nearest) -> ImageFigures:
    """Compare each image with its own identity and with those that it is near to."""
    count = len(space)
    own = own_nearness(space)
    sizes = np.array([len(members) for members in space.members] + [0])
    own_images = np.maximum(sizes[space.identities] - 1, 0)
    images, others = _suggestions(space, nearest)
    near = nearness_to(space, images, others)

    known = np.flatnonzero(~np.isnan(own))
    median = float(np.median(own[known])) if len(known) else 0.0
    gap = abs(median - float(np.median(near))) if len(near) else 0.0
    floor = max(_LEAST_SPREAD * gap, 1e-6)
    spreads = group_spreads(
        own[known], space.identities[known], len(space.members), floor
    )
    # A mean of few similarities varies more than a mean of many.
    extra = max(0.0, genuine.scale**2 - spreads.pooled_scale**2)

    def extra_variance(number: NDArray[np.int64]) -> NDArray[np.float64]:
        compared = np.maximum(compared_with(number), 1)
        return extra * np.maximum(1 / compared - 0.25, 0)

    own_extra = extra_variance(own_images)
    codes = np.where(space.identities == UNKNOWN, 0, space.identities)
    own_gap = np.full(count, np.nan)
    if len(space.members):
        own_gap = (spreads.center[codes] - own) / np.sqrt(
            spreads.scale[codes] ** 2 + own_extra
        )
    near_extra = extra_variance(sizes[others])
    near_gap = (spreads.center[others] - near) / np.sqrt(
        spreads.scale[others] ** 2 + near_extra
    )
    common = np.sqrt(spreads.pooled_scale**2 + (own_extra[images] + near_extra) / 2)
    lead = (own[images] - near) / common
    mislabel = own_gap[images] - near_gap - lead
    # If the own identity is the nearer one, no spread makes the label wrong.
    mislabel = np.where(lead > 0, np.minimum(mislabel, -lead), mislabel)

    # The identity that speaks most against the label, or the nearest one without one.
    rank = np.where(np.isnan(mislabel), -near_gap, mislabel)
    order = np.lexsort((rank, images))
    last = np.flatnonzero(np.diff(images[order], append=-1))
    best, rows = order[last], images[order][last]

    def column(values: NDArray, missing: float) -> NDArray:
        filled = np.full(count, missing, dtype=values.dtype)
        filled[rows] = values[best]
        return filled

    reached = reach(space, nearest)
    return ImageFigures(
        own=own,
        own_images=own_images,
        own_gap=own_gap,
        other=column(others, UNKNOWN),
        other_nearness=column(near, np.nan),
        other_gap=column(near_gap, np.nan),
        lead=column(lead, np.nan),
        mislabel=column(np.where(np.isnan(mislabel), -np.inf, mislabel), -np.inf),
        reach=reached,
        hub=_deviations(np.sqrt(reached)),
    )


def _suggestions(
    space: Space, nearest: Nearest
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List each image with each identity among its nearest others, once."""
    valid = nearest.others != UNKNOWN
    images = np.broadcast_to(np.arange(len(space))[:, None], valid.shape)[valid]
    identities = space.identities[nearest.others[valid]]
    pairs = np.unique(np.stack([images, identities]), axis=1)
    return pairs[0], pairs[1]


def _deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return deviations from the median, in spreads of at least a half."""
    if len(values) == 0:
        return values
    away = values - np.median(values)
    return away / max(robust_scale(away), 0.5)


# --------------------------------------------------------------------------------------
# Identities
# --------------------------------------------------------------------------------------


def compare_identities(
    space: Space, genuine: Genuine, nearest: Nearest, suspected: NDArray[np.int64]
) -> list[IdentityPair]:
    """Compare each identity with those that its images are nearest to."""
    pairs = [
        _compare(space, genuine, suspected, first, second)
        for first, second in _partners(space, nearest)
    ]
    least: dict[int, float] = {}
    for pair in pairs:
        for code in (pair.first, pair.second):
            least[code] = min(least.get(code, np.inf), pair.effect)
    usual = float(np.median(list(least.values()))) if least else float("nan")
    return [_with_support(pair, usual) for pair in pairs]


def nearest_level(pairs: list[IdentityPair]) -> float:
    """Return how near an identity and its nearest other one usually are."""
    largest: dict[int, float] = {}
    for pair in pairs:
        for code in (pair.first, pair.second):
            largest[code] = max(largest.get(code, -np.inf), pair.between)
    return float(np.median(list(largest.values()))) if largest else float("nan")


def divide_identities(
    space: Space, genuine: Genuine, nearest: float, suspected: NDArray[np.int64]
) -> list[Division]:
    """Divide each identity with enough images into two groups."""
    apart = genuine.median - nearest
    if not apart > 0 or genuine.scale <= 0:
        return []
    divisions = []
    for code in range(len(space.members)):
        members = space.some_members(code)
        members = members[suspected[members] == UNKNOWN]
        if len(members) >= 2 * MIN_GROUP:
            divisions.append(_divide(space, genuine, apart, code, members))
    return divisions


def _partners(space: Space, nearest: Nearest) -> list[tuple[int, int]]:
    """List the pairs of identities whose images are among each other's nearest."""
    votes: dict[int, Counter[int]] = {}
    for identity, others in zip(
        space.identities.tolist(), nearest.others.tolist(), strict=True
    ):
        if identity != UNKNOWN:
            # An image has one vote for an identity, whatever the number of neighbors.
            codes = {int(space.identities[image]) for image in others if image >= 0}
            votes.setdefault(identity, Counter()).update(codes)
    # Ties are broken by the identities' centers, not by the images' order.
    centers = np.array(
        [space.vectors[members].mean(axis=0) for members in space.members]
    )
    pairs = set()
    for identity, counts in votes.items():
        others = np.array(list(counts), dtype=np.int64)
        away = np.linalg.norm(centers[others] - centers[identity], axis=1)
        order = np.lexsort((away, -np.array(list(counts.values()))))
        for other in others[order][:_PARTNERS].tolist():
            pairs.add((min(identity, other), max(identity, other)))
    return sorted(pairs)


def _compare(
    space: Space,
    genuine: Genuine,
    suspected: NDArray[np.int64],
    first: int,
    second: int,
) -> IdentityPair:
    """Measure the effect of two labels; ``usual_z`` and ``support`` are added later."""
    parts = []
    for code in (first, second):
        members = space.some_members(code)
        # Images of a third identity do not count, unless there are no others.
        kept = members[np.isin(suspected[members], [UNKNOWN, first, second])]
        parts.append(kept if len(kept) else members)
    images, sizes = np.concatenate(parts), (len(parts[0]), len(parts[1]))
    is_second = np.arange(len(images)) >= sizes[0]
    near = space.nearness(images, images)
    between = float(near[~is_second][:, is_second].mean())
    same = (is_second[:, None] == is_second) & ~np.eye(len(images), dtype=bool)
    scale = max(genuine.scale, 1e-9)
    labels = label_effect(near, is_second)
    if labels is None:
        # Too few images to permute: compared with what is usual for one person.
        effect, error = genuine.median - between, genuine.scale
    else:
        effect, error = labels.effect, labels.error
    error = max(error, 1e-9)
    return IdentityPair(
        first=first,
        second=second,
        images=sizes,
        between=between,
        within=float(near[same].mean()) if same.any() else float("nan"),
        effect=effect / scale,
        z=effect / error,
        usual_z=scale / error,  # of an effect of one spread
        support=float("nan"),
    )


def _with_support(pair: IdentityPair, usual: float) -> IdentityPair:
    """Complete a pair, given the usual effect of labels in the run, in spreads."""
    usual_z = usual * pair.usual_z
    support = min(
        (MOST_EFFECT - pair.effect) * SAME / MOST_EFFECT,
        (usual_z - USUAL) * SAME / USUAL,
    )
    support = support if np.isfinite(support) else -np.inf
    return replace(pair, usual_z=usual_z, support=support)


def _divide(
    space: Space,
    genuine: Genuine,
    apart: float,
    code: int,
    members: NDArray[np.int64],
) -> Division:
    """Divide an identity into the two groups that differ most."""
    near = space.nearness(members, members)
    parts = best_division(near)
    within = np.concatenate([upper(near[np.ix_(part, part)]) for part in parts])
    between = near[np.ix_(*parts)].ravel()
    difference = float(within.mean() - between.mean())
    variance = sum(
        (len(values) * values.var() + _SCALE_PRIOR * genuine.scale**2)
        / (len(values) + _SCALE_PRIOR)
        for values in (within, between)
    )
    share, gap = difference / apart, difference / float(np.sqrt(variance / 2))
    product = min(share, _MOST_APART) * gap
    first, second = ({*space.cameras[members[part]]} - {UNKNOWN} for part in parts)
    by_camera = bool(first and second and not first & second)
    margin = float(np.log(product / GAP)) if product > 0 else -np.inf
    return Division(
        identity=code,
        groups=(members[parts[0]], members[parts[1]]),
        within=float(within.mean()),
        between=float(between.mean()),
        apart=share,
        gap=gap,
        by_camera=by_camera,
        # Cameras may explain the difference: the gap must be twice as clear.
        margin=margin - (np.log(2) if by_camera else 0.0),
    )


def best_division(
    near: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide images into two groups of at least ``MIN_GROUP``, the larger one first.

    Images are ordered along the first principal axis of the similarities, and cut where
    the difference between within and between is largest, with a weight that favors
    groups of equal size.
    """
    count = len(near)
    off = ~np.eye(count, dtype=bool)
    centered = np.where(off, near - near[off].mean(), 0.0)
    _, axes = np.linalg.eigh(centered)
    order = np.argsort(axes[:, -1], kind="stable")
    ordered = np.where(off, near, 0.0)[np.ix_(order, order)]
    # Sums of the upper left block of each size, and of the rows up to it.
    block = np.cumsum(np.cumsum(ordered, axis=0), axis=1)
    sizes = np.arange(MIN_GROUP, count - MIN_GROUP + 1)
    upper_left = np.diagonal(block)[sizes - 1]
    across = block[sizes - 1, -1] - upper_left
    lower_right = block[-1, -1] - upper_left - 2 * across
    rest = count - sizes
    within = (upper_left + lower_right) / (sizes * (sizes - 1) + rest * (rest - 1))
    between = across / (sizes * rest)
    quality = (within - between) * np.sqrt(sizes * rest) / count
    cut = int(sizes[np.argmax(quality)])
    first, second = order[:cut], order[cut:]
    return (first, second) if len(first) >= len(second) else (second, first)
