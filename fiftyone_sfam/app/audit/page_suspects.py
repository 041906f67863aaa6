"""The page of suspects: what looks wrong with the labels and images, worst first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

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
from fiftyone_sfam.audit.suspects.display import findings_table
from fiftyone_sfam.audit.suspects.search import Finding, Suspects, load_suspects
from fiftyone_sfam.data.text import counted, escape_markdown, quoted
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
    if not suspects.findings:
        return [text_block("nothing", "Nothing looks wrong."), *notes, again]
    return [*_table_blocks(suspects, chosen), *notes, again]


def shown_findings(suspects: Suspects, chosen: Choices) -> tuple[Finding, ...]:
    """Return the findings of the chosen kind, those that are listed."""
    of_kind = suspects.of_kind(chosen.kind) if chosen.kind else ()
    return (of_kind or suspects.findings)[:MOST_FINDINGS]


def _table_blocks(suspects: Suspects, chosen: Choices) -> list[Block]:
    counts = Counter(finding.kind for finding in suspects.findings)
    kind = chosen.kind if chosen.kind and chosen.kind in counts else ALL_KINDS
    kinds = [(ALL_KINDS, f"all kinds ({len(suspects):,})")]
    kinds += [(name, f"{name} ({count:,})") for name, count in counts.items()]
    shown = shown_findings(suspects, chosen)
    total = counts.get(kind, len(suspects))
    hint = "Worst first. Click a row: its images, and its pairs to review."
    if len(shown) < total:
        hint += f" The first {len(shown):,} of {total:,}."
    return [
        choice_block("kind", "Kind", kinds, kind),
        result_block(
            "findings", counted(total, "finding"), hint, findings_table(shown, 2)
        ),
    ]


def finding_selection(run: Run, finding: Finding) -> Selection:
    """Open the images of a finding, and its pairs.

    Where no pair that shows it is stored (two pictures of one camera, say, were never
    compared), the nearest neighbors of its images are there to look at.
    """
    of_whom = ", ".join(quoted(name) for name in finding.identities[:2])
    title = f"{finding.kind}: {of_whom}" if of_whom else finding.kind
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
    suspects = stored(run, load_suspects)
    if suspects is None:
        return Opened()
    return Opened(
        finding_selection(run, shown_findings(suspects, chosen)[place_of(params)])
    )


MARKS: Mapping[str, Mark] = {"findings": _on_finding}
"""Effects of clicks, by the name of the block."""
