"""Figures of a run at a glance, as plain data for Plotly.

Colors of text, axes and background are left to the App, which fills in those of its
theme. Categories are drawn at numbered places with their names as labels, so that names
which look alike stay apart and a click tells the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.render import DIVERGING, color_table
from fiftyone_sfam.audit.evaluation.figures import (
    SMALL,
    Figure,
    for_plotly,
    make_layout,
)
from fiftyone_sfam.data.text import one_line

NO_LABEL = "(none)"

_SHOWN = 24
_COLORBAR = {"thickness": 12, "outlinewidth": 0, "tickfont": {"size": SMALL}}
# Stops of a color scale; a divisor of 255.
_STOPS = 15
# Left-to-right text goes on as it was after a name that is written right to left.
_ISOLATE, _POP = "\u2068", "\u2069"


def short(name: str | None, length: int = _SHOWN) -> str:
    """Return a name on one line and of bounded length."""
    return NO_LABEL if name is None else one_line(name, length)


def quoted(name: str | None, length: int = _SHOWN) -> str:
    """Return a short name for a sentence, isolated from its direction of writing."""
    return _ISOLATE + short(name, length) + _POP


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
        "text": [[for_plotly(one) for one in row] for row in texts],
        "hovertemplate": "%{text}<extra></extra>",
        "colorscale": "Cividis",
        "colorbar": dict(_COLORBAR),
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


def evidence_figure(
    maps: Sequence[NDArray[np.floating]], names: Sequence[str]
) -> Figure:
    """Draw average evidence maps side by side, on one scale around zero."""
    limit = max((float(np.abs(one).max()) for one in maps), default=0.0) or 1.0
    width = 1 / max(1, len(maps))
    traces: list[dict[str, Any]] = []
    layout = make_layout("", "")
    layout["annotations"] = []
    for place, (values, name) in enumerate(zip(maps, names, strict=True)):
        number = "" if place == 0 else str(place + 1)
        traces.append(
            {
                "type": "heatmap",
                "z": np.asarray(values, dtype=np.float64).round(7).tolist(),
                "xaxis": f"x{number}",
                "yaxis": f"y{number}",
                "zmin": -limit,
                "zmax": limit,
                "colorscale": _diverging(),
                "showscale": place == len(maps) - 1,
                "colorbar": dict(_COLORBAR),
                "name": for_plotly(name),
                "hovertemplate": "%{z:.5f} of similarity<extra></extra>",
            }
        )
        bare = {"visible": False, "fixedrange": True, "constrain": "domain"}
        layout[f"xaxis{number}"] = {
            **bare,
            "domain": [place * width, (place + 0.9) * width],
            "anchor": f"y{number}",
        }
        layout[f"yaxis{number}"] = {
            **bare,
            "anchor": f"x{number}",
            "autorange": "reversed",
            "scaleanchor": f"x{number}",
        }
        layout["annotations"].append(
            {
                "text": for_plotly(name),
                "x": (place + 0.45) * width,
                "y": 1.02,
                "xref": "paper",
                "yref": "paper",
                "xanchor": "center",
                "yanchor": "bottom",
                "showarrow": False,
            }
        )
    layout["margin"].update(t=30, b=10, l=10)
    return Figure(traces, layout)


# --------------------------------------------------------------------------------------
# Parts of figures
# --------------------------------------------------------------------------------------


def labels(names: Sequence[str]) -> list[str]:
    """Return names as a figure shows them."""
    return [for_plotly(short(name, 16)) for name in names]


def categories(names: list[str]) -> dict[str, Any]:
    """Return an axis with a name at each of the places 0, 1, ..."""
    return {
        "tickmode": "array",
        "tickvals": list(range(len(names))),
        "ticktext": names,
    }


def _diverging() -> list[list[Any]]:
    """Return the colors that panels draw signed maps in."""
    table = color_table(DIVERGING[0])[:: 255 // _STOPS]
    return [
        [place / _STOPS, f"rgb({red},{green},{blue})"]
        for place, (red, green, blue) in enumerate(table.tolist())
    ]


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
            found = _pane_of(child, name)
            if found is not None:
                return found
    return None
