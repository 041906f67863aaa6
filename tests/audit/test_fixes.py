"""Fixes: from verdicts to labels by the rules, into a field, and back again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_sfam import Protocol, Run, delete_run, explain_retrieval
from fiftyone_sfam.audit.fixes.apply import (
    METHOD,
    applied_fields,
    apply_verdicts,
    undo_fixes,
)
from fiftyone_sfam.audit.fixes.find import (
    Fix,
    Fixes,
    dump_fixes,
    find_fixes,
    read_fixes,
    suggested_labels,
    write_fixes,
)
from fiftyone_sfam.audit.fixes.rules import (
    BY_FINDING,
    BY_MERGE,
    BY_NOTE,
    BY_PARTNER,
    UNDECIDED,
    ItemVerdict,
    Labels,
    PairVerdict,
    derive,
)
from fiftyone_sfam.audit.suspects.search import (
    MISLABELED,
    SPLIT,
    Finding,
    find_suspects,
)
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.review.verdicts import restore_verdict, set_verdict
from report_support import run_with_errors
from worlds import fill, fill_frames, tiny_model

# --------------------------------------------------------------------------------------
# The rules, by hand
# --------------------------------------------------------------------------------------

NAMES = ("a", "a", "a", "b", "b", "c", None, None, "0", "0")
#         0    1    2    3    4    5    6     7     8    9
LABELS = Labels(NAMES, frozenset({"0"}))


def said(query: int, neighbor: int, text: str, note: str = "") -> ItemVerdict:
    verdict = PairVerdict(f"i{query}", f"i{neighbor}", text, note)
    return ItemVerdict(query, neighbor, verdict)


def outcome(*verdicts: ItemVerdict, suspected: dict[int, str] | None = None):
    """What comes out: new name and rule by image, and the images of each conflict."""
    results = []
    # Nothing depends on the order in which verdicts were given.
    for order in (verdicts, verdicts[::-1]):
        changes, clashes = derive(LABELS, order, suspected or {})
        fixes = {(one.item, one.new, one.rule) for one in changes}
        assert len(fixes) == len(changes)
        results.append((fixes, {tuple(sorted(one.items)) for one in clashes}))
    assert results[0] == results[1]
    return results[0]


def test_verdicts_that_say_nothing_of_labels() -> None:
    silent = [
        said(0, 3, text) for text in ("background", "occlusion", "same jacket", "fine")
    ]
    for one in (*silent, said(0, 1, "fine"), said(0, 1, "same person")):
        assert outcome(one) == (set(), set())
    assert outcome(said(0, 3, "look-alike")) == (set(), set())


def test_a_wrong_label_without_a_finding_is_open_on_both_sides() -> None:
    one = said(0, 3, "wrong label")
    changes, clashes = derive(LABELS, [one], {})
    assert clashes == []
    assert [(c.item, c.new, c.rule) for c in changes] == [
        (0, None, UNDECIDED),
        (3, None, UNDECIDED),
    ]
    assert all(c.verdicts == (one.verdict,) for c in changes)
    assert "no finding says which" in changes[0].reason


def test_a_finding_tells_which_label_is_wrong() -> None:
    verdict = said(0, 1, "wrong label")
    assert outcome(verdict, suspected={1: "b"}) == ({(1, "b", BY_FINDING)}, set())
    # A finding of an image that is not in the pair tells nothing.
    assert outcome(verdict, suspected={2: "b"})[0] == {
        (0, None, UNDECIDED),
        (1, None, UNDECIDED),
    }
    # Neither do findings of both.
    assert outcome(verdict, suspected={0: "c", 1: "b"})[0] == {
        (0, None, UNDECIDED),
        (1, None, UNDECIDED),
    }


def test_two_persons_under_one_label_are_a_wrong_label() -> None:
    verdict = said(0, 1, "look-alike")
    assert outcome(verdict, suspected={0: "c"}) == ({(0, "c", BY_FINDING)}, set())
    assert outcome(verdict)[0] == {(0, None, UNDECIDED), (1, None, UNDECIDED)}


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("query: b", {(0, "b", BY_NOTE)}),
        ("wears a hat\n Neighbor :  c ", {(3, "c", BY_NOTE)}),
        ("query: b\nneighbor: a", {(0, "b", BY_NOTE), (3, "a", BY_NOTE)}),
        # No identity of the run, or the label that the image has: not what was meant.
        ("query: wears a hat", {(0, None, UNDECIDED), (3, None, UNDECIDED)}),
        ("query: a", {(0, None, UNDECIDED), (3, None, UNDECIDED)}),
        ("the query: b", {(0, None, UNDECIDED), (3, None, UNDECIDED)}),
    ],
)
def test_a_note_names_the_image(note: str, expected: set) -> None:
    assert outcome(said(0, 3, "wrong label", note)) == (expected, set())


def test_a_note_comes_before_a_finding() -> None:
    verdict = said(0, 3, "wrong label", "query: c")
    assert outcome(verdict, suspected={0: "b"}) == ({(0, "c", BY_NOTE)}, set())
    assert outcome(verdict, suspected={3: "b"}) == ({(0, "c", BY_NOTE)}, set())


def test_same_person_merges_into_the_larger_identity() -> None:
    fixes, clashes = outcome(said(3, 0, "same person"))
    assert fixes == {(3, "a", BY_MERGE), (4, "a", BY_MERGE)}
    assert clashes == set()


def test_merges_add_up() -> None:
    first, second = said(3, 5, "same person"), said(5, 1, "same person")
    changes, _ = derive(LABELS, [first, second], {})
    assert {(c.item, c.new) for c in changes} == {(3, "a"), (4, "a"), (5, "a")}
    assert all(set(c.verdicts) == {first.verdict, second.verdict} for c in changes)


def test_equal_identities_merge_into_the_first_of_the_alphabet() -> None:
    labels = Labels(("z", "y", "y", "z"))
    changes, _ = derive(labels, [said(0, 1, "same person")], {})
    assert {(c.item, c.new) for c in changes} == {(0, "y"), (3, "y")}


def test_a_suspected_image_is_renamed_alone() -> None:
    """Its identity is not merged, even if the finding suggested a third one."""
    verdict = said(0, 3, "same person")
    for suggestion in ("b", "c"):
        expected = ({(0, "b", BY_PARTNER)}, set())
        assert outcome(verdict, suspected={0: suggestion}) == expected
    both = {0: "b", 3: "c"}
    assert outcome(verdict, suspected=both) == ({(0, "b", BY_PARTNER)}, set())
    # Each is said to be the other's, or neither is: nobody knows.
    for suspected in ({0: "b", 3: "a"}, {0: "c", 3: "c"}):
        assert outcome(verdict, suspected=suspected)[0] == {
            (0, None, UNDECIDED),
            (3, None, UNDECIDED),
        }


def test_a_note_says_which_of_two_is_the_same_person() -> None:
    """No identity is merged, whatever findings suggest."""
    for suspected in (None, {3: "c"}, {0: "c", 3: "c"}):
        verdict = said(0, 3, "same person", "query: b")
        assert outcome(verdict, suspected=suspected) == ({(0, "b", BY_NOTE)}, set())
    verdict = said(3, 0, "same person", "in a hat\nneighbor: b")
    assert outcome(verdict) == ({(0, "b", BY_NOTE)}, set())
    # It is in doubt for other verdicts, too.
    both = verdict, said(0, 4, "same person")
    assert outcome(*both) == ({(0, "b", BY_PARTNER)}, set())
    # Not the name of the other image, or both exchanged: not what was meant.
    merge = {(3, "a", BY_MERGE), (4, "a", BY_MERGE)}
    for note in ("query: c", "query: a", "query: b\nneighbor: a"):
        assert outcome(said(0, 3, "same person", note)) == (merge, set())
    # The name that an identity is merged into counts.
    verdicts = said(0, 3, "same person", "query: b"), said(1, 4, "same person")
    assert outcome(*verdicts)[0] == {(3, "a", BY_MERGE), (4, "a", BY_MERGE)}


def test_same_person_answers_an_open_wrong_label() -> None:
    verdicts = said(0, 1, "wrong label"), said(0, 3, "same person")
    assert outcome(*verdicts) == ({(0, "b", BY_PARTNER)}, set())


def test_what_a_person_says_comes_before_a_finding() -> None:
    verdicts = said(0, 1, "wrong label"), said(0, 3, "same person")
    assert outcome(*verdicts, suspected={0: "c"}) == ({(0, "b", BY_PARTNER)}, set())


def test_the_nameless_get_names() -> None:
    assert outcome(said(6, 0, "same person")) == ({(6, "a", BY_PARTNER)}, set())
    # Distractors stand for nobody: all of them are not one person.
    assert outcome(said(0, 8, "same person")) == ({(8, "a", BY_PARTNER)}, set())
    chain = said(7, 6, "same person"), said(6, 0, "same person")
    assert outcome(*chain) == ({(6, "a", BY_PARTNER), (7, "a", BY_PARTNER)}, set())
    assert outcome(said(6, 7, "same person"))[0] == {
        (6, None, UNDECIDED),
        (7, None, UNDECIDED),
    }
    assert outcome(said(8, 9, "same person"))[0] == {
        (8, None, UNDECIDED),
        (9, None, UNDECIDED),
    }


def test_a_name_follows_its_identity_into_a_merge() -> None:
    verdicts = said(0, 1, "wrong label"), said(3, 5, "same person")
    # c has one image, b two: c becomes b, and what was to be c becomes b.
    assert outcome(*verdicts, suspected={0: "c"}) == (
        {(0, "b", BY_FINDING), (5, "b", BY_MERGE)},
        set(),
    )


def test_two_names_for_one_image_are_a_conflict() -> None:
    verdicts = (
        said(0, 1, "wrong label", "query: b"),
        said(2, 0, "wrong label", "neighbor: c"),
    )
    changes, [clash] = derive(LABELS, verdicts, {})
    assert changes == []
    assert clash.items == (0,)
    assert clash.sentence == "Verdicts give one image 2 names: 'b', 'c'."
    assert set(clash.verdicts) == {one.verdict for one in verdicts}


@pytest.mark.parametrize("text", ["look-alike", "fine"])
def test_a_merge_of_people_who_differ_is_a_conflict(text: str) -> None:
    merge, apart = said(0, 3, "same person"), said(4, 1, text)
    changes, [clash] = derive(LABELS, [merge, apart], {})
    assert changes == []
    assert set(clash.verdicts) == {merge.verdict, apart.verdict}
    assert f"the verdict '{text}' says that they show two persons" in clash.sentence
    # Other merges are not touched by it.
    fixes, _ = outcome(said(0, 3, "same person"), said(5, 3, text))
    assert fixes == {(3, "a", BY_MERGE), (4, "a", BY_MERGE)}


def test_a_label_that_is_called_right_is_not_changed() -> None:
    wrong, fine = said(0, 3, "wrong label", "query: b"), said(1, 0, "fine")
    changes, [clash] = derive(LABELS, [wrong, fine], {})
    assert changes == []
    assert set(clash.verdicts) == {wrong.verdict, fine.verdict}
    assert "'fine' says that they show one person" in clash.sentence


def test_a_name_of_somebody_else_is_a_conflict() -> None:
    wrong = said(0, 1, "wrong label", "query: b")
    fixes, clashes = outcome(wrong, said(0, 4, "look-alike"))
    assert fixes == set()
    assert clashes == {(0, 4)}


def test_look_alikes_of_one_label_may_be_merged_elsewhere() -> None:
    verdicts = said(0, 1, "look-alike"), said(2, 3, "same person")
    fixes, clashes = outcome(*verdicts, suspected={0: "c"})
    assert clashes == set()
    assert fixes == {(0, "c", BY_FINDING), (3, "a", BY_MERGE), (4, "a", BY_MERGE)}


def found(
    kind: str,
    items: tuple[int, ...],
    names: tuple[str, ...],
    own: float = 5.0,
    score: float = 0.9,
) -> Finding:
    return Finding(
        kind=kind,
        score=score,
        sample_ids=(),
        items=items,
        pairs=(),
        identities=names,
        evidence={"own_images": own},
    )


def test_what_findings_suggest() -> None:
    findings = [
        found(MISLABELED, (4,), ("a", "b")),
        found(MISLABELED, (4, 5), ("a", "c")),
        found(SPLIT, (6, 7), ("a", "b")),
        # It may as well be the only other image of the label that is wrong.
        found(MISLABELED, (8,), ("d", "e"), own=1.0),
        # Weak findings are listed for those who ask for them, and change nothing.
        found(MISLABELED, (9,), ("d", "e"), score=0.49),
        found(MISLABELED, (10,), ("d", "e"), score=0.5),
    ]
    assert suggested_labels(findings) == {4: "b", 5: "c", 8: None, 10: "e"}


def test_a_doubt_without_a_name_keeps_identities_apart() -> None:
    """A finding that suggests nothing is no fix, but no reason for a merge either."""
    wrong, same = said(0, 1, "wrong label"), said(0, 3, "same person")
    assert outcome(wrong, suspected={0: None})[0] == {
        (0, None, UNDECIDED),
        (1, None, UNDECIDED),
    }
    assert outcome(same, suspected={0: None}) == ({(0, "b", BY_PARTNER)}, set())


# --------------------------------------------------------------------------------------
# In a dataset
# --------------------------------------------------------------------------------------


def test_fixes_of_real_findings_are_the_true_identities(tmp_path: Path) -> None:
    run = run_with_errors(tmp_path)
    dataset = run.dataset
    try:
        findings = find_suspects(run).of_kind(MISLABELED)
        for one in findings:
            set_verdict(run, one.pairs[0], "wrong label")
        fixes = find_fixes(run)
        assert len(fixes.agreed) == len(findings) == 4
        assert (fixes.open, fixes.conflicts) == ((), ())
        assert {fix.rule for fix in fixes.fixes} == {BY_FINDING}
        for fix in fixes.agreed:
            sample = dataset[fix.id]
            assert fix.old == sample.identity != sample.true_identity
            assert fix.new == sample.true_identity
        apply_verdicts(run)
        assert dataset.values("identity_fixed") == dataset.values("true_identity")
    finally:
        dataset.delete()


@pytest.fixture
def run(dataset: fo.Dataset, tmp_path: Path) -> Run:
    """12 images of p0 to p3, every image a query; k reaches all of them."""
    fill(dataset, tmp_path)
    return explain_retrieval(
        dataset, tiny_model(), k=11, protocol=Protocol(identity_field="identity")
    )


def pair_of(run: Run, query: int, neighbor: int) -> int:
    """The pair of two images."""
    pairs = run.pairs
    [found] = ((pairs.query == query) & (pairs.gallery == neighbor)).nonzero()[0]
    return int(found)


def judge(run: Run, query: int, neighbor: int, text: str, note: str = "") -> None:
    set_verdict(run, pair_of(run, query, neighbor), text, note)


@pytest.fixture
def judged(run: Run) -> Run:
    """Image 0 is p1, p2 and p3 are one, and image 4's partner has a wrong label."""
    judge(run, 0, 1, "wrong label", "query: p1")
    judge(run, 6, 9, "same person")
    judge(run, 4, 5, "wrong label")
    return run


