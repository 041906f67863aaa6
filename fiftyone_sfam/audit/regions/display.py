"""A ledger, its causal check and shortcuts as tables, sentences and figures.

They are the same wherever they are shown. Figures are plain data for Plotly. Colors of
text, axes and background are left to the surface that shows them. Regions are drawn at
numbered places with their names as labels, so that names which look alike stay apart
and a click tells the place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.display import (
    FALSE_COLOR,
    NEUTRAL,
    TRUE_COLOR,
    Figure,
    categories,
    for_plotly,
    labels,
    make_layout,
    with_legend,
)
from fiftyone_sfam.audit.regions.causal_result import CausalCheck
from fiftyone_sfam.audit.regions.ledger import Ledger
from fiftyone_sfam.audit.regions.ledger_cells import (
    FALSE,
    OUTCOME,
    REMAINDER,
    TRUE,
    UNKNOWN,
    Cell,
    find_cell,
    sentence,
)
from fiftyone_sfam.audit.regions.shortcuts import Shortcut, Shortcuts
from fiftyone_sfam.audit.statistics.bootstrap import Estimate
from fiftyone_sfam.audit.statistics.cells import (
    NOTHING,
    Shown,
    Table,
    count,
    name,
    number,
    percent,
    points,
    prose,
    share,
    text,
)
from fiftyone_sfam.data.text import counted, one_line, quoted, short
from fiftyone_sfam.retrieval.pairs import OUTCOMES

MOST_POINTS = 1000
"""Points of the scatter of each outcome; of more pairs, so many are drawn."""

SEED = 0
MOST_GROUPS = 50

_NAN = float("nan")
_LABEL = 28
_WIDTH = 0.8
# Of the points, on either side, that an axis need not reach to.
_TAIL = 0.005
_OUTCOME_COLORS = {TRUE: TRUE_COLOR, FALSE: FALSE_COLOR, UNKNOWN: NEUTRAL}


# --------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------


def cell_tables(cells: Sequence[Cell]) -> list[tuple[str, Table]]:
    """Return a table of each kind of group with its title."""
    kinds: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        kinds.setdefault(tuple(key for key, _ in cell.groups), []).append(cell)
    return [
        (f"By {' and '.join(keys)}" if keys else "All pairs", _cells_table(keys, rows))
        for keys, rows in kinds.items()
    ]


def _cells_table(keys: Sequence[str], cells: Sequence[Cell]) -> Table:
    rows = (
        (
            *(name(value) for _, value in cell.groups),
            name(cell.region),
            count(cell.pairs),
            count(cell.queries),
            share(cell.share, cell.low, cell.high),
            NOTHING if cell.region == REMAINDER else percent(cell.of_evidence),
            NOTHING if cell.region == REMAINDER else percent(cell.area),
            number(cell.value),
        )
        for cell in cells
    )
    shares = tuple(f"share of the {whole}" for whole in ("score", "evidence", "area"))
    return Table(
        (*keys, "region", "pairs", "queries", *shares, "per pair"), tuple(rows)
    )


def groups_table(cells: Sequence[Cell]) -> Table:
    """Return groups of pairs in one region."""
    rows = (
        (
            text(group_text(cell)),
            share(cell.share, cell.low, cell.high),
            percent(cell.area),
            count(cell.pairs),
        )
        for cell in cells
    )
    return Table(("Pairs", "Share of the score", "Of the area", "Number"), tuple(rows))


def shortcuts_table(shortcuts: Shortcuts) -> Table:
    """Return shortcuts, strongest first."""
    head = ("Matches of", "Share of the score", "Elsewhere", "Excess, in points")
    rows = (
        (
            text(f"{shortcut.kind} {quoted(shortcut.value)}: {short(shortcut.region)}"),
            percent(shortcut.share),
            percent(shortcut.expected),
            points(Estimate(shortcut.effect, shortcut.low, shortcut.high)),
            count(shortcut.images),
        )
        for shortcut in shortcuts.found
    )
    return Table((*head, "Images"), tuple(rows))


def causal_table(check: CausalCheck) -> Table:
    """Show the measured effect of changing a region next to the claim."""
    rows = [
        (text("region that was changed"), name(check.region)),
        (text("how"), text(f"{check.change}, on the {check.side}'s image")),
        (text("pairs"), count(len(check.pairs))),
        (text("claimed by the ledger, mean"), number(_mean(check.claim))),
        (text("measured drop, mean"), number(_mean(check.drop))),
        (
            text("drop for the same area elsewhere, mean"),
            number(_mean(check.control_drop)),
        ),
    ]
    for title, correlation in (
        ("claim with drop", check.correlation),
        ("both as shares of the score", check.share_correlation),
        ("claim with drop, elsewhere", check.control_correlation),
        ("claim here with drop elsewhere", check.crossed_correlation),
        ("area with drop", check.area_correlation),
    ):
        shown = Shown(str(correlation), "number", float(correlation.value))
        rows.append((text(f"rank correlation: {title}"), shown))
    return Table(("causal check", "value"), tuple(rows))


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.mean(values)) if len(values) else _NAN


# --------------------------------------------------------------------------------------
# Sentences
# --------------------------------------------------------------------------------------


def source(ledger: Ledger) -> str:
    """Say what divides the images."""
    if ledger.field is None:
        return "horizontal stripes"
    return f"the field '{one_line(ledger.field)}'"


def sentences(ledger: Ledger) -> tuple[str, ...]:
    """Compare false matches with true ones, region by region."""
    compared = (
        [
            cell
            for outcome in (FALSE, TRUE)
            if (cell := find_cell(ledger.cells, region, outcome=outcome)) is not None
        ]
        for region in ledger.regions
    )
    return tuple(sentence(*cells) for cells in compared if cells)


def group_text(cell: Cell) -> str:
    """Say which pairs a cell is of."""
    return ", ".join(
        short(value, 40) if key == OUTCOME else f"{short(key)} {quoted(value)}"
        for key, value in cell.groups
    )


def shortcut_sentence(shortcut: Shortcut) -> str:
    """Return the shortcut in words, its names kept from turning their direction."""
    names = shortcut.value, *(partner for partner, _ in shortcut.partners)
    return prose(shortcut.sentence, names)


def shortcut_notes(shortcuts: Shortcuts) -> tuple[str, ...]:
    """Say what was searched for shortcuts."""
    groups = ", ".join(
        f"{total:,} of kind {kind}" for kind, total in shortcuts.groups.items()
    )
    return (
        f"Looked at {', '.join(shortcuts.regions)}; groups: {groups}. Listed are those "
        "whose 95 % interval lies above zero, by its lower end.",
    )


# --------------------------------------------------------------------------------------
# Cells and pairs that are drawn
# --------------------------------------------------------------------------------------


def cells_by_outcome(ledger: Ledger) -> dict[str, dict[str, Cell]]:
    """Return the cells of outcomes alone: outcome to region to cell."""
    by_outcome: dict[str, dict[str, Cell]] = {}
    for outcome in OUTCOMES:
        for cell in ledger.cells:
            if cell.groups == ((OUTCOME, outcome),):
                by_outcome.setdefault(outcome, {})[cell.region] = cell
    return by_outcome


def group_cells(ledger: Ledger, region: str) -> list[Cell]:
    """Return the cells of a region in smaller groups, the largest share first."""
    cells = [
        cell
        for cell in ledger.cells
        if cell.region == region and len(cell.groups) > 1 and not np.isnan(cell.low)
    ]
    return sorted(cells, key=lambda cell: -cell.share)[:MOST_GROUPS]


def shares_of(ledger: Ledger, region: str) -> NDArray[np.float64]:
    """Return a region's share of the score on the query's side, shape (L,).

    NaN where the image has no regions or the score is not positive.
    """
    if region == REMAINDER:
        carried = ledger.remainder[:, 0]
    else:
        carried = ledger.shares[:, 0, ledger.column(region)].astype(np.float64)
    score = np.where(ledger.score > 0, ledger.score, np.nan)
    return carried / score


def drawn_rows(ledger: Ledger, region: str) -> dict[str, NDArray[np.int64]]:
    """Draw the rows of a ledger that the scatter shows."""
    known = ~np.isnan(shares_of(ledger, region))
    generator = np.random.default_rng(SEED)
    by_outcome = {}
    for code, outcome in enumerate(OUTCOMES):
        rows = np.flatnonzero(known & (ledger.outcome == code))
        if len(rows) > MOST_POINTS:
            rows = np.sort(generator.choice(rows, MOST_POINTS, replace=False))
        if len(rows):
            by_outcome[outcome] = rows
    return by_outcome


def scatter_notes(ledger: Ledger, region: str) -> tuple[str, ...]:
    """Say which pairs the scatter leaves out."""
    rows = drawn_rows(ledger, region)
    shares = shares_of(ledger, region)
    known = int((~np.isnan(shares)).sum())
    shown = np.concatenate(list(rows.values())) if rows else np.empty(0, np.int64)
    texts = []
    if len(shown) < known:
        texts.append(
            f"{len(shown):,} of {known:,} pairs, drawn at random with seed {SEED}, at "
            f"most {MOST_POINTS:,} of an outcome."
        )
    negative = int((ledger.score <= 0).sum())
    if negative:
        texts.append(f"Without {counted(negative, 'pair')} that score zero or less.")
    span = shown_span(shares[shown])
    if span is not None:
        outside = int(((shares[shown] < span[0]) | (shares[shown] > span[1])).sum())
        if outside:
            texts.append(f"{counted(outside, 'point')} beyond the axis.")
    return tuple(texts)


# --------------------------------------------------------------------------------------
# Figures
# --------------------------------------------------------------------------------------


def share_figure(
    regions: Sequence[str], cells: Mapping[str, Mapping[str, Cell]]
) -> Figure:
    """Draw each region's share of the score by outcome, and of the area."""
    bars, areas = [], []
    width = _WIDTH / max(1, len(cells))
    for place, (outcome, by_region) in enumerate(cells.items()):
        offset = (place - (len(cells) - 1) / 2) * width
        x = [offset + region for region in range(len(regions))]
        chosen = [by_region[region] for region in regions]
        bars.append(
            {
                "type": "bar",
                "x": x,
                "y": [_number(cell.share) for cell in chosen],
                "width": 0.92 * width,
                "name": for_plotly(outcome),
                "marker": {"color": _OUTCOME_COLORS.get(outcome, NEUTRAL)},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [_gap(cell.high, cell.share) for cell in chosen],
                    "arrayminus": [_gap(cell.share, cell.low) for cell in chosen],
                    "color": NEUTRAL,
                    "thickness": 1.5,
                    "width": 3,
                },
                "text": [_share_text(cell, outcome) for cell in chosen],
                "textposition": "none",
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
        areas.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": x,
                "y": [_number(cell.area) for cell in chosen],
                "name": "share of the area",
                "showlegend": place == 0,
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
    shown = labels(regions, _LABEL)
    layout["xaxis"].update(categories(shown), showgrid=False, zeroline=False)
    layout["yaxis"].update(tickformat=".0%", zeroline=True)
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
                "color": _OUTCOME_COLORS.get(outcome, NEUTRAL),
                "size": 6,
                "opacity": 0.55,
            },
            "hovertemplate": "%{x:.1%} of %{y:.3f}",
        }
        for outcome, (shares, scores) in points.items()
    ]
    (label,) = labels([region])
    layout = make_layout(f"share of the score on the query: {label}", score_name)
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
    shown = (
        f"{cell.region}, {outcome}: {share(cell.share, cell.low, cell.high).text} "
        f"of the score, {percent(cell.area).text} of the area; "
        f"{counted(cell.pairs, 'pair')}"
    )
    return for_plotly(prose(shown, [cell.region]))


def _number(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)


def _gap(high: float, low: float) -> Any:
    return 0.0 if np.isnan(high) or np.isnan(low) else max(0.0, float(high - low))
