"""transformers, open_clip and torch.hub in one line, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedModel,
    ResNetConfig,
    SiglipConfig,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from fiftyone_sfam.errors import ModelError, SfamWarning
from fiftyone_sfam.models import load_model
from fiftyone_sfam.network.preprocess import Preprocessing

BLOCKS = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VIT = {**BLOCKS, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
TEXT = {**BLOCKS, "intermediate_size": 64, "vocab_size": 50}


def image(width: int = 50, height: int = 80) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


# -- transformers ----------------------------------------------------------------------


def saved(folder: Path, config: Any, model: PreTrainedModel | None = None) -> Any:
    """Save a configuration, and a model's random weights if it is given."""
    config.save_pretrained(folder)
    if model is not None:
        model.save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return folder


def test_the_image_processor_is_the_preprocessing(tmp_path: Path) -> None:
    saved(tmp_path / "dino", Dinov2Config(**VIT))
    model = load_model(f"hf:{tmp_path / 'dino'}", pretrained=False)
    assert model.name == "hf:dino"
    processor = CLIPImageProcessor.from_pretrained(tmp_path / "dino")
    expected = processor(image(), return_tensors="pt")["pixel_values"][0]
    images = model.prepare(image())[None]
    torch.testing.assert_close(images[0], expected, atol=0, rtol=0)
    # 40 x 64, of which the central 32 x 32 are seen.
    assert model.crop_box(50, 80) == (5, 20, 45, 60)
    with torch.no_grad():
        pooled = model.network.model(images)["pooler_output"]
    torch.testing.assert_close(model.embed(images), pooled)


def test_weights_and_random_weights(tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained = Dinov2Model(Dinov2Config(**VIT)).eval()
    source = f"hf:{saved(tmp_path / 'dino', trained.config, trained)}"
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = trained(images).pooler_output
    loaded, random = load_model(source), load_model(source, pretrained=False)
    torch.testing.assert_close(loaded.embed(images), expected)
    assert (random.embed(images) - expected).abs().max() > 0.1
    # Checkpoints of one's own have the names of the model.
    file = tmp_path / "own.safetensors"
    save_file(trained.state_dict(), file)
    own = load_model(source, weights=file)
    torch.testing.assert_close(own.embed(images), expected)


@pytest.mark.parametrize(
    ("embedding", "of"),
    [
        (None, lambda output: output.pooler_output),
        ("pooler_output", lambda output: output.pooler_output),
        ("cls", lambda output: output.last_hidden_state[:, 0]),
        ("mean", lambda output: output.last_hidden_state.mean(1)),
    ],
)
def test_which_output_is_the_embedding(
    tmp_path: Path, embedding: str | None, of: Any
) -> None:
    source = f"hf:{saved(tmp_path, ViTConfig(**VIT))}"
    options = {} if embedding is None else {"embedding": embedding}
    model = load_model(source, pretrained=False, **options)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = of(model.network.model(images))
    torch.testing.assert_close(model.embed(images), expected)


def test_outputs_that_do_not_exist(tmp_path: Path) -> None:
    source = f"hf:{saved(tmp_path, ViTConfig(**VIT))}"
    model = load_model(source, pretrained=False, embedding="logits")
    with pytest.raises(ModelError, match="the output of ViTModel has no 'logits'; it "):
        model.embed(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ModelError, match="embedding is 1; a model of transformers has"):
        load_model(source, pretrained=False, embedding=1)


@pytest.mark.parametrize(
    ("config", "features"),
    [
        (CLIPConfig(vision_config=VIT, text_config=TEXT, projection_dim=16), 16),
        (SiglipConfig(vision_config=VIT, text_config=TEXT), 32),
        (ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]), 16),
    ],
    ids=["clip", "siglip", "resnet"],
)
def test_towers_of_images(tmp_path: Path, config: Any, features: int) -> None:
    model = load_model(f"hf:{saved(tmp_path, config)}", pretrained=False)
    images = model.prepare(image())[None]
    embeddings = model.embed(images)
    assert embeddings.shape == (1, features)
    if isinstance(model.network.model, CLIPModel):
        with torch.no_grad():
            output = model.network.model(
                pixel_values=images, input_ids=torch.ones(1, 3, dtype=torch.long)
            )
        unit = embeddings / embeddings.norm(dim=1, keepdim=True)
        torch.testing.assert_close(unit, output.image_embeds)


def test_a_pooling_layer_without_weights_is_not_used(tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained = ViTModel(ViTConfig(**VIT), add_pooling_layer=False).eval()
    source = f"hf:{saved(tmp_path, trained.config, trained)}"
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = trained(images).last_hidden_state[:, 0]
    torch.testing.assert_close(load_model(source).embed(images), expected)


def test_missing_weights_are_listed(tmp_path: Path) -> None:
    trained = Dinov2Model(Dinov2Config(**VIT))
    saved(tmp_path, trained.config, trained)
    state = trained.state_dict()
    del state["layernorm.weight"], state["layernorm.bias"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError) as caught:
        load_model(f"hf:{tmp_path}")
    assert str(caught.value) == (
        f"the checkpoint '{tmp_path}' lacks 2 weights of Dinov2Model (layernorm.bias, "
        "layernorm.weight); name those that may keep their initial values in "
        "allow_missing."
    )
    load_model(f"hf:{tmp_path}", allow_missing=["layernorm.*"])


def test_without_an_image_processor(tmp_path: Path) -> None:
    ViTConfig(**VIT).save_pretrained(tmp_path)
    with pytest.warns(
        SfamWarning, match="the mean and std of ImageNet are used; give mean and std"
    ) as caught:
        model = load_model(f"hf:{tmp_path}", pretrained=False)
    assert len([w for w in caught if w.category is SfamWarning]) == 1
    assert model.preprocess == Preprocessing((32, 32))


def test_size_mean_and_std(tmp_path: Path) -> None:
    ViTConfig(**VIT).save_pretrained(tmp_path)
    size = {"height": 32, "width": 32}
    ViTImageProcessor(size=size, resample=3).save_pretrained(tmp_path)
    source = f"hf:{tmp_path}"
    own = load_model(source, pretrained=False)
    stretched = load_model(source, pretrained=False, size=(32, 32))
    half = (0.5, 0.5, 0.5)
    assert stretched.preprocess == Preprocessing(
        (32, 32), mean=half, std=half, interpolation="bicubic"
    )
    # One antialiases pixels of 8 bits by Pillow, the other by torchvision.
    difference = own.prepare(image()) - stretched.prepare(image())
    assert difference.abs().max() < 0.05
    plain = load_model(source, pretrained=False, mean=(0, 0, 0), std=(1, 1, 1))
    torch.testing.assert_close(plain.prepare(image()) * 2 - 1, own.prepare(image()))


def test_names_that_transformers_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"transformers could not build '.*' \(\w+"):
        load_model(f"hf:{tmp_path}")


