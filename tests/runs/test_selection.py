"""Choosing pairs by what they are, and their orders."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.runs.selection import (
    ORDERS,
    PairFilter,
    margins,
    order_pairs,
    select_pairs,
)

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


CAMERAS = ("a", "b", None, "a")


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        # Query 0 is of camera a, query 1 of b; their neighbors of b, none, a; a, none.
        (PairFilter(query_camera="a"), [0, 1, 2]),
        (PairFilter(query_camera="b"), [3, 4]),
        (PairFilter(neighbor_camera="a"), [2, 3]),
        (PairFilter(query_camera="b", neighbor_camera="a"), [3]),
        (PairFilter(query_camera="a", neighbor_camera="b", max_rank=1), [0]),
        (PairFilter(query_camera="z"), []),
    ],
)
def test_cameras(conditions: PairFilter, expected: list[int]) -> None:
    assert select_pairs(PAIRS, conditions, CAMERAS).tolist() == expected


def test_margins() -> None:
    # Query 0's nearest true match is its rank 1, of 0.9; query 1 has none.
    found = margins(PAIRS)
    assert found[:3].tolist() == pytest.approx([0.0, 0.4, 0.65])
    assert np.isnan(found[3:]).all()
    # The columns need not be in order of rank.
    turned = Pairs(
        **{name: column[::-1].copy() for name, column in vars(PAIRS).items()}
    )
    assert margins(turned)[::-1][:3].tolist() == pytest.approx([0.0, 0.4, 0.65])


def test_margins_of_no_pairs() -> None:
    none = Pairs(**{name: column[:0] for name, column in vars(PAIRS).items()})
    assert margins(none).shape == (0,)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("run", [0, 1, 2, 3, 4]),
        # False matches of 0.5 and -0.5, then the others of 0.9, 0.9, 0.25.
        ("false matches", [1, 4, 0, 3, 2]),
        # True matches of 0.25 and 0.9, then the others of -0.5, 0.5, 0.9.
        ("true matches", [2, 0, 4, 1, 3]),
        # Margins of 0, 0.4, 0.65, and two pairs without.
        ("margin", [0, 1, 2, 3, 4]),
        # Pair 3 occurs twice: its first place counts.
        ("suspects", [3, 4, 0, 1, 2]),
    ],
)
def test_orders(order: str, expected: list[int]) -> None:
    found = order_pairs(PAIRS, np.arange(5), order, [3, 4, 3])
    assert found.tolist() == expected
    some = order_pairs(PAIRS, np.array([1, 3, 4]), order, [3, 4, 3])
    assert some.tolist() == [pair for pair in expected if pair in (1, 3, 4)]
    assert order in ORDERS


def test_unknown_order() -> None:
    with pytest.raises(DataError, match="unknown order 'best'; use one of run, false"):
        order_pairs(PAIRS, np.arange(5), "best")
