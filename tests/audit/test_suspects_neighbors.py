"""Nearness corrected for hubs, against definitions written as loops."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import norm

from fiftyone_sfam.audit.suspects.identities import (
    divide,
    score_pairs,
    usual_nearness,
)
from fiftyone_sfam.audit.suspects.likelihood import (
    Distances,
    Scores,
    adapt,
    measure_distances,
    probability,
)
from fiftyone_sfam.audit.suspects.nearest import find_nearest
from fiftyone_sfam.audit.suspects.neighbors import (
    CorrectedSpace,
    correct,
    find_links,
    linked_identities,
    relabel,
    without,
)
from fiftyone_sfam.audit.suspects.planted import plant
from fiftyone_sfam.audit.suspects.space import Space, make_space, members_of
from fiftyone_sfam.retrieval.search import UNKNOWN

SIZES = (1, 1, 2, 3, 5, 8, 4, 1, 2, 3, 1, 1, 6, 2)
"""Images of each identity."""


def _space(seed: int, noise: float = 0.35, hub: bool = False) -> Space:
    """Make people around random centers; with a hub, image 0 is near to all of them."""
    generator = np.random.default_rng(seed)
    people = np.repeat(np.arange(len(SIZES)), SIZES)
    centers = generator.normal(size=(len(SIZES), 24))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    vectors = centers[people] + noise * generator.normal(size=(len(people), 24)) / 5
    if hub:
        vectors[0] = centers.sum(axis=0)
    cameras = np.full(len(people), -1)
    return make_space(vectors, "cosine", people, cameras)


def test_levels_by_image_are_those_of_csls() -> None:
    space = _space(0)
    near = space.nearness(np.arange(len(space)), np.arange(len(space)))
    levels = correct(space, find_nearest(space), by_identity=False).levels
    for image in range(len(space)):
        strangers = near[image, space.identities != space.identities[image]]
        assert levels[image] == pytest.approx(np.sort(strangers)[-10:].mean(), abs=1e-6)


def test_levels_by_identity_leave_the_nearest_other_identity_out() -> None:
    space = _space(1)
    near = space.nearness(np.arange(len(space)), np.arange(len(space)))
    levels = correct(space, find_nearest(space), by_identity=True).levels
    for image in range(len(space)):
        best = [
            near[image, members].max()
            for code, members in enumerate(space.members)
            if code != space.identities[image]
        ]
        expected = np.sort(best)[::-1][1:11].mean()
        assert levels[image] == pytest.approx(expected, abs=1e-6)


def test_links_have_the_nearest_image_of_each_other_identity() -> None:
    raw = _space(3)
    nearest = find_nearest(raw)
    space = correct(raw, nearest, by_identity=False)
    links = find_links(space, nearest, 4)
    near = space.nearness(np.arange(len(space)), np.arange(len(space)))
    for image in range(len(space)):
        best = {
            code: members[np.argmax(near[image, members])]
            for code, members in enumerate(space.members)
            if code != space.identities[image]
        }
        order = sorted(best.values(), key=lambda other: -near[image, other])
        assert links.images[image].tolist() == order[:4]


def test_a_hub_is_the_nearest_of_fewer_strangers_after_the_correction() -> None:
    space = _space(4, noise=1.2, hub=True)
    nearest = find_nearest(space)
    flat = correct(space, nearest, by_identity=False)
    raw = CorrectedSpace(
        space.vectors,
        space.metric,
        space.identities,
        space.cameras,
        space.members,
        levels=np.zeros(len(space)),
    )
    before = int((find_links(raw, nearest).images[:, 0] == 0).sum())
    after = int((find_links(flat, nearest).images[:, 0] == 0).sum())
    assert before >= 5
    assert after < before / 2


def test_one_person_under_two_names_is_first_even_with_one_image_each() -> None:
    space = _space(5)
    labels = space.identities.copy()
    labels[np.flatnonzero(labels == 2)[1]] = len(SIZES)  # a pair becomes 1 + 1
    labels[np.flatnonzero(labels == 5)[:2]] = len(SIZES) + 1  # 8 images become 6 + 2
    # A stray image of identity 12 in identity 4 links two names, but not as one person.
    labels[np.flatnonzero(labels == 12)[0]] = 4
    space = make_space(space.vectors, "cosine", labels, space.cameras)
    flat = correct(space, find_nearest(space), by_identity=False)
    links = find_links(flat, find_nearest(space))
    pairs = [(one, other) for one, other in linked_identities(space, links).tolist()]
    assert (4, 12) in pairs
    scores = score_pairs(flat, np.array(pairs))[0]
    ranked = [pairs[row] for row in np.argsort(-scores)]
    assert {*ranked[:2]} == {(2, len(SIZES)), (5, len(SIZES) + 1)}


def _one_person(space: Space, first: int, second: int) -> float:
    """Average the two nearest of the other identity; the lower of both sides."""
    near = space.nearness(space.some_members(first), space.some_members(second))
    sides = [[np.sort(row)[-2:].mean() for row in side] for side in (near, near.T)]
    return float(min(map(np.mean, sides)))


def _effect_of_labels(space: Space, first: int, second: int) -> float:
    """Compare two labels with all ways to deal them; NaN for fewer than four images."""
    one, other = space.some_members(first), space.some_members(second)
    images = np.concatenate([one, other])
    if len(images) < 4:
        return float("nan")
    near = space.nearness(images, images)
    off = ~np.eye(len(images), dtype=bool)
    dealt = []
    for chosen in combinations(range(len(images)), len(one)):
        label = np.isin(np.arange(len(images)), chosen)
        same = label[:, None] == label
        dealt.append(near[same & off].mean() - near[~same].mean())
    return float((dealt[0] - np.mean(dealt)) / np.std(dealt))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("bytes_", [64 * 2**20, 10_000])
def test_pairs_that_are_scored_at_once_have_the_scores_of_each(
    metric: str, bytes_: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cosine = _space(2, noise=1.0)
    cameras = np.arange(len(cosine)) % 4 - 1
    raw = make_space(cosine.vectors, metric, cosine.identities, cameras)
    raw = replace(raw, camera_gain=0.07)
    space = correct(raw, find_nearest(raw), by_identity=False)
    codes = np.array(list(combinations(range(len(SIZES)), 2)))[::-1]
    monkeypatch.setattr("fiftyone_sfam.audit.suspects.space._BLOCK_BYTES", bytes_)
    # At most six images of an identity are compared.
    monkeypatch.setattr("fiftyone_sfam.audit.suspects.space._MOST_MEMBERS", 6)
    scores, effects = score_pairs(space, codes)
    expected = [_one_person(space, *pair) for pair in codes.tolist()]
    assert scores == pytest.approx(expected, abs=1e-9)
    expected = [_effect_of_labels(raw, *pair) for pair in codes.tolist()]
    assert effects == pytest.approx(expected, abs=1e-6, nan_ok=True)
    sizes = np.array(SIZES)[codes].sum(axis=1)
    assert (np.isnan(effects) == (sizes < 4)).all()


def test_no_pairs_have_no_scores() -> None:
    raw = _space(2)
    space = correct(raw, find_nearest(raw), by_identity=False)
    scores, effects = score_pairs(space, np.empty((0, 2), dtype=np.int64))
    assert scores.shape == effects.shape == (0,)


def test_two_persons_under_one_name_are_first_and_divided_rightly() -> None:
    space = _space(6)
    labels = space.identities.copy()
    people = labels.copy()
    labels[labels == 13] = 3  # three images and two
    labels[labels == 11] = 10  # one image and one
    labels[labels == 12] = 11
    space = make_space(space.vectors, "cosine", labels, space.cameras)
    flat = correct(space, find_nearest(space), by_identity=True)
    usual = usual_nearness(flat)
    scored = {
        code: divide(flat, code, usual)
        for code, members in enumerate(space.members)
        if len(members) > 1
    }
    ranked = sorted(scored, key=lambda code: -scored[code].score)
    assert {*ranked[:2]} == {3, 10}
    larger, smaller = scored[3].groups
    assert {*people[larger]} == {3}
    assert {*people[smaller]} == {13}


# --------------------------------------------------------------------------------------
# Other labels
# --------------------------------------------------------------------------------------


def test_nearest_under_other_labels_are_those_of_a_new_search() -> None:
    space = _space(7)
    labels = space.identities.copy()
    labels[np.flatnonzero(labels == 5)[2]] = 12  # moved
    labels[labels == 7] = 9  # merged
    labels[np.flatnonzero(labels == 3)[0]] = len(SIZES)  # split
    labels[np.flatnonzero(labels == 4)[0]] = UNKNOWN
    relabeled = Space(
        space.vectors, "cosine", labels, space.cameras, members_of(labels)
    )
    found = relabel(space, find_nearest(space), relabeled)
    expected = find_nearest(relabeled)
    np.testing.assert_allclose(found.nearness, expected.nearness, atol=1e-6)
    same = found.others == expected.others
    # Nearness may be equal but for rounding.
    assert same.mean() > 0.99


def test_images_that_are_left_out_are_nobodys_neighbors() -> None:
    nearest = find_nearest(_space(8))
    left = without(nearest, np.array([3, 11]))
    assert not np.isin(left.others, [3, 11]).any()
    kept = [row[~np.isin(row, [3, 11, UNKNOWN])] for row in nearest.others]
    for row, wanted in zip(left.others, kept, strict=True):
        assert row[row != UNKNOWN].tolist() == wanted.tolist()


def test_planted_defects_are_what_they_are_called() -> None:
    space = _space(9)
    planted = plant(space, np.random.default_rng(0))
    before, after = space.identities, planted.space.identities
    assert len(planted.moved) == len(planted.split) == len(planted.merged) == 1
    [moved], [[old, new]], [merged] = planted.moved, planted.split, planted.merged
    assert after[moved] not in (before[moved], UNKNOWN)
    assert {*before[after == new]} == {*before[after == old]} == {old}
    assert len({*before[after == merged]}) == 2
    # All other images keep their labels, or lose them where a name was split.
    changed = np.flatnonzero(before != after)
    owners = {int(before[moved]), int(old)}
    owners |= {int(code) for code in before[after == merged]}
    assert {*before[changed].tolist()} <= owners


def test_the_order_of_images_does_not_change_what_is_planted() -> None:
    space = _space(10)
    order = np.random.default_rng(1).permutation(len(space))
    other = make_space(
        space.vectors[order], "cosine", space.identities[order], space.cameras
    )
    one = plant(space, np.random.default_rng(0))
    two = plant(other, np.random.default_rng(0))
    assert one.moved.tolist() == order[two.moved].tolist()
    assert one.merged.tolist() == two.merged.tolist()
    assert one.split.tolist() == two.split.tolist()


# --------------------------------------------------------------------------------------
# Probabilities
# --------------------------------------------------------------------------------------


def test_distances_are_in_the_spreads_of_similar_sizes() -> None:
    generator = np.random.default_rng(0)
    sizes = np.repeat([0.0, 2.0], 500)
    usual = Scores(generator.normal(size=1000) * (1 + sizes) + 10 * sizes, sizes)
    planted = Scores(usual.values + 6 * (1 + sizes), sizes)
    asked = Scores(np.array([3.0, 29.0]), np.array([0.0, 2.0]))
    found = measure_distances(asked, usual, planted)
    # Three spreads above the usual ones of their size, half way to the planted ones.
    assert found.above == pytest.approx([3, 3], abs=0.8)
    assert found.below == pytest.approx([-3, -3], abs=0.8)
    assert found.apart == pytest.approx([6, 6], abs=1.5)


def test_evidence_is_the_ratio_of_two_normal_densities() -> None:
    values = np.array([1.0, 3.0, 4.5])
    usual, planted, scale = 1.0, 4.0, 0.5
    above, below = (values - usual) / scale, (values - planted) / scale
    found = Distances(above, below, np.full(3, (planted - usual) / scale)).evidence
    expected = norm.logpdf(values, planted, scale) - norm.logpdf(values, usual, scale)
    assert found == pytest.approx(expected)


def test_nothing_planted_leaves_the_usual_scores() -> None:
    usual = Scores(np.arange(40.0), np.zeros(40))
    asked = Scores(np.array([100.0]), np.zeros(1))
    empty = Scores(np.empty(0), np.empty(0))
    found = measure_distances(asked, usual, empty)
    assert found.above[0] > 3
    assert found.below[0] == 0
    assert np.isinf(found.apart[0])
    assert found.evidence[0] == 0
    # Too few to compare with: nothing is said.
    assert measure_distances(asked, empty, usual).above[0] == 0


def test_odds_fall_where_errors_are_rare() -> None:
    fitted = 0.1
    generator = np.random.default_rng(0)
    clean = generator.normal(-3, 1, size=2000)
    lowered = adapt(clean, fitted)
    shift = lowered - clean
    assert shift == pytest.approx(np.full(2000, shift[0]))
    # A twentieth of the fitted share is the least.
    least = np.log(0.005 / 0.995) - np.log(0.1 / 0.9)
    assert shift[0] == pytest.approx(least, abs=1e-6)
    # As many errors as in the fit leave the odds as they are.
    mixed = np.concatenate([clean, generator.normal(6, 1, size=400)])
    assert adapt(mixed, fitted) == pytest.approx(mixed)
    assert probability(np.array([0.0, -np.inf, 800.0])).tolist() == [0.5, 0.0, 1.0]
