"""The operator that finds suspects: its form, its ways, what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators import types
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionError
from PIL import Image

from fiftyone_sfam import explain_retrieval, load_run
from fiftyone_sfam.app.operators import find_suspects as module
from fiftyone_sfam.app.operators.find_suspects import FindSuspects
from fiftyone_sfam.audit.suspects.search import (
    DUPLICATE,
    KINDS,
    MISLABELED,
    UNINFORMATIVE,
    Suspects,
    find_suspects,
    load_suspects,
)
from fiftyone_sfam.runs.run import Run
from operator_support import PLUGIN, context, form, problems, requests
from worlds import IMAGES, REID, fill, tiny_model

FIND = f"{PLUGIN}/find_suspects"
SETTINGS: dict[str, Any] = {
    "kinds": [MISLABELED, DUPLICATE, UNINFORMATIVE],
    "min_score": 0.2,
    "region_field": "parts",
    "split_field": "split",
}


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    """Crops with a wrong label, a picture that is there twice, and a run 'run'."""
    samples = list(crops)
    samples[2].identity = samples[-1].identity
    samples[2].save()
    with Image.open(samples[12].filepath) as opened:
        copy = opened.convert("RGB")
    copy.save(samples[16].filepath)
    explain_retrieval(crops, "demo", key="run", k=3, protocol=REID)
    return crops


@pytest.fixture
def run(crops: fo.Dataset) -> Iterator[Run]:
    run = load_run(crops, "run")
    yield run
    run.results.delete("suspects")


def without_time(suspects: Suspects | None) -> Suspects:
    assert suspects is not None
    return replace(suspects, created="")


def test_every_way_finds_the_same(run: Run, crops: fo.Dataset) -> None:
    expected = without_time(find_suspects(run, **SETTINGS))
    assert expected.of_kind(MISLABELED)[0].items == (2,)
    assert [one.items for one in expected.of_kind(DUPLICATE)] == [(12, 16)]
    assert expected.region_field == "parts"
    run.results.delete("suspects")

    operator = foo.get_operator(FIND)
    called = operator(crops, "run", **SETTINGS)
    assert without_time(load_suspects(run)) == expected
    counts = expected.counts()
    assert called.result == {
        "key": "run",
        "findings": len(expected),
        **counts,
        "limits": "",
        "first": [
            {
                "kind": finding.kind,
                "score": finding.score,
                "sentence": finding.sentence,
                "proposal": finding.proposal,
                "samples": list(finding.sample_ids),
            }
            for finding in expected.findings
        ],
    }
    assert set(counts) == set(SETTINGS["kinds"])
    run.results.delete("suspects")

    params = {"key": "run", **SETTINGS}
    foo.execute_operator(FIND, {"dataset": crops}, params=params)
    assert without_time(load_suspects(run)) == expected
    run.results.delete("suspects")

    queued = operator(crops, "run", delegate=True, **SETTINGS)
    assert queued.delegated
    assert load_suspects(run) is None
    service = DelegatedOperationService()
    [done] = service.execute_queued_operations(operator=FIND, dataset_name=crops.name)
    assert done.error is None
    [stored] = service.list_operations(operator=FIND, dataset_name=crops.name)
    assert (stored.status.progress, stored.status.label) == (
        1.0,
        f"reading: {IMAGES} of {IMAGES} images",
    )
    service.delete_operation(stored.id)
    assert without_time(load_suspects(run)) == expected


def test_its_defaults_are_the_librarys(run: Run, crops: fo.Dataset) -> None:
    expected = without_time(find_suspects(run))
    assert expected.kinds == KINDS
    assert expected.region_field == "person"
    run.results.delete("suspects")
    foo.get_operator(FIND)(crops, "run")
    assert without_time(load_suspects(run)) == expected
    # A form that nobody touched sends the key alone.
    run.results.delete("suspects")
    ctx = context(crops, {"key": "run"})
    FindSuspects().execute(ctx)
    assert without_time(load_suspects(run)) == expected
    assert [name for name, _ in requests(ctx)] == ["reload_dataset"]


def test_no_region_field_is_a_choice(run: Run, crops: fo.Dataset) -> None:
    for params in ({"region_field": None}, {"region_field": "none"}):
        if params["region_field"] is None:
            foo.get_operator(FIND)(crops, "run", **params)
        else:
            FindSuspects().execute(context(crops, {"key": "run", **params}))
        suspects = load_suspects(run)
        assert suspects is not None
        assert suspects.region_field is None


@pytest.mark.usefixtures("run")
def test_the_form_offers_what_can_be_chosen(crops: fo.Dataset) -> None:
    fields = form(FindSuspects(), crops)
    assert [choice.value for choice in fields["key"].view.choices] == ["run"]
    assert [choice.value for choice in fields["kinds"].view.choices] == list(KINDS)
    offered = [choice.value for choice in fields["region_field"].view.choices]
    assert offered == ["auto", "person", "scene", "parts", "none"]
    splits = [choice.value for choice in fields["split_field"].view.choices]
    assert splits[0] == "tags"
    assert {"split", "camera"} <= set(splits)
    assert fields["min_score"].default == 0.5
    assert (
        fields["estimate"].view.label
        == f"{IMAGES} images are compared with each other."
    )
    assert problems(FindSuspects(), crops, key="run") == {}


@pytest.mark.parametrize(
    ("params", "path", "text"),
    [
        ({"key": "gone"}, "key", "there is no such run"),
        ({"kinds": ["blurred"]}, "kinds", "'blurred' is not a kind of suspect"),
        ({"min_score": 1}, "min_score", "at least 0 and below 1"),
        ({"min_score": -1}, "min_score", "at least 0 and below 1"),
    ],
)
def test_the_form_says_what_is_wrong(
    crops: fo.Dataset, params: dict[str, Any], path: str, text: str
) -> None:
    found = problems(FindSuspects(), crops, **{"key": "run", **params})
    assert text in found[path]


def test_a_dataset_without_runs_says_what_to_do(dataset: fo.Dataset) -> None:
    assert (
        "SFAM: explain retrieval"
        in form(FindSuspects(), dataset)["none"].view.description
    )


def test_a_run_without_identities_is_warned_of(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path)
    explain_retrieval(dataset, tiny_model(), key="tiny", k=2)
    fields = form(FindSuspects(), dataset)
    assert "only near-duplicates are found" in fields["labels"].view.label
    # No field of masks either.
    assert "region_field" not in fields


def test_large_runs_are_delegated(
    crops: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, ctx = FindSuspects(), context(crops, {"key": "run"})
    assert operator.config.allow_delegated_execution
    assert not operator.resolve_execution_options(ctx).default_choice_to_delegated
    monkeypatch.setattr(module, "LARGE", IMAGES)
    assert operator.resolve_execution_options(ctx).default_choice_to_delegated
    assert (
        "better delegated"
        in form(FindSuspects(), crops, key="run")["estimate"].view.label
    )


@pytest.mark.usefixtures("run")
def test_its_output_names_the_kinds_that_were_looked_for(crops: fo.Dataset) -> None:
    operator, ctx = FindSuspects(), context(crops, {"key": "run"})
    results = {"key": "run", "findings": 1, MISLABELED: 1, "limits": "", "first": []}
    ctx.request_params["results"] = results
    found = operator.resolve_output(ctx)
    json.dumps(found.to_json())
    shown = dict(found.type.properties)
    assert set(shown) == set(results)
    assert isinstance(shown[MISLABELED].type, types.Number)


def test_a_run_that_is_gone_is_said_to_the_caller(crops: fo.Dataset) -> None:
    with pytest.raises(ExecutionError, match="Reason: there is no such run"):
        foo.get_operator(FIND)(crops, "gone")
