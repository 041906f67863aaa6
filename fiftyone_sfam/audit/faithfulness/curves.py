"""What masked embeddings tell of the maps that ordered the masks.

All measures take embeddings, not images: the same masked images serve the similarity to
any partner, the rank of a partner, and the decision of a verification.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fiftyone_sfam.audit.faithfulness.masks import MaskedEmbeddings
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.metric import Metric, distance, similarity


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
    """Find the similarity at which the two error rates of a verification are closest."""
    if len(genuine) == 0 or len(impostor) == 0:
        raise DataError(
            "a threshold needs genuine and impostor pairs; there are "
            f"{len(genuine)} and {len(impostor)}."
        )
    scores = np.unique(np.concatenate([genuine, impostor]))
    refused = np.searchsorted(np.sort(genuine), scores, side="left") / len(genuine)
    accepted = 1 - np.searchsorted(np.sort(impostor), scores, side="left") / len(
        impostor
    )
    # Halfway between two scores, so that rounding decides about no pair.
    best = int(np.abs(refused - accepted).argmin())
    below = scores[max(best - 1, 0)]
    return float((below + scores[best]) / 2)


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
