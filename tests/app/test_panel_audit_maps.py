"""The audit panel's page of maps: the verdict, the figures, and what a click opens."""

from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import check_faithfulness, explain_retrieval
from fiftyone_sfam.data.text import NOT_KNOWN
from fiftyone_sfam.runs.run import Run
from operator_support import PLUGIN
from panel_support import AuditPanel as Shown
from worlds import REID


@pytest.fixture(scope="module")
def run(crops: fo.Dataset) -> Run:
    return explain_retrieval(crops, "demo", k=2, protocol=REID)


def test_the_operator_is_offered_until_it_has_run(run: Run) -> None:
    run.results.delete("faithfulness")
    shown = Shown(run.dataset, "maps")
    assert shown.blocks == ["no_verdict", "check"]
    [button] = shown.block("check")["buttons"]
    assert button["label"] == "Check faithfulness"
    shown.do("on_operator", **button["params"])
    [(name, given)] = shown.asked
    assert name == "prompt_user_for_operation"
    assert given["operator_uri"] == f"{PLUGIN}/check_faithfulness"
    assert given["params"] == {"key": "sfam"}


def test_the_verdict_and_the_curves(run: Run) -> None:
    found = check_faithfulness(run, "demo", 8, steps=4)
    shown = Shown(run.dataset, "maps")
    assert shown.blocks == ["verdict", "hidden", "shown", "map_figures", "check"]
    words = shown.block("verdict")["markdown"].replace("\\", "")
    assert found.sentences[0] in words
    rows = shown.content("map_figures")
    assert [row["map"] for row in rows] == [one.name for one in found.figures]
    margin = found.figures[0].margin
    assert rows[0]["insertion_deletion"] == (
        f"{margin.value:.4f} ({margin.low:.4f} to {margin.high:.4f})"
    )
    # Each fill beside the mean over them.
    for fill in ("blur", "mean", "inpaint", "patches"):
        one = found.figures[0].by_fill[fill]
        assert rows[0][fill].startswith(f"{one.value:.4f} (")
    for name, curves in (("hidden", found.deletion), ("shown", found.insertion)):
        traces = shown.content(name)
        assert len({trace["line"]["color"] for trace in traces}) == len(traces) == 6
        # The best maps, and whatever comes last.
        ordered = [one.name for one in found.figures]
        assert [trace["name"] for trace in traces] == ordered[:4] + ordered[-2:]
        assert traces[0]["x"] == [0, 0.25, 0.5, 0.75, 1]
        mean = curves[found.names.index(ordered[0])].mean(axis=0)
        np.testing.assert_allclose(traces[0]["y"], mean, atol=1e-4)
    shown.click("hidden", trace_idx=0, idx=1)
    assert sorted(shown.pairs) == found.pairs.tolist()
    shown.click("map_figures", row=0)
    assert sorted(shown.pairs) == found.pairs.tolist()


def test_few_pairs_have_no_intervals(run: Run) -> None:
    check_faithfulness(run, "demo", 1, steps=2)
    shown = Shown(run.dataset, "maps")
    row = shown.content("map_figures")[0]
    assert "to" not in row["insertion_deletion"]
    assert row["accuracy_first_pixels_hidden"] == NOT_KNOWN
