"""The operators for pairs that a user gives, in real execution contexts."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators import types
from fiftyone.operators.delegated import DelegatedOperationService

from fiftyone_sfam import (
    Protocol,
    Run,
    delete_run,
    explain_pairs,
    explain_retrieval,
    list_runs,
    load_run,
    load_verification,
    verify_pairs,
)
from fiftyone_sfam.app.operators import explain_pairs as explaining
from fiftyone_sfam.app.operators import verify_pairs as verifying
from fiftyone_sfam.app.operators.explain_pairs import ExplainPairs, GivenSettings
from fiftyone_sfam.app.operators.verify_pairs import VerifyPairs
from fiftyone_sfam.errors import DataError, RunError
from operator_support import PLUGIN, context, form, offered, problems, requests
from stored import assert_same, numbers_of

EXPLAIN, VERIFY = f"{PLUGIN}/explain_pairs", f"{PLUGIN}/verify_pairs"


@pytest.fixture(scope="module")
def rows(crops: fo.Dataset) -> list[list[str]]:
    """Three folds of four pairs, of which two are of one identity; ends of paths."""
    names = [os.path.basename(path) for path in crops.values("filepath")]
    listed = []
    for fold in range(3):
        own, other = names[6 * fold : 6 * fold + 6], names[6 * fold + 6 :]
        listed += [
            [own[0], own[1], "same", str(fold)],
            [own[2], own[3], "same", str(fold)],
            [own[4], other[0], "different", str(fold)],
            [own[5], other[1], "different", str(fold)],
        ]
    return listed


@pytest.fixture(scope="module")
def text(rows: list[list[str]]) -> str:
    """The list as a table with a head line."""
    return "\n".join(map(",".join, [["query", "gallery", "label", "fold"], *rows]))


@pytest.fixture(scope="module")
def run(crops: fo.Dataset, rows: list[list[str]]) -> Run:
    """The same list from Python, without folds; and a run of nearest neighbors."""
    explain_retrieval(crops, "demo", key="found", k=1)
    return explain_pairs(
        crops, "demo", [row[:3] for row in rows], key="sdk", identity_field="identity"
    )


@pytest.fixture
def removed(crops: fo.Dataset, run: Run) -> Iterator[None]:
    """Delete the runs of one test."""
    yield
    for key in list_runs(crops):
        if key not in ("sdk", "found"):
            delete_run(crops, key)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# --------------------------------------------------------------------------------------
# explain_pairs
# --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("removed")
def test_every_way_stores_the_same(
    crops: fo.Dataset, run: Run, rows: list[list[str]], text: str
) -> None:
    expected, given = numbers_of(run), run.given
    assert given is not None
    settings = {"identity_field": "identity"}
    operator = foo.get_operator(EXPLAIN)
    triples = [row[:3] for row in rows]
    called = operator(crops, "demo", triples, key="called", **settings)
    assert called.result == {"key": "called", **run.summary(), "reasons": ""}

    operator(crops, "demo", text, key="pasted", **settings)
    params = {"model": "demo", "key": "file", "list_file": encoded(text), **settings}
    executed = foo.execute_operator(EXPLAIN, {"dataset": crops}, params=params)
    assert executed.result["rows"] == 12

    queued = operator(crops, "demo", text, key="later", delegate=True, **settings)
    assert queued.delegated
    assert "later" not in list_runs(crops)
    service = DelegatedOperationService()
    [done] = service.execute_queued_operations(
        operator=EXPLAIN, dataset_name=crops.name
    )
    assert done.error is None
    [stored] = service.list_operations(operator=EXPLAIN, dataset_name=crops.name)
    assert (stored.status.progress, stored.status.label) == (
        1.0,
        "explaining: 20 of 20 images",
    )
    service.delete_operation(stored.id)
    for key in ("called", "pasted", "file", "later"):
        made = load_run(crops, key)
        assert_same(numbers_of(made), expected)
        assert made.given is not None
        assert made.given.listed.query == given.listed.query
        np.testing.assert_array_equal(made.given.pair, given.pair)
        folds = [-1] * 12 if key == "called" else np.repeat([0, 1, 2], 4).tolist()
        assert made.given.listed.fold.tolist() == folds


@pytest.mark.usefixtures("removed")
def test_settings_arrive(crops: fo.Dataset, rows: list[list[str]]) -> None:
    crops.set_values("nick", [f"n{n}" for n in range(len(crops))])
    listed = "left;right;score\nn3;n1;0.5\nn3;n9;\nn3;gone;1\n"
    ctx = context(
        crops,
        {
            "model": "demo",
            "key": "named",
            "list_text": listed,
            "columns": "query=left, gallery = right",
            "name_field": "nick",
            "camera_field": "camera",
            "kind": "evidence",
            "contributions": "int8",
            "batch_size": 2,
        },
    )
    result = ExplainPairs().execute(ctx)
    run = load_run(crops, "named")
    assert run.given is not None
    np.testing.assert_array_equal(run.given.listed.score, [0.5, np.nan, 1])
    ids = crops.values("id")
    assert set(run.items.ids) == {ids[1], ids[3], ids[9]}
    config = run.config
    assert (config.kinds[0], config.contributions) == ("evidence", "int8")
    assert config.shard_images == 2
    protocol = Protocol.from_dict(config.protocol)
    assert (protocol.identity_field, protocol.camera_field) == (None, "camera")
    assert result["reasons"] == "skipped row 2: 'gone' is not in the view."
    assert (result["rows"], result["rows skipped"], result["pairs"]) == (3, 1, 2)
    assert requests(ctx) == [
        ("reload_dataset", {}),
        ("set_active_fields", {"fields": ["named", "named_score"]}),
    ]
    outputs = ExplainPairs().resolve_output(context(crops)).type.properties
    assert set(outputs) <= set(result)
    crops.delete_sample_field("nick")


@pytest.mark.parametrize(
    ("params", "path", "reason"),
    [
        ({"list_text": ""}, "", "there are no pairs; paste some, or choose a file."),
        ({"list_file": encoded("a,b")}, "list_file", "as text and as a file; give one"),
        ({"list_text": "a\nb"}, "list_text", "the line 'a' of the text has 1 column;"),
        ({"list_text": "a,b,maybe"}, "list_text", "row 0 of the text has the label"),
        (
            {"list_text": "", "list_file": "&"},
            "list_file",
            "the file is not text in UTF-8; save it as CSV in UTF-8.",
        ),
        (
            {"list_text": "", "list_file": base64.b64encode(b"\xff\xfe,").decode()},
            "list_file",
            "the file is not text in UTF-8",
        ),
        (
            {"list_text": "", "list_file": encoded("a,b\0")},
            "list_file",
            "the file has a character that no text has",
        ),
        ({"columns": "left=query"}, "columns", "columns has 'left=query'; give NAME="),
        ({"columns": "query=left"}, "list_text", "has no column 'left' for the query"),
        ({"key": "sdk"}, "key", "there is a run 'sdk' already; replace it, or change"),
        ({"model": None}, "model", "Required property"),
    ],
)
@pytest.mark.usefixtures("run")
def test_the_form_says_what_is_wrong(
    crops: fo.Dataset, params: dict[str, Any], path: str, reason: str
) -> None:
    given = {"model": "demo", "key": "new", "list_text": "a, b", **params}
    given["embeddings_from"] = "compute"
    found = problems(ExplainPairs(), crops, **given)
    assert list(found) == [path]
    assert reason in found[path]


def test_a_list_that_is_too_large_is_refused() -> None:
    with pytest.raises(DataError, match="give a list of pairs of at most 4 MiB"):
        GivenSettings.read({"list_file": "A" * (6 * 2**20)})


def test_the_form_offers_fields_and_says_the_cost(
    crops: fo.Dataset, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = ExplainPairs()
    fields = form(operator, crops, list_text=text, embeddings_from="compute")
    assert fields["key"].default == "pairs"
    assert {"identity", "camera"} <= set(offered(fields["identity_field"]))
    said = "12 pairs of 20 images: up to 40 forward passes."
    assert fields["estimate"].view.label == said
    assert fields["list_text"].view.multiline
    assert "estimate" not in form(operator, crops, list_text="a")
    ctx = context(crops, {"list_text": text})
    assert not operator.resolve_execution_options(ctx).default_choice_to_delegated
    monkeypatch.setattr(explaining, "LARGE", 20)
    assert operator.resolve_execution_options(ctx).default_choice_to_delegated
    assert "better delegated" in form(operator, ctx)["estimate"].view.label


def test_it_fails_with_the_reason(crops: fo.Dataset) -> None:
    for params, message in (
        ({}, "choose a model to explain"),
        ({"model": "demo"}, "the text is empty; a list of pairs is needed"),
        ({"model": "demo", "list_text": "a,b"}, "none of the 1 pair of the list has"),
        # A path is a name like any other, which nothing reads.
        ({"model": "demo", "list_text": "/etc/hosts"}, "of the text has 1 column"),
    ):
        with pytest.raises(DataError, match=message):
            ExplainPairs().execute(context(crops, params))
    with pytest.raises(TypeError, match="explain_pairs has no setting 'shots'"):
        foo.get_operator(EXPLAIN)(crops, "demo", "a,b", shots=3)


# --------------------------------------------------------------------------------------
# verify_pairs
# --------------------------------------------------------------------------------------


@pytest.fixture
def folds(crops: fo.Dataset, text: str, removed: None) -> Run:
    """The list with folds, and with scores of its own."""
    head, *lines = text.splitlines()
    scores = np.linspace(1, 0, len(lines)).round(3).tolist()
    listed = [f"{head},score", *map("{},{}".format, lines, scores)]
    foo.get_operator(EXPLAIN)(crops, "demo", "\n".join(listed), key="folds")
    return load_run(crops, "folds")


def plain(found: Any) -> str:
    return repr(found).replace(found.created, "")


def test_every_way_verifies_the_same(crops: fo.Dataset, folds: Run) -> None:
    settings: dict[str, Any] = {
        "threshold": 0.5,
        "fars": [0.5, 0.2],
        "scores": "list",
    }
    expected = verify_pairs(folds, **settings)
    assert expected.decided is not None
    folds.results.delete("verification")
    operator = foo.get_operator(VERIFY)
    called = operator(crops, "folds", **settings).result
    assert plain(load_verification(folds)) == plain(expected)
    assert called == {
        "key": "folds",
        "folds": 3,
        "accuracy": expected.accuracy,
        "accuracy_error": expected.accuracy_error,
        "auc": expected.scores.auc,
        "equal_error": expected.scores.equal_error,
        "equal_error_threshold": expected.scores.equal_error_threshold,
        "best_accuracy": expected.best_accuracy,
        "best_threshold": expected.best_threshold,
        "accuracy_at": expected.decided.accuracy,
        "tar_at": expected.decided.tar,
        "far_at": expected.decided.far,
        "fars": [0.5, 0.2],
        "tar_0": called["tar_0"],
        "tar_1": called["tar_1"],
        "genuine": 6,
        "impostor": 6,
        "unlabeled": 0,
        "skipped": 0,
    }
    point = expected.scores.operating[1]
    assert called["tar_1"] == (
        f"{100 * point.tar:.2f} % at the threshold {point.threshold:.4f}; too few "
        "pairs of two identities"
    )
    shown = types.Object()
    VerifyPairs().add_outputs(shown, called)
    assert set(called) - set(shown.properties) == {"fars"}
    assert shown.properties["tar_0"].view.label == "True accepts at 50 % FAR"

    params = {"key": "folds", **settings, "fars": "0.5, 0.2"}
    assert (
        foo.execute_operator(VERIFY, {"dataset": crops}, params=params).result == called
    )
    folds.results.delete("verification")
    assert operator(crops, "folds", delegate=True, **settings).delegated
    service = DelegatedOperationService()
    [done] = service.execute_queued_operations(operator=VERIFY, dataset_name=crops.name)
    assert done.error is None
    [stored] = service.list_operations(operator=VERIFY, dataset_name=crops.name)
    service.delete_operation(stored.id)
    assert plain(load_verification(folds)) == plain(expected)


def test_its_defaults_are_the_librarys(crops: fo.Dataset, run: Run) -> None:
    result = VerifyPairs().execute(context(crops, {"key": "sdk"}))
    stored = load_verification(run)
    assert stored is not None
    assert plain(stored) == plain(verify_pairs(run))
    # Without folds there is no accuracy by folds, and JSON has no NaN.
    assert (result["folds"], result["accuracy"]) == (0, None)
    assert result["auc"] == stored.scores.auc
    assert "accuracy_at" not in result
    shown = types.Object()
    VerifyPairs().add_outputs(shown, result)
    assert {"folds", "accuracy", "accuracy_at"} & set(shown.properties) == set()
    assert set(shown.properties) < set(result)
    run.results.delete("verification")


def test_the_form_offers_the_runs_of_lists(
    crops: fo.Dataset, run: Run, folds: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list_runs(crops) == ["folds", "found", "sdk"]
    fields = form(VerifyPairs(), crops)
    assert offered(fields["key"]) == ["folds", "sdk"]
    assert "scores" in fields
    assert "scores" not in form(VerifyPairs(), crops, key="sdk")
    assert "12 rows of the list." in fields["estimate"].view.label
    assert problems(VerifyPairs(), crops, key="folds", scores="model", fars="0.1") == {}
    ctx = context(crops, {"key": "folds"})
    operator = VerifyPairs()
    assert not operator.resolve_execution_options(ctx).default_choice_to_delegated
    monkeypatch.setattr(verifying, "LARGE", 12)
    assert operator.resolve_execution_options(ctx).default_choice_to_delegated


@pytest.mark.parametrize(
    ("params", "path", "reason"),
    [
        ({"key": "found"}, "key", "the pairs of this run are nearest neighbors;"),
        ({"key": "gone"}, "key", "there is no such run; choose another."),
        ({"fars": "a few"}, "fars", "are not all numbers"),
        ({"threshold": "high"}, "threshold", "threshold is 'high'; give a number."),
    ],
)
@pytest.mark.usefixtures("run")
def test_the_form_of_a_verification_says_what_is_wrong(
    crops: fo.Dataset, params: dict[str, Any], path: str, reason: str
) -> None:
    found = problems(VerifyPairs(), crops, **{"key": "sdk", **params})
    assert reason in found[path]


@pytest.mark.usefixtures("removed")
def test_a_list_without_labels_says_so(
    crops: fo.Dataset, rows: list[list[str]]
) -> None:
    pairs = [row[:2] for row in rows]
    foo.get_operator(EXPLAIN)(crops, "demo", pairs, key="bare")
    found = problems(VerifyPairs(), crops, key="bare")
    assert "the list has no labeled pairs of both kinds" in found["key"]


def test_a_verification_fails_with_the_reason(
    crops: fo.Dataset, dataset: fo.Dataset
) -> None:
    with pytest.raises(RunError, match="are nearest neighbors, not a list"):
        VerifyPairs().execute(context(crops, {"key": "found"}))
    dataset.add_sample(fo.Sample("image.png"))
    assert "there are no runs." in problems(VerifyPairs(), dataset).values()
    said = form(VerifyPairs(), dataset)["none"].view.description
    assert said == "Make one with the operator 'SFAM: explain given pairs'."
