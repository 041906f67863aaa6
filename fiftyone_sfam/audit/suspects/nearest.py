"""The nearest images of each image: exactly, or among what an index proposes.

The exact search compares all images in tiles. The images are in the order of their
cameras, so that the pairs of one camera are rectangles. The largest values of a row are
found from the maxima of groups of columns: the groups with the largest maxima hold the
largest values.

An index proposes images by nearness that is not corrected for cameras. They are
compared exactly, and more are requested if the nearest strangers may not be among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.space import Space, blocks, compare
from fiftyone_sfam.retrieval.indexed import Proposals
from fiftyone_sfam.retrieval.search import UNKNOWN

OTHERS = 50
"""Nearest images of other identities that are kept for each image."""

CLOSEST = 4
"""Nearest images of any identity, which may be near-duplicates."""

# Columns of a tile of similarities.
_COLUMNS = 32_768
# Images per request to an index, and images requested beyond those that are needed.
_ASKED, _SPARE = 256, 16
# Factor of the next request if strangers are missing, and further requests at most.
_GROWTH, _MORE = 4, 2
# Nearest strangers that no image which was not proposed should precede.
_SURE = 10


@dataclass(frozen=True)
class Nearest:
    """The images that are nearest to each of N images, nearest first."""

    others: NDArray[np.int32]  # of other identities, or UNKNOWN, (N, OTHERS)
    nearness: NDArray[np.float32]  # corrected for cameras; -inf if unknown, same shape
    closest: NDArray[np.int32]  # of any identity, or UNKNOWN, (N, CLOSEST)


def find_nearest(
    space: Space,
    report: Callable[[int, int], None] | None = None,
    propose: Proposals | None = None,
) -> Nearest:
    """Find the images that are nearest to each image.

    Parameters
    ----------
    space : Space
        N images.
    report : callable, optional
        Called with the number of finished images, and N.
    propose : Proposals, optional
        Proposes the images, by their places in the space, that are compared exactly.
        By default all images are compared.

    Returns
    -------
    Nearest
        The nearest images.
    """
    count = len(space)
    found = Nearest(
        np.full((count, OTHERS), UNKNOWN, dtype=np.int32),
        np.full((count, OTHERS), -np.inf, dtype=np.float32),
        np.full((count, CLOSEST), UNKNOWN, dtype=np.int32),
    )
    if propose is None:
        _compare_all(space, found, report)
    else:
        _compare_proposed(space, found, propose, report)
    return found


# --------------------------------------------------------------------------------------
# All images
# --------------------------------------------------------------------------------------


def _compare_all(
    space: Space,
    found: Nearest,
    report: Callable[[int, int], None] | None,
    images: NDArray[np.int64] | None = None,
) -> None:
    """Compare all images, or some, with all, in tiles."""
    count = len(space)
    order = np.arange(count)
    labeled = int((space.identities != UNKNOWN).sum())
    in_order = labeled == count and not space.camera_gain
    if not in_order:
        order = np.lexsort((space.cameras, space.identities == UNKNOWN))
    place = np.empty(count, dtype=np.int64)
    place[order] = np.arange(count)
    vectors = space.vectors if in_order else space.vectors[order]
    cameras = space.cameras[order]
    compared = np.arange(count) if images is None else np.sort(place[images])
    for start, stop in blocks(len(compared), min(count, _COLUMNS), 4):
        places = compared[start:stop]
        rows = order[places]
        own = [
            place[space.members[code]] if code != UNKNOWN else place[:0]
            for code in space.identities[rows].tolist()
        ]
        closest, others = _Largest(len(rows), CLOSEST), _Largest(len(rows), OTHERS)
        for left in range(0, count, _COLUMNS):
            right = min(left + _COLUMNS, count)
            nearness = compare(vectors[places], vectors[left:right], space.metric)
            itself = np.flatnonzero((places >= left) & (places < right))
            nearness[itself, places[itself] - left] = -np.inf
            closest.add(nearness, left)
            if left >= labeled:
                continue
            nearness = nearness[:, : labeled - left]
            if space.camera_gain:
                columns = cameras[left : min(right, labeled)]
                _subtract_gain(nearness, cameras[places], columns, space.camera_gain)
            for row, columns in enumerate(own):
                inside = columns[(columns >= left) & (columns < right)]
                nearness[row, inside - left] = -np.inf
            others.add(nearness, left)
        found.closest[rows] = _sorted(closest, order)[0]
        found.others[rows], found.nearness[rows] = _sorted(others, order)
        if report is not None:
            report(stop, len(compared))


def _subtract_gain(
    nearness: NDArray[np.float32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    gain: float,
) -> None:
    """Subtract a gain, in place, from pairs of one camera; columns are sorted."""
    bounds = [0, *(np.flatnonzero(np.diff(rows)) + 1).tolist(), len(rows)]
    for start, stop in pairwise(bounds):
        camera = rows[start]
        if camera != UNKNOWN:
            left, right = np.searchsorted(columns, [camera, camera + 1])
            nearness[start:stop, left:right] -= np.float32(gain)


class _Largest:
    """The largest values of each of R rows, of tiles of columns."""

    def __init__(self, rows: int, count: int) -> None:
        self.columns = np.full((rows, count), UNKNOWN, dtype=np.int64)
        self.values = np.full((rows, count), -np.inf, dtype=np.float32)

    def add(self, values: NDArray[np.float32], first: int) -> None:
        """Take the values of columns into account, of which ``first`` is the first."""
        chosen = largest(values, self.columns.shape[1])
        columns = np.concatenate([self.columns, chosen + first], axis=1)
        values = np.concatenate(
            [self.values, np.take_along_axis(values, chosen, axis=1)], axis=1
        )
        chosen = largest(values, self.columns.shape[1])
        self.columns = np.take_along_axis(columns, chosen, axis=1)
        self.values = np.take_along_axis(values, chosen, axis=1)


def _sorted(
    largest: _Largest, images: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the images of columns and their values, largest first."""
    known = np.isfinite(largest.values)
    found = np.where(known, images[largest.columns], UNKNOWN)
    order = np.lexsort((found, -largest.values), axis=1)
    return (
        np.take_along_axis(found, order, axis=1),
        np.take_along_axis(largest.values, order, axis=1),
    )


