"""Pictures of maps over images, as ``data:`` URLs, drawn once as long as they stay."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fiftyone_sfam.app.pairs.images import LARGE_BOX, ImageFile
from fiftyone_sfam.app.pairs.maps import Box, MapSide
from fiftyone_sfam.attribution.render import data_url, fitted, overlay
from fiftyone_sfam.errors import DataError

SMALL_BOX = (96, 128)
"""Largest width and height of a neighbor in the strip, in pixels."""

MIDDLE_BOX = (180, 250)
"""Largest width and height of a picture beside the pair, in pixels."""


@dataclass(frozen=True)
class Look:
    """How maps are drawn."""

    opacity: float = 0.6  # of their strongest values, from 0 to 1
    signed: bool = False  # show negative values too
    colors: str | None = None  # color map, see :mod:`fiftyone_sfam.attribution.render`


@dataclass(frozen=True)
class Picture:
    """A picture of the panel."""

    url: str  # the image with its map, as a data: URL
    width: int  # size in pixels
    height: int  # size in pixels
    problem: str | None = None  # why there is no image or no map


def draw(
    file: ImageFile,
    side: MapSide | None,
    limit: float,
    look: Look,
    box: tuple[int, int] = LARGE_BOX,
    problem: str | None = None,
) -> Picture:
    """Draw an image with its map."""
    try:
        if side is None:
            url, width, height = _plain(file, box)
        else:
            values = np.ascontiguousarray(side.values, dtype=np.float32)
            url, width, height = _drawn(
                file,
                box,
                values.tobytes(),
                values.shape,
                side.crop,
                limit,
                look,
            )
    except DataError as error:
        return no_picture(str(error), box)
    return Picture(url, width, height, problem)


def no_picture(problem: str, box: tuple[int, int] = LARGE_BOX) -> Picture:
    """Return what stands for an image that cannot be shown."""
    return Picture("", *box, problem)


@lru_cache(maxsize=256)
def _drawn(
    file: ImageFile,
    box: tuple[int, int],
    values: bytes,
    shape: tuple[int, int],
    crop: Box,
    limit: float,
    look: Look,
) -> tuple[str, int, int]:
    image = overlay(
        fitted(file.large(), *box),
        np.frombuffer(values, dtype=np.float32).reshape(shape),
        limit,
        signed=look.signed,
        colors=look.colors,
        opacity=look.opacity,
        crop=crop,
    )
    return data_url(image, "JPEG"), image.width, image.height


@lru_cache(maxsize=64)
def _plain(file: ImageFile, box: tuple[int, int]) -> tuple[str, int, int]:
    image = fitted(file.large(), *box)
    return data_url(image, "JPEG"), image.width, image.height
