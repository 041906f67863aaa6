"""The audit panel: its figures are the run's, and its marks lead to their images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from app_support import context, requests, small_crops
from fiftyone_sfam.app.panels import audit_view
from fiftyone_sfam.app.panels.sfam_audit import SfamAudit
from fiftyone_sfam.audit.evaluation import verify
from fiftyone_sfam.audit.overview import Overview, candidates_of, overview
from fiftyone_sfam.explain import explain_retrieval
from fiftyone_sfam.protocol import Protocol
from fiftyone_sfam.records import FALSE_MATCH, TRUE_MATCH
from fiftyone_sfam.runs import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run with false matches: every fifth image has another one's label."""
    dataset = small_crops(tmp_path_factory.mktemp("audit"))
    identities = dataset.values("identity")
    wrong = [
        identities[(place + 6) % len(identities)] if place % 5 == 0 else identity
        for place, identity in enumerate(identities)
    ]
    dataset.set_values("identity", wrong)
    protocol = Protocol("identity", camera_field="camera")
    yield explain_retrieval(dataset, "demo", k=3, protocol=protocol)
    dataset.delete()


@pytest.fixture(scope="module")
def figures(run: Run) -> Overview:
    return overview(run)


def opened(run: Run, method: str, state: dict[str, Any] | None = None, **params: Any):
    """Execute an event of the panel as the App does; return the App's tasks."""
    event = {
        "panel_id": "audit",
        "__method__": method,
        "panel_state": state or {"run": run.key},
        **params,
    }
    ctx = context(run.dataset, event)
    SfamAudit().execute(ctx)
    return requests(ctx)


