"""The nearest images: exactly, and among what an index proposes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fiftyone_sfam.audit.suspects import nearest
from fiftyone_sfam.audit.suspects.nearest import (
    CLOSEST,
    OTHERS,
    Nearest,
    find_nearest,
    largest,
)
from fiftyone_sfam.audit.suspects.space import Space, make_space
from fiftyone_sfam.retrieval.search import UNKNOWN


def space_of(
    seed: int,
    count: int,
    identities: int,
    metric: str = "cosine",
    gain: float = 0.0,
    cameras: int = 3,
) -> Space:
    """Images of identities of any size; some without an identity or a camera."""
    generator = np.random.default_rng(seed)
    who = generator.integers(-1, identities, size=count)
    _, codes = np.unique(np.append(who, UNKNOWN), return_inverse=True)
    centers = generator.normal(size=(identities + 1, 6))
    points = centers[who] + 0.4 * generator.normal(size=(count, 6))
    seen = generator.integers(-1, cameras, size=count)
    space = make_space(points, metric, codes[:-1].ravel() - 1, seen)
    return replace(space, camera_gain=gain)


def by_loop(space: Space) -> Nearest:
    """Compare image by image."""
    others = np.full((len(space), OTHERS), UNKNOWN, dtype=np.int32)
    values = np.full((len(space), OTHERS), -np.inf, dtype=np.float32)
    closest = np.full((len(space), CLOSEST), UNKNOWN, dtype=np.int32)
    for image in range(len(space)):
        every = np.delete(np.arange(len(space)), image)
        raw = space.raw_nearness(np.array([image]), every)[0]
        near = every[np.argsort(-raw, kind="stable")][:CLOSEST]
        closest[image, : len(near)] = near
        strangers = [
            other
            for other in range(len(space))
            if space.identities[other] not in (UNKNOWN, space.identities[image])
        ]
        found = space.nearness(np.array([image]), np.array(strangers, dtype=int))[0]
        order = np.argsort(-found, kind="stable")[:OTHERS]
        others[image, : len(order)] = np.array(strangers, dtype=int)[order]
        values[image, : len(order)] = found[order]
    return Nearest(others, values, closest)


def assert_equal(found: Nearest, expected: Nearest) -> None:
    np.testing.assert_allclose(found.nearness, expected.nearness, atol=2e-6)
    assert ((found.others == UNKNOWN) == (expected.others == UNKNOWN)).all()
    # Nearness may be equal but for rounding.
    assert (found.others == expected.others).mean() > 0.99
    assert (found.closest == expected.closest).mean() > 0.99


class Proposer:
    """Proposes the nearest images, without every ``lost``-th of them."""

    def __init__(self, space: Space, lost: int | None = None, most: int | None = None):
        self._space, self._lost = space, lost
        self.size = len(space) if most is None else most
        self.asked: list[tuple[int, int]] = []

    def __call__(self, vectors: np.ndarray, count: int) -> list[np.ndarray]:
        self.asked.append((len(vectors), count))
        images = np.arange(len(self._space))
        proposed = []
        for vector in vectors:
            near = np.linalg.norm(self._space.vectors - vector, axis=1)
            order = images[np.argsort(near, kind="stable")]
            if self._lost is not None:
                order = order[np.arange(len(order)) % self._lost != self._lost - 1]
            # An index also holds images that are not in the run, in any order.
            proposed.append(np.append(order[: count - 1], UNKNOWN)[::-1])
        return proposed


@pytest.mark.parametrize("columns", [1, 7, 40, 500, 3000])
@pytest.mark.parametrize("count", [1, 4, 50])
def test_largest_values_of_each_row(columns: int, count: int) -> None:
    values = np.random.default_rng(columns).normal(size=(5, columns)).astype(np.float32)
    values[1, : columns // 2] = -np.inf
    chosen = largest(values, count)
    assert chosen.shape == (5, min(count, columns))
    for row, found in zip(values, chosen, strict=True):
        assert len({*found.tolist()}) == len(found)
        expected = np.sort(row)[::-1][: len(found)]
        assert np.sort(row[found])[::-1].tolist() == expected.tolist()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 300),
    identities=st.integers(1, 60),
    metric=st.sampled_from(["cosine", "euclidean"]),
    gain=st.sampled_from([0.0, 0.05, 3.0]),
    tile=st.integers(1, 400),
)
def test_the_exact_search_finds_what_a_loop_finds(
    seed: int, count: int, identities: int, metric: str, gain: float, tile: int
) -> None:
    space = space_of(seed, count, identities, metric, gain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "_COLUMNS", tile)
        patch.setattr("fiftyone_sfam.audit.suspects.space._BLOCK_BYTES", 4 * 7 * tile)
        found = find_nearest(space)
    np.testing.assert_allclose(found.nearness, by_loop(space).nearness, atol=5e-4)
    if metric == "cosine":
        assert_equal(found, by_loop(space))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_all_proposed_images_give_the_exact_search(metric: str) -> None:
    space = space_of(1, 200, 30, metric, 0.1)
    assert_equal(find_nearest(space, propose=Proposer(space)), by_loop(space))


def test_more_are_requested_where_strangers_are_missing() -> None:
    # The nearest 400 images of half of the images have no identity.
    space = space_of(2, 800, 60)
    crowded = np.arange(800) % 2 == 0
    vectors = space.vectors.copy()
    vectors[crowded] = np.eye(6, dtype=np.float32)[0] + vectors[crowded] / 20
    labels = np.where(crowded & (np.arange(800) % 8 > 0), UNKNOWN, np.arange(800) % 60)
    space = make_space(vectors, "cosine", labels, np.full(800, UNKNOWN))
    propose = Proposer(space)
    found = find_nearest(space, propose=propose)
    expected = by_loop(space)
    assert_equal(found, expected)
    first, *later = dict.fromkeys(count for _, count in propose.asked)
    assert first < 100
    assert max(later) >= 4 * first


def test_the_nearest_strangers_are_sure_under_a_gain_of_cameras() -> None:
    # Pairs of one camera come first in the index, and late when they are corrected.
    space = space_of(3, 2000, 200, gain=0.4, cameras=2)
    vectors = space.vectors.copy()
    vectors[:, 0] += 0.5 * (space.cameras == 0)
    vectors[:, 1] += 0.5 * (space.cameras == 1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    space = replace(space, vectors=vectors)
    found = find_nearest(space, propose=Proposer(space))
    expected = find_nearest(space)
    same = np.isclose(found.nearness[:, :10], expected.nearness[:, :10], atol=1e-6)
    assert same.all()


def test_what_an_index_misses_is_not_found_and_the_rest_is() -> None:
    space = space_of(4, 600, 60)
    found = find_nearest(space, propose=Proposer(space, lost=5))
    expected = by_loop(space)
    recall = np.mean(
        [
            len({*some.tolist()} & {*all_.tolist()}) / OTHERS
            for some, all_ in zip(found.others, expected.others, strict=True)
        ]
    )
    # A fifth is missing, and farther ones take their places.
    assert 0.7 < recall < 0.9
    rows = np.arange(len(space))
    for rank in (0, 20, 49):
        others = found.others[:, rank]
        near = [space.nearness(rows[[i]], others[[i]])[0, 0] for i in rows]
        np.testing.assert_allclose(found.nearness[:, rank], near, atol=2e-6)
        assert (space.identities[others] != space.identities).all()


def test_an_index_that_gives_few_images_is_not_asked_for_ever() -> None:
    space = space_of(5, 300, 20)
    propose = Proposer(space, most=30)
    found = find_nearest(space, propose=propose)
    assert {count for _, count in propose.asked} == {30}
    assert sum(rows for rows, _ in propose.asked) == 300
    assert ((found.others != UNKNOWN).sum(axis=1) < 30).all()
    assert (found.closest != UNKNOWN).all()
