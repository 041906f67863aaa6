"""Review of suspects: proposals become verdicts, and verdicts re-rank what is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import Protocol, Run, explain_retrieval
from fiftyone_sfam.audit.fixes.find import find_fixes
from fiftyone_sfam.audit.suspects.display import (
    expected_sentence,
    findings_table,
    notes,
)
from fiftyone_sfam.audit.suspects.finding import (
    DUPLICATE,
    HUB,
    MERGED,
    MISLABELED,
    PROBABLE,
    SPLIT,
    UNINFORMATIVE,
    Finding,
)
from fiftyone_sfam.audit.suspects.review import (
    accept_proposal,
    reject_proposal,
    review_suspects,
    right_first,
)
from fiftyone_sfam.audit.suspects.search import Suspects, find_suspects, load_suspects
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.review.verdicts import get_verdicts, restore_verdict, set_verdict
from report_support import run_with_errors
from worlds import fill, tiny_model

IDENTITIES, SHOTS = 7, 3
HALF = 0.40105813754154701  # the root of b = 1 - 1 / (1 + exp(-b))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """21 images of p0 to p6, every image a query; k reaches all of them."""
    dataset = fo.Dataset()
    fill(dataset, tmp_path_factory.mktemp("people"), IDENTITIES, SHOTS)
    yield explain_retrieval(
        dataset, tiny_model(), k=20, protocol=Protocol(identity_field="identity")
    )
    dataset.delete()


@pytest.fixture
def run(world: Run) -> Iterator[Run]:
    """The run; verdicts are removed in the end."""
    yield world
    for pair in get_verdicts(world):
        restore_verdict(world, pair, None)


def pairs_between(run: Run, some: set[int], others: set[int]) -> tuple[int, ...]:
    """The pairs between two sets of images, nearest first."""
    query, gallery = run.pairs.query.tolist(), run.pairs.gallery.tolist()
    found = [
        pair
        for pair, ends in enumerate(zip(query, gallery, strict=True))
        if (ends[0] in some and ends[1] in others)
        or (ends[1] in some and ends[0] in others)
    ]
    return tuple(sorted(found, key=lambda pair: -run.pairs.similarity[pair]))


def of(identity: int) -> set[int]:
    return set(range(SHOTS * identity, SHOTS * (identity + 1)))


def mislabeled(run: Run, items: set[int], other: int, score: float = 0.9) -> Finding:
    label = min(items) // SHOTS
    return Finding(
        kind=MISLABELED,
        score=score,
        sample_ids=(),
        items=tuple(sorted(items)),
        pairs=pairs_between(run, items, of(other) | of(label)),
        identities=(f"p{label}", f"p{other}"),
        proposal=f"Relabel as p{other}.",
        changes=tuple(sorted(items)),
        identity=f"p{other}",
    )


def split(run: Run, first: int, second: int, score: float = 0.9) -> Finding:
    return Finding(
        kind=SPLIT,
        score=score,
        sample_ids=(),
        items=tuple(sorted(of(first) | of(second))),
        pairs=pairs_between(run, of(first), of(second)),
        identities=(f"p{first}", f"p{second}"),
        changes=tuple(sorted(of(second))),
        identity=f"p{first}",
    )


def merged(run: Run, identity: int, smaller: set[int], score: float = 0.9) -> Finding:
    return Finding(
        kind=MERGED,
        score=score,
        sample_ids=(),
        items=tuple(sorted(of(identity))),
        pairs=pairs_between(run, smaller, of(identity) - smaller),
        identities=(f"p{identity}",),
        changes=tuple(sorted(smaller)),
    )


def suspects_of(
    run: Run, *findings: Finding, expected: dict[str, float] | None = None
) -> Suspects:
    """What a search that found this would return."""
    scores = np.full(len(run.items), np.nan, dtype=np.float32)
    sums = dict.fromkeys(PROBABLE, 0.0)
    for finding in findings:
        if finding.kind in PROBABLE:
            sums[finding.kind] += finding.score
    return Suspects(
        findings=findings,
        kinds=(MISLABELED, SPLIT, MERGED, DUPLICATE),
        min_score=0.5,
        region_field=None,
        split_field=None,
        limits=(),
        expected=expected or sums,
        label_scores=scores,
        created="",
    )


def fixed(run: Run) -> dict[int, str]:
    """The corrections that the verdicts agree on: new identities of images."""
    fixes = find_fixes(run)
    assert fixes.conflicts == ()
    return {run.items.index(fix.id): str(fix.new) for fix in fixes.agreed}


def open_items(run: Run) -> set[int]:
    return {run.items.index(fix.id) for fix in find_fixes(run).open}


# --------------------------------------------------------------------------------------
# From proposals to verdicts
# --------------------------------------------------------------------------------------


def test_a_mislabeled_image_gets_the_suggested_identity(run: Run) -> None:
    assert accept_proposal(run, mislabeled(run, {0}, 1)) == 1
    [verdict] = get_verdicts(run).values()
    nearest = pairs_between(run, {0}, of(1))[0]
    assert (verdict.pair, verdict.text) == (nearest, "same person")
    side = "query" if run.pairs.query[nearest] == 0 else "neighbor"
    assert verdict.note == f"{side}: p1"
    # The note says which label is wrong: p0 and p1 are not merged.
    assert fixed(run) == {0: "p1"}
    assert open_items(run) == set()


def test_remarks_of_an_earlier_verdict_are_kept(run: Run) -> None:
    finding = mislabeled(run, {0}, 1)
    nearest = pairs_between(run, {0}, of(1))[0]
    set_verdict(run, nearest, "background", "one wall\nquery: p5\nneighbor: p5")
    accept_proposal(run, finding)
    side = "query" if run.pairs.query[nearest] == 0 else "neighbor"
    assert get_verdicts(run)[nearest].note == f"{side}: p1\none wall"
    assert fixed(run) == {0: "p1"}
    reject_proposal(run, finding)
    assert get_verdicts(run)[nearest].note == "one wall"


def test_every_image_of_a_finding_is_corrected(run: Run) -> None:
    assert accept_proposal(run, mislabeled(run, {0, 2}, 1)) == 2
    assert fixed(run) == {0: "p1", 2: "p1"}


def test_without_a_pair_with_the_suggested_identity_another_one_does(
    dataset: fo.Dataset, tmp_path: Path
) -> None:
    fill(dataset, tmp_path, IDENTITIES, SHOTS)
    run = explain_retrieval(
        dataset, tiny_model(), k=2, protocol=Protocol(identity_field="identity")
    )
    other = next(n for n in range(1, 7) if not pairs_between(run, {0}, of(n)))
    assert accept_proposal(run, mislabeled(run, {0}, other)) == 1
    [verdict] = get_verdicts(run).values()
    assert verdict.text == "wrong label"
    assert {run.pairs.query[verdict.pair], run.pairs.gallery[verdict.pair]} < of(0)
    assert fixed(run) == {0: f"p{other}"}
    assert open_items(run) == set()
    # One pair of two such images names both.
    both = pairs_between(run, {0}, {1})[:1]
    assert both
    accept_proposal(run, mislabeled(run, {0, 1, 2}, other))
    assert fixed(run) == {0: f"p{other}", 1: f"p{other}", 2: f"p{other}"}


def test_a_split_identity_is_merged(run: Run) -> None:
    assert accept_proposal(run, split(run, 2, 4)) == 1
    [verdict] = get_verdicts(run).values()
    assert (verdict.text, verdict.note) == ("same person", "")
    assert verdict.pair == pairs_between(run, of(2), of(4))[0]
    assert fixed(run) == dict.fromkeys(of(4), "p2")


def test_a_merge_does_not_go_through_a_doubtful_image(run: Run) -> None:
    """A pair with it would rename this image only."""
    finding = split(run, 2, 4)
    nearest = finding.pairs[0]
    ends = {int(run.pairs.query[nearest]), int(run.pairs.gallery[nearest])}
    [doubtful] = ends & of(4)
    set_verdict(run, pairs_between(run, {doubtful}, of(4) - {doubtful})[0], "fine")
    accept_proposal(run, mislabeled(run, of(6) & {18}, 5))
    other = pairs_between(run, {doubtful}, of(0))[0]
    side = "query" if run.pairs.query[other] == doubtful else "neighbor"
    set_verdict(run, other, "wrong label", f"{side}: p2")
    before = set(get_verdicts(run))
    accept_proposal(run, finding)
    [chosen] = set(get_verdicts(run)) - before
    assert doubtful not in (run.pairs.query[chosen], run.pairs.gallery[chosen])
    assert fixed(run) == {**dict.fromkeys(of(4), "p2"), 18: "p5"}


def test_a_merged_identity_waits_for_a_new_name(run: Run) -> None:
    assert accept_proposal(run, merged(run, 3, {9})) == 1
    [verdict] = get_verdicts(run).values()
    assert (verdict.text, verdict.note) == ("look-alike", "")
    assert verdict.pair == pairs_between(run, {9}, {10, 11})[0]
    assert fixed(run) == {}
    assert open_items(run) == {
        int(run.pairs.query[verdict.pair]),
        int(run.pairs.gallery[verdict.pair]),
    }


@pytest.mark.parametrize("kind", [DUPLICATE, HUB, UNINFORMATIVE])
def test_findings_about_pictures_get_no_verdict(run: Run, kind: str) -> None:
    finding = replace(mislabeled(run, {0}, 1), kind=kind)
    assert accept_proposal(run, finding) == reject_proposal(run, finding) == 0
    assert get_verdicts(run) == {}


def test_a_rejection_keeps_the_labels(run: Run) -> None:
    for finding, text in (
        (mislabeled(run, {0}, 1), "fine"),
        (split(run, 2, 4), "look-alike"),
        (merged(run, 3, {9}), "fine"),
    ):
        assert reject_proposal(run, finding) == 1
        assert fixed(run) == {}
        assert open_items(run) == set()
        [verdict] = get_verdicts(run).values()
        assert verdict.text == text
        # The other answer replaces it.
        accept_proposal(run, finding)
        [accepted] = get_verdicts(run).values()
        assert accepted.pair == verdict.pair
        assert fixed(run) or open_items(run)
        restore_verdict(run, accepted.pair, None)


def test_a_finding_without_stored_pairs(run: Run) -> None:
    finding = replace(split(run, 2, 4), pairs=())
    for settle in (accept_proposal, reject_proposal):
        with pytest.raises(DataError, match="no stored pair of the run 'sfam' shows"):
            settle(run, finding)


@pytest.mark.parametrize(
    "name", [" spaced ", "two\nlines", "x" * 3000], ids=["spaced", "lines", "long"]
)
def test_a_name_that_no_note_can_hold(
    dataset: fo.Dataset, tmp_path: Path, name: str
) -> None:
    """The stored finding says what the verdict means."""
    fill(dataset, tmp_path)
    names = [name if one == "p1" else one for one in dataset.values("identity")]
    dataset.set_values("identity", names)
    run = explain_retrieval(
        dataset, tiny_model(), k=11, protocol=Protocol(identity_field="identity")
    )
    finding = replace(mislabeled(run, {0}, 1), identities=("p0", name), identity=name)
    assert accept_proposal(run, finding) == 1
    [verdict] = get_verdicts(run).values()
    assert (verdict.text, verdict.note) == ("same person", "")
    assert review_suspects(run, suspects_of(run, finding)).accepted == (finding,)


def test_proposals_of_a_search_are_corrections(tmp_path: Path) -> None:
    run = run_with_errors(tmp_path)
    dataset = run.dataset
    try:
        suspects = find_suspects(run, kinds=[MISLABELED])
        assert len(suspects) == 4
        for finding in suspects.findings:
            accept_proposal(run, finding)
        # They need the findings no longer.
        run.results.delete("suspects")
        assert load_suspects(run) is None
        truth = dataset.values("true_identity")
        labels = dataset.values("identity")
        wrong = [item for item, label in enumerate(labels) if label != truth[item]]
        assert fixed(run) == {item: truth[item] for item in wrong}
        reviewed = review_suspects(run, suspects)
        assert reviewed.accepted == suspects.findings
        assert reviewed.remaining == reviewed.rejected == ()
    finally:
        dataset.delete()


# --------------------------------------------------------------------------------------
# From verdicts to what is left
# --------------------------------------------------------------------------------------


def odds(score: float) -> float:
    return float(np.log(score / (1 - score)))


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def test_without_verdicts_nothing_changes(run: Run) -> None:
    duplicate = replace(split(run, 0, 1, 0.97), kind=DUPLICATE)
    findings = (
        duplicate,
        mislabeled(run, {0}, 1, 0.9),
        split(run, 2, 4, 0.7),
        merged(run, 3, {9}, 0.6),
    )
    expected = {MISLABELED: 1.3, SPLIT: 0.75, MERGED: 2.0}
    reviewed = review_suspects(run, suspects_of(run, *findings, expected=expected))
    assert reviewed.remaining == findings
    assert reviewed.accepted == reviewed.rejected == ()
    assert reviewed.expected == expected
    assert reviewed.shifts == dict.fromkeys(PROBABLE, 0.0)
    # Verdicts on other pairs, and those that are not about labels, say nothing.
    set_verdict(run, pairs_between(run, {0}, of(5))[0], "wrong label")
    set_verdict(run, findings[1].pairs[0], "background")
    set_verdict(run, findings[2].pairs[0], "wrong label")
    assert review_suspects(run, suspects_of(run, *findings)).remaining == findings


def test_one_verdict_shifts_its_kind(run: Run) -> None:
    """With x = 0 and y = 1 the shift is the root of b = 1 - sigma(b)."""
    first, second = mislabeled(run, {0}, 1, 0.5), mislabeled(run, {3}, 2, 0.5)
    third, other = mislabeled(run, {6}, 3, 0.4), split(run, 4, 5, 0.45)
    expected = {MISLABELED: 2.0, SPLIT: 0.45, MERGED: 0.0}
    suspects = suspects_of(run, first, second, other, third, expected=expected)
    accept_proposal(run, first)
    reviewed = review_suspects(run, suspects)
    assert reviewed.shifts == {
        MISLABELED: pytest.approx(HALF, abs=1e-9),
        SPLIT: 0.0,
        MERGED: 0.0,
    }
    assert reviewed.accepted == (first,)
    raised = [sigmoid(HALF), sigmoid(odds(0.4) + HALF)]
    assert raised == pytest.approx([0.5989, 0.4989], abs=1e-4)
    # The third one is now before the split identity, whose kind has no verdict.
    assert [one.kind for one in reviewed.remaining] == [MISLABELED, MISLABELED, SPLIT]
    scores = [one.score for one in reviewed.remaining]
    assert scores == pytest.approx([*raised, 0.45], abs=1e-9)
    # 2.0 - 0.5 - 0.5 - 0.4 = 0.6 are below the threshold and stay.
    assert reviewed.expected[MISLABELED] == pytest.approx(0.6 + sum(raised), abs=1e-9)
    assert reviewed.expected[SPLIT] == 0.45

    reject_proposal(run, first)
    reviewed = review_suspects(run, suspects)
    assert reviewed.shifts[MISLABELED] == pytest.approx(-HALF, abs=1e-9)
    assert reviewed.rejected == (first,)
    assert [mark for _, mark in reviewed.listed()] == ["", "", "", "rejected"]
    assert reviewed.listed()[-1][0] == first


def test_a_kind_that_is_rejected_again_and_again_falls(run: Run) -> None:
    pairs = [(a, b) for a in range(IDENTITIES) for b in range(a)]
    scores = np.linspace(0.95, 0.55, len(pairs))
    findings = [
        split(run, *pair, score=float(score))
        for pair, score in zip(pairs, scores, strict=True)
    ]
    suspects = suspects_of(run, *findings)
    for finding in findings[:10]:
        reject_proposal(run, finding)
    reviewed = review_suspects(run, suspects)
    shift = reviewed.shifts[SPLIT]
    # The slope of the log-posterior is zero.
    slope = -sum(sigmoid(odds(score) + shift) for score in scores[:10]) - shift
    assert slope == pytest.approx(0.0, abs=1e-9)
    assert shift < -2
    assert reviewed.rejected == tuple(findings[:10])
    left = [sigmoid(odds(score) + shift) for score in scores[10:]]
    assert [one.score for one in reviewed.remaining] == pytest.approx(left)
    assert max(left) < 0.35 < min(scores)
    assert [one.identities for one in reviewed.remaining] == [
        one.identities for one in findings[10:]
    ]
    assert reviewed.expected[SPLIT] == pytest.approx(sum(left))


def test_mislabeled_images_are_counted_one_by_one(run: Run) -> None:
    first, second = mislabeled(run, {0, 1}, 3, 0.9), mislabeled(run, {6}, 2, 0.6)
    suspects = suspects_of(run, first, second, expected={MISLABELED: 2.5})
    scores = suspects.label_scores
    scores[[0, 1, 6]] = 0.9, 0.8, 0.6
    accept_proposal(run, first)
    reviewed = review_suspects(run, suspects)
    # Both images are settled, and 2.5 - 0.9 - 0.8 - 0.6 = 0.2 are below the threshold.
    [left] = reviewed.remaining
    assert reviewed.expected[MISLABELED] == pytest.approx(0.2 + left.score, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "partners", "text", "note", "answer"),
    [
        (MISLABELED, {3}, "same person", "", "accepted"),
        (MISLABELED, {3}, "wrong label", "", "accepted"),
        (MISLABELED, {3}, "fine", "", "rejected"),
        (MISLABELED, {3}, "look-alike", "", "rejected"),
        (MISLABELED, {1}, "wrong label", "", "accepted"),
        (MISLABELED, {1}, "look-alike", "", "accepted"),
        (MISLABELED, {1}, "same person", "", "rejected"),
        (MISLABELED, {1}, "fine", "", "rejected"),
        # Another image of the pair is renamed.
        (MISLABELED, {3}, "wrong label", "3: p0", "rejected"),
        # The label is wrong, though another one is right.
        (MISLABELED, {3}, "wrong label", "0: p5", "accepted"),
        (MISLABELED, {12}, "wrong label", "0: p5", "accepted"),
        (MISLABELED, {12}, "wrong label", "0: in a hat", ""),
        (MISLABELED, {12}, "wrong label", "", ""),
        (SPLIT, {3}, "same person", "", "accepted"),
        (SPLIT, {3}, "fine", "", "rejected"),
        (SPLIT, {3}, "look-alike", "", "rejected"),
        (SPLIT, {3}, "wrong label", "", ""),
        (SPLIT, {1}, "same person", "", ""),
        (MERGED, {1}, "look-alike", "", "accepted"),
        (MERGED, {1}, "wrong label", "", "accepted"),
        (MERGED, {1}, "same person", "", "rejected"),
        (MERGED, {1}, "fine", "", "rejected"),
        (MERGED, {3}, "look-alike", "", ""),
    ],
)
def test_what_a_verdict_says_of_a_finding(
    run: Run, kind: str, partners: set[int], text: str, note: str, answer: str
) -> None:
    finding = {
        MISLABELED: mislabeled(run, {0}, 1),
        SPLIT: split(run, 0, 1),
        MERGED: merged(run, 0, {0}),
    }[kind]
    pair = pairs_between(run, {0}, partners)[0]
    if note:
        item, _, name = note.partition(": ")
        side = "query" if run.pairs.query[pair] == int(item) else "neighbor"
        note = f"{side}: {name}"
    set_verdict(run, pair, text, note)
    [(_, mark)] = review_suspects(run, suspects_of(run, finding)).listed()
    assert mark == answer


def test_the_last_verdict_counts(run: Run) -> None:
    finding = split(run, 0, 1)
    near, far = finding.pairs[0], finding.pairs[-1]
    set_verdict(run, far, "same person")
    set_verdict(run, near, "look-alike")
    reviewed = review_suspects(run, suspects_of(run, finding))
    assert reviewed.rejected == (finding,)
    set_verdict(run, far, "same person")
    reviewed = review_suspects(run, suspects_of(run, finding))
    assert reviewed.accepted == (finding,)


def test_expected_errors_in_words(run: Run) -> None:
    finding = split(run, 0, 1, 0.8)
    expected = {MISLABELED: 2.14, SPLIT: 0.97, MERGED: 0.04}
    suspects = suspects_of(run, finding, expected=expected)
    sentence = (
        "Expected among all labels: 2.1 mislabeled images, 1 split identity and 0 "
        "merged identities."
    )
    assert expected_sentence(suspects) == sentence
    assert expected_sentence(suspects, review_suspects(run, suspects)) == sentence
    assert notes(suspects)[0] == sentence
    accept_proposal(run, finding)
    # 0.97 - 0.8 = 0.17 are below the threshold.
    assert expected_sentence(suspects, review_suspects(run, suspects)) == (
        "Expected to be left among all labels: 2.1 mislabeled images, 0.2 split "
        "identities and 0 merged identities."
    )
    one = replace(suspects, expected={MERGED: 11.0})
    assert expected_sentence(one) == (
        "Expected among all labels: 11 merged identities."
    )
    assert expected_sentence(replace(suspects, expected={})) == ""
    table = findings_table([finding, finding], answers=["", "rejected"])
    assert table.head == ("Score", "Kind", "Finding", "Proposal", "Review")
    assert [row[-1] for row in table.texts()] == ["", "rejected"]
    assert len(findings_table([finding], answers=[""]).head) == 4


# --------------------------------------------------------------------------------------
# Precision
# --------------------------------------------------------------------------------------


def listed(*scores: float) -> list[Finding]:
    return [
        Finding(
            kind=PROBABLE[place % 3],
            score=score,
            sample_ids=(str(place),),
            items=(),
            pairs=(),
            identities=(),
        )
        for place, score in enumerate(scores)
    ]


def test_right_nine_times_in_ten() -> None:
    findings = listed(0.99, 0.95, 0.85, 0.80, 0.70)
    # The means are 0.99, 0.97, 0.93, 0.8975, 0.858.
    assert right_first(findings, 0.9) == tuple(findings[:3])
    assert right_first(findings[::-1], 0.9) == tuple(findings[:3])
    assert right_first(findings, 0.85) == tuple(findings)
    assert right_first(findings, 1.0) == ()
    assert right_first([], 0.5) == ()
    picture = replace(findings[0], kind=DUPLICATE, score=1.0)
    assert right_first([picture, *findings], 0.95) == tuple(findings[:2])


@pytest.mark.parametrize("precision", [0.0, -1.0, 1.5, float("nan")])
def test_a_precision_is_a_share(precision: float) -> None:
    with pytest.raises(DataError, match="above 0 and at most 1"):
        right_first([], precision)
