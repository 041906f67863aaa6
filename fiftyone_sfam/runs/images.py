"""Where the images of a run are now, and what its model takes beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fiftyone_sfam.data.inputs import input_columns
from fiftyone_sfam.data.items import all_samples, detection_boxes
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone_sfam.network.embedder import EmbeddingModel
    from fiftyone_sfam.runs.run import Run


class ItemImages:
    """The files and boxes of some items of a run, read in one query."""

    def __init__(self, run: Run, items: Iterable[int]) -> None:
        self._items = run.items
        sample_ids = sorted({str(run.items.sample_ids[item]) for item in items})
        view = all_samples(run.dataset).select(sample_ids)
        self._paths = dict(zip(*view.values(["id", "filepath"]), strict=True))
        field = run.config.patches_field
        self._boxes = detection_boxes(view, field)
        self._no_box = f"the detection is not in the field '{field}' any more."
        if field is not None and not run.dataset.has_sample_field(field):
            self._no_box = (
                f"the dataset no longer has the field '{field}' of its detections."
            )

    def source(self, item: int) -> tuple[str, list[float] | None]:
        """Return an item's file, and its box if it is a detection."""
        path = self._paths.get(str(self._items.sample_ids[item]))
        if path is None:
            raise DataError("the sample was deleted.")
        if self._items.label_ids is None:
            return path, None
        box = self._boxes.get(str(self._items.label_ids[item]))
        if box is None:
            raise DataError(self._no_box)
        return path, box


def item_inputs(
    run: Run, items: Sequence[int], inputs: Mapping[str, str]
) -> dict[str, NDArray[Any]]:
    """Read the arguments of items of a run, as the run did."""
    sample_ids = [str(run.items.sample_ids[item]) for item in items]
    labels = run.items.label_ids
    return input_columns(
        all_samples(run.dataset).select(sorted(set(sample_ids))),
        sample_ids,
        None if labels is None else [str(labels[item]) for item in items],
        [f"'{run.items.ids[item]}'" for item in items],
        inputs,
        run.config.patches_field,
    )


class ItemModels:
    """A run's model with the further inputs of each of some items, if it takes any."""

    def __init__(self, run: Run, model: EmbeddingModel, items: Iterable[int]) -> None:
        self._model = model
        chosen = sorted(items)
        self._rows = {item: row for row, item in enumerate(chosen)}
        self._columns: dict[str, NDArray[Any]] = {}
        if not model.inputs or not chosen:
            return
        self._columns = item_inputs(run, chosen, model.inputs)

    def of(self, item: int) -> EmbeddingModel:
        """Return the model for copies of an item."""
        if not self._columns:
            return self._model
        row = self._rows[item]
        return self._model.with_inputs(
            {name: values[row : row + 1] for name, values in self._columns.items()}
        )