FIXED = ["p1", "p0", "p0", "p1", "p1", "p1", "p2", "p2", "p2", "p2", "p2", "p2"]
ORIGINAL = [f"p{identity}" for identity in range(4) for _ in range(3)]


def test_find_fixes(judged: Run) -> None:
    fixes = find_fixes(judged)
    ids = [str(one) for one in judged.items.ids]
    assert (fixes.dataset, fixes.run) == (judged.dataset.name, "sfam")
    assert (fixes.field, fixes.patches_field) == ("identity", None)
    assert [(ids.index(one.id), one.old, one.new) for one in fixes.agreed] == [
        (0, "p0", "p1"),
        (9, "p3", "p2"),
        (10, "p3", "p2"),
        (11, "p3", "p2"),
    ]
    assert [ids.index(one.id) for one in fixes.open] == [4, 5]
    assert fixes.conflicts == ()
    assert fixes.agreed[0].verdicts == (
        PairVerdict(ids[0], ids[1], "wrong label", "query: p1"),
    )
    assert {one.sample_id for one in fixes.fixes} <= set(judged.dataset.values("id"))


def test_a_withdrawn_verdict_withdraws_its_fix(judged: Run) -> None:
    restore_verdict(judged, pair_of(judged, 6, 9), None)
    assert [fix.new for fix in find_fixes(judged).agreed] == ["p1"]


