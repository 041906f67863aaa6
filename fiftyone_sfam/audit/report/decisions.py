"""The report's part on decisions: outcomes at the threshold, and examples of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fiftyone_sfam.audit.decisions import (
    DECISION,
    DECISIONS,
    Decisions,
    decision_maps,
    decisions_table,
)
from fiftyone_sfam.audit.report.findings import PairPicture, pair_caption
from fiftyone_sfam.audit.report.pictures import Pictures
from fiftyone_sfam.audit.statistics.cells import Table
from fiftyone_sfam.audit.verification.verify import pair_scores
from fiftyone_sfam.runs.contributions import find_images, stored_pair
from fiftyone_sfam.runs.maps import PairMaps
from fiftyone_sfam.runs.run import Run

EXAMPLES = 4
"""Most pairs of an outcome that are shown with pictures."""

_WRONG = ("false reject", "false accept")
_ORDER = (
    "Of wrong decisions, the pairs furthest from the threshold are shown; of right "
    "ones, those nearest to it."
)
_MAPS = (
    "Their maps say why: red places speak for acceptance, blue ones against it, and "
    "with the remainders they add up to the similarity minus the threshold."
)
_NO_MAPS = (
    "Their maps are those of the similarity. Maps of the decision need stored "
    "contributions: make the run with contributions='int8'."
)


@dataclass(frozen=True)
class DecisionsPart:
    """Accepted and rejected pairs."""

    table: Table  # how many there are of each outcome
    examples: tuple[tuple[str, tuple[PairPicture, ...]], ...]  # by outcome
    notes: tuple[str, ...]  # what the pictures show


def decisions_part(run: Run, found: Decisions, images: bool) -> DecisionsPart:
    """Show the outcomes of a run, with pictures if they are wanted."""
    table = decisions_table(found)
    chosen = {
        name: pairs for name in DECISIONS if (pairs := examples(run, found, name))
    }
    if not images or not chosen:
        return DecisionsPart(table, (), ())
    shown = [pair for pairs in chosen.values() for pair in pairs]
    maps = _decision_maps(run, shown, found.threshold)
    pictures = Pictures(run, shown, maps=maps, kind=DECISION if maps else None)
    return DecisionsPart(
        table,
        tuple(
            (
                name,
                tuple(
                    PairPicture(
                        pair, *pictures.of_pair(pair), pair_caption(run, pair), -1
                    )
                    for pair in pairs
                ),
            )
            for name, pairs in chosen.items()
        ),
        (_ORDER, _NO_MAPS if maps is None else _MAPS),
    )


def examples(run: Run, found: Decisions, outcome: str) -> list[int]:
    """Choose pairs of an outcome; of two images only one pair."""
    pairs = found.pairs(outcome)
    distance = np.abs(pair_scores(run)[pairs] - found.threshold)
    order = np.argsort(-distance if outcome in _WRONG else distance, kind="stable")
    chosen: dict[frozenset[int], int] = {}
    for pair in pairs[order].tolist():
        ends = frozenset((int(run.pairs.query[pair]), int(run.pairs.gallery[pair])))
        chosen.setdefault(ends, pair)
        if len(chosen) == EXAMPLES:
            break
    return list(chosen.values())


def _decision_maps(
    run: Run, pairs: list[int], threshold: float
) -> Mapping[int, PairMaps] | None:
    """Explain decisions by stored contributions; None if the run keeps none."""
    if run.config.contributions is None:
        return None
    ends = {
        pair: (int(run.pairs.query[pair]), int(run.pairs.gallery[pair]))
        for pair in pairs
    }
    kept = find_images(run, [item for both in ends.values() for item in both])
    without = PairMaps(None, None)
    return {
        pair: decision_maps(stored_pair([kept[one] for one in both], run), threshold)
        if kept.keys() >= set(both)
        else without
        for pair, both in ends.items()
    }
