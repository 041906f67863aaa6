"""How near images are to their own identity and to other identities.

These functions work on arrays. Nearness is the cosine similarity, or the negative
Euclidean distance. Two images of a person are on average nearer on one camera than on
two. This gain is subtracted from pairs on one camera, so that pairs on one and on two
cameras are comparable.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.retrieval.search import UNKNOWN

# The spread is estimated from the 80 % quantile of absolute deviations: it is robust to
# one fifth of wrong values, and reflects heavier tails than the median does.
_QUANTILE = 0.8
_NORMAL_QUANTILE = 1.2815515655446004

CENTER_PRIOR = 4
"""Weight, in images, of the pooled center in the center of an identity."""

SCALE_PRIOR = 20
"""Weight, in images, of the pooled variance in the variance of an identity."""

# Bytes of a block of similarities.
_BLOCK_BYTES = 64 * 2**20
# Images of an identity from which its pairs are measured.
_MOST_MEMBERS = 200
# An image is compared with the nearer half of an identity, so that only one of two
# merged persons counts, but with at least and at most this many images: few images of
# a person seen from all sides are alike.
_FEWEST, _MOST = 2, 4
# Least number of pairs on one camera, and on two, to measure the gain.
_MIN_CAMERA_PAIRS = 20

Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class Spreads:
    """Center and spread of each of C groups, shrunk towards the pooled ones."""

    center: NDArray[np.float64]  # (C,)
    scale: NDArray[np.float64]  # (C,)
    pooled_center: float
    pooled_scale: float


def robust_scale(deviations: NDArray[np.floating]) -> float:
    """Estimate a standard deviation; one fifth of the deviations may be wrong."""
    if len(deviations) == 0:
        return 0.0
    return float(np.quantile(np.abs(deviations), _QUANTILE)) / _NORMAL_QUANTILE


def group_spreads(
    values: NDArray[np.float64], groups: NDArray[np.int64], count: int, floor: float
) -> Spreads:
    """Estimate the center and the spread of each group, and of all groups.

    Estimates of small groups are shrunk towards the pooled ones: those of n values have
    the weight n, the pooled ones :data:`CENTER_PRIOR` and :data:`SCALE_PRIOR`.
    """
    order = np.argsort(groups, kind="stable")
    bounds = np.searchsorted(groups[order], np.arange(count + 1))
    parts = [values[order[start:stop]] for start, stop in pairwise(bounds)]
    pooled_center = float(np.median(values)) if len(values) else 0.0
    within = [
        # Corrected for a center that is estimated from the same values.
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
        size, median = len(part), float(np.median(part))
        weighted = size * median + CENTER_PRIOR * pooled_center
        center[group] = weighted / (size + CENTER_PRIOR)
        weighted = size * robust_scale(part - median) ** 2 + SCALE_PRIOR * pooled**2
        scale[group] = max(np.sqrt(weighted / (size + SCALE_PRIOR)), floor)
    return Spreads(center, scale, pooled_center, pooled)


def confidence(
    margin: float | NDArray[np.floating], unit: float
) -> NDArray[np.float64]:
    """Turn the distance from a threshold into a score from 0 to 1; 0.5 is at 0."""
    margin = np.asarray(margin, dtype=np.float64)
    return 0.5 * (1 + margin / (np.abs(margin) + unit))


@dataclass(frozen=True)
class Space:
    """Embeddings and labels of N images."""

    vectors: NDArray[np.float32]  # (N, D)
    metric: str
    identities: NDArray[np.int64]  # codes from 0, or UNKNOWN, shape (N,)
    cameras: NDArray[np.int64]  # codes from 0, or UNKNOWN, shape (N,)
    members: tuple[NDArray[np.int64], ...]  # images of each identity, by its code
    camera_gain: float = 0.0  # what pairs on one camera are nearer than on two

    def __len__(self) -> int:
        return len(self.vectors)

    def nearness(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Compare images with images, corrected for cameras, shape (rows, columns)."""
        nearness = self.raw_nearness(rows, columns)
        if self.camera_gain:
            nearness[self.same_camera(rows, columns)] -= self.camera_gain
        return nearness

    def raw_nearness(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Compare images with images, not corrected for cameras."""
        left = self.vectors[rows].astype(np.float64)
        right = self.vectors[columns].astype(np.float64)
        return compare(left, right, self.metric)

    def same_camera(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return which pairs come from one known camera."""
        cameras = self.cameras[rows][:, None]
        return (cameras == self.cameras[columns]) & (cameras != UNKNOWN)

    def some_members(self, identity: int) -> NDArray[np.int64]:
        """Return the images of an identity, or an even selection of very many.

        The selection depends on the embeddings, not on the order of the images.
        """
        members = self.members[identity]
        if len(members) <= _MOST_MEMBERS:
            return members
        order = np.lexsort(self.vectors[members].T[::-1])
        chosen = np.linspace(0, len(members) - 1, _MOST_MEMBERS).round().astype(int)
        return np.sort(members[order[chosen]])


@dataclass(frozen=True)
class Genuine:
    """How near two images of one identity usually are."""

    median: float  # median over identities of the median over their pairs
    scale: float  # robust spread of an identity's pairs around their median


def make_space(
    embeddings: NDArray[np.floating],
    metric: str,
    identities: NDArray[np.int64],
    cameras: NDArray[np.int64],
) -> Space:
    """Normalize embeddings, group images by identity and measure the camera gain."""
    vectors = np.empty(embeddings.shape, dtype=np.float32)
    for start, stop in blocks(len(embeddings), embeddings.shape[1], 8):
        block = embeddings[start:stop].astype(np.float64)
        if metric == "cosine":
            block /= np.linalg.norm(block, axis=1, keepdims=True)
        vectors[start:stop] = block
    space = Space(vectors, metric, identities, cameras, members_of(identities))
    return replace(space, camera_gain=_camera_gain(space))


def members_of(identities: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """List the images of each identity, by its code."""
    order = np.argsort(identities, kind="stable")
    count = int(identities.max(initial=-1)) + 1
    bounds = np.searchsorted(identities[order], np.arange(count + 1))
    return tuple(order[start:stop] for start, stop in pairwise(bounds))


def measure_genuine(space: Space) -> Genuine:
    """Measure how near images of one identity are, and how much that varies."""
    medians, deviations = [], []
    for identity in range(len(space.members)):
        members = space.some_members(identity)
        if len(members) < 2:
            continue
        pairs = upper(space.nearness(members, members))
        medians.append(float(np.median(pairs)))
        if len(members) >= 3:
            deviations.append(pairs - medians[-1])
    return Genuine(
        float(np.median(medians)) if medians else float("nan"),
        robust_scale(np.concatenate(deviations)) if deviations else 0.0,
    )


def compared_with(count: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many of an identity's ``count`` images an image is compared with."""
    count = np.asarray(count)
    return np.minimum(count, np.clip(count // 2, _FEWEST, _MOST))


def own_nearness(space: Space) -> NDArray[np.float64]:
    """Compare each image with the nearest others of its own identity."""
    own = np.full(len(space), np.nan)
    for members in space.members:
        if len(members) < 2:
            continue
        for start, stop in blocks(len(members), len(members), 8):
            rows = members[start:stop]
            nearness = space.nearness(rows, members)
            nearness[np.arange(len(rows)), np.arange(start, stop)] = -np.inf
            own[rows] = _mean_of_nearest(nearness, len(members) - 1)
    return own


def nearness_to(
    space: Space, images: NDArray[np.int64], identities: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Compare each image with the nearest images of one other identity."""
    means = np.empty(len(images))
    order = np.argsort(identities, kind="stable")
    bounds = np.searchsorted(identities[order], np.arange(len(space.members) + 1))
    for identity, members in enumerate(space.members):
        rows = order[bounds[identity] : bounds[identity + 1]]
        for start, stop in blocks(len(rows), len(members), 8):
            block = rows[start:stop]
            nearness = space.nearness(images[block], members)
            means[block] = _mean_of_nearest(nearness, len(members))
    return means


def unique_pairs(
    first: NDArray[np.integer], second: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct pairs of numbers from 0, sorted."""
    base = int(second.max(initial=0)) + 1
    pairs = np.unique(first.astype(np.int64) * base + second)
    return pairs // base, pairs % base


def upper(square: NDArray[Value]) -> NDArray[Value]:
    """Return the values above the diagonal."""
    return square[np.triu_indices(len(square), 1)]


def _camera_gain(space: Space) -> float:
    """Measure how much nearer images of a person are on one camera than on two."""
    same_pairs, cross_pairs = [np.empty(0)], [np.empty(0)]
    for identity in range(len(space.members)):
        members = space.some_members(identity)
        if len(members) < 2:
            continue
        pairs = upper(space.raw_nearness(members, members))
        known = space.cameras[members] != UNKNOWN
        both = upper(known[:, None] & known)
        same = upper(space.same_camera(members, members))
        same_pairs.append(pairs[same])
        cross_pairs.append(pairs[both & ~same])
    same_camera, cross = np.concatenate(same_pairs), np.concatenate(cross_pairs)
    if min(len(same_camera), len(cross)) < _MIN_CAMERA_PAIRS:
        return 0.0
    return max(0.0, float(np.median(same_camera) - np.median(cross)))


def compare(left: NDArray, right: NDArray, metric: str) -> NDArray:
    """Compare vectors with vectors, without a change of precision."""
    product = left @ right.T
    if metric == "cosine":
        return product
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1)
    return -np.sqrt(np.maximum(squares - 2 * product, 0))


def compare_each(vectors: NDArray, metric: str) -> NDArray:
    """Compare the vectors of each row with each other, (R, S, D) to (R, S, S)."""
    product = vectors @ vectors.transpose(0, 2, 1)
    if metric == "cosine":
        return product
    squares = np.square(vectors).sum(axis=2)
    apart = squares[:, :, None] + squares[:, None] - 2 * product
    return -np.sqrt(np.maximum(apart, 0))


def _mean_of_nearest(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Average the largest values of each row, ``count`` of which are finite."""
    take = int(compared_with(count))
    return np.partition(values, values.shape[1] - take, axis=1)[:, -take:].mean(axis=1)


def blocks(rows: int, columns: int, itemsize: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of rows whose values fit in a block."""
    step = max(1, _BLOCK_BYTES // (itemsize * max(1, columns)))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)
