"""Exact nearest neighbors under a re-identification protocol, in bounded memory.

This module depends neither on FiftyOne nor on networks. Images are ranked by the
metric's distance: by cosine similarity, or by Euclidean distance. For the latter the
similarity of :func:`fiftyone_sfam.network.metric.similarity` is reported too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.rules import UNKNOWN as UNKNOWN
from fiftyone_sfam.retrieval.rules import (
    ExclusionRule,
    compile_rules,
    gallery_groups,
)

# Bytes of one block of query-gallery similarities.
_BLOCK_BYTES = 64 * 2**20
# Embeddings copied to double precision at once.
_ROWS = 8192
# Candidates beyond k that are compared exactly.
_SPARE = 16
# Bound of the rounding error of a single-precision key, relative to its largest value.
_ROUNDING = 2e-5
# Largest difference of duplicate embeddings, relative to their length.
_DUPLICATE = 1e-6


@dataclass(frozen=True)
class Candidates:
    """Queries, gallery and labels of the N images that may be compared."""

    identities: NDArray[np.int64]  # (N,)
    cameras: NDArray[np.int64]  # (N,)
    queries: NDArray[np.int64]  # indices of the images that are queries, shape (Q,)
    gallery: NDArray[np.int64]  # (G,)
    distractors: NDArray[np.bool_]  # images that match nobody, shape (N,)
    rules: tuple[ExclusionRule, ...] = ()  # that leave out pairs
    # Whose images random galleries take some of, shape (N,); None for the identities.
    groups: NDArray[np.int64] | None = None

    def is_true_match(
        self, query: NDArray[np.int64], other: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Return which pairs of images have the same identity."""
        return (
            (self.identities[query] == self.identities[other])
            & (self.identities[query] != UNKNOWN)
            & ~self.distractors[other]
            & ~self.distractors[query]
        )

    def left_out(
        self, queries: NDArray[np.int64], protocol: Protocol
    ) -> NDArray[np.bool_]:
        """Return which pairs a protocol leaves out, shape (queries, G)."""
        return self.left_out_pairs(queries[:, None], self.gallery, protocol)

    def left_out_pairs(
        self, query: NDArray[np.int64], other: NDArray[np.int64], protocol: Protocol
    ) -> NDArray[np.bool_]:
        """Return which of the given pairs a protocol leaves out."""
        out = np.zeros(np.broadcast_shapes(query.shape, other.shape), dtype=bool)
        if protocol.exclude_self:
            out |= query == other
        for rule in self.rules:
            out |= rule.holds(query, other)
        return out


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """The nearest neighbors of every query, and its best-ranked true match."""

    query: NDArray[np.int64]  # index of each query image, shape (Q,)
    index: NDArray[np.int64]  # (Q, k)
    similarity: NDArray[np.float64]  # (Q, k)
    distance: NDArray[np.float64]  # (Q, k)
    true_index: NDArray[np.int64]  # (Q,)
    true_rank: NDArray[np.int64]  # its rank, counted from 1
    true_similarity: NDArray[np.float64]  # (Q,)
    true_distance: NDArray[np.float64]  # (Q,)


def encode(values: list[str | None]) -> NDArray[np.int64]:
    """Return codes of labels, in the order of their first appearance."""
    codes: dict[str, int] = {}
    return np.array(
        [
            UNKNOWN if value is None else codes.setdefault(value, len(codes))
            for value in values
        ],
        dtype=np.int64,
    )


def select_candidates(
    protocol: Protocol,
    identities: list[str | None],
    cameras: list[str | None],
    splits: list[frozenset[str]] | None,
    terms: Mapping[str, NDArray[np.int64]] | None = None,
) -> Candidates:
    """Select queries and gallery by a protocol; the arguments are those of items."""
    count = len(identities)
    junk = np.array([value in protocol.junk for value in identities], dtype=bool)
    distractors = np.array(
        [value in protocol.distractors for value in identities], dtype=bool
    )
    queries, gallery = ~junk & ~distractors, ~junk
    if splits is not None:
        queries &= np.array([protocol.query_value in s for s in splits], dtype=bool)
        gallery &= np.array([protocol.gallery_value in s for s in splits], dtype=bool)
    for what, chosen, value, field in (
        ("queries", queries, protocol.query_value, protocol.query_field),
        ("gallery", gallery, protocol.gallery_value, protocol.gallery_field),
    ):
        if not chosen.any():
            having = f"the value '{value}' in the field '{protocol.split_field}'"
            if field is not None:
                having = f"a true field '{field}'"
            reason = (
                f"no image of {count} has {having} and an identity that is not junk"
                if protocol.split_field is not None or field is not None
                else f"all of the {count} images are junk or distractors"
            )
            raise DataError(f"the protocol leaves no {what}: {reason}.")
    codes = encode(identities), encode(cameras)
    return Candidates(
        *codes,
        np.flatnonzero(queries),
        np.flatnonzero(gallery),
        distractors,
        compile_rules(protocol, *codes, terms or {}),
        gallery_groups(protocol, *codes, terms or {}),
    )


