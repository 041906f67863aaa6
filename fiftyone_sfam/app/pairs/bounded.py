"""Pictures and maps of one answer, in a bounded number of bytes.

Maps come first, in the finest resolution and type that fit. Pictures share the rest:
those of the query and of the chosen pair get most of it, those of far neighbors least.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
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

# Of the envelope, in which the answer travels.
_ENVELOPE = 500
# Of the JSON around the values of a map.
_AROUND = 100
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
    *(
        ("i1", cells)
        for cells in (25600, 9216, 4096, 1024, 576, 400, 256, 196, 144, 100, 64, 36, 16)
    ),
)
# Characters of a label, where many are so long that they leave little space.
_SHORT_LABEL = 40
# Neighbors that are near, and how much more they get than the others.
_NEAR, _NEAR_WEIGHT = 10, 3
# Largest part of the bytes of all pictures that each of the two large ones gets.
_LARGE_SHARE = 0.3


def fill(
    answer: Plain,
    query: ShownImage,
    images: Sequence[ShownImage],
    maps: Sequence[PairMaps],
    chosen: int,
) -> None:
    """Put pictures and maps into the answer to ``query``.

    Parameters
    ----------
    answer : dict
        The answer, with everything else of each of its neighbors.
    query : ShownImage
        The query.
    images : sequence of ShownImage
        One per neighbor.
    maps : sequence of PairMaps
        One per neighbor.
    chosen : int
        Place of the neighbor that is shown large.
    """
    neighbors = answer["neighbors"]
    shown = [query, *images]
    sizes = [LARGE if at in (0, chosen + 1) else MIDDLE for at in range(len(shown))]
    read_ahead(
        [
            (image.file, size)
            for image, size in zip(shown, sizes, strict=True)
            if image.file is not None
        ]
    )
    empty = [no_picture(image.problem or "").to_json() for image in shown]
    answer["picture"] = empty[0]
    for neighbor, blank in zip(neighbors, empty[1:], strict=True):
        neighbor |= {"picture": blank, "query_side": None, "neighbor_side": None}
    if len(json.dumps(answer)) > MOST_BYTES // 3:
        _cut_labels([answer, *neighbors])
    free = MOST_BYTES - _ENVELOPE - len(json.dumps(answer))
    sides = fit_maps(maps, chosen, int(_MAPS * free))
    for neighbor, both in zip(neighbors, sides, strict=True):
        neighbor["query_side"], neighbor["neighbor_side"] = both
    free = MOST_BYTES - _ENVELOPE - len(json.dumps(answer))
    drawn = list(_fit_pictures(shown, chosen, free))
    answer["picture"] = drawn[0].to_json(query.problem)
    for neighbor, image, found in zip(neighbors, images, drawn[1:], strict=True):
        neighbor["picture"] = found.to_json(image.problem)


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


def _cut_labels(described: Sequence[Plain]) -> None:
    """Cut very long labels, of which one takes up to 12 bytes a character."""
    for one in described:
        for name in ("identity", "camera"):
            if one[name] is not None:
                one[name] = shorten(one[name], _SHORT_LABEL)


def _map_bytes(side: SideMaps | None, dtype: str, most_cells: int) -> int:
    """Return the bytes of one image's maps as JSON, or a little more."""
    size = 0
    for values in () if side is None else side.maps.values():
        height, width = values.shape
        rows, columns = averaged_shape(height, width, most_cells)
        size += _AROUND + 4 * math.ceil(rows * columns * int(dtype[1]) / 3)
    return size


def _fit_pictures(
    shown: Sequence[ShownImage], chosen: int, most_bytes: int
) -> Iterator[Picture]:
    """Fit pictures, of which the first and the chosen one after it are large."""
    large = {0, chosen + 1}
    found: dict[int, Picture] = {}
    left, most = most_bytes, int(_LARGE_SHARE * most_bytes)
    for place in sorted(large):
        found[place] = shown[place].picture(LARGE, most)
        left -= len(found[place].url)
    others = [place for place in range(len(shown)) if place not in large]
    weights = [_NEAR_WEIGHT if number < _NEAR else 1 for number in range(len(others))]
    # What one does not need is left for those after it.
    for number, place in enumerate(others):
        share = left * weights[number] // sum(weights[number:])
        found[place] = shown[place].picture(MIDDLE, share)
        left -= len(found[place].url)
    return (found[place] for place in range(len(shown)))