def largest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the columns of each row's largest values, in any order."""
    columns = values.shape[1]
    count = min(count, columns)
    width = int(np.sqrt(columns / count))
    if width < 3:
        return np.argpartition(values, columns - count, axis=1)[:, columns - count :]
    groups = columns // width
    # A group has every ``groups``-th column: maxima of whole rows of memory.
    grouped = values[:, : groups * width].reshape(len(values), width, groups)
    best = grouped.max(axis=1)
    chosen = np.argpartition(best, groups - count, axis=1)[:, groups - count :]
    members = chosen[:, :, None] + groups * np.arange(width)
    rest = np.broadcast_to(
        np.arange(groups * width, columns), (len(values), columns - groups * width)
    )
    candidates = np.concatenate([members.reshape(len(values), -1), rest], axis=1)
    found = np.take_along_axis(values, candidates, axis=1)
    within = np.argpartition(found, found.shape[1] - count, axis=1)[:, -count:]
    return np.take_along_axis(candidates, within, axis=1)


# --------------------------------------------------------------------------------------
# Proposed images
# --------------------------------------------------------------------------------------


def _compare_proposed(
    space: Space,
    found: Nearest,
    propose: Proposals,
    report: Callable[[int, int], None] | None,
) -> None:
    """Compare each image with those that an index proposes for it."""
    sizes = np.array([len(members) for members in space.members] + [1])
    # An index may propose all images of the own identity first.
    own = sizes[space.identities]
    order = np.argsort(own, kind="stable")
    for start in range(0, len(space), _ASKED):
        rows = order[start : start + _ASKED]
        count = min(OTHERS + _SPARE + int(own[rows].max()), propose.size)
        for _ in range(1 + _MORE):
            near = propose(space.vectors[rows], count)
            missing = ~_enter(space, found, rows, near)
            more = np.array([len(images) >= count for images in near], dtype=bool)
            rows = rows[missing & more]
            if len(rows) == 0 or count >= propose.size:
                break
            count = min(_GROWTH * count, propose.size)
        if report is not None:
            report(min(start + _ASKED, len(space)), len(space))


def _enter(
    space: Space,
    found: Nearest,
    rows: NDArray[np.int64],
    near: list[NDArray[np.int64]],
) -> NDArray[np.bool_]:
    """Store the nearest of the proposed images; return which rows are complete."""
    chosen = [np.unique(images[images != UNKNOWN]) for images in near]
    width = max(CLOSEST, OTHERS, *map(len, chosen))
    images = np.full((len(rows), width), UNKNOWN, dtype=np.int64)
    for row, some in enumerate(chosen):
        images[row, : len(some)] = some
    unknown = (images == UNKNOWN) | (images == rows[:, None])
    nearness = _compare_each(space, rows, images)
    floor = np.where(unknown, np.float32(np.inf), nearness).min(axis=1)
    nearness[unknown] = -np.inf
    order = np.argsort(-nearness, axis=1, kind="stable")[:, :CLOSEST]
    found.closest[rows] = np.where(
        np.take_along_axis(unknown, order, axis=1),
        UNKNOWN,
        np.take_along_axis(images, order, axis=1),
    )
    if space.camera_gain:
        mine = space.cameras[rows][:, None]
        same = (mine == space.cameras[images]) & (mine != UNKNOWN)
        nearness -= np.float32(space.camera_gain) * same
    identities = space.identities[images]
    same = identities == space.identities[rows][:, None]
    dropped = unknown | same | (identities == UNKNOWN)
    nearness[dropped] = -np.inf
    order = np.argsort(-nearness, axis=1, kind="stable")[:, :OTHERS]
    values = np.take_along_axis(nearness, order, axis=1)
    images = np.take_along_axis(images, order, axis=1)
    found.others[rows] = np.where(np.isfinite(values), images, UNKNOWN)
    found.nearness[rows] = values
    return np.isfinite(values[:, -1]) & (values[:, _SURE - 1] >= floor)


def _compare_each(
    space: Space, rows: NDArray[np.int64], images: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Compare each row with images of its own, shape (R, W)."""
    nearness = np.empty(images.shape, dtype=np.float32)
    size = images.shape[1] * space.vectors.shape[1]
    for start, stop in blocks(len(rows), size, 4):
        left = space.vectors[rows[start:stop]][:, None]
        right = space.vectors[images[start:stop]]
        if space.metric == "cosine":
            nearness[start:stop] = (left @ right.transpose(0, 2, 1))[:, 0]
        else:
            right -= left
            np.square(right, out=right)
            nearness[start:stop] = -np.sqrt(right.sum(axis=2))
    return nearness
