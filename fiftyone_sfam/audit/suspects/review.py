"""Review of suspects: proposals become verdicts, and verdicts re-rank what is left.

Nothing here changes a label. Verdicts become corrections by the rules of
:mod:`fiftyone_sfam.audit.fixes.rules`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.finding import (
    KINDS,
    MERGED,
    MISLABELED,
    PROBABLE,
    SPLIT,
    THRESHOLD,
    Finding,
)
from fiftyone_sfam.audit.suspects.likelihood import probability
from fiftyone_sfam.audit.suspects.search import Suspects, load_suspects
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.review.notes import APART, FINE, SAME, WRONG, name_in_note, named_in
from fiftyone_sfam.review.texts import MAX_NOTE, clean_note
from fiftyone_sfam.review.verdicts import Verdict, get_verdicts, set_verdicts
from fiftyone_sfam.runs.run import Run

ACCEPTED, REJECTED = "accepted", "rejected"
"""How a finding is settled."""

# Probabilities are not nearer to 0 and 1 than this.
_LEAST = 1e-9


@dataclass(frozen=True, kw_only=True)
class ReviewedSuspects:
    """The findings of a run after some verdicts.

    Attributes
    ----------
    remaining : tuple of Finding
        Findings that no verdict has settled, with the probabilities that follow from
        the verdicts, highest scores first.
    accepted, rejected : tuple of Finding
        Findings that verdicts call right and wrong, with their first scores.
    shifts : dict of str to float
        By how much the verdicts raise the log-odds of each kind that was searched and
        has probabilities.
    expected : dict of str to float
        How many errors of these kinds are expected to be left.
    """

    remaining: tuple[Finding, ...]
    accepted: tuple[Finding, ...]
    rejected: tuple[Finding, ...]
    shifts: dict[str, float]
    expected: dict[str, float]

    def listed(self) -> tuple[tuple[Finding, str], ...]:
        """Return all findings and how they are settled; those that are come last."""
        return (
            *((finding, "") for finding in self.remaining),
            *((finding, ACCEPTED) for finding in self.accepted),
            *((finding, REJECTED) for finding in self.rejected),
        )


# --------------------------------------------------------------------------------------
# From proposals to verdicts
# --------------------------------------------------------------------------------------


def accept_proposal(run: Run, finding: Finding) -> int:
    """Set the verdicts that say that a finding is right.

    No label changes: ``find_fixes`` turns the verdicts into corrections.

    - Mislabeled image: for each image, ``same person`` on the nearest pair with an
      image of the suggested identity, or else ``wrong label`` on another pair. The note
      gives the image the suggested identity.
    - Split identity: ``same person`` on the nearest pair between the two identities.
      The identity with fewer images is merged into the other; of two with as many, into
      the one that comes first in the alphabet.
    - Merged identity: for each image of the smaller group, ``look-alike`` on the
      nearest pair with the larger group. A note can only name identities that the run
      has. So the corrections are left open, until a person enters a new identity.

    Other findings are about pictures. They get no verdict.

    Parameters
    ----------
    run : Run
        The run.
    finding : Finding
        One of its findings.

    Returns
    -------
    int
        How many verdicts were set. They replace earlier ones on the same pairs, whose
        remarks are kept. An image without a stored pair has no verdict.

    Raises
    ------
    DataError
        If no pair of the finding is stored.
    RunError
        As for :func:`fiftyone_sfam.set_verdict`.
    """
    return len(settle_proposal(run, finding, is_right=True))


def reject_proposal(run: Run, finding: Finding) -> int:
    """Set the verdicts that say that a finding is wrong.

    They are on the pairs that :func:`accept_proposal` chooses: ``fine``, which says
    that both labels are right, or ``look-alike`` for a split identity, which says that
    two persons look alike, such as twins. Findings about pictures get no verdict.

    Parameters
    ----------
    run : Run
        The run.
    finding : Finding
        One of its findings.

    Returns
    -------
    int
        How many verdicts were set.

    Raises
    ------
    DataError
        If no pair of the finding is stored.
    RunError
        As for :func:`fiftyone_sfam.set_verdict`.
    """
    return len(settle_proposal(run, finding, is_right=False))


def pairs_of_proposal(run: Run, finding: Finding) -> tuple[int, ...]:
    """Return the pairs that get verdicts with the proposal of a finding; may be none.

    Parameters
    ----------
    run : Run
        The run.
    finding : Finding
        One of its findings.

    Returns
    -------
    tuple of int
        Indices into the columns of the run's pairs.
    """
    return tuple(_chosen(run, finding)) if finding.kind in PROBABLE else ()


def settle_proposal(
    run: Run, finding: Finding, is_right: bool, request_id: str = ""
) -> dict[int, Verdict | None]:
    """Set the verdicts on a finding; return those before, as ``set_verdicts`` does."""
    if finding.kind not in PROBABLE:
        return {}
    chosen = _chosen(run, finding)
    if not chosen:
        raise DataError(
            f"no stored pair of the run '{run.key}' shows this finding; correct the "
            "labels in the dataset, or make a run with more neighbors."
        )
    before = get_verdicts(run, chosen)
    previous: dict[int, Verdict | None] = {}
    for pair, items in chosen.items():
        if finding.kind == SPLIT:
            text, note = (SAME if is_right else APART), ""
        elif not is_right:
            text, note = FINE, ""
        elif finding.kind == MERGED:
            text, note = APART, ""
        else:
            text, note = _relabeled(run, finding, pair, items)
        note = _with_remarks(note, before.get(pair))
        previous |= set_verdicts(run, [pair], text, note, request_id)
    return previous


def _with_remarks(note: str, before: Verdict | None) -> str:
    """Add what else the note of the earlier verdict says."""
    lines = [] if before is None else before.note.splitlines()
    remarks = [line for line in lines if not named_in(line)]
    joined = "\n".join(filter(None, [note, *remarks]))
    return joined if len(joined) <= MAX_NOTE else note


def _relabeled(
    run: Run, finding: Finding, pair: int, items: Sequence[int]
) -> tuple[str, str]:
    """Return verdict and note that give images of a pair the suggested identity."""
    ends, suggested = _ends(run, pair), finding.identity
    lines = [name_in_note(_side(ends, item), suggested) for item in items]
    note = "\n".join(lines) if all(lines) else ""
    try:
        note = clean_note(note)
    except DataError:
        note = ""  # too long a name, say: findings tell what is meant
    is_partner = suggested in (run.items.identities[end] for end in ends)
    return (SAME if is_partner else WRONG), note


def _chosen(run: Run, finding: Finding) -> dict[int, list[int]]:
    """Return the pairs that get verdicts, with the images that they are about."""
    names = run.items.identities
    chosen: dict[int, list[int]] = defaultdict(list)
    if finding.kind == SPLIT:
        pair = _between(run, finding)
        return {} if pair is None else {pair: list(_ends(run, pair))}
    for item in finding.changes:
        pairs, partners = _pairs_of(run, item)
        if finding.kind == MERGED:
            others = {*finding.items} - {*finding.changes}
            places = [place for place, one in enumerate(partners) if one in others]
        else:
            # The suggested identity first, then the images that keep the label.
            places = sorted(
                range(len(pairs)),
                key=lambda place: (
                    names[partners[place]] != finding.identity,
                    names[partners[place]] != names[item]
                    or partners[place] in finding.changes,
                ),
            )
        if places:
            chosen[pairs[places[0]]].append(item)
    return chosen


def _between(run: Run, finding: Finding) -> int | None:
    """Return the nearest pair whose verdict merges two identities.

    An image whose own label is in doubt would be renamed alone.
    """
    suspects = load_suspects(run)
    doubtful = {
        item
        for other in (() if suspects is None else suspects.of_kind(MISLABELED))
        for item in other.items
        if other.score >= THRESHOLD
    }
    for pair, verdict in get_verdicts(run).items():
        ends, text = _ends(run, pair), verdict.text
        is_named = text == SAME and named_in(verdict.note)
        if text == WRONG or is_named or (text == APART and _match(run, ends)):
            doubtful |= {*ends}
    clear = (pair for pair in finding.pairs if doubtful.isdisjoint(_ends(run, pair)))
    return next(clear, next(iter(finding.pairs), None))


def _pairs_of(run: Run, item: int) -> tuple[list[int], list[int]]:
    """Return an image's pairs and its partners in them, nearest first."""
    columns = run.pairs
    pairs = np.flatnonzero((columns.query == item) | (columns.gallery == item))
    pairs = pairs[np.argsort(-columns.similarity[pairs], kind="stable")]
    query, gallery = columns.query[pairs], columns.gallery[pairs]
    return pairs.tolist(), np.where(query == item, gallery, query).tolist()