def test_a_run_without_identities_has_nothing_to_fix(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path, identities=2)
    run = explain_retrieval(dataset, tiny_model(), k=1)
    with pytest.raises(DataError, match="the run 'sfam' has no identity field"):
        find_fixes(run)


def test_apply_to_a_new_field_and_undo(judged: Run) -> None:
    dataset = judged.dataset
    applied = apply_verdicts(judged)
    assert (applied.field, applied.created) == ("identity_fixed", True)
    assert (applied.fixed, applied.changed, applied.open) == (4, 0, 2)
    assert (applied.left_out, applied.conflicts) == ((), 0)
    assert dataset.values("identity_fixed") == FIXED
    assert dataset.values("identity") == ORIGINAL
    assert applied_fields(dataset) == ["identity_fixed"]

    undone = undo_fixes(judged)
    assert (undone.field, undone.deleted) == ("identity_fixed", True)
    assert dataset.get_field("identity_fixed") is None
    assert applied_fields(dataset) == []
    assert dataset.list_runs(method=METHOD) == []


def test_nothing_is_overwritten_silently(judged: Run) -> None:
    apply_verdicts(judged)
    for field in (None, "identity", "camera"):
        with pytest.raises(DataError, match=r"has a field '\w+' already"):
            apply_verdicts(judged, field=field)
    assert judged.dataset.values("identity") == ORIGINAL


