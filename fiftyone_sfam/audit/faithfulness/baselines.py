"""Maps that know less than an explanation should: what it has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

CENTRE = 0.25
"""Standard deviation of the centre prior, as a share of each side."""


def random_maps(count: int, shape: tuple[int, int], seed: int) -> Tensor:
    """Draw maps that know nothing.

    Parameters
    ----------
    count : int
        Number of maps.
    shape : tuple of int
        Height and width; the resolution of the maps that they are compared with, so
        that their blobs are of the same size.
    seed : int
        Seed of the draws.

    Returns
    -------
    Tensor
        Standard normal values, shape (count, h, w), float32.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator)


def centre_prior(shape: tuple[int, int], share: float = CENTRE) -> Tensor:
    """Build the map that knows where photographers put things.

    Parameters
    ----------
    shape : tuple of int
        Height and width.
    share : float
        Standard deviation as a share of each side.

    Returns
    -------
    Tensor
        A Gaussian around the middle, 1 at its top, shape (h, w), float32.
    """
    down, across = (
        torch.exp(-0.5 * (((torch.arange(size) + 0.5) / size - 0.5) / share) ** 2)
        for size in shape
    )
    return down[:, None] * across


def plain_activation(feature_map: Tensor) -> Tensor:
    """Build the map that knows the image but not its partner.

    Parameters
    ----------
    feature_map : Tensor
        Shape (B, C, h, w).

    Returns
    -------
    Tensor
        Sum of the absolute values over the channels, shape (B, h, w).
    """
    return feature_map.abs().sum(1)
