"""Pictures of maps over images, as ``data:`` URLs, drawn once as long as they stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fiftyone_sfam.app.pairs.maps import ShownMaps
from fiftyone_sfam.attribution.render import data_url, fitted, overlay
from fiftyone_sfam.data.images import read_part
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.maps import SideMaps

Box = tuple[float, float, float, float]

LARGE_BOX = (300, 420)
"""Largest width and height of a picture, in pixels."""


@dataclass(frozen=True)
class ImageFile:
    """An image, or the part of one in a box, as it is on disk at this moment."""

    path: str  # the file
    stamp: tuple[int, int]
    box: tuple[float, ...] | None = None

    def read(self) -> Image.Image:
        """Read the image in full size; raise a DataError if that cannot be."""
        return read_part(self.path, self.box)

    def large(self) -> Image.Image:
        """Return the image fitted into :data:`LARGE_BOX`, not to be changed."""
        return _large(self)


def image_file(path: str, box: Sequence[float] | None = None) -> ImageFile:
    """Look at an image's file."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        raise DataError(
            f"the file does not exist: {path}. Put it back, or correct the sample's "
            "filepath."
        ) from error
    stamp = (status.st_mtime_ns, status.st_size)
    return ImageFile(path, stamp, None if box is None else tuple(box))


@lru_cache(maxsize=64)
def _large(file: ImageFile) -> Image.Image:
    return fitted(file.read(), *LARGE_BOX)


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
    """A picture of the panel: an image, with its map where there is one."""

    url: str  # the image with its map, as a data: URL
    width: int  # size in pixels
    height: int  # size in pixels
    problem: str | None = None  # reason why the image or its map is missing
    values: NDArray[np.float32] | None = None  # the map, shape (h, w)
    places: Box | None = None  # the part of the image that can be clicked


def draw(
    file: ImageFile,
    side: SideMaps | None,
    maps: ShownMaps,
    look: Look,
    box: tuple[int, int] = LARGE_BOX,
    *,
    problem: str | None = None,
    places: Box | None = None,
) -> Picture:
    """Draw an image with its map; raise a DataError if the image cannot be read."""
    if side is None:
        return Picture(*_plain(file, box), problem, None, places)
    values = np.ascontiguousarray(side.maps[maps.kind], dtype=np.float32)
    drawn = _drawn(
        file,
        box,
        values.tobytes(),
        values.shape,
        side.crop,
        maps.limit,
        replace(look, signed=maps.signed),
    )
    return Picture(*drawn, problem, values, places)


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
