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
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import similarity

BLUR = 0.1
"""Standard deviation of the blur that hides an image, relative to its shorter side."""

# Reach of the blur's kernel to each side, in standard deviations.
_REACH = 3.0

STEPS = 4
"""Images along the path."""


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

    Returns
    -------
    PathAttribution
        float32, on the network's device.

    Raises
    ------
    ModelError
        If the network cannot be differentiated down to its input.
    ValueError
        If there are no steps.
    """
    rows = torch.zeros(len(partners), dtype=torch.long)
    return attribute_paths(model, image[None], rows, partners, steps=steps, share=share)


def attribute_paths(
    model: EmbeddingModel,
    images: Tensor,
    rows: Tensor,
    partners: Tensor,
    *,
    steps: int = STEPS,
    share: float = BLUR,
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
    steps, share
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
        If there are no steps.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps!r}; a whole number from 1 is needed.")
    clear = images.to(model.device, torch.float32)
    start = blur(clear, share)
    places = (torch.arange(steps, device=clear.device) + 0.5) / steps
    change = (clear - start) / steps
    paths = start[:, None] + places[:, None, None, None] * (clear - start)[:, None]
    leaf, _, embeddings = model._repeated(steps).record(paths.flatten(0, 1))
    count, size = len(clear), (int(images.shape[-2]), int(images.shape[-1]))
    with torch.inference_mode(False), torch.enable_grad():
        path = torch.empty(len(rows), *size, device=clear.device)
        # A tensor made in inference mode cannot be part of a graph; a copy can.
        partners = partners.to(embeddings.device, torch.float32).clone()
        along = embeddings.unflatten(0, (count, steps)).float()
        # Without the factors, slopes of a network in half precision would vanish.
        factors = along.detach().flatten(1).norm(dim=1).clamp(min=1)
        for pairs in partner_rounds(rows):
            of = rows[pairs].to(clear.device)
            alike = similarity(along[of], partners[pairs, None], model.metric)
            total = (factors[of] * alike.sum(1)).sum()
            (slopes,) = torch.autograd.grad(total, [leaf], retain_graph=True)
            slope = slopes.unflatten(0, (count, steps))[of].float()
            product = slope * change[of][:, None]
            path[pairs] = product.sum((1, 2)) / factors[of][:, None, None]
    ends = model._repeated(2).embed(torch.stack([start, clear], 1).flatten(0, 1))
    of = rows.to(ends.device)
    blurred, score = (
        similarity(end[of], partners, model.metric)
        for end in ends.unflatten(0, (count, 2)).unbind(1)
    )
    return PathAttribution(score, path, score - path.sum((1, 2)), blurred)


def partner_rounds(rows: Tensor) -> list[Tensor]:
    """Split pairs so that no two of one round have the same image."""
    rounds: list[list[int]] = []
    seen: dict[int, int] = {}
    for pair, row in enumerate(rows.tolist()):
        number = seen[row] = seen.get(row, -1) + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(pair)
    return [torch.tensor(pairs) for pairs in rounds]


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
