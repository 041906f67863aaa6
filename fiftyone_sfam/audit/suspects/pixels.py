"""Images without detail, from small copies of their pixels, and groups of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fiftyone_sfam.audit.suspects.space import robust_scale
from fiftyone_sfam.data.images import load_in_background

SIDE = 32
"""Pixels of a small copy, each way."""

DULL = 4.0
"""Least difference from the usual detail of an image without detail, in spreads of the
logarithm."""

_WORKERS = 4
# Least contrast, in 8-bit steps: the logarithm of less is not finite.
_LEAST = 0.05


def read_small(
    items: Iterable[int], read: Callable[[int], Image.Image]
) -> tuple[dict[int, NDArray[np.float32]], dict[int, str]]:
    """Read small copies of images in threads, and the reasons for missing ones."""
    copies, missing = {}, {}
    for loaded in load_in_background(items, lambda i: small_copy(read(i)), _WORKERS):
        if loaded.value is None:
            missing[loaded.index] = loaded.reason or "the file cannot be read."
        else:
            copies[loaded.index] = loaded.value
    return copies, missing


def small_copy(image: Image.Image) -> NDArray[np.float32]:
    """Shrink an image of any shape to a square by averaging."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def detail(copy: NDArray[Any]) -> float:
    """Return the mean size of a small copy's details, in 8-bit values."""
    return float(np.abs(_details(copy.astype(np.float32))).mean())


def dullness(details: dict[int, float], usual: NDArray[np.float64]) -> dict[int, float]:
    """Return how much less detail pictures have than usual, in spreads."""
    logs = np.log(np.maximum(usual, _LEAST))
    median = float(np.median(logs)) if len(logs) else 0.0
    # Pictures of one source may all be alike; a difference of 10 % is not unusual.
    scale = max(robust_scale(logs - median), 0.1)
    return {
        item: (median - float(np.log(max(value, _LEAST)))) / scale
        for item, value in details.items()
    }


def groups_of(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Join pairs that share an image into groups."""
    root: dict[int, int] = {}

    def find(item: int) -> int:
        while root.setdefault(item, item) != item:
            root[item] = root[root[item]]
            item = root[item]
        return item

    for first, second in pairs:
        low, high = sorted((find(first), find(second)))
        root[high] = low
    joined: dict[int, list[int]] = {}
    for item in sorted(root):
        joined.setdefault(find(item), []).append(item)
    return list(joined.values())


def _details(copy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract from each value the mean of its four neighbors."""
    padded = np.pad(copy, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return (copy - around / 4).astype(np.float32)
