"""Embeddings of an image that is hidden step by step in the order of a map.

All measures of faithfulness derive from these. Deletion hides the pixels with the
largest map values first. Insertion starts with a hidden image and shows them first (V.
Petsiuk, A. Das, K. Saenko, "RISE: Randomized Input Sampling for Explanation of
Black-box Models", 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from fiftyone_sfam.attribution.path import blur
from fiftyone_sfam.audit.faithfulness.curves import Curves
from fiftyone_sfam.audit.statistics.bootstrap import equal_error
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.metric import Metric, distance, similarity

Fill = Literal["blur", "mean", "inpaint", "patches"]
FILLS: tuple[Fill, ...] = ("blur", "mean", "inpaint", "patches")
PATCHES = "patches"
"""Fill with the same places of another image of the dataset."""

STEPS = 10
"""Steps of a curve."""


def hide(
    image: Tensor, hidden: Tensor, fill: Fill = "blur", other: Tensor | None = None
) -> Tensor:
    """Hide pixels of an image (3, H, W) by B masks (B, H, W).

    ``other`` is the image (3, H, W) whose patches hide them.
    """
    if fill == "blur":
        filled = blur(image[None])
    elif fill == "mean":
        filled = image.mean((1, 2), keepdim=True)[None]
    elif fill == "inpaint":
        return inpaint(image.expand(len(hidden), -1, -1, -1), hidden)
    elif fill == PATCHES:
        if other is None:
            raise DataError(f"the fill {fill!r} needs another image to take them from.")
        filled = other[None]
    else:
        raise DataError(f"unknown fill {fill!r}; use one of {', '.join(FILLS)}.")
    return torch.where(hidden[:, None], filled, image[None])


def inpaint(images: Tensor, hidden: Tensor) -> Tensor:
    """Fill holes smoothly from the pixels around them.

    Pull-push interpolation (S. Gortler et al., "The Lumigraph", 1996): known pixels are
    averaged over squares of 2, 4, 8, ... pixels, and a hole takes the value of the
    smallest square with a known pixel.
    """
    known = (~hidden)[:, None].to(images)
    values, weights = [images * known], [known]
    while max(values[-1].shape[-2:]) > 1:
        value, weight = (
            F.avg_pool2d(levels[-1], 2, ceil_mode=True) for levels in (values, weights)
        )
        values.append(value / torch.where(weight > 0, weight, 1))
        weights.append((weight > 0).to(images))
        values[-1] = values[-1] * weights[-1]
    mean = images.mean((2, 3), keepdim=True)
    filled = torch.where(weights[-1] > 0, values[-1], mean)
    for value, weight in zip(values[-2::-1], weights[-2::-1], strict=True):
        coarse = F.interpolate(
            filled, size=value.shape[-2:], mode="bilinear", align_corners=False
        )
        filled = torch.where(weight > 0, value, coarse)
    return filled


@dataclass(frozen=True)
class MaskedEmbeddings:
    """Embeddings of one image, masked in T steps in the order of each of M maps."""

    deletion: Tensor  # (M, T + 1, D)
    insertion: Tensor  # (M, T + 1, D)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps to the network's input."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps.float()
    return F.interpolate(
        maps.float()[:, None], size=size, mode="bilinear", align_corners=False
    )[:, 0]


def pixel_ranks(maps: Tensor, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Rank pixels by signed maps, the most positive first; ties in random order."""
    if not bool(torch.isfinite(maps).all()):
        raise DataError("a map has values that are not finite and cannot rank pixels.")
    flat = upsample(maps, size).flatten(1).cpu()
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randperm(flat.shape[1], generator=generator)
    order = mixed[flat[:, mixed].argsort(dim=1, descending=True, stable=True)]
    ranks = torch.arange(flat.shape[1]).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, ranks).reshape(len(maps), *size)


def first_pixels(ranks: Tensor, steps: int = STEPS) -> Tensor:
    """Return masks of the first pixels of a ranking, shape (M, T + 1, H, W)."""
    check_steps(steps)
    pixels = ranks.shape[1] * ranks.shape[2]
    counts = torch.linspace(0, pixels, steps + 1, dtype=torch.float64).round()
    return ranks[:, None] < counts.to(ranks)[:, None, None]


