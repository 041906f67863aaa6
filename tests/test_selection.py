"""Choosing pairs by what they are."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_sfam.errors import DataError
from fiftyone_sfam.records import Pairs
from fiftyone_sfam.selection import PairFilter, select_pairs

PAIRS = Pairs(
    query=np.array([0, 0, 0, 1, 1], np.int32),
    gallery=np.array([1, 2, 3, 0, 2], np.int32),
    rank=np.array([1, 2, 9, 1, 2], np.int32),
    similarity=np.array([0.9, 0.5, 0.25, 0.9, -0.5]),
    distance=np.array([0.1, 0.5, 0.75, 0.1, 1.5]),
    outcome=np.array([0, 1, 0, 2, 1], np.int8),
)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (PairFilter(), [0, 1, 2, 3, 4]),
        (PairFilter(outcome="true match"), [0, 2]),
        (PairFilter(outcome="false match"), [1, 4]),
        (PairFilter(outcome="unlabeled"), [3]),
        (PairFilter(max_rank=1), [0, 3]),
        (PairFilter(max_rank=2), [0, 1, 3, 4]),
        (PairFilter(max_rank=0), []),
        (PairFilter(min_similarity=0.5), [0, 1, 3]),
        (PairFilter(max_similarity=0.5), [1, 2, 4]),
        (PairFilter(min_similarity=0.25, max_similarity=0.5), [1, 2]),
        (PairFilter(min_similarity=0.0, max_similarity=0.0), []),
        (PairFilter("false match", 2, 0.0, 0.6), [1]),
    ],
)
def test_conditions(conditions: PairFilter, expected: list[int]) -> None:
    found = select_pairs(PAIRS, conditions)
    assert found.tolist() == expected
    assert found.dtype == np.int64


def test_unknown_outcome() -> None:
    with pytest.raises(DataError) as caught:
        select_pairs(PAIRS, PairFilter(outcome="match"))
    assert str(caught.value) == (
        "unknown outcome 'match'; use one of true match, false match, unlabeled."
    )
