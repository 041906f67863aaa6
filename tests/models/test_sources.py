"""Models of other libraries in one line: names, options, preprocessing, the gate."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_model_data_config

from fiftyone_sfam.errors import ModelError, SfamWarning
from fiftyone_sfam.models import known_name, list_models, load_model, load_named
from fiftyone_sfam.network.preprocess import Preprocessing


def image(width: int = 50, height: int = 80) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a registry file with one entry."""
    file = tmp_path / "models.json"
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))

    def write(**entry: Any) -> Path:
        file.write_text(json.dumps({"models": {"mine": entry}}), encoding="utf-8")
        return file

    return write


# -- timm ------------------------------------------------------------------------------


def test_timm_without_classifier_and_with_its_own_transform() -> None:
    torch.manual_seed(0)
    model = load_model("timm:convnext_atto", pretrained=False)
    assert (model.name, model.metric) == ("timm:convnext_atto", "cosine")
    assert not model.network.training
    torch.manual_seed(0)
    network = timm.create_model("convnext_atto", num_classes=0).eval()
    transform = create_transform(**resolve_model_data_config(network))
    images = model.prepare(image())[None]
    torch.testing.assert_close(images[0], transform(image()), atol=0, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(model.embed(images), network(images))
    # 224 / 0.875 = 256 pixels on the shorter side, of which the center is seen.
    assert model.crop_box(50, 80) == pytest.approx(
        (16 / 256 * 50, 92 / 409 * 80, 240 / 256 * 50, 316 / 409 * 80)
    )


def test_a_size_stretches_images_to_it() -> None:
    model = load_model("timm:vit_tiny_patch16_224", pretrained=False, size=(64, 32))
    half = (0.5, 0.5, 0.5)
    assert model.preprocess == Preprocessing(
        (64, 32), mean=half, std=half, interpolation="bicubic"
    )
    assert model.embed(model.prepare(image())[None]).shape == (1, 192)


def test_mean_and_std_alone_keep_the_geometry() -> None:
    options: Any = {"pretrained": False, "mean": (0, 0, 0), "std": [1, 1, 1]}
    for name in ("timm:test_resnet", "torchvision:resnet18"):
        own, given = load_model(name, pretrained=False), load_model(name, **options)
        assert given.crop_box(50, 80) == own.crop_box(50, 80)
        assert given.prepare(image()).min() >= 0
        assert own.prepare(image()).min() < -0.9


def test_options_of_the_library(tmp_path: Path) -> None:
    kwargs = {"img_size": [64, 32], "class_token": False, "global_pool": "avg"}
    model = load_model(
        "timm:vit_tiny_patch16_224", pretrained=False, kwargs=kwargs, metric="euclidean"
    )
    assert model.metric == "euclidean"
    # The shorter side of the crop is resized to; 0.9 of it is seen.
    assert model.prepare(image()).shape == (3, 64, 32)
    with pytest.raises(ModelError, match=r"timm could not build 'resnet18' \(TypeErr"):
        load_model("timm:resnet18", pretrained=False, kwargs={"img_size": 3})
    with pytest.raises(ModelError, match=r"timm could not build 'resnetxx' \(Runtime"):
        load_model("timm:resnetxx")


def test_weights_of_a_file_keep_the_library_from_loading_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    trained = timm.create_model("test_resnet", num_classes=0).eval()
    head = {"fc.weight": torch.ones(2, 2)}
    save_file(trained.state_dict() | head, tmp_path / "own.safetensors")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"1 unexpected \(fc\.weight\)"):
        load_model("timm:test_resnet", weights="own.safetensors")
    with pytest.warns(SfamWarning, match=r"does not use 1 weight of own\.safetens"):
        model = load_model(
            "timm:test_resnet", weights=Path("own.safetensors"), strict=False
        )
    images = model.prepare(image())[None]
    with torch.no_grad():
        torch.testing.assert_close(model.embed(images), trained(images))


# -- torchvision -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("resnet18", 512),
        ("convnext_tiny", 768),
        ("mobilenet_v3_small", 1024),
        ("squeezenet1_1", 512),
        ("densenet121", 1024),
        ("vit_b_32", 768),
        ("swin_t", 768),
        ("alexnet", 4096),
    ],
)
def test_torchvision_without_classifier(name: str, features: int) -> None:
    model = load_model(f"torchvision:{name}", pretrained=False)
    weights = torchvision.models.get_model_weights(name).DEFAULT
    prepared = model.prepare(image())
    torch.testing.assert_close(prepared, weights.transforms()(image()), atol=0, rtol=0)
    assert model.embed(prepared[None]).shape == (1, features)


def test_names_and_weights_of_torchvision() -> None:
    v1 = load_model("torchvision:resnet50/IMAGENET1K_V1", pretrained=False)
    v2 = load_model("torchvision:resnet50", pretrained=False)
    assert v1.crop_box(100, 100) == pytest.approx((6.25, 6.25, 93.75, 93.75), abs=0.01)
    assert v2.crop_box(100, 100) == pytest.approx((1.72, 1.72, 98.28, 98.28), abs=0.01)
    with pytest.raises(ModelError) as caught:
        load_model("torchvision:resnet50/V9")
    assert str(caught.value) == (
        "torchvision's 'resnet50' has no weights 'V9'; it has IMAGENET1K_V1, "
        "IMAGENET1K_V2."
    )
    for name in ("resnet51", "r3d_18", "fcn_resnet50"):
        with pytest.raises(ModelError, match=f"no classification network '{name}'"):
            load_model(f"torchvision:{name}")


