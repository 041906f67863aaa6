"""Pictures and maps of one answer, in a bounded number of bytes.

Maps come first, in the finest resolution and type that fit. Pictures share the rest:
those of the query and of the chosen pair get most of it, those of far neighbors least.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fiftyone_sfam.app.pairs.maps import averaged_shape, side_json
from fiftyone_sfam.app.pairs.pictures import (
    LARGE,
    MIDDLE,
    Picture,
    ShownImage,
    no_picture,
    read_ahead,
)
from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.runs.maps import PairMaps, SideMaps

Plain = dict[str, Any]

MOST_BYTES = 250_000
"""Most bytes of an answer, as JSON."""

# Bytes of the envelope in which the answer travels, and around the values of a map.
_ENVELOPE, _AROUND = 500, 100
# Largest part of the free bytes that is spent on maps.
_MAPS = 0.6
MOST_CELLS = 256 * 256
"""Cells of a map that is sent; those of a finer one are averaged."""

# Least cells of the maps of the chosen pair, if they have as many.
_CHOSEN = 4096
# Types and cells of maps, the best first.
_MAP_STEPS = (
    ("f2", MOST_CELLS),
    ("i1", MOST_CELLS),
    *(("i1", side**2) for side in (160, 96, 64, 32, 24, 20, 16, 14, 12, 10, 8, 6, 4)),
)
# Characters of a label, where many are so long that they leave little space.
_SHORT_LABEL = 40
# Neighbors that are near, and how much more they get than the others.
_NEAR, _NEAR_WEIGHT = 10, 3
# Largest part of the bytes of all pictures that each of the two large ones gets.
_LARGE_SHARE = 0.3


def fill(
    answer: Plain, images: Sequence[ShownImage], maps: Sequence[PairMaps], chosen: int
) -> None:
    """Put pictures and maps into the answer to ``query``, with all else in it already.

    ``images`` are the query and each neighbor, ``maps`` those of each neighbor, and
    ``chosen`` is the place of the neighbor that is shown large.
    """
    neighbors, large = answer["neighbors"], (0, chosen + 1)
    described = [answer, *neighbors]
    sizes = [LARGE if at in large else MIDDLE for at in range(len(images))]
    read_ahead(list(zip(images, sizes, strict=True)))
    for one, image in zip(described, images, strict=True):
        one["picture"] = asdict(no_picture(image.problem or ""))
    for one in neighbors:
        one |= {"query_side": None, "neighbor_side": None}
    if len(json.dumps(answer)) > MOST_BYTES // 3:
        # Of very long labels, a character takes up to 12 bytes.
        for one in described:
            for name in ("identity", "camera"):
                one[name] = one[name] and shorten(one[name], _SHORT_LABEL)
    sides = fit_maps(maps, chosen, int(_MAPS * _free(answer)))
    for one, both in zip(neighbors, sides, strict=True):
        one["query_side"], one["neighbor_side"] = both
    pictures = _fit_pictures(images, large, _free(answer))
    for one, picture in zip(described, pictures, strict=True):
        one["picture"] = asdict(picture)


def fit_maps(
    maps: Sequence[PairMaps], chosen: int | None, most_bytes: int
) -> list[tuple[Plain | None, Plain | None]]:
    """Describe the maps of pairs at the best resolution that fits.

    The maps of the chosen pair keep up to 4,096 cells.
    """
    for dtype, cells in _MAP_STEPS:
        each = [
            max(cells, _CHOSEN) if place == chosen else cells
            for place in range(len(maps))
        ]
        size = sum(
            _map_bytes(side, dtype, most)
            for pair, most in zip(maps, each, strict=True)
            for side in (pair.query, pair.gallery)
        )
        if size <= most_bytes:
            break
    return [
        (side_json(pair.query, most, dtype), side_json(pair.gallery, most, dtype))
        for pair, most in zip(maps, each, strict=True)
    ]


def _free(answer: Plain) -> int:
    """Return how many bytes an answer can grow by."""
    return MOST_BYTES - _ENVELOPE - len(json.dumps(answer))


def _map_bytes(side: SideMaps | None, dtype: str, most_cells: int) -> int:
    """Return the bytes of one image's maps as JSON, or a little more."""
    size = 0
    for values in () if side is None else side.maps.values():
        height, width = values.shape
        rows, columns = averaged_shape(height, width, most_cells)
        size += _AROUND + 4 * math.ceil(rows * columns * int(dtype[1]) / 3)
    return size


def _fit_pictures(
    images: Sequence[ShownImage], large: Sequence[int], most_bytes: int
) -> list[Picture]:
    """Fit pictures into so many bytes, those at some places large."""
    found: dict[int, Picture] = {}
    left, most = most_bytes, int(_LARGE_SHARE * most_bytes)
    for place in large:
        found[place] = images[place].picture(LARGE, most)
        left -= len(found[place].url)
    others = [place for place in range(len(images)) if place not in large]
    weights = [_NEAR_WEIGHT if number < _NEAR else 1 for number in range(len(others))]
    # What one does not need is left for those after it.
    for number, place in enumerate(others):
        share = left * weights[number] // sum(weights[number:])
        found[place] = images[place].picture(MIDDLE, share)
        left -= len(found[place].url)
    return [found[place] for place in range(len(images))]
