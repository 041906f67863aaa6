"""Arguments of networks beside the images, as columns of numbers from fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.items import detections_prefix, values_of_ids
from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

ReadInputs = Callable[[Mapping[str, str]], dict[str, NDArray[Any]]]
"""Reads the arguments of images from the fields that a model names."""


def input_columns(
    samples: SampleCollection,
    sample_ids: Sequence[str],
    label_ids: Sequence[str] | None,
    names: Sequence[str],
    inputs: Mapping[str, str],
    patches_field: str | None = None,
) -> dict[str, NDArray[Any]]:
    """Read the arguments of items; int64 or float32, shape (N,) or (N, ...).

    Attributes of detections go before fields of samples with the same name. ``names``
    are those of the items in messages.
    """
    prefix = detections_prefix(samples._root_dataset, patches_field)
    columns = {}
    for name, field in inputs.items():
        values = None
        if label_ids is not None:
            by_label = values_of_ids(samples, f"{prefix}id", prefix + field)
            values = [by_label.get(label) for label in label_ids]
            if all(value is None for value in values):
                values = None
        if values is None:
            if samples.get_field(field) is None:
                raise DataError(
                    f"'{samples._dataset.name}' has no field '{field}' for the "
                    f"argument '{name}' of the model; name another in its inputs."
                )
            by_sample = values_of_ids(samples, "id", field)
            values = [by_sample.get(sample) for sample in sample_ids]
        columns[name] = as_column(name, field, values, names)
    return columns


def sample_inputs(
    samples: Sequence[fo.Sample], inputs: Mapping[str, str]
) -> dict[str, NDArray[Any]]:
    """Read the arguments of samples."""
    columns = {}
    for name, field in inputs.items():
        values = [
            sample[field] if sample.has_field(field) else None for sample in samples
        ]
        files = [sample.filepath for sample in samples]
        columns[name] = as_column(name, field, values, files)
    return columns


def as_column(
    name: str, field: str, values: Sequence[Any], names: Sequence[str]
) -> NDArray[Any]:
    """Return the values of a field as numbers; raise if one is missing or is none."""
    empty = [place for place, value in enumerate(values) if _is_missing(value)]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise DataError(
            f"the field '{field}', which holds the argument '{name}' of the model, has "
            f"no value for {names[empty[0]]}{more}; fill it in, or leave the "
            "images out."
        )
    arrays = [np.asarray(value) for value in values]
    for array, item in zip(arrays, names, strict=True):
        if array.dtype.kind not in "buif":
            raise DataError(
                f"the field '{field}', which holds the argument '{name}' of the model, "
                f"is {shorten(repr(array.tolist()), 40)} for {item}; a number is "
                "needed."
            )
    if len({array.shape for array in arrays}) > 1:
        raise DataError(
            f"the field '{field}', which holds the argument '{name}' of the model, has "
            "lists of different lengths; one length is needed."
        )
    is_whole = all(array.dtype.kind in "bui" for array in arrays)
    return np.stack(arrays).astype(np.int64 if is_whole else np.float32)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
