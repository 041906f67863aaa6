"""Choosing pairs by what they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.errors import DataError
from fiftyone_sfam.records import OUTCOMES, Pairs


@dataclass(frozen=True)
class PairFilter:
    """Conditions on pairs; None leaves one open.

    Attributes
    ----------
    outcome : str or None
        One of :data:`fiftyone_sfam.records.OUTCOMES`.
    max_rank : int or None
        Largest rank.
    min_similarity, max_similarity : float or None
        Range of the similarity, both ends included.
    """

    outcome: str | None = None
    max_rank: int | None = None
    min_similarity: float | None = None
    max_similarity: float | None = None


def select_pairs(pairs: Pairs, conditions: PairFilter) -> NDArray[np.int64]:
    """Return the pairs that fulfill all conditions.

    Parameters
    ----------
    pairs : Pairs
        The pairs of a run.
    conditions : PairFilter
        The conditions.

    Returns
    -------
    ndarray of int64
        Indices into the columns of ``pairs``, ascending.

    Raises
    ------
    DataError
        If the outcome is unknown.
    """
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
    return np.flatnonzero(keep)
