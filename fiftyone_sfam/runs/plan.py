"""The order in which one pass over the images explains every side of every pair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.retrieval.search import UNKNOWN

ORDERS = ("count", "item", "block")
"""Orders of the images in a plan, see :func:`make_plan`."""

BY_COUNT, BY_ITEM, BY_BLOCK = ORDERS


@dataclass(frozen=True)
class Plan:
    """The order of the I images that explain the sides of P pairs, and their shards."""

    order: NDArray[np.int32]  # items, shape (I,)
    shard_images: int  # largest number of images per shard
    bounds: NDArray[np.int64]  # shard s holds order[bounds[s] : bounds[s + 1]]
    sides: NDArray[np.int64]  # all sides in the order of their images, shape (2 P,)
    starts: NDArray[np.int64]  # first of each image's sides, shape (I + 1,)
    whole_blocks: bool = False  # see batch_of

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self.bounds) - 1

    def images_of(self, shard: int) -> NDArray[np.int32]:
        """Return the items of a shard, in order."""
        return self.order[self.bounds[shard] : self.bounds[shard + 1]]

    def batch_of(self, shard: int, total: int) -> NDArray[np.int64]:
        """Return the items that the network processes together for a shard.

        These are the items of the shard; with ``whole_blocks``, all items of the block
        in which their embeddings were computed. The network then returns the same
        numbers whether its output was cached or is computed again.
        """
        images = self.images_of(shard).astype(np.int64)
        if not self.whole_blocks:
            return images
        start = int(images[0]) // self.shard_images * self.shard_images
        return np.arange(start, min(start + self.shard_images, total))

    def sides_of(self, shard: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the sides of a shard, and for each the place of its image in it."""
        start, stop = self.bounds[shard], self.bounds[shard + 1]
        bounds = self.starts[start : stop + 1]
        counts = np.diff(bounds)
        return self.sides[bounds[0] : bounds[-1]], np.repeat(
            np.arange(stop - start), counts
        )

    def locate(
        self, sides: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the shard of each side, and its row in it, each of shape (S,)."""
        places = self._place_of_side[sides]
        shards = np.searchsorted(self._first_places, places, side="right") - 1
        return shards, places - self._first_places[shards]

    def shards_of(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the shards that hold some items, ascending."""
        places = np.flatnonzero(np.isin(self.order, items))
        return np.unique(np.searchsorted(self.bounds, places, side="right") - 1)

    @cached_property
    def _first_places(self) -> NDArray[np.int64]:
        """First of the sides of each shard, shape (S,)."""
        return self.starts[self.bounds[:-1]]

    @cached_property
    def _place_of_side(self) -> NDArray[np.int64]:
        places = np.empty(len(self.sides), dtype=np.int64)
        places[self.sides] = np.arange(len(self.sides))
        return places


def make_plan(pairs: Pairs, shard_images: int, order: str = BY_COUNT) -> Plan:
    """Plan one pass over the images that explains every side of every pair.

    The order is "count" (images with the most sides first), "item", or "block": as
    "item", with shards that do not cross the blocks of the embeddings.
    """
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