def test_apply_in_place_and_undo(judged: Run) -> None:
    dataset = judged.dataset
    applied = apply_verdicts(judged, field="identity", overwrite=True)
    assert (applied.created, applied.fixed, applied.changed) == (False, 4, 4)
    assert dataset.values("identity") == FIXED
    # Once more changes nothing, for the labels are right by now.
    again = apply_verdicts(judged, field="identity", overwrite=True)
    assert (again.fixed, again.changed, again.left_out) == (4, 0, ())
    assert undo_fixes(dataset, "identity").restored == 0
    assert undo_fixes(dataset, "identity").restored == 4
    assert dataset.values("identity") == ORIGINAL
    with pytest.raises(DataError, match="no fixes were applied"):
        undo_fixes(dataset)


def test_another_field_gets_all_identities_and_gives_its_values_back(
    judged: Run,
) -> None:
    dataset = judged.dataset
    before = [None, "x", "p1", *["y"] * 9]
    dataset.add_sample_field("mine", fo.StringField)
    dataset.set_values("mine", before)
    applied = apply_verdicts(judged, field="mine", overwrite=True)
    assert dataset.values("mine") == FIXED
    assert applied.changed == 12
    dataset.set_values("mine", {dataset.first().id: "edited"}, key_field="id")
    undone = undo_fixes(dataset)
    # What somebody has changed since is theirs.
    [left] = undone.left_out
    assert left.id == dataset.first().id
    assert "was changed in the meantime" in left.reason
    assert dataset.values("mine") == ["edited", *before[1:]]


