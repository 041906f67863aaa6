"""The recipes of the page "Your model", taken from the page and run.

Networks have random weights. Libraries that are not installed here (torchreid,
fast-reid, TransReID, CLIP-ReID, SOLIDER, AGW, insightface, AdaFace, facenet-pytorch)
are stood in for by the modules in tests/models/stand_ins.py, with the same names,
arguments, range of the input and form of the output. Repositories on the hubs of torch
and Hugging Face are folders of the same names; for MegaDescriptor, the network of timm
that its configuration names is built.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn
from transformers import BitImageProcessor, Dinov2Config

from fiftyone_sfam.models import load_model
from fiftyone_sfam.models.sources import FORMS, parse_source
from fiftyone_sfam.network.embedder import EmbeddingModel
from paths import ROOT
from stand_ins import NAMES, SMALL, STAND_INS

PAGE = (ROOT / "docs" / "models.md").read_text("utf-8")
RED = Image.new("RGB", (32, 48), (255, 0, 0))


def recipes() -> dict[str, tuple[str, str]]:
    """Return the language and the code of each recipe by its heading."""
    part = PAGE.split("\n## Recipes\n")[1].split("\n## ")[0]
    sections = re.split(r"^### (.+)$", part, flags=re.MULTILINE)[1:]
    blocks = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    found = {}
    for name, text in zip(sections[::2], sections[1::2], strict=True):
        [block] = blocks.findall(text)
        found[name] = block
    return found


RECIPES = recipes()


def _stand_in_modules() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in NAMES]


@pytest.fixture
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A folder with the stand-ins of a recipe, from which they are imported."""
    for path, code in STAND_INS.get(request.param, {}).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        "transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache")
    )
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(tmp_path / "models.json"))
    for name in _stand_in_modules():
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in _stand_in_modules():
        del sys.modules[name]


def registered(name: str, **changes: Any) -> dict[str, EmbeddingModel]:
    """Load the entries of a recipe, with random weights."""
    language, code = RECIPES[name]
    assert language == "json"
    entries = json.loads(code)
    for entry in entries.values():
        # An ONNX file has its weights; others have those that the test has saved.
        if "source" in entry and not entry["source"].startswith("onnx:"):
            if "weights" not in entry:
                entry["pretrained"] = False
            entry.update(changes)
    Path("models.json").write_text(json.dumps({"models": entries}))
    return {entry: load_model(entry) for entry in entries}


def executed(name: str) -> EmbeddingModel:
    """Run the lines of a recipe, which name the model ``model``."""
    language, code = RECIPES[name]
    assert language == "python"
    names: dict[str, Any] = {}
    exec(compile(code, f"{name} in models.md", "exec"), names)
    return names["model"]


def embedded(model: EmbeddingModel) -> torch.Tensor:
    """Embed a red and a blue image."""
    blue = Image.new("RGB", (32, 48), (0, 0, 255))
    embeddings = model.embed(torch.stack([model.prepare(RED), model.prepare(blue)]))
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-4
    return embeddings


def red(model: EmbeddingModel) -> list[float]:
    """Return what the network sees of a red image."""
    return [round(value, 3) for value in model.prepare(RED)[:, 0, 0].tolist()]


def small(features: int) -> nn.Module:
    """Build the network that the stand-ins are made of, with statistics in it."""
    names: dict[str, Any] = {}
    exec(SMALL, names)
    torch.manual_seed(0)
    network: nn.Module = names["Small"](features)
    network.bottleneck.running_mean.uniform_(-1, 1)
    return network


