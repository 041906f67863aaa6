"""Add, delete and rename the fields of a dataset, one process at a time.

FiftyOne writes fields by their position in the dataset's document: two processes that
do so at once leave a gap there, and the dataset cannot be opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import fiftyone as fo
from fiftyone.core.odm import create_field

from fiftyone_sfam.runs.lock import one_at_a_time

FieldOptions = Mapping[str, Any]
"""Keyword arguments of ``dataset.add_sample_field``."""


def add_fields(dataset: fo.Dataset, fields: Mapping[str, FieldOptions]) -> bool:
    """Add the fields that a dataset lacks; return whether there were any.

    FiftyOne's ``add_sample_field`` saves and loads the whole schema for each field;
    here this is done once for the fields of samples and once for nested fields.
    """
    missing = [path for path in fields if dataset.get_field(path) is None]
    if not missing:
        return False
    with _lock(dataset):
        for nested in (False, True):
            schema = {
                path: create_field(path.rpartition(".")[2], **fields[path])
                for path in missing
                if ("." in path) == nested
            }
            if schema:
                dataset._merge_sample_field_schema(schema)
    return True


def delete_fields(dataset: fo.Dataset, paths: Iterable[str]) -> None:
    """Delete the fields that exist."""
    present = [path for path in paths if dataset.get_field(path) is not None]
    if present:
        with _lock(dataset):
            dataset.delete_sample_fields(present)


def rename_fields(dataset: fo.Dataset, moves: Mapping[str, str]) -> None:
    """Rename the fields that exist.

    FiftyOne renames values before the schema. Repeated after an interruption, this
    renames the remaining fields.
    """
    present = {
        old: new for old, new in moves.items() if dataset.get_field(old) is not None
    }
    if present:
        with _lock(dataset):
            for old, new in present.items():
                _undo_rename(dataset, old, new)
            dataset.rename_sample_fields(present)


def _undo_rename(dataset: fo.Dataset, old: str, new: str) -> None:
    """Undo the interrupted renaming of a field of a single label.

    FiftyOne would repeat it with the old values, which are missing now, and overwrite
    the new ones. It repeats renamings of other fields correctly.
    """
    parent = old.rpartition(".")[0]
    if parent and not isinstance(dataset.get_field(parent), fo.ListField):
        value = {"$ifNull": [f"${old}", f"${new}"]}
        renamed = {new: {"$exists": True}}
        dataset._sample_collection.update_many(renamed, [{"$set": {old: value}}])


def _lock(dataset: fo.Dataset) -> Any:
    return one_at_a_time(f"{dataset._doc.id}/fields/")
