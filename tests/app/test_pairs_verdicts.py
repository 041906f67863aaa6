"""Verdicts that the component gives and takes back, to one pair or to many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_sfam import explain_retrieval, load_run
from fiftyone_sfam.app.pairs.verdicts import MAX_VERDICTS
from fiftyone_sfam.review.verdicts import get_verdicts
from fiftyone_sfam.runs.run import Run
from pairs_component import PairsComponent
from worlds import fill, tiny_model


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[fo.Dataset]:
    """Twelve images with a run that has no verdicts."""
    dataset = fill(fo.Dataset(), tmp_path)
    explain_retrieval(dataset, tiny_model(), k=2)
    yield dataset
    dataset.delete()


@pytest.fixture
def component(dataset: fo.Dataset) -> PairsComponent:
    return PairsComponent(dataset)


@pytest.fixture
def run(dataset: fo.Dataset) -> Run:
    return load_run(dataset, "sfam")


def texts(run: Run) -> dict[int, str]:
    return {pair: given.text for pair, given in get_verdicts(run).items()}


def test_given_and_taken_back(
    component: PairsComponent, run: Run, dataset: fo.Dataset
) -> None:
    given = component.ask("verdict", pairs=[3], verdict="wrong label")
    assert given == {
        "verdicts": [[3, "wrong label"]],
        "previous": [{"pair": 3, "verdict": None}],
    }
    # The App is told of the new field, once.
    assert component.asked == [("reload_dataset", {})]
    dataset.reload()
    [labels] = (dataset.select(str(run.items.sample_ids[run.pairs.query[3]]))).values(
        "sfam_verdicts.classifications.label"
    )
    assert labels == ["wrong label"]

    second = component.ask("verdict", pairs=[3, 0, 3], verdict=" same <b>coat</b> ")
    assert component.asked == []
    assert second["verdicts"] == [[3, "same <b>coat</b>"], [0, "same <b>coat</b>"]]
    before = {one["pair"]: one["verdict"] for one in second["previous"]}
    assert list(before) == [3, 0]
    assert (before[3]["text"], before[0]) == ("wrong label", None)
    assert texts(run) == {0: "same <b>coat</b>", 3: "same <b>coat</b>"}

    undone = component.ask("undo", entries=second["previous"])
    assert undone["verdicts"] == [[3, "wrong label"], [0, None]]
    assert texts(run) == {3: "wrong label"}
    # Taking that back gives them again, with their time.
    component.ask("undo", entries=undone["previous"])
    assert texts(run) == {0: "same <b>coat</b>", 3: "same <b>coat</b>"}
    for answer in (second, given):
        component.ask("undo", entries=answer["previous"])
    assert texts(run) == {}


def test_a_repeated_request_changes_nothing(
    component: PairsComponent, run: Run
) -> None:
    component.ask("verdict", pairs=[3], verdict="fine", request_id="a")
    before = get_verdicts(run)
    asked = {"pairs": [3, 0], "verdict": "look-alike", "request_id": "b"}
    given = component.ask("verdict", **asked)
    assert [one["verdict"] and one["verdict"]["text"] for one in given["previous"]] == [
        "fine",
        None,
    ]
    after = get_verdicts(run)
    # The answer was lost, also where only some pairs had been reached.
    assert component.ask("verdict", **asked) == given
    component.ask("undo", entries=given["previous"][1:])
    assert component.ask("verdict", **asked) == given
    assert {pair: one.text for pair, one in get_verdicts(run).items()} == {
        pair: one.text for pair, one in after.items()
    }
    for _ in range(2):
        component.ask("undo", entries=given["previous"])
        assert get_verdicts(run) == before
    # What was given meanwhile is what a request replaces.
    component.ask("verdict", pairs=[0], verdict="background", request_id="c")
    [entry] = component.ask("verdict", pairs=[0], verdict="fine")["previous"]
    assert entry["verdict"]["text"] == "background"
    assert {*entry["verdict"]} == {
        "pair",
        "query_id",
        "neighbor_id",
        "text",
        "note",
        "created",
    }
    message = component.problem("verdict", **{**asked, "request_id": "x" * 65})
    assert message.endswith("give a text of at most 64 characters.")


def test_each_usual_verdict_has_a_digit(component: PairsComponent, run: Run) -> None:
    offered = component.opened["verdicts"]
    assert [one["key"] for one in offered] == list("123456")
    for pair, one in enumerate(offered):
        component.ask("verdict", pairs=[pair], verdict=one["name"])
    assert texts(run) == {
        0: "fine",
        1: "wrong label",
        2: "same person",
        3: "look-alike",
        4: "background",
        5: "occlusion",
    }


def test_many_at_once(component: PairsComponent, run: Run) -> None:
    queue, _ = component.queue(ranks="all")
    given = component.ask("verdict", pairs=queue, verdict="occlusion")
    assert texts(run) == dict.fromkeys(queue, "occlusion")
    assert [one["pair"] for one in given["previous"]] == queue
    rows = component.ask("rows", pairs=queue[:5])["rows"]
    assert [row["verdict"] for row in rows] == ["occlusion"] * 5
    component.ask("undo", entries=given["previous"])
    assert texts(run) == {}


def test_verdicts_that_cannot_be(component: PairsComponent, run: Run) -> None:
    most = "give a list of at most 1,000 pairs, each a whole number from 0."
    for params, problem in (
        ({"pairs": [0], "verdict": "$where"}, "cannot be a verdict"),
        ({"pairs": [0], "verdict": "x" * 201}, "cannot be a verdict"),
        ({"pairs": [0], "verdict": "two\nlines"}, "cannot be a verdict"),
        ({"pairs": [0], "verdict": "\u202e\n"}, "cannot be a verdict"),
        ({"pairs": [0]}, "cannot be a verdict"),
        ({"pairs": [0], "verdict": {"a": 1}}, "give a text of at most 10000"),
        ({"pairs": [0], "verdict": "a\0"}, "give a text of at most 10000"),
        ({"pairs": [], "verdict": "fine"}, "No pair is chosen"),
        ({"verdict": "fine"}, "No pair is chosen"),
        ({"pairs": [0, 24], "verdict": "fine"}, "there is no pair 24."),
        ({"pairs": [0, -1], "verdict": "fine"}, most),
        ({"pairs": [0] * (MAX_VERDICTS + 1), "verdict": "fine"}, most),
        ({"pairs": "0", "verdict": "fine"}, most),
    ):
        message = component.problem("verdict", **params)
        assert problem in message
        assert len(message) < 250
    assert texts(run) == {}
    assert not run.dataset.has_sample_field("sfam_verdicts")


def test_an_undo_cannot_smuggle_in_a_verdict(
    component: PairsComponent, run: Run
) -> None:
    component.ask("verdict", pairs=[0, 1], verdict="fine")
    answer = component.ask("verdict", pairs=[0, 1], verdict="look-alike")
    before = get_verdicts(run)
    [entry, other] = answer["previous"]
    for change, problem in (
        ({"text": "x" * 201}, "cannot be a verdict"),
        ({"text": "two\nlines"}, "cannot be a verdict"),
        ({"text": None}, "cannot be a verdict"),
        ({"text": {"$where": "1"}}, "give a text of at most"),
        ({"note": "x" * 2001}, "cannot be the note"),
        ({"note": 7}, "give a text of at most"),
        ({"created": "<b>now</b>"}, "cannot be the time"),
        ({"created": None}, "cannot be the time"),
        ({"query_id": "0" * 24}, "is not on pair 0 of the run"),
        ({"query_id": "a/b"}, "is not on pair 0 of the run"),
        ({"neighbor_id": None}, "is not on pair 0 of the run"),
    ):
        forged = {**entry, "verdict": {**entry["verdict"], **change}}
        assert problem in component.problem("undo", entries=[other, forged])
    for entries, problem in (
        ([], "There is no verdict to take back."),
        (None, "There is no verdict to take back."),
        ({"pair": 0}, "give the previous verdicts of at most 1,000 pairs."),
        ([0], "give the previous verdicts of at most 1,000 pairs."),
        ([entry] * 1001, "give the previous verdicts of at most 1,000 pairs."),
        ([{}], "there is no pair -1."),
        ([{"pair": 24, "verdict": None}], "there is no pair 24."),
        ([{"pair": "0", "verdict": None}], "give a whole number from 0."),
        ([{"pair": 0, "verdict": "fine"}], "give a verdict, or null."),
        # A verdict on another pair, which is not moved.
        ([{"pair": 1, "verdict": entry["verdict"]}], "is not on pair 1 of the run"),
    ):
        assert problem in component.problem("undo", entries=entries)
    assert get_verdicts(run) == before
    # What else an entry says counts for nothing.
    odd = {**entry, "verdict": {**entry["verdict"], "pair": 7, "__class__": "x"}}
    component.ask("undo", entries=[odd])
    assert texts(run) == {0: "fine", 1: "look-alike"}


def test_a_run_that_was_replaced(
    component: PairsComponent, run: Run, dataset: fo.Dataset
) -> None:
    given = component.ask("verdict", pairs=[0], verdict="fine")
    explain_retrieval(dataset, tiny_model(), k=1, overwrite=True)
    for question, params in (
        ("undo", {"entries": given["previous"]}),
        ("verdict", {"pairs": [0], "verdict": "occlusion"}),
    ):
        answer = component.raw(question, **params)
        assert answer["stale"] is True
        assert answer["problem"].startswith("The run 'sfam' was deleted or made again")
    # The verdict was carried over, and can be taken back in the new run.
    again = PairsComponent(dataset)
    assert again.run["uid"] != component.run["uid"]
    [row] = again.ask("rows", pairs=[0])["rows"]
    assert row["verdict"] == "fine"
    again.ask("undo", entries=given["previous"])
    assert texts(load_run(dataset, "sfam")) == {}
