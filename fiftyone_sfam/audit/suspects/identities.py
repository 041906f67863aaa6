"""Identities that are one person, and persons that are one identity.

Numbers in, numbers out.

*Split.* The names of two identities are dealt out at random: where that explains the
similarities as well as the true names do, the names say nothing, and both may be one
person. Being near alone does not count, for look-alikes and people before the same wall
are near as well; and so that too few images do not pass for one person, two identities
as different as is usual in the run have to be far from passing.

*Merged.* An identity is divided in two groups as well as it can be. If these are as far
apart as two identities usually are, with a clear gap between what is within and what is
between, it may be two persons.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.space import (
    Levels,
    Nearest,
    Space,
    label_effect,
    upper,
)
from fiftyone_sfam.retrieval.search import UNKNOWN

SAME = 2.5
"""Errors up to which names are taken to explain nothing (1 % of one-sided chance)."""

USUAL = 5.0
"""Errors that usual identities' names are asked to explain, to have any power."""

MOST_EFFECT = 1.0
"""Spreads that the names of one person's images may explain."""

GAP = 4.6
"""Clearness of the gap between two groups times how far they are apart."""

MIN_GROUP = 2
"""Images of the smaller group of an identity of two persons."""

# Partners that an identity is compared with: those its images are nearest to.
_PARTNERS = 3
# Being farther apart than two identities usually are does not count beyond this.
_MOST_APART = 1.5
# Pairs with which the spread of all identities counts in that of two groups.
_SCALE_PRIOR = 10


@dataclass(frozen=True)
class IdentityPair:
    """Two identities that are near to each other."""

    first: int  # codes of the identities
    second: int  # codes of the identities
    images: tuple[int, int]  # images of each that were compared
    between: float  # mean nearness of an image of one and an image of the other
    within: float  # mean nearness of two images of one identity
    effect: float  # what the names explain, in spreads
    z: float  # the same in errors
    usual_z: float
    support: float

    @property
    def margin(self) -> float:
        """How far above the threshold for one person, in errors."""
        return min(SAME - self.z, self.support)


@dataclass(frozen=True)
class Division:
    """An identity in two groups."""

    identity: int  # its code
    groups: tuple[NDArray[np.int64], NDArray[np.int64]]
    within: float  # mean nearness of two images of one group, and of two groups
    between: float  # mean nearness of two images of one group, and of two groups
    apart: float
    gap: float  # within - between in standard deviations of either
    by_camera: bool
    margin: float  # how far above the threshold for two persons, as a logarithm


def compare_identities(
    space: Space, levels: Levels, nearest: Nearest, suspected: NDArray[np.int64]
) -> list[IdentityPair]:
    """Compare each identity with those that its images are nearest to."""
    measured = [
        _measure_pair(space, levels, suspected, first, second)
        for first, second in _partners(space, nearest)
    ]
    rivals: dict[int, float] = {}
    for pair in measured:
        for code in (pair.first, pair.second):
            rivals[code] = min(rivals.get(code, np.inf), pair.effect)
    usual = float(np.median(list(rivals.values()))) if rivals else float("nan")
    return [_judge_pair(pair, usual) for pair in measured]


def rival_level(space: Space, pairs: list[IdentityPair]) -> float:
    """Return how near an identity and its nearest other one usually are."""
    best: dict[int, float] = {}
    for pair in pairs:
        for code in (pair.first, pair.second):
            best[code] = max(best.get(code, -np.inf), pair.between)
    return float(np.median(list(best.values()))) if best else float("nan")


def divide_identities(
    space: Space, levels: Levels, rivals: float, suspected: NDArray[np.int64]
) -> list[Division]:
    """Divide each identity of enough images in two groups."""
    apart = levels.genuine - rivals
    if not apart > 0 or levels.scale <= 0:
        return []
    found = []
    for code in range(len(space.members)):
        members = space.some_members(code)
        members = members[suspected[members] == UNKNOWN]
        if len(members) >= 2 * MIN_GROUP:
            found.append(_divide(space, levels, apart, code, members))
    return found


