"""Figures of a run at a glance, as plain data for Plotly.

Colors of text, axes and background are left to the App, which fills in those of its
theme. Categories are drawn at numbered places with their names as labels, so that names
which look alike stay apart and a click tells the place.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.render import DIVERGING, color_table
from fiftyone_sfam.audit.evaluation.measures import Identification
from fiftyone_sfam.audit.evaluation.overview import Overview
from fiftyone_sfam.data.text import one_line

NO_LABEL = "(none)"

_SHOWN = 24
# Left-to-right text goes on as it was after a name that is written right to left.
_ISOLATE, _POP = "\u2068", "\u2069"


def short(name: str | None, length: int = _SHOWN) -> str:
    """Return a name on one line and of bounded length."""
    return NO_LABEL if name is None else one_line(name, length)


def quoted(name: str | None, length: int = _SHOWN) -> str:
    """Return a short name for a sentence, isolated from its direction of writing."""
    return _ISOLATE + short(name, length) + _POP


def for_plotly(text: str) -> str:
    """Escape a text for Plotly, which takes some HTML as markup."""
    return html.escape(text, quote=False)


TRUE_COLOR, FALSE_COLOR, NEUTRAL = "#1a85ff", "#d41159", "#8a8a8a"
"""Colors that the color-blind can tell apart."""

SHOWN_RANKS = 20
SHOWN_BINS = 80
_SMALL = 12
_COLORBAR = {"thickness": 12, "outlinewidth": 0, "tickfont": {"size": _SMALL}}
# Stops of a color scale; a divisor of 255.
_STOPS = 15


@dataclass(frozen=True)
class Figure:
    """A Plotly figure as plain data."""

    data: list[dict[str, Any]]  # traces
    layout: dict[str, Any]  # layout


def coarse(
    figures: Overview,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Put bins of scores together, to as many as are shown."""
    step = max(1, len(figures.genuine) // SHOWN_BINS)
    return (
        figures.edges[::step],
        figures.genuine.reshape(-1, step).sum(axis=1),
        figures.impostor.reshape(-1, step).sum(axis=1),
    )


def rates_at(figures: Overview, threshold: float) -> tuple[float, float]:
    """Return the share of impostor pairs accepted and of genuine pairs refused."""
    first = int(np.searchsorted(figures.edges[:-1], threshold - 1e-12))
    genuine, impostor = figures.genuine, figures.impostor
    fmr = impostor[first:].sum() / impostor.sum() if impostor.sum() else float("nan")
    fnmr = genuine[:first].sum() / genuine.sum() if genuine.sum() else float("nan")
    return float(fmr), float(fnmr)


def score_figure(figures: Overview, threshold: float) -> Figure:
    """Draw the scores of genuine and impostor pairs, and the threshold."""
    edges, genuine, impostor = coarse(figures)
    centers = (edges[:-1] + edges[1:]) / 2
    traces = []
    for counts, name, color in (
        (genuine, "same identity", TRUE_COLOR),
        (impostor, "other identity", FALSE_COLOR),
    ):
        traces.append(
            {
                "type": "bar",
                "x": centers.tolist(),
                "y": (counts / max(1, int(counts.sum()))).tolist(),
                "customdata": counts.tolist(),
                "name": name,
                "marker": {"color": color},
                "opacity": 0.65,
                "hovertemplate": "%{x:.3f}: %{customdata:,} pairs (%{y:.2%})",
            }
        )
    layout = make_layout(figures.score_name, "share of pairs")
    layout.update(barmode="overlay", bargap=0.05, shapes=[_mark_at(threshold)])
    layout["yaxis"]["tickformat"] = ".0%"
    return Figure(traces, with_legend(layout))


def cmc_figure(ranked: Identification) -> Figure:
    """Draw the cumulative match characteristic."""
    cmc = ranked.cmc(SHOWN_RANKS)
    trace = {
        **line(np.arange(1, SHOWN_RANKS + 1), cmc, "CMC", mode="lines+markers"),
        "hovertemplate": "%{y:.1%} up to rank %{x}<extra></extra>",
    }
    layout = make_layout("rank", "queries with a true match")
    layout["yaxis"].update(range=[min(0.98 * float(cmc[0]), 0.9), 1.005])
    layout["yaxis"]["tickformat"] = ".0%"
    layout["xaxis"].update(range=[0.5, SHOWN_RANKS + 0.5], tick0=0, dtick=5)
    return Figure([trace], layout)


def roc_figure(figures: Overview, threshold: float) -> Figure:
    """Draw the verification rate over the false match rate, and where one is on it."""
    accepted = 1 - figures.roc_fnmr
    trace = {
        **line(figures.roc_fmr, accepted, "ROC", mode="lines+markers"),
        "marker": {"size": 5, "color": TRUE_COLOR},
        "customdata": figures.roc_threshold.tolist(),
        "hovertemplate": "at %{customdata:.3f}: false matches %{x:.2e}, "
        "genuine accepted %{y:.1%}<extra></extra>",
    }
    fmr, fnmr = rates_at(figures, threshold)
    here = {
        "type": "scatter",
        "mode": "markers",
        "x": [max(fmr, float(figures.roc_fmr.min()))],
        "y": [1 - fnmr],
        "marker": {"size": 11, "color": FALSE_COLOR, "symbol": "diamond"},
        "name": "threshold",
        "hovertemplate": "the threshold<extra></extra>",
    }
    layout = make_layout("false match rate", "genuine pairs accepted")
    layout["xaxis"].update(type="log", dtick=1, exponentformat="power")
    layout["yaxis"]["tickformat"] = ".0%"
    return Figure([trace, here], layout)


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


def make_layout(x: str, y: str) -> dict[str, Any]:
    """Return a layout with titled axes, which leaves all colors to the App."""
    axis: dict[str, Any] = {"tickfont": {"size": _SMALL}, "fixedrange": True}
    return {
        "xaxis": {**axis, "title": {"text": x, "font": {"size": _SMALL}}},
        "yaxis": {**axis, "title": {"text": y, "font": {"size": _SMALL}}},
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "hoverlabel": {"font": {"size": _SMALL}},
        "hovermode": "closest",
    }


def with_legend(layout: dict[str, Any]) -> dict[str, Any]:
    """Show a legend above the figure."""
    layout["showlegend"] = True
    layout["legend"] = {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": 1.02,
        "yanchor": "bottom",
        "font": {"size": _SMALL},
    }
    return layout


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


def line(x: Any, y: Any, name: str, mode: str = "lines") -> dict[str, Any]:
    """Return a trace of a line."""
    return {
        "type": "scatter",
        "x": np.asarray(x).tolist(),
        "y": np.asarray(y).tolist(),
        "name": name,
        "mode": mode,
        "line": {"color": TRUE_COLOR},
    }


def _diverging() -> list[list[Any]]:
    """Return the colors that panels draw signed maps in."""
    table = color_table(DIVERGING[0])[:: 255 // _STOPS]
    return [
        [place / _STOPS, f"rgb({red},{green},{blue})"]
        for place, (red, green, blue) in enumerate(table.tolist())
    ]


def _mark_at(value: float) -> dict[str, Any]:
    """Return an upright line across a figure."""
    return {
        "type": "line",
        "x0": value,
        "x1": value,
        "y0": 0,
        "y1": 1,
        "yref": "paper",
        "line": {"color": NEUTRAL, "width": 2, "dash": "dash"},
    }


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
