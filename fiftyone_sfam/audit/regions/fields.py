"""Regions of a run's images, from the labels of a dataset.

Masks, boxes and points are relative to the upright image, as the App draws them: a mask
of another size than its image is stretched over it, and an orientation stored in the
mask's file is not applied. The maps of a run cover what the network saw: a crop of the
image, or of a detection in it. The regions are cropped in the same way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.render import inner_box
from fiftyone_sfam.audit.regions.partitions import (
    BACKGROUND,
    WHOLE,
    Box,
    Regions,
    from_classes,
    from_covers,
    nearest_points,
    resample,
    stripes,
)
from fiftyone_sfam.data.images import BROKEN, load_in_background, pixel_box
from fiftyone_sfam.data.items import all_samples, detection_boxes
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.maps import SideMaps
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import PATH_KINDS
from fiftyone_sfam.runs.run_table import shard_name

STRIPES = 3

FOREGROUND = "foreground"
"""Name of the masked area if the dataset has no names for mask values."""

_WORKERS = 4
# Images whose labels are in memory at once.
_BATCH_SIZE = 256
# Subdivisions per side of a cell, to resolve overlapping detections.
_FINE = 4


@dataclass(frozen=True)
class Grid:
    """Size and position of an item's maps."""

    height: int  # cells
    width: int  # cells
    crop: tuple[float, float, float, float]
    size: tuple[int, int]  # width and height of the whole image, in pixels

    @classmethod
    def of(cls, side: SideMaps) -> Grid:
        """Return the grid of the stored maps of a pair's side."""
        # Maps along paths have the grid of the pixels.
        kind = next(kind for kind in side.maps if kind not in PATH_KINDS)
        height, width = side.maps[kind].shape
        return cls(height, width, side.crop, side.size)


@dataclass(frozen=True)
class RegionSet:
    """The regions of some items."""

    regions: dict[int, Regions]  # by item
    missing: dict[int, str]  # reason for each item without regions


def region_fields(run: Run) -> list[str]:
    """List the fields of the schema that can divide images into regions, best first."""
    ranks = {name: _rank(run, name) for name in run.dataset.get_field_schema()}
    usable = {name: rank for name, rank in ranks.items() if rank is not None}
    return sorted(usable, key=lambda name: usable[name])


def regions_of(
    run: Run, items: Iterable[int], field: str | None = None, count: int = STRIPES
) -> dict[int, Regions]:
    """Divide images of a run into regions."""
    grids = map_grids(run, items)
    return read_regions(run, grids, field, count).regions


def map_grids(run: Run, items: Iterable[int]) -> dict[int, Grid]:
    """Read the grids of items from their shards."""
    wanted = np.unique(np.fromiter(items, dtype=np.int64))
    grids: dict[int, Grid] = {}
    for number in run.plan.shards_of(wanted).tolist():
        in_shard = shard_grids(run, number, run.store.get(shard_name(number)))
        grids |= {item: grid for item, grid in in_shard.items() if item in wanted}
    return grids


def shard_grids(
    run: Run, number: int, shard: Mapping[str, NDArray[Any]]
) -> dict[int, Grid]:
    """Return the grids of a shard's images; broken images have none."""
    height, width = run.config.map_shape[1:]
    images = run.plan.images_of(number).tolist()
    crops, sizes = shard["crop"].tolist(), shard["size"].tolist()
    return {
        item: Grid(height, width, tuple(crop), tuple(size))
        for item, crop, size in zip(images, crops, sizes, strict=True)
        if min(size) > 0
    }


