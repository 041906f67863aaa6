"""Maps along a path of images, from a blurred image to the image itself.

The ``evidence`` of :mod:`fiftyone_sfam.attribution.maps` splits the similarity of an
image as it is. The maps here show how the similarity changes when a place is hidden.
They are this project's definition; the method is that of integrated gradients
(M. Sundararajan, A. Taly, Q. Yan, "Axiomatic Attribution for Deep Networks", 2017) with
a blurred image as the baseline, for a pair instead of a class::

    x(t) = blurred + t (image - blurred)             t from 0 to 1
    s(t) = similarity of x(t) with the partner       exact: Z depends on t
    path = integral over t of  ds/dx * (image - blurred), summed over the colors

    sum(path) = s(1) - s(0),  so  sum(path) + remainder = s(1)  with remainder = s(0)

The integral is approximated by a sum over a few steps, each taken at its middle; the
error is part of the remainder. Unlike for ``evidence``, the full derivative of the
similarity is taken. At the image itself it vanishes for near-duplicates; along the path
it does not.

All partners of an image share one forward pass over the steps, and each partner needs
one backward pass over them. Several images go through the network together.

The same passes also give maps at the network's layers: with ``A(t)`` the layer's output
for ``x(t)``, the integral over t of ``ds/dA * dA/dt`` has the same sum. Maps of several
scales can be averaged, because all of them have the same sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.layouts import LayerInfo
from fiftyone_sfam.network.metric import similarity

BLUR = 0.1
"""Standard deviation of the blur that hides an image, relative to its shorter side."""

# Reach of the blur's kernel to each side, in standard deviations.
_REACH = 3.0

STEPS = 4
"""Images along the path."""

SCALES = (0.0, 0.02, 0.06)
"""Blurs of the map that a path of several scales averages."""

# Longer sides of the maps that a path of several scales averages.
_SMALLEST, _LARGEST = 7, 64


@dataclass(frozen=True)
class PathAttribution:
    """One side of each of P pairs, explained along a path of images.

    Attributes
    ----------
    score : Tensor
        Similarity of the image, shape (P,).
    path : Tensor
        Signed, at the pixels of the network's input, shape (P, H, W), in units of the
        score.
    remainder : Tensor
        ``score - sum(path)``, shape (P,).
    blurred_score : Tensor
        Similarity of the blurred image, shape (P,); the remainder differs from it by
        the error of the sum over the steps.
    """

    score: Tensor
    path: Tensor
    remainder: Tensor
    blurred_score: Tensor


def attribute_path(
    model: EmbeddingModel,
    image: Tensor,
    partners: Tensor,
    *,
    steps: int = STEPS,
    share: float = BLUR,
    scales: Sequence[float] = (0.0,),
    layers: Sequence[LayerInfo] = (),
) -> PathAttribution:
    """Explain the similarity of an image with its partners along a path from a blur.

    Parameters
    ----------
    model : EmbeddingModel
        The network; its metric is the similarity.
    image : Tensor
        Prepared image, shape (3, H, W).
    partners : Tensor
        Embeddings of the partners, shape (P, D).
    steps : int
        Images along the path.
    share : float
        Standard deviation of the blur, as a share of the shorter side.
    scales : sequence of float
        Blurs of the map itself, as shares of the shorter side; 0 is no blur.
    layers : sequence of LayerInfo
        Layers, as of :func:`path_layers`, whose maps are averaged with those of the
        pixels. Upsampled maps keep their sums. Several maps are weighted so that all
        have the same spread; the weights sum to 1.

    Returns
    -------
    PathAttribution
        float32, on the network's device.

    Raises
    ------
    ModelError
        If the network cannot be differentiated down to its input.
    ValueError
        If there are no steps, or neither scales nor layers.
    """
    rows = torch.zeros(len(partners), dtype=torch.long)
    return attribute_paths(
        model,
        image[None],
        rows,
        partners,
        steps=steps,
        share=share,
        scales=scales,
        layers=layers,
    )


def attribute_paths(
    model: EmbeddingModel,
    images: Tensor,
    rows: Tensor,
    partners: Tensor,
    *,
    steps: int = STEPS,
    share: float = BLUR,
    scales: Sequence[float] = (0.0,),
    layers: Sequence[LayerInfo] = (),
) -> PathAttribution:
    """Explain the similarities of several images with their partners along paths.

    The images go through the network together, each with its steps; a backward pass
    serves one partner of every image.

    Parameters
    ----------
    model : EmbeddingModel
        The network, with the further inputs of the images if it takes any.
    images : Tensor
        Prepared images, shape (B, 3, H, W).
    rows : Tensor
        For each pair the image that is explained, shape (P,), int64 in 0..B-1.
    partners : Tensor
        For each pair the embedding of the other image, shape (P, D).
    steps, share, scales, layers
        As for :func:`attribute_path`.

    Returns
    -------
    PathAttribution
        float32, on the network's device.

    Raises
    ------
    ModelError
        If the network cannot be differentiated down to its input.
    ValueError
        If there are no steps, or neither scales nor layers.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps!r}; a whole number from 1 is needed.")
    if not scales and not layers:
        raise ValueError("there are no scales and no layers; give at least one.")
    clear = images.to(model.device, torch.float32)
    start = blur(clear, share)
    places = (torch.arange(steps, device=clear.device) + 0.5) / steps
    middle = slice(None)
    if layers:
        # The change of a layer's output over a step is computed from its neighbors.
        ends = torch.tensor([0.0, 1.0], device=clear.device)
        places = torch.cat([ends[:1], places, ends[1:]])
        middle = slice(1, -1)
    count, along = len(clear), len(places)
    paths = start[:, None] + places[:, None, None, None] * (clear - start)[:, None]
    leaf, outputs, embeddings = model._repeated(along).record(
        paths.flatten(0, 1), [info.name for info in layers]
    )
    tensors = [leaf, *(outputs[info.name] for info in layers)]
    changes = [
        ((clear - start) / steps)[:, None],
        *(_changes(values.unflatten(0, (count, along))) for values in tensors[1:]),
    ]
    size = (int(images.shape[-2]), int(images.shape[-1]))
    with torch.inference_mode(False), torch.enable_grad():
        path = torch.empty(len(rows), *size, device=clear.device)
        # A tensor made in inference mode cannot be part of a graph; a copy can.
        partners = partners.to(embeddings.device, torch.float32).clone()
        chosen = embeddings.unflatten(0, (count, along))[:, middle].float()
        # Without the factors, slopes of a network in half precision would vanish.
        factors = chosen.detach().flatten(1).norm(dim=1).clamp(min=1)
        for pairs in _rounds(rows):
            of = rows[pairs].to(clear.device)
            alike = similarity(chosen[of], partners[pairs, None], model.metric)
            total = (factors[of] * alike.sum(1)).sum()
            slopes = torch.autograd.grad(total, tensors, retain_graph=True)
            pixels, *products = (
                slope.unflatten(0, (count, along))[of][:, middle].float()
                * change[of]
                / factors[of].reshape(-1, *(1,) * slope.dim())
                for slope, change in zip(slopes, changes, strict=True)
            )
            pixels = pixels.sum((1, 2))
            parts = [smooth(pixels, s) if s else pixels for s in scales]
            for info, product in zip(layers, products, strict=True):
                at_layer, _ = info.maps(product.flatten(0, 1))
                summed = at_layer.unflatten(0, (len(of), steps)).sum((1, 2))
                parts.append(_enlarged(summed, size))
            path[pairs] = _average(parts)
    ends = model._repeated(2).embed(torch.stack([start, clear], 1).flatten(0, 1))
    of = rows.to(ends.device)
    blurred, score = (
        similarity(end[of], partners, model.metric)
        for end in ends.unflatten(0, (count, 2)).unbind(1)
    )
    return PathAttribution(score, path, score - path.sum((1, 2)), blurred)


