"""Rankings worked out by hand, and against a ranking without any cleverness."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.search import (
    UNKNOWN,
    Candidates,
    Neighbors,
    encode,
    find_neighbors,
    select_candidates,
)
from naive_retrieval import naive


def search(
    vectors,
    identities=None,
    cameras=None,
    splits=None,
    k=2,
    metric="cosine",
    **kwargs,
) -> Neighbors:
    block_bytes = kwargs.pop("block_bytes", 2**20)
    embeddings = np.asarray(vectors, dtype=np.float32)
    count = len(embeddings)
    if identities is not None:
        kwargs["identity_field"] = "identity"
    if cameras is not None:
        kwargs["camera_field"] = "camera"
    protocol = Protocol(**kwargs)
    candidates = select_candidates(
        protocol,
        identities or [None] * count,
        cameras or [None] * count,
        None if splits is None else [frozenset(split) for split in splits],
    )
    return find_neighbors(
        embeddings, candidates, protocol, k, metric, block_bytes=block_bytes
    )


# -- the two metrics -------------------------------------------------------------------


def test_cosine_ranks_by_angle():
    found = search([[1, 0], [0, 2], [3, 3], [-1, 0]], k=3)
    # From [1, 0]: cos 0 to [0, 2], sqrt(1/2) to [3, 3], -1 to [-1, 0].
    assert found.index[0].tolist() == [2, 1, 3]
    np.testing.assert_allclose(found.similarity[0], [math.sqrt(0.5), 0, -1])
    np.testing.assert_allclose(found.distance[0], [1 - math.sqrt(0.5), 1, 2])


def test_euclidean_ranks_by_distance_and_not_by_its_similarity():
    found = search([[1, 0], [3, 0], [0, 2]], k=2, metric="euclidean")
    # From [1, 0]: distance 2 to [3, 0], similarity 1 - 4/10; distance sqrt(5) to
    # [0, 2], similarity 1 - 5/5.
    assert found.index[0].tolist() == [1, 2]
    np.testing.assert_allclose(found.distance[0], [2, math.sqrt(5)])
    np.testing.assert_allclose(found.similarity[0], [0.6, 0.0], atol=1e-12)


def test_euclidean_distance_and_similarity_can_disagree():
    # From [1, 0]: [0, 0.1] is nearer (d^2 = 1.01) but less similar (0) than [2.5, 0]
    # (d^2 = 2.25, similarity 1 - 2.25 / 7.25).
    found = search([[1, 0], [0, 0.1], [2.5, 0]], k=2, metric="euclidean")
    assert found.index[0].tolist() == [1, 2]
    assert found.similarity[0, 0] < found.similarity[0, 1]
    np.testing.assert_allclose(found.similarity[0], [0, 1 - 2.25 / 7.25], atol=1e-7)
    np.testing.assert_allclose(found.distance[0] ** 2, [1.01, 2.25], rtol=1e-6)


def test_the_two_metrics_rank_differently():
    vectors = [[1, 0], [5, 0], [0.8, 0.6]]
    assert search(vectors, k=1).index[0, 0] == 1
    assert search(vectors, k=1, metric="euclidean").index[0, 0] == 2


def test_cosine_stays_within_its_bounds():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(1, 33)).astype(np.float32)
    found = search(one * rng.uniform(0.1, 9, size=(40, 1)), k=39)
    assert found.similarity.max() <= 1
    assert found.distance.min() >= 0


# -- ties ------------------------------------------------------------------------------


def test_ties_go_to_the_smaller_index():
    found = search([[1, 0], [0, 1], [0, -1], [0, 1], [0, -1]], k=4)
    assert found.index[0].tolist() == [1, 2, 3, 4]
    assert found.index[1].tolist() == [3, 0, 2, 4]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_identical_vectors_are_listed_in_order(metric, order):
    rng = np.random.default_rng(1)
    vectors = np.asarray(np.tile(rng.normal(size=37), (60, 1)), order=order)
    found = search(vectors, k=3, metric=metric)
    assert found.index[0].tolist() == [1, 2, 3]
    assert found.index[1].tolist() == [0, 2, 3]
    assert (found.index[3:] == [0, 1, 2]).all()


def test_more_near_ties_than_single_precision_can_tell_apart():
    # 200 vectors within 1e-6 of each other: their order is beyond single precision.
    angles = np.arange(200) * 1e-6
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    order = np.random.default_rng(2).permutation(200)
    protocol = Protocol()
    candidates = select_candidates(protocol, [None] * 200, [None] * 200, None)
    found = find_neighbors(vectors[order], candidates, protocol, 3, "euclidean")
    start = int(np.flatnonzero(order == 0)[0])
    assert order[found.index[start]].tolist() == [1, 2, 3]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_block_size_changes_nothing(metric):
    rng = np.random.default_rng(3)
    vectors = np.repeat(rng.normal(size=(30, 7)), 3, axis=0)
    identities = [str(i % 9) for i in range(90)]
    whole = search(vectors, identities, k=5, metric=metric)
    for block_bytes in (1, 4 * 90 * 7, 4 * 90 * 64):
        parts = search(vectors, identities, k=5, metric=metric, block_bytes=block_bytes)
        for name in ("index", "similarity", "distance", "true_index", "true_rank"):
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_progress_counts_the_queries():
    calls = []
    protocol = Protocol()
    candidates = select_candidates(protocol, [None] * 5, [None] * 5, None)
    find_neighbors(
        np.eye(5),
        candidates,
        protocol,
        1,
        block_bytes=4 * 5 * 2,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(2, 5), (4, 5), (5, 5)]


# -- the protocol ----------------------------------------------------------------------

FOUR = [[1, 0], [0.99, 0.1], [0.9, 0.4], [0.7, 0.7]]


def test_same_identity_from_the_same_camera_is_left_out():
    labels = ["a", "a", "a", "b"]
    cameras = ["1", "1", "2", "1"]
    found = search(FOUR, labels, cameras, k=3)
    assert found.index[0].tolist() == [2, 3, UNKNOWN]
    assert math.isnan(found.similarity[0, 2])
    # Another identity from the same camera stays.
    assert found.index[3].tolist() == [2, 1, 0]
    kept = search(FOUR, labels, cameras, k=3, exclude_same_camera=False)
    assert kept.index[0].tolist() == [1, 2, 3]


def test_unknown_identity_or_camera_is_never_the_same_camera():
    found = search(FOUR, ["a", None, "a", None], [None, "1", None, "1"], k=3)
    assert found.index[0].tolist() == [1, 2, 3]
    assert found.index[1].tolist() == [0, 2, 3]


def test_junk_is_neither_query_nor_neighbor():
    found = search(FOUR, ["a", "-1", "a", "b"], k=3, junk=("-1",))
    assert found.query.tolist() == [0, 2, 3]
    assert 1 not in found.index


def test_distractors_are_neighbors_that_match_nobody():
    found = search(FOUR, ["a", "0000", "0000", "a"], k=3, distractors=("0000",))
    assert found.query.tolist() == [0, 3]
    assert found.index[0].tolist() == [1, 2, 3]
    assert found.true_index.tolist() == [3, 0]
    assert found.true_rank.tolist() == [3, 3]


def test_split_by_field_and_by_tags():
    splits = [{"q"}, {"g"}, {"g", "q"}, set()]
    found = search(
        FOUR,
        splits=splits,
        k=5,
        split_field="tags",
        query_value="q",
        gallery_value="g",
    )
    assert found.query.tolist() == [0, 2]
    # Two images in the gallery: no more than two neighbors, and not itself.
    assert found.index.tolist() == [[1, 2], [1, UNKNOWN]]


def test_itself_is_a_neighbor_only_when_asked_for():
    found = search(FOUR, k=1, exclude_self=False)
    assert found.index[:, 0].tolist() == [0, 1, 2, 3]
    assert search(FOUR, k=1).index[:, 0].tolist() == [1, 0, 1, 2]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_exact_duplicates(metric):
    vectors = [[1, 0], [1, 0], [2, 0], [0.9999, 0.001], [0, 1]]
    kept = search(vectors, k=1, metric=metric)
    assert kept.index[0, 0] == 1
    found = search(vectors, k=4, metric=metric, exclude_duplicates=True)
    # A vector of twice the length points the same way, but is no copy.
    assert set(found.index[0].tolist()) == {2, 3, 4, UNKNOWN}
    assert found.index[2, 0] == 0
    assert found.index[0, 3] == UNKNOWN


def test_k_larger_than_the_gallery():
    found = search(FOUR, k=100)
    assert found.index.shape == (4, 4)
    assert (found.index[:, 3] == UNKNOWN).all()
    assert np.isnan(found.distance[:, 3]).all()
    assert not np.isnan(found.distance[:, :3]).any()


def test_true_match_is_found_beyond_k():
    found = search(FOUR, ["a", "b", "b", "a"], k=1)
    assert found.true_index.tolist() == [3, 2, 1, 0]
    assert found.true_rank.tolist() == [3, 2, 1, 3]
    assert found.index[0].tolist() == [1]
    assert found.true_similarity[0] == pytest.approx(math.sqrt(0.5))
    assert found.true_distance[0] == pytest.approx(1 - math.sqrt(0.5))


def test_no_true_match_without_labels_or_partners():
    found = search(FOUR, [None, None, "a", "b"], k=1)
    assert found.true_index.tolist() == [UNKNOWN] * 4
    assert found.true_rank.tolist() == [0] * 4
    assert np.isnan(found.true_similarity).all()


def test_a_true_match_among_ties_has_the_rank_of_its_place():
    vectors = [[1, 0], [0, 1], [0, 1], [0, 1], [1, 1]]
    found = search(vectors, ["a", "b", "c", "a", "d"], k=1)
    assert found.true_index[0] == 3
    assert found.true_rank[0] == 4  # after [1, 1] and the two of smaller index


def test_labels_are_numbered_in_order():
    assert encode(["b", None, "a", "b"]).tolist() == [0, UNKNOWN, 1, 0]


# -- errors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"k": 0}, "k is 0; ask for at least one neighbor."),
        (
            {"splits": [{"x"}] * 4, "split_field": "part", "query_value": "probe"},
            "the protocol leaves no queries: no image of 4 has the value 'probe' in "
            "the field 'part' and an identity that is not junk.",
        ),
        (
            {"splits": [{"query"}] * 4, "split_field": "part"},
            "leaves no gallery: no image of 4 has the value 'gallery'",
        ),
        (
            {"identities": ["x"] * 4, "junk": ("x",)},
            "leaves no queries: all of the 4 images are junk or distractors.",
        ),
        ({"junk": ("x",)}, "need identity_field"),
        ({"identities": ["x"] * 4, "junk": "x"}, "give a list of identities"),
        (
            {"identities": ["x"] * 4, "junk": ("x",), "distractors": ("x",)},
            "identity 'x' is both junk and a distractor; choose one.",
        ),
    ],
)
def test_errors_say_what_is_wrong(kwargs, message):
    with pytest.raises(DataError) as error:
        search(FOUR, **kwargs)
    assert message in str(error.value)


def test_protocol_survives_its_plain_form():
    protocol = Protocol(
        identity_field="pid",
        camera_field="cam",
        junk=(-1,),
        distractors=["0"],
        split_field="probe",
        query_value=True,
    )
    assert protocol.junk == ("-1",)
    assert protocol.query_value == "True"
    assert protocol.to_dict()["distractors"] == ["0"]
    assert Protocol.from_dict(protocol.to_dict()) == protocol
    with pytest.raises(DataError, match="unknown protocol rule 'junks'"):
        Protocol.from_dict({"junks": []})


# -- against a naive ranking -----------------------------------------------------------


@st.composite
def worlds(draw):
    count = draw(st.integers(2, 24))
    width = draw(st.integers(1, 4))
    number = st.integers(-3, 3)
    vectors = draw(
        st.lists(
            st.lists(number, min_size=width, max_size=width).filter(any),
            min_size=count,
            max_size=count,
        )
    )
    label = st.sampled_from([None, "a", "b", "c", "junk", "extra"])
    camera = st.sampled_from([None, "1", "2"])
    split = st.sets(st.sampled_from(["query", "gallery"]), min_size=1)

    def column(values):
        return draw(st.lists(values, min_size=count, max_size=count))

    rules = {
        "identity_field": "identity",
        "camera_field": draw(st.sampled_from([None, "camera"])),
        "junk": draw(st.sampled_from([(), ("junk",)])),
        "distractors": draw(st.sampled_from([(), ("extra",)])),
        "split_field": draw(st.sampled_from([None, "split"])),
        "exclude_self": draw(st.booleans()),
        "exclude_duplicates": draw(st.booleans()),
    }
    return (
        np.array(vectors, dtype=np.float64),
        column(label),
        column(camera),
        column(split),
        Protocol(**rules),
        draw(st.integers(1, 6)),
        draw(st.sampled_from(["cosine", "euclidean"])),
        draw(st.sampled_from([1, 200, 2**20])),
    )


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_equals_a_naive_ranking(world):
    vectors, labels, cameras, splits, protocol, k, metric, block_bytes = world
    try:
        candidates = select_candidates(
            protocol,
            labels,
            cameras,
            [frozenset(s) for s in splits] if protocol.split_field else None,
        )
    except DataError:
        return
    found = find_neighbors(
        vectors, candidates, protocol, k, metric, block_bytes=block_bytes
    )
    expected = {
        query: ranked
        for query in range(len(vectors))
        if (ranked := naive(vectors, labels, cameras, splits, protocol, query, metric))
        is not None
    }
    assert found.query.tolist() == sorted(expected)
    for row, query in enumerate(found.query.tolist()):
        ranked = expected[query]
        width = found.index.shape[1]
        best = ranked[:width]
        places = found.index[row][found.index[row] != UNKNOWN].tolist()
        assert places == [other for _, other, *_ in best]
        np.testing.assert_allclose(
            found.distance[row][: len(best)], [one[3] for one in best], atol=1e-12
        )
        np.testing.assert_allclose(
            found.similarity[row][: len(best)], [one[2] for one in best], atol=1e-12
        )
        true = [place for place, one in enumerate(ranked) if one[4]]
        if true:
            assert found.true_rank[row] == true[0] + 1
            assert found.true_index[row] == ranked[true[0]][1]
            assert found.true_distance[row] == pytest.approx(
                ranked[true[0]][3], abs=1e-12
            )
        else:
            assert found.true_rank[row] == 0
            assert found.true_index[row] == UNKNOWN


def test_match_needs_labels_and_no_distractor():
    candidates = Candidates(
        np.array([0, 0, UNKNOWN, UNKNOWN, 1, 1]),
        np.full(6, UNKNOWN),
        np.arange(6),
        np.arange(6),
        np.array([False, False, False, False, True, True]),
    )
    query, other = np.array([0, 0, 2, 4]), np.array([1, 4, 3, 5])
    assert candidates.is_true_match(query, other).tolist() == [True] + [False] * 3