def find_neighbors(
    embeddings: NDArray[np.floating],
    candidates: Candidates,
    protocol: Protocol,
    k: int,
    metric: str = "cosine",
    block_bytes: int = _BLOCK_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> Neighbors:
    """Find the exact k nearest neighbors of every query.

    Similarities are computed block by block in single precision; all images that may be
    among the k nearest are then compared in double precision. Equal distances are
    ordered by the index of the image, so the result does not depend on the block size.
    """
    if k < 1:
        raise DataError(f"k is {k}; ask for at least one neighbor.")
    search = Search(embeddings, candidates, protocol, metric)
    width = min(k, len(candidates.gallery))
    neighbors = no_neighbors(candidates.queries, width)
    done = 0
    for block in _blocks(candidates.queries, len(candidates.gallery), block_bytes):
        keys = search.keys(block)
        for row, query in enumerate(block):
            order = search.nearest(query, keys[row], width)
            place = done + row
            neighbors.index[place, : len(order)] = candidates.gallery[order]
            search.fill(
                neighbors.similarity[place], neighbors.distance[place], query, order
            )
            best, rank = search.best_true(query, keys[row])
            if best is not None:
                neighbors.true_index[place] = candidates.gallery[best]
                neighbors.true_rank[place] = rank
                search.fill(
                    neighbors.true_similarity[place : place + 1],
                    neighbors.true_distance[place : place + 1],
                    query,
                    np.array([best]),
                )
        done += len(block)
        if progress is not None:
            progress(done, len(candidates.queries))
    return neighbors


class Search:
    """Ranks gallery images by keys, of which larger ones are nearer."""

    def __init__(
        self,
        embeddings: NDArray[np.floating],
        candidates: Candidates,
        protocol: Protocol,
        metric: str,
    ) -> None:
        self.metric = metric
        self.protocol = protocol
        self.candidates = candidates
        # Contiguous rows, so that equal pairs are summed in the same order and tie.
        self.raw = np.ascontiguousarray(embeddings)
        self.norms = np.concatenate(
            [np.linalg.norm(part.astype(np.float64), axis=1) for part in self._parts()]
        )
        self.gallery_identity = candidates.identities[candidates.gallery]
        self.gallery_norms = self.norms[candidates.gallery]

    @cached_property
    def gallery32(self) -> NDArray[np.float32]:
        """The gallery's scaled embeddings in single precision, shape (G, D)."""
        return self._scaled(self.candidates.gallery)

    def keys(self, queries: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return keys of the gallery in single precision, -inf for left-out images."""
        import torch

        product = (
            torch.from_numpy(self._scaled(queries)) @ torch.from_numpy(self.gallery32).T
        )
        keys = product.numpy()
        if self.metric == "euclidean":
            keys *= 2
            keys -= np.square(self.gallery_norms).astype(np.float32)
            keys -= np.square(self.norms[queries]).astype(np.float32)[:, None]
        keys[self.candidates.left_out(queries, self.protocol)] = -np.inf
        if self.protocol.exclude_duplicates:
            self._drop_duplicates(queries, keys)
        return keys

    def nearest(
        self, query: int, keys: NDArray[np.float32], width: int
    ) -> NDArray[np.int64]:
        """Return the gallery positions of the nearest."""
        count = min(width + _SPARE, len(keys))
        near = np.argpartition(-keys, count - 1)[:count]
        near = near[np.isfinite(keys[near])]
        if len(near) == 0:
            return near
        kth = float(np.sort(keys[near])[-min(width, len(near))])
        bound = kth - 2 * self._error(query)
        if len(near) == count and keys[near].min() >= bound:
            # Images outside the selection may be as near as the k-th.
            near = np.flatnonzero(keys >= bound)
        exact = self.exact(query, near)
        return near[np.lexsort((near, -exact))[:width]]

    def best_true(
        self, query: int, keys: NDArray[np.float32]
    ) -> tuple[int | None, int]:
        """Return the gallery position and the rank of the nearest true match."""
        candidates = self.candidates
        identity = candidates.identities[query]
        if identity == UNKNOWN:
            return None, 0
        same = np.flatnonzero(self.gallery_identity == identity)
        same = same[
            np.isfinite(keys[same])
            & candidates.is_true_match(
                np.full(len(same), query), candidates.gallery[same]
            )
        ]
        if len(same) == 0:
            return None, 0
        exact = self.exact(query, same)
        best = np.lexsort((same, -exact))[0]
        error = 2 * self._error(query)
        low, high = exact[best] - error, exact[best] + error
        ahead = int(np.count_nonzero(keys > high))
        close = np.flatnonzero((keys >= low) & (keys <= high))
        keys_of_close = self.exact(query, close)
        ahead += int(
            np.count_nonzero(
                (keys_of_close > exact[best])
                | ((keys_of_close == exact[best]) & (close < same[best]))
            )
        )
        return int(same[best]), ahead + 1

    def exact(self, query: int, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compute keys in double precision, the same way for every pair."""
        images = self.candidates.gallery[positions]
        vector = self.raw[query].astype(np.float64)
        vectors = self.raw[images].astype(np.float64)
        if self.metric == "euclidean":
            return -np.square(vectors - vector).sum(axis=1)
        return (vectors * vector).sum(axis=1) / (self.norms[images] * self.norms[query])

    def fill(
        self,
        similarity: NDArray[np.float64],
        distance: NDArray[np.float64],
        query: int,
        positions: NDArray[np.int64],
    ) -> None:
        """Write the similarity and the distance of a query's pairs."""
        exact = self.exact(query, positions)
        count = len(positions)
        if self.metric == "euclidean":
            squares = (
                self.norms[query] ** 2
                + self.norms[self.candidates.gallery[positions]] ** 2
            )
            similarity[:count] = 1 + exact / squares
            distance[:count] = np.sqrt(-exact)
        else:
            similarity[:count] = np.clip(exact, -1, 1)
            distance[:count] = 1 - similarity[:count]

    def _scaled(self, images: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return embeddings in single precision, unit length for the cosine."""
        scaled = np.empty((len(images), self.raw.shape[1]), dtype=np.float32)
        for start in range(0, len(images), _ROWS):
            part = images[start : start + _ROWS]
            chosen = self.raw[part].astype(np.float64)
            if self.metric == "cosine":
                chosen /= self.norms[part][:, None]
            scaled[start : start + _ROWS] = chosen
        return scaled

    def _parts(self) -> Iterator[NDArray[np.floating]]:
        """Yield the embeddings in parts of at most ``_ROWS``."""
        for start in range(0, len(self.raw), _ROWS):
            yield self.raw[start : start + _ROWS]

    def _error(self, query: int) -> float:
        """Bound the rounding error of a query's keys in single precision."""
        if self.metric == "cosine":
            return _ROUNDING
        return _ROUNDING * float(self.norms[query] ** 2 + self.gallery_norms.max() ** 2)

    def _drop_duplicates(
        self, queries: NDArray[np.int64], keys: NDArray[np.float32]
    ) -> None:
        """Leave out gallery images whose embedding equals the query's."""
        for row, query in enumerate(queries):
            top = 1.0 if self.metric == "cosine" else 0.0
            near = np.flatnonzero(keys[row] >= top - 2 * self._error(query))
            if len(near) == 0:
                continue
            same = are_duplicates(self.raw, query, self.candidates.gallery[near])
            keys[row, near[same]] = -np.inf


def are_duplicates(
    embeddings: NDArray[np.floating], query: int, others: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which images have the query's embedding, up to rounding."""
    vector = embeddings[query].astype(np.float64)
    differences = embeddings[others].astype(np.float64) - vector
    return np.linalg.norm(differences, axis=1) <= _DUPLICATE * np.linalg.norm(vector)


def _blocks(
    queries: NDArray[np.int64], gallery: int, block_bytes: int
) -> Iterator[NDArray[np.int64]]:
    """Split the queries into blocks whose similarities fit into memory."""
    rows = max(1, block_bytes // (4 * max(1, gallery)))
    for start in range(0, len(queries), rows):
        yield queries[start : start + rows]


def no_neighbors(queries: NDArray[np.int64], width: int) -> Neighbors:
    """Return arrays for the neighbors of queries, without any neighbor."""
    count = len(queries)
    return Neighbors(
        query=queries,
        index=np.full((count, width), UNKNOWN, dtype=np.int64),
        similarity=np.full((count, width), np.nan),
        distance=np.full((count, width), np.nan),
        true_index=np.full(count, UNKNOWN, dtype=np.int64),
        true_rank=np.zeros(count, dtype=np.int64),
        true_similarity=np.full(count, np.nan),
        true_distance=np.full(count, np.nan),
    )
