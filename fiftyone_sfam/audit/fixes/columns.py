"""Where the identities of a dataset lie: reading and writing them by their ids."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import fiftyone as fo

from fiftyone_sfam.data.items import all_samples, detections_prefix, label_path
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run

# Samples per bulk write.
_WRITE_BATCH = 1000
# Fields of FiftyOne itself, which hold no identities.
_RESERVED = frozenset(
    {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at"}
    | {"bounding_box", "mask", "mask_path", "confidence", "index", "attributes"}
)


@dataclass(frozen=True)
class Column:
    """Where identities lie."""

    root: str  # the field
    path: str  # path of the values: the field, or the label of its classifications
    ids: str  # path of the ids that tell the values apart
    of_labels: bool  # whether these are the ids of detections
    kind: str  # type of the values


def identity_column(run: Run) -> Column:
    """Find the identities that a run has compared."""
    dataset, name = run.dataset, str(run.config.protocol["identity_field"])
    prefix = detections_prefix(dataset, run.config.patches_field)
    if prefix and dataset.get_field(prefix + name) is not None:
        path = label_path(dataset, name, "identity", prefix)
        ids = prefix + "id"
    elif not prefix or dataset.get_field(name) is not None:
        prefix, path, ids = "", label_path(dataset, name, "identity"), "id"
    else:
        raise DataError(
            f"the attribute '{prefix}{name}' is not declared; call "
            "dataset.add_dynamic_sample_fields() first."
        )
    kind = type(dataset.get_field(path)).__name__
    return Column(prefix + name, path, ids, bool(prefix), kind)


def target_column(dataset: fo.Dataset, source: Column, name: str) -> Column:
    """Return the column beside the identities that has a name."""
    if not name.isidentifier() or name.startswith("_") or name in _RESERVED:
        raise DataError(
            f"the field name {name!r} cannot be used; give a name of letters, digits "
            "and underscores that starts with a letter."
        )
    own = source.root.rpartition(".")[2]
    prefix = source.root.removesuffix(own)
    root = prefix + name
    path = root + source.path.removeprefix(source.root)
    found = dataset.get_field(root)
    if found is not None:
        wanted = dataset.get_field(source.root)
        kinds = [
            (type(one), getattr(one, "document_type", None)) for one in (found, wanted)
        ]
        if kinds[0] != kinds[1]:
            raise DataError(
                f"the field '{root}' is not of the same type as '{source.root}'; name "
                "another one."
            )
    return Column(root, path, source.ids, source.of_labels, source.kind)


def read_column(dataset: fo.Dataset, column: Column) -> dict[str, Any]:
    """Read the values of a column by their ids."""
    ids, values = all_samples(dataset).values([column.ids, column.path])
    if not column.of_labels:
        return dict(zip(ids, values, strict=True))
    found: dict[str, Any] = {}
    for one, value in zip(ids, values, strict=True):
        if isinstance(one, list):
            found.update(zip(one, value or [None] * len(one), strict=True))
        elif one is not None:
            found[one] = value
    return found


def write_column(
    dataset: fo.Dataset, column: Column, values: Mapping[str, Any]
) -> None:
    """Write values into a column by their ids."""
    samples = all_samples(dataset)
    if column.of_labels:
        if values:
            samples.set_label_values(column.path, dict(values))
        return
    ids = list(values)
    for start in range(0, len(ids), _WRITE_BATCH):
        batch = ids[start : start + _WRITE_BATCH]
        samples.select(batch, ordered=True).set_values(
            column.path, [values[one] for one in batch]
        )


def text_of(value: Any) -> str | None:
    """Return an identity as a run shows it."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def same_value(one: Any, other: Any) -> bool:
    """Tell whether two values are the same; NaN is the same as NaN."""
    return bool(one == other) or (one != one and other != other)


def digest_of(values: Mapping[str, Any]) -> str:
    """Return a digest of the values that there are."""
    present = sorted((one, value) for one, value in values.items() if value is not None)
    return hashlib.sha256(json.dumps(present).encode()).hexdigest()
