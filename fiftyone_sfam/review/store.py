"""The records of verdicts, and the database updates that show them on samples.

Each verdict is a document of FiftyOne's execution store, its key-value store. The key
consists of the run's unique id and the ids of the pair's two images. FiftyOne deletes
these documents with the dataset and copies them into its clones, which it would not do
for a collection of our own. A field of the samples would be lost with a sample, or when
the run is made again; and two reviewers would overwrite each other's verdicts in a
document with all of them.

The execution store reads one key per query, so that all verdicts of a run are read from
its collection directly.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone.core.odm import get_db_conn
from fiftyone.factory.repos.execution_store import MongoExecutionStoreRepo
from fiftyone.operators import ExecutionStore
from fiftyone.operators.store.clone import register_cloneable_store

from fiftyone_sfam.runs.run_config import is_list

STORE = "fiftyone_sfam/verdicts"
"""Name of the execution store, one per dataset, for all its runs."""

# The runs and the samples of a clone have the ids of the original.
register_cloneable_store(STORE)

PairIds = tuple[str, str]
"""Ids of a pair's query and neighbor: of the detections, or of the samples."""

Record = dict[str, Any]
"""Record of a verdict: ``text``, ``note`` and ``created``.

If it was set by a request with an id, also ``request`` and the record ``before``.
"""


class VerdictStore:
    """The verdicts of one run of one dataset."""

    def __init__(self, dataset_id: str, uid: str) -> None:
        self.dataset_id = ObjectId(dataset_id)
        self.uid = uid
        self._keys = ExecutionStore.create(STORE, self.dataset_id)

    def put(self, ids: PairIds, record: Record, request_id: str = "") -> Record | None:
        """Record a verdict; return the previous one, None if there was none.

        A repeated request changes nothing, and returns what it returned before.
        """
        key = self._key(ids)
        while True:
            stored: Record | None = self._keys.get(key)
            before = stored and {
                name: stored[name] for name in ("text", "note", "created")
            }
            if request_id:
                if stored and stored.get("request") == request_id:
                    return stored["before"]
                record = {**record, "request": request_id, "before": before}
            if stored is None:
                done = self._keys.set_if_absent(key, record)
            else:
                done = self._keys.compare_and_set(key, stored, record)
            if done:
                return before

    def put_if_absent(self, ids: PairIds, record: Record) -> None:
        """Record a verdict, unless there is one."""
        self._keys.set_if_absent(self._key(ids), record)

    def remove(self, ids: PairIds) -> Record | None:
        """Remove a verdict and return it; None if there was none."""
        key = self._key(ids)
        before: Record | None = self._keys.get(key)
        self._keys.delete(key)
        return before

    def read(self, query_ids: Collection[str] | None = None) -> dict[PairIds, Record]:
        """Read all verdicts, or those of some queries."""
        if query_ids is not None and len(query_ids) == 1:
            return _records(self._all(*query_ids))
        records = _records(self._all())
        if query_ids is None:
            return records
        return {ids: record for ids, record in records.items() if ids[0] in query_ids}

    def read_pairs(self, pairs: Iterable[PairIds]) -> dict[PairIds, Record]:
        """Read the verdicts on some pairs."""
        keys = [self._key(ids) for ids in pairs]
        return _records({**self._all(), "key": {"$in": keys}})

    def delete(self) -> None:
        """Delete all verdicts of the run."""
        _documents().delete_many(self._all())

    def _key(self, ids: PairIds) -> str:
        return "/".join((self.uid, *ids))

    def _all(self, query_id: str | None = None) -> dict[str, Any]:
        """Query for the documents of the run, or of one query; uses the index."""
        prefix = f"{self.uid}/" if query_id is None else f"{self.uid}/{query_id}/"
        return {
            "store_name": STORE,
            "dataset_id": self.dataset_id,
            "key": {"$regex": f"^{re.escape(prefix)}"},
        }


def _records(query: dict[str, Any]) -> dict[PairIds, Record]:
    """Read the records of the documents that a query finds."""
    records: dict[PairIds, Record] = {}
    for document in _documents().find(query, {"_id": 0, "key": 1, "value": 1}):
        _, query_id, neighbor_id = document["key"].split("/")
        records[query_id, neighbor_id] = document["value"]
    return records


def _documents() -> Any:
    """Return the collection of the execution store."""
    return get_db_conn()[MongoExecutionStoreRepo.COLLECTION_NAME]


VERDICT_FIELD_ENDING = "_verdicts"
"""Ending of the field with the verdicts of a run, after the run's key."""


# --------------------------------------------------------------------------------------
# Updates
# --------------------------------------------------------------------------------------

Expression = Any
"""A MongoDB aggregation expression."""


@dataclass(frozen=True)
class Entry:
    """A verdict on one pair of a query."""

    neighbor_id: str
    rank: int  # of the neighbor, from 1
    text: str
    note: str


@dataclass(frozen=True)
class QueryVerdicts:
    """All verdicts on the pairs of one query, for its sample to show."""

    sample_id: str
    query_id: str  # of the query's detection, or of its sample
    entries: tuple[Entry, ...]  # nearest neighbor first
    removed: tuple[tuple[str, str], ...]  # neighbor and text of verdicts to remove


def tag_prefix(key: str) -> str:
    """Return the prefix of the tags of a run's verdicts on detections."""
    return f"{key}: "


