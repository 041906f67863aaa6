"""Reading images: upright, cropped to a detection, in the background, or not at all."""

from __future__ import annotations

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

# What Pillow's decoders raise on files that are no image, or no longer a whole one.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    RuntimeError,
    EOFError,
    ArithmeticError,
    LookupError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Skipped:
    """An image that a run could not use.

    Attributes
    ----------
    index : int
        Index of the item.
    id : str
        Id of its sample, or of its detection.
    filepath : str
        Its image.
    reason : str
        One sentence that says what is wrong.
    """

    index: int
    id: str
    filepath: str
    reason: str


@dataclass(frozen=True)
class Loaded(Generic[Result]):
    """What became of one item: a value, or the reason why there is none."""

    index: int
    value: Result | None
    reason: str | None


def read_image(filepath: str | Path) -> Image.Image:
    """Read an image as the App shows it.

    Parameters
    ----------
    filepath : str or Path
        Image file. An orientation stored in it (EXIF) is applied.

    Returns
    -------
    PIL.Image.Image
        RGB.

    Raises
    ------
    DataError
        If the file cannot be read as an image.
    """
    path = Path(filepath)
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise DataError(f"the file does not exist: {path}.") from error
    except _BROKEN as error:
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise DataError(f"the file cannot be read as an image: {reason}.") from error


def pixel_box(
    box: Sequence[float] | NDArray[np.float64], width: int, height: int
) -> tuple[int, int, int, int]:
    """Turn a relative box into pixels, rounded as FiftyOne's ``extract_patch`` does.

    Parameters
    ----------
    box : sequence of float
        Relative left, top, width and height.
    width, height : int
        Size of the image.

    Returns
    -------
    tuple of int
        Left, top, right, bottom, inside the image.

    Raises
    ------
    DataError
        If the box covers no pixel of the image.
    """
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
    """Load items in threads, in order, some of them ahead of their use.

    Decoding and resizing release the interpreter's lock, so threads keep a network
    busy; unlike worker processes they are safe in a server, a notebook and a delegated
    operation alike.

    Parameters
    ----------
    indices : iterable of int
        Items to load.
    load : callable
        Loads one item; a :class:`DataError` that it raises becomes the reason why the
        item is skipped, any other exception ends the iteration.
    num_workers : int
        Threads; 0 loads in the caller's.
    ahead : int
        How many items may be loaded before they are asked for.

    Yields
    ------
    Loaded
        One per index, in order.
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
