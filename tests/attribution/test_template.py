"""Templates: shares by hand and against a naive mean, and maps that add up to them."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from fiftyone_sfam.attribution.pair import explain_pair
from fiftyone_sfam.attribution.template import TemplateExplanation, explain_template
from fiftyone_sfam.attribution.template_vectors import template_vectors
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import METRICS, Metric
from fiftyone_sfam.network.preprocess import Preprocessing
from worlds import person, tiny_model

PIXELS = Preprocessing((2, 2), mean=(0, 0, 0), std=(1, 1, 1), scale=1)


def averaging(metric: Metric = "cosine") -> EmbeddingModel:
    """The image is the feature map, and its average color is the embedding."""
    network = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return EmbeddingModel(network, PIXELS, metric=metric)


def picture(*pixels: tuple[int, int, int]) -> Image.Image:
    """An image of 2 x 2 pixels."""
    return Image.fromarray(np.array(pixels, dtype=np.uint8).reshape(2, 2, 3))


# Averages (2, 1, 0), (3, 4, 0) and (0, 2, 0).
PROBE = picture((8, 0, 0), (0, 4, 0), (0, 0, 0), (0, 0, 0))
FIRST = picture((6, 8, 0), (6, 0, 0), (0, 0, 0), (0, 8, 0))
SECOND = picture((0, 0, 0), (0, 0, 0), (0, 8, 0), (0, 0, 0))


def test_a_template_by_hand() -> None:
    # The members' mean is (3, 6, 0) / 2: <e, t> = 6, |e| = sqrt(5), |t| = sqrt(45) / 2.
    found = explain_template(
        averaging(), PROBE, [FIRST, SECOND], normalize_members=False
    )
    z = sqrt(5) * sqrt(45) / 2
    assert found.score == pytest.approx(6 / z)
    assert found.distance == pytest.approx(1 - 6 / z)
    # <e, (3, 4)> = 10 and <e, (0, 2)> = 2, half of each.
    np.testing.assert_allclose(found.shares, [[5 / z, 1 / z]])
    assert [side.score for side in found.members] == [
        pytest.approx(5 / z),
        pytest.approx(1 / z),
    ]
    # The map of the probe: its pixels, a quarter of each, with (1.5, 3).
    [side] = found.probe
    np.testing.assert_allclose(
        side.evidence, np.array([[3, 3], [0, 0]]) / z, rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(
        found.toward(1), np.array([[0, 1], [0, 0]]) / z, rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(
        found.members[1].evidence, np.array([[0, 0], [1, 0]]) / z, rtol=1e-6, atol=1e-7
    )


def test_lengths_count_only_where_they_are_wanted() -> None:
    # Unit vectors (0.6, 0.8) and (0, 1): the mean is (0.3, 0.9).
    found = explain_template(averaging(), PROBE, [FIRST, SECOND])
    z = sqrt(5) * sqrt(0.9)
    assert found.score == pytest.approx(1.5 / z)
    np.testing.assert_allclose(found.shares, [[1 / z, 0.5 / z]])
    assert found.normalized


vectors = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.just(3)),
    elements=st.integers(-4, 4).map(float),
).filter(lambda rows: bool(rows.any(axis=1).all()))


@given(vectors, vectors, st.sampled_from(METRICS), st.booleans())
def test_shares_equal_a_naive_mean(
    probe: NDArray[Any], gallery: NDArray[Any], metric: Metric, normalize: bool
) -> None:
    means = []
    for side in (probe, gallery):
        rows = [row / np.linalg.norm(row) if normalize else row for row in side]
        means.append(sum(rows) / len(rows))
    u, v = means
    if min(np.linalg.norm(u), np.linalg.norm(v)) < 1e-9:
        return
    z = np.linalg.norm(u) * np.linalg.norm(v)
    if metric == "euclidean":
        z = (u @ u + v @ v) / 2
    found = template_vectors(probe, gallery, metric, normalize)
    assert found.score == pytest.approx(u @ v / z)
    assert found.shares.sum() == pytest.approx(found.score)
    for i, row in enumerate(probe):
        assert found.probe[i] @ row == pytest.approx(found.shares[i].sum())
        for j, other in enumerate(gallery):
            sizes = np.linalg.norm(row) * np.linalg.norm(other) if normalize else 1
            share = row @ other / sizes / len(probe) / len(gallery) / z
            assert found.shares[i, j] == pytest.approx(share)
    for j, other in enumerate(gallery):
        assert found.gallery[j] @ other == pytest.approx(found.shares[:, j].sum())


def check_sums(found: TemplateExplanation) -> None:
    for sides, shares in (
        (found.probe, found.shares.sum(axis=1)),
        (found.members, found.shares.sum(axis=0)),
    ):
        for side, share in zip(sides, shares, strict=True):
            total = side.evidence.sum() + side.remainder
            assert total == pytest.approx(share, abs=1e-6)
            assert side.score == pytest.approx(share, abs=1e-6)
        assert sum(side.score for side in sides) == pytest.approx(found.score, abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("normalize", [True, False])
def test_set_to_set_adds_up(metric: Metric, normalize: bool) -> None:
    model = tiny_model(metric=metric)
    probe = [person(0, shot) for shot in range(3)]
    members = [person(1, 0), person(0, 4)]
    found = explain_template(model, probe, members, normalize_members=normalize)
    check_sums(found)
    for image, side in enumerate(found.probe):
        maps = [found.toward(member, image) for member in range(2)]
        np.testing.assert_allclose(sum(maps), side.evidence, atol=1e-6)
    # Of the same person more comes from the member that shows it.
    mirrored = explain_template(model, members, probe, normalize_members=normalize)
    assert mirrored.score == pytest.approx(found.score)
    np.testing.assert_allclose(mirrored.shares, found.shares.T, atol=1e-9)


def test_a_template_of_one_member_is_a_pair(tmp_path: Path) -> None:
    model = tiny_model()
    file = tmp_path / "one.png"
    person(0, 0).save(file)
    found = explain_template(model, file, [person(1, 0)])
    pair = explain_pair(model, file, person(1, 0))
    assert found.score == pytest.approx(pair.score, abs=1e-6)
    assert found.distance == pytest.approx(pair.distance, abs=1e-6)
    for side, expected in (
        (found.probe[0], pair.query),
        (found.members[0], pair.gallery),
    ):
        np.testing.assert_allclose(side.evidence, expected.evidence, atol=1e-6)
        np.testing.assert_allclose(side.sfam, expected.sfam, atol=1e-6)
        np.testing.assert_allclose(side.cis, expected.cis, atol=1e-6)
        assert side.remainder == pytest.approx(expected.remainder, abs=1e-6)
        assert side.crop == expected.crop
    np.testing.assert_allclose(found.toward(0), pair.query.evidence, atol=1e-6)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match="the template has no images; give at least"):
        explain_template(tiny_model(), person(0), [])
    with pytest.raises(DataError, match="the probe has no images"):
        explain_template(tiny_model(), [], [person(0)])
    with pytest.raises(DataError, match="a template add up to zero, so its similarity"):
        template_vectors(np.array([[1.0, 0]]), np.array([[0, 2.0], [0, -3.0]]))
    found = explain_template(averaging(), PROBE, [FIRST])
    with pytest.raises(
        DataError, match="there is no member with the number 1; they are numbered from"
    ):
        found.toward(1)
    with pytest.raises(
        DataError, match="there is no image of the probe with the number -1; they"
    ):
        found.toward(0, -1)
