"""How likely a finding is an error, from scores of the collection itself.

A score is compared with two sets of scores of the same collection: the *usual* ones,
nearly all of which belong to right labels, and those of defects that were *planted* in
its labels (:mod:`fiftyone_sfam.audit.suspects.planted`). Scores depend on the number of
images; each is compared with those of the most similar sizes. The distances to both, in
robust spreads, mean the same for every network. They become a probability by a logistic
regression, fitted on defects planted in real images with several networks
(``make check-suspects``, which prints the coefficients and how well the probabilities
hold for a network that was left out).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.space import robust_scale

NEAREST = 80
"""Scores of the most similar sizes that a score is compared with."""

ENOUGH = 5
"""Fewest scores to compare with."""

# Weight, in scores, of the spread over all sizes.
_SCALE_PRIOR = 20
_ITERATIONS = 50


@dataclass(frozen=True)
class Scores:
    """Scores of U images, identities or pairs, and how many images they rest on."""

    values: NDArray[np.float64]  # (U,)
    sizes: NDArray[np.float64]  # logarithms, (U,)

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def joined(cls, parts: list[Scores]) -> Scores:
        """Join scores."""
        return cls(
            np.concatenate([part.values for part in parts] or [np.empty(0)]),
            np.concatenate([part.sizes for part in parts] or [np.empty(0)]),
        )


@dataclass(frozen=True)
class Model:
    """A logistic regression, and the share of errors among what it was fitted on."""

    intercept: float
    slopes: tuple[float, ...]
    share: float

    def odds(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logarithms of the odds, for the share of errors that there is.

        ``features`` has the shape (U, F).
        """
        return adapt(self.intercept + features @ np.array(self.slopes), self.share)


@dataclass(frozen=True)
class Distances:
    """Distances of scores to the usual and to planted scores."""

    above: NDArray[np.float64]  # to the usual ones, in their spreads, (U,)
    below: NDArray[np.float64]  # to the planted ones, in their spreads, (U,)
    apart: NDArray[np.float64]  # how far these are apart, in their common spread, (U,)

    @property
    def evidence(self) -> NDArray[np.float64]:
        """Logarithm of how much likelier the scores are as planted than as usual, (U,).

        Of two normal densities with one spread; 0 if nothing could be planted.
        """
        known = np.isfinite(self.apart)
        return np.where(known, self.apart, 0.0) * (self.above + self.below) / 2


def probability(odds: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Turn the logarithms of odds into probabilities."""
    odds = np.asarray(odds, dtype=np.float64)
    return np.exp(-np.logaddexp(0.0, -odds))


def adapt(odds: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Lower odds where errors are fewer than in what the regression was fitted on.

    The share of errors is found by expectation maximization (Saerens, Latinne and
    Decaestecker, "Adjusting the outputs of a classifier to new a priori
    probabilities", 2002), between a twentieth of the fitted share and all of it.
    """
    if len(odds) == 0:
        return odds
    found, fitted = share, np.log(share / (1 - share))
    for _ in range(_ITERATIONS):
        shift = np.log(found / (1 - found)) - fitted
        found = float(np.clip(probability(odds + shift).mean(), share / 20, share))
    return odds + np.log(found / (1 - found)) - fitted


def measure_distances(scores: Scores, usual: Scores, planted: Scores) -> Distances:
    """Compare scores with the usual and with planted ones of similar sizes."""
    nothing = np.zeros(len(scores))
    if len(usual) < ENOUGH:
        return Distances(nothing, nothing, nothing)
    center, scale = nearby(usual, scores.sizes)
    above = (scores.values - center) / scale
    if len(planted) < ENOUGH:
        # Nothing can be planted, for example where every identity has one image.
        return Distances(above, nothing, np.full(len(scores), np.inf))
    other, other_scale = nearby(planted, scores.sizes)
    gap = other - center
    return Distances(
        above,
        (scores.values - other) / other_scale,
        gap / np.sqrt((scale**2 + other_scale**2) / 2),
    )


def size_of(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the logarithm of the harmonic mean of two numbers of images."""
    return np.log(2 / (1 / np.maximum(first, 1) + 1 / np.maximum(second, 1)))


def nearby(
    scores: Scores, sizes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return median and spread of the scores of the most similar sizes.

    The spread is shrunk towards that of all scores around the medians of their sizes.
    """
    own, own_place = np.unique(np.round(scores.sizes, 1), return_inverse=True)
    centers = np.array([np.median(_nearest_values(scores, size)) for size in own])
    away = scores.values - centers[own_place]
    pooled = max(robust_scale(away), 1e-9)
    rounded, place = np.unique(np.round(sizes, 1), return_inverse=True)
    center, scale = np.empty(len(rounded)), np.empty(len(rounded))
    for row, size in enumerate(rounded):
        values = _nearest_values(scores, size)
        center[row] = np.median(values)
        square = robust_scale(values - center[row]) ** 2
        weight = len(values) / (len(values) + _SCALE_PRIOR)
        scale[row] = np.sqrt(weight * square + (1 - weight) * pooled**2)
    return center[place], scale[place]


def _nearest_values(scores: Scores, size: float) -> NDArray[np.float64]:
    order = np.argsort(np.abs(scores.sizes - size), kind="stable")
    return scores.values[order[:NEAREST]]
