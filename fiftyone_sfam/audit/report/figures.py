"""The report's Plotly figures, as plain data."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fiftyone_sfam.audit.evaluation.measures import Identification
from fiftyone_sfam.audit.evaluation.scores import ScoreSummary
from fiftyone_sfam.audit.report.cells import prose
from fiftyone_sfam.data.text import one_line

TRUE_COLOR, FALSE_COLOR, NEUTRAL = "#1a6fdf", "#d41159", "#8a8a8a"
"""Colors that the color-blind can tell apart."""

RANKS = 20
SHOWN_BINS = 80
_LABEL = 28
_GRID = "#e6e8eb"


@dataclass(frozen=True)
class Figure:
    """A Plotly figure."""

    name: str  # what to call it in the page
    caption: str  # what it shows, in a sentence
    data: list[dict[str, Any]]  # traces
    layout: dict[str, Any]  # layout


def label(text: str) -> str:
    """Make a text of the dataset's fit for a figure.

    Plotly takes tags in its texts for formatting. A text of another direction must
    not turn what stands beside it.
    """
    shown = html.escape(one_line(prose(text), _LABEL), quote=False)
    return f"\u2068{shown}\u2069"


def cmc_figure(ranked: Identification) -> Figure:
    """Draw the cumulative match characteristic."""
    cmc = ranked.cmc(RANKS)
    trace = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(range(1, RANKS + 1)),
        "y": cmc.tolist(),
        "line": {"color": TRUE_COLOR},
        "hovertemplate": "rank %{x}: %{y:.2%}<extra></extra>",
    }
    layout = _layout("rank", "queries with a true match")
    lowest = float(cmc[0]) if len(ranked.query) else 0.0
    layout["yaxis"].update(range=[max(0.0, lowest - 0.1), 1.01], tickformat=".0%")
    caption = "Share of queries with a true match among their nearest neighbors."
    return Figure("cmc", caption, [trace], layout)


def roc_figure(scores: ScoreSummary) -> Figure:
    """Draw the true accept rate over the false accept rate, and operating points."""
    curve = {
        "type": "scatter",
        "mode": "lines",
        "x": scores.roc_fmr.tolist(),
        "y": (1 - scores.roc_fnmr).tolist(),
        "customdata": scores.roc_threshold.tolist(),
        "line": {"color": TRUE_COLOR},
        "name": "ROC",
        "hovertemplate": (
            "accepts %{y:.2%} of genuine and %{x:.3%} of impostor pairs<br>"
            "threshold %{customdata:.4f}<extra></extra>"
        ),
    }
    supported = [point for point in scores.operating if point.supported]
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": [point.far for point in supported],
        "y": [point.tar for point in supported],
        "marker": {"color": FALSE_COLOR, "size": 9, "symbol": "diamond"},
        "name": "supported rates",
        "hovertemplate": "TAR %{y:.2%} at FAR %{x}<extra></extra>",
    }
    layout = _layout("false accept rate", "true accept rate")
    layout["xaxis"].update(type="log", exponentformat="power")
    layout["yaxis"].update(tickformat=".0%")
    caption = (
        "True accept rate over false accept rate, for every threshold on the score."
    )
    return Figure("roc", caption, [curve, points], layout)


def score_figure(scores: ScoreSummary, score_name: str) -> Figure:
    """Draw the scores of genuine and impostor pairs."""
    step = max(1, len(scores.genuine) // SHOWN_BINS)
    edges = scores.edges[::step]
    centers = ((edges[:-1] + edges[1:]) / 2).tolist()
    traces = []
    for name, counts, color in (
        ("one identity", scores.genuine, TRUE_COLOR),
        ("two identities", scores.impostor, FALSE_COLOR),
    ):
        coarse = counts[: step * len(centers)].reshape(-1, step).sum(axis=1)
        traces.append(
            {
                "type": "bar",
                "x": centers,
                "y": (coarse / max(1, int(counts.sum()))).tolist(),
                "customdata": coarse.tolist(),
                "name": name,
                "marker": {"color": color},
                "opacity": 0.6,
                "hovertemplate": "%{customdata:,} pairs near %{x:.3f}<extra></extra>",
            }
        )
    layout = _layout(score_name, "share of pairs of this kind")
    layout.update(barmode="overlay", bargap=0)
    layout["yaxis"].update(tickformat=".0%")
    if not np.isnan(scores.equal_error_threshold):
        at = scores.equal_error_threshold
        layout["shapes"] = [
            {
                "type": "line",
                "x0": at,
                "x1": at,
                "y0": 0,
                "y1": 1,
                "yref": "paper",
                "line": {"color": "#444444", "width": 1.5, "dash": "dash"},
            }
        ]
    caption = "Scores of all pairs; the line is the threshold of the equal error rate."
    return Figure("scores", caption, traces, layout)


def region_figure(
    regions: Sequence[str],
    shares: Mapping[str, Sequence[float]],
    area: Sequence[float],
) -> Figure:
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
    layout = _layout("", "share")
    layout["yaxis"].update(tickformat=".0%", zeroline=True, zerolinecolor="#9aa0a6")
    layout["barmode"] = "group"
    caption = (
        "Share of the score that each region carries on the query, beside its share "
        "of the area."
    )
    return Figure("regions", caption, traces, layout)


def _layout(x: str, y: str) -> dict[str, Any]:
    """Return what all figures have in common."""
    axis = {"gridcolor": _GRID, "linecolor": "#9aa0a6", "zeroline": False}
    return {
        "xaxis": {"title": {"text": x}, **axis},
        "yaxis": {"title": {"text": y}, **axis},
        "margin": {"l": 64, "r": 16, "t": 30, "b": 52},
        "height": 330,
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#24292f"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "hovermode": "closest",
    }
