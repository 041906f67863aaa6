"""Shortcuts: excess over comparable pairs, small groups, and the demo world's own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import Protocol, explain_retrieval, load_run
from fiftyone_sfam.audit.regions.ledger import build_ledger, load_ledger
from fiftyone_sfam.audit.regions.partitions import BACKGROUND
from fiftyone_sfam.audit.regions.shortcut_scores import GroupScores, score_groups
from fiftyone_sfam.audit.regions.shortcuts import (
    RESULT,
    Shortcut,
    find_shortcuts,
    load_shortcuts,
)
from fiftyone_sfam.demo.dataset import load_demo_dataset
from fiftyone_sfam.demo.world import DefectPlan
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH
from fiftyone_sfam.runs.run import Run
from worlds import fill, tiny_model

SEED, SHORTCUT_IDENTITIES = 4, 4


def scored(rows: list[tuple[int, int, int, float, float]], count: int) -> GroupScores:
    """Score rows of group, image, stratum, carried and score."""
    groups, images, strata, carried, scores = (np.array(one) for one in zip(*rows))  # noqa: B905
    return score_groups(groups, images, strata, carried, scores, count)


# --------------------------------------------------------------------------------------
# Scores
# --------------------------------------------------------------------------------------


def test_shares_are_compared_within_their_stratum() -> None:
    # In both groups a fifth of true and four fifths of false matches rest on the
    # region; the first has far more false matches.
    rows = [(0, image, 1, 0.8, 1.0) for image in range(9)]
    rows += [(0, 9, 0, 0.2, 1.0), (1, 20, 1, 0.8, 1.0)]
    rows += [(1, 10 + image, 0, 0.2, 1.0) for image in range(9)]
    found = scored(rows, 2)
    np.testing.assert_allclose(found.share, [0.74, 0.26])
    np.testing.assert_allclose(found.expected, [0.74, 0.26])
    np.testing.assert_allclose(found.excess, 0, atol=1e-12)
    assert found.ranking().tolist() == []


def test_the_excess_by_hand() -> None:
    rows = [(0, 0, 0, 0.6, 1.0), (0, 1, 0, 0.2, 0.5)]
    rows += [(1, 2, 0, 0.1, 1.0), (2, 3, 0, 0.1, 0.25), (2, 4, 0, 0.2, 0.75)]
    found = scored(rows, 3)
    np.testing.assert_allclose(found.share, [0.8 / 1.5, 0.1, 0.3])
    np.testing.assert_allclose(found.expected, [0.4 / 2, 1.1 / 2.5, 0.9 / 2.5])
    np.testing.assert_allclose(found.excess, found.share - found.expected)
    assert found.images.tolist() == [2, 1, 2]
    assert (np.abs(found.shrunk) <= np.abs(found.excess)).all()
    assert np.sign(found.shrunk).tolist() == np.sign(found.excess).tolist()
    np.testing.assert_allclose(found.high - found.shrunk, found.shrunk - found.low)


def test_what_the_rest_has_none_of_does_not_count() -> None:
    rows = [(0, 0, 0, 0.5, 1.0), (0, 0, 1, 0.9, 1.0)]
    rows += [(1, 1, 0, 0.2, 1.0), (1, 2, 0, 0.2, 1.0)]
    found = scored(rows, 3)
    assert found.share[0] == pytest.approx(0.5)
    assert found.excess[0] == pytest.approx(0.3)
    # A group without rows is nothing, and an only group has no rest.
    assert np.isnan(found.excess[2])
    assert np.isnan(found.low[2])
    assert np.isnan(scored([(0, 0, 0, 0.5, 1.0)] * 3, 1).excess[0])


def noisy(seed: int, effects: list[float], sizes: list[int]) -> GroupScores:
    """Groups with known effects, and images that differ by much more than groups do."""
    generator = np.random.default_rng(seed)
    rows, image = [], 0
    for group, (effect, size) in enumerate(zip(effects, sizes, strict=True)):
        for _ in range(size):
            own = 0.4 + effect + generator.normal(0, 0.15)
            for _ in range(5):
                score = generator.uniform(0.5, 1)
                rows.append((group, image, 0, own * score, score))
            image += 1
    return scored(rows, len(effects))


def test_a_tiny_group_does_not_win_by_chance() -> None:
    for seed in range(10):
        # Two hundred groups of one image, whose luck is as good as +0.4.
        effects, sizes = [0.0] * 200 + [0.25] * 2, [1] * 200 + [15] * 2
        found = noisy(seed, effects, sizes)
        assert found.excess[:200].max() > found.excess[200:].max()
        assert set(found.ranking()[:2].tolist()) == {200, 201}


def test_nothing_is_found_where_groups_do_not_differ() -> None:
    found = [len(noisy(seed, [0.0] * 40, [10] * 40).ranking()) for seed in range(20)]
    # Out of 800; unshrunk, one of forty would be above by chance alone.
    assert sum(found) < 10


def test_intervals_hold_the_effects() -> None:
    held, total = 0, 0
    for seed in range(20):
        effects = np.random.default_rng(seed + 100).normal(0, 0.1, 40)
        found = noisy(seed, effects.tolist(), [4, 8, 12, 16] * 10)
        truth = effects - effects.mean()
        held += int(((found.low <= truth) & (truth <= found.high)).sum())
        total += 40
    assert 0.9 <= held / total <= 0.99


# --------------------------------------------------------------------------------------
# The demo world
# --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """18 identities, four of them always before the same wall."""
    dataset = load_demo_dataset(
        f"sfam-shortcuts-{uuid.uuid4().hex[:8]}",
        SEED,
        tmp_path_factory.mktemp("crops"),
        identities=18,
        images_per_identity=6,
        defects=DefectPlan(0, 0, 0, 0, SHORTCUT_IDENTITIES),
    )
    protocol = Protocol("identity", camera_field="camera")
    run = explain_retrieval(dataset, "demo", k=5, protocol=protocol)
    build_ledger(run, "person")
    yield run
    dataset.delete()


def planted(run: Run) -> set[str]:
    """Identities of which a shortcut was planted."""
    found = run.dataset.info["sfam_demo"]["planted"]
    return {one["identities"][0] for one in found if one["kind"] == "shortcut"}


def test_planted_shortcuts_are_on_top(run: Run) -> None:
    found = find_shortcuts(run, save=False)
    assert found.regions == (BACKGROUND,)
    assert found.groups == {"identity": 18, "camera": 4}
    names = [one.value for one in found.found[:SHORTCUT_IDENTITIES]]
    assert set(names) == planted(run)
    lows = [one.low for one in found.found]
    assert lows == sorted(lows, reverse=True)
    assert lows[-1] > 0
    for one in found.found[:SHORTCUT_IDENTITIES]:
        assert one.kind == "identity"
        assert one.share - one.expected > 0.15
        # It is not that there is more of a background to be seen.
        assert abs(one.area - one.rest_area) < 0.1
        assert {name for name, _ in one.partners} <= planted(run) - {one.value}


def test_the_pairs_and_maps_of_a_shortcut(run: Run) -> None:
    found = find_shortcuts(run, save=False).found[0]
    items = run.items
    members = [n for n, name in enumerate(items.identities) if name == found.value]
    assert found.items.tolist() == members
    assert found.images == len(members) == 6
    pairs = run.pairs
    touched = np.isin(pairs.query, members) | np.isin(pairs.gallery, members)
    assert sorted(found.pairs.tolist()) == np.flatnonzero(touched).tolist()

    sums: dict[bool, list[np.ndarray]] = {True: [], False: []}
    outcomes: dict[bool, list[int]] = {True: [], False: []}
    for pair, maps in enumerate(run.many_maps(range(len(pairs)))):
        ends = (pairs.query[pair], maps.query), (pairs.gallery[pair], maps.gallery)
        for item, side in ends:
            assert side is not None
            own = int(item) in members
            sums[own].append(side.maps["evidence"])
            outcomes[own].append(int(pairs.outcome[pair]))
    np.testing.assert_allclose(found.evidence, np.mean(sums[True], axis=0), atol=1e-6)
    # The rest is weighted to as many false matches as the shortcut has.
    wrong = np.array(outcomes[False]) == FALSE_MATCH
    false_share = np.mean(np.array(outcomes[True]) == FALSE_MATCH)
    rest = np.array(sums[False])
    expected = (1 - false_share) * rest[~wrong].mean(0) + false_share * rest[
        wrong
    ].mean(0)
    np.testing.assert_allclose(found.rest_evidence, expected, atol=1e-6)


def test_the_first_pairs_rest_on_the_region_most(run: Run) -> None:
    found = find_shortcuts(run, save=False).found[0]
    ledger = load_ledger(run)
    assert ledger is not None
    column = ledger.column(BACKGROUND)
    ends = np.stack([ledger.query, ledger.gallery], axis=1)
    ratios = np.where(
        np.isin(ends, found.items),
        ledger.shares[:, :, column] / ledger.score[:, None],
        -np.inf,
    ).max(axis=1)
    assert (np.diff(ratios[found.pairs]) <= 1e-6).all()


def test_shortcuts_are_stored_with_their_run(run: Run) -> None:
    assert load_shortcuts(run) is None
    found = find_shortcuts(run, top=3, kinds=["identity", "camera pair"])
    assert len(found) == 3
    stored = load_shortcuts(load_run(run.dataset, run.key))
    assert stored is not None
    assert (stored.field, stored.regions, stored.groups) == (
        "person",
        (BACKGROUND,),
        {"identity": 18, "camera pair": 16},
    )
    for one, other in zip(stored.found, found.found, strict=True):
        for name, value in vars(other).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(one, name), value)
            else:
                assert getattr(one, name) == value
        assert one.sentence == other.sentence
    run.results.delete(RESULT)


def test_sentences_take_their_numbers_from_the_finding() -> None:
    nothing = np.zeros((0, 0), dtype=np.float32)
    none = np.zeros(0, dtype=np.int64)
    one = Shortcut(
        kind="identity",
        value="p014",
        region=BACKGROUND,
        share=0.794,
        expected=0.521,
        excess=0.273,
        effect=0.27,
        low=0.241,
        high=0.3,
        area=0.74,
        rest_area=0.75,
        images=12,
        partners=(("p033", 14), ("p018", 3)),
        pairs=none,
        items=none,
        evidence=nothing,
        rest_evidence=nothing,
    )
    assert one.sentence == (
        "identity p014: background carries 79 % of the score of its matches, 52 % in "
        "comparable matches of others (+27 points, 95 % interval +24 to +30, from 12 "
        "images); it covers 74 % of its images and 75 % of the others; false matches "
        "are mostly with p033 (14), p018 (3)."
    )


def test_unusable_requests(run: Run) -> None:
    with pytest.raises(DataError, match=r"kinds is \['shoes'\]; choose from identity"):
        find_shortcuts(run, kinds=["shoes"])
    with pytest.raises(DataError, match="no region 'hand'"):
        find_shortcuts(run, regions=["hand"])


def test_without_masks_labels_or_evidence(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path)
    run = explain_retrieval(dataset, tiny_model(), k=3)
    # Nobody is known, so there is no group; all thirds were looked at.
    found = find_shortcuts(run)
    assert found.groups == {"identity": 0, "camera": 0}
    assert found.field is None
    assert found.regions == ("upper third", "middle third", "lower third")
    assert len(found) == 0
    assert load_ledger(run) is not None
    plain = explain_retrieval(dataset, tiny_model(), key="plain", k=1, kinds=["sfam"])
    with pytest.raises(RunError, match="do not add up to the score"):
        find_shortcuts(plain)
