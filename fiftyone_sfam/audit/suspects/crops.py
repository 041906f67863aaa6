"""Crops that are off, from pixels: the content is moved, turned or of another size.

Crops of one kind are framed alike: eyes are at one height in all aligned faces. What is
usual is learned from the collection itself. Small copies are moved, turned and scaled
in all ways of :data:`CHANGES`; the means of their gradient features in each way, and
the features' common covariance, give a linear discriminant, which tells for each image
how much more likely each change is than none. An image is told by a discriminant that
was made without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.pixels import SIDE
from fiftyone_sfam.audit.suspects.space import robust_scale

DOUBTFUL = 6.0
"""Least strength of a crop that is off, in spreads of the collection."""

LEAST_IMAGES = 40
"""Fewest images that can show how a collection is framed."""

LEAST_COHERENCE = 0.065
"""Least agreement of images with each other if a collection is framed alike."""

# Images that the usual framing is learned from, and parts that are told by the others.
_SAMPLE = 1500
_FOLDS = 4
_BLOCK = 512
# Histograms of the gradient's direction in cells of so many pixels.
_DIRECTIONS = 8
_CELL = 4
_CELLS = SIDE // _CELL
_CHANNELS = _DIRECTIONS
# Contrast, in 8-bit steps, from which a gradient counts as one.
_FAINT = 16.0
_POOL = np.repeat(np.eye(_CELLS, dtype=np.float32), _CELL, axis=0)
# Images that a change is learned from at most, by groups that share a random difference;
# and differences that no change is learned from.
_EACH = 600
_GROUPS = 3
_DRAWS = 3
# Pixels that may lie beyond the edge.
_MARGIN = 0.0
# Weight of equal variances in the covariance.
_RIDGE = 0.3
# Least spread of log odds.
_LEAST_SPREAD = 0.1
# Differences between crops that are not off: of the place, as a fraction of the side, of
# the angle in degrees, and of the logarithm of the size.
_USUAL = (0.015, 0.015, 3.0, 0.03)
# Part of the images that the second pass leaves out, as they may be off.
_LEFT_OUT = 0.15


@dataclass(frozen=True)
class Change:
    """A way in which the content of a crop differs from the usual framing."""

    down: float = 0.0  # fraction of the height
    right: float = 0.0  # fraction of the width
    angle: float = 0.0  # degrees, counterclockwise
    size: float = 1.0  # of the content, in usual sizes
    aspect: float = 1.0  # height of the image in widths


def _list_changes() -> tuple[Change, ...]:
    """List moves in eight directions, turns and sizes."""
    moves = [
        Change(down=away * np.sin(turn), right=away * np.cos(turn))
        for away in (0.1, 0.18, 0.26)
        for turn in np.arange(8) * np.pi / 4
    ]
    turns = [Change(angle=angle) for angle in (-45, -32, -20, 20, 32, 45)]
    sizes = [Change(size=size) for size in (0.65, 0.78, 1.28, 1.5)]
    return (*moves, *turns, *sizes)


CHANGES = _list_changes()
"""Changes that are told apart."""


@dataclass(frozen=True)
class CropFigures:
    """How unusual the crops of N images are, each (N,), NaN without pixels.

    ``down`` and ``right`` say how far the content lies from its usual place, as
    fractions of the height and the width; ``angle`` how far it is turned, in degrees
    counterclockwise, 0 if a move or another size is more likely; ``size`` how large it
    is, in usual sizes.
    """

    strength: NDArray[np.float64]  # in spreads of the collection, larger is worse
    down: NDArray[np.float64]
    right: NDArray[np.float64]
    angle: NDArray[np.float64]
    size: NDArray[np.float64]
    gain: NDArray[np.float64]  # log odds of the best change against none
    coherence: float  # agreement of the images with each other, 1 if all are equal
    aligned: bool  # whether the collection has a usual framing; strengths are 0 if not

    @property
    def is_doubtful(self) -> NDArray[np.bool_]:
        """Images above the threshold."""
        return self.strength >= DOUBTFUL


def measure_crops(
    copies: dict[int, NDArray[np.float32]], count: int, seed: int = 0
) -> CropFigures:
    """Compare the framing of images with that of the collection.

    Parameters
    ----------
    copies : dict of int to ndarray of shape (32, 32, 3)
        Small copies by image, of :func:`~fiftyone_sfam.audit.suspects.pixels.small_copy`,
        with values from 0 to 255.
    count : int
        Number of images N.
    seed : int, default 0
        Seed of the sample and its changes.

    Returns
    -------
    CropFigures
        Arrays of shape (N,). If fewer than :data:`LEAST_IMAGES` images are given, or if
        they are not framed alike, ``aligned`` is False, strengths are 0 and changes
        are none.
    """
    images = np.array(sorted(copies), dtype=np.int64)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(images))
    folds = np.empty(len(images), dtype=np.int64)
    folds[order] = np.arange(len(images)) % _FOLDS
    sample = np.sort(order[:_SAMPLE])
    gray = _gray(copies, images[sample])
    agreement = coherence(features(gray)) if len(images) >= 2 else 0.0
    aligned = len(images) >= LEAST_IMAGES and agreement >= LEAST_COHERENCE
    if not aligned:
        return _without_framing(images, count, agreement)
    discriminants = _learn(gray, folds[sample], generator)
    odds = np.concatenate(
        [
            _odds(features(gray), folds[sample][block], discriminants)
            for block, gray in _blocks_of(gray)
        ]
    )
    worst = odds.max(axis=1)
    kept = worst <= np.quantile(worst, 1 - _LEFT_OUT)
    discriminants = _learn(gray[kept], folds[sample][kept], generator)
    odds = np.concatenate(
        [
            _odds(features(_gray(copies, images[block])), folds[block], discriminants)
            for block in _blocks(len(images))
        ]
    )
    return _figures(odds, images, count, agreement)


def crop_reason(figures: CropFigures, image: int) -> str:
    """Say in words how the crop of an image differs from the usual framing."""
    angle, size = float(figures.angle[image]), float(figures.size[image])
    if angle:
        return f"it is turned by about {5 * round(abs(angle) / 5)} degrees"
    if size != 1:
        word = "larger" if size > 1 else "smaller"
        return f"its content is {abs(size - 1):.0%} {word} than usual"
    parts = []
    for value, side, words in (
        (float(figures.down[image]), "height", ("lower", "higher")),
        (float(figures.right[image]), "width", ("further right", "further left")),
    ):
        if abs(value) >= 0.05:
            parts.append(f"{abs(value):.0%} of the {side} {words[value < 0]}")
    if not parts:
        return "its content is not where it usually is"
    return f"its content lies {' and '.join(parts)} than usual"


def features(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the strength of gradients by direction in cells of images, (B, D).

    The strengths of a cell are normalized by those of all its directions, so that
    brightness and contrast do not matter. Features are sorted by direction, row and
    column.
    """
    down, right = np.zeros_like(gray), np.zeros_like(gray)
    down[:, 1:-1] = gray[:, 2:] - gray[:, :-2]
    right[:, :, 1:-1] = gray[:, :, 2:] - gray[:, :, :-2]
    cells = np.empty((_DIRECTIONS, len(gray), _CELLS, _CELLS), dtype=np.float32)
    half = _DIRECTIONS // 2
    for direction in range(half):
        turn = np.pi * direction / half
        part = down * np.float32(np.sin(turn)) + right * np.float32(np.cos(turn))
        ahead = _sum_cells(np.maximum(part, 0))
        cells[direction] = ahead
        cells[direction + half] = ahead - _sum_cells(part)
    cells /= np.sqrt(np.square(cells).sum(axis=0) + _FAINT**2)
    # Rounding may leave less than nothing.
    cells = np.sqrt(np.maximum(cells, 0))
    return cells.transpose(1, 0, 2, 3).reshape(len(gray), -1)


