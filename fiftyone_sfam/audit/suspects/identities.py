"""How well embeddings agree with the labels of identities, whatever their size.

*One person under two names*: each image of either identity is compared with the two
nearest images of the other one. For identities of several images, their labels are also
permuted at random: if the true labels explain the similarities no better, both may be
one person. *Two persons under one name*: an identity is cut into
the two groups that differ most. Nearness is corrected for hubs, see
:mod:`fiftyone_sfam.audit.suspects.neighbors`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.neighbors import CorrectedSpace
from fiftyone_sfam.audit.suspects.space import Space, blocks, compare_each, upper
from fiftyone_sfam.retrieval.search import UNKNOWN

TOP = 2
"""Nearest images of an identity that count in the evidence for it."""

# Weight, in pairs, of the usual nearness of two images in that of an identity's groups.
_PAIR_PRIOR = 3.0

_Moments = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Division:
    """An identity in the two groups that differ most."""

    identity: int  # code
    groups: tuple[NDArray[np.int64], NDArray[np.int64]]  # images, larger group first
    score: float  # larger is more likely two persons
    nearest: float  # mean nearness of each image to the nearest of the other group


def _contrast(second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the weights of pairs in the mean within minus the mean between labels."""
    same = (second[:, None] == second) & ~np.eye(len(second), dtype=bool)
    differ = second[:, None] != second
    return same / same.sum() - differ / differ.sum()


def _exact_moments(
    a: _Moments, b: _Moments, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation over the permutations of one of two matrices.

    Of the sum of the products of their values; both matrices are symmetric.
    """
    (sum_a, square_a, row_a), (sum_b, square_b, row_b) = a, b
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
    return mean, np.sqrt(np.maximum(0.0, second_moment - mean**2))


def score_pairs(
    space: CorrectedSpace, codes: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score P pairs of identities, shape (P, 2), many pairs of the same sizes at once.

    Returns
    -------
    scores : ndarray of float64
        How much each pair looks like one person, shape (P,): the corrected nearness of
        each image to the two nearest images of the other identity, averaged over the
        images of either identity; the lower of both averages. A single stray image does
        not make two identities one person, as the other images of its identity are far
        from its own person.
    effects : ndarray of float64
        The mean nearness, without the correction for hubs, of images within the two
        labels minus that between them, in standard deviations of the same under all
        permutations of the labels (Mantel's exact moments), shape (P,). At 0 the labels
        carry no information. NaN for fewer than four images.
    """
    scores, effects = np.empty(len(codes)), np.empty(len(codes))
    some = [space.some_members(code) for code in range(len(space.members))]
    lengths = np.array([len(members) for members in some], dtype=np.int64)
    images = np.concatenate(some) if some else np.empty(0, dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    sizes = lengths[codes]
    order = np.lexsort(sizes.T)
    changes = np.flatnonzero((np.diff(sizes[order], axis=0) != 0).any(axis=1)) + 1
    for same in np.split(order, changes) if len(order) else []:
        first, second = sizes[same[0]].tolist()
        total = first + second
        values = total * (4 * total + 2 * space.vectors.shape[1])
        for start, stop in blocks(len(same), values, 8):
            rows = same[start:stop]
            one, other = (
                images[starts[codes[rows, side]][:, None] + np.arange(size)]
                for side, size in enumerate((first, second))
            )
            near = _nearness_within(space, np.concatenate([one, other], axis=1))
            effects[rows] = _effects(near, first)
            across = near[:, :first, first:]
            across -= space.levels[one][:, :, None] / 2
            across -= space.levels[other][:, None] / 2
            scores[rows] = np.minimum(
                _mean_of_largest(across).mean(axis=1),
                _mean_of_largest(across.transpose(0, 2, 1)).mean(axis=1),
            )
    return scores, effects


def _nearness_within(space: Space, images: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compare the images of each row, corrected for cameras, (R, S) to (R, S, S)."""
    near = compare_each(space.vectors[images].astype(np.float64), space.metric)
    if space.camera_gain:
        cameras = space.cameras[images]
        known = (cameras != UNKNOWN)[:, :, None]
        near[(cameras[:, :, None] == cameras[:, None]) & known] -= space.camera_gain
    return near


def _effects(similarity: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    """Measure the effects of labels in R matrices of nearness, (R, S, S) to (R,).

    The first ``first`` images have one label, and the others have another one.
    """
    count = similarity.shape[1]
    if count < 4:
        return np.full(len(similarity), np.nan)
    off = ~np.eye(count, dtype=bool)
    # The effect does not depend on the mean; centered values lose fewer digits.
    means = similarity.sum(axis=(1, 2), where=off) / (count * (count - 1))
    a = np.where(off, similarity - means[:, None, None], 0.0)
    b = _contrast(np.arange(count) >= first)
    observed = np.einsum("rij,ij->r", a, b)
    mean, error = _exact_moments(_moments(a), _moments(b), count)
    return np.divide(observed - mean, error, out=np.zeros(len(a)), where=error > 0)


def divide(space: Space, identity: int, usual: float) -> Division:
    """Cut an identity of two or more images in two, and score it as two persons.

    The score is the difference between the mean nearness within and between the groups
    times the square root of ``4 n m / (n + m)`` for groups of n and m images (the
    difference in errors, up to a constant), minus the nearness of the two images that
    are farthest apart. The mean within is that of few pairs, and shrunk towards
    ``usual``, the usual corrected nearness of two images of one person.
    """
    members = space.some_members(identity)
    near = space.nearness(members, members)
    first, second = best_cut(near)
    within = np.concatenate(
        [upper(near[np.ix_(part, part)]) for part in (first, second)]
    )
    across = near[np.ix_(first, second)]
    between = float(across.mean())
    inside = (within.sum() + _PAIR_PRIOR * usual) / (len(within) + _PAIR_PRIOR)
    weight = np.sqrt(4 * len(first) * len(second) / len(members))
    score = (inside - between) * weight - upper(near).min()
    nearest = np.concatenate([across.max(axis=0), across.max(axis=1)]).mean()
    return Division(
        identity, (members[first], members[second]), float(score), float(nearest)
    )


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


def best_cut(
    near: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut images into two groups of at least one image, the larger one first.

    Images are ordered along either of the first two principal axes of the similarities,
    and cut where the difference between within and between is largest, with a weight
    that favors groups of equal size.
    """
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
    first, second = best[1][: best[2]], best[1][best[2] :]
    return (first, second) if len(first) >= len(second) else (second, first)


def _moments(matrices: NDArray[np.float64]) -> _Moments:
    """Return the sums of the values, of their squares and of the squared row sums."""
    return (
        matrices.sum(axis=(-2, -1)),
        np.square(matrices).sum(axis=(-2, -1)),
        np.square(matrices.sum(axis=-1)).sum(axis=-1),
    )


def _mean_of_largest(
    values: NDArray[np.float64], count: int | None = None
) -> NDArray[np.float64]:
    """Average the largest values of each row, ``count`` of which are finite."""
    size = values.shape[-1]
    take = min(TOP, size if count is None else count)
    largest = np.partition(values, size - take, axis=-1)[..., size - take :]
    return largest.mean(axis=-1)
