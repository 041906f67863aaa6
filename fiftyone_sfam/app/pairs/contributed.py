"""Maps of a run's pairs that are stored, or made from stored contributions.

Nothing here needs the run's model, and nothing imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from fiftyone_sfam.app.pairs.maps import (
    CONTRAST,
    DIFFERENCE,
    EVIDENCE,
    Map,
    stored_kinds,
)
from fiftyone_sfam.app.pairs.run_question import items_of
from fiftyone_sfam.runs.contributions import (
    KeptImage,
    StoredPair,
    StoredSide,
    find_images,
    stored_pair,
)
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
        _with_evidence(maps, kept_pair(run, *both, kept))
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


def kept_pair(
    run: Run | None, query: int, gallery: int, kept: Mapping[int, KeptImage]
) -> StoredPair | None:
    """Explain two items from contributions; None without those of both."""
    if run is None or query not in kept or gallery not in kept:
        return None
    return stored_pair([kept[query], kept[gallery]], run)


def evidence_of(pair: StoredPair) -> PairMaps:
    """Return the evidence maps of two images."""
    sides = (pair.query, pair.gallery)
    return PairMaps(*(_side(side, EVIDENCE, side.evidence) for side in sides))


def difference_of(pair: StoredPair) -> PairMaps:
    """Return the difference maps of two images; positive sets them apart."""
    query, gallery = pair.difference()
    return PairMaps(
        _side(query, DIFFERENCE, query.evidence),
        _side(gallery, DIFFERENCE, -gallery.evidence),
    )


def _side(stored: StoredSide, kind: str, values: Map) -> SideMaps:
    # What remains of a difference is not of the similarity.
    remainder = stored.remainder if kind == EVIDENCE else math.nan
    return SideMaps({kind: values}, stored.score, remainder, stored.crop, stored.size)


def _with_evidence(maps: PairMaps, pair: StoredPair | None) -> PairMaps:
    """Add the evidence of both sides of a pair."""
    if pair is None:
        return maps
    made = evidence_of(pair)
    sides = ((maps.query, made.query), (maps.gallery, made.gallery))
    return PairMaps(
        *(
            replace(new, maps=old.maps | new.maps) if old and new else new
            for old, new in sides
        )
    )
