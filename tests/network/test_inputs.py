"""Arguments of networks beside the images, in Python, runs, pairs and the registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.attribution.pair import explain_contrast, explain_pair
from fiftyone_sfam.attribution.pair_path import explain_path
from fiftyone_sfam.errors import ModelError, SfamWarning
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing
from networks import MAP, SideInformation, images

CAMERAS = torch.tensor([2, 0, 1])


INPUTS = {"cam_label": "camera_index", "hour": "time"}


@pytest.fixture
def model() -> EmbeddingModel:
    torch.manual_seed(0)
    return EmbeddingModel(
        SideInformation(), Preprocessing((8, 6)), inputs=INPUTS, name="sie"
    )


def given() -> dict[str, Any]:
    return {"cam_label": CAMERAS, "hour": np.array([0.5, 2, 1])}


def expected_of(network: nn.Module, order: list[int]) -> Tensor:
    hours = torch.tensor([0.5, 2, 1])
    with torch.no_grad():
        return network(images(3)[order], CAMERAS[order], hours[order])


def test_each_image_has_its_own_values(model: EmbeddingModel) -> None:
    expected = expected_of(model.network, [0, 1, 2])
    bound = model.with_inputs(given())
    torch.testing.assert_close(bound.embed(images(3)), expected)
    head = bound.linearize(images(3))
    torch.testing.assert_close(head.embedding, expected)
    result = attribute(head, torch.arange(3), head.embedding.roll(1, 0))
    total = result.evidence.sum((1, 2)) + result.remainder
    torch.testing.assert_close(total, result.score)
    # The layer is shared, and what is bound stays apart.
    assert model.layer == bound.layer == "mixed"
    for i in range(3):
        one = model.with_inputs({n: v[i : i + 1] for n, v in given().items()})
        torch.testing.assert_close(one.embed(images(3)[[i]])[0], expected[i])
    torch.testing.assert_close(bound.embed(images(3)), expected)


def test_values_of_one_image_serve_for_all_its_copies(model: EmbeddingModel) -> None:
    one = model.with_inputs({"cam_label": [1], "hour": [0.25]})
    copies = images(1).expand(4, -1, -1, -1)
    found = one.embed(copies)
    assert torch.allclose(found, found[:1].expand(4, -1), atol=1e-6)
    other = model.with_inputs({"cam_label": [2], "hour": [0.25]}).embed(copies)
    assert (found - other).abs().max() > 0.01
    assert [info.name for info in one.layers(copies)] == ["trunk", "mixed"]
    assert not one.carries_all(copies, "trunk") or one.carries_all(copies, "mixed")


def test_every_use_of_several_images(model: EmbeddingModel) -> None:
    bound = model.with_inputs(given())
    leaf, outputs, embeddings = bound.record(images(3), ["trunk"])
    assert leaf.shape[0] == 3
    assert outputs["trunk"].shape == (3, *MAP)
    expected = expected_of(model.network, [0, 1, 2])
    torch.testing.assert_close(embeddings.detach(), expected)
    assert [info.name for info in bound.layers(images(3))] == ["trunk", "mixed"]
    assert bound.carries_all(images(3), "mixed")
    earlier = bound.with_layer("trunk")
    assert earlier.linearize(images(3)).feature_map.shape == (3, *MAP)


def test_values_that_are_missing_or_too_many(model: EmbeddingModel) -> None:
    with pytest.raises(
        ModelError,
        match=r"'sie' needs further inputs .* \('cam_label' from 'camera_index', 'hour'"
        r" from 'time'\); give samples instead",
    ):
        model.embed(images(1))
    with pytest.raises(ModelError, match=r"inputs \['cam_label', 'hour'\], not \['c"):
        model.with_inputs({"cam_label": [1]})
    for use in ("embed", "linearize"):
        bound = model.with_inputs({"cam_label": [1, 2], "hour": [1.0, 1.0]})
        with pytest.raises(ModelError, match="2 values of 'cam_label' for 3 images"):
            getattr(bound, use)(images(3))


# --------------------------------------------------------------------------------------
# Samples
# --------------------------------------------------------------------------------------


def sample_of(path: Path, name: str, **fields: Any) -> Any:
    import fiftyone as fo

    file = path / f"{name}.png"
    pixels = np.random.default_rng(len(name)).integers(0, 255, (8, 6, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(file)
    return fo.Sample(filepath=str(file), **fields)


def test_a_warning_about_values_given_by_hand(
    tmp_path: Path,
) -> None:
    network = SideInformation()
    with torch.no_grad():
        assert network.mixed.bias is not None
        network.mixed.bias.fill_(50)
    early = EmbeddingModel(
        network, Preprocessing((8, 6)), inputs=INPUTS, name="sie", layer="trunk"
    )
    pictures = [Image.open(sample_of(tmp_path, n).filepath) for n in ("a", "bb")]
    values = {"cam_label": [2, 0], "hour": [1.0, 2.0]}
    with pytest.warns(SfamWarning, match="give layer='mixed', which carries 100"):
        explain_pair(early.with_inputs(values), *pictures)


def test_pairs_of_samples(model: EmbeddingModel, tmp_path: Path) -> None:
    first = sample_of(tmp_path, "a", camera_index=2, time=0.5)
    second = sample_of(tmp_path, "bb", camera_index=0, time=1)
    third = sample_of(tmp_path, "ccc", camera_index=1, time=2.0)
    pictures = [Image.open(sample.filepath) for sample in (first, second, third)]
    tensors = torch.stack([model.prepare(picture) for picture in pictures])
    with torch.no_grad():
        e = model.network(
            tensors, torch.tensor([2, 0, 1]), torch.tensor([0.5, 1.0, 2.0])
        )
    e = nn.functional.normalize(e)
    pair = explain_pair(model, first, second)
    assert pair.score == pytest.approx(float(e[0] @ e[1]), abs=1e-6)
    boxed = explain_pair(model, (first, [0, 0, 1, 1]), second)
    assert boxed.score == pytest.approx(pair.score, abs=1e-6)
    margin = explain_contrast(model, first, second, third)
    assert margin.score == pytest.approx(float(e[0] @ e[1] - e[0] @ e[2]), abs=1e-6)
    query, gallery = explain_path(model, first, second, several_scales=True)
    assert query.score == pytest.approx(pair.score, abs=1e-6)
    assert gallery.score == pytest.approx(pair.score, abs=1e-6)
    assert query.path.sum() + query.remainder == pytest.approx(query.score, abs=1e-5)


def test_pairs_that_are_not_samples(model: EmbeddingModel, tmp_path: Path) -> None:
    from fiftyone_sfam.errors import DataError

    sample = sample_of(tmp_path, "a", camera_index=2, time=0.5)
    with pytest.raises(
        DataError, match="needs the field 'camera_index' and 'time' of each image, wh"
    ):
        explain_pair(model, sample, sample.filepath)
    lacking = sample_of(tmp_path, "b", camera_index=1)
    with pytest.raises(
        DataError,
        match=r"field 'time', which holds the argument 'hour' .* no value for .*b\.png",
    ):
        explain_pair(model, sample, lacking)


def test_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fiftyone_sfam.models import load_model

    entry = {
        "factory": "network.py:make",
        "preprocess": {"size": [8, 6]},
        "inputs": {"cam_label": "camera_index"},
    }
    (tmp_path / "network.py").write_text(
        "from torch import nn\n\nclass make(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.conv = nn.Conv2d(3, 4, 3)\n\n"
        "    def forward(self, x, cam_label):\n"
        "        return self.conv(x).mean((2, 3)) + cam_label[:, None]\n"
    )
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": {"sie": entry}}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))
    model = load_model("sie")
    assert model.inputs == {"cam_label": "camera_index"}
    zero, one = (model.with_inputs({"cam_label": [c]}).embed(images(2)) for c in (0, 1))
    torch.testing.assert_close(one, zero + 1)
    for wrong in ({"cam_label": 1}, {"a b": "c"}, ["cam_label"]):
        file.write_text(json.dumps({"models": {"sie": {**entry, "inputs": wrong}}}))
        with pytest.raises(ModelError, match=r"key 'inputs': .* names a field for"):
            load_model("sie")
