"""Clearing away: all that nothing refers to, and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from fiftyone.core.odm import get_db_conn

from crash_support import chunks_without_blob
from fiftyone_sfam import explain_retrieval, list_runs, load_run
from fiftyone_sfam.cli.entry import main
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.pipeline.pruning import NO_BLOB, NO_DATASET, NO_RESULT, NO_RUN, prune
from fiftyone_sfam.runs.blobs import BUCKET, BlobStore
from fiftyone_sfam.runs.lock import COLLECTION
from stored import stored_blobs
from worlds import fill, tiny_model

NOW = timedelta(0)


@pytest.fixture(autouse=True)
def _nothing_of_others() -> None:
    """Other tests delete their datasets, and leave what can be pruned."""
    prune(older_than=NOW, delete=True)


def files() -> Any:
    return get_db_conn()[f"{BUCKET}.files"]


def interrupt(dataset: fo.Dataset, key: str = "x", at: int = 2) -> None:
    """Leave the work of a run that was interrupted."""

    def progress(done: int, _total: int, phase: str) -> None:
        if phase == "explaining":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(
            dataset, tiny_model(), key=key, k=1, batch_size=3, progress=progress
        )


def found(dataset: fo.Dataset | None = None, **options: Any) -> list[tuple[str, int]]:
    """What would be pruned: reasons and numbers of blobs."""
    return [(one.reason, len(one.names)) for one in prune(dataset, **options)]


def test_interrupted_work_is_pruned_when_it_is_old(world: fo.Dataset) -> None:
    run = explain_retrieval(world, tiny_model(), k=1)
    kept = stored_blobs(world)
    interrupt(world)
    left = stored_blobs(world) - kept
    # Embeddings, what is to be explained, and the first maps.
    assert left == 4 + 1 + 1
    assert found(world) == []
    assert found(world, older_than=NOW) == [(NO_RUN, left)]
    assert stored_blobs(world) == kept + left
    query = {"metadata.uid": {"$ne": run.config.uid}}
    long_ago = datetime.now(timezone.utc) - timedelta(hours=25)
    files().update_many(query, {"$set": {"uploadDate": long_ago}})
    # The last write counts: one blob is younger.
    one = files().find_one({**query, "metadata.dataset_id": str(world._doc.id)})
    young = datetime.now(timezone.utc) - timedelta(hours=23)
    files().update_one({"_id": one["_id"]}, {"$set": {"uploadDate": young}})
    assert found(world) == []
    files().update_one({"_id": one["_id"]}, {"$set": {"uploadDate": long_ago}})
    [pruned] = prune(world, delete=True)
    assert (pruned.reason, len(pruned.names)) == (NO_RUN, left)
    assert pruned.size > 0
    assert stored_blobs(world) == kept
    assert found(world, older_than=NOW) == []
    assert load_run(world, "sfam").maps(0).query is not None


def test_what_lives_is_never_pruned(world: fo.Dataset) -> None:
    seen = []

    def progress(done: int, _total: int, _phase: str) -> None:
        seen.append(found(older_than=NOW, delete=True))

    run = explain_retrieval(
        world, tiny_model(), k=1, batch_size=3, progress=progress, cache_bytes=0
    )
    assert seen == [[]] * 8
    assert len(run.many_maps(range(len(run.pairs)))) == 12
    assert get_db_conn()[COLLECTION].count_documents({}) == 0


def test_interrupted_runs_that_are_listed_are_kept(world: fo.Dataset) -> None:
    run = explain_retrieval(world, tiny_model(), k=1)
    record = world.get_run_info("sfam").config
    record.state = "publishing"
    world.update_run_config("sfam", record)
    assert list_runs(world) == []
    assert prune(older_than=NOW, delete=True) == ()
    again = explain_retrieval(world, tiny_model(), k=1)
    assert again.config.uid == run.config.uid


def test_a_deleted_dataset_leaves_nothing_behind(
    world: fo.Dataset, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    other = fill(fo.Dataset(), tmp_path / "more")
    run = explain_retrieval(other, tiny_model(), k=1)
    kept = explain_retrieval(world, tiny_model(), k=1)
    clone = other.clone()
    other.delete()
    # The clone refers to the blobs of the original.
    assert found(older_than=NOW) == []
    clone.delete()
    [orphan] = prune(older_than=NOW)
    assert (orphan.reason, orphan.uid) == (NO_DATASET, run.config.uid)
    assert set(orphan.names) == {f"{orphan.uid}/{one}" for one in run.store.names()}
    assert prune(world, older_than=NOW) == ()
    prune(older_than=NOW, delete=True)
    assert run.store.names() == set()
    assert kept.store.names() != set()
    assert chunks_without_blob() == []


def test_pieces_and_results_that_nothing_lists(world: fo.Dataset) -> None:
    run = explain_retrieval(world, tiny_model(), k=1)
    run.results.save("ranks", {}, {"x": np.zeros(3)})
    run.store.put("result-ranks-older", {"x": np.zeros(3)})
    store = BlobStore(str(world._doc.id), "killed")
    store.put("embeddings-000000", {"x": np.zeros(5)})
    files().delete_one({"_id": "killed/embeddings-000000"})
    assert sorted(found(older_than=NOW)) == sorted([(NO_BLOB, 1), (NO_RESULT, 1)])
    assert found() == []
    prune(older_than=NOW, delete=True)
    assert found(older_than=NOW) == []
    assert chunks_without_blob() == []
    assert run.results.load("ranks") is not None


def test_one_maker_per_key(world: fo.Dataset) -> None:
    refused = []

    def progress(done: int, _total: int, _phase: str) -> None:
        with pytest.raises(RunError, match="another process is making the run 'sfam'"):
            explain_retrieval(world, tiny_model(1), k=1)
        refused.append(done)
        if len(refused) == 1:
            explain_retrieval(world, tiny_model(1), k=1, key="other")

    explain_retrieval(world, tiny_model(), k=1, progress=progress)
    assert refused == [12, 12]
    assert list_runs(world) == ["other", "sfam"]


def test_the_dead_are_replaced(world: fo.Dataset) -> None:
    signs = get_db_conn()[COLLECTION]
    name = f"{world._doc.id}/sfam"
    now = datetime.now(timezone.utc)
    far = {"_id": name, "host": "far away", "pid": 1, "started": 0.0}
    signs.insert_one({**far, "time": now - timedelta(minutes=2)})
    with pytest.raises(RunError, match="wait 3 minutes"):
        explain_retrieval(world, tiny_model(), k=1)
    signs.update_one({"_id": name}, {"$set": {"time": now - timedelta(minutes=4)}})
    explain_retrieval(world, tiny_model(), k=1)
    assert signs.count_documents({}) == 0


def test_the_command(world: fo.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    interrupt(world)
    assert main(["prune"]) == 0
    assert "There is nothing to prune." in capsys.readouterr().out
    assert main(["prune", world.name, "--older-than", "0"]) == 0
    shown = capsys.readouterr().out
    assert "its run was not finished" in shown
    assert "repeat with --delete" in shown
    assert stored_blobs(world) == 6
    assert main(["prune", world.name, "--older-than", "0", "--delete"]) == 0
    assert "MiB deleted." in capsys.readouterr().out
    assert stored_blobs(world) == 0


def test_ages_that_cannot_be(world: fo.Dataset) -> None:
    with pytest.raises(DataError, match="give an age of 0 or more"):
        prune(older_than=timedelta(seconds=-1))
