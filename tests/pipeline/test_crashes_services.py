"""What is around a run breaks: its database, the disk, its dataset, its operation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.delegated import DelegatedOperationService

from crash_support import Worker
from fiftyone_sfam.audit.report.write import write_report
from fiftyone_sfam.errors import DataError, SfamError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.pruning import NO_DATASET, prune
from fiftyone_sfam.runs.run import list_runs, load_run
from operator_support import PLUGIN
from paths import TESTS
from services import start_mongod, stop_mongod
from stored import stored_blobs
from worlds import HEIGHT, WIDTH, fill, tiny_model


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def world(dataset: fo.Dataset, tmp_path: Path) -> fo.Dataset:
    dataset.persistent = True
    return fill(dataset, tmp_path)


def reload(dataset: fo.Dataset) -> fo.Dataset:
    dataset.reload()
    return dataset


# -- the database, and its disk --------------------------------------------------------


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own, if this process may make one."""
    folder.mkdir()
    mount = shutil.which("mount")
    if sys.platform != "linux" or os.geteuid() != 0 or mount is None:
        pytest.skip("only root may mount a file system of a given size")
    command = [mount, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine lets nobody mount a file system: {done.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class Database:
    """A MongoDB of its own, which may be killed, and a process that works with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process, self._uri = start_mongod(folder)
        self.worker = Worker(
            FIFTYONE_DATABASE_URI=f"{self._uri}/?serverSelectionTimeoutMS=1000",
            FIFTYONE_DATABASE_NAME="crashing",
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def restart(self) -> None:
        stop_mongod(self._process)
        port = int(self._uri.rpartition(":")[2])
        self._process, _ = start_mongod(self._folder, port)

    def close(self) -> None:
        self.worker.close()
        stop_mongod(self._process)


def test_the_database_is_killed_and_its_disk_is_full(tmp_path: Path) -> None:
    # Both on one server: starting it takes longer than all the rest.
    with small_disk(tmp_path / "disk", 700) as disk:
        database = Database(disk / "db")
        try:
            images = tmp_path / "images"
            images.mkdir()
            worker = database.worker
            assert worker.do("world", "fill", folder=str(images)).status == 0
            whole = worker.do("world")
            assert (whole.status, whole.result) == (0, 24)
            expected = worker.do("world", "digest", audited=True).result
            assert expected["runs"] == ["sfam"]
            assert len(expected["digests"]) > 40
            assert worker.do("world", "delete").status == 0

            def after(name: str) -> None:
                database.restart()
                there = worker.do("world", "digest", audited=False).result
                # Of what was acknowledged, the server loses up to its last 100 ms.
                assert there["runs"] in ([], ["sfam"] if "result" in name else [])
                assert there["samples"] == 12
                again = worker.do("world")
                assert (again.status, again.result) == (0, 24 - there["done"])
                found = worker.do("world", "digest", audited=True)
                assert found.result == expected
                assert worker.do("world", "delete").status == 0

            for name in ("/maps-000001", "update samples", "result-suspects"):
                write = next(n for n, one in enumerate(whole.writes, 1) if name in one)
                broken = worker.do("world", write=write, victim=database.pid)
                assert broken.status == 1, name
                after(name)

            filler = disk / "filler"
            with filler.open("wb", buffering=0) as stream, suppress(OSError):
                while True:
                    stream.write(bytes(2**20))
            assert shutil.disk_usage(disk).free < 2**16
            full = worker.do("world")
            assert full.status == 1
            filler.unlink()
            after("maps")
        finally:
            database.close()


def test_a_report_on_a_full_disk_keeps_the_earlier_one(
    world: fo.Dataset, tmp_path: Path
) -> None:
    run = explain_retrieval(world, tiny_model(), k=1)
    with small_disk(tmp_path / "disk", 16) as disk:
        files = write_report(run, disk / "report", parquet=False)
        before = {path.name: path.read_bytes() for path in files.paths()}
        with (disk / "filler").open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(disk).free)
        with pytest.raises(DataError, match="cannot be written: No space left on"):
            write_report(run, disk / "report", parquet=False, overwrite=True)
        after = {path.name: path.read_bytes() for path in (disk / "report").iterdir()}
        assert after == before


# -- the dataset -----------------------------------------------------------------------


def test_the_dataset_is_deleted_meanwhile(world: fo.Dataset) -> None:
    name, dataset_id = world.name, str(world._doc.id)

    def progress(_done: int, _total: int, phase: str) -> None:
        if phase == "explaining" and fo.dataset_exists(name):
            # As another process does it: this one's object is none the wiser.
            code = f"import fiftyone as fo; fo.delete_dataset({name!r})"
            subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

    with pytest.raises((SfamError, ValueError)) as caught:
        explain_retrieval(world, tiny_model(), k=1, progress=progress)
    assert "deleted" in str(caught.value)
    assert not fo.dataset_exists(name)
    left = list(prune(older_than=timedelta(0), delete=True))
    assert {one.reason for one in left if one.dataset_id == dataset_id} == {NO_DATASET}
    assert not list(prune(older_than=timedelta(0)))


def test_samples_and_labels_change_meanwhile(world: fo.Dataset) -> None:
    first, second, *_ = world.values("id")
    model = tiny_model()

    def progress(_done: int, _total: int, phase: str) -> None:
        if phase == "explaining" and len(world) == 12:
            world.delete_samples([first])
            world.select(second).set_values("identity", ["changed"])
            path = str(Path(world.first().filepath).parent / "new.png")
            shutil.copy(world.first().filepath, path)
            world.add_sample(fo.Sample(filepath=path, identity="new"))
            world.add_sample(fo.Sample(filepath=path, identity="new"))

    run = explain_retrieval(world, model, k=1, batch_size=3, progress=progress)
    # The run is of what there was when it began; nothing comes back, nothing is lost.
    assert len(run.items) == 12
    reload(world)
    assert first not in world.values("id")
    assert world[second].identity == "changed"
    assert world[second].sfam_score is not None
    assert [
        one.sfam_score for one in world.match(fo.ViewField("identity") == "new")
    ] == [
        None,
        None,
    ]


# -- two at once -----------------------------------------------------------------------


def test_two_processes_with_two_keys_and_with_one(
    world: fo.Dataset, worker: Worker
) -> None:
    user = user_values_of(world)
    other = Worker()
    try:
        worker.begin(world.name, "explain", seed=0, key="a")
        other.begin(world.name, "explain", seed=1, key="b")
        assert [(one.status, one.result) for one in (worker.end(), other.end())] == [
            (0, ""),
            (0, ""),
        ]
        assert list_runs(reload(world)) == ["a", "b"]
        alone = explain_retrieval(world, tiny_model(0), k=1, batch_size=3, key="alone")
        for key in ("a", "b", "alone"):
            assert None not in world.values(f"{key}_score")
        assert world.values("a_score") == world.values("alone_score")
        assert world.values("b_score") != world.values("alone_score")
        assert load_run(world, "a").embeddings().tobytes() == (
            alone.embeddings().tobytes()
        )

        worker.begin(world.name, "explain", seed=0, key="c")
        other.begin(world.name, "explain", seed=1, key="c")
        told = [one.result for one in (worker.end(), other.end())]
        # One of them makes it; the other is told so, before or after.
        assert sorted(map(bool, told)) == [False, True]
        assert "another process is making the run 'c'" in max(told) or (
            "has a run 'c' already" in max(told)
        )
        winner = load_run(reload(world), "c")
        assert winner.config.model == f"tiny-{told.index('')}"
        assert None not in world.values("c_score")
        assert user_values_of(world) == user
        runs = [load_run(world, key) for key in ("a", "b", "c", "alone")]
        assert stored_blobs(world) == sum(len(run.store.names()) for run in runs)
    finally:
        other.close()


def user_values_of(dataset: fo.Dataset) -> dict[str, list[Any]]:
    return {
        name: dataset.values(name)
        for name in ("filepath", "identity", "camera", "tags")
    }


# -- the operation ---------------------------------------------------------------------


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A process that knows the tiny network by a name."""
    entry = {
        "factory": "worlds:tiny_network",
        "python_path": [str(TESTS)],
        "preprocess": {"size": [HEIGHT, WIDTH]},
    }
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": {"tiny": entry}}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))
    worker = Worker()
    yield worker
    worker.close()


def test_a_delegated_run_is_cancelled_and_fails_and_is_repeated(
    world: fo.Dataset, registered: Worker
) -> None:
    service = DelegatedOperationService()
    operator = foo.get_operator(f"{PLUGIN}/explain_retrieval")

    def queue(**settings: Any) -> None:
        operator(world, "tiny", delegate=True, k=1, batch_size=3, **settings)

    def states() -> list[str]:
        found = service.list_operations(dataset_name=world.name)
        return [one.run_state for one in found]

    queue()
    whole = registered.do(world.name, "delegated")
    assert (whole.status, whole.result) == (0, [None])
    expected = load_run(reload(world), "sfam").embeddings()
    assert states() == ["completed"]

    # Cancelled in the middle: by the end of its process, as FiftyOne's monitor does it.
    queue(key="cancelled")
    write = next(n for n, one in enumerate(whole.writes, 1) if "/maps-000002" in one)
    assert registered.do(world.name, "delegated", write).status == -9
    assert list_runs(reload(world)) == ["sfam"]
    for one in service.list_operations(dataset_name=world.name):
        if one.run_state != "completed":
            service.set_failed(one.id)
    queue(key="cancelled")
    again = registered.do(world.name, "delegated")
    assert (again.status, again.result) == (0, [None])
    blobs = [one for one in again.writes if "fiftyone_sfam.files" in one]
    assert not any("/maps-000001" in one for one in blobs)
    assert any("/maps-000002" in one for one in blobs)
    run = load_run(reload(world), "cancelled")
    assert run.embeddings().tobytes() == expected.tobytes()

    # Failed: with a sentence, and without a trace in the dataset.
    for sample in world:
        os.remove(sample.filepath)
    queue(key="failed")
    failed = registered.do(world.name, "delegated")
    assert "none of the 12 images could be embedded" in failed.result[0]
    assert list_runs(reload(world)) == ["cancelled", "sfam"]
    assert world.get_field("failed_score") is None
    for one in service.list_operations(dataset_name=world.name):
        service.delete_operation(one.id)
