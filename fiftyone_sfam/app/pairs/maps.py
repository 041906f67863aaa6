"""The maps of a query's pairs, of any kind, with one range for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.render import shared_limit
from fiftyone_sfam.audit.regions.fields import Grid, read_regions, region_fields
from fiftyone_sfam.audit.regions.partitions import Regions, split, stripes
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.maps import PairMaps, SideMaps
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone_sfam.app.pairs.live import LivePairs

EVIDENCE, CONTRAST, DIFFERENCE, POINT, CHANNEL = (
    "evidence",
    "contrast",
    "difference",
    "point",
    "channel",
)
"""Kinds of map. The first may be stored, a contrast is made of stored maps, and the
others are computed by the model when they are looked at."""

LIVE = (DIFFERENCE, POINT, CHANNEL)
SIGNED = (CONTRAST, DIFFERENCE)
"""Kinds that mean nothing without their negative values."""

SideName = Literal["query", "neighbor"]
QUERY: SideName = "query"
NEIGHBOR: SideName = "neighbor"
Map = NDArray[np.float32]

CLICK_NOTE = (
    "Click a place on either image: the other one shows what the place is matched with."
)
NO_PAIR = PairMaps(None, None)


@dataclass(frozen=True)
class Spot:
    """A place of an image that was clicked."""

    side: SideName  # the image
    row: int  # place in its map
    column: int  # place in its map


@dataclass(frozen=True)
class Wanted:
    """Which map is to be shown."""

    kind: str  # one of :func:`kinds_of`, or channel
    spot: Spot | None = None  # place that a point map is of
    channel: int | None = None  # channel whose activation is shown

    @property
    def needs_click(self) -> bool:
        """Whether the map depends on a place that was not clicked yet."""
        return self.kind == POINT and self.spot is None


@dataclass(frozen=True)
class ShownMaps:
    """The maps of a query's pairs that are drawn, all of one kind."""

    pairs: tuple[PairMaps, ...]  # None where nothing is drawn
    kind: str  # kind of the maps that are drawn
    limit: float  # value that is shown at full strength, the same for all
    signed: bool  # whether negative values are shown
    unit: str  # what the values are, in words


def kinds_of(run: Run) -> tuple[str, ...]:
    """Return the kinds of map that can be asked for of a run, stored ones first."""
    labeled = any(identity is not None for identity in run.items.identities)
    derived = (CONTRAST,) if labeled and EVIDENCE in run.config.kinds else ()
    return (*run.config.kinds, *derived, DIFFERENCE, POINT)


def stored_maps(
    pairs: Sequence[PairMaps],
    ranged: Iterable[int],
    wanted: Wanted,
    signed: bool,
    true: int | None,
) -> ShownMaps:
    """Take maps from what a run has stored."""
    if wanted.kind == CONTRAST:
        if true is None:
            raise DataError(
                "This query has no true match to contrast its neighbors with: choose "
                "another map."
            )
        pairs = [_contrast(pair, pairs[true]) for pair in pairs]
    return _shown(pairs, ranged, wanted, signed)


def live_maps(
    live: LivePairs,
    places: Mapping[int, int],
    count: int,
    chosen: int,
    wanted: Wanted,
    signed: bool,
) -> ShownMaps:
    """Compute maps with the model, which ran on the neighbors at some of the places."""
    computed = _computed(live, places.get(chosen), wanted)
    pairs = [
        NO_PAIR if place not in places else computed[places[place]]
        for place in range(count)
    ]
    return _shown(pairs, range(count), wanted, signed)


def no_maps(count: int, wanted: Wanted, signed: bool) -> ShownMaps:
    """Return what is shown of a kind of map that there is not."""
    return _shown([NO_PAIR] * count, (), wanted, signed)


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def _contrast(maps: PairMaps, true: PairMaps) -> PairMaps:
    """Contrast a pair with the query's true match, which is a map of the query."""
    if maps.query is None or true.query is None:
        return NO_PAIR
    ahead = true.query.maps[EVIDENCE] - maps.query.maps[EVIDENCE]
    return PairMaps(replace(maps.query, maps={CONTRAST: ahead}), None)


