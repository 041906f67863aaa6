"""The report's parts on regions of the images: the ledger, and shortcuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fiftyone_sfam.audit.regions.ledger import Ledger
from fiftyone_sfam.audit.regions.ledger_cells import (
    OUTCOME,
    REMAINDER,
    Cell,
    find_cell,
    sentence,
)
from fiftyone_sfam.audit.regions.shortcuts import Shortcut, Shortcuts
from fiftyone_sfam.audit.report.pictures import (
    Picture,
    Plot,
    map_picture,
    region_figure,
)
from fiftyone_sfam.audit.statistics.cells import (
    NOTHING,
    Shown,
    Table,
    count,
    name,
    number,
    percent,
    prose,
    share,
    table,
    text,
)
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, OUTCOMES, TRUE_MATCH

if TYPE_CHECKING:
    from fiftyone_sfam.audit.regions.causal import CausalCheck

MAX_SHORTCUTS = 20
"""Most shortcuts that are shown."""

_NAN = float("nan")
_FIGURE_GROUPS = {"true matches": TRUE_MATCH, "false matches": FALSE_MATCH}


@dataclass(frozen=True)
class RegionsPart:
    """The ledger of regions."""

    sentences: tuple[str, ...]  # what regions carry in false matches, and in true ones
    figure: Plot | None  # shares of the score next to shares of the area, by outcome
    tables: tuple[tuple[str, Table], ...]  # titles and tables of the ledger's groups
    causal: Table | None  # the causal check, if there was one
    notes: tuple[str, ...]  # how the ledger was made


@dataclass(frozen=True)
class ShortcutPart:
    """One shortcut."""

    place: int  # its place in the list, from 1
    sentence: str  # the finding in words
    effect: Shown  # how much more of the score rests on the region, with its interval
    own: Picture  # average evidence of its images
    rest: Picture  # average evidence of comparable images


@dataclass(frozen=True)
class ShortcutsPart:
    """The shortcuts."""

    shown: tuple[ShortcutPart, ...]  # the strongest
    left_out: int  # how many there are beyond those
    notes: tuple[str, ...]  # the groups and regions that were compared


def regions_part(ledger: Ledger, causal: CausalCheck | None) -> RegionsPart:
    """Show a ledger of regions."""
    kinds: dict[tuple[str, ...], list[Cell]] = {}
    for cell in ledger.cells:
        kinds.setdefault(tuple(key for key, _ in cell.groups), []).append(cell)
    source = (
        "horizontal stripes" if ledger.field is None else f"the field '{ledger.field}'"
    )
    notes = [f"Regions come from {source}; {len(ledger):,} pairs, query side."]
    if ledger.missing:
        notes.append(f"{len(ledger.missing):,} images have no regions.")
    sentences = list(_sentences(ledger))
    if causal is not None:
        sentences.append(prose(causal.sentence))
    return RegionsPart(
        tuple(sentences),
        _figure(ledger),
        tuple(
            (f"By {' and '.join(keys)}" if keys else "All pairs", _cells(keys, cells))
            for keys, cells in kinds.items()
        ),
        None if causal is None else _causal(causal),
        tuple(notes),
    )


def shortcuts_part(shortcuts: Shortcuts) -> ShortcutsPart:
    """Show shortcuts."""
    chosen = shortcuts.found[:MAX_SHORTCUTS]
    groups = ", ".join(
        f"{number:,} of kind {kind}" for kind, number in shortcuts.groups.items()
    )
    notes = (
        f"Looked at {', '.join(shortcuts.regions)}; groups: {groups}. Listed are those "
        "whose 95 % interval lies above zero, by its lower end.",
    )
    maps = [
        values
        for shortcut in chosen
        for values in (shortcut.evidence, shortcut.rest_evidence)
    ]
    # A few maps with one hot cell must not dim all others.
    largest = [float(np.abs(values).max()) for values in maps]
    limit = float(np.percentile(largest, 75)) if largest else 1.0
    return ShortcutsPart(
        tuple(
            _shortcut(place, shortcut, limit)
            for place, shortcut in enumerate(chosen, 1)
        ),
        len(shortcuts.found) - len(chosen),
        notes,
    )


def _sentences(ledger: Ledger) -> tuple[str, ...]:
    """Compare false matches with true ones, region by region."""
    sentences = []
    for region in ledger.regions:
        false, true = (
            find_cell(ledger.cells, region, **{OUTCOME: OUTCOMES[code]})
            for code in (FALSE_MATCH, TRUE_MATCH)
        )
        if false is not None and true is not None:
            sentences.append(prose(sentence(false, true) + "."))
    return tuple(sentences)


def _figure(ledger: Ledger) -> Plot | None:
    """Draw shares of the score by outcome."""
    shares: dict[str, list[float]] = {}
    area: list[float] = []
    for title, code in _FIGURE_GROUPS.items():
        cells = [
            find_cell(ledger.cells, region, **{OUTCOME: OUTCOMES[code]})
            for region in (*ledger.regions, REMAINDER)
        ]
        if all(cell is None for cell in cells):
            continue
        shares[title] = [_NAN if cell is None else cell.share for cell in cells]
        if not area:
            area = [_NAN if cell is None else cell.area for cell in cells]
    if not shares:
        return None
    return region_figure((*ledger.regions, REMAINDER), shares, area)


def _cells(keys: Sequence[str], cells: Sequence[Cell]) -> Table:
    """Show the cells of one kind of group."""
    head = (
        *keys,
        "region",
        "pairs",
        "queries",
        "share of the score",
        "share of the evidence",
        "share of the area",
        "per pair",
    )
    return table(
        head,
        [
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
        ],
    )


def _causal(check: CausalCheck) -> Table:
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
    for title, found in (
        ("claim with drop", check.correlation),
        ("both as shares of the score", check.share_correlation),
        ("claim with drop, elsewhere", check.control_correlation),
        ("claim here with drop elsewhere", check.crossed_correlation),
        ("area with drop", check.area_correlation),
    ):
        shown = Shown(str(found), "number", float(found.value))
        rows.append((text(f"rank correlation: {title}"), shown))
    return table(("causal check", "value"), rows)


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else _NAN


def _shortcut(place: int, shortcut: Shortcut, limit: float) -> ShortcutPart:
    """Show one shortcut."""
    return ShortcutPart(
        place,
        prose(
            shortcut.sentence,
            (shortcut.value, *(partner for partner, _ in shortcut.partners)),
        ),
        share(shortcut.effect, shortcut.low, shortcut.high),
        map_picture(shortcut.evidence, limit),
        map_picture(shortcut.rest_evidence, limit),
    )
