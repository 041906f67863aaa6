"""Features of a pair that may tell a false match from a true one as similar.

They are made from what each place of the query contributes to the similarity with each
place of its neighbor (:func:`fiftyone_sfam.attribution.contributions.points`), and from
how like the places' feature vectors are. A feature of a pair is the mean of both
directions. Places count by their positive evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.floating[Any]]

GROUPS = {
    "coherence": (
        "best places: correlation of coordinates",
        "best places: fit of an affine map",
        "best places: distance from the own place",
        "best places: mutual",
        "likest places: fit of an affine map",
        "likest places: mutual",
        "likest places: likeness",
        "entropy of each place's matches",
        "share of places with themselves",
        "agreement of both evidence maps",
    ),
    "concentration": (
        "largest place's share",
        "Gini of the places",
        "effective number of places",
        "share that speaks against",
    ),
    "background": ("background's share",),
    "control": ("likeness of the averaged maps",),
}
"""Features by the idea that they come from.

The *best* place for a place is the one with which it contributes most to the
similarity; the *likest* one has the most similar feature vector. The control is a
second similarity of the pair that knows no places.
"""

FEATURES = tuple(name for names in GROUPS.values() for name in names)

_NONE = 1e-12


@dataclass(frozen=True)
class PlacedImage:
    """What the features of a pair need of an image with P places."""

    contributions: NDArray[np.float32]  # (P, D)
    likeness: NDArray[np.float32]  # unit vectors of the centered feature map, (P, C)
    average: NDArray[np.float32]  # unit vector of the averaged feature map, (C,)
    embedding: NDArray[np.float32]  # (D,)
    places: NDArray[np.float64]  # centers of the places, x and y in [0, 1], (P, 2)
    background: NDArray[np.float64] | None  # its share of each place, (P,)


def unit_vectors(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Center the vectors of an image's places or of all images, and normalize them.

    After a ReLU, all have much in common, and each would be like every other.
    """
    centered = vectors - vectors.mean(axis=0)
    lengths = np.linalg.norm(centered, axis=1, keepdims=True)
    return (centered / np.maximum(lengths, _NONE)).astype(np.float32)


def centers(height: int, width: int) -> NDArray[np.float64]:
    """Return the centers of a map's places, x and y in [0, 1], row by row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([(x.ravel() + 0.5) / width, (y.ravel() + 0.5) / height], axis=1)


def background_of(
    path: Path, folder: Path, height: int, width: int, *, padded: bool
) -> NDArray[np.float64] | None:
    """Return the share of the background at each place; None without a mask."""
    from fiftyone_sfam.audit.regions.partitions import WHOLE, resample

    masks = folder.with_name(f"{folder.name}_masks")
    file = (masks / path.relative_to(folder)).with_suffix(".png")
    if not file.is_file():
        return None
    person = np.asarray(Image.open(file).convert("L"))[None] > 127
    # With 8 black columns on either side of 96.
    box = (-8 / 96, 0.0, 104 / 96, 1.0) if padded else WHOLE
    return 1 - resample(person, height, width, box)[0].ravel()


def measure_pair(
    query: PlacedImage, neighbor: PlacedImage, scale: float
) -> NDArray[np.float64]:
    """Measure :data:`FEATURES`; ``scale`` is the normalizer of the similarity."""
    matrix = query.contributions @ neighbor.contributions.T / np.float32(scale)
    likeness = query.likeness @ neighbor.likeness.T
    maps = (
        query.contributions @ neighbor.embedding / np.float32(scale),
        neighbor.contributions @ query.embedding / np.float32(scale),
    )
    sides = (
        _measure_side(query, neighbor, matrix, likeness, maps[0]),
        _measure_side(neighbor, query, matrix.T, likeness.T, maps[1]),
    )
    found = {name: (sides[0][name] + sides[1][name]) / 2 for name in sides[0]}
    found["agreement of both evidence maps"] = _correlation(*maps)
    found["likeness of the averaged maps"] = float(query.average @ neighbor.average)
    return np.array([found[name] for name in FEATURES])


def _measure_side(
    image: PlacedImage,
    other: PlacedImage,
    matrix: Array,
    likeness: Array,
    evidence: Array,
) -> dict[str, float]:
    """Measure the features of one side of a pair."""
    count = len(evidence)
    positive = np.maximum(evidence, 0).astype(np.float64)
    weights = positive / max(positive.sum(), _NONE)
    total = max(float(np.abs(evidence).sum()), _NONE)
    matches = np.maximum(matrix, 0)
    background = np.nan
    if image.background is not None:
        background = float(image.background @ evidence) / total
    found = {
        "likest places: likeness": weights @ likeness.max(axis=1),
        "entropy of each place's matches": weights @ _entropies(matches),
        "share of places with themselves": np.trace(matches)
        / max(matches.sum(), _NONE),
        "largest place's share": weights.max(),
        "Gini of the places": (2 * np.arange(1, count + 1) - count - 1)
        @ np.sort(weights)
        / count,
        "effective number of places": 1 / max(weights @ weights, _NONE),
        "share that speaks against": np.maximum(-evidence, 0).sum() / total,
        "background's share": background,
    }
    for title, table in (("best", matrix), ("likest", likeness)):
        matched = table.argmax(axis=1)
        target = other.places[matched]
        mutual = table.argmax(axis=0)[matched] == np.arange(count)
        found |= {
            f"{title} places: correlation of coordinates": np.mean(
                [
                    _correlation(image.places[:, axis], target[:, axis], weights)
                    for axis in (0, 1)
                ]
            ),
            f"{title} places: fit of an affine map": _affine(
                image.places, target, weights
            ),
            f"{title} places: distance from the own place": weights
            @ np.linalg.norm(image.places - target, axis=1),
            f"{title} places: mutual": weights @ mutual,
        }
    return {name: float(value) for name, value in found.items()}


def _affine(source: Array, target: Array, weights: Array) -> float:
    """Return the share of the spread of the matched places that an affine map fits."""
    root = np.sqrt(weights)[:, None]
    left = (source - weights @ source) * root
    right = (target - weights @ target) * root
    spread = float(np.square(right).sum())
    if spread < _NONE:
        return 0.0
    fitted, *_ = np.linalg.lstsq(left, right, rcond=None)
    return 1 - float(np.square(right - left @ fitted).sum()) / spread


def _entropies(positive: Array) -> Array:
    """Return the entropy of each row, in units of the largest possible one."""
    sums = positive.sum(axis=1, keepdims=True)
    rows = positive / np.maximum(sums, np.float32(_NONE))
    logs = np.log(np.where(rows > 0, rows, 1))
    return -(rows * logs).sum(axis=1) / np.log(positive.shape[1])


def _correlation(first: Array, second: Array, weights: Array | None = None) -> float:
    """Correlate two columns with weights that add up to 1; 0 if one is constant."""
    if weights is None:
        weights = np.full(len(first), 1 / len(first))
    left, right = first - weights @ first, second - weights @ second
    length = np.sqrt((weights @ left**2) * (weights @ right**2))
    return float(weights @ (left * right) / length) if length > _NONE else 0.0
