"""Maps as the component shows them: their kinds, ranges, bytes, and the receipt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.pairs.encode import encode
from fiftyone_sfam.attribution.render import shared_limit
from fiftyone_sfam.audit.regions.fields import Grid, read_regions, region_fields
from fiftyone_sfam.audit.regions.partitions import Regions, resample, split, stripes
from fiftyone_sfam.data.text import one_line
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.maps import SideMaps
from fiftyone_sfam.runs.run import Run

SFAM, EVIDENCE, CONTRAST, DIFFERENCE, PATH, CHANNEL = (
    "sfam",
    "evidence",
    "contrast",
    "difference",
    "path",
    "channel",
)
"""Kinds of map. The first two may be stored, the contrast is made of stored evidence,
and the others are asked for."""

LIVE = (DIFFERENCE, PATH, CHANNEL)
SIGNED = (CONTRAST, DIFFERENCE)
"""Kinds that mean nothing without their negative values."""

SELECTED_KINDS = (SFAM, EVIDENCE, *LIVE)
"""Kinds of map that two images have without a run."""

Map = NDArray[np.float32]
Plain = dict[str, Any]

_LABELS = {
    SFAM: "SFAM",
    EVIDENCE: "evidence",
    CONTRAST: "contrast with the true match",
    DIFFERENCE: "difference",
    PATH: "path of several scales",
    CHANNEL: "one channel",
}
_UNITS = {
    SFAM: "channel importance times activation",
    EVIDENCE: "similarity per cell",
    CONTRAST: "margin per cell of the query: positive for the true match, negative for "
    "the neighbor",
    DIFFERENCE: "squared distance per cell: positive sets the images apart",
    PATH: "similarity per pixel of the network's input",
}


# --------------------------------------------------------------------------------------
# Kinds
# --------------------------------------------------------------------------------------


def stored_kinds(run: Run) -> tuple[str, ...]:
    """Return the kinds of map that a run has of each image, without its model."""
    kinds = run.config.kinds
    if EVIDENCE in kinds or run.config.contributions is None:
        return kinds
    return (*kinds, EVIDENCE)


def kinds_of(run: Run) -> tuple[str, ...]:
    """Return the kinds of map that can be asked for of a run, stored ones first."""
    kinds = stored_kinds(run)
    labeled = any(identity is not None for identity in run.items.identities)
    derived = (CONTRAST,) if labeled and EVIDENCE in kinds else ()
    return (*kinds, *derived, *LIVE)


def describe_kinds(kinds: Iterable[str]) -> list[Plain]:
    """Describe kinds of map, see ``Kind`` in ``types.ts``."""
    return [
        {
            "name": kind,
            "label": _LABELS.get(kind, kind),
            "signed": kind in SIGNED,
            "live": kind in LIVE,
            "unit": unit_of(kind),
        }
        for kind in kinds
    ]


def unit_of(kind: str, channel: int | None = None) -> str:
    """Say what the values of a kind of map are."""
    if kind == CHANNEL:
        which = "one channel" if channel is None else f"channel {channel}"
        return f"activation of {which}"
    return _UNITS.get(kind, _UNITS[SFAM])


def limit_of(maps: Sequence[Map]) -> dict[str, float]:
    """Return the largest values of maps that are compared, at least a little."""
    positive = shared_limit([np.maximum(values, 0) for values in maps])
    return {"positive": positive, "signed": shared_limit(maps)}


# --------------------------------------------------------------------------------------
# Fewer values
# --------------------------------------------------------------------------------------


def averaged(values: Map, most_cells: int) -> Map:
    """Average a map over larger cells of the same image, if it has more than so many.

    The mean stays the same, so values are still those of one cell of the map before.
    """
    height, width = values.shape
    shape = averaged_shape(height, width, most_cells)
    if shape == (height, width):
        return values
    return resample(values[None], *shape)[0].astype(np.float32)


def averaged_shape(height: int, width: int, most_cells: int) -> tuple[int, int]:
    """Return height and width of a map that is averaged over larger cells."""
    across = block_side(height, width, most_cells)
    return math.ceil(height / across), math.ceil(width / across)


def block_side(height: int, width: int, most_cells: int) -> int:
    """Return how many cells along each axis are one, so that not too many are left."""
    across = 1
    while math.ceil(height / across) * math.ceil(width / across) > most_cells:
        across += 1
    return across


def side_json(
    side: SideMaps | None, most_cells: int, dtype: str = "f2"
) -> Plain | None:
    """Describe one image's maps, see ``Side`` in ``types.ts``.

    A value is off by at most 1/2048 of itself as ``"f2"``, or 3e-8 if it is smaller
    than 6e-5; and by 1/254 of the map's largest value as ``"i1"``.
    """
    if side is None:
        return None
    maps = {
        kind: encode(averaged(values, most_cells), dtype)
        for kind, values in side.maps.items()
    }
    remainder = side.remainder if math.isfinite(side.remainder) else None
    return {"maps": maps, "box": list(side.crop), "remainder": remainder}


# --------------------------------------------------------------------------------------
# Receipt
# --------------------------------------------------------------------------------------

REMAINDER = "not on the map"
OTHER = "other regions"

MOST_REGIONS = 7
"""Regions that are listed on their own; those that carry least are one together."""

_LONGEST_NAME = 60


@dataclass(frozen=True)
class Share:
    """A part of a similarity, as the receipt lists it."""

    name: str  # region of the image, or what no region carries
    value: float  # in units of the similarity
    area: float  # share of the map's area, 0 for what no region carries
    remainder: bool = False

    def to_json(self) -> Plain:
        """Return it as plain data."""
        # Ten regions that are off by 5e-9 still add up to what is shown.
        return {**asdict(self), "value": round(self.value, 8)}


def thirds_receipt(evidence: Map, score: float) -> tuple[Share, ...]:
    """Split a similarity by horizontal thirds of the image."""
    return _receipt(evidence, score, stripes(*evidence.shape))


def item_regions(
    run: Run, item: int, sides: Iterable[SideMaps | None], field: str | None
) -> Regions | None:
    """Divide an image into regions on the grid of its maps; None if it has no maps.

    Raises a DataError if the field does not divide the image.
    """
    side = next((one for one in sides if one and EVIDENCE in one.maps), None)
    if side is None:
        return None
    grid = Grid.of(side)
    if field is None:
        return stripes(grid.height, grid.width)
    if field not in region_fields(run):
        raise DataError(
            f"the field '{field}' no longer divides images into regions; choose "
            "another."
        )
    found = read_regions(run, {item: grid}, field)
    if item not in found.regions:
        raise DataError(
            f"this image has no regions in the field '{field}': {found.missing[item]}"
        )
    return found.regions[item]


def receipt(
    side: SideMaps | None, score: float, regions: Regions | None
) -> tuple[Share, ...]:
    """Split the similarity of a pair by regions of the query; empty without maps."""
    if side is None or regions is None or EVIDENCE not in side.maps:
        return ()
    return _receipt(side.maps[EVIDENCE], score, regions)


def _receipt(evidence: Map, score: float, regions: Regions) -> tuple[Share, ...]:
    """Split a score by regions, those that carry least in one."""
    parts = [
        Share(one_line(name, _LONGEST_NAME), float(value), float(area))
        for name, value, area in zip(
            regions.names, split(evidence, regions), regions.area, strict=True
        )
    ]
    if len(parts) > MOST_REGIONS:
        by_weight = sorted(
            range(len(parts)), key=lambda place: -abs(parts[place].value)
        )
        listed = set(by_weight[: MOST_REGIONS - 1])
        others = [part for place, part in enumerate(parts) if place not in listed]
        parts = [part for place, part in enumerate(parts) if place in listed]
        parts.append(
            Share(
                OTHER,
                sum(part.value for part in others),
                sum(part.area for part in others),
            )
        )
    # What the stored bits do not add up to belongs to the remainder as well.
    total = sum(part.value for part in parts)
    return (*parts, Share(REMAINDER, score - total, 0.0, remainder=True))


def limits_of(sides: Iterable[SideMaps | None]) -> dict[str, dict[str, float]]:
    """Return the limit of each kind of map over sides that are compared."""
    maps: dict[str, list[Map]] = {}
    for side in sides:
        for kind, values in side.maps.items() if side else ():
            maps.setdefault(kind, []).append(values)
    return {kind: limit_of(values) for kind, values in maps.items()}
