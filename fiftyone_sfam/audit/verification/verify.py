"""Verification of the pairs that a run was given, stored with the run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Literal

import numpy as np

from fiftyone_sfam.audit.evaluation.scores import (
    BINS,
    FARS,
    MIN_FALSE_ACCEPTS,
    OperatingPoint,
    ScoreSummary,
)
from fiftyone_sfam.audit.statistics.bootstrap import equal_error
from fiftyone_sfam.audit.verification.accuracy import (
    Flags,
    FoldAccuracy,
    Scores,
    accuracy_at,
    best_threshold,
    fold_accuracies,
    mean_and_error,
)
from fiftyone_sfam.data.notebook import PlottedResult
from fiftyone_sfam.data.pair_list import NO_FOLD
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.retrieval.given import NO_PAIR, GivenPairs
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, TRUE_MATCH, UNLABELED
from fiftyone_sfam.runs.results import restore
from fiftyone_sfam.runs.run import Run

NAME = "verification"
"""Name of the stored result."""

_ARRAYS = ("roc_threshold", "roc_fmr", "roc_fnmr", "edges", "genuine", "impostor")


@dataclass(frozen=True)
class Decisions:
    """What a given threshold decides.

    Attributes
    ----------
    threshold : float
        Least score that is accepted.
    accuracy : float
        Share of the labeled pairs that are decided as labeled.
    tar, far : float
        Shares of the pairs of one identity, and of two, that are accepted.
    """

    threshold: float
    accuracy: float
    tar: float
    far: float


@dataclass(frozen=True, kw_only=True)
class Verification(PlottedResult):
    """How well the scores of a list's pairs tell same from different.

    Attributes
    ----------
    scores : ScoreSummary
        AUC, equal error rate, ROC curve, histogram, and the share of accepted pairs of
        one identity (TAR) at false accept rates. A point whose rate too few pairs of
        two identities support has ``supported`` False, but its figures nevertheless.
    folds : tuple of FoldAccuracy
        Each fold at the threshold of all other folds; empty if the list has none.
    accuracy, accuracy_error : float
        Mean accuracy of the folds and its standard error; NaN without folds.
    best_accuracy, best_threshold : float
        The most accurate threshold, chosen on the same pairs: an optimistic figure.
    decided : Decisions or None
        What the threshold decides that was given.
    unlabeled, skipped : int
        Rows of the list that have no label or score, and that were not explained.
    score_name : str
        Quantity of the thresholds: similarity, negative distance, or score in the list.
    created : str
        When it was stored, in UTC, ISO 8601; empty if it is not.
    """

    scores: ScoreSummary
    folds: tuple[FoldAccuracy, ...]
    accuracy: float
    accuracy_error: float
    best_accuracy: float
    best_threshold: float
    decided: Decisions | None
    unlabeled: int
    skipped: int
    score_name: str
    created: str


def verify_pairs(
    run: Run,
    *,
    threshold: float | None = None,
    fars: Sequence[float] = FARS,
    scores: Literal["model", "list"] = "model",
) -> Verification:
    """Measure how well a list's pairs are told apart, and store the result.

    It replaces an earlier verification of the run. Every row of the list counts, also
    one that repeats a pair.

    Parameters
    ----------
    run : Run
        A run of :func:`fiftyone_sfam.explain_pairs`, whose list has labels, or whose
        images have identities.
    threshold : float, optional
        A threshold to measure as well: pairs with at least this score are accepted.
    fars : sequence of float
        False accept rates to find thresholds for.
    scores : {"model", "list"}
        Scores to judge: the model's similarity (for the euclidean metric the negative
        distance), or the list's own scores.

    Returns
    -------
    Verification
        The figures.

    Raises
    ------
    DataError
        If pairs of one kind are missing, or a rate or the threshold cannot be used.
    RunError
        If the pairs of the run were not given.
    """
    measured = measure_pairs(run, threshold=threshold, fars=fars, scores=scores)
    summary = measured.scores
    config = {
        **{
            name: getattr(measured, name)
            for name in (
                "accuracy",
                "accuracy_error",
                "best_accuracy",
                "best_threshold",
                "unlabeled",
                "skipped",
                "score_name",
            )
        },
        "decided": None if measured.decided is None else asdict(measured.decided),
        "auc": summary.auc,
        "equal_error": summary.equal_error,
        "equal_error_threshold": summary.equal_error_threshold,
        "genuine_pairs": summary.genuine_pairs,
        "impostor_pairs": summary.impostor_pairs,
    }
    points = [astuple(point) for point in summary.operating]
    folds = [astuple(fold) for fold in measured.folds]
    arrays = {
        **{name: getattr(summary, name) for name in _ARRAYS},
        "operating": np.array(points, dtype=np.float64).reshape(-1, 5),
        "folds": np.array(folds, dtype=np.float64).reshape(-1, 4),
    }
    run.results.save(NAME, config, arrays)
    stored = load_verification(run)
    assert stored is not None
    return stored


def measure_pairs(
    run: Run,
    *,
    threshold: float | None = None,
    fars: Sequence[float] = FARS,
    scores: Literal["model", "list"] = "model",
) -> Verification:
    """Compute the figures of :func:`verify_pairs` without storing them."""
    for far in fars:
        if not 0 < far <= 1:
            raise DataError(
                f"the false accept rate {far} is out of range; give rates above 0 and "
                "up to 1."
            )
    if threshold is not None and not math.isfinite(threshold):
        raise DataError(f"the threshold is {threshold}; a finite number is needed.")
    given, score_name = _list_of(run, scores)
    rows = np.flatnonzero(given.pair != NO_PAIR)
    outcome = run.pairs.outcome[given.pair[rows]]
    values = given.listed.score[rows]
    if scores == "model":
        values = pair_scores(run)[given.pair[rows]]
    known = (outcome != UNLABELED) & ~np.isnan(values)
    values, genuine = values[known], outcome[known] == TRUE_MATCH
    if not genuine.any() or genuine.all():
        kind = "different identities" if genuine.any() else "the same identity"
        raise DataError(
            f"the list of the run '{run.key}' has no explained pair of {kind} with a "
            "score, so nothing can be told apart; give labels of both kinds, or an "
            "identity field."
        )
    fold = given.listed.fold[rows][known]
    inside = fold != NO_FOLD
    folds = fold_accuracies(values[inside], genuine[inside], fold[inside])
    accuracy, error = mean_and_error(folds)
    best_at, best = best_threshold(values, genuine)
    return Verification(
        scores=summarize_scores(values, genuine, fars),
        folds=folds,
        accuracy=accuracy,
        accuracy_error=error,
        best_accuracy=best,
        best_threshold=best_at,
        decided=None if threshold is None else _decide(values, genuine, threshold),
        unlabeled=int(np.count_nonzero(~known)),
        skipped=len(given.listed) - len(rows),
        score_name=score_name,
        created="",
    )


def has_both_kinds(run: Run) -> bool:
    """Return whether a run has pairs of one identity and of two."""
    outcome = run.pairs.outcome
    return all((outcome == code).any() for code in (TRUE_MATCH, FALSE_MATCH))


def pair_scores(run: Run) -> Scores:
    """Return the model's score of each pair: similarity, or negative distance."""
    if run.config.metric == "cosine":
        return run.pairs.similarity
    return -run.pairs.distance


