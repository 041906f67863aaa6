"""Pairs that are explained when they are looked at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import explain_pair, explain_path, explain_retrieval
from fiftyone_sfam.app.pairs.live import Files, live_pair, live_path
from fiftyone_sfam.app.pairs.pictures import ShownImage, image_file
from fiftyone_sfam.app.pairs.subjects import Subject
from fiftyone_sfam.errors import DataError, ModelError
from fiftyone_sfam.runs.images import item_inputs
from fiftyone_sfam.runs.run import Run
from paths import TESTS
from worlds import fill, person, tiny_model


def close(found: object, expected: object) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


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
def files(run: Run) -> Files:
    return tuple(image_file(path) for path in run.dataset.limit(2).values("filepath"))


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
    run: Run, files: Files, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(tmp_path / "none.json"))
    with pytest.raises(ModelError) as caught:
        live_pair(run, files)
    assert str(caught.value) == (
        "This map needs the model 'tiny-0', which is not registered on this machine: "
        f"register it in {tmp_path / 'none.json'}. Stored maps can still be looked at."
    )


def test_a_model_with_other_weights(
    run: Run, files: Files, register: Callable[..., None]
) -> None:
    register(1)
    with pytest.raises(ModelError, match="its weights or its metric are others now"):
        live_pair(run, files)
    # The right one is found as soon as it is registered.
    register(0)
    live = live_pair(run, files)
    alone = explain_pair(tiny_model(), files[0].path, files[1].path)
    assert live.score == pytest.approx(alone.score, abs=1e-6)
    close(live.query.evidence, alone.query.evidence)
    # What was computed is not computed again.
    assert live_pair(run, files) is live
    register(0, metric="euclidean")
    with pytest.raises(ModelError, match="its weights or its metric are others now"):
        live_pair(run, files)


def test_a_model_that_cannot_be_loaded(
    run: Run, files: Files, register: Callable[..., None]
) -> None:
    register(0, factory="net.py:nothing")
    with pytest.raises(ModelError) as caught:
        live_pair(run, files)
    assert str(caught.value).startswith(
        "This map needs the model 'tiny-0', which cannot be loaded: "
    )
    assert "nothing" in str(caught.value)


def test_the_stored_similarity_is_the_live_one(
    run: Run, register: Callable[..., None]
) -> None:
    register(0)
    pair = int(run.pairs.of_query(4)[1])
    paths = run.dataset.values("filepath")
    items = 4, int(run.pairs.gallery[pair])
    live = live_pair(run, (image_file(paths[4]), image_file(paths[items[1]])))
    close(live.score, run.pairs.similarity[pair])
    maps = run.maps(pair)
    for stored, found in ((maps.query, live.query), (maps.gallery, live.gallery)):
        assert stored is not None
        # Stored maps are kept to 1/254 of their largest value.
        values = stored.maps["evidence"]
        assert np.abs(found.evidence - values).max() <= np.abs(values).max() / 250
        assert found.crop == stored.crop


def test_without_a_run(files: Files) -> None:
    with pytest.raises(ModelError, match="there is no model 'nobody'"):
        live_pair("nobody", files)
    found = live_pair("demo", files)
    paths = [file.path for file in files]
    assert found.score == pytest.approx(explain_pair("demo", *paths).score, abs=1e-6)


def test_an_image_that_has_changed(files: Files) -> None:
    first = live_pair("demo", files)
    changed = Path(files[1].path)
    before = changed.read_bytes()
    try:
        person(3, 7).save(changed)
        again = live_pair("demo", (files[0], image_file(files[1].path)))
    finally:
        changed.write_bytes(before)
    assert again.score != pytest.approx(first.score, abs=1e-3)


def test_what_is_said_of_another_similarity(run: Run) -> None:
    images = (ShownImage(None), ShownImage(None))
    subject = Subject(run, 0.8, images, run, (0, 1), partial(item_inputs, run, (0, 1)))
    assert subject.score_notes(0.803) == []
    assert replace(subject, similarity=None).score_notes(0.1) == []
    [text] = subject.score_notes(0.7)
    assert text.startswith("The similarity is 0.7000 now and was 0.8000 in the run:")


def test_paths_are_those_of_two_images(files: Files) -> None:
    both = live_path("demo", files)
    expected = explain_path("demo", *(f.path for f in files), several_scales=True)
    for found, wanted in zip(both, expected, strict=True):
        close(found.path, wanted.path)
        assert found.score == pytest.approx(wanted.score, abs=1e-6)
    assert live_path("demo", files) is both


def test_a_detection_is_its_crop(files: Files) -> None:
    path = files[0].path
    whole = image_file(path).read()
    part = image_file(path, [0.5, 0.25, 0.5, 0.5])
    assert part.read().size == (whole.width // 2, whole.height // 2)
    assert np.array_equal(np.asarray(part.read()), np.asarray(whole)[4:12, 4:])


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the file does not exist: .*none.png. Put it"):
        image_file(str(tmp_path / "none.png"))
