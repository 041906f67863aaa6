"""Neighbors among what an index proposes: by hand, and beside the exact search."""

from __future__ import annotations

import warnings
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.indexed import find_proposed_neighbors
from fiftyone_sfam.retrieval.search import find_neighbors, select_candidates


class Proposed:
    """Proposes by distance, but for the images that it has forgotten."""

    def __init__(self, vectors, forgotten=(), most=None):
        self._vectors = vectors
        self._known = np.setdiff1d(np.arange(len(vectors)), forgotten)
        self._most = most
        self.asked = []

    @property
    def size(self):
        return len(self._known)

    def __call__(self, vectors, count):
        self.asked.append((len(vectors), count))
        known = self._vectors[self._known]
        apart = np.linalg.norm(vectors[:, None] - known[None], axis=2)
        order = np.argsort(apart, axis=1, kind="stable")[:, : self._most or count]
        return [self._known[row[:count]] for row in order]


LINE = np.array([[0.0], [1.0], [3.0], [7.0], [15.0]])


def candidates_of(labels, **rules):
    protocol = Protocol(identity_field="identity", **rules)
    return protocol, select_candidates(protocol, labels, [None] * len(labels), None)


def test_what_the_index_forgets_is_no_neighbor():
    protocol, candidates = candidates_of(["a", "b", "c", "a", "b"])
    found = find_proposed_neighbors(
        LINE, candidates, protocol, 2, Proposed(LINE, forgotten=[1]), "euclidean"
    )
    assert found.index.tolist() == [[2, 3], [0, 2], [0, 3], [2, 0], [3, 2]]
    assert found.distance.tolist() == [[3, 7], [1, 2], [3, 4], [4, 7], [8, 12]]
    # Image 1's own identity is at 15, its place among 0, 2, 3, 4.
    assert found.true_index.tolist() == [3, 4, -1, 0, -1]
    assert found.true_rank.tolist() == [2, 4, 0, 2, 0]
    assert found.true_distance[:2].tolist() == [7, 14]


def test_more_is_asked_for_where_the_protocol_leaves_too_few():
    vectors = np.arange(100.0)[:, None]
    # The 60 images after the first are of its identity and its camera.
    labels = ["a"] * 61 + ["b"] * 39
    protocol = Protocol(identity_field="identity", camera_field="camera")
    candidates = select_candidates(protocol, labels, ["c"] * 100, None)
    proposed = Proposed(vectors)
    found = find_proposed_neighbors(
        vectors, candidates, protocol, 3, proposed, "euclidean"
    )
    assert found.index[0].tolist() == [61, 62, 63]
    assert proposed.asked[0] == (100, 19)
    assert [count for _, count in proposed.asked] == [19, 76]
    assert proposed.asked[1][0] < 100


def test_an_index_that_gives_too_few_is_said():
    protocol, candidates = candidates_of(list("abcde"))
    proposed = Proposed(LINE, most=2)
    with pytest.warns(UserWarning, match="the index gave 5 of 5 queries fewer than 3"):
        found = find_proposed_neighbors(
            LINE, candidates, protocol, 3, proposed, "euclidean"
        )
    assert found.index[0].tolist() == [1, -1, -1]
    assert np.isnan(found.similarity[0, 1:]).all()


def test_images_that_are_not_of_the_run_are_left_out():
    protocol, candidates = candidates_of(list("abcde"))

    class Foreign(Proposed):
        def __call__(self, vectors, count):
            return [
                np.append(row, [-1, -1]) for row in super().__call__(vectors, count)
            ]

    found = find_proposed_neighbors(
        LINE, candidates, protocol, 2, Foreign(LINE), "euclidean"
    )
    assert found.index[0].tolist() == [1, 2]


def test_k_from_one():
    protocol, candidates = candidates_of(list("abcde"))
    with pytest.raises(DataError, match="k is 0; ask for at least one neighbor"):
        find_proposed_neighbors(LINE, candidates, protocol, 0, Proposed(LINE))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 5),
    st.sampled_from(["cosine", "euclidean"]),
    st.booleans(),
)
def test_a_complete_index_gives_what_the_exact_search_gives(
    seed, k, metric, exclude_duplicates
):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(40, 4)).astype(np.float32)
    vectors[rng.integers(0, 40, size=6)] = vectors[0]
    if metric == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = [None if one == 7 else str(one) for one in rng.integers(0, 8, size=40)]
    cameras = [str(one) for one in rng.integers(0, 3, size=40)]
    protocol = Protocol(
        identity_field="identity",
        camera_field="camera",
        junk=("1",),
        distractors=("2",),
        exclude_duplicates=exclude_duplicates,
    )
    candidates = select_candidates(protocol, labels, cameras, None)
    exact = find_neighbors(vectors, candidates, protocol, k, metric)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = find_proposed_neighbors(
            vectors, candidates, protocol, k, Proposed(vectors), metric
        )
    near = found.true_rank > 0
    for one in fields(found):
        ours, theirs = getattr(found, one.name), getattr(exact, one.name)
        if one.name.startswith("true"):
            ours, theirs = ours[near], theirs[near]
        np.testing.assert_array_equal(ours, theirs, err_msg=one.name)
    # A true match that is not known of is none of the first k.
    assert (exact.true_rank[~near & (exact.true_rank > 0)] > k).all()
