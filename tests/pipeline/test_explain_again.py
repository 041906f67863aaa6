"""Runs that are made again: over one that exists, or after an interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import fiftyone.brain as fob
import numpy as np
import pytest
from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.pipeline import explain
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.manage import delete_run
from fiftyone_sfam.runs.blobs import BUCKET, BlobStore
from fiftyone_sfam.runs.run import list_runs, load_run
from fiftyone_sfam.runs.run_config import COMPLETE, METHOD, record_run, run_config
from paths import ROOT, TESTS
from stored import assert_close, interrupt_after, numbers_of, stored_blobs
from worlds import (
    REID,
    PassCounter,
    embeddings_of,
    fill,
    fill_frames,
    person,
    tiny_model,
    tiny_network,
)

# -- keys ------------------------------------------------------------------------------


def test_existing_key_is_refused_and_replaced_when_asked(world):
    first = explain_retrieval(world, tiny_model(), k=2)
    with pytest.raises(RunError, match="has a run 'sfam' already; give overwrite=True"):
        explain_retrieval(world, tiny_model(), k=1)
    before = stored_blobs(world)
    again = explain_retrieval(world, tiny_model(1), k=1, overwrite=True, batch_size=32)
    assert again.config.uid != first.config.uid
    assert list_runs(world) == ["sfam"]
    assert len(again.pairs) == 12
    assert world.values("sfam_score") == again.pairs.similarity.tolist()
    counts = [len(n) for n in world.values("sfam_neighbors.classifications")]
    assert counts == [1] * 12
    assert first.store.names() == set()
    assert stored_blobs(world) == before
    assert load_run(world, "sfam").config.replaces == ()


def test_failing_overwrite_leaves_the_old_run(world):
    first = explain_retrieval(world, tiny_model(), k=2)
    numbers, scores = numbers_of(first), world.values("sfam_score")
    count = stored_blobs(world)
    wrong = embeddings_of(tiny_model(1), world.values("filepath"))
    with pytest.raises(DataError):
        explain_retrieval(world, tiny_model(), embeddings=wrong, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(
            world,
            tiny_model(1),
            overwrite=True,
            batch_size=4,
            progress=interrupt_after(2, "explaining"),
        )
    kept = load_run(world, "sfam")
    assert kept.config == first.config
    for name, values in numbers_of(kept).items():
        np.testing.assert_array_equal(values, numbers[name])
    assert world.values("sfam_score") == scores
    assert len(kept.store.names()) == count


def test_overwriting_detections_by_whole_images_and_back(dataset, tmp_path):
    fill_frames(dataset, tmp_path)
    model = tiny_model()
    explain_retrieval(dataset, model, k=1, patches_field="people")
    explain_retrieval(dataset, model, k=1, overwrite=True)
    assert len(dataset.exists("sfam")) == len(dataset.exists("sfam_score")) == 4
    assert {drawn.shape for drawn in dataset.values("sfam.map")} == {(96, 96)}
    assert dataset.get_field("people.detections.sfam_score") is None
    assert set(dataset.values("people.detections[].sfam_score")) == {None}
    explain_retrieval(dataset, model, k=1, patches_field="people", overwrite=True)
    assert dataset.get_field("sfam_score") is None
    assert len(dataset.exists("sfam")) == 4
    assert None not in dataset.values("people.detections[].sfam_score")


def test_fields_of_the_user_are_never_taken(world):
    world.set_values("mine_score", [1.0] * 12)
    with pytest.raises(RunError, match="has a field 'mine_score' that does not belong"):
        explain_retrieval(world, tiny_model(), key="mine")
    with pytest.raises(RunError, match="has a field 'filepath' that does not belong"):
        explain_retrieval(world, tiny_model(), key="filepath")
    assert world.values("mine_score") == [1.0] * 12


def test_fields_of_the_user_survive_an_overwrite(dataset, tmp_path):
    fill_frames(dataset, tmp_path)
    explain_retrieval(dataset, tiny_model(), k=1, patches_field="people")
    dataset.set_values("sfam_score", [1.0] * 4)
    with pytest.raises(RunError, match="has a field 'sfam_score' that does not belong"):
        explain_retrieval(dataset, tiny_model(), k=1, overwrite=True)
    assert dataset.values("sfam_score") == [1.0] * 4


@pytest.mark.parametrize("key", ["", "two words", "_private", "a.b", "1st"])
def test_keys_that_are_no_names(world, key):
    with pytest.raises(RunError, match="cannot be used; give a name of letters"):
        explain_retrieval(world, tiny_model(), key=key)


def test_runs_of_others_are_not_replaced(world):
    world.register_run("other", world.init_run(method="somebody/else"))
    with pytest.raises(RunError, match="has a run 'other' of another kind"):
        explain_retrieval(world, tiny_model(), key="other", overwrite=True)


# -- interruption ----------------------------------------------------------------------

OPTIONS = {
    "k": 2,
    "protocol": REID,
    "batch_size": 3,
    "num_workers": 0,
    "cache_bytes": 0,
}


@pytest.mark.parametrize(
    ("calls", "phase", "cache_bytes", "expected"),
    [
        (1, "embedding", 0, 9 + 12),
        (3, "embedding", 0, 3 + 12),
        (1, "explaining", 0, 9),
        (4, "explaining", 0, 0),
        # What is embedded anew is cached; one more pass measures what it takes.
        (1, "embedding", 2**20, 1 + 9 + 3),
        (3, "embedding", 2**20, 1 + 3 + 9),
        (1, "explaining", 2**20, 9),
    ],
)
def test_interrupted_run_goes_on_where_it_was(
    world, calls, phase, cache_bytes, expected
):
    options = {**OPTIONS, "cache_bytes": cache_bytes}
    whole = explain_retrieval(world, tiny_model(), key="whole", **options)
    before = stored_blobs(world)
    model = tiny_model()
    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(
            world, model, progress=interrupt_after(calls, phase), **options
        )
    assert list_runs(world) == ["whole"]
    assert world.get_field("sfam") is None
    with pytest.raises(RunError, match="has no explained run 'sfam'"):
        load_run(world, "sfam")
    counter = PassCounter(model)
    run = explain_retrieval(world, model, **options)
    assert counter.images == expected
    assert stored_blobs(world) == 2 * before
    first, second = numbers_of(whole), numbers_of(run)
    for name, values in first.items():
        np.testing.assert_array_equal(second[name], values)


@pytest.fixture
def reads(monkeypatch):
    """Count how often each blob's bytes are asked for."""
    counts: Counter[str] = Counter()
    get_many = BlobStore.get_many

    def counted(store, names):
        counts.update(names)
        return get_many(store, names)

    monkeypatch.setattr(BlobStore, "get_many", counted)
    return counts


