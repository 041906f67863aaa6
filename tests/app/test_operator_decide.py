"""The operator that sets the threshold of a run, in real execution contexts."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest

from fiftyone_sfam import (
    Protocol,
    Run,
    evaluate_retrieval,
    explain_pairs,
    explain_retrieval,
    load_decisions,
)
from fiftyone_sfam.app.operators.decide_pairs import DecidePairs
from fiftyone_sfam.audit.decisions import DECISIONS, decisions_sentence
from fiftyone_sfam.errors import DataError
from operator_support import PLUGIN, context, form, problems
from panel_support import AuditPanel
from worlds import tiny_model

DECIDE = f"{PLUGIN}/decide_pairs"


@pytest.fixture
def run(world: fo.Dataset) -> Run:
    return explain_retrieval(world, tiny_model(), k=4, protocol=Protocol("identity"))


def test_every_way_decides_the_same(run: Run) -> None:
    middle = float(np.median(run.pairs.similarity))
    operator = foo.get_operator(DECIDE)
    called = operator(run.dataset, "sfam", threshold=middle).result
    found = load_decisions(run)
    assert found is not None
    assert (found.threshold, found.far) == (middle, None)
    assert called == {
        "key": "sfam",
        "threshold": middle,
        **found.every,
        "said": decisions_sentence(found),
    }
    assert sum(found.every.values()) == len(run.pairs)
    assert min(found.every["true accept"], found.every["true reject"]) > 0
    shown = DecidePairs().resolve_output(context(run.dataset)).type.properties
    assert set(shown) == set(called)
    labels = [shown[one].view.label for one in DECISIONS]
    assert labels == [f"Pairs: {one}" for one in DECISIONS]

    evaluate_retrieval(run)
    params = {"key": "sfam", "far": 0.2}
    executed = foo.execute_operator(DECIDE, {"dataset": run.dataset}, params=params)
    found = load_decisions(run)
    assert found is not None
    assert found.far == 0.2
    assert executed.result["threshold"] == found.threshold != middle


def test_the_form_says_what_a_rate_comes_to(run: Run) -> None:
    operator, dataset = DecidePairs(), run.dataset
    said = problems(operator, dataset, key="sfam", far=0.2)
    assert "needs the evaluation of the run 'sfam'; evaluate it" in said["far"]
    scores = evaluate_retrieval(run).verification
    fields = form(operator, dataset, key="sfam", far=0.2)
    at = f"{scores.threshold_for(0.2):.4g}"
    assert fields["state"].view.label == f"The threshold at this rate is {at}."
    assert problems(operator, dataset, key="sfam", far=0.2) == {}
    foo.get_operator(DECIDE)(dataset, "sfam", threshold=0.25)
    fields = form(operator, dataset, key="sfam", threshold=0.5)
    assert fields["state"].view.label == "It replaces the threshold 0.25."
    assert "The similarity from which" in fields["threshold"].view.description


@pytest.mark.parametrize(
    ("params", "path", "reason"),
    [
        ({}, "threshold", "give a threshold or a false accept rate."),
        ({"threshold": 0.5, "far": 0.1}, "far", "a threshold or a rate, not both."),
        ({"threshold": "x"}, "threshold", "threshold is 'x'; give a number."),
        ({"far": 1.5}, "far", "far is 1.5; give a rate between 0 and 1."),
        ({"key": "gone"}, "key", "there is no such run; choose another."),
    ],
)
def test_the_form_says_what_is_wrong(
    run: Run, params: dict[str, Any], path: str, reason: str
) -> None:
    found = problems(DecidePairs(), run.dataset, **{"key": "sfam", **params})
    assert reason in found[path]


def test_it_fails_with_the_reason(run: Run) -> None:
    for params, message in (
        ({}, "give either a threshold or a false accept rate"),
        ({"far": 0}, "far is 0; give a rate between 0 and 1."),
        ({"threshold": float("inf")}, "threshold is inf; give a number."),
    ):
        with pytest.raises(DataError, match=message):
            DecidePairs().execute(context(run.dataset, {"key": "sfam", **params}))
    assert load_decisions(run) is None


def test_the_audit_panel_offers_its_threshold(run: Run) -> None:
    panel = AuditPanel(run.dataset, "scores")
    panel.do("on_choice", path="body.threshold_block.threshold", value=0.5)
    [button] = [
        one
        for one in panel.block("thresholds")["buttons"]
        if one["label"] == "Decide pairs"
    ]
    at = button["params"]["threshold"]
    panel.do("on_operator", **button["params"])
    [(name, given)] = panel.asked
    assert name == "prompt_user_for_operation"
    assert given["operator_uri"] == DECIDE
    assert given["params"] == {"key": "sfam", "threshold": at}


def test_a_list_is_verified_from_the_audit_panel(world: fo.Dataset) -> None:
    paths = world.values("filepath")
    listed = [(paths[0], paths[1], 1), (paths[0], paths[3], 0)]
    explain_pairs(world, tiny_model(), listed)
    panel = AuditPanel(world, "overview")
    labels = [one["label"] for one in panel.block("operators")["buttons"]]
    assert labels == ["Verify at a threshold", "Write report"]
