"""The audit panel, event by event: its marks lead to their pairs and images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pydash
import pytest

from evaluation_support import verify
from fiftyone_sfam.app.audit import page_overview as audit_page_overview
from fiftyone_sfam.app.audit.choices import Choices, Selection
from fiftyone_sfam.app.audit.page_matches import tallies
from fiftyone_sfam.app.audit.panel import open_mark, page_of
from fiftyone_sfam.app.audit.results import stored
from fiftyone_sfam.app.panel_state import current_run
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval, load_evaluation
from fiftyone_sfam.audit.evaluation.overview import candidates_of, overview
from fiftyone_sfam.audit.regions import display as regions_display
from fiftyone_sfam.audit.regions.causal import check_causally
from fiftyone_sfam.audit.regions.display import drawn_rows, shares_of
from fiftyone_sfam.audit.regions.ledger import build_ledger, load_ledger
from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts
from fiftyone_sfam.audit.suspects.search import find_suspects
from fiftyone_sfam.audit.verification.verify import pair_scores
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.manage import delete_run
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, TRUE_MATCH
from fiftyone_sfam.review.verdicts import set_verdict
from fiftyone_sfam.runs.run import Run, load_run
from operator_support import PLUGIN, requests
from panel_support import AuditPanel as Shown
from worlds import REID, fill, fill_frames, mislabel, small_crops, tiny_model

World = Callable[..., fo.Dataset]


@pytest.fixture
def tiny_world(make_dataset: Callable[..., fo.Dataset], tmp_path: Path) -> World:
    """Make a dataset of twelve tiny people; images at some places get a wrong label."""

    def tiny_world(wrong: tuple[int, ...] = (0, 4)) -> fo.Dataset:
        dataset = fill(make_dataset("audit"), tmp_path)
        identities = dataset.values("identity")
        for place in wrong:
            identities[place] = identities[place - 3]
        dataset.set_values("identity", identities)
        return dataset

    return tiny_world


def explain(dataset: fo.Dataset, protocol: Protocol = REID, **options: Any) -> Run:
    options = {"k": 2, **options}
    return explain_retrieval(dataset, tiny_model(), protocol=protocol, **options)


def with_wrong_labels(folder: Path) -> fo.Dataset:
    """Crops of which every fifth has another one's label."""
    dataset = small_crops(folder)
    mislabel(dataset, 5)
    return dataset


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run with false matches, and nothing else computed."""
    dataset = with_wrong_labels(tmp_path_factory.mktemp("plain"))
    yield explain_retrieval(dataset, "demo", k=3, protocol=REID)
    dataset.delete()


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run with everything that an audit can compute."""
    dataset = with_wrong_labels(tmp_path_factory.mktemp("audited"))
    run = explain_retrieval(dataset, "demo", k=3, protocol=REID)
    evaluate_retrieval(run, slices=["camera", "view"], pair_slices=["camera"])
    build_ledger(run, "person")
    find_shortcuts(run)
    find_suspects(run, min_score=0.2)
    check_causally(run, "demo", limit=4, draws=1)
    yield run
    dataset.delete()


def rank1(run: Run, outcome: int) -> np.ndarray:
    return np.flatnonzero((run.pairs.rank == 1) & (run.pairs.outcome == outcome))


# --------------------------------------------------------------------------------------
# Overview
# --------------------------------------------------------------------------------------


def test_the_cards_are_the_runs(run: Run) -> None:
    shown = Shown(run.dataset)
    cards = {card["label"]: card["value"] for card in shown.block("cards")["cards"]}
    first = run.pairs.outcome[run.pairs.rank == 1]
    wrong = int((first == FALSE_MATCH).sum())
    assert 5 < wrong < 30
    assert cards["False matches"] == str(wrong)
    # Every query has a true match in this world, so rank-1 is over all of them.
    assert cards["Rank-1"] == f"{100 * (36 - wrong) / 36:.1f} %"
    ranked = overview(run).identification
    five = (ranked.first_match <= 5).mean()
    assert cards["Rank-5"] == f"{100 * five:.1f} %"
    assert cards["mAP"] == f"{100 * ranked.average_precision.mean():.1f} %"
    assert cards["Queries"] == "36"
    assert cards[f"Reviewed of {len(run.pairs)}"] == "0"
    assert "Skipped" not in cards


