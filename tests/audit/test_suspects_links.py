"""Links between identities, on embeddings whose truth is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.links import Link, link_identities
from fiftyone_sfam.audit.suspects.space import find_nearest, make_space
from fiftyone_sfam.retrieval.search import UNKNOWN

PEOPLE, IMAGES, SIZE = 40, 5, 32


def embeddings(seed: int, noise: float = 0.6) -> NDArray[np.float64]:
    """Draw images around the unit vector of a person each, person by person."""
    generator = np.random.default_rng(seed)
    centers = generator.normal(size=(PEOPLE, SIZE))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    spread = noise / np.sqrt(SIZE)
    return np.repeat(centers, IMAGES, axis=0) + spread * generator.normal(
        size=(PEOPLE * IMAGES, SIZE)
    )


def links_of(
    vectors: NDArray[np.float64], labels: NDArray[np.int64], metric: str = "cosine"
) -> list[Link]:
    space = make_space(vectors, metric, labels, np.full(len(labels), UNKNOWN))
    return link_identities(space, find_nearest(space))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("seed", range(3))
def test_one_person_under_two_names_and_a_moved_image(seed: int, metric: str) -> None:
    labels = np.repeat(np.arange(PEOPLE), IMAGES)
    # Person 0 has one image under another name, person 1 has two.
    labels[0] = PEOPLE
    labels[5:7] = PEOPLE + 1
    # An image of person 2 is labeled as person 3.
    labels[10] = 3
    found = links_of(embeddings(seed), labels, metric)
    first = {(link.first, link.second): link for link in found[:3]}
    assert set(first) == {(0, PEOPLE), (1, PEOPLE + 1), (2, 3)}
    assert first[2, 3].moved == 10
    assert first[0, PEOPLE].moved == UNKNOWN == first[1, PEOPLE + 1].moved
    assert all(link.probability > 0.9 for link in first.values())
    assert all(link.probability < 0.1 for link in found[3:])
    assert {0} < set(first[0, PEOPLE].witnesses)


@pytest.mark.parametrize("seed", range(5))
def test_without_defects_nobody_is_linked(seed: int) -> None:
    found = links_of(embeddings(seed), np.repeat(np.arange(PEOPLE), IMAGES))
    assert found
    assert max(link.probability for link in found) < 0.5


def test_a_network_that_cannot_tell_people_apart_is_not_sure() -> None:
    vectors = np.random.default_rng(0).normal(size=(PEOPLE * IMAGES, SIZE))
    found = links_of(vectors, np.repeat(np.arange(PEOPLE), IMAGES))
    assert max(link.probability for link in found) < 0.5


def test_no_image_is_a_witness_of_more_than_two_links() -> None:
    vectors = embeddings(0)
    # One image is near to everybody.
    vectors[0] = vectors.mean(axis=0) * 20
    counts = Counter(
        witness
        for link in links_of(vectors, np.repeat(np.arange(PEOPLE), IMAGES))[:50]
        for witness in link.witnesses
    )
    assert max(counts.values()) == 2


def test_excluded_images_are_no_witnesses() -> None:
    labels = np.repeat(np.arange(PEOPLE), IMAGES)
    labels[0] = PEOPLE
    space = make_space(embeddings(0), "cosine", labels, np.full(len(labels), UNKNOWN))
    excluded = np.zeros(len(labels), dtype=bool)
    excluded[1] = True
    found = link_identities(space, find_nearest(space), excluded)
    assert (found[0].first, found[0].second) == (0, PEOPLE)
    assert all(1 not in link.witnesses for link in found)


def test_too_few_identities_have_no_probability() -> None:
    found = links_of(embeddings(0)[:15], np.repeat(np.arange(3), IMAGES))
    assert [link.probability for link in found] == [0.0] * 3
    assert links_of(embeddings(0)[:5], np.zeros(5, dtype=np.int64)) == []
