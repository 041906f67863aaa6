"""Verdicts on many pairs at once: given, shown, and taken back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fiftyone_sfam.errors import DataError
from fiftyone_sfam.review.verdicts import (
    get_verdicts,
    restore_verdicts,
    set_verdict,
    set_verdicts,
)
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


def test_all_pairs_of_a_run_at_once(world):
    run = explain(world)
    set_verdict(run, 1, "fine", "at first sight")
    first = get_verdicts(run)[1]
    everything = range(len(run.pairs))
    previous = set_verdicts(run, everything, " look-alike ", "all of them")
    assert previous == {pair: first if pair == 1 else None for pair in everything}
    assert texts(run) == dict.fromkeys(everything, "look-alike")
    assert {one.note for one in get_verdicts(run).values()} == {"all of them"}
    assert shown(world) == {
        str(run.items.sample_ids[item]): [
            (ids_of(run, pair)[1], "look-alike") for pair in run.pairs.of_query(item)
        ]
        for item in range(len(run.items))
    }
    assert {tuple(found) for found in tags(world).values()} == {("look-alike",)}
    # One of them is read on its own.
    assert list(get_verdicts(run, [3, 0])) == [0, 3]
    assert get_verdicts(run, []) == {}

    given = get_verdicts(run)
    assert restore_verdicts(run, previous) == given
    assert get_verdicts(run) == {1: first}
    assert shown(world) == {ids_of(run, 1)[0]: [(ids_of(run, 1)[1], "fine")]}
    assert tags(world) == {ids_of(run, 1): ["fine"]}
    # And once more the other way round.
    assert restore_verdicts(run, given) == previous
    assert get_verdicts(run) == given


def test_others_keep_theirs(world):
    run = explain(world)
    set_verdicts(run, [0, 1, 2], "fine")
    set_verdicts(run, [1, 4, 1], "occlusion")
    assert texts(run) == {0: "fine", 1: "occlusion", 2: "fine", 4: "occlusion"}
    assert tags(world) == {
        ids_of(run, pair): [text] for pair, text in texts(run).items()
    }
    assert set_verdicts(run, [], "fine") == {}


def test_detections(world_of_frames):
    run = explain_people(world_of_frames)
    set_verdicts(run, range(4), "background")
    queries = {ids_of(run, pair)[0] for pair in range(4)}
    assert len(queries) > 1
    tagged = {
        label_id: one.tags
        for label_id, one in detections(world_of_frames).items()
        if one.tags
    }
    assert tagged == {query: ["sfam: background"] for query in queries}
    restore_verdicts(run, dict.fromkeys(range(4)))
    assert not any(one.tags for one in detections(world_of_frames).values())


@pytest.fixture
def world_of_frames(make_dataset, tmp_path):
    return fill_frames(make_dataset("frames"), tmp_path)


def test_one_that_is_wrong_stops_all(world):
    run = explain(world)
    set_verdicts(run, [0, 1], "fine")
    before = get_verdicts(run)
    with pytest.raises(DataError, match=r"has 24 pairs, .* there is no pair 24"):
        set_verdicts(run, [0, 24], "occlusion")
    with pytest.raises(DataError, match="cannot be a verdict"):
        set_verdicts(run, [0, 1], "$where")
    with pytest.raises(DataError, match="cannot be the note"):
        set_verdicts(run, [0, 1], "occlusion", "\0")
    for forged in (
        replace(before[1], text=""),
        replace(before[1], note="x" * 2001),
        replace(before[1], created="yesterday"),
        replace(before[1], query_id=before[0].neighbor_id),
        replace(before[1], neighbor_id="../x"),
    ):
        with pytest.raises(DataError, match=r"cannot be|is not on pair 1 of the run"):
            restore_verdicts(run, {0: None, 1: forged})
    with pytest.raises(DataError, match="no pair -1"):
        restore_verdicts(run, {0: None, -1: None})
    with pytest.raises(DataError, match="no pair 99"):
        get_verdicts(run, [0, 99])
    assert get_verdicts(run) == before
    assert recorded(world) == 2
