"""Maps that are computed when they are looked at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from torch import nn

from fiftyone_sfam import explain_pair, explain_path, explain_retrieval
from fiftyone_sfam.app.pairs.live import (
    LivePairs,
    live_pairs,
    live_paths,
)
from fiftyone_sfam.app.pairs.pictures import ImageFile, image_file
from fiftyone_sfam.app.pairs.subjects import score_notes
from fiftyone_sfam.attribution.contributions import points
from fiftyone_sfam.errors import DataError, ModelError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.runs.maps import PairMaps, SideMaps
from fiftyone_sfam.runs.run import Run
from paths import TESTS
from worlds import fill, person, tiny_model

PIXELS = Preprocessing((2, 2), mean=(0, 0, 0), std=(1, 1, 1), scale=1)
Z = 5 * sqrt(5)


def averaging() -> EmbeddingModel:
    """The image is the feature map, and its average color is the embedding."""
    network = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return EmbeddingModel(network, PIXELS)


def picture(*pixels: tuple[int, int, int]) -> Image.Image:
    """An image of 2 x 2 pixels."""
    return Image.fromarray(np.array(pixels, dtype=np.uint8).reshape(2, 2, 3))


# Averages (2, 1, 0) and (3, 4, 0): <e_q, e_g> = 10, |e_q|^2 = 5, |e_g|^2 = 25.
QUERY = picture((8, 0, 0), (0, 4, 0), (0, 0, 0), (0, 0, 0))
GALLERY = picture((6, 8, 0), (6, 0, 0), (0, 0, 0), (0, 8, 0))


def close(found: object, expected: object) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def ends(pair: PairMaps) -> tuple[SideMaps, SideMaps]:
    """Both sides of a pair, which have maps."""
    assert pair.query is not None
    assert pair.gallery is not None
    return pair.query, pair.gallery


def maps_of(pairs: list[PairMaps], kind: str) -> tuple[list[np.ndarray], ...]:
    """The maps of the queries and of the neighbors."""
    both = [[side.maps[kind] for side in ends(pair)] for pair in pairs]
    return [query for query, _ in both], [gallery for _, gallery in both]


@pytest.fixture
def worked_out() -> LivePairs:
    return LivePairs(averaging(), [QUERY, GALLERY, QUERY])


def test_scores_by_hand(worked_out: LivePairs) -> None:
    close(worked_out.scores, [10 / Z, 1])
    close(worked_out.distances, [1 - 10 / Z, 0])
    assert worked_out.count == 2
    assert worked_out.map_shape == (2, 2)
    assert worked_out.channels == 3
    for pair, score in zip(worked_out.explained(), worked_out.scores, strict=True):
        for side in ends(pair):
            assert side.score == score
            assert side.crop == (0.0, 0.0, 1.0, 1.0)
            assert side.size == (2, 2)


def test_evidence_by_hand(worked_out: LivePairs) -> None:
    query, gallery = ends(worked_out.explained()[0])
    close(query.maps["evidence"], np.array([[6, 4], [0, 0]]) / Z)
    # <pixel, (2, 1, 0)> / 4 of (6, 8), (6, 0) and (0, 8).
    close(gallery.maps["evidence"], np.array([[5, 3], [0, 2]]) / Z)
    close(worked_out.importance(0), np.array([6, 4, 0]) / Z)
    close((query.remainder, gallery.remainder), (0, 0))


def test_difference_by_hand(worked_out: LivePairs) -> None:
    one, other = maps_of(worked_out.difference(), "difference")
    # u = (2, 1) / sqrt(5) - (3, 4) / 5, over the lengths sqrt(5) and 5.
    u = np.array([2 / 5**0.5 - 3 / 5, 1 / 5**0.5 - 4 / 5])
    (a, b), (c, d) = u / 5**0.5, u / 5
    close(one[0], np.array([[2 * a, b], [0, 0]]))
    close(other[0], -np.array([[(6 * c + 8 * d) / 4, 1.5 * c], [0, 2 * d]]))
    # Together the squared distance of the unit vectors.
    assert one[0].sum() + other[0].sum() == pytest.approx(2 - 20 / Z)
    close(one[1], np.zeros((2, 2)))


def test_decision_by_hand(worked_out: LivePairs) -> None:
    one, other = maps_of(worked_out.decision(0.5), "decision")
    # The evidence, minus half of what each place adds to the image's own length.
    close(one[0], np.array([[6, 4], [0, 0]]) / Z - np.array([[0.4, 0.1], [0, 0]]))
    assert one[0].sum() == pytest.approx(10 / Z - 0.5)
    assert other[0].sum() == pytest.approx(10 / Z - 0.5)
    # Of an image with itself, half of that is left.
    close(one[1], np.array([[0.4, 0.1], [0, 0]]))


def test_contributions_by_hand(worked_out: LivePairs) -> None:
    query, gallery, same = worked_out.contributions()
    # A quarter of each pixel.
    close(query.contributions.values, [[[2, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]])
    close(query.contributions.embedding, [2, 1, 0])
    close(query.contributions.remainder, [0, 0, 0])
    assert (query.crop, query.size) == ((0.0, 0.0, 1.0, 1.0), (2, 2))
    found = points(query.contributions, gallery.contributions)
    # (8, 0, 0) with (6, 8, 0) and (6, 0, 0): 48 / 16 each; the rest has no red.
    close(found[0, 0], np.array([[3, 3], [0, 0]]) / Z)
    # (6, 8, 0) of the neighbor with (8, 0, 0) and (0, 4, 0): 48 / 16 and 32 / 16.
    close(found[:, :, 0, 0], np.array([[3, 2], [0, 0]]) / Z)
    # With the query itself: 64 / 16, where Z is |e_q|^2.
    found = points(query.contributions, same.contributions)
    close(found[0, 0], np.array([[4, 0], [0, 0]]) / 5)


def test_channels_by_hand(worked_out: LivePairs) -> None:
    own, others = maps_of(worked_out.channel(1), "channel")
    close(own, [[[0, 4], [0, 0]]] * 2)
    close(others[0], [[8, 0], [0, 8]])
    close(others[1], own[0])


def test_as_two_images_at_a_time() -> None:
    # A network that leaves a remainder, and several neighbors at once.
    model, images = tiny_model(), [person(0), person(1), person(2), person(0, 1)]
    live = LivePairs(model, images)
    for neighbor, other in enumerate(images[1:]):
        alone = explain_pair(model, images[0], other)
        assert live.scores[neighbor] == pytest.approx(alone.score, abs=1e-6)
        assert live.distances[neighbor] == pytest.approx(alone.distance, abs=1e-6)
        query, gallery = ends(live.explained()[neighbor])
        for kind in ("sfam", "evidence"):
            close(query.maps[kind], getattr(alone.query, kind))
            close(gallery.maps[kind], getattr(alone.gallery, kind))
        expected = (alone.query.remainder, alone.gallery.remainder)
        close((query.remainder, gallery.remainder), expected)
        assert abs(expected[0]) > 0.01
        close(live.importance(neighbor), alone.query.cis)
        one, two = maps_of(live.difference(), "difference")
        apart = alone.difference()
        close(one[neighbor], apart[0].evidence)
        close(two[neighbor], -apart[1].evidence)
        decided = maps_of(live.decision(0.3), "decision")
        for maps, side in zip(decided, alone.decision(0.3), strict=True):
            close(maps[neighbor], side.evidence)
        first, *rest = (one.contributions for one in live.contributions())
        found = points(first, rest[neighbor])
        close(found[3, 1], alone.point(3, 1))
        close(found[:, :, 5, 2], alone.point(5, 2, side="gallery"))
        # What a head leaves of the embedding belongs to no place.
        whole = first.values.sum((0, 1)) + first.remainder
        close(whole, first.embedding)
        assert np.abs(first.remainder).max() > 0.01
        own, others = maps_of(live.channel(4), "channel")
        close(own[neighbor], alone.channel(4))
        close(others[neighbor], alone.channel(4, "gallery"))


def test_a_channel_that_there_is_not(worked_out: LivePairs) -> None:
    with pytest.raises(DataError, match=r"has 3 channels, .* there is no channel 3"):
        worked_out.channel(3)


# --------------------------------------------------------------------------------------
# With a run
# --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run of a model that is not registered."""
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("live"))
    yield explain_retrieval(dataset, tiny_model(), k=2)
    dataset.delete()


