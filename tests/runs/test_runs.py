"""Listing, reading, renaming and deleting runs."""

from __future__ import annotations

from dataclasses import replace

import fiftyone as fo
import numpy as np
import pytest
from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.pipeline import explain as explain_module
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.manage import delete_run, rename_run
from fiftyone_sfam.runs import run_table
from fiftyone_sfam.runs.blobs import BUCKET
from fiftyone_sfam.runs.run import list_runs, load_run
from fiftyone_sfam.runs.run_config import RunConfig, record_run, run_config
from stored import stored_blobs
from worlds import REID, fill_frames, tiny_model


def explain(samples, key="sfam", **options):
    return explain_retrieval(
        samples, tiny_model(), key=key, **{"k": 1, "protocol": REID, **options}
    )


def fields(samples) -> set[str]:
    return set(samples.get_field_schema(flat=True))


def test_runs_live_side_by_side(world):
    assert list_runs(world) == []
    explain(world, "b", k=2)
    explain(world[:9], "a")
    world.register_run("other", world.init_run(method="somebody/else"))
    assert list_runs(world) == list_runs(world.limit(1)) == ["a", "b"]
    assert load_run(world, "a").config.counts["images"] == 9
    assert load_run(world.limit(1), "b").config.counts["images"] == 12
    assert world.values("a_score")[9:] == [None] * 3
    assert None not in world.values("b_score")


