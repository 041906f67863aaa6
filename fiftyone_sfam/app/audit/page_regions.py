"""The page of regions: what they carry of the score, where, and whether it is true."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.audit.blocks import (
    Block,
    buttons_block,
    choice_block,
    plot_block,
    table_block,
    text_block,
)
from fiftyone_sfam.app.audit.choices import (
    EXPLAIN_REGIONS,
    Choices,
    Mark,
    Opened,
    Params,
    Selection,
    place_of,
    to_pairs,
)
from fiftyone_sfam.app.audit.results import CausalClaims, load_causal_claims, stored
from fiftyone_sfam.app.audit.view import (
    claim_figure,
    evidence_figure,
    quoted,
    scatter_figure,
    share_figure,
    short,
    shown_span,
)
from fiftyone_sfam.audit.regions.ledger import Ledger, load_ledger, pair_groups
from fiftyone_sfam.audit.regions.ledger_cells import OUTCOME, REMAINDER, Cell
from fiftyone_sfam.audit.regions.shortcuts import Shortcut, Shortcuts, load_shortcuts
from fiftyone_sfam.data.text import counted, escape_markdown, percent, percent_between
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.runs.run import Run

MOST_POINTS = 1000
"""Points of the scatter of each outcome; of more pairs, so many are drawn."""

SEED = 0
MOST_LEANING = 100
"""Pairs that are opened as those that lean on a region most."""

MOST_GROUPS = 50


def page(run: Run, chosen: Choices) -> list[Block]:
    """Return the blocks of the page."""
    ledger = stored(run, load_ledger)
    if ledger is None:
        return [
            text_block(
                "no_ledger",
                "Evidence maps add up to the score, so any division of the image into "
                "regions (person and background, parts, stripes) gives each region its "
                "share of it. Compute the shares once; they are stored with the run.",
            ),
            buttons_block(
                "explain",
                [("Explain regions", "on_operator", {"operator": EXPLAIN_REGIONS})],
            ),
        ]
    return [
        text_block("source", source_text(ledger)),
        *_share_blocks(ledger, chosen),
        *_shortcut_blocks(stored(run, load_shortcuts), chosen),
        *_causal_blocks(stored(run, load_causal_claims)),
        buttons_block(
            "again",
            [("Explain regions again", "on_operator", {"operator": EXPLAIN_REGIONS})],
        ),
    ]


# --------------------------------------------------------------------------------------
# Shares
# --------------------------------------------------------------------------------------


def source_text(ledger: Ledger) -> str:
    """Say where the regions come from, and what has none."""
    field = ledger.field
    where = "horizontal stripes" if field is None else f"the field {quoted(field)}"
    text = f"Regions of {where}; {counted(len(ledger), 'pair')}."
    if ledger.without_regions:
        reason = next(iter(ledger.missing.values()), "")
        text += f" {counted(ledger.without_regions, 'pair')} without regions: {reason}"
    return escape_markdown(text)


def region_of(ledger: Ledger, chosen: Choices) -> str:
    """Return the region that is looked at: the chosen one, or else the background."""
    if chosen.region in ledger.regions:
        return str(chosen.region)
    return ledger.regions[-1]


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


def scatter_hint(ledger: Ledger, region: str) -> str:
    """Say what the scatter shows of the pairs."""
    rows = drawn_rows(ledger, region)
    shares = shares_of(ledger, region)
    known = int((~np.isnan(shares)).sum())
    shown = np.concatenate(list(rows.values())) if rows else np.empty(0, np.int64)
    text = "Click a point: its pair. Drag a box: all in it."
    if len(shown) < known:
        text += (
            f" {len(shown):,} of {known:,} pairs, drawn at random with seed {SEED}, at "
            f"most {MOST_POINTS:,} of an outcome."
        )
    negative = int((ledger.score <= 0).sum())
    if negative:
        text += f" Without {counted(negative, 'pair')} that score zero or less."
    span = shown_span(shares[shown])
    if span is not None:
        outside = int(((shares[shown] < span[0]) | (shares[shown] > span[1])).sum())
        if outside:
            text += f" {counted(outside, 'point')} beyond the axis."
    return text


def _share_blocks(ledger: Ledger, chosen: Choices) -> list[Block]:
    region = region_of(ledger, chosen)
    shares = shares_of(ledger, region)
    points = {
        outcome: (shares[rows], ledger.score[rows])
        for outcome, rows in drawn_rows(ledger, region).items()
    }
    blocks = []
    cells = cells_by_outcome(ledger)
    if cells:
        blocks.append(
            plot_block(
                "shares",
                "Share of the score by region",
                "With 95 % intervals. Click a bar: the pairs that lean on the region "
                f"most, at most {MOST_LEANING}.",
                share_figure((*ledger.regions, REMAINDER), cells),
                wide=True,
            )
        )
    blocks += [
        choice_block(
            "region", "Region", [(one, one) for one in ledger.regions], region
        ),
        plot_block(
            "scatter",
            f"Score and share of {short(region)}",
            scatter_hint(ledger, region),
            scatter_figure(points, region, "similarity"),
            wide=True,
        ),
    ]
    rows = group_cells(ledger, region)
    if rows:
        columns = (
            ("group", "Pairs"),
            ("share", "Share of the score"),
            ("area", "Of the area"),
            ("pairs", "Number"),
        )
        hint = "The groups with the largest share. Click a row: its pairs."
        name = f"Where {short(region)} carries most"
        listed = [_group_row(cell) for cell in rows]
        blocks.append(table_block("groups", name, hint, columns, listed))
    return blocks


def _group_row(cell: Cell) -> dict[str, str]:
    return {
        "group": group_text(cell),
        "share": percent_between(cell.share, cell.low, cell.high),
        "area": percent(cell.area),
        "pairs": f"{cell.pairs:,}",
    }


def group_text(cell: Cell) -> str:
    """Say which pairs a cell is of."""
    return ", ".join(
        short(value, 40) if name == OUTCOME else f"{short(name)} {quoted(value)}"
        for name, value in cell.groups
    )


# --------------------------------------------------------------------------------------
# Shortcuts and the causal check
# --------------------------------------------------------------------------------------


def _shortcut_blocks(shortcuts: Shortcuts | None, chosen: Choices) -> list[Block]:
    if shortcuts is None:
        return []
    if not len(shortcuts):
        text = "No identity or camera rests on a region more than the rest do."
        return [text_block("no_shortcuts", f"**Shortcuts** {text}")]
    columns = (
        ("group", "Matches of"),
        ("share", "Share of the score"),
        ("expected", "Elsewhere"),
        ("effect", "Excess, in points"),
        ("images", "Images"),
    )
    shortcut = shortcuts.found[shortcut_place(shortcuts, chosen)]
    return [
        table_block(
            "shortcuts",
            "Shortcuts",
            "Whose matches rest on a region more than comparable ones do. Click a row: "
            "its pairs and its maps.",
            columns,
            [_shortcut_row(found) for found in shortcuts.found],
        ),
        plot_block(
            "shortcut_maps",
            f"Average evidence of {shortcut.kind} {quoted(shortcut.value)}",
            shortcut.sentence,
            evidence_figure(
                [shortcut.evidence, shortcut.rest_evidence],
                [short(shortcut.value), "the rest"],
            ),
            clickable=False,
            wide=True,
        ),
    ]


def shortcut_place(shortcuts: Shortcuts, chosen: Choices) -> int:
    """Return the place of the shortcut whose maps are shown."""
    return min(max(chosen.shortcut or 0, 0), len(shortcuts.found) - 1)


def _shortcut_row(shortcut: Shortcut) -> dict[str, str]:
    return {
        "group": f"{shortcut.kind} {quoted(shortcut.value)}: {short(shortcut.region)}",
        "share": percent(shortcut.share),
        "expected": percent(shortcut.expected),
        "effect": f"{100 * shortcut.effect:+.1f} ({100 * shortcut.low:+.1f} to "
        f"{100 * shortcut.high:+.1f})",
        "images": f"{shortcut.images:,}",
    }


def _causal_blocks(claims: CausalClaims | None) -> list[Block]:
    if claims is None:
        return []
    return [
        plot_block(
            "claims",
            f"Tested: {short(claims.region)} changed",
            f"{claims.sentence} Click a point: its pair.",
            claim_figure(claims.claim, claims.drop),
            wide=True,
        )
    ]


# --------------------------------------------------------------------------------------
# Selections
# --------------------------------------------------------------------------------------


def leaning_selection(run: Run, ledger: Ledger, outcome: str, region: str) -> Selection:
    """Open the pairs of an outcome that lean on a region most."""
    shares = shares_of(ledger, region)
    rows = np.flatnonzero(
        ~np.isnan(shares) & (ledger.outcome == OUTCOMES.index(outcome))
    )
    rows = rows[np.argsort(-shares[rows], kind="stable")][:MOST_LEANING]
    plural = "pairs" if outcome == "unlabeled" else f"{outcome}es"
    name = "what is on no map" if region == REMAINDER else quoted(region)
    title = f"the {len(rows)} {plural} that lean most on {name}"
    return to_pairs(run, title, ledger.pairs[rows])


def group_selection(run: Run, ledger: Ledger, cell: Cell) -> Selection:
    """Open the pairs of a group, those that lean on its region most first."""
    inside = np.ones(len(ledger), dtype=bool)
    for name, value in cell.groups:
        of_pairs = pair_groups(run, name)
        inside &= np.array([of_pairs[pair] == value for pair in ledger.pairs.tolist()])
    rows = np.flatnonzero(inside)
    shares = np.nan_to_num(shares_of(ledger, cell.region)[rows], nan=-np.inf)
    rows = rows[np.argsort(-shares, kind="stable")]
    return to_pairs(run, group_text(cell), ledger.pairs[rows])


def point_selection(
    run: Run, ledger: Ledger, region: str, points: list[tuple[int, int]]
) -> Selection:
    """Open points of the scatter: trace and place of each."""
    drawn = list(drawn_rows(ledger, region).values())
    rows = np.array([drawn[trace][place] for trace, place in points], dtype=np.int64)
    title = f"{counted(len(rows), 'pair')} chosen by score and {quoted(region)}"
    return to_pairs(run, title, ledger.pairs[rows], both=len(rows) == 1)


def shortcut_selection(run: Run, shortcut: Shortcut) -> Selection:
    """Open the pairs of a shortcut, those that rest on the region most first."""
    title = f"matches of {shortcut.kind} {quoted(shortcut.value)}"
    return to_pairs(run, title, shortcut.pairs)


def _ledger(run: Run) -> Ledger:
    ledger = stored(run, load_ledger)
    if ledger is None:
        raise DataError(
            f"the regions of the run '{run.key}' are gone; explain them again."
        )
    return ledger


def _on_share(run: Run, params: Params, chosen: Choices) -> Opened:
    ledger = _ledger(run)
    outcomes = list(cells_by_outcome(ledger))
    region = (*ledger.regions, REMAINDER)[place_of(params)]
    outcome = outcomes[int(params["trace_idx"]) % len(outcomes)]
    return Opened(leaning_selection(run, ledger, outcome, region))


def _on_point(run: Run, params: Params, chosen: Choices) -> Opened:
    ledger = _ledger(run)
    region = region_of(ledger, chosen)
    if "data" in params:
        points = [
            (int(one["trace_idx"]), int(one["idx"])) for one in params["data"] or []
        ]
        if not points:
            return Opened()
    else:
        points = [(int(params["trace_idx"]), place_of(params))]
    return Opened(point_selection(run, ledger, region, points))


def _on_group(run: Run, params: Params, chosen: Choices) -> Opened:
    ledger = _ledger(run)
    cells = group_cells(ledger, region_of(ledger, chosen))
    return Opened(group_selection(run, ledger, cells[place_of(params)]))


def _on_shortcut(run: Run, params: Params, chosen: Choices) -> Opened:
    shortcuts = stored(run, load_shortcuts)
    if shortcuts is None:
        return Opened()
    place = place_of(params)
    return Opened(shortcut_selection(run, shortcuts.found[place]), {"shortcut": place})


def _on_claim(run: Run, params: Params, chosen: Choices) -> Opened:
    claims = stored(run, load_causal_claims)
    if claims is None or int(params["trace_idx"]) != 0:
        return Opened()
    pairs = claims.pairs[[place_of(params)]]
    return Opened(to_pairs(run, "a pair of the causal check", pairs, both=True))


MARKS: Mapping[str, Mark] = {
    "shares": _on_share,
    "scatter": _on_point,
    "groups": _on_group,
    "shortcuts": _on_shortcut,
    "claims": _on_claim,
}
"""Effects of clicks, by the name of the block."""
