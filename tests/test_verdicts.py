"""Verdicts: given, found, undone, and what becomes of them with run and dataset."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F
from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.explain import explain_retrieval
from fiftyone_sfam.protocol import Protocol
from fiftyone_sfam.runs import delete_run, load_run, rename_run
from fiftyone_sfam.verdict_fields import (
    check_verdict_fields,
    delete_verdict_fields,
    forget_verdicts,
    rename_verdicts,
)
from fiftyone_sfam.verdict_store import VerdictStore
from fiftyone_sfam.verdict_updates import VERDICT_FIELD_ENDING
from fiftyone_sfam.verdicts import (
    VERDICTS,
    CarriedOver,
    Reviewed,
    Verdict,
    carry_over,
    get_verdicts,
    refresh_verdicts,
    restore_verdict,
    reviewed,
    set_verdict,
    verdict_counts,
    verdict_tag,
)
from worlds import fill, fill_frames, tiny_model

REID = Protocol(identity_field="identity", camera_field="camera")


@pytest.fixture
def world(dataset, tmp_path):
    return fill(dataset, tmp_path)


@pytest.fixture
def frames(dataset, tmp_path):
    return fill_frames(dataset, tmp_path)


def explain(samples, key="sfam", **options):
    return explain_retrieval(
        samples, tiny_model(), key=key, **{"k": 2, "protocol": REID, **options}
    )


def explain_people(samples, key="sfam", **options):
    protocol = Protocol(identity_field="label")
    return explain(samples, key, protocol=protocol, patches_field="people", **options)


def ids_of(run, pair) -> tuple[str, str]:
    ids = run.items.ids
    return str(ids[run.pairs.query[pair]]), str(ids[run.pairs.gallery[pair]])


def texts(run) -> dict[int, str]:
    return {pair: one.text for pair, one in get_verdicts(run).items()}


def shown(samples, key="sfam") -> dict[str, list[tuple[str, str]]]:
    """Return what ``KEY_verdicts`` lists: neighbor and verdict, by sample."""
    found = {}
    for sample in samples.exists(f"{key}_verdicts"):
        entries = sample[f"{key}_verdicts"].classifications
        found[sample.id] = [(one.neighbor_id, one.label) for one in entries]
    return found


def tags(samples, key="sfam") -> dict[tuple[str, str], list[str]]:
    """Return the tags of the neighbors, by query and neighbor, where there are some."""
    return {
        (sample.id, one.neighbor_id): one.tags
        for sample in samples
        for one in sample[f"{key}_neighbors"].classifications
        if one.tags
    }


def recorded(samples) -> int:
    query = {"dataset_id": samples._doc.id, "store_name": "fiftyone_sfam/verdicts"}
    return get_db_conn()["execution_store"].count_documents(query)


def in_another_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _start(code, *arguments, wait=True)


def _start(code, *arguments, wait=False):
    tests = Path(__file__).parent
    path = os.pathsep.join(map(str, (tests, tests.parent)))
    command = [sys.executable, "-c", code, *arguments]
    options = {"env": {**os.environ, "PYTHONPATH": path}, "text": True}
    if wait:
        return subprocess.run(
            command, capture_output=True, timeout=120, check=False, **options
        )
    return subprocess.Popen(command, stderr=subprocess.PIPE, **options)


# -- giving ----------------------------------------------------------------------------


def test_a_verdict_is_recorded_and_shown(world):
    run = explain(world)
    assert get_verdicts(run) == {}
    assert set_verdict(run, 4, "wrong label", "  the other one's\njacket ") is None
    query, neighbor = ids_of(run, 4)
    verdict = get_verdicts(run)[4]
    assert verdict == Verdict(
        4, query, neighbor, "wrong label", "the other one's\njacket", verdict.created
    )
    assert verdict.created.endswith("+00:00")
    assert list(get_verdicts(load_run(world, "sfam"))) == [4]
    (entry,) = world[query]["sfam_verdicts"].classifications
    assert entry.label == "wrong label"
    assert entry.neighbor_id == neighbor
    assert entry.rank == run.pairs.rank[4]
    assert entry.note == "the other one's\njacket"
    assert tags(world) == {(query, neighbor): ["wrong label"]}


def test_fiftyone_finds_verdicts(world):
    run = explain(world)
    for pair, text in ((0, "fine"), (1, "wrong label"), (5, "wrong label")):
        set_verdict(run, pair, text)
    wrong = {ids_of(run, pair)[0] for pair in (1, 5)}
    view = world.filter_labels("sfam_verdicts", F("label") == "wrong label")
    assert set(view.values("id")) == wrong
    assert [len(v) for v in view.values("sfam_verdicts.classifications")] == [1, 1]
    path = "sfam_verdicts.classifications.label"
    assert set(world.match(F(path).contains("wrong label")).values("id")) == wrong
    assert world.count_values(path) == {"fine": 1, "wrong label": 2}
    view = world.match_labels(fields="sfam_neighbors", tags="wrong label")
    assert set(view.values("id")) == wrong
    view = world.select_labels(fields="sfam_neighbors", tags="wrong label")
    assert sorted(view.values("sfam_neighbors.classifications.neighbor_id")) == sorted(
        [[ids_of(run, pair)[1]] for pair in (1, 5)]
    )
    assert world.count_label_tags("sfam_neighbors") == {"fine": 1, "wrong label": 2}
    assert verdict_tag(run, "wrong label") == "wrong label"
    assert set(world.exists("sfam_verdicts").values("id")) == wrong | {
        ids_of(run, 0)[0]
    }


def test_attributes_are_declared_for_the_sidebar(world):
    set_verdict(explain(world), 0, "fine")
    schema = world.get_field_schema(flat=True)
    assert schema["sfam_verdicts"].document_type is fo.Classifications
    for name, kind in (
        ("neighbor_id", fo.StringField),
        ("rank", fo.IntField),
        ("note", fo.StringField),
    ):
        assert isinstance(schema[f"sfam_verdicts.classifications.{name}"], kind)
    assert world.get_dynamic_field_schema("sfam_verdicts.classifications") == {}
    assert VERDICT_FIELD_ENDING == "_verdicts"


def test_only_the_query_is_changed(world):
    run = explain(world)
    before = {sample.id: sample.to_dict() for sample in world}
    times = dict(zip(*world.values(["id", "last_modified_at"]), strict=True))
    set_verdict(run, 4, "fine")
    query, _ = ids_of(run, 4)
    world.reload()
    for sample in world:
        now = sample.to_dict()
        if sample.id != query:
            assert now.pop("sfam_verdicts") is None
            assert now == before[sample.id]
            continue
        assert sample.last_modified_at > times[query]
        for name in set(now) - {"sfam_verdicts", "sfam_neighbors", "last_modified_at"}:
            assert now[name] == before[query][name], name
        for one in now["sfam_neighbors"]["classifications"]:
            one["tags"] = []
        assert now["sfam_neighbors"] == before[query]["sfam_neighbors"]


def test_loaded_samples_follow(world):
    run = explain(world)
    sample = world[ids_of(run, 0)[0]]
    set_verdict(run, 0, "fine")
    assert sample["sfam_verdicts"].classifications[0].label == "fine"


def test_a_verdict_takes_the_place_of_another(world):
    run = explain(world)
    set_verdict(run, 0, "fine", "first")
    set_verdict(run, 1, "look-alike")
    query, neighbor = ids_of(run, 0)
    sample = world[query]
    entry = sample["sfam_verdicts"].classifications[0]
    entry.tags.append("mine")
    sample["sfam_neighbors"].classifications[0].tags.append("mine too")
    sample.save()
    first = get_verdicts(run)[0]
    assert set_verdict(run, 0, "occlusion") == first
    assert (first.text, first.note) == ("fine", "first")
    assert texts(run) == {0: "occlusion", 1: "look-alike"}
    listed = [(neighbor, "occlusion"), (ids_of(run, 1)[1], "look-alike")]
    assert shown(world) == {query: listed}
    assert tags(world) == {
        (query, neighbor): ["mine too", "occlusion"],
        ids_of(run, 1): ["look-alike"],
    }
    again = world[query]["sfam_verdicts"].classifications[0]
    assert (again.id, again.tags, again.note) == (entry.id, ["mine"], None)


def test_entries_are_in_the_order_of_the_ranks(world):
    run = explain(world, k=3)
    for pair in (2, 0, 1):
        set_verdict(run, pair, "fine")
    ranks = world[ids_of(run, 0)[0]]["sfam_verdicts"].classifications
    assert [one.rank for one in ranks] == [1, 2, 3]
    assert list(get_verdicts(run)) == [0, 1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "3 $ and $$ROOT",
        "a, b; c",
        "<script>alert(1)</script>",
        'the "same" one\'s',
        "أخو العائلة",
        "双胞胎 👩‍👧",
        "{$gt: 1}",
        "a/b",
        "x" * 200,
    ],
)
def test_own_words(world, text):
    run = explain(world)
    note = f"$label {text}"
    set_verdict(run, 3, f" {text}\n", note)
    assert (get_verdicts(run)[3].text, get_verdicts(run)[3].note) == (text, note)
    query, _ = ids_of(run, 3)
    view = world.filter_labels("sfam_verdicts", F("label") == F.literal(text))
    assert view.values("id") == [query]
    assert view.first()["sfam_verdicts"].classifications[0].note == note
    view = world.match_labels(fields="sfam_neighbors", tags=text)
    assert view.values("id") == [query]
    restore_verdict(run, 3, None)
    assert (tags(world), shown(world)) == ({}, {})


def test_texts_that_cannot_be_verdicts(world):
    run = explain(world)
    message = "cannot be a verdict; give one line of 1 to 200 characters, without contr"
    breaks = ["two\nlines", "two\u2028lines", "a\tb", "nul\0", "\ud800"]
    for text in ["", "  \n", "x" * 201, "\u200d", "$label", None, 3, *breaks]:
        with pytest.raises(DataError) as error:
            set_verdict(run, 0, text)
        assert message in str(error.value)
        assert len(str(error.value)) < 200
    assert recorded(world) == 0
    assert world.get_field("sfam_verdicts") is None


def test_notes_that_cannot_be(world):
    run = explain(world)
    message = "cannot be the note of a verdict; give a text"
    for note in ["x" * 2001, "bell\a", "\ud800", None]:
        with pytest.raises(DataError, match=message):
            set_verdict(run, 0, "fine", note)
    assert recorded(world) == 0
    set_verdict(run, 0, "fine", "x" * 2000)
    assert len(get_verdicts(run)[0].note) == 2000


def test_no_such_pair(world):
    run = explain(world)
    message = f"'sfam' has {len(run.pairs)} pairs, numbered from 0; there is no pair"
    for pair in (-1, len(run.pairs), 10**9):
        with pytest.raises(DataError, match=f"{message} {pair} to give a verdict on"):
            set_verdict(run, pair, "fine")
        with pytest.raises(DataError, match=message):
            restore_verdict(run, pair, None)


def test_pairs_may_be_numpy_integers(world):
    run = explain(world)
    set_verdict(run, np.int64(2), "fine")
    assert texts(run) == {2: "fine"}
    assert type(next(iter(get_verdicts(run)))) is int
    with pytest.raises(TypeError):
        set_verdict(run, 1.0, "fine")


def test_counts(world):
    run = explain(world)
    total = len(run.pairs)
    assert reviewed(run) == Reviewed(0, total, 0, 12)
    assert verdict_counts(run) == {}
    for pair, text in enumerate(["zoo", "fine", "art", "wrong label", "fine"]):
        set_verdict(run, pair, text)
    expected = {"fine": 2, "wrong label": 1, "art": 1, "zoo": 1}
    assert list(verdict_counts(run).items()) == list(expected.items())
    queries = len(set(run.pairs.query[:5].tolist()))
    assert 1 < queries < 5
    assert reviewed(run) == Reviewed(5, total, queries, 12)
    assert len(VERDICTS) == 6


# -- undo ------------------------------------------------------------------------------


def test_undo_to_nothing(world):
    run = explain(world)
    previous = set_verdict(run, 0, "fine")
    set_verdict(run, 1, "background")
    for _ in range(2):
        restore_verdict(run, 0, previous)
        assert texts(run) == {1: "background"}
        assert shown(world) == {ids_of(run, 1)[0]: [(ids_of(run, 1)[1], "background")]}
        assert tags(world) == {ids_of(run, 1): ["background"]}
    restore_verdict(run, 1, None)
    assert get_verdicts(run) == {}
    assert len(world.exists("sfam_verdicts")) == 0
    assert tags(world) == {}
    assert recorded(world) == 0


def test_undo_to_the_previous(world):
    run = explain(world)
    set_verdict(run, 0, "fine", "at first sight")
    first = get_verdicts(run)[0]
    previous = set_verdict(run, 0, "look-alike")
    for _ in range(2):
        restore_verdict(run, 0, previous)
        assert get_verdicts(run) == {0: first}
        assert tags(world) == {ids_of(run, 0): ["fine"]}
    assert world[first.query_id]["sfam_verdicts"].classifications[0].note == first.note


def test_undo_on_another_pair_is_refused(world):
    run = explain(world)
    set_verdict(run, 0, "fine")
    previous = set_verdict(run, 0, "background")
    with pytest.raises(DataError, match="'fine' is on another pair than pair 1 of the"):
        restore_verdict(run, 1, previous)
    assert texts(run) == {0: "background"}


def test_nothing_to_undo_leaves_no_field(world):
    run = explain(world)
    restore_verdict(run, 0, None)
    refresh_verdicts(run)
    assert world.get_field("sfam_verdicts") is None


# -- special pairs and fields ----------------------------------------------------------


def test_the_true_match_beyond_the_neighbors(world):
    # Everybody is called like the one who looks like somebody else.
    world.set_values("identity", [f"p{number % 4}" for number in range(12)])
    run = explain(world, k=1)
    pair = int(np.flatnonzero(run.pairs.rank > 1)[0])
    set_verdict(run, pair, "wrong label")
    query, neighbor = ids_of(run, pair)
    listed = world[query]["sfam_neighbors"].classifications
    assert neighbor not in [one.neighbor_id for one in listed]
    assert shown(world) == {query: [(neighbor, "wrong label")]}
    entry = world[query]["sfam_verdicts"].classifications[0]
    assert entry.rank == run.pairs.rank[pair] > 1
    assert tags(world) == {}
    restore_verdict(run, pair, None)
    assert shown(world) == {}


def test_runs_side_by_side(world):
    one, other = explain(world, "one"), explain(world, "other", k=1)
    same = next(p for p in range(len(one.pairs)) if ids_of(one, p) == ids_of(other, 0))
    set_verdict(one, same, "fine")
    set_verdict(other, 0, "look-alike")
    assert (texts(one), texts(other)) == ({same: "fine"}, {0: "look-alike"})
    pair = ids_of(other, 0)
    assert (tags(world, "one"), tags(world, "other")) == (
        {pair: ["fine"]},
        {pair: ["look-alike"]},
    )
    restore_verdict(one, same, None)
    assert texts(other) == {0: "look-alike"}
    assert shown(world, "other") == {pair[0]: [(pair[1], "look-alike")]}
    forget_verdicts(world, "one", one.config.uid, None)
    assert texts(other) == {0: "look-alike"}
    assert shown(world, "other") == {pair[0]: [(pair[1], "look-alike")]}


def test_deleted_samples(world):
    run = explain(world)
    query, neighbor = ids_of(run, 0)
    set_verdict(run, 0, "fine")
    world.delete_samples([neighbor])
    set_verdict(run, 0, "look-alike")
    assert shown(world) == {query: [(neighbor, "look-alike")]}
    world.delete_samples([query])
    set_verdict(run, 1, "wrong label")
    assert texts(run) == {0: "look-alike", 1: "wrong label"}
    assert len(world) == 10
    refresh_verdicts(run)
    assert shown(world) == {}


def test_deleted_field_of_neighbors(world):
    run = explain(world)
    set_verdict(run, 0, "fine")
    world.delete_sample_field("sfam_neighbors")
    set_verdict(run, 1, "look-alike")
    query, neighbor = ids_of(run, 0)
    listed = [(neighbor, "fine"), (ids_of(run, 1)[1], "look-alike")]
    assert shown(world) == {query: listed}
    document = world._sample_collection.find_one({"_id": world[query]._id})
    assert "sfam_neighbors" not in document


def test_deleted_field_of_verdicts_comes_back_whole(world):
    run = explain(world)
    for pair in (0, 1, 4):
        set_verdict(run, pair, "fine")
    world.delete_sample_field("sfam_verdicts")
    set_verdict(run, 0, "background")
    assert shown(world) == {
        ids_of(run, 0)[0]: [
            (ids_of(run, 0)[1], "background"),
            (ids_of(run, 1)[1], "fine"),
        ],
        ids_of(run, 4)[0]: [(ids_of(run, 4)[1], "fine")],
    }
    assert tags(world)[ids_of(run, 0)] == ["background"]
    world.delete_sample_field("sfam_verdicts")
    refresh_verdicts(run)
    assert len(shown(world)) == 2


def test_refresh_shows_what_is_recorded(world):
    run = explain(world)
    set_verdict(run, 0, "fine")
    set_verdict(run, 4, "occlusion")
    expected = shown(world), tags(world)
    store = VerdictStore(str(world._doc.id), run.config.uid)
    record = {"text": "look-alike", "note": "", "created": "2026-01-01T00:00:00+00:00"}
    # As processes leave it that were killed between recording and showing.
    store.put(ids_of(run, 0), record)
    store.remove(ids_of(run, 4))
    assert (shown(world), tags(world)) == expected
    refresh_verdicts(run)
    assert shown(world) == {ids_of(run, 0)[0]: [(ids_of(run, 0)[1], "look-alike")]}
    assert tags(world) == {ids_of(run, 0): ["look-alike"]}


def test_a_field_of_the_user_is_not_taken(world):
    run = explain(world)
    world.set_values("sfam_verdicts", ["mine"] * 12)
    message = "has a field 'sfam_verdicts' that does not hold verdicts of the run 'sfam"
    for act in (
        lambda: set_verdict(run, 0, "fine"),
        lambda: restore_verdict(run, 0, None),
        lambda: refresh_verdicts(run),
        lambda: check_verdict_fields(world, "sfam", None),
    ):
        with pytest.raises(RunError, match=message):
            act()
    forget_verdicts(world, "sfam", run.config.uid, None)
    assert world.values("sfam_verdicts") == ["mine"] * 12
    assert recorded(world) == 0


# -- detections ------------------------------------------------------------------------


def detections(samples):
    return {
        one.id: one for labels in samples.values("people.detections") for one in labels
    }


def test_verdicts_on_detections(frames):
    run = explain_people(frames)
    query, neighbor = ids_of(run, 0)
    sample_id = str(run.items.sample_ids[run.pairs.query[0]])
    before = {one: label.to_dict() for one, label in detections(frames).items()}
    set_verdict(run, 0, "wrong $label", "a note")
    set_verdict(run, 1, "fine")
    set_verdict(run, 2, "look-alike")
    assert ids_of(run, 1)[0] == query != ids_of(run, 2)[0]
    found = detections(frames)
    assert found[query]["sfam_verdicts"] == ["wrong $label", "fine"]
    assert found[query].tags == ["sfam: wrong $label", "sfam: fine"]
    for one in set(found) - {query, ids_of(run, 2)[0]}:
        now = found[one].to_dict()
        assert now.pop("sfam_verdicts", None) is None
        assert now == before[one]
    entries = frames[sample_id]["sfam_verdicts"].classifications
    mine = [one for one in entries if one.query_id == query]
    assert [(one.label, one.rank, one.note) for one in mine] == [
        ("wrong $label", 1, "a note"),
        ("fine", 2, None),
    ]
    assert mine[0].neighbor_id == neighbor
    assert sum(len(e) for e in frames.values("sfam_verdicts.classifications") if e) == 3
    # Ways to find them.
    view = frames.filter_labels("people", F("sfam_verdicts").contains("fine"))
    assert view.values("people.detections.id") == [[query]]
    tag = verdict_tag(run, "fine")
    assert tag == "sfam: fine"
    view = frames.select_labels(fields="people", tags=tag)
    assert view.values("people.detections.id") == [[query]]
    patches = frames.to_patches("people").match(
        F("people.sfam_verdicts").contains("look-alike")
    )
    assert patches.values("people.id") == [ids_of(run, 2)[0]]
    schema = frames.get_field_schema(flat=True)
    assert isinstance(schema["people.detections.sfam_verdicts"].field, fo.StringField)
    # And back.
    restore_verdict(run, 0, None)
    assert detections(frames)[query].tags == ["sfam: fine"]
    restore_verdict(run, 1, None)
    assert detections(frames)[query].tags == []
    assert detections(frames)[query]["sfam_verdicts"] is None
    assert texts(run) == {2: "look-alike"}
    assert [len(e) for e in frames.values("sfam_verdicts.classifications") if e] == [1]


def test_tags_of_detections_that_are_not_the_runs(frames):
    one, other = explain_people(frames, "one"), explain_people(frames, "other")
    query, _ = ids_of(one, 0)
    view = frames.select_labels(ids=[query])
    view.tag_labels("fine", "people")
    set_verdict(one, 0, "fine")
    set_verdict(other, 0, "fine")
    set_verdict(other, 1, "fine")
    assert detections(frames)[query].tags == ["fine", "one: fine", "other: fine"]
    assert detections(frames)[query]["other_verdicts"] == ["fine"]
    restore_verdict(other, 1, None)
    assert detections(frames)[query].tags == ["fine", "one: fine", "other: fine"]
    rename_verdicts(frames, "one", "two", "people")
    assert sorted(detections(frames)[query].tags) == [
        "fine",
        "other: fine",
        "two: fine",
    ]
    assert detections(frames)[query]["two_verdicts"] == ["fine"]
    assert frames.get_field("people.detections.one_verdicts") is None
    forget_verdicts(frames, "other", other.config.uid, "people")
    assert sorted(detections(frames)[query].tags) == ["fine", "two: fine"]
    assert get_verdicts(other) == {}
    assert frames.get_field("people.detections.other_verdicts") is None
    assert frames.get_field("other_verdicts") is None


def test_one_detection_per_sample(dataset, tmp_path):
    fill_frames(dataset, tmp_path, listed=False)
    run = explain_people(dataset, k=1)
    set_verdict(run, 0, "background")
    query, neighbor = ids_of(run, 0)
    sample = dataset.match(F("people.sfam_verdicts").contains("background")).first()
    assert sample["people"].id == query
    assert sample["people"].tags == ["sfam: background"]
    assert shown(dataset) == {sample.id: [(neighbor, "background")]}
    rename_verdicts(dataset, "sfam", "new", "people")
    tagged = dataset.match_labels(fields="people", tags="new: background")
    assert tagged.values("id") == [sample.id]
    forget_verdicts(dataset, "new", run.config.uid, "people")
    assert [one.tags for one in dataset.values("people")] == [[]] * 4
    assert dataset.get_field("people.new_verdicts") is None


def test_deleted_detections(frames):
    run = explain_people(frames)
    query, neighbor = ids_of(run, 0)
    frames.delete_labels(ids=[query])
    set_verdict(run, 0, "fine")
    assert texts(run) == {0: "fine"}
    (entries,) = shown(frames).values()
    assert entries == [(neighbor, "fine")]
    assert query not in detections(frames)
    frames.delete_sample_field("people")
    set_verdict(run, 0, "background")
    assert texts(run) == {0: "background"}
    (entries,) = shown(frames).values()
    assert entries == [(neighbor, "background")]
    forget_verdicts(frames, "sfam", run.config.uid, "people")
    assert frames.get_field("people") is None
    assert frames.get_field("sfam_verdicts") is None


# -- with the run ----------------------------------------------------------------------


def test_verdicts_are_carried_over_to_pairs_that_exist_still(world):
    old, new = explain(world, "old", k=3), explain(world, "new", k=1)
    expected = {}
    for pair in range(len(old.pairs)):
        set_verdict(old, pair, "fine" if pair % 2 else "look-alike", f"note {pair}")
    verdicts = {(v.query_id, v.neighbor_id): v for v in get_verdicts(old).values()}
    for pair in range(len(new.pairs)):
        if ids_of(new, pair) in verdicts:
            expected[pair] = verdicts[ids_of(new, pair)]
    assert 0 < len(expected) < len(verdicts)
    set_verdict(new, 0, "occlusion")
    assert carry_over(new, [(old.config.uid, None)]) == CarriedOver(
        len(expected), len(verdicts) - len(expected)
    )
    carried = get_verdicts(new)
    assert carried.pop(0).text == "occlusion"
    expected.pop(0)
    assert {p: (v.text, v.note, v.created) for p, v in carried.items()} == {
        p: (v.text, v.note, v.created) for p, v in expected.items()
    }
    assert shown(world, "new")[ids_of(new, 0)[0]][0][1] == "occlusion"
    assert sum(map(len, shown(world, "new").values())) == len(expected) + 1
    assert get_verdicts(old) == {}
    assert carry_over(new, [(old.config.uid, None)]) == CarriedOver(0, 0)
    assert len(get_verdicts(new)) == len(expected) + 1


def test_of_two_replaced_runs_the_later_one_counts(world):
    runs = [explain(world, key) for key in ("first", "second", "third")]
    set_verdict(runs[0], 0, "fine")
    set_verdict(runs[0], 1, "fine")
    set_verdict(runs[1], 0, "occlusion")
    carry_over(runs[2], [(one.config.uid, None) for one in runs[:2]])
    assert texts(runs[2]) == {0: "occlusion", 1: "fine"}


def test_carrying_over_goes_on_where_it_was_interrupted(world):
    old, new = explain(world, "old"), explain(world, "new")
    for pair in range(4):
        set_verdict(old, pair, "fine")
    records = VerdictStore(str(world._doc.id), old.config.uid).read()
    ids = next(iter(records))
    VerdictStore(str(world._doc.id), new.config.uid).put(ids, records[ids])
    assert carry_over(new, [(old.config.uid, None)]) == CarriedOver(4, 0)
    assert texts(new) == dict.fromkeys(range(4), "fine")
    assert tags(world, "new") == {ids_of(new, pair): ["fine"] for pair in range(4)}


def test_carrying_over_from_detections_leaves_none_of_their_fields(frames):
    old = explain_people(frames, "sfam")
    set_verdict(old, 0, "fine")
    new = explain(frames, "new", protocol=Protocol())
    # As if the run on whole images had taken the place of the one on detections.
    new.key = "sfam"
    assert carry_over(new, [(old.config.uid, "people")]) == CarriedOver(0, 1)
    assert frames.get_field("people.detections.sfam_verdicts") is None
    assert frames.get_field("sfam_verdicts") is None
    assert {tag for one in detections(frames).values() for tag in one.tags} == set()
    assert recorded(frames) == 0


def test_rename(world):
    run = explain(world)
    set_verdict(run, 0, "fine", "note")
    rename_verdicts(world, "sfam", "new", None)
    assert world.get_field("sfam_verdicts") is None
    assert shown(world, "new") == {ids_of(run, 0)[0]: [(ids_of(run, 0)[1], "fine")]}
    # Its verdicts are still its verdicts.
    check_verdict_fields(world, "new", None)


def test_rename_onto_a_field_that_exists(world):
    run = explain(world)
    set_verdict(run, 0, "fine")
    world.set_values("new_verdicts", [1] * 12)
    with pytest.raises(RunError, match="has a field 'new_verdicts' already; choose"):
        rename_verdicts(world, "sfam", "new", None)
    assert len(shown(world)) == 1


def test_forgetting_leaves_nothing(world):
    before = set(world.get_field_schema(flat=True))
    run = explain(world)
    set_verdict(run, 0, "fine")
    forget_verdicts(world, "sfam", run.config.uid, None)
    assert recorded(world) == 0
    delete_run(world, "sfam")
    assert set(world.get_field_schema(flat=True)) == before
    forget_verdicts(world, "sfam", run.config.uid, None)


def test_runs_that_are_no_longer_what_they_were(world):
    run, other = explain(world), explain(world, "other")
    rename_run(world, "other", "another")
    with pytest.raises(RunError, match=r"'other' of .* was renamed 'another' since it"):
        set_verdict(other, 0, "fine")
    explain(world, k=1, overwrite=True)
    with pytest.raises(
        RunError, match=r"'sfam' of .* was deleted or replaced since it"
    ):
        set_verdict(run, 0, "fine")
    delete_run(world, "another")
    for act in (set_verdict, restore_verdict):
        with pytest.raises(RunError, match=r"deleted or replaced .* load it again"):
            act(other, 0, *(("fine",) if act is set_verdict else (None,)))
    assert recorded(world) == 0


# -- with the dataset ------------------------------------------------------------------


def test_verdicts_are_deleted_with_the_dataset(world):
    set_verdict(explain(world), 0, "fine")
    assert recorded(world) == 1
    world_id = world._doc.id
    world.delete()
    query = {"dataset_id": world_id}
    assert get_db_conn()["execution_store"].count_documents(query) == 0


def test_a_clone_has_verdicts_of_its_own(world):
    run = explain(world)
    set_verdict(run, 0, "fine")
    clone = world.clone()
    try:
        copy = load_run(clone, "sfam")
        assert texts(copy) == {0: "fine"}
        set_verdict(copy, 0, "occlusion")
        set_verdict(copy, 1, "fine")
        assert texts(copy) == {0: "occlusion", 1: "fine"}
        assert tags(clone)[ids_of(run, 0)] == ["occlusion"]
        assert texts(run) == {0: "fine"}
        assert tags(world) == {ids_of(run, 0): ["fine"]}
    finally:
        clone.delete()


# -- other processes -------------------------------------------------------------------

_REVIEW = """
import sys
import fiftyone as fo
from fiftyone_sfam.runs import load_run
from fiftyone_sfam.verdicts import get_verdicts, set_verdict

