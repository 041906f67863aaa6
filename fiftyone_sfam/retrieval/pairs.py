"""The pairs of a run as columns.

Every pair has two sides, the query's and the gallery image's. Side ``2 i`` is the
query's side of pair ``i``, side ``2 i + 1`` the gallery image's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.retrieval.search import UNKNOWN, Candidates, Neighbors

OUTCOMES = ("true match", "false match", "unlabeled")
"""Outcome of a pair by its labels; columns hold indices into this tuple."""

TRUE_MATCH, FALSE_MATCH, UNLABELED = range(3)
QUERY, GALLERY = range(2)


@dataclass(frozen=True)
class Pairs:
    """The P pairs of a run, query by query, nearest first.

    If a query's nearest true match is not among its k nearest neighbors, it is an
    additional pair, with a ``rank`` above k.
    """

    query: NDArray[np.int32]  # (P,)
    gallery: NDArray[np.int32]  # (P,)
    rank: NDArray[np.int32]  # (P,)
    similarity: NDArray[np.float64]  # (P,)
    distance: NDArray[np.float64]  # (P,)
    outcome: NDArray[np.int8]  # index into :data:`OUTCOMES`, shape (P,)

    def __len__(self) -> int:
        return len(self.query)

    def sides(self) -> NDArray[np.int32]:
        """Return the item of each side, shape (2 P,)."""
        return np.stack([self.query, self.gallery], axis=1).reshape(-1)

    def items_of(self, sides: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the items of some sides, without computing all of them."""
        pairs = sides // 2
        return np.where(sides % 2 == QUERY, self.query[pairs], self.gallery[pairs])

    def of_query(self, item: int) -> NDArray[np.int64]:
        """Return the indices of a query's pairs, nearest first."""
        # Another type than the column's would make numpy convert the whole column.
        ends = np.array([item, item + 1], dtype=self._sorted_query.dtype)
        start, stop = np.searchsorted(self._sorted_query, ends)
        return self._query_order[start:stop]

    @cached_property
    def _query_order(self) -> NDArray[np.int64]:
        return np.lexsort((self.rank, self.query))

    @cached_property
    def _sorted_query(self) -> NDArray[np.int32]:
        return self.query[self._query_order]


def make_pairs(neighbors: Neighbors, candidates: Candidates) -> Pairs:
    """List the pairs of a retrieval."""
    width = neighbors.index.shape[1]
    filled = neighbors.index != UNKNOWN
    rows, columns = np.nonzero(filled)
    missed = np.flatnonzero(
        (neighbors.true_index != UNKNOWN) & (neighbors.true_rank > width)
    )
    query = np.concatenate([neighbors.query[rows], neighbors.query[missed]])
    gallery = np.concatenate([neighbors.index[filled], neighbors.true_index[missed]])
    rank = np.concatenate([columns + 1, neighbors.true_rank[missed]])
    similarity = np.concatenate(
        [neighbors.similarity[filled], neighbors.true_similarity[missed]]
    )
    distance = np.concatenate(
        [neighbors.distance[filled], neighbors.true_distance[missed]]
    )
    place = np.concatenate([rows, missed])
    order = np.lexsort((rank, place))
    query, gallery = query[order], gallery[order]
    return Pairs(
        query.astype(np.int32),
        gallery.astype(np.int32),
        rank[order].astype(np.int32),
        similarity[order],
        distance[order],
        outcomes_of(query, gallery, candidates),
    )


def outcomes_of(
    query: NDArray[np.int64], gallery: NDArray[np.int64], candidates: Candidates
) -> NDArray[np.int8]:
    """Return the outcome of each pair, an index into :data:`OUTCOMES`."""
    unlabeled = (candidates.identities[query] == UNKNOWN) | (
        candidates.identities[gallery] == UNKNOWN
    )
    match = candidates.is_true_match(query, gallery)
    return np.where(
        unlabeled, UNLABELED, np.where(match, TRUE_MATCH, FALSE_MATCH)
    ).astype(np.int8)


def count_outcomes(pairs: Pairs, first_only: bool = True) -> dict[str, int]:
    """Count the outcomes of the queries' first neighbors, or of all pairs."""
    outcome = pairs.outcome[pairs.rank == 1] if first_only else pairs.outcome
    return {
        OUTCOMES[code]: int(np.count_nonzero(outcome == code))
        for code in (TRUE_MATCH, FALSE_MATCH, UNLABELED)
    }
