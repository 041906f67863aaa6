"""All the work in this process, in order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from fiftyone_sfam.pipeline.shards import Embedded
from fiftyone_sfam.pipeline.streaming import Explained, ImageStream, MapTask
from fiftyone_sfam.runs.blobs import BlobStore

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


class LocalEngine(Engine):
    """Does the work here."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._store = BlobStore(work.dataset_id, work.uid)
        self._stream = ImageStream(
            work.items,
            work.model,
            work.batch_size,
            _threads(work.num_workers),
            work.cache_bytes,
        )

    def embed(self, numbers: Sequence[int]) -> Iterator[Embedded]:
        """Compute and store blocks of embeddings, in order."""
        return self._stream.embed(self._store, self._work.fingerprint, numbers)

    def explain(self, task: MapTask, numbers: Sequence[int]) -> Iterator[Explained]:
        """Compute and store shards of maps, in order."""
        return self._stream.explain(self._store, task, numbers)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Do nothing: what is computed is stored already."""


def _threads(num_workers: int | None) -> int:
    """Choose how many threads read images."""
    if num_workers is None:
        return min(8, os.cpu_count() or 1)
    return max(0, num_workers)
