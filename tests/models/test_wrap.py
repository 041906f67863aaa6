"""FiftyOne's models and bare networks, wherever a model is given."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import open_clip
import pytest
import timm
import torch
import transformers
from fiftyone.utils.torch import TorchImageModel, TorchImageModelConfig
from torch import nn
from torchvision.models import ResNet, resnet18
from torchvision.models.resnet import BasicBlock

import fiftyone_zoo as zoo
from fiftyone_sfam.attribution.pair import explain_contrast, explain_pair
from fiftyone_sfam.attribution.pair_path import explain_path
from fiftyone_sfam.audit.faithfulness.check import check_faithfulness
from fiftyone_sfam.audit.regions.causal import check_causally
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.errors import ModelError
from fiftyone_sfam.models.fiftyone_models import from_fiftyone_model
from fiftyone_sfam.models.wrap import as_model
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.pipeline.explain import explain_retrieval

IMAGES = [zoo.picture(seed) for seed in range(3)]


def fiftyone_resnet() -> TorchImageModel:
    torch.manual_seed(0)
    config = TorchImageModelConfig(
        {
            "model": ResNet(BasicBlock, [1, 1, 1, 1]).eval(),
            "embeddings_layer": "avgpool",
            "image_size": [64, 64],
            "device": "cpu",
        }
    )
    return TorchImageModel(config)


def timm_resnet() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("resnet18", pretrained=False)


@pytest.mark.parametrize("make", [fiftyone_resnet, timm_resnet])
def test_pairs_of_given_models(make: Callable[[], Any]) -> None:
    given = make()
    model = as_model(given)
    pair = explain_pair(given, *IMAGES[:2])
    expected = explain_pair(model, *IMAGES[:2])
    assert (pair.score, pair.model, pair.layer) == (
        expected.score,
        model.name,
        "layer4",
    )
    np.testing.assert_array_equal(pair.query.evidence, expected.query.evidence)
    side = explain_contrast(given, *IMAGES)
    assert side.score == pytest.approx(
        pair.score - explain_pair(given, IMAGES[0], IMAGES[2]).score, abs=1e-5
    )
    path, _ = explain_path(given, *IMAGES[:2], steps=1)
    assert path.path.sum() + path.remainder == pytest.approx(pair.score, abs=1e-4)


def test_runs_and_audits_of_given_models(
    make_dataset: Callable[..., fo.Dataset], tmp_path: Path
) -> None:
    dataset = make_dataset()
    for seed in range(4):
        file = tmp_path / f"{seed}.png"
        zoo.picture(seed).save(file)
        dataset.add_sample(fo.Sample(str(file), part=fo.Detections()))
    given = fiftyone_resnet()
    stored = dataset.compute_embeddings(given, batch_size=1, num_workers=0)
    run = explain_retrieval(dataset, given, k=1, kinds=("evidence",))
    np.testing.assert_allclose(
        run.embeddings(), np.reshape(stored, (4, -1)), rtol=1e-5, atol=1e-5
    )
    assert (run.config.model, run.config.layer) == ("ResNet", "layer4")
    result = check_faithfulness(run, given, 2, steps=2, save=False)
    assert len(result.queries) == 2
    with pytest.raises(ModelError, match="no model 'ResNet'"):
        check_faithfulness(run, pairs=2, steps=2, save=False)
    with pytest.raises(ModelError, match="weights"):
        check_faithfulness(run, timm_resnet(), 2, steps=2, save=False)
    ledger = build_ledger(run, "part")
    with pytest.raises(ModelError, match="weights"):
        check_causally(run, timm_resnet(), ledger=ledger)


# --------------------------------------------------------------------------------------
# Bare networks
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["resnet18", "convnext_atto", "vit_tiny_patch16_224", "mobilenetv3_small_050"],
)
def test_timm_networks_are_embedded_before_their_classifier(name: str) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    model = as_model(network)
    images = model.prepare(IMAGES[0])[None]
    with torch.no_grad():
        features = network.forward_features(images)
        expected = network.forward_head(features, pre_logits=True)
    torch.testing.assert_close(model.embed(images), expected, rtol=1e-4, atol=1e-5)
    transform = timm.data.create_transform(
        **timm.data.resolve_data_config({}, model=network)
    )
    assert torch.equal(images[0], transform(IMAGES[0]))


def test_timm_networks_without_a_classifier_are_run_as_they_are() -> None:
    network = timm.create_model("resnet18", pretrained=False, num_classes=0).eval()
    model = as_model(network)
    images = model.prepare(IMAGES[0])[None]
    with torch.no_grad():
        expected = network(images)
    torch.testing.assert_close(model.embed(images), expected, rtol=1e-4, atol=1e-5)
    distilled = timm.create_model("deit_tiny_distilled_patch16_224", pretrained=False)
    with pytest.raises(ModelError, match=r"has 2 classifiers, so .* reset_classifier"):
        as_model(distilled)


def test_open_clip_networks_are_their_image_encoder() -> None:
    torch.manual_seed(0)
    network, _, transform = open_clip.create_model_and_transforms("RN50-quickgelu")
    network.eval()
    model = as_model(network)
    images = model.prepare(IMAGES[0])[None]
    assert torch.equal(images[0], transform(IMAGES[0]))
    with torch.no_grad():
        expected = network.encode_image(images)
    torch.testing.assert_close(model.embed(images), expected, rtol=1e-4, atol=1e-5)
    del network.visual.preprocess_cfg
    with pytest.raises(ModelError, match=r"has no visual\.preprocess_cfg to"):
        as_model(network)


def test_transformers_networks_are_converted_as_fiftyone_does(tmp_path: Path) -> None:
    folder = zoo.convnext(tmp_path)[1]["name_or_path"]
    network = transformers.ConvNextModel.from_pretrained(folder)
    model = as_model(network)
    images = model.prepare(IMAGES[0])[None]
    with torch.no_grad():
        expected = network.eval()(images).pooler_output
    torch.testing.assert_close(model.embed(images), expected, rtol=1e-4, atol=1e-5)
    assert model.name == "ConvNextModel"


class Own(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Own, r"the preprocessing of Own is not known, .* Preprocessing\(size=\("),
        (resnet18, r"ResNet of torchvision does not say .* weights.transforms\(\), em"),
        (
            lambda: transformers.ViTModel(transformers.ViTConfig(**zoo.VIT)),
            r"the image processor of ViTModel cannot be read from '' .* Preprocessing",
        ),
        (object, "object is not a model; give the name of one, an EmbeddingModel, a"),
        (lambda: 5, "int is not a model; give"),
        (lambda: "no-such-model", "there is no model 'no-such-model'"),
        (fo.core.models.Model, "the FiftyOne model is Model, not a TorchImageModel"),
    ],
)
def test_what_is_missing_is_said(given: Callable[[], Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        explain_pair(given(), *IMAGES[:2])


def test_models_are_taken_as_they_are() -> None:
    model = EmbeddingModel(Own(), Preprocessing(size=(8, 8)))
    assert as_model(model) is model
    assert as_model("demo").name == "demo"
    data_parallel = nn.DataParallel(timm_resnet())
    assert as_model(data_parallel).name == "ResNet"


def test_the_name_of_a_fiftyone_model(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = zoo.load(zoo.vit(tmp_path))
    assert from_fiftyone_model(theirs).name == "ViTForImageClassification"
    theirs.config.model_name = "vit-base-patch16-224-imagenet-torch"
    assert as_model(theirs).name == "vit-base-patch16-224-imagenet-torch"
    assert from_fiftyone_model(theirs, name="mine").name == "mine"