def _ends(run: Run, pair: int) -> tuple[int, int]:
    return int(run.pairs.query[pair]), int(run.pairs.gallery[pair])


def _match(run: Run, ends: tuple[int, int]) -> bool:
    first, second = (_person(run, item) for item in ends)
    return first is not None and first == second


def _person(run: Run, item: int) -> str | None:
    """Return the identity of an image; None for distractors."""
    name = run.items.identities[item]
    return None if name in run.config.protocol.get("distractors", ()) else name


def _side(ends: tuple[int, int], item: int) -> str:
    return "query" if item == ends[0] else "neighbor"


# --------------------------------------------------------------------------------------
# From verdicts to what is left
# --------------------------------------------------------------------------------------


def review_suspects(run: Run, suspects: Suspects) -> ReviewedSuspects:
    """Rank the findings that the verdicts of a run have not settled.

    A verdict on a pair of a finding settles it: ``same person`` and ``look-alike``
    agree with the proposal or contradict it, ``wrong label`` agrees with mislabeled
    images and merged identities, and ``fine`` contradicts. The last verdict counts.
    ``wrong label`` with a note settles mislabeled images as right if it gives one of
    them another identity.

    If fewer (or more) of the settled findings of a kind are right than their
    probabilities say, the others are less (or more) probable as well. Their log-odds
    are shifted by the most probable intercept ``b``, which maximizes ::

        sum_j [y_j log s(x_j + b) + (1 - y_j) log(1 - s(x_j + b))] - b^2 / 2

    with the log-odds ``x_j`` of the settled findings, ``y_j`` = 1 for those that are
    right and 0 for the others, and ``s(x) = 1 / (1 + exp(-x))``. The last term is the
    prior: ``b`` is normally distributed around 0 with a standard deviation of 1.
    Findings about pictures have no probabilities and keep their scores.

    The errors that are left to be expected are the sum of the new probabilities of what
    is not settled, plus the probabilities below the threshold, which are not listed and
    stay as they were. Mislabeled images are counted image by image.

    Parameters
    ----------
    run : Run
        The run.
    suspects : Suspects
        Its suspects.

    Returns
    -------
    ReviewedSuspects
        The findings, ranked.
    """
    answers = _answers(run, suspects.findings)
    shifts, expected = {}, {}
    for kind in suspects.kinds:
        if kind not in PROBABLE:
            continue
        scored = [
            (finding.score, answers[place])
            for place, finding in enumerate(suspects.findings)
            if finding.kind == kind and place in answers
        ]
        shifts[kind] = _shift(scored)
        left = suspects.expected.get(kind, 0.0)
        for place, finding in enumerate(suspects.findings):
            if finding.kind == kind:
                scores = _probabilities(suspects, finding)
                after = _shifted(scores, shifts[kind]) * (place not in answers)
                left += float(np.sum(after - scores))
        expected[kind] = max(left, 0.0)
    remaining = [
        replace(finding, score=float(_shifted(finding.score, shifts[finding.kind])))
        if shifts.get(finding.kind)
        else finding
        for place, finding in enumerate(suspects.findings)
        if place not in answers
    ]
    remaining.sort(key=lambda f: (-f.score, KINDS.index(f.kind), f.sample_ids))
    settled = [(suspects.findings[place], answers[place]) for place in sorted(answers)]
    return ReviewedSuspects(
        remaining=tuple(remaining),
        accepted=tuple(finding for finding, is_right in settled if is_right),
        rejected=tuple(finding for finding, is_right in settled if not is_right),
        shifts=shifts,
        expected=expected,
    )