def test_models_of_texts_are_refused(tmp_path: Path) -> None:
    BertConfig(**TEXT).save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match="is a BertModel, which takes input_ids and no"
    ):
        load_model(f"hf:{tmp_path}", pretrained=False)


# -- open_clip -------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Register small architectures, as open_clip allows."""
    folder = tmp_path_factory.mktemp("clip")
    text = {"context_length": 4, "vocab_size": 9, "width": 16, "heads": 2, "layers": 1}
    for name, vision in (
        ("tiny-vit", {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8}),
        ("tiny-rn", {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8}),
    ):
        config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


@pytest.mark.parametrize("architecture", ["tiny-vit", "tiny-rn"])
def test_open_clip(architecture: str) -> None:
    torch.manual_seed(0)
    model = load_model(f"open_clip:{architecture}", pretrained=False)
    torch.manual_seed(0)
    clip, _, preprocess = open_clip.create_model_and_transforms(architecture)
    images = model.prepare(image())[None]
    torch.testing.assert_close(images[0], preprocess(image()), atol=0, rtol=0)
    # 32 x 51 pixels, of which rows 10 to 42 are seen.
    box = (0, 10 / 51 * 80, 50, 42 / 51 * 80)
    assert model.crop_box(50, 80) == pytest.approx(box)
    with torch.no_grad():
        expected = clip.eval().encode_image(images)
    torch.testing.assert_close(model.embed(images), expected)
    plain = load_model(
        f"open_clip:{architecture}", pretrained=False, mean=(0, 0, 0), std=(1, 1, 1)
    )
    assert plain.prepare(image()).min() >= 0
    assert plain.crop_box(50, 80) == pytest.approx(box)


def test_open_clip_at_another_size() -> None:
    model = load_model("open_clip:tiny-vit", pretrained=False, size=(64, 32))
    assert model.embed(model.prepare(image())[None]).shape == (1, 16)
    assert model.crop_box(50, 80) == (0, 0, 50, 80)


def test_names_and_tags_of_open_clip() -> None:
    with pytest.raises(ModelError) as caught:
        load_model("open_clip:RN50")
    assert str(caught.value) == (
        "'open_clip:RN50' names no weights; give open_clip:ARCH/TAG with one of the "
        "tags openai, yfcc15m, cc12m, or pretrained=False for random ones."
    )
    for name in ("RN50/none", "RN51/openai"):
        with pytest.raises(ModelError, match=rf"open_clip could not build '{name}' \("):
            load_model(f"open_clip:{name}")


# -- torch.hub -------------------------------------------------------------------------


HUBCONF = """
dependencies = ["torch"]
import timm
from torch import nn

def plain(pretrained=True, width=4):
    if pretrained:
        raise OSError("no network here")
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def with_config(pretrained=True):
    return timm.create_model("test_resnet", num_classes=0)

def a_list():
    return [1]
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HUBCONF)
    return folder


def test_a_local_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository.parent)
    with pytest.warns(SfamWarning) as caught:
        model = load_model("hub:repo:plain", pretrained=False, kwargs={"width": 7})
    assert [str(warning.message) for warning in caught] == [
        "model 'hub:repo:plain' does not say how its images are prepared: the mean and "
        "std of ImageNet and the size 224 x 224 are used; give mean, std and size."
    ]
    assert model.preprocess == Preprocessing((224, 224))
    options: Any = {"size": (16, 8), "mean": (0, 0, 0), "std": (1, 1, 1)}
    model = load_model(
        f"hub:{repository}:plain", pretrained=False, kwargs={"width": 7}, **options
    )
    assert model.name == "hub:repo:plain"
    assert model.embed(model.prepare(image())[None]).shape == (1, 7)


def test_a_network_of_timm_says_how_images_are_prepared(repository: Path) -> None:
    model = load_model(f"hub:{repository}:with_config")
    assert model.prepare(image()).shape == (3, 160, 160)


def test_mistakes_of_repositories(repository: Path) -> None:
    for entry, problem in (
        ("plain", r"torch\.hub could not build 'plain' of '.*' \(OSError: no network"),
        (
            "none",
            r"could not build 'none' of '.*' \(RuntimeError: Cannot find callable",
        ),
        ("a_list", r"returned list; a torch\.nn\.Module is needed"),
    ):
        with pytest.raises(ModelError, match=problem):
            load_model(f"hub:{repository}:{entry}")
    with pytest.raises(ModelError, match="'hub:owner/repo' names no entry; give hub:"):
        load_model("hub:owner/repo")
