"""Figures of a run at a glance, as plain data for Plotly.

Colors of text, axes and background are left to the App, which fills in those of its
theme. Categories are drawn at numbered places with their names as labels, so that names
which look alike stay apart and a click tells the place.
"""

from __future__ import annotations

from collections.abc import Sequence

import fiftyone as fo
import fiftyone.operators as foo

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


def open_beside(ctx: foo.ExecutionContext, name: str, neighbor: str) -> None:
    """Open a panel in the pane of another, or turn to it where it is open.

    FiftyOne itself opens panels in the pane of the grid, which would be hidden behind
    it, or else halved.
    """
    spaces = ctx.spaces
    pane = None if spaces is None else _pane_of(spaces, neighbor)
    if spaces is None or pane is None or _pane_of(spaces, name) is not None:
        ctx.ops.open_panel(name)
        return
    panel = fo.Panel(type=name)
    pane.children.append(panel)
    pane.active_child = panel.component_id
    ctx.ops.set_spaces(spaces)


def _pane_of(space: fo.Space, name: str) -> fo.Space | None:
    """Find the pane that holds a panel."""
    for child in space.children:
        if isinstance(child, fo.Panel) and child.type == name:
            return space
        if isinstance(child, fo.Space):
            pane = _pane_of(child, name)
            if pane is not None:
                return pane
    return None
