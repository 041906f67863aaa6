"""What suspects need of a run beside its embeddings, and what they write there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fiftyone_sfam.data.images import pixel_box, read_image
from fiftyone_sfam.data.items import all_samples, detection_boxes, detections_prefix
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import add_fields

# Most pairs of the run that a finding lists.
_MOST_PAIRS = 50


class PairLookup:
    """Finds the pairs of a run by their images."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._order = np.argsort(pairs.sides(), kind="stable")
        self._sorted = pairs.sides()[self._order]

    def of(
        self, items: Iterable[int], partners: Collection[int] | None = None
    ) -> tuple[int, ...]:
        """List the pairs of some images, the nearest first."""
        found = set()
        for item in items:
            start, stop = np.searchsorted(self._sorted, [item, item + 1])
            for side in self._order[start:stop].tolist():
                pair, own = divmod(side, 2)
                other = self._pairs.query if own else self._pairs.gallery
                if partners is None or int(other[pair]) in partners:
                    found.add(pair)
        near = self._pairs.similarity
        ranked = sorted(found, key=lambda pair: (-near[pair], pair))
        return tuple(ranked[:_MOST_PAIRS])


def picture_reader(run: Run, items: Iterable[int]) -> Callable[[int], Image.Image]:
    """Make a function that reads the pictures of items."""
    known = run.items
    sample_ids = sorted({str(known.sample_ids[item]) for item in items})
    view = all_samples(run.dataset).select(sample_ids)
    ids, paths = view.values(["id", "filepath"])
    path_of = dict(zip(ids, paths, strict=True))
    box_of = detection_boxes(view, run.config.patches_field)

    def read(item: int) -> Image.Image:
        path = path_of.get(str(known.sample_ids[item]))
        if path is None:
            raise DataError("the sample was deleted.")
        image = read_image(path)
        if known.label_ids is None:
            return image
        box = box_of.get(str(known.label_ids[item]))
        if box is None:
            raise DataError("the detection was deleted.")
        return image.crop(pixel_box(box, *image.size))

    return read


def suspects_path(run: Run) -> str:
    """Return the path of the field that says of what an image is suspected."""
    prefix = detections_prefix(run.dataset, run.config.patches_field)
    return prefix + run.key + "_suspects"


def write_suspects(run: Run, kinds: dict[int, list[str]]) -> None:
    """Write the kinds of findings that each image of a run is part of."""
    path, items = suspects_path(run), run.items
    field = {
        "ftype": fo.ListField,
        "subfield": fo.StringField,
        "description": "kinds of suspects that the image is part of",
    }
    add_fields(run.dataset, {path: field})
    values = {str(one): kinds.get(item) for item, one in enumerate(items.ids)}
    samples = all_samples(run.dataset)
    if items.label_ids is None:
        present = set(samples.values("id"))
        values = {one: value for one, value in values.items() if one in present}
        samples.set_values(path, values, key_field="id")
        return
    prefix = detections_prefix(run.dataset, run.config.patches_field)
    ids, rows = samples.values(["id", prefix + "id"])
    labeled = [
        {"sample_id": sample_id, "label_id": label_id, "value": values[label_id]}
        for sample_id, row in zip(ids, rows, strict=True)
        for label_id in (row if isinstance(row, list) else [row])
        if label_id in values
    ]
    if labeled:
        samples.set_label_values(path, labeled)


def some_items(run: Run, items: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Take some of many items, whatever their order in the run."""
    if len(items) <= most:
        return items
    order = items[np.argsort(run.items.ids[items])]
    return order[np.linspace(0, len(order) - 1, most).round().astype(int)]
