"""Fields and tags on the query's sample that show verdicts.

For a run with the key ``sfam``:

* ``sfam_verdicts`` on the sample, ``fo.Classifications`` with one entry per reviewed
  pair: ``label`` is the verdict, with ``neighbor_id``, ``rank`` and ``note``;
* the verdict as a tag of the neighbor's entry in ``sfam_neighbors``. A true match
  beyond the k neighbors has no entry there, and so no tag.

For a run on detections, the entries of ``sfam_verdicts`` also have the ``query_id``,
and the query's detection gets

* ``sfam_verdicts``: the verdicts on its pairs, a list of strings;
* the tags ``sfam: VERDICT``. Users and other runs also set tags of detections; the
  prefix shows which tags belong to the run.

One update of one document writes all verdicts on a query, so that the fields and the
tags of a sample always agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone.core.odm import get_db_conn
from pymongo import UpdateMany, UpdateOne

from fiftyone_sfam.errors import RunError
from fiftyone_sfam.review.store import (
    VERDICT_FIELD_ENDING,
    QueryVerdicts,
    VerdictStore,
    array_of,
    begins_with,
    mapped_detections,
    patch_update,
    sample_update,
    tag_prefix,
)
from fiftyone_sfam.runs.run_config import (
    FieldOptions,
    add_fields,
    delete_fields,
    labels_path,
    rename_fields,
)

# Distinguishes our fields from a user's field of the same name.
_INFO = {"fiftyone_sfam": "verdicts"}


# --------------------------------------------------------------------------------------
# With the run
# --------------------------------------------------------------------------------------


def check_verdict_fields(
    dataset: fo.Dataset, key: str, patches_field: str | None
) -> None:
    """Raise if a field of a run's verdicts exists and belongs to the user."""
    _reload_if_stale(dataset, key)
    for path in verdict_paths(dataset, key, patches_field):
        field = dataset.get_field(path)
        if field is not None and not _holds_verdicts(field):
            raise RunError(
                f"'{dataset.name}' has a field '{path}' that does not hold verdicts of "
                f"the run '{key}'; rename the field or the run."
            )


def check_rename_of_verdicts(
    dataset: fo.Dataset, key: str, new_key: str, patches_field: str | None
) -> None:
    """Raise if the fields of verdicts cannot get a new key because they exist."""
    _reload_if_stale(dataset, key)
    for old, new in _moves(dataset, key, new_key, patches_field).items():
        if dataset.get_field(old) is not None and dataset.get_field(new) is not None:
            raise RunError(
                f"'{dataset.name}' has a field '{new}' already; choose another key."
            )


def rename_verdicts(
    dataset: fo.Dataset, key: str, new_key: str, patches_field: str | None
) -> None:
    """Rename the fields and tags of a run's verdicts for its new key.

    Repeated after an interruption, this renames the remaining ones.
    """
    _reload_if_stale(dataset, key)
    rename_fields(dataset, _moves(dataset, key, new_key, patches_field))
    if patches_field is not None:
        prefix, new_prefix = tag_prefix(key), tag_prefix(new_key)
        length = len(prefix.encode())
        rest = {"$substrBytes": ["$$this", length, -1]}
        renamed = {"$concat": [{"$literal": new_prefix}, rest]}
        mapped = {"$cond": [begins_with("$$this", prefix), renamed, "$$this"]}
        _edit_tags(dataset, patches_field, prefix, {"$map": {"in": mapped}})


def forget_verdicts(
    dataset: fo.Dataset, key: str, uid: str, patches_field: str | None
) -> None:
    """Delete the verdicts of a run: records, fields and tags."""
    delete_verdict_fields(dataset, key, patches_field)
    VerdictStore(str(dataset._doc.id), uid).delete()


def delete_verdict_fields(
    dataset: fo.Dataset, key: str, patches_field: str | None
) -> None:
    """Delete the fields and tags of a run's verdicts, but no field of the user."""
    _reload_if_stale(dataset, key)
    paths = [
        path
        for path in verdict_paths(dataset, key, patches_field)
        if (field := dataset.get_field(path)) is not None and _holds_verdicts(field)
    ]
    delete_fields(dataset, paths)
    if patches_field is not None:
        prefix = tag_prefix(key)
        others = {"cond": {"$not": [begins_with("$$this", prefix)]}}
        _edit_tags(dataset, patches_field, prefix, {"$filter": others})


def verdict_paths(
    dataset: fo.Dataset, key: str, patches_field: str | None
) -> list[str]:
    """Return the paths of the fields of a run's verdicts."""
    name = key + VERDICT_FIELD_ENDING
    if patches_field is None:
        return [name]
    return [name, f"{labels_path(dataset, patches_field)}.{name}"]


