"""Nearness corrected for hubs, from the nearest images of each image.

A badly aligned image is near to many strangers. The *level* of an image is its mean
nearness to its nearest strangers; the corrected nearness of two images is

    c(i, j) = s(i, j) - (level(i) + level(j)) / 2,

which ranks pairs as cross-domain similarity local scaling does (CSLS; Conneau et al.,
"Word translation without parallel data", 2018: ``2 s - r(i) - r(j)``). Nothing here
needs the spread of an identity, so identities of one and two images take part.

Similarities are computed once (:mod:`fiftyone_sfam.audit.suspects.nearest`); what is
kept has a size of N times a constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.nearest import OTHERS, Nearest
from fiftyone_sfam.audit.suspects.space import Space, unique_pairs
from fiftyone_sfam.retrieval.search import UNKNOWN

STRANGERS = 10
"""Strangers, or other identities, from which the level of an image is measured."""

REACH = 5
"""Nearest images of other identities that count in :func:`reach`."""


# Images whose nearest images are compared at once.
_ROWS = 20_000


@dataclass(frozen=True)
class Links:
    """The nearest image of each of the nearest other identities, nearest first."""

    images: NDArray[np.int64]  # or UNKNOWN, (N, K)
    nearness: NDArray[np.float64]  # -inf if unknown, (N, K)


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


def relabel(space: Space, nearest: Nearest, relabeled: Space) -> Nearest:
    """Find the nearest others under other labels from those under the first ones.

    ``relabeled`` is the space with other identities, of any of its images. An image
    whose identity has changed gets the images of its former identity as others.
    """
    others, values = nearest.others.copy(), nearest.nearness.copy()
    for rows in _rows(len(space)):
        owners = relabeled.identities[others[rows]]
        same = relabeled.identities[rows][:, None] == owners
        dropped = same | (others[rows] == UNKNOWN) | (owners == UNKNOWN)
        others[rows], values[rows] = _sorted(others[rows], values[rows], dropped)
    # Images that were of one identity, and are no longer.
    for members in space.members:
        labels = relabeled.identities[members]
        if len(labels) == 0 or (labels == labels[0]).all():
            continue
        apart = (labels[:, None] != labels) & (labels != UNKNOWN)
        near = space.nearness(members, members).astype(np.float32)
        joined, found = _sorted(
            np.concatenate(
                [others[members], np.broadcast_to(members, near.shape)], axis=1
            ),
            np.concatenate([values[members], near], axis=1),
            np.concatenate([others[members] == UNKNOWN, ~apart], axis=1),
        )
        others[members], values[members] = joined[:, :OTHERS], found[:, :OTHERS]
    return Nearest(others, values, nearest.closest)


def without(nearest: Nearest, images: NDArray[np.int64]) -> Nearest:
    """Leave images out as neighbors of others."""
    others, values = nearest.others.copy(), nearest.nearness.copy()
    for rows in _rows(len(others)):
        dropped = np.isin(others[rows], images)
        others[rows], values[rows] = _sorted(others[rows], values[rows], dropped)
    return Nearest(others, values, nearest.closest)


def correct(space: Space, nearest: Nearest, *, by_identity: bool) -> CorrectedSpace:
    """Measure the levels of images, and correct a space by them.

    Parameters
    ----------
    space : Space
        N images.
    nearest : Nearest
        Their nearest images.
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
    for rows in _rows(len(space)):
        values = nearest.nearness[rows, :STRANGERS].astype(np.float64)
        if by_identity:
            found = best_by_identity(
                space, nearest.others[rows], nearest.nearness[rows]
            )
            values = found.nearness[:, : STRANGERS + 1]
            # The only other identity is all that there is.
            values[np.isfinite(values[:, 1]), 0] = -np.inf
        known = np.isfinite(values)
        total = np.where(known, values, 0.0).sum(axis=1)
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


def find_links(
    space: CorrectedSpace, nearest: Nearest, count: int = STRANGERS
) -> Links:
    """Find the nearest image of each of the nearest other identities, corrected."""
    parts = []
    for rows in _rows(len(space)):
        others = nearest.others[rows]
        levels = space.levels[rows][:, None] + space.levels[others]
        found = best_by_identity(space, others, nearest.nearness[rows] - levels / 2)
        parts.append(Links(found.images[:, :count], found.nearness[:, :count]))
    return Links(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.nearness for part in parts]),
    )


def best_by_identity(
    space: Space, images: NDArray[np.int32], nearness: NDArray[np.floating]
) -> Links:
    """Keep the nearest image of each identity in each row, nearest first."""
    order = np.argsort(-nearness, axis=1, kind="stable")
    images = np.take_along_axis(images, order, axis=1)
    nearness = np.take_along_axis(nearness, order, axis=1)
    owners = np.where(images == UNKNOWN, UNKNOWN, space.identities[images])
    grouped = np.argsort(owners, axis=1, kind="stable")
    sorted_owners = np.take_along_axis(owners, grouped, axis=1)
    first = np.ones(owners.shape, dtype=bool)
    first[:, 1:] = sorted_owners[:, 1:] != sorted_owners[:, :-1]
    is_first = np.empty_like(first)
    np.put_along_axis(is_first, grouped, first, axis=1)
    nearness = np.where(is_first & (owners != UNKNOWN), nearness, -np.inf)
    order = np.argsort(-nearness, axis=1, kind="stable")
    nearness = np.take_along_axis(nearness, order, axis=1)
    images = np.take_along_axis(images, order, axis=1)
    images = np.where(np.isfinite(nearness), images, UNKNOWN)
    return Links(images.astype(np.int64), nearness.astype(np.float64))


def linked_identities(space: Space, links: Links) -> NDArray[np.int64]:
    """List the pairs of identities that a link connects, each once, shape (P, 2)."""
    known = (links.images != UNKNOWN) & (space.identities != UNKNOWN)[:, None]
    first = np.broadcast_to(space.identities[:, None], known.shape)[known]
    second = space.identities[links.images[known]]
    return np.stack(
        unique_pairs(np.minimum(first, second), np.maximum(first, second)), axis=1
    )


def reach(space: Space, nearest: Nearest) -> NDArray[np.int64]:
    """Count the other identities that have an image among their nearest others."""
    images = nearest.others[:, :REACH]
    identities = np.broadcast_to(space.identities[:, None], images.shape)
    valid = (images != UNKNOWN) & (identities != UNKNOWN)
    reached, _ = unique_pairs(images[valid], identities[valid])
    return np.bincount(reached, minlength=len(space))


def _rows(count: int) -> Iterator[slice]:
    """Yield ranges of images whose nearest images fit in memory."""
    for start in range(0, max(count, 1), _ROWS):
        yield slice(start, start + _ROWS)


def _sorted(
    images: NDArray[np.integer], values: NDArray[np.float32], dropped: NDArray[np.bool_]
) -> tuple[NDArray[np.integer], NDArray[np.float32]]:
    """Drop images, and sort the others by their values, largest first."""
    values = np.where(dropped, np.float32(-np.inf), values)
    order = np.argsort(-values, axis=1, kind="stable")
    images = np.where(dropped, UNKNOWN, images)
    return (
        np.take_along_axis(images, order, axis=1),
        np.take_along_axis(values, order, axis=1),
    )
