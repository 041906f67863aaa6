"""All the work in this process, in order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from types import TracebackType

from fiftyone_sfam.pipeline.engines.work import Engine, Work
from fiftyone_sfam.pipeline.shards import Embedded
from fiftyone_sfam.pipeline.streaming import Explained, ImageStream, MapTask
from fiftyone_sfam.runs.blobs import BlobStore


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
