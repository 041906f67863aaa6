"""Datasets that are hardly any, of another kind, or that were changed after a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
import torch
from fiftyone.operators.executor import ValidationContext

from fiftyone_sfam.app.operators.explain_retrieval import ExplainRetrieval
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval
from fiftyone_sfam.audit.regions.ledger import build_ledger
from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts
from fiftyone_sfam.audit.report.write import write_report
from fiftyone_sfam.audit.suspects.search import find_suspects
from fiftyone_sfam.cli.entry import main
from fiftyone_sfam.data.items import collect_items
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError, ProtocolWarning, RunError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.manage import delete_run, rename_run
from fiftyone_sfam.retrieval.embeddings import stored_embeddings
from fiftyone_sfam.review.verdicts import set_verdict
from fiftyone_sfam.runs.run import Run, list_runs, load_run
from operator_support import PLUGIN, context
from pairs_component import PairsComponent
from panel_support import AuditPanel
from stored import stored_blobs
from worlds import embeddings_of, fill, fill_frames, person, tiny_model

IDENTITY = Protocol(identity_field="identity")


def assert_sentence(error: BaseException) -> None:
    message = str(error)
    assert message.endswith(".")
    assert "\n" not in message


# -- hardly any ------------------------------------------------------------------------


def test_one_sample(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path, identities=1, shots=1)
    with pytest.raises(DataError, match="the protocol leaves no pair to compare"):
        explain_retrieval(dataset, tiny_model(), protocol=IDENTITY)
    assert (dataset.list_runs(), stored_blobs(dataset)) == ([], 0)


def test_one_identity(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path, identities=1, shots=4)
    run = explain_retrieval(dataset, tiny_model(), k=2, protocol=IDENTITY)
    assert set(dataset.values("sfam_outcome")) == {"true match"}
    evaluated = evaluate_retrieval(run)
    assert evaluated.identification.mean_average_precision == 1
    # No impostor pairs, no threshold that tells them apart.
    assert np.isnan(evaluated.verification.auc)
    assert [one.kind for one in find_suspects(run).findings] == []
    AuditPanel(dataset)


def test_two_samples_of_two_identities(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path, identities=2, shots=1)
    said = "none of the 2 labeled queries has another image of its identity"
    with pytest.warns(ProtocolWarning, match=said):
        run = explain_retrieval(dataset, tiny_model(), k=3, protocol=IDENTITY)
    assert set(dataset.values("sfam_outcome")) == {"false match"}
    summary = run.summary()
    assert (summary["false match"], summary["without match"]) == (0, 2)
    assert summary["rank1"] is None
    evaluated = evaluate_retrieval(run)
    assert len(evaluated.identification.query) == 0
    assert evaluated.identification.without_match == 2
    find_suspects(run)
    AuditPanel(dataset)
    [note] = PairsComponent(dataset).walk()
    assert said in note.lower()


def test_all_the_same_image(dataset: fo.Dataset, tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    person(1).save(path)
    dataset.add_samples([fo.Sample(str(path), identity=f"p{i % 2}") for i in range(6)])
    run = explain_retrieval(dataset, tiny_model(), k=10, protocol=IDENTITY)
    # All similarities are 1, so each query has all others in their order.
    assert len(run.pairs) == 6 * 5
    np.testing.assert_allclose(run.pairs.similarity, 1, atol=1e-6)
    for query in range(6):
        others = run.pairs.gallery[run.pairs.of_query(query)].tolist()
        assert others == [i for i in range(6) if i != query]
    assert run.skipped == ()
    maps = run.many_maps(range(30))
    for pair in maps[1:]:
        np.testing.assert_array_equal(
            pair.query.maps["evidence"], maps[0].query.maps["evidence"]
        )
    evaluate_retrieval(run)
    find_suspects(run)
    AuditPanel(dataset)
    with pytest.raises(DataError, match="the protocol leaves no pair to compare"):
        explain_retrieval(
            dataset, tiny_model(), key="b", protocol=Protocol(exclude_duplicates=True)
        )


def test_labels_of_which_most_are_missing(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path, identities=3, shots=2)
    dataset.set_values("who", [1.0, 1.0, float("nan"), None, 2.5, float("inf")])
    run = explain_retrieval(
        dataset, tiny_model(), k=9, protocol=Protocol(identity_field="who")
    )
    assert run.items.identities == ("1", "1", None, None, "2.5", "inf")
    assert set(run.pairs.outcome[run.pairs.of_query(2)]) == {2}
    # k is more than the gallery has.
    assert len(run.pairs) == 6 * 5
    assert dataset.values("sfam_outcome")[2:4] == ["unlabeled"] * 2
    assert "unlabeled" not in dataset.values("sfam_outcome")[:2]
    evaluated = evaluate_retrieval(run)
    assert evaluated.identification.query.tolist() == [0, 1]
    find_suspects(run)


def test_no_labels_at_all(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path, identities=2, shots=2)
    run = explain_retrieval(dataset, tiny_model(), k=1)
    assert set(dataset.values("sfam_outcome")) == {"unlabeled"}
    with pytest.raises(DataError, match="no image of the run 'sfam' has an identity"):
        evaluate_retrieval(run)
    # What needs no labels is done: no duplicates, no shortcuts here.
    find_shortcuts(run)
    find_suspects(run)
    AuditPanel(dataset)
    assert PairsComponent(dataset).walk() == []


def test_protocol_values_that_occur_in_no_image(
    dataset: fo.Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(dataset, tmp_path, identities=3, shots=2)
    dataset.set_values("who", [0, 0, 1, 1, 2, 2])
    message = (
        "the value '3' of the rule distractors occurs in none of the 6 images; values "
        "are compared as numbers, and the field 'who' has '2', '1', '0' (3 of 3 "
        "values); give values that occur, or leave the rule out."
    )
    with pytest.raises(DataError) as error:
        explain_retrieval(
            dataset, tiny_model(), protocol=Protocol("who", distractors=("0003",))
        )
    assert str(error.value) == message
    command = ["explain", dataset.name, "--model", "demo", "--identity-field", "who"]
    assert main([*command, "--distractor", "0003"]) == 2
    assert capsys.readouterr().err == f"fiftyone-sfam: {message}\n"
    ctx = context(
        dataset, {"model": "demo", "identity_field": "who", "distractors": "0003"}
    )
    with pytest.raises(DataError) as error:
        ExplainRetrieval().execute(ctx)
    assert str(error.value) == message
    assert (dataset.list_runs(), stored_blobs(dataset)) == ([], 0)

    # Distractors match nobody, and are no queries.
    run = explain_retrieval(
        dataset, tiny_model(), k=9, protocol=Protocol("who", distractors=("0",))
    )
    assert set(run.pairs.query.tolist()) == {2, 3, 4, 5}
    assert run.summary()["queries"] == 4
    # What was stored is read as before where the value has gone.
    dataset.set_values("who", [3, 3, 1, 1, 2, 2])
    evaluated = evaluate_retrieval(load_run(dataset, "sfam"))
    assert evaluated.identification.query.tolist() == [2, 3, 4, 5]


# -- of another kind -------------------------------------------------------------------


def _video(dataset: fo.Dataset) -> fo.Dataset:
    dataset.add_sample(fo.Sample(filepath="/none/a.mp4"))
    return dataset


def _three_d(dataset: fo.Dataset) -> fo.Dataset:
    dataset.add_sample(fo.Sample(filepath="/none/a.fo3d"))
    return dataset


def _point_cloud(dataset: fo.Dataset) -> fo.Dataset:
    dataset.add_sample(fo.Sample(filepath="/none/a.pcd"))
    return dataset


def _other(dataset: fo.Dataset) -> fo.Dataset:
    dataset.add_sample(fo.Sample(filepath="/none/a.pdf"))
    return dataset


def _groups(dataset: fo.Dataset) -> fo.Dataset:
    dataset.add_group_field("group", default="left")
    group = fo.Group()
    files = {"left": "a.png", "clip": "b.mp4", "cloud": "c.pcd"}
    dataset.add_samples(
        [
            fo.Sample(filepath=f"/none/{file}", group=group.element(name))
            for name, file in files.items()
        ]
    )
    return dataset


KINDS: dict[str, tuple[Callable[[fo.Dataset], fo.Dataset], str]] = {
    "empty": (
        lambda dataset: dataset,
        "has no samples; add images, or widen the view.",
    ),
    "video": (_video, "holds video samples; images are needed (for video, to_frames("),
    "3d": (_three_d, "holds 3d samples; images are needed"),
    "point cloud": (_point_cloud, "holds point-cloud samples; images are needed"),
    "unknown": (_other, "holds unknown samples; images are needed"),
    "groups": (
        _groups,
        "is a grouped dataset; select one slice with select_group_slices(...); "
        "its slices are 'left', 'clip', 'cloud'.",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_sentence_everywhere(
    dataset: fo.Dataset, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, message = KINDS[kind]
    make(dataset)
    with pytest.raises(DataError, match=re.escape(message)) as error:
        explain_retrieval(dataset, "demo")
    assert_sentence(error.value)
    assert main(["explain", dataset.name, "--model", "demo"]) == 2
    assert capsys.readouterr().err == f"fiftyone-sfam: {error.value}\n"
    ctx = context(dataset, {"model": "demo"})
    if kind == "groups":
        # The App's form takes the slice that is shown.
        found = ExplainRetrieval().resolve_input(ctx)
        assert ValidationContext(ctx, found, ExplainRetrieval()).errors == []
        message = "no pair to compare: the rule \u2068exclude_self\u2069 leaves out"
    else:
        ExplainRetrieval().resolve_input(ctx)
    with pytest.raises(DataError, match=re.escape(message)):
        ExplainRetrieval().execute(ctx)
    assert (dataset.list_runs(), stored_blobs(dataset)) == ([], 0)


def test_slices_that_are_no_images(dataset: fo.Dataset) -> None:
    _groups(dataset)
    for name, media in (("clip", "video"), ("cloud", "point-cloud")):
        with pytest.raises(DataError, match=f"holds {media} samples; images are"):
            explain_retrieval(dataset.select_group_slices(name), tiny_model())


def test_frames_are_refused_and_their_clone_is_not(
    make_dataset: Callable[..., fo.Dataset], tmp_path: Path
) -> None:
    video = make_dataset("video")
    sample = fo.Sample(filepath=str(tmp_path / "a.mp4"))
    for number in range(1, 5):
        path = tmp_path / f"{number}.png"
        person(number).save(path)
        sample.frames[number] = fo.Frame(filepath=str(path), identity=f"p{number % 2}")
    video.add_sample(sample)
    frames = video.to_frames()
    with pytest.raises(DataError, match="patches, frames or clips, which FiftyOne"):
        explain_retrieval(frames, tiny_model())
    clone = frames.clone(f"{video.name}-frames")
    try:
        run = explain_retrieval(clone, tiny_model(), k=1, protocol=IDENTITY)
        assert len(run.pairs) >= 4
        assert run.skipped == ()
    finally:
        clone.delete()


# -- embeddings ------------------------------------------------------------------------


def test_embeddings_of_every_type(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path, identities=2, shots=2)
    items = collect_items(dataset, Protocol())
    vectors = np.random.default_rng(0).normal(size=(4, 5))
    for kind in ("float16", "float32", "float64", "int8"):
        typed = (vectors * 20).astype(kind)
        dataset.set_values(kind, list(typed))
        for source in (typed, typed.tolist(), torch.from_numpy(typed), kind):
            found = stored_embeddings(dataset, items, source, None)
            np.testing.assert_array_equal(found.vectors, typed.astype(np.float32))
            assert found.usable.all()
    # Larger than float32 reaches.
    huge = vectors.copy()
    huge[2, 1] = 1e300
    found = stored_embeddings(dataset, items, huge, None)
    assert [one.reason for one in found.skipped] == [
        "its embedding holds NaN or infinity."
    ]
    assert found.usable.tolist() == [True, True, False, True]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            [[1.0, 2.0], [3.0], [1.0], [2.0]],
            "the embeddings are not an array of numbers (",
        ),
        (
            torch.ones(4, 2, requires_grad=True),
            "the embeddings are not an array of numbers",
        ),
        (
            np.ones((4, 2), dtype=complex),
            "not hold vectors of numbers (they are of type comp",
        ),
        (
            np.full((4, 2), "a"),
            "does not hold vectors of numbers (they are of type <U1)",
        ),
        (np.full((4, 2), None), "none of the queries has an embedding; the first reas"),
        (np.ones((4, 0)), "none of the queries has an embedding; the first reason: it"),
        (
            np.full((4, 2), "2020", "datetime64[D]"),
            "not hold vectors of numbers (they are of type",
        ),
        ({"a": 1}, "the embeddings have shape (); one row for each of the 4 images"),
        (7, "the embeddings have shape (); one row for each of the 4 images"),
        (
            np.ones((5, 2)),
            "the embeddings have shape (5, 2); one row for each of the",
        ),
    ],
)
def test_embeddings_that_are_none(
    dataset: fo.Dataset, tmp_path: Path, source: Any, message: str
) -> None:
    fill(dataset, tmp_path, identities=2, shots=2)
    with pytest.raises(DataError, match=re.escape(message)) as error:
        explain_retrieval(dataset, tiny_model(), embeddings=source)
    assert_sentence(error.value)
    assert (dataset.list_runs(), stored_blobs(dataset)) == ([], 0)


# -- changed after a run ---------------------------------------------------------------


def _whole_run(dataset: fo.Dataset, folder: Path, frames: bool) -> None:
    """Make a run with results of every kind of audit that is quick."""
    protocol = Protocol("label" if frames else "identity", camera_field="camera")
    field = "people" if frames else None
    (fill_frames if frames else fill)(dataset, folder)
    run = explain_retrieval(
        dataset, tiny_model(), k=2, protocol=protocol, patches_field=field
    )
    evaluate_retrieval(run)
    find_suspects(run)
    build_ledger(run, stripes=3)
    set_verdict(run, 1, "wrong label")


def _stored_results(run: Run) -> dict[str, tuple[Any, ...]]:
    """Return everything that a run's audits have stored, to be compared."""
    found = {}
    for name in run.results.names():
        result = run.results.load(name)
        assert result is not None
        arrays = {key: value.tobytes() for key, value in result.arrays.items()}
        found[name] = (arrays, repr((result.config, result.fields)))
    assert found.keys() == {"evaluation", "regions", "suspects"}
    return found


