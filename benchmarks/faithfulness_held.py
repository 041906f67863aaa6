"""Networks with LayerNorm or attention for ``benchmarks/faithfulness.py``.

Beside the usual maps, the evidence is measured at each stage or block, with and without
what the head computes from the image being held constant, and against maps made of
attention weights.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from check_real import load_reference
from faithfulness_attention import grad_eclip, legrad, rollout
from faithfulness_methods import Method, _scaled, baselines, rivals
from PIL import Image
from torch import Tensor, nn

from fiftyone_sfam import EmbeddingModel, Preprocessing
from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.attribution.path import attribute_path
from fiftyone_sfam.network.metric import similarity

Preprocess = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class HeldNetwork:
    """A network of the assets, the layers to measure, and its blocks of tokens."""

    load: Callable[[Path], tuple[nn.Module, Preprocess]]
    layers: tuple[str, ...]
    blocks: tuple[str, ...] = ()


def _edgeface(assets: Path) -> tuple[nn.Module, Preprocess]:
    import timm

    network = timm.create_model("edgenext_x_small", num_classes=512)
    path = assets / "weights" / "edgeface_xs_fp16.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict({key: value.float() for key, value in state.items()})
    return network, squared


def squared(image: Image.Image) -> Tensor:
    """Prepare a chip for EdgeFace: black columns on either side make it square."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    return F.pad(pixels.float(), (8, 8)) / 127.5 - 1


def _class_token_vit(assets: Path) -> tuple[nn.Module, Preprocess]:
    path = assets / "class_token_vit.py"
    spec = importlib.util.spec_from_file_location("class_token_vit", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_class_token_vit(assets), Preprocessing(
        size=(112, 96), mean=(127.5 / 255,) * 3, std=(128 / 255,) * 3
    )


HELD = {
    "edgeface": HeldNetwork(
        _edgeface, ("stem", "stages.0", "stages.1", "stages.2", "stages.3")
    ),
    "class_token_vit": HeldNetwork(
        _class_token_vit,
        ("stem", "blocks.0", "blocks.2", "blocks.4"),
        tuple(f"blocks.{number}" for number in range(6)),
    ),
}


def load_held(title: str, assets: Path) -> tuple[EmbeddingModel, Path]:
    """Load a network as a model, and say where its images are."""
    load_reference(assets)
    network, preprocessing = HELD[title].load(assets)
    model = EmbeddingModel(network.eval(), preprocessing, name=title)
    return model, assets / "data" / "lfw_subset_chips112x96"


def held_methods(title: str, masks: int, threshold: float = 0.0) -> tuple[Method, ...]:
    """List the methods of a network, in the order of the table."""
    network = HELD[title]
    direct = _evidence("direct")
    attention = (
        Method("attention rollout", "gradient", rollout),
        Method("LeGrad", "gradient", legrad(network.blocks, _class_token_head)),
        Method("Grad-ECLIP", "gradient", grad_eclip),
    )
    return (
        Method("evidence, default layer", "ours", _evidence(None)),
        *(
            Method(f"evidence at {layer}", "ours", _evidence(layer))
            for layer in network.layers
        ),
        *([Method("direct contributions", "ours", direct)] if network.blocks else ()),
        *(
            Method(f"not held, at {layer}", "gradient", _plain(layer, "evidence"))
            for layer in network.layers
        ),
        Method("path", "ours", lambda m, x, p: attribute_path(m, x, p).path),
        Method("path of several scales", "ours", _scaled),
        *(
            Method(f"Grad-CAM at {layer}", "gradient", _plain(layer, "Grad-CAM"))
            for layer in network.layers
        ),
        *(attention if network.blocks else ()),
        *rivals(masks, threshold),
        *baselines(),
    )


def _class_token_head(model: EmbeddingModel, tokens: Tensor) -> Tensor:
    """Compute embeddings from the tokens after any block, shape (B, D)."""
    network: Any = model.network
    embeddings: Tensor = network.embedding(network.norm(tokens)[:, 0])
    return embeddings


def _evidence(layer: str | None) -> Callable[..., Tensor]:
    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        head = _at(model, layer).linearize(image[None])
        rows = torch.zeros(len(partners), dtype=torch.long)
        return attribute(head, rows, partners, model.metric).evidence

    return maps


_MODELS: dict[tuple[int, str | None], EmbeddingModel] = {}


def _at(model: EmbeddingModel, layer: str | None) -> EmbeddingModel:
    """Return the model at a layer, which is examined once."""
    if layer is None:
        return model
    key = id(model.network), layer
    if key not in _MODELS:
        _MODELS[key] = model.with_layer(layer)
    return _MODELS[key]


def _plain(layer: str, kind: str) -> Callable[..., Tensor]:
    """Multiply the map with its gradient, of which nothing is held constant."""

    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        info = _at(model, layer).find_layer(image[None])
        _, outputs, embeddings = model.record(image[None], [layer])
        found = []
        for partner in partners:
            score = similarity(embeddings[0], partner, model.metric)
            (gradient,) = torch.autograd.grad(score, outputs[layer], retain_graph=True)
            activation, _ = info.maps(outputs[layer].detach())
            gradient, _ = info.maps(gradient)
            if kind == "Grad-CAM":
                weights = gradient.mean((2, 3), keepdim=True)
                found.append((weights * activation).sum(1).relu()[0])
            else:
                found.append((gradient * activation).sum(1)[0])
        return torch.stack(found)

    return maps
