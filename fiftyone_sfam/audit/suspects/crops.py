"""Crops that are off, from pixels: the content is moved, turned or of another size.

Crops of one kind are framed alike: eyes are at one height in all aligned faces. What is
usual is learned from the collection itself. Small copies are moved, turned and scaled
in all ways of :data:`CHANGES`. The means of their features in each way, and the
features' covariance, give linear discriminants: how much more likely each change is
than none. An image is judged by a discriminant that was learned without it, and only by
the cells whose content comes from inside the image, as what lies beyond its edges is
unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.pixels import SIDE
from fiftyone_sfam.audit.suspects.space import robust_scale

DOUBTFUL = 5.5
"""Least strength of a crop that is off, in spreads of the collection."""

LEAST_IMAGES = 40
"""Fewest images that show how a collection is framed."""

LEAST_FIT = 0.5
"""Least share of images that fit the usual framing, if a collection has one."""

# Images that the usual framing is learned from, and parts that the others judge.
_SAMPLE = 1500
_FOLDS = 4
_BLOCK = 512
# Strengths of the gradient by direction, in cells of so many pixels, and brightness.
_DIRECTIONS = 8
_CHANNELS = _DIRECTIONS + 1
_CELL = 4
_CELLS = SIDE // _CELL
_POOL = np.repeat(np.eye(_CELLS, dtype=np.float32), _CELL, axis=0)
# Sum of a cell's gradients that counts as faint, and contrast of an image's cells, in
# 8-bit steps.
_FAINT = 16.0
_FLAT = 5.0
_BRIGHTNESS = 0.5  # weight of the brightness
# Usual differences between crops: in place, as a fraction of the side, in degrees, and
# in the logarithm of the size.
_USUAL = (0.015, 0.015, 3.0, 0.03)
# Most images that a change is learned from; draws of usual differences for no change;
# and groups that each draw is divided into, with a difference per group.
_EACH = 600
_DRAWS = 3
_GROUPS = 8
# Weight of equal variances in the covariance.
_RIDGE = 0.3
# Least variance of a feature, and least spread of log odds.
_LEAST_VARIANCE = 1e-6
_LEAST_SPREAD = 0.1
# Share of the images that the second pass leaves out, as they may be off.
_LEFT_OUT = 0.15


@dataclass(frozen=True)
class Change:
    """A way in which the content of a crop differs from the usual framing."""

    down: float = 0.0  # fraction of the height
    right: float = 0.0  # fraction of the width
    angle: float = 0.0  # degrees, counterclockwise
    size: float = 1.0  # of the content, in usual sizes
    aspect: float = 1.0  # height of the image in widths, for turns


def _list_changes() -> tuple[Change, ...]:
    """List moves in eight directions, turns of squares and of persons, and sizes."""
    moves = [
        Change(down=away * np.sin(turn), right=away * np.cos(turn))
        for away in (0.1, 0.18, 0.26)
        for turn in np.arange(8) * np.pi / 4
    ]
    turns = [
        Change(angle=angle, aspect=aspect)
        for aspect in (1.0, 2.0)
        for angle in (-45, -32, -20, 20, 32, 45)
    ]
    sizes = [Change(size=size) for size in (0.65, 0.78, 1.28, 1.5)]
    return (*moves, *turns, *sizes)


CHANGES = _list_changes()
"""Changes that are told apart."""


@dataclass(frozen=True)
class CropFigures:
    """How unusual the crops of N images are, each (N,), NaN without pixels.

    ``down`` and ``right`` are 0 if a turn or another size is more likely than a move,
    ``angle`` is 0 and ``size`` is 1 in the same way. If ``aligned`` is False, the
    collection has no usual framing, and strengths only order its images.
    """

    strength: NDArray[np.float64]  # largest odds in spreads of the collection's odds
    down: NDArray[np.float64]  # how far the content is too low, in heights
    right: NDArray[np.float64]  # how far the content is too far right, in widths
    angle: NDArray[np.float64]  # turn of the content in degrees, counterclockwise
    size: NDArray[np.float64]  # of the content, in usual sizes
    gain: NDArray[np.float64]  # log odds of the most likely change against none
    fit: float  # share of the images for which no change is likelier than none
    aligned: bool  # whether the collection has a usual framing

    @property
    def is_doubtful(self) -> NDArray[np.bool_]:
        """Images above the threshold for which a change is likelier than none."""
        return (self.strength >= DOUBTFUL) & (self.gain > 0) & self.aligned


def measure_crops(
    copies: Mapping[int, NDArray[Any]], count: int, seed: int = 0
) -> CropFigures:
    """Compare the framing of each image with that of the collection.

    Parameters
    ----------
    copies : mapping of int to ndarray of shape (32, 32, 3)
        Small copies by image, as
        :func:`~fiftyone_sfam.audit.suspects.pixels.read_small` returns them, with
        values from 0 to 255.
    count : int
        Number of images N.
    seed : int, default 0
        Seed of the sample that is learned from, and of its changes.

    Returns
    -------
    CropFigures
        Arrays of shape (N,). With fewer than :data:`LEAST_IMAGES` copies, strengths
        are 0 and nothing is changed.
    """
    images = np.array(sorted(copies), dtype=np.int64)
    columns = np.full((6, count), np.nan)
    if len(images) < LEAST_IMAGES:
        columns[:, images] = np.array([0.0, 0.0, 0.0, 0.0, 1.0, 0.0])[:, None]
        return _figures(columns, 0.0)
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(images))
    folds = np.empty(len(images), dtype=np.int64)
    folds[order] = np.arange(len(images)) % _FOLDS
    sample = np.sort(order[:_SAMPLE])
    gray = _gray(copies, images[sample])
    discriminants = _learn(gray, folds[sample], generator)
    largest = _judge(copies, images[sample], folds[sample], discriminants).max(axis=1)
    kept = largest <= np.quantile(largest, 1 - _LEFT_OUT)
    discriminants = _learn(gray[kept], folds[sample][kept], generator)
    odds = _judge(copies, images, folds, discriminants)
    columns[:, images] = _describe(odds)
    return _figures(columns, float((odds.max(axis=1) <= 0).mean()))


def crop_reason(figures: CropFigures, image: int) -> str:
    """Say in words how the crop of an image differs from the usual framing."""
    angle, size = float(figures.angle[image]), float(figures.size[image])
    if angle:
        return f"it is turned by about {5 * round(abs(angle) / 5)} degrees"
    if size != 1:
        word = "larger" if size > 1 else "smaller"
        return f"its content is {100 * abs(size - 1):.0f} % {word} than usual"
    parts = []
    for value, side, words in (
        (float(figures.down[image]), "height", ("lower", "higher")),
        (float(figures.right[image]), "width", ("further right", "further left")),
    ):
        if abs(value) >= 0.05:
            parts.append(f"{100 * abs(value):.0f} % of the {side} {words[value < 0]}")
    if not parts:
        return "its content is not where it usually is"
    return f"its content lies {' and '.join(parts)} than usual"


def _features(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    """Describe images by cells, shape (B, D), sorted by channel, row and column.

    Channels are strengths of the gradient by direction, relative to that of the cell in
    all directions, and brightness, relative to that of the image.
    """
    down, right = np.zeros_like(gray), np.zeros_like(gray)
    down[:, 1:-1] = gray[:, 2:] - gray[:, :-2]
    right[:, :, 1:-1] = gray[:, :, 2:] - gray[:, :, :-2]
    half = _DIRECTIONS // 2
    cells = np.empty((_DIRECTIONS, len(gray), _CELLS, _CELLS), dtype=np.float32)
    for direction in range(half):
        turn = np.pi * direction / half
        part = down * np.float32(np.sin(turn)) + right * np.float32(np.cos(turn))
        cells[direction] = _sum_cells(np.maximum(part, 0))
        # Rounding may leave a sum below 0.
        cells[direction + half] = np.maximum(cells[direction] - _sum_cells(part), 0)
    cells /= np.sqrt(np.square(cells).sum(axis=0) + _FAINT**2)
    bright = _sum_cells(gray) / _CELL**2
    bright -= bright.mean(axis=(1, 2), keepdims=True)
    bright *= _BRIGHTNESS / (bright.std(axis=(1, 2), keepdims=True) + _FLAT)
    channels = np.concatenate([np.sqrt(cells), bright[None]])
    return channels.transpose(1, 0, 2, 3).reshape(len(gray), -1)


def _sum_cells(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum the pixels of each cell, shape (B, C, C)."""
    rows = values.reshape(len(values), _CELLS, _CELL, SIDE).sum(axis=2)
    return rows @ _POOL


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
                values = _features(_apply(gray[chosen], change, generator))
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
        if len(chosen):
            yield from np.array_split(chosen, min(_GROUPS, len(chosen)))


