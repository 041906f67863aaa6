"""Rules of a protocol, from the fields of a dataset to the figures of a run."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import Protocol, Within, explain_retrieval, load_run
from fiftyone_sfam.audit.evaluation.display import measures_table
from fiftyone_sfam.audit.evaluation.evaluate import evaluate_retrieval, load_evaluation
from fiftyone_sfam.audit.evaluation.overview import candidates_of, overview
from fiftyone_sfam.data.items import collect_items
from fiftyone_sfam.errors import DataError, ProtocolWarning
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import record_run
from worlds import REID, fill, fill_frames, tiny_model


def explain(samples: fo.Dataset, protocol: Protocol, **options: Any) -> Run:
    return explain_retrieval(
        samples, tiny_model(), protocol=protocol, **{"k": 12, **options}
    )


def pairs_of(run: Run) -> set[tuple[int, int]]:
    return set(zip(run.pairs.query.tolist(), run.pairs.gallery.tolist(), strict=True))


def test_rules_of_fields_days_and_spans(world: fo.Dataset) -> None:
    clothes = ["red", "blue", None] * 4
    start = datetime(2024, 5, 31, 20)
    times = [start + timedelta(hours=2 * n) for n in range(12)]
    world.set_values("clothes", clothes)
    world.add_sample_field("day", fo.DateField)
    world.set_values("day", [date(2024, 5, 1 + n // 4) for n in range(12)])
    world.set_values("time", times)
    identities = world.values("identity")
    rules = [("identity", "clothes"), ("day", "clothes"), (Within("time", hours=2),)]
    run = explain(world, Protocol("identity", exclude=rules))

    def left_out(query: int, other: int) -> bool:
        dressed = clothes[query] is not None and clothes[query] == clothes[other]
        return (
            query == other
            or (dressed and identities[query] == identities[other])
            or (dressed and query // 4 == other // 4)
            or abs(times[query] - times[other]) <= timedelta(hours=2)
        )

    every = [(q, o) for q in range(12) for o in range(12) if not left_out(q, o)]
    assert pairs_of(run) == set(every)
    # The rules are stored with the run, and what they compare.
    loaded = load_run(world, "sfam")
    assert Protocol.from_dict(loaded.config.protocol).exclude == tuple(rules)
    out = candidates_of(loaded).left_out(np.arange(12), Protocol())
    assert (~out).sum() == len(every)
    # A run after other clothes were entered is not taken for the same one.
    world.set_values("clothes", ["red"] * 12)
    again = explain(world, Protocol("identity", exclude=rules), overwrite=True)
    assert again.config.fingerprint != loaded.config.fingerprint


def test_dates_as_text_and_values_that_are_none(world: fo.Dataset) -> None:
    texts = ["2024-05-31", "2024-05-31T12:00:00Z", "2024-06-02", None] * 3
    world.set_values("when", texts)
    rules = Protocol("identity", exclude=[(Within("when", hours=12),)])
    terms = collect_items(world, rules).terms["when:12h"]
    hours = (terms[:3] - terms[0]) / 3.6e9
    assert hours.tolist() == [0, 12, 48]
    world.set_values("when", ["yesterday"] * 12)
    with pytest.raises(DataError, match="has the value 'yesterday', which is not a"):
        collect_items(world, rules)
    with pytest.raises(DataError, match="has no rule field 'clothes'"):
        collect_items(world, Protocol(exclude=[("clothes",)]))


def test_images_may_be_both_query_and_gallery(world: fo.Dataset) -> None:
    world.set_values("probe", [n < 4 for n in range(12)])
    world.set_values("kept", [None if n == 0 else n % 2 == 0 for n in range(12)])
    run = explain(world, Protocol(query_field="probe", gallery_field="kept"))
    gallery = [2, 4, 6, 8, 10]
    assert pairs_of(run) == {(q, g) for q in range(4) for g in gallery if q != g}
    # Without a gallery field, everything is in the gallery.
    run = explain(world, Protocol(query_field="probe"), overwrite=True)
    assert len(run.pairs) == 4 * 11
    with pytest.raises(DataError, match="has the value 'c0'; a boolean field is need"):
        collect_items(world, Protocol(query_field="camera"))
    world.set_values("probe", [False] * 12)
    with pytest.raises(DataError, match="'probe' is true for none of the 12 images"):
        collect_items(world, Protocol(query_field="probe"))


def test_rules_of_detections(dataset: fo.Dataset, tmp_path: Any) -> None:
    frames = fill_frames(dataset, tmp_path)
    # The camera is an attribute of the detections, the site a field of the frame.
    rules = Protocol("label", exclude=[("label", "camera"), ("site",)])
    run = explain(frames, rules, patches_field="people")
    frame = np.repeat(np.arange(4), 3)
    for query, other in pairs_of(run):
        assert frame[query] % 2 != frame[other] % 2
    assert len(run.pairs) == 12 * 6


@pytest.mark.parametrize("kind", [int, float, str])
def test_values_are_compared_as_the_field_has_them(
    dataset: fo.Dataset, tmp_path: Any, kind: type
) -> None:
    fill(dataset, tmp_path, identities=4, shots=3)
    names = [kind(name) for name in (-1, 0, 7, 12) for _ in range(3)]
    dataset.set_values("pid", names)
    right = Protocol("pid", junk=[-1], distractors=[0])
    expected = explain(dataset, right)
    pairs, summary = pairs_of(expected), expected.summary()
    assert summary["queries"] == 6
    spelled = [("-1", "0"), (-1.0, 0.0)]
    if kind is not str:
        spelled += [("-1.0", "0000"), (-1, "-0")]
    for junk, distractor in spelled:
        rules = Protocol("pid", junk=[junk], distractors=[distractor])
        run = explain(dataset, rules, overwrite=True)
        # The record has the values of the field, whatever was given.
        assert run.config.protocol == right.to_dict()
        assert pairs_of(run) == pairs
        assert run.summary() == summary


def test_one_rank_1_everywhere(world: fo.Dataset) -> None:
    # p0 is always alone: of the 12 queries, 9 have a match to find, and the images
    # without an identity count nowhere.
    identities = world.values("identity")
    identities[1:3] = "alone", None
    world.set_values("identity", identities)
    run = explain(world, REID, k=2)
    summary = run.summary()
    assert (summary["without match"], summary["with match"]) == (2, 9)
    assert summary["unlabeled"] == 1 + int(
        np.isin(run.pairs.gallery[run.pairs.rank == 1], 2).sum()
        - np.isin(
            run.pairs.gallery[(run.pairs.rank == 1) & (run.pairs.query < 2)], 2
        ).sum()
    )
    evaluation = evaluate_retrieval(run)
    assert evaluation.identification.without_match == 2
    rank1 = evaluation.overall.rank1.value
    assert summary["rank1"] == rank1 == overview(run).identification.cmc(1)[0]
    # A record of an earlier version has no queries without match: they are recounted.
    counts = dict(run.config.counts)
    del counts["without match"], counts["with match"]
    counts["false match"] += 2
    record_run(world, "sfam", replace(run.config, counts=counts))
    assert load_run(world, "sfam").summary() == summary


def test_one_camera_is_said_before_the_run_and_in_the_summary(
    world: fo.Dataset,
) -> None:
    world.set_values("camera", ["c"] * 12)
    with pytest.warns(ProtocolWarning, match="identity,camera.* leaves out every true"):
        run = explain(world, REID)
    summary = load_run(world, "sfam").summary()
    assert (summary["false match"], summary["without match"]) == (0, 12)
    assert summary["rank1"] is None
    [text] = summary["warnings"]
    assert "leaves out every true match of all 12 labeled queries" in text
    assert evaluate_retrieval(run).identification.without_match == 12


def test_rules_that_leave_nothing_are_refused_before_the_network_runs(
    world: fo.Dataset,
) -> None:
    world.set_values("place", ["here"] * 12)
    rules = Protocol("identity", exclude=[("place",)])
    with pytest.raises(
        DataError, match="the rule \u2068place\u2069 leaves out every gallery"
    ):
        explain_retrieval(world, tiny_model(), protocol=rules)
    assert world.list_runs() == []


def test_random_galleries_are_stored_and_shown(world: fo.Dataset) -> None:
    rules = Protocol("identity", gallery_shots=1, draws=5, seed=3)
    evaluation = evaluate_retrieval(explain(world, rules))
    found = evaluation.galleries
    assert found is not None
    assert (found.shots, found.seed, found.cmc.shape) == (1, 3, (5, 20))
    # With one image per identity, the match has a rank from 1 to 4.
    assert (found.cmc[:, 3] == 1).all()
    loaded = load_evaluation(load_run(world, "sfam"))
    assert loaded is not None
    assert loaded.galleries is not None
    np.testing.assert_array_equal(loaded.galleries.cmc, found.cmc)
    rows = dict(measures_table(loaded).texts())
    title = "rank-1 with 1 gallery image per identity (mean of 5 draws)"
    assert rows[title] == f"{100 * found.cmc[:, 0].mean():.1f} %"
    assert evaluate_retrieval(explain(world, REID, overwrite=True)).galleries is None


def test_galleries_are_drawn_per_identity_and_another_field(world: fo.Dataset) -> None:
    # Three people under each name, the second of them in another coat.
    world.set_values("identity", [f"p{number % 4}" for number in range(12)])
    world.set_values("coat", ["red"] * 4 + ["blue"] * 4 + ["red"] * 4)
    per = ("identity", "coat")
    rules = Protocol("identity", gallery_shots=1, gallery_per=per, draws=5)
    run = explain(world, rules)
    assert Protocol.from_dict(load_run(world, "sfam").config.protocol) == rules
    found = evaluate_retrieval(run).galleries
    loaded = load_evaluation(run)
    assert found is not None
    assert loaded is not None
    assert loaded.galleries is not None
    assert loaded.galleries.per == found.per == per
    np.testing.assert_array_equal(loaded.galleries.cmc, found.cmc)
    # One image of each coat is more to confuse with than one of each identity.
    fewer = replace(rules, gallery_per=())
    other = evaluate_retrieval(explain(world, fewer, overwrite=True)).galleries
    assert other is not None
    assert found.cmc[:, 2].mean() < other.cmc[:, 2].mean()
    rows = dict(measures_table(loaded).texts())
    title = "mAP with 1 gallery image per identity and coat (mean of 5 draws)"
    mean = found.mean_average_precision.mean()
    assert rows[title] == f"{100 * mean:.1f} %"
    gone = replace(rules, gallery_per=("identity", "hat"))
    with pytest.raises(DataError, match="has no rule field 'hat'"):
        explain(world, gone, overwrite=True)
