"""Figures of a run at a glance, as plain data for Plotly.

Colors of text, axes and background are left to the App, which fills in those of its
theme. Categories are drawn at numbered places with their names as labels, so that names
which look alike stay apart and a click tells the place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.render import DIVERGING, color_table
from fiftyone_sfam.audit.evaluation.display import (
    FALSE_COLOR,
    NEUTRAL,
    SMALL,
    TRUE_COLOR,
    Figure,
    for_plotly,
    make_layout,
    with_legend,
)
from fiftyone_sfam.audit.regions.ledger_cells import REMAINDER, Cell
from fiftyone_sfam.data.text import one_line, percent, percent_between

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
            pane = _pane_of(child, name)
            if pane is not None:
                return pane
    return None


OUTCOME_COLORS = {
    "true match": TRUE_COLOR,
    "false match": FALSE_COLOR,
    "unlabeled": NEUTRAL,
}
_WIDTH = 0.8
# Of the points, on either side, that an axis need not reach to.
_TAIL = 0.005


def share_figure(
    regions: Sequence[str], cells: Mapping[str, Mapping[str, Cell]]
) -> Figure:
    """Draw each region's share of the score by outcome, and of the area."""
    bars, areas = [], []
    width = _WIDTH / max(1, len(cells))
    for number, (outcome, by_region) in enumerate(cells.items()):
        offset = (number - (len(cells) - 1) / 2) * width
        x = [place + offset for place in range(len(regions))]
        chosen = [by_region[region] for region in regions]
        bars.append(
            {
                "type": "bar",
                "x": x,
                "y": [_number(one.share) for one in chosen],
                "width": 0.92 * width,
                "name": for_plotly(outcome),
                "marker": {"color": OUTCOME_COLORS.get(outcome, NEUTRAL)},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [_gap(one.high, one.share) for one in chosen],
                    "arrayminus": [_gap(one.share, one.low) for one in chosen],
                    "color": NEUTRAL,
                    "thickness": 1.5,
                    "width": 3,
                },
                "text": [_share_text(one, outcome) for one in chosen],
                "textposition": "none",
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
        areas.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": x,
                "y": [_number(one.area) for one in chosen],
                "name": "share of the area",
                "showlegend": number == 0,
                "marker": {
                    "symbol": "line-ew-open",
                    "size": 22,
                    "color": NEUTRAL,
                    "line": {"width": 3},
                },
                "hovertemplate": "%{y:.1%} of the area<extra></extra>",
            }
        )
    layout = make_layout("", "share of the score")
    shown = ["(remainder)" if one == REMAINDER else one for one in regions]
    layout["xaxis"].update(categories(labels(shown)), showgrid=False, zeroline=False)
    layout["yaxis"]["tickformat"] = ".0%"
    return Figure([*bars, *areas], with_legend(layout))


def scatter_figure(
    points: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]],
    region: str,
    score_name: str,
) -> Figure:
    """Draw the score of pairs over a region's share of it."""
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": shares.astype(np.float64).round(5).tolist(),
            "y": scores.astype(np.float64).round(5).tolist(),
            "name": for_plotly(outcome),
            "marker": {
                "color": OUTCOME_COLORS.get(outcome, NEUTRAL),
                "size": 6,
                "opacity": 0.55,
            },
            "hovertemplate": "%{x:.1%} of %{y:.3f}",
        }
        for outcome, (shares, scores) in points.items()
    ]
    (name,) = labels([region])
    layout = make_layout(f"share of the score on the query: {name}", score_name)
    layout["xaxis"]["tickformat"] = ".0%"
    every = [shares for shares, _ in points.values()]
    span = shown_span(np.concatenate(every)) if every else None
    if span is not None:
        layout["xaxis"]["range"] = list(span)
    layout["dragmode"] = "select"
    return Figure(traces, with_legend(layout))


def shown_span(values: NDArray[np.floating]) -> tuple[float, float] | None:
    """Return what an axis shows: all but the farthest points at either end.

    A score near zero makes any share of it huge.
    """
    if not len(values):
        return None
    low, high = np.quantile(values.astype(np.float64), [_TAIL, 1 - _TAIL])
    margin = 0.05 * max(high - low, 0.02)
    return float(low - margin), float(high + margin)


def claim_figure(claim: NDArray[np.floating], drop: NDArray[np.floating]) -> Figure:
    """Draw the measured drops of the similarity over what a ledger claims."""
    both = np.concatenate([claim, drop]).astype(np.float64)
    ends = [float(both.min()), float(both.max())]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": claim.astype(np.float64).round(5).tolist(),
        "y": drop.astype(np.float64).round(5).tolist(),
        "marker": {"color": TRUE_COLOR, "size": 6, "opacity": 0.6},
        "hovertemplate": "claimed %{x:.3f}, measured %{y:.3f}<extra></extra>",
    }
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "x": ends,
        "y": ends,
        "line": {"color": NEUTRAL, "dash": "dash", "width": 1},
        "hoverinfo": "skip",
    }
    layout = make_layout("what the ledger claims", "measured drop of the similarity")
    return Figure([points, diagonal], layout)


def _share_text(cell: Cell, outcome: str) -> str:
    text = (
        f"{cell.region}, {outcome}: {percent_between(cell.share, cell.low, cell.high)} "
        f"of the score, {percent(cell.area)} of the area; {cell.pairs:,} pairs"
    )
    return for_plotly(text)


def _number(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)


def _gap(high: float, low: float) -> Any:
    return 0.0 if np.isnan(high) or np.isnan(low) else max(0.0, float(high - low))
