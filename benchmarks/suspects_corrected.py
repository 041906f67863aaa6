"""Nearness corrected for hubs, and evidence that identities of any size take part in.

A badly aligned image is near to many strangers. The *level* of an image is its mean
nearness to its nearest strangers; the corrected nearness of two images is

    c(i, j) = s(i, j) - (level(i) + level(j)) / 2,

which ranks pairs as cross-domain similarity local scaling does (CSLS; Conneau et al.,
"Word translation without parallel data", 2018: ``2 s - r(i) - r(j)``). Nothing here
needs the spread of an identity, so identities of one and two images take part.

Similarities are computed in blocks; what is kept has a size of N times a constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.space import Space
from fiftyone_sfam.retrieval.search import UNKNOWN

STRANGERS = 10
"""Strangers, or other identities, from which the level of an image is measured."""

TOP = 2
"""Nearest images of an identity that count in the evidence for it."""

# Weight, in pairs, of the usual nearness of two images in that of an identity's groups.
_PAIR_PRIOR = 3.0
_BLOCK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class CorrectedSpace(Space):
    """A space in which an image that is near to many strangers is less near to all."""

    levels: NDArray[np.float64] = field(kw_only=True)  # shape (N,)

    def nearness(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Compare images with images, corrected for cameras and for hubs."""
        nearness = super().nearness(rows, columns)
        nearness -= self.levels[rows][:, None] / 2
        nearness -= self.levels[columns] / 2
        return nearness


@dataclass(frozen=True)
class Links:
    """The nearest strangers of N images after the correction, nearest first, (N, K)."""

    images: NDArray[np.int64]  # or UNKNOWN; at most one image per other identity
    nearness: NDArray[np.float64]  # -inf where unknown


@dataclass(frozen=True)
class TwoGroups:
    """An identity in the two groups that differ most."""

    groups: tuple[NDArray[np.int64], NDArray[np.int64]]  # images
    score: float


def correct(space: Space, *, by_identity: bool) -> CorrectedSpace:
    """Measure the levels of images, and correct a space by them.

    Parameters
    ----------
    space : Space
        N images of at least two identities.
    by_identity : bool
        Whether the level is the mean over the nearest image of each of the nearest
        other identities, without the nearest of them, which may be the same person
        under another name. If not, the mean over the nearest strangers, as in CSLS.

    Returns
    -------
    CorrectedSpace
        The space with corrected nearness.
    """
    levels = np.zeros(len(space))
    for rows, strangers, starts in _blocks(space):
        values = strangers
        if by_identity:
            values = np.maximum.reduceat(strangers, starts, axis=1)
        count = min(STRANGERS + by_identity, values.shape[1])
        nearest = -np.partition(-values, count - 1, axis=1)[:, :count]
        if by_identity and count > 1:
            nearest = np.where(
                nearest == nearest.max(axis=1)[:, None], -np.inf, nearest
            )
        known = np.isfinite(nearest)
        total = np.where(known, nearest, 0).sum(axis=1)
        levels[rows] = total / np.maximum(known.sum(axis=1), 1)
    return CorrectedSpace(
        space.vectors,
        space.metric,
        space.identities,
        space.cameras,
        space.members,
        space.camera_gain,
        levels=levels,
    )


def find_links(space: CorrectedSpace, count: int = STRANGERS) -> Links:
    """Find the nearest image of each of the nearest other identities, in blocks."""
    images = np.full((len(space), count), UNKNOWN, dtype=np.int64)
    nearness = np.full((len(space), count), -np.inf)
    order, starts = _ordered(space)
    sizes = np.diff(starts, append=len(order))
    for rows, strangers, _ in _blocks(space):
        best = np.maximum.reduceat(strangers, starts, axis=1)
        chosen = np.argsort(-best, axis=1, kind="stable")[:, :count]
        values = np.take_along_axis(best, chosen, axis=1)
        for place, row in enumerate(rows):
            for turn, code in enumerate(chosen[place]):
                if np.isfinite(values[place, turn]):
                    start = starts[code]
                    part = strangers[place, start : start + sizes[code]]
                    images[row, turn] = order[start + int(np.argmax(part))]
        nearness[rows, : chosen.shape[1]] = values
    return Links(images, nearness)


def linked_identities(space: Space, links: Links) -> list[tuple[int, int]]:
    """List the pairs of identities that a link connects."""
    known = links.images != UNKNOWN
    first = np.broadcast_to(space.identities[:, None], known.shape)[known]
    second = space.identities[links.images[known]]
    pairs = np.stack([np.minimum(first, second), np.maximum(first, second)])
    return [(int(one), int(other)) for one, other in np.unique(pairs, axis=1).T]