# --------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------


def declare_verdict_fields(
    dataset: fo.Dataset, key: str, patches_field: str | None
) -> bool:
    """Add the fields of verdicts that are missing; return whether there were any.

    Call :func:`check_verdict_fields` before.
    """
    name = key + VERDICT_FIELD_ENDING
    about = {"description": "verdicts on pairs of the run", "info": _INFO}
    fields: dict[str, FieldOptions] = {
        name: {
            "ftype": fo.EmbeddedDocumentField,
            "embedded_doc_type": fo.Classifications,
            **about,
        },
        f"{name}.classifications.neighbor_id": {"ftype": fo.StringField},
        f"{name}.classifications.rank": {"ftype": fo.IntField},
        f"{name}.classifications.note": {"ftype": fo.StringField},
    }
    if patches_field is not None:
        fields[f"{name}.classifications.query_id"] = {"ftype": fo.StringField}
        if dataset.get_field(patches_field) is not None:
            path = verdict_paths(dataset, key, patches_field)[1]
            fields[path] = {
                "ftype": fo.ListField,
                "subfield": fo.StringField,
                **about,
            }
    return add_fields(dataset, fields)


def write_verdict_fields(
    dataset: fo.Dataset,
    key: str,
    patches_field: str | None,
    queries: Iterable[QueryVerdicts],
) -> None:
    """Make samples show exactly the given verdicts, query by query."""
    now = datetime.now(timezone.utc)
    operations, sample_ids = [], []
    for query in queries:
        if patches_field is None:
            update = sample_update(key, query)
        else:
            update = patch_update(dataset, key, patches_field, query)
        update["last_modified_at"] = now
        operations.append(
            UpdateOne({"_id": ObjectId(query.sample_id)}, [{"$set": update}])
        )
        sample_ids.append(query.sample_id)
    if operations:
        # Also refreshes the samples that are loaded in this process.
        dataset._bulk_write(operations, ids=sample_ids)


def shown_queries(
    dataset: fo.Dataset, key: str, patches_field: str | None
) -> dict[str, str]:
    """Find the queries whose samples show verdicts; return their samples by query."""
    entries = f"{key}{VERDICT_FIELD_ENDING}.classifications"
    documents = dataset._sample_collection.find(
        {f"{entries}.0": {"$exists": True}}, {f"{entries}.query_id": 1}
    )
    shown = {}
    for document in documents:
        sample_id = str(document["_id"])
        listed = document[key + VERDICT_FIELD_ENDING]["classifications"]
        for entry in listed:
            query_id = sample_id if patches_field is None else entry.get("query_id")
            shown[str(query_id)] = sample_id
    return shown


def _edit_tags(
    dataset: fo.Dataset, patches_field: str, prefix: str, change: dict[str, Any]
) -> None:
    """Change the tags of all detections that have one with a prefix."""
    if dataset.get_field(patches_field) is None:
        return
    ((operator, arguments),) = change.items()
    tags = {operator: {"input": array_of("$$label.tags"), **arguments}}
    label = {"$mergeObjects": ["$$label", {"tags": tags}]}
    update = {
        patches_field: mapped_detections(dataset, patches_field, label),
        "last_modified_at": datetime.now(timezone.utc),
    }
    path = f"{labels_path(dataset, patches_field)}.tags"
    # A key has only letters, digits and underscores: nothing must be escaped.
    affected = {path: {"$regex": f"^{prefix}"}}
    dataset._bulk_write([UpdateMany(affected, [{"$set": update}])])


def _moves(
    dataset: fo.Dataset, key: str, new_key: str, patches_field: str | None
) -> dict[str, str]:
    """Return the new paths of the fields of verdicts by the old ones."""
    old = verdict_paths(dataset, key, patches_field)
    return dict(zip(old, verdict_paths(dataset, new_key, patches_field), strict=True))


def _holds_verdicts(field: Any) -> bool:
    return (field.info or {}).items() >= _INFO.items()


def _reload_if_stale(dataset: fo.Dataset, key: str) -> None:
    """Reload a dataset if another process has added or deleted the verdicts' field.

    A value in a field that the schema lacks makes a sample unreadable.
    """
    name = key + VERDICT_FIELD_ENDING
    query = {"_id": dataset._doc.id, "sample_fields.name": name}
    stored = get_db_conn()["datasets"].find_one(query, {"_id": 1}) is not None
    if stored != (dataset.get_field(name) is not None):
        dataset.reload()
