"""Read images, upright and in RGB, in background threads."""

from __future__ import annotations

import math
import struct
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fiftyone_sfam.errors import DataError

Result = TypeVar("Result")

BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    RuntimeError,
    EOFError,
    ArithmeticError,
    LookupError,
    struct.error,
    zlib.error,
    TypeError,
    AttributeError,
    Image.DecompressionBombError,
    # Raised if the caller has turned warnings into errors.
    Image.DecompressionBombWarning,
)
"""Errors that Pillow's decoders raise on damaged files and files of other types."""

# Modes of 16-bit grayscale images, in every byte order.
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
# Formats whose 16-bit images Pillow returns in mode "I", with their full range.
_DEEP_FORMATS = ("PNG", "PPM")
# Tag of EXIF, and its values for images that are turned by 90 degrees.
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)


@dataclass(frozen=True)
class Skipped:
    """An image that a run could not use."""

    index: int  # index of the item
    id: str  # id of its sample, or of its detection
    filepath: str  # its image
    reason: str  # one sentence


@dataclass(frozen=True)
class Loaded(Generic[Result]):
    """The value of an item, or the reason why it could not be loaded."""

    index: int
    value: Result | None
    reason: str | None


def read_image(filepath: str | Path) -> Image.Image:
    """Read an image as the App shows it."""
    return read_shrunk(filepath, None)[0]


def read_shrunk(
    filepath: str | Path, longest: int | None
) -> tuple[Image.Image, tuple[int, int]]:
    """Read an image as the App shows it, and its width and height on disk.

    With ``longest``, a JPEG file whose longer side is at least twice as long is decoded
    at a smaller size, still no smaller than that, which is several times faster.
    """
    path = Path(filepath)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            # Opening a pipe would block forever.
            raise DataError(
                f"the file cannot be read as an image: {path} is not a regular file."
            )
        with Image.open(path) as image:
            _check_pixels(*image.size)
            width, height = image.size
            smaller = None
            if longest is not None:
                scale = longest / max(width, height)
                wanted = (math.ceil(scale * width), math.ceil(scale * height))
                smaller = image.draft(None, wanted)
            if smaller and image.getexif().get(_ORIENTATION) in _SIDEWAYS:
                width, height = height, width
            shown = as_shown(image)
            return shown, (width, height) if smaller else shown.size
    except FileNotFoundError as error:
        raise DataError(f"the file does not exist: {path}.") from error
    except DataError:
        raise
    except BROKEN as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise DataError(f"the file cannot be read as an image: {reason}.") from error


def shown_size(filepath: str | Path) -> tuple[int, int]:
    """Return the width and height of an image as the App shows it; reads its header."""
    try:
        with Image.open(filepath) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION) in _SIDEWAYS
            return (height, width) if turned else (width, height)
    except BROKEN as error:
        raise DataError(f"'{filepath}' cannot be read as an image.") from error


def read_part(
    filepath: str | Path, box: Sequence[float] | NDArray[np.float64] | None
) -> Image.Image:
    """Read an image, or the part of one in a relative box."""
    image = read_image(filepath)
    return image if box is None else image.crop(pixel_box(box, *image.size))


def as_shown(image: Image.Image) -> Image.Image:
    """Return an image upright and in RGB, as bright as a viewer shows it."""
    form, image = image.format, ImageOps.exif_transpose(image)
    if image.mode in _DEEP or (image.mode == "I" and form in _DEEP_FORMATS):
        # Pillow's conversion would turn every value above 255 white.
        values = np.asarray(image).astype(np.int64) >> 8
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise DataError(
            "the image holds 32-bit numbers, whose range is not known; save it with 8 "
            "or 16 bits."
        )
    elif image.mode == "P" and "transparency" in image.info:
        # Same colors; in a direct conversion to RGB, Pillow warns of each such image.
        image = image.convert("RGBA")
    return image.convert("RGB")


def _check_pixels(width: int, height: int) -> None:
    """Raise if an image is so large that Pillow warns of it."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise DataError(
            f"the image of {width} x {height} pixels is larger than Pillow's limit of "
            f"{limit} pixels; make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS."
        )


def pixel_box(
    box: Sequence[float] | NDArray[np.float64], width: int, height: int
) -> tuple[int, int, int, int]:
    """Turn a relative box into pixels, rounded as FiftyOne's ``extract_patch`` does."""
    left, top, box_width, box_height = (float(value) for value in box)
    corners = (left, top, left + box_width, top + box_height)
    if not np.isfinite(corners).all():
        raise DataError(f"the detection's box {list(box)} is not finite.")
    x0, y0, x1, y1 = (
        int(min(max(value, 0.0), 1.0) * size)
        for value, size in zip(corners, (width, height, width, height), strict=True)
    )
    if x1 <= x0 or y1 <= y0:
        raise DataError(
            f"the detection's box covers no pixel of the image of {width} x {height}."
        )
    return x0, y0, x1, y1


def load_in_background(
    indices: Iterable[int],
    load: Callable[[int], Result],
    num_workers: int,
    ahead: int = 64,
) -> Iterator[Loaded[Result]]:
    """Load items in threads, in order, up to ``ahead`` of them in advance.

    Decoding and resizing release the interpreter's lock, so threads keep a network
    busy. Unlike worker processes they are also safe in a server and in a notebook.
    """

    def attempt(index: int) -> Loaded[Result]:
        try:
            return Loaded(index, load(index), None)
        except DataError as error:
            return Loaded(index, None, str(error))

    if num_workers < 1:
        yield from map(attempt, indices)
        return
    pending: deque[Future[Loaded[Result]]] = deque()
    source = iter(indices)
    with ThreadPoolExecutor(num_workers, thread_name_prefix="sfam-load") as pool:
        try:
            for index in source:
                pending.append(pool.submit(attempt, index))
                if len(pending) >= max(ahead, num_workers):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
