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
from faithfulness_methods import Method, _activation, _random, _rise, _scaled, _size
from PIL import Image
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fiftyone_sfam import EmbeddingModel, Preprocessing
from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.attribution.path import attribute_path
from fiftyone_sfam.audit.faithfulness.maps import center_prior
from fiftyone_sfam.network.metric import similarity

Preprocess = Callable[[Image.Image], Tensor]


@dataclass(frozen=True)
class HeldNetwork:
    """A network of the assets, the layers to measure, and whether it has tokens."""

    load: Callable[[Path], tuple[nn.Module, Preprocess]]
    layers: tuple[str, ...]
    tokens: bool


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
        _edgeface, ("stem", "stages.0", "stages.1", "stages.2", "stages.3"), False
    ),
    "class_token_vit": HeldNetwork(
        _class_token_vit, ("stem", "blocks.0", "blocks.2", "blocks.4"), True
    ),
}


def load_held(title: str, assets: Path) -> tuple[EmbeddingModel, Path]:
    """Load a network as a model, and say where its images are."""
    load_reference(assets)
    network, preprocessing = HELD[title].load(assets)
    model = EmbeddingModel(network.eval(), preprocessing, name=title)
    return model, assets / "data" / "lfw_subset_chips112x96"


def held_methods(title: str, masks: int) -> tuple[Method, ...]:
    """List the methods of a network, in the order of the table."""
    network = HELD[title]
    direct = _evidence("direct")
    attention = (
        Method("attention rollout", "gradient", _rollout),
        Method("LeGrad", "gradient", _legrad),
    )
    return (
        Method("evidence, default layer", "ours", _evidence(None)),
        *(
            Method(f"evidence at {layer}", "ours", _evidence(layer))
            for layer in network.layers
        ),
        *([Method("direct contributions", "ours", direct)] if network.tokens else ()),
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
        *(attention if network.tokens else ()),
        Method(f"RISE-style, {masks} masks", "perturbation", _rise(masks)),
        Method("plain activation", "baseline", _activation),
        Method(
            "centre prior", "baseline", lambda m, x, p: center_prior(_size(x))[None]
        ),
        Method("random", "baseline", _random),
    )


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


class _AttentionWeights(TorchFunctionMode):
    """Keep the weights of all attention layers, with their graph."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") != "scaled_dot_product_attention":
            return func(*args, **(kwargs or {}))
        query, key, value = args[:3]
        weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        self.weights.append(weights)
        return weights @ value


def _on_the_image(model: EmbeddingModel, image: Tensor, row: Tensor) -> Tensor:
    """Arrange the class token's weights of the other tokens as the image."""
    return row[..., 1:].unflatten(-1, model.find_layer(image[None]).shape[1:])


def _rollout(model: EmbeddingModel, image: Tensor, _partners: Tensor) -> Tensor:
    """Multiply the attention of all layers, as in arXiv:2005.00928."""
    with _AttentionWeights() as mode:
        model.embed(image[None])
    rollout = torch.eye(mode.weights[0].shape[-1])
    for weights in mode.weights:
        mixed = weights[0].mean(0) + torch.eye(len(rollout))
        rollout = mixed / mixed.sum(-1, keepdim=True) @ rollout
    return _on_the_image(model, image, rollout[:1])


def _legrad(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    """Average the positive gradients of attention weights, as in arXiv:2404.03214."""
    with _AttentionWeights() as mode:
        _, _, embeddings = model.record(image[None])
    found = []
    for partner in partners:
        score = similarity(embeddings[0], partner, model.metric)
        gradients = torch.autograd.grad(score, mode.weights, retain_graph=True)
        found.append(sum(g[0].relu().mean((0, 1)) for g in gradients))
    return _on_the_image(model, image, torch.stack(found))
