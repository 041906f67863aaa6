"""Pictures and Plotly figures of the report's page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fiftyone_sfam.attribution.render import (
    DIVERGING,
    color_table,
    data_url,
    fitted,
    overlay,
)
from fiftyone_sfam.audit.evaluation.display import (
    Figure,
)
from fiftyone_sfam.data.images import read_part
from fiftyone_sfam.data.text import without_folders
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.images import ItemImages
from fiftyone_sfam.runs.map_check import MapCheck
from fiftyone_sfam.runs.maps import shown_ranges
from fiftyone_sfam.runs.run_config import ALL_PAIRS

if TYPE_CHECKING:
    from fiftyone_sfam.runs.maps import PairMaps, SideMaps
    from fiftyone_sfam.runs.run import Run
    from fiftyone_sfam.runs.run_config import RunConfig

BOX = (72, 144)
"""Largest width and height of a picture, in pixels."""

OPACITY = 0.6
# Pairs whose maps are in memory at once.
_BATCH = 200
# Longer side of a picture of a map alone, in pixels.
_MAP_SIDE = 96


@dataclass(frozen=True)
class Picture:
    """A picture."""

    url: str  # data: URL
    width: int  # size in pixels
    height: int  # size in pixels
    problem: str | None = None  # why there is no picture, or no map on it


class Pictures:
    """Draws pictures of a run with the first map of each pair, one range per kind.

    By default they show the positive part of the stored maps; given maps are signed.
    """

    def __init__(
        self,
        run: Run,
        pairs: Iterable[int],
        items: Iterable[int] = (),
        maps: Mapping[int, PairMaps] | None = None,
        box: tuple[int, int] = BOX,
    ) -> None:
        self._run = run
        self._box = box
        chosen = sorted({int(pair) for pair in pairs})
        self._signed = maps is not None
        self._maps: dict[int, PairMaps] = dict(maps or {})
        if maps is None:
            for start in range(0, len(chosen), _BATCH):
                batch = chosen[start : start + _BATCH]
                self._maps.update(zip(batch, run.many_maps(batch), strict=True))
        self._ranges = shown_ranges(self._maps.values(), signed=self._signed)
        shown = {int(item) for item in items}
        for pair in chosen:
            shown |= {int(run.pairs.query[pair]), int(run.pairs.gallery[pair])}
        self._images = ItemImages(run, shown)

    def of_pair(self, pair: int) -> tuple[Picture, Picture]:
        """Draw a pair of those that were named."""
        pairs, maps = self._run.pairs, self._maps[pair]
        return (
            self._draw(int(pairs.query[pair]), maps.query),
            self._draw(int(pairs.gallery[pair]), maps.gallery),
        )

    def of_item(self, item: int) -> Picture:
        """Draw an image of those that were named, without a map."""
        return self._draw(item, None, plain=True)

    def _draw(self, item: int, side: SideMaps | None, plain: bool = False) -> Picture:
        path = ""
        try:
            path, box = self._images.source(item)
            small = fitted(read_part(path, box), *self._box)
        except DataError as error:
            return Picture("", *self._box, without_folders(str(error), path))
        problem = None if plain or side is not None else "no map: image was skipped."
        if side is not None:
            small = overlay(
                small,
                side.maps[side.shown],
                self._ranges[side.shown],
                signed=self._signed,
                opacity=OPACITY,
                crop=side.crop,
            )
        return Picture(data_url(small), small.width, small.height, problem)


def shown_kinds(config: RunConfig) -> str:
    """Name the kinds of map that pictures of a run's pairs show."""
    check = MapCheck.of(config.map_check)
    note = "" if check is None else check.note_of(config.kinds[0])
    return f"{_kinds(config)} ({note})" if note else _kinds(config)


def _kinds(config: RunConfig) -> str:
    first = config.kinds[0]
    if first in config.layer_kinds or config.path_pairs == ALL_PAIRS:
        return first
    return f"{first} (or else {config.layer_kinds[0]})"


def map_picture(values: NDArray[np.floating], limit: float) -> Picture:
    """Draw a signed map alone."""
    scaled = np.clip(values / (limit or 1.0), -1, 1)
    pixels = color_table(DIVERGING[0])[np.rint((scaled + 1) * 127.5).astype(np.uint8)]
    image = Image.fromarray(pixels)
    scale = max(1, _MAP_SIDE // max(values.shape))
    size = image.width * scale, image.height * scale
    return Picture(data_url(image.resize(size, Image.Resampling.NEAREST), "PNG"), *size)


_AXIS = {"gridcolor": "#e6e8eb", "linecolor": "#9aa0a6", "fixedrange": False}
_LAYOUT = {
    "margin": {"l": 64, "r": 16, "t": 30, "b": 52},
    "height": 330,
    "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#24292f"},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
}


@dataclass(frozen=True)
class Plot:
    """A figure of the page."""

    name: str  # unique in the page
    caption: str  # what it shows, in a sentence
    figure: Figure


def plot(name: str, caption: str, figure: Figure) -> Plot:
    """Give a figure the colors and margins of the page."""
    layout = {**figure.layout, **_LAYOUT}
    for axis in ("xaxis", "yaxis"):
        layout[axis] = {"zeroline": False, **figure.layout[axis], **_AXIS}
    return Plot(name, caption, Figure(figure.data, layout))
