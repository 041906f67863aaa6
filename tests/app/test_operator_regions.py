"""The operator of regions in real execution contexts: form, result, delegation."""

from __future__ import annotations

import json
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from fiftyone.operators.delegated import DelegatedOperationService

from fiftyone_sfam import explain_retrieval, load_run
from fiftyone_sfam.app.operators.explain_regions import LARGE, ExplainRegions
from fiftyone_sfam.audit.regions.causal_result import load_causal_check
from fiftyone_sfam.audit.regions.ledger import build_ledger, load_ledger
from fiftyone_sfam.audit.regions.ledger_cells import find_cell, sentence
from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts, load_shortcuts
from fiftyone_sfam.errors import DataError, ModelError, RunError
from fiftyone_sfam.runs.run import Run
from operator_support import PLUGIN, context, form, offered, problems
from worlds import REID

URI = f"{PLUGIN}/explain_regions"


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    explain_retrieval(crops, "demo", k=6, protocol=REID)
    explain_retrieval(crops, "demo", key="plain", k=1, kinds=["sfam"])
    return crops


# --------------------------------------------------------------------------------------
# The form
# --------------------------------------------------------------------------------------


def test_the_form(crops: fo.Dataset) -> None:
    fields = form(ExplainRegions(), context(crops, {"key": "sfam"}))
    assert list(fields) == ["key", "field", "max_rank", "by", "shortcuts", "causal"]
    assert offered(fields["field"]) == ["person", "scene", "parts", "(stripes)"]
    assert fields["field"].default == "person"
    assert {"view", "occluder", "camera"} <= set(offered(fields["by"]))
    striped = form(
        ExplainRegions(), context(crops, {"key": "sfam", "field": "(stripes)"})
    )
    assert striped["stripes"].default == 3


def test_the_form_of_a_causal_check(crops: fo.Dataset) -> None:
    fields = form(ExplainRegions(), context(crops, {"key": "sfam", "causal": True}))
    assert list(fields)[-4:] == ["model", "region", "change", "limit"]
    assert fields["model"].default == "demo"
    assert offered(fields["change"]) == ["replace", "mean", "blur"]
    assert not problems(
        ExplainRegions(), context(crops, {"key": "sfam", "causal": True})
    )
    wrong = problems(
        ExplainRegions(),
        context(crops, {"key": "sfam", "causal": True, "model": "mine"}),
    )
    assert "'mine' is not registered on this machine" in wrong["model"]


def test_what_is_wrong_is_said_beside_the_field(
    crops: fo.Dataset, dataset: fo.Dataset
) -> None:
    assert not problems(ExplainRegions(), context(crops, {"key": "sfam"}))
    plain = problems(ExplainRegions(), context(crops, {"key": "plain"}))
    assert "stores sfam maps, which do not add up to the score" in plain["key"]
    assert (
        "there is no such run"
        in problems(ExplainRegions(), context(crops, {"key": "x"}))["key"]
    )
    field = problems(ExplainRegions(), context(crops, {"key": "sfam", "field": "view"}))
    assert "'view' does not divide images" in field["field"]
    by = problems(ExplainRegions(), context(crops, {"key": "sfam", "by": ["shoes"]}))
    assert "'shoes' is not a field to group by" in by["by"]
    assert problems(ExplainRegions(), context(dataset)) == {"": "there are no runs."}


def test_large_runs_and_causal_checks_are_delegated(crops: fo.Dataset) -> None:
    operator = ExplainRegions()

    def delegated(params: dict[str, Any]) -> bool:
        options = operator.resolve_execution_options(context(crops, params))
        assert options.allow_immediate_execution
        assert options.allow_delegated_execution
        return bool(options.default_choice_to_delegated)

    assert load_run(crops, "sfam").config.counts["images"] < LARGE
    assert not delegated({"key": "sfam"})
    assert delegated({"key": "sfam", "causal": True})


# --------------------------------------------------------------------------------------
# Execution
# --------------------------------------------------------------------------------------