def neck(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the pooled features of such a network after batch normalization."""
    with torch.no_grad():
        return network.eval().bottleneck(network.pooled(images))


IMAGENET = [2.249, -2.036, -1.804]
HALF = [1, -1, -1]

recipe = pytest.mark.parametrize


def test_every_recipe_is_run() -> None:
    tested = {
        argument
        for value in globals().values()
        for mark in getattr(value, "pytestmark", ())
        if mark.name == "parametrize" and mark.args[0] == "folder"
        for argument in mark.args[1]
    }
    assert set(RECIPES) == tested
    assert len(tested) == 18


def test_the_table_of_sources() -> None:
    part = PAGE.split("\n## In one line\n")[1].split("\n## ")[0]
    sources = [
        source
        for row in re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)
        for source in re.findall(r"`(.*?)`", row)
    ]
    assert len(sources) == 10
    assert {parse_source(source).library for source in sources} == set(FORMS)
    extras = set(re.findall(r"\| `([\w-]+)` \|$", part, re.MULTILINE))
    assert extras == {"timm", "transformers", "open-clip", "onnx"}


@recipe("folder", ["timm"], indirect=True)
def test_timm(folder: Path) -> None:
    [model] = registered("timm").values()
    assert model.prepare(RED).shape == (3, 256, 128)
    assert embedded(model).shape == (2, 384)
    assert red(model) == HALF


@recipe("folder", ["torchvision"], indirect=True)
def test_torchvision(folder: Path) -> None:
    [model] = registered("torchvision").values()
    assert embedded(model).shape == (2, 2048)
    assert model.layer == "layer4"
    assert red(model) == IMAGENET


@recipe("folder", ["transformers"], indirect=True)
def test_transformers(folder: Path) -> None:
    place = folder / "facebook" / "dinov2-small"
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    Dinov2Config(**sizes, image_size=28, patch_size=14).save_pretrained(place)
    BitImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(place)
    [model] = registered("transformers").values()
    embeddings = embedded(model)
    with torch.no_grad():
        output = model.network.model(model.prepare(RED)[None])
    torch.testing.assert_close(embeddings[:1], output.last_hidden_state[:, 0])


@recipe("folder", ["open_clip"], indirect=True)
def test_open_clip(folder: Path) -> None:
    [model] = registered("open_clip").values()
    assert embedded(model).shape == (2, 512)
    assert model.prepare(RED).shape == (3, 224, 224)


@recipe("folder", ["torch.hub"], indirect=True)
def test_hub(folder: Path) -> None:
    [model] = registered("torch.hub").values()
    assert embedded(model).shape == (2, 96)
    assert model.prepare(RED).shape == (3, 224, 224)
    assert red(model) == IMAGENET


def write_onnx(file: Path, size: tuple[int, int], features: int) -> None:
    """Write a convolution and average pooling whose Reshape fixes the batch at one."""
    random = np.random.default_rng(0)
    weight = random.normal(size=(features, 3, 4, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv", strides=[4, 4]),
            helper.make_node("Relu", ["c"], ["r"], "relu"),
            helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
            helper.make_node("Reshape", ["p", "shape"], ["y"], "reshape"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, *size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, features])],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.array([1, -1]), "shape"),
        ],
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), file)


@recipe("folder", ["ONNX"], indirect=True)
def test_onnx(folder: Path) -> None:
    write_onnx(folder / "reid.onnx", (64, 32), 6)
    [model] = registered("ONNX").values()
    assert model.prepare(RED).shape == (3, 64, 32)
    assert embedded(model).shape == (2, 6)
    assert red(model) == IMAGENET


@recipe("folder", ["torchreid"], indirect=True)
def test_torchreid(folder: Path) -> None:
    """Stand-in: features in evaluation; checkpoints with numpy numbers beside them."""
    trained = small(512)
    trained.classifier = nn.Linear(512, 751)
    file = folder / "log" / "osnet_x1_0" / "model.pth.tar-60"
    file.parent.mkdir(parents=True)
    state = {f"module.{name}": value for name, value in trained.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 60, "rank1": np.float64(0.9)}, file)
    [model] = registered("torchreid").values()
    embeddings = embedded(model)
    images = model.prepare(RED)[None]
    assert images.shape == (1, 3, 256, 128)
    assert red(model) == IMAGENET
    torch.testing.assert_close(embeddings[:1], neck(trained, images))


@recipe("folder", ["fast-reid"], indirect=True)
def test_fast_reid(folder: Path) -> None:
    """Stand-in: pixels from 0 to 255, normalized in place inside the network."""
    trained = small(8)
    torch.save({"model": trained.state_dict()}, "market_bot_R50.pth")
    (folder / "configs" / "Market1501").mkdir(parents=True)
    (folder / "configs" / "Market1501" / "bagtricks_R50.yml").write_text("MODEL:")
    model = executed("fast-reid")
    assert model.name == "fast-reid"
    images = model.prepare(RED)[None]
    assert images.shape == (1, 3, 256, 128)
    assert red(model) == [255, 0, 0]
    normalized = torch.tensor(IMAGENET).view(1, 3, 1, 1).expand(1, 3, 256, 128)
    torch.testing.assert_close(
        model.embed(images), neck(trained, normalized), atol=1e-3, rtol=1e-3
    )


def of_transreid(
    folder: Path, name: str, config: str, weights: str
) -> tuple[EmbeddingModel, nn.Module, torch.Tensor]:
    """Run a recipe of TransReID's kin; return the trained network and an image."""
    trained = small(8)
    state = {f"module.{name}": value for name, value in trained.state_dict().items()}
    torch.save(state, weights)
    (folder / config).parent.mkdir(parents=True)
    (folder / config).write_text("MODEL:")
    model = executed(name)
    assert model.name == name.lower()
    assert red(model) == HALF
    return model, trained.eval(), model.prepare(RED)[None]


@recipe("folder", ["TransReID"], indirect=True)
def test_transreid(folder: Path) -> None:
    """Stand-in: ``make_model`` and ``load_param`` of its repository."""
    config = "configs/Market/vit_base.yml"
    model, trained, images = of_transreid(
        folder, "TransReID", config, "transformer_120.pth"
    )
    assert images.shape == (1, 3, 256, 128)
    torch.testing.assert_close(model.embed(images), neck(trained, images))


@recipe("folder", ["CLIP-ReID"], indirect=True)
def test_clip_reid(folder: Path) -> None:
    """Stand-in: two features, one after the other."""
    config = "configs/person/vit_clipreid.yml"
    model, trained, images = of_transreid(
        folder, "CLIP-ReID", config, "ViT-B-16_60.pth"
    )
    assert images.shape == (1, 3, 256, 128)
    embeddings = model.embed(images)
    assert embeddings.shape == (1, 16)
    torch.testing.assert_close(embeddings[:, 8:], neck(trained, images))


@recipe("folder", ["SOLIDER"], indirect=True)
def test_solider(folder: Path) -> None:
    """Stand-in: the embedding and feature maps."""
    config = "configs/market/swin_base.yml"
    model, trained, images = of_transreid(
        folder, "SOLIDER", config, "transformer_120.pth"
    )
    assert images.shape == (1, 3, 384, 128)
    torch.testing.assert_close(model.embed(images), neck(trained, images))


@recipe("folder", ["AGW"], indirect=True)
def test_agw(folder: Path) -> None:
    """Stand-in: the arguments of ``Baseline``, features in evaluation."""
    trained = small(8)
    trained.classifier = nn.Linear(8, 751, bias=False)
    torch.save(trained.state_dict(), "agw_market.pth")
    [model] = registered("AGW").values()
    images = model.prepare(RED)[None]
    assert images.shape == (1, 3, 256, 128)
    assert red(model) == IMAGENET
    torch.testing.assert_close(model.embed(images), neck(trained, images))


@recipe("folder", ["insightface"], indirect=True)
def test_insightface(folder: Path) -> None:
    """Stand-in: 512 numbers after a linear layer and batch normalization."""
    trained = small(8)
    trained.fc = nn.Linear(8 * 28 * 28, 512)
    trained.features = nn.BatchNorm1d(512)
    torch.save(trained.state_dict(), "backbone.pth")
    write_onnx(folder / "buffalo_l" / "w600k_r50.onnx", (112, 112), 512)
    models = registered("insightface")
    assert list(models) == ["iresnet50", "buffalo_l"]
    for model in models.values():
        assert model.prepare(RED).shape == (3, 112, 112)
        assert red(model) == HALF
        assert embedded(model).shape == (2, 512)


@recipe("folder", ["AdaFace"], indirect=True)
def test_adaface(folder: Path) -> None:
    """Stand-in: BGR, the normalized embedding and its length; weights of a head."""
    trained = small(16)
    state = {f"model.{name}": value for name, value in trained.state_dict().items()}
    content = {"state_dict": state | {"head.kernel": torch.ones(2)}, "epoch": 25}
    torch.save(content, "adaface_ir50.pth")
    with pytest.warns(match="does not use 1 weight of adaface_ir50"):
        [model] = registered("AdaFace").values()
    images = model.prepare(RED)[None]
    assert red(model) == [-1, -1, 1]
    expected = nn.functional.normalize(neck(trained, images))
    torch.testing.assert_close(model.embed(images), expected)


@recipe("folder", ["facenet-pytorch"], indirect=True)
def test_facenet(folder: Path) -> None:
    """Stand-in: 160 x 160 pixels as (x - 127.5) / 128, embeddings of length one."""
    [model] = registered("facenet-pytorch").values()
    assert model.prepare(RED).shape == (3, 160, 160)
    assert red(model) == [0.996, -0.996, -0.996]
    embeddings = embedded(model)
    assert embeddings.shape == (2, 512)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


@recipe("folder", ["EdgeFace"], indirect=True)
def test_edgeface(folder: Path) -> None:
    """A folder stands in for its repository; the other entry is the real network."""
    trained = timm.create_model("edgenext_x_small", num_classes=512).eval()
    torch.save(trained.state_dict(), "edgeface_xs.pth")
    models = registered("EdgeFace")
    for model in models.values():
        assert model.prepare(RED).shape == (3, 112, 112)
        assert red(model) == HALF
        assert embedded(model).shape == (2, 512)
    model = models["edgeface-timm"]
    images = model.prepare(RED)[None]
    with torch.no_grad():
        torch.testing.assert_close(model.embed(images), trained(images))


@recipe("folder", ["MegaDescriptor"], indirect=True)
def test_megadescriptor(folder: Path) -> None:
    """The Swin transformer of timm that its configuration names."""
    source = "timm:swin_tiny_patch4_window7_224"
    [model] = registered("MegaDescriptor", source=source).values()
    assert model.prepare(RED).shape == (3, 224, 224)
    assert model.crop_box(32, 48) == (0, 0, 32, 48)
    assert embedded(model).shape == (2, 768)


@recipe("folder", ["MiewID"], indirect=True)
def test_miewid(folder: Path) -> None:
    """A folder with code stands in for its repository."""
    [model] = registered("MiewID").values()
    assert model.prepare(RED).shape == (3, 440, 440)
    assert red(model) == IMAGENET
    assert embedded(model).shape == (2, 16)


def test_real_edgeface(
    assets_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry with real weights: aligned faces of one person are closer."""
    entry = json.loads(RECIPES["EdgeFace"][1])["edgeface-timm"]
    entry["weights"] = str(assets_dir / "weights" / "edgeface_xs_fp16.pth")
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": {"edgeface": entry}}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))
    model = load_model("edgeface")
    folders = sorted((assets_dir / "data" / "lfw_subset_chips112x96").iterdir())[:4]
    tensors = []
    for person in folders:
        for path in sorted(person.glob("*.jpg"))[:3]:
            padded = Image.new("RGB", (112, 112))
            padded.paste(Image.open(path), (8, 0))
            tensors.append(model.prepare(padded))
    embeddings = nn.functional.normalize(model.embed(torch.stack(tensors)))
    distances = 1 - embeddings @ embeddings.T
    same = torch.block_diag(*[torch.ones(3, 3)] * 4).bool() & ~torch.eye(12).bool()
    different = ~torch.block_diag(*[torch.ones(3, 3)] * 4).bool()
    # 0.368 +- 0.120 and 0.990 +- 0.076 in SOURCES.md.
    assert 0.2 < distances[same].mean() < 0.5
    assert 0.9 < distances[different].mean() < 1.1