def test_what_is_not_computed_offers_its_operator(run: Run) -> None:
    for page, label, operator in (
        ("overview", "Evaluate with slices and intervals", "evaluate_retrieval"),
        ("overview", "Write report", "write_report"),
        ("scores", "Evaluate retrieval", "evaluate_retrieval"),
        ("regions", "Explain regions", "explain_regions"),
        ("suspects", "Find suspects", "find_suspects"),
    ):
        shown = Shown(run.dataset, page if page != "overview" else None)
        found = [
            button
            for block in shown.state["blocks"]
            for button in block.get("buttons", [])
            if button["label"] == label
        ]
        assert [one["params"] for one in found] == [{"operator": operator}]
        assert found[0]["handler"] == "on_operator"
        shown.do("on_operator", **found[0]["params"])
        [(name, given)] = shown.asked
        assert name == "prompt_user_for_operation"
        assert given["operator_uri"] == f"{PLUGIN}/{operator}"
        assert given["params"] == {"key": "sfam"}
        assert given["on_success"].endswith("#on_load")


def test_a_rank_opens_its_true_matches(run: Run) -> None:
    shown = Shown(run.dataset)
    shown.click("cmc", idx=0, trace_idx=0)
    wanted = rank1(run, TRUE_MATCH)
    shown.assert_open(run, wanted, "nearest true match at rank 1")
    ranked = overview(run).identification
    later = int(ranked.first_match[ranked.first_match > 1].min())
    shown.click("cmc", idx=later - 1, trace_idx=0)
    queries = ranked.query[ranked.first_match == later]
    wanted = [
        pair
        for pair in range(len(run.pairs))
        if run.pairs.query[pair] in queries and run.pairs.rank[pair] == later
    ]
    assert {int(run.pairs.outcome[pair]) for pair in wanted} == {TRUE_MATCH}
    shown.assert_open(run, wanted, f"nearest true match at rank {later}")


def test_cards_open_what_they_count(run: Run) -> None:
    shown = Shown(run.dataset)
    shown.do("on_mark", mark="false_matches", path="body.cards_block.cards.card_5")
    shown.assert_open(run, rank1(run, FALSE_MATCH), "false matches at rank 1")
    shown.do("on_mark", mark="missed_1", path="")
    shown.assert_open(run, rank1(run, FALSE_MATCH), "no true match up to rank 1")
    shown.do("on_mark", mark="worst", path="")
    ranked = overview(run).identification
    worst = ranked.query[ranked.average_precision.argmin()]
    assert shown.view[0] == run.items.sample_ids[worst]
    assert shown.state["selection"]["pairs"] == 36
    shown.do("on_mark", mark="last", path="")
    last = ranked.query[ranked.inverse_negative_penalty.argmin()]
    assert shown.view[0] == run.items.sample_ids[last]
    assert shown.handed["title"] == (
        "the 36 queries of the lowest inverse negative penalty"
    )
    shown.do("on_mark", mark="queries", path="")
    shown.assert_open(run, np.flatnonzero(run.pairs.rank == 1), "first neighbors")
    shown.do("on_mark", mark="true_matches", path="")
    shown.assert_open(run, rank1(run, TRUE_MATCH), "true matches at rank 1")
    shown.do("on_mark", mark="equal_error", path="")
    threshold, score = overview(run).equal_error_threshold, pair_scores(run)
    false = np.flatnonzero((run.pairs.outcome == FALSE_MATCH) & (score >= threshold))
    wanted = sorted(false.tolist(), key=lambda pair: (-score[pair], pair))
    shown.assert_open(run, wanted, f"false matches accepted at {threshold:.3f}")


def test_every_card_of_a_run_opens_its_pairs(audited: Run) -> None:
    shown = Shown(audited.dataset)
    marks = {card["label"]: card["mark"] for card in shown.block("cards")["cards"]}
    assert [label for label, mark in marks.items() if not mark] == [
        f"Reviewed of {len(audited.pairs)}"
    ]
    for mark in filter(None, marks.values()):
        shown.do("on_mark", mark=mark, path="")
        assert shown.handed is not None


def test_a_map_opens_its_outcome(run: Run) -> None:
    shown = Shown(run.dataset)
    false, true = rank1(run, FALSE_MATCH), rank1(run, TRUE_MATCH)
    for pairs, trace in ((true, 0), (false, 1)):
        maps = [one.query.maps["evidence"] for one in run.many_maps(pairs)]
        drawn = np.array(shown.content("evidence")[trace]["z"])
        assert drawn == pytest.approx(np.mean(maps, axis=0), abs=1e-6)
        shown.click("evidence", trace_idx=trace, idx=[3, 2])
        title = ("true matches", "false matches")[trace]
        shown.assert_open(run, pairs, f"{title} at rank 1")


def test_reviewed_pairs_are_counted_and_opened(tiny_world: World) -> None:
    dataset = tiny_world()
    run = explain(dataset)
    set_verdict(run, 4, "fine")
    set_verdict(run, 9, "wrong label")
    shown = Shown(dataset)
    cards = {card["label"]: card for card in shown.block("cards")["cards"]}
    card = cards[f"Reviewed of {len(run.pairs)}"]
    assert card["value"] == "2"
    shown.do("on_mark", mark=card["mark"], path="")
    shown.assert_open(run, [4, 9], "pairs with a verdict")


