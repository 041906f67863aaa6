"""The report's part on findings: what looks wrong, each with its explanation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fiftyone_sfam.audit.fixes.find import Conflict, Fix, Fixes
from fiftyone_sfam.audit.report.pictures import Picture, Pictures
from fiftyone_sfam.audit.report.tables import item_files
from fiftyone_sfam.audit.statistics.cells import (
    Shown,
    Table,
    count,
    name,
    number,
    prose,
    table,
    text,
)
from fiftyone_sfam.audit.suspects.display import (
    counts_table,
    evidence,
    named_identities,
    notes,
)
from fiftyone_sfam.audit.suspects.finding import GROUP, Finding
from fiftyone_sfam.audit.suspects.review import review_suspects
from fiftyone_sfam.audit.suspects.search import Suspects
from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import VERDICTS, Reviewed, Verdict
from fiftyone_sfam.runs.run import Run

PAIRS_SHOWN = 4
"""Most pairs of a finding that are shown with pictures."""

IMAGES_SHOWN = 12
"""Most images of a finding that are listed."""


@dataclass(frozen=True)
class PairPicture:
    """A pair with its maps."""

    pair: int  # index into the run's pairs
    query: Picture
    neighbor: Picture
    caption: str  # who they are
    marked: int  # which of the two the finding is about: 0 or 1


@dataclass(frozen=True, kw_only=True)
class FindingPart:
    """One finding."""

    place: int  # its place in the list, from 1
    kind: str
    sentence: str
    proposal: str  # what to do
    answer: str  # how the verdicts settle it; empty if they do not
    score: Shown  # how sure it is, within its kind
    evidence: tuple[tuple[str, Shown], ...]  # the numbers that it rests on
    images: Table  # images of the finding
    pairs: Table  # pairs of the finding
    pictures: tuple[PairPicture, ...]  # pictures of its pairs
    alone: tuple[tuple[Picture, ...], ...]


@dataclass(frozen=True)
class FindingsPart:
    """The findings."""

    counts: Table  # how many there are of each kind
    kinds: tuple[str, ...]  # the kinds that are shown
    shown: tuple[FindingPart, ...]  # the first of them
    left_out: int  # how many there are beyond those
    notes: tuple[str, ...]  # what could not be judged


def findings_part(
    run: Run,
    suspects: Suspects,
    verdicts: Mapping[int, Verdict],
    max_findings: int,
    images: bool,
) -> FindingsPart:
    """Show the findings of a run."""
    findings = suspects.findings
    chosen = findings[:max_findings]
    pairs = {pair for finding in chosen for pair in finding.pairs}
    items = {item for finding in chosen for item in finding.items}
    for pair in pairs:
        items |= {int(run.pairs.query[pair]), int(run.pairs.gallery[pair])}
    facts = _Facts(run, item_files(run, sorted(items)), verdicts)
    pictures = _pictures(run, chosen) if images else None
    reviewed = review_suspects(run, suspects)
    answers = {id(finding): answer for finding, answer in reviewed.listed()}
    return FindingsPart(
        counts_table(suspects),
        tuple(dict.fromkeys(finding.kind for finding in chosen)),
        tuple(
            _finding(place, finding, answers.get(id(finding), ""), facts, pictures)
            for place, finding in enumerate(chosen, 1)
        ),
        len(findings) - len(chosen),
        notes(suspects, reviewed),
    )


@dataclass(frozen=True)
class _Facts:
    """What is known of the images and pairs that findings name."""

    run: Run
    files: Mapping[int, str]
    verdicts: Mapping[int, Verdict]

    def images(self, items: Sequence[int]) -> Table:
        """List images."""
        run = self.run
        rows = [
            (
                name(self.files.get(item), "deleted"),
                name(run.items.identities[item]),
                name(run.items.cameras[item]),
                text(run.items.ids[item]),
            )
            for item in items
        ]
        return table(("file", "identity", "camera", "id"), rows, IMAGES_SHOWN)

    def ends(self, pair: int) -> tuple[int, int]:
        """Return the images of a pair."""
        columns = self.run.pairs
        return int(columns.query[pair]), int(columns.gallery[pair])

    def caption(self, pair: int) -> str:
        """Say who a pair shows."""
        return f"{pair_caption(self.run, pair)} at rank {self.run.pairs.rank[pair]}"

    def pairs(self, pairs: Sequence[int]) -> Table:
        """List pairs."""
        columns, items = self.run.pairs, self.run.items
        rows = []
        for pair in pairs:
            query, neighbor = self.ends(pair)
            verdict = self.verdicts.get(pair)
            rows.append(
                (
                    Shown(str(pair), "number", int(pair)),
                    name(self.files.get(query), "deleted"),
                    name(items.identities[query]),
                    name(self.files.get(neighbor), "deleted"),
                    name(items.identities[neighbor]),
                    count(int(columns.rank[pair])),
                    number(float(columns.similarity[pair])),
                    text(OUTCOMES[columns.outcome[pair]]),
                    name(None if verdict is None else verdict.text, ""),
                )
            )
        head = ("pair", "query", "identity", "neighbor", "identity", "rank")
        return table((*head, "similarity", "outcome", "verdict"), rows, IMAGES_SHOWN)


def _pictures(run: Run, findings: Iterable[Finding]) -> Pictures:
    """Make ready what draws the findings."""
    pairs: set[int] = set()
    alone: set[int] = set()
    for finding in findings:
        pairs |= set(shown_pairs(run, finding))
        if not finding.pairs:
            alone |= {item for group in shown_groups(run, finding) for item in group}
    return Pictures(run, pairs, alone)


def shown_pairs(run: Run, finding: Finding) -> list[int]:
    """Choose the pairs of a finding that are drawn."""
    chosen: dict[frozenset[int], int] = {}
    for pair in finding.pairs:
        ends = frozenset((int(run.pairs.query[pair]), int(run.pairs.gallery[pair])))
        chosen.setdefault(ends, pair)
    return list(chosen.values())[:PAIRS_SHOWN]


def shown_groups(run: Run, finding: Finding) -> list[list[int]]:
    """Choose the images of a finding without pairs that are drawn."""
    group = set(str(finding.evidence.get(GROUP, "")).split())
    inside = [item for item in finding.items if str(run.items.ids[item]) in group]
    rest = [item for item in finding.items if item not in inside]
    return [items[:IMAGES_SHOWN] for items in (inside, rest) if items]


def _finding(
    place: int,
    finding: Finding,
    answer: str,
    facts: _Facts,
    pictures: Pictures | None,
) -> FindingPart:
    """Show one finding."""
    drawn: list[PairPicture] = []
    alone: list[tuple[Picture, ...]] = []
    if pictures is not None:
        for pair in shown_pairs(facts.run, finding):
            about = [item in finding.items for item in facts.ends(pair)]
            marked = about.index(True) if sum(about) == 1 else -1
            query, neighbor = pictures.of_pair(pair)
            drawn.append(
                PairPicture(pair, query, neighbor, facts.caption(pair), marked)
            )
    if pictures is not None and not finding.pairs:
        for group in shown_groups(facts.run, finding):
            alone.append(tuple(pictures.of_item(item) for item in group))
    return FindingPart(
        place=place,
        kind=finding.kind,
        sentence=prose(finding.sentence, named_identities(finding)),
        proposal=prose(finding.proposal, finding.identities),
        answer=answer,
        score=number(float(finding.score)),
        evidence=evidence(finding),
        images=facts.images(finding.items),
        pairs=facts.pairs(finding.pairs),
        pictures=tuple(drawn),
        alone=tuple(alone),
    )


def pair_caption(run: Run, pair: int) -> str:
    """Say who a pair shows, and how similar they are."""
    pairs, names = run.pairs, run.items.identities
    ends = [names[side[pair]] for side in (pairs.query, pairs.gallery)]
    if ends == [None, None]:
        return f"{pairs.similarity[pair]:.3f}"
    first, second = map(short_name, ends)
    return f"{first} and {second}, {pairs.similarity[pair]:.3f}"


def short_name(identity: str | None) -> str:
    """Return an identity for a caption, which no other text is turned round by."""
    if identity is None:
        return "no identity"
    return f"\u2068{prose(shorten(identity, 20))}\u2069"


MAX_VERDICTS = 500
"""Most verdicts that are listed."""


@dataclass(frozen=True)
class VerdictsPart:
    """The verdicts."""

    progress: str  # how far the review is
    counts: Table  # how often each verdict was given
    listed: Table  # the verdicts
    fixes: tuple[tuple[str, str, Table], ...]


def verdicts_part(
    run: Run, verdicts: Mapping[int, Verdict], done: Reviewed, fixes: Fixes | None
) -> VerdictsPart:
    """Show the verdicts of a run."""
    texts = [given.text for given in verdicts.values()]
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
    for pair, verdict in verdicts.items():
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
                name(verdict.text),
                name(verdict.note or None, ""),
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
    items = {fix.id: run.items.index(fix.id) for fix in listed}
    files = item_files(run, [item for item in items.values() if item >= 0])
    rows = [
        (
            name(files.get(items[fix.id]), "deleted"),
            name(fix.old),
            name(fix.new, "?"),
            text(fix.rule),
            name(prose(fix.reason, (fix.old, fix.new))),
            count(len(fix.verdicts)),
        )
        for fix in listed
    ]
    return table(("file", "label", "should be", "rule", "reason", "verdicts"), rows)


def _conflict_table(conflicts: Iterable[Conflict]) -> Table:
    """List contradictions."""
    rows = [
        (
            name(prose(conflict.sentence)),
            text(", ".join(conflict.ids)),
            name(", ".join(verdict.text for verdict in conflict.verdicts)),
        )
        for conflict in conflicts
    ]
    return table(("contradiction", "images", "verdicts"), rows)
