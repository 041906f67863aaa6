"""Features of a pair that may tell a false match from a true one as similar.

The matrix of a pair has what each place of the query contributes to the similarity with
each place of its neighbor (:func:`fiftyone_sfam.attribution.contributions.points`). A
feature of a pair is symmetric in its two images: the mean of both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

GROUPS = {
    "coherence": (
        "best places: correlation of coordinates",
        "best places: fit of an affine map",
        "best places: distance from the own place",
        "best places: mutual",
        "like places: correlation of coordinates",
        "like places: fit of an affine map",
        "like places: distance from the own place",
        "like places: mutual",
        "entropy of each place's matches",
        "share of places matched with themselves",
        "agreement of the two evidence maps",
    ),
    "concentration": (
        "largest place's share",
        "Gini of the places",
        "effective number of places",
        "share that speaks against",
        "largest third's share",
        "share of no place",
    ),
    "background": ("background's share", "background's area"),
}
"""Features by the idea that they come from."""

_THIRDS = 3


@dataclass(frozen=True)
class PlacedImage:
    """What the features of a pair need of an image with P places."""

    contributions: NDArray[np.float32]  # (P, D)
    likeness: NDArray[np.float32]  # unit vectors of the centered feature map, (P, C)
    embedding: NDArray[np.float32]  # (D,)
    places: NDArray[np.float64]  # centers of the places, x and y in [0, 1], (P, 2)
    background: NDArray[np.float64] | None  # share of each place, (P,)


def unit_vectors(feature_map: NDArray[np.float32]) -> NDArray[np.float32]:
    """Center the vectors of an image's places, and scale them to length 1.

    Feature maps after a ReLU have a large part in common at all places, which would
    make every place like every other.
    """
    centered = feature_map - feature_map.mean(axis=0)
    lengths = np.linalg.norm(centered, axis=1, keepdims=True)
    return (centered / np.maximum(lengths, 1e-12)).astype(np.float32)


def measure_pair(
    query: PlacedImage, neighbor: PlacedImage, scale: float
) -> dict[str, float]:
    """Measure all features of a pair; ``scale`` is the normalizer of its similarity."""
    matrix = query.contributions @ neighbor.contributions.T / np.float32(scale)
    maps = (
        query.contributions @ neighbor.embedding / np.float32(scale),
        neighbor.contributions @ query.embedding / np.float32(scale),
    )
    score = float(query.embedding @ neighbor.embedding) / scale
    likeness = query.likeness @ neighbor.likeness.T
    sides = [
        _measure_side(query, neighbor, matrix, likeness, maps[0], score),
        _measure_side(neighbor, query, matrix.T, likeness.T, maps[1], score),
    ]
    found = {name: (sides[0][name] + sides[1][name]) / 2 for name in sides[0]}
    found["agreement of the two evidence maps"] = _correlation(*maps)
    for name in GROUPS["background"]:
        known = [side for side in (query, neighbor) if side.background is not None]
        values = [_background(side, name, maps[side is neighbor]) for side in known]
        found[name] = float(np.mean(values)) if len(known) == 2 else np.nan
    return found


def _measure_side(
    image: PlacedImage,
    other: PlacedImage,
    matrix: Array,
    likeness: Array,
    evidence: Array,
    score: float,
) -> dict[str, float]:
    """Measure the features of one side of a pair."""
    positive = np.maximum(evidence, 0).astype(np.float64)
    total = max(positive.sum(), 1e-12)
    weights = positive / total
    entropy = _entropies(matrix)
    order = np.argsort(image.places[:, 1], kind="stable")
    thirds = [part.sum() for part in np.array_split(evidence[order], _THIRDS)]
    ranked = np.sort(weights)
    count = len(weights)
    own = np.maximum(matrix, 0)
    found = {
        "entropy of each place's matches": float(weights @ entropy),
        "share of places matched with themselves": float(
            np.trace(own) / max(own.sum(), 1e-12)
        ),
        "largest place's share": float(weights.max()),
        "Gini of the places": float(
            (2 * np.arange(1, count + 1) - count - 1) @ ranked / count
        ),
        "effective number of places": float(1 / max(weights @ weights, 1e-12)),
        "share that speaks against": float(
            np.maximum(-evidence, 0).sum() / max(np.abs(evidence).sum(), 1e-12)
        ),
        "largest third's share": float(
            max(thirds) / max(np.abs(evidence).sum(), 1e-12)
        ),
        "share of no place": 1 - float(evidence.sum()) / score,
    }
    for title, table in (("best", matrix), ("like", likeness)):
        best = table.argmax(axis=1)
        back = table.argmax(axis=0)
        target = other.places[best]
        found |= {
            f"{title} places: correlation of coordinates": _coordinates(
                image.places, target, weights
            ),
            f"{title} places: fit of an affine map": _affine(
                image.places, target, weights
            ),
            f"{title} places: distance from the own place": float(
                weights @ np.linalg.norm(image.places - target, axis=1)
            ),
            f"{title} places: mutual": float(
                weights @ (back[best] == np.arange(count))
            ),
        }
    return found


def _coordinates(source: Array, target: Array, weights: Array) -> float:
    """Correlate x with x and y with y, and return the mean; 0 where all is constant."""
    return float(
        np.mean([_correlation(source[:, i], target[:, i], weights) for i in (0, 1)])
    )


def _affine(source: Array, target: Array, weights: Array) -> float:
    """Return the share of the spread of the matched places that an affine map fits."""
    left = source - weights @ source
    right = target - weights @ target
    root = np.sqrt(weights)[:, None]
    spread = float(np.square(right * root).sum())
    if spread < 1e-9:
        return 0.0
    fitted, *_ = np.linalg.lstsq(left * root, right * root, rcond=None)
    return 1 - float(np.square((right - left @ fitted) * root).sum()) / spread


def _entropies(matrix: Array) -> Array:
    """Return the entropy of each row's positive part, in units of its maximum."""
    positive = np.maximum(matrix, 0).astype(np.float64)
    rows = positive / np.maximum(positive.sum(axis=1, keepdims=True), 1e-12)
    logs = np.log(np.where(rows > 0, rows, 1))
    return -(rows * logs).sum(axis=1) / np.log(matrix.shape[1])


def _correlation(first: Array, second: Array, weights: Array | None = None) -> float:
    """Correlate two columns with weights that add up to 1."""
    if weights is None:
        weights = np.full(len(first), 1 / len(first))
    left, right = first - weights @ first, second - weights @ second
    length = np.sqrt((weights @ left**2) * (weights @ right**2))
    return float(weights @ (left * right) / length) if length > 1e-12 else 0.0


def _background(image: PlacedImage, name: str, evidence: Array) -> float:
    """Return the background's share of an image's evidence, or of its area."""
    assert image.background is not None
    if name.endswith("area"):
        return float(image.background.mean())
    return float(image.background @ evidence / max(np.abs(evidence).sum(), 1e-12))
