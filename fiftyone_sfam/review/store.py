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
from typing import Any

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
