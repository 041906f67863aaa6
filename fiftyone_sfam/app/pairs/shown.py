"""What the panel of pairs is given, and what its pages have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fiftyone_sfam.app.pairs.layout import image_path, places_path
from fiftyone_sfam.app.pairs.maps import Spot
from fiftyone_sfam.app.pairs.sections import channels_text
from fiftyone_sfam.app.pairs.texts import Plain, as_sentence
from fiftyone_sfam.app.pairs.view import Channels, Large

MARK = "#ffffff"


@dataclass(frozen=True)
class Shown:
    """What the panel is given."""

    text: Plain  # texts and sizes, small, for the layout
    pictures: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None  # why there is nothing to show, as Markdown


def channels_shown(channels: Channels | None) -> Plain | None:
    """Describe the list of channels."""
    if channels is None:
        return None
    if channels.importance is None:
        return {"text": as_sentence(channels.note or ""), "count": 0}
    return {
        "text": channels_text(channels.importance),
        "count": len(channels.importance),
    }


def large_pictures(side: str, large: Large, spot: Spot | None) -> dict[str, Any]:
    """Return a large image and what can be clicked over it."""
    found: dict[str, Any] = {image_path(side): large.picture.url}
    if large.places is not None:
        chosen = spot if spot is not None and spot.side == side else None
        found[places_path(side)] = place_traces(large, chosen)
    return found


def place_traces(large: Large, spot: Spot | None) -> list[dict[str, Any]]:
    """Draw what can be clicked over an image: the cells of its map, and a mark."""
    left, top, right, bottom = large.places or (0.0, 0.0, 1.0, 1.0)
    rows, columns = large.shape
    width, height = (right - left) / columns, (bottom - top) / rows
    values = np.zeros((rows, columns), dtype=np.float32)
    hover = "click<extra></extra>"
    if large.side is not None:
        values, hover = large.side.values, "%{z:+.4g}<extra></extra>"
    cells = {
        "type": "heatmap",
        "z": [[float(f"{value:.4g}") for value in row] for row in values],
        "x0": left + width / 2,
        "dx": width,
        "y0": top + height / 2,
        "dy": height,
        "opacity": 0,
        "showscale": False,
        "hovertemplate": hover,
    }
    x0, y0 = left, top
    if spot is not None:
        x0, y0 = left + spot.column * width, top + spot.row * height
    frame = {
        "type": "scatter",
        "mode": "lines",
        "x": [x0, x0 + width, x0 + width, x0, x0],
        "y": [y0, y0, y0 + height, y0 + height, y0],
        "line": {"color": MARK, "width": 3},
        "hoverinfo": "skip",
        "visible": spot is not None,
    }
    return [cells, frame]
