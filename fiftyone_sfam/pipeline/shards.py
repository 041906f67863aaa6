"""What a run stores, block by block: embeddings, and shards of maps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.runs.blobs import Arrays, BlobStore

_EMBEDDINGS = "embeddings-"


@dataclass(frozen=True)
class Embedded:
    """One block of items with their embeddings."""

    number: int  # number of the block
    vectors: NDArray[np.float32]  # shape (B, D), zeros where there is none
    reasons: dict[int, str]  # why items have no embedding, by their index


def store_embedded(store: BlobStore, fingerprint: str, block: Embedded) -> None:
    """Store the embeddings of a block."""
    arrays: Arrays = {
        "vectors": block.vectors,
        "reasons": json_array(block.reasons),
    }
    store.put(embedding_name(block.number), arrays, fingerprint=fingerprint)


def read_embedded(store: BlobStore, number: int) -> Embedded:
    """Read what :func:`store_embedded` has stored."""
    stored = store.get(embedding_name(number))
    return Embedded(number, stored["vectors"], read_reasons(stored))


def read_reasons(stored: Arrays) -> dict[int, str]:
    """Return the reasons that a blob holds, by the index of the item."""
    texts = json.loads(stored["reasons"].tobytes().decode())
    return {int(index): text for index, text in texts.items()}


def unexplained(count: int, like: NDArray[Any], part: str) -> NDArray[Any]:
    """Return what stands for sides without a map: zeros, of any scale."""
    if part == "scale":
        return np.ones(count, dtype=like.dtype)
    return np.zeros((count, *like.shape[1:]), dtype=like.dtype)


def empty_shard(
    images: int, sides: NDArray[np.int64], image: NDArray[np.int64]
) -> Arrays:
    """Return a shard in which nothing is explained yet."""
    return {
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


def embedding_name(number: int) -> str:
    """Name the blob of a block of embeddings."""
    return f"{_EMBEDDINGS}{number:06d}"


def is_embedding(name: str) -> bool:
    """Tell whether a blob is a block of embeddings."""
    return name.startswith(_EMBEDDINGS)


def json_array(values: dict[int, str]) -> NDArray[np.uint8]:
    """Encode texts by index as an array."""
    text = json.dumps({str(index): reason for index, reason in values.items()})
    return np.frombuffer(text.encode(), dtype=np.uint8)