# -- options and entries ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mean": (0.5, 0.5)},
            "model 'timm:x', option 'mean': [0.5, 0.5] is not three numbers.",
        ),
        (
            {"size": (0, 5)},
            "model 'timm:x', option 'size': [0, 5] is not a height and a width in "
            "whole pixels.",
        ),
        (
            {"strict": False},
            "model 'timm:x', option 'strict': it has no effect without weights.",
        ),
        (
            {"mean": [0, 0, 0], "preprocess": {"size": [8, 8]}},
            "model 'timm:x', option 'mean': it has no effect beside preprocess.",
        ),
        (
            {"factory": "os:mkdir"},
            "model 'timm:x', option 'factory': the option is unknown; known are "
            "pretrained, size, mean, std, kwargs, weights, weights_key, strip_prefix, "
            "strict, allow_missing, preprocess, metric, precision, embedding, inputs, "
            "embedding_layer.",
        ),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model("timm:x", **options)
    assert str(caught.value) == message


def test_a_name_takes_no_options() -> None:
    with pytest.raises(ModelError, match="'demo' takes no options, but 'pretrained'"):
        load_model("demo", pretrained=False)


def test_a_preprocessing_of_ones_own() -> None:
    def preprocess(image: Image.Image) -> torch.Tensor:
        return torch.full((3, 32, 32), image.width / 100)

    model = load_model("timm:test_resnet", pretrained=False, preprocess=preprocess)
    assert model.prepare(image()).unique().tolist() == [0.5]
    options = {"size": [16, 8], "channels": "BGR"}
    model = load_model("timm:test_resnet", pretrained=False, preprocess=options)
    assert model.preprocess == Preprocessing((16, 8), channels="BGR")


def test_a_source_in_the_registry(registry: Any) -> None:
    registry(
        source="timm:test_resnet",
        pretrained=False,
        size=[32, 16],
        std=[1, 1, 1],
        layer="layer3",
        description="tiny",
    )
    info = list_models()[0]
    assert (info.name, info.source, info.description) == ("mine", "registry", "tiny")
    for model in (load_model("mine"), load_named("mine")):
        assert (model.name, model.layer) == ("mine", "layer3")
        assert model.preprocess.std == (1, 1, 1)
        assert model.prepare(image()).shape == (3, 32, 16)


@pytest.mark.parametrize(
    ("entry", "key", "problem"),
    [
        ({"source": "pip:x"}, "source", '"pip:x" is not one of timm:NAME or'),
        ({"source": "timm:"}, "source", '"timm:" is not one of'),
        ({"source": "timm:x", "factory": "a:b"}, "factory", "give either it or source"),
        ({"preprocess": {"size": [8, 8]}}, "factory", "it is missing; give 'package"),
        (
            {"source": "timm:x", "python_path": ["."]},
            "python_path",
            "it has no effect without factory",
        ),
        (
            {"factory": "a:b", "preprocess": {"size": [8, 8]}, "pretrained": True},
            "pretrained",
            "it has no effect without source",
        ),
        ({"source": "timm:x", "pretrained": 1}, "pretrained", "1 is not true or false"),
    ],
)
def test_mistakes_in_the_registry(
    registry: Any, entry: dict[str, Any], key: str, problem: str
) -> None:
    file = registry(**entry)
    with pytest.raises(ModelError) as caught:
        list_models()
    start = f"in the registry file {file}, model 'mine', key '{key}': {problem}"
    assert str(caught.value).startswith(start)


def test_a_failing_source_of_the_registry_is_named(registry: Any) -> None:
    file = registry(source="torchvision:resnet51")
    with pytest.raises(ModelError) as caught:
        load_model("mine")
    assert str(caught.value).startswith(
        f"in the registry file {file}, model 'mine', key 'source': torchvision has no "
        "classification network 'resnet51'; did you mean 'resnet50'?"
    )


# -- what is not installed -------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "package", "extra"),
    [
        ("timm:x", "timm", "timm"),
        ("hf:x", "transformers", "transformers"),
        ("open_clip:RN50/openai", "open_clip_torch", "open-clip"),
        ("onnx:x.onnx", "onnx2torch", "onnx"),
    ],
)
def test_missing_libraries_are_named(
    source: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == package.removesuffix("_torch"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, package, raising=False)
    with pytest.raises(ModelError) as caught:
        load_model(source)
    assert str(caught.value).endswith(
        f"need the package {package}; install it with "
        f"`pip install 'fiftyone-sfam[{extra}]'`."
    )


# -- the gate --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["timm:test_resnet", "hf:google/vit", "hub:a/b:c", "onnx:/etc/passwd"]
)
def test_a_source_is_not_a_name(name: str, registry: Any) -> None:
    file = registry(source="timm:test_resnet", pretrained=False)
    for look_up in (known_name, load_named):
        with pytest.raises(ModelError) as caught:
            look_up(name)
        assert str(caught.value) == (
            f"there is no model '{name}' in {file}. A source is loaded only where it "
            "is given in Python or on the command line, not from a form or a stored "
            "run: give it as the model, or ask the owner of this machine to register "
            "it."
        )
    assert known_name("mine") == "mine"
    assert known_name("demo") == "demo"
    assert known_name("resnet18-imagenet-torch") == "resnet18-imagenet-torch"


def test_a_registered_name_that_looks_like_a_source_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"source": "timm:test_resnet", "pretrained": False, "size": [8, 8]}
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": {"timm:vit_tiny_patch16_224": entry}}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))
    model = load_model(known_name("timm:vit_tiny_patch16_224"))
    assert type(model.network).__name__ == "ResNet"
