"""Suspects from numbers alone: worlds of points whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fiftyone_sfam.audit.suspects.identities import best_cut, divide
from fiftyone_sfam.audit.suspects.images import ImageFigures
from fiftyone_sfam.audit.suspects.labels import background_malus
from fiftyone_sfam.audit.suspects.likelihood import probability
from fiftyone_sfam.audit.suspects.measures import Measured, measure
from fiftyone_sfam.audit.suspects.nearest import CLOSEST, find_nearest
from fiftyone_sfam.audit.suspects.sources import BackgroundShare
from fiftyone_sfam.audit.suspects.space import (
    compared_with,
    confidence,
    group_spreads,
    make_space,
    own_nearness,
    robust_scale,
)
from fiftyone_sfam.retrieval.search import UNKNOWN

DIMENSIONS = 24


def people(
    sizes: list[int], spread: float = 0.25, seed: int = 0, dimensions: int = DIMENSIONS
) -> tuple[np.ndarray, np.ndarray]:
    """Images of persons: points around centers at right angles, and who they show."""
    generator = np.random.default_rng(seed)
    who = np.repeat(np.arange(len(sizes)), sizes)
    noise = generator.normal(size=(len(who), dimensions)) / np.sqrt(dimensions)
    return np.eye(dimensions)[who] + spread * noise, who


def measured(
    points: np.ndarray,
    labels: np.ndarray | list[int],
    cameras: np.ndarray | list[int] | None = None,
    metric: str = "cosine",
) -> Measured:
    labels = np.asarray(labels, dtype=np.int64)
    if cameras is None:
        cameras = np.full(len(labels), UNKNOWN)
    return measure(points, metric, labels, np.asarray(cameras, dtype=np.int64))


def image_scores(found: Measured) -> np.ndarray:
    known = np.isfinite(found.figures.images.mislabel)
    return np.where(known, probability(found.mislabeled()), np.nan)


def mislabeled(found: Measured) -> list[int]:
    return np.flatnonzero(found.mislabeled() >= 0).tolist()


def one_person(found: Measured) -> set[tuple[int, int]]:
    return {
        (first, second)
        for first, second in found.figures.pairs.codes[found.one_person() >= 0].tolist()
    }


def best_pair(found: Measured) -> tuple[int, int]:
    pairs = found.figures.pairs
    first, second = pairs.codes[np.argmax(pairs.scores)].tolist()
    return first, second


def two_persons(found: Measured) -> set[int]:
    odds = found.two_persons()
    divisions = found.figures.divisions
    return {one.identity for one, odd in zip(divisions, odds, strict=True) if odd > 0}


# --------------------------------------------------------------------------------------
# What is usual
# --------------------------------------------------------------------------------------


def test_robust_scale_of_normal_values_is_their_deviation() -> None:
    values = np.random.default_rng(0).normal(size=20_000) * 3
    assert robust_scale(values) == pytest.approx(3, rel=0.03)
    values[:3000] = 1e6
    assert robust_scale(values) < 6
    assert robust_scale(np.empty(0)) == 0


def test_small_groups_have_the_spread_of_all() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(21), [400] + [6] * 20)
    values = generator.normal(size=len(groups))
    values[groups == 0] = 5 + 4 * generator.normal(size=400)
    spreads = group_spreads(values, groups, 22, 0.01)
    assert spreads.scale[0] == pytest.approx(4, rel=0.1)
    # Six images weigh little against the twenty that all count for.
    assert np.abs(spreads.scale[1:21] / spreads.pooled_scale - 1).max() < 0.25
    assert spreads.center[0] == pytest.approx(5, rel=0.05)
    # A group without values is like all.
    assert spreads.scale[21] == spreads.pooled_scale
    assert spreads.center[21] == spreads.pooled_center


def test_center_of_a_group_is_drawn_towards_all() -> None:
    values = np.array([0.0] * 8 + [1.0] * 4)
    groups = np.array([0] * 8 + [1] * 4)
    spreads = group_spreads(values, groups, 2, 0.5)
    # Median of all is 0; four images count as much as those of all identities.
    assert spreads.center.tolist() == [0.0, 0.5]
    assert spreads.scale.tolist() == [0.5, 0.5]


def test_confidence_is_a_half_at_the_threshold() -> None:
    margins = np.array([-1e9, -5, 0, 5, 15, 1e9])
    scores = confidence(margins, 5.0)
    assert scores[1:5].tolist() == [0.25, 0.5, 0.75, 0.875]
    assert 0 < scores[0] < scores[1]
    assert scores[4] < scores[5] < 1


# --------------------------------------------------------------------------------------
# Nearness
# --------------------------------------------------------------------------------------


def test_own_nearness_is_that_of_the_nearer_half() -> None:
    # Five others: the two nearest, at 10 and 20 degrees.
    angles = np.radians([0, 10, 20, 30, 40, 50, 90])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    space = make_space(points, "cosine", np.array([0] * 6 + [1]), np.full(7, UNKNOWN))
    own = own_nearness(space)
    expected = np.cos(np.radians([10, 20])).mean()
    assert own[0] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(own[6])
    assert compared_with(np.array([1, 2, 3, 5, 8, 100])).tolist() == [1, 2, 2, 2, 4, 4]


def test_euclidean_nearness_is_the_negative_distance() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
    space = make_space(points, "euclidean", np.array([0, 0, 0]), np.full(3, UNKNOWN))
    found = space.nearness(np.array([0]), np.array([1, 2]))
    assert found[0].tolist() == pytest.approx([-5.0, -1.0])


def test_nearest_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    points, who = people([5] * 8, 0.6)
    space = make_space(points, "cosine", who, np.full(40, UNKNOWN))
    whole = find_nearest(space)
    # Blocks of three images.
    monkeypatch.setattr(
        "fiftyone_sfam.audit.suspects.space._BLOCK_BYTES", 3 * 4 * len(who)
    )
    blocks = find_nearest(space)
    assert (whole.others == blocks.others).all()
    assert (whole.closest == blocks.closest).all()
    nearness = space.nearness(np.arange(40), np.arange(40))
    np.fill_diagonal(nearness, -np.inf)
    assert (whole.closest == np.argsort(-nearness, axis=1)[:, :CLOSEST]).all()
    nearness[who[:, None] == who] = -np.inf
    strangers = (np.argsort(-nearness, axis=1))[:, :35]
    assert (whole.others[:, :35] == strangers).all()
    assert (whole.others[:, 35:] == UNKNOWN).all()
    np.testing.assert_allclose(
        whole.nearness[:, :35], np.take_along_axis(nearness, strangers, 1), atol=1e-6
    )


def test_one_camera_gains_nothing() -> None:
    points, who = people([8] * 10)
    cameras = np.tile(np.arange(2), 40)
    # Every camera adds its own direction to what it sees.
    seen = points + 0.5 * np.eye(DIMENSIONS)[20 + cameras]
    space = make_space(seen, "cosine", who, cameras)
    assert space.camera_gain > 0.15
    near = space.nearness(np.arange(8), np.arange(8))
    same = space.same_camera(np.arange(8), np.arange(8)) & ~np.eye(8, dtype=bool)
    other = cameras[:8, None] != cameras[:8]
    assert near[same].mean() == pytest.approx(near[other].mean(), abs=0.02)
    assert make_space(seen, "cosine", who, np.zeros(80, np.int64)).camera_gain == 0
    assert make_space(seen, "cosine", who, np.full(80, UNKNOWN)).camera_gain == 0


# --------------------------------------------------------------------------------------
# Wrong labels
# --------------------------------------------------------------------------------------


def circle(offsets: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Six persons on a circle, sixty degrees apart, with one image per offset."""
    who = np.repeat(np.arange(6), len(offsets))
    angles = np.radians(60.0 * who + np.tile(offsets, 6))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1), who


