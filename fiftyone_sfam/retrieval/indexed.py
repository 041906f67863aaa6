"""Nearest neighbors among the proposals of an index, ranked and scored exactly.

An approximate index is fast, but misses some neighbors, and its scores differ from
those of the exact search. So it is asked for more images than are needed; those that
the protocol leaves out are dropped, and the rest are ranked by the embeddings.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.embeddings import load_index
from fiftyone_sfam.retrieval.search import (
    UNKNOWN,
    Candidates,
    Neighbors,
    Search,
    are_duplicates,
    no_neighbors,
)

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

# Default and largest number of places that pgvector visits in an HNSW graph.
_PGVECTOR_EF, _PGVECTOR_MOST = 40, 1000


class Identified(Interface):
    """Images or detections with ids."""

    @property
    def ids(self) -> Sequence[str] | NDArray[np.str_]:
        """Id of each of them."""
        ...


class IndexSearch:
    """Queries a similarity index of FiftyOne for the neighbors of vectors.

    The index's distances are ignored, because they are similarities in some backends
    and squared distances in others.
    """

    def __init__(
        self,
        samples: SampleCollection,
        items: Identified,
        key: str,
        metric: str,
        patches_field: str | None,
    ) -> None:
        if key not in samples._dataset.list_brain_runs():
            raise DataError(
                f"neighbors='index' takes the neighbors from a similarity index, but "
                f"'{key}' is not the brain key of one; give the brain key of an index "
                "as embeddings."
            )
        self._index: Any = load_index(samples, key, patches_field)
        backend = self._index.config.method
        if backend == "sklearn":
            raise DataError(
                f"the similarity index '{key}' is FiftyOne's built-in one, which "
                "compares all embeddings after centering them; use neighbors='exact', "
                "which compares all embeddings as they are."
            )
        ranks_by = getattr(self._index.config, "metric", None)
        if ranks_by != metric:
            raise DataError(
                f"the similarity index '{key}' ranks by {ranks_by}, but the model's "
                f"embeddings are compared by {metric}; make an index with "
                f"metric='{metric}', or use neighbors='exact'."
            )
        self._of_patches = patches_field is not None
        self._item = {str(item_id): item for item, item_id in enumerate(items.ids)}
        self._most = self._index.config.max_k

    @property
    def size(self) -> int:
        """Largest number of images that can be requested."""
        size = int(self._index.total_index_size)
        return size if self._most is None else min(size, self._most)

    def __call__(
        self, vectors: NDArray[np.float32], count: int
    ) -> list[NDArray[np.int64]]:
        """Return the items near each vector, in the index's order."""
        _search_wide_enough(self._index.config, count)
        # Every backend implements this method. The public one makes a view for each
        # query, and returns samples instead of detections.
        sample_ids, label_ids = self._index._kneighbors(query=vectors, k=count)
        return [
            np.array([self._item.get(str(i), UNKNOWN) for i in ids], dtype=np.int64)
            for ids in (label_ids if self._of_patches else sample_ids)
        ]


def _search_wide_enough(config: Any, count: int) -> None:
    """Let pgvector visit enough places of its graph.

    It returns at most as many images as it visits, whatever the limit of the query is.
    """
    if config.method == "pgvector" and config.index_type == "hnsw":
        wanted = max(config.hnsw_ef_search or _PGVECTOR_EF, 2 * count)
        config.hnsw_ef_search = min(wanted, _PGVECTOR_MOST)


# Images requested beyond k: the query itself, and images that are left out.
_SPARE = 16
# Factor of the next request if too few images are left.
_GROWTH = 4
# Queries per request.
_QUERIES = 256


class Proposals(Interface):
    """Proposes neighbors of vectors."""

    @property
    def size(self) -> int:
        """Largest number of images that can be requested."""
        ...

    def __call__(
        self, vectors: NDArray[np.float32], count: int
    ) -> list[NDArray[np.int64]]:
        """Return the images near each vector, at most ``count``, in any order."""
        ...


def find_proposed_neighbors(
    embeddings: NDArray[np.floating],
    candidates: Candidates,
    protocol: Protocol,
    k: int,
    proposals: Proposals,
    metric: str = "cosine",
    progress: Callable[[int, int], None] | None = None,
) -> Neighbors:
    """Find the k nearest neighbors of every query among an index's proposals.

    Warns
    -----
    UserWarning
        If queries got fewer than k neighbors although the index holds more images.
    """
    if k < 1:
        raise DataError(f"k is {k}; ask for at least one neighbor.")
    search = Search(embeddings, candidates, protocol, metric)
    among = _Among(search, len(embeddings))
    neighbors = no_neighbors(candidates.queries, min(k, len(candidates.gallery)))
    width = neighbors.index.shape[1]
    short = 0
    for start in range(0, len(candidates.queries), _QUERIES):
        places = np.arange(start, min(start + _QUERIES, len(candidates.queries)))
        count = min(width + _SPARE, proposals.size)
        while len(places):
            queries = candidates.queries[places]
            proposed = proposals(search.raw[queries].astype(np.float32), count)
            again = []
            for place, query, near in zip(places, queries, proposed, strict=True):
                order = among.allowed(query, near)
                if len(order) < width and len(near) >= count < proposals.size:
                    again.append(place)
                    continue
                short += len(order) < width and len(near) < count
                _enter(neighbors, search, int(place), int(query), order)
            places = np.array(again, dtype=np.int64)
            count = min(_GROWTH * count, proposals.size)
        if progress is not None:
            progress(min(start + _QUERIES, len(neighbors.query)), len(neighbors.query))
    if short:
        warnings.warn(
            f"the index gave {short} of "
            f"{counted(len(neighbors.query), 'query', 'queries')} fewer than "
            f"{counted(width, 'neighbor')}; let it search wider, or use "
            "neighbors='exact'.",
            stacklevel=2,
        )
    return neighbors


class _Among:
    """Ranks the proposals for a query."""

    def __init__(self, search: Search, count: int) -> None:
        self._search = search
        gallery = search.candidates.gallery
        self._position = np.full(count, UNKNOWN, dtype=np.int64)
        self._position[gallery] = np.arange(len(gallery))

    def allowed(self, query: int, near: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the gallery positions that the protocol allows, nearest first."""
        search = self._search
        near = near[near != UNKNOWN]
        near = np.unique(near[self._position[near] != UNKNOWN])
        out = search.candidates.left_out_pairs(np.array(query), near, search.protocol)
        near = near[~out]
        if search.protocol.exclude_duplicates:
            near = near[~are_duplicates(search.raw, query, near)]
        order = self._position[near]
        return order[np.lexsort((order, -search.exact(query, order)))]


def _enter(
    neighbors: Neighbors,
    search: Search,
    place: int,
    query: int,
    order: NDArray[np.int64],
) -> None:
    """Store the neighbors of a query, and the best true match among them."""
    images = search.candidates.gallery[order]
    width = neighbors.index.shape[1]
    nearest = order[:width]
    neighbors.index[place, : len(nearest)] = images[:width]
    search.fill(neighbors.similarity[place], neighbors.distance[place], query, nearest)
    same = search.candidates.is_true_match(np.full(len(images), query), images)
    if same.any():
        first = int(np.argmax(same))
        neighbors.true_index[place] = images[first]
        neighbors.true_rank[place] = first + 1
        chosen = slice(place, place + 1)
        search.fill(
            neighbors.true_similarity[chosen],
            neighbors.true_distance[chosen],
            query,
            order[first : first + 1],
        )
