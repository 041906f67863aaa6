"""Nearest neighbors among what an index proposes, ranked and scored exactly.

An approximate index is fast and forgets some neighbors; its scores are its own. So it
is asked for more than is needed, what the protocol leaves out is dropped, and the rest
is compared with the embeddings themselves, as the exact search does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.items import Items
from fiftyone_sfam.data.protocol import Protocol
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


# Images that are asked for beyond k: the query itself, and what is left out.
_SPARE = 16
# How many times more are asked for where too few are left.
_GROWTH = 4
# Queries that are put to the index at once.
_QUERIES = 256


class Proposals(Interface):
    """Proposes neighbors of vectors."""

    @property
    def size(self) -> int:
        """Images in the index; more than these cannot be asked for."""
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
    """Find the k nearest of what an index proposes for every query.

    Warns
    -----
    UserWarning
        If queries got fewer than k neighbors although the index holds more images.
    """
    if k < 1:
        raise DataError(f"k is {k}; ask for at least one neighbor.")
    search = Search(embeddings, candidates, protocol, metric)
    among = _Among(search, len(embeddings))
    found = no_neighbors(candidates.queries, min(k, len(candidates.gallery)))
    width = found.index.shape[1]
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
                _enter(found, search, int(place), int(query), order)
            places = np.array(again, dtype=np.int64)
            count = min(_GROWTH * count, proposals.size)
        if progress is not None:
            progress(min(start + _QUERIES, len(found.query)), len(found.query))
    if short:
        warnings.warn(
            f"the index gave {short} of {len(found.query)} queries fewer than {width} "
            "neighbors; let it search wider, or use neighbors='exact'.",
            stacklevel=2,
        )
    return found


class _Among:
    """Ranks what was proposed for a query."""

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
    found: Neighbors,
    search: Search,
    place: int,
    query: int,
    order: NDArray[np.int64],
) -> None:
    """Enter the neighbors of a query, and its best true match among them."""
    images = search.candidates.gallery[order]
    width = found.index.shape[1]
    nearest = order[:width]
    found.index[place, : len(nearest)] = images[:width]
    search.fill(found.similarity[place], found.distance[place], query, nearest)
    same = search.candidates.is_true_match(np.full(len(images), query), images)
    if same.any():
        first = int(np.argmax(same))
        found.true_index[place] = images[first]
        found.true_rank[place] = first + 1
        chosen = slice(place, place + 1)
        search.fill(
            found.true_similarity[chosen],
            found.true_distance[chosen],
            query,
            order[first : first + 1],
        )
