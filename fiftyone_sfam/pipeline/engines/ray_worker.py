"""A worker of a Ray cluster: computes some of the shards, and stores them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fiftyone_sfam.data.items import Items
    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.pipeline.shards import Embedded, Explained
    from fiftyone_sfam.pipeline.streaming import MapTask


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """The settings of a worker."""

    batch_size: int  # as in :class:`fiftyone_sfam.pipeline.engines.Work`
    num_workers: int
    cache_bytes: int
    device: str  # of the model
    dataset_id: str  # of the store of the results
    uid: str
    fingerprint: str | None
    layer: str | None = None


class ShardWorker:
    """Computes and stores the shards that it is given.

    The constructor does nothing: an exception in :meth:`set_up` reaches the caller
    unchanged, one in the constructor would not.
    """

    def set_up(
        self, items: Items, model: EmbeddingModel | str, settings: WorkerSettings
    ) -> None:
        """Connect to the database and load the model."""
        from fiftyone_sfam.pipeline.streaming import ImageStream
        from fiftyone_sfam.runs.blobs import BlobStore

        if isinstance(model, str):
            from fiftyone_sfam.models import load_model

            model = load_model(model, device=settings.device)
            if settings.layer is not None:
                model = model.with_layer(settings.layer)
        else:
            model.network.to(settings.device)
        self._has_layer = False
        self._stream = ImageStream(
            items,
            model,
            BlobStore(settings.dataset_id, settings.uid, settings.fingerprint),
            batch_size=settings.batch_size,
            num_workers=settings.num_workers,
            cache_bytes=settings.cache_bytes,
        )
        self._finds_layer_first = settings.cache_bytes > 0

    def embed(self, numbers: Sequence[int]) -> list[Embedded]:
        """Compute and store blocks of embeddings."""
        stream = self._stream
        if self._finds_layer_first:
            blocks = range(-(-len(stream.items) // stream.batch_size))
            self._find_layer(stream.block(number) for number in blocks)
        return list(stream.embed(numbers))

    def set_task(self, task: MapTask) -> None:
        """Set what the maps depend on."""
        self._task = task

    def explain(self, numbers: Sequence[int]) -> list[Explained]:
        """Compute and store shards of maps."""
        plan, total = self._task.plan, len(self._stream.items)
        shards = range(plan.num_shards)
        self._find_layer(plan.batch_of(shard, total).tolist() for shard in shards)
        return list(self._stream.explain(self._task, numbers))

    def _find_layer(self, batches: Iterable[Sequence[int]]) -> None:
        """Find the layer with the images that a single process finds it with."""
        if not self._has_layer:
            self._stream.find_layer(batches)
            self._has_layer = True
