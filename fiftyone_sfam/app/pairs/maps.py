"""The maps of a query's pairs, of any kind, with one range for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.pairs.style import as_label
from fiftyone_sfam.attribution.render import shared_limit
from fiftyone_sfam.audit.regions.fields import Grid, read_regions, region_fields
from fiftyone_sfam.audit.regions.partitions import Regions, split, stripes
from fiftyone_sfam.data.text import percent
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import PairMaps, Run, SideMaps

if TYPE_CHECKING:
    from fiftyone_sfam.app.pairs.live_maps import LivePairs

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
Box = tuple[float, float, float, float]


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


@dataclass(frozen=True)
class MapSide:
    """A map and where it lies on its image."""

    values: Map
    crop: Box


@dataclass(frozen=True)
class ShownMaps:
    """The maps of a query's pairs."""

    query: tuple[MapSide | None, ...]  # both sides of each pair
    neighbors: tuple[MapSide | None, ...]  # both sides of each pair
    limit: float  # value that is shown at full strength, the same for all
    signed: bool  # whether negative values are shown
    unit: str  # what the values are, in words


@dataclass(frozen=True)
class Live:
    """The model's view of a query and some of its neighbors."""

    pairs: LivePairs  # what it was run on
    places: Mapping[int, int]


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
    kind = wanted.kind
    if kind == CONTRAST:
        if true is None:
            raise DataError(
                "This query has no true match to contrast its neighbors with: choose "
                "another map."
            )
        sides = [_contrast(one, pairs[true]) for one in pairs]
    else:
        sides = [_stored(one, kind) for one in pairs]
    return _shown(sides, ranged, wanted, signed)


def live_maps(
    live: Live, count: int, chosen: int, wanted: Wanted, signed: bool
) -> ShownMaps:
    """Compute maps with the model."""
    query, neighbors = _computed(live.pairs, live.places.get(chosen), wanted)
    crops = live.pairs.crops
    sides: list[_Sides] = []
    for place in range(count):
        found = live.places.get(place)
        if found is None:
            sides.append((None, None))
            continue
        one, other = query.get(found), neighbors.get(found)
        sides.append(
            (
                None if one is None else MapSide(one, crops[0]),
                None if other is None else MapSide(other, crops[found + 1]),
            )
        )
    return _shown(sides, range(count), wanted, signed)


def no_maps(count: int, wanted: Wanted, signed: bool) -> ShownMaps:
    """Return what is shown of a kind of map that there is not."""
    return _shown([(None, None)] * count, (), wanted, signed)


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------

_Sides = tuple[MapSide | None, MapSide | None]


def _stored(maps: PairMaps, kind: str) -> _Sides:
    one, other = (
        None if side is None else MapSide(side.maps[kind], side.crop)
        for side in (maps.query, maps.gallery)
    )
    return one, other


def _contrast(maps: PairMaps, true: PairMaps) -> _Sides:
    """Contrast a pair with the query's true match, which is a map of the query."""
    if maps.query is None or true.query is None:
        return None, None
    ahead = true.query.maps[EVIDENCE] - maps.query.maps[EVIDENCE]
    return MapSide(ahead, maps.query.crop), None


def _computed(
    pairs: LivePairs, chosen: int | None, wanted: Wanted
) -> tuple[dict[int, Map], dict[int, Map]]:
    """Compute maps of the query and of the neighbors, by neighbor."""
    everyone = range(pairs.count)
    if wanted.kind == POINT:
        spot = wanted.spot
        if spot is None:
            return {}, {}
        if spot.side == QUERY:
            found = pairs.point_of_query(spot.row, spot.column)
            return {}, dict(zip(everyone, found, strict=True))
        if chosen is None:
            return {}, {}
        return {chosen: pairs.point_of_neighbor(chosen, spot.row, spot.column)}, {}
    if wanted.kind == CHANNEL:
        own, others = pairs.channel(wanted.channel or 0)
        return dict.fromkeys(everyone, own), dict(zip(everyone, others, strict=True))
    if wanted.kind == DIFFERENCE:
        one, other = pairs.difference()
    else:
        one, other = pairs.sides(wanted.kind)
    return dict(zip(everyone, one, strict=True)), dict(
        zip(everyone, other, strict=True)
    )


def _shown(
    sides: Sequence[_Sides], ranged: Iterable[int], wanted: Wanted, signed: bool
) -> ShownMaps:
    """Find the range of maps."""
    values = [side.values for place in ranged for side in sides[place] if side]
    # Most layers have no negative activations; of one that has, all is shown.
    negative = wanted.kind == CHANNEL and any(one.min() < 0 for one in values)
    signed = signed or wanted.kind in SIGNED or negative
    return ShownMaps(
        tuple(one for one, _ in sides),
        tuple(other for _, other in sides),
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


COLORS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#f0e442",
)
"""The Okabe-Ito palette, which the color-blind can tell apart."""

REMAINDER, REMAINDER_COLOR = "not on the map", "#999999"
OTHER = "other regions"

MOST_REGIONS = len(COLORS)
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


def receipt_bars(shares: Sequence[Share]) -> list[dict[str, Any]]:
    """Draw the parts of a similarity one behind the other."""
    return [
        {
            "type": "bar",
            "orientation": "h",
            "x": [share.value],
            "y": [""],
            "name": as_label(share.name),
            "marker": {"color": color},
            "hovertemplate": _hover(share),
        }
        for share, color in zip(shares, share_colors(shares), strict=True)
    ]


def share_colors(shares: Sequence[Share]) -> tuple[str, ...]:
    """Return the colors of the parts; what no region carries is gray."""
    return (*COLORS[: len(shares) - 1], REMAINDER_COLOR) if shares else ()


def share_text(share: Share) -> str:
    """Say what a part is worth, and how much of the area it has."""
    area = f" ({percent(share.area, 0)} of the area)" if share.area else ""
    # No minus in front of what is nothing.
    return f"{round(share.value, 3) + 0.0:+.3f}{area}"


def receipt_layout() -> dict[str, Any]:
    """Return the Plotly layout of the bars."""
    return {
        "barmode": "relative",
        "showlegend": False,
        "xaxis": {"zeroline": True, "fixedrange": True, "nticks": 8},
        "yaxis": {"visible": False, "fixedrange": True},
        "margin": {"l": 8, "r": 8, "t": 4, "b": 24},
        "bargap": 0.2,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }


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


def _hover(share: Share) -> str:
    """Return what Plotly shows beside the pointer."""
    area = f"<br>{percent(share.area, 0)} of the area" if share.area else ""
    return f"{as_label(share.name)}: {share.value:+.4f}{area}<extra></extra>"
