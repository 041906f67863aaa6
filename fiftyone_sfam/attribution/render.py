"""Pictures of maps: heatmaps, and images with a map over them."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

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
    """Resize a map bilinearly, for display."""
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
    """Draw a map into its box of a canvas, keeping larger values of other maps."""
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
    """Return left, top, right, bottom of a relative crop of a box (x, y, w, h)."""
    left, top, width, height = box
    return (
        left + crop[0] * width,
        top + crop[1] * height,
        left + crop[2] * width,
        top + crop[3] * height,
    )


def shared_range(largest: NDArray[np.floating]) -> float:
    """Choose the value that all heatmaps of a run show at full strength."""
    positive = largest[largest > 0]
    return float(np.percentile(positive, 98)) if len(positive) else 1.0


def top_value(values: NDArray[np.float32]) -> float:
    """Return the value that a picture of a map of pixels shows at full strength.

    One pixel in a hundred has a larger one, at the size of a heatmap: a few pixels at
    edges would make all others too weak to be seen.
    """
    height, width = values.shape
    if max(height, width) > LONG_SIDE:
        values = upsample(values, *canvas_size(width, height, LONG_SIDE))
    return float(np.percentile(values, 99))


def to_bytes(canvas: NDArray[np.float32], full: float) -> NDArray[np.uint8]:
    """Scale the positive part of a map to the values of a heatmap."""
    scaled = np.clip(canvas / full, 0, 1) * 255
    return np.ascontiguousarray(np.rint(scaled).astype(np.uint8))


def heatmap_document(values: NDArray[np.uint8]) -> dict[str, Any]:
    """Return a ``fo.Heatmap`` as the database stores it."""
    stream = io.BytesIO()
    np.save(stream, values, allow_pickle=False)
    return {
        "_id": ObjectId(),
        "_cls": "Heatmap",
        "tags": [],
        "map": zlib.compress(stream.getvalue(), 1),
        "range": [0.0, 255.0],
    }


SEQUENTIAL = ("Viridis", "Cividis", "Inferno", "Magma")
"""Perceptually uniform color maps, for the positive part of maps."""

DIVERGING = ("RdBu_r", "PuOr_r", "BrBG_r")
"""Zero-centered color maps, safe for color-blind readers, for signed maps."""

ImageFormat = Literal["WEBP", "JPEG", "PNG"]


@lru_cache(maxsize=16)
def color_table(name: str) -> NDArray[np.uint8]:
    """Return a color map as a table of shape (256, 3)."""
    if name not in SEQUENTIAL + DIVERGING:
        raise ValueError(
            f"unknown color map {name!r}; use one of "
            f"{', '.join(SEQUENTIAL + DIVERGING)}."
        )
    from plotly import colors

    positions = np.linspace(0, 1, 256)
    sampled = colors.sample_colorscale(name, list(positions), colortype="tuple")
    table = np.rint(np.asarray(sampled) * 255).astype(np.uint8)
    table.setflags(write=False)
    return table


def shared_limit(maps: Sequence[NDArray[np.float32]]) -> float:
    """Return the largest absolute value of maps that are compared."""
    largest = max((float(np.abs(values).max()) for values in maps), default=0.0)
    return largest or 1.0


def overlay(
    image: Image.Image,
    values: NDArray[np.float32],
    limit: float,
    *,
    signed: bool = False,
    opacity: float = 0.6,
    crop: Sequence[float] = (0.0, 0.0, 1.0, 1.0),
) -> Image.Image:
    """Draw a map over an image."""
    table = color_table((DIVERGING if signed else SEQUENTIAL)[0])
    width, height = image.size
    strength = np.zeros((height, width), dtype=np.float32)
    left, top, right, bottom = inner_box((0, 0, width, height), crop)
    x0, y0 = round(left), round(top)
    x1, y1 = max(x0 + 1, round(right)), max(y0 + 1, round(bottom))
    drawn = np.clip(upsample(values, y1 - y0, x1 - x0) / limit, -1, 1)
    inside = slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width))
    strength[inside] = drawn[
        inside[0].start - y0 : inside[0].stop - y0,
        inside[1].start - x0 : inside[1].stop - x0,
    ]
    if signed:
        index = np.rint((strength + 1) * 127.5).astype(np.uint8)
    else:
        strength = np.maximum(strength, 0)
        index = np.rint(strength * 255).astype(np.uint8)
    alpha = (np.sqrt(np.abs(strength)) * opacity)[..., None]
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    blended = pixels * (1 - alpha) + table[index] * alpha
    return Image.fromarray(np.rint(blended).astype(np.uint8))


def fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale an image to fit into a box, keeping its aspect ratio."""
    scale = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC)


def data_url(image: Image.Image, file_format: ImageFormat = "WEBP") -> str:
    """Encode an image into a ``data:`` URL."""
    stream = io.BytesIO()
    image.save(stream, file_format, quality=85)
    encoded = base64.b64encode(stream.getvalue()).decode()
    return f"data:image/{file_format.lower()};base64,{encoded}"
