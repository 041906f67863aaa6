"""The page of regions: what they carry of the score, where, and whether it is true."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fiftyone_sfam.app.audit import blocks
from fiftyone_sfam.app.audit.blocks import Block
from fiftyone_sfam.app.audit.choices import (
    Choices,
    Mark,
    Opened,
    Params,
    Selection,
    place_of,
    to_pairs,
)
from fiftyone_sfam.app.audit.results import needed, stored
from fiftyone_sfam.audit.evaluation.display import evidence_figure
from fiftyone_sfam.audit.regions import display
from fiftyone_sfam.audit.regions.causal_result import CausalCheck, load_causal_check
from fiftyone_sfam.audit.regions.ledger import Ledger, load_ledger, pair_groups
from fiftyone_sfam.audit.regions.ledger_cells import REMAINDER
from fiftyone_sfam.audit.regions.shortcuts import Shortcut, Shortcuts, load_shortcuts
from fiftyone_sfam.data.text import counted, escape_markdown, quoted, short
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.runs.run import Run

MOST_LEANING = 100
"""Pairs that are opened as those that lean on a region most."""

_POINT_HINT = "Click a point: its pair. Drag a box: all in it."


def page(run: Run, chosen: Choices) -> list[Block]:
    """Return the blocks of the page."""
    ledger = stored(run, load_ledger)
    if ledger is None:
        return [
            blocks.text(
                "no_ledger",
                "Evidence maps add up to the score, so any division of the image into "
                "regions (person and background, parts, stripes) gives each region its "
                "share of it. Compute the shares once; they are stored with the run.",
            ),
            blocks.operators("explain", explain_regions="Explain regions"),
        ]
    return [
        blocks.text("source", _source(ledger)),
        *_shares(ledger, chosen),
        *_shortcuts(stored(run, load_shortcuts), chosen),
        *_causal(stored(run, load_causal_check)),
        blocks.operators("again", explain_regions="Explain regions again"),
    ]


def _source(ledger: Ledger) -> str:
    """Say where the regions come from, and what has none."""
    text = f"Regions of {display.source(ledger)}; {counted(len(ledger), 'pair')}."
    if ledger.without_regions:
        reason = next(iter(ledger.missing.values()), "")
        text += f" {counted(ledger.without_regions, 'pair')} without regions: {reason}"
    return escape_markdown(text)


def _region(ledger: Ledger, chosen: Choices) -> str:
    """Return the region that is looked at: the chosen one, or else the background."""
    if chosen.region in ledger.regions:
        return str(chosen.region)
    return ledger.regions[-1]


def _shares(ledger: Ledger, chosen: Choices) -> list[Block]:
    region, shown = _region(ledger, chosen), []
    cells = display.cells_by_outcome(ledger)
    if cells:
        shown.append(
            blocks.plot(
                "shares",
                "Share of the score by region",
                "With 95 % intervals. Click a bar: the pairs that lean on the region "
                f"most, at most {MOST_LEANING}.",
                display.share_figure((*ledger.regions, REMAINDER), cells),
                wide=True,
            )
        )
    shares = display.shares_of(ledger, region)
    points = {
        outcome: (shares[rows], ledger.score[rows])
        for outcome, rows in display.drawn_rows(ledger, region).items()
    }
    shown += [
        blocks.choice("region", "Region", ledger.regions, region),
        blocks.plot(
            "scatter",
            f"Score and share of {short(region)}",
            " ".join((_POINT_HINT, *display.scatter_notes(ledger, region))),
            display.scatter_figure(points, region, "similarity"),
            wide=True,
        ),
    ]
    groups = display.group_cells(ledger, region)
    if groups:
        hint = "The groups with the largest share. Click a row: its pairs."
        title, table = (
            f"Where {short(region)} carries most",
            display.groups_table(groups),
        )
        shown.append(blocks.table("groups", title, hint, table))
    return shown


def _shortcuts(shortcuts: Shortcuts | None, chosen: Choices) -> list[Block]:
    if shortcuts is None:
        return []
    if not len(shortcuts):
        text = "No identity or camera rests on a region more than the rest do."
        return [blocks.text("no_shortcuts", f"**Shortcuts** {text}")]
    shortcut = _shortcut(shortcuts, chosen)
    maps = [shortcut.evidence, shortcut.rest_evidence]
    return [
        blocks.table(
            "shortcuts",
            "Shortcuts",
            "Whose matches rest on a region more than comparable ones do. Click a row: "
            "its pairs and its maps.",
            display.shortcuts_table(shortcuts),
        ),
        blocks.plot(
            "shortcut_maps",
            f"Average evidence of {shortcut.kind} {quoted(shortcut.value)}",
            f"{shortcut.sentence} Click a map: its pairs.",
            evidence_figure(maps, [short(shortcut.value), "the rest"]),
            wide=True,
        ),
    ]


def _shortcut(shortcuts: Shortcuts, chosen: Choices) -> Shortcut:
    """Return the shortcut whose maps are shown."""
    return shortcuts.found[min(max(chosen.shortcut or 0, 0), len(shortcuts.found) - 1)]


def _causal(check: CausalCheck | None) -> list[Block]:
    if check is None:
        return []
    return [
        blocks.plot(
            "claims",
            f"Tested: {short(check.region)} changed",
            f"{check.sentence} Click a point: its pair.",
            display.claim_figure(check.claim, check.drop),
            wide=True,
        )
    ]


# --------------------------------------------------------------------------------------
# Clicks
# --------------------------------------------------------------------------------------


def _on_share(run: Run, params: Params, chosen: Choices) -> Opened:
    """Open the pairs of an outcome that lean on a region most."""
    ledger = needed(run, load_ledger)
    outcomes = list(display.cells_by_outcome(ledger))
    region = (*ledger.regions, REMAINDER)[place_of(params)]
    outcome = outcomes[int(params["trace_idx"]) % len(outcomes)]
    shares = display.shares_of(ledger, region)
    of_outcome = ledger.outcome == OUTCOMES.index(outcome)
    rows = np.flatnonzero(~np.isnan(shares) & of_outcome)
    rows = rows[np.argsort(-shares[rows], kind="stable")][:MOST_LEANING]
    plural = "pairs" if outcome == "unlabeled" else f"{outcome}es"
    name = "what is on no map" if region == REMAINDER else quoted(region)
    title = f"the {len(rows)} {plural} that lean most on {name}"
    return Opened(to_pairs(run, title, ledger.pairs[rows]))


def _on_point(run: Run, params: Params, chosen: Choices) -> Opened:
    """Open points of the scatter."""
    ledger = needed(run, load_ledger)
    region = _region(ledger, chosen)
    points = params["data"] or [] if "data" in params else [params]
    if not points:
        return Opened()
    drawn = list(display.drawn_rows(ledger, region).values())
    rows = [drawn[int(point["trace_idx"])][place_of(point)] for point in points]
    title = f"{counted(len(rows), 'pair')} chosen by score and {quoted(region)}"
    return Opened(to_pairs(run, title, ledger.pairs[rows], both=len(rows) == 1))


def _on_group(run: Run, params: Params, chosen: Choices) -> Opened:
    """Open the pairs of a group, those that lean on its region most first."""
    ledger = needed(run, load_ledger)
    cells = display.group_cells(ledger, _region(ledger, chosen))
    cell = cells[place_of(params)]
    inside = np.ones(len(ledger), dtype=bool)
    for name, value in cell.groups:
        of_pairs = pair_groups(run, name)
        inside &= np.array([of_pairs[pair] == value for pair in ledger.pairs.tolist()])
    rows = np.flatnonzero(inside)
    shares = np.nan_to_num(display.shares_of(ledger, cell.region)[rows], nan=-np.inf)
    rows = rows[np.argsort(-shares, kind="stable")]
    return Opened(to_pairs(run, display.group_text(cell), ledger.pairs[rows]))


def _on_shortcut(run: Run, params: Params, chosen: Choices) -> Opened:
    place = place_of(params)
    shortcut = needed(run, load_shortcuts).found[place]
    return Opened(_rests(run, shortcut), {"shortcut": place})


def _on_shortcut_map(run: Run, params: Params, chosen: Choices) -> Opened:
    shortcut = _shortcut(needed(run, load_shortcuts), chosen)
    return Opened(_rests(run, shortcut))


def _rests(run: Run, shortcut: Shortcut) -> Selection:
    """Open the pairs of a shortcut, those that rest on the region most first."""
    title = f"matches of {shortcut.kind} {quoted(shortcut.value)}"
    return to_pairs(run, title, shortcut.pairs)


def _on_claim(run: Run, params: Params, chosen: Choices) -> Opened:
    if int(params["trace_idx"]) != 0:
        return Opened()
    pairs = needed(run, load_causal_check).pairs[[place_of(params)]]
    return Opened(to_pairs(run, "a pair of the causal check", pairs, both=True))


MARKS: Mapping[str, Mark] = {
    "shares": _on_share,
    "scatter": _on_point,
    "groups": _on_group,
    "shortcuts": _on_shortcut,
    "shortcut_maps": _on_shortcut_map,
    "claims": _on_claim,
}
"""Effects of clicks, by the name of the block."""
