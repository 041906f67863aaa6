"""Engines compute the shards of a run: in this process, or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone_sfam.data.items import Items
    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.pipeline.shards import Embedded, Explained
    from fiftyone_sfam.pipeline.streaming import MapTask
    from fiftyone_sfam.pipeline.update import Kept
    from fiftyone_sfam.runs.blobs import BlobStore

ENGINES = ("local", "ray")
"""Names of the engines."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """The images of a run, the model, and the store of the results."""

    items: Items
    model: EmbeddingModel
    model_name: str | None  # name in the registry; None for a model of the caller
    batch_size: int  # images per forward pass, and per shard
    num_workers: int | None  # threads that read images, of each process
    cache_bytes: int  # memory of the cache, of each process
    store: BlobStore
    layer: str | None = None  # at which a named model is explained; None: its own
    kept: Kept | None = None  # what an update takes from the run that it replaces


class Engine(Protocol):
    """Computes numbered blocks of embeddings and shards of maps, in any order.

    Each is stored before it is yielded. When the context of the engine ends, also by an
    exception, nothing more is stored.
    """

    def embed(self, numbers: Sequence[int]) -> Iterator[Embedded]:
        """Compute and store blocks of embeddings."""
        ...

    def explain(self, task: MapTask, numbers: Sequence[int]) -> Iterator[Explained]:
        """Compute and store shards of maps."""
        ...


def check_engine(engine: str, options: Mapping[str, Any] | None) -> None:
    """Raise if an engine or its options are unknown."""
    if engine not in ENGINES:
        raise DataError(f"unknown engine {engine!r}; use one of {', '.join(ENGINES)}.")
    if engine == "ray":
        if find_spec("ray") is None:
            raise DataError(
                "the engine 'ray' needs the package ray; install fiftyone-sfam[ray]."
            )
        from fiftyone_sfam.pipeline.engines.ray_engine import RayOptions

        RayOptions.of(options)
    elif options:
        raise DataError(
            f"the engine 'local' has no options, but {', '.join(sorted(options))} "
            "were given; use engine='ray', or leave the options out."
        )


def make_engine(
    engine: str, work: Work, engine_options: Mapping[str, Any] | None
) -> AbstractContextManager[Engine]:
    """Start an engine."""
    if engine == "ray":
        from fiftyone_sfam.pipeline.engines.ray_engine import RayEngine, RayOptions

        return RayEngine(work, RayOptions.of(engine_options))
    from fiftyone_sfam.pipeline.streaming import ImageStream
    from fiftyone_sfam.pipeline.update import UpdatingStream

    threads = min(8, os.cpu_count() or 1)
    if work.num_workers is not None:
        threads = max(0, work.num_workers)
    options = {
        "batch_size": work.batch_size,
        "num_workers": threads,
        "cache_bytes": work.cache_bytes,
    }
    if work.kept is None:
        return nullcontext(ImageStream(work.items, work.model, work.store, **options))
    stream = UpdatingStream(work.items, work.model, work.store, work.kept, **options)
    stream.check_model()
    return nullcontext(stream)
