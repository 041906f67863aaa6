"""Select pairs by conditions, and sort them for review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, OUTCOMES, TRUE_MATCH, Pairs

RUN, FALSE_FIRST, TRUE_LAST, MARGIN, SUSPECTS = (
    "run",
    "false matches",
    "true matches",
    "margin",
    "suspects",
)

ORDERS = {
    RUN: "as in the run",
    FALSE_FIRST: "most similar false matches first",
    TRUE_LAST: "least similar true matches first",
    MARGIN: "smallest margin of the true match first",
    SUSPECTS: "suspects first",
}
"""Orders of pairs, and their labels."""


@dataclass(frozen=True)
class PairFilter:
    """Conditions on pairs; None is no condition."""

    outcome: str | None = None  # one of :data:`fiftyone_sfam.retrieval.pairs.OUTCOMES`
    max_rank: int | None = None
    min_similarity: float | None = None  # inclusive
    max_similarity: float | None = None  # inclusive
    query_camera: str | None = None
    neighbor_camera: str | None = None


def select_pairs(
    pairs: Pairs, conditions: PairFilter, cameras: Sequence[str | None] = ()
) -> NDArray[np.int64]:
    """Return the indices of the pairs that meet all conditions."""
    keep = np.ones(len(pairs), dtype=bool)
    if conditions.outcome is not None:
        if conditions.outcome not in OUTCOMES:
            raise DataError(
                f"unknown outcome {conditions.outcome!r}; use one of "
                f"{', '.join(OUTCOMES)}."
            )
        keep &= pairs.outcome == OUTCOMES.index(conditions.outcome)
    if conditions.max_rank is not None:
        keep &= pairs.rank <= conditions.max_rank
    if conditions.min_similarity is not None:
        keep &= pairs.similarity >= conditions.min_similarity
    if conditions.max_similarity is not None:
        keep &= pairs.similarity <= conditions.max_similarity
    for items, wanted in (
        (pairs.query, conditions.query_camera),
        (pairs.gallery, conditions.neighbor_camera),
    ):
        if wanted is not None:
            keep &= np.array([camera == wanted for camera in cameras], bool)[items]
    return np.flatnonzero(keep)


def margins(pairs: Pairs) -> NDArray[np.float64]:
    """Compute how much more similar the query's nearest true match is than the pair."""
    order = np.lexsort((pairs.rank, pairs.query))
    true = order[pairs.outcome[order] == TRUE_MATCH]
    queries, first = np.unique(pairs.query[true], return_index=True)
    nearest = np.full(int(pairs.query.max(initial=-1)) + 1, np.nan)
    nearest[queries] = pairs.similarity[true[first]]
    return nearest[pairs.query] - pairs.similarity


def order_pairs(
    pairs: Pairs,
    chosen: NDArray[np.int64],
    order: str,
    suspects: Sequence[int] = (),
) -> NDArray[np.int64]:
    """Sort chosen pairs in one of :data:`ORDERS`."""
    if order not in ORDERS:
        raise DataError(f"unknown order {order!r}; use one of {', '.join(ORDERS)}.")
    similarity, outcome = pairs.similarity[chosen], pairs.outcome[chosen]
    keys: tuple[NDArray[Any], ...]
    if order == FALSE_FIRST:
        keys = (-similarity, outcome != FALSE_MATCH)
    elif order == TRUE_LAST:
        keys = (similarity, outcome != TRUE_MATCH)
    elif order == MARGIN:
        keys = (margins(pairs)[chosen],)
    elif order == SUSPECTS:
        place = np.full(len(pairs), len(suspects), dtype=np.int64)
        # Backwards, so that a pair that occurs twice gets its first place.
        place[list(suspects)[::-1]] = np.arange(len(suspects))[::-1]
        keys = (place[chosen],)
    else:
        return chosen
    return chosen[np.lexsort(keys)]
