"""Perceptual hashes of images, of their mirror images and of windows in them.

The hashes are ImageHash's ``phash`` and ``dhash`` of 8 x 8 bits. ImageHash hashes one
image at a time, in 0.4 ms; as products of matrices, the hashes of all layouts of an
image take less than that together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
"""Pixels of the gray copy that is hashed, each way."""

BITS = 64
"""Bits of a hash."""

# Side lengths of the windows: crops of up to 10 % are within 4 % of one of them.
_WINDOWS = (0.96, 0.92)
_LOW = 8  # frequencies, and differences, each way
# Least standard deviation of gray values, in 8-bit steps: below it, a hash is noise.
_LEAST = 1.0
_BATCH = 512

Span = tuple[float, float]


@dataclass(frozen=True)
class Layout:
    """A part of an image, or its mirror image, which a copy may show."""

    across: Span = (0.0, 1.0)  # left and right edge, as parts of the width
    down: Span = (0.0, 1.0)  # top and bottom edge, as parts of the height
    mirrored: bool = False

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, right, top and bottom edge."""
        return (*self.across, *self.down)


def _layouts() -> tuple[Layout, ...]:
    layouts = [Layout(), Layout(mirrored=True)]
    for size in _WINDOWS:
        spans = [(start, start + size) for start in (0.0, (1 - size) / 2, 1 - size)]
        layouts += [Layout(across, down) for across in spans for down in spans]
    return tuple(layouts)


LAYOUTS = _layouts()
"""The hashed layouts: the image, its mirror image, then the windows."""


@dataclass(frozen=True)
class Hashes:
    """Hashes of every layout of N images."""

    phash: NDArray[np.uint64]  # (N, layouts)
    dhash: NDArray[np.uint64]  # (N, layouts)
    usable: NDArray[np.bool_]  # whether the image was read and is not blank, (N,)

    def __len__(self) -> int:
        return len(self.usable)


def gray_copy(image: Image.Image) -> NDArray[np.uint8]:
    """Shrink an image of any shape to the gray square that is hashed."""
    gray = image.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(gray)


class Hasher:
    """Collects the hashes of N images, in any order."""

    def __init__(self, count: int) -> None:
        shape = (count, len(LAYOUTS))
        self._phash = np.zeros(shape, dtype=np.uint64)
        self._dhash = np.zeros(shape, dtype=np.uint64)
        self._usable = np.zeros(count, dtype=bool)
        self._pending: dict[int, NDArray[np.uint8]] = {}

    def add(self, index: int, copy: NDArray[np.uint8]) -> None:
        """Hash a gray copy of an image."""
        self._pending[index] = copy
        if len(self._pending) >= _BATCH:
            self._flush()

    def finish(self) -> Hashes:
        """Return the hashes; those of images that were not added are not usable."""
        self._flush()
        return Hashes(self._phash, self._dhash, self._usable)

    def _flush(self) -> None:
        if not self._pending:
            return
        rows = np.fromiter(self._pending, dtype=np.int64)
        copies = np.stack([*self._pending.values()]).astype(np.float32)
        self._pending.clear()
        self._phash[rows], self._dhash[rows] = hash_copies(copies)
        self._usable[rows] = copies.std(axis=(1, 2)) >= _LEAST


def hash_copies(
    copies: NDArray[np.float32],
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the two hashes of every layout of gray copies, shape (N, layouts)."""
    waves = _waves()
    phash = np.empty((len(copies), len(LAYOUTS)), dtype=np.uint64)
    dhash = np.empty_like(phash)
    for column, layout in enumerate(LAYOUTS):
        flip = slice(None, None, -1 if layout.mirrored else 1)
        rows = waves @ _resized(SIDE, layout.down)
        columns = (waves @ _resized(SIDE, layout.across))[:, flip]
        low = rows @ copies @ columns.T
        median = np.median(low, axis=(1, 2), keepdims=True)
        phash[:, column] = _packed(low > median)
        rows = _resized(_LOW, layout.down)
        columns = _resized(_LOW + 1, layout.across)[:, flip]
        # Pillow rounds to 8 bits: flat parts of an image have no differences.
        values = np.rint(rows @ copies @ columns.T)
        dhash[:, column] = _packed(values[:, :, 1:] > values[:, :, :-1])
    return phash, dhash


def count_bits(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Count the ones of numbers."""
    if hasattr(np, "bitwise_count"):
        counted: NDArray[np.uint8] = np.bitwise_count(values)
        return counted
    # NumPy 1: sums of 2, 4 and 8 bits side by side, then of the eight bytes.
    values = values - ((values >> np.uint64(1)) & np.uint64(0x5555555555555555))
    pairs = np.uint64(0x3333333333333333)
    values = (values & pairs) + ((values >> np.uint64(2)) & pairs)
    values = (values + (values >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((values * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)


def closest_layout(
    hashes: Hashes, first: NDArray[np.int64], other: Hashes, second: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.uint8]]:
    """Find the layout of each first image that is most like the second one.

    Returns the layouts and the distances of both hashes.
    """
    layouts = np.zeros(len(first), dtype=np.int64)
    distances = np.zeros((2, len(first)), dtype=np.uint8)
    for part in _parts(len(first)):
        ends = first[part], second[part]
        both = np.stack(
            [
                count_bits(ours[ends[0]] ^ theirs[ends[1], :1])
                for ours, theirs in (
                    (hashes.phash, other.phash),
                    (hashes.dhash, other.dhash),
                )
            ]
        )
        best = both.sum(axis=0, dtype=np.int64).argmin(axis=1)
        layouts[part] = best
        distances[:, part] = both[:, np.arange(len(best)), best]
    return layouts, distances[0], distances[1]


def _parts(count: int, size: int = 2**16) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)


def _waves() -> NDArray[np.float32]:
    """Return the lowest waves of the cosine transform, shape (8, SIDE)."""
    places = np.arange(SIDE) + 0.5
    angles = np.pi / SIDE * np.arange(_LOW)[:, None] * places
    return (2 * np.cos(angles)).astype(np.float32)


def _resized(size: int, span: Span) -> NDArray[np.float32]:
    """Return the matrix with which Pillow resizes a span of SIDE values to ``size``."""
    unit = Image.fromarray(np.eye(SIDE, dtype=np.float32))
    box = (0, span[0] * SIDE, SIDE, span[1] * SIDE)
    return np.asarray(unit.resize((SIDE, size), Image.Resampling.LANCZOS, box))


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack 8 x 8 bits of each image into a number, the first bit highest."""
    packed = np.packbits(bits.reshape(len(bits), BITS), axis=1)
    return packed.view(">u8")[:, 0].astype(np.uint64)


def distinct(
    hashes: Hashes, rows: Sequence[int] | NDArray[np.int64]
) -> list[list[int]]:
    """Group images whose hashes of every layout are equal."""
    rows = np.asarray(rows, dtype=np.int64)
    table = np.hstack([hashes.phash[rows], hashes.dhash[rows]])
    order = np.lexsort(table.T[::-1])
    changes = (table[order][1:] != table[order][:-1]).any(axis=1)
    return [
        sorted(group.tolist())
        for group in np.split(rows[order], np.flatnonzero(changes) + 1)
        if len(group)
    ]
