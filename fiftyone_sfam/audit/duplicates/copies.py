"""Whether two images are copies of one picture, from their pixels.

Two copies show the same details at the same places, once the part of one that the other
shows is found. Two pictures of one scene do not, however alike their embeddings are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fiftyone_sfam.audit.duplicates.hashes import Layout

SIDE = 64
"""Pixels of a compared copy, each way."""

ALIKE = 0.87
"""Least likeness of copies."""

IDENTICAL = "identical file"
RECOMPRESSED = "recompressed or resized"
RECOLORED = "recolored"
CROPPED = "cropped"
MIRRORED = "mirrored"

FORMS = (IDENTICAL, RECOMPRESSED, RECOLORED, CROPPED, MIRRORED)
"""Forms of copies."""

# Details are compared at this size: copies resized to 40 % still have them.
_COMPARED = 24
# Blocks whose details are compared, each way, and the details that are added to each,
# as a part of the mean: a block of plain wall does not count.
_BLOCKS, _PLAIN = 3, 0.2
# Sizes at which the box is fitted, and steps at each.
_FITTED = ((16, 4), (32, 3))
# Least likeness at the first size, else the second is not tried.
_HOPELESS = 0.4
# Largest step of an edge, and how far an edge may lie from that of the image.
_STEP, _FARTHEST = 0.05, 0.15
# Distance of an edge from which a copy is cropped, and least difference of colors, in
# 8-bit steps, from which it is recolored. Copies of neither form stay below both.
_CUT, _COLORS = 0.015, 5.0
# Least likeness of a copy that is cropped or mirrored, and recolored too, and the most
# that may be left of the difference of colors.
_CLOSE, _LEFT = 0.95, 2.5
# Weights of the channels in Pillow's gray images, so that a gray copy agrees.
_GRAY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# Pairs compared at once: their arrays fit in the processor's cache.
_BATCH = 32
# Least contrast, in 8-bit steps: an image with less has nothing to correlate.
_LEAST = 0.05

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Compared:
    """How a picture appears in another one."""

    likeness: float
    form: str


def color_copy(image: Image.Image) -> NDArray[np.uint8]:
    """Shrink an image of any shape to the square that is compared."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small)


def compare(
    whole: Sequence[NDArray[np.uint8]],
    part: Sequence[NDArray[np.uint8]],
    layouts: Sequence[Layout],
) -> list[Compared]:
    """Compare pairs of color copies; the layout is what the second may show.

    The box of the layout is fitted to the pixels. The likeness is the lowest of the
    correlations of the gray values, of their details, which are the values minus the
    mean of their four neighbors, and of the details of any of nine blocks. It is
    invariant to brightness and contrast. If the second image shows only a part of the
    first, or its mirror image, in colors that differ by more than the brightness and
    contrast of the channels, the likeness is 0: two pictures of a person in one pose
    differ so.
    """
    compared: list[Compared] = []
    for start in range(0, len(whole), _BATCH):
        chosen = slice(start, start + _BATCH)
        compared += _compare(whole[chosen], part[chosen], layouts[chosen])
    return compared


def _compare(
    whole: Sequence[NDArray[np.uint8]],
    part: Sequence[NDArray[np.uint8]],
    layouts: Sequence[Layout],
) -> list[Compared]:
    first = np.stack(
        [
            copy[:, ::-1] if layout.mirrored else copy
            for copy, layout in zip(whole, layouts, strict=True)
        ]
    ).astype(np.float32)
    second = np.stack(part).astype(np.float32)
    boxes = np.array(
        [Layout().box if layout.mirrored else layout.box for layout in layouts],
        dtype=np.float64,
    )
    grays = first @ _GRAY, second @ _GRAY
    alive = np.arange(len(boxes))
    likeness = np.zeros(len(boxes))
    for size, steps in _FITTED:
        small = _shrunk(grays[0][alive], size), _shrunk(grays[1][alive], size)
        boxes[alive] = _fitted(*small, boxes[alive], steps)
        likeness[alive] = _likeness(grays[0][alive], grays[1][alive], boxes[alive])
        alive = alive[likeness[alive] >= _HOPELESS]
        if not len(alive):
            break
    colors = _color_differences(first, second, boxes)
    compared = []
    for value, layout, box, color, left in zip(
        likeness.tolist(), layouts, boxes, *map(np.ndarray.tolist, colors), strict=True
    ):
        form = _form(layout, box, color)
        if form in (CROPPED, MIRRORED) and color > _COLORS:
            value = value if value >= _CLOSE and left <= _LEFT else 0.0
        compared.append(Compared(value, form))
    return compared