def test_skipped_images_open_without_pairs(tiny_world: World, tmp_path: Path) -> None:
    dataset = tiny_world()
    vectors = explain(dataset).embeddings()
    dataset.set_values("vectors", list(vectors))
    sample = dataset.skip(3).first()
    sample.filepath = str(tmp_path / "missing.png")
    sample.save()
    explain(dataset, embeddings="vectors", overwrite=True)
    shown = Shown(dataset)
    (card,) = [c for c in shown.block("cards")["cards"] if c["label"] == "Skipped"]
    assert card["value"] == "1"
    shown.do("on_mark", mark=card["mark"], path="")
    assert shown.view == [sample.id]
    assert shown.state["selection"]["pairs"] == 0
    assert shown.handed is None


def test_slices_are_listed_and_opened(audited: Run) -> None:
    shown = Shown(audited.dataset)
    rows = shown.content("slice_rows")
    evaluation = load_evaluation(audited)
    assert evaluation is not None
    slices = evaluation.slices["camera"]
    assert [row["value"] for row in rows] == [one.value for one in slices]
    assert rows[1]["queries"] == str(slices[1].queries)
    rate = slices[1].rank1
    assert rows[1]["rank_1"] == (
        f"{100 * rate.value:.1f} % ({100 * rate.low:.1f} to {100 * rate.high:.1f})"
    )
    shown.click("slice_rows", row=1)
    cameras = {audited.dataset[one].camera for one in shown.view}
    assert cameras == {slices[1].value}
    assert len(shown.view) == len(slices[1].items)
    outcomes = audited.pairs.outcome[shown.pairs]
    # False matches come first.
    assert list(outcomes) == sorted(outcomes, reverse=True)
    assert {*outcomes} == {TRUE_MATCH, FALSE_MATCH}
    shown.do("on_choice", path="body.slices_block.slices", value="view")
    assert [row["value"] for row in shown.content("slice_rows")] == [
        one.value for one in evaluation.slices["view"]
    ]


# --------------------------------------------------------------------------------------
# Scores
# --------------------------------------------------------------------------------------


def in_bar(run: Run, trace: int, place: int) -> Selection:
    opened = open_mark(run, "scores", {"trace_idx": trace, "idx": place}, Choices())
    assert opened.selection is not None
    return opened.selection


def test_bars_open_all_stored_pairs_of_an_outcome(run: Run) -> None:
    shown = Shown(run.dataset, "scores")
    figures = overview(run)
    for trace, outcome in ((0, TRUE_MATCH), (1, FALSE_MATCH)):
        centers = shown.content("scores")[trace]["x"]
        width = centers[1] - centers[0]
        opened: list[int] = []
        for place in range(len(centers)):
            pairs = list(in_bar(run, trace, place).pairs)
            if pairs and 0 < place < len(centers) - 1:
                score = run.pairs.similarity[pairs]
                assert np.abs(score - centers[place]).max() <= width / 2 + 1e-9
            opened += pairs
        wanted = np.flatnonzero(run.pairs.outcome == outcome)
        assert sorted(opened) == wanted.tolist()
    selection = in_bar(run, 1, 79)
    shown.click("scores", trace_idx=1, idx=79, shift_pressed=False)
    shown.assert_open(run, selection.pairs, selection.title)
    edge = figures.edges[79 * 5]
    assert (
        selection.title == f"false matches, score {edge:.3f} to {figures.edges[-1]:.3f}"
    )


def test_the_threshold_moves(run: Run) -> None:
    shown = Shown(run.dataset, "scores")
    figures = overview(run)
    assert shown.block("threshold")["value"] == figures.equal_error_threshold
    shown.do("on_choice", path="body.threshold_block.threshold", value=0.9)
    exact = verify(run.embeddings(), candidates_of(run), REID).rates(
        figures.edges[np.searchsorted(figures.edges, [0.9])]
    )
    text = shown.block("rates")["markdown"]
    assert text.startswith("At **0.900** the false match rate (FMR) is ")
    assert f"**{100 * exact[0][0]:.2f} %** of" in text
    assert f"**{100 * exact[1][0]:.2f} %** of" in text
    line = shown.block("scores")["layout"]["shapes"][0]
    assert line["x0"] == 0.9
    assert pydash.get(shown.state, "body.threshold_block.threshold") == 0.9
    # A click with shift moves it to the left edge of the bar.
    shown.click("scores", trace_idx=1, idx=70, shift_pressed=True)
    assert shown.state["threshold"] == pytest.approx(figures.edges[70 * 5])
    assert "set_view" not in dict(shown.asked)
    shown.do("on_mark", mark="at", threshold=None, path="")
    assert shown.block("threshold")["value"] == figures.equal_error_threshold


