"""Who is making a run: one process per key at a time, while it gives signs of life.

Two processes that write the fields of one key would undo each other's work. And what
a process has stored before its run is recorded looks like what a killed one has left:
signs of life tell them apart.
"""

from __future__ import annotations

import inspect
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import psutil
from fiftyone.core.odm import get_db_conn
from pymongo.errors import ConnectionFailure, DuplicateKeyError, PyMongoError

from fiftyone_sfam.errors import RunError

COLLECTION = "fiftyone_sfam.alive"
"""Collection with a document per run that is being made."""

INTERVAL = 20.0
"""Seconds between two signs."""

SILENCE = timedelta(minutes=3)
"""Whoever was silent for longer is taken for dead."""

_WAIT = 0.05


P = ParamSpec("P")
R = TypeVar("R")


def one_maker(make: Callable[P, R]) -> Callable[P, R]:
    """Let only one process at a time make a run of a dataset's key."""
    signature = inspect.signature(make)

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        dataset = given.arguments["samples"]._root_dataset
        with _claimed(str(dataset._doc.id), dataset.name, given.arguments["key"]):
            return make(*args, **kwargs)

    return made


def working_on(dataset_id: str, key: str, uid: str) -> None:
    """Say under which unique id the work of a run that is being made is stored."""
    _signs().update_one({"_id": f"{dataset_id}/{key}"}, {"$set": {"uid": uid}})


def living(now: datetime) -> set[str]:
    """Find what is being worked on."""
    return {
        str(one["uid"])
        for one in _signs().find()
        if "uid" in one and _is_alive(one, now)
    }


def server_time() -> datetime:
    """Return the time of the database's server, which all machines share."""
    now: datetime = get_db_conn().command("hello")["localTime"]
    return now


@contextmanager
def _claimed(dataset_id: str, dataset_name: str, key: str) -> Iterator[None]:
    """Be the only one who makes a run, and give signs of life meanwhile."""
    own = _myself()
    name = f"{dataset_id}/{key}"
    if not _claim(name, own):
        raise RunError(
            f"somebody else is making the run '{key}' of '{dataset_name}' now; wait "
            "until it is done, or choose another key. If that process was killed on "
            f"another machine, wait {int(SILENCE.total_seconds() // 60)} minutes."
        )
    stop = threading.Event()
    thread = threading.Thread(
        target=_sign, args=({"_id": name, **own}, stop), name="sfam-alive", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        # Where the database is gone, that is what the run ends with; the sign grows old
        # by itself.
        with suppress(ConnectionFailure):
            _signs().delete_one({"_id": name, **own})


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Wait for one's turn to do something short."""
    own = _myself()
    while not _claim(name, own):
        time.sleep(_WAIT)
    try:
        yield
    finally:
        # Where the database is gone, that is what the run ends with.
        with suppress(ConnectionFailure):
            _signs().delete_one({"_id": name, **own})


def _myself() -> dict[str, Any]:
    """Describe this thread, so that others can tell whether it lives."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "thread": threading.get_ident(),
    }


def _claim(name: str, own: Mapping[str, Any]) -> bool:
    """Become the only one who makes a run; tell whether that was possible."""
    other = _signs().find_one({"_id": name})
    if other is not None:
        if _is_alive(other, server_time()):
            return False
        # Of several who find the same dead one only the first deletes it.
        _signs().delete_one({key: other[key] for key in ("_id", "time", "pid")})
    try:
        _signs().insert_one({"_id": name, "time": server_time(), **own})
    except DuplicateKeyError:
        return False
    return True


def _sign(own: Mapping[str, Any], stop: threading.Event) -> None:
    """Give signs of life until it is time to stop."""
    while not stop.wait(INTERVAL):
        try:
            _signs().update_one(own, {"$currentDate": {"time": True}})
        except PyMongoError:
            # The run itself finds out; a sign that is missing costs nothing.
            continue


def _is_alive(sign: Mapping[str, Any], now: datetime) -> bool:
    """Tell whether the one who gave a sign lives."""
    if now - sign["time"] > SILENCE:
        return False
    if sign["host"] != socket.gethostname():
        return True
    try:
        started = psutil.Process(sign["pid"]).create_time()
    except psutil.NoSuchProcess:
        return False
    # Another process may have got its number.
    return bool(abs(started - sign["started"]) < 1)


def _signs() -> Any:
    return get_db_conn()[COLLECTION]