def one_person_score(space: Space, first: int, second: int) -> float:
    """Score two identities as one person; higher is more likely.

    The corrected nearness of each image to the two nearest images of the other
    identity, averaged over the images of either identity; the lower of both averages. A
    single stray image does not make two identities one person, as the other images of
    its identity are far from its own person. Sizes do not matter.
    """
    near = space.nearness(space.some_members(first), space.some_members(second))
    return min(
        float(_mean_of_largest(near).mean()), float(_mean_of_largest(near.T).mean())
    )


def two_persons_score(space: Space, identity: int, usual: float) -> TwoGroups:
    """Divide an identity of two or more images, and score it as two persons.

    The images are ordered along the first principal axes of their similarities, and cut
    where the difference between the mean nearness within and between the groups is
    largest, with a weight for equal sizes. The score is that difference times the
    square root of ``4 n m / (n + m)`` for groups of n and m images (the difference in
    errors, up to a constant), minus the nearness of the two images that are farthest
    apart. The mean within is that of few pairs, and shrunk towards ``usual``, the usual
    corrected nearness of two images of one person.
    """
    members = space.some_members(identity)
    near = space.nearness(members, members)
    first, second = _best_cut(near)
    within = [near[np.ix_(part, part)] for part in (first, second)]
    pairs = np.concatenate([part[np.triu_indices(len(part), 1)] for part in within])
    between = float(near[np.ix_(first, second)].mean())
    inside = (pairs.sum() + _PAIR_PRIOR * usual) / (len(pairs) + _PAIR_PRIOR)
    weight = np.sqrt(4 * len(first) * len(second) / len(members))
    if len(first) < len(second):
        first, second = second, first
    score = (inside - between) * weight - near[np.triu_indices(len(near), 1)].min()
    return TwoGroups((members[first], members[second]), float(score))


def usual_nearness(space: Space) -> float:
    """Return the median of the mean nearness of images to the nearest of their own."""
    values = []
    for identity in range(len(space.members)):
        members = space.some_members(identity)
        if len(members) > 1:
            near = space.nearness(members, members)
            np.fill_diagonal(near, -np.inf)
            values.append(_mean_of_largest(near, len(members) - 1))
    return float(np.median(np.concatenate(values))) if values else 0.0


def _best_cut(
    near: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut images into two groups of at least one image, along a principal axis."""
    count = len(near)
    if count == 2:
        return np.array([0]), np.array([1])
    off = ~np.eye(count, dtype=bool)
    centered = np.where(off, near - near[off].mean(), 0.0)
    _, axes = np.linalg.eigh(centered)
    best: tuple[float, NDArray[np.int64], int] | None = None
    for axis in (-1, -2):
        order = np.argsort(axes[:, axis], kind="stable")
        ordered = np.where(off, near, 0.0)[np.ix_(order, order)]
        # Sums of the upper left block of each size, and of the rows up to it.
        block = np.cumsum(np.cumsum(ordered, axis=0), axis=1)
        sizes = np.arange(1, count)
        upper_left = np.diagonal(block)[sizes - 1]
        across = block[sizes - 1, -1] - upper_left
        lower_right = block[-1, -1] - upper_left - 2 * across
        rest = count - sizes
        pairs = sizes * (sizes - 1) + rest * (rest - 1)
        difference = (upper_left + lower_right) / pairs - across / (sizes * rest)
        quality = difference * np.sqrt(sizes * rest) / count
        place = int(np.argmax(quality))
        if best is None or quality[place] > best[0]:
            best = float(quality[place]), order, int(sizes[place])
    assert best is not None
    return best[1][: best[2]], best[1][best[2] :]


def _mean_of_largest(
    values: NDArray[np.float64], count: int | None = None
) -> NDArray[np.float64]:
    """Average the largest values of each row, ``count`` of which are finite."""
    take = min(TOP, values.shape[1] if count is None else count)
    return np.partition(values, values.shape[1] - take, axis=1)[:, -take:].mean(axis=1)


def _ordered(space: Space) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the images in the order of their identities, and where each starts."""
    order = np.concatenate(space.members)
    sizes = [len(members) for members in space.members]
    return order, np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)


def _blocks(
    space: Space,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]:
    """Yield images, their nearness to strangers by identity, and identities' starts."""
    order, starts = _ordered(space)
    owners = space.identities[order]
    step = max(1, _BLOCK_BYTES // (8 * max(1, len(order))))
    for start in range(0, len(space), step):
        rows = np.arange(start, min(start + step, len(space)))
        near = space.nearness(rows, order)
        near[space.identities[rows][:, None] == owners] = -np.inf
        yield rows, near, starts