def test_a_point_of_the_roc_moves_the_threshold_and_opens(run: Run) -> None:
    shown = Shown(run.dataset, "scores")
    figures = overview(run)
    place = len(figures.roc_threshold) // 2
    shown.click("roc", trace_idx=0, idx=place)
    threshold = figures.roc_threshold[place]
    assert shown.state["threshold"] == threshold
    score = pair_scores(run)
    wanted = np.flatnonzero((run.pairs.outcome == FALSE_MATCH) & (score >= threshold))
    wanted = sorted(wanted.tolist(), key=lambda pair: (-score[pair], pair))
    shown.assert_open(run, wanted, f"false matches accepted at {threshold:.3f}")
    shown.do("on_mark", mark="refused", path="")
    wanted = np.flatnonzero((run.pairs.outcome == TRUE_MATCH) & (score < threshold))
    wanted = sorted(wanted.tolist(), key=lambda pair: (score[pair], pair))
    if wanted:
        shown.assert_open(run, wanted, f"true matches refused at {threshold:.3f}")


def test_operating_points_say_what_supports_them(audited: Run) -> None:
    shown = Shown(audited.dataset, "scores")
    rows = shown.content("points")
    assert [row["far"] for row in rows] == ["10 %", "1 %", "0.1 %", "0.01 %"]
    impostors = int(overview(audited).impostor.sum())
    assert rows[0]["expected_false_accepts"] == f"{0.1 * impostors:,.1f}"
    assert rows[0]["supported"] == "yes"
    assert rows[3]["supported"] == "no: too few impostor pairs"
    assert (rows[3]["tar"], rows[3]["threshold"]) == ("unknown", "unknown")
    point = load_evaluation(audited).verification.operating[0]
    assert rows[0]["tar"] == f"{100 * point.tar:.2f} %"
    shown.click("points", row=0)
    assert shown.state["threshold"] == point.threshold
    chosen = (audited.pairs.outcome == FALSE_MATCH) & (
        audited.pairs.similarity >= point.threshold
    )
    assert shown.state["selection"]["pairs"] == chosen.sum()
    before = shown.state
    shown.click("points", row=3)
    assert shown.state["threshold"] == before["threshold"]


# --------------------------------------------------------------------------------------
# False matches
# --------------------------------------------------------------------------------------


def test_camera_cells_add_up_and_open(run: Run) -> None:
    shown = Shown(run.dataset, "matches")
    figure = shown.content("cameras")[0]
    counts = np.array(figure["z"])
    false = rank1(run, FALSE_MATCH)
    assert counts.sum() == len(false)
    names = shown.block("cameras")["layout"]["xaxis"]["ticktext"]
    row, column = (int(one) for one in np.argwhere(counts)[-1])
    shown.click("cameras", idx=[row, column], x=column, y=row, trace_idx=0)
    cameras = run.items.cameras
    wanted = [
        pair
        for pair in false
        if cameras[run.pairs.query[pair]] == names[row]
        and cameras[run.pairs.gallery[pair]] == names[column]
    ]
    assert len(wanted) == counts[row, column]
    title = f"false matches of camera {names[row]} with camera {names[column]}"
    shown.assert_open(run, wanted, title)


def test_an_empty_cell_says_so(run: Run) -> None:
    counts = tallies(run).by_camera
    row, column = (int(one) for one in np.argwhere(counts == 0)[0])
    shown = Shown(run.dataset, "matches")
    shown.click("cameras", idx=[row, column])
    [(name, given)] = shown.asked
    assert name == "notify"
    assert given["message"] == "No stored pair is behind this mark."
    assert "selection" not in shown.state or shown.state["selection"] is None


def test_an_identity_opens_its_false_matches(run: Run) -> None:
    shown = Shown(run.dataset, "matches")
    names = shown.block("identities")["layout"]["yaxis"]["ticktext"]
    counts = shown.content("identities")[0]["x"]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == len(rank1(run, FALSE_MATCH))
    shown.click("identities", idx=1, trace_idx=0)
    wanted = [
        pair
        for pair in rank1(run, FALSE_MATCH)
        if run.items.identities[run.pairs.query[pair]] == names[1]
    ]
    assert len(wanted) == counts[1]
    shown.assert_open(run, wanted, f"false matches of {names[1]}")


def test_equal_errors_of_camera_pairs(audited: Run) -> None:
    shown = Shown(audited.dataset, "matches")
    rows = load_evaluation(audited).pair_slices["camera"]
    names = shown.block("errors")["layout"]["xaxis"]["ticktext"]
    values = shown.content("errors")[0]["z"]
    one = next(row for row in rows if not np.isnan(row.equal_error.value))
    row, column = names.index(one.query_value), names.index(one.gallery_value)
    assert values[row][column] == pytest.approx(100 * one.equal_error.value)
    shown.click("errors", idx=[row, column])
    pairs, cameras = audited.pairs, audited.items.cameras
    wanted = {
        pair
        for pair in range(len(pairs))
        if cameras[pairs.query[pair]] == one.query_value
        and cameras[pairs.gallery[pair]] == one.gallery_value
    }
    assert {*shown.pairs} == wanted


