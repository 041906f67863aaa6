"""Suspects as tables, figures and notes, the same wherever they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from fiftyone_sfam.audit.statistics.cells import (
    Shown,
    Table,
    count,
    name,
    number,
    table,
    text,
)
from fiftyone_sfam.audit.suspects.finding import GROUP, Finding
from fiftyone_sfam.audit.suspects.search import Suspects
from fiftyone_sfam.data.text import shorten

# Characters of a sentence in a list.
_LONGEST = 600


def counts_table(suspects: Suspects) -> Table:
    """Return the number of findings of each kind."""
    counts = suspects.counts().items()
    rows = [(text(kind), count(findings)) for kind, findings in counts]
    return table(("kind", "findings"), rows)


def findings_table(findings: Sequence[Finding], digits: int = 3) -> Table:
    """Return the score, kind and sentence of findings."""
    rows = (
        (
            number(finding.score, digits),
            text(finding.kind),
            text(shorten(finding.sentence, _LONGEST)),
        )
        for finding in findings
    )
    return Table(("Score", "Kind", "Finding"), tuple(rows))


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


def notes(suspects: Suspects) -> tuple[str, ...]:
    """Say what could not be checked, and when the suspects were searched."""
    return (*suspects.limits, f"Looked for {suspects.created}.")


def _figure(value: float | str) -> Shown:
    if isinstance(value, str):
        return name(value)
    if float(value).is_integer() and abs(value) < 1e6:
        return count(int(value))
    return number(float(value))
