"""The page of comparisons: the run beside another one over the same images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.audit import blocks, choices
from fiftyone_sfam.app.audit.choices import Choices, Opened, Params
from fiftyone_sfam.audit.comparison import display
from fiftyone_sfam.audit.comparison.result import Comparison, load_comparisons
from fiftyone_sfam.audit.statistics.cells import MAX_ROWS
from fiftyone_sfam.data.text import escape_markdown, quoted
from fiftyone_sfam.runs.run import Run

_CLICK = "A click opens the queries."
_SHARE = "Share of the score. A click opens the pairs."


def page(run: Run, chosen: Choices) -> list[blocks.Block]:
    """Return the blocks of the page."""
    found = load_comparisons(run)
    if not found:
        text = "Which of two models is better, for whom, and where do they differ?"
        button = blocks.operators("compare", compare_runs="Compare")
        return [blocks.text("no_comparison", text), button]
    one, field = _chosen(run, chosen)
    keys = [other.second_key for other in found]
    said, notes = (
        "  \n".join(map(escape_markdown, lines(one)))
        for lines in (display.isolated_sentences, display.notes)
    )
    changed = display.queries_table(one, run, one.changed[:MAX_ROWS].tolist())
    groups = display.groups_table(one, field, MAX_ROWS)
    plot, table = blocks.plot, blocks.table
    return [
        blocks.choice("other", "Compared with", keys, one.second_key),
        blocks.text("compared", said),
        plot("moved", "Nearest true match", _CLICK, display.ranks_figure(one)),
        plot("regions_of_two", "Regions", _SHARE, display.regions_figure(one)),
        plot("places", "Places", _SHARE, display.places_figure(one), wide=True),
        table("changed", "Queries that changed the most", _CLICK, changed),
        blocks.choice("group", "Groups", one.groups, field),
        table("changed_groups", "", _CLICK, groups),
        table("figures_of_two", "Figures", "", display.figures_table(one)),
        blocks.text("compare_notes", notes),
        blocks.operators("again", compare_runs="Compare again"),
    ]


def _chosen(run: Run, chosen: Choices) -> tuple[Comparison, str]:
    """Return the comparison and the field of groups that are chosen."""
    found = load_comparisons(run)
    one = next((one for one in found if one.second_key == chosen.other), found[0])
    return one, choices.one_of(chosen.group, one.groups)


def _opened(run: Run, one: Comparison, title: str, rows: NDArray[np.int64]) -> Opened:
    """Open queries, those that changed the most first."""
    ordered = rows[np.argsort(-np.abs(one.change[rows]), kind="stable")]
    return Opened(choices.to_queries(run, title, one.query[ordered, 0]))


def _on_moved(run: Run, params: Params, chosen: Choices) -> Opened:
    one, _ = _chosen(run, chosen)
    second, first = map(int, params["idx"])
    rows = np.flatnonzero((display.bands(one) == (first, second)).all(axis=1))
    ranks = f"rank {display.BANDS[first]}, and {display.BANDS[second]}"
    return _opened(run, one, f"true match at {ranks} in {one.second_key}", rows)


def _on_place(run: Run, params: Params, chosen: Choices) -> Opened:
    one, _ = _chosen(run, chosen)
    title = f"compared with {one.second_key}"
    return Opened(choices.to_pairs(run, title, one.pairs[0]))


def _on_changed(run: Run, params: Params, chosen: Choices) -> Opened:
    one, _ = _chosen(run, chosen)
    row = one.changed[[choices.place_of(params)]]
    return _opened(run, one, f"changed in {one.second_key}", row)


def _on_figure(run: Run, params: Params, chosen: Choices) -> Opened:
    one, _ = _chosen(run, chosen)
    return _opened(run, one, f"all that changed in {one.second_key}", one.changed)


def _on_group(run: Run, params: Params, chosen: Choices) -> Opened:
    one, field = _chosen(run, chosen)
    value = one.groups[field][choices.place_of(params)].value
    return _opened(run, one, f"{field} {quoted(value)}", one.rows_of(run, field, value))


MARKS: Mapping[str, choices.Mark] = {
    "moved": _on_moved,
    "regions_of_two": _on_place,
    "places": _on_place,
    "changed": _on_changed,
    "changed_groups": _on_group,
    "figures_of_two": _on_figure,
}
"""Effects of clicks, by the name of the block."""
