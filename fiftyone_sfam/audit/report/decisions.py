"""The report's part on decisions: outcomes at the threshold, and examples of each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from fiftyone_sfam.data.images import read_part
from fiftyone_sfam.errors import DataError, SfamWarning
from fiftyone_sfam.runs.contributions import find_images, stored_pair
from fiftyone_sfam.runs.images import ItemImages, item_inputs
from fiftyone_sfam.runs.maps import PairMaps, SideMaps
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone_sfam.models.wrap import ModelLike

EXAMPLES = 4
"""Most pairs of an outcome that are shown with pictures."""

_WRONG = ("false reject", "false accept")
_ORDER = (
    "Of wrong decisions, the pairs furthest from the threshold are shown; of right "
    "ones, those nearest to it."
)
_MAPS = (
    "Their maps say why: red places speak for acceptance, blue ones against it, and "
    "with the remainders they add up to the similarity minus the threshold. The maps "
    "of an outcome share one range."
)
_NO_MAPS = (
    "Their maps are those of the similarity. Maps of the decision need stored "
    "contributions, or the model of the run: give it to the report."
)


@dataclass(frozen=True)
class DecisionsPart:
    """Accepted and rejected pairs."""

    table: Table  # how many there are of each outcome
    examples: tuple[tuple[str, tuple[PairPicture, ...]], ...]  # by outcome
    notes: tuple[str, ...]  # what the pictures show


def decisions_part(
    run: Run, found: Decisions, images: bool, model: ModelLike | None
) -> DecisionsPart:
    """Show the outcomes of a run, with pictures if they are wanted."""
    table = decisions_table(found)
    chosen = {
        name: pairs for name in DECISIONS if (pairs := examples(run, found, name))
    }
    if not images or not chosen:
        return DecisionsPart(table, (), ())
    shown = [pair for pairs in chosen.values() for pair in pairs]
    maps = stored_maps(run, shown, found.threshold)
    if maps is None and model is not None:
        maps = computed_maps(run, shown, found, model)
    drawn = []
    for name, pairs in chosen.items():
        # Each outcome has a range of its own: near the threshold, maps are weak.
        own = maps and {pair: maps[pair] for pair in pairs}
        pictures = Pictures(run, pairs, maps=own)
        of_pairs = (
            PairPicture(pair, *pictures.of_pair(pair), pair_caption(run, pair), -1)
            for pair in pairs
        )
        drawn.append((name, tuple(of_pairs)))
    notes = (_ORDER, _NO_MAPS if maps is None else _MAPS)
    return DecisionsPart(table, tuple(drawn), notes)


def examples(run: Run, found: Decisions, outcome: str) -> list[int]:
    """Choose pairs of an outcome; of two images only one pair."""
    pairs = found.pairs(outcome)
    distance = np.abs(pair_scores(run)[pairs] - found.threshold)
    order = np.argsort(-distance if outcome in _WRONG else distance, kind="stable")
    chosen: dict[frozenset[int], int] = {}
    for pair in pairs[order].tolist():
        chosen.setdefault(frozenset(_ends(run, pair)), pair)
        if len(chosen) == EXAMPLES:
            break
    return list(chosen.values())


def stored_maps(
    run: Run, pairs: list[int], threshold: float
) -> Mapping[int, PairMaps] | None:
    """Explain decisions by stored contributions; None if the run keeps none."""
    if run.config.contributions is None:
        return None
    ends = {pair: _ends(run, pair) for pair in pairs}
    kept = find_images(run, [item for both in ends.values() for item in both])
    return {
        pair: decision_maps(stored_pair([kept[one] for one in both], run), threshold)
        if kept.keys() >= set(both)
        else PairMaps(None, None)
        for pair, both in ends.items()
    }


def computed_maps(
    run: Run, pairs: list[int], found: Decisions, model: ModelLike
) -> Mapping[int, PairMaps]:
    """Explain decisions by the model of the run."""
    # Only here, since they import torch.
    from fiftyone_sfam.attribution.pair import explain_pair
    from fiftyone_sfam.audit.faithfulness.check import model_of

    loaded = model_of(run, model)
    images = ItemImages(run, {item for pair in pairs for item in _ends(run, pair)})
    similarities = found.similarities(run)
    maps = {}
    for pair in pairs:
        maps[pair] = PairMaps(None, None)
        both = _ends(run, pair)
        try:
            read = [read_part(*images.source(item)) for item in both]
        except DataError:
            continue  # its picture says so
        given = loaded
        if loaded.inputs:
            given = loaded.with_inputs(item_inputs(run, both, loaded.inputs))
        with warnings.catch_warnings():
            # The run has said how much of its scores the maps carry.
            warnings.simplefilter("ignore", SfamWarning)
            explained = explain_pair(given, *read)
        sides = explained.decision(float(similarities[pair]))
        maps[pair] = PairMaps(
            *(
                SideMaps({DECISION: s.evidence}, s.score, math.nan, s.crop, image.size)
                for s, image in zip(sides, read, strict=True)
            )
        )
    return maps


def _ends(run: Run, pair: int) -> tuple[int, int]:
    return int(run.pairs.query[pair]), int(run.pairs.gallery[pair])
