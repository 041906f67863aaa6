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
    """The images of a run, the model, and where the results go.

    Attributes
    ----------
    items : Items
        The images.
    model : EmbeddingModel
        The model.
    model_name : str or None
        Its name, where it was given by one: others can load it themselves then.
    batch_size : int
        Images per forward pass, and per shard.
    num_workers : int or None
        Threads that read images, of each process; None leaves it to the engine.
    cache_bytes : int
        Memory of each process for what the first pass finds and the second needs.
    dataset_id, uid : str
        Dataset and run that the blobs belong to.
    fingerprint : str
        Of the run.
    """

    items: Items
    model: EmbeddingModel
    model_name: str | None
    batch_size: int
    num_workers: int | None
    cache_bytes: int
    dataset_id: str
    uid: str
    fingerprint: str


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
