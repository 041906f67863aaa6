"""Locks in the database: one process per run key at a time, for as long as it lives.

Two processes that write the fields of one key would undo each other's work. And the
blobs of a run that is being made look like those of an interrupted run: heartbeats tell
them apart.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import fiftyone as fo
import psutil
from fiftyone.core.odm import get_db_conn
from pymongo.errors import ConnectionFailure, DuplicateKeyError, PyMongoError

from fiftyone_sfam.errors import RunError

COLLECTION = "fiftyone_sfam.alive"
"""Collection with a document per run that is being made."""

INTERVAL = 20.0
"""Seconds between two heartbeats."""

SILENCE = timedelta(minutes=3)
"""A process without a heartbeat for longer than this counts as dead."""

_WAIT = 0.05


@contextmanager
def making_run(dataset: fo.Dataset, key: str) -> Iterator[None]:
    """Hold the lock of a run key; raise if another process holds it."""
    name, process = f"{dataset._doc.id}/{key}", _this_process()
    if not _acquire(name, process):
        raise RunError(
            f"another process is making the run '{key}' of '{dataset.name}' now; wait "
            "until it is done, or choose another key. If that process was killed on "
            f"another machine, wait {int(SILENCE.total_seconds() // 60)} minutes."
        )
    stop = threading.Event()
    thread = threading.Thread(
        target=_beat,
        args=({"_id": name, **process}, stop),
        name="sfam-alive",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        _release(name, process)


def set_uid(dataset_id: str, key: str, uid: str) -> None:
    """Record the unique id under which a run that is being made stores its blobs."""
    _locks().update_one({"_id": f"{dataset_id}/{key}"}, {"$set": {"uid": uid}})


def uids_in_progress(now: datetime) -> set[str]:
    """Return the unique ids of the runs that are being made."""
    return {
        str(lock["uid"])
        for lock in _locks().find()
        if "uid" in lock and _is_alive(lock, now)
    }


def server_time() -> datetime:
    """Return the time of the database's server, which all machines share."""
    now: datetime = get_db_conn().command("hello")["localTime"]
    return now


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Wait for a lock that is held for a short time, and hold it."""
    process = _this_process()
    while not _acquire(name, process):
        time.sleep(_WAIT)
    try:
        yield
    finally:
        _release(name, process)


def _this_process() -> dict[str, Any]:
    """Describe this thread so that other processes can check that it is alive."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "thread": threading.get_ident(),
    }


def _acquire(name: str, process: Mapping[str, Any]) -> bool:
    """Take a lock; return whether that was possible."""
    held = _locks().find_one({"_id": name})
    if held is not None:
        if _is_alive(held, server_time()):
            return False
        # Several processes may find the same dead one; only the first deletes its lock.
        _locks().delete_one({key: held[key] for key in ("_id", "time", "pid")})
    try:
        _locks().insert_one({"_id": name, "time": server_time(), **process})
    except DuplicateKeyError:
        return False
    return True


def _release(name: str, process: Mapping[str, Any]) -> None:
    # Without a database the run raises by itself, and the lock expires.
    with suppress(ConnectionFailure):
        _locks().delete_one({"_id": name, **process})


def _beat(lock: Mapping[str, Any], stop: threading.Event) -> None:
    """Update the time of a lock until told to stop."""
    while not stop.wait(INTERVAL):
        try:
            _locks().update_one(lock, {"$currentDate": {"time": True}})
        except PyMongoError:
            # The run itself will raise; a missing heartbeat does no harm.
            continue


def _is_alive(lock: Mapping[str, Any], now: datetime) -> bool:
    """Return whether the process that holds a lock is alive."""
    if now - lock["time"] > SILENCE:
        return False
    if lock["host"] != socket.gethostname():
        return True
    try:
        started = psutil.Process(lock["pid"]).create_time()
    except psutil.NoSuchProcess:
        return False
    # Another process may have the same id by now.
    return bool(abs(started - lock["started"]) < 1)


def _locks() -> Any:
    return get_db_conn()[COLLECTION]