dataset = fo.load_dataset(sys.argv[1])
run = load_run(dataset, "sfam")
for number in range(int(sys.argv[2])):
    set_verdict(run, number % 2, f"{sys.argv[3]} {number}")
print({pair: one.text for pair, one in get_verdicts(run).items()})
"""


def test_a_second_process_sees_and_adds(world):
    run = explain(world)
    set_verdict(run, 2, "fine")
    done = in_another_process(_REVIEW, world.name, "1", "second")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "{0: 'second 0', 2: 'fine'}"
    assert texts(run) == {0: "second 0", 2: "fine"}
    world.reload()
    query, neighbor = ids_of(run, 0)
    assert shown(world)[query] == [(neighbor, "second 0")]
    assert tags(world)[query, neighbor] == ["second 0"]


def test_a_handle_that_is_behind(world):
    run = explain(world)
    # The first verdict adds the field, and this process does not know.
    done = in_another_process(_REVIEW, world.name, "1", "second")
    assert done.returncode == 0, done.stderr
    assert world.get_field("sfam_verdicts") is None
    set_verdict(run, 1, "fine")
    query, _ = ids_of(run, 0)
    listed = [(ids_of(run, 0)[1], "second 0"), (ids_of(run, 1)[1], "fine")]
    assert shown(world) == {query: listed}
    code = (
        "import sys, fiftyone as fo; "
        "fo.load_dataset(sys.argv[1]).delete_sample_field('sfam_verdicts')"
    )
    done = in_another_process(code, world.name)
    assert done.returncode == 0, done.stderr
    set_verdict(run, 4, "fine")
    assert len(shown(world)) == 2
    assert shown(world)[query] == listed


def test_reviewers_at_the_same_time(world):
    run = explain(world)
    workers = [_start(_REVIEW, world.name, "30", name) for name in ("ann", "ben")]
    for number in range(30):
        set_verdict(run, number % 2, f"me {number}")
    for worker in workers:
        _, error = worker.communicate(timeout=120)
        assert worker.returncode == 0, error
    world.reload()
    last = texts(run)
    assert set(last) == {0, 1}
    assert {text.split()[1] for text in last.values()} <= {"28", "29"}
    query, _ = ids_of(run, 0)
    assert shown(world) == {query: [(ids_of(run, p)[1], last[p]) for p in (0, 1)]}
    assert tags(world) == {ids_of(run, p): [last[p]] for p in (0, 1)}


_KILLED = """
import os, signal, sys
import fiftyone as fo
from fiftyone_sfam.runs import load_run
from fiftyone_sfam.verdict_fields import write_verdict_fields
from fiftyone_sfam.verdicts import set_verdict

