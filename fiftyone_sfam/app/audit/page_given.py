"""The first page of the audit panel where the pairs of the run were given as a list."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.audit.blocks import (
    Block,
    Card,
    buttons_block,
    cards_block,
    result_block,
    text_block,
)
from fiftyone_sfam.app.audit.choices import (
    VERIFY_PAIRS,
    WRITE_REPORT,
    Choices,
    Mark,
    Opened,
    Params,
    place_of,
    to_pairs,
)
from fiftyone_sfam.audit.evaluation.measures import Identification
from fiftyone_sfam.audit.evaluation.overview import Overview
from fiftyone_sfam.audit.verification.display import (
    folds_table,
    measures_table,
    sentences,
)
from fiftyone_sfam.audit.verification.verify import (
    Verification,
    has_both_kinds,
    measure_pairs,
    pair_scores,
)
from fiftyone_sfam.data.text import counted, escape_markdown, percent
from fiftyone_sfam.retrieval.given import NO_PAIR
from fiftyone_sfam.review.verdicts import Reviewed
from fiftyone_sfam.runs.run import Run

NO_LABELS = (
    "The list has no labeled pairs of both kinds, so there are no error rates: give "
    "labels in the list, or make the run with an identity field."
)


def page(run: Run, done: Reviewed) -> list[Block]:
    """Return the blocks of the page."""
    blocks = [
        text_block(f"warning_{number}", f"**{escape_markdown(text)}**")
        for number, text in enumerate(run.warnings)
    ]
    verified = verification_of(run)
    blocks.append(cards_block("cards", cards(run, verified, done)))
    if verified is None:
        blocks.append(text_block("no_labels", NO_LABELS))
    else:
        note = " ".join(sentences(verified))
        measures = measures_table(verified)
        blocks.append(result_block("verification", "Verification", note, measures))
        if verified.folds:
            hint = (
                "Each at the threshold that is most accurate on all others. Click a "
                "row: the pairs of the fold."
            )
            table = folds_table(verified)
            blocks.append(result_block("folds", "Accuracy by folds", hint, table))
    operators = [("Write report", "on_operator", {"operator": WRITE_REPORT})]
    if verified is not None:
        verify = ("Verify at a threshold", "on_operator", {"operator": VERIFY_PAIRS})
        operators.insert(0, verify)
    return [*blocks, buttons_block("operators", operators)]


def cards(run: Run, verified: Verification | None, done: Reviewed) -> list[Card]:
    """Return the cards."""
    counts, shown = run.config.counts, []
    if verified is not None:
        if verified.folds:
            hint = "Mean accuracy of the folds, each at the threshold of the others."
            shown.append(Card(percent(verified.accuracy, 2), "Accuracy", hint, ""))
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
            hint = f"Pairs of {title.lower()}."
            count = counts[name]
            shown.append(Card(f"{count:,}", title, hint, mark if count else ""))
    return [*shown, *common_cards(run, done)]


def common_cards(run: Run, done: Reviewed) -> list[Card]:
    """Return the cards of every run."""
    counts = run.config.counts
    shown = [
        Card(
            f"{done.pairs:,}",
            f"Reviewed of {done.total_pairs:,}",
            f"Pairs with a verdict, of {done.queries:,} of the "
            f"{counted(done.total_queries, 'query', 'queries')}.",
            "reviewed" if done.pairs else "",
        ),
        Card(
            f"{counts['queries']:,}",
            "Queries",
            "Images with neighbors to look at. Opens their first neighbors.",
            "queries",
        ),
    ]
    if counts["skipped"]:
        shown.append(
            Card(
                f"{counts['skipped']:,}",
                "Skipped",
                "Images that could not be used.",
                "skipped",
            )
        )
    if counts.get("rows skipped"):
        shown.append(
            Card(
                f"{counts['rows skipped']:,}",
                f"Rows skipped of {counts['rows']:,}",
                "Rows of the list whose images are missing or could not be used.",
                "",
            )
        )
    return shown


def figures_of(run: Run) -> Overview:
    """Return the figures that the page of scores shows; empty without labels."""
    verified = verification_of(run)
    none, counts = np.empty(0), np.zeros(0, dtype=np.int64)
    unranked = Identification(counts, none, none, counts, 0)
    nan = float("nan")
    if verified is None:
        return Overview(
            identification=unranked,
            edges=none,
            genuine=counts,
            impostor=counts,
            roc_fmr=none,
            roc_fnmr=none,
            roc_threshold=none,
            auc=nan,
            equal_error=nan,
            equal_error_threshold=nan,
            score_name="",
            evidence=None,
        )
    scores = verified.scores
    return Overview(
        identification=unranked,
        edges=scores.edges,
        genuine=scores.genuine,
        impostor=scores.impostor,
        roc_fmr=scores.roc_fmr,
        roc_fnmr=scores.roc_fnmr,
        roc_threshold=scores.roc_threshold,
        auc=scores.auc,
        equal_error=scores.equal_error,
        equal_error_threshold=scores.equal_error_threshold,
        score_name=verified.score_name,
        evidence=None,
    )


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
