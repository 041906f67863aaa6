"""The page of suspects: what looks wrong with the labels and images, worst first."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fiftyone_sfam.app.audit import blocks, choices
from fiftyone_sfam.app.audit.choices import Choices, Mark, Opened, Params, Selection
from fiftyone_sfam.app.audit.findings import find_finding
from fiftyone_sfam.app.audit.results import stored
from fiftyone_sfam.audit.suspects.search import load_suspects
from fiftyone_sfam.data.text import escape_markdown, quoted
from fiftyone_sfam.runs.run import Run


def page(run: Run, chosen: Choices) -> list[blocks.Block]:
    """Return the blocks of the page."""
    suspects = stored(run, load_suspects)
    if suspects is None:
        return [
            blocks.text(
                "no_suspects",
                "Images that look mislabeled, one person under two identities, two "
                "under one, near-duplicates and images that say nothing: find them "
                "once; they are stored with the run.",
            ),
            blocks.operators("find", find_suspects="Find suspects"),
        ]
    limits = "  \n".join(map(escape_markdown, suspects.limits))
    notes = [blocks.text("limits", limits)] if limits else []
    notes.append(blocks.operators("again", find_suspects="Find suspects again"))
    if not suspects.findings:
        return [blocks.text("nothing", "Nothing looks wrong."), *notes]
    searched = str(run.results.blob_of("suspects"))
    shown = {"run": run.key, "uid": run.config.uid, "searched": searched}
    return [blocks.component("findings", "SfamFindings", **shown), *notes]


def _on_finding(run: Run, params: Params, chosen: Choices) -> Opened:
    """Open the images of a finding, and its pairs, those with an image first.

    Where no pair that shows it is stored (two pictures of one camera, say, were never
    compared), the nearest neighbors of its images are there to look at.
    """
    finding, item = find_finding(run, str(params.get("finding"))), params.get("item")
    of_whom = ", ".join(quoted(name) for name in finding.identities[:2])
    title = f"{finding.kind}: {of_whom}" if of_whom else finding.kind
    pairs = np.array(finding.pairs, dtype=np.int64)
    if not len(pairs):
        pairs = choices.first_pairs(run, np.array(finding.items, dtype=np.int64))
        title += ", nearest neighbors"
    if isinstance(item, int):
        has_item = (run.pairs.query[pairs] == item) | (run.pairs.gallery[pairs] == item)
        pairs = pairs[np.argsort(~has_item, kind="stable")]
    samples = finding.sample_ids
    if len(samples) == 1:
        # One image alone shows nothing to compare it with.
        samples += choices.to_pairs(run, title, pairs, both=True).samples
    unique = tuple(dict.fromkeys(samples))
    return Opened(Selection(title, tuple(pairs.tolist()), unique))


MARKS: Mapping[str, Mark] = {"finding": _on_finding}
"""Effects of clicks on the pictures of the findings."""
