"""Comparisons in the App: the operator, and the page whose marks open the queries."""

from __future__ import annotations

from collections.abc import Iterator

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest

from fiftyone_sfam import Run, compare_runs, explain_retrieval
from fiftyone_sfam.app.operators.compare_runs import CompareRuns
from fiftyone_sfam.audit.comparison.display import bands, sentences
from fiftyone_sfam.audit.comparison.result import Comparison, load_comparison
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from operator_support import PLUGIN, context
from panel_support import AuditPanel
from worlds import fill, tiny_model


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