def _form(layout: Layout, box: NDArray[np.float64], color: float) -> str:
    """Name the form of a copy."""
    if layout.mirrored:
        return MIRRORED
    if np.abs(box - Layout().box).max() > _CUT:
        return CROPPED
    return RECOLORED if color > _COLORS else RECOMPRESSED


def _fitted(
    first: Floats, second: Floats, boxes: NDArray[np.float64], steps: int
) -> NDArray[np.float64]:
    """Fit the box that the second image shows of the first (Gauss-Newton)."""
    size = first.shape[1]
    down, across = np.gradient(first, axis=(1, 2))
    places = (np.arange(size, dtype=np.float32) + 0.5) / size
    right, below = places[None, None, :], places[None, :, None]
    for _ in range(steps):
        rows, columns, inside = _sampling(boxes, size, size)
        shown = rows @ first @ columns
        step_x = rows @ across @ columns * size
        step_y = rows @ down @ columns * size
        gain, residual = _residual(shown, second, inside)
        slopes = [
            step_x * (1 - right),
            step_x * right,
            step_y * (1 - below),
            step_y * below,
        ]
        columns_of = [slope * gain for slope in slopes] + [shown, np.ones_like(shown)]
        jacobian = np.stack(columns_of, axis=-1).reshape(len(boxes), -1, 6)
        weighted = (jacobian * inside.reshape(len(boxes), -1, 1)).transpose(0, 2, 1)
        normal = (weighted @ jacobian).astype(np.float64)
        target = weighted @ residual.reshape(len(boxes), -1, 1)
        diagonal = np.einsum("pii->pi", normal)
        diagonal += 1e-3 * diagonal + 1e-3
        step = np.linalg.solve(normal, target.astype(np.float64))[:, :4, 0]
        boxes = boxes + np.clip(step, -_STEP, _STEP)
        edges = np.array(Layout().box)
        boxes = np.clip(boxes, edges - _FARTHEST, edges + _FARTHEST)
    return boxes


def _residual(shown: Floats, second: Floats, inside: Floats) -> tuple[Floats, Floats]:
    """Regress the second image on the first; return the slope and the residual."""
    (shown, second), _ = _centered(shown, second, inside)
    product = (shown * second).sum(axis=(1, 2), keepdims=True)
    square = np.square(shown).sum(axis=(1, 2), keepdims=True)
    gain = np.clip(product / np.maximum(square, 1e-3), 0.2, 5)
    return gain, second - gain * shown


