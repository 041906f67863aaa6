"""The maps that ``benchmarks/faithfulness.py`` compares: ours, others', and baselines.

Every method takes a model, a prepared image (3, H, W) and the embeddings of P partners
(P, D), and returns signed maps (P, h, w), or (1, h, w) where the partner plays no part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.attribution.path import (
    SCALES,
    STEPS,
    attribute_path,
    blur,
    path_layers,
)
from fiftyone_sfam.audit.faithfulness.maps import (
    center_prior,
    plain_activation,
    random_maps,
)
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.layouts import LayerInfo
from fiftyone_sfam.network.metric import similarity

Maps = Callable[[EmbeddingModel, Tensor, Tensor], Tensor]
BATCH = 16
RISE_CELLS = 7
SBSM_STEPS = 8


@dataclass(frozen=True)
class Method:
    """A method: its name, who it is of, and how it is computed."""

    name: str
    family: str  # "ours", "gradient", "perturbation" or "baseline"
    maps: Maps


def methods(masks: int) -> tuple[Method, ...]:
    """List all methods.

    Parameters
    ----------
    masks : int
        Random masks of the RISE-style map.

    Returns
    -------
    tuple of Method
        In the order of the table.
    """
    return (
        Method("path", "ours", lambda m, x, p: attribute_path(m, x, p).path),
        Method("path of several scales", "ours", _scaled),
        Method(
            "path, smoothed by 5 %",
            "ours",
            lambda m, x, p: attribute_path(m, x, p, scales=[0.05]).path,
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
        Method(f"RISE-style, {masks} masks", "perturbation", _rise(masks)),
        Method("SBSM", "perturbation", _sbsm),
        Method("plain activation", "baseline", _activation),
        Method(
            "centre prior", "baseline", lambda m, x, p: center_prior(_size(x))[None]
        ),
        Method("random", "baseline", _random),
    )


def _size(image: Tensor) -> tuple[int, int]:
    return int(image.shape[-2]), int(image.shape[-1])


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


def _scaled(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    layers = _layers_of(model)(image)
    return attribute_path(
        model, image, partners, steps=2 * STEPS, scales=SCALES, layers=layers
    ).path


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


# --------------------------------------------------------------------------------------
# Perturbation
# --------------------------------------------------------------------------------------


def _similarities(
    model: EmbeddingModel, image: Tensor, shown: Tensor, partners: Tensor
) -> Tensor:
    """Embed an image of which parts are blurred; return (P, M)."""
    other = blur(image[None])
    found = []
    for part in shown.split(BATCH):
        images = other + part[:, None] * (image[None] - other)
        found.append(model.embed(images.contiguous(memory_format=torch.channels_last)))
    embeddings = torch.cat(found)
    return torch.stack([similarity(embeddings, one, model.metric) for one in partners])


def rise_masks(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Draw the masks of RISE: coarse random cells, upsampled and shifted.

    Parameters
    ----------
    count : int
        Number of masks.
    size : tuple of int
        Height and width.
    seed : int
        Seed of the draws.

    Returns
    -------
    Tensor
        In [0, 1], shape (count, H, W).
    """
    generator = torch.Generator().manual_seed(seed)
    typical = (size[0] * size[1]) ** 0.5
    cells = [max(2, round(RISE_CELLS * side / typical)) for side in size]
    steps = [-(-side // number) for side, number in zip(size, cells, strict=True)]
    coarse = torch.rand(count, 1, cells[0] + 1, cells[1] + 1, generator=generator) < 0.5
    large = F.interpolate(
        coarse.float(),
        size=[step * (cell + 1) for step, cell in zip(steps, cells, strict=True)],
        mode="bilinear",
        align_corners=False,
    )[:, 0]
    moves = [torch.randint(step, (count,), generator=generator) for step in steps]
    return torch.stack(
        [
            one[down : down + size[0], right : right + size[1]]
            for one, down, right in zip(
                large, *(m.tolist() for m in moves), strict=True
            )
        ]
    )


def _rise(count: int) -> Maps:
    """Correlate, at each pixel, being shown with the similarity, over random masks."""

    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        masks = rise_masks(count, _size(image))
        scores = _similarities(model, image, masks, partners)
        centred = masks - masks.mean(0)
        products = torch.einsum(
            "pm,mhw->phw", scores - scores.mean(1, keepdim=True), centred
        )
        return products / centred.square().sum(0).sqrt().clamp(min=1e-6)

    return maps


def _sbsm(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    """Slide a window, as xaitk-saliency's SBSM does; what it hides is blurred."""
    from xaitk_saliency.impls.perturb_image.sliding_window import SlidingWindow
    from xaitk_saliency.utils.masking import weight_regions_by_scalar

    size = _size(image)
    stride = tuple(max(1, side // SBSM_STEPS) for side in size)
    window = tuple(2 * step for step in stride)
    shown = SlidingWindow(window, stride).perturb(np.zeros(size))
    scores = _similarities(model, image, torch.from_numpy(shown).float(), partners)
    whole = _similarities(model, image, torch.ones(1, *size), partners)
    # Its own scoring clips what hiding a part improves; the signed drop ranks better.
    drops = (whole - scores).numpy().T
    return torch.from_numpy(weight_regions_by_scalar(drops, shown)).float()
