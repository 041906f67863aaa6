"""Masks, detections and points of a run's images, as regions of its maps."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
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
)
from fiftyone_sfam.data.images import BROKEN, pixel_box
from fiftyone_sfam.data.items import all_samples, detection_boxes
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run, SideMaps

FOREGROUND = "foreground"
"""Name of what a mask covers where the dataset gives its values no names."""

# Of detections, how finely a cell is divided to find what overlapping ones share.
_FINE = 4


@dataclass(frozen=True)
class Grid:
    """Where the maps of an item lie."""

    height: int  # cells
    width: int  # cells
    crop: tuple[float, float, float, float]
    size: tuple[int, int]  # width and height of the whole image, in pixels

    @classmethod
    def of(cls, side: SideMaps) -> Grid:
        """Return where the stored maps of a pair's side lie."""
        height, width = next(iter(side.maps.values())).shape
        return cls(height, width, side.crop, side.size)


def label_type(run: Run, field: str) -> type | None:
    """Return the type of label that a field holds."""
    found = run.dataset.get_field(field)
    document: type | None = getattr(found, "document_type", None)
    return document


class LabelSource:
    """The labels of some items, read from the database at once."""

    def __init__(self, run: Run, field: str, items: Sequence[int]) -> None:
        self._run = run
        self._field = field
        sample_ids = sorted({str(run.items.sample_ids[item]) for item in items})
        self._view = all_samples(run.dataset).select(sample_ids)
        self._ids: list[str] = self._view.values("id")
        self._boxes = detection_boxes(self._view, run.config.patches_field)
        document = label_type(run, field)
        self._shape: Callable[[int, Any, Grid, Box], Regions]
        if document is fo.Segmentation:
            self._targets = _targets(run.dataset, field)
            self._rows = self._columns(field, ("mask", "mask_path"))
            self._shape = self._of_segmentation
        elif document in (fo.Detections, fo.Detection):
            self._rows = self._listed(
                "detections",
                document is fo.Detections,
                ("id", "label", "bounding_box", "mask", "mask_path"),
            )
            self._shape = self._of_detections
        else:
            self._rows = self._listed(
                "keypoints", document is fo.Keypoints, ("label", "points")
            )
            self._skeleton = _skeleton(run.dataset, field)
            self._shape = self._of_keypoints
        self.has_files = any(_has_path(row) for row in self._rows.values())

    def regions(self, item: int, grid: Grid) -> Regions:
        """Divide one item; raise a DataError where that is not possible."""
        sample_id = str(self._run.items.sample_ids[item])
        if sample_id not in self._rows:
            raise DataError("its sample was deleted.")
        row = self._rows[sample_id]
        if row is None:
            raise DataError(f"it has no '{self._field}'.")
        return self._shape(item, row, grid, self._box(item, grid))

    # -- geometry ----------------------------------------------------------------------

    def _box(self, item: int, grid: Grid) -> Box:
        """Return where an item's map lies on the whole image."""
        crop = self._item_crop(item, grid.size)
        left, top, right, bottom = crop
        return inner_box((left, top, right - left, bottom - top), grid.crop)

    def _item_crop(self, item: int, size: tuple[int, int]) -> Box:
        """Return which part of the image an item is."""
        if self._run.items.label_ids is None:
            return WHOLE
        label_id = str(self._run.items.label_ids[item])
        if label_id not in self._boxes:
            raise DataError("its detection was deleted.")
        width, height = size
        left, top, right, bottom = pixel_box(self._boxes[label_id], width, height)
        return left / width, top / height, right / width, bottom / height

    # -- reading -----------------------------------------------------------------------

    def _columns(self, path: str, names: Sequence[str]) -> dict[str, Any]:
        """Read attributes below a path, by sample."""
        columns = self._view.values([f"{path}.{name}" for name in names])
        return {
            one: None if all(value is None for value in values) else tuple(values)
            for one, *values in zip(self._ids, *columns, strict=True)
        }

    def _listed(
        self, what: str, listed: bool, names: Sequence[str]
    ) -> dict[str, list[tuple[Any, ...]] | None]:
        """Read the labels of each sample as rows of attributes."""
        path = f"{self._field}.{what}" if listed else self._field
        rows = self._columns(path, names)
        if not listed:
            return {one: None if row is None else [row] for one, row in rows.items()}
        return {
            one: None if row is None else _transposed(row) for one, row in rows.items()
        }

    # -- regions -----------------------------------------------------------------------

    def _of_segmentation(self, item: int, row: Any, grid: Grid, box: Box) -> Regions:
        mask = _read_mask(*row)
        values = [int(value) for value in np.unique(mask) if value != 0]
        if self._targets is None:
            return from_classes(
                mask != 0,
                {1: FOREGROUND} if values else {},
                grid.height,
                grid.width,
                box,
            )
        names = {
            value: self._targets[value] for value in values if value in self._targets
        }
        if values and not names:
            shown = ", ".join(str(value) for value in values[:5])
            raise DataError(
                f"its mask holds the values {shown}, of which none is among the "
                f"dataset's mask targets of '{self._field}'."
            )
        return from_classes(mask, names, grid.height, grid.width, box)

    def _of_detections(self, item: int, row: Any, grid: Grid, box: Box) -> Regions:
        if self._field == self._run.config.patches_field:
            return self._of_own_mask(item, row, grid, box)
        fine = grid.height * _FINE, grid.width * _FINE
        covers = [_cover(one, *fine, box) for one in row]
        names = [_name(one[1]) for one in row]
        stacked = np.stack(covers) if covers else np.zeros((0, *fine))
        whole = from_covers(names, stacked)
        weights = whole.weights.reshape(-1, grid.height, _FINE, grid.width, _FINE)
        return Regions(whole.names, weights.mean(axis=(2, 4)))

    def _of_own_mask(self, item: int, row: Any, grid: Grid, box: Box) -> Regions:
        assert self._run.items.label_ids is not None
        own = [one for one in row if one[0] == str(self._run.items.label_ids[item])]
        if not own:
            raise DataError("its detection was deleted.")
        _, label, _, mask, mask_path = own[0]
        if mask is None and mask_path is None:
            raise DataError("its detection has no mask.")
        name = FOREGROUND if label in (None, "", BACKGROUND) else str(label)
        cover = _cover(own[0], grid.height, grid.width, box)
        return from_covers([name], cover[None])

    def _of_keypoints(self, item: int, row: Any, grid: Grid, box: Box) -> Regions:
        inside = None
        if self._run.items.label_ids is not None:
            inside = self._item_crop(item, grid.size)
        names: list[str] = []
        points: list[tuple[float, float]] = []
        for label, places in row:
            named = _named_points(label, places or [], self._skeleton)
            # A frame shows other people too, whose points are none of this one's.
            if inside is None or _mostly_inside([point for _, point in named], inside):
                names += [name for name, _ in named]
                points += [point for _, point in named]
        if not points:
            raise DataError(f"it has no visible points in '{self._field}'.")
        covers = nearest_points(
            np.array(points),
            grid.height,
            grid.width,
            box,
            grid.size[0] / grid.size[1],
        )
        kept = sorted(set(names), key=names.index)
        weights = np.zeros((len(kept), grid.height, grid.width))
        np.add.at(weights, [kept.index(name) for name in names], covers)
        return Regions(tuple(kept), weights.astype(np.float32))


