"""What becomes of verdicts with their run and dataset, and in several processes."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from fiftyone.core.odm import get_db_conn

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.pipeline.manage import delete_run, rename_run
from fiftyone_sfam.review.fields import (
    check_rename_of_verdicts,
    check_verdict_fields,
    delete_verdict_fields,
    forget_verdicts,
    rename_verdicts,
)
from fiftyone_sfam.review.store import VerdictStore
from fiftyone_sfam.review.verdicts import (
    carry_over,
    get_verdicts,
    restore_verdict,
    set_verdict,
)
from fiftyone_sfam.runs.run import load_run
from verdict_support import (
    detections,
    explain,
    explain_people,
    ids_of,
    in_another_process,
    recorded,
    shown,
    start,
    tags,
    texts,
)

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
    carry_over(new, [(old.config.uid, None)])
    carried = get_verdicts(new)
    assert carried.pop(0).text == "occlusion"
    expected.pop(0)
    assert {p: (v.text, v.note, v.created) for p, v in carried.items()} == {
        p: (v.text, v.note, v.created) for p, v in expected.items()
    }
    assert shown(world, "new")[ids_of(new, 0)[0]][0][1] == "occlusion"
    assert sum(map(len, shown(world, "new").values())) == len(expected) + 1
    assert get_verdicts(old) == {}
    carry_over(new, [(old.config.uid, None)])
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
    carry_over(new, [(old.config.uid, None)])
    assert texts(new) == dict.fromkeys(range(4), "fine")
    assert tags(world, "new") == {ids_of(new, pair): ["fine"] for pair in range(4)}


def test_carrying_over_from_detections_leaves_none_of_their_fields(frames):
    old = explain_people(frames, "sfam")
    set_verdict(old, 0, "fine")
    new = explain(frames, "new", protocol=Protocol())
    # As if the run on whole images had taken the place of the one on detections.
    new.key = "sfam"
    carry_over(new, [(old.config.uid, "people")])
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
        check_rename_of_verdicts(world, "sfam", "new", None)
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
from fiftyone_sfam.runs.run import load_run
from fiftyone_sfam.review.verdicts import get_verdicts, set_verdict

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
    workers = [start(_REVIEW, world.name, "30", name) for name in ("ann", "ben")]
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
from fiftyone_sfam.runs.run import load_run
from fiftyone_sfam.review.fields import write_verdict_fields
from fiftyone_sfam.review.verdicts import set_verdict

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
