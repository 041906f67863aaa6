"""Pairs that are given, against a naive loop over the rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_sfam.data.pair_list import PairList
from fiftyone_sfam.network.metric import METRICS
from fiftyone_sfam.retrieval.given import give_pairs

COUNT = 6
EMBEDDINGS = np.random.default_rng(4).normal(size=(COUNT, 3)).astype(np.float32)
IDENTITIES = ["a", "a", "b", "b", None, "c"]

item = st.integers(0, COUNT - 1)
# A label depends on the pair, so that rows which repeat one agree.
rows = st.lists(st.tuples(item, item, st.booleans()), min_size=1, max_size=25)


def listed(chosen, ranks=None):
    label = np.array([(3 * q + g) % 3 - 1 for q, g, _ in chosen], dtype=np.int8)
    return PairList(
        query=tuple(f"q{q}" for q, _, _ in chosen),
        gallery=tuple(f"g{g}" for _, g, _ in chosen),
        label=label,
        fold=np.full(len(chosen), -1, dtype=np.int32),
        rank=np.zeros(len(chosen), np.int32) if ranks is None else ranks,
        score=np.full(len(chosen), np.nan),
    )


def naive_similarity(q, g, metric):
    first, second = EMBEDDINGS[[q, g]].astype(np.float64)
    if metric == "cosine":
        value = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
        return value, 1 - value
    apart = np.linalg.norm(first - second)
    return 1 - apart**2 / (first @ first + second @ second), apart


@given(rows, st.sampled_from(METRICS), st.booleans())
def test_given_pairs_equal_a_naive_loop(chosen, metric, ranked):
    kept = [row for row, (_, _, usable) in enumerate(chosen) if usable]
    reasons = {row: "no." for row in range(len(chosen)) if row not in kept}
    if not kept:
        with pytest.raises(ValueError, match="no pair of the list can be explained"):
            give_pairs(listed(chosen), None, reasons, IDENTITIES, EMBEDDINGS, metric)
        return
    # The gallery image backwards: ranks with gaps, which agree for repeated pairs.
    ranks = np.array([COUNT - g for _, g, _ in chosen], np.int32) if ranked else None
    given_list = listed(chosen, ranks)
    items = np.array([row[:2] for row in chosen], dtype=np.int32)
    pairs, found = give_pairs(
        given_list, items, reasons, IDENTITIES, EMBEDDINGS, metric
    )
    expected: dict[int, list[tuple[float, int, int]]] = {}
    for row in kept:
        q, g = items[row].tolist()
        key = float(ranks[row]) if ranked else naive_similarity(q, g, metric)[1]
        of_query = expected.setdefault(q, [])
        if g not in [one[2] for one in of_query]:
            of_query.append((key, row, g))
    place = 0
    for q in sorted(expected):
        # The cosine of a pair with itself is 1 up to rounding.
        for number, (key, row, g) in enumerate(sorted(expected[q]), start=1):
            assert (pairs.query[place], pairs.gallery[place]) == (q, g)
            assert pairs.rank[place] == (key if ranked else number)
            similarity, distance = naive_similarity(q, g, metric)
            assert pairs.similarity[place] == pytest.approx(similarity)
            assert pairs.distance[place] == pytest.approx(distance, abs=1e-9)
            label = given_list.label[row]
            known = None not in (IDENTITIES[q], IDENTITIES[g])
            by_identity = int(IDENTITIES[q] != IDENTITIES[g]) if known else 2
            outcome = {1: 0, 0: 1}.get(int(label), by_identity)
            assert pairs.outcome[place] == outcome
            assert found.row[place] == row
            place += 1
    assert place == len(pairs)
    for row in range(len(chosen)):
        pair = int(found.pair[row])
        if row in reasons:
            assert pair == -1
        else:
            assert [pairs.query[pair], pairs.gallery[pair]] == items[row].tolist()
