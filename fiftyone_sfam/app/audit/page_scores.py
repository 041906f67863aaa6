"""The page of scores: their distributions, the threshold, ROC and operating points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiftyone_sfam.app.audit import blocks, page_given
from fiftyone_sfam.app.audit.blocks import Block
from fiftyone_sfam.app.audit.choices import (
    Choices,
    Mark,
    Opened,
    Params,
    Selection,
    place_of,
    to_pairs,
)
from fiftyone_sfam.app.audit.page_overview import (
    NO_IDENTITIES,
    figures_of,
    known_figures,
    offer_evaluation,
)
from fiftyone_sfam.app.audit.results import needed, stored
from fiftyone_sfam.audit.evaluation.display import (
    coarse,
    operating_table,
    rates_at,
    roc_figure,
    score_figure,
)
from fiftyone_sfam.audit.evaluation.evaluate import load_evaluation
from fiftyone_sfam.audit.evaluation.overview import Overview
from fiftyone_sfam.audit.evaluation.scores import MIN_FALSE_ACCEPTS, OperatingPoint
from fiftyone_sfam.audit.verification.verify import pair_scores
from fiftyone_sfam.data.text import counted, percent
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, TRUE_MATCH
from fiftyone_sfam.runs.run import Run

BUTTON_FARS = (1e-2, 1e-3)
"""False match rates that a button puts the threshold at, where pairs support them."""


def page(run: Run, chosen: Choices) -> list[Block]:
    """Return the blocks of the page."""
    figures = figures_of(run)
    if figures is None and run.given is None:
        return offer_evaluation(run)
    if figures is None or not len(figures.roc_fmr):
        text = NO_IDENTITIES if run.given is None else page_given.NO_LABELS
        return [blocks.text("no_labels", text)]
    threshold = threshold_of(figures, chosen)
    low, high = float(figures.edges[0]), float(figures.edges[-1])
    return [
        blocks.plot(
            "scores",
            "Scores of all pairs",
            "Click a bar: the stored pairs with this score. Shift-click: the threshold "
            "moves there.",
            score_figure(figures, figures.score_name, threshold),
            wide=True,
        ),
        blocks.slider("threshold", "Threshold", low, high, threshold),
        blocks.text("rates", _rates(figures, threshold)),
        blocks.buttons("thresholds", _buttons(figures, threshold)),
        blocks.plot(
            "roc",
            "ROC",
            "Click a point: the threshold moves there, and the stored false matches "
            "that it accepts open.",
            roc_figure(figures, [roc_point(figures, threshold)], "the threshold"),
            wide=True,
        ),
        *_operating(_points(run)),
    ]


def threshold_of(figures: Overview, chosen: Choices) -> float:
    """Return the threshold that is chosen, within the scores that there are."""
    if chosen.threshold is None:
        return figures.equal_error_threshold
    return float(np.clip(chosen.threshold, figures.edges[0], figures.edges[-1]))


def threshold_at(figures: Overview, far: float) -> float | None:
    """Return the threshold of a false match rate."""
    if far * figures.impostor.sum() < MIN_FALSE_ACCEPTS:
        return None
    allowed = np.flatnonzero(figures.roc_fmr <= far * (1 + 1e-12))
    return float(figures.roc_threshold[allowed[-1]]) if len(allowed) else None


def roc_point(figures: Overview, threshold: float) -> tuple[float, float]:
    """Return where a threshold lies on the ROC curve, whose axis has no zero."""
    fmr, fnmr = rates_at(figures, threshold)
    return max(fmr, float(figures.roc_fmr.min())), 1 - fnmr


def _rates(figures: Overview, threshold: float) -> str:
    """Say what a threshold does."""
    fmr, fnmr = rates_at(figures, threshold)
    return (
        f"At **{threshold:.3f}** the false match rate (FMR) is **{percent(fmr, 2)}** "
        f"of {counted(int(figures.impostor.sum()), 'pair')} of two identities; the "
        f"false non-match rate (FNMR) is **{percent(fnmr, 2)}** of "
        f"{counted(int(figures.genuine.sum()), 'pair')} of one."
    )


def _buttons(
    figures: Overview, threshold: float
) -> list[tuple[str, str, dict[str, Any]]]:
    keep = {"operator": "decide_pairs", "threshold": threshold}
    at: dict[str, float | None] = {"Equal error": None}
    for far in BUTTON_FARS:
        found = threshold_at(figures, far)
        if found is not None:
            at[f"FMR {100 * far:g} %"] = found
    return [
        *(
            (label, "on_mark", {"mark": "at", "threshold": threshold})
            for label, threshold in at.items()
        ),
        ("Open false accepts", "on_mark", {"mark": "accepted"}),
        ("Open false rejects", "on_mark", {"mark": "refused"}),
        ("Decide pairs", "on_operator", keep),
    ]


def _points(run: Run) -> tuple[OperatingPoint, ...] | None:
    """Return the operating points of the evaluation, or of a given list."""
    if run.given is not None:
        verified = page_given.verification_of(run)
        return None if verified is None else verified.scores.operating
    evaluation = stored(run, load_evaluation)
    return None if evaluation is None else evaluation.verification.operating


def _operating(points: Sequence[OperatingPoint] | None) -> list[Block]:
    """Return the table of operating points, or the offer to compute them."""
    if points is None:
        return [
            blocks.text(
                "no_points",
                "The evaluation adds the rate of true accepts (TAR) at false accept "
                "rates from 10 % to 0.01 %, and how many pairs support each.",
            ),
            blocks.operators("evaluate", evaluate_retrieval="Evaluate retrieval"),
        ]
    return [
        blocks.table(
            "points",
            "True accepts at a false accept rate",
            "Click a row: the threshold moves there, and the stored false matches that "
            "it accepts open.",
            operating_table(points),
        )
    ]


# --------------------------------------------------------------------------------------
# Clicks
# --------------------------------------------------------------------------------------


def _accepted(run: Run, threshold: float) -> Selection:
    """Open the stored false matches that a threshold accepts, the surest first."""
    score = pair_scores(run)
    chosen = np.flatnonzero((run.pairs.outcome == FALSE_MATCH) & (score >= threshold))
    chosen = chosen[np.argsort(-score[chosen], kind="stable")]
    return to_pairs(run, f"false matches accepted at {threshold:.3f}", chosen)


def _on_bar(run: Run, params: Params, chosen: Choices) -> Opened:
    """Open the stored pairs in a bar of the figure of scores.

    Stored pairs that the figure does not count, as those of one camera may be, can lie
    beyond its ends: they belong to the first and the last bar.
    """
    (edges, _, _), place = coarse(known_figures(run)), place_of(params)
    if params.get("shift_pressed"):
        return Opened(chosen={"threshold": float(edges[place])})
    score, last = pair_scores(run), len(edges) - 2
    bar = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, last)
    outcomes = ((TRUE_MATCH, "true"), (FALSE_MATCH, "false"))
    wanted, name = outcomes[int(params["trace_idx"])]
    title = f"{name} matches, score {edges[place]:.3f} to {edges[place + 1]:.3f}"
    inside = (bar == place) & (run.pairs.outcome == wanted)
    return Opened(to_pairs(run, title, np.flatnonzero(inside)))


def _on_roc(run: Run, params: Params, chosen: Choices) -> Opened:
    figures = known_figures(run)
    if int(params["trace_idx"]) == 1:
        return Opened(_accepted(run, threshold_of(figures, chosen)))
    threshold = float(figures.roc_threshold[place_of(params)])
    return Opened(_accepted(run, threshold), {"threshold": threshold})


def _on_point(run: Run, params: Params, chosen: Choices) -> Opened:
    points = _points(run) or needed(run, load_evaluation).verification.operating
    threshold = points[place_of(params)].threshold
    if math.isnan(threshold):
        return Opened()
    return Opened(_accepted(run, threshold), {"threshold": threshold})


def _on_at(run: Run, params: Params, chosen: Choices) -> Opened:
    return Opened(chosen={"threshold": params.get("threshold")})


def _on_accepted(run: Run, params: Params, chosen: Choices) -> Opened:
    return Opened(_accepted(run, threshold_of(known_figures(run), chosen)))


def _on_refused(run: Run, params: Params, chosen: Choices) -> Opened:
    """Open the stored true matches that the threshold refuses, the lowest first."""
    threshold, score = threshold_of(known_figures(run), chosen), pair_scores(run)
    pairs = np.flatnonzero((run.pairs.outcome == TRUE_MATCH) & (score < threshold))
    pairs = pairs[np.argsort(score[pairs], kind="stable")]
    return Opened(to_pairs(run, f"true matches refused at {threshold:.3f}", pairs))


def _on_equal_error(run: Run, params: Params, chosen: Choices) -> Opened:
    return Opened(_accepted(run, known_figures(run).equal_error_threshold))


MARKS: Mapping[str, Mark] = {
    "equal_error": _on_equal_error,
    "scores": _on_bar,
    "roc": _on_roc,
    "points": _on_point,
    "at": _on_at,
    "accepted": _on_accepted,
    "refused": _on_refused,
}
"""Effects of clicks, by the name of the block or the button."""
