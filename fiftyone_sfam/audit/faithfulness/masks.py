"""Embeddings of an image of which more and more is hidden, in the order of a map.

Every measure of faithfulness is made of these: deletion hides the pixels that a map
calls important first, insertion begins with nothing and shows them first (V. Petsiuk,
A. Das, K. Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box
Models", 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fiftyone_sfam.audit.faithfulness.fills import Fill, hide
from fiftyone_sfam.errors import DataError

STEPS = 10
"""Steps of a curve."""


@dataclass(frozen=True)
class MaskedEmbeddings:
    """Embeddings of one image, masked in the order of each of M maps."""

    deletion: Tensor
    insertion: Tensor

    @property
    def fractions(self) -> Tensor:
        """Shares of the pixels that are hidden or shown, shape (T + 1,)."""
        return torch.linspace(0, 1, self.deletion.shape[1])


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps to the pixels of the network's input."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps.float()
    return F.interpolate(
        maps.float()[:, None], size=size, mode="bilinear", align_corners=False
    )[:, 0]


def pixel_ranks(maps: Tensor, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Rank pixels by signed maps, the most positive first."""
    if not bool(torch.isfinite(maps).all()):
        raise DataError("a map holds values that are not finite; it ranks no pixels.")
    flat = upsample(maps, size).flatten(1).cpu()
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randperm(flat.shape[1], generator=generator)
    order = mixed[flat[:, mixed].argsort(dim=1, descending=True, stable=True)]
    ranks = torch.empty_like(order)
    places = torch.arange(flat.shape[1]).expand_as(order)
    return ranks.scatter_(1, order, places).reshape(len(maps), *size)


def first_pixels(ranks: Tensor, steps: int = STEPS) -> Tensor:
    """Mark the first pixels of a ranking, more and more of them."""
    if steps < 2:
        raise DataError(f"steps is {steps!r}; a whole number from 2 is needed.")
    pixels = ranks.shape[1] * ranks.shape[2]
    counts = torch.linspace(0, pixels, steps + 1, dtype=torch.float64).round()
    return ranks[:, None] < counts.to(ranks)[:, None, None]


def masked_embeddings(
    embed: Callable[[Tensor], Tensor],
    image: Tensor,
    maps: Tensor,
    *,
    steps: int = STEPS,
    fill: Fill = "blur",
    batch_size: int = 64,
    seed: int = 0,
) -> MaskedEmbeddings:
    """Embed an image with more and more of it hidden or shown.

    The untouched image and the wholly hidden one are embedded once for all maps; the
    other ``2 M (T - 1)`` images go through the network in batches.
    """
    height, width = image.shape[-2:]
    marked = first_pixels(pixel_ranks(maps, (height, width), seed), steps)
    inner = marked[:, 1:-1].to(image.device)
    ends = torch.tensor([False, True], device=image.device)
    hidden = torch.cat(
        [
            ends[:, None, None].expand(2, height, width),
            inner.flatten(0, 1),
            ~inner.flatten(0, 1),
        ]
    )
    found = torch.cat(
        [
            embed(hide(image, chosen, fill)).float().cpu()
            for chosen in hidden.split(batch_size)
        ]
    )
    whole, nothing = (found[i].expand(len(maps), 1, -1) for i in (0, 1))
    deleted, inserted = found[2:].reshape(2, len(maps), steps - 1, -1)
    return MaskedEmbeddings(
        torch.cat([whole, deleted, nothing], 1),
        torch.cat([nothing, inserted, whole], 1),
    )