def test_a_wrong_label_on_a_circle() -> None:
    points, who = circle([-4, -2, -1, 0, 1, 3])
    labels = who.copy()
    labels[9] = 4  # an image of person 1, at 60 degrees, called 4
    found = measured(points, labels)
    assert mislabeled(found) == [9]
    figures = found.figures.images
    assert figures.other[9] == 1
    assert figures.own_images[9] == 6
    assert figures.lead[9] < 0 < figures.lead[8]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_wrong_labels_are_found_and_nothing_else(metric: str) -> None:
    points, who = people([10] * 8)
    labels = who.copy()
    wrong = {3: 5, 14: 0, 41: 2}
    for image, label in wrong.items():
        labels[image] = label
    found = measured(points, labels, metric=metric)
    assert mislabeled(found) == sorted(wrong)
    assert [int(found.figures.images.other[image]) for image in wrong] == [
        int(who[image]) for image in wrong
    ]
    scores = image_scores(found)
    assert set(np.argsort(-scores)[:3].tolist()) == set(wrong)
    assert two_persons(found) <= {int(labels[image]) for image in wrong}
    assert one_person(found) == set()


def test_large_and_small_identities_compare() -> None:
    points, who = people([40, 4, 10, 10, 10, 10])
    labels = who.copy()
    labels[0], labels[41], labels[50] = 2, 3, 1  # of the large, the small; to the small
    assert mislabeled(measured(points, labels)) == [0, 41, 50]


