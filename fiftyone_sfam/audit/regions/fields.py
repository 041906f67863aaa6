"""Regions of a run's images, from what a dataset says of them.

Masks, boxes and points are relative to the upright image, as the App draws them: a mask
of another size than its image is stretched over it, and an orientation that is stored
in a mask's file is not applied. The maps of a run lie on what the network saw: a crop
of the image, or of a detection in it. The regions are taken through the same crop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.regions.labels import Grid, LabelSource, label_type
from fiftyone_sfam.audit.regions.partitions import Regions, stripes
from fiftyone_sfam.data.images import load_in_background
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_table import shard_name

STRIPES = 3

_WORKERS = 4
_AT_ONCE = 256


@dataclass(frozen=True)
class RegionSet:
    """The regions of some items."""

    regions: dict[int, Regions]  # by item
    missing: dict[int, str]  # the items without regions, and why


def region_fields(run: Run) -> list[str]:
    """List the fields that can divide the images of a run into regions.

    Only the dataset's schema is looked at.
    """
    found = [
        (rank, name)
        for name in run.dataset.get_field_schema()
        if (rank := _rank(run, name)) is not None
    ]
    return [name for _, name in sorted(found, key=lambda one: one[0])]


def regions_of(
    run: Run, items: Iterable[int], field: str | None = None, count: int = STRIPES
) -> dict[int, Regions]:
    """Divide images of a run into regions."""
    grids = map_grids(run, items)
    return read_regions(run, grids, field, count).regions


def map_grids(run: Run, items: Iterable[int]) -> dict[int, Grid]:
    """Read where the maps of items lie."""
    wanted = np.unique(np.fromiter(items, dtype=np.int64))
    grids: dict[int, Grid] = {}
    for number in run.plan.shards_of(wanted):
        found = shard_grids(run, int(number), run.store.get(shard_name(int(number))))
        grids |= {item: grid for item, grid in found.items() if item in wanted}
    return grids


def shard_grids(
    run: Run, number: int, shard: Mapping[str, NDArray[Any]]
) -> dict[int, Grid]:
    """Tell where the maps of a shard's images lie."""
    height, width = run.config.map_shape[1:]
    grids = {}
    for place, item in enumerate(run.plan.images_of(number)):
        left, top, right, bottom = (float(value) for value in shard["crop"][place])
        size = (int(shard["size"][place][0]), int(shard["size"][place][1]))
        if min(size) > 0:
            grids[int(item)] = Grid(height, width, (left, top, right, bottom), size)
    return grids


def read_regions(
    run: Run,
    grids: Mapping[int, Grid],
    field: str | None = None,
    count: int = STRIPES,
) -> RegionSet:
    """Divide images into regions, and say of which that was not possible."""
    if field is None:
        shapes = {(grid.height, grid.width) for grid in grids.values()}
        by_shape = {shape: stripes(*shape, count) for shape in shapes}
        return RegionSet(
            {item: by_shape[one.height, one.width] for item, one in grids.items()}, {}
        )
    check_region_field(run, field)
    regions: dict[int, Regions] = {}
    missing: dict[int, str] = {}
    items = list(grids)
    for start in range(0, len(items), _AT_ONCE):
        chosen = items[start : start + _AT_ONCE]
        source = LabelSource(run, field, chosen)

        def load(place: int, source: LabelSource = source) -> Regions:
            item = items[place]
            return source.regions(item, grids[item])

        places = range(start, start + len(chosen))
        workers = _WORKERS if source.has_files else 0
        for one in load_in_background(places, load, workers):
            if one.value is None:
                missing[items[one.index]] = str(one.reason)
            else:
                regions[items[one.index]] = one.value
    return RegionSet(regions, missing)


def check_region_field(run: Run, field: str | None) -> None:
    """Refuse a field that cannot divide images into regions."""
    if field is None or _rank(run, field) is not None:
        return
    known = ", ".join(f"'{name}'" for name in region_fields(run)) or "none"
    raise DataError(
        f"'{run.dataset.name}' has no field '{field}' of masks, detections or "
        f"keypoints (fields that can be used: {known}); name one of them, or none to "
        "divide images into stripes."
    )


def _rank(run: Run, field: str) -> int | None:
    """Rank a field by how well it divides images; None if it does not."""
    document = label_type(run, field)
    if document is fo.Segmentation:
        return 0
    if document in (fo.Detections, fo.Detection):
        return 1 if field == run.config.patches_field else 2
    if document in (fo.Keypoints, fo.Keypoint):
        return 3
    return None
