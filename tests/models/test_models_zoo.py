"""FiftyOne's torch image models give the embeddings that FiftyOne gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
import torch
from fiftyone.utils.torch import TorchImageModel, TorchImageModelConfig
from PIL import Image, ImageDraw
from torch import nn
from torchvision.models import ResNet, ResNet18_Weights
from torchvision.models.resnet import BasicBlock

from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models import list_models, load_model
from fiftyone_sfam.models.zoo import from_fiftyone_model
from fiftyone_sfam.network.layers import tapped

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def small_resnet() -> ResNet:
    return ResNet(BasicBlock, [1, 1, 1, 1])


RESNET18 = {
    "entrypoint_fcn": "torchvision.models.resnet.resnet18",
    "entrypoint_args": {"weights": None},
}
NORMALIZATION = {"image_mean": MEAN, "image_std": STD}
RESNET = {"entrypoint_fcn": small_resnet, **NORMALIZATION}


def wrapper(**options: Any) -> TorchImageModel:
    torch.manual_seed(0)
    return TorchImageModel(
        TorchImageModelConfig({**RESNET, **options, "device": "cpu"})
    )


def picture(seed: int, size: tuple[int, int] = (90, 130)) -> Image.Image:
    """Random rectangles on a noisy ground."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 90, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        color = tuple(int(v) for v in rng.integers(0, 256, 3))
        draw.rectangle((x, y, x + 30, y + 40), fill=color)
    return image


@pytest.mark.parametrize(
    "options",
    [
        {**RESNET18, "embeddings_layer": "avgpool", "image_size": [64, 96]},
        {"embeddings_layer": "<fc", "image_min_dim": 48, "image_max_dim": 2048},
        {"embeddings_layer": "fc", "image_dim": 48},
        {"embeddings_layer": "avgpool", "image_patch_size": 32},
        {"as_feature_extractor": True, "image_size": [64, 64]},
        {
            "embeddings_layer": "<fc",
            "image_mean": None,
            "image_std": None,
            "transforms_fcn": ResNet18_Weights.DEFAULT.transforms,
            "transforms_args": {"crop_size": 64, "resize_size": 80},
        },
    ],
    ids=lambda options: str(options.get("embeddings_layer")),
)
def test_embeddings_are_fiftyones(options: dict[str, Any]) -> None:
    theirs = wrapper(**options)
    ours = from_fiftyone_model(theirs)
    for seed in range(2):
        image = picture(seed, (60, 80))
        expected = torch.tensor(np.asarray(theirs.embed(image)).reshape(-1)).float()
        found = ours.embed(ours.prepare(image)[None])[0]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        head = ours.linearize(ours.prepare(image)[None])
        torch.testing.assert_close(head.embedding[0], expected, rtol=1e-5, atol=1e-5)
    assert ours.layer == "layer4"
    assert head.feature_map.shape[1] == 512


def test_embeddings_of_a_dataset(
    make_dataset: Callable[..., fo.Dataset], tmp_path: Path
) -> None:
    dataset = make_dataset()
    for seed in range(3):
        file = tmp_path / f"{seed}.png"
        picture(seed, (70 + 10 * seed, 120)).save(file)
        dataset.add_sample(fo.Sample(str(file)))
    theirs = wrapper(embeddings_layer="<fc", image_min_dim=64)
    stored = dataset.compute_embeddings(theirs, batch_size=1, num_workers=0)
    ours = from_fiftyone_model(theirs)
    for sample, expected in zip(dataset, stored, strict=True):
        with Image.open(sample.filepath) as image:
            found = ours.embed(ours.prepare(image)[None])[0].numpy()
        np.testing.assert_allclose(found, np.ravel(expected), rtol=1e-5, atol=1e-5)


def test_maps_lie_on_the_crop() -> None:
    preset = from_fiftyone_model(
        wrapper(
            embeddings_layer="avgpool",
            image_mean=None,
            image_std=None,
            transforms_fcn=ResNet18_Weights.DEFAULT.transforms,
            transforms_args={"crop_size": 48, "resize_size": 64},
        )
    )
    assert preset.crop_box(200, 100) == (62.5, 12.5, 137.5, 87.5)
    whole = from_fiftyone_model(wrapper(embeddings_layer="avgpool", image_min_dim=224))
    assert whole.crop_box(200, 100) == (0, 0, 200, 100)


def test_the_wrapper_stays_usable() -> None:
    theirs = wrapper(embeddings_layer="<fc", image_size=[64, 64])
    network = theirs._model
    before = theirs.embed(picture(0))
    hooks = {name: len(m._forward_hooks) for name, m in network.named_modules()}
    names = [name for name, _ in network.named_modules()]
    ours = from_fiftyone_model(theirs)
    ours.linearize(ours.prepare(picture(1))[None])
    assert [name for name, _ in network.named_modules()] == names
    assert hooks == {n: len(m._forward_hooks) for n, m in network.named_modules()}
    assert all(parameter.requires_grad for parameter in network.parameters())
    np.testing.assert_array_equal(theirs.embed(picture(0)), before)


# --------------------------------------------------------------------------------------
# Taps
# --------------------------------------------------------------------------------------


def test_tapped_network_shares_parameters_and_leaves_the_original() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.Flatten(),
        nn.Sequential(nn.ReLU(), nn.Linear(16, 3), nn.Linear(3, 2)),
    ).eval()
    images = torch.randn(2, 3, 2, 2)
    copy, name = tapped(network, "<2.1")
    assert name == "2.1.input"
    caught: list[torch.Tensor] = []
    copy.get_submodule(name).register_forward_hook(lambda _m, _i, o: caught.append(o))
    assert torch.equal(copy(images), network(images))
    assert len(caught) == 1
    assert torch.equal(caught[0], torch.relu(network[0](images).flatten(1)))
    assert {id(p) for p in copy.parameters()} == {id(p) for p in network.parameters()}
    assert isinstance(network[2][1], nn.Linear)
    assert tapped(network, "2.1") == (network, "2.1")
    assert tapped(network, None) == (network, None)
    for wrong in ("<2.9", "<", "fc"):
        with pytest.raises(ModelError, match="the network Sequential has no layer"):
            tapped(network, wrong)


