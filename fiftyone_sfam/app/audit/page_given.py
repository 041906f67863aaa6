"""The first page of the audit panel where the pairs of the run were given as a list."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.audit import blocks
from fiftyone_sfam.app.audit.blocks import Block, Card
from fiftyone_sfam.app.audit.choices import (
    Choices,
    Mark,
    Opened,
    Params,
    place_of,
    to_pairs,
)
from fiftyone_sfam.audit.evaluation.measures import Identification
from fiftyone_sfam.audit.evaluation.overview import Overview
from fiftyone_sfam.audit.verification import display
from fiftyone_sfam.audit.verification.verify import (
    Verification,
    has_both_kinds,
    measure_pairs,
    pair_scores,
)
from fiftyone_sfam.data.text import percent
from fiftyone_sfam.retrieval.given import NO_PAIR
from fiftyone_sfam.runs.results import restore
from fiftyone_sfam.runs.run import Run

NO_LABELS = (
    "The list has no labeled pairs of both kinds, so there are no error rates: give "
    "labels in the list, or make the run with an identity field."
)


def tables(run: Run) -> list[Block]:
    """Return the figures of the list, by folds if it has them."""
    verified = verification_of(run)
    if verified is None:
        return [blocks.text("no_labels", NO_LABELS)]
    note, table = (
        " ".join(display.sentences(verified)),
        display.measures_table(verified),
    )
    shown = [blocks.table("verification", "Verification", note, table)]
    if verified.folds:
        hint = (
            "Each at the threshold that is most accurate on all others. Click a row: "
            "the pairs of the fold."
        )
        table = display.folds_table(verified)
        shown.append(blocks.table("folds", "Accuracy by folds", hint, table))
    return shown


def cards(run: Run) -> list[Card]:
    """Return the cards of the figures."""
    verified, counts, shown = verification_of(run), run.config.counts, []
    if verified is not None and verified.folds:
        hint = "Mean accuracy of the folds, each at the threshold of the others."
        shown.append(Card(percent(verified.accuracy, 2), "Accuracy", hint))
    if verified is not None:
        hint = (
            "Error rate at the threshold where both error rates meet. Opens the pairs "
            "of two identities that it accepts."
        )
        error = percent(verified.scores.equal_error)
        shown.append(Card(error, "Equal error", hint, "equal_error"))
    if not run.ranked:
        for name, title, mark in (
            ("true match", "One identity", "true_matches"),
            ("false match", "Two identities", "false_matches"),
        ):
            hint, count = f"Pairs of {title.lower()}.", counts[name]
            shown.append(Card(f"{count:,}", title, hint, mark if count else ""))
    return shown


def figures_of(run: Run) -> Overview | None:
    """Return the figures that the page of scores shows; None without labels."""
    verified = verification_of(run)
    if verified is None:
        return None
    none, counts = np.empty(0), np.zeros(0, dtype=np.int64)
    others = {
        "identification": Identification(counts, none, none, counts, 0),
        "score_name": verified.score_name,
        "evidence": None,
    }
    return restore(Overview, {**vars(verified.scores), **others})


def accepted(run: Run) -> NDArray[np.bool_]:
    """Return which pairs the threshold of the equal error rate accepts."""
    verified = verification_of(run)
    if verified is None:
        return np.zeros(len(run.pairs), dtype=bool)
    return pair_scores(run) >= verified.scores.equal_error_threshold


@lru_cache(maxsize=4)
def verification_of(run: Run) -> Verification | None:
    """Measure a list; a run is never changed, so this is kept. None without labels."""
    return measure_pairs(run) if has_both_kinds(run) else None


def _on_fold(run: Run, params: Params, chosen: Choices) -> Opened:
    verified = verification_of(run)
    if verified is None or run.given is None:
        return Opened()
    fold = verified.folds[place_of(params)].fold
    pairs = np.unique(run.given.pair[run.given.listed.fold == fold])
    return Opened(to_pairs(run, f"fold {fold + 1}", pairs[pairs != NO_PAIR]))


MARKS: Mapping[str, Mark] = {
    "folds": _on_fold,
    "verification": lambda run, params, chosen: Opened(),
}
"""Effects of clicks, by the name of the block."""
