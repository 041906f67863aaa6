"""Maps that know less than an explanation should: what it has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

CENTRE = 0.25
"""Standard deviation of the centre prior, as a share of each side."""


def random_maps(count: int, shape: tuple[int, int], seed: int) -> Tensor:
    """Draw maps that know nothing."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator)


def centre_prior(shape: tuple[int, int], share: float = CENTRE) -> Tensor:
    """Build the map that knows where photographers put things."""
    down, across = (
        torch.exp(-0.5 * (((torch.arange(size) + 0.5) / size - 0.5) / share) ** 2)
        for size in shape
    )
    return down[:, None] * across


def plain_activation(feature_map: Tensor) -> Tensor:
    """Build the map that knows the image but not its partner."""
    return feature_map.abs().sum(1)
