"""The verdict about a run's maps, wherever the maps are shown."""

from __future__ import annotations

from html import unescape

import fiftyone as fo
import pytest

from fiftyone_sfam import Run, explain_retrieval
from fiftyone_sfam.app.operators.manage_runs import _description
from fiftyone_sfam.app.pairs.maps import describe_kinds
from fiftyone_sfam.app.pairs.opened import answer_open
from fiftyone_sfam.app.pairs.query import answer_query
from fiftyone_sfam.audit.report.pictures import shown_kinds
from fiftyone_sfam.audit.report.summary import config_table, highlights, load_results
from fiftyone_sfam.cli.runs import summary
from fiftyone_sfam.runs.map_check import KindCheck, MapCheck, renew_check
from operator_support import context
from panel_support import AuditPanel as Shown
from worlds import REID

NOTE = "no better than a blob in the middle of the image on this model"


def checked(**gains: tuple[float, float, float]) -> MapCheck:
    kinds = [
        KindCheck(kind=kind, chance=(1.6, 1.5, 1.7), gain=gain, center=0.2)
        for kind, gain in gains.items()
    ]
    return MapCheck(kinds=tuple(kinds), pairs=40, queries=40, best="evidence")


CAUTION = checked(sfam=(-0.1, -0.2, -0.05), evidence=(0.1, 0.05, 0.2))
SENTENCE = (
    "Maps of kind sfam find what matters 1.60 x better than chance (95 % interval 1.50 "
    f"to 1.70); {NOTE}; read them with care; 'evidence' is better here (40 pairs)."
)


@pytest.fixture
def run(crops: fo.Dataset) -> Run:
    return explain_retrieval(crops, "demo", k=2, protocol=REID, overwrite=True)


def plain(markdown: str) -> str:
    return markdown.replace("\\", "")


def test_a_run_that_was_not_measured_says_so(run: Run) -> None:
    sentence = run.map_check.sentence
    assert "not measured: a run of 36 passes" in sentence
    assert plain(Shown(run.dataset).block("maps")["markdown"]) == sentence
    assert sentence in highlights(run, load_results(run))
    assert f"maps {sentence}" in " ".join(summary(run, 0).split())
    assert shown_kinds(run.config) == "sfam"
    assert run.warnings == ()


def test_a_caution_is_wherever_maps_are_shown(run: Run) -> None:
    assert "maps" in Shown(run.dataset).blocks  # The panel has loaded the run before.
    renew_check(run, CAUTION)
    assert run.warnings == (SENTENCE,)
    # Summary and command line, once.
    assert run.summary()["maps"] == SENTENCE
    assert summary(run, 0).count(SENTENCE) == 1
    assert f"warning: {SENTENCE}" in summary(run, 0)
    assert unescape(run._repr_html_()).count(SENTENCE.rpartition("; ")[2]) == 1
    # Audit panel, list of runs, and report.
    shown = Shown(run.dataset)
    assert plain(shown.block("warning_0")["markdown"]) == f"**{SENTENCE}**"
    assert "maps" not in shown.blocks
    assert SENTENCE in plain(_description(run))
    assert highlights(run, load_results(run)).count(SENTENCE) == 1
    assert shown_kinds(run.config) == f"sfam ({NOTE})"
    # The heatmap field.
    assert run.dataset.get_field("sfam").description.endswith(f"run; {NOTE}")
    # The panel of pairs: below the images, and beside the colors of that kind only.
    ctx = context(run.dataset, {"run": "sfam", "uid": run.config.uid, "pair": 0})
    assert answer_open(ctx)["run"]["notes"] == [SENTENCE]
    units = {kind["name"]: kind["unit"] for kind in answer_query(ctx)["kinds"]}
    assert units["sfam"] == f"channel importance times activation; {NOTE}"
    assert units["evidence"] == "similarity per cell"
    assert [kind["unit"] for kind in describe_kinds(["evidence"])] == [
        "similarity per cell"
    ]


def test_good_maps_are_no_warning(run: Run) -> None:
    renew_check(run, checked(sfam=(0.1, 0.05, 0.2)))
    assert run.warnings == ()
    words = plain(Shown(run.dataset).block("maps")["markdown"])
    assert "; better than a blob in the middle of the image; 'evidence' is" in words
    assert "blob" not in run.dataset.get_field("sfam").description


def test_a_choice_is_in_summary_and_report(crops: fo.Dataset) -> None:
    run = explain_retrieval(
        crops, "demo", k=2, protocol=REID, layer="auto", overwrite=True, key="chosen"
    )
    sentence = run.config.chosen["sentence"]
    assert sentence.startswith("Chosen by measurement on ")
    assert f"chosen {sentence}" in " ".join(summary(run, 0).split())
    rows = {row[0].text: row[1].text for row in config_table(run).rows}
    assert rows["chosen by measurement"] == sentence
