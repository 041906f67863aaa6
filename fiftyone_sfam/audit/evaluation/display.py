"""An evaluation as tables, sentences and figures, the same wherever it is shown.

Figures are plain data for Plotly. Colors of text, axes and background are left to the
surface that shows them.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.render import DIVERGING, color_table
from fiftyone_sfam.audit.evaluation.evaluate import Evaluation
from fiftyone_sfam.audit.evaluation.galleries import RandomGalleries
from fiftyone_sfam.audit.evaluation.measures import Identification
from fiftyone_sfam.audit.evaluation.overview import Overview
from fiftyone_sfam.audit.evaluation.scores import (
    MIN_FALSE_ACCEPTS,
    OperatingPoint,
    ScoreSummary,
)
from fiftyone_sfam.audit.evaluation.slices import PairSliceRow, SliceRow
from fiftyone_sfam.audit.statistics.cells import (
    Shown,
    Table,
    count,
    estimate,
    name,
    number,
    percent,
    text,
)
from fiftyone_sfam.data.text import counted, short

_CAMERA_RULES = {
    "protocol": "Pairs are those that the run's protocol compares.",
    "all": "All pairs are compared, whatever their cameras.",
    "cross": "No pairs of one camera are compared.",
    "single": "No pairs of two cameras are compared.",
}
_RANKS = (5, 10)


def headline(ranked: Identification, equal_error: float) -> dict[str, Shown]:
    """Return the most important figures of all queries, by name."""
    cmc = ranked.cmc(5).tolist() if len(ranked.query) else [None] * 5
    return {
        "rank-1": percent(cmc[0]),
        "rank-5": percent(cmc[4]),
        "mAP": percent(ranked.mean_average_precision),
        "mINP": percent(ranked.mean_inverse_negative_penalty),
        "equal error rate": percent(equal_error),
    }


def measures_table(evaluation: Evaluation) -> Table:
    """Return the figures of all queries."""
    ranked, scores = evaluation.identification, evaluation.verification
    overall = evaluation.overall
    cmc = (
        ranked.cmc(max(_RANKS)).tolist() if len(ranked.query) else [None] * max(_RANKS)
    )
    rows = {
        "rank-1": estimate(overall.rank1),
        **{f"rank-{rank}": percent(cmc[rank - 1]) for rank in _RANKS},
        "mAP": estimate(overall.mean_average_precision),
        "mINP": estimate(overall.mean_inverse_negative_penalty),
        "queries with a true match": count(len(ranked.query)),
        "labeled queries without one": count(ranked.without_match),
        **_galleries(evaluation.galleries),
        "equal error rate": estimate(overall.equal_error),
        "its threshold": number(scores.equal_error_threshold, 4),
        "AUC": number(scores.auc, 4),
        "genuine pairs": count(scores.genuine_pairs),
        "impostor pairs": count(scores.impostor_pairs),
    }
    return Table(
        ("measure", "value (95 % interval)"),
        tuple((text(title), cell) for title, cell in rows.items()),
    )


def _galleries(found: RandomGalleries | None) -> dict[str, Shown]:
    """Return the means of the measures over random galleries."""
    if found is None:
        return {}
    images = counted(found.shots, "gallery image")
    draws = counted(len(found.cmc), "draw")
    per = " and ".join(found.per) or "identity"
    of = f"with {images} per {per} (mean of {draws})"
    return {
        f"rank-1 {of}": percent(found.cmc[:, 0].mean()),
        f"mAP {of}": percent(found.mean_average_precision.mean()),
    }


def operating_table(points: Sequence[OperatingPoint]) -> Table:
    """Return what is accepted at false accept rates, and what supports that."""
    rows = (
        (
            Shown(f"{100 * point.far:g} %", "number", point.far),
            percent(point.tar, 2),
            number(point.threshold, 4),
            Shown(f"{point.expected:,.1f}", "number", point.expected),
            text("yes" if point.supported else "no: too few impostor pairs"),
        )
        for point in points
    )
    head = ("FAR", "TAR", "threshold", "expected false accepts", "supported")
    return Table(head, tuple(rows))


def slices_table(slices: Sequence[SliceRow]) -> Table:
    """Return slices of the queries."""
    rows = (
        (
            name(row.value),
            count(row.queries),
            estimate(row.rank1),
            estimate(row.mean_average_precision),
            estimate(row.mean_inverse_negative_penalty),
            estimate(row.equal_error),
        )
        for row in slices
    )
    head = ("value", "queries", "rank-1", "mAP", "mINP", "equal error rate")
    return Table(head, tuple(rows))


def pair_slices_table(field: str, slices: Sequence[PairSliceRow]) -> Table:
    """Return slices of queries with parts of the gallery."""
    rows = (
        (
            name(row.query_value),
            name(row.gallery_value),
            count(row.genuine),
            count(row.impostor),
            estimate(row.equal_error),
        )
        for row in slices
    )
    sides = f"query's {field}", f"neighbor's {field}"
    return Table((*sides, "genuine", "impostor", "equal error rate"), tuple(rows))


def slice_tables(evaluation: Evaluation) -> list[tuple[str, Table]]:
    """Return the tables of all slices and pair slices with their titles."""
    return [
        *(
            (f"By {field}", slices_table(rows))
            for field, rows in evaluation.slices.items()
        ),
        *(
            (f"By {field} of query and neighbor", pair_slices_table(field, rows))
            for field, rows in evaluation.pair_slices.items()
        ),
    ]


def sentences(evaluation: Evaluation) -> tuple[str, ...]:
    """Say how an evaluation was made."""
    cameras = evaluation.cameras
    return (
        _CAMERA_RULES.get(cameras, f"Camera rule: {cameras}."),
        f"Intervals are 95 %, from {evaluation.resamples:,} draws of the queries (seed "
        f"{evaluation.seed}).",
        f"A false accept rate is supported from {MIN_FALSE_ACCEPTS} expected false "
        "accepts on.",
        f"Evaluated {evaluation.created}.",
    )


Scores = Overview | ScoreSummary


def for_plotly(text: str) -> str:
    """Escape a text for Plotly, which takes some HTML as markup."""
    return html.escape(text, quote=False)


TRUE_COLOR, FALSE_COLOR, NEUTRAL = "#1a85ff", "#d41159", "#8a8a8a"
"""Colors that the color-blind can tell apart."""

SHOWN_RANKS = 20
SHOWN_BINS = 80
SMALL = 12
COLORBAR = {"thickness": 12, "outlinewidth": 0, "tickfont": {"size": SMALL}}
# Stops of a color scale; a divisor of 255.
_STOPS = 15


@dataclass(frozen=True)
class Figure:
    """A Plotly figure as plain data."""

    data: list[dict[str, Any]]  # traces
    layout: dict[str, Any]  # layout


def coarse(
    scores: Scores,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Put bins of scores together, to as many as are shown."""
    step = max(1, len(scores.genuine) // SHOWN_BINS)
    return (
        scores.edges[::step],
        scores.genuine.reshape(-1, step).sum(axis=1),
        scores.impostor.reshape(-1, step).sum(axis=1),
    )


def rates_at(scores: Scores, threshold: float) -> tuple[float, float]:
    """Return the share of impostor pairs accepted and of genuine pairs refused."""
    first = int(np.searchsorted(scores.edges[:-1], threshold - 1e-12))
    genuine, impostor = scores.genuine, scores.impostor
    fmr = impostor[first:].sum() / impostor.sum() if impostor.sum() else float("nan")
    fnmr = genuine[:first].sum() / genuine.sum() if genuine.sum() else float("nan")
    return float(fmr), float(fnmr)


def score_figure(scores: Scores, score_name: str, threshold: float) -> Figure:
    """Draw the scores of genuine and impostor pairs, and a threshold if it is known."""
    edges, genuine, impostor = coarse(scores)
    centers = (edges[:-1] + edges[1:]) / 2
    traces = []
    for counts, kind, color in (
        (genuine, "same identity", TRUE_COLOR),
        (impostor, "other identity", FALSE_COLOR),
    ):
        traces.append(
            {
                "type": "bar",
                "x": centers.tolist(),
                "y": (counts / max(1, int(counts.sum()))).tolist(),
                "customdata": counts.tolist(),
                "name": kind,
                "marker": {"color": color},
                "opacity": 0.65,
                "hovertemplate": "%{x:.3f}: %{customdata:,} pairs (%{y:.2%})",
            }
        )
    layout = make_layout(score_name, "share of pairs")
    layout.update(barmode="overlay", bargap=0.05)
    if not np.isnan(threshold):
        layout["shapes"] = [_mark_at(threshold)]
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


def roc_figure(
    scores: Scores, points: Sequence[tuple[float, float]], name: str
) -> Figure:
    """Draw the verification rate over the false match rate, and points on it."""
    accepted = 1 - scores.roc_fnmr
    trace = {
        **line(scores.roc_fmr, accepted, "ROC", mode="lines+markers"),
        "marker": {"size": 5, "color": TRUE_COLOR},
        "customdata": scores.roc_threshold.tolist(),
        "hovertemplate": "at %{customdata:.3f}: false matches %{x:.2e}, "
        "genuine accepted %{y:.1%}<extra></extra>",
    }
    marked = {
        "type": "scatter",
        "mode": "markers",
        "x": [fmr for fmr, _ in points],
        "y": [accepted for _, accepted in points],
        "marker": {"size": 11, "color": FALSE_COLOR, "symbol": "diamond"},
        "name": name,
        "hovertemplate": f"{name}: false matches %{{x:.2e}}, "
        "genuine accepted %{y:.1%}<extra></extra>",
    }
    layout = make_layout("false match rate", "genuine pairs accepted")
    layout["xaxis"].update(type="log", dtick=1, exponentformat="power")
    layout["yaxis"]["tickformat"] = ".0%"
    return Figure([trace, marked], layout)


def evidence_figure(
    maps: Sequence[NDArray[np.floating]], names: Sequence[str]
) -> Figure:
    """Draw average evidence maps side by side, on one scale around zero."""
    limit = max((float(np.abs(values).max()) for values in maps), default=0.0) or 1.0
    width = 1 / max(1, len(maps))
    traces: list[dict[str, Any]] = []
    layout = make_layout("", "")
    layout["annotations"] = []
    for place, (values, title) in enumerate(zip(maps, names, strict=True)):
        suffix = "" if place == 0 else str(place + 1)
        traces.append(
            {
                "type": "heatmap",
                "z": np.asarray(values, dtype=np.float64).round(7).tolist(),
                "xaxis": f"x{suffix}",
                "yaxis": f"y{suffix}",
                "zmin": -limit,
                "zmax": limit,
                "colorscale": _diverging(),
                "showscale": place == len(maps) - 1,
                "colorbar": dict(COLORBAR),
                "name": for_plotly(title),
                "hovertemplate": "%{z:.5f} of similarity<extra></extra>",
            }
        )
        bare = {"visible": False, "fixedrange": True, "constrain": "domain"}
        layout[f"xaxis{suffix}"] = {
            **bare,
            "domain": [place * width, (place + 0.9) * width],
            "anchor": f"y{suffix}",
        }
        layout[f"yaxis{suffix}"] = {
            **bare,
            "anchor": f"x{suffix}",
            "autorange": "reversed",
            "scaleanchor": f"x{suffix}",
        }
        layout["annotations"].append(
            {
                "text": for_plotly(title),
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


def make_layout(x: str, y: str) -> dict[str, Any]:
    """Return a layout with titled axes and without colors."""
    axis: dict[str, Any] = {"tickfont": {"size": SMALL}, "fixedrange": True}
    return {
        "xaxis": {**axis, "title": {"text": x, "font": {"size": SMALL}}},
        "yaxis": {**axis, "title": {"text": y, "font": {"size": SMALL}}},
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "hoverlabel": {"font": {"size": SMALL}},
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
        "font": {"size": SMALL},
    }
    return layout


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


def labels(names: Sequence[str], length: int = 16) -> list[str]:
    """Return names as a figure shows them."""
    return [for_plotly(short(name, length)) for name in names]


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
