"""The page of maps: how far they are to be trusted on this model."""

from __future__ import annotations

from collections.abc import Mapping

from fiftyone_sfam.app.audit import blocks
from fiftyone_sfam.app.audit.choices import Choices, Mark, Opened, Params, to_pairs
from fiftyone_sfam.app.audit.results import needed, stored
from fiftyone_sfam.audit.faithfulness.display import (
    curve_figure,
    fill_columns,
    maps_table,
)
from fiftyone_sfam.audit.faithfulness.result import load_faithfulness
from fiftyone_sfam.data.text import escape_markdown
from fiftyone_sfam.runs.run import Run

_TITLES = {
    "map": "Map",
    "insertion - deletion": "Insertion - deletion",
    "decisions": "Accuracy while hidden, mean",
    "x chance": "x chance",
    "x no partner": "x a map without partner",
    "accuracy, hidden": "Accuracy, first pixels hidden",
    "partners alike": "Alike for two partners",
    "stable": "Alike under noise",
}
"""Titles of the columns that are shown, by their names in the result."""


def page(run: Run, chosen: Choices) -> list[blocks.Block]:
    """Return the blocks of the page."""
    result = stored(run, load_faithfulness)
    if result is None:
        return [
            blocks.text(
                "no_verdict",
                "A map that looks right may be wrong. Hide the pixels that the maps "
                "call important, see how far the similarity falls, and compare with "
                "maps that know less. The verdict is stored with the run.",
            ),
            blocks.operators("check", check_faithfulness="Check faithfulness"),
        ]
    figures = maps_table(result)
    titles = _TITLES | {fill: fill.capitalize() for fill in fill_columns(result)}
    return [
        blocks.text("verdict", escape_markdown(result.sentence)),
        blocks.plot(
            "hidden",
            "First pixels hidden",
            "Mean similarity; the lower the curve, the better the map. A click opens "
            "the pairs.",
            curve_figure(result, "deletion"),
        ),
        blocks.plot(
            "shown",
            "Only first pixels shown",
            "Mean similarity; the higher the curve, the better the map. A click opens "
            "the pairs.",
            curve_figure(result, "insertion"),
        ),
        blocks.table(
            "map_figures",
            "Maps, the most faithful first",
            "With 95 % intervals over queries. Click a row: the pairs of the check.",
            figures.columns(
                {name: titles[name] for name in figures.head if name in titles}
            ),
        ),
        blocks.operators("check", check_faithfulness="Check faithfulness again"),
    ]


def _on_curve(run: Run, params: Params, chosen: Choices) -> Opened:
    pairs = needed(run, load_faithfulness).pairs
    return Opened(to_pairs(run, "pairs of the check of maps", pairs))


MARKS: Mapping[str, Mark] = dict.fromkeys(("hidden", "shown", "map_figures"), _on_curve)
"""Effects of clicks, by the name of the block."""
