"""Where the verdicts of a run are recorded: the truth that their fields mirror.

A verdict is one document of FiftyOne's execution store, its key-value store beside the
datasets, found by the run's unique id and the ids of the pair's two images. That store
was chosen over a collection of our own because FiftyOne deletes a dataset's documents
with the dataset and copies them into its clones; over a field of the samples because a
verdict outlives its sample and the run's next version; and over one document for
all verdicts because two reviewers would overwrite each other's. One document is
written at once, so there is never half a verdict.

Reading all verdicts of a run key by key takes a query each, so they are read from the
store's collection in one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone.core.odm import get_db_conn
from fiftyone.factory.repos.execution_store import MongoExecutionStoreRepo
from fiftyone.operators import ExecutionStore
from fiftyone.operators.store.clone import register_cloneable_store

STORE = "fiftyone_sfam/verdicts"
"""Name of the execution store, one per dataset, for all its runs."""

# A clone's runs have the unique ids of the original's, and its samples their ids.
register_cloneable_store(STORE)

PairIds = tuple[str, str]
"""Ids of a pair's query and neighbor: of their detections, or of their samples."""

Record = dict[str, str]
"""What is recorded of one verdict: ``text``, ``note`` and ``created``."""


class VerdictStore:
    """The verdicts of one run of one dataset."""

    def __init__(self, dataset_id: str, uid: str) -> None:
        self.dataset_id = ObjectId(dataset_id)
        self.uid = uid
        self._keys = ExecutionStore.create(STORE, self.dataset_id)

    def put(self, ids: PairIds, record: Record) -> Record | None:
        """Record a verdict, in place of the one that there is."""
        key = self._key(ids)
        while True:
            before: Record | None = self._keys.get(key)
            if before is None:
                done = self._keys.set_if_absent(key, record)
            else:
                done = self._keys.compare_and_set(key, before, record)
            if done:
                return before

    def put_if_absent(self, ids: PairIds, record: Record) -> bool:
        """Record a verdict where there is none; tell whether that was so."""
        return bool(self._keys.set_if_absent(self._key(ids), record))

    def remove(self, ids: PairIds) -> Record | None:
        """Take a verdict out; return what it was, None if there was none."""
        key = self._key(ids)
        before: Record | None = self._keys.get(key)
        self._keys.delete(key)
        return before

    def read(self, query_id: str | None = None) -> dict[PairIds, Record]:
        """Read the verdicts."""
        found = _documents().find(self._all(query_id), {"_id": 0, "key": 1, "value": 1})
        records: dict[PairIds, Record] = {}
        for document in found:
            _, query, neighbor = document["key"].split("/")
            records[query, neighbor] = document["value"]
        return records

    def delete(self) -> None:
        """Delete all verdicts of the run."""
        _documents().delete_many(self._all())

    def _key(self, ids: PairIds) -> str:
        return "/".join((self.uid, *ids))

    def _all(self, query_id: str | None = None) -> dict[str, Any]:
        """Select the run's documents, or those of one query, by the store's index."""
        prefix = f"{self.uid}/" if query_id is None else f"{self.uid}/{query_id}/"
        return {
            "store_name": STORE,
            "dataset_id": self.dataset_id,
            "key": {"$regex": f"^{re.escape(prefix)}"},
        }


def _documents() -> Any:
    """Return the collection that the execution store lies in."""
    return get_db_conn()[MongoExecutionStoreRepo.COLLECTION_NAME]


VERDICT_FIELD_ENDING = "_verdicts"
"""A run's verdicts are in the field of its key and this ending."""


Expression = Any
"""A MongoDB aggregation expression."""


@dataclass(frozen=True)
class Entry:
    """A verdict on one pair of a query."""

    neighbor_id: str  # the pair's neighbor
    rank: int  # its rank, from 1
    text: str  # the verdict
    note: str  # the verdict


