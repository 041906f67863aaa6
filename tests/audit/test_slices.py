"""Slices and their intervals: by hand, by brute force, and by many draws."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation_support import Verification
from fiftyone_sfam.audit.evaluation import slices_scores as module
from fiftyone_sfam.audit.evaluation.blocks import Comparisons, compare
from fiftyone_sfam.audit.evaluation.fields import as_texts
from fiftyone_sfam.audit.evaluation.measures import Measures, measure
from fiftyone_sfam.audit.evaluation.slices import (
    NO_VALUE,
    Resampling,
    Values,
    evaluate_pair_slices,
    evaluate_slices,
    group_by_value,
    pack_slices,
    unpack_slices,
)
from fiftyone_sfam.audit.statistics.bootstrap import (
    Estimate,
    binned_equal_errors,
    draws,
    equal_error_estimate,
    mean_estimates,
)
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.search import select_candidates

PROTOCOL = Protocol("identity", camera_field="camera")
RESAMPLING = Resampling(200, 0)


# --------------------------------------------------------------------------------------
# Intervals
# --------------------------------------------------------------------------------------


def test_every_draw_is_of_as_many_queries() -> None:
    (drawn,) = draws(9, 7, 500, 0)
    assert drawn.shape == (500, 7)
    # Each of the nine as often as any other.
    counts = np.bincount(drawn.ravel(), minlength=9) / 500
    assert counts == pytest.approx(np.full(9, 7 / 9), abs=0.15)


def test_an_interval_of_many_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(1).beta(2, 1, 2000)
    (found,) = mean_estimates(values[None], 2000, 0)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert found.value == values.mean()
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


@pytest.mark.parametrize(
    ("count", "low"),
    # The lower ends of Wilson's interval are 0.21, 0.72 and 0.96.
    [(1, 0.0), (10, 0.7), (100, 0.96)],
)
def test_all_successes_are_not_certainty(count: int, low: float) -> None:
    (found,) = mean_estimates(np.ones((1, count)), 4000, 0)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(low, abs=0.011)


def test_figures_share_their_draws_and_repeat() -> None:
    values = np.random.default_rng(2).random((3, 40))
    first, second, third = mean_estimates(values, 300, 5)
    (alone,) = mean_estimates(values[1:2], 300, 5)
    (other,) = mean_estimates(values[1:2], 300, 6)
    assert astuple(alone) == pytest.approx(astuple(second), abs=1e-12)
    assert abs(other.low - second.low) > 1e-6
    assert first.low < first.value < first.high
    assert third.low < third.value < third.high


def test_no_query_has_no_figure() -> None:
    (found,) = mean_estimates(np.empty((1, 0)), 10, 0)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_equal_errors_of_bins_by_hand() -> None:
    genuine = np.array([[0, 1, 0, 3], [0, 0, 0, 4], [2, 2, 0, 0], [0, 0, 0, 0]])
    impostor = np.array([[3, 0, 1, 0], [4, 0, 0, 0], [2, 2, 0, 0], [1, 1, 1, 1]])
    found = binned_equal_errors(genuine, impostor)
    # From the second edge on both are 1/4; nobody errs; halves meet at the second edge.
    assert found[:3] == pytest.approx([1 / 4, 0, 1 / 2])
    assert np.isnan(found[3])


def test_equal_error_is_linear_within_a_bin() -> None:
    # Over the only bin the rates fall from 1 and rise to 1: they meet in its middle.
    assert binned_equal_errors(np.array([[5]]), np.array([[2]])) == pytest.approx([0.5])
    # From (0, 1/2) at one edge to (1, 0) at the next: a third of the way.
    found = binned_equal_errors(np.array([[0, 5]]), np.array([[2, 2]]))
    assert found == pytest.approx([1 / 3])


def test_the_interval_of_an_equal_error_narrows() -> None:
    generator = np.random.default_rng(3)
    widths = []
    for count in (20, 2000):
        genuine = np.sort(generator.normal(2, 1, (count, 5)))
        impostor = np.sort(generator.normal(0, 1, (count, 50)))
        edges = np.linspace(-5, 7, 257)
        tables = [
            np.stack([np.histogram(row, edges)[0] for row in scores])
            for scores in (genuine, impostor)
        ]
        value = Verification(np.sort(genuine.ravel()), np.sort(impostor.ravel()))
        error = value.equal_error()[0]
        found = equal_error_estimate(error, tables[0], tables[1], 300, 0)
        # Two normal distributions two apart: 15.87 %.
        assert found.low <= 0.1587 <= found.high
        assert found.low < found.value == error < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 4


def test_one_query_tells_nothing_of_the_equal_error() -> None:
    genuine, impostor = np.array([[0, 0, 1]]), np.array([[5, 1, 0]])
    found = equal_error_estimate(0.0, genuine, impostor, 500, 0)
    assert found == Estimate(0.0, 0.0, 1.0)
    nothing = equal_error_estimate(float("nan"), genuine, 0 * impostor, 500, 0)
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


# --------------------------------------------------------------------------------------
# Groups
# --------------------------------------------------------------------------------------


def test_values_of_a_field_as_names() -> None:
    nan = float("nan")
    assert as_texts(["x", None, "", nan, True, 3, 2.0, 2.5]) == [
        ("x",),
        (),
        (),
        (),
        ("True",),
        ("3",),
        ("2",),
        ("2.5",),
    ]
    assert as_texts([["one", "two", "one"], [], None]) == [("one", "two"), (), ()]


def test_many_numbers_become_quarters() -> None:
    values: list[Any] = [float(n) / 8 for n in range(40)]
    values.insert(3, None)
    names = as_texts(values)
    assert names.pop(3) == ()
    assert [names.count((name,)) for (name,) in dict.fromkeys(names)] == [10] * 4
    assert list(dict.fromkeys(names)) == [
        ("0 to 1.125",),
        ("1.25 to 2.375",),
        ("2.5 to 3.625",),
        ("3.75 to 4.875",),
    ]


def test_groups_are_the_largest_first_and_may_overlap() -> None:
    values: Values = [("b",), ("a", "b"), (), ("c",), ("b",), ("a",)]
    groups = group_by_value(values, np.array([0, 1, 2, 3, 5]))
    assert {name: list(items) for name, items in groups.items()} == {
        "a": [1, 5],
        "b": [0, 1],
        NO_VALUE: [2],
        "c": [3],
    }
    assert list(groups) == ["a", "b", NO_VALUE, "c"]


# --------------------------------------------------------------------------------------
# Slices
# --------------------------------------------------------------------------------------


class World:
    """Embeddings with cameras and an attribute."""

    def __init__(
        self, seed: int, count: int, rows: int = 7, ties: bool = False, **rules: Any
    ) -> None:
        generator = np.random.default_rng(seed)
        labels = generator.integers(0, max(2, count // 6), count)
        centers = generator.normal(size=(labels.max() + 1, 6))
        self.embeddings = centers[labels] + generator.normal(size=(count, 6))
        if ties:
            self.embeddings = np.round(self.embeddings) + 0.25
            self.embeddings[-1] = -100  # resembles nothing
        self.identities = [
            None if generator.random() < 0.1 else str(label) for label in labels
        ]
        self.cameras = [str(place) for place in generator.integers(1, 4, count)]
        kinds = [("hat",), ("bag", "hat"), (), ("bag",)]
        self.kinds: Values = [kinds[n] for n in generator.integers(0, 4, count)]
        self.protocol = Protocol("identity", camera_field="camera", **rules)
        self.candidates = select_candidates(
            self.protocol, self.identities, self.cameras, None
        )
        self.comparisons: Comparisons = compare(
            self.embeddings,
            self.candidates,
            self.protocol,
            block_bytes=rows * 8 * count,
        )
        self.found: Measures = measure(self.comparisons)
        self.labeled = np.flatnonzero([one is not None for one in self.identities])
        units = self.embeddings / np.linalg.norm(self.embeddings, axis=1)[:, None]
        self.scores = np.round(units @ units.T, 12)

    def pairs(
        self, queries: list[int], gallery: list[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Genuine and impostor scores of all comparisons, spelled out."""
        genuine, impostor = [], []
        for query in queries:
            for other in gallery:
                if (
                    query != other
                    and self.identities[other] is not None
                    and self.cameras[query] != self.cameras[other]
                ):
                    same = self.identities[query] == self.identities[other]
                    kind = genuine if same else impostor
                    kind.append(self.scores[query, other])
        return np.sort(genuine), np.sort(impostor)


