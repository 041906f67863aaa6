"""Pairs of images that may be copies of each other, by their hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.duplicates.bands import near_hashes
from fiftyone_sfam.audit.duplicates.hashes import (
    LAYOUTS,
    Hashes,
    closest_layout,
    count_bits,
    distinct,
)

RADIUS = 7
"""Most bits in which the ``phash`` of hash neighbors differ."""

# Most bits in which both hashes of candidates differ. In 10,000 crops of real images
# (up to 10 %) no ``phash`` differed in more than 12 bits and no ``dhash`` in 14.
_MOST_PHASH, _MOST_DHASH = 12, 14
# Candidates that are kept; each takes some milliseconds to compare.
MOST = 100_000

# Columns of a table of candidates.
_FIRST, _SECOND, _LAYOUT, _DISTANCE = range(4)
Table = NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """Pairs to compare by their pixels, those of the most similar hashes first."""

    first: NDArray[np.int64]  # the image that may contain the other, (P,)
    second: NDArray[np.int64]  # (P,)
    layout: NDArray[np.int64]  # what the second may show of the first, (P,)
    left_out: int = 0  # pairs beyond the most that are compared

    def __len__(self) -> int:
        return len(self.first)


def find_candidates(
    hashes: Hashes,
    near: NDArray[np.int64] | None = None,
    sides: NDArray[np.bool_] | None = None,
) -> Candidates:
    """Find candidates among hash neighbors and among pairs with near embeddings.

    Parameters
    ----------
    hashes : Hashes
        Hashes of N images.
    near : ndarray of int64, optional
        Pairs with near embeddings, shape (P, 2).
    sides : ndarray of bool, optional
        The collection of each image, shape (N,). Only pairs of two are candidates.
    """
    groups = distinct(hashes, np.flatnonzero(hashes.usable))
    tables = [*_equal(groups, sides), *_neighbors(hashes, groups, sides)]
    if near is not None and len(near):
        usable = hashes.usable[near].all(axis=1) & (near[:, 0] != near[:, 1])
        if sides is not None:
            usable &= sides[near[:, 0]] != sides[near[:, 1]]
        tables += _near(hashes, near[usable])
    table = _best(np.concatenate([*tables, np.empty((0, 4), dtype=np.int64)]))
    left_out = max(0, len(table) - MOST)
    table = table[np.argsort(table[:, _DISTANCE], kind="stable")][:MOST]
    return Candidates(table[:, _FIRST], table[:, _SECOND], table[:, _LAYOUT], left_out)


def _equal(
    groups: Sequence[Sequence[int]], sides: NDArray[np.bool_] | None
) -> Iterator[Table]:
    """Pair images of equal hashes: each with the first one, not all with all."""
    for group in groups:
        if len(group) > 1:
            pairs = _linked(group, group, sides)
            yield np.array([(*pair, 0, 0) for pair in pairs], np.int64).reshape(-1, 4)


def _neighbors(
    hashes: Hashes, groups: Sequence[Sequence[int]], sides: NDArray[np.bool_] | None
) -> Iterator[Table]:
    """Pair images whose hashes differ in few bits, in any layout of one of them."""
    rows = np.array([group[0] for group in groups], dtype=np.int64)
    phash, dhash = hashes.phash[rows], hashes.dhash[rows]
    for column in range(len(LAYOUTS)):
        for left, right in near_hashes(phash[:, column], phash[:, 0], RADIUS):
            by_dhash = count_bits(dhash[left, column] ^ dhash[right, 0])
            chosen = (by_dhash <= _MOST_DHASH) & (left != right)
            left, right = left[chosen], right[chosen]
            by_phash = count_bits(phash[left, column] ^ phash[right, 0])
            distance = by_dhash[chosen].astype(np.int64) + by_phash
            layout = np.full(len(left), column)
            if sides is None:
                yield np.stack([rows[left], rows[right], layout, distance], axis=1)
                continue
            linked = [
                (*pair, column, far)
                for one, other, far in zip(left, right, distance, strict=True)
                for pair in _linked(groups[one], groups[other], sides)
            ]
            yield np.array(linked, dtype=np.int64).reshape(-1, 4)


def _linked(
    first: Sequence[int], second: Sequence[int], sides: NDArray[np.bool_] | None
) -> list[tuple[int, int]]:
    """Pair two groups of equal images so that each image is in a pair."""
    if sides is None:
        return [(first[0], image) for image in second if image != first[0]]
    pairs = []
    for side in (False, True):
        ours = [image for image in first if sides[image] == side]
        theirs = [image for image in second if sides[image] != side]
        if ours and theirs:
            pairs += [(image, theirs[0]) for image in ours]
            pairs += [(ours[0], image) for image in theirs[1:]]
    return pairs


def _near(hashes: Hashes, pairs: NDArray[np.int64]) -> Iterator[Table]:
    """Choose pairs whose hashes are similar enough in some layout."""
    for first, second in (pairs.T, pairs.T[::-1]):
        layout, phash, dhash = closest_layout(hashes, first, hashes, second)
        chosen = (phash <= _MOST_PHASH) & (dhash <= _MOST_DHASH)
        distance = phash.astype(np.int64) + dhash
        yield np.stack([first, second, layout, distance], axis=1)[chosen]


def _best(table: Table) -> Table:
    """Keep the most similar layout of each pair."""
    ends = np.sort(table[:, :2], axis=1)
    # Of equally similar layouts, the simplest.
    order = np.lexsort((table[:, _LAYOUT], table[:, _DISTANCE], ends[:, 1], ends[:, 0]))
    ends = ends[order]
    new = np.ones(len(table), dtype=bool)
    new[1:] = (ends[1:] != ends[:-1]).any(axis=1)
    return table[order][new]
