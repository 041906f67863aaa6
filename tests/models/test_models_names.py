"""Names are looked up in a fixed order, and looking them up costs no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models import ModelInfo, list_models, load_model

FACTORY = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@pytest.fixture
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A registry that hides a preset and a zoo model."""
    entry = {"factory": "own.py:build", "preprocess": {"size": [4, 4]}}
    names = ["zebra", "demo", "resnet18-imagenet-torch"]
    (tmp_path / "own.py").write_text(FACTORY)
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": dict.fromkeys(names, entry)}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))
    return file


@pytest.mark.usefixtures("own_models")
def test_the_owners_models_come_first() -> None:
    models = list_models()
    assert [(info.name, info.source) for info in models[:4]] == [
        ("zebra", "registry"),
        ("demo", "registry"),
        ("resnet18-imagenet-torch", "registry"),
        ("dlib-face", "preset"),
    ]
    zoo = [info.name for info in models[4:]]
    assert {info.source for info in models[4:]} == {"zoo"}
    assert zoo == sorted(zoo)
    assert len({info.name for info in models}) == len(models)
    for name in ("demo", "resnet18-imagenet-torch"):
        assert load_model(name).embed(torch.ones(1, 3, 4, 4)).shape == (1, 2)


def test_presets_without_a_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(tmp_path / "none.json"))
    demo, dlib = list_models()[:2]
    assert demo == ModelInfo(
        "demo", "preset", "cosine", "Small re-ID network of the demo people"
    )
    assert (dlib.name, dlib.metric) == ("dlib-face", "euclidean")


def test_the_demo_network() -> None:
    model = load_model("demo")
    assert (model.name, model.metric) == ("demo", "cosine")
    assert model.find_layer(torch.zeros(1, 3, 128, 64)).shape[1:] == (16, 8)
    assert not model.network.training


def test_unknown_names(own_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError) as caught:
        load_model("zbra")
    assert str(caught.value) == (
        "there is no model 'zbra'; did you mean 'zebra'? Models of your own are "
        f"registered in {own_models}."
    )
    with pytest.raises(ModelError, match="did you mean 'resnet50-imagenet-torch' or"):
        load_model("resnet50-imagenet")
    missing = own_models.with_name("none.json")
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(missing))
    with pytest.raises(ModelError) as long:
        load_model("?" * 10_000)
    assert str(long.value).endswith(f"{missing}, which does not exist yet.")
    assert len(str(long.value)) < 1000
    with pytest.raises(ModelError, match="a model's name is needed, not list"):
        load_model(["demo"])


def test_listing_is_light() -> None:
    code = (
        "import sys, fiftyone_sfam.models as m\n"
        "assert 'fiftyone' not in sys.modules\n"
        "assert 'resnet18-imagenet-torch' in [i.name for i in m.list_models()]\n"
        "assert not {'torch', 'torchvision', 'safetensors'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