def _sum_cells(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum the pixels of each cell, shape (B, C, C)."""
    rows = values.reshape(len(values), _CELLS, _CELL, SIDE).sum(axis=2)
    return rows @ _POOL


def coherence(values: NDArray[np.float32]) -> float:
    """Return how much of the features' energy two images usually have in common.

    1 if all images are equal, 0 if they have nothing in common but the overall
    frequency of each direction.
    """
    places = values.reshape(len(values), -1, _CELLS**2).astype(np.float64)
    places = (places - places.mean(axis=2, keepdims=True)).reshape(len(values), -1)
    energy, total = np.square(places).sum(), places.sum(axis=0)
    if len(values) < 2 or energy <= 0:
        return 0.0
    return float((total @ total - energy) / energy / (len(values) - 1))


@dataclass(frozen=True)
class _Discriminant:
    """Weights (D, K) and offsets (K,) of the log odds of changes against none."""

    weights: NDArray[np.float32]
    offsets: NDArray[np.float32]


def _learn(
    gray: NDArray[np.float32],
    folds: NDArray[np.int64],
    generator: np.random.Generator,
) -> list[_Discriminant]:
    """Learn for each fold how the other folds' images look in each change."""
    size = _CHANNELS * _CELLS**2
    sums = np.zeros((_FOLDS, len(CHANGES) + 1, size))
    counts = np.zeros((_FOLDS, len(CHANGES) + 1, 1))
    squares = np.zeros((_FOLDS, size, size))
    for fold in range(_FOLDS):
        part = np.flatnonzero(folds == fold)
        for number, change in enumerate((Change(), *CHANGES)):
            draws = _DRAWS if number == 0 else 1
            for chosen in _draw(part, draws, generator):
                values = features(_apply(gray[chosen], change, generator))
                sums[fold, number] += values.sum(axis=0, dtype=np.float64)
                counts[fold, number] += len(chosen)
                if number == 0:
                    squares[fold] += values.T @ values
    sums, squares, counts = (
        each.sum(axis=0) - each for each in (sums, squares, counts)
    )
    return [
        _discriminant(sums[fold] / counts[fold], squares[fold] / counts[fold, 0])
        for fold in range(_FOLDS)
    ]


def _draw(
    part: NDArray[np.int64], draws: int, generator: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yield groups of images, each of which is changed by one random change."""
    for _ in range(draws):
        chosen = generator.permutation(part)
        if draws == 1:
            chosen = chosen[: _EACH // _FOLDS]
        yield from np.array_split(chosen, _GROUPS)


def _discriminant(
    means: NDArray[np.float64], squares: NDArray[np.float64]
) -> _Discriminant:
    """Make a discriminant of the means of no change and of the changes.

    A change is told by cells whose content comes from inside the image, as what is
    beyond its edges is unknown.
    """
    covariance = squares - np.outer(means[0], means[0])
    covariance += (
        _RIDGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    )
    weights = np.zeros((len(covariance), len(CHANGES)))
    for number, change in enumerate(CHANGES):
        inside = np.flatnonzero(np.tile(_inside(change).ravel(), _CHANNELS))
        away = means[number + 1, inside] - means[0, inside]
        weights[inside, number] = np.linalg.solve(
            covariance[np.ix_(inside, inside)], away
        )
    middle = (means[1:] + means[0]) / 2
    offsets = -np.einsum("kd,dk->k", middle, weights)
    return _Discriminant(weights.astype(np.float32), offsets.astype(np.float32))


def _inside(change: Change) -> NDArray[np.bool_]:
    """Tell cells of a changed image whose content comes from inside the image."""
    rows, columns = _sources(change)
    inside = (np.minimum(rows, columns) >= -_MARGIN) & (
        np.maximum(rows, columns) <= SIDE - 1 + _MARGIN
    )
    return inside.reshape(_CELLS, _CELL, _CELLS, _CELL).all(axis=(1, 3))


def _odds(
    values: NDArray[np.float32],
    folds: NDArray[np.int64],
    discriminants: list[_Discriminant],
) -> NDArray[np.float64]:
    """Return the log odds of each change, with the discriminants of the images' folds."""
    odds = np.empty((len(values), len(CHANGES)))
    for fold, discriminant in enumerate(discriminants):
        own = folds == fold
        odds[own] = values[own] @ discriminant.weights + discriminant.offsets
    return odds


def _apply(
    gray: NDArray[np.float32], change: Change, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Change images (B, S, S), with small usual differences added."""
    down, right, angle, size = generator.normal(size=4) * _USUAL
    rows, columns = _sources(
        Change(
            change.down + down,
            change.right + right,
            change.angle + angle,
            change.size * float(np.exp(size)),
            change.aspect,
        )
    )
    return _interpolate(gray, rows, columns)


def _sources(change: Change) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the row and the column that each pixel of a changed image comes from."""
    center = (SIDE - 1) / 2
    rows, columns = np.mgrid[:SIDE, :SIDE] - center
    rows = (rows - change.down * SIDE) * change.aspect
    columns = columns - change.right * SIDE
    turn = np.deg2rad(change.angle)
    cosine, sine = np.cos(turn) / change.size, np.sin(turn) / change.size
    return (
        (cosine * rows + sine * columns) / change.aspect + center,
        cosine * columns - sine * rows + center,
    )


def _interpolate(
    gray: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample images at places; beyond their edges they are continued."""
    rows, columns = (np.clip(axis.ravel(), 0, SIDE - 1) for axis in (rows, columns))
    top = np.minimum(rows.astype(np.int64), SIDE - 2)
    left = np.minimum(columns.astype(np.int64), SIDE - 2)
    below, beside = rows - top, columns - left
    flat, first = gray.reshape(len(gray), -1), top * SIDE + left
    result = np.zeros_like(flat)
    for step, weights in (
        (0, (1 - below) * (1 - beside)),
        (1, (1 - below) * beside),
        (SIDE, below * (1 - beside)),
        (SIDE + 1, below * beside),
    ):
        result += flat[:, first + step] * weights.astype(np.float32)
    return result.reshape(gray.shape)


def _figures(
    odds: NDArray[np.float64], images: NDArray[np.int64], count: int, agreement: float
) -> CropFigures:
    """Turn log odds into figures; values within a kind of change are averaged."""
    best = odds.argmax(axis=1)
    gain = odds[np.arange(len(odds)), best]
    table = np.array([[c.down, c.right, c.angle, c.size] for c in CHANGES])
    kinds = np.array([1 if c.angle else 2 if c.size != 1 else 0 for c in CHANGES])
    weights = np.exp(odds - gain[:, None]) * (kinds == kinds[best][:, None])
    means = weights @ table / weights.sum(axis=1, keepdims=True)
    away = odds - np.median(odds, axis=0)
    scales = [max(robust_scale(values), _LEAST_SPREAD) for values in away.T]
    strength = (away / scales).max(axis=1)
    columns = np.full((6, count), np.nan)
    columns[:, images] = np.stack([strength, *means.T, gain])
    return CropFigures(*columns, coherence=agreement, aligned=True)


def _without_framing(
    images: NDArray[np.int64], count: int, agreement: float
) -> CropFigures:
    """Return figures of images that nothing is known about."""
    columns = np.full((6, count), np.nan)
    columns[:, images] = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 0.0])[:, None]
    return CropFigures(*columns, coherence=agreement, aligned=False)


def _gray(
    copies: dict[int, NDArray[np.float32]], images: NDArray[np.int64]
) -> NDArray[np.float32]:
    gray = np.empty((len(images), SIDE, SIDE), dtype=np.float32)
    for row, image in enumerate(images.tolist()):
        gray[row] = copies[image].mean(axis=2)
    return gray


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, _BLOCK):
        yield slice(start, start + _BLOCK)


def _blocks_of(
    gray: NDArray[np.float32],
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    for block in _blocks(len(gray)):
        yield block, gray[block]