def sample_update(key: str, query: QueryVerdicts) -> dict[str, Expression]:
    """Return the new values of a sample's fields for a run on whole images."""
    name, neighbors = key + VERDICT_FIELD_ENDING, f"{key}_neighbors"
    shown = array_of(f"${name}.classifications")
    return {
        name: _classifications(_merged(query, shown, {})),
        neighbors: mapped_labels(
            f"${neighbors}", "classifications", _retagged_neighbor(query, shown)
        ),
    }


def patch_update(
    dataset: fo.Dataset, key: str, patches_field: str, query: QueryVerdicts
) -> dict[str, Expression]:
    """Return the new values of a sample's fields for a run on detections."""
    name = key + VERDICT_FIELD_ENDING
    shown = array_of(f"${name}.classifications")
    of_query = {"$eq": ["$$this.query_id", query.query_id]}
    before = {"$filter": {"input": shown, "cond": of_query}}
    of_others = {"$filter": {"input": shown, "cond": {"$not": [of_query]}}}
    merged = _merged(query, before, {"query_id": query.query_id})
    update = {name: _classifications({"$concatArrays": [of_others, merged]})}
    if dataset.get_field(patches_field) is None:
        return update
    texts = list(dict.fromkeys(entry.text for entry in query.entries))
    prefix = tag_prefix(key)
    foreign = {
        "$filter": {
            "input": array_of("$$label.tags"),
            "cond": {"$not": [begins_with("$$this", prefix)]},
        }
    }
    tags = {"$concatArrays": [foreign, {"$literal": [prefix + text for text in texts]}]}
    changed = {
        "$mergeObjects": [
            "$$label",
            {"tags": tags, name: {"$literal": texts or None}},
        ]
    }
    same = {"$eq": ["$$label._id", ObjectId(query.query_id)]}
    label = {"$cond": [same, changed, "$$label"]}
    update[patches_field] = mapped_detections(dataset, patches_field, label)
    return update


def _merged(
    query: QueryVerdicts, shown: Expression, more: dict[str, str]
) -> Expression:
    """Return the entries of a query; those that exist keep their ids and tags."""
    rows = []
    for entry in query.entries:
        values = {
            "label": entry.text,
            "neighbor_id": entry.neighbor_id,
            "rank": entry.rank,
            "note": entry.note or None,
            **more,
        }
        fresh = {"_id": ObjectId(), "_cls": "Classification", "tags": []}
        rows.append({"fresh": fresh, "values": values})
    # Inside the filter, "this" is an entry of the sample, and "row" a new entry.
    same = {"$eq": ["$$this.neighbor_id", "$$row.values.neighbor_id"]}
    present = {"$first": {"$filter": {"input": shown, "cond": same}}}
    return {
        "$map": {
            # Literal, because notes may begin with a dollar sign.
            "input": {"$literal": rows},
            "as": "row",
            "in": {"$mergeObjects": ["$$row.fresh", present, "$$row.values"]},
        }
    }


def _retagged_neighbor(query: QueryVerdicts, shown: Expression) -> Expression:
    """Return an entry of the neighbors, ``label``, with the verdict as a tag."""
    pairs = [(entry.neighbor_id, entry.text) for entry in query.entries]
    new, old = (
        _texts_of_neighbor(
            {"$literal": [{"neighbor_id": n, "label": text} for n, text in entries]}
        )
        for entries in (pairs, query.removed)
    )
    ours = {"$concatArrays": [new, _texts_of_neighbor(shown), old]}
    foreign = {
        "$filter": {
            "input": array_of("$$label.tags"),
            "as": "tag",
            "cond": {"$not": [{"$in": ["$$tag", ours]}]},
        }
    }
    tags = {"$concatArrays": [foreign, new]}
    return {"$mergeObjects": ["$$label", {"tags": tags}]}


def _texts_of_neighbor(entries: Expression) -> Expression:
    """Return the texts of the entries about the neighbor ``label``."""
    same = {"$eq": ["$$this.neighbor_id", "$$label.neighbor_id"]}
    return {
        "$map": {
            "input": {"$filter": {"input": entries, "cond": same}},
            "in": "$$this.label",
        }
    }


def _classifications(entries: Expression) -> Expression:
    """Return the label of some entries; null if there are none."""
    label = {"_cls": "Classifications", "classifications": "$$entries"}
    empty = {"$eq": ["$$entries", []]}
    return {
        "$let": {"vars": {"entries": entries}, "in": {"$cond": [empty, None, label]}}
    }


def mapped_detections(
    dataset: fo.Dataset, patches_field: str, each: Expression
) -> Expression:
    """Return a field of detections with each detection, ``label``, changed."""
    document = f"${patches_field}"
    if is_list(dataset, patches_field):
        return mapped_labels(document, "detections", each)
    return {"$let": {"vars": {"label": document}, "in": each}}


def mapped_labels(document: str, listed: str, each: Expression) -> Expression:
    """Return a label with each of its listed labels, ``label``, changed."""
    labels = f"{document}.{listed}"
    mapped = {"$map": {"input": labels, "as": "label", "in": each}}
    changed = {"$mergeObjects": [document, {listed: mapped}]}
    # A missing field stays missing: its value is not a value.
    return {"$cond": [{"$isArray": [labels]}, changed, document]}


def array_of(path: str) -> Expression:
    """Return the list at a path; an empty list if there is none."""
    return {"$ifNull": [path, []]}


def begins_with(text: str, prefix: str) -> Expression:
    """Return whether a text begins with a literal prefix."""
    return {"$eq": [{"$indexOfCP": [text, {"$literal": prefix}]}, 0]}
