"""What a check of faithfulness has found, and how it is put in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.faithfulness.lab import ACTIVATION, BASELINES, CHANCE
from fiftyone_sfam.audit.faithfulness.lab import CENTRE_maps as CENTRE
from fiftyone_sfam.audit.faithfulness.masks import Curves, area, verification_accuracy
from fiftyone_sfam.audit.statistics.bootstrap import (
    QUANTILES,
    RESAMPLES,
    Estimate,
    around,
    resampled_sums,
)
from fiftyone_sfam.retrieval.pairs import TRUE_MATCH, UNLABELED

# Below this many queries no interval is given.
FEWEST = 5


def mean_estimate(
    values: NDArray[np.floating],
    queries: NDArray[np.integer],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate the mean of what pairs have."""
    return ratio_estimate(values, np.ones(len(values)), queries, resamples, seed)


def ratio_estimate(
    values: NDArray[np.floating],
    others: NDArray[np.floating],
    queries: NDArray[np.integer],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Estimate the ratio of two sums over pairs."""
    names, place = np.unique(np.asarray(queries), return_inverse=True)
    sums = np.stack(
        [
            np.bincount(place, np.asarray(one, np.float64), len(names))
            for one in (values, others)
        ]
    )
    whole = sums.sum(axis=1)
    if len(names) == 0 or whole[1] <= 0:
        return Estimate()
    value = float(whole[0] / whole[1])
    if len(names) < FEWEST:
        return Estimate(value)
    gain = sums[0] - value * sums[1]
    pool = np.concatenate([sums, sums[:, [gain.argmin(), gain.argmax()]]], axis=1)
    drawn = resampled_sums(pool.T, len(names), resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(drawn[:, 1] > 0, drawn[:, 0] / drawn[:, 1], np.inf)
    low, high = np.quantile(ratios, QUANTILES, method="nearest")
    return around(value, float(low), float(high))


DECIDED_AT = 0.3
"""Share of the pixels that are hidden, or shown, where decisions are compared."""

_SIDES = {"query": "the query", "gallery": "the neighbor", "both": "both images"}
_FILLS = {"blur": "blurred", "mean": "in its mean color", "inpaint": "filled in"}


@dataclass(frozen=True)
class MapFigures:
    """What one kind of map is worth."""

    name: str  # the map
    margin: Estimate
    over_chance: Estimate
    over_activation: Estimate
    accuracy_hidden: float
    accuracy_shown: float
    rank_kept: float
    specificity: float
    stability: float  # mean correlation with the maps of the image with a little noise
    remainder: float  # mean size of what the map leaves of the score, as a share of it


@dataclass(frozen=True)
class Faithfulness:
    """Similarities of P pairs while images are masked in the order of K maps.

    Attributes
    ----------
    kind : str
        The map that the run shows, which the verdict is about.
    names : tuple of str
        The maps; the baselines are among them.
    side : {"query", "gallery", "both"}
        Which images were masked.
    fill : {"blur", "mean", "inpaint"}
        What hid them.
    model, layer : str
        The network, and the layer of its maps.
    threshold : float
        Similarity of equal errors of untouched images; NaN without labels.
    pairs, queries : ndarray of int64
        The pairs and their query items, shape (P,).
    outcome : ndarray of int8
        Index into ``records.OUTCOMES``, shape (P,).
    deletion, insertion : ndarray of float32
        Similarities, shape (K, P, T + 1).
    rank : ndarray of int32
        Rank of the partner among strangers under deletion, shape (K, P, T + 1); 0
        where it is not followed.
    specificity, stability, remainder : ndarray of float64
        As in :class:`MapFigures`, shape (K,).
    skipped : dict of int to str
        Items that could not be masked, and why.
    seed : int
        Seed of all draws.
    """

    kind: str
    names: tuple[str, ...]
    side: str
    fill: str
    model: str
    layer: str
    threshold: float
    pairs: NDArray[np.int64]
    queries: NDArray[np.int64]
    outcome: NDArray[np.int8]
    deletion: NDArray[np.float32]
    insertion: NDArray[np.float32]
    rank: NDArray[np.int32]
    specificity: NDArray[np.float64]
    stability: NDArray[np.float64]
    remainder: NDArray[np.float64]
    skipped: dict[int, str]
    seed: int

    def __len__(self) -> int:
        return len(self.pairs)

    def curves(self, name: str) -> Curves:
        """Return the curves of one map."""
        place = self.names.index(name)
        return Curves(
            self.deletion[place].astype(np.float64),
            self.insertion[place].astype(np.float64),
        )

    def effects(self, name: str) -> NDArray[np.float64]:
        """Tell how far the similarity moves on average along both curves, shape (P,).

        Deletion counts from the untouched image down, insertion from the hidden one
        up. An order that knows nothing has about the whole difference of the two; one
        that knows everything has it twice.
        """
        curves = self.curves(name)
        fallen = curves.deletion[:, 0] - area(curves.deletion)
        risen = area(curves.insertion) - curves.insertion[:, 0]
        return np.asarray(fallen + risen)

    @cached_property
    def figures(self) -> tuple[MapFigures, ...]:
        """Figures of all maps, the largest margin first."""
        found = [self._figures_of(place) for place in range(len(self.names))]
        return tuple(sorted(found, key=lambda one: -one.margin.value))

    def figures_of(self, name: str) -> MapFigures:
        """Return the figures of one map."""
        return next(one for one in self.figures if one.name == name)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdict in plain words."""
        return tuple(
            filter(None, (self._verdict(), self._centre_sentence(), self._best()))
        )

    @property
    def sentence(self) -> str:
        """The verdict in one paragraph."""
        return " ".join(self.sentences)

    def _verdict(self) -> str:
        own = self.figures_of(self.kind)
        chance, ignorant = own.over_chance, own.over_activation
        start = f"On this model, the {self.kind} maps "
        if math.isnan(chance.value) or math.isnan(ignorant.value):
            return (
                f"{start}cannot be judged: hiding whole images hardly lowers the "
                f"similarity of these {len(self):,} pairs."
            )
        return (
            f"{start}find what matters {_times(chance, 'chance')}, and "
            f"{_times(ignorant, 'a map that ignores the partner')}; {len(self):,} "
            f"pairs, {_SIDES[self.side]} {_FILLS[self.fill]} bit by bit."
        )

    def _centre_sentence(self) -> str:
        gain = self._against(self.kind, CENTRE)
        if gain.high < 0:
            return "A blob in the middle of the image does better than they do."
        if not gain.low > 0:
            return (
                "That they do better than a blob in the middle of the image is not "
                "certain."
            )
        return ""

    def _best(self) -> str:
        best = next(one.name for one in self.figures if one.name not in BASELINES)
        if best == self.kind or not self._against(best, self.kind).low > 0:
            return ""
        times = self.figures_of(best).over_chance.value
        return f"The maps '{best}' do better here: {times:.2f} x chance."

    def _against(self, one: str, other: str) -> Estimate:
        margins = self.curves(one).margin - self.curves(other).margin
        return mean_estimate(margins, self.queries, seed=self.seed)

    def _figures_of(self, place: int) -> MapFigures:
        name = self.names[place]
        effects = self.effects(name)
        hidden, shown = self._accuracies(place)
        return MapFigures(
            name,
            mean_estimate(self.curves(name).margin, self.queries, seed=self.seed),
            self._ratio(effects, CHANCE),
            self._ratio(effects, ACTIVATION),
            hidden,
            shown,
            self._rank_kept(place),
            float(self.specificity[place]),
            float(self.stability[place]),
            float(self.remainder[place]),
        )

    def _ratio(self, effects: NDArray[np.float64], other: str) -> Estimate:
        return ratio_estimate(
            effects, self.effects(other), self.queries, seed=self.seed
        )

    @property
    def _step(self) -> int:
        return max(1, round(DECIDED_AT * (self.deletion.shape[2] - 1)))

    def _accuracies(self, place: int) -> tuple[float, float]:
        known = self.outcome != UNLABELED
        genuine = self.outcome[known] == TRUE_MATCH
        if math.isnan(self.threshold) or genuine.all() or not genuine.any():
            return float("nan"), float("nan")
        hidden, shown = (
            verification_accuracy(curves[place][known], genuine, self.threshold)
            for curves in (self.deletion, self.insertion)
        )
        return float(hidden[self._step]), float(shown[self._step])

    def _rank_kept(self, place: int) -> float:
        first = self.rank[place, :, 0] == 1
        if not first.any():
            return float("nan")
        return float((self.rank[place, first, self._step] == 1).mean())


def _times(found: Estimate, other: str) -> str:
    """Say how a ratio stands, and whether it is above 1 at all."""
    known = not math.isnan(found.low)
    interval = f" (95 % interval {found.low:.2f} to {found.high:.2f})" if known else ""
    if found.low > 1:
        return f"{found.value:.2f} x better than {other}{interval}"
    text = f"{found.value:.2f} x as well as {other}{interval}"
    return text + (", which is worse" if found.high < 1 else ", so not surely better")
