"""Gaussian blurs of images and of maps, in torch, without making anything up."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BLUR = 0.1
"""Standard deviation of the blur that hides an image, in shorter sides of it."""

# Standard deviations that the kernel reaches to each side.
_REACH = 3.0


def blur(images: Tensor, share: float = BLUR) -> Tensor:
    """Blur images."""
    down, across = _matrices(images, share)
    return torch.einsum("ij,bcjk,lk->bcil", down, images, across)


def smooth(maps: Tensor, share: float) -> Tensor:
    """Spread what each place of a map has over the places around it."""
    down, across = _matrices(maps, share)
    return torch.einsum("ji,pjk,kl->pil", down, maps, across)


def _matrices(images: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return the matrices that blur the two axes; their rows add up to 1."""
    sigma = share * min(images.shape[-2:])
    height, width = images.shape[-2:]
    return _gaussian(height, sigma).to(images), _gaussian(width, sigma).to(images)


def _gaussian(size: int, sigma: float) -> Tensor:
    """Return the matrix that blurs an axis."""
    reach = math.ceil(_REACH * sigma)
    places = torch.arange(size, dtype=torch.float64)
    apart = places[:, None] - places
    weights = torch.exp(-0.5 * (apart / sigma) ** 2) * (apart.abs() <= reach)
    return weights / weights.sum(1, keepdim=True)
