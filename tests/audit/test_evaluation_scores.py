"""Verification in two looks: the figures are those of all scores at hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evaluation_support import Verification, identify, summarize_scores, verify
from fiftyone_sfam.audit.evaluation import scores as evaluation_scores
from fiftyone_sfam.audit.evaluation.blocks import Comparisons, compare
from fiftyone_sfam.audit.evaluation.measures import (
    measure,
)
from fiftyone_sfam.audit.evaluation.scores import (
    CURVE_POINTS,
    MIN_FALSE_ACCEPTS,
    ScoreSummary,
)
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.search import select_candidates

PROTOCOL = Protocol("identity")


def compared(
    embeddings: np.ndarray,
    identities: list[str | None],
    metric: str = "cosine",
    rows: int | None = None,
) -> Comparisons:
    candidates = select_candidates(PROTOCOL, identities, [None] * len(identities), None)
    # As many queries per block as asked for.
    size = 2**26 if rows is None else rows * 8 * len(embeddings)
    return compare(embeddings, candidates, PROTOCOL, metric, block_bytes=size)


def kept(comparisons: Comparisons) -> Verification:
    """All scores at hand, of the same blocks: their last digit depends on the shape."""
    pairs = [comparisons.pair_scores(block) for block in comparisons.blocks()]
    genuine, impostor = (
        np.sort(np.concatenate(one)) for one in zip(*pairs, strict=True)
    )
    whole = verify(
        comparisons.raw, comparisons.candidates, PROTOCOL, comparisons.metric
    )
    np.testing.assert_allclose(genuine, whole.genuine, rtol=0, atol=1e-11)
    np.testing.assert_allclose(impostor, whole.impostor, rtol=0, atol=1e-11)
    return Verification(genuine, impostor)


def some_people(
    seed: int, count: int, identities: int, spread: float
) -> tuple[np.ndarray, list[str | None]]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, identities, count)
    centers = generator.normal(size=(identities, 8))
    embeddings = centers[labels] + spread * generator.normal(size=(count, 8))
    return embeddings, [str(label) for label in labels]


def assert_same(summary: ScoreSummary, scores: Verification) -> None:
    """Assert that a summary's figures are those of the scores, to the bit."""
    assert summary.genuine_pairs == len(scores.genuine)
    assert summary.impostor_pairs == len(scores.impostor)
    for name in ("genuine", "impostor"):
        counts, _ = np.histogram(getattr(scores, name), summary.edges)
        assert np.array_equal(getattr(summary, name), counts)
    if len(scores.genuine) == 0 or len(scores.impostor) == 0:
        assert np.isnan([summary.auc, summary.equal_error]).all()
        assert len(summary.roc_fmr) == 0
        assert not any(point.supported for point in summary.operating)
        return
    assert summary.auc == pytest.approx(scores.auc, abs=1e-12)
    found = summary.equal_error, summary.equal_error_threshold
    assert found == scores.equal_error()
    fmr, fnmr = scores.rates(summary.roc_threshold)
    assert np.array_equal(summary.roc_fmr, fmr)
    assert np.array_equal(summary.roc_fnmr, fnmr)
    assert set(summary.roc_threshold) <= set(scores.impostor)
    assert summary.roc_threshold[0] == scores.impostor[-1]
    assert summary.roc_threshold[-1] == scores.impostor[0]
    for point in summary.operating:
        assert point.expected == point.far * len(scores.impostor)
        assert point.supported == (point.expected >= MIN_FALSE_ACCEPTS)
        if point.supported:
            assert point.threshold == scores.threshold_for(point.far)
            accepted = (scores.genuine >= point.threshold).mean()
            assert point.tar == pytest.approx(accepted, abs=1e-12)
        else:
            assert np.isnan([point.threshold, point.tar]).all()


@settings(max_examples=60, deadline=None)
@example(839520145, 37, 7, 5.0, "euclidean", False, 1)
@example(839520144, 35, 6, 1.0, "euclidean", False, 1)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 40),
    identities=st.integers(1, 8),
    spread=st.sampled_from([0.05, 1.0, 5.0]),
    metric=st.sampled_from(["cosine", "euclidean"]),
    ties=st.booleans(),
    rows=st.integers(1, 9),
)
def test_two_looks_see_what_one_does(
    seed: int,
    count: int,
    identities: int,
    spread: float,
    metric: str,
    ties: bool,
    rows: int,
) -> None:
    embeddings, labels = some_people(seed, count, identities, spread)
    if ties:
        embeddings = np.round(embeddings) + 0.25
    comparisons = compared(embeddings, labels, metric, rows)
    summary = summarize_scores(comparisons, (1.0, 0.5, 0.1, 0.01))
    assert_same(summary, kept(comparisons))


