"""What a report is made of: everything that is known about a run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fiftyone_sfam.audit.evaluation.evaluate import Evaluation, load_evaluation
from fiftyone_sfam.audit.fixes.find import Fixes, find_fixes
from fiftyone_sfam.audit.regions.ledger import Ledger, load_ledger
from fiftyone_sfam.audit.regions.shortcuts import Shortcuts, load_shortcuts
from fiftyone_sfam.audit.suspects.search import Suspects, load_suspects
from fiftyone_sfam.review.verdicts import Reviewed, Verdict, get_verdicts, reviewed
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone_sfam.audit.regions.causal import CausalCheck

# Name of the stored causal check: its module needs torch, which is not to be imported
# where there is none to read.
_CAUSAL = "regions_causal"


@dataclass(frozen=True)
class Results:
    """Everything that is known about a run; None where it was not looked for."""

    evaluation: Evaluation | None  # how good the retrieval is
    suspects: Suspects | None  # findings
    ledger: Ledger | None  # what regions carry
    causal: CausalCheck | None  # what changing a region did
    shortcuts: Shortcuts | None  # who is known by a region
    verdicts: dict[int, Verdict]  # what people say, by pair
    reviewed: Reviewed  # how far they are
    fixes: Fixes | None  # corrections that follow


@dataclass(frozen=True)
class Missing:
    """A part of a report that nothing is known for."""

    what: str  # what is missing, as a sentence
    operator: str  # label of the operator that computes it
    command: str  # command that does


def load_results(run: Run) -> Results:
    """Read everything that is known about a run."""
    labeled = run.config.protocol.get("identity_field") is not None
    return Results(
        load_evaluation(run),
        load_suspects(run),
        load_ledger(run),
        _load_causal(run),
        load_shortcuts(run),
        get_verdicts(run),
        reviewed(run),
        find_fixes(run) if labeled else None,
    )


def missing(run: Run, what: str, operator: str, command: str) -> Missing:
    """Say what computes a part of the report."""
    words = ("fiftyone-sfam", command, run.dataset.name, run.key)
    return Missing(what, f"SFAM: {operator}", shlex.join(words))


def _load_causal(run: Run) -> CausalCheck | None:
    """Read the causal check of a run, if there is one."""
    if _CAUSAL not in run.results.names():
        return None
    from fiftyone_sfam.audit.regions.causal import load_causal_check

    return load_causal_check(run)
