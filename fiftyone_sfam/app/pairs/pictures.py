"""Pictures of images, as ``data:`` URLs of a bounded length."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from PIL import Image

from fiftyone_sfam.app.pairs.plain import sentence
from fiftyone_sfam.data.images import load_in_background, read_part, read_shrunk
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.images import ItemImages
from fiftyone_sfam.runs.run import Run

SMALL, MIDDLE, LARGE, LARGEST = 96, 256, 512, 1600
"""Longer sides of pictures in pixels: in a list, of a neighbor, of a query, at most."""

MOST_PICTURE_BYTES = 1_000_000
"""Longest URL of a picture."""

# Shares of the longer side, and qualities, that are tried one after the other.
_STEPS = (
    (1.0, 85),
    (1.0, 70),
    (0.75, 75),
    (0.5, 75),
    (0.375, 70),
    (0.25, 65),
    (0.1875, 60),
    (0.125, 50),
    (0.0625, 50),
)
_READERS = 4  # threads that read images
_HEADER = "data:image/jpeg;base64,"


@dataclass(frozen=True)
class ImageFile:
    """An image, or the part of one in a box, as it is on disk at this moment."""

    path: str
    stamp: tuple[int, int]  # time of the last change, and size in bytes
    box: tuple[float, ...] | None = None

    def read(self) -> Image.Image:
        """Read the image in full size; raise a DataError if it cannot be read."""
        return read_part(self.path, self.box)


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


@dataclass(frozen=True)
class Picture:
    """A picture of an image, see ``Picture`` in ``types.ts``."""

    url: str  # empty if the image cannot be read
    width: int  # of the picture
    height: int
    full: tuple[int, int]  # width and height of the image, or of its part in the box
    problem: str | None = None  # why the image or its map is missing


def no_picture(problem: str) -> Picture:
    """Return what is shown of an image that cannot be read."""
    return Picture("", 0, 0, (0, 0), sentence(problem))


def picture(
    file: ImageFile, longest: int, most_bytes: int = MOST_PICTURE_BYTES
) -> Picture:
    """Fit an image into a square of so many pixels, never enlarged, as a JPEG.

    It is smaller if its URL would have more than ``most_bytes`` characters, and empty,
    with the reason, if the image cannot be read.
    """
    try:
        for share, quality in _STEPS:
            found = _drawn(file, max(1, round(share * longest)), quality)
            if len(found.url) <= most_bytes:
                return found
    except DataError as error:
        return no_picture(str(error))
    return Picture("", 0, 0, found.full, "The picture takes too many bytes.")


@dataclass(frozen=True)
class ShownImage:
    """An image that is shown, with the reason for what is missing of it."""

    file: ImageFile | None
    problem: str | None = None  # why the image or its map is missing

    def picture(self, longest: int, most_bytes: int = MOST_PICTURE_BYTES) -> Picture:
        """Fit the image, see :func:`picture`."""
        if self.file is None:
            return no_picture(self.problem or "there is no image.")
        found = picture(self.file, longest, most_bytes)
        if self.problem is None or found.problem is not None:
            return found
        return replace(found, problem=sentence(self.problem))


def item_images(run: Run, items: Sequence[int]) -> list[ShownImage]:
    """Find the images of items of a run, with one query to the database."""
    sources, images = ItemImages(run, items), []
    for item in items:
        try:
            images.append(ShownImage(image_file(*sources.source(item))))
        except DataError as error:
            images.append(ShownImage(None, str(error)))
    return images


def read_ahead(images: Sequence[tuple[ShownImage, int]]) -> None:
    """Fit images to longer sides, several at once, and keep them for later."""

    def fit(place: int) -> None:
        image, longest = images[place]
        if image.file is not None:
            _drawn(image.file, longest, _STEPS[0][1])

    for _ in load_in_background(range(len(images)), fit, _READERS):
        # An image that cannot be read says so later.
        pass


def _drawn(file: ImageFile, longest: int, quality: int) -> Picture:
    return (_draw_small if longest <= LARGE else _draw_large)(file, longest, quality)


def _draw(file: ImageFile, longest: int, quality: int) -> Picture:
    image, full = _shrunk(file) if longest <= LARGE else _opened(file, longest)
    fitted, stream = _fitted(image, longest, full), io.BytesIO()
    fitted.save(stream, "JPEG", quality=quality, optimize=True)
    url = _HEADER + b64encode(stream.getvalue()).decode()
    return Picture(url, *fitted.size, full)


_draw_small, _draw_large = lru_cache(maxsize=512)(_draw), lru_cache(maxsize=8)(_draw)


@lru_cache(maxsize=64)
def _shrunk(file: ImageFile) -> tuple[Image.Image, tuple[int, int]]:
    image, full = _opened(file, LARGE)
    return _fitted(image, LARGE, full), full


def _opened(file: ImageFile, longest: int) -> tuple[Image.Image, tuple[int, int]]:
    if file.box is None:
        return read_shrunk(file.path, longest)
    image = file.read()
    return image, image.size


def _fitted(image: Image.Image, longest: int, full: tuple[int, int]) -> Image.Image:
    """Shrink an image as its full size asks for; it may have been shrunk before."""
    scale = longest / max(full)
    if scale >= 1:
        return image
    size = max(1, round(full[0] * scale)), max(1, round(full[1] * scale))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