def _delete_all_fields(dataset: fo.Dataset) -> None:
    own = [name for name in dataset.get_field_schema() if name.startswith("sfam")]
    assert len(own) == 8
    dataset.delete_sample_fields([*own, "identity", "camera"])


def _thin_out(dataset: fo.Dataset) -> None:
    dataset.set_values("identity", [None] * len(dataset))
    dataset.delete_samples(dataset[:3])


def _delete_one_detection(dataset: fo.Dataset) -> None:
    sample = dataset.first()
    del sample.people.detections[0]
    sample.save()


CHANGES: dict[str, tuple[bool, Callable[[fo.Dataset], object]]] = {
    "fields deleted": (False, _delete_all_fields),
    "fields renamed": (
        False,
        lambda dataset: dataset.rename_sample_fields(
            {"identity": "who", "sfam": "heat", "sfam_ap": "ap"}
        ),
    ),
    "labels emptied, some samples deleted": (False, _thin_out),
    "all samples deleted": (False, lambda dataset: dataset.clear()),
    "detections deleted": (True, lambda dataset: dataset.delete_sample_field("people")),
    "detections renamed": (
        True,
        lambda dataset: dataset.rename_sample_field("people", "persons"),
    ),
    "one detection deleted": (True, _delete_one_detection),
}

