"""Figures of verification, without a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_sfam.audit.verification.accuracy import (
    FoldAccuracy,
    best_threshold,
    fold_accuracies,
    mean_and_error,
)
from fiftyone_sfam.audit.verification.verify import summarize_scores


def columns(rows):
    scores, genuine = zip(*rows, strict=True)
    return np.array(scores, dtype=float), np.array(genuine, dtype=bool)


@pytest.mark.parametrize(
    ("rows", "threshold", "accuracy"),
    [
        ([(0.1, 0), (0.2, 0), (0.6, 1), (0.9, 1)], 0.4, 1.0),
        # Accepting from 0.2 on errs once, from any other score on more often.
        ([(0.2, 1), (0.6, 0), (0.6, 1), (0.7, 1), (0.1, 0)], 0.15, 0.8),
        ([(0.5, 1)], 0.5, 1.0),
        ([(0.5, 0)], np.nextafter(0.5, 1), 1.0),
        ([(0.3, 1), (0.3, 0)], np.nextafter(0.3, 1), 0.5),
    ],
)
def test_the_best_threshold_by_hand(rows, threshold, accuracy):
    found = best_threshold(*columns(rows))
    assert found == (pytest.approx(threshold, abs=1e-15), accuracy)


scored = st.lists(
    st.tuples(st.integers(-5, 5).map(lambda value: value / 4), st.booleans()),
    min_size=1,
    max_size=40,
)


@given(scored)
def test_no_threshold_is_more_accurate_than_the_best(rows):
    scores, genuine = columns(rows)
    threshold, accuracy = best_threshold(scores, genuine)
    rights = [
        sum((score >= at) == truth for score, truth in rows)
        for at in (*np.arange(-6, 7) / 4 - 0.125, math.inf)
    ]
    assert accuracy == pytest.approx(max(rights) / len(rows))
    assert sum((s >= threshold) == t for s, t in rows) == max(rights)


@given(scored, st.integers(1, 5), st.randoms(use_true_random=False))
def test_folds_equal_a_naive_loop(rows, folds, random):
    scores, genuine = columns(rows)
    fold = np.array([random.randrange(folds) for _ in rows])
    found = fold_accuracies(scores, genuine, fold)
    if len(set(fold.tolist())) < 2:
        assert found == ()
        assert all(map(math.isnan, mean_and_error(found)))
        return
    expected = []
    for number in sorted(set(fold.tolist())):
        others = [row for row, at in zip(rows, fold, strict=True) if at != number]
        own = [row for row, at in zip(rows, fold, strict=True) if at == number]
        threshold, _ = best_threshold(*columns(others))
        right = sum((score >= threshold) == bool(truth) for score, truth in own)
        expected.append(FoldAccuracy(number, len(own), threshold, right / len(own)))
    assert found == tuple(expected)
    mean, error = mean_and_error(found)
    values = [one.accuracy for one in expected]
    assert mean == pytest.approx(np.mean(values))
    assert error == pytest.approx(np.std(values, ddof=1) / math.sqrt(len(values)))


def test_curve_and_rates_by_hand():
    # Genuine 0.9 0.7 0.4, impostors 0.8 0.3 0.2 0.1: of 12 comparisons 10 are won.
    rows = [(0.9, 1), (0.7, 1), (0.4, 1), (0.8, 0), (0.3, 0), (0.2, 0), (0.1, 0)]
    scores, genuine = columns(rows)
    summary = summarize_scores(scores, genuine, (0.25, 0.5, 1.0, 0.01))
    assert summary.auc == pytest.approx(10 / 12)
    assert (summary.genuine_pairs, summary.impostor_pairs) == (3, 4)
    # From 0.7 on one of three is refused and one of four accepted.
    assert summary.equal_error == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert summary.equal_error_threshold == 0.7
    rates = [(point.far, point.tar, point.supported) for point in summary.operating]
    assert rates == [
        (0.25, 1.0, False),
        (0.5, 1.0, False),
        (1.0, 1.0, False),
        (0.01, pytest.approx(1 / 3), False),
    ]
    thresholds = [point.threshold for point in summary.operating]
    above = [np.nextafter(value, 1) for value in (0.3, 0.2, 0.8)]
    assert thresholds == [above[0], above[1], 0.1, above[2]]
    assert summary.roc_threshold.tolist() == sorted(scores, reverse=True)
    np.testing.assert_allclose(summary.roc_fmr, [0, 1 / 4, 1 / 4, 1 / 4, 0.5, 0.75, 1])
    np.testing.assert_allclose(
        summary.roc_fnmr, [2 / 3, 2 / 3, 1 / 3, 0, 0, 0, 0], atol=1e-15
    )
    assert (summary.genuine.sum(), summary.impostor.sum()) == (3, 4)


def test_rates_are_supported_from_thirty_false_accepts_on():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=400)
    genuine = np.arange(400) < 100
    points = summarize_scores(scores, genuine, (0.1, 0.09)).operating
    assert [point.supported for point in points] == [True, False]
    for point in points:
        accepted = scores >= point.threshold
        assert accepted[~genuine].sum() == int(point.expected)
        assert accepted[genuine].mean() == point.tar
