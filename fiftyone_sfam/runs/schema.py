"""Fields of a dataset's schema: added, deleted and renamed by one process at a time.

FiftyOne writes fields by their place in the dataset's document: two processes that do
so at once leave a hole there, and a dataset that cannot be opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import fiftyone as fo
from fiftyone.core.odm import create_field

from fiftyone_sfam.runs.lock import one_at_a_time

FieldOptions = Mapping[str, Any]
"""What ``dataset.add_sample_field`` takes beside the path, by name."""


def add_fields(dataset: fo.Dataset, fields: Mapping[str, FieldOptions]) -> bool:
    """Add the fields that a dataset has not yet.

    FiftyOne's ``add_sample_field`` saves and loads the whole schema for each field;
    here it is done once for the fields of samples, and once for those below them.
    """
    missing = [path for path in fields if dataset.get_field(path) is None]
    if not missing:
        return False
    with _change_of(dataset):
        for below in (False, True):
            schema = {
                path: create_field(path.rpartition(".")[2], **fields[path])
                for path in missing
                if ("." in path) == below
            }
            if schema:
                dataset._merge_sample_field_schema(schema)
    return True


def delete_fields(dataset: fo.Dataset, paths: Iterable[str]) -> None:
    """Delete fields, where they exist."""
    present = [path for path in paths if dataset.get_field(path) is not None]
    if present:
        with _change_of(dataset):
            dataset.delete_sample_fields(present)


def rename_fields(dataset: fo.Dataset, moves: Mapping[str, str]) -> None:
    """Rename fields, where they exist.

    FiftyOne moves values first and names after them. Repeated after an interruption,
    this does what is left.
    """
    present = {
        old: new for old, new in moves.items() if dataset.get_field(old) is not None
    }
    if present:
        with _change_of(dataset):
            for old, new in present.items():
                _bring_back(dataset, old, new)
            dataset.rename_sample_fields(present)


def _bring_back(dataset: fo.Dataset, old: str, new: str) -> None:
    """Undo what an interrupted renaming has moved of a field of a single label.

    FiftyOne's would now move values that are not there any more, and lose those that
    are. Fields of samples and of lists of labels it leaves alone then.
    """
    parent = old.rpartition(".")[0]
    if parent and not isinstance(dataset.get_field(parent), fo.ListField):
        value = {"$ifNull": [f"${old}", f"${new}"]}
        begun = {new: {"$exists": True}}
        dataset._sample_collection.update_many(begun, [{"$set": {old: value}}])


def _change_of(dataset: fo.Dataset) -> Any:
    return one_at_a_time(f"{dataset._doc.id}/fields/")
