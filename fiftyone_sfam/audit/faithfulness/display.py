"""A check of faithfulness as a table, lines and figures, the same in all surfaces."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from fiftyone_sfam.audit.evaluation.display import (
    Figure,
    for_plotly,
    line,
    make_layout,
    with_legend,
)
from fiftyone_sfam.audit.faithfulness.result import Faithfulness
from fiftyone_sfam.audit.statistics.bootstrap import Estimate
from fiftyone_sfam.audit.statistics.cells import Shown, Table, name, number, percent
from fiftyone_sfam.data.text import counted, short

# Colors that the color-blind can tell apart; as many curves are drawn.
_COLORS = ("#1a85ff", "#d41159", "#e6a800", "#40b0a6", "#994f00", "#8a8a8a")


def maps_table(result: Faithfulness) -> Table:
    """Return the figures of all maps, the most faithful map first."""
    fills = fill_columns(result)
    columns = (
        *("map", "insertion - deletion", *fills, "x chance", "x no partner"),
        *("decisions", "accuracy, hidden", "shown"),
        *("partners alike", "stable", "remainder"),
    )
    rows = (
        (
            name(figures.name),
            _with_interval(figures.margin, 4),
            *(_with_interval(figures.by_fill[fill], 4) for fill in fills),
            _with_interval(figures.over_chance, 2),
            _with_interval(figures.over_activation, 2),
            _with_interval(figures.decisions, 3),
            percent(figures.accuracy_hidden),
            percent(figures.accuracy_shown),
            number(figures.specificity, 2),
            number(figures.stability, 2),
            percent(figures.remainder),
        )
        for figures in result.figures
    )
    return Table(columns, tuple(rows))


def fill_columns(result: Faithfulness) -> tuple[str, ...]:
    """Return the fills that have columns of their own."""
    return result.fills if len(result.fills) > 1 else ()


def map_lines(result: Faithfulness) -> list[str]:
    """Say how faithful each map is, the most faithful map first."""
    return [
        f"{figures.name}: insertion minus deletion "
        f"{_with_interval(figures.margin, 4).text}"
        for figures in result.figures
    ]


def notes(result: Faithfulness) -> tuple[str, ...]:
    """Say what could not be checked."""
    if not result.skipped:
        return ()
    reason = next(iter(result.skipped.values()))
    return (f"{counted(len(result.skipped), 'image')} skipped; the first: {reason}",)


def curve_figure(
    result: Faithfulness, curve: Literal["deletion", "insertion"]
) -> Figure:
    """Draw the mean similarity over the share of hidden or shown pixels, by map."""
    curves = result.deletion if curve == "deletion" else result.insertion
    means = dict(zip(result.names, curves.mean(axis=1), strict=True))
    names = [figures.name for figures in result.figures]
    # The baselines usually come last, and must be visible in every plot.
    first = len(_COLORS) - 2
    shown = [*names[:first], *names[first:][-2:]]
    share = np.linspace(0, 1, curves.shape[2]).round(4)
    traces = []
    for map_name, color in zip(shown, _COLORS, strict=False):
        values = means[map_name].astype(np.float64).round(5)
        trace = line(share, values, for_plotly(short(map_name)))
        traces.append({**trace, "line": {"color": color}})
    state = "hidden" if curve == "deletion" else "shown"
    layout = make_layout(f"share of the pixels {state}", "similarity")
    return Figure(traces, with_legend(layout))


def _with_interval(estimate: Estimate, digits: int) -> Shown:
    value = number(estimate.value, digits)
    if math.isnan(estimate.value) or math.isnan(estimate.low):
        return value
    low, high = (number(end, digits).text for end in (estimate.low, estimate.high))
    return replace(value, text=f"{value.text} ({low} to {high})")