@pytest.fixture
def files(run: Run) -> tuple[ImageFile, ...]:
    return tuple(image_file(path) for path in run.dataset.limit(3).values("filepath"))


NETWORK = """
import sys
sys.path.insert(0, {tests!r})
from worlds import tiny_network
"""


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Register ``tiny-0`` with the weights of a seed."""
    (tmp_path / "net.py").write_text(NETWORK.format(tests=str(TESTS)))
    file = tmp_path / "models.json"
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))

    def register(seed: int, **options: object) -> None:
        entry = {
            "factory": "net.py:tiny_network",
            "kwargs": {"seed": seed},
            "preprocess": {"size": [16, 8]},
            **options,
        }
        file.write_text(json.dumps({"models": {"tiny-0": entry}}))

    return register


def test_a_model_that_is_not_registered(
    run: Run, files: tuple[ImageFile, ...], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(tmp_path / "none.json"))
    with pytest.raises(ModelError) as caught:
        live_pairs(run, files)
    assert str(caught.value) == (
        "This map needs the model 'tiny-0', which is not registered on this machine: "
        f"register it in {tmp_path / 'none.json'}. Stored maps can still be looked at."
    )


def test_a_model_with_other_weights(
    run: Run, files: tuple[ImageFile, ...], register: Callable[..., None]
) -> None:
    register(1)
    with pytest.raises(ModelError, match="its weights or its metric are others now"):
        live_pairs(run, files)
    # The right one is found as soon as it is registered.
    register(0)
    live = live_pairs(run, files)
    assert live.count == 2
    alone = explain_pair(tiny_model(), files[0].path, files[1].path)
    assert live.scores[0] == pytest.approx(alone.score, abs=1e-6)
    # What was computed is not computed again.
    assert live_pairs(run, files) is live
    register(0, metric="euclidean")
    with pytest.raises(ModelError, match="its weights or its metric are others now"):
        live_pairs(run, files)


def test_a_model_that_cannot_be_loaded(
    run: Run, files: tuple[ImageFile, ...], register: Callable[..., None]
) -> None:
    register(0, factory="net.py:nothing")
    with pytest.raises(ModelError) as caught:
        live_pairs(run, files)
    assert str(caught.value).startswith(
        "This map needs the model 'tiny-0', which cannot be loaded: "
    )
    assert "nothing" in str(caught.value)


def test_the_stored_similarity_is_the_live_one(
    run: Run, register: Callable[..., None]
) -> None:
    register(0)
    query = 4
    pairs = run.pairs.of_query(query)
    paths = run.dataset.values("filepath")
    items = [query, *(int(item) for item in run.pairs.gallery[pairs])]
    live = live_pairs(run, tuple(image_file(paths[item]) for item in items))
    close(live.scores, run.pairs.similarity[pairs])
    maps = run.maps(int(pairs[1]))
    assert maps.query is not None
    query, _ = ends(live.explained()[1])
    stored, found = maps.query.maps["evidence"], query.maps["evidence"]
    # Stored maps are kept to 1/254 of their largest value.
    assert np.abs(found - stored).max() <= np.abs(stored).max() / 250
    assert (query.crop, query.size) == (maps.query.crop, maps.query.size)


def test_without_a_run(files: tuple[ImageFile, ...]) -> None:
    with pytest.raises(ModelError, match="there is no model 'nobody'"):
        live_pairs("nobody", files[:2])
    found = live_pairs("demo", files[:2])
    assert found.count == 1
    assert -1 <= found.scores[0] <= 1


def test_an_image_that_has_changed(files: tuple[ImageFile, ...]) -> None:
    first = live_pairs("demo", files[:2])
    changed = Path(files[1].path)
    before = changed.read_bytes()
    try:
        person(3, 7).save(changed)
        again = live_pairs("demo", (files[0], image_file(files[1].path)))
    finally:
        changed.write_bytes(before)
    assert again.scores[0] != pytest.approx(first.scores[0], abs=1e-3)


def test_what_is_said_of_another_similarity() -> None:
    assert score_notes([]) == score_notes([(0.8, 0.803), (None, 0.1)]) == []
    # Of several, the one that has changed most says it for all.
    [text] = score_notes([(0.5, 0.49), (0.8, 0.7), (0.2, 0.21)])
    assert text.startswith("The similarity is 0.7000 now and was 0.8000 in the run:")


def test_paths_are_those_of_two_images(files: tuple[ImageFile, ...]) -> None:
    both = live_paths("demo", files[:2])
    expected = explain_path("demo", *(f.path for f in files[:2]), several_scales=True)
    for found, wanted in zip(both, expected, strict=True):
        close(found.path, wanted.path)
        assert found.score == pytest.approx(wanted.score, abs=1e-6)
    assert live_paths("demo", files[:2]) is both


def test_a_detection_is_its_crop(files: tuple[ImageFile, ...]) -> None:
    path = files[0].path
    whole = image_file(path).read()
    part = image_file(path, [0.5, 0.25, 0.5, 0.5])
    assert part.read().size == (whole.width // 2, whole.height // 2)
    assert np.array_equal(np.asarray(part.read()), np.asarray(whole)[4:12, 4:])


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the file does not exist: .*none.png. Put it"):
        image_file(str(tmp_path / "none.png"))
