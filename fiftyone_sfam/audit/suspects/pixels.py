"""What only the pixels tell: pictures that are one picture, and pictures of nothing.

Small copies are enough for both, and only the images that embeddings point at are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fiftyone_sfam.audit.suspects.space import robust_scale
from fiftyone_sfam.data.images import load_in_background

SIDE = 32
"""Pixels of a small copy, each way."""

ALIKE = 0.95
"""Correlation of details from which two pictures count as one."""

DULL = 4.0
"""Spreads of the logarithm by which a picture is asked to have less detail than usual,
to count as showing nothing."""

# Shifts of a small copy, in its pixels, that are tried; more is another picture.
_SHIFT = 1
_WORKERS = 4
# Least contrast, in steps of 8-bit values: below it there is nothing to correlate.
_LEAST = 0.05


def read_small(
    items: Iterable[int], read: Callable[[int], Image.Image]
) -> tuple[dict[int, NDArray[np.float32]], dict[int, str]]:
    """Read images as small copies, in threads."""

    def load(item: int) -> NDArray[np.float32]:
        return small_copy(read(item))

    copies, missing = {}, {}
    for loaded in load_in_background(items, load, _WORKERS):
        if loaded.value is None:
            missing[loaded.index] = loaded.reason or "the file cannot be read."
        else:
            copies[loaded.index] = loaded.value
    return copies, missing


def small_copy(image: Image.Image) -> NDArray[np.float32]:
    """Shrink an image, whatever its shape, by averaging."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def likeness(
    one: NDArray[np.float32], other: NDArray[np.float32]
) -> tuple[float, float]:
    """Correlate two small copies, at the shift that suits best.

    Light and contrast do not count: the values are compared up to a factor and an
    addend per color. Two pictures of one scene agree in their coarse values, but not in
    their details, which are the values less the mean of their four neighbors.
    """
    best = (0.0, -1.0)
    inner = slice(_SHIFT, SIDE - _SHIFT)
    fixed, fixed_details = one[inner, inner], _details(one)[inner, inner]
    other_details = _details(other)
    for down in range(-_SHIFT, _SHIFT + 1):
        for right in range(-_SHIFT, _SHIFT + 1):
            rows = slice(_SHIFT + down, SIDE - _SHIFT + down)
            columns = slice(_SHIFT + right, SIDE - _SHIFT + right)
            details = _correlation(fixed_details, other_details[rows, columns])
            if details > best[1]:
                best = (_correlation(fixed, other[rows, columns]), details)
    return best


def detail(copy: NDArray[np.float32]) -> float:
    """Measure how much a small copy shows: the mean size of its details.

    In 8-bit values; 0 for a blank picture, little for a blurred one.
    """
    return float(np.abs(_details(copy)).mean())


def dullness(copies: dict[int, float], usual: NDArray[np.float64]) -> dict[int, float]:
    """Compare the detail of pictures with that of others."""
    logs = np.log(np.maximum(usual, _LEAST))
    middle = float(np.median(logs)) if len(logs) else 0.0
    # Pictures of one source may all be alike; a tenth more or less means nothing.
    scale = max(robust_scale(logs - middle), 0.1)
    return {
        item: (middle - float(np.log(max(value, _LEAST)))) / scale
        for item, value in copies.items()
    }


def groups_of(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Join pairs that share an image."""
    root: dict[int, int] = {}

    def find(item: int) -> int:
        while root.setdefault(item, item) != item:
            root[item] = root[root[item]]
            item = root[item]
        return item

    for one, other in pairs:
        low, high = sorted((find(one), find(other)))
        root[high] = low
    joined: dict[int, list[int]] = {}
    for item in sorted(root):
        joined.setdefault(find(item), []).append(item)
    return list(joined.values())


def _details(copy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the mean of its four neighbors from each value."""
    padded = np.pad(copy, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return (copy - around / 4).astype(np.float32)


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    one = one - one.mean(axis=(0, 1))
    other = other - other.mean(axis=(0, 1))
    lengths = [float(np.sqrt(np.square(values).mean())) for values in (one, other)]
    if min(lengths) < _LEAST:
        return 0.0
    return float((one * other).mean()) / (lengths[0] * lengths[1])
