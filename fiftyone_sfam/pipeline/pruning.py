"""Clearing away what no run refers to: of deleted datasets, of interrupted work.

Nothing is taken that is listed anywhere, that is younger than asked for, or whose maker
gives signs of life.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from bson import ObjectId
from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.blobs import BUCKET
from fiftyone_sfam.runs.lock import living, server_time
from fiftyone_sfam.runs.results import METHOD_PREFIX
from fiftyone_sfam.runs.run_config import METHOD

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

OLD = timedelta(days=1)
"""Age from which something is cleared away unless another is asked for."""

NO_DATASET = "its dataset was deleted"
NO_RUN = "no run was made of it"
NO_RESULT = "a result that was replaced or not finished"
NO_BLOB = "pieces of what was never finished or is deleted"


@dataclass(frozen=True)
class Orphan:
    """Stored bytes that nothing refers to."""

    uid: str  # unique id of the run that they were for
    dataset_id: str | None  # id of its dataset
    reason: str  # why nothing refers to them
    names: tuple[str, ...]  # ids of the blobs
    size: int  # bytes
    last_write: datetime  # when something was written to them last, in UTC


def prune(
    samples: SampleCollection | None = None,
    *,
    older_than: timedelta = OLD,
    delete: bool = False,
) -> tuple[Orphan, ...]:
    """Find stored bytes that nothing refers to, and delete them if asked to.

    Parameters
    ----------
    samples : fiftyone dataset or view, optional
        Only what was stored for this dataset; by default everything in the database.
    older_than : datetime.timedelta
        Only what was not written to for so long. What a run that is being made has
        stored is never taken, however old.
    delete : bool
        Delete it. Otherwise it is only listed.

    Returns
    -------
    tuple of Orphan
        What was found, or deleted; the largest first.

    Raises
    ------
    DataError
        If ``older_than`` is negative.
    """
    if older_than < timedelta(0):
        raise DataError(f"older_than is {older_than}; give an age of 0 or more.")
    dataset_id = None if samples is None else str(samples._root_dataset._doc.id)
    now = server_time()
    # Before the records: a run that is recorded meanwhile is still alive here.
    spared = living(now)
    found = [
        one
        for one in (*_unlisted(dataset_id), *_pieces(dataset_id))
        if one.uid not in spared and now - one.last_write >= older_than
    ]
    if delete:
        for one in found:
            _delete(one)
    return tuple(sorted(found, key=lambda one: -one.size))


# --------------------------------------------------------------------------------------
# What is referred to
# --------------------------------------------------------------------------------------


def _records() -> Iterator[Mapping[str, Any]]:
    """Yield the configs of all runs that a dataset lists."""
    database = get_db_conn()
    ids: list[Any] = []
    for dataset in database.datasets.find({}, {"runs": 1}):
        ids += (dataset.get("runs") or {}).values()
    # Older versions of FiftyOne kept references instead of ids.
    plain = [getattr(one, "id", one) for one in ids]
    wanted = {"$in": [METHOD]}, {"$regex": f"^{METHOD_PREFIX}"}
    query = {
        "_id": {"$in": plain},
        "$or": [{"config.method": one} for one in wanted],
    }
    for run in database.runs.find(query, {"config": 1}):
        yield run["config"]


def _referred() -> tuple[set[str], set[str]]:
    """Return the unique ids of all runs, and the ids of the blobs of their results."""
    uids: set[str] = set()
    blobs: set[str] = set()
    for config in _records():
        if config["method"] == METHOD:
            uids.update(
                [config["uid"], *(uid for uid, _ in config.get("replaces", ()))]
            )
        else:
            blobs.add(f"{config['run_uid']}/{config['blob']}")
    return uids, blobs


# --------------------------------------------------------------------------------------
# What is not
# --------------------------------------------------------------------------------------


def _unlisted(dataset_id: str | None) -> Iterator[Orphan]:
    """Find whole runs, and results, that nothing refers to."""
    uids, results = _referred()
    datasets = {str(one) for one in get_db_conn().datasets.distinct("_id")}
    query = {} if dataset_id is None else {"metadata.dataset_id": dataset_id}
    files: dict[str, list[Mapping[str, Any]]] = {}
    for file in _files().find(query, {"metadata": 1, "length": 1, "uploadDate": 1}):
        uid = file["metadata"]["uid"]
        if uid not in uids:
            files.setdefault(uid, []).append(file)
        elif "/result-" in file["_id"] and file["_id"] not in results:
            yield _orphan(uid, [file], NO_RESULT)
    for uid, of_run in files.items():
        known = of_run[0]["metadata"]["dataset_id"] in datasets
        yield _orphan(uid, of_run, NO_RUN if known else NO_DATASET)


def _orphan(uid: str, files: Iterable[Mapping[str, Any]], reason: str) -> Orphan:
    listed = list(files)
    return Orphan(
        uid,
        listed[0]["metadata"]["dataset_id"],
        reason,
        tuple(sorted(file["_id"] for file in listed)),
        sum(file["length"] for file in listed),
        max(file["uploadDate"] for file in listed),
    )


def _pieces(dataset_id: str | None) -> Iterator[Orphan]:
    """Find pieces of blobs that are not listed: their makers were killed."""
    if dataset_id is not None:
        return  # which dataset they were for is not known
    stages: list[dict[str, Any]] = [
        # The index answers this much; only of orphans are the bytes read.
        {"$group": {"_id": "$files_id"}},
        {
            "$lookup": {
                "from": f"{BUCKET}.files",
                "localField": "_id",
                "foreignField": "_id",
                "pipeline": [{"$project": {"_id": 1}}],
                "as": "file",
            }
        },
        {"$match": {"file": []}},
    ]
    for one in _chunks().aggregate(stages, allowDiskUse=True):
        size, last = 0, ObjectId("0" * 24)
        for chunk in _chunks().find({"files_id": one["_id"]}):
            size, last = size + len(chunk["data"]), max(last, chunk["_id"])
        if size:
            # The server's times have no zone either.
            time = last.generation_time.replace(tzinfo=None)
            uid = str(one["_id"]).partition("/")[0]
            yield Orphan(uid, None, NO_BLOB, (str(one["_id"]),), size, time)


def _delete(orphan: Orphan) -> None:
    """Delete an orphan; first what lists it."""
    for start in range(0, len(orphan.names), 1000):
        some = list(orphan.names[start : start + 1000])
        _files().delete_many({"_id": {"$in": some}})
        _chunks().delete_many({"files_id": {"$in": some}})


def _files() -> Any:
    return get_db_conn()[f"{BUCKET}.files"]


def _chunks() -> Any:
    return get_db_conn()[f"{BUCKET}.chunks"]
