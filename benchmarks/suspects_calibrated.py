"""Probabilities of findings: fitted on planted defects, tested on a network left out.

What speaks for an error in planted worlds, as
:class:`fiftyone_sfam.audit.suspects.measures.Measured` puts it, is put into a logistic
regression per kind. It is fitted on all collections but one and tested on that one; the
coefficients of the library are those of the fit on all. The fit also has the demo
worlds, with and without their defects, and, for merged identities, the real collections
as they are. A collection whose identities the network does not tell apart takes no part
in it.

Expected calibration error: the units of each world are put into ten bins of equal width
of the probability; the mean absolute difference between the share of defects and the
mean probability, weighted by units, over the ``FIRST`` likeliest units per world.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from suspects_planted import MERGED, MISLABELED, SPLIT

from fiftyone_sfam.audit.suspects.likelihood import Model, probability
from fiftyone_sfam.audit.suspects.measures import APART, Measured

BINS = 10
FIRST = 50
SURE = 0.9
"""Probability of what is right nine times in ten."""

CALIBRATED = (MISLABELED, SPLIT, MERGED)


Truth = dict[str, NDArray[np.int8]]
"""What is a defect, by kind: 1, 0 if not, -1 if both answers are right."""


@dataclass(frozen=True)
class Units:
    """What one kind of defect is searched among in one world."""

    features: NDArray[np.float64]  # (U, F)
    truth: NDArray[np.bool_]  # (U,)
    planted: int  # defects, of which some may not be among the units
    told_apart: bool


def units_of(measured: Measured, truth: Truth) -> dict[str, Units]:
    """Select the units of each kind whose answer is known."""
    figures = measured.figures
    codes = figures.pairs.codes
    images = np.where(np.isfinite(figures.images.mislabel), truth[MISLABELED], -1)
    divided = truth[MERGED][[division.identity for division in figures.divisions]]
    divided = np.where(_explained(measured) & (divided == 0), -1, divided)
    parts = {
        MISLABELED: (measured.image_features(), images, truth[MISLABELED]),
        SPLIT: (
            measured.pair_features(),
            truth[SPLIT][codes[:, 0], codes[:, 1]],
            np.triu(truth[SPLIT], 1),
        ),
        MERGED: (measured.division_features(), divided, truth[MERGED]),
    }
    return {
        kind: Units(
            features[answers >= 0],
            answers[answers >= 0] == 1,
            int((planted == 1).sum()),
            measured.apart >= APART,
        )
        for kind, (features, answers, planted) in parts.items()
    }


def no_defects(measured: Measured) -> Truth:
    """Return the truth of a collection that is taken as it is."""
    space = measured.space
    groups = len(space.members)
    return {
        MISLABELED: np.zeros(len(space), dtype=np.int8),
        SPLIT: np.zeros((groups, groups), dtype=np.int8),
        MERGED: np.zeros(groups, dtype=np.int8),
    }


def _explained(measured: Measured) -> NDArray[np.bool_]:
    """Return which divisions have a group of images that are found as such."""
    images = measured.figures.images
    found = np.flatnonzero((measured.mislabeled() >= 0) | (images.uninformative > 0))
    return np.array(
        [
            any(np.isin(group, found).all() for group in division.groups)
            for division in measured.figures.divisions
        ],
        dtype=bool,
    )


def fit(worlds: list[Units]) -> Model:
    """Fit the regression."""
    worlds = [units for units in worlds if units.told_apart]
    features = np.concatenate([units.features for units in worlds])
    truth = np.concatenate([units.truth for units in worlds])
    found = LogisticRegression(max_iter=3000).fit(features, truth)
    slopes = tuple(found.coef_[0].tolist())
    return Model(float(found.intercept_[0]), slopes, float(truth.mean()))


@dataclass(frozen=True)
class Tested:
    """The probabilities of the likeliest units of some worlds, and which are right."""

    predicted: NDArray[np.float64]  # (U,)
    truth: NDArray[np.bool_]  # (U,)
    planted: int


@dataclass(frozen=True)
class Bin:
    """The units with probabilities in one of :data:`BINS` ranges."""

    units: int
    predicted: float  # mean probability
    right: float  # share of defects
    low: float  # 95 % interval of this share (Wilson)
    high: float


def curve(tested: list[Tested]) -> list[Bin]:
    """Compare probabilities with shares of defects in bins; empty ones are left out."""
    predicted = np.concatenate([each.predicted for each in tested])
    truth = np.concatenate([each.truth for each in tested])
    places = np.minimum((predicted * BINS).astype(int), BINS - 1)
    bins = []
    for place in np.unique(places):
        inside = places == place
        found, units = int(truth[inside].sum()), int(inside.sum())
        interval = binomtest(found, units).proportion_ci(method="wilson")
        bins.append(
            Bin(
                units,
                float(predicted[inside].mean()),
                found / units,
                float(interval.low),
                float(interval.high),
            )
        )
    return bins


def calibration_error(tested: Tested) -> float:
    """Return the expected calibration error."""
    bins = curve([tested])
    gaps = [each.units * abs(each.right - each.predicted) for each in bins]
    return sum(gaps) / sum(each.units for each in bins)


def draw_curves(curves: dict[str, list[Bin]], target: Path) -> None:
    """Draw the calibration curve of each kind into a page that needs no network."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot"}, name="calibrated"
    )
    for kind, bins in curves.items():
        figure.add_scatter(
            x=[each.predicted for each in bins],
            y=[each.right for each in bins],
            error_y={
                "type": "data",
                "array": [each.high - each.right for each in bins],
                "arrayminus": [each.right - each.low for each in bins],
            },
            text=[f"{each.units} units" for each in bins],
            mode="lines+markers",
            name=kind,
        )
    figure.update_layout(
        title="Probabilities of findings, on collections left out of the fit",
        xaxis_title="mean probability",
        yaxis_title="share that was planted",
    )
    figure.write_html(target)


def left_out(
    by_collection: dict[str, list[Units]], always: list[Units]
) -> dict[str, Tested]:
    """Test each collection with what was fitted on the others, and on ``always``."""
    result = {}
    for name, test in by_collection.items():
        if not any(units.told_apart for units in test):
            continue
        others = [
            units
            for other, worlds in by_collection.items()
            if other != name
            for units in worlds
        ]
        model = fit(others + always)
        predicted, truth = [], []
        for units in test:
            found = probability(model.odds(units.features))
            order = np.argsort(-found, kind="stable")[:FIRST]
            predicted.append(found[order])
            truth.append(units.truth[order])
        result[name] = Tested(
            np.concatenate(predicted),
            np.concatenate(truth),
            sum(units.planted for units in test),
        )
    return result


def judge(tested: Tested) -> dict[str, float]:
    """Return the calibration error, and how many above two thresholds are right."""
    row = {
        "error": calibration_error(tested),
        "expected": float(tested.predicted.sum()),
        "found": float(tested.truth.sum()),
        "planted": float(tested.planted),
    }
    for name, threshold in (("sure", SURE), ("likely", 0.5)):
        chosen = tested.predicted >= threshold
        row[f"{name} chosen"] = float(chosen.sum())
        row[f"{name} right"] = float(tested.truth[chosen].sum())
    return row
