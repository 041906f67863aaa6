"""The images of a run as points: how near they are to their own identity and to others.

Numbers in, numbers out. Nearness is the cosine similarity, or the negative Euclidean
distance. Where cameras are known, what two images of one person gain on average by
coming from one camera is taken off, so that a stranger on the same camera and the same
person on another one compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.retrieval.search import UNKNOWN

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


# Bytes of one block of similarities.
Value = TypeVar("Value", bound=np.generic)

_BLOCK_BYTES = 64 * 2**20
# Images of one identity beyond which its pairs are taken from a part of them.
_MOST_MEMBERS = 200
# An image is compared with the nearer half of an identity, so that of two persons in
# one the other does not count, but with no fewer and no more images than these: a
# person seen from all sides has few images like any of them.
_FEWEST, _MOST = 2, 4
# Pairs of one person on one camera, and on two, that the gain is measured from.
_MIN_CAMERA_PAIRS = 20
# Images of other identities that suggest to whom an image may belong.
SUGGESTIONS = 10
# Of these, those that count for how many an image is near to.
REACH = 5
# Nearest images of all that may be the same picture.
TWINS = 4


@dataclass(frozen=True)
class Space:
    """Embeddings and labels of N images."""

    vectors: NDArray[np.float32]  # shape (N, D)
    metric: str  # how they are compared
    identities: NDArray[np.int64]  # (N,)
    cameras: NDArray[np.int64]  # codes from 0, UNKNOWN where there is none, shape (N,)
    members: tuple[NDArray[np.int64], ...]  # images of each identity, by its code
    camera_gain: float = 0.0

    def __len__(self) -> int:
        return len(self.vectors)

    def nearness(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Compare images with images."""
        found = self.raw_nearness(rows, columns)
        if self.camera_gain:
            found[self.same_camera(rows, columns)] -= self.camera_gain
        return found

    def raw_nearness(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Compare images with images, whatever their cameras."""
        left = self.vectors[rows].astype(np.float64)
        right = self.vectors[columns].astype(np.float64)
        return _nearness(left, right, self.metric)

    def same_camera(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Tell which pairs come from one camera; no camera is like no other."""
        cameras = self.cameras[rows][:, None]
        return (cameras == self.cameras[columns]) & (cameras != UNKNOWN)

    def some_members(self, identity: int) -> NDArray[np.int64]:
        """Return images of an identity, of a very large one no more than some.

        Which ones depends on their embeddings alone, not on their order.
        """
        members = self.members[identity]
        if len(members) <= _MOST_MEMBERS:
            return members
        order = np.lexsort(self.vectors[members].T[::-1])
        chosen = np.linspace(0, len(members) - 1, _MOST_MEMBERS).round().astype(int)
        return np.sort(members[order[chosen]])


@dataclass(frozen=True)
class Levels:
    """How near two images of one person are."""

    genuine: float  # median over the identities of their pairs' median
    scale: float  # robust spread of an identity's pairs around their median
    identities: int


@dataclass(frozen=True)
class Nearest:
    """The images that are nearest to each image."""

    others: NDArray[np.int64]  # (N, :data:`SUGGESTIONS`)
    twins: NDArray[np.int64]  # (N, :data:`TWINS`)
    twin_nearness: NDArray[np.float64]  # of these, shape (N, :data:`TWINS`)


def make_space(
    embeddings: NDArray[np.floating],
    metric: str,
    identities: NDArray[np.int64],
    cameras: NDArray[np.int64],
) -> Space:
    """Prepare embeddings for comparison."""
    vectors = np.array(embeddings, dtype=np.float64)
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(identities, kind="stable")
    count = int(identities.max(initial=-1)) + 1
    bounds = np.searchsorted(identities[order], np.arange(count + 1))
    members = tuple(order[start:stop] for start, stop in pairwise(bounds))
    space = Space(vectors.astype(np.float32), metric, identities, cameras, members)
    return replace(space, camera_gain=_camera_gain(space))


def measure_levels(space: Space) -> Levels:
    """Find how near images of one person are, and how much that varies."""
    medians, deviations = [], []
    for identity in range(len(space.members)):
        members = space.some_members(identity)
        if len(members) < 2:
            continue
        pairs = upper(space.nearness(members, members))
        medians.append(float(np.median(pairs)))
        if len(members) >= 3:
            deviations.append(pairs - medians[-1])
    return Levels(
        float(np.median(medians)) if medians else float("nan"),
        robust_scale(np.concatenate(deviations)) if deviations else 0.0,
        len(deviations),
    )


def compared_with(count: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return with how many of an identity's images another one is compared."""
    count = np.asarray(count)
    return np.minimum(count, np.clip(count // 2, _FEWEST, _MOST))


def own_nearness(space: Space) -> NDArray[np.float64]:
    """Compare each image with the nearest others of its own identity."""
    own = np.full(len(space), np.nan)
    for members in space.members:
        if len(members) < 2:
            continue
        for start, stop in _blocks(len(members), len(members), 8):
            rows = members[start:stop]
            found = space.nearness(rows, members)
            found[np.arange(len(rows)), np.arange(start, stop)] = -np.inf
            own[rows] = _mean_of_nearest(found, len(members) - 1)
    return own


def nearness_to(
    space: Space, images: NDArray[np.int64], identities: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compare images with the nearest images of identities that are not their own."""
    found = np.empty(len(images))
    order = np.argsort(identities, kind="stable")
    bounds = np.searchsorted(
        identities[order], np.arange(len(space.members) + 1), side="left"
    )
    for identity, members in enumerate(space.members):
        asked = order[bounds[identity] : bounds[identity + 1]]
        for start, stop in _blocks(len(asked), len(members), 8):
            part = asked[start:stop]
            found[part] = _mean_of_nearest(
                space.nearness(images[part], members), len(members)
            )
    return found


def find_nearest(
    space: Space, report: Callable[[int, int], None] | None = None
) -> Nearest:
    """Find the images that are nearest to each image, in blocks."""
    count = len(space)
    labeled = space.identities != UNKNOWN
    others = np.full((count, SUGGESTIONS), UNKNOWN, dtype=np.int64)
    twins = np.full((count, TWINS), UNKNOWN, dtype=np.int64)
    twin_nearness = np.full((count, TWINS), np.nan)
    columns = np.arange(count)
    for start, stop in _blocks(count, count, 4):
        rows = columns[start:stop]
        keys = _nearness(space.vectors[rows], space.vectors, space.metric)
        keys[np.arange(len(rows)), rows] = -np.inf
        found = _largest(keys, TWINS)
        twins[rows, : found.shape[1]] = found
        if space.camera_gain:
            same = space.same_camera(rows, columns)
            keys -= np.float32(space.camera_gain) * same
        own = space.identities[rows][:, None] == space.identities
        keys[own | ~labeled] = -np.inf
        found = _largest(keys, SUGGESTIONS)
        others[rows, : found.shape[1]] = found
        if report is not None:
            report(stop, count)
    for row in range(count):
        known = twins[row] != UNKNOWN
        twin_nearness[row, known] = space.raw_nearness(
            np.array([row]), twins[row, known]
        )[0]
    return Nearest(others, twins, twin_nearness)


def reach(space: Space, nearest: Nearest) -> NDArray[np.int64]:
    """Count the other identities that an image is among the nearest strangers of."""
    listed = nearest.others[:, :REACH]
    askers = np.broadcast_to(space.identities[:, None], listed.shape)
    valid = (listed != UNKNOWN) & (askers != UNKNOWN)
    pairs = np.unique(np.stack([listed[valid], askers[valid]]), axis=1)
    return np.bincount(pairs[0], minlength=len(space))


def upper(square: NDArray[Value]) -> NDArray[Value]:
    """Return the values above the diagonal."""
    return square[np.triu_indices(len(square), 1)]


def _camera_gain(space: Space) -> float:
    """Measure what two images of one person are nearer on one camera than on two."""
    on_one, on_two = [], []
    for identity in range(len(space.members)):
        members = space.some_members(identity)
        if len(members) < 2:
            continue
        pairs = upper(space.raw_nearness(members, members))
        known = space.cameras[members] != UNKNOWN
        both = upper(known[:, None] & known)
        same = upper(space.same_camera(members, members))
        on_one.append(pairs[same])
        on_two.append(pairs[both & ~same])
    one, two = (np.concatenate([*part, np.empty(0)]) for part in (on_one, on_two))
    if min(len(one), len(two)) < _MIN_CAMERA_PAIRS:
        return 0.0
    return max(0.0, float(np.median(one) - np.median(two)))


def _nearness(left: NDArray, right: NDArray, metric: str) -> NDArray:
    """Compare vectors with vectors, in their own precision."""
    product = left @ right.T
    if metric == "cosine":
        return product
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)
    return -np.sqrt(np.maximum(squares - 2 * product, 0))


def _mean_of_nearest(keys: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Average the largest values of each row, of ``count`` that are finite."""
    take = int(compared_with(count))
    return np.partition(keys, keys.shape[1] - take, axis=1)[:, -take:].mean(axis=1)


def _largest(keys: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the columns of each row's largest finite values, largest first."""
    count = min(count, keys.shape[1])
    found = np.argpartition(keys, keys.shape[1] - count, axis=1)[:, -count:]
    values = np.take_along_axis(keys, found, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    found = np.take_along_axis(found, order, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    return np.where(np.isfinite(values), found, UNKNOWN)


def _blocks(rows: int, columns: int, itemsize: int) -> Iterator[tuple[int, int]]:
    """Split rows so that a block of their values fits the memory."""
    step = max(1, _BLOCK_BYTES // (itemsize * max(1, columns)))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)
