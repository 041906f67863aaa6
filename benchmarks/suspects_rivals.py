"""Rankings of suspects to compare with: plain cosine, CSLS and label checkers.

A ranking has a score per unit of each kind of suspects_planted.py, larger for what is
more suspicious. *Plain cosine* and *CSLS* rank pairs of images of different identities;
for images, two further rankings subtract the nearness to the own identity (*margin*).
*Self-confidence* is that of cleanlab with probabilities from the labels of neighbors,
weighted by nearness. *Mistakenness* has the formula of FiftyOne's brain for
classifications with logits, ``(m * exp(-H) + 1) / 2`` with m = 1 where the predicted
label differs and -1 where it agrees, and H the entropy of the probabilities; the
classifier is the nearest other image of each identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from suspects_planted import CROP, LINKED, MERGED, MISLABELED, SPLIT

NEIGHBORS = 10
# Logits in standard deviations of the nearness of strangers, times this.
_SHARPNESS = 3.0


@dataclass(frozen=True)
class Images:
    """What every ranking is made from: N images of a world."""

    embeddings: NDArray[np.float32]
    metric: str
    identities: NDArray[np.int64]
    cameras: NDArray[np.int64]
    small: NDArray[np.uint8] | None
    nearness: NDArray[np.float64] = field(init=False)  # (N, N), -inf with itself

    def __post_init__(self) -> None:
        vectors = self.embeddings.astype(np.float64)
        if self.metric == "cosine":
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            nearness = vectors @ vectors.T
        else:
            squares = np.square(vectors).sum(axis=1)
            products = squares[:, None] + squares - 2 * vectors @ vectors.T
            nearness = -np.sqrt(np.maximum(products, 0))
        np.fill_diagonal(nearness, -np.inf)
        object.__setattr__(self, "nearness", nearness)

    @property
    def same(self) -> NDArray[np.bool_]:
        """Pairs of images under one identity, an image with itself included."""
        return self.identities[:, None] == self.identities

    def to_identities(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take the largest value of each image's pairs per identity, (N, C)."""
        order = np.argsort(self.identities, kind="stable")
        starts = np.searchsorted(
            self.identities[order], np.arange(self.identities.max() + 1)
        )
        return np.maximum.reduceat(values[:, order], starts, axis=1)


@dataclass(frozen=True)
class Ranking:
    """Scores per kind; ``links`` scores pairs of images, and names the witnesses.

    ``flagged`` are the images above the method's own threshold for a wrong label.
    """

    scores: dict[str, NDArray[np.float64]]
    links: NDArray[np.float64] | None = None
    flagged: NDArray[np.bool_] | None = None


def rank_by_all(images: Images) -> dict[str, Ranking]:
    """Return every rival's ranking, by name."""
    return {
        "cosine": rank_by_pairs(images, images.nearness),
        "CSLS": rank_by_pairs(images, csls(images)),
        "cosine margin": rank_by_margin(images, images.nearness),
        "CSLS margin": rank_by_margin(images, csls(images)),
        "self-confidence": rank_by_confidence(images),
        "mistakenness": rank_by_mistakenness(images),
    }


def csls(images: Images) -> NDArray[np.float64]:
    """Subtract the mean nearness to the nearest strangers of either image."""
    strangers = np.where(images.same, -np.inf, images.nearness)
    mean = largest(strangers, NEIGHBORS).mean(axis=1)
    return 2 * images.nearness - mean[:, None] - mean


def rank_by_pairs(images: Images, values: NDArray[np.float64]) -> Ranking:
    """Rank pairs of images, and what they are part of by the nearest pair."""
    links = np.where(images.same, -np.inf, values)
    nearest = np.argsort(-links, axis=1)[:, :NEIGHBORS]
    own = np.where(images.same, values, np.inf)
    np.fill_diagonal(own, np.inf)
    lowest = _by_identity(images, -own.min(axis=1), np.max)
    return Ranking(
        {
            MISLABELED: links.max(axis=1),
            SPLIT: pairs_of(images, links),
            LINKED: pairs_of(images, links),
            MERGED: lowest,
            CROP: np.bincount(nearest.ravel(), minlength=len(values)).astype(float),
        },
        links,
    )