def read_regions(
    run: Run,
    grids: Mapping[int, Grid],
    field: str | None = None,
    count: int = STRIPES,
) -> RegionSet:
    """Divide images into regions; images that cannot be divided are ``missing``."""
    if field is None:
        shapes = {item: (grid.height, grid.width) for item, grid in grids.items()}
        by_shape = {shape: stripes(*shape, count) for shape in set(shapes.values())}
        return RegionSet({item: by_shape[shape] for item, shape in shapes.items()}, {})
    check_region_field(run, field)
    regions: dict[int, Regions] = {}
    missing: dict[int, str] = {}
    items = list(grids)
    for start in range(0, len(items), _BATCH_SIZE):
        batch = items[start : start + _BATCH_SIZE]
        source = LabelSource(run, field, batch)

        def load(item: int, source: LabelSource = source) -> Regions:
            return source.regions(item, grids[item])

        workers = _WORKERS if source.has_files else 0
        for loaded in load_in_background(batch, load, workers):
            if loaded.value is None:
                missing[loaded.index] = str(loaded.reason)
            else:
                regions[loaded.index] = loaded.value
    return RegionSet(regions, missing)


def check_region_field(run: Run, field: str | None) -> None:
    """Raise if a field cannot divide images into regions."""
    if field is None or _rank(run, field) is not None:
        return
    known = ", ".join(f"'{name}'" for name in region_fields(run)) or "none"
    raise DataError(
        f"'{run.dataset.name}' has no field '{field}' of masks, detections or "
        f"keypoints; use one of these fields: {known}, or no field to divide images "
        "into stripes."
    )


def _rank(run: Run, field: str) -> int | None:
    """Rank a field by how well it divides images; None if it cannot."""
    document = label_type(run, field)
    if document is fo.Segmentation:
        return 0
    if document in (fo.Detections, fo.Detection):
        return 1 if field == run.config.patches_field else 2
    if document in (fo.Keypoints, fo.Keypoint):
        return 3
    return None


# --------------------------------------------------------------------------------------
# Reading labels
# --------------------------------------------------------------------------------------


def label_type(run: Run, field: str) -> type | None:
    """Return the type of label that a field holds."""
    document: type | None = getattr(run.dataset.get_field(field), "document_type", None)
    return document