def _discriminant(
    means: NDArray[np.float64], squares: NDArray[np.float64]
) -> _Discriminant:
    """Make a discriminant of the means of no change and of the changes.

    A change is told by cells whose content comes from inside the image, as what is
    beyond its edges is unknown.
    """
    covariance = squares - np.outer(means[0], means[0])
    size = len(covariance)
    ridge = _RIDGE * max(np.trace(covariance) / size, _LEAST_VARIANCE)
    covariance += ridge * np.eye(size)
    precision = np.linalg.inv(covariance).astype(np.float64)
    weights = np.zeros((size, len(CHANGES)))
    for number, change in enumerate(CHANGES):
        inside = np.tile(_inside(change).ravel(), _CHANNELS)
        away = (means[number + 1] - means[0]) * inside
        weights[:, number] = _solve_inside(covariance, precision, inside, away)
    middle = (means[1:] + means[0]) / 2
    offsets = -np.einsum("kd,dk->k", middle, weights)
    return _Discriminant(weights.astype(np.float32), offsets.astype(np.float32))


def _solve_inside(
    covariance: NDArray[np.float64],
    precision: NDArray[np.float64],
    inside: NDArray[np.bool_],
    away: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Multiply by the inverse of the covariance of some features; others get 0."""
    inner, outer = np.flatnonzero(inside), np.flatnonzero(~inside)
    if len(inner) < len(outer):
        result = np.zeros(len(away))
        result[inner] = np.linalg.solve(covariance[np.ix_(inner, inner)], away[inner])
        return result
    # The inverse of a part by the Schur complement of the smaller rest.
    result = precision @ away
    rest = np.linalg.solve(precision[np.ix_(outer, outer)], result[outer])
    result -= precision[:, outer] @ rest
    result[outer] = 0
    return result


def _inside(change: Change) -> NDArray[np.bool_]:
    """Tell cells of a changed image whose content comes from inside the image."""
    rows, columns = _sources(change)
    low, high = np.minimum(rows, columns), np.maximum(rows, columns)
    inside = ((low >= 0) & (high <= SIDE - 1)).reshape(_CELLS, _CELL, _CELLS, _CELL)
    whole: NDArray[np.bool_] = np.logical_and.reduce(inside, axis=(1, 3))
    return whole


def _judge(
    copies: Mapping[int, NDArray[Any]],
    images: NDArray[np.int64],
    folds: NDArray[np.int64],
    discriminants: list[_Discriminant],
) -> NDArray[np.float64]:
    """Return the log odds of each change by the discriminant of the image's fold."""
    odds = np.empty((len(images), len(CHANGES)))
    for start in range(0, len(images), _BLOCK):
        block = slice(start, start + _BLOCK)
        values = _features(_gray(copies, images[block]))
        for fold, discriminant in enumerate(discriminants):
            own = folds[block] == fold
            odds[block][own] = values[own] @ discriminant.weights + discriminant.offsets
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


def _describe(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return strength, down, right, angle, size and gain, shape (6, N).

    The changes of the most likely kind are averaged, weighted by their odds.
    """
    best = odds.argmax(axis=1)
    gain = odds[np.arange(len(odds)), best]
    table = np.array([[c.down, c.right, c.angle, c.size] for c in CHANGES])
    kinds = np.array([1 if c.angle else 2 if c.size != 1 else 0 for c in CHANGES])
    weights = np.exp(odds - gain[:, None]) * (kinds == kinds[best][:, None])
    means = weights @ table / weights.sum(axis=1, keepdims=True)
    away = odds - np.median(odds, axis=0)
    scales = [max(robust_scale(values), _LEAST_SPREAD) for values in away.T]
    return np.stack([(away / scales).max(axis=1), *means.T, gain])


def _figures(columns: NDArray[np.float64], fit: float) -> CropFigures:
    strength, down, right, angle, size, gain = columns
    return CropFigures(
        strength, down, right, angle, size, gain, fit=fit, aligned=fit >= LEAST_FIT
    )


def _gray(
    copies: Mapping[int, NDArray[Any]], images: NDArray[np.int64]
) -> NDArray[np.float32]:
    gray = np.empty((len(images), SIDE, SIDE), dtype=np.float32)
    for row, image in enumerate(images.tolist()):
        gray[row] = copies[image].mean(axis=2)
    return gray
