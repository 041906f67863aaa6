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
    """Stretch a map bilinearly, for display."""
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
    """Draw a map into its part of a canvas; where maps overlap the larger value stays."""
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
    """Return the relative box of a crop inside a box (left, top, width, height)."""
    left, top, width, height = box
    return (
        left + crop[0] * width,
        top + crop[1] * height,
        left + crop[2] * width,
        top + crop[3] * height,
    )


def shared_range(largest: NDArray[np.floating]) -> float:
    """Choose the value that the heatmaps of a run show at full strength."""
    positive = largest[largest > 0]
    return float(np.percentile(positive, 98)) if len(positive) else 1.0


def to_bytes(canvas: NDArray[np.float32], full: float) -> NDArray[np.uint8]:
    """Turn the positive part of a map into a heatmap's values."""
    scaled = np.clip(canvas / full, 0, 1) * 255
    return np.ascontiguousarray(np.rint(scaled).astype(np.uint8))


def heatmap_document(values: NDArray[np.uint8]) -> dict[str, Any]:
    """Return what the database holds of a ``fo.Heatmap``."""
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return {
        "_id": ObjectId(),
        "_cls": "Heatmap",
        "tags": [],
        "map": zlib.compress(stream.getvalue(), 1),
        "range": [0.0, 255.0],
    }