SAMPLE_GONE = "The sample was deleted."
FIELD_GONE = "The dataset no longer has the field 'people' of its detections."
MISSING = {
    "labels emptied, some samples deleted": {SAMPLE_GONE},
    "all samples deleted": {SAMPLE_GONE},
    "detections deleted": {FIELD_GONE},
    "detections renamed": {FIELD_GONE},
    "one detection deleted": {"The detection is not in the field 'people' any more."},
}

GONE = (
    "no longer has a field 'people' with detections; rename the field back, or repeat"
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_after_its_dataset_was_changed(
    dataset: fo.Dataset, tmp_path: Path, change: str
) -> None:
    frames, do = CHANGES[change]
    _whole_run(dataset, tmp_path, frames)
    before = load_run(dataset, "sfam")
    results = _stored_results(before)
    do(dataset)
    # What is stored is all there: pairs, labels of the time, maps, results.
    run = load_run(dataset, "sfam")
    assert run.items.identities == before.items.identities
    assert run.pairs.similarity.tobytes() == before.pairs.similarity.tobytes()
    assert all(pair.query is not None for pair in run.many_maps(range(len(run.pairs))))
    assert _stored_results(run) == results
    # Panels open, and the report is written.
    panel = AuditPanel(dataset)
    cards = {card["label"]: card["value"] for card in panel.block("cards")["cards"]}
    assert cards["Queries"] == str(len(np.unique(run.pairs.query)))
    panel.do("on_tab", path="tab", value="suspects")
    assert panel.state["blocks"]
    component = PairsComponent(dataset)
    assert component.walk() == []
    assert component.missing == MISSING.get(change, set())
    assert write_report(run, tmp_path / "report").page.stat().st_size > 10_000
    for name in (
        "explain_retrieval",
        "show_pairs",
        "evaluate_retrieval",
        "write_report",
    ):
        foo.get_operator(f"{PLUGIN}/{name}").resolve_input(context(dataset))
    # Audits go on with what is left, or say what is not.
    gone = change in ("detections deleted", "detections renamed")
    for audit in (evaluate_retrieval, find_suspects):
        if gone:
            with pytest.raises(DataError, match=re.escape(GONE)):
                audit(run)
        else:
            audit(run)
    # It can still be renamed, and deleted without a trace.
    rename_run(dataset, "sfam", "other")
    assert {"evaluation", "suspects", "regions"} <= set(
        load_run(dataset, "other").results.names()
    )
    delete_run(dataset, "other")
    assert dataset.list_runs() == []
    assert stored_blobs(dataset) == 0


def test_a_run_that_fiftyone_has_renamed(dataset: fo.Dataset, tmp_path: Path) -> None:
    """FiftyOne moves the record, and knows nothing of fields and results."""
    _whole_run(dataset, tmp_path, frames=False)
    results = _stored_results(load_run(dataset, "sfam"))
    dataset.rename_run("sfam", "mine")
    assert list_runs(dataset) == ["mine"]
    run = load_run(dataset, "mine")
    assert _stored_results(run) == results
    AuditPanel(dataset, "suspects")
    assert PairsComponent(dataset).walk() == []
    # A new result takes the place of the old one, which had another name.
    evaluate_retrieval(run)
    assert sorted(dataset.list_runs()) == [
        "mine",
        "mine_evaluation",
        "sfam_regions",
        "sfam_suspects",
    ]
    assert dataset.get_field("sfam_ap") is None
    assert None not in dataset.values("mine_ap")[:2]
    rename_run(dataset, "mine", "ours")
    assert sorted(dataset.list_runs()) == [
        "ours",
        "ours_evaluation",
        "ours_regions",
        "ours_suspects",
    ]
    delete_run(dataset, "ours")
    assert (dataset.list_runs(), stored_blobs(dataset)) == ([], 0)


def test_a_run_whose_record_fiftyone_has_deleted(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    _whole_run(dataset, tmp_path, frames=False)
    dataset.delete_run("sfam")
    assert list_runs(dataset) == []
    with pytest.raises(RunError, match="has no explained run 'sfam' "):
        load_run(dataset, "sfam")
    with pytest.raises(RunError, match="has a field 'sfam' that does not belong"):
        explain_retrieval(dataset, tiny_model())
    AuditPanel(dataset)
    assert PairsComponent(dataset).opened["run"] is None
    assert len(explain_retrieval(dataset, tiny_model(), key="new", k=1).pairs) == 12


def test_views_whose_order_is_another_each_time(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    """Labels and embeddings stay with their images."""
    fill(dataset, tmp_path)
    model = tiny_model()
    vectors = embeddings_of(model, dataset.values("filepath"))
    dataset.set_values("vector", list(vectors))
    labels = dict(zip(*dataset.values(["id", "identity"]), strict=True))
    view = dataset.group_by("filepath", flat=True)
    orders = {tuple(view.values("id")) for _ in range(20)}
    assert len(orders) > 1
    for key in "abcd":
        run = explain_retrieval(
            view, model, key=key, k=2, protocol=IDENTITY, embeddings="vector"
        )
        assert run.items.identities == tuple(labels[i] for i in run.items.sample_ids)
        assert run.skipped == ()
    with pytest.raises(
        DataError, match="is grouped by a field, so it holds one sample"
    ):
        explain_retrieval(dataset.group_by("filepath"), model)


def test_views_that_hold_other_samples_each_time(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path, identities=10, shots=2)
    view = dataset.mongo([{"$sample": {"size": 4}}])
    with pytest.raises(DataError, match="holds different samples each time that it"):
        explain_retrieval(view, tiny_model(), protocol=IDENTITY)
    assert (dataset.list_runs(), stored_blobs(dataset)) == ([], 0)
