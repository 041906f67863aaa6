"""Delete blobs that no run refers to, left by deleted datasets or interrupted runs.

Blobs of runs that are recorded or being made, and recent blobs, are never deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from bson import ObjectId
from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.blobs import BUCKET, blob_chunks, blob_files
from fiftyone_sfam.runs.lock import server_time, uids_in_progress
from fiftyone_sfam.runs.results import METHOD_PREFIX
from fiftyone_sfam.runs.run_config import METHOD

if TYPE_CHECKING:
    from fiftyone.core.collections import SampleCollection

OLD = timedelta(days=1)
"""Default age from which blobs are pruned."""

NO_DATASET = "its dataset was deleted"
NO_RUN = "its run was not finished"
NO_RESULT = "the result was replaced or not finished"
NO_BLOB = "chunks of a blob that was deleted or not finished"


@dataclass(frozen=True)
class Orphan:
    """Blobs that nothing refers to."""

    uid: str  # unique id of their run
    dataset_id: str | None  # None if unknown
    reason: str  # why nothing refers to them
    names: tuple[str, ...]  # ids of the blobs
    size: int  # bytes
    last_write: datetime  # UTC


def prune(
    samples: SampleCollection | None = None,
    *,
    older_than: timedelta = OLD,
    delete: bool = False,
) -> tuple[Orphan, ...]:
    """Find blobs that no run refers to, and optionally delete them.

    Parameters
    ----------
    samples : fiftyone dataset or view, optional
        Search only the blobs of this dataset. By default, search the whole database.
    older_than : datetime.timedelta
        Smallest time since the last write. Blobs of a run that is being made are never
        included, whatever their age.
    delete : bool
        Whether to delete the blobs, instead of only listing them.

    Returns
    -------
    tuple of Orphan
        The blobs, grouped by run or result, the largest group first.

    Raises
    ------
    DataError
        If ``older_than`` is negative.
    """
    if older_than < timedelta(0):
        raise DataError(f"older_than is {older_than}; give an age of 0 or more.")
    dataset_id = None if samples is None else str(samples._root_dataset._doc.id)
    now = server_time()
    # Before the records are read: a run that is recorded in between is still spared.
    spared = uids_in_progress(now)
    orphans = [
        orphan
        for orphan in (*_unlisted(dataset_id), *_loose_chunks(dataset_id))
        if orphan.uid not in spared and now - orphan.last_write >= older_than
    ]
    if delete:
        for orphan in orphans:
            _delete(orphan)
    return tuple(sorted(orphans, key=lambda orphan: -orphan.size))


# --------------------------------------------------------------------------------------
# Recorded blobs
# --------------------------------------------------------------------------------------


def _referred() -> tuple[set[str], set[str]]:
    """Return the unique ids of all runs, and the ids of the blobs of their results."""
    database = get_db_conn()
    ids: list[Any] = []
    for dataset in database.datasets.find({}, {"runs": 1}):
        ids += (dataset.get("runs") or {}).values()
    # Older versions of FiftyOne kept references instead of ids.
    plain = [getattr(run_id, "id", run_id) for run_id in ids]
    methods = {"$in": [METHOD]}, {"$regex": f"^{METHOD_PREFIX}"}
    query = {
        "_id": {"$in": plain},
        "$or": [{"config.method": method} for method in methods],
    }
    uids: set[str] = set()
    blobs: set[str] = set()
    for run in database.runs.find(query, {"config": 1}):
        config = run["config"]
        if config["method"] == METHOD:
            uids.update(
                [config["uid"], *(uid for uid, _ in config.get("replaces", ()))]
            )
        else:
            blobs.add(f"{config['run_uid']}/{config['blob']}")
    return uids, blobs


# --------------------------------------------------------------------------------------
# Orphans
# --------------------------------------------------------------------------------------


def _unlisted(dataset_id: str | None) -> Iterator[Orphan]:
    """Find whole runs, and results, that nothing refers to."""
    uids, results = _referred()
    datasets = set(map(str, get_db_conn().datasets.distinct("_id")))
    query = {} if dataset_id is None else {"metadata.dataset_id": dataset_id}
    files: dict[str, list[Mapping[str, Any]]] = {}
    names = ("metadata.uid", "metadata.dataset_id", "length", "uploadDate")
    for file in blob_files().find(query, dict.fromkeys(names, 1)):
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


def _loose_chunks(dataset_id: str | None) -> Iterator[Orphan]:
    """Find chunks of blobs that are not listed, left by killed processes."""
    if dataset_id is not None:
        return  # The dataset of such chunks is unknown.
    stages: list[dict[str, Any]] = [
        # The index suffices for this stage; bytes are read of orphans only.
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
    for group in blob_chunks().aggregate(stages, allowDiskUse=True):
        name, size, last = str(group["_id"]), 0, ObjectId("0" * 24)
        for chunk in blob_chunks().find({"files_id": group["_id"]}):
            size, last = size + len(chunk["data"]), max(last, chunk["_id"])
        if size:
            # Without a time zone, like the server's times.
            time = last.generation_time.replace(tzinfo=None)
            yield Orphan(name.partition("/")[0], None, NO_BLOB, (name,), size, time)


def _delete(orphan: Orphan) -> None:
    """Delete the blobs of an orphan; the listing first."""
    for start in range(0, len(orphan.names), 1000):
        names = list(orphan.names[start : start + 1000])
        blob_files().delete_many({"_id": {"$in": names}})
        blob_chunks().delete_many({"files_id": {"$in": names}})