@pytest.mark.parametrize("kept", [0, 12, 10**6])
def test_slices_are_what_their_queries_see(
    monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    # Streamed, some of each, and kept: the same.
    monkeypatch.setattr(module, "_KEPT", kept)
    world = World(0, 60)
    groups = group_by_value(world.kinds, world.labeled)
    assert set(groups) == {"hat", "bag", NO_VALUE}
    rows = evaluate_slices(
        {"field": groups},
        world.found.identification,
        world.comparisons,
        world.found.table,
        RESAMPLING,
    )["field"]
    ranked = world.found.identification
    for row in rows:
        name = () if row.value == NO_VALUE else (row.value,)
        wanted = [
            item
            for item in world.labeled.tolist()
            if (set(name) & set(world.kinds[item]) if name else not world.kinds[item])
        ]
        assert list(row.items) == wanted
        chosen = np.isin(ranked.query, wanted)
        assert row.queries == chosen.sum()
        assert row.rank1.value == (ranked.first_match[chosen] == 1).mean()
        assert row.mean_average_precision.value == pytest.approx(
            ranked.average_precision[chosen].mean()
        )
        assert row.mean_inverse_negative_penalty.value == pytest.approx(
            ranked.inverse_negative_penalty[chosen].mean()
        )
        genuine, impostor = world.pairs(wanted, list(range(60)))
        assert (row.genuine, row.impostor) == (len(genuine), len(impostor))
        error, _ = Verification(genuine, impostor).equal_error()
        assert row.equal_error.value == error
        assert 0 <= row.equal_error.low < error < row.equal_error.high <= 1


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(6, 40),
    rows=st.integers(1, 50),
    ties=st.booleans(),
)
def test_slices_of_any_data(seed: int, count: int, rows: int, ties: bool) -> None:
    world = World(seed, count, rows, ties)
    if len(world.labeled) == 0:
        return
    values: Values = [() if one is None else (one,) for one in world.identities]
    found = evaluate_slices(
        {"identity": group_by_value(values, world.labeled)},
        world.found.identification,
        world.comparisons,
        world.found.table,
        Resampling(20, 0),
    )["identity"]
    assert sum(row.queries for row in found) == len(world.found.identification.query)
    for row in found:
        genuine, impostor = world.pairs(row.items.tolist(), list(range(count)))
        assert (row.genuine, row.impostor) == (len(genuine), len(impostor))
        if len(genuine) and len(impostor):
            scores = Verification(genuine, impostor)
            assert row.equal_error.value == scores.equal_error()[0]
        else:
            assert np.isnan(row.equal_error.value)


