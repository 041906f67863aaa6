"""Fields that an evaluation reads from a run's dataset and writes to it."""

from __future__ import annotations

import math
from typing import Any

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.measures import Identification
from fiftyone_sfam.audit.evaluation.slices import Values
from fiftyone_sfam.data.items import (
    all_samples,
    detections_prefix,
    label_path,
    values_of_ids,
)
from fiftyone_sfam.data.text import label_text
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import FieldOptions, add_fields

ENDINGS = ("_ap", "_first_match")
"""Fields on the queries: average precision, and rank of the first true match."""

MOST_NUMBERS = 20
"""Most different numbers that are slices of their own; more are put into quarters."""

_TAGS = "tags"


def measure_paths(run: Run) -> list[str]:
    """Return the paths of the fields that an evaluation writes."""
    return [
        detections_prefix(run.dataset, run.config.patches_field) + run.key + ending
        for ending in ENDINGS
    ]


def write_measures(run: Run, identification: Identification) -> None:
    """Write average precision and rank of the first true match on the queries."""
    columns: tuple[tuple[type[fo.Field], str, NDArray[np.generic]], ...] = (
        (
            fo.FloatField,
            "average precision among all of the gallery",
            identification.average_precision,
        ),
        (
            fo.IntField,
            "rank of the nearest true match",
            identification.first_match,
        ),
    )
    for path, (field, text, column) in zip(measure_paths(run), columns, strict=True):
        values = dict.fromkeys(run.items.ids[run.items.is_query].tolist())
        values.update(
            zip(
                run.items.ids[identification.query].tolist(),
                column.tolist(),
                strict=True,
            )
        )
        write_values(run, path, {"ftype": field, "description": text}, values)


def write_values(
    run: Run, path: str, options: FieldOptions, values: dict[str, Any]
) -> None:
    """Write a field's values by the ids of samples or of labels; add the field."""
    add_fields(run.dataset, {path: options})
    samples = all_samples(run.dataset)
    if run.items.label_ids is None:
        present = set(samples.values("id"))
        values = {key: value for key, value in values.items() if key in present}
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


def slice_values(run: Run, field: str) -> Values:
    """Read what each of a run's images has in a field."""
    protocol = run.config.protocol
    for rule, column in (
        ("identity_field", run.items.identities),
        ("camera_field", run.items.cameras),
    ):
        if field == protocol[rule]:
            return [() if value is None else (value,) for value in column]
    return as_texts(item_values(run, field, "slice", lists=True))


def item_values(run: Run, field: str, what: str, lists: bool = False) -> list[Any]:
    """Read a field of a run's detections, or else of its samples, by item."""
    samples, ids = all_samples(run.dataset), run.items.ids
    prefix = detections_prefix(run.dataset, run.config.patches_field)
    if field == _TAGS or samples.get_field(prefix + field) is None:
        prefix, ids = "", run.items.sample_ids
    declared = samples.get_field(prefix + field)
    texts = isinstance(declared, fo.ListField) and isinstance(
        declared.field, fo.StringField
    )
    path = (
        prefix + field if lists and texts else label_path(samples, field, what, prefix)
    )
    by_id = values_of_ids(samples, prefix + "id", path)
    return [by_id.get(str(key)) for key in ids]


def as_texts(values: list[Any]) -> list[tuple[str, ...]]:
    """Turn a field's values into names of slices."""
    numbers = [
        value
        for value in values
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    known = np.array([float(number) for number in numbers if not math.isnan(number)])
    if len(np.unique(known)) <= MOST_NUMBERS:
        return [_texts(value) for value in values]
    ends = np.unique(np.quantile(known, [0.25, 0.5, 0.75]))
    names = _quarter_names(known, ends)
    return [
        (names[int(np.searchsorted(ends, value))],) if _texts(value) else ()
        for value in values
    ]


def _quarter_names(known: NDArray[np.float64], ends: NDArray[np.float64]) -> list[str]:
    """Name the quarters by the lowest and the highest number in each."""
    quarter = np.searchsorted(ends, known)
    names = []
    for place in range(len(ends) + 1):
        inside = known[quarter == place]
        if len(inside):
            names.append(f"{inside.min():.6g} to {inside.max():.6g}")
        else:
            names.append("")
    return names


def _texts(value: Any) -> tuple[str, ...]:
    """Return a value as names: none for None, NaN and the empty text."""
    if isinstance(value, (list, tuple)):
        # A tag that is set twice is one.
        texts = (text for element in value for text in _texts(element))
        return tuple(dict.fromkeys(texts))
    text = label_text(value)
    return () if text is None else (text,)