def test_verdicts_that_come_later_replace_what_was_applied(judged: Run) -> None:
    dataset = judged.dataset
    apply_verdicts(judged)
    restore_verdict(judged, pair_of(judged, 6, 9), None)
    later = apply_verdicts(judged, overwrite=True)
    assert (later.fixed, later.changed) == (1, 3)
    assert dataset.values("identity_fixed") == ["p1", *ORIGINAL[1:]]
    # One after the other is taken back.
    undo_fixes(judged)
    assert dataset.values("identity_fixed") == FIXED
    undo_fixes(judged)
    assert dataset.get_field("identity_fixed") is None


def test_a_label_that_has_changed_meanwhile_is_left_out(judged: Run) -> None:
    dataset = judged.dataset
    ids = dataset.values("id")
    dataset.set_values("identity", {ids[0]: "p3", ids[9]: "p2"}, key_field="id")
    dataset.delete_samples([ids[10]])
    applied = apply_verdicts(judged)
    assert {one.id: one.reason for one in applied.left_out} == {
        ids[0]: "its label is now 'p3', not 'p0'.",
        ids[10]: "the image is no longer in the dataset.",
    }
    # Image 9 has the right label already.
    assert applied.fixed == 2
    assert dataset.values("identity_fixed") == ["p3", *ORIGINAL[1:9], "p2", "p2"]


