"""Two images at a time."""

from __future__ import annotations

import dataclasses
import json
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from fiftyone_sfam.attribution.contributions import points
from fiftyone_sfam.attribution.pair import (
    PairExplanation,
    SideExplanation,
    explain_contrast,
    explain_pair,
)
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import METRICS
from fiftyone_sfam.network.preprocess import Preprocessing
from networks import build
from worlds import person, tiny_model

PIXELS = Preprocessing((2, 2), mean=(0, 0, 0), std=(1, 1, 1), scale=1)


def averaging(**options: Any) -> EmbeddingModel:
    """The image is the feature map, and its average color is the embedding."""
    network = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return EmbeddingModel(network, **{"preprocess": PIXELS, **options})


def picture(*pixels: tuple[int, int, int]) -> Image.Image:
    """An image of 2 x 2 pixels."""
    return Image.fromarray(np.array(pixels, dtype=np.uint8).reshape(2, 2, 3))


# Averages (2, 1, 0) and (3, 4, 0): <e_q, e_g> = 10, |e_q|^2 = 5, |e_g|^2 = 25.
QUERY = picture((8, 0, 0), (0, 4, 0), (0, 0, 0), (0, 0, 0))
GALLERY = picture((6, 8, 0), (6, 0, 0), (0, 0, 0), (0, 8, 0))
ZS = {"cosine": 5 * sqrt(5), "euclidean": 15.0}