# --------------------------------------------------------------------------------------
# Regions
# --------------------------------------------------------------------------------------


def test_shares_by_outcome_open_what_leans_most(audited: Run) -> None:
    shown = Shown(audited.dataset, "regions")
    ledger = load_ledger(audited)
    assert ledger.regions == ("person", "background")
    assert shown.content("shares")[1]["name"] == "false match"
    false = ledger.outcome == FALSE_MATCH
    carried = ledger.shares[false, 0, 1].sum() / ledger.score[false].sum()
    assert shown.content("shares")[1]["y"][1] == pytest.approx(carried)
    shown.click("shares", trace_idx=1, idx=1)
    rows = np.flatnonzero(false)
    ratio = ledger.shares[rows, 0, 1].astype(np.float64) / ledger.score[rows]
    wanted = ledger.pairs[rows[np.argsort(-ratio, kind="stable")]]
    title = f"the {len(wanted)} false matches that lean most on background"
    shown.assert_open(audited, wanted, title)
    # The mark of the area opens the same as its bar.
    shown.click("shares", trace_idx=3, idx=1)
    shown.assert_open(audited, wanted, title)


def test_points_of_the_scatter_open_their_pairs(audited: Run) -> None:
    shown = Shown(audited.dataset, "regions")
    ledger = load_ledger(audited)
    true, false = shown.content("scatter")
    positive = ledger.score > 0
    assert len(true["x"]) + len(false["x"]) == positive.sum() < len(ledger)
    left_out = len(ledger) - positive.sum()
    assert f"Without {left_out} pairs that score" in shown.block("scatter")["hint"]
    rows = np.flatnonzero(positive & (ledger.outcome == FALSE_MATCH))
    pair = int(ledger.pairs[rows[2]])
    ratio = ledger.shares[rows[2], 0, 1] / ledger.score[rows[2]]
    assert false["x"][2] == pytest.approx(ratio, abs=1e-4)
    assert false["y"][2] == pytest.approx(audited.pairs.similarity[pair], abs=1e-4)
    shown.click("scatter", trace_idx=1, idx=2)
    assert shown.pairs == [pair]
    ends = audited.pairs.query[pair], audited.pairs.gallery[pair]
    assert shown.view == [audited.items.sample_ids[one] for one in ends]
    # A box that was drawn around some.
    points = [{"trace_idx": 0, "idx": 1}, {"trace_idx": 1, "idx": 2}]
    shown.click("scatter", data=points)
    first = np.flatnonzero(positive & (ledger.outcome == TRUE_MATCH))[1]
    shown.assert_open(
        audited, [ledger.pairs[first], pair], "2 pairs chosen by score and background"
    )
    shown.do("on_choice", path="body.region_block.region", value="person")
    assert shown.content("scatter")[1]["x"][2] == pytest.approx(1 - ratio, abs=0.01)
    assert "person" in shown.block("scatter")["title"]


def test_the_scatter_draws_the_same_few_of_many(
    audited: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regions_display, "MOST_POINTS", 7)
    shown = Shown(audited.dataset, "regions")
    ledger = stored(audited, load_ledger)
    assert [len(trace["x"]) for trace in shown.content("scatter")] == [7, 7]
    hint = shown.block("scatter")["hint"]
    assert (
        f"14 of {(ledger.score > 0).sum()} pairs, drawn at random with seed 0" in hint
    )
    row = drawn_rows(ledger, "background")["false match"][3]
    shown.click("scatter", trace_idx=1, idx=3)
    assert shown.pairs == [ledger.pairs[row]]
    share = shares_of(ledger, "background")[row]
    assert shown.content("scatter")[1]["x"][3] == pytest.approx(share, abs=1e-5)


def test_groups_open_their_pairs(audited: Run) -> None:
    shown = Shown(audited.dataset, "regions")
    rows = shown.content("groups")
    shares = [float(row["share_of_the_score"].split(" ")[0]) for row in rows]
    assert shares == sorted(shares, reverse=True)
    shown.click("groups", row=0)
    outcome, _, cameras = rows[0]["pairs"].partition(", camera pair ")
    one, other = cameras.strip("\u2068\u2069").split("-")
    code = ("true match", "false match").index(outcome)
    pairs = audited.pairs
    wanted = {
        pair
        for pair in range(len(pairs))
        if pairs.outcome[pair] == code
        and audited.items.cameras[pairs.query[pair]] == one
        and audited.items.cameras[pairs.gallery[pair]] == other
    }
    assert {*shown.pairs} == wanted
    assert rows[0]["number"] == str(len(wanted))


