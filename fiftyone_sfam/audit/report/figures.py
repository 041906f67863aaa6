"""The report's Plotly figures, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fiftyone_sfam.audit.evaluation.figures import (
    FALSE_COLOR,
    NEUTRAL,
    TRUE_COLOR,
    Figure,
    for_plotly,
    make_layout,
    with_legend,
)
from fiftyone_sfam.audit.statistics.cells import prose
from fiftyone_sfam.data.text import one_line

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

    Plotly takes tags in its texts for formatting. A text of another direction must
    not turn what stands beside it.
    """
    shown = for_plotly(one_line(prose(text), _LABEL))
    return f"\u2068{shown}\u2069"


def region_figure(
    regions: Sequence[str],
    shares: Mapping[str, Sequence[float]],
    area: Sequence[float],
) -> Plot:
    """Draw what regions carry of the score, beside what they cover of the image."""
    colors = {"true matches": TRUE_COLOR, "false matches": FALSE_COLOR}
    series = {**shares, "area of the image": area}
    traces = []
    for name, values in series.items():
        traces.append(
            {
                "type": "bar",
                "x": [label(region) for region in regions],
                "y": [None if np.isnan(one) else float(one) for one in values],
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
        "Share of the score that each region carries on the query, beside its share "
        "of the area."
    )
    return plot("regions", caption, Figure(traces, layout))