class LabelSource:
    """The labels of some items, read from the database in one query."""

    def __init__(self, run: Run, field: str, items: Sequence[int]) -> None:
        self._run = run
        self._field = field
        sample_ids = sorted({str(run.items.sample_ids[item]) for item in items})
        self._view = all_samples(run.dataset).select(sample_ids)
        self._ids: list[str] = self._view.values("id")
        self._boxes = detection_boxes(self._view, run.config.patches_field)
        document = label_type(run, field)
        self._divide: Callable[[int, Any, Grid, Box], Regions]
        if document is fo.Segmentation:
            self._targets = _targets(run.dataset, field)
            self._rows = self._columns(field, ("mask", "mask_path"))
            self._divide = self._from_segmentation
        elif document in (fo.Detections, fo.Detection):
            columns = ("id", "label", "bounding_box", "mask", "mask_path")
            self._rows = self._labels("detections", document is fo.Detections, columns)
            self._divide = self._from_detections
        else:
            names = ("label", "points")
            self._rows = self._labels("keypoints", document is fo.Keypoints, names)
            self._skeleton = _skeleton(run.dataset, field)
            self._divide = self._from_keypoints
        self.has_files = any(_has_path(row) for row in self._rows.values())

    def regions(self, item: int, grid: Grid) -> Regions:
        """Divide one item; raise a DataError if it has no usable label."""
        sample_id = str(self._run.items.sample_ids[item])
        if sample_id not in self._rows:
            raise DataError("its sample was deleted.")
        row = self._rows[sample_id]
        if row is None:
            raise DataError(f"it has no '{self._field}'.")
        left, top, right, bottom = self._item_box(item, grid.size)
        box = inner_box((left, top, right - left, bottom - top), grid.crop)
        return self._divide(item, row, grid, box)

    def _item_box(self, item: int, size: tuple[int, int]) -> Box:
        """Return the box of an item on its image."""
        if self._run.items.label_ids is None:
            return WHOLE
        label_id = str(self._run.items.label_ids[item])
        if label_id not in self._boxes:
            raise DataError("its detection was deleted.")
        width, height = size
        left, top, right, bottom = pixel_box(self._boxes[label_id], width, height)
        return left / width, top / height, right / width, bottom / height

    def _columns(self, path: str, names: Sequence[str]) -> dict[str, Any]:
        """Read attributes below a path, by sample."""
        columns = self._view.values([f"{path}.{name}" for name in names])
        return {
            sample_id: None if all(value is None for value in values) else tuple(values)
            for sample_id, *values in zip(self._ids, *columns, strict=True)
        }

    def _labels(
        self, list_name: str, is_list: bool, names: Sequence[str]
    ) -> dict[str, list[tuple[Any, ...]] | None]:
        """Read the labels of each sample as rows of attributes."""
        path = f"{self._field}.{list_name}" if is_list else self._field
        return {
            sample_id: None if row is None else _transposed(row) if is_list else [row]
            for sample_id, row in self._columns(path, names).items()
        }

    def _from_segmentation(self, item: int, row: Any, grid: Grid, box: Box) -> Regions:
        mask = _read_mask(*row)
        values = [int(value) for value in np.unique(mask) if value != 0]
        if self._targets is None:
            names = {1: FOREGROUND} if values else {}
            return from_classes(mask != 0, names, grid.height, grid.width, box)
        names = {
            value: self._targets[value] for value in values if value in self._targets
        }
        if values and not names:
            listed = ", ".join(str(value) for value in values[:5])
            raise DataError(
                f"its mask has the values {listed}, but the mask targets of "
                f"'{self._field}' name none of them."
            )
        return from_classes(mask, names, grid.height, grid.width, box)

    def _from_detections(self, item: int, row: Any, grid: Grid, box: Box) -> Regions:
        if self._field == self._run.config.patches_field:
            return self._from_item_mask(item, row, grid, box)
        height, width = grid.height * _FINE, grid.width * _FINE
        covers = np.zeros((len(row), height, width))
        for index, detection in enumerate(row):
            covers[index] = _cover(detection, height, width, box)
        names = [str(label or "unlabeled") for _, label, *_ in row]
        fine = from_covers(names, covers)
        weights = fine.weights.reshape(-1, grid.height, _FINE, grid.width, _FINE)
        return Regions(fine.names, weights.mean(axis=(2, 4)))

    def _from_item_mask(self, item: int, row: Any, grid: Grid, box: Box) -> Regions:
        """Divide a detection by its own mask."""
        assert self._run.items.label_ids is not None
        label_id = str(self._run.items.label_ids[item])
        detection = next((values for values in row if values[0] == label_id), None)
        if detection is None:
            raise DataError("its detection was deleted.")
        _, label, _, mask, mask_path = detection
        if mask is None and mask_path is None:
            raise DataError("its detection has no mask.")
        name = FOREGROUND if label in (None, "", BACKGROUND) else str(label)
        cover = _cover(detection, grid.height, grid.width, box)
        return from_covers([name], cover[None])

    def _from_keypoints(self, item: int, row: Any, grid: Grid, box: Box) -> Regions:
        item_box = None
        if self._run.items.label_ids is not None:
            item_box = self._item_box(item, grid.size)
        names: list[str] = []
        points: list[tuple[float, float]] = []
        for label, positions in row:
            named = _named_points(label, positions or [], self._skeleton)
            # A frame also shows other people, whose points do not count.
            if item_box is None or _mostly_inside([xy for _, xy in named], item_box):
                names += [name for name, _ in named]
                points += [xy for _, xy in named]
        if not points:
            raise DataError(f"it has no visible points in '{self._field}'.")
        aspect = grid.size[0] / grid.size[1]
        covers = nearest_points(np.array(points), grid.height, grid.width, box, aspect)
        unique = list(dict.fromkeys(names))
        weights = np.zeros((len(unique), grid.height, grid.width))
        np.add.at(weights, [unique.index(name) for name in names], covers)
        return Regions(tuple(unique), weights.astype(np.float32))