def _kept(
    space: Space, code: int, partner: int, suspected: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return an identity's images without those of a third one, if others remain."""
    members = space.some_members(code)
    kept = members[np.isin(suspected[members], [UNKNOWN, code, partner])]
    return kept if len(kept) else members


def _partners(space: Space, nearest: Nearest) -> list[tuple[int, int]]:
    """List the pairs of identities whose images are among each other's nearest."""
    counts: dict[int, Counter[int]] = {}
    for image, others in enumerate(nearest.others):
        own = int(space.identities[image])
        if own == UNKNOWN:
            continue
        # An image has one voice for each identity, however many of its are near.
        named = {int(space.identities[other]) for other in others if other != UNKNOWN}
        counts.setdefault(own, Counter()).update(named)
    # Equally many voices are told apart by the centers, not by the images' order.
    centers = np.array(
        [space.vectors[members].mean(axis=0) for members in space.members]
    )
    found = set()
    for own, heard in counts.items():
        others = np.array(list(heard), dtype=np.int64)
        voices = np.array(list(heard.values()))
        away = np.linalg.norm(centers[others] - centers[own], axis=1)
        for other in others[np.lexsort((away, -voices))][:_PARTNERS].tolist():
            found.add((min(own, other), max(own, other)))
    return sorted(found)


def _measure_pair(
    space: Space,
    levels: Levels,
    suspected: NDArray[np.int64],
    first: int,
    second: int,
) -> IdentityPair:
    """Measure what two names explain, not yet what that means."""
    ones = _kept(space, first, second, suspected)
    others = _kept(space, second, first, suspected)
    images, sizes = np.concatenate([ones, others]), (len(ones), len(others))
    is_second = np.arange(len(images)) >= sizes[0]
    near = space.nearness(images, images)
    between = float(near[~is_second][:, is_second].mean())
    same = (is_second[:, None] == is_second) & ~np.eye(len(images), dtype=bool)
    within = float(near[same].mean()) if same.any() else float("nan")
    scale = max(levels.scale, 1e-9)
    found = label_effect(near, is_second)
    if found is None:
        # Too few to deal names out: compared with what is usual for one person.
        effect, error = levels.genuine - between, levels.scale
    else:
        effect, error = found.effect, found.error
    error = max(error, 1e-9)
    return IdentityPair(
        first,
        second,
        sizes,
        between,
        within,
        effect / scale,
        effect / error,
        scale / error,  # of an effect of one spread; completed by _judge_pair
        float("nan"),
    )


def _judge_pair(pair: IdentityPair, usual: float) -> IdentityPair:
    """Complete a pair, knowing what names usually explain in the run, in spreads."""
    usual_z = usual * pair.usual_z
    support = min(
        (MOST_EFFECT - pair.effect) * SAME / MOST_EFFECT,
        (usual_z - USUAL) * SAME / USUAL,
    )
    return IdentityPair(
        pair.first,
        pair.second,
        pair.images,
        pair.between,
        pair.within,
        pair.effect,
        pair.z,
        usual_z,
        support if np.isfinite(support) else -np.inf,
    )


def _divide(
    space: Space,
    levels: Levels,
    apart: float,
    code: int,
    members: NDArray[np.int64],
) -> Division:
    """Divide an identity where the nearness between the parts is least."""
    near = space.nearness(members, members)
    first, second = best_division(near)
    within = np.concatenate(
        [upper(near[np.ix_(part, part)]) for part in (first, second)]
    )
    between = near[np.ix_(first, second)].ravel()
    difference = float(within.mean() - between.mean())
    variance = sum(
        (len(part) * part.var() + _SCALE_PRIOR * levels.scale**2)
        / (len(part) + _SCALE_PRIOR)
        for part in (within, between)
    )
    share, gap = difference / apart, difference / float(np.sqrt(variance / 2))
    product = min(share, _MOST_APART) * gap
    cameras = [
        set(space.cameras[members[part]]) - {UNKNOWN} for part in (first, second)
    ]
    by_camera = bool(cameras[0] and cameras[1] and not cameras[0] & cameras[1])
    margin = float(np.log(product / GAP)) if product > 0 else -np.inf
    return Division(
        code,
        (members[first], members[second]),
        float(within.mean()),
        float(between.mean()),
        share,
        gap,
        by_camera,
        # What differs may be the cameras: then twice as clear a gap is asked for.
        margin - (np.log(2) if by_camera else 0.0),
    )


def best_division(
    near: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide images in two groups of at least ``MIN_GROUP``.

    Along the first principal axis of the similarities, where the difference between
    within and between is largest, weighted so that halves count more than a rest of
    few.
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
