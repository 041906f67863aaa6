"""Embeddings of an image of which more and more is hidden, in the order of a map.

Every measure of faithfulness is made of these: deletion hides the pixels that a map
calls important first, insertion begins with nothing and shows them first (V. Petsiuk,
A. Das, K. Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box
Models", 2018).
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

from fiftyone_sfam.attribution.blurring import blur
from fiftyone_sfam.audit.statistics.bootstrap import equal_error
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.metric import Metric, distance, similarity

Fill = Literal["blur", "mean", "inpaint"]
FILLS: tuple[Fill, ...] = ("blur", "mean", "inpaint")


def hide(image: Tensor, hidden: Tensor, fill: Fill = "blur") -> Tensor:
    """Hide pixels of one image in several ways."""
    if fill == "blur":
        other = blur(image[None])
    elif fill == "mean":
        other = image.mean((1, 2), keepdim=True)[None]
    elif fill == "inpaint":
        return inpaint(image.expand(len(hidden), -1, -1, -1), hidden)
    else:
        raise DataError(f"unknown fill {fill!r}; use one of {', '.join(FILLS)}.")
    return torch.where(hidden[:, None], other, image[None])


def inpaint(images: Tensor, hidden: Tensor) -> Tensor:
    """Fill holes smoothly from what is around them.

    Pull-push interpolation (S. Gortler et al., "The Lumigraph", 1996): known pixels are
    averaged over squares of 2, 4, 8, ... pixels, and a hole takes the value of the
    smallest squares that know anything.
    """
    known = (~hidden)[:, None].to(images)
    values, weights = [images * known], [known]
    while max(values[-1].shape[-2:]) > 1:
        value, weight = (_halved(one[-1]) for one in (values, weights))
        values.append(value / torch.where(weight > 0, weight, 1))
        weights.append((weight > 0).to(images))
        values[-1] = values[-1] * weights[-1]
    everything = images.mean((2, 3), keepdim=True)
    found = torch.where(weights[-1] > 0, values[-1], everything)
    for value, weight in zip(values[-2::-1], weights[-2::-1], strict=True):
        coarse = F.interpolate(
            found, size=value.shape[-2:], mode="bilinear", align_corners=False
        )
        found = torch.where(weight > 0, value, coarse)
    return found


def _halved(images: Tensor) -> Tensor:
    """Average squares of two pixels; the last row or column may stand alone."""
    return F.avg_pool2d(images, 2, ceil_mode=True)


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


@dataclass(frozen=True)
class Curves:
    """Similarities of M pairs while one image, or both, are masked."""

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]

    @property
    def margin(self) -> NDArray[np.float64]:
        """Area under insertion minus area under deletion, shape (M,).

        In units of the similarity; larger is better, and 0 is what an order that
        knows nothing has on average.
        """
        return area(self.insertion) - area(self.deletion)


def area(curves: NDArray[np.floating]) -> NDArray[np.float64]:
    """Compute the area under curves, by the trapezoidal rule."""
    values = np.asarray(curves, dtype=np.float64)
    return np.asarray((values[..., 1:] + values[..., :-1]).mean(axis=-1) / 2)


def similarity_curves(
    masked: MaskedEmbeddings,
    partners: Tensor | MaskedEmbeddings,
    metric: Metric = "cosine",
) -> Curves:
    """Follow the similarity to a partner while an image is masked."""
    if isinstance(partners, MaskedEmbeddings):
        others = partners.deletion, partners.insertion
    else:
        others = partners.float()[:, None], partners.float()[:, None]
    deletion, insertion = (
        similarity(one.double(), other.double(), metric).numpy()
        for one, other in zip((masked.deletion, masked.insertion), others, strict=True)
    )
    return Curves(deletion, insertion)


def partner_ranks(
    masked: Tensor,
    gallery: Tensor,
    partner: int,
    candidates: NDArray[np.bool_],
    metric: Metric = "cosine",
) -> NDArray[np.int64]:
    """Follow the rank of a partner while the query is masked."""
    apart = distance(masked.double()[:, None], gallery.double()[None], metric).numpy()
    nearer = apart[:, candidates] < apart[:, [partner]]
    return nearer.sum(axis=1).astype(np.int64) + 1


def equal_error_threshold(
    genuine: NDArray[np.floating], impostor: NDArray[np.floating]
) -> float:
    """Find the similarity at which the two error rates are closest."""
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


def verification_accuracy(
    scores: NDArray[np.floating],
    genuine: NDArray[np.bool_],
    threshold: float,
) -> NDArray[np.float64]:
    """Follow the accuracy of a verification while probes are masked.

    Both kinds of pairs count one half, however many there are of each. The threshold
    is that of untouched images and does not move.
    """
    accepted = np.asarray(scores) >= threshold
    right = accepted[genuine].mean(axis=0), 1 - accepted[~genuine].mean(axis=0)
    return np.asarray((right[0] + right[1]) / 2, dtype=np.float64)


def map_correlations(one: Tensor, other: Tensor) -> NDArray[np.float64]:
    """Correlate maps with maps, pair by pair (K. Pearson).

    Of an image's maps towards two partners it tells how little they look at the
    partner: 1 is a map that ignores it. Of the maps of an image and of the slightly
    changed image it tells their stability.
    """
    first, second = (
        maps.double().flatten(1) - maps.double().flatten(1).mean(1, keepdim=True)
        for maps in (one, other)
    )
    length = first.norm(dim=1) * second.norm(dim=1)
    found = (first * second).sum(1) / torch.where(length > 0, length, torch.nan)
    return np.asarray(found.numpy())