@pytest.mark.parametrize("sample", [2, 20])
def test_a_sample_that_misleads_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, sample: int
) -> None:
    # Edges out of a few pairs, and collected scores that have to be put together.
    monkeypatch.setattr(evaluation_scores, "_SAMPLE", sample)
    monkeypatch.setattr(evaluation_scores, "_COLLECTED", 50)
    embeddings, labels = some_people(1, 120, 15, 1.5)
    embeddings[100:] = embeddings[0]  # one score, many times
    comparisons = compared(embeddings, labels, rows=7)
    summary = summarize_scores(comparisons)
    assert_same(summary, kept(comparisons))
    assert summary.operating[0].supported
    assert len(summary.roc_fmr) > CURVE_POINTS / 2


def on_a_circle(*degrees: float) -> np.ndarray:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_rates_that_are_wanted_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_scores, "MIN_FALSE_ACCEPTS", 1)
    # Genuine pairs are 60 and 30 degrees apart, impostor pairs 50, 80, 10 and 20.
    comparisons = compared(on_a_circle(0, 60, 50, 80), ["a", "a", "b", "b"])
    summary = summarize_scores(comparisons, (0.2, 0.25, 0.5, 0.75, 1.0))
    assert [point.supported for point in summary.operating] == [False] + [True] * 4
    # One impostor may pass: refused is 20 degrees, and with it both genuine pairs.
    # Two: 50 is refused, 30 passes. Three: 80 is refused, both pass.
    assert [point.tar for point in summary.operating[1:]] == [0.0, 0.5, 1.0, 1.0]
    for point, degrees in zip(summary.operating[1:4], (20, 50, 80), strict=True):
        assert point.threshold == pytest.approx(np.cos(np.deg2rad(degrees)), abs=1e-9)
        assert point.threshold > round(np.cos(np.deg2rad(degrees)), 12)
    # Genuine 30 beats 50 and 80, genuine 60 beats 80.
    assert summary.auc == 3 / 8


def test_a_rate_needs_thirty_expected_false_accepts() -> None:
    # 4 images of each of 11 identities: 880 pairs of two.
    embeddings, _ = some_people(2, 44, 11, 1.0)
    comparisons = compared(embeddings, [str(n % 11) for n in range(44)])
    summary = summarize_scores(comparisons, (0.1, 30 / 880, 0.01))
    assert summary.impostor_pairs == 880
    expected = [point.expected for point in summary.operating]
    assert expected == pytest.approx([88, 30, 8.8])
    assert [point.supported for point in summary.operating] == [True, True, False]
    unsupported = summary.operating[2]
    assert np.isnan([unsupported.threshold, unsupported.tar]).all()


def test_a_threshold_for_a_wanted_rate() -> None:
    embeddings, labels = some_people(3, 90, 20, 1.0)
    comparisons = compared(embeddings, labels)
    summary, scores = summarize_scores(comparisons), kept(comparisons)
    assert summary.threshold_for(0.1) == scores.threshold_for(0.1)
    for wanted in (0.9, 0.3, 0.05, 0.004):
        threshold = summary.threshold_for(wanted)
        # It keeps to the share, and is not much too strict.
        assert 0.9 * wanted <= scores.rates(np.array([threshold]))[0][0] <= wanted
    assert np.isnan(summary.threshold_for(1e-9))


@pytest.mark.parametrize("far", [0.0, -0.1, 1.5, float("nan")])
def test_rates_out_of_range_are_refused(far: float) -> None:
    embeddings, labels = some_people(4, 10, 3, 1.0)
    with pytest.raises(DataError, match="is out of range"):
        summarize_scores(compared(embeddings, labels), (0.1, far))


def test_too_many_genuine_pairs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_scores, "MAX_GENUINE", 40)
    with pytest.raises(DataError, match="more than 40 pairs of one identity"):
        summarize_scores(compared(np.eye(10), ["a"] * 10))


def test_both_passes_give_rankings_and_scores() -> None:
    embeddings, labels = some_people(5, 80, 12, 1.0)
    comparisons = compared(embeddings, labels, rows=9)
    seen: dict[str, int] = {}

    def watch(count: int, phase: str) -> None:
        seen[phase] = seen.get(phase, 0) + count

    found = measure(comparisons, watch=watch)
    assert_same(found.scores, kept(comparisons))
    ranked = identify(embeddings, comparisons.candidates, PROTOCOL)
    assert np.array_equal(found.identification.first_match, ranked.first_match)
    assert np.array_equal(
        found.identification.average_precision, ranked.average_precision
    )
    assert seen == {"ranking": 80, "verifying": 80}
    # The table holds each pair twice, once for each query.
    genuine, impostor = found.table.of(np.arange(80))
    assert genuine.sum() == 2 * found.scores.genuine_pairs
    assert impostor.sum() == 2 * found.scores.impostor_pairs
    own = np.array([labels.count(label) - 1 for label in labels])
    assert np.array_equal(genuine.sum(axis=1), own)
