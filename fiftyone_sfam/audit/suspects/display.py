"""Suspects as tables, figures and notes, the same wherever they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fiftyone_sfam.audit.statistics.cells import (
    Shown,
    Table,
    count,
    name,
    number,
    table,
    text,
)
from fiftyone_sfam.audit.suspects.finding import (
    GROUP,
    MERGED,
    MISLABELED,
    SPLIT,
    Finding,
)
from fiftyone_sfam.audit.suspects.review import ReviewedSuspects
from fiftyone_sfam.audit.suspects.search import Suspects
from fiftyone_sfam.data import text as texts
from fiftyone_sfam.data.text import shorten

_NOUNS: Mapping[str, tuple[str, str]] = {
    MISLABELED: ("mislabeled image", "mislabeled images"),
    SPLIT: ("split identity", "split identities"),
    MERGED: ("merged identity", "merged identities"),
}
# Characters of a sentence in a list.
_LONGEST = 600


def counts_table(suspects: Suspects) -> Table:
    """Return the number of findings of each kind."""
    counts = suspects.counts().items()
    rows = [(text(kind), count(findings)) for kind, findings in counts]
    return table(("kind", "findings"), rows)


def findings_table(
    findings: Sequence[Finding], digits: int = 3, answers: Sequence[str] = ()
) -> Table:
    """Return score, kind, sentence and proposal of findings, and how they are settled.

    Without any answer, the last column is left out.
    """
    head: tuple[str, ...] = ("Score", "Kind", "Finding", "Proposal")
    rows: list[tuple[Shown, ...]] = [
        (
            number(finding.score, digits),
            text(finding.kind),
            text(shorten(finding.sentence, _LONGEST)),
            text(shorten(finding.proposal, _LONGEST)),
        )
        for finding in findings
    ]
    if any(answers):
        head += ("Review",)
        rows = [(*row, text(answer)) for row, answer in zip(rows, answers, strict=True)]
    return Table(head, tuple(rows))


def evidence(finding: Finding) -> tuple[tuple[str, Shown], ...]:
    """Return the named figures that support a finding."""
    return tuple(
        (key.replace("_", " "), _figure(value))
        for key, value in finding.evidence.items()
        # The order of the pictures shows the group.
        if value != "" and key != GROUP
    )


def named_identities(finding: Finding) -> tuple[str, ...]:
    """Return the identities that the sentence of a finding names."""
    other = finding.evidence.get("other_identity")
    return (*finding.identities, *([other] if isinstance(other, str) else []))


def notes(
    suspects: Suspects, reviewed: ReviewedSuspects | None = None
) -> tuple[str, ...]:
    """Say how many errors are expected, what was not checked, and when it was."""
    sentence = expected_sentence(suspects, reviewed)
    expected = (sentence,) if sentence else ()
    return (*expected, *suspects.limits, f"Looked for {suspects.created}.")


def expected_sentence(
    suspects: Suspects, reviewed: ReviewedSuspects | None = None
) -> str:
    """Say how many errors are expected, or left if some findings are settled.

    Empty if no kind with probabilities was searched.
    """
    expected, left = suspects.expected, ""
    if reviewed is not None and (reviewed.accepted or reviewed.rejected):
        expected, left = reviewed.expected, " to be left"
    counts = [
        _about(expected[kind], *nouns)
        for kind, nouns in _NOUNS.items()
        if kind in expected
    ]
    if not counts:
        return ""
    listed = " and ".join(filter(None, [", ".join(counts[:-1]), counts[-1]]))
    return f"Expected{left} among all labels: {listed}."


def _about(expected: float, singular: str, plural: str) -> str:
    """Return a number of errors, with one decimal unless it is whole, and its noun."""
    shown = texts.number(expected, 1).removesuffix(".0")
    return f"{shown} {singular if shown == '1' else plural}"


def _figure(value: float | str) -> Shown:
    if isinstance(value, str):
        return name(value)
    if float(value).is_integer() and abs(value) < 1e6:
        return count(int(value))
    return number(float(value))
