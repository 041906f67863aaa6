"""Probabilities of findings: how well they hold on a collection that was left out.

The scores of planted worlds become probabilities with a logistic or an isotonic
regression per kind, fitted on all collections but one and tested on that one. Scores of
different networks have no common unit. They are put into spreads of the world that they
come from, which needs no label of a defect: the distance to the median of the best
scores of all images, or of all identities, divided by 1.48 times the median absolute
deviation of these.

Expected calibration error: the first 50 units of each world are put into ten bins of
equal width of the probability; the mean absolute difference between the share of
defects and the mean probability, weighted by units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

BINS = 10
FIRST = 50
SURE = 0.9
"""Probability of what is right nine times in ten."""

WAYS = ("logistic", "isotonic")
# Scores beyond these spreads say no more.
_LEAST, _MOST = -10.0, 15.0


@dataclass(frozen=True)
class Units:
    """The first units of one kind in one world, most suspicious first."""

    spreads: NDArray[np.float64]  # (U,)
    truth: NDArray[np.bool_]  # (U,)


def first_units(truth: NDArray[np.int8], scores: NDArray[np.float64]) -> Units:
    """Take the first units of a kind, with their scores in spreads of the world."""
    best = scores.max(axis=1) if scores.ndim == 2 else scores
    best = best[np.isfinite(best)]
    center = float(np.median(best))
    spread = 1.48 * float(np.median(np.abs(best - center))) + 1e-9
    if truth.ndim == 2:
        upper = np.triu_indices(len(truth), 1)
        truth, scores = truth[upper], scores[upper]
    counted = (truth >= 0) & np.isfinite(scores)
    truth, scores = truth[counted], scores[counted]
    order = np.argsort(-scores, kind="stable")[:FIRST]
    spreads = np.clip((scores[order] - center) / spread, _LEAST, _MOST)
    return Units(spreads, truth[order] == 1)


def probabilities(
    train: list[Units], test: list[Units], how: str
) -> NDArray[np.float64]:
    """Fit on some worlds, and predict the probabilities in others."""
    fitted, spreads = (
        np.concatenate([units.spreads for units in worlds]) for worlds in (train, test)
    )
    truth = np.concatenate([units.truth for units in train])
    if how == "isotonic":
        isotonic = IsotonicRegression(y_min=0.01, y_max=0.99, out_of_bounds="clip")
        return isotonic.fit(fitted, truth).predict(spreads)
    model = LogisticRegression(max_iter=1000).fit(fitted[:, None], truth)
    return model.predict_proba(spreads[:, None])[:, 1]


def calibration_error(
    predicted: NDArray[np.float64], truth: NDArray[np.bool_]
) -> float:
    """Return the expected calibration error."""
    places = np.minimum((predicted * BINS).astype(int), BINS - 1)
    error = 0.0
    for place in range(BINS):
        inside = places == place
        if inside.any():
            gap = abs(float(truth[inside].mean()) - float(predicted[inside].mean()))
            error += gap * float(inside.mean())
    return error


def left_out(
    by_collection: dict[str, list[Units]], how: str
) -> dict[str, dict[str, float]]:
    """Test each collection with what was fitted on the others."""
    result = {}
    for name, test in by_collection.items():
        train = [
            units
            for other, worlds in by_collection.items()
            if other != name
            for units in worlds
        ]
        predicted = probabilities(train, test, how)
        truth = np.concatenate([units.truth for units in test])
        sure = predicted >= SURE
        result[name] = {
            "error": calibration_error(predicted, truth),
            "precision": float(truth[sure].mean()) if sure.any() else float("nan"),
            "recall": float(truth[sure].sum() / max(truth.sum(), 1)),
        }
    return result
