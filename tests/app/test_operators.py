"""The operators in real execution contexts: forms, runs, and calls from Python."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionError
from PIL import Image

from fiftyone_sfam import (
    Protocol,
    Within,
    delete_run,
    explain_pair,
    explain_retrieval,
    list_runs,
    load_run,
)
from fiftyone_sfam.app.operators.explain_retrieval import (
    PASSES,
    ExplainRetrieval,
    RunSettings,
)
from fiftyone_sfam.app.operators.explain_selected import ExplainSelected
from fiftyone_sfam.app.operators.manage_runs import ManageRuns
from fiftyone_sfam.app.operators.show_pairs import ShowPairs
from fiftyone_sfam.errors import DataError, ModelError, RunError
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.runs.run_config import (
    METHOD,
    PUBLISHING,
    field_paths,
    record_run,
    run_config,
)
from operator_support import PLUGIN, context, form, offered, problems, requests
from stored import assert_same, stored_numbers
from worlds import IMAGES, REID, small_frames

EXPLAIN = f"{PLUGIN}/explain_retrieval"
SETTINGS = {"identity_field": "identity", "camera_field": "camera", "k": 3}


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    """Crops with a run 'sdk', an index and embeddings in a field."""
    run = explain_retrieval(
        crops, "demo", key="sdk", k=3, protocol=REID, keep_index="index"
    )
    crops.set_values("vectors", list(run.embeddings()))
    return crops


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    dataset = small_frames(tmp_path_factory.mktemp("frames"))
    yield dataset
    dataset.delete()


@pytest.fixture
def removed(crops: fo.Dataset) -> Iterator[None]:
    """Delete the runs of one test."""
    yield
    for key in crops.list_runs(method=METHOD):
        if key != "sdk":
            delete_run(crops, key)


def decoded(url: str) -> Image.Image:
    head, _, body = url.partition(",")
    assert head == "data:image/webp;base64"
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    image.load()
    return image


# --------------------------------------------------------------------------------------
# The same numbers on all ways
# --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("removed")
def test_every_way_stores_the_same(crops: fo.Dataset) -> None:
    expected = stored_numbers(crops, "sdk")
    assert len(expected["pairs.query"]) > 3 * IMAGES - 1

    operator = foo.get_operator(EXPLAIN)
    called = operator(crops, "demo", key="called", **SETTINGS)
    assert called.result == {"key": "called", **load_run(crops, "called").summary()}

    params = {"model": "demo", "key": "executed", **SETTINGS}
    executed = foo.execute_operator(EXPLAIN, {"dataset": crops}, params=params)
    assert executed.result["pairs"] == len(expected["pairs.query"])

    queued = operator(crops, "demo", key="delegated", delegate=True, **SETTINGS)
    assert queued.delegated
    assert "delegated" not in list_runs(crops)
    service = DelegatedOperationService()
    [done] = service.execute_queued_operations(
        operator=EXPLAIN, dataset_name=crops.name
    )
    assert done.error is None
    assert done.result["key"] == "delegated"
    [stored] = service.list_operations(operator=EXPLAIN, dataset_name=crops.name)
    assert (stored.status.progress, stored.status.label) == (
        1.0,
        f"explaining: {IMAGES} of {IMAGES} images",
    )
    service.delete_operation(stored.id)

    for key in ("called", "executed", "delegated"):
        assert_same(expected, stored_numbers(crops, key))


def test_the_form_asks_which_pairs_get_a_map_along_a_path(crops: fo.Dataset) -> None:
    asked = {"model": "demo", "kind": "scales", "path_pairs": "all"}
    found = form(ExplainRetrieval(), context(crops, asked))
    assert offered(found["kind"]) == ["sfam", "evidence", "scales", "path", "auto"]
    assert offered(found["path_pairs"]) == ["rank1", "false", "all"]
    arguments = RunSettings(**asked).arguments()
    assert arguments["kinds"] == ["scales", "sfam", "evidence"]
    assert arguments["path_pairs"] == "all"
    found = form(ExplainRetrieval(), context(crops, {"model": "demo"}))
    assert "path_pairs" not in found
    found = form(ExplainRetrieval(), context(crops, {"model": "demo", "kind": "auto"}))
    assert offered(found["path_pairs"]) == ["rank1", "false", "all"]
    assert found["estimate"].view.label.endswith(
        "Choosing by measurement: about 5,000 more."
    )


@pytest.mark.parametrize(
    ("path_pairs", "explained"), [("rank1", IMAGES), ("false", IMAGES), ("all", 180)]
)
def test_the_estimate_counts_the_passes_of_paths(
    crops: fo.Dataset, path_pairs: str, explained: int
) -> None:
    from fiftyone_sfam.attribution.path import STEPS
    from fiftyone_sfam.attribution.scales import SAMPLES

    asked = {"model": "demo", "kind": "scales", "path_pairs": path_pairs}
    label = form(ExplainRetrieval(), context(crops, asked))["estimate"].view.label
    assert label.endswith(
        f"The paths: up to {11 * IMAGES:,} more forward passes and "
        f"{16 * explained:,} backward passes."
    )
    # The ends of a path, and for several scales the evidence.
    assert {"path": (STEPS + 2, STEPS), "scales": (SAMPLES + 3, SAMPLES)} == PASSES


@pytest.mark.usefixtures("removed")
def test_settings_arrive(crops: fo.Dataset) -> None:
    view = crops.match_tags(["query", "gallery"]).limit(30)
    foo.get_operator(EXPLAIN)(
        view,
        "demo",
        key="other",
        k=2,
        kind="evidence",
        weights="minmax",
        identity_field="identity",
        camera_field="camera",
        exclude_same_camera=False,
        split_field="tags",
        junk="p001",
        exclude="identity,camera; camera,created_at:2h",
        gallery_shots=2,
        gallery_per=["identity", "camera"],
        draws=3,
        contributions="int8",
        batch_size=7,
    )
    run = load_run(crops, "other")
    config = run.config
    assert (config.k, config.kinds, config.weights) == (
        2,
        ("evidence", "sfam"),
        "minmax",
    )
    assert (config.shard_images, config.embeddings) == (7, "computed")
    assert (config.contributions, config.contribution_dims) == ("int8", None)
    assert (
        config.protocol
        == Protocol(
            identity_field="identity",
            camera_field="camera",
            exclude_same_camera=False,
            split_field="tags",
            junk=("p001",),
            exclude=[("identity", "camera"), ("camera", Within("created_at", hours=2))],
            gallery_shots=2,
            gallery_per=("identity", "camera"),
            draws=3,
        ).to_dict()
    )
    assert set(run.items.sample_ids) == set(view.values("id"))
    queries = set(run.items.sample_ids[run.pairs.query])
    wanted = crops.select(view.values("id")).match_tags("query")
    wanted = wanted.match(fo.ViewField("identity") != "p001")
    assert queries == set(wanted.values("id"))


@pytest.mark.usefixtures("removed")
@pytest.mark.parametrize(
    ("name", "value"), [("brain_key", "index"), ("embeddings_field", "vectors")]
)
def test_stored_embeddings_give_the_same_pairs(
    crops: fo.Dataset, name: str, value: str
) -> None:
    operator = foo.get_operator(EXPLAIN)
    operator(crops, "demo", key="stored", **{name: value}, **SETTINGS)
    run, first = load_run(crops, "stored"), load_run(crops, "sdk")
    assert run.config.embeddings == value
    assert np.array_equal(run.pairs.gallery, first.pairs.gallery)
    assert np.allclose(run.pairs.similarity, first.pairs.similarity, atol=1e-6)


def test_a_patches_view_is_of_its_own_dataset(frames: fo.Dataset) -> None:
    patches = frames.to_patches("detections")
    foo.get_operator(f"{PLUGIN}/explain_retrieval")(
        frames, "demo", key="people", k=2, patches_field="detections"
    )
    shown = foo.get_operator(f"{PLUGIN}/show_pairs")(patches, "people", show="view")
    assert shown.result["pairs"] == frames.count("detections.detections")
    delete_run(frames, "people")


def test_in_a_running_event_loop(crops: fo.Dataset) -> None:
    operator = foo.get_operator(f"{PLUGIN}/explain_selected")
    chosen = crops.limit(2).values("id")

    async def notebook() -> tuple[Any, Any]:
        called = operator(crops, "demo", chosen)
        executed = foo.execute_operator(
            operator.uri,
            {"dataset": crops, "selected": chosen},
            params={"model": "demo"},
        )
        assert isinstance(called, asyncio.Task)
        assert isinstance(executed, asyncio.Task)
        return (await called).result, (await executed).result

    one, other = asyncio.run(notebook())
    samples = list(crops.select(chosen, ordered=True))
    assert one["similarity"] == explain_pair("demo", *samples).score
    assert one == other


# --------------------------------------------------------------------------------------
# explain_retrieval: execution
# --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("removed")
def test_the_app_is_told_what_to_show(crops: fo.Dataset) -> None:
    ctx = context(crops, {"model": "demo", "key": "shown", **SETTINGS})
    result = ExplainRetrieval().execute(ctx)
    assert requests(ctx) == [
        ("reload_dataset", {}),
        ("set_active_fields", {"fields": ["shown", "shown_score"]}),
    ]
    outputs = ExplainRetrieval().resolve_output(ctx).type.properties
    assert set(outputs) <= set(result)
    assert result["rank1"] == load_run(crops, "sdk").summary()["rank1"]


@pytest.mark.parametrize(
    ("target", "count"), [("SELECTED_SAMPLES", 8), ("CURRENT_VIEW", 20)]
)
@pytest.mark.usefixtures("removed")
def test_the_chosen_target_is_explained(
    crops: fo.Dataset, target: str, count: int
) -> None:
    ids = crops.values("id")
    ctx = context(
        crops,
        {"model": "demo", "key": "part", "view_target": target},
        view=crops.limit(20)._serialize(),
        selected=ids[5:13],
    )
    found = form(ExplainRetrieval(), ctx)
    choice = found["view_target"]
    assert {"DATASET", "CURRENT_VIEW", "SELECTED_SAMPLES"} <= set(choice.type.values)
    assert f"{count} images:" in found["estimate"].view.label
    ExplainRetrieval().execute(ctx)
    wanted = ids[5:13] if target == "SELECTED_SAMPLES" else ids[:20]
    assert load_run(crops, "part").items.sample_ids.tolist() == wanted


def test_a_run_on_detections_shows_them(frames: fo.Dataset) -> None:
    ctx = context(frames, {"model": "demo", "patches_field": "detections", "k": 1})
    ExplainRetrieval().execute(ctx)
    assert requests(ctx)[-1] == (
        "set_active_fields",
        {"fields": ["sfam", "detections"]},
    )
    delete_run(frames, "sfam")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("os:system", "os:system"),
        ("/etc/passwd", "passwd"),
        ("../models.json", "../models.json"),
        ("__import__('os')", "__import__('os')"),
        ("demo ", "demo "),
    ],
)
def test_a_name_is_only_a_name(crops: fo.Dataset, name: str, shown: str) -> None:
    # Without the form's own check, as a request that was made by hand would be.
    ctx = context(crops, {"model": name, "key": "bad"})
    with pytest.raises(ModelError, match=re.escape(f"there is no model {shown!r};")):
        ExplainRetrieval().execute(ctx)
    selected = context(crops, {"model": name}, selected=crops.limit(2).values("id"))
    with pytest.raises(ModelError, match="there is no model"):
        ExplainSelected().execute(selected)
    assert problems(ExplainRetrieval(), ctx) == {"model": "Invalid enum value"}
    assert list_runs(crops) == ["sdk"]


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({}, DataError, "choose a model to explain."),
        ({"model": "demo", "k": 0}, DataError, "k is 0; give a whole number from"),
        (
            {"model": "demo", "key": "sdk"},
            RunError,
            "has a run 'sdk' already; give overwrite=True to replace it, or another",
        ),
        (
            {"model": "demo", "key": "a b"},
            RunError,
            "the run key 'a b' cannot be used; give a name of letters, digits and",
        ),
        (
            {"model": "demo", "identity_field": "nobody"},
            DataError,
            "has no identity field 'nobody'",
        ),
        (
            {"model": "demo", "embeddings_from": "index", "brain_key": "none"},
            DataError,
            "'none'",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    crops: fo.Dataset, params: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        ExplainRetrieval().execute(context(crops, params))
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    assert list_runs(crops) == ["sdk"]


def test_a_mistake_from_python_names_itself(crops: fo.Dataset) -> None:
    operator = foo.get_operator(EXPLAIN)
    with pytest.raises(ExecutionError, match="there is a run 'sdk' already"):
        operator(crops, "demo", key="sdk")
    with pytest.raises(TypeError, match="layers"):
        operator(crops, "demo", layers="conv")


# --------------------------------------------------------------------------------------
# explain_retrieval: the form
# --------------------------------------------------------------------------------------


def test_form_of_a_dataset(crops: fo.Dataset) -> None:
    ctx = context(crops)
    found = form(ExplainRetrieval(), ctx)
    assert list(found) == [
        "view_target",
        "model",
        "key",
        "k",
        "patches_field",
        "identity_field",
        "camera_field",
        "split_field",
        "exclude",
        "exclude_duplicates",
        "embeddings_from",
        "keep_index",
        "kind",
        "best_layer",
        "check",
        "weights",
        "contributions",
        "batch_size",
        "estimate",
    ]
    assert offered(found["model"])[:2] == ["demo", "dlib-face"]
    assert "resnet50-imagenet-torch" in offered(found["model"])
    assert offered(found["patches_field"]) == ["parts"]
    assert offered(found["identity_field"]) == [
        *("identity", "camera", "split", "view", "occluder", "true_identity"),
        "sdk_outcome",
    ]
    assert offered(found["split_field"])[0] == "tags"
    assert offered(found["embeddings_from"]) == ["compute", "index", "field"]
    # Everything else has a default, which the App fills in and Python need not.
    assert problems(ExplainRetrieval(), ctx) == {"model": "Required property"}


def test_form_grows_with_its_choices(crops: fo.Dataset) -> None:
    params = {**SETTINGS, "split_field": "tags", "embeddings_from": "field"}
    found = form(ExplainRetrieval(), context(crops, params))
    assert {
        *("query_value", "gallery_value", "exclude_same_camera", "junk"),
        *("distractors", "embeddings_field"),
    } <= set(found)
    assert "vectors" in offered(found["embeddings_field"])
    assert "keep_index" not in found
    found = form(ExplainRetrieval(), context(crops, {"embeddings_from": "index"}))
    assert offered(found["brain_key"]) == ["index"]


def test_form_of_detections(frames: fo.Dataset) -> None:
    ctx = context(frames, {"patches_field": "detections"})
    found = form(ExplainRetrieval(), ctx)
    assert offered(found["identity_field"]) == [
        *("label", "identity", "camera", "frame_index"),
    ]
    people = frames.count("detections.detections")
    assert found["estimate"].view.label == (
        f"{people} detections: up to {5 * people} pairs, {2 * people} forward passes."
    )
    assert offered(found["embeddings_from"]) == ["compute"]


def test_the_owners_models_are_first(
    crops: fo.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "models.json"
    entry = {
        "factory": "net.py:build",
        "preprocess": {"size": [8, 8]},
        "description": "ours",
    }
    file.write_text(json.dumps({"models": {"my-reid": entry}}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))
    for operator in (ExplainRetrieval(), ExplainSelected()):
        [first, second, *_] = form(operator, context(crops))["model"].view.choices
        assert (first.value, first.label) == ("my-reid", "my-reid (ours)")
        assert second.value == "demo"

    file.write_text('{"models": {"my-reid": {}}}')
    found = form(ExplainRetrieval(), context(crops))["model"]
    assert found.invalid
    assert "in the registry file models.json, model 'my-reid'" in found.error_message


@pytest.mark.parametrize(
    ("params", "path", "message"),
    [
        (
            {"key": "sdk"},
            "key",
            "there is a run 'sdk' already; replace it, or change the key.",
        ),
        (
            {"key": "no key"},
            "key",
            "the run key 'no key' cannot be used; give a name of letters, digits and "
            "underscores that starts with a letter.",
        ),
        ({"key": ""}, "key", "give the run a key."),
        ({"key": None}, "key", "give the run a key."),
        (
            {"key": "identity"},
            "key",
            "has a field 'identity' that does not belong",
        ),
        ({"k": 0}, "k", "give a whole number from 1 to 1000."),
        ({"k": -3}, "k", "give a whole number from 1 to 1000."),
        ({"k": 1001}, "k", "give a whole number from 1 to 1000."),
        ({"k": 2.5}, "k", "give a whole number from 1 to 1000."),
        ({"batch_size": 0}, "batch_size", "give a whole number from 1 to 1024."),
        (
            {
                "embeddings_from": "index",
                "brain_key": "index",
                "patches_field": "parts",
            },
            "brain_key",
            "this index was made for whole images, not for parts; choose another.",
        ),
        ({"embeddings_from": "index"}, "brain_key", "Required property"),
        ({"embeddings_from": "field"}, "embeddings_field", "Required property"),
        (
            {"keep_index": "index"},
            "keep_index",
            "the brain key 'index' is in use; choose another for the",
        ),
        (
            {"keep_index": "not a name"},
            "keep_index",
            "the brain key 'not a name' cannot be used; give a name of letters,",
        ),
        (
            {"junk": "-1"},
            "junk",
            "junk and distractor identities need identity_field to be given.",
        ),
        (
            {"identity_field": "identity", "junk": "0", "distractors": "0"},
            "distractors",
            "identity '0' is both junk and a distractor; choose one.",
        ),
        ({"exclude": "identity,,camera"}, "exclude", "a term without a name"),
        ({"exclude": "camera; shoes"}, "exclude", "the rules name the field 'shoes'"),
        ({"exclude": "camera,camera"}, "exclude", "names a field twice"),
        (
            {**SETTINGS, "gallery_shots": 1, "gallery_per": ["camera"]},
            "gallery_per",
            "is without the identity field 'identity'; add it",
        ),
        (
            {**SETTINGS, "gallery_shots": 1, "gallery_per": ["shoes"]},
            "gallery_per",
            "'shoes' is not a field to draw by; choose from the list.",
        ),
    ],
)
def test_form_says_what_is_wrong_beside_the_field(
    crops: fo.Dataset, params: dict[str, Any], path: str, message: str
) -> None:
    given = {"model": "demo", "key": "new", "embeddings_from": "compute", **params}
    found = problems(ExplainRetrieval(), context(crops, given))
    assert list(found) == [path]
    assert message in found[path]


def test_form_accepts_what_is_right(crops: fo.Dataset) -> None:
    base = {"model": "demo", "key": "new", "embeddings_from": "compute"}
    for params in (
        {},
        {"key": "sdk", "overwrite": True},
        {"embeddings_from": "index", "brain_key": "index"},
        # What is hidden now was typed before.
        {"embeddings_from": "index", "brain_key": "index", "keep_index": "index"},
        {"embeddings_from": "field", "embeddings_field": "vectors"},
        {"k": 1000},
        {**SETTINGS, "junk": "-1", "distractors": "0"},
        {**SETTINGS, "exclude": "identity, camera", "gallery_shots": 1, "draws": 2},
        {**SETTINGS, "gallery_shots": 1, "gallery_per": ["camera", "identity"]},
        # Random galleries that were cleared again.
        {**SETTINGS, "gallery_per": ["camera"]},
        # A split field that was chosen after boolean fields.
        {**SETTINGS, "split_field": "tags", "query_field": "gone"},
    ):
        given = {**base, **params}
        assert problems(ExplainRetrieval(), context(crops, given)) == {}


def test_form_accepts_the_index_that_an_interrupted_run_has_begun(
    crops: fo.Dataset,
) -> None:
    config = run_config(crops, "sdk")
    assert config is not None
    begun = replace(config, state=PUBLISHING, keeps_index="index")
    record_run(crops, "sdk", begun)
    params = {"model": "demo", "embeddings_from": "compute", "keep_index": "index"}
    try:
        assert (
            problems(ExplainRetrieval(), context(crops, params | {"key": "sdk"})) == {}
        )
        other = problems(ExplainRetrieval(), context(crops, params | {"key": "new"}))
        assert list(other) == ["keep_index"]
    finally:
        record_run(crops, "sdk", config)


def test_an_index_of_detections(frames: fo.Dataset) -> None:
    explain_retrieval(
        frames, "demo", k=1, patches_field="detections", keep_index="people"
    )
    given = {
        "model": "demo",
        "key": "new",
        "embeddings_from": "index",
        "brain_key": "people",
    }
    assert problems(ExplainRetrieval(), context(frames, given)) == {
        "brain_key": "this index was made for detections, not for whole images; choose "
        "another."
    }
    given["patches_field"] = "detections"
    assert problems(ExplainRetrieval(), context(frames, given)) == {}
    delete_run(frames, "sfam")


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({}, "36 images: up to 180 pairs, 72 forward passes."),
        ({"k": 35}, "36 images: up to 1,260 pairs, 72 forward passes."),
        ({"k": 900}, "36 images: up to 1,260 pairs, 72 forward passes."),
        # And the nearest true match of each query.
        (
            {"k": 3, "identity_field": "identity"},
            "36 images: up to 144 pairs, 72 forward passes.",
        ),
        (
            {"embeddings_from": "index"},
            "36 images: up to 180 pairs, 36 forward passes.",
        ),
        ({"k": "many"}, "36 images: up to 180 pairs, 72 forward passes."),
    ],
)
def test_estimate(crops: fo.Dataset, params: dict[str, Any], text: str) -> None:
    found = form(ExplainRetrieval(), context(crops, params))
    assert found["estimate"].view.label == text


def test_large_targets_are_delegated_by_default(
    make_dataset: Callable[..., fo.Dataset],
) -> None:
    dataset = make_dataset("large")
    dataset.add_samples(
        [fo.Sample(f"/none/{number}.png") for number in range(2000)], progress=False
    )
    ctx = context(dataset)
    options = ExplainRetrieval().resolve_execution_options(ctx)
    assert options.allow_immediate_execution
    assert options.allow_delegated_execution
    assert options.default_choice_to_delegated
    assert form(ExplainRetrieval(), ctx)["estimate"].view.label == (
        "2,000 images: up to 10,000 pairs, 4,000 forward passes. This is large: better "
        "delegated."
    )
    smaller = context(dataset, view=dataset.limit(1999)._serialize())
    options = ExplainRetrieval().resolve_execution_options(smaller)
    assert not options.default_choice_to_delegated
    assert options.allow_delegated_execution


# --------------------------------------------------------------------------------------
# explain_selected
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sfam", "evidence", "difference"])
def test_two_selected_samples(crops: fo.Dataset, kind: str) -> None:
    # Not in the order of the dataset: the first one selected is the query.
    first, second = crops.last(), crops.first()
    ctx = context(
        crops, {"model": "demo", "kind": kind}, selected=[first.id, second.id]
    )
    result = ExplainSelected().execute(ctx)
    expected = explain_pair("demo", first, second)
    assert result["similarity"] == expected.score
    assert result["distance"] == expected.distance
    assert result["query_remainder"] == expected.query.remainder
    assert result["neighbor_remainder"] == expected.gallery.remainder
    sides = {
        "difference": expected.difference(),
    }.get(kind, (expected.query, expected.gallery))
    name = "evidence" if kind == "difference" else kind
    for side, answer in zip(sides, ("query_map", "neighbor_map"), strict=True):
        assert np.array_equal(np.float32(result[answer]), getattr(side, name))
    for sample, answer in ((first, "query"), (second, "neighbor")):
        with Image.open(sample.filepath) as image:
            plain = image.convert("RGB").resize((160, 320), Image.Resampling.BICUBIC)
        drawn = decoded(result[answer])
        assert drawn.size == (160, 320)
        # The picture is the image, with a map over some of it.
        off = np.abs(np.asarray(drawn.convert("RGB"), float) - np.asarray(plain))
        assert np.median(off) < 30
        assert (off > 20).any(axis=2).mean() > 0.02
    outputs = ExplainSelected().resolve_output(ctx).type.properties
    assert set(outputs) <= set(result)
    json.dumps(result)


def test_two_selected_patches(frames: fo.Dataset) -> None:
    patches = frames.to_patches("detections")
    one, other = patches.first(), patches.last()
    ctx = context(
        frames,
        {"model": "demo"},
        view=patches._serialize(),
        selected=[one.id, other.id],
    )
    expected = explain_pair(
        "demo",
        (one.filepath, one.detections.bounding_box),
        (other.filepath, other.detections.bounding_box),
    )
    assert ExplainSelected().execute(ctx)["similarity"] == expected.score


@pytest.mark.parametrize("count", [0, 1, 3])
def test_other_numbers_of_selected_samples(crops: fo.Dataset, count: int) -> None:
    selected = crops.limit(count).values("id") if count else []
    message = f"select two samples; {count} selected now."
    ctx = context(crops, {"model": "demo"}, selected=selected)
    assert problems(ExplainSelected(), ctx) == {"": message}
    with pytest.raises(DataError) as caught:
        ExplainSelected().execute(ctx)
    assert str(caught.value) == message


def test_selected_mistakes(crops: fo.Dataset) -> None:
    chosen = crops.limit(2).values("id")
    assert (
        problems(ExplainSelected(), context(crops, {"model": "demo"}, selected=chosen))
        == {}
    )
    with pytest.raises(DataError, match="kind is 'point'; give one of sfam, ev"):
        ExplainSelected().execute(
            context(crops, {"model": "demo", "kind": "point"}, selected=chosen)
        )
    with pytest.raises(DataError, match=r"^choose a model to explain\.$"):
        ExplainSelected().execute(context(crops, selected=chosen))
    gone = "0" * 24
    with pytest.raises(DataError, match=f"there is no sample '{gone}' any more"):
        ExplainSelected().execute(
            context(crops, {"model": "demo"}, selected=[chosen[0], gone])
        )


# --------------------------------------------------------------------------------------
# show_pairs
# --------------------------------------------------------------------------------------


def test_show_pairs_as_a_view(crops: fo.Dataset) -> None:
    run = load_run(crops, "sdk")
    first = run.pairs.rank == 1
    middle = float(np.median(run.pairs.similarity[first]))
    ctx = context(crops, {"key": "sdk", "max_similarity": middle})
    result = ShowPairs().execute(ctx)
    chosen = np.flatnonzero(first & (run.pairs.similarity <= middle))
    assert 0 < len(chosen) < IMAGES
    assert (result["pairs"], result["dataset"]) == (len(chosen), None)
    pairs, items = run.pairs, run.items
    order = sorted(
        chosen.tolist(),
        key=lambda p: (
            OUTCOMES[pairs.outcome[p]] != "false match",
            -pairs.similarity[p],
        ),
    )
    assert result["first"] == [
        {
            "query": str(items.sample_ids[pairs.query[pair]]),
            "neighbor": str(items.sample_ids[pairs.gallery[pair]]),
            "query_identity": items.identities[pairs.query[pair]],
            "neighbor_identity": items.identities[pairs.gallery[pair]],
            "rank": 1,
            "similarity": float(pairs.similarity[pair]),
            "outcome": OUTCOMES[pairs.outcome[pair]],
        }
        for pair in order[:20]
    ]
    [(name, params)] = requests(ctx)
    assert name == "set_view"
    shown = fo.DatasetView._build(crops, params["view"])
    wanted = run.items.sample_ids[run.pairs.query[chosen]]
    assert set(shown.values("id")) == set(wanted.tolist())


def test_show_pairs_as_a_dataset(crops: fo.Dataset) -> None:
    run = load_run(crops, "sdk")
    found = foo.get_operator(f"{PLUGIN}/show_pairs")(crops, "sdk", max_rank=2)
    made = fo.load_dataset(found.result["dataset"])
    chosen = np.flatnonzero(run.pairs.rank <= 2)
    assert found.result["pairs"] == len(chosen)
    assert made.values("pair") == chosen.tolist()
    assert made.values("similarity") == run.pairs.similarity[chosen].tolist()
    assert requests_of(found) == [("open_dataset", {"dataset": made.name})]
    made.delete()


def requests_of(result: Any) -> list[tuple[str, dict[str, Any]]]:
    asked = result.executor.to_json()["requests"]
    return [(one["operator_uri"], one["params"] or {}) for one in asked]


def test_form_of_show_pairs(crops: fo.Dataset, dataset: fo.Dataset) -> None:
    params = {"key": "sdk", "max_rank": 2, "show": "view"}
    run = load_run(crops, "sdk")
    count = int((run.pairs.rank <= 2).sum())
    ctx = context(crops, params)
    assert form(ShowPairs(), ctx)["count"].view.label == f"{count} pairs"
    assert problems(ShowPairs(), ctx) == {}
    nothing = {**params, "min_similarity": 0.5, "max_similarity": 0.25}
    message = "no pair meets all conditions; relax them."
    assert problems(ShowPairs(), context(crops, nothing)) == {"count": message}
    with pytest.raises(RunError, match=message):
        ShowPairs().execute(context(crops, nothing))
    with pytest.raises(RunError, match=r"no explained run 'x' \(its runs: 'sdk'\)"):
        ShowPairs().execute(context(crops, {"key": "x"}))
    assert problems(ShowPairs(), context(dataset)) == {"": "there are no runs."}
    assert problems(ManageRuns(), context(dataset)) == {"": "there are no runs."}


# --------------------------------------------------------------------------------------
# manage_runs
# --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("removed")
def test_manage_runs(crops: fo.Dataset) -> None:
    explain_retrieval(crops, "demo", key="old", k=1)
    expected = stored_numbers(crops, "old")
    manage = foo.get_operator(f"{PLUGIN}/manage_runs")

    shown = manage(crops, "old")
    assert requests_of(shown) == [
        ("set_active_fields", {"fields": ["old", "old_score"]})
    ]

    renamed = manage(crops, "old", action="rename", new_key="new")
    assert renamed.result == {"runs": ["new", "sdk"]}
    assert requests_of(renamed) == [("reload_dataset", {})]
    assert_same(expected, stored_numbers(crops, "new"))
    assert not any(map(crops.has_field, field_paths(crops, "old", None)))

    deleted = manage(crops, "new", action="delete")
    assert deleted.result == {"runs": ["sdk"]}
    assert not any(map(crops.has_field, field_paths(crops, "new", None)))


@pytest.mark.usefixtures("removed")
def test_an_interrupted_run_can_be_deleted(crops: fo.Dataset) -> None:
    explain_retrieval(crops, "demo", key="cut", k=1)
    config = run_config(crops, "cut")
    assert config is not None
    config = type(config)(**{**vars(config), "state": PUBLISHING})
    record_run(crops, "cut", config)

    given = {"key": "cut", "action": "show"}
    [path, message] = problems(ManageRuns(), context(crops, given)).popitem()
    assert (path, "was interrupted" in message) == ("key", True)
    ctx = context(crops, {**given, "action": "delete"})
    assert offered(form(ManageRuns(), ctx)["key"]) == ["sdk", "cut"]
    assert problems(ManageRuns(), ctx) == {}
    ManageRuns().execute(ctx)
    assert crops.list_runs() == ["sdk"]
    assert not crops.has_field("cut")


@pytest.mark.usefixtures("removed")
def test_an_interrupted_renaming_can_be_repeated(crops: fo.Dataset) -> None:
    explain_retrieval(crops, "demo", key="cut", k=1)
    scores = crops.values("cut_score")
    config = run_config(crops, "cut")
    assert config is not None
    crops.rename_sample_field("cut_score", "fresh_score")
    ctx = context(crops, {"key": "cut", "action": "rename", "new_key": "fresh"})
    found = problems(ManageRuns(), ctx)
    assert "has a field 'fresh_score' that does not belong" in found["new_key"]
    record_run(crops, "cut", replace(config, renamed_to="fresh"))
    assert problems(ManageRuns(), ctx) == {}
    assert ManageRuns().execute(ctx) == {"runs": ["fresh", "sdk"]}
    assert crops.values("fresh_score") == scores
    delete_run(crops, "fresh")


@pytest.mark.parametrize(
    ("new_key", "message"),
    [
        ("sdk", "there is a run 'sdk' already; give another key."),
        ("a-b", "the run key 'a-b' cannot be used"),
        ("identity", "has a field 'identity' that does not belong"),
        (None, "Required property"),
    ],
)
def test_new_keys_that_cannot_be(
    crops: fo.Dataset, new_key: str | None, message: str
) -> None:
    params = {"key": "sdk", "action": "rename", "new_key": new_key}
    found = problems(ManageRuns(), context(crops, params))
    assert list(found) == ["new_key"]
    assert message in found["new_key"]
    with pytest.raises(RunError) as caught:
        ManageRuns().execute(context(crops, params))
    assert str(caught.value).endswith(".")
    assert list_runs(crops) == ["sdk"]


def test_manage_mistakes(crops: fo.Dataset) -> None:
    for params, message in (
        ({"key": "x"}, "has no explained run 'x'"),
        ({"key": "x", "action": "delete"}, "no explained run 'x' to delete"),
    ):
        with pytest.raises(RunError, match=message):
            ManageRuns().execute(context(crops, params))
    with pytest.raises(DataError, match="action is 'burn'; give one of show, rename"):
        ManageRuns().execute(context(crops, {"key": "sdk", "action": "burn"}))
    about = form(ManageRuns(), context(crops, {"key": "sdk"}))["about"]
    summary = load_run(crops, "sdk").summary()
    assert f"{summary['pairs']} pairs (k=3), 0 images skipped" in about.default
    assert f"rank-1 {100 * summary['rank1']:.1f} %" in about.default
