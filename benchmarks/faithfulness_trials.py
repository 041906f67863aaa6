"""Ideas for better maps that were tried on the half of the identities kept for it.

``python benchmarks/faithfulness.py --trials --half dev`` measures them like the methods
of the table; ``docs/choosing.md`` says which helped.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any
from unittest import mock

import torch
from faithfulness_methods import Method, methods, scaled
from torch import Tensor

from fiftyone_sfam.attribution import scales
from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.attribution.path import attribute_path, blur, smooth
from fiftyone_sfam.attribution.scales import path_layers
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.layouts import LayerInfo
from fiftyone_sfam.network.metric import normalizer, similarity

# Of the full list, what the trials are read beside.
_KEPT = ("path", "path of several scales", "evidence", "plain activation")


def trials() -> tuple[Method, ...]:
    """List the trials, beside the methods that they are compared with.

    Returns
    -------
    tuple of Method
        In no order.
    """
    named = {one.name: one for one in methods(1)}
    kept = [named[name] for name in (*_KEPT, "centre prior")]

    def path(name: str, **options: Any) -> Method:
        return Method(
            name, "ours", lambda m, x, p: attribute_path(m, x, p, **options).path
        )

    def several(name: str, samples: int = 4, **constants: Any) -> Method:
        return Method(f"several scales, {name}", "ours", _varied(samples, constants))

    return (
        *kept,
        *(Method(f"evidence, layer {n}", "ours", _evidence(n)) for n in (1, 2)),
        Method("evidence minus its mean", "ours", _centred),
        *(
            Method(f"evidence of A - A(blurred), layer {n}", "ours", _changed(n))
            for n in (0, 1, 2)
        ),
        Method("evidence x plain activation", "ours", _product),
        Method("gradient x (image - blurred)", "ours", _gradient),
        *(path(f"path, {steps} steps", steps=steps) for steps in (2, 8)),
        Method(
            "path, smoothed by 2 %",
            "ours",
            lambda m, x, p: smooth(attribute_path(m, x, p).path, 0.02),
        ),
        Method("path, with the mirrored image", "ours", _mirrored),
        several("16 steps", 16),
        several("no evidence", _WEIGHTS=(4.0, 2.0, 0.0)),
        several("no layers", _WEIGHTS=(4.0, 0.0, 2.0)),
        several("pixels alone", _WEIGHTS=(4.0, 0.0, 0.0)),
        several("evidence twice", _WEIGHTS=(4.0, 2.0, 4.0)),
        several("not smoothed", _SMOOTHED=(0.0,)),
        several("4 steps", 4),
        several("from the blurred image", _starts=_blurred),
        several("from the blurred image, 16 steps", 16, _starts=_blurred),
    )


@lru_cache(maxsize=1)
def _layers(model: EmbeddingModel) -> list[tuple[LayerInfo, ...]]:
    return []


def _layer(model: EmbeddingModel, image: Tensor, place: int) -> LayerInfo:
    """Return a layer by its place from the end: 0 is the last."""
    found = _layers(model)
    if not found:
        found.append(path_layers(model, image))
    return found[0][min(place, len(found[0]) - 1)]


def _rows(partners: Tensor) -> Tensor:
    return torch.zeros(len(partners), dtype=torch.long)


def _evidence(place: int) -> Callable[..., Tensor]:
    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        other = model.with_layer(_layer(model, image, place).name)
        head = other.linearize(image[None])
        return attribute(head, _rows(partners), partners, model.metric).evidence

    return maps


def _centred(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    head = model.linearize(image[None])
    mean = head.feature_map.mean((2, 3), keepdim=True)
    return torch.cat(
        [
            (_slope(model, head, one) * (head.feature_map - mean)).sum(1)
            for one in partners
        ]
    )


def _changed(place: int) -> Callable[..., Tensor]:
    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        other = model.with_layer(_layer(model, image, place).name)
        head = other.linearize(image[None])
        reference = other.linearize(blur(image[None])).feature_map
        return torch.cat(
            [
                (_slope(model, head, one) * (head.feature_map - reference)).sum(1)
                for one in partners
            ]
        )

    return maps


def _slope(model: EmbeddingModel, head: Any, partner: Tensor) -> Tensor:
    """Return the derivative of the similarity with its normalizer held."""
    scale = normalizer(head.embedding, partner[None], model.metric)
    return head.vjp(partner[None] / scale[:, None])


def _product(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    head = model.linearize(image[None])
    found = attribute(head, _rows(partners), partners, model.metric).evidence
    return found * head.feature_map.abs().sum(1)


def _gradient(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    leaf, _, embeddings = model.record(image[None])
    change = image[None] - blur(image[None])
    found = []
    for partner in partners:
        score = similarity(embeddings, partner[None], model.metric).sum()
        (slope,) = torch.autograd.grad(score, leaf, retain_graph=True)
        found.append((slope * change).sum(1)[0])
    return torch.stack(found)


def _mirrored(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    straight = attribute_path(model, image, partners).path
    mirrored = attribute_path(model, image.flip(2), partners).path
    return straight + mirrored.flip(2)


def _varied(samples: int, constants: dict[str, Any]) -> Callable[..., Tensor]:
    """Return the map of several scales with other constants."""

    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        with mock.patch.multiple(scales, **constants) if constants else nullcontext():
            return scaled(samples)(model, image, partners)

    return maps


def _blurred(clear: Tensor, blurred: Tensor, samples: int) -> Tensor:
    return blurred[:, None].expand(-1, samples, -1, -1, -1)