def test_shortcuts_and_the_causal_check(audited: Run) -> None:
    shown = Shown(audited.dataset, "regions")
    shortcuts = find_shortcuts(audited, save=False)
    last = len(shortcuts) - 1
    assert last >= 0
    shown.click("shortcuts", row=last)
    found = shortcuts.found[last]
    assert shown.pairs == found.pairs.tolist()
    assert shown.state["shortcut"] == last
    drawn = np.array(shown.content("shortcut_maps")[0]["z"])
    assert drawn == pytest.approx(found.evidence, abs=1e-6)
    assert shown.block("shortcut_maps")["hint"].startswith(found.sentence)
    shown.click("shortcut_maps", trace_idx=0, idx=[0, 0])
    assert shown.pairs == found.pairs.tolist()
    points, _ = shown.content("claims")
    assert len(points["x"]) == 4
    shown.click("claims", trace_idx=0, idx=1)
    (pair,) = shown.pairs
    ledger = load_ledger(audited)
    claim = ledger.shares[ledger.row(pair), 0, 1]
    assert points["x"][1] == pytest.approx(claim, abs=1e-4)


# --------------------------------------------------------------------------------------
# Suspects
# --------------------------------------------------------------------------------------


def test_suspects_show_the_component(audited: Run) -> None:
    shown = Shown(audited.dataset, "suspects")
    assert shown.blocks == ["findings", "limits", "again"]
    block = shown.layout["type"]["properties"]["body"]["type"]["properties"]
    view = block["findings_block"]["type"]["properties"]["findings"]["view"]
    assert view["component"] == "SfamFindings"
    assert (view["run"], view["uid"]) == ("sfam", audited.config.uid)
    assert view["ask"].endswith("/sfam_audit#ask")
    assert view["mark"].endswith("/sfam_audit#on_mark")
    searched = view["searched"]
    find_suspects(audited, min_score=0.2)
    shown.do("on_load")
    assert shown.block("findings")["settings"]["searched"] != searched


# --------------------------------------------------------------------------------------
# The panel itself
# --------------------------------------------------------------------------------------


def test_what_is_open_is_named_and_closed(run: Run) -> None:
    shown = Shown(run.dataset)
    shown.do("on_mark", mark="false_matches", path="")
    assert "false matches at rank 1" in shown.text()
    shown.do("on_all")
    assert [name for name, _ in shown.asked] == ["clear_view"]
    assert "false matches at rank 1" not in shown.text()


def test_nothing_is_stored_for_the_panel_of_pairs(run: Run) -> None:
    shown = Shown(run.dataset)
    before = shown.ctx.store("any").list_stores()
    shown.do("on_mark", mark="false_matches", path="")
    assert shown.handed is not None
    assert shown.ctx.store("any").list_stores() == before