def _has_path(row: Any) -> bool:
    """Return whether masks of a sample are files."""
    labels = row if isinstance(row, list) else [row] if row is not None else []
    return any(isinstance(label[-1], str) for label in labels)


def _transposed(columns: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Turn columns of a sample's labels into rows."""
    length = max(len(column or []) for column in columns)
    full = [column or [None] * length for column in columns]
    return list(zip(*full, strict=True))


def _cover(
    detection: tuple[Any, ...], height: int, width: int, box: Box
) -> NDArray[Any]:
    """Return the fraction of each cell that a detection covers."""
    _, _, bounds, mask, mask_path = detection
    if bounds is None:
        return np.zeros((height, width))
    placed = (bounds[0], bounds[1], bounds[0] + bounds[2], bounds[1] + bounds[3])
    if not np.isfinite(placed).all():
        raise DataError(f"the box {list(bounds)} of a detection is not finite.")
    if mask is None and mask_path is None:
        pixels = np.ones((1, 1), dtype=bool)
    else:
        pixels = _read_mask(mask, mask_path) != 0
    return resample(pixels[None], height, width, box, placed)[0]


def _read_mask(mask: Any, mask_path: str | None) -> NDArray[np.int64]:
    """Read a mask as integers, shape (H, W); colors as FiftyOne's hex numbers."""
    if mask is None:
        if mask_path is None or not os.path.isfile(mask_path):
            raise DataError(f"the file of its mask does not exist: {mask_path}.")
        try:
            # FiftyOne reads mask files of detections in the same way.
            mask = fo.Segmentation(mask_path=mask_path).get_mask()
        except BROKEN as error:
            raise DataError(f"its mask cannot be read: {mask_path}.") from error
    values = np.asarray(mask)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim == 3 and values.shape[2] >= 3:
        red, green, blue = np.moveaxis(values[:, :, :3].astype(np.int64), 2, 0)
        return (red << 16) + (green << 8) + blue
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(f"its mask has shape {values.shape}; expected (height, width).")
    if np.issubdtype(values.dtype, np.floating):
        values = np.rint(values)
    return values.astype(np.int64)


def _targets(dataset: fo.Dataset, field: str) -> dict[int, str] | None:
    """Return the names of mask values; None if there are none."""
    targets = dataset.mask_targets.get(field) or dataset.default_mask_targets
    if not targets:
        return None
    values = {
        int(str(value).lstrip("#"), 16)
        if str(value).startswith("#")
        else int(value): name
        for value, name in targets.items()
    }
    return {value: str(name) for value, name in values.items() if value != 0}


def _skeleton(dataset: fo.Dataset, field: str) -> list[str] | None:
    """Return the names of a skeleton's points; None if there are none."""
    skeleton = dataset.skeletons.get(field) or dataset.default_skeleton
    return None if skeleton is None or not skeleton.labels else list(skeleton.labels)


def _named_points(
    label: Any, positions: Sequence[Any], skeleton: Sequence[str] | None
) -> list[tuple[str, tuple[float, float]]]:
    """Name the visible points of a keypoint label."""
    if skeleton is not None and len(skeleton) == len(positions):
        names = list(skeleton)
    elif len(positions) == 1 and label:
        names = [str(label)]
    else:
        names = [f"point {number + 1}" for number in range(len(positions))]
    return [
        (name, (float(xy[0]), float(xy[1])))
        for name, xy in zip(names, positions, strict=True)
        if xy is not None and None not in xy and np.isfinite(xy).all()
    ]


def _mostly_inside(points: Sequence[tuple[float, float]], box: Box) -> bool:
    """Return whether at least half of the points lie in a box."""
    inside = [box[0] <= x <= box[2] and box[1] <= y <= box[3] for x, y in points]
    return bool(inside) and 2 * sum(inside) >= len(inside)
