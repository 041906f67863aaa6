"""Maps of a run's pairs that are stored, or made from stored contributions.

Nothing here needs the run's model, and nothing imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from fiftyone_sfam.app.pairs.maps import CONTRAST, EVIDENCE, stored_kinds
from fiftyone_sfam.app.pairs.run_question import items_of
from fiftyone_sfam.runs.contributions import StoredPair, find_images, stored_pair
from fiftyone_sfam.runs.maps import PairMaps, SideMaps
from fiftyone_sfam.runs.run import Run


@lru_cache(maxsize=16)
def pair_maps(run: Run, pairs: tuple[int, ...]) -> tuple[PairMaps, ...]:
    """Read the maps of a query's pairs; evidence that was not stored is added.

    It is made from stored contributions, if the run keeps any.
    """
    stored = run.many_maps(pairs)
    if EVIDENCE in run.config.kinds or EVIDENCE not in stored_kinds(run):
        return tuple(stored)
    sides = [items_of(run, pair) for pair in pairs]
    kept = find_images(run, [item for both in sides for item in both])
    return tuple(
        _with_evidence(maps, stored_pair([kept[item] for item in both], run))
        if kept.keys() >= {*both}
        else maps
        for maps, both in zip(stored, sides, strict=True)
    )


def with_contrast(maps: Sequence[PairMaps], true: int | None) -> list[PairMaps]:
    """Add to each query's side the contrast with the true match at a place."""
    ahead = None if true is None else maps[true].query
    if ahead is None or EVIDENCE not in ahead.maps:
        return list(maps)
    found = list(maps)
    for place, pair in enumerate(maps):
        side = pair.query
        if side is not None and EVIDENCE in side.maps:
            contrast = ahead.maps[EVIDENCE] - side.maps[EVIDENCE]
            side = replace(side, maps={**side.maps, CONTRAST: contrast})
            found[place] = replace(pair, query=side)
    return found


def _with_evidence(maps: PairMaps, pair: StoredPair) -> PairMaps:
    """Add the evidence of both sides of a pair."""
    query, gallery = (
        SideMaps(
            {**(old.maps if old else {}), EVIDENCE: new.evidence},
            *(new.score, new.remainder, new.crop, new.size),
        )
        for old, new in ((maps.query, pair.query), (maps.gallery, pair.gallery))
    )
    return PairMaps(query, gallery)