def test_a_loaded_run_is_the_one_that_was_made(world):
    made = explain(world, k=2)
    loaded = load_run(world, "sfam")
    assert loaded is not made
    assert loaded.config == made.config
    assert loaded.skipped == made.skipped == ()
    for name in ("query", "gallery", "rank", "similarity", "distance", "outcome"):
        one, other = getattr(loaded.pairs, name), getattr(made.pairs, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    items = loaded.items
    assert items.sample_ids.tolist() == world.values("id")
    assert list(items.identities) == world.values("identity")
    assert list(items.cameras) == world.values("camera")
    assert items.label_ids is None
    assert items.is_query.all()
    assert items.is_gallery.all()
    third = world.values("id")[3]
    assert items.index(third) == 3
    assert items.index("nobody") == -1
    assert items.indices_of_sample(third).tolist() == [3]
    assert loaded.embeddings().shape == (12, 5)
    assert "12 pairs" not in repr(loaded)
    assert "'sfam'" in repr(loaded)


def test_config_survives_its_plain_form(world):
    run = explain(world)
    config = run_config(world, "sfam")
    assert config == run.config
    assert isinstance(run.config.kinds, tuple)
    again = RunConfig.from_dict({**vars(run.config), "later": 1})
    assert again == run.config


def test_labels_are_those_of_the_time_of_the_run(world):
    run = explain(world)
    outcomes = run.pairs.outcome.copy()
    world.set_values("identity", ["same"] * 12)
    again = load_run(world, "sfam")
    assert again.items.identities[0] == "p0"
    np.testing.assert_array_equal(again.pairs.outcome, outcomes)


def test_many_maps_are_in_the_order_asked_for(world):
    run = explain(world, k=3, batch_size=2)
    chosen = [7, 0, 7, len(run.pairs) - 1]
    for pair, maps in zip(chosen, run.many_maps(chosen), strict=True):
        single = run.maps(pair)
        for side in ("query", "gallery"):
            one, other = getattr(maps, side), getattr(single, side)
            np.testing.assert_array_equal(one.maps["sfam"], other.maps["sfam"])
            assert one.score == other.score
            assert one.score == pytest.approx(run.pairs.similarity[pair], abs=1e-6)
    assert run.many_maps([]) == []


@pytest.mark.parametrize("pair", [-1, 12, 10**9])
def test_pairs_that_do_not_exist(world, pair):
    run = explain(world, protocol=Protocol())
    message = f"'sfam' has 12 pairs, numbered from 0; there is no pair {pair}."
    with pytest.raises(RunError) as error:
        run.maps(pair)
    assert message in str(error.value)


@pytest.mark.parametrize("action", [load_run, delete_run])
def test_no_such_run(world, action):
    explain(world, "mine")
    with pytest.raises(RunError, match=r"has no explained run 'sfam'"):
        action(world, "sfam")
    with pytest.raises(RunError, match=r"\(its runs: 'mine'\)"):
        load_run(world, "sfam")


def test_incomplete_maps_say_so(world):
    run = explain(world)
    for name, read in (
        ("maps-000000", lambda: load_run(world, "sfam").maps(0)),
        ("pairs-000000", lambda: load_run(world, "sfam").pairs),
        ("table", lambda: load_run(world, "sfam").items),
    ):
        run.store.delete_one(name)
        message = rf"incomplete \(no '{name}'\); run explain_retrieval again"
        with pytest.raises(RunError, match=message):
            read()


def test_parts_of_the_table_make_the_whole(world, monkeypatch):
    whole = explain(world, "whole", k=3, batch_size=5)
    for module in (explain_module, run_table):
        monkeypatch.setattr(module, "PART_PAIRS", 7)
    parts = explain(world, "parts", k=3, batch_size=5)
    count = len(whole.pairs)
    assert parts.config.part_pairs == 7
    names = {name for name in parts.store.names() if name.startswith("pairs-")}
    assert len(names) == -(-count // 7) > 5
    for name in ("query", "gallery", "rank", "similarity", "distance", "outcome"):
        one, other = getattr(parts.pairs, name), getattr(whole.pairs, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(parts.remainders, whole.remainders)
    sides = np.random.default_rng(0).permutation(2 * count)
    for found, planned in zip(
        parts.locate(sides), parts.plan.locate(sides), strict=True
    ):
        np.testing.assert_array_equal(found, planned)
    # Opening a pair reads its part, not the table of all of them.
    fresh = load_run(world, "parts")
    assert fresh.maps(count - 1).query.score == whole.maps(count - 1).query.score
    assert set(fresh._parts._held) == {(count - 1) // 7}
    assert not {"_pairs", "_items", "plan"} & set(vars(fresh))


def test_a_table_of_an_earlier_version_is_read(world):
    """Earlier versions kept the columns of the pairs in the table's one blob."""
    run = explain(world, k=2)
    score = run.maps(5).gallery.score
    table = run.store.get("table")
    for name in ("query", "gallery", "rank", "similarity", "distance", "outcome"):
        table[f"pairs_{name}"] = getattr(run.pairs, name)
    table["remainders"] = run.remainders
    run.store.delete_one("table")
    run.store.put("table", table)
    run.store.delete_one("pairs-000000")
    record_run(world, "sfam", replace(run.config, part_pairs=0))
    old = load_run(world, "sfam")
    np.testing.assert_array_equal(old.pairs.gallery, run.pairs.gallery)
    np.testing.assert_array_equal(old.remainders, run.remainders)
    assert old.items.sample_ids.tolist() == run.items.sample_ids.tolist()
    assert old.maps(5).gallery.score == score


# -- delete ----------------------------------------------------------------------------


def test_delete_leaves_nothing_and_spares_the_rest(world):
    before = fields(world)
    kept = explain(world, "kept")
    with_kept, count = fields(world), stored_blobs(world)
    run = explain(world)
    delete_run(world.limit(1), "sfam")
    assert fields(world) == with_kept
    assert stored_blobs(world) == count
    chunks = get_db_conn()[f"{BUCKET}.chunks"]
    prefix = {"$regex": f"^{run.config.uid}/"}
    assert chunks.count_documents({"files_id": prefix}) == 0
    assert world.list_runs() == ["kept"]
    assert kept.maps(0).query is not None
    delete_run(world, "kept")
    assert fields(world) == before
    assert stored_blobs(world) == 0
    # Not in the database either, where the schema does not tell.
    raw = world._sample_collection.find_one()
    assert not [name for name in raw if name.startswith(("sfam", "kept"))]


@pytest.mark.parametrize("listed", [True, False])
def test_delete_of_detections(dataset, tmp_path, listed):
    fill_frames(dataset, tmp_path, listed=listed)
    dataset.add_dynamic_sample_fields()
    before = fields(dataset)
    raw = str(dataset._sample_collection.find_one({}, {"people": 1}))
    protocol = Protocol(identity_field="label")
    explain(dataset, patches_field="people", protocol=protocol)
    assert fields(dataset) != before
    delete_run(dataset, "sfam")
    assert fields(dataset) == before
    assert stored_blobs(dataset) == 0
    assert str(dataset._sample_collection.find_one({}, {"people": 1})) == raw


def test_delete_when_the_fields_are_gone_already(world):
    explain(world)
    world.delete_sample_fields(["sfam", "sfam_score"])
    delete_run(world, "sfam")
    assert list_runs(world) == []
    assert world.get_field("sfam_neighbors") is None


# -- rename ----------------------------------------------------------------------------


def test_rename_takes_fields_and_maps_along(world):
    explain(world)
    before = {name: world.values(f"sfam{name}") for name in ("_score", "_outcome")}
    maps = load_run(world, "sfam").maps(3).query.maps["sfam"]
    schema = fields(world)
    rename_run(world, "sfam", "better")
    assert list_runs(world) == ["better"]
    assert fields(world) == {
        "better" + name[4:] if name.startswith("sfam") else name for name in schema
    }
    for name, values in before.items():
        assert world.values(f"better{name}") == values
    renamed = load_run(world, "better")
    assert renamed.key == "better"
    np.testing.assert_array_equal(renamed.maps(3).query.maps["sfam"], maps)
    # The old key is free again, and both can be deleted.
    explain(world)
    delete_run(world, "better")
    assert load_run(world, "sfam").maps(0).query is not None


def test_rename_of_detections(dataset, tmp_path):
    fill_frames(dataset, tmp_path)
    protocol = Protocol(identity_field="label")
    explain(dataset, patches_field="people", protocol=protocol)
    scores = dataset.values("people.detections.sfam_score")
    rename_run(dataset, "sfam", "better")
    assert dataset.values("people.detections.better_score") == scores
    assert len(dataset.exists("better")) == 4
    assert dataset.get_field("people.detections.sfam_score") is None
    delete_run(dataset, "better")
    assert dataset.get_field("people.detections.better_score") is None


def test_renames_that_cannot_be(world):
    explain(world, "a")
    explain(world, "b")
    world.add_sample_field("c_score", fo.FloatField)
    for new_key, message in (
        ("b", "has a run 'b' already; choose another key"),
        ("a", "has a run 'a' already"),
        ("c", "has a field 'c_score' that does not belong"),
        ("no key", "cannot be used; give a name of letters"),
    ):
        with pytest.raises(RunError, match=message):
            rename_run(world, "a", new_key)
    # Killed after the last step but one, the record still has its new key, its own.
    record_run(world, "a", replace(load_run(world, "a").config, renamed_to="a"))
    with pytest.raises(RunError, match="has a run 'a' already"):
        rename_run(world, "a", "a")
    with pytest.raises(RunError, match="has no explained run 'x'"):
        rename_run(world, "x", "y")
    assert list_runs(world) == ["a", "b"]
    assert None not in world.values("a_score")


# -- other lives of a dataset ----------------------------------------------------------


def test_runs_of_a_clone_can_be_read(world):
    run = explain(world, k=2)
    clone = world.clone()
    try:
        copied = load_run(clone, "sfam")
        assert copied.dataset.name == clone.name
        np.testing.assert_array_equal(copied.pairs.gallery, run.pairs.gallery)
        one, other = copied.maps(5).gallery, run.maps(5).gallery
        np.testing.assert_array_equal(one.maps["evidence"], other.maps["evidence"])
        # Deleting the copy's run leaves the original's maps alone.
        delete_run(clone, "sfam")
        assert clone.get_field("sfam_score") is None
        assert load_run(world, "sfam").maps(5).gallery is not None
        assert None not in world.values("sfam_score")
    finally:
        clone.delete()


def test_runs_survive_a_new_name_of_the_dataset(world):
    explain(world)
    old = world.name
    world.name = f"{old}-renamed"
    assert load_run(world, "sfam").maps(0).query is not None
    world.name = old


def test_samples_deleted_since(world):
    run = explain(world, k=2)
    world.delete_samples(world.values("id")[:3])
    again = load_run(world, "sfam")
    assert len(again.pairs) == len(run.pairs)
    assert again.maps(0).query is not None
    rename_run(world, "sfam", "renamed")
    delete_run(world, "renamed")
    assert stored_blobs(world) == 0
