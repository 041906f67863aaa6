"""What every engine works on, and what it has to offer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fiftyone_sfam.data.items import Items
    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.pipeline.shards import Embedded
    from fiftyone_sfam.pipeline.streaming import Explained, MapTask


@dataclass(frozen=True)
class Work:
    """The images of a run, the model, and where the results go."""

    items: Items  # the images
    model: EmbeddingModel  # the model
    model_name: str | None
    batch_size: int  # images per forward pass, and per shard
    num_workers: int | None  # threads that read images, of each process
    cache_bytes: int
    dataset_id: str  # dataset and run that the blobs belong to
    uid: str  # dataset and run that the blobs belong to
    fingerprint: str  # of the run


class Engine(AbstractContextManager["Engine"], Protocol):
    """Computes numbered blocks of embeddings and shards of maps, in any order.

    Each is stored by whoever computed it before it is yielded. When the context ends,
    also by an exception, nobody writes any more.
    """

    def embed(self, numbers: Sequence[int]) -> Iterator[Embedded]:
        """Compute and store blocks of embeddings."""
        ...

    def explain(self, task: MapTask, numbers: Sequence[int]) -> Iterator[Explained]:
        """Compute and store shards of maps."""
        ...
