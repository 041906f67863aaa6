"""Pictures and Plotly figures of the report's page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    shared_range,
)
from fiftyone_sfam.audit.evaluation.display import (
    FALSE_COLOR,
    NEUTRAL,
    TRUE_COLOR,
    Figure,
    for_plotly,
    make_layout,
    with_legend,
)
from fiftyone_sfam.audit.statistics.cells import prose
from fiftyone_sfam.data.images import pixel_box, read_image
from fiftyone_sfam.data.items import all_samples, detection_boxes
from fiftyone_sfam.data.text import one_line, without_folders
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone_sfam.runs.run import PairMaps, Run, SideMaps

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
    """Draws pictures of a run, all with one range of the maps."""

    def __init__(
        self, run: Run, pairs: Iterable[int], items: Iterable[int] = ()
    ) -> None:
        self._run = run
        chosen = sorted({int(pair) for pair in pairs})
        self._maps: dict[int, PairMaps] = {}
        for start in range(0, len(chosen), _BATCH):
            batch = chosen[start : start + _BATCH]
            self._maps.update(zip(batch, run.many_maps(batch), strict=True))
        self.kind = run.config.kinds[0]
        sides = [
            side
            for maps in self._maps.values()
            for side in (maps.query, maps.gallery)
            if side is not None
        ]
        largest = [float(one.maps[self.kind].max()) for one in sides]
        self.limit = shared_range(np.array(largest))
        shown = {int(item) for item in items}
        for pair in chosen:
            shown |= {int(run.pairs.query[pair]), int(run.pairs.gallery[pair])}
        self._sources = _Sources(run, sorted(shown))

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
        image = self._sources.image(item)
        if isinstance(image, str):
            return Picture("", *BOX, image)
        small = fitted(image, *BOX)
        problem = None if plain or side is not None else "no map: image was skipped."
        if side is not None:
            values = side.maps[self.kind]
            small = overlay(small, values, self.limit, opacity=OPACITY, crop=side.crop)
        return Picture(data_url(small), small.width, small.height, problem)


class _Sources:
    """The images of some items of a run, read when they are asked for."""

    def __init__(self, run: Run, items: Sequence[int]) -> None:
        self._items = run.items
        sample_ids = list({str(run.items.sample_ids[item]) for item in items})
        view = all_samples(run.dataset).select(sample_ids)
        self._paths = dict(zip(*view.values(["id", "filepath"]), strict=True))
        self._boxes = detection_boxes(view, run.config.patches_field)

    def image(self, item: int) -> Image.Image | str:
        """Read an item's image, or say why it cannot be read."""
        path = self._paths.get(str(self._items.sample_ids[item]))
        if path is None:
            return "the sample was deleted."
        try:
            image = read_image(path)
            if self._items.label_ids is None:
                return image
            box = self._boxes.get(str(self._items.label_ids[item]))
            if box is None:
                return "the detection was deleted."
            return image.crop(pixel_box(box, *image.size))
        except DataError as error:
            return without_folders(str(error), path)


def map_picture(values: NDArray[np.floating], limit: float) -> Picture:
    """Draw a signed map alone."""
    scaled = np.clip(values / (limit or 1.0), -1, 1)
    pixels = color_table(DIVERGING[0])[np.rint((scaled + 1) * 127.5).astype(np.uint8)]
    image = Image.fromarray(pixels)
    scale = max(1, _MAP_SIDE // max(values.shape))
    size = image.width * scale, image.height * scale
    return Picture(data_url(image.resize(size, Image.Resampling.NEAREST), "PNG"), *size)


_LABEL = 28


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


def label(text: str) -> str:
    """Make a text of the dataset's fit for a figure.

    Plotly interprets tags in its texts. A text of another direction must not change
    the direction of the text next to it.
    """
    shown = for_plotly(one_line(prose(text), _LABEL))
    return f"\u2068{shown}\u2069"


def region_figure(
    regions: Sequence[str],
    shares: Mapping[str, Sequence[float]],
    area: Sequence[float],
) -> Plot:
    """Draw the shares of regions in the score, next to their shares of the area."""
    colors = {"true matches": TRUE_COLOR, "false matches": FALSE_COLOR}
    series = {**shares, "area of the image": area}
    traces = []
    for name, values in series.items():
        traces.append(
            {
                "type": "bar",
                "x": [label(region) for region in regions],
                "y": [None if np.isnan(value) else float(value) for value in values],
                "name": label(name),
                "marker": {"color": colors.get(name, NEUTRAL)},
                "opacity": 0.85,
                "hovertemplate": "%{x}: %{y:.1%}<extra>%{fullData.name}</extra>",
            }
        )
    layout = with_legend(make_layout("", "share"))
    layout["yaxis"].update(tickformat=".0%", zeroline=True, zerolinecolor="#9aa0a6")
    layout["barmode"] = "group"
    caption = (
        "Share of the score that each region carries on the query, next to its "
        "share of the area."
    )
    return plot("regions", caption, Figure(traces, layout))