@dataclass(frozen=True)
class QueryVerdicts:
    """All verdicts on the pairs of one query, as its sample has to show them."""

    sample_id: str  # the query's sample, and its detection, or its sample again
    query_id: str  # the query's sample, and its detection, or its sample again
    entries: tuple[Entry, ...]  # the verdicts, nearest neighbor first
    dropped: tuple[tuple[str, str], ...] = ()


def tag_prefix(key: str) -> str:
    """Return what the tags of a run's verdicts on detections begin with."""
    return f"{key}: "


def labels_path(dataset: fo.Dataset, patches_field: str) -> str:
    """Return the path of the detections themselves."""
    return patches_field + (".detections" if is_listed(dataset, patches_field) else "")


def is_listed(dataset: fo.Dataset, patches_field: str) -> bool:
    """Tell whether a field holds a list of detections, not a single one."""
    field = dataset.get_field(patches_field)
    return getattr(field, "document_type", None) is fo.Detections


def sample_update(key: str, query: QueryVerdicts) -> dict[str, Expression]:
    """Return the new values of a sample's fields, of a run on whole images."""
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
    """Return the new values of a sample's fields, of a run on detections."""
    name = key + VERDICT_FIELD_ENDING
    shown = array_of(f"${name}.classifications")
    own = {"$eq": ["$$this.query_id", query.query_id]}
    mine = {"$filter": {"input": shown, "cond": own}}
    others = {"$filter": {"input": shown, "cond": {"$not": [own]}}}
    merged = _merged(query, mine, {"query_id": query.query_id})
    update = {name: _classifications({"$concatArrays": [others, merged]})}
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
    one = {"$cond": [same, changed, "$$label"]}
    if is_listed(dataset, patches_field):
        update[patches_field] = mapped_labels(f"${patches_field}", "detections", one)
    else:
        update[patches_field] = {
            "$let": {"vars": {"label": f"${patches_field}"}, "in": one}
        }
    return update


def _merged(
    query: QueryVerdicts, shown: Expression, more: dict[str, str]
) -> Expression:
    """Return the entries of a query; those that are there keep ids and tags."""
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
    # Inside the filter, "this" is what is shown, and "row" what is to be.
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
    """Return an entry of the neighbors, ``label``, with the verdict as tag."""
    now = [{"neighbor_id": one.neighbor_id, "label": one.text} for one in query.entries]
    dropped = [{"neighbor_id": one, "label": text} for one, text in query.dropped]
    new = _texts_of_neighbor({"$literal": now})
    ours = {
        "$concatArrays": [
            new,
            _texts_of_neighbor(shown),
            _texts_of_neighbor({"$literal": dropped}),
        ]
    }
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
    """Return the texts of those entries that are about the neighbor ``label``."""
    same = {"$eq": ["$$this.neighbor_id", "$$label.neighbor_id"]}
    return {
        "$map": {
            "input": {"$filter": {"input": entries, "cond": same}},
            "in": "$$this.label",
        }
    }


def _classifications(entries: Expression) -> Expression:
    """Return the label that holds entries; null for none, so that it does not exist."""
    label = {"_cls": "Classifications", "classifications": "$$entries"}
    empty = {"$eq": ["$$entries", []]}
    return {
        "$let": {"vars": {"entries": entries}, "in": {"$cond": [empty, None, label]}}
    }


def mapped_labels(document: str, listed: str, each: Expression) -> Expression:
    """Return a label with each of its listed labels changed; as it is without any."""
    labels = f"{document}.{listed}"
    mapped = {"$map": {"input": labels, "as": "label", "in": each}}
    changed = {"$mergeObjects": [document, {listed: mapped}]}
    # A field that is missing stays so: its own value is no value.
    return {"$cond": [{"$isArray": [labels]}, changed, document]}


def array_of(path: str) -> Expression:
    """Return the list at a path, an empty one where there is none."""
    return {"$ifNull": [path, []]}


def begins_with(text: str, prefix: str) -> Expression:
    """Return whether a text begins with a prefix, which is taken literally."""
    return {"$eq": [{"$indexOfCP": [text, {"$literal": prefix}]}, 0]}
