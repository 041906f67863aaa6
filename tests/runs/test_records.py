"""Pairs and the plan that serves all their sides with one pass per image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.retrieval.pairs import (
    FALSE_MATCH,
    TRUE_MATCH,
    UNLABELED,
    Pairs,
    make_pairs,
    outcomes_of,
)
from fiftyone_sfam.retrieval.search import find_neighbors, select_candidates
from fiftyone_sfam.runs.run_table import ORDERS, make_plan

LINE = np.array([[0.0], [1.0], [3.0], [7.0]])
"""Four images on a line: neighbors and distances are plain to see."""


def pairs_of(labels, k, **rules):
    protocol = Protocol(identity_field="identity", **rules)
    candidates = select_candidates(protocol, labels, [None] * len(labels), None)
    found = find_neighbors(LINE, candidates, protocol, k, "euclidean")
    return make_pairs(found, candidates)


def rows(pairs):
    columns = pairs.query, pairs.gallery, pairs.rank, pairs.distance, pairs.outcome
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_pairs_with_the_missed_true_match():
    pairs = pairs_of(["a", "b", None, "a"], k=1)
    assert rows(pairs) == [
        (0, 1, 1, 1.0, FALSE_MATCH),
        (0, 3, 3, 7.0, TRUE_MATCH),
        (1, 0, 1, 1.0, FALSE_MATCH),
        (2, 1, 1, 2.0, UNLABELED),
        (3, 2, 1, 4.0, UNLABELED),
        (3, 0, 3, 7.0, TRUE_MATCH),
    ]
    assert [column.dtype.name for column in (pairs.query, pairs.rank)] == ["int32"] * 2
    assert pairs.similarity.dtype == np.float64


def test_a_true_match_among_the_neighbors_is_listed_once():
    pairs = pairs_of(["a", "b", "c", "a"], k=3)
    assert len(pairs) == 12
    assert pairs.gallery[pairs.query == 0].tolist() == [1, 2, 3]
    assert pairs.outcome[pairs.query == 0].tolist() == [1, 1, 0]


def test_pairs_of_a_query_nearest_first():
    pairs = pairs_of(["a", "b", "c", "a"], k=2)
    for query in range(4):
        own = pairs.of_query(query)
        assert (pairs.query[own] == query).all()
        assert (np.diff(pairs.rank[own]) > 0).all()
        assert len(own) == np.count_nonzero(pairs.query == query)
    assert pairs.of_query(17).tolist() == []


def test_outcomes():
    protocol = Protocol(identity_field="identity", distractors=("x",))
    candidates = select_candidates(
        protocol, ["a", "a", "b", None, "x"], [None] * 5, None
    )
    query, gallery = np.array([0, 0, 0, 3, 0]), np.array([1, 2, 3, 0, 4])
    assert outcomes_of(query, gallery, candidates).tolist() == [
        TRUE_MATCH,
        FALSE_MATCH,
        UNLABELED,
        UNLABELED,
        FALSE_MATCH,
    ]


def some_pairs(query, gallery):
    count = len(query)
    return Pairs(
        np.array(query, dtype=np.int32),
        np.array(gallery, dtype=np.int32),
        np.ones(count, dtype=np.int32),
        np.zeros(count),
        np.zeros(count),
        np.zeros(count, dtype=np.int8),
    )


def test_plan_by_hand():
    # Sides: 0 is image 5, 1 and 3 are image 7, 2 is image 6.
    plan = make_plan(some_pairs([5, 6], [7, 7]), shard_images=2)
    assert plan.order.tolist() == [7, 5, 6]
    assert plan.num_shards == 2
    assert plan.images_of(0).tolist() == [7, 5]
    assert plan.images_of(1).tolist() == [6]
    assert [part.tolist() for part in plan.sides_of(0)] == [[1, 3, 0], [0, 0, 1]]
    assert [part.tolist() for part in plan.sides_of(1)] == [[2], [0]]
    shards, rows = plan.locate(np.arange(4))
    assert (shards.tolist(), rows.tolist()) == ([0, 0, 1, 0], [2, 0, 0, 1])
    in_order = make_plan(some_pairs([5, 6], [7, 7]), shard_images=2, order="item")
    assert in_order.order.tolist() == [5, 6, 7]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40),
    st.integers(1, 5),
    st.sampled_from(ORDERS),
)
def test_plan_serves_every_side_once(pairs, shard_images, order):
    pairs = some_pairs(*zip(*pairs, strict=True))
    plan = make_plan(pairs, shard_images, order)
    seen: dict[int, tuple[int, int]] = {}
    images = []
    for shard in range(plan.num_shards):
        own = plan.images_of(shard)
        images += own.tolist()
        assert 1 <= len(own) <= shard_images
        sides, places = plan.sides_of(shard)
        for row, (side, place) in enumerate(zip(sides, places, strict=True)):
            assert own[place] == pairs.sides()[side]
            assert pairs.items_of(np.array([side])) == own[place]
            seen[int(side)] = (shard, row)
    assert sorted(seen) == list(range(2 * len(pairs)))
    assert sorted(images) == sorted(set(pairs.sides().tolist()))
    located = np.stack(plan.locate(np.array(list(seen))), axis=1)
    assert located.tolist() == [list(place) for place in seen.values()]
    wanted = np.array(images[::2])
    holding = [
        shard
        for shard in range(plan.num_shards)
        if np.isin(plan.images_of(shard), wanted).any()
    ]
    assert plan.shards_of(wanted).tolist() == holding
    if order == "count":
        counts = [np.count_nonzero(pairs.sides() == image) for image in images]
        assert counts == sorted(counts, reverse=True)
    else:
        assert images == sorted(images)


def test_blocks_by_hand():
    # Of the blocks 0-2, 3-5, 6-8 and 9-10 the second takes no part.
    plan = make_plan(some_pairs([1, 7], [2, 10]), shard_images=3, order="block")
    assert [plan.images_of(s).tolist() for s in range(3)] == [[1, 2], [7], [10]]
    batches = [plan.batch_of(s, total=11).tolist() for s in range(3)]
    assert batches == [[0, 1, 2], [6, 7, 8], [9, 10]]
    assert plan.num_shards == 3
    by_item = make_plan(some_pairs([1, 7], [2, 10]), shard_images=3, order="item")
    assert [by_item.batch_of(s, total=11).tolist() for s in range(2)] == [
        [1, 2, 7],
        [10],
    ]


def test_no_pairs_no_plan():
    plan = make_plan(some_pairs([], []), shard_images=4)
    assert plan.num_shards == 0
    with pytest.raises(IndexError):
        plan.locate(np.array([0]))
