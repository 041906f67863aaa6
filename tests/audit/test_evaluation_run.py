"""Evaluation of runs: what is stored, written on the queries, and read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from evaluation_support import identify, verify
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval, load_evaluation
from fiftyone_sfam.audit.evaluation.overview import (
    candidates_of,
    compared_pairs,
    overview,
    stored_overview,
)
from fiftyone_sfam.audit.evaluation.slices import NO_VALUE, OVERALL
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.pipeline.manage import delete_run, rename_run
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, TRUE_MATCH
from fiftyone_sfam.runs.run import Run, load_run
from worlds import mislabel, small_crops, small_frames

PROTOCOL = Protocol("identity", camera_field="camera", distractors=("p001",))


@pytest.fixture(scope="module")
def crops(crops: fo.Dataset) -> fo.Dataset:
    """Crops with wrong labels, a numeric attribute, and one without a label."""
    wrong: list[str | None] = [*mislabel(crops, 5)]
    wrong[3] = None
    crops.set_values("identity", wrong)
    crops.set_values("sharpness", [place / 8 for place in range(len(wrong))])
    crops.set_values("hat", [[None, "cap", "hood"][n % 3] for n in range(len(wrong))])
    explain_retrieval(crops, "demo", k=3, protocol=PROTOCOL)
    return crops


@pytest.fixture
def run(crops: fo.Dataset) -> Iterator[Run]:
    """The run without an evaluation."""
    run = load_run(crops, "sfam")
    yield run
    run.results.delete_all()
    run.store.delete_one("overview")


def test_figures_are_those_of_the_library(run: Run) -> None:
    assert load_evaluation(run) is None
    found = evaluate_retrieval(run, resamples=50)
    candidates = candidates_of(run)
    ranked = identify(run.embeddings(), candidates, PROTOCOL)
    scores = verify(run.embeddings(), candidates, PROTOCOL)
    assert np.array_equal(found.identification.first_match, ranked.first_match)
    assert found.verification.auc == pytest.approx(scores.auc, abs=1e-12)
    assert found.verification.equal_error == scores.equal_error()[0]
    assert found.verification.genuine_pairs == len(scores.genuine)
    assert found.overall.value == OVERALL
    assert found.overall.queries == len(ranked.query)
    assert found.overall.rank1.value == (ranked.first_match == 1).mean()
    assert found.overall.equal_error.value == found.verification.equal_error
    assert found.overall.rank1.low < found.overall.rank1.value
    # The query without a label is none of the slice.
    assert len(found.overall.items) == run.items.is_query.sum() - 1
    assert 0.3 < found.overall.rank1.value < 1


def test_it_is_stored_and_read_again(run: Run) -> None:
    found = evaluate_retrieval(
        run, slices=["hat"], pair_slices=["camera"], fars=(0.1, 0.001), resamples=20
    )
    assert repr(load_evaluation(load_run(run.dataset, "sfam"))) == repr(found)
    assert found.score_name == "similarity"
    assert [point.far for point in found.verification.operating] == [0.1, 0.001]
    assert "sfam_evaluation" in run.dataset.list_runs()
    again = evaluate_retrieval(run, cameras="all", resamples=20, seed=3)
    assert (again.cameras, again.seed, again.slices) == ("all", 3, {})
    more = again.verification.genuine_pairs - found.verification.genuine_pairs
    identities, cameras = run.items.identities, run.items.cameras
    queries = run.items.is_query
    assert more == sum(
        identities[a] == identities[b]
        and identities[a] not in (None, "p001")
        and cameras[a] == cameras[b]
        and bool(queries[a] and queries[b])
        for a in range(len(identities))
        for b in range(a)
    )


def test_queries_get_their_measures(run: Run) -> None:
    found = evaluate_retrieval(run, resamples=5).identification
    precision = dict(zip(found.query.tolist(), found.average_precision, strict=True))
    first = dict(zip(found.query.tolist(), found.first_match.tolist(), strict=True))
    ids, ap, rank = run.dataset.values(["id", "sfam_ap", "sfam_first_match"])
    for sample_id, one, other in zip(ids, ap, rank, strict=True):
        item = run.items.index(sample_id)
        assert one == precision.get(item)
        assert other == first.get(item)
    # No query, and so no measure: unlabeled, and distractors.
    assert ap.count(None) == len(ids) - len(found.query) == 6
    assert isinstance(run.dataset.get_field("sfam_ap"), fo.FloatField)
    assert isinstance(run.dataset.get_field("sfam_first_match"), fo.IntField)


def test_slices_by_fields(run: Run, crops: fo.Dataset) -> None:
    found = evaluate_retrieval(
        run,
        slices=["hat", "camera", "identity", "tags", "sharpness"],
        pair_slices=["camera"],
        resamples=20,
    )
    ranked = found.identification
    hats = dict(zip(*crops.values(["id", "hat"]), strict=True))
    hat_rows = {row.value: row for row in found.slices["hat"]}
    assert set(hat_rows) == {"cap", "hood", NO_VALUE}
    for value, row in hat_rows.items():
        own = {
            sample_id for sample_id, hat in hats.items() if (hat or NO_VALUE) == value
        }
        assert {str(run.items.sample_ids[item]) for item in row.items} <= own
        chosen = np.isin(ranked.query, row.items)
        assert row.rank1.value == (ranked.first_match[chosen] == 1).mean()
    for field in ("hat", "camera", "identity", "sharpness"):
        rows = found.slices[field]
        assert sum(len(row.items) for row in rows) == len(found.overall.items)
        assert sum(row.genuine for row in rows) == found.overall.genuine
    # A sample has its split and what it was made with as tags.
    assert len(found.slices["tags"]) >= 2
    assert len(found.slices["sharpness"]) == 4
    assert {row.value for row in found.slices["camera"]} == set(run.items.cameras)
    pairs = found.pair_slices["camera"]
    assert sum(row.genuine for row in pairs) == found.overall.genuine


def test_a_view_over_fields_of_another_origin_is_refused(run: Run) -> None:
    run.dataset.add_sample_field("sfam_ap", fo.FloatField)
    with pytest.raises(RunError, match="field 'sfam_ap' that does not belong"):
        evaluate_retrieval(run)
    assert load_evaluation(run) is None
    run.dataset.delete_sample_field("sfam_ap")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slices": ["nose"]}, "no slice field 'nose'"),
        ({"slices": ["filepath", "person_mask"]}, "slice field 'person_mask'"),
        ({"slices": "hat"}, "slices is the text 'hat'"),
        ({"pair_slices": "hat"}, "pair_slices is the text 'hat'"),
        ({"fars": [2.0]}, "rate 2.0 is out of range"),
        ({"cameras": "some"}, "unknown camera rule 'some'"),
        ({"resamples": 0}, "draw at least once"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Run, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_retrieval(run, **settings)
    assert load_evaluation(run) is None
    assert run.dataset.get_field("sfam_ap") is None


def test_it_reports_its_progress(run: Run) -> None:
    seen: list[tuple[int, int, str]] = []
    evaluate_retrieval(
        run,
        slices=["hat"],
        pair_slices=["hat"],
        resamples=5,
        progress=lambda done, total, phase: seen.append((done, total, phase)),
    )
    queries = int(run.items.is_query.sum())
    phases = list(dict.fromkeys(phase for _, _, phase in seen))
    assert phases == [
        "ranking",
        "verifying",
        "slicing",
        "comparing pairs of hat",
    ]
    assert (queries, queries, "verifying") in seen
    assert max(done for done, _, _ in seen) == queries


# --------------------------------------------------------------------------------------
# The overview
# --------------------------------------------------------------------------------------


def test_the_overview_is_stored_with_it(run: Run) -> None:
    assert stored_overview(run) is None
    assert compared_pairs(run) == run.items.is_query.sum() * run.items.is_gallery.sum()
    found = evaluate_retrieval(run, resamples=5)
    stored = stored_overview(run)
    assert stored is not None
    assert stored.auc == found.verification.auc
    assert np.array_equal(stored.genuine, found.verification.genuine)
    assert np.array_equal(
        stored.identification.first_match, found.identification.first_match
    )
    run.store.delete_one("overview")
    computed = overview(load_run(run.dataset, "sfam"))
    assert repr(computed) == repr(stored)


def test_the_overview_keeps_to_the_protocol(run: Run) -> None:
    found = evaluate_retrieval(run, cameras="all", resamples=5)
    stored = stored_overview(run)
    assert stored is not None
    scores = verify(run.embeddings(), candidates_of(run), PROTOCOL)
    assert stored.auc == pytest.approx(scores.auc, abs=1e-12)
    assert found.verification.genuine_pairs > stored.genuine.sum()


def test_average_evidence_is_that_of_the_first_pairs(run: Run) -> None:
    evidence = overview(run).evidence
    assert evidence is not None
    for outcome in (TRUE_MATCH, FALSE_MATCH):
        pairs = np.flatnonzero((run.pairs.rank == 1) & (run.pairs.outcome == outcome))
        maps = [one.query.maps["evidence"] for one in run.many_maps(pairs)]
        assert evidence[outcome] == pytest.approx(np.mean(maps, axis=0), abs=1e-6)


# --------------------------------------------------------------------------------------
# With the run
# --------------------------------------------------------------------------------------


def test_it_goes_with_the_run(tmp_path: Path) -> None:
    dataset = small_crops(tmp_path)
    run = explain_retrieval(dataset, "demo", key="one", k=2, protocol=PROTOCOL)
    found = evaluate_retrieval(run, slices=["camera"], resamples=5)
    rename_run(dataset, "one", "two")
    renamed = load_evaluation(load_run(dataset, "two"))
    assert repr(renamed) == repr(found)
    assert dataset.get_field("one_ap") is None
    assert dataset.count("two_ap") == len(found.identification.query)
    delete_run(dataset, "two")
    assert not {"two_ap", "two_first_match"} & set(dataset.get_field_schema())
    assert dataset.list_runs() == []
    dataset.delete()


def test_a_run_without_identities_is_refused(tmp_path: Path) -> None:
    dataset = small_crops(tmp_path)
    run = explain_retrieval(dataset, "demo", k=2)
    with pytest.raises(DataError, match="no image of the run 'sfam' has an identity"):
        evaluate_retrieval(run)
    # The overview still shows what there is.
    assert len(overview(run).identification.query) == 0
    dataset.delete()


def test_detections_get_their_measures(tmp_path: Path) -> None:
    dataset = small_frames(tmp_path)
    path = dataset.get_field_schema(ftype=fo.EmbeddedDocumentField)
    field = next(
        name for name, one in path.items() if one.document_type is fo.Detections
    )
    dataset.set_values("place", ["hall", "yard"] * (len(dataset) // 2))
    protocol = Protocol("identity")
    run = explain_retrieval(
        dataset, "demo", k=2, protocol=protocol, patches_field=field
    )
    assert run.items.label_ids is not None
    gone = str(run.items.label_ids[0])
    frame = dataset[str(run.items.sample_ids[0])]
    frame[field].detections = [one for one in frame[field].detections if one.id != gone]
    frame.save()
    found = evaluate_retrieval(run, slices=["identity", "place"], resamples=5)
    measured = dict(
        zip(
            run.items.label_ids[found.identification.query].tolist(),
            found.identification.average_precision.tolist(),
            strict=True,
        )
    )
    written = {
        one.id: one["sfam_ap"] for row in dataset for one in row[field].detections
    }
    assert written == {one: measured.get(one) for one in written}
    assert gone in measured
    assert gone not in written
    assert {row.value for row in found.slices["place"]} == {"hall", "yard"}
    assert {row.value for row in found.slices["identity"]} == set(run.items.identities)
    delete_run(dataset, "sfam")
    assert dataset.get_field(f"{field}.detections.sfam_ap") is None
    dataset.delete()
