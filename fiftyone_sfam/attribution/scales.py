"""Maps of several scales: what a place adds, whatever is there instead of it.

The map of :mod:`fiftyone_sfam.attribution.path` shows what *blurring* a place does.
With one color or another picture in its place, the order of the places is another one.
Here derivatives are taken at a few images between several starting images and the
image, and maps of several scales are averaged. It is this project's definition::

    x_j    = start_j + t_j (image - start_j)     t_j = (j - 1/2) / n,  j = 1 to n
    pixels = mean over j of  ds/dx(x_j) * (image - start_j), summed over the colors
    A-map  = mean over j of  ds/dA(x_j) * (A(image) - A(blurred)), over the channels

with ``s`` the similarity with the partner, and ``A`` the output of a layer. Averaged
are, each divided by its spread: the map of the pixels, as it is and smoothed; the maps
of the last layer of each resolution; and the ``evidence`` at the model's own layer,
unless that has too few positions to tell places apart.

The starting images are made of the image itself, so that a map depends on its pair
alone: the image blurred, in its mean color, and moved, which puts another part of a
natural image in each place. They take turns along the path. Averages over what is there
instead are those of expected gradients (G. Erion et al., "Improving performance of deep
learning models with axiomatic attribution priors and expected gradients", 2021).

All partners of an image share one forward pass, and each needs one backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.attribution.path import (
    STEPS,
    PathAttribution,
    attribute_paths,
    blur,
    partner_rounds,
    smooth,
)
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.layouts import LayerInfo
from fiftyone_sfam.network.metric import similarity

SAMPLES = 8
"""Images between the starting images and the image."""

# Blurs of the pixels' map, as shares of the shorter side.
_SMOOTHED = (0.0, 0.02, 0.06, 0.12)

# Weights of the pixels' maps together, of the layers' maps together, and of the
# evidence; chosen on one half of the identities (docs/choosing.md).
_WEIGHTS = (4.0, 2.0, 2.0)

# Shares of height and width by which the image is moved.
_MOVES = ((1 / 2, 1 / 2), (1 / 2, 0), (1 / 3, 1 / 3))

# Spread, relative to the largest, of a map that is left out.
_FLAT = 1e-6

# Longer sides of the layers' maps that are averaged.
_SMALLEST, _LARGEST = 7, 64


def attribute_scales(
    model: EmbeddingModel,
    images: Tensor,
    rows: Tensor,
    partners: Tensor,
    *,
    samples: int = SAMPLES,
    layers: Sequence[LayerInfo] = (),
) -> PathAttribution:
    """Explain the similarities of several images with their partners at many scales.

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
    samples : int
        Images at which derivatives are taken. More make a better map, at the cost of a
        forward pass each, and a backward pass each for every partner.
    layers : sequence of LayerInfo
        Layers, as of :func:`path_layers`.

    Returns
    -------
    PathAttribution
        float32, on the network's device. The map is in units of the score; it is an
        average of maps with different sums, so the remainder is that of no integral.

    Raises
    ------
    ModelError
        If the network cannot be differentiated down to its input.
    ValueError
        If there are no samples.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples!r}; a whole number from 1 is needed.")
    clear = images.to(model.device, torch.float32)
    count, size = len(clear), (int(clear.shape[-2]), int(clear.shape[-1]))
    blurred = blur(clear)
    changes = clear[:, None] - _starts(clear, blurred, samples)
    places = (torch.arange(samples, device=clear.device) + 0.5) / samples
    shown = clear[:, None] - (1 - places[:, None, None, None]) * changes
    names = [info.name for info in layers]
    leaf, outputs, embeddings = model._repeated(samples).record(
        shown.flatten(0, 1), names
    )
    tensors = [leaf, *(outputs[name] for name in names)]
    # Apart from the others, because nothing is differentiated here.
    _, outputs, ends = model._repeated(2).record(
        torch.stack([blurred, clear], 1).flatten(0, 1), names
    )
    differences = [changes]
    for name in names:
        two = outputs[name].detach().unflatten(0, (count, 2)).float()
        differences.append(two[:, 1:] - two[:, :1])
    with torch.inference_mode(False), torch.enable_grad():
        maps = torch.empty(len(rows), *size, device=clear.device)
        # A tensor made in inference mode cannot be part of a graph; a copy can.
        partners = partners.to(embeddings.device, torch.float32).clone()
        along = embeddings.unflatten(0, (count, samples)).float()
        # Without the factors, slopes of a network in half precision would vanish.
        factors = along.detach().flatten(1).norm(dim=1).clamp(min=1)
        evidence = attribute(
            model.linearize(clear), rows.to(clear.device), partners, model.metric
        ).evidence
        for pairs in partner_rounds(rows):
            of = rows[pairs].to(clear.device)
            alike = similarity(along[of], partners[pairs, None], model.metric)
            total = (factors[of] * alike.sum(1)).sum()
            slopes = torch.autograd.grad(total, tensors, retain_graph=True)
            pixels, *products = (
                slope.unflatten(0, (count, samples))[of].float()
                * difference[of]
                / (samples * factors[of]).reshape(-1, *(1,) * slope.dim())
                for slope, difference in zip(slopes, differences, strict=True)
            )
            at_layers = []
            for info, product in zip(layers, products, strict=True):
                values, _ = info.maps(product.flatten(0, 1))
                summed = values.unflatten(0, (len(of), samples)).sum((1, 2))
                at_layers.append(_enlarged(summed, size))
            maps[pairs] = _average(
                pixels.sum((1, 2)), at_layers, evidence[pairs].float()
            )
    of = rows.to(ends.device)
    start, score = (
        similarity(end[of], partners, model.metric)
        for end in ends.detach().float().unflatten(0, (count, 2)).unbind(1)
    )
    return PathAttribution(score, maps, score - maps.sum((1, 2)), start)


