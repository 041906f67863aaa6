"""Accuracy of a threshold on scores, by folds as LFW's protocol has it.

The threshold of a fold is the one that is most accurate on all other folds; the result
is the mean of the folds' accuracies with its standard error (G. B. Huang et al.,
"Labeled Faces in the Wild", University of Massachusetts, Technical Report 07-49, 2007).
A pair is accepted if its score is at least the threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class FoldAccuracy:
    """One fold's accuracy at the threshold of the others.

    Attributes
    ----------
    fold : int
        Number of the fold, from 0.
    pairs : int
        Its labeled pairs.
    threshold : float
        Score that is most accurate on the other folds.
    accuracy : float
        Share of the fold's pairs that it decides as labeled.
    """

    fold: int
    pairs: int
    threshold: float
    accuracy: float


def best_threshold(scores: Scores, genuine: Flags) -> tuple[float, float]:
    """Find the most accurate threshold, and its accuracy.

    Thresholds lie halfway between neighboring scores, or at both ends. Of equally
    accurate ones it is the middle one, the upper of two.
    """
    values = np.unique(scores)
    accepted = np.sort(scores[genuine])
    refused = np.sort(scores[~genuine])
    # Threshold i accepts the values from i on.
    cuts = np.append(values, np.inf)
    right = len(accepted) - np.searchsorted(accepted, cuts)
    right += np.searchsorted(refused, cuts)
    best = np.flatnonzero(right == right.max())
    place = int(best[len(best) // 2])
    if place == 0:
        threshold = float(values[0])
    elif place == len(values):
        threshold = float(np.nextafter(values[-1], np.inf))
    else:
        threshold = float((values[place - 1] + values[place]) / 2)
    return threshold, float(right[place] / len(scores))


def accuracy_at(scores: Scores, genuine: Flags, threshold: float) -> float:
    """Return the share of pairs that a threshold decides as labeled."""
    return float(np.mean((scores >= threshold) == genuine))


def fold_accuracies(
    scores: Scores, genuine: Flags, fold: NDArray[np.integer]
) -> tuple[FoldAccuracy, ...]:
    """Measure each fold at the threshold of the others; none if there is one fold."""
    numbers = np.unique(fold).tolist()
    if len(numbers) < 2:
        return ()
    results = []
    for number in numbers:
        inside = fold == number
        threshold, _ = best_threshold(scores[~inside], genuine[~inside])
        accuracy = accuracy_at(scores[inside], genuine[inside], threshold)
        results.append(FoldAccuracy(number, int(inside.sum()), threshold, accuracy))
    return tuple(results)


def mean_and_error(folds: tuple[FoldAccuracy, ...]) -> tuple[float, float]:
    """Return the mean accuracy of the folds and its standard error; NaN without."""
    if not folds:
        return math.nan, math.nan
    values = np.array([fold.accuracy for fold in folds])
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
