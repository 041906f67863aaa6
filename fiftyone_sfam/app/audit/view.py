"""Figures of a run at a glance, as plain data for Plotly.

Colors of text, axes and background are left to the App, which fills in those of its
theme. Categories are drawn at numbered places with their names as labels, so that names
which look alike stay apart and a click tells the place.
"""

from __future__ import annotations

from collections.abc import Sequence

from fiftyone_sfam.audit.evaluation.display import (
    COLORBAR,
    Figure,
    categories,
    for_plotly,
    labels,
    make_layout,
)


def grid_figure(
    names: Sequence[str],
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    axes: tuple[str, str],
) -> Figure:
    """Draw a table of values by the same names across and down."""
    trace = {
        "type": "heatmap",
        "z": [list(row) for row in values],
        "text": [[for_plotly(text) for text in row] for row in texts],
        "hovertemplate": "%{text}<extra></extra>",
        "colorscale": "Cividis",
        "colorbar": dict(COLORBAR),
        "xgap": 1,
        "ygap": 1,
    }
    shown = labels(names)
    layout = make_layout(*axes)
    layout["xaxis"].update(categories(shown), showgrid=False, zeroline=False)
    layout["yaxis"].update(
        categories(shown), showgrid=False, zeroline=False, autorange="reversed"
    )
    return Figure([trace], layout)


def row_figure(
    names: Sequence[str], values: Sequence[float], title: str, color: str
) -> Figure:
    """Draw lying bars with names, the first on top."""
    shown = labels(names)
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": list(range(len(shown))),
        "x": list(values),
        "text": shown,
        "textposition": "none",
        "hovertemplate": "%{text}: %{x}<extra></extra>",
        "marker": {"color": color},
    }
    layout = make_layout(title, "")
    layout["yaxis"].update(
        categories(shown), showgrid=False, zeroline=False, autorange="reversed"
    )
    layout["xaxis"]["rangemode"] = "tozero"
    layout["bargap"] = 0.3
    return Figure([trace], layout)