def test_an_identity_counts_by_its_own_spread() -> None:
    """The same image is odd in an identity that varies little, usual in a wide one."""
    generator = np.random.default_rng(1)
    spread = np.repeat([0.15, 0.15, 0.15, 0.15, 0.6, 0.15], 40)
    who = np.repeat(np.arange(6), 40)
    noise = generator.normal(size=(240, DIMENSIONS)) / np.sqrt(DIMENSIONS)
    points = np.eye(DIMENSIONS)[who] + spread[:, None] * noise
    away = 0.6 * np.eye(DIMENSIONS)[20]
    points[0] = np.eye(DIMENSIONS)[0] + away
    points[160] = np.eye(DIMENSIONS)[4] + away
    gaps = measured(points, who).figures.images.own_gap
    assert gaps[0] > 5
    assert gaps[160] < 1


def test_an_image_alone_in_its_identity_cannot_be_mislabeled() -> None:
    points, who = people([6, 6, 6, 6])
    labels = who.copy()
    labels[2] = 4  # the only image of identity 4
    found = measured(points, labels)
    assert mislabeled(found) == []
    assert np.isnan(found.figures.images.own[2])
    assert np.isnan(image_scores(found)[2])
    # That its identity is another one's is what can be said.
    assert best_pair(found) == (0, 4)


def test_of_two_images_the_one_that_suits_another_identity_is_wrong() -> None:
    points, who = people([6, 6, 6, 6, 2])
    labels = who.copy()
    points[25] = points[:6].mean(axis=0)
    found = measured(points, labels)
    assert mislabeled(found) == [25]
    assert found.figures.images.own_images[25] == 1


def test_images_without_a_label_are_no_suspects_and_no_witnesses() -> None:
    points, who = people([8] * 5)
    labels = who.copy()
    labels[labels == 4] = UNKNOWN
    labels[0] = UNKNOWN
    found = measured(points, labels)
    assert mislabeled(found) == []
    assert np.isnan(image_scores(found)[[0, 39]]).all()
    # An unlabeled image names no identity to anybody.
    assert set(labels[found.nearest.others][found.nearest.others != UNKNOWN]) == {
        0,
        1,
        2,
        3,
    }


def test_without_any_label_there_is_nothing_to_find() -> None:
    points, _ = people([5] * 4)
    found = measured(points, np.full(20, UNKNOWN))
    assert len(found.figures.pairs.codes) == 0
    assert found.figures.divisions == []
    assert np.isnan(image_scores(found)).all()
    assert not np.isfinite(found.figures.images.uninformative).any()
    assert (found.nearest.closest != UNKNOWN).all()


