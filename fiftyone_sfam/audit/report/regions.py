"""The report's parts on regions of the images: the ledger, and shortcuts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fiftyone_sfam.audit.regions.causal_result import CausalCheck
from fiftyone_sfam.audit.regions.display import (
    causal_table,
    cell_tables,
    cells_by_outcome,
    sentences,
    share_figure,
    shortcut_notes,
    shortcut_sentence,
    source,
)
from fiftyone_sfam.audit.regions.ledger import Ledger
from fiftyone_sfam.audit.regions.ledger_cells import REMAINDER
from fiftyone_sfam.audit.regions.shortcuts import Shortcuts
from fiftyone_sfam.audit.report.pictures import Picture, Plot, map_picture, plot
from fiftyone_sfam.audit.statistics.cells import Table, prose
from fiftyone_sfam.data.text import counted

MAX_SHORTCUTS = 20
"""Most shortcuts that are shown."""


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

    sentence: str  # the finding in words
    effect: float  # how much more of the score rests on the region
    own: Picture  # average evidence of its images
    rest: Picture  # average evidence of comparable images


@dataclass(frozen=True)
class ShortcutsPart:
    """The shortcuts."""

    shown: tuple[ShortcutPart, ...]  # the strongest
    left_out: int  # how many there are beyond those
    notes: tuple[str, ...]  # the groups and regions that were compared


def regions_part(ledger: Ledger, causal: CausalCheck | None) -> RegionsPart:
    """Lay a ledger of regions out."""
    count = counted(len(ledger), "pair")
    notes = [f"Regions come from {source(ledger)}; {count}, query side."]
    if ledger.missing:
        notes.append(f"{counted(len(ledger.missing), 'image')} without regions.")
    lines = [f"{line}." for line in sentences(ledger)]
    if causal is not None:
        lines.append(causal.sentence)
    cells = cells_by_outcome(ledger)
    figure = plot(
        "regions",
        "Share of the score that each region carries on the query, next to its share "
        "of the area.",
        share_figure((*ledger.regions, REMAINDER), cells),
    )
    return RegionsPart(
        tuple(map(prose, lines)),
        figure if cells else None,
        tuple((title, rows.first()) for title, rows in cell_tables(ledger.cells)),
        None if causal is None else causal_table(causal),
        tuple(notes),
    )


def shortcuts_part(shortcuts: Shortcuts) -> ShortcutsPart:
    """Lay shortcuts out."""
    chosen = shortcuts.found[:MAX_SHORTCUTS]
    # A few maps with one hot cell must not dim all others.
    largest = [
        float(np.abs(values).max())
        for shortcut in chosen
        for values in (shortcut.evidence, shortcut.rest_evidence)
    ]
    limit = float(np.percentile(largest, 75)) if largest else 1.0
    shown = (
        ShortcutPart(
            shortcut_sentence(shortcut),
            shortcut.effect,
            map_picture(shortcut.evidence, limit),
            map_picture(shortcut.rest_evidence, limit),
        )
        for shortcut in chosen
    )
    return ShortcutsPart(
        tuple(shown), len(shortcuts.found) - len(chosen), shortcut_notes(shortcuts)
    )
