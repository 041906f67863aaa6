"""A comparison of two runs as tables, sentences and figures, wherever it is shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.comparison.groups import GroupChange
from fiftyone_sfam.audit.comparison.result import Comparison
from fiftyone_sfam.audit.evaluation.display import (
    FALSE_COLOR,
    TRUE_COLOR,
    Figure,
    categories,
    evidence_figure,
    for_plotly,
    labels,
    make_layout,
    with_legend,
)
from fiftyone_sfam.audit.regions.ledger_cells import REMAINDER
from fiftyone_sfam.audit.statistics.bootstrap import Estimate
from fiftyone_sfam.audit.statistics.cells import (
    Table,
    count,
    name,
    number,
    percent,
    points,
    prose,
    table,
    text,
)
from fiftyone_sfam.data.text import counted, points_between
from fiftyone_sfam.data.text import percent as percent_text
from fiftyone_sfam.runs.run import Run

BANDS = ("1", "2 to 5", "6 to 20", "above 20")
"""Ranks of the nearest true match that the figure of ranks puts together."""

_BAND_ENDS = (1, 5, 20)
_SAID = 3
_GROUPS_SHOWN = 20


def pair_name(comparison: Comparison) -> str:
    """Name the two runs, with their models if these differ."""
    keys = (comparison.first_key, comparison.second_key)
    models = (comparison.first_model, comparison.second_model)
    return " and ".join(
        f"'{key}' ({model})" if models[0] != models[1] and model != key else f"'{key}'"
        for key, model in zip(keys, models, strict=True)
    )


# --------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------


def figures_table(comparison: Comparison) -> Table:
    """Return the figures of all queries in both runs."""
    rows = (
        (
            text(figure.name),
            percent(figure.first),
            percent(figure.second),
            points(figure.difference),
        )
        for figure in comparison.figures
    )
    return Table(("measure", *_keys(comparison), "points (95 % interval)"), tuple(rows))


def counts_table(comparison: Comparison) -> Table:
    """Return how many queries changed, and which way."""
    right = comparison.first_match == 1
    rank = comparison.first_match
    first, second = (f"'{key}'" for key in _keys(comparison))
    rows = {
        "right at rank 1 in both": right.all(axis=1),
        f"only in {second}": ~right[:, 0] & right[:, 1],
        f"only in {first}": right[:, 0] & ~right[:, 1],
        "in neither": ~right.any(axis=1),
        f"nearest true match at a better rank in {second}": rank[:, 1] < rank[:, 0],
        f"at a worse rank in {second}": rank[:, 1] > rank[:, 0],
        f"higher average precision in {second}": comparison.change > 0,
        f"lower average precision in {second}": comparison.change < 0,
    }
    return Table(
        ("queries", "number"),
        tuple(
            (text(title), count(int(chosen.sum()))) for title, chosen in rows.items()
        ),
    )


def groups_table(comparison: Comparison, field: str, most: int) -> Table:
    """Return the groups of a field, those that changed most surely first."""
    first, second = _keys(comparison)
    rows = (
        (
            name(group.value),
            count(group.queries),
            count(group.gained),
            count(group.lost),
            percent(group.first),
            percent(group.second),
            points(Estimate(group.change)),
            points(_effect(group)),
        )
        for group in comparison.groups[field]
    )
    head = (
        field,
        "queries",
        "gained",
        "lost",
        f"mAP {first}",
        f"mAP {second}",
        "points",
        "beyond the others (95 % interval)",
    )
    return table(head, rows, most)


def regions_table(comparison: Comparison) -> Table:
    """Return the regions, the largest difference first."""
    rows = (
        (
            name(region.region),
            percent(region.first),
            percent(region.second),
            points(region.difference),
        )
        for region in comparison.regions
    )
    return Table(
        ("share of the score", *_keys(comparison), "points (95 % interval)"),
        tuple(rows),
    )


def queries_table(comparison: Comparison, run: Run, rows: Sequence[int]) -> Table:
    """Return queries with their ranks and precisions; ``run`` is the first run."""
    first, second = _keys(comparison)
    listed = (
        (
            text(run.items.ids[comparison.query[row, 0]]),
            name(run.items.identities[comparison.query[row, 0]]),
            name(run.items.cameras[comparison.query[row, 0]]),
            *(count(int(rank)) for rank in comparison.first_match[row]),
            *(number(float(value)) for value in comparison.average_precision[row]),
        )
        for row in rows
    )
    head = (
        "query",
        "identity",
        "camera",
        f"first match {first}",
        f"first match {second}",
        f"AP {first}",
        f"AP {second}",
    )
    return table(head, listed, max(1, len(rows)))


# --------------------------------------------------------------------------------------
# Sentences
# --------------------------------------------------------------------------------------


def sentences(comparison: Comparison) -> tuple[str, ...]:
    """Say what changed, the most important first."""
    return (
        _outcome_sentence(comparison),
        *_region_sentences(comparison),
        *(
            group.sentence(field)
            for field, rows in comparison.groups.items()
            for group in rows[:_SAID]
            if group.distance > 0
        ),
    )


def isolated_sentences(comparison: Comparison) -> tuple[str, ...]:
    """Return the sentences, their names kept from turning their direction."""
    groups = [group for rows in comparison.groups.values() for group in rows[:_SAID]]
    names = [group.value for group in groups]
    return tuple(prose(line, names) for line in sentences(comparison))


def notes(comparison: Comparison) -> tuple[str, ...]:
    """Say how a comparison was made."""
    lines = [
        f"Intervals are 95 %, from {comparison.resamples:,} draws of the queries (seed "
        f"{comparison.seed}); each draw takes the same queries for both runs.",
        "Groups are compared with all other queries, and shrunk towards them, so that "
        "a group of a few queries does not come first by chance.",
    ]
    for only, key in zip(comparison.only, _keys(comparison), strict=True):
        if only:
            lines.append(
                f"{counted(only, 'image')} only in '{key}', and left out; "
                f"{comparison.images:,} are in both."
            )
    if comparison.places is None:
        lines.append(
            "Where the models differ is not known: a run stores no evidence maps, or "
            "the runs have no pair in common."
        )
    else:
        which = (
            "that both runs stored"
            if comparison.pair_rule == "stored"
            else "of a query and its nearest true match"
        )
        pairs = counted(comparison.pairs.shape[1], "pair")
        lines.append(
            f"Shares of the score are over {pairs} {which}, on the query's side; the "
            "intervals hold for all regions at once."
        )
    return tuple(lines)


def _outcome_sentence(comparison: Comparison) -> str:
    first, second = _keys(comparison)
    rank1, precision = comparison.figures[:2]
    gained, lost = len(comparison.gained), len(comparison.lost)
    changes = " and ".join(
        f"{figure.name} from {percent_text(figure.first)} to "
        f"{percent_text(figure.second)}, "
        f"{points_between(*vars(figure.difference).values())} points"
        for figure in (rank1, precision)
    )
    return (
        f"'{second}' is right at rank 1 for "
        f"{counted(gained, 'query', 'queries')} that '{first}' gets wrong, and wrong "
        f"for {lost:,} that '{first}' gets right, of {len(comparison.query):,}: "
        f"{changes}."
    )


def _region_sentences(comparison: Comparison) -> tuple[str, ...]:
    first, second = _keys(comparison)
    regions = [one for one in comparison.regions if one.region != REMAINDER]
    ways = (
        ("less", [one for one in regions if one.difference.high < 0]),
        ("more", [one for one in regions if one.difference.low > 0]),
    )
    said = tuple(
        f"'{second}' takes {way} of its score than '{first}' from "
        + "; ".join(
            f"{one.region}: {percent_text(one.second)} instead of "
            f"{percent_text(one.first)}, "
            f"{points_between(*vars(one.difference).values())} points"
            for one in sure[:_SAID]
        )
        + "."
        for way, sure in ways
        if sure
    )
    if said or not comparison.regions:
        return said
    return ("No region's share of the score differs by more than chance.",)


# --------------------------------------------------------------------------------------
# Figures
# --------------------------------------------------------------------------------------


def bands(comparison: Comparison) -> NDArray[np.int64]:
    """Return the place in :data:`BANDS` of each query in either run, shape (Q, 2)."""
    return np.searchsorted(_BAND_ENDS, comparison.first_match)


def ranks_figure(comparison: Comparison) -> Figure:
    """Draw how many queries moved from which rank to which."""
    counts = np.zeros((len(BANDS), len(BANDS)), dtype=np.int64)
    np.add.at(counts, tuple(bands(comparison)[:, ::-1].T), 1)
    first, second = (for_plotly(f"rank in {key}") for key in _keys(comparison))
    trace = {
        "type": "heatmap",
        # Most queries stay at rank 1, next to which nothing else would have a color.
        "z": np.log10(counts + 1.0).round(3).tolist(),
        "text": [[f"{value:,}" if value else "" for value in row] for row in counts],
        "texttemplate": "%{text}",
        "customdata": counts.tolist(),
        "hovertemplate": "%{customdata:,} queries<extra></extra>",
        "colorscale": "Cividis",
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
    }
    layout = make_layout(first, second)
    for axis in ("xaxis", "yaxis"):
        layout[axis].update(categories(list(BANDS)), showgrid=False, zeroline=False)
    layout["yaxis"]["autorange"] = "reversed"
    return Figure([trace], layout)


def regions_figure(comparison: Comparison) -> Figure:
    """Draw the share of the score of each region in both runs."""
    names = labels([region.region for region in comparison.regions], 28)
    traces = [
        {
            "type": "bar",
            "x": list(range(len(names))),
            "y": _plain([getattr(one, side) for one in comparison.regions]),
            "text": [points(one.difference).text for one in comparison.regions],
            "textposition": "none",
            "name": for_plotly(key),
            "marker": {"color": color},
            "hovertemplate": "%{y:.1%} (%{text} points)",
        }
        for side, key, color in zip(
            ("first", "second"),
            _keys(comparison),
            (FALSE_COLOR, TRUE_COLOR),
            strict=True,
        )
    ]
    layout = make_layout("", "share of the score")
    layout["xaxis"].update(categories(names))
    layout["yaxis"]["tickformat"] = ".0%"
    return Figure(traces, with_legend(layout))


def places_figure(comparison: Comparison) -> Figure:
    """Draw where the scores come from in both runs, and the difference."""
    if comparison.places is None:
        return evidence_figure([], [])
    first, second = _keys(comparison)
    places = comparison.places
    maps = np.nan_to_num([*places.shares, places.difference])
    return evidence_figure(list(maps), (first, second, f"{second} less {first}"))


def groups_figure(comparison: Comparison, field: str) -> Figure:
    """Draw the changes of a field's groups beyond those of the others."""
    rows = comparison.groups[field][:_GROUPS_SHOWN]
    effects = np.array([(row.effect, row.low, row.high) for row in rows])
    value, low, high = effects.reshape(-1, 3).T
    trace = {
        "type": "scatter",
        "mode": "markers",
        "y": list(range(len(rows))),
        "x": _plain(value),
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": _plain(high - value),
            "arrayminus": _plain(value - low),
        },
        "text": [for_plotly(row.sentence(field)) for row in rows],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": TRUE_COLOR, "size": 8},
    }
    layout = make_layout("change of mAP beyond the others", "")
    layout["yaxis"].update(
        categories(labels([row.value for row in rows])), autorange="reversed"
    )
    layout["xaxis"]["tickformat"] = "+.0%"
    return Figure([trace], layout)


def _plain(values: Sequence[float] | NDArray[np.floating]) -> list[float]:
    """Return numbers that JSON can hold, 0 for those that are not known."""
    return [float(value) for value in np.nan_to_num(values)]


def _effect(group: GroupChange) -> Estimate:
    return Estimate(group.effect, group.low, group.high)


def _keys(comparison: Comparison) -> tuple[str, str]:
    return comparison.first_key, comparison.second_key
