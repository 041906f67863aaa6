"""Comparisons in the App: the operator, and the page whose marks open the queries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest

from fiftyone_sfam import Run, compare_runs, explain_retrieval
from fiftyone_sfam.app.operators.compare_runs import CompareRuns
from fiftyone_sfam.audit.comparison.display import bands, sentences
from fiftyone_sfam.audit.comparison.result import (
    Comparison,
    load_comparison,
    same_pair,
)
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from operator_support import PLUGIN, context
from pairs_component import PairsComponent, decode, names
from panel_support import AuditPanel
from worlds import fill, small_crops, tiny_model


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Run]]:
    """Three networks of random weights, which rank the same tiny people differently."""
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("people"), 6, 3)
    dataset.set_values("hat", ["cap", "none", "none"] * 6)
    yield [
        explain_retrieval(
            dataset, tiny_model(seed), key=key, k=3, protocol=Protocol("identity")
        )
        for seed, key in enumerate(("one", "two", "three"))
    ]
    dataset.delete()


@pytest.fixture
def compared(runs: list[Run]) -> Iterator[Comparison]:
    yield compare_runs(runs[0], runs[1], slices=["hat"], resamples=50)
    for name in runs[0].results.names():
        runs[0].results.delete(name)


def queries_of(run: Run, comparison: Comparison, rows: np.ndarray) -> list[int]:
    """The first pairs of queries, false matches first, the largest change first."""
    order = np.argsort(-np.abs(comparison.change[rows]), kind="stable")
    pairs = [
        int(run.pairs.of_query(query)[0])
        for query in comparison.query[rows[order], 0].tolist()
    ]
    return sorted(pairs, key=lambda pair: run.pairs.outcome[pair] == 0)


def test_the_operator_does_what_the_function_does(runs: list[Run]) -> None:
    dataset = runs[0].dataset
    operator = foo.get_operator(f"{PLUGIN}/compare_runs")
    result = operator(dataset, "one", "two", slices=["hat"]).result
    stored = load_comparison(runs[0], runs[1])
    assert stored is not None
    expected = compare_runs(runs[0], runs[1], slices=["hat"], save=False)
    assert stored.figures == expected.figures
    assert stored.groups == expected.groups
    assert result == {
        "key": "one",
        "other": "two",
        "gained": len(expected.gained),
        "lost": len(expected.lost),
        "said": "\n\n".join(sentences(expected)),
    }
    runs[0].results.delete("comparison_two")
    form = CompareRuns().resolve_input(context(dataset, {"key": "two"}))
    assert form.type.properties["other"].type.values == ["one", "three"]
    with pytest.raises(DataError, match="other is missing; name the run"):
        CompareRuns().execute(context(dataset, {"key": "one"}))
    alone = dataset.clone()
    for key in ("one", "two", "three"):
        alone.delete_run(key)
    form = CompareRuns().resolve_input(context(alone, {}))
    assert form.invalid
    alone.delete()


def test_the_page_without_a_comparison_offers_one(runs: list[Run]) -> None:
    panel = AuditPanel(runs[0].dataset, "compare")
    assert panel.blocks == ["no_comparison", "compare"]
    [button] = panel.block("compare")["buttons"]
    assert button["params"] == {"operator": "compare_runs"}


def test_marks_open_the_queries(runs: list[Run], compared: Comparison) -> None:
    run = runs[0]
    panel = AuditPanel(run.dataset, "compare")
    assert "one" in panel.state["run"]
    [moved] = panel.content("moved")
    counts = np.array(moved["customdata"])
    assert counts.sum() == len(compared.query) == 18
    row, column = map(int, np.argwhere(counts > 0)[-1])
    panel.click("moved", idx=[row, column])
    rows = np.flatnonzero((bands(compared) == (column, row)).all(axis=1))
    assert len(rows) == counts[row, column]
    assert panel.pairs == queries_of(run, compared, rows)
    panel.click("changed", row=1)
    assert panel.pairs == queries_of(run, compared, compared.changed[[1]])
    panel.click("figures_of_two", row=0)
    assert panel.pairs == queries_of(run, compared, compared.changed)
    for place in ("regions_of_two", "places"):
        panel.click(place, idx=0, trace_idx=0)
        assert panel.pairs == compared.pairs[0].tolist()
    # Groups by another field.
    panel.do("on_choice", path="body.group_block.group", value="hat")
    values = [group.value for group in compared.groups["hat"]]
    assert sorted(values) == ["cap", "none"]
    assert [row["hat"] for row in panel.content("changed_groups")] == values
    panel.click("changed_groups", row=values.index("cap"))
    hats = dict(zip(*run.dataset.values(["id", "hat"]), strict=True))
    ids = run.items.sample_ids[compared.query[:, 0]]
    rows = np.flatnonzero([hats[one] == "cap" for one in ids])
    assert len(rows) == 6
    assert panel.pairs == queries_of(run, compared, rows)


def test_one_of_several_comparisons_is_chosen(
    runs: list[Run], compared: Comparison
) -> None:
    other = compare_runs(runs[0], runs[2], resamples=50)
    panel = AuditPanel(runs[0].dataset, "compare")
    choices = panel.block("other")["choices"]
    assert [value for value, _ in choices] == ["three", "two"]
    said = panel.block("compared")["markdown"]
    panel.do("on_choice", path="body.other_block.other", value="two")
    assert panel.block("compared")["markdown"] != said
    panel.click("changed", row=0)
    assert panel.pairs == queries_of(runs[0], compared, compared.changed[[0]])
    # What has gone meanwhile is said.
    for name in runs[0].results.names():
        runs[0].results.delete(name)
    panel.click("changed", row=0)
    notified = [given["message"] for name, given in panel.asked if name == "notify"]
    assert notified == ["what was clicked has changed meanwhile; click it once more."]
    assert other.second_key == "three"


def test_the_page_of_the_other_run(runs: list[Run], compared: Comparison) -> None:
    """A comparison belongs to its first run."""
    panel = AuditPanel(runs[0].dataset, "compare")
    panel.do("on_run", value="two")
    assert panel.blocks == ["no_comparison", "compare"]


def others(component: PairsComponent) -> list[str]:
    """The kinds of map that other runs have."""
    kinds = names(component.ask("query", pair=0)["kinds"])
    return [name for name in kinds if name.startswith("compared:")]


@pytest.mark.usefixtures("compared")
def test_the_other_models_map_on_a_pair(runs: list[Run]) -> None:
    one, two, three = runs
    component = PairsComponent(one.dataset, "one")
    assert component.ask("query", pair=0)["kinds"][-1] == {
        "name": "compared:two",
        "label": "evidence in 'two'",
        "signed": False,
        "live": True,
        "unit": "similarity per cell",
    }
    kinds = [others(PairsComponent(one.dataset, run.key)) for run in runs]
    assert kinds == [["compared:two"], ["compared:one"], []]
    numbers = [same_pair(one, pair, two) for pair in range(len(one.pairs))]
    pair = next(pair for pair, number in enumerate(numbers) if number is not None)
    number = numbers[pair]
    assert number is not None
    for run, place in ((one, pair), (two, number)):
        ends = run.items.ids[[run.pairs.query[place], run.pairs.gallery[place]]]
        if run is one:
            expected = ends.tolist()
        assert ends.tolist() == expected
    answer = component.ask("live", pair=pair, kind="compared:two")
    score, rank = two.pairs.similarity[number], two.pairs.rank[number]
    assert answer["notes"] == [
        f"In 'two', the similarity is {score:.4f}, at rank {rank}."
    ]
    stored = two.maps(number)
    sides = (
        (answer["query_side"], stored.query),
        (answer["neighbor_side"], stored.gallery),
    )
    for shown, side in sides:
        assert side is not None
        values = side.maps["evidence"]
        found = decode(shown["maps"]["compared:two"])
        np.testing.assert_allclose(found, values, rtol=2e-3, atol=1e-6)
    # A pair that the other run has not stored needs its model.
    pair = numbers.index(None)
    said = component.problem("live", pair=pair, kind="compared:two")
    assert "needs the model 'tiny-1', which is not registered" in said
    for key in ("three", "one", ""):
        said = component.problem("live", pair=pair, kind=f"compared:{key}")
        assert f"was not compared with a run '{key}'" in said
    assert three.key == "three"


@pytest.mark.parametrize("kept", [{}, {"kinds": ["sfam"], "contributions": "float16"}])
def test_a_pair_that_the_other_run_has_not_stored(kept: dict, tmp_path: Path) -> None:
    """It is explained by the other run's model, or by its contributions."""
    dataset = small_crops(tmp_path)
    try:
        protocol = Protocol("identity")
        many = explain_retrieval(dataset, "demo", key="many", k=5, protocol=protocol)
        few = explain_retrieval(
            dataset, "demo", key="few", k=1, protocol=protocol, **kept
        )
        compare_runs(few, many, resamples=10)
        pair = int(many.pairs.of_query(3)[3])
        assert same_pair(many, pair, few) is None
        component = PairsComponent(dataset, "many")
        answer = component.ask("live", pair=pair, kind="compared:few")
        score = many.pairs.similarity[pair]
        assert answer["notes"] == [f"In 'few', the similarity is {score:.4f}."]
        own = many.maps(pair)
        for shown, side in (
            (answer["query_side"], own.query),
            (answer["neighbor_side"], own.gallery),
        ):
            assert side is not None
            values = side.maps["evidence"]
            found = decode(shown["maps"]["compared:few"])
            np.testing.assert_allclose(found, values, atol=0.01 * np.abs(values).max())
    finally:
        dataset.delete()
