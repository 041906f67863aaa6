"""One worker of a Ray cluster: a part of the shards, over the shared database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fiftyone_sfam.data.items import Items
    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.pipeline.shards import Embedded
    from fiftyone_sfam.pipeline.streaming import Explained, MapTask


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is told beside the images and the model."""

    batch_size: int  # as :class:`fiftyone_sfam.pipeline.engines.Work` has them
    num_workers: int  # as :class:`fiftyone_sfam.pipeline.engines.Work` has them
    cache_bytes: int  # as :class:`fiftyone_sfam.pipeline.engines.Work` has them
    device: str  # where the model runs
    dataset_id: str  # where the results go
    uid: str  # where the results go
    fingerprint: str  # where the results go


class ShardWorker:
    """Computes and stores the shards that it is given.

    Made with nothing, so that it can fail at nothing: what can go wrong goes wrong in
    :meth:`set_up`, whose exception reaches the caller as it is.
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
        else:
            model.network.to(settings.device)
        self._settings = settings
        self._has_layer = False
        self._store = BlobStore(settings.dataset_id, settings.uid)
        self._stream = ImageStream(
            items,
            model,
            settings.batch_size,
            settings.num_workers,
            settings.cache_bytes,
        )

    def embed(self, numbers: Sequence[int]) -> list[Embedded]:
        """Compute and store blocks of embeddings."""
        if self._settings.cache_bytes > 0:
            blocks = range(self._stream.num_blocks)
            self._find_layer(self._stream.block(number) for number in blocks)
        fingerprint = self._settings.fingerprint
        return list(self._stream.embed(self._store, fingerprint, numbers))

    def take(self, task: MapTask) -> None:
        """Take what the maps depend on."""
        self._task = task

    def explain(self, numbers: Sequence[int]) -> list[Explained]:
        """Compute and store shards of maps."""
        plan, total = self._task.plan, len(self._stream.items)
        shards = range(plan.num_shards)
        self._find_layer(plan.batch_of(shard, total).tolist() for shard in shards)
        return list(self._stream.explain(self._store, self._task, numbers))

    def _find_layer(self, batches: Iterable[Sequence[int]]) -> None:
        """Find the layer, with the images that a single process finds it with."""
        if not self._has_layer:
            self._stream.find_layer(batches)
            self._has_layer = True