def check_steps(steps: int) -> None:
    """Raise if a curve cannot have this many steps."""
    if steps < 2:
        raise DataError(f"steps is {steps!r}; use a whole number from 2.")


def masked_embeddings(
    embed: Callable[[Tensor], Tensor],
    image: Tensor,
    maps: Tensor,
    *,
    steps: int = STEPS,
    fill: Fill = "blur",
    other: Tensor | None = None,
    batch_size: int = 64,
    seed: int = 0,
) -> MaskedEmbeddings:
    """Embed an image while it is hidden, and while it is shown, step by step.

    The original and the entirely hidden image are embedded once for all maps, the other
    ``2 M (T - 1)`` images in batches, and once where maps agree on the pixels.
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
    distinct, places = _distinct(hidden)
    embeddings = torch.cat(
        [
            embed(hide(image, masks, fill, other)).float().cpu()
            for masks in distinct.split(batch_size)
        ]
    )[places]
    original, empty = (embeddings[i].expand(len(maps), 1, -1) for i in (0, 1))
    deleted, inserted = embeddings[2:].reshape(2, len(maps), steps - 1, -1)
    return MaskedEmbeddings(
        torch.cat([original, deleted, empty], 1),
        torch.cat([empty, inserted, original], 1),
    )


def _distinct(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return masks without repetitions, and where each of the given ones is."""
    packed = np.packbits(masks.flatten(1).cpu().numpy(), axis=1)
    first: dict[bytes, int] = {}
    places = [first.setdefault(row.tobytes(), len(first)) for row in packed]
    _, rows = np.unique(places, return_index=True)
    return masks[torch.from_numpy(rows).to(masks.device)], torch.tensor(places)


def similarity_curves(
    masked: MaskedEmbeddings,
    partners: Tensor | MaskedEmbeddings,
    metric: Metric = "cosine",
) -> Curves:
    """Compute the similarity to partners, which may be masked too, at each step."""
    if not isinstance(partners, MaskedEmbeddings):
        partners = MaskedEmbeddings(
            partners.float()[:, None], partners.float()[:, None]
        )
    deletion = similarity(masked.deletion.double(), partners.deletion.double(), metric)
    insertion = similarity(
        masked.insertion.double(), partners.insertion.double(), metric
    )
    return Curves(deletion.numpy(), insertion.numpy())


def partner_ranks(
    masked: Tensor,
    gallery: Tensor,
    partner: int,
    candidates: NDArray[np.bool_],
    metric: Metric = "cosine",
) -> NDArray[np.int64]:
    """Return the rank of a partner among candidates, at each step of the query."""
    away = distance(masked.double()[:, None], gallery.double()[None], metric).numpy()
    nearer = away[:, candidates] < away[:, [partner]]
    return nearer.sum(axis=1).astype(np.int64) + 1


def equal_error_threshold(
    genuine: NDArray[np.floating], impostor: NDArray[np.floating]
) -> float:
    """Return the similarity at which the two error rates are closest."""
    if len(genuine) == 0 or len(impostor) == 0:
        raise DataError(
            "a threshold needs genuine and impostor pairs; there are "
            f"{len(genuine)} and {len(impostor)}."
        )
    _, lowest = equal_error(np.sort(genuine), np.sort(impostor))
    scores = np.concatenate([genuine, impostor])
    below = scores[scores < lowest].max(initial=scores.min())
    # Halfway between two scores, so that rounding does not decide about any pair.
    return float((below + lowest) / 2)


def map_correlations(first: Tensor, second: Tensor) -> NDArray[np.float64]:
    """Compute the Pearson correlations of maps, pair by pair, shape (M,).

    Between an image's maps towards two partners, 1 means that the map ignores the
    partner. Between the maps of an image and of a slightly changed image, 1 means that
    the map is stable.
    """
    first, second = (
        maps.double().flatten(1) - maps.double().flatten(1).mean(1, keepdim=True)
        for maps in (first, second)
    )
    length = first.norm(dim=1) * second.norm(dim=1)
    products = (first * second).sum(1)
    return np.asarray((products / torch.where(length > 0, length, torch.nan)).numpy())
