"""Figures of a run at a glance, and the images behind each of their marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.overview import Overview
from fiftyone_sfam.records import FALSE_MATCH, TRUE_MATCH
from fiftyone_sfam.runs import Run

TRUE_COLOR, FALSE_COLOR, NEUTRAL = "#1a85ff", "#d41159", "#8a8a8a"
"""Colors that the color-blind can tell apart."""

SHOWN_BINS = 80
SHOWN_RANKS = 20
SHOWN_IDENTITIES = 20
NO_LABEL = "(none)"


@dataclass(frozen=True)
class Figure:
    """A Plotly figure as plain data.

    Attributes
    ----------
    data : list of dict
        Traces.
    layout : dict
        Layout.
    """

    data: list[dict[str, Any]]
    layout: dict[str, Any]


# --------------------------------------------------------------------------------------
# Numbers
# --------------------------------------------------------------------------------------


def cards(run: Run, figures: Overview) -> list[tuple[str, str]]:
    """Return the names and values of the cards.

    Parameters
    ----------
    run : Run
        The run.
    figures : Overview
        Its figures.

    Returns
    -------
    list of (str, str)
        Name and value of each.
    """
    ranked = figures.identification
    cmc = ranked.cmc(5)
    counts = run.config.counts
    return [
        ("Images", f"{counts['images']:,}"),
        ("Queries", f"{counts['queries']:,}"),
        ("Rank-1", _percent(cmc[0] if len(ranked.query) else float("nan"))),
        ("Rank-5", _percent(cmc[4] if len(ranked.query) else float("nan"))),
        ("mAP", _percent(ranked.mean_average_precision)),
        ("mINP", _percent(ranked.mean_inverse_negative_penalty)),
        ("Equal error", _percent(figures.equal_error)),
        ("False matches", f"{counts['false match']:,}"),
        ("Skipped", f"{counts['skipped']:,}"),
    ]


def rates_at(figures: Overview, threshold: float) -> tuple[float, float]:
    """Return the share of impostor pairs accepted and of genuine pairs refused.

    Parameters
    ----------
    figures : Overview
        Figures of a run.
    threshold : float
        Pairs with at least this score are accepted.

    Returns
    -------
    fmr, fnmr : float
        To the width of a bin; NaN where there are no such pairs.
    """
    first = int(np.searchsorted(figures.edges[:-1], threshold - 1e-12))
    genuine, impostor = figures.genuine, figures.impostor
    fmr = impostor[first:].sum() / impostor.sum() if impostor.sum() else float("nan")
    fnmr = genuine[:first].sum() / genuine.sum() if genuine.sum() else float("nan")
    return float(fmr), float(fnmr)


# --------------------------------------------------------------------------------------
# Figures
# --------------------------------------------------------------------------------------


def score_figure(figures: Overview, threshold: float) -> Figure:
    """Draw the scores of genuine and impostor pairs, and the threshold."""
    edges, genuine, impostor = _coarse(figures)
    centers = (edges[:-1] + edges[1:]) / 2
    traces = [
        _bars(centers, genuine / max(1, genuine.sum()), "one identity", TRUE_COLOR),
        _bars(
            centers, impostor / max(1, impostor.sum()), "two identities", FALSE_COLOR
        ),
    ]
    layout = _layout("Scores of all pairs", figures.score_name, "share of pairs")
    layout["barmode"] = "overlay"
    layout["shapes"] = [
        {
            "type": "line",
            "x0": threshold,
            "x1": threshold,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"color": NEUTRAL, "width": 2, "dash": "dash"},
        }
    ]
    return Figure(traces, layout)


def cmc_figure(figures: Overview) -> Figure:
    """Draw the cumulative match characteristic."""
    cmc = figures.identification.cmc(SHOWN_RANKS)
    trace = _line(np.arange(1, SHOWN_RANKS + 1), cmc, "CMC", "lines+markers")
    layout = _layout("CMC", "rank", "queries with a true match")
    layout["yaxis"]["range"] = [min(0.98 * float(cmc[0]), 0.9), 1.005]
    return Figure([trace], layout)


def roc_figure(figures: Overview) -> Figure:
    """Draw the verification rate over the false match rate."""
    trace = _line(figures.roc_fmr, 1 - figures.roc_fnmr, "ROC", "lines")
    layout = _layout("ROC", "false match rate", "genuine pairs accepted")
    layout["xaxis"]["type"] = "log"
    return Figure([trace], layout)


def camera_figure(run: Run) -> Figure:
    """Draw the false matches by the cameras of query and neighbor."""
    names, counts = _cameras(run)
    trace = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": counts.tolist(),
        "colorscale": "Cividis",
        "name": "false matches",
        "xgap": 1,
        "ygap": 1,
    }
    layout = _layout("False matches by camera", "neighbor's camera", "query's camera")
    for axis in ("xaxis", "yaxis"):
        layout[axis]["type"] = "category"
    return Figure([trace], layout)


def identity_figure(run: Run) -> Figure:
    """Draw the identities with the most false matches."""
    names, counts = _identities(run)
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": [_short(name) for name in names],
        "x": counts.tolist(),
        "marker": {"color": FALSE_COLOR},
        "name": "false matches",
    }
    layout = _layout("False matches by identity", "queries", "")
    layout["yaxis"].update(type="category", autorange="reversed")
    layout["margin"]["l"] = 110
    return Figure([trace], layout)


def evidence_figure(figures: Overview) -> Figure | None:
    """Draw the average evidence of true and of false matches; None without."""
    if figures.evidence is None:
        return None
    limit = float(np.abs(figures.evidence).max()) or 1.0
    traces = []
    for column, name in enumerate(("true matches", "false matches")):
        traces.append(
            {
                "type": "heatmap",
                "z": figures.evidence[column].tolist(),
                "xaxis": f"x{column + 1}",
                "yaxis": "y",
                "zmin": -limit,
                "zmax": limit,
                "colorscale": "RdBu",
                "reversescale": True,
                "showscale": column == 1,
                "name": name,
            }
        )
    layout = _layout("Average evidence on the query", "true matches", "")
    hidden = {"showticklabels": False, "fixedrange": True}
    layout["xaxis"].update(hidden, domain=[0, 0.45])
    layout["xaxis2"] = {
        **hidden,
        "domain": [0.55, 1],
        "title": {"text": "false matches"},
    }
    layout["yaxis"].update(hidden, autorange="reversed")
    return Figure(traces, layout)


# --------------------------------------------------------------------------------------
# Doors: the samples behind a mark
# --------------------------------------------------------------------------------------


def samples_of_score(run: Run, figures: Overview, trace: int, place: int) -> list[str]:
    """Return the queries with a stored pair in a bar of the score figure."""
    edges, _, _ = _coarse(figures)
    pairs = run.pairs
    score = pairs.similarity if run.config.metric == "cosine" else -pairs.distance
    last = place == len(edges) - 2
    inside = (score >= edges[place]) & (
        (score <= edges[place + 1]) if last else (score < edges[place + 1])
    )
    wanted = (TRUE_MATCH, FALSE_MATCH)[trace]
    return _samples(run, pairs.query[inside & (pairs.outcome == wanted)])


def samples_of_rank(run: Run, figures: Overview, place: int) -> list[str]:
    """Return the queries whose nearest true match has a rank."""
    ranked = figures.identification
    return _samples(run, ranked.query[ranked.first_match == place + 1])


def samples_of_cameras(run: Run, query: str, neighbor: str) -> list[str]:
    """Return the queries with a false match between two cameras."""
    false = _false_matches(run)
    cameras = run.items.cameras
    chosen = [
        int(pair)
        for pair in false
        if (cameras[run.pairs.query[pair]] or NO_LABEL) == query
        and (cameras[run.pairs.gallery[pair]] or NO_LABEL) == neighbor
    ]
    return _samples(run, run.pairs.query[chosen])


def samples_of_identity(run: Run, place: int) -> list[str]:
    """Return the queries of an identity of the figure that have a false match."""
    name = _identities(run)[0][place]
    false = run.pairs.query[_false_matches(run)]
    return _samples(run, [item for item in false if run.items.identities[item] == name])


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def _false_matches(run: Run) -> NDArray[np.int64]:
    """Return the pairs of rank 1 that are false matches."""
    return np.flatnonzero((run.pairs.rank == 1) & (run.pairs.outcome == FALSE_MATCH))


def _cameras(run: Run) -> tuple[list[str], NDArray[np.int64]]:
    """Count the false matches by camera of the query (rows) and of the neighbor."""
    cameras = [camera or NO_LABEL for camera in run.items.cameras]
    names = sorted(set(cameras))
    place = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for pair in _false_matches(run):
        row = place[cameras[run.pairs.query[pair]]]
        counts[row, place[cameras[run.pairs.gallery[pair]]]] += 1
    return names, counts


def _identities(run: Run) -> tuple[list[str], NDArray[np.int64]]:
    """Return the identities with the most false matches of their queries."""
    of_query = [run.items.identities[q] for q in run.pairs.query[_false_matches(run)]]
    names, counts = np.unique([name or "" for name in of_query], return_counts=True)
    order = np.lexsort((names, -counts))[:SHOWN_IDENTITIES]
    return [str(name) for name in names[order]], counts[order].astype(np.int64)


def _samples(run: Run, items: Any) -> list[str]:
    """Return the samples of items, each once, in order."""
    return list(dict.fromkeys(str(run.items.sample_ids[item]) for item in items))


def _coarse(
    figures: Overview,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Put bins of scores together, to as many as are shown."""
    step = len(figures.genuine) // SHOWN_BINS
    return (
        figures.edges[::step],
        figures.genuine.reshape(-1, step).sum(axis=1),
        figures.impostor.reshape(-1, step).sum(axis=1),
    )


def _bars(
    x: NDArray[np.float64], y: NDArray[np.float64], name: str, color: str
) -> dict[str, Any]:
    return {
        "type": "bar",
        "x": x.tolist(),
        "y": y.tolist(),
        "name": name,
        "marker": {"color": color},
        "opacity": 0.65,
    }


def _line(x: Any, y: Any, name: str, mode: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": np.asarray(x).tolist(),
        "y": np.asarray(y).tolist(),
        "name": name,
        "mode": mode,
        "line": {"color": TRUE_COLOR},
    }


def _layout(title: str, x: str, y: str) -> dict[str, Any]:
    """Return a layout that takes the App's own colors for text and background."""
    return {
        "title": {"text": title, "font": {"size": 14}},
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
        "margin": {"l": 60, "r": 15, "t": 40, "b": 45},
        "legend": {"orientation": "h", "y": 1.0, "x": 0.4},
    }


def _percent(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{100 * value:.1f} %"


def _short(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"
