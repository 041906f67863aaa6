"""Findings about labels from numbers alone: one per error, with witnesses."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fiftyone_sfam.audit.suspects.context import Context
from fiftyone_sfam.audit.suspects.finding import Finding
from fiftyone_sfam.audit.suspects.labels import LabelFindings, find_in_labels
from fiftyone_sfam.audit.suspects.likelihood import probability
from fiftyone_sfam.audit.suspects.measures import measure
from fiftyone_sfam.audit.suspects.pictures import Pixels
from fiftyone_sfam.audit.suspects.sources import PairLookup
from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.retrieval.search import UNKNOWN

DIMENSIONS = 48
NO_PAIRS = Pairs(
    *(np.empty(0, dtype) for dtype in (np.int32, np.int32, np.int32)),
    *(np.empty(0, dtype) for dtype in (np.float64, np.float64, np.int8)),
)


def people(
    sizes: list[int], spread: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Images of persons around random centers, and who they show."""
    generator = np.random.default_rng(seed)
    who = np.repeat(np.arange(len(sizes)), sizes)
    centers = generator.normal(size=(len(sizes), DIMENSIONS))
    noise = generator.normal(size=(len(who), DIMENSIONS))
    return centers[who] + spread * noise, who


def found(
    points: np.ndarray, labels: np.ndarray, min_score: float = 0.5
) -> tuple[Context, LabelFindings]:
    measured = measure(points, "cosine", labels, np.full(len(labels), UNKNOWN))
    ids = [f"i{number}" for number in range(len(labels))]
    names = tuple(f"p{code:03}" for code in range(int(labels.max()) + 1))
    context = Context(
        ids, ids, "cosine", np.arange(len(ids)), names, measured, PairLookup(NO_PAIRS)
    )
    return context, find_in_labels(context, Pixels(), None, min_score)


def witnesses(findings: list[Finding]) -> Counter[str]:
    return Counter(
        name for one in findings for name in str(one.evidence["witness"]).split()
    )


def test_a_hub_is_a_witness_for_nobody() -> None:
    """Two thirds of the images are badly aligned, and near to one of their kind."""
    points, who = people([1] * 120 + [3] * 40, 0.3, seed=1)
    generator = np.random.default_rng(2)
    bad = generator.normal(size=DIMENSIONS)
    off = generator.choice(len(who), len(who) * 2 // 3, replace=False)
    points[off] += 1.2 * bad
    points[0] = bad  # nothing but badly aligned
    # By plain similarity one image is the nearest stranger of nearly all of these.
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    near = unit @ unit.T
    near[who[:, None] == who] = -np.inf
    assert (near.argmax(axis=1) == 0).sum() > 50
    _, result = found(points, who, min_score=0.0)
    findings = sorted([*result.mislabeled, *result.split], key=lambda one: -one.score)
    first = findings[:50]
    assert len(first) == 50
    assert "i0" not in witnesses(first)
    assert max(witnesses(first).values()) <= 2


@pytest.mark.parametrize("seed", range(3))
def test_each_error_is_one_finding(seed: int) -> None:
    points, who = people([1] * 20 + [2] * 20 + [8] * 20, 0.35, seed)
    labels = who.copy()
    labels[60] = 41  # an image of a person with 8 images, given to another
    labels[np.flatnonzero(who == 45)[:3]] = 60  # one person, two names
    labels[who == 50] = 51  # two persons, one name
    labels[np.flatnonzero(who == 25)[0]] = 61  # one person, two names, an image each
    labels = np.unique(labels, return_inverse=True)[1]
    context, result = found(points, labels, min_score=0.15)
    names = [context.names[label] for label in labels]
    assert [(one.items, one.identities) for one in result.mislabeled] == [
        ((60,), (names[60], names[61]))
    ]
    pairs = {frozenset(one.identities) for one in result.split}
    several = np.flatnonzero(who == 45)
    two = np.flatnonzero(who == 25)
    assert pairs == {
        frozenset((names[several[0]], names[several[-1]])),
        frozenset((names[two[0]], names[two[1]])),
    }
    merged = [one.identities for one in result.merged if one.score >= 0.5]
    assert merged == [(names[np.flatnonzero(who == 50)[0]],)]


def test_proposals_say_what_to_change() -> None:
    points, who = people([2] * 20 + [8] * 20, 0.35, 3)
    labels = who.copy()
    labels[40] = 30
    labels[np.flatnonzero(who == 35)[:3]] = 40
    labels[who == 38] = 37
    labels = np.unique(labels, return_inverse=True)[1]
    _, result = found(points, labels, min_score=0.25)
    [moved] = result.mislabeled
    assert moved.proposal == "Relabel 1 image as p020."
    assert (moved.changes, moved.identity) == ((40,), "p020")
    [split] = result.split
    # The name with fewer images goes.
    assert split.proposal == "Merge: relabel 3 images of p039 as p035."
    assert split.changes == tuple(np.flatnonzero(who == 35)[:3].tolist())
    assert split.identity == "p035"
    [merged] = result.merged
    assert merged.proposal == "Give 8 images a new identity."
    assert {*who[list(merged.changes)].tolist()} in ({37}, {38})
    assert merged.identity == ""


def test_expected_errors_are_the_sum_of_probabilities() -> None:
    points, who = people([2] * 20 + [8] * 20, 0.35, 4)
    labels = who.copy()
    for number, image in enumerate(range(40, 104, 8)):
        labels[image] = 30 + number
    _, result = found(points, labels)
    assert len(result.mislabeled) == 8
    scores = result.label_scores
    assert result.expected["mislabeled image"] == pytest.approx(np.nansum(scores))
    assert 7 < result.expected["mislabeled image"] < 10
    assert result.expected["split identity"] < 0.5


@pytest.mark.parametrize("seed", range(3))
def test_of_two_explanations_the_likelier_one_is_kept(seed: int) -> None:
    """Also below the threshold: an image, or its identity, but not both."""
    points, who = people([3] * 30 + [6] * 20, 1.5, seed)
    labels = who.copy()
    generator = np.random.default_rng(seed)
    for image in generator.choice(len(who), 10, replace=False):
        labels[image] = generator.integers(0, 50)
    labels = np.unique(labels, return_inverse=True)[1]
    context, result = found(points, labels, min_score=0.001)
    chances = probability(context.measured.one_person())
    codes = context.measured.figures.pairs.codes.tolist()
    likely = {
        frozenset(context.names[code] for code in pair): chance
        for pair, chance in zip(codes, chances, strict=True)
    }
    doubts = [(frozenset(one.identities), one.score) for one in result.mislabeled]
    assert len(doubts) > 10
    assert all(score > likely.get(pair, 0.0) for pair, score in doubts)
    pairs = {frozenset(one.identities) for one in result.split}
    assert not pairs & {pair for pair, _ in doubts}


def test_labels_that_are_not_judged_are_not_doubted() -> None:
    generator = np.random.default_rng(0)
    points = generator.normal(size=(120, DIMENSIONS))
    _, result = found(points, np.repeat(np.arange(20), 6), min_score=0.0)
    assert not result.label_scores.any()
    assert max(one.score for one in [*result.split, *result.merged]) == 0
    assert result.expected == {
        "mislabeled image": 0,
        "split identity": 0,
        "merged identity": 0,
    }
