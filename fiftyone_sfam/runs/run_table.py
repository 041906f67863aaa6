"""The stored columns of a run: of all images in one blob, of the pairs in parts.

A part holds the columns of 2,048 pairs and the places of their maps. Opening one pair
of a million reads one part, not the columns of all pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.images import Skipped
from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.runs.blobs import Arrays, BlobStore
from fiftyone_sfam.runs.plan import Plan

TABLE = "table"
"""Blob of the images' columns; in earlier versions also of the pairs' columns."""

_SHARD = "maps-"

PART_PAIRS = 2048
"""Pairs per part of the table."""


@dataclass(frozen=True)
class RunItems:
    """The N images or detections (items) that a run compared."""

    sample_ids: NDArray[np.str_]  # (N,)
    label_ids: NDArray[np.str_] | None  # ids of the detections, shape (N,)
    identities: tuple[str | None, ...]  # N labels, as they were during the run
    cameras: tuple[str | None, ...]
    is_query: NDArray[np.bool_]  # (N,)
    is_gallery: NDArray[np.bool_]  # (N,)

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


def read_items(store: BlobStore) -> tuple[RunItems, tuple[Skipped, ...]]:
    """Read the columns of the images, and the images that were skipped."""
    arrays = store.get(TABLE)
    texts = json.loads(arrays["texts"].tobytes().decode())
    label_ids = arrays.get("label_ids")
    items = RunItems(
        arrays["sample_ids"].astype("U"),
        None if label_ids is None else label_ids.astype("U"),
        tuple(texts["identities"]),
        tuple(texts["cameras"]),
        arrays["is_query"],
        arrays["is_gallery"],
    )
    return items, tuple(Skipped(**values) for values in texts["skipped"])


def part_name(number: int) -> str:
    """Name the blob of a part of the pairs."""
    return f"pairs-{number:06d}"


def shard_name(number: int) -> str:
    """Name the blob of a shard."""
    return f"{_SHARD}{number:06d}"


def is_shard(name: str) -> bool:
    """Return whether a blob is a shard."""
    return name.startswith(_SHARD)


def _pack_items(items: RunItems, skipped: Iterable[Skipped]) -> Arrays:
    """Turn the columns of the images into arrays to store."""
    texts = {
        "identities": items.identities,
        "cameras": items.cameras,
        "skipped": [asdict(image) for image in skipped],
    }
    arrays: Arrays = {
        "sample_ids": items.sample_ids.astype("S"),
        "is_query": items.is_query,
        "is_gallery": items.is_gallery,
        "texts": np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8),
    }
    if items.label_ids is not None:
        arrays["label_ids"] = items.label_ids.astype("S")
    return arrays
