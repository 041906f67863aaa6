"""Maps as FiftyOne draws them: upsampled, non-negative, eight bits, whole images."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from bson import ObjectId
from numpy.typing import NDArray
from PIL import Image

LONG_SIDE = 96
"""Longer side, in pixels, of the heatmap of a whole image."""

FRAME_LONG_SIDE = 480
"""Longer side, in pixels, of the heatmap of a frame with detections."""


def upsample(
    values: NDArray[np.float32], height: int, width: int
) -> NDArray[np.float32]:
    """Stretch a map bilinearly, for display.

    Parameters
    ----------
    values : ndarray of float32
        Map, shape (h, w).
    height, width : int
        Wanted size.

    Returns
    -------
    ndarray of float32
        Shape (height, width).
    """
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def canvas_size(width: int, height: int, long_side: int) -> tuple[int, int]:
    """Scale an image's size to a longer side; return height and width, at least 1."""
    scale = long_side / max(width, height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def place(
    canvas: NDArray[np.float32],
    values: NDArray[np.float32],
    box: Sequence[float],
) -> None:
    """Draw a map into its part of a canvas; where maps overlap the larger value stays.

    Parameters
    ----------
    canvas : ndarray of float32
        Shape (H, W); changed in place.
    values : ndarray of float32
        Map, shape (h, w).
    box : sequence of float
        Relative left, top, right and bottom of the map on the canvas; what lies
        outside is cut off.
    """
    height, width = canvas.shape
    left, top = round(box[0] * width), round(box[1] * height)
    right = max(left + 1, round(box[2] * width))
    bottom = max(top + 1, round(box[3] * height))
    drawn = upsample(values, bottom - top, right - left)
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(right, width), min(bottom, height)
    if x1 <= x0 or y1 <= y0:
        return
    part = canvas[y0:y1, x0:x1]
    np.maximum(part, drawn[y0 - top : y1 - top, x0 - left : x1 - left], out=part)


def inner_box(
    box: Sequence[float], crop: Sequence[float]
) -> tuple[float, float, float, float]:
    """Return the relative box of a crop inside a box (left, top, width, height).

    Parameters
    ----------
    box : sequence of float
        Relative left, top, width and height on the image.
    crop : sequence of float
        Left, top, right and bottom relative to that box.

    Returns
    -------
    tuple of float
        Left, top, right and bottom relative to the image.
    """
    left, top, width, height = box
    return (
        left + crop[0] * width,
        top + crop[1] * height,
        left + crop[2] * width,
        top + crop[3] * height,
    )


def shared_range(largest: NDArray[np.floating]) -> float:
    """Choose the value that the heatmaps of a run show at full strength.

    Parameters
    ----------
    largest : ndarray
        Largest value of each map.

    Returns
    -------
    float
        The 98th percentile, so that a few extreme maps do not dim all others; 1 where
        no map is positive.
    """
    positive = largest[largest > 0]
    return float(np.percentile(positive, 98)) if len(positive) else 1.0


def to_bytes(canvas: NDArray[np.float32], full: float) -> NDArray[np.uint8]:
    """Turn the positive part of a map into a heatmap's values.

    Parameters
    ----------
    canvas : ndarray of float32
        Shape (H, W).
    full : float
        Value that becomes 255; greater ones do too.

    Returns
    -------
    ndarray of uint8
        C-contiguous, shape (H, W). Zero, which the App draws transparent, stands for
        everything that is not positive.
    """
    scaled = np.clip(canvas / full, 0, 1) * 255
    return np.ascontiguousarray(np.rint(scaled).astype(np.uint8))


def heatmap_document(values: NDArray[np.uint8]) -> dict[str, Any]:
    """Return what the database holds of a ``fo.Heatmap``.

    Parameters
    ----------
    values : ndarray of uint8
        Shape (H, W).

    Returns
    -------
    dict
        The document, with an id of its own. The map is serialized as FiftyOne's
        ``serialize_numpy_array`` does, with a quicker compression.
    """
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return {
        "_id": ObjectId(),
        "_cls": "Heatmap",
        "tags": [],
        "map": zlib.compress(stream.getvalue(), 1),
        "range": [0.0, 255.0],
    }
