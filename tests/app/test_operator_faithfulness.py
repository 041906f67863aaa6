"""The operator of faithfulness in real execution contexts: form, result, delegation."""

from __future__ import annotations

import json
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.delegated import DelegatedOperationService

from fiftyone_sfam import explain_retrieval, load_faithfulness
from fiftyone_sfam.app.operators.check_faithfulness import CheckFaithfulness
from fiftyone_sfam.errors import DataError, ModelError, RunError
from fiftyone_sfam.runs.run import Run
from operator_support import PLUGIN, context, form, problems
from worlds import REID

URI = f"{PLUGIN}/check_faithfulness"


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    explain_retrieval(crops, "demo", k=2, protocol=REID)
    return crops


def test_the_form(crops: fo.Dataset, dataset: fo.Dataset) -> None:
    fields = form(CheckFaithfulness(), context(crops, {"key": "sfam"}))
    assert list(fields) == ["key", "model", "pairs", "side", "fill", "layers"]
    assert fields["model"].default == "demo"
    assert fields["pairs"].default == 100
    for name, offered in (
        ("side", ["query", "gallery", "both"]),
        ("fill", ["all", "blur", "mean", "inpaint", "patches"]),
    ):
        assert [choice.value for choice in fields[name].view.choices] == offered
    assert not problems(CheckFaithfulness(), context(crops, {"key": "sfam"}))
    assert (
        "there is no such run"
        in problems(CheckFaithfulness(), context(crops, {"key": "x"}))["key"]
    )
    wrong = problems(
        CheckFaithfulness(), context(crops, {"key": "sfam", "model": "mine"})
    )
    assert "'mine' is not registered on this machine" in wrong["model"]
    assert problems(CheckFaithfulness(), context(dataset)) == {"": "there are no runs."}


def test_all_but_small_checks_are_delegated(crops: fo.Dataset) -> None:
    def delegated(params: dict[str, Any]) -> bool:
        options = CheckFaithfulness().resolve_execution_options(context(crops, params))
        return bool(options.default_choice_to_delegated)

    assert delegated({"key": "sfam"})
    assert delegated({"key": "sfam", "pairs": 26})
    assert not delegated({"key": "sfam", "pairs": 25})


def test_a_check(crops: fo.Dataset, run: Run) -> None:
    params = {"key": "sfam", "pairs": 6, "fill": "mean", "side": "gallery", "seed": 3}
    result = CheckFaithfulness().execute(context(crops, params))
    json.dumps(result)
    found = load_faithfulness(run)
    assert found is not None
    assert (found.fills, found.side, found.seed) == (("mean",), "gallery", 3)
    assert result["pairs"] == len(found) == 6
    assert result["verdict"] == found.sentence
    best = found.figures[0]
    assert result["maps"][0] == (
        f"{best.name}: insertion minus deletion {best.margin.value:.4f} "
        f"({best.margin.low:.4f} to {best.margin.high:.4f})"
    )
    assert len(result["maps"]) == len(found.names)


def test_from_python_and_delegated(crops: fo.Dataset, run: Run) -> None:
    operator = foo.get_operator(URI)
    result = operator(crops, "sfam", pairs=2, layers=True).result
    found = load_faithfulness(run)
    assert found is not None
    assert any(name.startswith("evidence at ") for name in found.names)
    assert result["verdict"] == found.sentence
    # Too few queries for intervals.
    best = found.figures[0]
    assert result["maps"][0] == (
        f"{best.name}: insertion minus deletion {best.margin.value:.4f}"
    )
    queued = operator(crops, "sfam", pairs=3, delegate=True)
    assert queued.delegated
    service = DelegatedOperationService()
    [done] = service.execute_queued_operations(operator=URI, dataset_name=crops.name)
    assert done.error is None
    later = load_faithfulness(run)
    assert later is not None
    assert len(later) == 3
    assert done.result["verdict"] == later.sentence
    [stored] = service.list_operations(operator=URI, dataset_name=crops.name)
    images = len(np.unique(later.queries))
    assert stored.status.label == f"masking: {images} of {images} images"
    service.delete_operation(stored.id)


def test_unusable_requests(crops: fo.Dataset) -> None:
    def execute(**params: Any) -> None:
        CheckFaithfulness().execute(context(crops, params))

    with pytest.raises(RunError, match="has no explained run 'x'"):
        execute(key="x")
    with pytest.raises(DataError, match="pairs is 0; give a whole number from 1"):
        execute(key="sfam", pairs=0)
    with pytest.raises(ModelError, match="mine"):
        execute(key="sfam", model="mine")