def test_a_single_identity_has_no_strangers() -> None:
    points, who = people([9])
    found = measured(points, who)
    assert len(found.figures.pairs.codes) == 0
    assert two_persons(found) == set()
    assert np.isnan(image_scores(found)).all()


def test_identities_of_one_image_each() -> None:
    points, who = people([1] * 6)
    found = measured(points, who)
    assert mislabeled(found) == []
    assert one_person(found) == set()


def test_a_wrong_label_is_no_more_likely_on_a_shared_camera() -> None:
    """A camera makes strangers alike; that alone is no wrong label."""
    points, who = people([8] * 10)
    cameras = np.tile(np.repeat(np.arange(2), 4), 10)
    # One image of person 0 comes from camera 1, where its identity has no other.
    keep = (who != 0) | (cameras == 0)
    keep[4] = True
    points = points + 1.2 * np.eye(DIMENSIONS)[20 + cameras]
    points, who, cameras = points[keep], who[keep], cameras[keep]
    lone = 4
    known = measured(points, who, cameras)
    unknown = measured(points, who)
    assert unknown.figures.images.lead[lone] < 0 < known.figures.images.lead[lone]
    assert known.figures.images.mislabel[lone] < unknown.figures.images.mislabel[lone]
    assert mislabeled(known) == []


def test_who_is_nearer_to_its_own_is_not_mislabeled() -> None:
    """Not even where the other identity is nearer to it than to itself."""
    points, who = people([8] * 6 + [3], 0.2)
    # Of the three images of identity 6 two are rather like person 0.
    generator = np.random.default_rng(5)
    like = np.eye(DIMENSIONS)[0] + 0.2 * np.eye(DIMENSIONS)[12]
    noise = generator.normal(size=(2, DIMENSIONS)) / np.sqrt(DIMENSIONS)
    points[48:50] = like + 0.1 * noise
    figures = measured(points, who).figures.images
    assert (figures.other[:8] == 6).all()
    spreads = figures.own_gap - figures.other_gap - figures.lead
    nearer = np.flatnonzero((figures.lead > 0) & (spreads > -figures.lead))
    assert len(nearer) > 7
    assert figures.mislabel[nearer].tolist() == (-figures.lead[nearer]).tolist()


# --------------------------------------------------------------------------------------
# Persons and identities
# --------------------------------------------------------------------------------------


def test_an_identity_of_two_clusters_is_two_persons() -> None:
    points, who = people([10, 6] + [10] * 12)
    labels = np.where(who == 1, 0, who)
    labels[labels > 1] -= 1
    found = measured(points, labels)
    assert two_persons(found) == {0}
    [one] = [one for one in found.figures.divisions if one.identity == 0]
    larger, smaller = one.groups
    assert sorted(larger.tolist()) == list(range(10))
    assert sorted(smaller.tolist()) == list(range(10, 16))
    assert one_person(found) == set()
    assert mislabeled(found) == []


@pytest.mark.parametrize("between", [False, True])
def test_views_with_images_in_between_are_of_one_person(between: bool) -> None:
    """Two groups that differ as two persons do, with and without images of both."""
    points, who = people([12] + [10] * 14)
    side = np.repeat([0.8, -0.8], 6)
    if between:
        side[4:8] = 0.4, 0.1, -0.1, -0.4
    points[:12, -1] += side
    found = measured(points, who)
    [row] = [
        row for row, one in enumerate(found.figures.divisions) if one.identity == 0
    ]
    assert [sorted(group) for group in found.figures.divisions[row].groups] in (
        [[*range(6)], [*range(6, 12)]],
        [[*range(6, 12)], [*range(6)]],
    )
    assert found.division_distances.evidence[row] > 1000
    assert two_persons(found) == (set() if between else {0})


def test_nearness_of_the_nearest_images_of_two_groups() -> None:
    # Degrees on a circle: the nearest of the other group are 50, 40 and 40 away.
    degrees = np.radians([0, 10, 50, 180, 270])
    points = np.stack([np.cos(degrees), np.sin(degrees)], axis=1)
    codes = np.array([0, 0, 0, 1, 2])
    space = make_space(points, "cosine", codes, np.full(5, UNKNOWN))
    one = divide(space, 0, 0.0)
    assert [sorted(group.tolist()) for group in one.groups] == [[0, 1], [2]]
    expected = np.cos(np.radians([50, 40, 40])).mean()
    assert one.nearest == pytest.approx(expected, abs=1e-6)


