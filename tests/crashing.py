"""A process that does a run's work in children of its own, and has them killed.

Everything is imported once, before the children are forked: a trial costs half a second
then, not ten. What a process leaves behind is what it has written to the database, so
children are killed at a write: just before it is sent, or just after it is answered.

Lines of JSON come in, and for each one goes out::

    {"dataset": NAME, "delete": false, "overwrite": false, "write": 7, "after": true}
    {"status": -9, "writes": []}
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from typing import Any

from pymongo import monitoring

COLLECTION = "fiftyone_sfam.alive"
_WRITES = frozenset(
    {
        *("insert", "update", "delete", "findAndModify", "findandmodify"),
        *("create", "drop", "aggregate"),
    }
)


class Killer(monitoring.CommandListener):
    """Counts a process's writes, and ends it at one of them."""

    def __init__(self) -> None:
        self.on = False
        self.writes: list[str] = []
        self.at = 0
        self.after = False
        self._lock = threading.Lock()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        name = event.command_name
        if not self.on or name not in _WRITES or not _changes(event.command):
            return
        with self._lock:
            self.writes.append(describe(event.command))
            if len(self.writes) == self.at and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        if self.on and self.after and self.at and len(self.writes) >= self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Do nothing: what has failed has written nothing."""


def _changes(command: Any) -> bool:
    if command[next(iter(command))] == COLLECTION:
        return False  # a sign of life
    stages = command.get("pipeline", [])
    return "aggregate" not in command or any("$merge" in one for one in stages)


def describe(command: Any) -> str:
    """Name what a command writes: its kind, its collection, and its blob."""
    name = next(iter(command))
    text = f"{name} {command[name]}"
    for one in command.get("documents", ()):
        return f"{text} {one.get('files_id', one.get('_id', ''))}"
    return text


KILLER = Killer()


def main() -> None:
    monitoring.register(KILLER)
    # What libraries print is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import fiftyone as fo
    import torch
    from fiftyone.core.odm import database

    import worlds  # noqa: F401
    from fiftyone_sfam import runs
    from fiftyone_sfam.audit import (  # noqa: F401
        evaluation_run,
        ledger,
        suspects,
    )
    from fiftyone_sfam.explain import explain_retrieval  # noqa: F401

    torch.set_num_threads(1)
    # A child has connections of its own.
    database._disconnect()
    for line in sys.stdin:
        request = json.loads(line)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            status = 1
            try:
                database.establish_db_conn(fo.config)
                KILLER.at, KILLER.after = request["write"], request["after"]
                KILLER.on = True
                if request["delete"]:
                    runs.delete_run(fo.load_dataset(request["dataset"]), "sfam")
                else:
                    work(request["dataset"], request["overwrite"])
                KILLER.on = False
                status = 0
            finally:
                if status:
                    traceback.print_exc()
                os.write(write, json.dumps(KILLER.writes).encode())
                os._exit(status)
        os.close(write)
        with os.fdopen(read) as pipe:
            writes = pipe.read()
        _, status = os.waitpid(child, 0)
        answer = {
            "status": os.waitstatus_to_exitcode(status),
            "writes": json.loads(writes or "[]"),
        }
        print(json.dumps(answer), file=answers, flush=True)


def work(name: str, overwrite: bool, model: Any = None) -> None:
    """Explain and audit a dataset, whatever was done of it before."""
    import fiftyone as fo

    from fiftyone_sfam.audit.evaluation_run import evaluate_retrieval
    from fiftyone_sfam.audit.ledger import build_ledger
    from fiftyone_sfam.audit.suspects import find_suspects
    from fiftyone_sfam.explain import explain_retrieval
    from fiftyone_sfam.protocol import Protocol
    from fiftyone_sfam.runs import list_runs, load_run
    from worlds import tiny_model

    dataset = fo.load_dataset(name)
    model = model or tiny_model()
    done = "sfam" in list_runs(dataset)
    run = load_run(dataset, "sfam") if done else None
    if run is None or run.config.model != model.name:
        run = explain_retrieval(
            dataset,
            model,
            k=2,
            protocol=Protocol(identity_field="identity", camera_field="camera"),
            batch_size=3,
            num_workers=0,
            cache_bytes=0,
            overwrite=overwrite,
        )
    evaluate_retrieval(run, slices=["camera"], resamples=10)
    find_suspects(run)
    build_ledger(run, None)


if __name__ == "__main__":
    main()
