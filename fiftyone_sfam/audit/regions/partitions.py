"""Partitions of an image on the grid of its maps.

An evidence map adds up to the similarity, so any partition of the image splits the
similarity into additive parts. A region has a weight per cell of the map: the fraction
of the cell's area that the region covers. The weights of all regions add up to 1 in
every cell, so the parts add up to the sum of the map. This definition is specific to
this project.

Boxes are ``(left, top, right, bottom)``, relative to the image that the masks cover. A
map's box may extend beyond the image where the network saw padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import DataError

BACKGROUND = "background"
"""Name of the area that no mask and no box covers."""

WHOLE = (0.0, 0.0, 1.0, 1.0)
"""Box of a map that covers its whole image."""

Box = Sequence[float]

# Positions per side of a cell at which the nearest point is looked up.
_POSITIONS = 8
_THIRDS = ("upper third", "middle third", "lower third")


@dataclass(frozen=True)
class Regions:
    """A partition of an image, on the grid of its maps."""

    names: tuple[str, ...]  # unique names of the R regions
    weights: NDArray[np.float32]  # (R, h, w)

    def __post_init__(self) -> None:
        if self.weights.ndim != 3 or len(self.weights) != len(self.names):
            raise DataError(
                f"the weights of {counted(len(self.names), 'region')} have shape "
                f"{self.weights.shape}; expected (regions, height, width)."
            )
        if len(set(self.names)) < len(self.names):
            raise DataError(
                f"the names of the regions are not unique: {', '.join(self.names)}."
            )

    @property
    def area(self) -> NDArray[np.float64]:
        """Fraction of the map that each region covers, shape (R,); adds up to 1."""
        return self.weights.mean(axis=(1, 2), dtype=np.float64)


def split(evidence: NDArray[np.floating], regions: Regions) -> NDArray[np.float64]:
    """Sum maps by region; shapes (..., h, w) -> (..., R)."""
    grid = regions.weights.shape[1:]
    if evidence.shape[-2:] != grid:
        raise DataError(
            f"the map has shape {evidence.shape[-2:]}, but its regions have {grid}."
        )
    flat = evidence.reshape(*evidence.shape[:-2], -1).astype(np.float64)
    return flat @ regions.weights.reshape(len(regions.names), -1).astype(np.float64).T


def stripes(height: int, width: int, count: int = 3) -> Regions:
    """Divide a map into horizontal stripes of equal height."""
    check_stripes(count)
    parts = overlaps(np.linspace(0, height, count + 1), height)
    names = (
        _THIRDS
        if count == len(_THIRDS)
        else tuple(f"stripe {number + 1} of {count}" for number in range(count))
    )
    weights = np.repeat(parts[:, :, None], width, axis=2)
    return Regions(names, weights.astype(np.float32))


def check_stripes(count: int) -> None:
    """Raise if an image cannot be divided into this many stripes."""
    if count < 1:
        raise DataError(f"stripes is {count!r}; use a whole number from 1.")


def from_covers(names: Sequence[str], covers: NDArray[np.floating]) -> Regions:
    """Make a partition from parts that may overlap."""
    kept = list(dict.fromkeys(name for name in names if name != BACKGROUND))
    height, width = covers.shape[1:]
    joined = np.zeros((len(kept) + 1, height, width))
    for name, cover in zip(names, covers, strict=True):
        if name != BACKGROUND:
            joined[kept.index(name)] += cover
    np.clip(joined, 0, 1, out=joined)
    joined /= np.maximum(joined.sum(axis=0), 1)
    joined[-1] = np.maximum(1 - joined.sum(axis=0), 0)
    return Regions((*kept, BACKGROUND), joined.astype(np.float32))


def from_classes(
    mask: NDArray[np.integer],
    names: dict[int, str],
    height: int,
    width: int,
    box: Box = WHOLE,
) -> Regions:
    """Make a partition from a mask that holds one class per pixel."""
    classes = np.stack([mask == value for value in names] or [np.zeros_like(mask)])
    covers = resample(classes[: len(names)], height, width, box)
    return from_covers(list(names.values()), covers)


def resample(
    masks: NDArray[np.floating | np.bool_],
    height: int,
    width: int,
    box: Box = WHOLE,
    placed: Box = WHOLE,
) -> NDArray[np.float64]:
    """Average masks over the cells of a map."""
    rows, from_row, to_row = _averages(
        (box[1], box[3]), (placed[1], placed[3]), height, masks.shape[1]
    )
    columns, from_column, to_column = _averages(
        (box[0], box[2]), (placed[0], placed[2]), width, masks.shape[2]
    )
    seen = masks[:, from_row:to_row, from_column:to_column].astype(np.float64)
    return rows @ seen @ columns.T


def nearest_points(
    points: NDArray[np.floating],
    height: int,
    width: int,
    box: Box = WHOLE,
    aspect: float = 1.0,
) -> NDArray[np.float64]:
    """Return the fraction of each cell that is nearest to each point."""
    x = box[0] + (box[2] - box[0]) * _centers(width * _POSITIONS)
    y = box[1] + (box[3] - box[1]) * _centers(height * _POSITIONS)
    dx = (x - points[:, :1]) * aspect
    dy = y - points[:, 1:]
    nearest = (dx[:, None, :] ** 2 + dy[:, :, None] ** 2).argmin(axis=0)
    nearest = nearest.reshape(height, _POSITIONS, width, _POSITIONS)
    return np.stack(
        [(nearest == index).mean(axis=(1, 3)) for index in range(len(points))]
    )


# Most data sets hold crops of one size, which need the same weights.
@lru_cache(maxsize=256)
def _averages(
    box: tuple[float, float], placed: tuple[float, float], cells: int, pixels: int
) -> tuple[NDArray[np.float64], int, int]:
    """Return the weights (cells, pixels) that average pixels along an axis."""
    if not placed[1] > placed[0] or not box[1] > box[0]:
        return np.zeros((cells, 0)), 0, 0
    bounds = (np.asarray(box) - placed[0]) / (placed[1] - placed[0]) * pixels
    edges = np.linspace(bounds[0], bounds[1], cells + 1)
    start = int(np.clip(np.floor(edges[0]), 0, pixels))
    stop = int(np.clip(np.ceil(edges[-1]), start, pixels))
    weights = overlaps(edges - start, stop - start) / (edges[1] - edges[0])
    weights.flags.writeable = False
    return weights, start, stop


def overlaps(edges: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    """Return the overlap of each interval with each of ``count`` unit steps from 0."""
    steps = np.arange(count)
    ends = np.minimum(edges[1:, None], steps + 1)
    return np.clip(ends - np.maximum(edges[:-1, None], steps), 0, None)


def _centers(count: int) -> NDArray[np.float64]:
    return (np.arange(count) + 0.5) / count
