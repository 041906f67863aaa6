"""The page of suspects: what looks wrong with the labels and images, worst first."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from fiftyone_sfam.app.audit.blocks import (
    Block,
    buttons_block,
    choice_block,
    result_block,
    text_block,
)
from fiftyone_sfam.app.audit.choices import (
    FIND_SUSPECTS,
    Choices,
    Mark,
    Opened,
    Params,
    Selection,
    first_pairs,
    place_of,
    to_pairs,
)
from fiftyone_sfam.app.audit.results import stored
from fiftyone_sfam.audit.suspects.display import expected_sentence, findings_table
from fiftyone_sfam.audit.suspects.finding import MERGED, MISLABELED, PROBABLE
from fiftyone_sfam.audit.suspects.review import (
    ACCEPTED,
    ReviewedSuspects,
    accept_proposal,
    reject_proposal,
    review_suspects,
)
from fiftyone_sfam.audit.suspects.search import Finding, Suspects, load_suspects
from fiftyone_sfam.data.text import counted, escape_markdown, quoted
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.review.store import VERDICT_FIELD_ENDING
from fiftyone_sfam.runs.run import Run

ALL_KINDS = "(all)"
MOST_FINDINGS = 200
"""Findings that are listed."""


def page(run: Run, chosen: Choices) -> list[Block]:
    """Return the blocks of the page."""
    suspects = stored(run, load_suspects)
    if suspects is None:
        return [
            text_block(
                "no_suspects",
                "Images that look mislabeled, one person under two identities, two "
                "under one, near-duplicates and images that say nothing: find them "
                "once; they are stored with the run.",
            ),
            buttons_block(
                "find",
                [("Find suspects", "on_operator", {"operator": FIND_SUSPECTS})],
            ),
        ]
    again = buttons_block(
        "again", [("Find suspects again", "on_operator", {"operator": FIND_SUSPECTS})]
    )
    limits = [escape_markdown(limit) for limit in suspects.limits]
    notes = [text_block("limits", "  \n".join(limits))] if limits else []
    reviewed = review_suspects(run, suspects)
    expected = expected_sentence(suspects, reviewed)
    if expected:
        notes = [text_block("expected", escape_markdown(expected)), *notes]
    if not suspects.findings:
        return [text_block("nothing", "Nothing looks wrong."), *notes, again]
    return [
        *_table_blocks(suspects, reviewed, chosen),
        *_proposal_blocks(reviewed, chosen),
        *notes,
        again,
    ]


def finding_key(finding: Finding) -> str:
    """Return what a finding is known by, whatever its place and its score are."""
    values = [finding.kind, finding.identities, finding.items]
    return hashlib.blake2b(json.dumps(values).encode(), digest_size=6).hexdigest()


def _listed(
    reviewed: ReviewedSuspects, chosen: Choices
) -> tuple[tuple[Finding, str], ...]:
    """Return the findings that are listed, and how they are settled."""
    listed = reviewed.listed()
    of_kind = [entry for entry in listed if entry[0].kind == chosen.kind]
    return tuple(of_kind or listed)[:MOST_FINDINGS]


def _table_blocks(
    suspects: Suspects, reviewed: ReviewedSuspects, chosen: Choices
) -> list[Block]:
    counts = Counter(finding.kind for finding in suspects.findings)
    kind = chosen.kind if chosen.kind and chosen.kind in counts else ALL_KINDS
    kinds = [(ALL_KINDS, f"all kinds ({len(suspects):,})")]
    kinds += [(name, f"{name} ({count:,})") for name, count in counts.items()]
    listed = _listed(reviewed, chosen)
    findings = [finding for finding, _ in listed]
    total = counts.get(kind, len(suspects))
    hint = (
        "Worst first. Click a row: its images, its pairs to review, and its proposal "
        "to accept or to reject."
    )
    if len(findings) < total:
        hint += f" The first {len(findings):,} of {total:,}."
    return [
        choice_block("kind", "Kind", kinds, kind),
        result_block(
            "findings",
            counted(total, "finding"),
            hint,
            findings_table(findings, 2, [answer for _, answer in listed]),
            keys=[finding_key(finding) for finding in findings],
        ),
    ]


def _proposal_blocks(reviewed: ReviewedSuspects, chosen: Choices) -> list[Block]:
    """Show the proposal of the chosen finding."""
    for finding, answer in reviewed.listed() if chosen.finding else ():
        if chosen.finding != finding_key(finding):
            continue
        text = f"**{escape_markdown(_title(finding))}.** "
        text += escape_markdown(finding.proposal)
        if finding.kind not in PROBABLE:
            text += " This is about pictures, so there is no verdict to give."
            return [text_block("proposal", text)]
        if finding.kind != MISLABELED and not finding.pairs:
            text += (
                " No stored pair shows this, so there is no verdict to give: correct "
                "the labels in the dataset, or make a run with more neighbors."
            )
            return [text_block("proposal", text)]
        if answer:
            text += f" The proposal is {answer}."
        if answer == ACCEPTED and finding.kind == MERGED:
            text += " Enter the new identity in the file of fixes."
        params = {"finding": chosen.finding}
        buttons = [
            (label, "on_mark", {"mark": mark, **params})
            for label, mark in (
                ("Accept the proposal", "accept_proposal"),
                ("Reject it", "reject_proposal"),
            )
        ]
        return [text_block("proposal", text), buttons_block("settle", buttons)]
    return []


def _title(finding: Finding) -> str:
    of_whom = ", ".join(quoted(name) for name in finding.identities[:2])
    return f"{finding.kind}: {of_whom}" if of_whom else finding.kind


def finding_selection(run: Run, finding: Finding) -> Selection:
    """Open the images of a finding, and its pairs.

    Where no pair that shows it is stored (two pictures of one camera, say, were never
    compared), the nearest neighbors of its images are there to look at.
    """
    title = _title(finding)
    pairs = finding.pairs
    if not pairs:
        items = np.array(finding.items, dtype=np.int64)
        pairs = tuple(first_pairs(run, items).tolist())
        title += ", nearest neighbors"
    samples = finding.sample_ids
    if len(samples) == 1:
        # One image alone shows nothing to compare it with.
        both = to_pairs(run, title, np.array(pairs, dtype=np.int64), both=True)
        samples += both.samples
    return Selection(title, tuple(pairs), tuple(dict.fromkeys(samples)))


def _on_finding(run: Run, params: Params, chosen: Choices) -> Opened:
    # Verdicts may have changed the order since the App got the table.
    key = params["keys"][place_of(params)]
    return Opened(finding_selection(run, _find(run, key)), {"finding": key})


def _on_accept(run: Run, params: Params, chosen: Choices) -> Opened:
    return _settled(run, str(params.get("finding")), accept_proposal)


def _on_reject(run: Run, params: Params, chosen: Choices) -> Opened:
    return _settled(run, str(params.get("finding")), reject_proposal)


def _settled(run: Run, key: str, settle: Callable[[Run, Finding], int]) -> Opened:
    """Set the verdicts on a finding, and show the list anew."""
    field = run.key + VERDICT_FIELD_ENDING
    known = run.dataset.has_sample_field(field)
    settle(run, _find(run, key))
    new_field = not known and run.dataset.has_sample_field(field)
    return Opened(chosen={"finding": key}, new_field=new_field)


def _find(run: Run, key: str) -> Finding:
    suspects = stored(run, load_suspects)
    for finding in () if suspects is None else suspects.findings:
        if finding_key(finding) == key:
            return finding
    raise DataError(
        "this finding is gone since the suspects were searched again; choose another."
    )


MARKS: Mapping[str, Mark] = {
    "findings": _on_finding,
    "accept_proposal": _on_accept,
    "reject_proposal": _on_reject,
}
"""Effects of clicks, by the name of the block."""