def close(found: NDArray[np.float32] | float, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


# --------------------------------------------------------------------------------------
# Both sides
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_both_sides_of_a_pair(metric: str) -> None:
    z = ZS[metric]
    result = explain_pair(averaging(metric=metric, name="mean"), QUERY, GALLERY)
    assert result.score == pytest.approx(10 / z, rel=1e-9)
    assert result.distance == pytest.approx(
        1 - 10 / z if metric == "cosine" else sqrt(10), rel=1e-9
    )
    # Pixels times the partner's average, over four positions.
    close(result.query.evidence, [[24 / (4 * z), 16 / (4 * z)], [0, 0]])
    close(result.gallery.evidence, [[20 / (4 * z), 12 / (4 * z)], [0, 8 / (4 * z)]])
    close(result.query.cis, [6 / z, 4 / z, 0])
    close(result.gallery.cis, [6 / z, 4 / z, 0])
    close(result.query.sfam, [[48 / z, 16 / z], [0, 0]])
    close(result.gallery.sfam, [[68 / z, 36 / z], [0, 32 / z]])
    for side in (result.query, result.gallery):
        assert side.score == pytest.approx(result.score)
        assert side.remainder == pytest.approx(0, abs=1e-6)
        assert side.crop == (0.0, 0.0, 1.0, 1.0)
        assert side.sfam.dtype == side.evidence.dtype == side.cis.dtype == np.float32
    assert (result.metric, result.model, result.layer) == (metric, "mean", "0")


def test_minmax_weights() -> None:
    result = explain_pair(averaging(), QUERY, GALLERY, weights="minmax")
    # Importances 6, 4 and 0 become 1, 2/3 and 0.
    close(result.query.sfam, [[8, 8 / 3], [0, 0]])
    close(result.gallery.sfam, [[6 + 16 / 3, 6], [0, 16 / 3]])


@pytest.mark.parametrize("metric", METRICS)
def test_difference(metric: str) -> None:
    z = ZS[metric]
    query, gallery = explain_pair(averaging(metric=metric), QUERY, GALLERY).difference()
    # e_q = (2, 1, 0), e_g = (3, 4, 0).
    if metric == "cosine":
        u = 2 / sqrt(5) - 3 / 5, 1 / sqrt(5) - 4 / 5
        (a, b), (c, d) = (u[0] / sqrt(5), u[1] / sqrt(5)), (u[0] / 5, u[1] / 5)
        squared = 2 - 2 * 10 / (5 * sqrt(5))
    else:
        (a, b), (c, d) = (-1 / z, -3 / z), (-1 / z, -3 / z)
        squared = 10 / z
    close(query.evidence, [[2 * a, b], [0, 0]])
    close(gallery.evidence, [[(6 * c + 8 * d) / 4, 6 * c / 4], [0, 2 * d]])
    close(query.score - gallery.score, squared)
    close(query.evidence.sum() - gallery.evidence.sum(), squared)


def test_decision() -> None:
    # The evidence, minus half of what each place adds to the image's own length.
    query, gallery = explain_pair(averaging(), QUERY, GALLERY).decision(0.5)
    z = ZS["cosine"]
    close(query.evidence, [[6 / z - 0.4, 4 / z - 0.1], [0, 0]])
    for side in (query, gallery):
        assert side.evidence.sum() == pytest.approx(10 / z - 0.5, abs=1e-6)


def test_contributions() -> None:
    result = explain_pair(averaging(), QUERY, GALLERY)
    query, gallery = result.contributions()
    # A quarter of each pixel.
    close(query.values, [[[2, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]])
    close(query.remainder, [0, 0, 0])
    for one, whole in zip((query, gallery), result.embeddings, strict=True):
        close(one.embedding, whole)
    close(result.embeddings, [[2, 1, 0], [3, 4, 0]])
    close(points(query, gallery)[0, 0], result.point(0, 0))


def test_contributions_with_a_remainder() -> None:
    result = explain_pair(tiny_model(), person(0), person(1))
    query, gallery = result.contributions()
    # What a head leaves of the embedding belongs to no place.
    assert np.abs(query.remainder).max() > 0.01
    whole = query.values.sum((0, 1)) + query.remainder
    np.testing.assert_allclose(whole, query.embedding, rtol=1e-5, atol=1e-6)
    found = points(query, gallery)
    for row, column, side in ((3, 1, "query"), (5, 2, "gallery")):
        of_place = found[row, column] if side == "query" else found[:, :, row, column]
        expected = result.point(row, column, side)
        np.testing.assert_allclose(of_place, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_point(metric: str) -> None:
    z = ZS[metric]
    result = explain_pair(averaging(metric=metric), QUERY, GALLERY)
    # Pixel (8, 0, 0) with each of the gallery image's; pixel (6, 8, 0) with each of the
    # query's; both averages divide by 4.
    close(result.point(0, 0), [[48 / (16 * z), 48 / (16 * z)], [0, 0]])
    close(result.point(0, 0, "gallery"), [[48 / (16 * z), 32 / (16 * z)], [0, 0]])
    close(result.point(0, 1, "gallery").sum(), result.gallery.evidence[0, 1])


def test_point_outside_the_map() -> None:
    with pytest.raises(ValueError, match=r"\(2, 0\) lies outside .* 2 x 2"):
        explain_pair(averaging(), QUERY, GALLERY).point(2, 0)


def test_channel() -> None:
    result = explain_pair(averaging(), QUERY, GALLERY)
    assert result.channel(1).tolist() == [[0, 4], [0, 0]]
    assert result.channel(1, "gallery").tolist() == [[8, 0], [0, 8]]


def test_unknown_side() -> None:
    result = explain_pair(averaging(), QUERY, GALLERY)
    for use in (lambda: result.point(0, 0, "left"), lambda: result.channel(0, "left")):
        with pytest.raises(ValueError, match=r"'left'; use one of query, gallery"):
            use()


def test_contrast() -> None:
    impostor = picture((0, 8, 0), *[(0, 0, 0)] * 3)  # (0, 2, 0) on average
    result = explain_contrast(averaging(), QUERY, GALLERY, impostor)
    # e_t/Z_t - e_i/Z_i = (3, 4 - 5, 0) / (5 sqrt(5)).
    z = ZS["cosine"]
    close(result.evidence, [[24 / (4 * z), -4 / (4 * z)], [0, 0]])
    close(result.score, 1 / sqrt(5))
    close(result.remainder, 0)
    turned = explain_contrast(averaging(), QUERY, impostor, GALLERY)
    close(turned.evidence, -result.evidence)


def test_a_pair_and_its_swap() -> None:
    model = EmbeddingModel(
        build("bn neck").network, Preprocessing((8, 6)), metric="euclidean"
    )
    rng = np.random.default_rng(0)
    one, other = (
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8))
        for _ in range(2)
    )
    forth, back = explain_pair(model, one, other), explain_pair(model, other, one)
    assert forth.score == pytest.approx(back.score)
    for ours, theirs in ((forth.query, back.gallery), (forth.gallery, back.query)):
        np.testing.assert_allclose(ours.evidence, theirs.evidence, atol=1e-6)
        np.testing.assert_allclose(ours.sfam, theirs.sfam, atol=1e-6)
        assert ours.remainder == pytest.approx(theirs.remainder, abs=1e-6)
        assert abs(ours.remainder) > 1e-3
        assert ours.evidence.sum() + ours.remainder == pytest.approx(forth.score)
    assert np.abs(forth.query.evidence - forth.gallery.evidence).max() > 1e-3


def test_results_cannot_be_changed_by_accident() -> None:
    result = explain_pair(averaging(), QUERY, GALLERY)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.score = 1.0
    assert "LinearizedHead" not in repr(result)


# --------------------------------------------------------------------------------------
# What stands for an image
# --------------------------------------------------------------------------------------


def check_query(result: PairExplanation | SideExplanation) -> None:
    side = result.query if isinstance(result, PairExplanation) else result
    z = ZS["cosine"]
    close(side.evidence, [[24 / (4 * z), 16 / (4 * z)], [0, 0]])


def test_paths_and_samples(tmp_path: Path) -> None:
    import fiftyone as fo

    path = tmp_path / "query.png"
    QUERY.save(path)
    for query in (path, str(path), fo.Sample(filepath=str(path))):
        check_query(explain_pair(averaging(), query, GALLERY))


@pytest.mark.parametrize("box", [[0.5, 0.25, 0.5, 0.5], (0.5, 0.25, 0.5, 0.5)])
def test_a_box_of_an_image(box: Any, tmp_path: Path) -> None:
    import fiftyone as fo

    frame = Image.new("RGB", (4, 4), (200, 100, 50))
    frame.paste(QUERY, (2, 1))
    path = tmp_path / "frame.png"
    frame.save(path)
    for image in (frame, path, fo.Sample(filepath=str(path))):
        check_query(explain_pair(averaging(), (image, box), GALLERY))


def test_a_box_beside_the_image() -> None:
    with pytest.raises(DataError, match=r"covers no pixel of the image of 2 x 2"):
        explain_pair(averaging(), (QUERY, [1.5, 0, 0.5, 1]), GALLERY)


def test_images_are_upright_however_they_are_given(tmp_path: Path) -> None:
    # Orientation 6: stored on its side, to be turned by 90 degrees clockwise.
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    QUERY.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    with Image.open(path) as opened:
        assert opened.getexif()[0x0112] == 6
        for image in (path, opened):
            check_query(explain_pair(averaging(), image, GALLERY))


def test_images_of_other_modes() -> None:
    result = explain_pair(averaging(), QUERY.convert("RGBA"), GALLERY)
    check_query(result)


def test_the_part_that_the_network_saw() -> None:
    preprocess = Preprocessing((2, 2), resize=(4, 8))
    result = explain_pair(
        averaging(preprocess=preprocess),
        Image.new("RGB", (80, 20), (9, 9, 9)),
        Image.new("RGB", (30, 30), (7, 7, 7)),
    )
    assert result.query.crop == result.gallery.crop == (0.375, 0.25, 0.625, 0.75)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist: .*none.png"):
        explain_pair(averaging(), tmp_path / "none.png", GALLERY)


@pytest.mark.parametrize("image", [None, np.zeros((2, 2, 3)), 7])
def test_no_image(image: Any) -> None:
    with pytest.raises(
        DataError,
        match=rf"{type(image).__name__} is not an image; give a path, a Pillow",
    ):
        explain_pair(averaging(), QUERY, image)


def test_preprocessing_that_keeps_the_size() -> None:
    def as_it_is(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()

    model = averaging(preprocess=as_it_is)
    check_query(explain_pair(model, QUERY, GALLERY))
    with pytest.raises(DataError, match=r"images of different shapes; .* resize all"):
        explain_pair(model, QUERY, GALLERY.resize((3, 2)))


def test_zero_embedding() -> None:
    black = Image.new("RGB", (2, 2))
    for images in ((black, GALLERY), (QUERY, black)):
        with pytest.raises(DataError, match=r"zero embedding; its similarity is not"):
            explain_pair(averaging(), *images)


def test_model_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = tmp_path / "models.json"
    registry.write_text(json.dumps({"models": {}}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(registry))
    image = Image.effect_noise((64, 128), 90)
    result = explain_pair("demo", image, image)
    assert result.score == pytest.approx(1)
    assert result.model == "demo"
    assert result.query.evidence.shape == (16, 8)
