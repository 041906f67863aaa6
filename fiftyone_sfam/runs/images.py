"""Where the images of a run are now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fiftyone_sfam.data.items import all_samples, detection_boxes
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone_sfam.runs.run import Run


class ItemImages:
    """The files and boxes of some items of a run, read in one query."""

    def __init__(self, run: Run, items: Iterable[int]) -> None:
        self._items = run.items
        sample_ids = sorted({str(run.items.sample_ids[item]) for item in items})
        view = all_samples(run.dataset).select(sample_ids)
        self._paths = dict(zip(*view.values(["id", "filepath"]), strict=True))
        self._boxes = detection_boxes(view, run.config.patches_field)

    def source(self, item: int) -> tuple[str, list[float] | None]:
        """Return an item's file, and its box if it is a detection."""
        path = self._paths.get(str(self._items.sample_ids[item]))
        if path is None:
            raise DataError("the sample was deleted.")
        if self._items.label_ids is None:
            return path, None
        box = self._boxes.get(str(self._items.label_ids[item]))
        if box is None:
            raise DataError("the detection was deleted.")
        return path, box
