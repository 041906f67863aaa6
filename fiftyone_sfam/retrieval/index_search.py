"""Neighbors from the similarity index that a dataset has: LanceDB, pgvector, ..."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.items import Items
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.embeddings import load_index

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

# What pgvector visits by default in an HNSW graph, and may visit at most.
_PGVECTOR_EF, _PGVECTOR_MOST = 40, 1000


class IndexSearch:
    """Asks a similarity index of FiftyOne for the neighbors of vectors.

    Only which images are near is taken from the index: what it calls a distance is a
    similarity in some backends, a squared distance in others.
    """

    def __init__(
        self,
        samples: SampleCollection,
        items: Items,
        key: str,
        metric: str,
        patches_field: str | None,
    ) -> None:
        if key not in samples._dataset.list_brain_runs():
            raise DataError(
                f"neighbors='index' takes the neighbors from a similarity index, and "
                f"'{key}' is none; give its brain key as embeddings."
            )
        self._index: Any = load_index(samples, key, patches_field)
        backend = self._index.config.method
        if backend == "sklearn":
            raise DataError(
                f"the similarity index '{key}' is FiftyOne's built-in one, which "
                "compares centered embeddings with all others; neighbors='exact' does "
                "that with the embeddings as they are."
            )
        own = getattr(self._index.config, "metric", None)
        if own != metric:
            raise DataError(
                f"the similarity index '{key}' ranks by {own}, but the model's "
                f"embeddings are compared by {metric}; make an index with "
                f"metric='{metric}', or use neighbors='exact'."
            )
        self._of_patches = patches_field is not None
        self._item = {one: place for place, one in enumerate(items.ids)}
        self._most = self._index.config.max_k

    @property
    def size(self) -> int:
        """Images that may be asked for."""
        size = int(self._index.total_index_size)
        return size if self._most is None else min(size, self._most)

    def __call__(
        self, vectors: NDArray[np.float32], count: int
    ) -> list[NDArray[np.int64]]:
        """Return the items near each vector, nearest first as the index has it."""
        _search_wide_enough(self._index.config, count)
        # The method that every backend has to have; what is public of it makes a view
        # for each query, and finds samples where detections are asked for.
        sample_ids, label_ids = self._index._kneighbors(query=vectors, k=count)
        return [
            np.array([self._item.get(str(one), -1) for one in ids], dtype=np.int64)
            for ids in (label_ids if self._of_patches else sample_ids)
        ]


def _search_wide_enough(config: Any, count: int) -> None:
    """Let pgvector visit as many places of its graph as are asked for.

    It returns no more than it visits, whatever the limit of the query is.
    """
    if config.method == "pgvector" and config.index_type == "hnsw":
        wanted = max(config.hnsw_ef_search or _PGVECTOR_EF, 2 * count)
        config.hnsw_ef_search = min(wanted, _PGVECTOR_MOST)