def attribute_kind(
    model: EmbeddingModel,
    images: Tensor,
    rows: Tensor,
    partners: Tensor,
    *,
    several_scales: bool,
    steps: int | None = None,
    layers: Sequence[LayerInfo] = (),
) -> PathAttribution:
    """Explain pairs by either of the two kinds of map along paths.

    Arguments are as for :func:`attribute_scales` and
    :func:`fiftyone_sfam.attribution.path.attribute_paths`.
    """
    if several_scales:
        samples = SAMPLES if steps is None else steps
        return attribute_scales(
            model, images, rows, partners, samples=samples, layers=layers
        )
    steps = STEPS if steps is None else steps
    return attribute_paths(model, images, rows, partners, steps=steps)


def path_layers(model: EmbeddingModel, image: Tensor) -> tuple[LayerInfo, ...]:
    """Choose layers for a map of several scales.

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


def _starts(clear: Tensor, blurred: Tensor, samples: int) -> Tensor:
    """Return starting images, shape (B, n, 3, H, W)."""
    size = clear.shape[-2:]
    mean = clear.mean((2, 3), keepdim=True).expand_as(clear)
    found = []
    for sample in range(samples):
        if sample % 2 == 0:
            found.append(blurred)
        elif sample % 4 == 1:
            found.append(mean)
        else:
            shares = _MOVES[sample // 4 % len(_MOVES)]
            by = [int(share * side) for share, side in zip(shares, size, strict=True)]
            found.append(clear.roll(by, (2, 3)))
    return torch.stack(found, 1)


def _average(pixels: Tensor, at_layers: list[Tensor], evidence: Tensor) -> Tensor:
    """Average maps (P, H, W) of the parts, weighted, each divided by its spread."""
    size = (int(pixels.shape[-2]), int(pixels.shape[-1]))
    has_places = max(evidence.shape[-2:]) >= _SMALLEST
    parts = (
        [smooth(pixels, share) if share else pixels for share in _SMOOTHED],
        at_layers,
        [_enlarged(evidence, size)] if has_places else [],
    )
    maps = torch.stack([one for part in parts for one in part])
    weights = torch.tensor(
        [
            weight / len(part)
            for part, weight in zip(parts, _WEIGHTS, strict=True)
            for _ in part
        ]
    )
    spreads = maps.flatten(2).std(2)
    # Of an image without contrast, a map has nothing but rounding errors.
    is_flat = spreads <= _FLAT * spreads.amax(0)
    shares = weights.to(maps)[:, None] / torch.where(is_flat, torch.inf, spreads)
    total = shares.sum(0)
    shares = shares / torch.where(total > 0, total, 1)
    return torch.einsum("mp,mphw->phw", shares, maps)


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (n, h, w) to the size of the image; their sums stay the same."""
    large = F.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)
    # Bilinear weights lose a little at the borders.
    scaled = large[:, 0] * (maps[0].numel() / (size[0] * size[1]))
    lost = maps.sum((1, 2)) - scaled.sum((1, 2))
    return scaled + lost[:, None, None] / scaled[0].numel()
