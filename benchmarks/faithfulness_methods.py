"""The maps that ``benchmarks/faithfulness.py`` compares: ours, others', and baselines.

Every method takes a model, a prepared image (3, H, W) and the embeddings of P partners
(P, D), and returns signed maps (P, h, w), or (1, h, w) where the partner plays no part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from faithfulness_gradients import fggb, xssab
from faithfulness_masking import Maps, corr_rise, min_plus, rise, sbsm, size_of
from faithfulness_relevance import bilrp
from torch import Tensor

from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.attribution.path import attribute_path, smooth
from fiftyone_sfam.attribution.scales import SAMPLES, attribute_scales, path_layers
from fiftyone_sfam.audit.faithfulness.maps import (
    center_prior,
    plain_activation,
    random_maps,
)
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.layouts import LayerInfo
from fiftyone_sfam.network.metric import similarity


@dataclass(frozen=True)
class Method:
    """A method: its name, who it is of, and how it is computed.

    Methods with the same ``maps`` share one computation, and each counts its time;
    ``then`` takes from the result what is the method's.
    """

    name: str
    family: str  # "ours", "gradient", "perturbation" or "baseline"
    maps: Maps
    then: Callable[[Tensor], Tensor] = lambda maps: maps


def methods(masks: int, threshold: float = 0.0) -> tuple[Method, ...]:
    """List all methods.

    Parameters
    ----------
    masks : int
        Random masks of the RISE-style map.
    threshold : float
        Similarity from which a pair is accepted, for methods that explain decisions.

    Returns
    -------
    tuple of Method
        In the order of the table.
    """
    return (
        Method("path", "ours", lambda m, x, p: attribute_path(m, x, p).path),
        Method("path of several scales", "ours", scaled()),
        Method("path of several scales, 16 steps", "ours", scaled(16)),
        Method(
            "path, smoothed by 5 %",
            "ours",
            lambda m, x, p: smooth(attribute_path(m, x, p).path, 0.05),
        ),
        Method("evidence", "ours", lambda m, x, p: _attributed(m, x, p).evidence),
        Method("sfam, signed", "ours", lambda m, x, p: _attributed(m, x, p).sfam),
        Method(
            "sfam, min-max", "ours", lambda m, x, p: _attributed(m, x, p, "minmax").sfam
        ),
        *(
            Method(f"{name}, {target}", "gradient", _cam(kind, target))
            for name, kind, targets in (
                ("Grad-CAM", "GradCAM", ("cosine", "dot")),
                # With the dot product it is the evidence without its negative part.
                ("HiResCAM", "HiResCAM", ("cosine",)),
                ("LayerCAM", "LayerCAM", ("cosine", "dot")),
            )
            for target in targets
        ),
        Method("Eigen-CAM", "gradient", _eigen_cam),
        Method("BiLRP", "gradient", bilrp),
        *rivals(masks, threshold),
        *baselines(),
    )


def rivals(masks: int, threshold: float) -> tuple[Method, ...]:
    """List others' methods that do not depend on the architecture.

    Parameters
    ----------
    masks, threshold
        As for :func:`methods`.

    Returns
    -------
    tuple of Method
        Those that explain a pair of faces by gradients, then those that mask.
    """
    by_masks, by_squares = rise(masks), corr_rise(masks)
    by_gradients, by_arguments = fggb(threshold), xssab(threshold)
    return (
        Method("FGGB, signed", "gradient", by_gradients),
        Method("FGGB, similarity", "gradient", by_gradients, _positive),
        Method("xSSAB, signed", "gradient", by_arguments, lambda m: m[0] - m[1]),
        Method("xSSAB, similarity", "gradient", by_arguments, lambda m: m[0]),
        Method(f"RISE-style, {masks} masks", "perturbation", by_masks, lambda m: m[0]),
        Method(f"RISE, {masks} masks", "perturbation", by_masks, lambda m: m[1]),
        Method("CorrRISE, signed", "perturbation", by_squares),
        Method("CorrRISE, similarity", "perturbation", by_squares, _positive),
        Method("MinPlus", "perturbation", min_plus),
        Method("SBSM", "perturbation", sbsm),
    )


def baselines() -> tuple[Method, ...]:
    """List the maps that know less.

    Returns
    -------
    tuple of Method
        They do not see the partner.
    """
    return (
        Method("plain activation", "baseline", _activation),
        Method(
            "centre prior", "baseline", lambda m, x, p: center_prior(size_of(x))[None]
        ),
        Method("random", "baseline", _random),
    )


def _positive(maps: Tensor) -> Tensor:
    return maps.clamp(min=0)


# --------------------------------------------------------------------------------------
# Ours and baselines
# --------------------------------------------------------------------------------------


def _attributed(
    model: EmbeddingModel, image: Tensor, partners: Tensor, weights: Any = "signed"
) -> Any:
    head = model.linearize(image[None])
    rows = torch.zeros(len(partners), dtype=torch.long)
    return attribute(head, rows, partners, model.metric, weights)


@lru_cache(maxsize=1)
def _layers_of(model: EmbeddingModel) -> Callable[[Tensor], tuple[LayerInfo, ...]]:
    """Look for layers once per network."""
    found: list[tuple[LayerInfo, ...]] = []

    def layers(image: Tensor) -> tuple[LayerInfo, ...]:
        if not found:
            found.append(path_layers(model, image))
        return found[0]

    return layers


def scaled(samples: int = SAMPLES) -> Maps:
    """Return our map of several scales."""

    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        layers = _layers_of(model)(image)
        rows = torch.zeros(len(partners), dtype=torch.long)
        return attribute_scales(
            model, image[None], rows, partners, samples=samples, layers=layers
        ).path

    return maps


def _activation(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    return plain_activation(model.linearize(image[None]).feature_map)


def _random(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    info = model.find_layer(image[None])
    seed = int(image.double().sum().abs() * 1000) % 2**31
    return random_maps(1, info.shape[1:], seed)


# --------------------------------------------------------------------------------------
# pytorch-grad-cam
# --------------------------------------------------------------------------------------


def _cam(kind: str, target: str) -> Maps:
    """Use a method of pytorch-grad-cam at the model's layer, as its users would."""

    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        import pytorch_grad_cam

        def score(partner: Tensor) -> Callable[[Tensor], Tensor]:
            if target == "dot":
                return lambda output: output @ partner
            return lambda output: similarity(output, partner, model.metric)

        layer = model.network.get_submodule(str(model.layer))
        with getattr(pytorch_grad_cam, kind)(model.network, [layer]) as cam:
            images = image.expand(len(partners), -1, -1, -1).contiguous(
                memory_format=torch.channels_last
            )
            found = cam(images, [score(partner) for partner in partners])
        return torch.from_numpy(found)

    return maps


def _eigen_cam(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    from pytorch_grad_cam import EigenCAM

    layer = model.network.get_submodule(str(model.layer))
    with EigenCAM(model.network, [layer]) as cam, torch.no_grad():
        found = cam(image[None], [lambda output: output.sum()])
    return torch.from_numpy(found)
