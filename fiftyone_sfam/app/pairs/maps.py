"""Maps as the component shows them: their kinds, ranges, bytes, and the receipt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.pairs.encode import encode
from fiftyone_sfam.attribution.render import shared_limit
from fiftyone_sfam.audit.comparison.result import compared_keys
from fiftyone_sfam.audit.decisions import DECISION, stored_threshold
from fiftyone_sfam.audit.regions.partitions import Regions, resample, split
from fiftyone_sfam.data.text import one_line
from fiftyone_sfam.runs.map_check import MapCheck
from fiftyone_sfam.runs.maps import PairMaps, SideMaps
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import PATH, PATH_KINDS, SCALES

SFAM, EVIDENCE, CONTRAST = "sfam", "evidence", "contrast"
"""Kinds of map: two that may be stored, and one that is made of stored evidence."""

DIFFERENCE, CHANNEL = "difference", "channel"
"""Kinds of map that are asked for, beside that of a decision."""

COMPARED = "compared:"
"""Begins the kinds of map that other runs have of a pair; the key of a run follows."""

LIVE = (DECISION, DIFFERENCE, SCALES, CHANNEL)
"""Kinds that the model computes of pairs whose maps the run has not stored."""

SIGNED = (CONTRAST, DECISION, DIFFERENCE)
"""Kinds that mean nothing without their negative values."""

Map = NDArray[np.float32]
Plain = dict[str, Any]

# Label and unit of each kind.
_TEXTS = {
    SFAM: ("SFAM", "channel importance times activation"),
    EVIDENCE: ("evidence", "similarity per cell"),
    CONTRAST: (
        "contrast with the true match",
        "margin per cell of the query: positive for the true match, negative for the "
        "neighbor",
    ),
    DECISION: (
        "decision at the threshold",
        "similarity above the threshold per cell: positive speaks for acceptance, "
        "negative for rejection",
    ),
    DIFFERENCE: (
        "difference",
        "squared distance per cell: positive sets the images apart",
    ),
    PATH: ("path", "similarity per pixel of the network's input"),
    SCALES: ("path of several scales", "similarity per pixel of the network's input"),
    CHANNEL: ("one channel", "activation of one channel"),
}


def stored_kinds(run: Run) -> tuple[str, ...]:
    """Return the kinds of map that a run has of each image, without its model."""
    kinds = run.config.kinds
    if EVIDENCE in kinds or run.config.contributions is None:
        return kinds
    return (*kinds, EVIDENCE)


def kinds_of(run: Run, contrast: bool) -> tuple[str, ...]:
    """Return the kinds of map that can be asked for of a query, stored ones first."""
    kinds = stored_kinds(run)
    derived = (CONTRAST,) if contrast and EVIDENCE in kinds else ()
    live = (kind for kind in live_kinds(run) if kind not in kinds)
    others = (COMPARED + key for key in compared_keys(run))
    return (*kinds, *derived, *live, *others)


def live_kinds(run: Run | None) -> tuple[str, ...]:
    """Return the kinds that are computed; that of the decision needs a threshold."""
    decided = run is not None and stored_threshold(run) is not None
    return LIVE if decided else tuple(kind for kind in LIVE if kind != DECISION)


def describe_kinds(kinds: Iterable[str], check: MapCheck | None = None) -> list[Plain]:
    """Describe kinds of map, see ``Kind`` in ``types.ts``.

    The unit, which is shown beside the colors, says which kinds of map the check of the
    run has found no better than a blob.
    """
    notes = check.note_of if check is not None else lambda kind: ""
    return [
        {
            "name": kind,
            "label": text,
            "signed": kind in SIGNED,
            "live": kind in LIVE or kind.startswith(COMPARED),
            "unit": f"{unit}; {notes(kind)}" if notes(kind) else unit,
        }
        for kind in kinds
        for text, unit in [_texts(kind)]
    ]


def _texts(kind: str) -> tuple[str, str]:
    """Return label and unit of a kind."""
    if kind.startswith(COMPARED):
        return f"evidence in '{kind.removeprefix(COMPARED)}'", _TEXTS[EVIDENCE][1]
    return _TEXTS[kind]


def limit_of(maps: Sequence[Map]) -> dict[str, float]:
    """Return the largest values of maps that are compared, at least a little."""
    positive = shared_limit([np.maximum(values, 0) for values in maps])
    return {"positive": positive, "signed": shared_limit(maps)}


def limits_of(pairs: Iterable[PairMaps]) -> dict[str, dict[str, float]]:
    """Return the limit of each kind of map over pairs that are compared."""
    maps: dict[str, list[Map]] = {}
    for pair in pairs:
        for side in (pair.query, pair.gallery):
            for kind, values in side.maps.items() if side else ():
                maps.setdefault(kind, []).append(values)
    return {
        kind: limit_of(typical(values) if kind in PATH_KINDS else values)
        for kind, values in maps.items()
    }


def typical(maps: Sequence[Map]) -> list[Map]:
    """Cut maps of pixels at the value that one pixel in a hundred exceeds.

    A few pixels at edges would make all others too weak to be seen.
    """
    if not maps:
        return []
    most = float(
        np.percentile(np.abs(np.concatenate([one.ravel() for one in maps])), 99)
    )
    return [np.clip(one, -most, most) for one in maps]


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
    return {"maps": maps, "box": list(side.crop)}


REMAINDER = "not on the map"
OTHER = "other regions"

MOST_REGIONS = 7
"""Regions that are listed on their own; those that carry least are one together."""

_LONGEST_NAME = 60


def receipt(
    side: SideMaps | None, score: float, regions: Regions | None
) -> list[Plain]:
    """Split the similarity of a pair by regions of the query; empty without maps.

    Each is a ``Share`` of ``types.ts``. Those that carry least of many are one share.
    """
    if side is None or regions is None or EVIDENCE not in side.maps:
        return []
    names = [one_line(name, _LONGEST_NAME) for name in regions.names]
    values, areas = split(side.maps[EVIDENCE], regions), regions.area
    if len(names) > MOST_REGIONS:
        order = np.argsort(-np.abs(values), kind="stable")
        listed, others = np.sort(order[: MOST_REGIONS - 1]), order[MOST_REGIONS - 1 :]
        names = [*(names[place] for place in listed), OTHER]
        values = np.append(values[listed], values[others].sum())
        areas = np.append(areas[listed], areas[others].sum())
    # What the stored bits do not add up to belongs to the remainder as well.
    names.append(REMAINDER)
    values, areas = np.append(values, score - values.sum()), np.append(areas, 0.0)
    return [
        {
            "name": name,
            # Ten regions that are off by 5e-9 still add up to what is shown.
            "value": round(float(values[place]), 8),
            "area": float(areas[place]),
            "remainder": place == len(names) - 1,
        }
        for place, name in enumerate(names)
    ]