def load_verification(run: Run) -> Verification | None:
    """Read the stored verification of a run.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    Verification or None
        None if its pairs were not verified yet.
    """
    result = run.results.load(NAME)
    if result is None:
        return None
    values = {
        **result.config,
        **result.arrays,
        "operating": [
            OperatingPoint(far, expected, bool(supported), threshold, tar)
            for far, expected, supported, threshold, tar in result.arrays[
                "operating"
            ].tolist()
        ],
        "folds": [
            FoldAccuracy(int(fold), int(pairs), threshold, accuracy)
            for fold, pairs, threshold, accuracy in result.arrays["folds"].tolist()
        ],
        "created": result.created,
    }
    decided = values["decided"]
    values["decided"] = None if decided is None else Decisions(**decided)
    values["scores"] = restore(ScoreSummary, values)
    return restore(Verification, values)


def summarize_scores(
    scores: Scores, genuine: Flags, fars: Sequence[float] = FARS
) -> ScoreSummary:
    """Return error rates, curve and histogram of labeled scores of both kinds."""
    # Slow imports, which only this function needs.
    from sklearn.metrics import roc_auc_score, roc_curve

    fmr, tpr, thresholds = roc_curve(genuine, scores, drop_intermediate=False)
    own, others = np.sort(scores[genuine]), np.sort(scores[~genuine])
    error, at = equal_error(own, others)
    edges = np.linspace(scores.min(), scores.max(), BINS + 1)
    if edges[0] == edges[-1]:
        edges = np.linspace(edges[0] - 0.5, edges[0] + 0.5, BINS + 1)
    # The first point accepts nothing, at an infinite threshold.
    shown = slice(1, None)
    return ScoreSummary(
        genuine_pairs=len(own),
        impostor_pairs=len(others),
        auc=float(roc_auc_score(genuine, scores)),
        equal_error=error,
        equal_error_threshold=at,
        operating=tuple(_operating(own, others, far) for far in fars),
        roc_threshold=thresholds[shown],
        roc_fmr=fmr[shown],
        roc_fnmr=1 - tpr[shown],
        edges=edges,
        genuine=np.histogram(own, edges)[0].astype(np.int64),
        impostor=np.histogram(others, edges)[0].astype(np.int64),
    )


def _operating(own: Scores, others: Scores, far: float) -> OperatingPoint:
    """Return what is accepted at a wanted rate; the scores ascend."""
    expected = far * len(others)
    # The highest impostor that may not pass; the rounding is that of the product.
    place = len(others) - 1 - int(np.floor(expected + 1e-9))
    if place < 0:
        threshold = float(min(own[0], others[0]))
    else:
        threshold = float(np.nextafter(others[place], np.inf))
    accepted = len(own) - np.searchsorted(own, threshold)
    supported = expected >= MIN_FALSE_ACCEPTS - 1e-9
    return OperatingPoint(
        far, expected, bool(supported), threshold, float(accepted / len(own))
    )


def _decide(scores: Scores, genuine: Flags, threshold: float) -> Decisions:
    accepted = scores >= threshold
    return Decisions(
        float(threshold),
        accuracy_at(scores, genuine, threshold),
        float(accepted[genuine].mean()),
        float(accepted[~genuine].mean()),
    )


def _list_of(run: Run, scores: str) -> tuple[GivenPairs, str]:
    """Return the list of a run, and the name of the scores."""
    given = run.given
    if given is None:
        raise RunError(
            f"the pairs of the run '{run.key}' are nearest neighbors, not a list; "
            "evaluate_retrieval measures them, and explain_pairs makes runs of lists."
        )
    if scores == "model":
        cosine = run.config.metric == "cosine"
        return given, "similarity" if cosine else "negative distance"
    if scores != "list":
        raise DataError(f"unknown scores {scores!r}; use one of model, list.")
    if np.isnan(given.listed.score).all():
        raise DataError(
            f"the list of the run '{run.key}' has no scores of its own; use "
            "scores='model'."
        )
    return given, "score in the list"
