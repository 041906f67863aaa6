"""Verdicts: given, shown, found and undone, on images and on detections."""

from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F

from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.review.fields import (
    check_verdict_fields,
    forget_verdicts,
    rename_verdicts,
)
from fiftyone_sfam.review.store import VERDICT_FIELD_ENDING, VerdictStore
from fiftyone_sfam.review.verdicts import (
    VERDICTS,
    Reviewed,
    Verdict,
    get_verdicts,
    refresh_verdicts,
    restore_verdict,
    reviewed,
    set_verdict,
    verdict_counts,
)
from fiftyone_sfam.runs.run import load_run
from verdict_support import (
    detections,
    explain,
    explain_people,
    ids_of,
    recorded,
    shown,
    tags,
    texts,
)
from worlds import fill_frames

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
        with pytest.raises(DataError, match=f"{message} {pair} to set a verdict on"):
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
    with pytest.raises(DataError, match="'fine' is not on pair 1 of the run"):
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
    view = frames.select_labels(fields="people", tags="sfam: fine")
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
