"""The report's part on verdicts, and what follows from them for the labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fiftyone_sfam.audit.fixes.find import Conflict, Fix, Fixes
from fiftyone_sfam.audit.report.cells import (
    Shown,
    Table,
    count,
    name,
    number,
    prose,
    table,
    text,
)
from fiftyone_sfam.audit.report.tables import item_files
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import VERDICTS, Reviewed, Verdict
from fiftyone_sfam.runs.run import Run

MAX_VERDICTS = 500
"""Most verdicts that are listed."""


@dataclass(frozen=True)
class VerdictsPart:
    """The verdicts."""

    progress: str  # how far the review is
    counts: Table  # how often each verdict was given, and the verdicts
    listed: Table  # how often each verdict was given, and the verdicts
    fixes: tuple[tuple[str, str, Table], ...]


def verdicts_part(
    run: Run, verdicts: Mapping[int, Verdict], done: Reviewed, fixes: Fixes | None
) -> VerdictsPart:
    """Show the verdicts of a run."""
    texts = [one.text for one in verdicts.values()]
    known = [verdict for verdict in VERDICTS if verdict in texts]
    known += sorted(set(texts) - set(VERDICTS))
    return VerdictsPart(
        f"{done.pairs:,} of {done.total_pairs:,} pairs have a verdict, of "
        f"{done.queries:,} of {done.total_queries:,} queries.",
        table(
            ("verdict", "pairs"),
            [(name(verdict), count(texts.count(verdict))) for verdict in known],
        ),
        _listed(run, verdicts),
        () if fixes is None else tuple(_fixes(run, fixes)),
    )


def _listed(run: Run, verdicts: Mapping[int, Verdict]) -> Table:
    """List the verdicts."""
    columns, items = run.pairs, run.items
    shown = list(verdicts)[:MAX_VERDICTS]
    ends = [
        int(end[pair]) for end in (columns.query, columns.gallery) for pair in shown
    ]
    files = item_files(run, ends)
    rows = []
    for pair, one in verdicts.items():
        query, neighbor = int(columns.query[pair]), int(columns.gallery[pair])
        rows.append(
            (
                Shown(str(pair), "number", pair),
                name(files.get(query), "deleted"),
                name(items.identities[query]),
                name(files.get(neighbor), "deleted"),
                name(items.identities[neighbor]),
                number(float(columns.similarity[pair])),
                text(OUTCOMES[columns.outcome[pair]]),
                name(one.text),
                name(one.note or None, ""),
            )
        )
    head = ("pair", "query", "identity", "neighbor", "identity", "similarity")
    return table((*head, "outcome", "verdict", "note"), rows, MAX_VERDICTS)


def _fixes(run: Run, fixes: Fixes) -> Iterable[tuple[str, str, Table]]:
    """Yield what follows from the verdicts."""
    if fixes.agreed:
        yield (
            "Corrections that are agreed on",
            "Apply them to a new field with the operator “SFAM: apply verdicts” or the "
            "command fiftyone-sfam fixes.",
            _fix_table(run, fixes.agreed),
        )
    if fixes.open:
        yield (
            "Labels that are called wrong, without a right one",
            "Say what is right in the verdict's note or in the file of fixes.",
            _fix_table(run, fixes.open),
        )
    if fixes.conflicts:
        yield (
            "Verdicts that contradict each other",
            "Nothing is changed for these until one of them is.",
            _conflict_table(fixes.conflicts),
        )


def _fix_table(run: Run, fixes: Iterable[Fix]) -> Table:
    """List fixes."""
    listed = list(fixes)
    items = {one.id: run.items.index(one.id) for one in listed}
    files = item_files(run, [item for item in items.values() if item >= 0])
    rows = [
        (
            name(files.get(items[one.id]), "deleted"),
            name(one.old),
            name(one.new, "?"),
            text(one.rule),
            name(prose(one.reason, (one.old, one.new))),
            count(len(one.verdicts)),
        )
        for one in listed
    ]
    return table(("file", "label", "should be", "rule", "reason", "verdicts"), rows)


def _conflict_table(conflicts: Iterable[Conflict]) -> Table:
    """List contradictions."""
    rows = [
        (
            name(prose(one.sentence)),
            text(", ".join(one.ids)),
            name(", ".join(ground.text for ground in one.verdicts)),
        )
        for one in conflicts
    ]
    return table(("contradiction", "images", "verdicts"), rows)