def test_everything_at_once(crops: fo.Dataset, run: Run) -> None:
    ctx = context(
        crops,
        {
            "key": "sfam",
            "by": ["view"],
            "max_rank": 5,
            "causal": True,
            "limit": 6,
            "change": "mean",
            "seed": 5,
        },
    )
    found = ExplainRegions().execute(ctx)
    json.dumps(found)
    ledger = load_ledger(run)
    assert ledger is not None
    expected = build_ledger(run, "person", by=["view"], max_rank=5, seed=5, save=False)
    np.testing.assert_array_equal(ledger.shares, expected.shares)
    assert repr(ledger.cells) == repr(expected.cells)
    assert found["regions"] == ["person", "background"]
    assert found["pairs"] == len(expected) == (run.pairs.rank <= 5).sum()
    assert found["pairs_without_regions"] == 0
    cells = [
        find_cell(expected.cells, "background", outcome=outcome)
        for outcome in ("false match", "true match")
    ]
    assert None not in cells
    assert found["sentences"][1] == sentence(*cells)
    shortcuts = load_shortcuts(run)
    assert shortcuts is not None
    assert found["shortcuts"] == [one.sentence for one in shortcuts.found]
    assert len(shortcuts) == len(find_shortcuts(run, expected, save=False))
    check = load_causal_check(run)
    assert check is not None
    assert (check.change, check.region, len(check)) == ("mean", "background", 6)
    assert found["causal"] == check.sentence


def test_stripes_without_anything_else(crops: fo.Dataset, run: Run) -> None:
    params = {"key": "sfam", "field": "(stripes)", "stripes": 4, "shortcuts": False}
    found = ExplainRegions().execute(context(crops, params))
    assert found["regions"] == [f"stripe {number} of 4" for number in (1, 2, 3, 4)]
    assert len(found["sentences"]) == 4
    assert "shortcuts" not in found
    assert load_shortcuts(run) is None
    assert load_causal_check(run) is None


def test_unusable_requests(crops: fo.Dataset, run: Run) -> None:
    def execute(**params: Any) -> None:
        ExplainRegions().execute(context(crops, params))

    with pytest.raises(RunError, match="has no explained run 'x'"):
        execute(key="x")
    with pytest.raises(DataError, match="no field 'view' of masks"):
        execute(key="sfam", field="view")
    with pytest.raises(
        DataError, match="stripes is 0; give a whole number from 1 to 20"
    ):
        execute(key="sfam", field="(stripes)", stripes=0)
    with pytest.raises(ModelError, match="mine"):
        execute(key="sfam", causal=True, model="mine")


# --------------------------------------------------------------------------------------
# From Python
# --------------------------------------------------------------------------------------


def test_calls_from_python(crops: fo.Dataset, run: Run) -> None:
    operator = foo.get_operator(URI)
    called = operator(crops, "sfam", field="parts", by=["camera"], shortcuts=False)
    assert called.result["regions"][-1] == "background"
    assert set(called.result["regions"][:-1]) <= {
        "head",
        "upper",
        "lower",
        "shoes",
        "bag",
    }
    ledger = load_ledger(run)
    assert ledger is not None
    assert ledger.field == "parts"
    assert operator(crops, "sfam").result["regions"] == ["person", "background"]
    striped = operator(crops, "sfam", field=None, stripes=2, max_rank=1)
    assert striped.result["regions"] == ["stripe 1 of 2", "stripe 2 of 2"]
    assert striped.result["pairs"] == len(run.items)


def test_a_delegated_operation(crops: fo.Dataset, run: Run) -> None:
    queued = foo.get_operator(URI)(crops, "sfam", delegate=True)
    assert queued.delegated
    assert load_ledger(run) is None
    service = DelegatedOperationService()
    [done] = service.execute_queued_operations(operator=URI, dataset_name=crops.name)
    assert done.error is None
    assert done.result["key"] == "sfam"
    ledger = load_ledger(run)
    assert ledger is not None
    assert len(ledger) == len(run.pairs)
    [stored] = service.list_operations(operator=URI, dataset_name=crops.name)
    assert stored.status.progress == 1.0
    assert stored.status.label == f"splitting: {len(run.items)} of 36 images"
    service.delete_operation(stored.id)
