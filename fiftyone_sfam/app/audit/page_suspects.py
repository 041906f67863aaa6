"""The page of suspects: what looks wrong with the labels and images, worst first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fiftyone_sfam.app.audit.blocks import (
    Block,
    component_block,
    operator_block,
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
    to_pairs,
)
from fiftyone_sfam.app.audit.findings import find_finding
from fiftyone_sfam.app.audit.results import stored
from fiftyone_sfam.audit.suspects.search import Finding, load_suspects
from fiftyone_sfam.data.text import escape_markdown, quoted
from fiftyone_sfam.runs.run import Run


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
            operator_block("find", "Find suspects", FIND_SUSPECTS),
        ]
    again = operator_block("again", "Find suspects again", FIND_SUSPECTS)
    limits = [escape_markdown(limit) for limit in suspects.limits]
    notes = [text_block("limits", "  \n".join(limits))] if limits else []
    if not suspects.findings:
        return [text_block("nothing", "Nothing looks wrong."), *notes, again]
    searched = str(run.results.blob_of("suspects"))
    shown = component_block(
        "findings", "SfamFindings", run=run.key, uid=run.config.uid, searched=searched
    )
    return [shown, *notes, again]


def _title(finding: Finding) -> str:
    of_whom = ", ".join(quoted(name) for name in finding.identities[:2])
    return f"{finding.kind}: {of_whom}" if of_whom else finding.kind


def finding_selection(run: Run, finding: Finding, item: object = None) -> Selection:
    """Open the images of a finding, and its pairs, those with an image first.

    Where no pair that shows it is stored (two pictures of one camera, say, were never
    compared), the nearest neighbors of its images are there to look at.
    """
    title = _title(finding)
    pairs = np.array(finding.pairs, dtype=np.int64)
    if not len(pairs):
        pairs = first_pairs(run, np.array(finding.items, dtype=np.int64))
        title += ", nearest neighbors"
    if isinstance(item, int):
        has_item = (run.pairs.query[pairs] == item) | (run.pairs.gallery[pairs] == item)
        pairs = pairs[np.argsort(~has_item, kind="stable")]
    samples = finding.sample_ids
    if len(samples) == 1:
        # One image alone shows nothing to compare it with.
        samples += to_pairs(run, title, pairs, both=True).samples
    return Selection(title, tuple(pairs.tolist()), tuple(dict.fromkeys(samples)))


def _on_finding(run: Run, params: Params, chosen: Choices) -> Opened:
    finding = find_finding(run, str(params.get("finding")))
    return Opened(finding_selection(run, finding, params.get("item")))


MARKS: Mapping[str, Mark] = {"finding": _on_finding}
"""Effects of clicks on the pictures of the findings."""