def _has_path(row: Any) -> bool:
    """Tell whether masks of a sample are files."""
    labels = row if isinstance(row, list) else [row] if row is not None else []
    return any(isinstance(one[-1], str) for one in labels)


def _transposed(columns: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Turn columns of a sample's labels into rows."""
    length = max(len(column or []) for column in columns)
    full = [column or [None] * length for column in columns]
    return list(zip(*full, strict=True))


def _cover(one: tuple[Any, ...], height: int, width: int, box: Box) -> NDArray[Any]:
    """Tell what a detection covers of each place of a map."""
    _, _, bounds, mask, mask_path = one
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
    """Read a mask as whole numbers, shape (H, W); colors as FiftyOne's hex numbers."""
    if mask is None:
        if mask_path is None or not os.path.isfile(mask_path):
            raise DataError(f"the file of its mask does not exist: {mask_path}.")
        try:
            # FiftyOne's own reading, which detections share.
            mask = fo.Segmentation(mask_path=mask_path).get_mask()
        except BROKEN as error:
            raise DataError(f"its mask cannot be read: {mask_path}.") from error
    values = np.asarray(mask)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim == 3 and values.shape[2] >= 3:
        red, green, blue = (values[:, :, place].astype(np.int64) for place in range(3))
        return (red << 16) + (green << 8) + blue
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(
            f"its mask has shape {values.shape}; (height, width) is needed."
        )
    if np.issubdtype(values.dtype, np.floating):
        values = np.rint(values)
    return values.astype(np.int64)


def _targets(dataset: fo.Dataset, field: str) -> dict[int, str] | None:
    """Return the names of a mask's values; None if there are none."""
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


def _name(label: Any) -> str:
    return "unlabeled" if label in (None, "") else str(label)


def _named_points(
    label: Any, places: Sequence[Any], skeleton: Sequence[str] | None
) -> list[tuple[str, tuple[float, float]]]:
    """Name the visible points of one keypoint label."""
    if skeleton is not None and len(skeleton) == len(places):
        names = list(skeleton)
    elif len(places) == 1 and label:
        names = [str(label)]
    else:
        names = [f"point {number + 1}" for number in range(len(places))]
    return [
        (name, (float(place[0]), float(place[1])))
        for name, place in zip(names, places, strict=True)
        if place is not None and None not in place and np.isfinite(place).all()
    ]


def _mostly_inside(points: Sequence[tuple[float, float]], box: Box) -> bool:
    """Tell whether at least half of the points lie in a box."""
    inside = [box[0] <= x <= box[2] and box[1] <= y <= box[3] for x, y in points]
    return bool(inside) and 2 * sum(inside) >= len(inside)