def test_a_single_image_of_another_person_is_the_least_group() -> None:
    points, who = people([10, 1] + [10] * 12)
    labels = np.where(who == 1, 0, who)
    labels[labels > 1] -= 1
    found = measured(points, labels)
    scores = [one.score for one in found.figures.divisions]
    first = found.figures.divisions[int(np.argmax(scores))]
    assert first.identity == 0
    assert first.groups[1].tolist() == [10]


def test_two_images_are_divided_in_one_way() -> None:
    points, who = people([1, 1] + [6] * 12)
    labels = np.where(who == 1, 0, who)
    labels[labels > 1] -= 1
    found = measured(points, labels)
    divisions = sorted(found.figures.divisions, key=lambda one: -one.score)
    assert divisions[0].identity == 0
    assert [group.tolist() for group in divisions[0].groups] == [[0], [1]]


def test_two_identities_in_one_cluster_are_one_person() -> None:
    points, who = people([12] + [10] * 12)
    labels = who.copy()
    labels[:12:2] = 13
    found = measured(points, labels)
    assert one_person(found) == {(0, 13)}
    assert two_persons(found) == set()
    pairs = found.figures.pairs
    row = pairs.codes.tolist().index([0, 13])
    assert abs(pairs.effects[row]) < 2.5
    assert np.delete(pairs.effects, row).min() > 10


@pytest.mark.parametrize("sizes", [(1, 1), (1, 2), (2, 2)])
def test_few_images_suffice_for_one_person(sizes: tuple[int, int]) -> None:
    points, who = people([sum(sizes)] + [1, 2, 3, 5] * 5)
    labels = who.copy()
    labels[: sizes[0]] = len(np.unique(who))
    found = measured(points, labels)
    assert best_pair(found) == (0, 21)
    assert one_person(found) == {(0, 21)}


def test_look_alikes_are_not_one_person() -> None:
    """Two clusters closer to each other than to any other, and still two."""
    points, who = people([12] * 14, 0.15)
    points[who == 1] += 4 * np.eye(DIMENSIONS)[0]
    found = measured(points, who)
    assert best_pair(found) == (0, 1)
    assert one_person(found) == set()
    pairs = found.figures.pairs
    assert pairs.effects[pairs.codes.tolist().index([0, 1])] > 5


def test_a_wrong_label_does_not_make_two_identities_one() -> None:
    points, who = people([10] * 14)
    labels = who.copy()
    labels[0], labels[10] = 1, 0  # exchanged
    found = measured(points, labels)
    assert mislabeled(found) == [0, 10]
    assert one_person(found) == set()


@pytest.mark.parametrize(
    ("spreads", "expected"), [(-3.0, 0.0), (2.0, 0.0), (3.0, 2.0), (4.5, 5.0)]
)
def test_an_unusual_background_speaks_against_one_person(
    spreads: float, expected: float
) -> None:
    # Each spread beyond two lowers the logarithm of the odds by two.
    share = BackgroundShare(0.5, 0.5, spreads, 9)
    assert background_malus(share) == pytest.approx(expected)


def test_a_network_that_tells_nobody_apart_says_nothing() -> None:
    generator = np.random.default_rng(0)
    points = generator.normal(size=(120, DIMENSIONS))
    found = measured(points, np.repeat(np.arange(20), 6))
    assert found.apart < 1
    assert mislabeled(found) == []
    assert one_person(found) == set()
    assert two_persons(found) == set()


def test_division_is_where_the_groups_are() -> None:
    near = np.full((7, 7), 0.1)
    groups = np.array([0, 1, 0, 0, 1, 0, 1])
    near[groups[:, None] == groups] = 0.9
    larger, smaller = best_cut(near)
    assert sorted(larger.tolist()) == [0, 2, 3, 5]
    assert sorted(smaller.tolist()) == [1, 4, 6]


