"""Nearness corrected for hubs, against definitions written as loops."""

from __future__ import annotations

import numpy as np
import pytest
import suspects_corrected as corrected
from suspects_corrected import (
    correct,
    find_links,
    linked_identities,
    one_person_score,
    two_persons_score,
    usual_nearness,
)

from fiftyone_sfam.audit.suspects.space import Space, make_space

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
    levels = correct(space, by_identity=False).levels
    for image in range(len(space)):
        strangers = near[image, space.identities != space.identities[image]]
        assert levels[image] == pytest.approx(np.sort(strangers)[-10:].mean(), abs=1e-6)


def test_levels_by_identity_leave_the_nearest_other_identity_out() -> None:
    space = _space(1)
    near = space.nearness(np.arange(len(space)), np.arange(len(space)))
    levels = correct(space, by_identity=True).levels
    for image in range(len(space)):
        best = [
            near[image, members].max()
            for code, members in enumerate(space.members)
            if code != space.identities[image]
        ]
        expected = np.sort(best)[::-1][1:11].mean()
        assert levels[image] == pytest.approx(expected, abs=1e-6)


def test_blocks_do_not_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    space = _space(2)
    whole = find_links(correct(space, by_identity=True))
    monkeypatch.setattr(corrected, "_BLOCK_BYTES", 8 * len(space) * 3)
    parts = find_links(correct(space, by_identity=True))
    assert np.array_equal(whole.images, parts.images)
    assert np.allclose(whole.nearness, parts.nearness, atol=1e-6)


def test_links_have_the_nearest_image_of_each_other_identity() -> None:
    space = correct(_space(3), by_identity=False)
    links = find_links(space, 4)
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
    flat = correct(space, by_identity=False)
    raw = corrected.CorrectedSpace(
        space.vectors,
        space.metric,
        space.identities,
        space.cameras,
        space.members,
        levels=np.zeros(len(space)),
    )
    before = int((find_links(raw).images[:, 0] == 0).sum())
    after = int((find_links(flat).images[:, 0] == 0).sum())
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
    flat = correct(space, by_identity=False)
    pairs = linked_identities(space, find_links(flat))
    assert (4, 12) in pairs
    ranked = sorted(pairs, key=lambda pair: -one_person_score(flat, *pair))
    assert {*ranked[:2]} == {(2, len(SIZES)), (5, len(SIZES) + 1)}


def test_two_persons_under_one_name_are_first_and_divided_rightly() -> None:
    space = _space(6)
    labels = space.identities.copy()
    people = labels.copy()
    labels[labels == 13] = 3  # three images and two
    labels[labels == 11] = 10  # one image and one
    labels[labels == 12] = 11
    space = make_space(space.vectors, "cosine", labels, space.cameras)
    flat = correct(space, by_identity=True)
    usual = usual_nearness(flat)
    scored = {
        code: two_persons_score(flat, code, usual)
        for code, members in enumerate(space.members)
        if len(members) > 1
    }
    ranked = sorted(scored, key=lambda code: -scored[code].score)
    assert {*ranked[:2]} == {3, 10}
    larger, smaller = scored[3].groups
    assert {*people[larger]} == {3}
    assert {*people[smaller]} == {13}
