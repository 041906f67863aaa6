"""Pairs that the user gives as a list, in place of a search."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.pair_list import DIFFERENT, NO_RANK, SAME, PairList
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import (
    FALSE_MATCH,
    OUTCOMES,
    TRUE_MATCH,
    UNLABELED,
    Pairs,
    count_outcomes,
)
from fiftyone_sfam.retrieval.search import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fiftyone_sfam.network.metric import Metric

NO_PAIR = -1
"""Stands for the pair of a row that is not explained."""

# Pairs whose embeddings are in double precision at once.
_ROWS = 8192


@dataclass(frozen=True, kw_only=True)
class GivenPairs:
    """A list of pairs, and which pairs of the run its rows are.

    Attributes
    ----------
    listed : PairList
        The list of L pairs.
    pair : ndarray of int32
        Index of each row's pair in the run; -1 for rows that are not explained, shape
        (L,). Rows that repeat a pair share it.
    reasons : dict of int to str
        Why rows are not explained.
    """

    listed: PairList
    pair: NDArray[np.int32]
    reasons: dict[int, str]

    @cached_property
    def row(self) -> NDArray[np.int64]:
        """The first row of the list that each of the P pairs is in, shape (P,)."""
        pairs, rows = np.unique(self.pair, return_index=True)
        return rows[pairs != NO_PAIR]

    def skipped(self, most: int) -> list[str]:
        """Return lines that say why the first rows are not explained."""
        reasons = sorted(self.reasons.items())
        lines = [f"skipped row {row}: {reason}" for row, reason in reasons[:most]]
        if len(reasons) > most:
            lines.append(f"and {len(reasons) - most:,} more.")
        return lines


def give_pairs(
    listed: PairList,
    items: NDArray[np.int32],
    reasons: dict[int, str],
    identities: Sequence[str | None],
    embeddings: NDArray[np.float32],
    metric: Metric,
) -> tuple[Pairs, GivenPairs]:
    """Make the pairs of a run from a list, query by query.

    ``items`` are the images of the rows, shape (L, 2), and ``reasons`` says why rows
    are left out. A list without ranks is ordered by distance, within each query's rows.
    """
    rows = np.array([row for row in range(len(listed)) if row not in reasons])
    if not len(rows):
        raise DataError(
            f"no pair of the list can be explained; the first reason: {reasons[0]}"
        )
    unique, first, place = np.unique(
        items[rows], axis=0, return_index=True, return_inverse=True
    )
    place = place.reshape(-1)  # of another shape in some versions of numpy
    for column, said in ((listed.label, "label"), (listed.rank, "rank")):
        _check_repeated(column[rows], column[rows[first]][place], rows, listed, said)
    query, gallery = unique[:, 0], unique[:, 1]
    similarity, distance = _compare(query, gallery, embeddings, metric)
    own = listed.rank[rows[first]]
    if listed.ranked:
        _check_ranks(query, own, rows[first], listed)
    # Equal distances in the order of the list.
    order = np.lexsort((first, own if listed.ranked else distance, query))
    rank = own[order] if listed.ranked else _places(query[order])
    new = np.empty(len(order), dtype=np.int32)
    new[order] = np.arange(len(order), dtype=np.int32)
    pair = np.full(len(listed), NO_PAIR, dtype=np.int32)
    pair[rows] = new[place]
    pairs = Pairs(
        query[order].astype(np.int32),
        gallery[order].astype(np.int32),
        rank.astype(np.int32),
        similarity[order],
        distance[order],
        _outcomes(query, gallery, listed.label[rows[first]], identities)[order],
    )
    return pairs, GivenPairs(listed=listed, pair=pair, reasons=reasons)


def count_given(pairs: Pairs, ranked: bool) -> dict[str, int]:
    """Count the outcomes of all pairs; of a ranking, of the labeled queries' first.

    What else could have been listed is not known, so every labeled query counts.
    """
    if ranked:
        labeled = np.zeros(int(pairs.query.max()) + 1, dtype=bool)
        labeled[pairs.query[(pairs.rank == 1) & (pairs.outcome != UNLABELED)]] = True
        return count_outcomes(pairs, labeled, labeled)
    return {
        OUTCOMES[code]: int(np.count_nonzero(pairs.outcome == code))
        for code in (TRUE_MATCH, FALSE_MATCH, UNLABELED)
    }


def _compare(
    query: NDArray[np.int32],
    gallery: NDArray[np.int32],
    embeddings: NDArray[np.float32],
    metric: Metric,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute similarity and distance of each pair."""
    import torch

    from fiftyone_sfam.network import metric as of_metric

    similarity, distance = np.empty(len(query)), np.empty(len(query))
    for start in range(0, len(query), _ROWS):
        part = slice(start, start + _ROWS)
        first, second = (
            torch.from_numpy(embeddings[side[part]]).double()
            for side in (query, gallery)
        )
        values = of_metric.similarity(first, second, metric).clamp(-1, 1)
        similarity[part] = values.numpy()
        if metric == "cosine":
            distance[part] = 1 - similarity[part]
        else:
            distance[part] = of_metric.distance(first, second, metric).numpy()
    return similarity, distance


def _outcomes(
    query: NDArray[np.int32],
    gallery: NDArray[np.int32],
    label: NDArray[np.int8],
    identities: Sequence[str | None],
) -> NDArray[np.int8]:
    """Return outcomes by the pairs' own labels, or else by the identities."""
    codes = encode(list(identities))
    known = (codes[query] >= 0) & (codes[gallery] >= 0)
    by_identity = np.where(codes[query] == codes[gallery], TRUE_MATCH, FALSE_MATCH)
    return np.select(
        [label == SAME, label == DIFFERENT, known],
        [TRUE_MATCH, FALSE_MATCH, by_identity],
        UNLABELED,
    ).astype(np.int8)


def _places(query: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the place of each pair among its query's, from 1; the queries ascend."""
    starts = np.searchsorted(query, query)
    return np.arange(len(query)) - starts + 1


def _check_repeated(
    own: NDArray[np.integer],
    first: NDArray[np.integer],
    rows: NDArray[np.int64],
    listed: PairList,
    said: str,
) -> None:
    """Raise if rows that repeat a pair contradict its first row."""
    for at in np.flatnonzero(own != first).tolist():
        row = int(rows[at])
        raise DataError(
            f"the list has the pair '{listed.query[row]}', '{listed.gallery[row]}' "
            f"twice, with different {said}s (row {row}); keep one of them."
        )


def _check_ranks(
    query: NDArray[np.int32],
    rank: NDArray[np.int32],
    rows: NDArray[np.int64],
    listed: PairList,
) -> None:
    """Raise if a pair has no rank, or two pairs of a query have the same one."""
    for row in rows[rank == NO_RANK].tolist():
        raise DataError(
            f"row {row} of the list has no rank, but others have; give every pair a "
            "rank, or none."
        )
    order = np.lexsort((rank, query))
    same = (np.diff(query[order]) == 0) & (np.diff(rank[order]) == 0)
    for at in np.flatnonzero(same).tolist():
        row = int(rows[order[at + 1]])
        raise DataError(
            f"the list gives the query '{listed.query[row]}' two gallery images of "
            f"rank {int(listed.rank[row])} (row {row}); ranks of a query must differ."
        )
