"""What audits store with a run, and that it goes where the run goes."""

from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest
from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.errors import RunError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.manage import delete_run, rename_run
from fiftyone_sfam.runs.blobs import BUCKET
from fiftyone_sfam.runs.run import list_runs, load_run
from worlds import REID, fill, tiny_model


@pytest.fixture
def run(dataset, tmp_path):
    return explain(fill(dataset, tmp_path))


def explain(samples, key="sfam", **options):
    return explain_retrieval(
        samples, tiny_model(), key=key, **{"k": 1, "protocol": REID, **options}
    )


def save(run, name="ranks", value=1.0, fields=("sfam_ap",)):
    run.results.save(name, {"value": value}, {"column": np.full(3, value)}, fields)
    for path in fields:
        if run.dataset.get_field(path) is None:
            run.dataset.add_sample_field(path, fo.FloatField)
        run.dataset.set_values(path, [value] * len(run.dataset))


def results_stored(run) -> int:
    prefix = f"^{run.config.uid}/result-"
    files = get_db_conn()[f"{BUCKET}.files"]
    return files.count_documents({"_id": {"$regex": prefix}})


def test_a_result_is_read_as_it_was_stored(run):
    assert run.results.names() == []
    assert run.results.load("ranks") is None
    run.results.save(
        "ranks",
        {"label": "<b>", "by.field": {"a": [1, None, 0.5]}},
        {"x": np.arange(6, dtype=np.int16).reshape(2, 3)},
    )
    found = load_run(run.dataset, "sfam").results.load("ranks")
    assert found.name == "ranks"
    assert found.config == {"label": "<b>", "by.field": {"a": [1, None, 0.5]}}
    assert found.arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found.arrays["x"].dtype == np.int16
    assert found.fields == ()
    assert "sfam_ranks" in run.dataset.list_runs()
    assert list_runs(run.dataset) == ["sfam"]


def test_a_result_takes_the_place_of_the_one_before(run):
    save(run, value=1.0, fields=("sfam_ap", "sfam_old"))
    save(run, value=2.0, fields=("sfam_ap",))
    found = run.results.load("ranks")
    assert found.config == {"value": 2.0}
    assert found.arrays["column"].tolist() == [2, 2, 2]
    assert results_stored(run) == 1
    assert run.dataset.get_field("sfam_old") is None
    assert set(run.dataset.values("sfam_ap")) == {2.0}


def test_fields_and_runs_of_others_are_left_alone(run):
    run.dataset.add_sample_field("sfam_mine", fo.FloatField)
    with pytest.raises(RunError, match="has a field 'sfam_mine' that does not belong"):
        run.results.save("ranks", {}, {}, ["sfam_mine"])
    run.dataset.register_run("sfam_taken", run.dataset.init_run(method="somebody"))
    with pytest.raises(RunError, match="has a run 'sfam_taken' of another kind"):
        run.results.save("taken", {}, {})
    assert run.results.names() == []
    assert results_stored(run) == 0


def test_two_runs_do_not_share_results(run):
    other = explain(run.dataset, "other")
    save(run)
    assert other.results.names() == []
    delete_run(run.dataset, "other")
    assert run.results.names() == ["ranks"]


def test_a_result_without_its_fields_is_not_seen_yet(run):
    run.results.save("ranks", {"value": 1}, {}, ["sfam_ap"], finished=False)
    assert run.results.names() == []
    assert run.results.load("ranks") is None
    # Nor may a panel keep that there is none.
    assert run.results.blob_of("ranks") is None
    run.results.finish("ranks")
    assert run.results.names() == ["ranks"]
    assert run.results.load("ranks").config == {"value": 1}
    blob = run.results.blob_of("ranks")
    assert blob in run.store.names()
    run.results.save("ranks", {"value": 2}, {})
    assert run.results.blob_of("ranks") not in (None, blob)


def test_deleting_one_or_all(run):
    save(run, "ranks")
    save(run, "more", fields=("sfam_more",))
    run.results.delete("ranks")
    run.results.delete("ranks")
    assert run.results.names() == ["more"]
    assert run.dataset.get_field("sfam_ap") is None
    assert results_stored(run) == 1
    delete_run(run.dataset, "sfam")
    assert run.dataset.get_field("sfam_more") is None
    assert run.dataset.list_runs() == []
    assert results_stored(run) == 0


def test_renaming_the_run_takes_results_and_fields_along(run):
    save(run, fields=("sfam_ap", "apart"))
    rename_run(run.dataset, "sfam", "new")
    renamed = load_run(run.dataset, "new")
    assert renamed.results.names() == ["ranks"]
    assert renamed.results.load("ranks").fields == ("new_ap", "apart")
    assert set(run.dataset.values("new_ap")) == {1.0}
    assert run.dataset.get_field("sfam_ap") is None
    assert sorted(run.dataset.list_runs()) == ["new", "new_ranks"]
    assert results_stored(renamed) == 1


def test_a_rename_that_cannot_be_done_changes_nothing(run):
    save(run)
    run.dataset.add_sample_field("new_ap", fo.FloatField)
    with pytest.raises(RunError, match="has a field 'new_ap'"):
        rename_run(run.dataset, "sfam", "new")
    assert load_run(run.dataset, "sfam").results.load("ranks").fields == ("sfam_ap",)
    assert run.dataset.get_field("new_score") is None


def test_results_of_a_replaced_run_are_gone(run):
    save(run)
    again = explain(run.dataset, k=2, overwrite=True)
    assert again.results.names() == []
    assert run.dataset.get_field("sfam_ap") is None
    assert results_stored(run) == 0