def _computed(live: LivePairs, chosen: int | None, wanted: Wanted) -> list[PairMaps]:
    """Compute the maps of the query and of each neighbor."""
    kind, spot = wanted.kind, wanted.spot
    query: list[Map | None] = [None] * live.count
    neighbors: Sequence[Map | None] = [None] * live.count
    if kind == POINT:
        if spot is not None and spot.side == QUERY:
            neighbors = live.point_of_query(spot.row, spot.column)
        elif spot is not None and chosen is not None:
            query[chosen] = live.point_of_neighbor(chosen, spot.row, spot.column)
    elif kind == CHANNEL:
        activation, neighbors = live.channel(wanted.channel or 0)
        query = [activation] * live.count
    elif kind == DIFFERENCE:
        differences, neighbors = live.difference()
        query = list(differences)
    else:
        return [PairMaps(*sides) for sides in live.explained()]
    return [
        PairMaps(
            None if first is None else live.side(0, number, {kind: first}),
            None if second is None else live.side(number + 1, number, {kind: second}),
        )
        for number, (first, second) in enumerate(zip(query, neighbors, strict=True))
    ]


def _shown(
    pairs: Sequence[PairMaps], ranged: Iterable[int], wanted: Wanted, signed: bool
) -> ShownMaps:
    """Find the range of maps."""
    values = [
        side.maps[wanted.kind]
        for place in ranged
        for side in (pairs[place].query, pairs[place].gallery)
        if side
    ]
    # Most layers have no negative activations; of one that has, all is shown.
    negative = wanted.kind == CHANNEL and any(one.min() < 0 for one in values)
    signed = signed or wanted.kind in SIGNED or negative
    return ShownMaps(
        tuple(pairs),
        wanted.kind,
        shared_limit(values if signed else [np.maximum(one, 0) for one in values]),
        signed,
        unit_of(wanted),
    )


def unit_of(wanted: Wanted) -> str:
    """Say what the values of a kind of map are."""
    if wanted.kind == CHANNEL:
        return f"activation of channel {wanted.channel}"
    return {
        EVIDENCE: "similarity per cell",
        CONTRAST: "margin per cell of the query: positive for the true match, negative "
        "for the neighbor",
        DIFFERENCE: "squared distance per cell: positive sets the images apart",
        POINT: "similarity per cell, with the marked place",
    }.get(wanted.kind, "channel importance times activation")


REMAINDER = "not on the map"
OTHER = "other regions"

MOST_REGIONS = 7
"""Regions that are listed on their own; those that carry least are one together."""


@dataclass(frozen=True)
class Share:
    """A part of a similarity, as the receipt lists it."""

    name: str  # region of the image, or what no region carries
    value: float  # in units of the similarity
    area: float  # share of the map's area, 0 for what no region carries


def thirds_receipt(evidence: NDArray[np.float32], score: float) -> tuple[Share, ...]:
    """Split a similarity by horizontal thirds of the image."""
    return _receipt(evidence, score, stripes(*evidence.shape))


def item_receipt(
    run: Run, item: int, side: SideMaps | None, field: str | None
) -> tuple[Share, ...]:
    """Split the similarity of one side of a stored pair by regions of its image."""
    if side is None or "evidence" not in side.maps:
        return ()
    evidence = side.maps["evidence"]
    if field is None:
        return thirds_receipt(evidence, side.score)
    if field not in region_fields(run):
        raise DataError(
            f"the field '{field}' divides images into regions no more; choose another."
        )
    found = read_regions(run, {item: Grid.of(side)}, field)
    if item not in found.regions:
        raise DataError(
            f"this image has no regions in the field '{field}': {found.missing[item]}"
        )
    return _receipt(evidence, side.score, found.regions[item])


def _receipt(
    evidence: NDArray[np.float32], score: float, regions: Regions
) -> tuple[Share, ...]:
    """Split a score by regions, those that carry least in one."""
    parts = [
        Share(name, float(value), float(area))
        for name, value, area in zip(
            regions.names, split(evidence, regions), regions.area, strict=True
        )
    ]
    if len(parts) > MOST_REGIONS:
        by_weight = sorted(parts, key=lambda part: abs(part.value), reverse=True)
        kept = {part.name for part in by_weight[: MOST_REGIONS - 1]}
        others = [part for part in parts if part.name not in kept]
        parts = [part for part in parts if part.name in kept]
        parts.append(
            Share(
                OTHER,
                sum(part.value for part in others),
                sum(part.area for part in others),
            )
        )
    # What the stored bits do not add up to belongs to the remainder as well.
    total = sum(part.value for part in parts)
    return (*parts, Share(REMAINDER, score - total, 0.0))