def right_first(findings: Iterable[Finding], precision: float) -> tuple[Finding, ...]:
    """Return the longest list of findings of which so many are expected to be right.

    Findings without a probability are left out. The others are listed, most probable
    first, as long as the mean of their probabilities is at least ``precision``.
    """
    if not 0 < precision <= 1:
        raise DataError(
            f"the precision is {precision}; use a number above 0 and at most 1."
        )
    listed = sorted(
        (finding for finding in findings if finding.kind in PROBABLE),
        key=lambda finding: -finding.score,
    )
    scores = np.array([finding.score for finding in listed])
    means = np.cumsum(scores) / np.arange(1, len(scores) + 1)
    # The means fall.
    return tuple(listed[: int((means >= precision).sum())])


def _probabilities(suspects: Suspects, finding: Finding) -> NDArray[np.float64]:
    """Return the probabilities of the errors that a finding stands for."""
    if finding.kind != MISLABELED:
        return np.array([finding.score])
    scores = suspects.label_scores[list(finding.items)].astype(np.float64)
    return np.where(np.isfinite(scores), scores, finding.score)


def _log_odds(scores: NDArray[np.float64] | float) -> NDArray[np.float64]:
    inside = np.clip(scores, _LEAST, 1 - _LEAST)
    return np.log(inside) - np.log1p(-inside)


