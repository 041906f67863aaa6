"""The page of regions: what they carry of the score, where, and whether it is true."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fiftyone_sfam.app.audit.blocks import (
    Block,
    choice_block,
    operator_block,
    plot_block,
    result_block,
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
from fiftyone_sfam.app.audit.results import stored
from fiftyone_sfam.audit.evaluation.display import evidence_figure
from fiftyone_sfam.audit.regions.causal_result import CausalCheck, load_causal_check
from fiftyone_sfam.audit.regions.display import (
    cells_by_outcome,
    claim_figure,
    drawn_rows,
    group_cells,
    group_text,
    groups_table,
    scatter_figure,
    scatter_notes,
    share_figure,
    shares_of,
    shortcuts_table,
    source,
)
from fiftyone_sfam.audit.regions.ledger import Ledger, load_ledger, pair_groups
from fiftyone_sfam.audit.regions.ledger_cells import REMAINDER, Cell
from fiftyone_sfam.audit.regions.shortcuts import Shortcut, Shortcuts, load_shortcuts
from fiftyone_sfam.data.text import counted, escape_markdown, quoted, short
from fiftyone_sfam.errors import DataError
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
            text_block(
                "no_ledger",
                "Evidence maps add up to the score, so any division of the image into "
                "regions (person and background, parts, stripes) gives each region its "
                "share of it. Compute the shares once; they are stored with the run.",
            ),
            operator_block("explain", "Explain regions", EXPLAIN_REGIONS),
        ]
    return [
        text_block("source", source_text(ledger)),
        *_share_blocks(ledger, chosen),
        *_shortcut_blocks(stored(run, load_shortcuts), chosen),
        *_causal_blocks(stored(run, load_causal_check)),
        operator_block("again", "Explain regions again", EXPLAIN_REGIONS),
    ]


# --------------------------------------------------------------------------------------
# Shares
# --------------------------------------------------------------------------------------


def source_text(ledger: Ledger) -> str:
    """Say where the regions come from, and what has none."""
    text = f"Regions of {source(ledger)}; {counted(len(ledger), 'pair')}."
    if ledger.without_regions:
        reason = next(iter(ledger.missing.values()), "")
        text += f" {counted(ledger.without_regions, 'pair')} without regions: {reason}"
    return escape_markdown(text)


def region_of(ledger: Ledger, chosen: Choices) -> str:
    """Return the region that is looked at: the chosen one, or else the background."""
    if chosen.region in ledger.regions:
        return str(chosen.region)
    return ledger.regions[-1]


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
            "region", "Region", [(name, name) for name in ledger.regions], region
        ),
        plot_block(
            "scatter",
            f"Score and share of {short(region)}",
            " ".join((_POINT_HINT, *scatter_notes(ledger, region))),
            scatter_figure(points, region, "similarity"),
            wide=True,
        ),
    ]
    groups = group_cells(ledger, region)
    if groups:
        hint = "The groups with the largest share. Click a row: its pairs."
        title = f"Where {short(region)} carries most"
        blocks.append(result_block("groups", title, hint, groups_table(groups)))
    return blocks


# --------------------------------------------------------------------------------------
# Shortcuts and the causal check
# --------------------------------------------------------------------------------------


def _shortcut_blocks(shortcuts: Shortcuts | None, chosen: Choices) -> list[Block]:
    if shortcuts is None:
        return []
    if not len(shortcuts):
        text = "No identity or camera rests on a region more than the rest do."
        return [text_block("no_shortcuts", f"**Shortcuts** {text}")]
    shortcut = shortcuts.found[shortcut_place(shortcuts, chosen)]
    return [
        result_block(
            "shortcuts",
            "Shortcuts",
            "Whose matches rest on a region more than comparable ones do. Click a row: "
            "its pairs and its maps.",
            shortcuts_table(shortcuts),
        ),
        plot_block(
            "shortcut_maps",
            f"Average evidence of {shortcut.kind} {quoted(shortcut.value)}",
            f"{shortcut.sentence} Click a map: its pairs.",
            evidence_figure(
                [shortcut.evidence, shortcut.rest_evidence],
                [short(shortcut.value), "the rest"],
            ),
            wide=True,
        ),
    ]


def shortcut_place(shortcuts: Shortcuts, chosen: Choices) -> int:
    """Return the place of the shortcut whose maps are shown."""
    return min(max(chosen.shortcut or 0, 0), len(shortcuts.found) - 1)


def _causal_blocks(check: CausalCheck | None) -> list[Block]:
    if check is None:
        return []
    return [
        plot_block(
            "claims",
            f"Tested: {short(check.region)} changed",
            f"{check.sentence} Click a point: its pair.",
            claim_figure(check.claim, check.drop),
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
            (int(point["trace_idx"]), int(point["idx"]))
            for point in params["data"] or []
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


def _on_shortcut_map(run: Run, params: Params, chosen: Choices) -> Opened:
    shortcuts = stored(run, load_shortcuts)
    if shortcuts is None or not len(shortcuts):
        return Opened()
    shortcut = shortcuts.found[shortcut_place(shortcuts, chosen)]
    return Opened(shortcut_selection(run, shortcut))


def _on_claim(run: Run, params: Params, chosen: Choices) -> Opened:
    check = stored(run, load_causal_check)
    if check is None or int(params["trace_idx"]) != 0:
        return Opened()
    pairs = check.pairs[[place_of(params)]]
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