def test_an_edited_new_field_is_not_deleted_unasked(judged: Run) -> None:
    dataset = judged.dataset
    apply_verdicts(judged)
    dataset.set_values("identity_fixed", {dataset.first().id: "x"}, key_field="id")
    with pytest.raises(DataError, match="was changed since"):
        undo_fixes(judged)
    assert dataset.first().identity_fixed == "x"
    assert undo_fixes(judged, force=True).deleted
    assert dataset.get_field("identity_fixed") is None


def test_fixes_outlive_their_run(judged: Run) -> None:
    dataset = judged.dataset
    apply_verdicts(judged)
    delete_run(dataset, "sfam")
    assert dataset.values("identity_fixed") == FIXED
    assert undo_fixes(dataset).deleted


def test_undo_says_which_fields_there_are(judged: Run) -> None:
    apply_verdicts(judged)
    apply_verdicts(judged, field="other")
    with pytest.raises(DataError, match="applied to 'identity_fixed', 'other'"):
        undo_fixes(judged)
    assert undo_fixes(judged, "other").field == "other"


def test_undo_after_the_field_was_deleted(judged: Run) -> None:
    apply_verdicts(judged)
    judged.dataset.delete_sample_field("identity_fixed")
    undo_fixes(judged)
    assert applied_fields(judged.dataset) == []


@pytest.mark.parametrize("name", ["", "_hidden", "filepath", "a.b", "two words", "id"])
def test_names_that_cannot_be_used(judged: Run, name: str) -> None:
    if name:
        with pytest.raises(DataError, match="cannot be used"):
            apply_verdicts(judged, field=name, overwrite=True)
    else:
        assert apply_verdicts(judged, field=name).field == "identity_fixed"


def test_a_field_of_another_type_is_refused(judged: Run) -> None:
    with pytest.raises(DataError, match="'sfam' is not of the same type"):
        apply_verdicts(judged, field="sfam", overwrite=True)


def test_nothing_agreed_on_makes_no_field(run: Run) -> None:
    judge(run, 0, 1, "wrong label")
    with pytest.raises(DataError, match="agree on no fix"):
        apply_verdicts(run)
    assert run.dataset.get_field("identity_fixed") is None


