"""The order in which one pass over the images explains every side of every pair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.retrieval.search import UNKNOWN

ORDERS = ("count", "item", "block")
"""In which order a plan goes through the images, see :func:`make_plan`."""


BY_COUNT, BY_ITEM, BY_BLOCK = ORDERS


@dataclass(frozen=True)
class Plan:
    """Which image explains which sides, in which order, in which shard."""

    order: NDArray[np.int32]  # (I,)
    shard_images: int  # images per shard, at most
    bounds: NDArray[np.int64]  # shard s holds order[bounds[s] : bounds[s + 1]]
    sides: NDArray[np.int64]  # all sides, in the order of their images, shape (2 P,)
    starts: NDArray[np.int64]  # where each image's sides begin in sides, shape (I + 1,)
    whole_blocks: bool = False

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self.bounds) - 1

    def images_of(self, shard: int) -> NDArray[np.int32]:
        """Return the items of a shard, in order."""
        return self.order[self.bounds[shard] : self.bounds[shard + 1]]

    def batch_of(self, shard: int, total: int) -> NDArray[np.int64]:
        """Return the items that go through the network together for a shard.

        They are the shard's own; with ``whole_blocks`` they are its whole block, as
        when the embeddings were computed. So the numbers that the network gives do not
        depend on whether they were kept since then.
        """
        images = self.images_of(shard).astype(np.int64)
        if not self.whole_blocks:
            return images
        start = int(images[0]) // self.shard_images * self.shard_images
        return np.arange(start, min(start + self.shard_images, total))

    def sides_of(self, shard: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the sides of a shard, and for each its image's place in the shard."""
        start, stop = self.bounds[shard], self.bounds[shard + 1]
        bounds = self.starts[start : stop + 1]
        counts = np.diff(bounds)
        return self.sides[bounds[0] : bounds[-1]], np.repeat(
            np.arange(stop - start), counts
        )

    def locate(self, side: int) -> tuple[int, int]:
        """Return the shard of a side and its row in it."""
        shard, row = self.locate_many(np.array([side]))
        return int(shard[0]), int(row[0])

    def locate_many(
        self, sides: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the shards of sides and their rows in them, each of shape (S,)."""
        places = self._place_of_side[sides]
        shards = np.searchsorted(self._first_places, places, side="right") - 1
        return shards, places - self._first_places[shards]

    def shards_of(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the shards that hold some items, ascending."""
        places = np.flatnonzero(np.isin(self.order, items))
        return np.unique(np.searchsorted(self.bounds, places, side="right") - 1)

    @cached_property
    def _first_places(self) -> NDArray[np.int64]:
        """Where the sides of each shard begin, shape (S,)."""
        return self.starts[self.bounds[:-1]]

    @cached_property
    def _place_of_side(self) -> NDArray[np.int64]:
        places = np.empty(len(self.sides), dtype=np.int64)
        places[self.sides] = np.arange(len(self.sides))
        return places


def make_plan(pairs: Pairs, shard_images: int, order: str = BY_COUNT) -> Plan:
    """Plan one pass over the images that serves every side of every pair."""
    items = pairs.sides()
    used, counts = np.unique(items, return_counts=True)
    ordered = used[np.lexsort((used, -counts))] if order == BY_COUNT else used
    if order == BY_BLOCK:
        bounds = np.flatnonzero(np.diff(used // shard_images, prepend=-1))
    else:
        bounds = np.arange(0, len(used), shard_images)
    place = np.full(int(used.max(initial=-1)) + 1, UNKNOWN, dtype=np.int64)
    place[ordered] = np.arange(len(ordered))
    sides = np.argsort(place[items], kind="stable")
    starts = np.searchsorted(place[items][sides], np.arange(len(ordered) + 1))
    return Plan(
        ordered.astype(np.int32),
        shard_images,
        np.append(bounds, len(used)).astype(np.int64),
        sides,
        starts.astype(np.int64),
        order == BY_BLOCK,
    )
