"""The page of maps: how far they are to be trusted on this model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.audit.blocks import (
    Block,
    buttons_block,
    plot_block,
    table_block,
    text_block,
)
from fiftyone_sfam.app.audit.choices import (
    CHECK_FAITHFULNESS,
    Choices,
    Mark,
    Opened,
    Params,
    to_pairs,
)
from fiftyone_sfam.app.audit.results import MapVerdict, load_map_verdict, stored
from fiftyone_sfam.audit.evaluation.display import (
    Figure,
    for_plotly,
    line,
    make_layout,
    with_legend,
)
from fiftyone_sfam.data.text import NOT_KNOWN, escape_markdown, percent, short
from fiftyone_sfam.runs.run import Run

# Colors that the color-blind can tell apart; as many curves are drawn.
_COLORS = ("#1a85ff", "#d41159", "#e6a800", "#40b0a6", "#994f00", "#8a8a8a")

_COLUMNS = (
    ("map", "Map"),
    ("margin", "Insertion - deletion"),
    ("chance", "x chance"),
    ("activation", "x a map without partner"),
    ("hidden", "Accuracy, first pixels hidden"),
    ("alike", "Alike for two partners"),
    ("stable", "Alike under noise"),
)


def page(run: Run, chosen: Choices) -> list[Block]:
    """Return the blocks of the page."""
    verdict = stored(run, load_map_verdict)
    if verdict is None:
        return [
            text_block(
                "no_verdict",
                "A map that looks right may be wrong. Hide the pixels that the maps "
                "call important, see how far the similarity falls, and compare with "
                "maps that know less. The verdict is stored with the run.",
            ),
            _button("Check faithfulness"),
        ]
    return [
        text_block("verdict", escape_markdown(verdict.sentence)),
        plot_block(
            "hidden",
            "First pixels hidden",
            "Mean similarity; the lower the curve, the better the map. A click opens "
            "the pairs.",
            curve_figure(verdict, verdict.deletion, "share of the pixels hidden"),
        ),
        plot_block(
            "shown",
            "Only first pixels shown",
            "Mean similarity; the higher the curve, the better the map. A click opens "
            "the pairs.",
            curve_figure(verdict, verdict.insertion, "share of the pixels shown"),
        ),
        table_block(
            "map_figures",
            "Maps, the most faithful first",
            "With 95 % intervals over queries.",
            _COLUMNS,
            [_row(figure) for figure in verdict.figures],
            clickable=False,
        ),
        _button("Check faithfulness again"),
    ]


def curve_figure(
    map_verdict: MapVerdict, curves: Mapping[str, NDArray[np.float64]], axis: str
) -> Figure:
    """Draw the mean similarity over the share of the pixels, map by map."""
    names = [figure["name"] for figure in map_verdict.figures]
    # The baselines usually come last, and must be visible in every plot.
    first = len(_COLORS) - 2
    shown = [*names[:first], *names[first:][-2:]]
    traces = []
    for name, color in zip(shown, _COLORS, strict=False):
        values = np.asarray(curves[name], dtype=np.float64)
        share = np.linspace(0, 1, len(values))
        trace = line(share.round(4), values.round(5), for_plotly(short(name)))
        traces.append({**trace, "line": {"color": color}})
    return Figure(traces, with_legend(make_layout(axis, "similarity")))


def _button(label: str) -> Block:
    params = {"operator": CHECK_FAITHFULNESS}
    return buttons_block("check", [(label, "on_operator", params)])


def _row(figures: Mapping[str, Any]) -> dict[str, str]:
    return {
        "map": short(figures["name"]),
        "margin": _interval(figures["margin"], 4),
        "chance": _interval(figures["over_chance"], 2),
        "activation": _interval(figures["over_activation"], 2),
        "hidden": percent(figures["accuracy_hidden"]),
        "alike": _number(figures["specificity"]),
        "stable": _number(figures["stability"]),
    }


def _interval(estimate: Mapping[str, float], digits: int) -> str:
    if np.isnan(estimate["value"]):
        return NOT_KNOWN
    text = f"{estimate['value']:.{digits}f}"
    if np.isnan(estimate["low"]):
        return text
    return f"{text} ({estimate['low']:.{digits}f} to {estimate['high']:.{digits}f})"


def _number(value: float) -> str:
    return NOT_KNOWN if np.isnan(value) else f"{value:.2f}"


def _on_curve(run: Run, params: Params, chosen: Choices) -> Opened:
    verdict = stored(run, load_map_verdict)
    if verdict is None:
        return Opened()
    return Opened(to_pairs(run, "pairs of the check of maps", verdict.pairs))


MARKS: Mapping[str, Mark] = {"hidden": _on_curve, "shown": _on_curve}
"""Effects of clicks, by the name of the block."""