def test_numbers_stay_numbers(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill(dataset, tmp_path)
    numbers = [int(name[1:]) for name in dataset.values("identity")]
    dataset.set_values("number", numbers)
    run = explain_retrieval(
        dataset, tiny_model(), k=11, protocol=Protocol(identity_field="number")
    )
    judge(run, 6, 9, "same person")
    judge(run, 0, 1, "wrong label", "query: 1")
    fixes = find_fixes(run)
    ids = [str(one) for one in run.items.ids]
    unfit = replace(fixes.fixes[0], id=ids[1], sample_id=ids[1], new="x")
    edited = replace(
        fixes,
        fixes=(
            unfit,
            *(replace(one, new="7") if one.old == "3" else one for one in fixes.fixes),
        ),
    )
    applied = apply_verdicts(run, edited)
    assert dataset.values("number_fixed") == [1, 0, 0, 1, 1, 1, 2, 2, 2, 7, 7, 7]
    [left] = applied.left_out
    assert left.reason == "'x' does not fit into a field of IntField."


def test_classifications_keep_what_they_carry(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path)
    labels = [
        fo.Classification(label=name, confidence=0.5, tags=["seen"])
        for name in dataset.values("identity")
    ]
    labels[11] = None
    dataset.set_values("who", labels)
    run = explain_retrieval(
        dataset, tiny_model(), k=11, protocol=Protocol(identity_field="who")
    )
    judge(run, 0, 1, "wrong label", "query: p1")
    judge(run, 11, 9, "same person")
    applied = apply_verdicts(run)
    assert (applied.field, applied.fixed) == ("who_fixed.label", 1)
    assert dataset.values("who_fixed.label") == ["p1", *ORIGINAL[1:11], None]
    assert dataset.values("who_fixed.confidence") == [0.5] * 11 + [None]
    assert dataset.values("who.label") == [*ORIGINAL[:11], None]
    [left] = applied.left_out
    assert "has no label in 'who'" in left.reason
    assert undo_fixes(run).deleted
    assert dataset.get_field("who_fixed") is None
    apply_verdicts(run, field="who", overwrite=True)
    assert dataset.values("who.label") == ["p1", *ORIGINAL[1:11], None]
    undo_fixes(run)
    assert dataset.values("who.label") == [*ORIGINAL[:11], None]


@pytest.mark.parametrize("listed", [True, False])
def test_detections(dataset: fo.Dataset, tmp_path: Path, listed: bool) -> None:
    fill_frames(dataset, tmp_path, listed=listed)
    run = explain_retrieval(
        dataset,
        tiny_model(),
        k=11,
        patches_field="people",
        protocol=Protocol(identity_field="label"),
    )
    path = "people.detections.label" if listed else "people.label"
    before = dataset.values(path)
    other = run.items.identities[1]
    judge(run, 0, 1, "wrong label", f"query: {other}")
    [fix] = find_fixes(run).agreed
    assert (fix.id, fix.new) == (run.items.label_ids[0], other)
    applied = apply_verdicts(run)
    assert applied.field == path + "_fixed"
    fixed = dataset.values(path + "_fixed")
    assert dataset.values(path) == before
    expected = [list(row) for row in before] if listed else list(before)
    if listed:
        expected[0][0] = other
    else:
        expected[0] = other
    assert fixed == expected
    assert undo_fixes(run).deleted
    assert dataset.get_field(path + "_fixed") is None
    apply_verdicts(run, field="label", overwrite=True)
    assert dataset.values(path) == expected
    undo_fixes(run)
    assert dataset.values(path) == before


def test_detections_in_a_group(
    make_dataset: Callable[..., fo.Dataset], tmp_path: Path
) -> None:
    """The fixed field reaches all slices, whichever is active."""
    frames = fill_frames(make_dataset(), tmp_path)
    dataset = make_dataset()
    dataset.add_group_field("group", default="left")
    for frame in frames:
        group = fo.Group()
        copies = []
        for name in ("left", "right"):
            sample = fo.Sample(
                filepath=frame.filepath,
                group=group.element(name),
                people=frame.people.copy(),
            )
            copies.append(sample)
        dataset.add_samples(copies)
    dataset.group_slice = "left"
    view = dataset.select_group_slices("right")
    run = explain_retrieval(
        view,
        tiny_model(),
        k=11,
        patches_field="people",
        protocol=Protocol(identity_field="label"),
    )
    other = run.items.identities[1]
    judge(run, 0, 1, "wrong label", f"query: {other}")
    applied = apply_verdicts(run)
    assert (applied.fixed, applied.left_out) == (1, ())
    path = "people.detections.label"
    expected = view.values(path)
    expected[0][0] = other
    assert view.values(path + "_fixed") == expected
    dataset.group_slice = "left"
    assert dataset.values(path + "_fixed") == dataset.values(path)


# --------------------------------------------------------------------------------------
# The file
# --------------------------------------------------------------------------------------


def test_the_file_is_read_back_as_it_was(judged: Run, tmp_path: Path) -> None:
    judge(judged, 2, 0, "fine", '‮ sic "quoted" </script>')
    fixes = find_fixes(judged)
    assert len(fixes.conflicts) == 1
    path = write_fixes(judged, tmp_path / "new" / "fixes.json")
    assert replace(read_fixes(path), created="") == replace(fixes, created="")
    assert [one.name for one in path.parent.iterdir()] == ["fixes.json"]
    with pytest.raises(DataError, match="exists"):
        write_fixes(judged, path)
    write_fixes(judged, path, fixes, overwrite=True)
    assert read_fixes(path) == fixes


def test_an_open_fix_is_closed_by_editing_the_file(judged: Run, tmp_path: Path) -> None:
    path = write_fixes(judged, tmp_path / "fixes.json")
    body = json.loads(path.read_text("utf-8"))
    [_, mine] = [one for one in body["fixes"] if one["new"] is None]
    mine["new"] = "somebody new"
    body["fixes"] = [one for one in body["fixes"] if one["old"] != "p3"]
    path.write_text(json.dumps(body), "utf-8")
    applied = apply_verdicts(judged, read_fixes(path))
    assert (applied.fixed, applied.open) == (2, 1)
    expected = ["p1", *ORIGINAL[1:5], "somebody new", *ORIGINAL[6:]]
    assert judged.dataset.values("identity_fixed") == expected


def test_a_person_comes_before_a_merge_and_two_are_refused(judged: Run) -> None:
    fixes = find_fixes(judged)
    merged = fixes.agreed[1]
    assert merged.rule == BY_MERGE
    mine = replace(merged, rule=UNDECIDED, new="p1")
    apply_verdicts(judged, replace(fixes, fixes=(*fixes.fixes, mine)))
    assert judged.dataset[merged.id].identity_fixed == "p1"
    two = replace(fixes, fixes=(mine, replace(mine, new="p0")))
    with pytest.raises(DataError, match="two names, 'p1' and 'p0'"):
        apply_verdicts(judged, two, field="other")


def fixes_of(fix: Fix, **changes: object) -> Fixes:
    values = {
        "dataset": "d",
        "run": "sfam",
        "field": "identity",
        "patches_field": None,
        "created": "",
        "fixes": (fix,),
        "conflicts": (),
    }
    return Fixes(**{**values, **changes})


FIX = Fix(
    id="i",
    sample_id="i",
    old="a",
    new="b",
    rule=BY_NOTE,
    reason="because.",
    verdicts=(),
)


def test_fixes_of_another_field_are_refused(judged: Run) -> None:
    with pytest.raises(DataError, match="for the field 'pid', but the identities"):
        apply_verdicts(judged, fixes_of(FIX, field="pid"))
    applied = apply_verdicts(judged, fixes_of(FIX))
    [left] = applied.left_out
    assert (left.id, left.reason) == ("i", "the image is no longer in the dataset.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body.update(format="other"), "its 'format' is not"),
        (lambda body: body.update(version=2), "its version is not 1"),
        (lambda body: body.pop("field"), "a 'field' is None, not a string"),
        (lambda body: body.update(fixes={}), "'fixes' is not a list of objects"),
        (lambda body: body.update(fixes=[1]), "'fixes' is not a list of objects"),
        (lambda body: body["fixes"][0].update(new=7), "a 'new' is 7, not a string"),
        (lambda body: body["fixes"][0].update(new=" "), "a 'new' is empty"),
        (lambda body: body["fixes"][0].update(rule="x"), "a 'rule' is 'x', not one"),
        (
            lambda body: body["fixes"][0].update(verdicts=None),
            "'verdicts' is not a list",
        ),
        (lambda body: body.update(conflicts=[{"ids": 3}]), "the 'ids' of a conflict"),
    ],
)
def test_other_files_are_refused(
    change: Callable[[dict], object], message: str, tmp_path: Path
) -> None:
    body = json.loads(dump_fixes(fixes_of(FIX)))
    change(body)
    path = tmp_path / "fixes.json"
    path.write_text(json.dumps(body), "utf-8")
    with pytest.raises(DataError, match=message):
        read_fixes(path)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_fixes(tmp_path / "none.json")
    path = tmp_path / "fixes.json"
    for content in (b"{", b"\xff\xfe", b"[" * 100_000, b"[]"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"'fixes\.json' is not"):
            read_fixes(path)
