"""Runs that are killed, and what has to be true of a dataset afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
from fiftyone.core.odm import get_db_conn

from crashing import work
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.manage import delete_run
from fiftyone_sfam.pipeline.pruning import prune
from fiftyone_sfam.runs.blobs import BUCKET
from fiftyone_sfam.runs.run import list_runs, load_run
from fiftyone_sfam.runs.run_config import DELETING, run_config
from paths import ROOT, TESTS
from stored import assert_same, stored_blobs, stored_numbers
from worlds import PassCounter, fill, tiny_model

BATCH, IMAGES = 3, 12
AUDITS = ("evaluation", "regions", "suspects")
FIELDS = ("sfam_ap", "sfam_first_match", "sfam_suspects")


@dataclass(frozen=True)
class Answer:
    """Exit code of a job; its writes and its result, if it was not killed."""

    status: int
    writes: list[str]
    result: Any


class Worker:
    """The process that does a run's work in children, see :mod:`crashing`."""

    def __init__(self, **environment: str) -> None:
        # The folder of the script is on its path, too.
        path = os.pathsep.join([str(TESTS), str(ROOT)])
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("crashing.py"))],
            env={
                **os.environ,
                "PYTHONPATH": path,
                "OMP_NUM_THREADS": "1",
                **environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(
        self, dataset: str, job: str = "work", write: int = 0, **request: Any
    ) -> Answer:
        """Do a job, and be killed at a write."""
        self.begin(dataset, job, write, **request)
        return self.end()

    def begin(
        self, dataset: str, job: str = "work", write: int = 0, **request: Any
    ) -> None:
        """Begin with a job."""
        told = {"after": False, "job": job, "dataset": dataset, "write": write}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told | request) + "\n")
        self._process.stdin.flush()

    def end(self) -> Answer:
        """Wait for the end of the job."""
        assert self._process.stdout is not None
        return Answer(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


@contextmanager
def crash_world(folder: Path) -> Iterator[CrashWorld]:
    """A dataset with another run and a user's field, and the process that works."""
    dataset = fill(fo.Dataset(persistent=True), folder)
    dataset.set_values("mine", [f"<{n}>" for n in range(IMAGES)])
    worker = Worker()
    try:
        other = explain_retrieval(dataset, tiny_model(2), key="other", k=1)
        work(dataset.name, False)
        world = CrashWorld(
            worker,
            dataset.name,
            audited_numbers(dataset),
            stored_numbers(dataset, "other"),
            len(other.store.names()),
            user_values(dataset),
        )
        delete_run(dataset, "sfam")
        yield world
    finally:
        worker.close()
        fo.load_dataset(dataset.name).delete()


@dataclass(frozen=True)
class CrashWorld:
    """A dataset to crash on, and what it is like when nothing crashes."""

    worker: Worker
    name: str
    whole: dict[str, Any]
    other: dict[str, Any]
    other_blobs: int
    user: dict[str, list[Any]]

    def fresh(self) -> fo.Dataset:
        """Load the dataset as it is stored now."""
        dataset = fo.load_dataset(self.name)
        dataset.reload()
        return dataset

    def check_after_crash(self, replaced: dict[str, Any] | None = None) -> None:
        """What holds whenever somebody was killed."""
        dataset = self.fresh()
        assert len(dataset) == IMAGES
        assert user_values(dataset) == self.user
        assert_same(stored_numbers(dataset, "other"), self.other)
        listed = list_runs(dataset)
        if "sfam" not in listed:
            assert listed == ["other"]
            with pytest.raises(RunError, match=r"interrupted|no explained run"):
                load_run(dataset, "sfam")
            return
        assert listed == ["other", "sfam"]
        run = load_run(dataset, "sfam")
        found = stored_numbers(dataset, "sfam")
        if run.config.model == "tiny-1":
            assert replaced is not None
            assert_same(found, replaced)
            return
        assert_same(found, {name: self.whole[name] for name in found})
        # What is listed of the audits is all there, too.
        for name in run.results.names():
            result = run.results.load(name)
            assert result is not None
            for column, values in result.arrays.items():
                expected = self.whole[f"{name}.{column}"]
                assert values.tobytes() == expected.tobytes(), (name, column)
            for path in result.fields:
                assert repr(dataset.values(path)) == repr(self.whole[path]), path

    def check_rerun(self) -> None:
        """The same work again: only what is left is done, and it ends the same."""
        dataset = self.fresh()
        done = self._done(dataset)
        model = tiny_model()
        counter = PassCounter(model)
        work(self.name, True, model)
        assert counter.images == 2 * IMAGES - done
        dataset = self.fresh()
        assert_same(audited_numbers(dataset), self.whole)
        assert user_values(dataset) == self.user
        # Nothing is left of what was interrupted but results that no one lists, which
        # go with their run, or when it is pruned.
        run = load_run(dataset, "sfam")
        assert stored_blobs(dataset) == len(run.store.names()) + self.other_blobs
        ours = f"{run.config.uid}/result-"
        lost = [one for one in chunks_without_blob() if not one.startswith(ours)]
        assert lost == [] or (done == 0 and len(lost) == 1)
        delete_run(dataset, "sfam")
        assert stored_blobs(dataset) == self.other_blobs
        # A first blob that was never listed has left pieces that no run can know of.
        prune(older_than=timedelta(0), delete=True)
        assert chunks_without_blob() == []
        assert stored_blobs(dataset) == self.other_blobs
        assert user_values(dataset) == self.user

    def _done(self, dataset: fo.Dataset) -> int:
        """Passes that are stored already, of the run that was interrupted."""
        config = run_config(dataset, "sfam")
        if config is not None and config.state == DELETING:
            return 0
        if config is not None and config.model == "tiny-0":
            return 2 * IMAGES
        finished = [load_run(dataset, key).config.uid for key in list_runs(dataset)]
        query = {
            "metadata.dataset_id": str(dataset._doc.id),
            "metadata.uid": {"$nin": finished},
            "_id": {"$regex": "/(embeddings|maps)-"},
        }
        return BATCH * _files().count_documents(query)


def audited_numbers(dataset: fo.Dataset) -> dict[str, Any]:
    """Everything that the work has stored: the run, its audits and their fields."""
    found = stored_numbers(dataset, "sfam")
    results = load_run(dataset, "sfam").results
    assert results.names() == sorted(AUDITS)
    for name in AUDITS:
        result = results.load(name)
        assert result is not None
        found |= {f"{name}.{key}": value for key, value in result.arrays.items()}
    return found | {path: dataset.values(path) for path in FIELDS}


def user_values(dataset: fo.Dataset) -> dict[str, list[Any]]:
    """What is the user's own."""
    names = ("filepath", "identity", "camera", "split", "mine", "tags")
    return {name: dataset.values(name) for name in names}


def chunks_without_blob() -> list[str]:
    """Pieces of blobs that nothing lists."""
    listed = set(_files().distinct("_id"))
    chunks = get_db_conn()[f"{BUCKET}.chunks"].distinct("files_id")
    return sorted(one for one in chunks if one not in listed)


def _files() -> Any:
    return get_db_conn()[f"{BUCKET}.files"]
