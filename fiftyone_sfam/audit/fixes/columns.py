"""Read and write the identities of a dataset by ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import fiftyone as fo

from fiftyone_sfam.data.items import (
    all_samples,
    detections_prefix,
    label_path,
    values_of_ids,
)
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run

# Samples per bulk write.
_WRITE_BATCH = 1000
# Names that FiftyOne uses for other purposes.
_RESERVED = frozenset(
    {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at"}
    | {"bounding_box", "mask", "mask_path", "confidence", "index", "attributes"}
)


@dataclass(frozen=True)
class Column:
    """The paths of identities."""

    root: str  # the field
    path: str  # path of the values: the field, or the label of its classifications
    ids: str  # path of the ids of the values
    of_labels: bool  # whether these are the ids of detections
    kind: str  # type of the values


def identity_column(run: Run) -> Column:
    """Return the column with the identities of a run."""
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
    """Return the column with a name, next to the identities."""
    if not name.isidentifier() or name.startswith("_") or name in _RESERVED:
        raise DataError(
            f"the field name {name!r} cannot be used; use a name of letters, digits "
            "and underscores that starts with a letter."
        )
    root = source.root.removesuffix(source.root.rpartition(".")[2]) + name
    if dataset.get_field(root) is not None:
        target_type, source_type = (
            (type(field), getattr(field, "document_type", None))
            for field in map(dataset.get_field, (root, source.root))
        )
        if target_type != source_type:
            raise DataError(
                f"the field '{root}' is not of the same type as '{source.root}'; use "
                "a different field."
            )
    path = root + source.path.removeprefix(source.root)
    return replace(source, root=root, path=path)


def read_column(dataset: fo.Dataset, column: Column) -> dict[str, Any]:
    """Read the values of a column by ids."""
    return values_of_ids(all_samples(dataset), column.ids, column.path)


def write_column(
    dataset: fo.Dataset, column: Column, values: Mapping[str, Any]
) -> None:
    """Write values to a column by ids."""
    samples = all_samples(dataset)
    if column.of_labels:
        if values:
            samples.set_label_values(column.path, dict(values))
        return
    ids = list(values)
    for start in range(0, len(ids), _WRITE_BATCH):
        batch = ids[start : start + _WRITE_BATCH]
        samples.select(batch, ordered=True).set_values(
            column.path, [values[key] for key in batch]
        )


def same_value(first: Any, second: Any) -> bool:
    """Return whether two values are equal; NaN equals NaN."""
    return bool(first == second) or (first != first and second != second)


def digest_of(values: Mapping[str, Any]) -> str:
    """Return a digest of the values that are not None."""
    present = sorted((key, value) for key, value in values.items() if value is not None)
    return hashlib.sha256(json.dumps(present).encode()).hexdigest()
