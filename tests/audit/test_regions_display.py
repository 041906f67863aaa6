"""Ledgers, causal checks and shortcuts as tables, sentences and figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fiftyone_sfam.audit.regions.causal_result import CausalCheck
from fiftyone_sfam.audit.regions.display import (
    causal_table,
    cell_tables,
    cells_by_outcome,
    group_cells,
    groups_table,
    scatter_notes,
    sentences,
    share_figure,
    shares_of,
    shortcut_notes,
    shortcut_sentence,
    shortcuts_table,
    source,
)
from fiftyone_sfam.audit.regions.ledger import Ledger
from fiftyone_sfam.audit.regions.ledger_cells import (
    FALSE,
    REMAINDER,
    TRUE,
    Cell,
)
from fiftyone_sfam.audit.regions.shortcuts import Shortcut, Shortcuts
from fiftyone_sfam.audit.statistics.bootstrap import Correlation

NAN = float("nan")


def cell(share: float, region: str, **groups: str) -> Cell:
    left = region == REMAINDER
    return Cell(
        groups=tuple(groups.items()),
        region=region,
        pairs=1200,
        queries=40,
        value=share / 2,
        share=share,
        low=share - 0.1,
        high=share + 0.1,
        of_evidence=NAN if left else share,
        area=NAN if left else 0.3,
    )


@pytest.fixture
def ledger() -> Ledger:
    """Four pairs: a true match, two false ones, one of which scores below zero."""
    return Ledger(
        field="person",
        regions=("person", "background"),
        pairs=np.arange(4),
        query=np.array([0, 1, 2, 3], dtype=np.int32),
        gallery=np.array([1, 0, 3, 2], dtype=np.int32),
        rank=np.ones(4, dtype=np.int32),
        outcome=np.array([0, 1, 1, 1], dtype=np.int8),
        score=np.array([0.5, 0.4, -0.1, 0.2]),
        shares=np.array(
            [
                [[0.25, 0.125], [0.25, 0.125]],
                [[0.1, 0.3], [0.1, 0.3]],
                [[0.1, -0.2], [0.1, -0.2]],
                [[NAN, NAN], [0.1, 0.1]],
            ],
            dtype=np.float32,
        ),
        item_area=np.full((4, 2), 0.5, dtype=np.float32),
        missing={3: "it has no mask."},
        cells=(
            cell(0.6, "person", outcome=TRUE),
            cell(0.4, REMAINDER, outcome=TRUE),
            cell(0.25, "person", outcome=FALSE),
            cell(0.75, "background", outcome=FALSE),
            cell(0.2, "person", outcome=FALSE, camera="c1"),
            cell(0.5, "person", outcome=TRUE, camera="c2"),
            replace(cell(0.9, "person", outcome=TRUE, camera="c3"), low=NAN),
        ),
    )


def test_a_table_of_each_kind_of_group(ledger: Ledger) -> None:
    (by_outcome, outcomes), (by_camera, cameras) = cell_tables(ledger.cells)
    assert by_outcome == "By outcome"
    assert by_camera == "By outcome and camera"
    numbers = ("pairs", "queries", "share of the score", "share of the evidence")
    rest = ("share of the area", "per pair")
    assert outcomes.head == ("outcome", "region", *numbers, *rest)
    assert outcomes.texts()[:2] == [
        [
            *(TRUE, "person", "1,200", "40"),
            *("60.0 % (50.0 to 70.0)", "60.0 %", "30.0 %", "0.300"),
        ],
        [TRUE, REMAINDER, "1,200", "40", "40.0 % (30.0 to 50.0)", "", "", "0.200"],
    ]
    assert outcomes.rows[0][4].value == 0.6
    assert [row[:2] for row in cameras.texts()] == [
        [FALSE, "c1"],
        [TRUE, "c2"],
        [TRUE, "c3"],
    ]


def test_sentences_compare_false_with_true_matches(ledger: Ledger) -> None:
    assert sentences(ledger) == (
        "person carries 25 % of the score in false matches, 60 % in true matches",
        "background carries 75 % of the score in false matches",
    )
    assert source(ledger) == "the field 'person'"
    assert source(replace(ledger, field=None)) == "horizontal stripes"


def test_groups_begin_with_the_largest_share(ledger: Ledger) -> None:
    cells = group_cells(ledger, "person")
    table = groups_table(cells)
    # A group of too few queries has no interval, and is left out.
    assert table.texts() == [
        [f"{TRUE}, camera \u2068c2\u2069", "50.0 % (40.0 to 60.0)", "30.0 %", "1,200"],
        [f"{FALSE}, camera \u2068c1\u2069", "20.0 % (10.0 to 30.0)", "30.0 %", "1,200"],
    ]


def test_shares_of_pairs(ledger: Ledger) -> None:
    assert shares_of(ledger, "person") == pytest.approx(
        [0.5, 0.25, NAN, NAN], nan_ok=True
    )
    assert shares_of(ledger, REMAINDER) == pytest.approx(
        [0.25, 0.0, NAN, NAN], nan_ok=True, abs=1e-6
    )
    assert scatter_notes(ledger, "person") == (
        "Without 1 pair that score zero or less.",
    )


def test_the_figure_names_regions_as_text(ledger: Ledger) -> None:
    region = "<a href='x'>arm</a>"
    cells = {TRUE: {region: cell(0.5, region, outcome=TRUE)}}
    figure = share_figure((region,), cells)
    assert figure.layout["xaxis"]["ticktext"] == ["&lt;a href='x'&gt;arm&lt;/a&gt;"]
    assert figure.data[0]["text"] == [
        "&lt;a href='x'&gt;arm&lt;/a&gt;, true match: 50.0 % (40.0 to 60.0) of the "
        "score, 30.0 % of the area; 1,200 pairs"
    ]
    assert list(cells_by_outcome(ledger)) == [TRUE, FALSE]
    assert set(cells_by_outcome(ledger)[FALSE]) == {"person", "background"}


def test_a_causal_check() -> None:
    correlation = Correlation(0.5, 0.25, 0.75)
    check = CausalCheck(
        region="background",
        field=None,
        change="blur",
        side="query",
        pairs=np.array([3, 5]),
        items=np.array([0, 1]),
        score=np.array([0.9, 0.8]),
        area=np.array([0.5, 0.5]),
        claim=np.array([0.2, 0.4]),
        drop=np.array([0.1, 0.3]),
        control_claim=np.array([0.1, 0.1]),
        control_drop=np.array([0.05, 0.15]),
        skipped={},
        correlation=correlation,
        share_correlation=correlation,
        control_correlation=correlation,
        crossed_correlation=correlation,
        area_correlation=replace(correlation, value=-0.5),
    )
    rows = causal_table(check).texts()
    assert rows[:6] == [
        ["region that was changed", "background"],
        ["how", "blur, on the query's image"],
        ["pairs", "2"],
        ["claimed by the ledger, mean", "0.300"],
        ["measured drop, mean", "0.200"],
        ["drop for the same area elsewhere, mean", "0.100"],
    ]
    assert rows[-1] == [
        "rank correlation: area with drop",
        str(check.area_correlation),
    ]
    assert len(rows) == 11


def test_shortcuts() -> None:
    no_map = np.zeros((1, 1), dtype=np.float32)
    shortcut = Shortcut(
        kind="identity",
        value="דנה",
        region="background",
        share=0.6,
        expected=0.25,
        excess=0.35,
        effect=0.3,
        low=0.205,
        high=0.4,
        area=0.5,
        rest_area=0.5,
        images=12,
        partners=(),
        pairs=np.array([1]),
        items=np.array([0]),
        evidence=no_map,
        rest_evidence=no_map,
    )
    shortcuts = Shortcuts("person", ("background",), {"identity": 1500}, (shortcut,))
    assert shortcuts_table(shortcuts).texts() == [
        [
            "identity \u2068דנה\u2069: background",
            *("60.0 %", "25.0 %", "+30.0 (+20.5 to +40.0)", "12"),
        ]
    ]
    assert shortcut_sentence(shortcut).startswith(
        "identity \u2068דנה\u2069: background"
    )
    (note,) = shortcut_notes(shortcuts)
    assert note.startswith("Looked at background; groups: 1,500 of kind identity.")