def view_of(tasks: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Return the samples that the grid was set to."""
    (stages,) = [params["view"] for name, params in tasks if name == "set_view"]
    selected = dict(stages[0]["kwargs"])["sample_ids"]
    assert stages[0]["_cls"] == "fiftyone.core.stages.Select"
    return list(selected)


def test_the_cards_are_the_runs(run: Run, figures: Overview) -> None:
    cards = dict(audit_view.cards(run, figures))
    first = run.pairs.outcome[run.pairs.rank == 1]
    assert cards["False matches"] == str((first == FALSE_MATCH).sum())
    # Every query has a true match in this world, so rank-1 is over all of them.
    assert figures.identification.without_match == 0
    rank1 = (first == TRUE_MATCH).sum() / len(first)
    assert cards["Rank-1"] == f"{100 * rank1:.1f} %"
    assert 0.3 < rank1 < 1


def test_an_overview_is_stored_and_read_again(run: Run, figures: Overview) -> None:
    assert "overview" in run.store.names()
    again = overview(run)
    assert again.auc == figures.auc
    assert np.array_equal(again.genuine, figures.genuine)


def test_rates_of_the_threshold(run: Run, figures: Overview) -> None:
    protocol = Protocol.from_dict(run.config.protocol)
    scores = verify(run.embeddings(), candidates_of(run), protocol)
    assert figures.genuine.sum() == len(scores.genuine)
    assert figures.impostor.sum() == len(scores.impostor)
    for edge in figures.edges[[0, 100, 250, 399]]:
        fmr, fnmr = audit_view.rates_at(figures, float(edge))
        exact_fmr, exact_fnmr = scores.rates(np.array([edge]))
        assert fmr == pytest.approx(exact_fmr[0])
        assert fnmr == pytest.approx(exact_fnmr[0])


def test_average_evidence_is_that_of_the_pairs(run: Run, figures: Overview) -> None:
    assert figures.evidence is not None
    for outcome in (TRUE_MATCH, FALSE_MATCH):
        pairs = np.flatnonzero((run.pairs.rank == 1) & (run.pairs.outcome == outcome))
        maps = [one.query.maps["evidence"] for one in run.many_maps(pairs)]
        assert figures.evidence[outcome] == pytest.approx(np.mean(maps, axis=0))


def test_a_bar_of_scores_opens_its_queries(run: Run, figures: Overview) -> None:
    counted = {TRUE_MATCH: 0, FALSE_MATCH: 0}
    for trace, outcome in ((0, TRUE_MATCH), (1, FALSE_MATCH)):
        seen: set[str] = set()
        for place in range(audit_view.SHOWN_BINS):
            seen.update(audit_view.samples_of_score(run, figures, trace, place))
        wanted = run.pairs.query[run.pairs.outcome == outcome]
        assert seen == {str(run.items.sample_ids[item]) for item in wanted}
        counted[outcome] = len(seen)
    assert min(counted.values()) > 0
    place = next(
        place
        for place in range(audit_view.SHOWN_BINS)
        if audit_view.samples_of_score(run, figures, 1, place)
    )
    tasks = opened(run, "on_score", trace_idx=1, idx=place)
    assert view_of(tasks) == audit_view.samples_of_score(run, figures, 1, place)


def test_a_rank_opens_the_queries_found_there(run: Run, figures: Overview) -> None:
    tasks = opened(run, "on_rank", idx=0)
    first = run.pairs.query[(run.pairs.rank == 1) & (run.pairs.outcome == TRUE_MATCH)]
    assert set(view_of(tasks)) == {str(run.items.sample_ids[item]) for item in first}


def test_camera_cells_add_up_and_open(run: Run) -> None:
    figure = audit_view.camera_figure(run)
    counts = np.array(figure.data[0]["z"])
    false = np.flatnonzero((run.pairs.rank == 1) & (run.pairs.outcome == FALSE_MATCH))
    assert counts.sum() == len(false)
    row, column = np.argwhere(counts)[0]
    query, neighbor = figure.data[0]["y"][row], figure.data[0]["x"][column]
    tasks = opened(run, "on_cameras", y=query, x=neighbor)
    assert len(view_of(tasks)) == counts[row, column]
    for sample_id in view_of(tasks):
        assert run.dataset[sample_id].camera == query


def test_an_identity_opens_its_false_matches(run: Run) -> None:
    figure = audit_view.identity_figure(run)
    tasks = opened(run, "on_identity", idx=0)
    assert len(view_of(tasks)) == figure.data[0]["x"][0]
    names = {run.dataset[one].identity for one in view_of(tasks)}
    assert names == {figure.data[0]["y"][0]}


def test_a_mark_without_images_says_so(run: Run) -> None:
    tasks = dict(opened(run, "on_rank", idx=19))
    assert "set_view" not in tasks
    assert "No stored pair" in tasks["notify"]["message"]


def test_it_opens_and_moves_the_threshold(run: Run) -> None:
    tasks = opened(run, "on_load", state={})
    states = [params["state"] for name, params in tasks if "state" in params]
    merged = {key: value for state in states for key, value in state.items()}
    assert merged["run"] == run.key
    assert "pairs of two identities" in merged["rates_text"]
    tasks = opened(run, "on_threshold", state=merged, value=0.9)
    states = [params["state"] for name, params in tasks if "state" in params]
    moved = {key: value for state in states for key, value in state.items()}
    assert moved["rates_text"].startswith("At 0.900:")


def test_without_a_run_it_offers_the_operator(
    make_dataset: Callable[..., fo.Dataset],
) -> None:
    dataset = make_dataset()
    ctx = context(dataset, {"panel_id": "audit", "__method__": "on_load"})
    SfamAudit().execute(ctx)
    shown = str(requests(ctx))
    assert "No explained run yet" in shown
    ctx = context(dataset, {"panel_id": "audit", "__method__": "on_explain"})
    SfamAudit().execute(ctx)
    assert "@fiftyone-sfam/sfam/explain_retrieval" in str(requests(ctx))


def test_unlabeled_images_have_no_figures(
    tmp_path: Path, make_dataset: Callable[..., fo.Dataset]
) -> None:
    dataset = small_crops(tmp_path, "sfam-unlabeled")
    try:
        run = explain_retrieval(dataset, "demo", k=2)
        cards = dict(audit_view.cards(run, overview(run)))
        assert cards["Rank-1"] == cards["mAP"] == cards["Equal error"] == "unknown"
        shown = opened(run, "on_load")
        assert "make a run with an identity field" in str(shown)
        json.dumps(shown, allow_nan=False)  # the App's JSON has no NaN
    finally:
        dataset.delete()