def _rounds(rows: Tensor) -> list[Tensor]:
    """Split pairs so that no two of one round have the same image."""
    rounds: list[list[int]] = []
    seen: dict[int, int] = {}
    for pair, row in enumerate(rows.tolist()):
        number = seen[row] = seen.get(row, -1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(pair)
    return [torch.tensor(pairs) for pairs in rounds]


def path_options(
    several_scales: bool, layers: Sequence[LayerInfo] = ()
) -> dict[str, Any]:
    """Return the options of :func:`attribute_paths` of one of the two kinds of map.

    Parameters
    ----------
    several_scales : bool
        Whether maps of several scales are averaged.
    layers : sequence of LayerInfo
        Their layers, as of :func:`path_layers`.

    Returns
    -------
    dict
        ``steps``, ``scales`` and ``layers``.
    """
    if not several_scales:
        return {"steps": STEPS, "scales": (0.0,), "layers": ()}
    return {"steps": 2 * STEPS, "scales": SCALES, "layers": layers}


def fullest_image(images: Tensor) -> int:
    """Return the image with the most contrast; a black one may have no derivative.

    Parameters
    ----------
    images : Tensor
        Prepared images, shape (B, 3, H, W).

    Returns
    -------
    int
        Its place in the batch.
    """
    return int(images.float().flatten(1).std(1).argmax())


def path_layers(model: EmbeddingModel, image: Tensor) -> tuple[LayerInfo, ...]:
    """Choose layers for a path of several scales.

    Parameters
    ----------
    model : EmbeddingModel
        The network.
    image : Tensor
        Prepared image, shape (3, H, W).

    Returns
    -------
    tuple of LayerInfo
        Layers of :func:`last_layers` whose longer side has 7 to 64 positions.
    """
    return tuple(
        info
        for shape, info in last_layers(model, image).items()
        if _SMALLEST <= max(shape) <= _LARGEST
    )


def last_layers(
    model: EmbeddingModel, image: Tensor
) -> dict[tuple[int, int], LayerInfo]:
    """Find the last layer of each resolution that carries the whole embedding.

    Parameters
    ----------
    model : EmbeddingModel
        The network.
    image : Tensor
        Prepared image, shape (3, H, W).

    Returns
    -------
    dict of (int, int) to LayerInfo
        By height and width of the map, the latest layer first. A resolution without
        such a layer, or only with one that runs several times or has a class token
        beside its positions, is missing.
    """
    chosen: dict[tuple[int, int], LayerInfo] = {}
    for info in reversed(model.layers(image[None])):
        shape = (info.shape[1], info.shape[2])
        if shape in chosen or info.calls > 1 or info.prefix_tokens:
            continue
        if model.carries_all(image[None], info.name):
            chosen[shape] = info
    return chosen


def _changes(outputs: Tensor) -> Tensor:
    """Return the change of a layer's output over each step, shape (B, steps, ...).

    The output at the border of two steps is interpolated between their middles. The
    first image is the start of the first step, the last image the end of the last.
    """
    values = outputs.detach().float()
    between = (values[:, 1:-2] + values[:, 2:-1]) / 2
    edges = torch.cat([values[:, :1], between, values[:, -1:]], 1)
    return edges[:, 1:] - edges[:, :-1]


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (n, h, w) to the size of the image; their sums stay the same."""
    large = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)
    # Bilinear weights lose a little at the borders.
    scaled = large[:, 0] * (maps[0].numel() / (size[0] * size[1]))
    lost = maps.sum((1, 2)) - scaled.sum((1, 2))
    return scaled + lost[:, None, None] / scaled[0].numel()


def _average(maps: list[Tensor]) -> Tensor:
    """Average maps that have the same sum, weighted to have the same spread."""
    if len(maps) == 1:
        return maps[0]
    spreads = torch.stack([m.flatten(1).std(1) for m in maps])
    weights = 1 / spreads.clamp(min=torch.finfo(torch.float32).tiny)
    weights = (weights / weights.sum(0))[..., None, None]
    return sum((w * m for w, m in zip(weights, maps, strict=True)), maps[0] * 0)


def blur(images: Tensor, share: float = BLUR) -> Tensor:
    """Blur images."""
    down, across = _matrices(images, share)
    return torch.einsum("ij,bcjk,lk->bcil", down, images, across)


def smooth(maps: Tensor, share: float) -> Tensor:
    """Spread the value of each place of a map over the places around it.

    Unlike a blur, this keeps the sum of a map.
    """
    down, across = _matrices(maps, share)
    return torch.einsum("ji,pjk,kl->pil", down, maps, across)


def _matrices(images: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return the matrices that blur the two axes; their rows sum to 1."""
    sigma = share * min(images.shape[-2:])
    height, width = images.shape[-2:]
    return _gaussian(height, sigma).to(images), _gaussian(width, sigma).to(images)


def _gaussian(size: int, sigma: float) -> Tensor:
    """Return the matrix that blurs an axis."""
    reach = math.ceil(_REACH * sigma)
    places = torch.arange(size, dtype=torch.float64)
    offsets = places[:, None] - places
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2) * (offsets.abs() <= reach)
    return weights / weights.sum(1, keepdim=True)
