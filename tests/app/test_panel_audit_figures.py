"""The audit panel's figures and texts, with numbers worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fiftyone_sfam.app.audit.choices import Choices
from fiftyone_sfam.app.audit.page_scores import roc_point, threshold_at, threshold_of
from fiftyone_sfam.app.audit.view import grid_figure, row_figure
from fiftyone_sfam.audit.evaluation.display import (
    FALSE_COLOR,
    TRUE_COLOR,
    cmc_figure,
    coarse,
    evidence_figure,
    for_plotly,
    rates_at,
    roc_figure,
    score_figure,
)
from fiftyone_sfam.audit.evaluation.measures import Identification
from fiftyone_sfam.audit.evaluation.overview import Overview
from fiftyone_sfam.audit.regions.display import (
    claim_figure,
    scatter_figure,
    share_figure,
    shown_span,
)
from fiftyone_sfam.audit.regions.ledger_cells import REMAINDER, Cell
from fiftyone_sfam.data.text import quoted, short

NAN = float("nan")


def ranked(*first_match: int) -> Identification:
    count = len(first_match)
    return Identification(
        np.arange(count),
        np.ones(count),
        np.ones(count),
        np.array(first_match, dtype=np.int64),
        0,
    )


@pytest.fixture
def figures() -> Overview:
    """160 bins from 0 to 1: genuine pairs in the upper half, impostors in the lower."""
    genuine, impostor = np.zeros(160, np.int64), np.zeros(160, np.int64)
    genuine[100], genuine[60] = 3, 1
    impostor[20], impostor[100] = 5900, 100
    return Overview(
        identification=ranked(1, 1, 2, 7),
        edges=np.linspace(0, 1, 161),
        genuine=genuine,
        impostor=impostor,
        roc_fmr=np.array([0.001, 0.005, 0.01, 0.5]),
        roc_fnmr=np.array([0.75, 0.5, 0.25, 0.0]),
        roc_threshold=np.array([0.9, 0.8, 0.7, 0.1]),
        auc=0.9,
        equal_error=0.1,
        equal_error_threshold=0.6,
        score_name="similarity",
        evidence=None,
    )


# --------------------------------------------------------------------------------------
# Scores
# --------------------------------------------------------------------------------------


def test_bins_are_put_together_in_twos(figures: Overview) -> None:
    edges, genuine, impostor = coarse(figures)
    assert len(edges) == 81
    assert edges[10] == pytest.approx(0.125)
    assert {place: genuine[place] for place in np.flatnonzero(genuine)} == {
        30: 1,
        50: 3,
    }
    assert {place: impostor[place] for place in np.flatnonzero(impostor)} == {
        10: 5900,
        50: 100,
    }


def test_rates_at_a_threshold(figures: Overview) -> None:
    # Bin 100 begins at 0.625: 100 of 6000 impostors and 3 of 4 genuine pairs are there.
    assert rates_at(figures, 0.625) == pytest.approx((100 / 6000, 0.25))
    assert rates_at(figures, 0.0) == (1.0, 0.0)
    assert rates_at(figures, 1.0) == (0.0, 1.0)


def test_rates_without_one_kind_of_pair(figures: Overview) -> None:
    empty = Overview(
        **{**vars(figures), "impostor": np.zeros(160, np.int64)},
    )
    fmr, fnmr = rates_at(empty, 0.625)
    assert math.isnan(fmr)
    assert fnmr == 0.25


def test_score_figure(figures: Overview) -> None:
    figure = score_figure(figures, "similarity", 0.3)
    genuine, impostor = figure.data
    assert genuine["y"][50] == 0.75
    assert impostor["y"][10] == pytest.approx(5900 / 6000)
    assert impostor["customdata"][50] == 100
    assert (genuine["marker"]["color"], impostor["marker"]["color"]) == (
        TRUE_COLOR,
        FALSE_COLOR,
    )
    (line,) = figure.layout["shapes"]
    assert line["x0"] == line["x1"] == 0.3


def test_cmc_figure(figures: Overview) -> None:
    (trace,) = cmc_figure(figures.identification).data
    assert trace["y"][:7] == [0.5, 0.75, 0.75, 0.75, 0.75, 0.75, 1.0]
    assert trace["x"][0] == 1
    assert len(trace["x"]) == 20


def test_roc_figure(figures: Overview) -> None:
    figure = roc_figure(figures, [roc_point(figures, 0.625)], "here")
    curve, here = figure.data
    assert curve["x"] == [0.001, 0.005, 0.01, 0.5]
    assert curve["y"] == [0.25, 0.5, 0.75, 1.0]
    assert (here["x"], here["y"]) == ([pytest.approx(100 / 6000)], [0.75])
    assert figure.layout["xaxis"]["type"] == "log"


def test_the_threshold_on_a_log_axis_is_never_at_zero(figures: Overview) -> None:
    assert roc_point(figures, 1.0)[0] == 0.001


def test_thresholds_of_false_match_rates(figures: Overview) -> None:
    # 6000 impostors: 60 stand for 1 %, and only 6 for 0.1 %, below the 30 needed.
    assert threshold_at(figures, 1e-2) == 0.7
    assert threshold_at(figures, 1e-3) is None


def test_a_threshold_stays_within_the_scores(figures: Overview) -> None:
    assert threshold_of(figures, Choices()) == 0.6
    assert threshold_of(figures, Choices(threshold=0.2)) == 0.2
    assert threshold_of(figures, Choices(threshold=7.0)) == 1.0


# --------------------------------------------------------------------------------------
# Regions
# --------------------------------------------------------------------------------------


def cell(outcome: str, region: str, share: float, **values: float) -> Cell:
    given = {"low": share - 0.1, "high": share + 0.2, "area": 0.3, **values}
    return Cell(
        groups=(("outcome", outcome),),
        region=region,
        pairs=10,
        queries=10,
        value=share,
        share=share,
        of_evidence=NAN,
        **given,
    )


def test_share_figure() -> None:
    regions = ("person", "background", REMAINDER)
    cells = {
        "true match": {
            "person": cell("true match", "person", 0.7),
            "background": cell("true match", "background", 0.2, area=0.7),
            REMAINDER: cell("true match", REMAINDER, 0.1, area=NAN),
        },
        "false match": {
            "person": cell("false match", "person", 0.25),
            "background": cell("false match", "background", 0.75, low=NAN, high=NAN),
            REMAINDER: cell("false match", REMAINDER, NAN, area=NAN),
        },
    }
    figure = share_figure(regions, cells)
    true, false, true_area, _ = figure.data
    assert true["y"] == [0.7, 0.2, 0.1]
    assert true["x"] == pytest.approx([-0.2, 0.8, 1.8])
    assert false["x"] == pytest.approx([0.2, 1.2, 2.2])
    assert true["error_y"]["array"] == pytest.approx([0.2] * 3)
    assert true["error_y"]["arrayminus"] == pytest.approx([0.1] * 3)
    assert false["error_y"]["array"][1] == 0
    assert false["y"][2] is None
    assert true_area["y"] == [0.3, 0.7, None]
    assert figure.layout["xaxis"]["ticktext"] == ["person", "background", REMAINDER]
    json.dumps([figure.data, figure.layout], allow_nan=False)


def test_scatter_figure() -> None:
    points = {
        "true match": (np.array([0.25, 0.5]), np.array([0.9, 0.8])),
        "false match": (np.array([0.75]), np.array([0.7])),
    }
    figure = scatter_figure(points, "<b>back</b>", "similarity")
    true, false = figure.data
    assert (true["x"], true["y"]) == ([0.25, 0.5], [0.9, 0.8])
    assert (false["x"], false["marker"]["color"]) == ([0.75], FALSE_COLOR)
    assert "<" not in figure.layout["xaxis"]["title"]["text"]


def test_an_axis_leaves_out_the_farthest_points() -> None:
    shares = np.concatenate([np.linspace(0, 1, 1001), [400.0]])
    low, high = shown_span(shares)
    assert -0.1 < low < 0.01
    assert 0.95 < high < 1.1
    assert shown_span(np.empty(0)) is None


def test_claim_figure() -> None:
    points, diagonal = claim_figure(np.array([0.1, 0.4]), np.array([0.2, -0.1])).data
    assert (points["x"], points["y"]) == ([0.1, 0.4], [0.2, -0.1])
    assert diagonal["x"] == diagonal["y"] == [-0.1, 0.4]


# --------------------------------------------------------------------------------------
# Maps and names
# --------------------------------------------------------------------------------------


def test_maps_share_a_scale_around_zero() -> None:
    one, other = np.array([[0.0, 0.5]]), np.array([[-2.0, 1.0]])
    figure = evidence_figure([one, other], ["true", "<i>false</i>"])
    assert [trace["z"] for trace in figure.data] == [[[0.0, 0.5]], [[-2.0, 1.0]]]
    assert {trace["zmin"] for trace in figure.data} == {-2.0}
    assert {trace["zmax"] for trace in figure.data} == {2.0}
    colors = figure.data[0]["colorscale"]
    assert [colors[0][0], colors[-1][0]] == [0, 1]
    # Red speaks for the match, as in the overlays.
    assert colors[-1][1] == "rgb(103,0,31)"
    assert figure.layout["annotations"][1]["text"] == "&lt;i&gt;false&lt;/i&gt;"


def test_names_that_look_alike_have_places_of_their_own() -> None:
    names = ["a" * 40 + "1", "a" * 40 + "2"]
    figure = row_figure(names, [3, 1], "matches", FALSE_COLOR)
    assert figure.data[0]["y"] == [0, 1]
    assert figure.data[0]["x"] == [3, 1]
    assert figure.layout["yaxis"]["ticktext"] == ["a" * 15 + "…"] * 2


def test_a_grid_escapes_names() -> None:
    figure = grid_figure(
        ["<b>1</b>", "c2"],
        [[1, None], [0, 2]],
        [["<b>1</b>: 1", "none"], ["0", "2"]],
        ("neighbor", "query"),
    )
    assert figure.data[0]["z"] == [[1, None], [0, 2]]
    assert figure.layout["xaxis"]["ticktext"] == ["&lt;b&gt;1&lt;/b&gt;", "c2"]
    assert figure.data[0]["text"][0][0] == "&lt;b&gt;1&lt;/b&gt;: 1"


def test_texts() -> None:
    assert short(None) == "(none)"
    assert short("two\nlines") == "two lines"
    assert short("x" * 10_000) == "x" * 23 + "…"
    assert quoted("עברית") == "\u2068עברית\u2069"
    assert for_plotly('<a href="x">&') == '&lt;a href="x"&gt;&amp;'
