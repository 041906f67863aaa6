"""The blobs that the passes store: blocks of embeddings, and shards of maps.

The metadata of a shard's blob holds a summary of the shard. An interrupted run resumes
from the summaries, without reading the maps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.map_share import median_share
from fiftyone_sfam.retrieval.pairs import QUERY, Pairs
from fiftyone_sfam.runs.blobs import Arrays, BlobStore, from_json_array, json_array
from fiftyone_sfam.runs.run_config import PATH_KINDS
from fiftyone_sfam.runs.run_table import shard_name

_EMBEDDINGS = "embeddings-"
_OF_CONTRIBUTIONS = ("contribution_bytes", "agreement")


# --------------------------------------------------------------------------------------
# Embeddings
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Embedded:
    """A block of B items with their embeddings."""

    number: int  # number of the block
    vectors: NDArray[np.float32]  # (B, D), zeros for items without an embedding
    reasons: dict[int, str]  # why items have no embedding, by index


def store_embedded(store: BlobStore, block: Embedded) -> None:
    """Store a block of embeddings."""
    arrays: Arrays = {"vectors": block.vectors, "reasons": json_array(block.reasons)}
    store.put(embedding_name(block.number), arrays)


def read_embedded(store: BlobStore, number: int) -> Embedded:
    """Read a block of embeddings."""
    stored = store.get(embedding_name(number))
    return Embedded(number, stored["vectors"], _reasons(stored))


def embedding_name(number: int) -> str:
    """Name the blob of a block of embeddings."""
    return f"{_EMBEDDINGS}{number:06d}"


def is_embedding(name: str) -> bool:
    """Return whether a blob is a block of embeddings."""
    return name.startswith(_EMBEDDINGS)


# --------------------------------------------------------------------------------------
# Maps
# --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Explained:
    """The summary of a stored shard of S sides."""

    number: int  # number of the shard
    gaps: tuple[float, ...]  # 1 - similarity of recomputed embeddings to those in use
    remainders: NDArray[np.float32]  # (S,), NaN for sides without a map
    largest: NDArray[np.float32]  # largest value of each map that a heatmap shows
    reasons: dict[int, str]  # why images have no maps, by index
    layer: str  # empty if there are no maps
    map_shape: tuple[int, int, int]  # zeros if there are no maps
    share: float | None  # median share of the scores that the maps carry
    # If the run keeps contributions, their bytes per image, 0 for images without, and
    # the correlation of each side's evidence from them with its map.
    contribution_bytes: NDArray[np.int64]
    agreement: NDArray[np.float32]


def empty_shard(
    images: int,
    sides: NDArray[np.int64],
    image: NDArray[np.int64],
    contributions: bool = False,
) -> Arrays:
    """Return the arrays of a shard without maps."""
    shard: Arrays = {
        "sides": sides,
        "image": image.astype(np.int32),
        "score": np.full(len(sides), np.nan, dtype=np.float32),
        "remainder": np.full(len(sides), np.nan, dtype=np.float32),
        "crop": np.zeros((images, 4), dtype=np.float32),
        "size": np.zeros((images, 2), dtype=np.int32),
        "map_shape": np.zeros(3, dtype=np.int32),
        "layer": np.zeros(0, dtype=np.uint8),
        "gaps": np.zeros(0, dtype=np.float64),
    }
    if contributions:
        shard["contribution_bytes"] = np.zeros(images, dtype=np.int64)
        shard["agreement"] = np.full(len(sides), np.nan, dtype=np.float32)
    return shard


def empty_maps(count: int, like: NDArray[Any], part: str) -> NDArray[Any]:
    """Return the stored values or scales of sides without a map."""
    if part == "scale":
        return np.ones(count, dtype=like.dtype)
    return np.zeros((count, *like.shape[1:]), dtype=like.dtype)


def heatmap_rows(sides: NDArray[np.int64], pairs: Pairs) -> NDArray[np.int64]:
    """Return the rows of a shard that heatmaps show: queries of rank-1 pairs."""
    return np.flatnonzero((sides % 2 == QUERY) & (pairs.rank[sides // 2] == 1))


def summarize(shard: Arrays, pairs: Pairs, kind: str) -> Arrays:
    """Return the summary of a shard as arrays; ``kind`` is that of the heatmaps."""
    rows = heatmap_rows(shard["sides"], pairs)
    rows = rows[~np.isnan(shard["score"][rows])]
    largest = np.zeros(0, dtype=np.float32)
    if len(rows):
        if kind in PATH_KINDS:
            largest = shard["top"][rows][shard["path_row"][rows] >= 0]
        else:
            values = shard[f"{kind}_values"][rows].max(axis=(1, 2)).astype(np.float32)
            largest = values * shard[f"{kind}_scale"][rows]
    share = median_share(shard["score"], shard["remainder"])
    names = ["remainder", "gaps", "map_shape", "layer", "reasons"]
    names += [name for name in _OF_CONTRIBUTIONS if name in shard]
    return {
        **{name: shard[name] for name in names},
        "largest": largest,
        "share": np.array([] if share is None else [share], dtype=np.float64),
    }


def explained(number: int, summary: Arrays) -> Explained:
    """Turn the arrays of a summary into values."""
    channels, height, width = summary["map_shape"].tolist()
    return Explained(
        number=number,
        gaps=tuple(summary["gaps"].tolist()),
        remainders=summary["remainder"],
        largest=summary["largest"],
        reasons=_reasons(summary),
        layer=summary["layer"].tobytes().decode(),
        map_shape=(channels, height, width),
        share=float(summary["share"][0]) if len(summary["share"]) else None,
        contribution_bytes=summary.get("contribution_bytes", np.zeros(0, np.int64)),
        agreement=summary.get("agreement", np.zeros(0, np.float32)),
    )


def read_explained(
    store: BlobStore, pairs: Pairs, kind: str, numbers: Sequence[int]
) -> Iterator[Explained]:
    """Read the summaries of stored shards."""
    summaries = store.summaries([shard_name(number) for number in numbers])
    for number, summary in zip(numbers, summaries, strict=True):
        if summary is None:  # It was too large to be stored.
            summary = summarize(store.get(shard_name(number)), pairs, kind)
        yield explained(number, summary)


def _reasons(stored: Arrays) -> dict[int, str]:
    """Return the reasons that a blob or a summary holds, by the index of the item."""
    texts = from_json_array(stored["reasons"])
    return {int(index): text for index, text in texts.items()}
