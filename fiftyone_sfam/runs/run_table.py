"""The stored columns of a run, and the plan of its shards.

The columns of all images are one blob, the columns of the pairs are stored in parts.
A part holds the columns of 2,048 pairs and the places of their maps. Opening one pair
of a million reads one part, not the columns of all pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.images import Skipped
from fiftyone_sfam.retrieval.given import GivenPairs
from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.retrieval.search import UNKNOWN
from fiftyone_sfam.runs.blobs import Arrays, BlobStore, from_json_array, json_array
from fiftyone_sfam.runs.given import write_given

TABLE = "table"
"""Blob of the images' columns; in earlier versions also of the pairs' columns."""

_SHARD = "maps-"

PART_PAIRS = 2048
"""Pairs per part of the table."""

_HELD_PARTS = 16  # in memory


@dataclass(frozen=True)
class RunItems:
    """The N images or detections (items) that a run compared."""

    sample_ids: NDArray[np.str_]  # (N,)
    label_ids: NDArray[np.str_] | None  # ids of the detections, shape (N,)
    identities: tuple[str | None, ...]  # N labels, as they were during the run
    cameras: tuple[str | None, ...]
    is_query: NDArray[np.bool_]  # (N,)
    is_gallery: NDArray[np.bool_]  # (N,)
    # Shard and row of the stored contributions, shape (N, 2); -1 for items without.
    places: NDArray[np.int32] | None = None
    # Of the terms of the protocol's rules beside identity and camera, (N,) each.
    terms: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    # Of what the maps of each item depend on, shape (N, 16); None in earlier versions.
    digests: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def ids(self) -> NDArray[np.str_]:
        """Id of each item: of its detection, or of its sample."""
        return self.sample_ids if self.label_ids is None else self.label_ids

    def index(self, item_id: str) -> int:
        """Return the index of an item by its id; -1 if there is no such item."""
        return self._positions.get(item_id, -1)

    def indices_of_sample(self, sample_id: str) -> NDArray[np.int64]:
        """Return the items of a sample."""
        return np.flatnonzero(self.sample_ids == sample_id)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {str(item_id): index for index, item_id in enumerate(self.ids)}


@dataclass(frozen=True)
class PairPart:
    """R consecutive pairs of a run, and the places of their maps."""

    pairs: Pairs
    remainders: NDArray[np.float32]  # (R, 2)
    shards: NDArray[np.int32]  # shard of each side, shape (R, 2)
    rows: NDArray[np.int32]  # row of each side in its shard, shape (R, 2)


@dataclass(frozen=True)
class RunTable:
    """The columns of a run."""

    pairs: Pairs
    plan: Plan  # places of the maps
    remainders: NDArray[np.float32]  # of the query and the gallery side, shape (P, 2)
    items: RunItems
    skipped: tuple[Skipped, ...]
    given: GivenPairs | None = None  # the list that the pairs are from


def write_table(store: BlobStore, table: RunTable) -> None:
    """Store the columns of a run: the pairs in parts, then the images."""
    pairs = table.pairs
    for number, start in enumerate(range(0, len(pairs), PART_PAIRS)):
        chosen = slice(start, start + PART_PAIRS)
        count = len(pairs.query[chosen])
        shards, rows = table.plan.locate(np.arange(2 * start, 2 * (start + count)))
        arrays: Arrays = {
            column.name: getattr(pairs, column.name)[chosen] for column in fields(pairs)
        }
        arrays["remainders"] = table.remainders[chosen]
        arrays["shards"] = shards.astype(np.int32).reshape(-1, 2)
        arrays["rows"] = rows.astype(np.int32).reshape(-1, 2)
        store.put(part_name(number), arrays)
    if table.given is not None:
        write_given(store, table.given)
    store.put(TABLE, _pack_items(table.items, table.skipped))


def read_part(store: BlobStore, number: int) -> PairPart:
    """Read a part of the pairs."""
    arrays = store.get(part_name(number))
    return PairPart(
        Pairs(**{column.name: arrays[column.name] for column in fields(Pairs)}),
        arrays["remainders"],
        arrays["shards"],
        arrays["rows"],
    )


class PairParts:
    """The parts of a run's table; the last ones read are held in memory."""

    def __init__(self, store: BlobStore, part_pairs: int) -> None:
        self._store = store
        self._size = part_pairs
        self._held: dict[int, PairPart] = {}

    def locate(
        self, sides: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the shard of each side, and its row in it, each of shape (S,)."""
        shards, rows = (np.empty(len(sides), dtype=np.int64) for _ in range(2))
        parts = sides // (2 * self._size)
        for number in np.unique(parts).tolist():
            part, here = self._part(number), np.flatnonzero(parts == number)
            inside = sides[here] - 2 * self._size * number
            shards[here] = part.shards.reshape(-1)[inside]
            rows[here] = part.rows.reshape(-1)[inside]
        return shards, rows

    def _part(self, number: int) -> PairPart:
        if number not in self._held:
            while len(self._held) >= _HELD_PARTS:
                self._held.pop(next(iter(self._held)))
            self._held[number] = read_part(self._store, number)
        return self._held[number]


def read_pairs(
    store: BlobStore, count: int, part_pairs: int
) -> tuple[Pairs, NDArray[np.float32]]:
    """Read the columns of all pairs, and their remainders."""
    if not part_pairs:
        arrays = store.get(TABLE)
        columns = {item.name: arrays[f"pairs_{item.name}"] for item in fields(Pairs)}
        return Pairs(**columns), arrays["remainders"]
    whole: Arrays = {}
    starts = range(0, count, part_pairs)
    parts = store.get_many([part_name(start // part_pairs) for start in starts])
    for start, arrays in zip(starts, parts, strict=True):
        for name in ("remainders", *(column.name for column in fields(Pairs))):
            if name not in whole:
                shape = (count, *arrays[name].shape[1:])
                whole[name] = np.empty(shape, dtype=arrays[name].dtype)
            whole[name][start : start + part_pairs] = arrays[name]
    remainders = whole.pop("remainders")
    return Pairs(**whole), remainders


def read_embeddings(store: BlobStore) -> NDArray[np.float32] | None:
    """Read the embeddings of all items, zeros for items without; None if not stored."""
    names = store.names()
    blocks: list[NDArray[np.float32]] = []
    while (name := f"embeddings-{len(blocks):06d}") in names:
        blocks.append(store.get(name)["vectors"])
    if not blocks:
        return None
    # A block without any readable image has width 0.
    width = max(block.shape[1] for block in blocks)
    return np.concatenate(
        [
            block if block.shape[1] else np.zeros((len(block), width), dtype=np.float32)
            for block in blocks
        ]
    )


def read_items(store: BlobStore) -> tuple[RunItems, tuple[Skipped, ...]]:
    """Read the columns of the images, and the images that were skipped."""
    arrays = store.get(TABLE)
    texts = from_json_array(arrays["texts"])
    label_ids = arrays.get("label_ids")
    items = RunItems(
        arrays["sample_ids"].astype("U"),
        None if label_ids is None else label_ids.astype("U"),
        tuple(texts["identities"]),
        tuple(texts["cameras"]),
        arrays["is_query"],
        arrays["is_gallery"],
        arrays.get("places"),
        dict(zip(texts.get("terms", ()), arrays.get("terms", ()), strict=True)),
        arrays.get("digests"),
    )
    return items, tuple(Skipped(**values) for values in texts["skipped"])


def part_name(number: int) -> str:
    """Name the blob of a part of the pairs."""
    return f"pairs-{number:06d}"


def shard_name(number: int) -> str:
    """Name the blob of a shard."""
    return f"{_SHARD}{number:06d}"


def contributions_name(number: int) -> str:
    """Name the blob of the contributions of a shard's images."""
    return f"contributions-{number:06d}"


def is_shard(name: str) -> bool:
    """Return whether a blob is a shard."""
    return name.startswith(_SHARD)


def _pack_items(items: RunItems, skipped: Iterable[Skipped]) -> Arrays:
    """Turn the columns of the images into arrays to store."""
    texts = {
        "identities": items.identities,
        "cameras": items.cameras,
        "skipped": [asdict(image) for image in skipped],
        "terms": list(items.terms),
    }
    arrays: Arrays = {
        "sample_ids": items.sample_ids.astype("S"),
        "is_query": items.is_query,
        "is_gallery": items.is_gallery,
        "texts": json_array(texts),
    }
    if items.label_ids is not None:
        arrays["label_ids"] = items.label_ids.astype("S")
    if items.places is not None:
        arrays["places"] = items.places
    if items.terms:
        arrays["terms"] = np.stack(list(items.terms.values()))
    if items.digests is not None:
        arrays["digests"] = items.digests
    return arrays


# --------------------------------------------------------------------------------------
# Plan
# --------------------------------------------------------------------------------------

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

    def places(self, count: int) -> NDArray[np.int32]:
        """Return shard and row of each of ``count`` items, (N, 2); -1 for none."""
        places = np.full((count, 2), -1, dtype=np.int32)
        at = np.arange(len(self.order))
        shards = np.searchsorted(self.bounds, at, side="right") - 1
        places[self.order] = np.stack([shards, at - self.bounds[shards]], axis=1)
        return places

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


def make_plan(
    pairs: Pairs,
    shard_images: int,
    order: str = BY_COUNT,
    also: NDArray[np.int64] | None = None,
) -> Plan:
    """Plan one pass over the images that explains every side of every pair.

    The order is "count" (images with the most sides first), "item", or "block": as
    "item", with shards that do not cross the blocks of the embeddings. The pass also
    visits the items ``also``, whether they are in a pair or not.
    """
    items = pairs.sides()
    used, counts = np.unique(items, return_counts=True)
    if also is not None:
        every = np.union1d(used, also)
        counts, used = np.bincount(items, minlength=every.max() + 1)[every], every
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
