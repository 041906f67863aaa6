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
from fiftyone_sfam.models.fiftyone_models import from_fiftyone_model
from fiftyone_sfam.models.zoo import REASONS, why_not, zoo_models
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


class OwnPass(TorchImageModel):
    def _forward_pass(self, imgs: Any) -> Any:
        return self._model(imgs * 2)


class OwnEmbeddings(TorchImageModel):
    def embed_all(self, args: Any) -> Any:
        return super().embed_all(args) * 2


@pytest.mark.parametrize(
    "options",
    [
        {"embeddings_layer": "<fc"},
        {"embeddings_layer": "avgpool"},
        {"as_feature_extractor": True},
    ],
    ids=str,
)
def test_a_forward_pass_of_its_own_is_run(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = TorchImageModelConfig(
        {
            **RESNET18,
            **NORMALIZATION,
            "image_size": [64, 64],
            "device": "cpu",
            **options,
        }
    )
    theirs = OwnPass(config)
    ours = from_fiftyone_model(theirs)
    expected = np.ravel(theirs.embed(picture(0)))
    images = ours.prepare(picture(0))[None]
    np.testing.assert_allclose(ours.embed(images)[0], expected, rtol=1e-5, atol=1e-5)
    other = ours.embed(images / 2)[0].numpy()
    assert np.abs(other - expected).max() > 0.01 * np.abs(expected).max()
    assert ours.find_layer(images).name == "network.layer4"


def test_what_does_not_embed_images_is_refused() -> None:
    with pytest.raises(ModelError, match="exposes no embeddings; load it with embed"):
        from_fiftyone_model(wrapper(image_size=[64, 64]))
    with pytest.raises(ModelError, match="is ResNet, not a TorchImageModel; supported"):
        from_fiftyone_model(small_resnet())
    with pytest.raises(ModelError, match=r"in its own way \(raw_inputs\); supp"):
        from_fiftyone_model(wrapper(embeddings_layer="avgpool", raw_inputs=True))
    config = TorchImageModelConfig({**RESNET, "embeddings_layer": "avgpool"})
    with pytest.raises(
        ModelError, match=r"OwnEmbeddings computes .* way \(embed_all\)"
    ):
        from_fiftyone_model(OwnEmbeddings(config))
    half = wrapper(embeddings_layer="avgpool")
    half._model.to(torch.bfloat16)
    with pytest.raises(ModelError, match="runs in half precision"):
        from_fiftyone_model(half)


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
    newer = manifest_entry("own-newer", embeddings_layer="<fc")
    newer["default_deployment_config_dict"]["type"] = "fiftyone.utils.newer.Newer"
    newer["tags"].append("embeddings")
    file = tmp_path / "manifest.json"
    models = [
        manifest_entry("own-resnet", embeddings_layer="<fc"),
        manifest_entry("own-classifier"),
        manifest_entry("own-broken", embeddings_layer="no-such-layer"),
        detector,
        newer,
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
        ("own-detector", "its class 'some.package.Detector' is not one of FiftyOne's"),
        ("own-newer", "it is not known how its class 'Newer' computes embeddings"),
        ("own-broken", "FiftyOne could not load the zoo model 'own-broken' .Value"),
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
    assert {"clip-vit-base32-torch", "swin-v2-tiny-torch"} <= set(models)
    # Their code would be downloaded, which the App must not do.
    assert not [name for name in models if "dinov2" in name]


# Classes of the zoo's models with embeddings: how many are explained at least, and why
# the others are not.
EXPLAINED = {
    "TorchvisionImageModel": 29,
    "TorchImageModel": 8,
    "TorchCLIPModel": 1,
    "TorchOpenClipModel": 1,
    "PEVisionEncoder": 2,
    "FiftyOneTransformer": 4,
    "FiftyOneTransformerForImageClassification": 19,
    "FiftyOneZeroShotTransformerForImageClassification": 5,
}
REFUSED = {
    "ETAModel": "it runs in TensorFlow",
    "FiftyOneTransformerForObjectDetection": "it detects objects",
    "FiftyOneTransformerForSemanticSegmentation": "it labels pixels",
    "FiftyOneZeroShotTransformerForObjectDetection": "it detects the objects that",
    "FiftyOneZeroShotTransformerForSemanticSegmentation": "it assigns each patch to",
    "Qwen3VLModel": "its embedding is computed by a language model",
    "TwelveLabsModel": "a service computes its embeddings",
}


def test_every_entry_of_the_zoo_is_explained_or_refused_with_a_reason() -> None:
    explained: dict[str, list[str]] = {}
    for entry in zoo_models():
        kind = entry.default_deployment_config_dict["type"].rpartition(".")[2]
        reason = why_not(entry)
        has_embeddings = "embeddings" in entry.tags
        if reason is None:
            assert has_embeddings, entry.name
            explained.setdefault(kind, []).append(entry.name)
        elif has_embeddings:
            assert reason.startswith(REFUSED[kind]), entry.name
        else:
            # Nothing is refused as "not known" in the manifests of this FiftyOne.
            known = reason == "it exposes no embeddings" or kind in REASONS
            assert known or reason.startswith("it runs in TensorFlow"), entry.name
    # Later manifests may have more models of these classes.
    assert set(explained) == set(EXPLAINED)
    assert all(len(explained[kind]) >= count for kind, count in EXPLAINED.items())
    families = {
        "FiftyOneTransformer": ["dinov3"],
        "TorchImageModel": ["dinov2"],
        "FiftyOneTransformerForImageClassification": [
            "classification-transformer",
            "convnext",
            "efficientnet",
            "swin-v2",
            "vit-",
        ],
    }
    for kind, prefixes in families.items():
        for name in explained[kind]:
            assert name.startswith(tuple(prefixes))


def test_addresses_are_only_compared() -> None:
    for name in ("https://example.invalid/a/b", "a/b", "../x.json", "os:system", ""):
        with pytest.raises(ModelError, match="there is no model"):
            load_model(name)