def stored_bytes(run):
    """Return the bytes of each blob but the table, which holds the samples' ids."""
    bucket = run.store._bucket
    return {
        name: bucket.get(f"{run.config.uid}/{name}").read()
        for name in run.store.names()
        if name != "table"
    }


@pytest.mark.parametrize("patches_field", [None, "people"])
@pytest.mark.parametrize("embedded_before", [False, True])
@pytest.mark.parametrize("calls", [None, 1, 3])
def test_shards_are_read_once(
    make_dataset, tmp_path, reads, patches_field, embedded_before, calls
):
    """Whether a run is made at once, or resumed after some of its shards are stored."""
    make = fill if patches_field is None else fill_frames
    world = make(make_dataset(), tmp_path)
    options = {**OPTIONS, "protocol": Protocol(), "patches_field": patches_field}
    if embedded_before:
        first = explain_retrieval(world, tiny_model(), key="first", **options)
        options["embeddings"] = first.embeddings()
    whole = explain_retrieval(world, tiny_model(), key="whole", **options)
    heatmaps = world.values("whole.map")
    reads.clear()
    if calls is not None:
        with pytest.raises(KeyboardInterrupt):
            explain_retrieval(
                world,
                tiny_model(),
                progress=interrupt_after(calls, "explaining"),
                **options,
            )
        assert [name for name in reads if name.startswith("maps-")] == []
    run = explain_retrieval(world, tiny_model(), **options)
    shards = {name for name in run.store.names() if name.startswith("maps-")}
    assert len(shards) == 4
    assert {name: reads[name] for name in shards} == dict.fromkeys(shards, 1)
    # Nothing else that was just stored is read, but embeddings when a run is resumed.
    others = {name.partition("-")[0] for name in set(reads) - shards}
    resumed = {"planned"} if embedded_before else {"planned", "embeddings"}
    assert others == (set() if calls is None else resumed)
    assert stored_bytes(run) == stored_bytes(whole)
    assert run.config.share_on_map == whole.config.share_on_map
    for found, expected in zip(world.values("sfam.map"), heatmaps, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_summary_that_is_missing_is_computed(world, reads):
    whole = explain_retrieval(world, tiny_model(), key="whole", **OPTIONS)
    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(
            world, tiny_model(), progress=interrupt_after(3, "explaining"), **OPTIONS
        )
    files = get_db_conn()[f"{BUCKET}.files"]
    without = {"$unset": {"metadata.summary": ""}}
    assert files.update_many({"_id": {"$regex": "/maps-"}}, without).modified_count > 4
    run = explain_retrieval(world, tiny_model(), **OPTIONS)
    assert stored_bytes(run) == stored_bytes(whole)
    assert world.values("sfam.map")[0].tolist() == world.values("whole.map")[0].tolist()
    assert run.remainders.tolist() == whole.remainders.tolist()


def test_two_at_once_do_not_share_what_is_stored(world):
    """The same settings under two keys, one begun while the other is at work."""
    begun = []

    def progress(_done, _total, phase):
        if phase == "explaining" and not begun:
            begun.append(
                explain_retrieval(world, tiny_model(), key="second", **OPTIONS)
            )

    first = explain_retrieval(
        world, tiny_model(), key="first", progress=progress, **OPTIONS
    )
    (second,) = begun
    assert first.config.uid != second.config.uid
    kept = numbers_of(second)
    delete_run(world, "second")
    for name, values in numbers_of(load_run(world, "first")).items():
        np.testing.assert_array_equal(values, kept[name])


def test_interrupted_while_the_embeddings_are_kept_as_an_index(world, monkeypatch):
    """The same call ends it, though the brain key is in use by then."""
    keep = explain.keep_as_index

    def interrupted(*arguments):
        keep(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(explain, "keep_as_index", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(world, tiny_model(), keep_index="kept", **OPTIONS)
    monkeypatch.undo()
    assert world.list_brain_runs() == ["kept"]
    # Other calls may not take it, nor does this one take what somebody else has made.
    with pytest.raises(DataError, match="the brain key 'kept' is in use"):
        explain_retrieval(world, tiny_model(), key="x", keep_index="kept", **OPTIONS)
    fob.compute_similarity(
        world, embeddings=np.eye(12), brain_key="mine", backend="sklearn"
    )
    with pytest.raises(DataError, match="the brain key 'mine' is in use"):
        explain_retrieval(world, tiny_model(), keep_index="mine", **OPTIONS)
    model = tiny_model()
    counter = PassCounter(model)
    run = explain_retrieval(world, model, keep_index="kept", **OPTIONS)
    assert counter.images == 0
    assert (run.config.state, run.config.keeps_index) == (COMPLETE, None)
    assert sorted(world.list_brain_runs()) == ["kept", "mine"]
    index = world.load_brain_results("kept")
    assert index.total_index_size == 12
    found, _, _ = index.get_embeddings()
    np.testing.assert_array_equal(found, run.embeddings())
    # It is the user's now: a run in its place leaves it alone.
    with pytest.raises(DataError, match="the brain key 'kept' is in use"):
        explain_retrieval(
            world, model, keep_index="kept", overwrite=True, **OPTIONS | {"k": 1}
        )
    assert world.load_brain_results("kept").total_index_size == 12


def test_other_work_does_not_go_on_with_it(world):
    model = tiny_model()
    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(
            world, model, progress=interrupt_after(4, "explaining"), **OPTIONS
        )
    counter = PassCounter(model)
    for change in ({"k": 3}, {"weights": "minmax"}, {"protocol": None}):
        counter.images = 0
        explain_retrieval(world, model, overwrite=True, **{**OPTIONS, **change})
        assert counter.images == 24
    other = tiny_model(preprocess=lambda image: model.preprocess(image) / 2)
    again = tiny_model(preprocess=lambda image: model.preprocess(image) * 2)
    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(
            world,
            other,
            key="x",
            progress=interrupt_after(4, "explaining"),
            **OPTIONS,
        )
    counter = PassCounter(again)
    explain_retrieval(world, again, key="x", **OPTIONS)
    assert counter.images == 24


def test_changed_file_is_not_mixed_into_interrupted_work(world):
    model = tiny_model()
    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(
            world, model, progress=interrupt_after(4, "embedding"), **OPTIONS
        )
    person(77).save(world.first().filepath)
    counter = PassCounter(model)
    run = explain_retrieval(world, model, **OPTIONS)
    assert counter.images == 24
    assert run.skipped == ()


def test_embeddings_given_go_on_too(world):
    model = tiny_model()
    vectors = embeddings_of(model, world.values("filepath"))
    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(
            world,
            model,
            embeddings=vectors,
            progress=interrupt_after(2, "explaining"),
            **OPTIONS,
        )
    counter = PassCounter(model)
    explain_retrieval(world, model, embeddings=vectors, **OPTIONS)
    assert counter.images == 6


def test_an_interruption_does_not_let_wrong_embeddings_through(world):
    model = tiny_model()
    vectors = embeddings_of(model, world.values("filepath"))
    # Of the last three images alone they would pass.
    vectors[:9] = np.random.default_rng(0).normal(size=(9, 5))
    # Every image has as many sides as any other, so they come in their order.
    options = {**OPTIONS, "k": 11, "protocol": None, "embeddings": vectors}
    refused = "9 of the first 12 recomputed ones differ"
    with pytest.raises(DataError, match=refused):
        explain_retrieval(world, model, **options)
    with pytest.raises(KeyboardInterrupt):
        explain_retrieval(
            world, model, progress=interrupt_after(3, "explaining"), **options
        )
    with pytest.raises(DataError, match=refused):
        explain_retrieval(world, model, **options)
    assert stored_blobs(world) == 0


# -- killed while the fields are written -----------------------------------------------

_KILLED = """
import os, signal, sys
import fiftyone as fo
from fiftyone_sfam.pipeline import publish
from fiftyone_sfam.pipeline.explain import explain_retrieval
from worlds import tiny_model

publish._WRITE_BATCH = 2
batches = 0

def kill(frame, event, arg):
    # Ends the process as it is about to write the fields of the second two samples.
    global batches
    code = frame.f_code
    if event == "call" and (code.co_name, code.co_filename) == (
        "flush", publish.__file__
    ):
        batches += 1
        if batches == 2:
            os.kill(os.getpid(), signal.SIGKILL)

dataset = fo.load_dataset(sys.argv[1])
sys.setprofile(kill)
explain_retrieval(
    dataset, tiny_model(), k=1, batch_size=3, num_workers=0, overwrite=True
)
"""


def test_killed_while_publishing(world):
    old = explain_retrieval(world, tiny_model(1), k=2)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, world.name],
        env={**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    world.reload()
    assert sum(one is not None for one in world.values("sfam_score")) == 2
    assert world.list_runs(method=METHOD) == ["sfam"]
    assert list_runs(world) == []
    with pytest.raises(RunError, match="was interrupted while its fields were written"):
        load_run(world, "sfam")
    model = tiny_model()
    counter = PassCounter(model)
    options = {"k": 1, "batch_size": 3, "num_workers": 0}
    run = explain_retrieval(world, model, **options)
    assert counter.images == 0
    assert list_runs(world) == ["sfam"]
    assert world.values("sfam_score") == run.pairs.similarity.tolist()
    assert set(world.values("sfam_outcome")) == {"unlabeled"}
    fresh = explain_retrieval(world, model, key="fresh", **options)
    assert_close(run, fresh, atol=0)
    # Nothing is left of the run whose place was taken.
    assert old.store.names() == set()
    assert stored_blobs(world) == 2 * len(run.store.names())


def test_two_keys_never_share_an_interrupted_run(world):
    model = tiny_model()
    explain_retrieval(world, model, key="a", k=1)
    config = run_config(world, "a")
    assert config is not None
    # As a process leaves it that ends before its last step.
    record_run(world, "a", replace(config, state="publishing"))
    other = explain_retrieval(world, model, key="b", k=1)
    assert other.config.uid != config.uid
    delete_run(world, "a")
    assert other.maps(0).query is not None


def test_tiny_network_has_the_weights_of_its_seed():
    assert tiny_model(0).weights_hash() == tiny_model(0).weights_hash()
    assert tiny_model(0).weights_hash() != tiny_model(1).weights_hash()
    assert float(tiny_network().neck.bias.detach().abs().sum()) > 0