def _shifted(scores: NDArray[np.float64] | float, shift: float) -> NDArray[np.float64]:
    return probability(_log_odds(scores) + shift) if shift else np.asarray(scores)


def _shift(settled: Sequence[tuple[float, bool]]) -> float:
    """Return the shift of the log-odds that settled probabilities ask for."""
    if not settled:
        return 0.0
    from scipy.optimize import brentq

    odds = _log_odds(np.array([score for score, _ in settled]))
    right = np.array([is_right for _, is_right in settled], dtype=float)

    def slope(shift: float) -> float:
        return float((right - probability(odds + shift)).sum() - shift)

    # The slope falls, and the sum lies between these bounds.
    return float(brentq(slope, -len(settled) - 1.0, len(settled) + 1.0, xtol=1e-12))


def _answers(run: Run, findings: Sequence[Finding]) -> dict[int, bool]:
    """Return which findings are right and wrong according to the verdicts."""
    places: dict[int, list[int]] = defaultdict(list)
    for place, finding in enumerate(findings):
        if finding.kind in PROBABLE:
            for item in finding.items:
                places[item].append(place)
    answers: dict[int, bool] = {}
    # The last verdict counts.
    verdicts = sorted(get_verdicts(run).items(), key=lambda one: one[1].created)
    for pair, verdict in verdicts:
        ends = _ends(run, pair)
        for place in {*places[ends[0]], *places[ends[1]]}:
            answer = _answer(run, findings[place], ends, verdict)
            if answer is not None:
                answers[place] = answer
    return answers


def _answer(
    run: Run, finding: Finding, ends: tuple[int, int], verdict: Verdict
) -> bool | None:
    """Return whether a verdict agrees with a finding; None if it says nothing of it."""
    match = _match(run, ends)
    is_one = verdict.text == SAME or (verdict.text == FINE and match)
    is_wrong = verdict.text == WRONG or (verdict.text == APART and match)
    is_two = verdict.text == APART or (
        verdict.text == FINE and None not in (_person(run, item) for item in ends)
    )
    if not (is_one or is_wrong or is_two):
        return None
    names = {run.items.identities[item] for item in ends}
    if finding.kind == SPLIT:
        if names != {*finding.identities} or verdict.text == WRONG:
            return None
        return is_one
    inside = [item for item in ends if item in finding.changes]
    if finding.kind == MERGED:
        if len(inside) != 1 or not {*ends} <= {*finding.items}:
            return None
        return is_wrong
    return _answer_to_mislabeled(run, finding, ends, verdict, inside, is_one)


def _answer_to_mislabeled(
    run: Run,
    finding: Finding,
    ends: tuple[int, int],
    verdict: Verdict,
    inside: Sequence[int],
    is_one: bool,
) -> bool | None:
    label, suggested = finding.identities
    named = {
        side: name
        for side, name in named_in(verdict.note)
        if verdict.text != FINE and name in run.items.identities
    }
    new = [named[_side(ends, item)] for item in inside if _side(ends, item) in named]
    if new:
        return any(name != label for name in new)
    if len(inside) != 1:
        return None
    [partner] = {*ends} - {*inside}
    if _side(ends, partner) in named:
        return False  # the other label is wrong
    if run.items.identities[partner] == suggested:
        return is_one or verdict.text == WRONG
    if run.items.identities[partner] == label:
        return not is_one
    return None
