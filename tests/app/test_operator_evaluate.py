"""The operator that evaluates a run, in real execution contexts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.delegated import DelegatedOperationService

from fiftyone_sfam.app.operators import evaluate_retrieval as module
from fiftyone_sfam.app.operators.evaluate_retrieval import EvaluateRetrieval
from fiftyone_sfam.audit.evaluation.evaluate import (
    Evaluation,
    evaluate_retrieval,
    load_evaluation,
)
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.runs.run import Run, load_run
from operator_support import PLUGIN, context, form, problems, requests
from worlds import REID

EVALUATE = f"{PLUGIN}/evaluate_retrieval"
SETTINGS: dict[str, Any] = {
    "slices": ["camera", "hat"],
    "pair_slices": ["camera"],
    "cameras": "cross",
    "fars": [0.1, 0.05],
    "resamples": 30,
    "seed": 7,
}


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    """Crops with two runs: one without identities."""
    crops.set_values("hat", ["cap", "hood", None] * 12)
    crops.add_sample_field("sharpness", fo.FloatField)
    explain_retrieval(crops, "demo", key="labeled", k=2, protocol=REID)
    explain_retrieval(crops, "demo", key="plain", k=2)
    return crops


@pytest.fixture
def run(crops: fo.Dataset) -> Iterator[Run]:
    run = load_run(crops, "labeled")
    yield run
    run.results.delete_all()


def without_time(evaluation: Evaluation | None) -> str:
    assert evaluation is not None
    return repr(evaluation).replace(evaluation.created, "")


def test_every_way_stores_the_same(run: Run, crops: fo.Dataset) -> None:
    expected = without_time(evaluate_retrieval(run, **SETTINGS))
    run.results.delete_all()
    operator = foo.get_operator(EVALUATE)
    called = operator(crops, "labeled", **SETTINGS)
    assert without_time(load_evaluation(run)) == expected
    run.results.delete_all()

    params = {"key": "labeled", **SETTINGS, "fars": "0.1, 0.05"}
    executed = foo.execute_operator(EVALUATE, {"dataset": crops}, params=params)
    assert executed.result == called.result
    assert without_time(load_evaluation(run)) == expected
    run.results.delete_all()

    queued = operator(crops, "labeled", delegate=True, **SETTINGS)
    assert queued.delegated
    assert load_evaluation(run) is None
    service = DelegatedOperationService()
    [done] = service.execute_queued_operations(
        operator=EVALUATE, dataset_name=crops.name
    )
    assert done.error is None
    [stored] = service.list_operations(operator=EVALUATE, dataset_name=crops.name)
    assert stored.status.progress == 1.0
    assert "36 of 36 queries" in stored.status.label
    service.delete_operation(stored.id)
    assert without_time(load_evaluation(run)) == expected


def test_its_result_is_the_evaluations(run: Run, crops: fo.Dataset) -> None:
    ctx = context(crops, {"key": "labeled"})
    result = EvaluateRetrieval().execute(ctx)
    found = load_evaluation(run)
    assert found is not None
    assert result == {
        "key": "labeled",
        "queries": len(found.identification.query),
        "rank1": found.overall.rank1.value,
        "mean_average_precision": found.identification.mean_average_precision,
        "mean_inverse_negative_penalty": (
            found.identification.mean_inverse_negative_penalty
        ),
        "genuine": found.verification.genuine_pairs,
        "impostor": found.verification.impostor_pairs,
        "auc": found.verification.auc,
        "equal_error": found.verification.equal_error,
    }
    assert (found.cameras, found.resamples, found.seed) == ("protocol", 1000, 0)
    assert [point.far for point in found.verification.operating] == [
        0.1,
        0.01,
        0.001,
        0.0001,
    ]
    assert "reload_dataset" in dict(requests(ctx))
    shown = EvaluateRetrieval().resolve_output(context(crops, {"key": "labeled"}))
    assert set(shown.type.properties) == set(result)


def test_the_form_offers_runs_fields_and_rules(run: Run, crops: fo.Dataset) -> None:
    evaluate_retrieval(run, resamples=1)
    fields = form(EvaluateRetrieval(), crops, key="labeled")
    offered = [choice.value for choice in fields["slices"].view.choices]
    # The protocol's own first; nothing of what an evaluation writes.
    assert offered[0] == "camera"
    assert {"hat", "sharpness", "tags", "identity"} <= set(offered)
    assert not {"labeled_ap", "labeled_first_match"} & set(offered)
    assert [choice.value for choice in fields["cameras"].view.choices] == [
        "protocol",
        "all",
        "cross",
        "single",
    ]
    assert fields["fars"].default == "0.1, 0.01, 0.001, 0.0001"
    assert "1,296 pairs" in fields["estimate"].view.label
    assert (
        problems(
            EvaluateRetrieval(), crops, key="labeled", slices=["hat"], fars="0.2, 1e-3"
        )
        == {}
    )


@pytest.mark.parametrize(
    ("params", "path", "reason"),
    [
        ({"key": "gone"}, "key", "there is no such run; choose another."),
        (
            {"slices": ["nose"]},
            "slices",
            "'nose' is not a field to slice by; choose from the list.",
        ),
        (
            {"pair_slices": ["nose"]},
            "pair_slices",
            "'nose' is not a field to slice by; choose from the list.",
        ),
        ({"fars": "a few"}, "fars", "are not all numbers"),
        ({"fars": "0.1, 7"}, "fars", "rate 7.0 is out of range"),
        ({"key": "plain"}, "labels", "no identity field"),
    ],
)
def test_the_form_says_what_is_wrong(
    crops: fo.Dataset, params: dict[str, Any], path: str, reason: str
) -> None:
    found = problems(EvaluateRetrieval(), crops, **{"key": "labeled", **params})
    assert reason in found[path]


def test_without_runs_it_says_what_to_do(dataset: fo.Dataset) -> None:
    dataset.add_sample(fo.Sample("image.png"))
    assert "there are no runs." in problems(EvaluateRetrieval(), dataset).values()


def test_it_fails_with_the_reason(crops: fo.Dataset) -> None:
    with pytest.raises(RunError, match="no explained run 'gone'"):
        EvaluateRetrieval().execute(context(crops, {"key": "gone"}))
    with pytest.raises(DataError, match="has an identity"):
        EvaluateRetrieval().execute(context(crops, {"key": "plain"}))


def test_large_runs_are_delegated(
    run: Run, crops: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, ctx = EvaluateRetrieval(), context(crops, {"key": run.key})
    assert operator.config.allow_delegated_execution
    assert not operator.resolve_execution_options(ctx).default_choice_to_delegated
    monkeypatch.setattr(module, "LARGE", 1296)
    assert operator.resolve_execution_options(ctx).default_choice_to_delegated
    assert (
        "better delegated"
        in form(EvaluateRetrieval(), crops, key=run.key)["estimate"].view.label
    )