# --------------------------------------------------------------------------------------
# What is refused
# --------------------------------------------------------------------------------------


def small_transformer() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 16, 1, 2, 8, 16)


class OwnPass(TorchImageModel):
    def _forward_pass(self, imgs: Any) -> Any:
        return self._model(imgs * 2)


def test_what_is_not_a_plain_convolutional_embedder_is_refused() -> None:
    with pytest.raises(ModelError, match="exposes no embeddings; load it with embed"):
        from_fiftyone_model(wrapper(image_size=[64, 64]))
    with pytest.raises(ModelError, match="is ResNet, not a TorchImageModel; supported"):
        from_fiftyone_model(small_resnet())
    with pytest.raises(ModelError, match="in its own way; supported"):
        from_fiftyone_model(wrapper(embeddings_layer="avgpool", raw_inputs=True))
    config = TorchImageModelConfig({**RESNET, "embeddings_layer": "avgpool"})
    with pytest.raises(ModelError, match="OwnPass computes its embeddings in its own"):
        from_fiftyone_model(OwnPass(config))
    transformer = wrapper(
        entrypoint_fcn=small_transformer, entrypoint_args={}, embeddings_layer="<heads"
    )
    with pytest.raises(ModelError, match=r"holds a transformer, .* supported are"):
        from_fiftyone_model(transformer)


# --------------------------------------------------------------------------------------
# By name
# --------------------------------------------------------------------------------------


def manifest_entry(name: str, **config: Any) -> dict[str, Any]:
    return {
        "base_name": name,
        "base_filename": f"{name}.pth",
        "description": f"the {name}",
        "default_deployment_config_dict": {
            "type": "fiftyone.zoo.models.torch.TorchvisionImageModel",
            "config": {
                **RESNET18,
                **NORMALIZATION,
                "image_size": [64, 64],
                "model_path": "not read, because the weights are random",
                **config,
            },
        },
        "tags": ["torch"],
        "date_added": "2024-01-01 00:00:00",
    }


@pytest.fixture
def own_zoo(tmp_path: Path) -> Iterator[None]:
    """A manifest of the owner's, with networks that need no download."""
    detector = manifest_entry("own-detector", embeddings_layer="<fc")
    detector["default_deployment_config_dict"]["type"] = "some.package.Detector"
    transformer = manifest_entry("own-transformer", embeddings_layer="<fc")
    transformer["tags"].append("transformer")
    file = tmp_path / "manifest.json"
    models = [
        manifest_entry("own-resnet", embeddings_layer="<fc"),
        manifest_entry("own-classifier"),
        manifest_entry("own-broken", embeddings_layer="no-such-layer"),
        detector,
        transformer,
    ]
    file.write_text(json.dumps({"models": models}))
    before = fo.config.model_zoo_manifest_paths
    fo.config.model_zoo_manifest_paths = [str(file)]
    yield
    fo.config.model_zoo_manifest_paths = before


@pytest.mark.usefixtures("own_zoo")
def test_zoo_models_by_name() -> None:
    import fiftyone.zoo as foz

    # Only the same, cached network can give the same embeddings: weights are random.
    theirs = foz.load_zoo_model("own-resnet", device="cpu")
    model = load_model("own-resnet", device="cpu")
    assert model.name == "own-resnet"
    assert next(theirs._model.parameters()) is next(model.network.parameters())
    found = model.embed(model.prepare(picture(0))[None])[0].numpy()
    np.testing.assert_allclose(found, theirs.embed(picture(0)), rtol=1e-5, atol=1e-5)
    assert load_model("own-resnet", layer="layer3", device="cpu").layer == "layer3"


@pytest.mark.usefixtures("own_zoo")
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("own-classifier", "it exposes no embeddings; supported are the zoo's torch"),
        ("own-detector", "it is not a plain torch image model; supported are"),
        ("own-transformer", "it is a transformer"),
        ("own-broken", "FiftyOne could not load the zoo model 'own-broken' .Value"),
        ("clip-vit-base32-torch", "it is not a plain torch image model"),
        ("dinov2-vits14-torch", "it is a transformer"),
        ("faster-rcnn-resnet50-fpn-coco-torch", "it exposes no embeddings"),
    ],
)
def test_zoo_models_that_cannot_be_explained(name: str, problem: str) -> None:
    assert name not in [m.name for m in list_models()] or name == "own-broken"
    with pytest.raises(ModelError, match=problem):
        load_model(name)


@pytest.mark.usefixtures("own_zoo")
def test_listing() -> None:
    models = {info.name: info for info in list_models()}
    assert [info.name for info in list_models()][:2] == ["demo", "dlib-face"]
    assert models["dlib-face"].metric == "euclidean"
    assert models["own-resnet"].source == "zoo"
    assert models["own-resnet"].description == "the own-resnet"
    assert models["resnet50-imagenet-torch"].metric == "cosine"
    assert {"densenet121-imagenet-torch", "vgg16-imagenet-torch"} <= set(models)
    assert not [name for name in models if "clip" in name or "vit" in name]


def test_addresses_are_only_compared() -> None:
    for name in ("https://example.invalid/a/b", "a/b", "../x.json", "os:system", ""):
        with pytest.raises(ModelError, match="there is no model"):
            load_model(name)