# --------------------------------------------------------------------------------------
# Images of nothing
# --------------------------------------------------------------------------------------


def test_a_hub_is_near_to_many_and_to_its_own_no_more() -> None:
    points, who = people([8] * 20, 0.2)
    points[3] = points.mean(axis=0)
    found = measured(points, who)
    figures = found.figures.images
    assert figures.reach[3] == 19
    assert np.flatnonzero(figures.attracts > 0).tolist() == [3]
    assert figures.hub[3] > 5
    # It is a witness for nobody.
    assert 3 not in found.nearest.others
    assert mislabeled(found) == []


@pytest.mark.parametrize(
    ("figures", "far", "attracts"),
    [
        # Unlike its own identity by 7 spreads too many, unlike any other, undecided.
        ({"own_gap": 12, "other_gap": 20, "lead": -20, "hub": 0}, 7, -5),
        # Not so unlike another one: 2 spreads are within what is usual.
        ({"own_gap": 12, "other_gap": 2.5, "lead": -20, "hub": 0}, 0.5, -5),
        # Near to many, and not nearer to its own.
        ({"own_gap": 1, "other_gap": 1, "lead": 0, "hub": 7}, -4, 2),
        # Much nearer to its own: whatever else, it shows somebody.
        ({"own_gap": 12, "other_gap": 20, "lead": 9, "hub": 9}, -6, -6),
        # Nothing of its own to compare with.
        (
            {
                "own": np.nan,
                "own_gap": np.nan,
                "other_gap": 20,
                "lead": np.nan,
                "hub": 6,
            },
            -np.inf,
            1,
        ),
        (
            {
                "own": np.nan,
                "own_gap": np.nan,
                "other_gap": 20,
                "lead": np.nan,
                "hub": 1,
            },
            -np.inf,
            -4,
        ),
        # Another identity explains it, or there is none.
        (
            {"own_gap": 12, "other_gap": 1, "lead": -9, "hub": 9, "mislabel": 20},
            -np.inf,
            -np.inf,
        ),
        (
            {"own_gap": 12, "other_gap": np.nan, "lead": np.nan, "other": -1},
            -np.inf,
            -np.inf,
        ),
    ],
)
def test_what_makes_an_image_uninformative(
    figures: dict, far: float, attracts: float
) -> None:
    values = {"own": 0.5, "own_images": 5, "other": 1, "other_nearness": 0.5}
    values |= {"mislabel": 0, "reach": 3, "hub": 0} | figures
    made = ImageFigures(**{name: np.array([one]) for name, one in values.items()})
    assert made.uninformative[0] == far
    assert made.attracts[0] == attracts


@pytest.mark.parametrize(
    ("strength", "own_gap", "other_gap", "expected"),
    [
        (4.9, 9.0, 0.0, False),
        (5.0, 9.0, 4.0, True),
        (5.0, 9.0, 4.1, False),
        # So unlike its own identity that a little more from the other is nothing.
        (60.0, 64.0, 8.0, True),
        (60.0, 64.0, 8.1, False),
    ],
)
def test_what_makes_an_image_mislabeled(
    strength: float, own_gap: float, other_gap: float, expected: bool
) -> None:
    values = {
        "own": 0.1,
        "own_images": 5,
        "own_gap": own_gap,
        "other": 1,
        "other_nearness": 0.9,
        "other_gap": other_gap,
        "lead": -9.0,
        "mislabel": strength,
        "reach": 1,
        "hub": 0.0,
    }
    made = ImageFigures(**{name: np.array([one]) for name, one in values.items()})
    assert made.is_mislabeled.tolist() == [expected]


def test_a_picture_of_nobody_is_far_from_all() -> None:
    points, who = people([8] * 10, 0.2)
    points[5] = np.eye(DIMENSIONS)[20]
    found = measured(points, who)
    figures = found.figures.images
    assert np.flatnonzero(figures.uninformative > 0).tolist() == [5]
    assert figures.own_gap[5] > 10
    assert figures.other_gap[5] > 10
    assert figures.hub[5] < 5
    assert mislabeled(found) == []


