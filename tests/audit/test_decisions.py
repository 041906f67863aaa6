"""Accepted and rejected pairs at a threshold, and why."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import fiftyone as fo
import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from fiftyone_sfam import (
    Protocol,
    decide_pairs,
    evaluate_retrieval,
    explain_pair,
    explain_pairs,
    explain_retrieval,
    load_decisions,
    load_run,
    write_report,
)
from fiftyone_sfam.app.pairs.queue import ANY_OUTCOME, Spec, build_queue
from fiftyone_sfam.attribution.render import (
    data_url,
    fitted,
    overlay,
    shared_range,
)
from fiftyone_sfam.audit.decisions import (
    DECISIONS,
    decisions_sentence,
    decisions_table,
    similarity_at,
)
from fiftyone_sfam.audit.report.decisions import computed_maps, examples, stored_maps
from fiftyone_sfam.audit.report.pictures import BOX, OPACITY
from fiftyone_sfam.audit.report.summary import highlights, load_results
from fiftyone_sfam.audit.report.write import make_report, render
from fiftyone_sfam.cli import main
from fiftyone_sfam.errors import DataError, ModelError
from fiftyone_sfam.retrieval.pairs import TRUE_MATCH
from fiftyone_sfam.runs.run import Run
from pairs_component import PairsComponent, decode
from report_support import Page
from worlds import tiny_model


@pytest.fixture
def run(world: fo.Dataset) -> Run:
    # Two pairs of labels are swapped, so that there are errors of both kinds.
    names = world.values("identity")
    names[0], names[3], names[6], names[9] = names[3], names[0], names[9], names[6]
    world.set_values("identity", [*names[:11], None])
    return explain_retrieval(
        world, tiny_model(), k=4, protocol=Protocol("identity"), contributions="float16"
    )


def outcome_of(run: Run, pair: int, threshold: float) -> str | None:
    """By the definition, pair by pair."""
    of_pair = run.items.identities
    query, other = of_pair[run.pairs.query[pair]], of_pair[run.pairs.gallery[pair]]
    if query is None or other is None:
        return None
    accepted = run.pairs.similarity[pair] >= threshold
    if query == other:
        return "true accept" if accepted else "false reject"
    return "false accept" if accepted else "true reject"


def test_four_outcomes_at_a_threshold(run: Run) -> None:
    assert load_decisions(run) is None
    middle = float(np.median(run.pairs.similarity))
    found = decide_pairs(run, threshold=middle)
    expected = [outcome_of(run, pair, middle) for pair in range(len(run.pairs))]
    assert set(expected) == {*DECISIONS, None}
    codes = [-1 if one is None else DECISIONS.index(one) for one in expected]
    assert found.outcomes.tolist() == codes
    first = [expected[pair] for pair in np.flatnonzero(run.pairs.rank == 1)]
    assert found.nearest == {name: first.count(name) for name in DECISIONS}
    assert found.every == {name: expected.count(name) for name in DECISIONS}
    assert found.similarities(run).tolist() == [middle] * len(run.pairs)
    # It stays with the run, as a filter of the queue.
    loaded = load_decisions(load_run(run.dataset, run.key))
    assert loaded is not None
    np.testing.assert_array_equal(loaded.outcomes, found.outcomes)
    assert (loaded.threshold, loaded.far) == (middle, None)
    for name in DECISIONS:
        wanted = [pair for pair, one in enumerate(expected) if one == name]
        assert found.pairs(name).tolist() == wanted
        queue = build_queue(run, Spec(outcome=name, ranks="all"))
        assert sorted(queue.tolist()) == wanted
    # Another threshold builds another queue.
    decide_pairs(run, threshold=-1)
    assert len(build_queue(run, Spec(outcome="false reject", ranks="all"))) == 0
    assert set(ANY_OUTCOME) > set(DECISIONS)


def test_a_threshold_at_a_false_accept_rate(run: Run) -> None:
    with pytest.raises(DataError, match="needs the evaluation of the run 'sfam'"):
        decide_pairs(run, far=0.1)
    scores = evaluate_retrieval(run).verification
    found = decide_pairs(run, far=0.1)
    assert (found.threshold, found.far) == (scores.threshold_for(0.1), 0.1)
    # Over all pairs of labeled images, no more than a tenth of the impostors passes.
    vectors = run.embeddings().astype(np.float64)[:11]
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    near = np.round(vectors @ vectors.T, 12)
    names = run.items.identities
    impostors = [
        near[i, j] for i in range(11) for j in range(i) if names[i] != names[j]
    ]
    assert 0 < np.mean(np.array(impostors) >= found.threshold) <= 0.1
    with pytest.raises(DataError, match="accepts so few impostors"):
        decide_pairs(run, far=1e-9)


def test_a_given_list_is_decided_by_its_own_pairs(world: fo.Dataset) -> None:
    paths = world.values("filepath")
    listed = [
        (paths[i], paths[j], "same" if (i + j) % 3 == 0 else "different")
        for i in range(6)
        for j in range(i + 1, 9)
    ]
    run = explain_pairs(world, tiny_model(), listed)
    same = run.pairs.outcome == TRUE_MATCH
    scores = np.round(run.pairs.similarity, 12)
    found = decide_pairs(run, far=0.2)
    # The least score of a pair that at most a fifth of the different pairs reaches.
    impostors = scores[~same]
    enough = [t for t in scores if np.mean(impostors >= t) <= 0.2]
    assert found.threshold == min(enough)
    accepted = scores >= found.threshold
    assert found.nearest is None
    assert found.every == {
        "true accept": np.count_nonzero(accepted & same),
        "false reject": np.count_nonzero(~accepted & same),
        "false accept": np.count_nonzero(accepted & ~same),
        "true reject": np.count_nonzero(~accepted & ~same),
    }
    assert len(decisions_table(found).head) == 3
    assert ": of the pairs of the list, " in decisions_sentence(found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give either a threshold or a false accept rate"),
        ({"threshold": 0.5, "far": 0.1}, "give either"),
        ({"threshold": float("nan")}, "the threshold is nan; give a finite number"),
        ({"far": 0}, "far is 0; give a rate between 0 and 1"),
    ],
)
def test_what_cannot_be_a_threshold(run: Run, given: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decide_pairs(run, **given)
    assert load_decisions(run) is None
    with pytest.raises(DataError, match="unknown outcome 'accept'; use one of true"):
        decide_pairs(run, threshold=0).pairs("accept")


def test_report_and_command_line_have_the_outcomes(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_report(run, load_results(run)).decisions is None
    found = decide_pairs(run, threshold=0.5)
    results = load_results(run)
    [sentence] = [one for one in highlights(run, results) if "accepted from" in one]
    accepted = found.nearest["true accept"]
    assert f"similarity of 0.500: of the first neighbors, {accepted} true" in sentence
    table = decisions_table(found)
    assert [row[0] for row in table.texts()] == list(DECISIONS)
    assert [int(row[1]) for row in table.texts()] == list(found.nearest.values())
    command = ["decide", run.dataset.name, run.key, "--threshold", "0.5"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(sentence)
    assert re.search(rf"true accept +{accepted} ", printed)
    page = render(make_report(run, results))
    assert "Accepted and rejected at the threshold" in page


def test_the_report_shows_examples_with_their_decision_maps(
    run: Run, tmp_path: Path
) -> None:
    middle = float(np.median(run.pairs.similarity))
    found = decide_pairs(run, threshold=middle)
    files = write_report(run, tmp_path, images=True)
    page = Page(files.page)
    rows = page.table("decisions")
    assert [row["outcome"].text for row in rows] == list(DECISIONS)
    assert [row["all pairs of the run"].value for row in rows] == list(
        found.every.values()
    )
    titles = [one.get_text() for one in page.section("decisions").select("b")]
    assert titles == [name.capitalize() for name in DECISIONS]
    shown = page.section("decisions").select(".pictures")
    scores = np.abs(run.pairs.similarity - middle)
    for name, pictures in zip(DECISIONS, shown, strict=True):
        own = found.pairs(name)
        # Mirrored pairs have the same score, and are shown once.
        order = np.unique(np.round(scores[own], 9))
        if name.startswith("false"):
            order = order[::-1]
        chosen = examples(run, found, name)
        assert len(chosen) == min(4, len(order)) == len(pictures.select("figure"))
        assert set(chosen) <= set(own.tolist())
        np.testing.assert_allclose(scores[chosen], order[: len(chosen)], atol=1e-9)
    # The picture is the image under the signed map of the decision.
    pair = examples(run, found, "false accept")[0]
    largest = []
    for one in examples(run, found, "false accept"):
        ids = (
            run.items.ids[side[one]] for side in (run.pairs.query, run.pairs.gallery)
        )
        sides = run.explain_stored(*map(str, ids)).decision(middle)
        largest += [np.abs(side.evidence).max() for side in sides]
        if one == pair:
            evidence = sides[0].evidence
    sample = run.dataset[str(run.items.sample_ids[run.pairs.query[pair]])]
    with Image.open(sample.filepath) as opened:
        drawn = overlay(
            fitted(opened, *BOX),
            evidence,
            shared_range(np.array(largest)),
            signed=True,
            opacity=OPACITY,
        )
    [image] = page.section("decisions").find_all("img", alt=f"query of pair {pair}")
    assert image["src"] == data_url(drawn)
    assert "red places speak for acceptance" in page.section("decisions").get_text()
    # Without images there are the counts alone.
    bare = Page(write_report(run, tmp_path, overwrite=True).page)
    assert bare.section("decisions").select("img") == []
    assert len(bare.table("decisions")) == 4


def test_pairs_without_contributions_show_the_maps_of_the_run(
    world: fo.Dataset, tmp_path: Path
) -> None:
    run = explain_retrieval(world, tiny_model(), k=2, protocol=Protocol("identity"))
    found = decide_pairs(run, threshold=0.5)
    page = Page(write_report(run, tmp_path, images=True).page).section("decisions")
    shown = [name for name in DECISIONS if found.every[name]]
    assert len(page.select(".pictures")) == len(shown) > 0
    assert "or the model of the run: give it to the report" in page.get_text()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_model_explains_the_decisions_of_a_report(
    world: fo.Dataset, metric: str, tmp_path: Path
) -> None:
    model = tiny_model(metric=metric)
    settings = {"k": 4, "protocol": Protocol("identity")}
    run = explain_retrieval(world, model, **settings)
    kept = explain_retrieval(
        world, model, key="kept", contributions="float16", **settings
    )
    scores = run.pairs.similarity if metric == "cosine" else -run.pairs.distance
    for one in (run, kept):
        decide_pairs(one, threshold=float(np.median(scores)))
    found = load_decisions(run)
    assert found is not None
    pairs = [pair for name in DECISIONS for pair in examples(run, found, name)]
    stored = stored_maps(kept, pairs, found.threshold)
    assert stored is not None
    assert stored_maps(run, pairs, found.threshold) is None
    gone = int(run.pairs.query[pairs[0]])
    os.remove(world[str(run.items.sample_ids[gone])].filepath)
    computed = computed_maps(run, pairs, found, model)
    left = []
    for pair in pairs:
        sides = computed[pair].query, computed[pair].gallery
        if gone in (run.pairs.query[pair], run.pairs.gallery[pair]):
            assert sides == (None, None)
            continue
        left.append(pair)
        for mine, its in zip(
            sides, (stored[pair].query, stored[pair].gallery), strict=True
        ):
            # Up to the bits that contributions are stored in.
            np.testing.assert_allclose(
                mine.maps["decision"], its.maps["decision"], atol=2e-2
            )
            assert mine.score == pytest.approx(its.score, abs=2e-2)
            assert (mine.crop, mine.size) == (its.crop, its.size)
    assert 4 < len(left) < len(pairs)
    with pytest.raises(ModelError, match="are not those that the run 'sfam' was made"):
        write_report(run, tmp_path, images=True, model=tiny_model(1, metric=metric))
    files = write_report(run, tmp_path, images=True, model=model)
    assert "red places speak" in Page(files.page).section("decisions").get_text()


def test_the_table_of_pairs_has_their_decisions(run: Run, tmp_path: Path) -> None:
    with write_report(run, tmp_path).pairs_csv.open(newline="") as stream:
        assert "decision" not in next(csv.reader(stream))
    found = decide_pairs(run, threshold=float(np.median(run.pairs.similarity)))
    expected = [None if c < 0 else DECISIONS[c] for c in found.outcomes]
    assert None in expected
    files = write_report(run, tmp_path, overwrite=True)
    with files.pairs_csv.open(newline="") as stream:
        read = [row["decision"] for row in csv.DictReader(stream)]
    assert read == [one or "" for one in expected]
    assert files.pairs_parquet is not None
    column = pyarrow.parquet.read_table(files.pairs_parquet)["decision"]
    assert column.to_pylist() == expected


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_why_a_pair_is_rejected(world: fo.Dataset, metric: str) -> None:
    model = tiny_model(metric=metric)
    run = explain_retrieval(
        world, model, protocol=Protocol("identity"), contributions="float16"
    )
    scores = run.pairs.similarity if metric == "cosine" else -run.pairs.distance
    threshold = float(np.median(scores))
    found = decide_pairs(run, threshold=threshold)
    rejected = int(found.pairs("true reject")[-1])
    at = float(found.similarities(run)[rejected])
    ends = run.pairs.query[rejected], run.pairs.gallery[rejected]
    files = [world[str(run.items.sample_ids[item])].filepath for item in ends]
    pair = explain_pair(model, *files)
    itself = explain_pair(model, files[0], files[0])
    query, gallery = pair.decision(at)
    # By the definition: the evidence, minus the threshold times that for itself.
    np.testing.assert_allclose(
        query.evidence,
        pair.query.evidence - at * itself.query.evidence,
        atol=1e-5,
    )
    for side in (query, gallery):
        assert side.score == pytest.approx(pair.score - at, abs=1e-5)
        assert side.score < 0
        assert side.evidence.sum() + side.remainder == pytest.approx(side.score)
    stored = run.explain_stored(*(str(run.items.ids[item]) for item in ends))
    np.testing.assert_allclose(
        stored.decision(at)[0].evidence, query.evidence, atol=2e-2
    )


def test_the_panel_filters_by_outcome_and_explains_decisions(run: Run) -> None:
    labels = ("true match", "false match", "unlabeled")
    before = PairsComponent(run.dataset)
    assert tuple(one["name"] for one in before.opened["outcomes"]) == labels
    kinds = before.ask("query", pair=0)["kinds"]
    assert "decision" not in [one["name"] for one in kinds]
    said = before.problem("live", pair=0, kind="decision")
    assert "there is no threshold" in said.lower()
    found = decide_pairs(run, threshold=0.5)
    panel = PairsComponent(run.dataset)
    assert tuple(one["name"] for one in panel.opened["outcomes"]) == labels + DECISIONS
    kinds = panel.ask("query", pair=0)["kinds"]
    [kind] = [one for one in kinds if one["name"] == "decision"]
    assert (kind["signed"], kind["live"]) == (True, True)
    name = max(DECISIONS, key=found.nearest.__getitem__)
    queue, _ = panel.queue(outcome=name)
    assert len(queue) == found.nearest[name] > 0
    # From stored contributions: the model of this run is not registered.
    answer = panel.ask("live", pair=queue[0], kind="decision")
    ends = run.pairs.query[queue[0]], run.pairs.gallery[queue[0]]
    expected = run.explain_stored(*(str(run.items.ids[item]) for item in ends))
    for side, shown in zip(
        expected.decision(0.5), ("query_side", "neighbor_side"), strict=True
    ):
        values = decode(answer[shown]["maps"]["decision"])
        np.testing.assert_allclose(values, side.evidence, atol=1e-3)


def test_similarity_at_a_distance() -> None:
    # Vectors of lengths 3 and 4 at a distance of 5 are at right angles.
    assert similarity_at(-5.0, "euclidean", np.array([25.0])).tolist() == [0.0]
    assert similarity_at(0.3, "cosine", np.array([25.0, 1.0])).tolist() == [0.3, 0.3]
