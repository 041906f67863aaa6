"""What the component of pairs is told when it opens, and requests made by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_sfam import delete_run, explain_retrieval, load_run
from fiftyone_sfam.app.pairs.panel import SfamPairs
from fiftyone_sfam.app.pairs.questions import QUESTIONS
from fiftyone_sfam.attribution.render import DIVERGING, SEQUENTIAL, color_table
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.review.verdicts import get_verdicts
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import record_run
from fuzzing import anything, fuzz
from operator_support import PLUGIN, context, requests
from pairs_component import PairsComponent, decode, names
from worlds import REID, fill, small_crops, tiny_model


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("open"))
    explain_retrieval(dataset, tiny_model(), k=2, protocol=REID)
    yield dataset
    dataset.delete()


@pytest.fixture
def run(dataset: fo.Dataset) -> Run:
    return load_run(dataset, "sfam")


def test_without_a_run(make_dataset: Callable[..., fo.Dataset]) -> None:
    component = PairsComponent(make_dataset())
    opened = component.opened
    assert (opened["runs"], opened["run"]) == ([], None)
    assert opened["empty"].startswith("No explained run yet. Explain the dataset's")
    assert "select two samples" in opened["empty"]
    assert "demo" in names(opened["models"])
    assert names(opened["verdicts"])[:2] == ["fine", "wrong label"]
    assert component.ask("explain") == {}
    [(name, params)] = component.asked
    assert name == "prompt_user_for_operation"
    assert params["operator_uri"] == f"{PLUGIN}/explain_retrieval"


def test_a_run(run: Run, dataset: fo.Dataset) -> None:
    opened = PairsComponent(dataset).opened
    assert set(opened) == {
        *("runs", "run", "empty", "models", "colors", "verdicts", "outcomes"),
        *("ranks", "orders", "reviewed"),
    }
    assert (opened["runs"], opened["empty"]) == (["sfam"], None)
    about = dict(opened["run"])
    kinds, fields = about.pop("kinds"), about.pop("fields")
    assert about == {
        "key": "sfam",
        "uid": run.config.uid,
        "model": "tiny-0",
        "layer": run.config.layer,
        "metric": "cosine",
        "k": 2,
        "shape": list(run.maps(0).query.maps["sfam"].shape),
        "pairs": len(run.pairs),
        "queries": 12,
        "notes": [],
        "cameras": ["c0", "c1", "c2"],
        "suspects": [],
    }
    assert {kind["name"]: (kind["signed"], kind["live"]) for kind in kinds} == {
        "sfam": (False, False),
        "evidence": (False, False),
        "contrast": (True, False),
        "difference": (True, True),
        "scales": (False, True),
        "channel": (False, True),
    }
    labels = {kind["name"]: kind["label"] for kind in kinds}
    assert labels["scales"].startswith("path of several scales")
    units = {kind["name"]: kind["unit"] for kind in kinds}
    assert units["evidence"] == "similarity per cell"
    assert "squared distance" in units["difference"]
    assert fields == [{"name": "", "label": "thirds"}]
    assert names(opened["ranks"]) == ["1", "k", "all"]
    assert names(opened["reviewed"])[:2] == ["open", "done"]
    json.dumps(opened, allow_nan=False)


def test_colors_and_outcomes(dataset: fo.Dataset) -> None:
    opened = PairsComponent(dataset).opened
    assert [(one["name"], one["diverging"]) for one in opened["colors"]] == [
        *((name, False) for name in SEQUENTIAL),
        *((name, True) for name in DIVERGING),
    ]
    for one in opened["colors"]:
        table = decode(one["table"])
        assert (table.dtype, table.shape) == (np.uint8, (256, 3))
        assert np.array_equal(table, color_table(one["name"]))
        assert "_r" not in one["label"]
    assert {one["name"]: one["sign"] for one in opened["outcomes"]} == {
        "true match": "✓",
        "false match": "✗",
        "unlabeled": "?",
    }
    colors = [one["color"] for one in opened["outcomes"]]
    assert len(set(colors)) == 3
    # The first two differ in brightness too, not in hue alone.
    bright = [sum(int(color[at : at + 2], 16) for at in (1, 3, 5)) for color in colors]
    assert abs(bright[0] - bright[1]) > 60


def test_fields_and_kinds_of_other_runs(tmp_path: Path) -> None:
    crops = small_crops(tmp_path, "sfam-open")
    try:
        explain_retrieval(crops, "demo", k=1)
        about = PairsComponent(crops).run
        assert names(about["fields"]) == ["", "person", "parts"]
        # That run has no identities, so it has no true matches to contrast with.
        assert "contrast" not in names(about["kinds"])
        explain_retrieval(crops, "demo", key="zz", k=2, kinds=["evidence"])
        component = PairsComponent(crops, "zz")
        assert component.opened["runs"] == ["sfam", "zz"]
        assert (component.run["key"], component.run["k"]) == ("zz", 2)
        assert names(component.run["kinds"])[0] == "evidence"
        assert "sfam" not in names(component.run["kinds"])
        # A run that is gone is replaced by the first one that there is.
        delete_run(crops, "zz")
        assert component.raw("queue")["stale"] is True
        assert PairsComponent(crops, "zz").run["key"] == "sfam"
    finally:
        crops.delete()


def test_two_runs_under_one_key(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        explain_retrieval(dataset, tiny_model(), k=2)
        first = PairsComponent(dataset)
        assert first.queue(ranks="all")[1]["pairs"]["shape"] == [24]
        explain_retrieval(dataset, tiny_model(), k=4, overwrite=True)
        for question in ("queue", "rows", "verdict", "undo", "locate", "show"):
            answer = first.raw(question)
            assert answer["stale"] is True, question
            assert answer["problem"] == (
                "The run 'sfam' was deleted or made again since it was opened."
            )
        second = PairsComponent(dataset)
        assert second.queue(ranks="all")[1]["pairs"]["shape"] == [48]
        # What is told apart by its unique id is not told apart by less.
        for uid in ("", None, second.run["uid"][:-1], first.run["uid"]):
            assert second.raw("queue", uid=uid)["stale"] is True
        assert second.raw("queue", run=None)["stale"] is True
        assert "give a text" in second.problem("queue", uid={"$ne": 1})
    finally:
        dataset.delete()


def test_a_run_that_cannot_be_read(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path)
    try:
        run = explain_retrieval(dataset, tiny_model(), k=1)
        explain_retrieval(dataset, tiny_model(), key="whole", k=2)
        run.store.delete_one("table")
        opened = PairsComponent(dataset).opened
        assert opened["runs"] == ["sfam", "whole"]
        assert opened["run"] is None
        assert "'sfam'" in opened["empty"] or "incomplete" in opened["empty"]
        assert PairsComponent(dataset, "whole").run["k"] == 2
    finally:
        dataset.delete()


def test_the_dataset_decides(
    dataset: fo.Dataset, make_dataset: Callable[..., fo.Dataset]
) -> None:
    """A run of one dataset is not read from another."""
    component = PairsComponent(dataset)
    component.dataset = make_dataset("other")
    assert component.raw("rows", pairs=[0])["stale"] is True


# --------------------------------------------------------------------------------------
# Names and requests of others
# --------------------------------------------------------------------------------------


def test_names_of_others_are_plain_text(tmp_path: Path) -> None:
    dataset = fill(fo.Dataset(), tmp_path, identities=2)
    try:
        config = explain_retrieval(dataset, tiny_model(), k=1).config
        name = "<img src=x onerror=alert(1)> **[a](http://b)**" + "x" * 300
        record_run(dataset, "sfam", replace(config, model=name, layer="`**a**`"))
        about = PairsComponent(dataset).run
        # As they are, for React escapes them; and of a bounded length.
        assert about["model"] == name[:199] + "…"
        assert about["layer"] == "`**a**`"
    finally:
        dataset.delete()


@pytest.mark.parametrize(
    "question", [None, 7, "", "ask", "__class__", ["open"], {"open": 1}, "x" * 9999]
)
def test_questions_that_there_are_not(dataset: fo.Dataset, question: Any) -> None:
    message = PairsComponent(dataset).problem(question)
    assert message.startswith("There is no question ")
    assert "; ask one of open, " in message
    assert len(message) < 250


@pytest.mark.parametrize(
    "method", ["execute", "render", "resolve_input", "__init__", "uri", "on_change", 7]
)
def test_methods_that_are_no_events(dataset: fo.Dataset, method: Any) -> None:
    with pytest.raises(DataError, match=f"the panel of pairs has no event {method!r}"):
        SfamPairs().execute(context(dataset, {"__method__": method}))


def test_the_panel_shows_the_component(dataset: fo.Dataset) -> None:
    panel = foo.get_operator(f"{PLUGIN}/sfam_pairs")
    ctx = context(dataset, {"__method__": "on_load", "panel_id": "x"})
    panel.execute(ctx)
    [(name, params)] = requests(ctx)
    assert name == "show_panel_output"
    view = json.loads(json.dumps(params["output"]))["view"]
    assert view["component"] == "SfamPairs"
    assert view["composite_view"] is True
    assert view["ask"] == f"{PLUGIN}/sfam_pairs#ask"


WORDS = st.sampled_from(
    [
        *("", "sfam", "grid", "query", "fine", "1", "k", "all", "run", "open", "done"),
        *("true match", "../../etc/passwd", "a\0b", "$where", "__class__", "\ud800"),
    ]
)
SPECS = st.dictionaries(
    st.sampled_from(
        [
            *("outcome", "ranks", "min_similarity", "max_similarity", "query_camera"),
            *("neighbor_camera", "identity", "suspect", "reviewed", "order"),
            *("in_view", "nonsense"),
        ]
    ),
    st.one_of(WORDS, st.floats(), st.booleans(), anything(WORDS)),
    max_size=3,
)
PAIRS = st.lists(st.integers(-1, 25), max_size=3) | anything(WORDS)
FITTING = {
    "pairs": PAIRS,
    "pair": st.integers(-1, 25) | anything(WORDS),
    "shown": st.integers(-1, 25) | anything(WORDS),
    "spec": SPECS | anything(WORDS),
    "sample": WORDS | anything(WORDS),
    "what": st.sampled_from(["grid", "query", "neighbor"]) | WORDS,
    "verdict": WORDS,
    "item": st.integers(-1, 13) | anything(WORDS),
    "size": st.integers(-1, 1601) | anything(WORDS),
    "region": WORDS,
    "kind": st.sampled_from(["difference", "scales", "channel"]) | WORDS,
    "channel": st.integers(-1, 9) | anything(WORDS),
    "samples": st.lists(WORDS, max_size=3) | anything(WORDS),
    "model": WORDS,
    "entries": st.lists(
        st.fixed_dictionaries({"pair": st.integers(-1, 25), "verdict": st.none()}),
        max_size=2,
    )
    | anything(WORDS),
}


def test_any_request_gets_an_answer_or_a_sentence(
    run: Run, dataset: fo.Dataset
) -> None:
    component = PairsComponent(dataset)
    outcomes: Counter[str] = Counter()

    @fuzz(200)
    @given(
        question=st.sampled_from(sorted(QUESTIONS)),
        params=st.fixed_dictionaries({}, optional=FITTING),
    )
    def check(question: str, params: dict[str, Any]) -> None:
        answer = component.raw(question, **params)
        outcomes["refused" if "problem" in answer else question] += 1
        if "problem" in answer:
            assert answer["stale"] is False
            assert "\n" not in answer["problem"]
            assert answer["problem"].endswith((".", "?"))

    check()
    assert outcomes["refused"] > 20
    assert {"open", "queue", "rows", "locate", "query"} <= set(outcomes)
    given_texts = {one.text for one in get_verdicts(run).values()}
    assert given_texts <= {text.strip() for text in WORDS.elements}
    component.ask("rows", pairs=[0])