def test_a_wrong_label_is_not_uninformative() -> None:
    points, who = people([8] * 10, 0.2)
    labels = who.copy()
    labels[5] = 3
    figures = measured(points, labels).figures.images
    assert figures.uninformative[5] == -np.inf


# --------------------------------------------------------------------------------------
# Properties
# --------------------------------------------------------------------------------------


@st.composite
def worlds(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points with some wrong labels, cameras, and a few images without either."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=2, max_size=6))
    seed = draw(st.integers(0, 10_000))
    points, labels = people(sizes, draw(st.sampled_from([0.2, 0.6, 1.2])), seed)
    generator = np.random.default_rng(seed)
    cameras = generator.integers(-1, 3, len(labels))
    for image in generator.integers(0, len(labels), 2):
        labels[image] = generator.integers(0, len(sizes))
    _, labels = np.unique(labels, return_inverse=True)
    if draw(st.booleans()):
        labels[labels == labels.max()] = UNKNOWN
    return points, labels, cameras


def assert_same_images(one: Measured, other: Measured, order: np.ndarray) -> None:
    for name in ("own", "own_gap", "other_nearness", "other_gap", "mislabel", "hub"):
        np.testing.assert_allclose(
            getattr(one.figures.images, name)[order],
            getattr(other.figures.images, name),
            rtol=1e-3,
            atol=1e-3,
            err_msg=name,
        )


def summary(found: Measured) -> list[tuple[float, ...]]:
    """What is found of identities, without their codes."""
    figures = found.figures
    sizes = [len(members) for members in figures.space.members]
    pairs = [
        (*sorted((sizes[first], sizes[second])), score)
        for (first, second), score in zip(
            figures.pairs.codes.tolist(), figures.pairs.scores.tolist(), strict=True
        )
    ]
    groups = [
        (*sorted(len(group) for group in one.groups), one.score)
        for one in figures.divisions
    ]
    return sorted(pairs) + sorted(groups)


calm = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@calm
@given(worlds(), st.integers(0, 1000))
def test_the_order_of_the_images_does_not_matter(world: tuple, seed: int) -> None:
    points, labels, cameras = world
    order = np.random.default_rng(seed).permutation(len(labels))
    one = measured(points, labels, cameras)
    other = measured(points[order], labels[order], cameras[order])
    assert_same_images(one, other, order)
    assert (one.figures.images.reach[order] == other.figures.images.reach).all()
    for left, right in zip(summary(one), summary(other), strict=True):
        assert left == pytest.approx(right, rel=1e-3, abs=1e-3, nan_ok=True)


@calm
@given(worlds(), st.integers(0, 1000))
def test_lengths_do_not_matter_to_the_cosine(world: tuple, seed: int) -> None:
    points, labels, cameras = world
    lengths = np.random.default_rng(seed).uniform(0.1, 50, (len(labels), 1))
    one = measured(points, labels, cameras)
    other = measured(points * lengths, labels, cameras)
    assert_same_images(one, other, np.arange(len(labels)))


@calm
@given(worlds(), st.floats(0.01, 100))
def test_the_unit_of_distance_does_not_matter(world: tuple, unit: float) -> None:
    points, labels, cameras = world
    one = measured(points, labels, cameras, "euclidean")
    other = measured(points * unit, labels, cameras, "euclidean")
    np.testing.assert_allclose(
        one.figures.images.mislabel, other.figures.images.mislabel, rtol=5e-3, atol=5e-3
    )


@calm
@given(worlds())
def test_names_do_not_matter(world: tuple) -> None:
    points, labels, cameras = world
    count = int(labels.max()) + 1
    renamed = np.where(labels == UNKNOWN, UNKNOWN, count - 1 - labels)
    one = measured(points, labels, cameras)
    other = measured(points, renamed, cameras)
    assert_same_images(one, other, np.arange(len(labels)))
