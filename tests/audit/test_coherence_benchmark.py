"""The benchmark of match coherence: features worked out by hand, and its figures."""

from __future__ import annotations

import numpy as np
import pytest
from check_coherence import Images, Measured, measure, predict
from coherence_features import FEATURES, PlacedImage, centers, measure_pair
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

HEIGHT, WIDTH = 6, 4
PLACES = HEIGHT * WIDTH


def placed(
    order: NDArray[np.int64], background: NDArray[np.float64] | None = None
) -> PlacedImage:
    """An image with another direction of the embedding at each place."""
    vectors = np.eye(PLACES, dtype=np.float32)[order]
    return PlacedImage(
        contributions=vectors,
        likeness=vectors,
        average=np.array([1, 0], dtype=np.float32),
        embedding=vectors.sum(axis=0),
        places=centers(HEIGHT, WIDTH),
        background=background,
    )


def features(query: PlacedImage, neighbor: PlacedImage) -> dict[str, float]:
    values = measure_pair(query, neighbor, float(PLACES))
    return dict(zip(FEATURES, values.tolist(), strict=True))


def test_places_of_an_image_match_themselves() -> None:
    image = placed(np.arange(PLACES))
    found = features(image, image)
    for title in ("best", "likest"):
        assert found[f"{title} places: fit of an affine map"] == pytest.approx(1)
        assert found[f"{title} places: mutual"] == pytest.approx(1)
    assert found["best places: correlation of coordinates"] == pytest.approx(1)
    assert found["best places: distance from the own place"] == pytest.approx(0)
    assert found["share of places with themselves"] == pytest.approx(1)
    assert found["entropy of each place's matches"] == pytest.approx(0)
    assert found["likest places: likeness"] == pytest.approx(1)
    assert found["effective number of places"] == pytest.approx(PLACES)
    assert found["largest place's share"] == pytest.approx(1 / PLACES)
    assert found["Gini of the places"] == pytest.approx(0, abs=1e-6)
    assert found["share that speaks against"] == 0
    assert found["likeness of the averaged maps"] == pytest.approx(1)
    assert np.isnan(found["background's share"])


def test_a_mirrored_map_is_as_coherent_but_for_its_places() -> None:
    order = np.arange(PLACES).reshape(HEIGHT, WIDTH)
    found = features(placed(order.ravel()), placed(order[:, ::-1].ravel()))
    assert found["best places: fit of an affine map"] == pytest.approx(1)
    # Rows stay, columns are mirrored.
    assert found["best places: correlation of coordinates"] == pytest.approx(0)
    # Columns at 1/8, 3/8, 5/8 and 7/8: half are 3/4 apart, half 1/4.
    assert found["best places: distance from the own place"] == pytest.approx(1 / 2)
    assert found["share of places with themselves"] == pytest.approx(0)
    assert found["best places: mutual"] == pytest.approx(1)


def test_a_shuffled_map_is_not_coherent() -> None:
    fits = []
    for seed in range(50):
        order = np.random.default_rng(seed).permutation(PLACES)
        found = features(placed(np.arange(PLACES)), placed(order))
        fits.append(found["best places: fit of an affine map"])
        assert found["likest places: likeness"] == pytest.approx(1)
    # Two coordinates explain 2 / (n - 1) of any other by chance.
    assert np.mean(fits) == pytest.approx(2 / (PLACES - 1), abs=0.03)


def test_evidence_in_one_place_and_against() -> None:
    shares = np.zeros(PLACES)
    shares[0] = 1.0
    query = placed(np.arange(PLACES), shares)
    embedding = np.zeros(PLACES, dtype=np.float32)
    embedding[:2] = 3, -1
    neighbor = PlacedImage(
        contributions=np.diag(embedding),
        likeness=query.likeness,
        average=np.array([0, 1], dtype=np.float32),
        embedding=embedding,
        places=query.places,
        background=shares,
    )
    found = features(query, neighbor)
    assert found["largest place's share"] == pytest.approx(1)
    assert found["Gini of the places"] == pytest.approx(1 - 1 / PLACES)
    assert found["effective number of places"] == pytest.approx(1)
    assert found["share that speaks against"] == pytest.approx(1 / 4)
    assert found["background's share"] == pytest.approx(3 / 4)
    assert found["agreement of both evidence maps"] == pytest.approx(1)
    assert found["likeness of the averaged maps"] == 0


def test_figures_equal_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    false = generator.random(200) < 0.3
    scores = generator.standard_normal(200) + false
    times = generator.integers(0, 4, (3, 200)).astype(np.float32)
    found = measure(scores, false, times)
    for row, weights in enumerate(times):
        assert found["AP"][row] == pytest.approx(
            average_precision_score(false, scores, sample_weight=weights), abs=1e-5
        )
        assert found["AUC"][row] == pytest.approx(
            roc_auc_score(false, scores, sample_weight=weights), abs=1e-5
        )


def test_identities_are_predicted_from_others() -> None:
    people = np.repeat(np.arange(20), 10)
    false = np.tile([True, False], 100)
    # The column names a pair by its identity: nothing that holds for others.
    told = np.where(false, 1.0, -1.0) * np.where(people % 2, 1, -1)
    scores = predict(told[:, None], false, people)
    assert roc_auc_score(false, scores) < 0.7
    scores = predict(np.where(false, 1.0, -1.0)[:, None], false, people)
    assert roc_auc_score(false, scores) == 1


def test_levels_leave_the_partner_out() -> None:
    count = 12
    generator = np.random.default_rng(1)
    images = [placed(generator.permutation(PLACES)) for _ in range(count)]
    people = np.arange(count)
    nearness = generator.random((count, count))
    unknown = np.full(count, -1)
    scales = np.full((count, count), float(PLACES))
    measured = Measured(Images(images, people, unknown, scales, nearness))
    ranked = np.argsort(-np.where(np.eye(count) > 0, -1, nearness)[0])
    # Of 11 strangers the last is not among the ten nearest.
    assert ranked[-1] == 0
    query, strangers = np.zeros(10, dtype=int), ranked[:10]
    values = measured.values(query, strangers)
    first = measured.levels(query[:1], strangers[:1])[0]
    np.testing.assert_allclose(first, values[1:].mean(axis=0))
    far = measured.levels(query[:1], ranked[10:11])[0]
    np.testing.assert_allclose(far, values.mean(axis=0))
