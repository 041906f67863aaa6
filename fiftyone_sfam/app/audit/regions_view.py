"""Figures of what the regions of images carry of the similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.audit.view import categories, labels
from fiftyone_sfam.audit.evaluation.figures import (
    FALSE_COLOR,
    NEUTRAL,
    TRUE_COLOR,
    Figure,
    for_plotly,
    make_layout,
    with_legend,
)
from fiftyone_sfam.audit.regions.ledger_cells import REMAINDER, Cell
from fiftyone_sfam.data.text import percent, percent_between

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
    """Return a number as JSON has it: there is no NaN."""
    return None if np.isnan(value) else float(value)


def _gap(high: float, low: float) -> Any:
    return 0.0 if np.isnan(high) or np.isnan(low) else max(0.0, float(high - low))
