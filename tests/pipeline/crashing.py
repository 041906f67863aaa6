"""A process that does a run's work in children of its own, and has them killed.

Everything is imported once, before the children are forked: a trial costs half a second
then, not ten. What a process leaves behind is what it has written to the database, so
children are killed at a write: just before it is sent, or just after it is answered.

Lines of JSON come in, and for each one goes out::

    {"job": "work", "dataset": NAME, "write": 7, "after": true, ...}
    {"status": -9, "writes": [], "result": null}
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
Request = dict[str, Any]
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
        self.victim = 0
        self._lock = threading.Lock()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        name = event.command_name
        if not self.on or name not in _WRITES or not _changes(event.command):
            return
        with self._lock:
            self.writes.append(describe(event.command))
            if len(self.writes) == self.at and not self.after:
                os.kill(self.victim or os.getpid(), signal.SIGKILL)

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
    from fiftyone_sfam.audit.comparison import compare  # noqa: F401
    from fiftyone_sfam.audit.evaluation import evaluate  # noqa: F401
    from fiftyone_sfam.audit.regions import ledger  # noqa: F401
    from fiftyone_sfam.audit.suspects import search  # noqa: F401
    from fiftyone_sfam.audit.verification import verify  # noqa: F401
    from fiftyone_sfam.pipeline.explain import explain_retrieval  # noqa: F401
    from fiftyone_sfam.runs import run as runs  # noqa: F401

    torch.set_num_threads(1)
    # A child has connections of its own.
    database._disconnect()
    for line in sys.stdin:
        request = json.loads(line)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            status, result = 1, None
            try:
                database.establish_db_conn(fo.config)
                KILLER.at, KILLER.after = request["write"], request["after"]
                KILLER.on = True
                KILLER.victim = request.get("victim", 0)
                result = JOBS[request["job"]](request)
                KILLER.on = False
                status = 0
            finally:
                if status:
                    traceback.print_exc()
                said = {"writes": KILLER.writes, "result": result}
                with os.fdopen(write, "w") as pipe:
                    json.dump(said, pipe)
                os._exit(status)
        os.close(write)
        with os.fdopen(read) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        answer = {
            "status": os.waitstatus_to_exitcode(status),
            **json.loads(said or '{"writes": [], "result": null}'),
        }
        print(json.dumps(answer), file=answers, flush=True)


def work(name: str, overwrite: bool, model: Any = None) -> None:
    """Explain and audit a dataset, whatever was done of it before."""
    import fiftyone as fo

    from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
    from fiftyone_sfam.audit.regions.ledger import build_ledger
    from fiftyone_sfam.audit.suspects.search import find_suspects
    from fiftyone_sfam.data.protocol import Protocol
    from fiftyone_sfam.pipeline.explain import explain_retrieval
    from fiftyone_sfam.runs.run import list_runs, load_run
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


def do_work(request: Request) -> int:
    """Work; return the images that went through the network."""
    from worlds import PassCounter, tiny_model

    model = tiny_model()
    counter = PassCounter(model)
    work(request["dataset"], request.get("overwrite", False), model)
    return counter.images


def do_delete(request: Request) -> None:
    """Delete the run."""
    import fiftyone as fo

    from fiftyone_sfam.pipeline.manage import delete_run

    delete_run(fo.load_dataset(request["dataset"]), "sfam")


def do_rename(request: Request) -> None:
    """Rename a run."""
    import fiftyone as fo

    from fiftyone_sfam.pipeline.manage import rename_run

    dataset = fo.load_dataset(request["dataset"])
    rename_run(dataset, request["key"], request["new_key"])


def do_compare(request: Request) -> None:
    """Compare two runs."""
    import fiftyone as fo

    from fiftyone_sfam.audit.comparison.compare import compare_runs
    from fiftyone_sfam.runs.run import load_run

    dataset = fo.load_dataset(request["dataset"])
    runs = [load_run(dataset, key) for key in request["keys"]]
    compare_runs(*runs, resamples=request["resamples"])


def do_explain(request: Request) -> str:
    """Make a run; return what it refuses to do, or nothing."""
    import fiftyone as fo

    from fiftyone_sfam.errors import SfamError
    from fiftyone_sfam.pipeline.explain import explain_retrieval
    from worlds import tiny_model

    dataset = fo.load_dataset(request["dataset"])
    seed, key = request["seed"], request["key"]
    try:
        explain_retrieval(dataset, tiny_model(seed), key=key, k=1, batch_size=3)
    except SfamError as error:
        return str(error)
    return ""


def do_verify(request: Request) -> None:
    """Verify and decide the pairs of the run 'given'."""
    import fiftyone as fo

    from fiftyone_sfam.audit.decisions import decide_pairs
    from fiftyone_sfam.audit.verification.verify import verify_pairs
    from fiftyone_sfam.runs.run import load_run

    run = load_run(fo.load_dataset(request["dataset"]), "given")
    verify_pairs(run, threshold=request["threshold"], fars=(0.5,))
    decide_pairs(run, threshold=request["threshold"])


def do_fill(request: Request) -> None:
    """Make the dataset, in whatever database this process has."""
    from pathlib import Path

    import fiftyone as fo

    from worlds import fill

    fill(fo.Dataset(request["dataset"], persistent=True), Path(request["folder"]))


def do_digest(request: Request) -> dict[str, Any]:
    """Return the finished runs, and a digest of each number that is stored."""
    import hashlib

    import fiftyone as fo
    from fiftyone.core.odm import get_db_conn

    from crash_support import audited_numbers
    from fiftyone_sfam.runs.run import list_runs

    dataset = fo.load_dataset(request["dataset"])
    runs = list_runs(dataset)
    # The fast count of a MongoDB that was killed is wrong; this one is not.
    samples = len(dataset.values("id"))
    found: dict[str, Any] = {"runs": runs, "samples": samples, "digests": {}}
    query = {
        "metadata.dataset_id": str(dataset._doc.id),
        "_id": {"$regex": "/(embeddings|maps)-"},
    }
    files = get_db_conn()["fiftyone_sfam.files"]
    found["done"] = 3 * files.count_documents(query)
    if request["audited"]:
        for name, value in audited_numbers(dataset).items():
            data = (
                value.tobytes() if hasattr(value, "tobytes") else repr(value).encode()
            )
            found["digests"][name] = hashlib.sha256(data).hexdigest()
    return found


def do_delegated(request: Request) -> list[Any]:
    """Execute what is queued; return the errors."""
    from fiftyone.operators.delegated import DelegatedOperationService

    done = DelegatedOperationService().execute_queued_operations(
        dataset_name=request["dataset"]
    )
    return [one.error for one in done]


JOBS = {
    "work": do_work,
    "delete": do_delete,
    "rename": do_rename,
    "compare": do_compare,
    "explain": do_explain,
    "verify": do_verify,
    "fill": do_fill,
    "digest": do_digest,
    "delegated": do_delegated,
}


if __name__ == "__main__":
    main()