def test_pairs_of_cameras() -> None:
    world = World(1, 70)
    values: Values = [(camera,) for camera in world.cameras]
    told: list[int] = []
    rows = evaluate_pair_slices(
        "camera",
        group_by_value(values, world.labeled),
        group_by_value(values, world.candidates.gallery),
        world.comparisons,
        world.found.table,
        RESAMPLING,
        told.append,
    )
    assert len({(row.query_value, row.gallery_value) for row in rows}) == len(rows) == 9
    assert sum(told) == 3 * len(world.labeled)
    for row in rows:
        queries = [q for q in world.labeled if world.cameras[q] == row.query_value]
        gallery = [g for g in range(70) if world.cameras[g] == row.gallery_value]
        assert list(row.items) == queries
        genuine, impostor = world.pairs(queries, gallery)
        assert (row.genuine, row.impostor) == (len(genuine), len(impostor))
        if row.query_value == row.gallery_value:
            # The protocol compares nothing there; the row says so.
            assert row.genuine == row.impostor == 0
            assert np.isnan(row.equal_error.value)
        else:
            scores = Verification(genuine, impostor)
            assert row.equal_error.value == scores.equal_error()[0]
            assert row.equal_error.low <= row.equal_error.value
    total = sum(row.impostor for row in rows)
    assert total == 2 * world.found.scores.impostor_pairs


def test_a_field_of_too_many_values_has_no_pair_slices() -> None:
    world = World(2, 12)
    groups = {str(n): np.array([n % 12]) for n in range(101)}
    with pytest.raises(DataError, match="'frame' has 101 values"):
        evaluate_pair_slices(
            "frame", groups, {}, world.comparisons, world.found.table, RESAMPLING
        )


def test_a_slice_of_one_query_is_shown_with_its_uncertainty() -> None:
    world = World(3, 60)
    ranked = world.found.identification
    item = int(ranked.query[ranked.first_match == 1][0])
    found = evaluate_slices(
        {"kind": {"rare": np.array([item])}},
        ranked,
        world.comparisons,
        world.found.table,
        RESAMPLING,
    )
    (row,) = found["kind"]
    assert row.queries == 1
    assert row.rank1 == Estimate(1.0, 0.0, 1.0)
    assert row.equal_error.high == 1.0


def test_slices_are_stored_and_read_again() -> None:
    world = World(4, 50)
    values: Values = [(camera,) for camera in world.cameras]
    groups = group_by_value(values, world.labeled)
    rows = evaluate_slices(
        {"field": groups},
        world.found.identification,
        world.comparisons,
        world.found.table,
        RESAMPLING,
    )["field"]
    pairs = evaluate_pair_slices(
        "camera",
        groups,
        group_by_value(values, world.candidates.gallery),
        world.comparisons,
        world.found.table,
        RESAMPLING,
    )
    stored = pack_slices({"camera": rows, "no one": ()}, {"camera": pairs})
    slices, pair_slices = unpack_slices(stored)
    assert list(slices) == ["camera", "no one"]
    assert slices["no one"] == ()
    # repr, since NaN is not equal to itself.
    assert repr(slices["camera"]) == repr(rows)
    assert repr(pair_slices["camera"]) == repr(pairs)