def test_no_more_than_some_thousand_are_opened(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fiftyone_sfam.app.audit import panel as sfam_audit

    monkeypatch.setattr(sfam_audit, "MOST_OPENED", 5)
    shown = Shown(run.dataset)
    shown.click("cmc", idx=0, trace_idx=0)
    wanted = rank1(run, TRUE_MATCH)
    assert len(wanted) > 5
    title = f"nearest true match at rank 1 (the first 5 of {len(wanted)})"
    shown.assert_open(run, wanted[:5], title)
    assert len(shown.view) == 5


def test_choices_last_until_another_dataset(run: Run, audited: Run) -> None:
    shown = Shown(run.dataset, "scores")
    shown.do("on_choice", path="body.threshold_block.threshold", value=0.9)
    shown.do("on_mark", mark="false_matches", path="")
    # The App sends this, too, when the panel comes back from behind another one.
    shown.do("on_change_dataset")
    assert shown.block("threshold")["value"] == 0.9
    assert shown.state["selection"]["title"] == "false matches at rank 1"
    shown.dataset = audited.dataset
    shown.do("on_change_dataset")
    figures = overview(audited)
    assert shown.block("threshold")["value"] == figures.equal_error_threshold
    assert shown.state["selection"] is None


def test_a_tab_is_shown_once(run: Run) -> None:
    shown = Shown(run.dataset)
    shown.do("on_tab", path="tab", value="overview")
    assert [name for name, _ in requests(shown.ctx)] == ["show_panel_output"]
    shown.do("on_tab", path="tab", value="matches")
    assert shown.blocks == ["cameras", "identities"]


def test_another_run(tiny_world: World) -> None:
    dataset = tiny_world()
    first = explain(dataset, key="first")
    second = explain(dataset, Protocol("split"), key="second")
    assert first.config.counts["false match"] != second.config.counts["false match"]
    shown = Shown(dataset)
    assert shown.state["run"] == "first"
    shown.do("on_run", path="controls.run_choice", value="second")
    cards = {card["label"]: card["value"] for card in shown.block("cards")["cards"]}
    assert cards["False matches"] == str(second.config.counts["false match"])


def test_results_are_read_again_when_they_change(tiny_world: World) -> None:
    dataset = tiny_world()
    run = explain(dataset)
    assert run.results.blob_of("evaluation") is None
    assert stored(run, load_evaluation) is None
    evaluate_retrieval(run, slices=["camera"])
    first = stored(run, load_evaluation)
    assert stored(run, load_evaluation) is first
    evaluate_retrieval(run, slices=["split"])
    second = stored(run, load_evaluation)
    assert list(second.slices) == ["split"]


def test_results_of_another_process(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in the App's server: every loading of a dataset is an object of its own.
    monkeypatch.setattr(fo.config, "singleton_cache", False)
    dataset = tiny_world()
    explain(dataset)
    shown = Shown(dataset, "regions")
    assert shown.blocks == ["no_ledger", "explain"]
    for stripes in (3, 4):
        elsewhere = load_run(fo.load_dataset(dataset.name), "sfam")
        build_ledger(elsewhere, stripes=stripes)
        shown.do("on_load")
        assert len(shown.content("shares")[0]["x"]) == stripes + 1


def test_a_run_that_was_deleted_meanwhile(tiny_world: World) -> None:
    dataset = tiny_world()
    explain(dataset)
    shown = Shown(dataset)
    delete_run(dataset, "sfam")
    shown.do("on_mark", mark="false_matches", path="")
    assert shown.asked == []
    assert "No explained run yet" in shown.text()


def test_results_that_were_deleted_meanwhile(tiny_world: World) -> None:
    dataset = tiny_world()
    run = explain(dataset)
    build_ledger(run)
    shown = Shown(dataset, "regions")
    assert "horizontal stripes" in shown.block("source")["markdown"]
    run.results.delete("regions")
    shown.click("shares", trace_idx=0, idx=0)
    [(name, given)] = shown.asked
    assert name == "notify"
    assert given["variant"] == "error"
    assert given["message"].startswith("the result 'regions' of the run 'sfam' is")


def test_rows_that_are_gone_meanwhile(audited: Run) -> None:
    shown = Shown(audited.dataset)
    shown.click("slice_rows", row=1000)
    [(name, given)] = shown.asked
    assert (name, given["variant"]) == ("notify", "error")
    assert given["message"].startswith("what was clicked has changed meanwhile")
    with pytest.raises(DataError, match="nothing behind 'elsewhere'"):
        open_mark(audited, "elsewhere", {}, Choices())
    with pytest.raises(DataError, match="no page 'elsewhere'"):
        page_of(audited, Choices(page="elsewhere"))


def test_without_a_run_it_offers_the_operator(
    make_dataset: Callable[..., fo.Dataset],
) -> None:
    shown = Shown(make_dataset())
    assert "No explained run yet" in shown.text()
    shown.do("on_explain")
    [(name, given)] = shown.asked
    assert name == "prompt_user_for_operation"
    assert given["operator_uri"] == f"{PLUGIN}/explain_retrieval"


def test_a_large_run_offers_the_evaluation(
    tiny_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = tiny_world()
    run = explain(dataset)
    monkeypatch.setattr(audit_page_overview, "LARGE_PAIRS", 12 * 12)
    shown = Shown(dataset)
    assert shown.blocks == ["cards", "maps", "unevaluated", "evaluate"]
    assert "144 pairs" in shown.block("unevaluated")["markdown"]
    labels = [card["label"] for card in shown.block("cards")["cards"]]
    reviewed = f"Reviewed of {len(run.pairs)}"
    assert labels == ["Rank-1", "False matches", reviewed, "Queries"]
    assert "overview" not in run.store.names()
    evaluate_retrieval(run)
    shown.do("on_load")
    assert "cmc" in shown.blocks


def test_opening_does_not_read_the_pairs(tiny_world: World) -> None:
    """So that it takes as long for many neighbors as for few."""
    dataset = tiny_world()
    evaluate_retrieval(explain(dataset))
    overview(load_run(dataset, "sfam"))
    shown = Shown(dataset)
    assert "cmc" in shown.blocks
    shown_run = current_run(dataset, "sfam")
    assert shown_run is not None
    assert "_pairs" not in vars(shown_run)
    assert len(shown_run.pairs) == shown_run.num_pairs
    assert "_pairs" in vars(shown_run)


# --------------------------------------------------------------------------------------
# Data that lacks something
# --------------------------------------------------------------------------------------


def test_unlabeled_images(tiny_world: World) -> None:
    dataset = tiny_world()
    run = explain(dataset, Protocol())
    shown = Shown(dataset)
    cards = {card["label"]: card["value"] for card in shown.block("cards")["cards"]}
    assert cards["Rank-1"] == cards["mAP"] == cards["Equal error"] == "unknown"
    assert cards["False matches"] == "0"
    for page, name in (("overview", "no_labels"), ("scores", "no_labels")):
        shown.do("on_tab", path="tab", value=page)
        assert "make a run with an identity field" in shown.block(name)["markdown"]
    shown.do("on_tab", path="tab", value="matches")
    assert "identity field" in shown.block("none")["markdown"]
    build_ledger(run)
    shown.do("on_tab", path="tab", value="regions")
    assert [trace["name"] for trace in shown.content("scatter")] == ["unlabeled"]
    shown.click("scatter", trace_idx=0, idx=5)
    assert len(shown.pairs) == 1


def test_without_cameras_and_with_one(tiny_world: World) -> None:
    dataset = tiny_world()
    explain(dataset, Protocol("identity"))
    assert Shown(dataset, "matches").blocks == ["identities"]
    dataset.set_values("camera", ["only"] * len(dataset))
    rules = Protocol("identity", camera_field="camera", exclude_same_camera=False)
    run = explain(dataset, rules, overwrite=True)
    shown = Shown(dataset, "matches")
    assert shown.content("cameras")[0]["z"] == [[len(rank1(run, FALSE_MATCH))]]


def test_without_false_matches(tiny_world: World) -> None:
    dataset = tiny_world(wrong=())
    run = explain(dataset)
    assert run.config.counts["false match"] == 0
    shown = Shown(dataset)
    (card,) = [
        c for c in shown.block("cards")["cards"] if c["label"] == "False matches"
    ]
    assert (card["value"], card["mark"]) == ("0", "")
    shown.do("on_tab", path="tab", value="matches")
    assert shown.block("none")["markdown"] == "Every first neighbor is a true match."
    shown.do("on_tab", path="tab", value="scores")
    shown.do("on_mark", mark="accepted", path="")
    assert shown.handed is None
    told = {"message": "No stored pair is behind this mark.", "variant": "info"}
    assert shown.asked == [("notify", told)]


def test_detections_open_their_frames(
    make_dataset: Callable[..., fo.Dataset], tmp_path: Path
) -> None:
    dataset = fill_frames(make_dataset("audit"), tmp_path)
    explain(dataset, Protocol("label"), patches_field="people")
    shown = Shown(dataset)
    shown.do("on_mark", mark="worst", path="")
    assert len(shown.pairs) == 12
    assert sorted(shown.view) == sorted(dataset.values("id"))
    shown.do("on_tab", path="tab", value="matches")
    assert shown.blocks == ["none"]


HOSTILE = (
    "<script>alert('1')</script>",
    '"><img src=x onerror=alert(1)>',
    "[a](javascript:alert(1)) **b** $x$",
    "عربي ועברית",
    "long " * 2000,
    "{{7*7}} %{x} \n# title",
)


def test_names_are_text_and_nothing_else(tiny_world: World) -> None:
    dataset = tiny_world()
    place = {name: n for n, name in enumerate(sorted({*dataset.values("identity")}))}
    for field in ("identity", "camera"):
        old = dataset.values(field)
        codes = [place.setdefault(one, len(place)) % len(HOSTILE) for one in old]
        dataset.set_values(field, [HOSTILE[code] for code in codes])
    run = explain(dataset)
    evaluate_retrieval(run, slices=["camera"], pair_slices=["camera"])
    build_ledger(run, by=["identity"])
    find_shortcuts(run)
    find_suspects(run, min_score=0.2)
    shown = Shown(dataset)
    for page in ("overview", "scores", "matches", "regions", "suspects"):
        shown.do("on_tab", path="tab", value=page)
        for block in shown.state["blocks"]:
            if block["kind"] == "plot":
                traces = shown.content(block["name"])
                drawn = json.dumps([block["layout"], traces], ensure_ascii=False)
                assert "<script" not in drawn
                assert "<img" not in drawn
            if block["kind"] == "text":
                assert "](" not in block["markdown"]
                assert "<" not in block["markdown"].replace("\\<", "")
        assert len(json.dumps(shown.state)) < 60_000
    shown.do("on_tab", path="tab", value="matches")
    for row in range(len(shown.content("identities")[0]["x"])):
        shown.click("identities", idx=row, trace_idx=0)
        assert len(shown.state["selection"]["title"]) < 80
        controls = shown.layout["type"]["properties"]["controls"]["type"]["properties"]
        text = controls["selection_text"]["default"]
        assert "<" not in text.replace("\\<", "")
        assert "](" not in text
        assert "\n" not in text