def _likeness(
    first: Floats, second: Floats, boxes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Correlate values and details inside the boxes; return the lowest correlation."""
    rows, columns, inside = _sampling(boxes, SIDE, _COMPARED)
    shown = rows @ first @ columns
    rows, columns, _ = _sampling(_whole(len(boxes)), SIDE, _COMPARED)
    second = rows @ second @ columns
    details = _details(shown) * inside, _details(second) * inside
    correlations = [
        _correlation(shown, second, inside),
        _correlation(*details, inside),
        _weakest_block(*details),
    ]
    return np.min(correlations, axis=0)


def _weakest_block(first: Floats, second: Floats) -> NDArray[np.float64]:
    """Correlate the details in blocks; return the lowest correlation."""
    products = [
        _shrunk(left * right, _BLOCKS).astype(np.float64)
        for left, right in ((first, second), (first, first), (second, second))
    ]
    both, *squares = products
    means = [square.mean(axis=(1, 2), keepdims=True) for square in squares]
    plain = _PLAIN * np.sqrt(means[0] * means[1]) + _LEAST**2
    correlations = (both + plain) / np.sqrt((squares[0] + plain) * (squares[1] + plain))
    weakest: NDArray[np.float64] = correlations.min(axis=(1, 2))
    return weakest


def _color_differences(
    first: Floats, second: Floats, boxes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean differences of the channels inside the boxes.

    The second is what is left of it after each channel has been scaled and shifted.
    """
    rows, columns, inside = _sampling(boxes, SIDE, _COMPARED)
    whole_rows, whole_columns, _ = _sampling(_whole(len(boxes)), SIDE, _COMPARED)
    total, left = np.zeros(len(boxes)), np.zeros(len(boxes))
    for channel in range(3):
        shown = rows @ first[..., channel] @ columns
        other = whole_rows @ second[..., channel] @ whole_columns
        total += (np.abs(shown - other) * inside).sum(axis=(1, 2))
        _, residual = _residual(shown, other, inside)
        left += np.abs(residual).sum(axis=(1, 2))
    values = 3 * np.maximum(inside.sum(axis=(1, 2)), 1)
    return total / values, left / values


def _whole(count: int) -> NDArray[np.float64]:
    return np.tile(np.array(Layout().box, dtype=np.float64), (count, 1))


def _sampling(
    boxes: NDArray[np.float64], size: int, points: int
) -> tuple[Floats, Floats, Floats]:
    """Return the matrices that sample boxes, and which points are in the image."""
    across, in_width = _weights(boxes[:, 0], boxes[:, 1], size, points)
    down, in_height = _weights(boxes[:, 2], boxes[:, 3], size, points)
    inside = (in_height[:, :, None] & in_width[:, None, :]).astype(np.float32)
    return down, across.transpose(0, 2, 1), inside


def _weights(
    low: NDArray[np.float64], high: NDArray[np.float64], size: int, points: int
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the weights of ``size`` values at points between two edges."""
    places = (np.arange(points) + 0.5) / points
    at = low[:, None] * (1 - places) + high[:, None] * places
    position = np.clip(at * size - 0.5, 0, size - 1)
    # As wide as a point, so that no value between points is left out.
    width = max(1.0, size / points)
    distance = np.abs(position[..., None] - np.arange(size))
    weights = np.maximum(0, 1 - distance / width)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights.astype(np.float32), (at >= 0) & (at <= 1)


def _shrunk(images: Floats, size: int) -> Floats:
    """Average blocks of pixels."""
    factor = images.shape[1] // size
    blocks = images.reshape(len(images), size, factor, size, factor)
    return blocks.mean(axis=(2, 4))


def _details(images: Floats) -> Floats:
    """Subtract from each value the mean of its four neighbors."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = (
        padded[:, :-2, 1:-1]
        + padded[:, 2:, 1:-1]
        + padded[:, 1:-1, :-2]
        + padded[:, 1:-1, 2:]
    )
    return (images - around / 4).astype(np.float32)


def _correlation(first: Floats, second: Floats, inside: Floats) -> NDArray[np.float64]:
    (first, second), count = _centered(first, second, inside)
    product = (first * second).sum(axis=(1, 2), dtype=np.float64)
    squares = [
        np.square(values).sum(axis=(1, 2), dtype=np.float64)
        for values in (first, second)
    ]
    flat = np.minimum(*squares) < count * _LEAST**2
    length = np.sqrt(np.maximum(squares[0] * squares[1], 1e-12))
    return np.where(flat, 0.0, product / length)


def _centered(
    first: Floats, second: Floats, inside: Floats
) -> tuple[list[Floats], NDArray[np.float32]]:
    """Subtract the means inside the boxes, and set the rest to zero."""
    count = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)
    centered = [
        (values - (values * inside).sum(axis=(1, 2), keepdims=True) / count) * inside
        for values in (first, second)
    ]
    return centered, count[:, 0, 0]