def kill(frame, event, arg):
    # Ends the process as it is about to show what it has recorded.
    if frame.f_code is write_verdict_fields.__code__:
        os.kill(os.getpid(), signal.SIGKILL)

run = load_run(fo.load_dataset(sys.argv[1]), "sfam")
run.pairs
sys.setprofile(kill)
set_verdict(run, 0, "background", "a note")
"""


def test_killed_between_recording_and_showing(world):
    run = explain(world)
    set_verdict(run, 0, "fine")
    done = in_another_process(_KILLED, world.name)
    assert done.returncode == -signal.SIGKILL, done.stderr
    verdict = get_verdicts(run)[0]
    assert (verdict.text, verdict.note) == ("background", "a note")
    assert tags(world) == {ids_of(run, 0): ["fine"]}
    # The next verdict on the query shows both.
    assert ids_of(run, 1)[0] == ids_of(run, 0)[0]
    set_verdict(run, 1, "look-alike")
    assert tags(world) == {
        ids_of(run, 0): ["background"],
        ids_of(run, 1): ["look-alike"],
    }


def test_deleting_fields_alone_keeps_what_is_recorded(world):
    run = explain(world)
    set_verdict(run, 0, "fine")
    delete_verdict_fields(world, "sfam", None)
    assert world.get_field("sfam_verdicts") is None
    assert texts(run) == {0: "fine"}


# -- with the run ----------------------------------------------------------------------


def test_verdicts_follow_the_run_that_takes_the_place(world):
    old = explain(world, k=3)
    for pair in range(len(old.pairs)):
        set_verdict(old, pair, "fine")
    new = explain(world, k=1, overwrite=True)
    assert texts(new) == dict.fromkeys(range(len(new.pairs)), "fine")
    assert recorded(world) == len(new.pairs) < len(old.pairs)
    first = np.flatnonzero(new.pairs.rank == 1)
    assert set(tags(world)) == {ids_of(new, pair) for pair in first}
    rename_run(world, "sfam", "x")
    renamed = load_run(world, "x")
    assert len(texts(renamed)) == len(new.pairs)
    assert len(shown(world, "x")) == 12
    set_verdict(renamed, 0, "occlusion")
    assert tags(world, "x")[ids_of(renamed, 0)] == ["occlusion"]
    delete_run(world, "x")
    assert recorded(world) == 0
    assert world.get_field("x_verdicts") is None


def test_the_same_run_once_more_keeps_its_tags(world):
    set_verdict(explain(world), 0, "fine")
    again = explain(world, overwrite=True)
    assert texts(again) == {0: "fine"}
    assert tags(world) == {ids_of(again, 0): ["fine"]}


def test_detections_give_way_to_whole_images_and_back(frames):
    set_verdict(explain_people(frames), 0, "fine")
    people = explain_people(frames, overwrite=True, k=1)
    assert texts(people) == {0: "fine"}
    whole = explain(frames, protocol=Protocol(), overwrite=True)
    assert texts(whole) == {}
    assert recorded(frames) == 0
    left = frames.values("people.detections.tags", unwind=True)
    assert not any(left)
    set_verdict(whole, 0, "fine")
    people = explain_people(frames, overwrite=True)
    assert texts(people) == {}
    assert shown(frames) == {}
    delete_run(frames, "sfam")
    assert not [f for f in frames.get_field_schema(flat=True) if "sfam" in f]