def rank_by_margin(images: Images, values: NDArray[np.float64]) -> Ranking:
    """Rank images by how much nearer the nearest stranger is than the own identity."""
    links = np.where(images.same, -np.inf, values)
    own = np.where(images.same, values, -np.inf).max(axis=1)
    known = np.isfinite(own)
    own = np.where(known, own, np.median(own[known]))
    links = links - own[:, None]
    margin = links.max(axis=1)
    return Ranking(
        {MISLABELED: margin, CROP: -own, LINKED: pairs_of(images, links)}, links
    )


def rank_by_confidence(images: Images) -> Ranking:
    """Rank by the probability of the own label among the labels of neighbors."""
    near = images.nearness
    columns = np.argsort(-near, axis=1)[:, :NEIGHBORS]
    values = np.take_along_axis(near, columns, axis=1)
    spread = max(float(np.std(near[~images.same])), 1e-9)
    weights = np.exp((values - values[:, :1]) / spread)
    count, groups = len(near), int(images.identities.max()) + 1
    shares = np.zeros((count, groups))
    np.add.at(shares, (np.arange(count)[:, None], images.identities[columns]), weights)
    shares /= shares.sum(axis=1, keepdims=True)
    own = shares[np.arange(count), images.identities]
    links = np.where(images.same, -np.inf, shares[:, images.identities])
    # Of the images of the identity that is meant, the nearest is the witness.
    links += 1e-9 * np.where(np.isfinite(near), near, 0)
    joint = np.zeros((groups, groups))
    np.add.at(joint, images.identities, shares)
    joint /= np.bincount(images.identities)[:, None]
    return Ranking(
        {
            MISLABELED: 1 - own,
            SPLIT: joint + joint.T,
            LINKED: pairs_of(images, links),
            MERGED: _by_identity(images, 1 - own, np.mean),
            CROP: 1 - own,
        },
        links,
    )


def rank_by_mistakenness(images: Images) -> Ranking:
    """Rank by the mistakenness of a classifier of nearest identities."""
    strangers = images.nearness[~images.same]
    scale = _SHARPNESS / max(float(np.std(strangers)), 1e-9)
    logits = images.to_identities(images.nearness) * scale
    logits -= logits.max(axis=1, keepdims=True)
    shares = np.exp(logits)
    shares /= shares.sum(axis=1, keepdims=True)
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=1)
    predicted = shares.argmax(axis=1)
    groups = shares.shape[1]
    wrong = np.where(predicted == images.identities, -1.0, 1.0)
    scores = (wrong * np.exp(-entropy) + 1) / 2
    means = np.where(predicted[:, None] == images.identities, scores[:, None], 0.0)
    means = means + 1e-9 * np.where(np.isfinite(images.nearness), images.nearness, 0)
    links = np.where(images.same, -np.inf, means)
    joint = np.zeros((groups, groups))
    np.add.at(joint, (images.identities, predicted), np.where(wrong > 0, scores, 0))
    joint /= np.bincount(images.identities)[:, None]
    return Ranking(
        {
            MISLABELED: scores,
            SPLIT: joint + joint.T,
            LINKED: pairs_of(images, links),
            MERGED: _by_identity(images, scores, np.mean),
            CROP: scores,
        },
        links,
    )


def pairs_of(images: Images, links: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the largest link of each pair of identities, (C, C)."""
    rows = images.to_identities(links)
    groups = rows.shape[1]
    best = np.full((groups, groups), -np.inf)
    np.maximum.at(best, images.identities, rows)
    return np.maximum(best, best.T)


def largest(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the largest values of each row, largest first."""
    count = min(count, values.shape[1])
    part = np.partition(values, values.shape[1] - count, axis=1)[:, -count:]
    return -np.sort(-part, axis=1)


def _by_identity(
    images: Images, values: NDArray[np.float64], reduce: object
) -> NDArray[np.float64]:
    """Reduce images' values per identity; identities of one image come last."""
    result = np.full(int(images.identities.max()) + 1, -np.inf)
    for code in range(len(result)):
        own = values[images.identities == code]
        if len(own) > 1:
            result[code] = reduce(own)  # type: ignore[operator]
    return result
