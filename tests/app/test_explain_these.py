"""Explain what is selected or shown, however it came to be shown; the workspace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators import types

from fiftyone_sfam import delete_run, explain_retrieval, list_runs, load_run
from fiftyone_sfam.app.operators.explain_these import NEW, ExplainThese, ExplainThis
from fiftyone_sfam.app.operators.open_workspace import WORKSPACE, OpenWorkspace
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run
from operator_support import PLUGIN, context, form, offered, problems, requests
from worlds import REID, small_frames

SHOW = f"{PLUGIN}/view_pairs"


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    explain_retrieval(crops, "demo", key="sdk", k=3, protocol=REID, keep_index="index")
    return crops


@pytest.fixture
def run(crops: fo.Dataset) -> Iterator[Run]:
    yield load_run(crops, "sdk")
    for key in set(list_runs(crops)) - {"sdk"}:
        delete_run(crops, key)


def shown(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Return what the panel is handed; it is opened afterwards."""
    asked = dict(requests(ctx))
    assert [*asked][-2:] == [SHOW, "open_panel"]
    assert asked["open_panel"]["name"] == "sfam_pairs"
    return asked[SHOW]


def of_pairs(run: Run, handed: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the ids of the pairs that are handed over."""
    assert (handed["run"], handed["uid"]) == (run.key, run.config.uid)
    assert handed["queries"] == run.pairs.query[handed["pairs"]].tolist()
    ids = run.items.ids
    query, gallery = run.pairs.query, run.pairs.gallery
    return [(str(ids[query[p]]), str(ids[gallery[p]])) for p in handed["pairs"]]


def nearest(run: Run, ids: list[str]) -> list[tuple[str, str]]:
    found, names = run.pairs, run.items.ids
    pairs = np.flatnonzero((found.rank == 1) & np.isin(names[found.query], ids))
    return [(str(names[found.query[p]]), str(names[found.gallery[p]])) for p in pairs]


# --------------------------------------------------------------------------------------
# Ways to show samples
# --------------------------------------------------------------------------------------


def view_of_embeddings(crops: fo.Dataset, ids: list[str]) -> dict[str, Any]:
    """What the Embeddings panel adds to the view when points are marked."""
    return {"extended": {"fiftyone.core.stages.Select": {"sample_ids": ids}}}


def view_of_evaluation(crops: fo.Dataset, ids: list[str]) -> dict[str, Any]:
    """What the Model Evaluation panel shows: samples whose prediction is wrong."""
    wrong = np.isin(crops.values("id"), ids)
    identities = crops.values("identity")
    for name, labels in (
        ("truth", identities),
        ("guess", np.where(wrong, "nobody", identities).tolist()),
    ):
        made = [fo.Classification(label=label) for label in labels]
        crops.set_values(name, made)
    crops.evaluate_classifications("guess", gt_field="truth", eval_key="evaluated")
    return {"view": crops.match(fo.ViewField("evaluated") == False)._serialize()}  # noqa: E712


def saved_view(crops: fo.Dataset, ids: list[str]) -> dict[str, Any]:
    crops.save_view("mine", crops.select(ids), overwrite=True)
    return {"view_name": "mine", "view": crops.load_saved_view("mine")._serialize()}


def filtered(crops: fo.Dataset, ids: list[str]) -> dict[str, Any]:
    """What the sidebar filters of a view are, here those of one identity."""
    values = {"values": sorted(set(crops.select(ids).values("identity")))}
    return {"filters": {"identity": {**values, "exclude": False, "isMatching": True}}}


def selection(crops: fo.Dataset, ids: list[str]) -> dict[str, Any]:
    return {"selected": ids, "view": crops.sort_by("camera")._serialize()}


@pytest.mark.parametrize(
    "way", [view_of_embeddings, view_of_evaluation, saved_view, filtered, selection]
)
def test_every_way_to_show_samples(crops: fo.Dataset, run: Run, way: Any) -> None:
    ids = crops.values("id")[6:12]
    asked = {"run": "sdk"}
    ctx = context(crops, asked, **way(crops, ids))
    found = form(ExplainThese(), ctx)
    assert found["these"].view.label == "6 samples."
    assert offered(found["run"]) == ["sdk", NEW]
    assert offered(found["pairs"]) == ["nearest", "among"]
    assert found["count"].view.label == "6 pairs."
    result = ExplainThese().execute(ctx)
    assert result == {"key": "sdk", "pairs": 6, "these": "6 samples"}
    handed = shown(ctx)
    assert handed["title"] == "6 samples"
    assert of_pairs(run, handed) == nearest(run, ids)


def test_pairs_among_these(crops: fo.Dataset, run: Run) -> None:
    ids = crops.values("id")[3:9]
    ctx = context(crops, {"pairs": "among"}, selected=ids)
    ExplainThese().execute(ctx)
    pairs, names = run.pairs, run.items.ids
    inside = np.isin(names[pairs.query], ids) & np.isin(names[pairs.gallery], ids)
    assert 0 < inside.sum() < len(pairs)
    assert shown(ctx)["pairs"] == np.flatnonzero(inside).tolist()


def test_sorted_by_similarity(crops: fo.Dataset, run: Run) -> None:
    query = crops.values("id")[4]
    view = crops.sort_by_similarity(query, k=6, brain_key="index")
    ids = view.values("id")
    assert ids[0] == query
    ctx = context(crops, view=view._serialize())
    found = form(ExplainThese(), ctx)
    assert found["these"].view.label == "6 samples, by similarity to one of them."
    assert offered(found["pairs"])[0] == "search"
    ExplainThese().execute(ctx)
    pairs = of_pairs(run, shown(ctx))
    assert pairs
    assert {one for one, _ in pairs} == {query}
    assert {other for _, other in pairs} <= set(ids)

    # What the run has not stored is explained anew: the query with each of these.
    ctx = context(
        crops,
        {"run": NEW, "model": "demo", "identity_field": "identity"},
        view=view._serialize(),
    )
    result = ExplainThese().execute(ctx)
    assert (result["key"], result["pairs"]) == ("these", 5)
    made = load_run(crops, "these")
    assert set(of_pairs(made, shown(ctx))) == {(query, other) for other in ids[1:]}
    assert requests(ctx)[0] == ("reload_dataset", {})


def test_a_search_by_text_has_no_query(crops: fo.Dataset, run: Run) -> None:
    view = crops.limit(5)
    vector = run.embeddings()[0]
    searched = crops.sort_by_similarity(vector, k=5, brain_key="index")
    for one in (view, searched):
        found = form(ExplainThese(), context(crops, view=one._serialize()))
        assert offered(found["pairs"]) == ["nearest", "among"]


def test_a_new_run_of_these_alone(crops: fo.Dataset, run: Run) -> None:
    ids = crops.values("id")[2:8]
    asked = {"run": NEW, "model": "demo", "k": 9, "identity_field": "identity"}
    ctx = context(crops, asked, selected=ids)
    assert problems(ExplainThese(), ctx) == {}
    ExplainThese().execute(ctx)
    made = load_run(crops, "these")
    assert sorted(made.items.ids) == sorted(ids)
    assert (made.config.k, len(made.pairs)) == (5, 30)
    assert shown(ctx)["pairs"] == list(range(30))
    again = context(crops, asked, selected=ids)
    [(field, problem)] = problems(ExplainThese(), again).items()
    assert field == "key"
    assert problem.startswith("there is a run 'these' already;")


def test_what_cannot_be_explained(crops: fo.Dataset, run: Run) -> None:
    nothing = context(crops, view=crops.limit(0)._serialize())
    assert problems(ExplainThese(), nothing) == {
        "": "nothing is selected or shown; choose another view."
    }
    single = context(
        crops, {"run": NEW, "model": "demo"}, selected=crops.values("id")[:1]
    )
    assert problems(ExplainThese(), single) == {
        "": "these are fewer than two; select more."
    }
    alone = context(crops, {"pairs": "among"}, selected=crops.values("id")[:1])
    message = "the run 'sdk' has no such pair of these; choose a new run."
    assert problems(ExplainThese(), alone) == {"": message}
    with pytest.raises(DataError, match="has no such pair of these"):
        ExplainThese().execute(alone)


def test_false_positives_of_a_detector(tmp_path: Path) -> None:
    frames = small_frames(tmp_path)
    for sample in frames.iter_samples(autosave=True):
        copies = [one.copy() for one in sample.detections.detections]
        copies[0].label = "nobody"
        sample["found"] = fo.Detections(detections=copies)
    run = explain_retrieval(frames, "demo", key="people", k=2, patches_field="found")
    frames.evaluate_detections(
        "found", gt_field="detections", eval_key="evaluated", classwise=True
    )
    patches = frames.to_evaluation_patches("evaluated").match(
        fo.ViewField("type") == "fp"
    )
    wrong = frames.filter_labels("found", fo.ViewField("label") == "nobody")
    ids = wrong.values("found.detections.id", unwind=True)
    ctx = context(frames, view=patches._serialize())
    assert form(ExplainThese(), ctx)["these"].view.label == f"{len(ids)} patches."
    ExplainThese().execute(ctx)
    assert of_pairs(run, shown(ctx)) == nearest(run, ids)

    ctx = context(
        frames, {"run": NEW, "model": "demo", "k": 1}, view=patches._serialize()
    )
    ExplainThese().execute(ctx)
    assert set(load_run(frames, "these").items.ids) == set(ids)
    frames.delete()


def test_from_python(crops: fo.Dataset, run: Run) -> None:
    operator = foo.get_operator(f"{PLUGIN}/explain_these")
    found = operator(crops.limit(4), run="sdk")
    assert found.result == {"key": "sdk", "pairs": 4, "these": "4 samples"}
    made = operator(crops.limit(4), model="demo", key="few", k=1)
    assert made.result == {"key": "few", "pairs": 4, "these": "4 samples"}


# --------------------------------------------------------------------------------------
# The open sample, placements, the workspace
# --------------------------------------------------------------------------------------


def test_the_open_sample(crops: fo.Dataset, run: Run) -> None:
    sample_id = crops.values("id")[7]
    ctx = context(crops, {"key": "sdk"}, current_sample=sample_id)
    item = run.items.index(sample_id)
    pairs = run.pairs.of_query(item).tolist()
    assert form(ExplainThis(), ctx)["count"].view.label == f"{len(pairs)} pairs."
    assert ExplainThis().execute(ctx) == {"key": "sdk", "pairs": len(pairs)}
    # The panel shows the pairs, so no dialog is to cover it.
    assert ExplainThis().resolve_output(ctx) is None
    assert shown(ctx)["pairs"] == pairs
    closed = context(crops, {"key": "sdk"})
    assert problems(ExplainThis(), closed) == {
        "count": "no sample is open; open one in the grid."
    }


@pytest.mark.parametrize(
    ("operator", "place"),
    [
        (ExplainThese, types.Places.SAMPLES_GRID_ACTIONS),
        (ExplainThis, types.Places.SAMPLES_VIEWER_ACTIONS),
    ],
)
def test_placements(crops: fo.Dataset, operator: Any, place: types.Places) -> None:
    found = operator().resolve_placement(context(crops)).to_json()
    assert found["place"] == place.value
    assert found["view"]["label"] == operator.config.label
    assert found["view"]["prompt"] is True


def test_the_workspace_is_saved_once(crops: fo.Dataset) -> None:
    ctx = context(crops)
    assert OpenWorkspace().execute(ctx) == {"workspace": WORKSPACE}
    saved = crops.load_workspace(WORKSPACE)
    left, right = saved.children
    assert [panel.type for panel in left.children] == ["Samples", "sfam_pairs"]
    assert [panel.type for panel in right.children] == ["sfam_audit"]
    assert left.active_child == left.children[1].component_id
    [(name, params)] = requests(ctx)
    assert (name, params["spaces"]) == ("set_spaces", saved.to_dict())
    # A user's changes to it are kept.
    mine = fo.Space(children=[fo.Panel(type="Samples")])
    crops.save_workspace(WORKSPACE, mine, overwrite=True)
    ctx = context(crops)
    OpenWorkspace().execute(ctx)
    [(_, params)] = requests(ctx)
    assert params["spaces"] == crops.load_workspace(WORKSPACE).to_dict()
    assert len(crops.load_workspace(WORKSPACE).children) == 1
    crops.delete_workspace(WORKSPACE)
