"""Probabilities of findings: fitted on planted defects, tested on a network left out.

The scores of :func:`fiftyone_sfam.audit.suspects.measures.measure` in planted worlds,
as distances from usual and from planted scores, are put into a logistic regression per
kind. It is fitted on all collections but one and tested on that one; the coefficients
of the library are those of the fit on all. A collection whose identities the network
does not tell apart takes no part in the fit.

Expected calibration error: the units of each world are put into ten bins of equal width
of the probability; the mean absolute difference between the share of defects and the
mean probability, weighted by units, over the ``FIRST`` likeliest units per world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from suspects_planted import MERGED, MISLABELED, SPLIT, World

from fiftyone_sfam.audit.suspects.likelihood import Distances, Model, probability
from fiftyone_sfam.audit.suspects.measures import APART, Measured

BINS = 10
FIRST = 50
SURE = 0.9
"""Probability of what is right nine times in ten."""

CALIBRATED = (MISLABELED, SPLIT, MERGED)


@dataclass(frozen=True)
class Units:
    """What one kind of defect is searched among in one world."""

    distances: Distances  # (U,)
    truth: NDArray[np.bool_]  # (U,)
    planted: int  # defects, of which some may not be among the units
    told_apart: bool


def units_of(measured: Measured, world: World) -> dict[str, Units]:
    """Select the units of each kind whose answer is known."""
    figures = measured.figures
    codes = figures.pairs.codes
    divided = [division.identity for division in figures.divisions]
    parts = {
        MISLABELED: (
            measured.image_distances,
            np.where(np.isfinite(figures.images.mislabel), world.truth[MISLABELED], -1),
            (world.truth[MISLABELED] == 1).sum(),
        ),
        SPLIT: (
            measured.pair_distances,
            world.truth[SPLIT][codes[:, 0], codes[:, 1]],
            (world.truth[SPLIT] == 1).sum() // 2,
        ),
        MERGED: (
            measured.division_distances,
            world.truth[MERGED][divided],
            (world.truth[MERGED] == 1).sum(),
        ),
    }
    return {
        kind: Units(
            distances.of(truth >= 0),
            truth[truth >= 0] == 1,
            int(planted),
            measured.apart >= APART,
        )
        for kind, (distances, truth, planted) in parts.items()
    }


def fit(worlds: list[Units]) -> Model:
    """Fit the regression."""
    worlds = [units for units in worlds if units.told_apart]
    features = np.concatenate([units.distances.features() for units in worlds])
    truth = np.concatenate([units.truth for units in worlds])
    found = LogisticRegression(max_iter=2000).fit(features, truth)
    above, below = found.coef_[0].tolist()
    return Model(float(found.intercept_[0]), above, below, float(truth.mean()))


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
    by_collection: dict[str, list[Units]],
) -> dict[str, dict[str, float]]:
    """Test each collection with what was fitted on the others."""
    result = {}
    for name, test in by_collection.items():
        if not any(units.told_apart for units in test):
            continue
        model = fit(
            [
                units
                for other, worlds in by_collection.items()
                if other != name
                for units in worlds
            ]
        )
        predicted, truth = [], []
        for units in test:
            found = probability(units.distances.odds(model))
            order = np.argsort(-found, kind="stable")[:FIRST]
            predicted.append(found[order])
            truth.append(units.truth[order])
        result[name] = judge(
            np.concatenate(predicted),
            np.concatenate(truth),
            sum(units.planted for units in test),
        )
    return result


def judge(
    predicted: NDArray[np.float64], truth: NDArray[np.bool_], planted: int
) -> dict[str, float]:
    """Return the calibration error, and precision and recall of two thresholds."""
    row = {
        "error": calibration_error(predicted, truth),
        "expected": float(predicted.sum()),
        "found": float(truth.sum()),
        "planted": float(planted),
    }
    for name, threshold in (("sure", SURE), ("likely", 0.5)):
        chosen = predicted >= threshold
        right = float(truth[chosen].sum())
        row[f"{name} precision"] = right / chosen.sum() if chosen.any() else np.nan
        row[f"{name} recall"] = right / planted
    return row
