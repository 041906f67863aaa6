"""Runs of models with further inputs, which come from fields."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fiftyone_sfam.audit.faithfulness.check import check_faithfulness
from fiftyone_sfam.audit.faithfulness.sample import check_stored_maps
from fiftyone_sfam.audit.regions.causal import check_causally
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.data.items import collect_items
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError, ModelError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.opaque import OpaqueModel
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.pipeline.explain import explain_retrieval
from networks import SideInformation
from worlds import HEIGHT, REID, WIDTH, fill, fill_frames

INPUTS = {"cam_label": "camera_index", "hour": "time"}
CAMERAS = np.arange(12) % 3
HOURS = 1 + np.arange(12) / 12


@pytest.fixture
def world(dataset, tmp_path):
    fill(dataset, tmp_path)
    dataset.set_values("camera_index", CAMERAS.tolist())
    dataset.set_values("time", HOURS.tolist())
    return dataset


@pytest.fixture
def model():
    torch.manual_seed(0)
    preprocess = Preprocessing((HEIGHT, WIDTH))
    return EmbeddingModel(SideInformation(), preprocess, inputs=INPUTS, name="sie")


def embedded(model, pictures, cameras, hours):
    images = torch.stack([model.prepare(picture) for picture in pictures])
    with torch.no_grad():
        return model.network(
            images, torch.tensor(cameras), torch.tensor(hours, dtype=torch.float32)
        ).numpy()


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_each_image_is_embedded_with_its_own_values(world, model, cache_bytes):
    run = explain_retrieval(
        world, model, k=2, protocol=REID, batch_size=5, cache_bytes=cache_bytes
    )
    pictures = [Image.open(path) for path in world.values("filepath")]
    expected = embedded(model, pictures, CAMERAS, HOURS)
    np.testing.assert_allclose(run.embeddings(), expected, rtol=1e-4, atol=1e-6)
    assert run.skipped == ()
    # The embeddings of the second pass are those of the first.
    for number in range(len(run.pairs)):
        pair = run.maps(number)
        total = pair.query.maps["evidence"].sum() + pair.query.remainder
        assert total == pytest.approx(run.pairs.similarity[number], abs=0.02)


def test_other_values_make_another_run(world, model):
    first = explain_retrieval(world, model, key="a", k=2, protocol=REID)
    world.set_values("camera_index", [1] * 12)
    second = explain_retrieval(world, model, key="b", k=2, protocol=REID)
    assert first.config.fingerprint != second.config.fingerprint
    assert np.abs(first.embeddings() - second.embeddings()).max() > 0.01


def test_attributes_of_detections_go_before_fields(dataset, tmp_path, model):
    fill_frames(dataset, tmp_path)
    dataset.set_values("time", [1.0, 1.5, 2.0, 2.5])
    dataset.set_values("camera_index", [9] * 4)
    for sample in dataset:
        for number, detection in enumerate(sample.people.detections):
            detection["camera_index"] = number
        sample.save()
    protocol = Protocol(identity_field="label")
    run = explain_retrieval(
        dataset, model, k=2, protocol=protocol, patches_field="people"
    )
    items = collect_items(dataset, protocol, "people")
    pictures = []
    for path, (left, top, width, height) in zip(
        items.filepaths, items.boxes * 48, strict=True
    ):
        box = [round(v) for v in (left, top, left + width, top + height)]
        pictures.append(Image.open(path).crop(box))
    expected = embedded(model, pictures, [0, 1, 2] * 4, np.repeat([1, 1.5, 2, 2.5], 3))
    np.testing.assert_allclose(run.embeddings(), expected, rtol=1e-4, atol=1e-6)


def test_checks_of_a_run(world, model):
    run = explain_retrieval(world, model, k=2, protocol=REID, embeddings=None)
    checked = check_faithfulness(run, model, pairs=4, steps=2, save=False)
    assert checked.skipped == {}
    ledger = build_ledger(run, stripes=2, save=False)
    region = ledger.regions[0]
    causal = check_causally(
        run, model, ledger=ledger, region=region, change="mean", save=False
    )
    assert causal.skipped == {}
    world.set_values("camera_index", ((CAMERAS + 1) % 3).tolist())
    with pytest.raises(DataError, match="its embedding differs from the run's"):
        check_faithfulness(run, model, pairs=[0, 5], steps=2, save=False)


def test_maps_are_measured_with_each_images_own_values(dataset, tmp_path, model):
    fill(dataset, tmp_path, identities=8)
    dataset.set_values("camera_index", [number % 3 for number in range(24)])
    dataset.set_values("time", [1 + number / 24 for number in range(24)])
    options = {"layer": "auto", "kinds": "auto", "batch_size": 5}
    run = explain_retrieval(dataset, model, k=2, protocol=REID, **options)
    assert run.config.chosen["pairs"] == 24
    # Another value would give another embedding than the run's, and no pair.
    check = check_stored_maps(run, model.with_layer(run.config.layer), 10**6)
    assert check.queries == 24
    dataset.set_values("camera_index", [(number + 1) % 3 for number in range(24)])
    check = check_stored_maps(run, model.with_layer(run.config.layer), 10**6)
    assert check.reason == "0 pairs could be masked, and 16 are needed"


def test_fields_that_cannot_be_used(world, model):
    def refused(message):
        with pytest.raises(DataError, match=message):
            explain_retrieval(world, model, k=2, protocol=REID)

    world.set_values("time", [1.0] * 9 + [None, None, 1.0])
    path = world.values("filepath")[9]
    refused(
        f"the field 'time', which holds the argument 'hour' of the model, has no value "
        f"for {path} and 1 more; fill it in"
    )
    world.set_values("time", [1.0] * 12)
    world.rename_sample_field("camera_index", "cameras")
    refused("has no field 'camera_index' for the argument 'cam_label' of the model")
    world.set_values("camera_index", [f"c{index}" for index in CAMERAS])
    refused(r"'camera_index', which .* is 'c0' for .*0-0\.png; a number is needed")


def test_an_opaque_model_has_no_runs(world):
    opaque = OpaqueModel(lambda x: x.mean((2, 3)), Preprocessing((HEIGHT, WIDTH)))
    with pytest.raises(
        ModelError, match=r"is opaque, so it has no layer .*; call explain_by_masks\("
    ):
        explain_retrieval(world, opaque, k=2, protocol=REID)
    assert world.list_runs() == []
