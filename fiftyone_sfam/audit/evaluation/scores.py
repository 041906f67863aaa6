"""Verification over any number of pairs: exact, in bounded memory.

The scores of genuine pairs, which are few, are all kept. Impostor pairs are looked at
twice. The first look counts them between edges, which are quantiles of a sample of all
scores. The counts tell between which edges the wanted thresholds lie; the second look
collects the few scores there, and compares all others with the genuine ones for the
AUC. Nothing is rounded to the edges: the figures are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.blocks import Comparisons, split_scores
from fiftyone_sfam.audit.statistics.bootstrap import closest, crossing_bins
from fiftyone_sfam.errors import DataError

FARS = (1e-1, 1e-2, 1e-3, 1e-4)
"""False accept rates that are looked at unless others are wanted."""

MIN_FALSE_ACCEPTS = 30
"""Least number of expected false accepts that supports a rate.

The "rule of 30" (G. R. Doddington et al., "The NIST speaker recognition evaluation",
Speech Communication 31, 2000): from 30 errors on, the true rate is within 30 % of the
observed one at 90 % confidence, if errors are independent. Pairs that share images are
not quite, so the rule is a lower bound of what is needed.
"""

BINS = 400
"""Bins of the histogram of scores."""

CURVE_POINTS = 300
"""Most points of the ROC curve."""

MAX_GENUINE = 100_000_000
"""Most pairs of one identity, each of which takes 8 bytes."""

# Edges between which the first look counts, and sampled images of each side.
_EDGES = 2**17
_SAMPLE = 1500
# Collected scores from which equal ones are put together.
_COLLECTED = 2**22


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold of a wanted false accept rate."""

    far: float  # wanted false accept rate
    expected: float  # accepted impostor pairs: the rate times their number
    supported: bool  # whether these are at least :data:`MIN_FALSE_ACCEPTS`
    threshold: float  # least threshold that accepts no more than the wanted share
    tar: float  # share of genuine pairs that it accepts


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """Error rates, curve and histogram of the scores of all pairs.

    The figures are NaN, and the curve is empty, where one kind of pair is missing.
    """

    genuine_pairs: int  # pairs of one identity
    impostor_pairs: int  # pairs of two identities
    auc: float  # chance that a genuine pair scores above an impostor pair
    equal_error: float
    equal_error_threshold: float
    operating: tuple[OperatingPoint, ...]  # at the wanted false accept rates
    roc_threshold: NDArray[np.float64]  # (T,)
    roc_fmr: NDArray[np.float64]  # (T,)
    roc_fnmr: NDArray[np.float64]  # (T,)
    edges: NDArray[np.float64]  # edges of bins of the score, shape (BINS + 1,)
    genuine: NDArray[np.int64]  # pairs of one identity per bin, shape (BINS,)
    impostor: NDArray[np.int64]  # pairs of two identities per bin, shape (BINS,)

    def threshold_for(self, far: float) -> float:
        """Find a threshold that accepts no more than a share of impostors."""
        for point in self.operating:
            if point.supported and np.isclose(point.far, far, rtol=1e-9, atol=0):
                return point.threshold
        allowed = np.flatnonzero(self.roc_fmr <= far * (1 + 1e-12))
        return float(self.roc_threshold[allowed[-1]]) if len(allowed) else float("nan")


class FirstLook:
    """Collects the genuine scores, and counts the impostors'."""

    def __init__(self, comparisons: Comparisons, fars: Sequence[float] = FARS) -> None:
        for far in fars:
            if not 0 < far <= 1:
                raise DataError(
                    f"the false accept rate {far} is out of range; give rates above 0 "
                    "and up to 1."
                )
        self._fars = tuple(fars)
        self._edges = _sampled_edges(comparisons)
        self._below = np.zeros(len(self._edges), dtype=np.int64)
        self._genuine = [np.empty(0)]
        self._genuine_pairs = self._impostor_pairs = 0
        self._low, self._high = np.inf, -np.inf

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest score so far; 0 and 1 where there is none."""
        return (self._low, self._high) if self._low <= self._high else (0.0, 1.0)

    def add(self, genuine: NDArray[np.float64], impostor: NDArray[np.float64]) -> None:
        """Take the scores of some pairs."""
        self._genuine_pairs += len(genuine)
        if self._genuine_pairs > MAX_GENUINE:
            raise DataError(
                f"there are more than {MAX_GENUINE:,} pairs of one identity; evaluate "
                "a view of fewer images, or a field that tells more identities apart."
            )
        self._genuine.append(genuine)
        ordered = np.sort(impostor)
        self._impostor_pairs += len(ordered)
        self._below += np.searchsorted(ordered, self._edges)
        for scores in (genuine, ordered):
            self._low = min(self._low, float(scores.min(initial=np.inf)))
            self._high = max(self._high, float(scores.max(initial=-np.inf)))

    def bulk(self) -> tuple[float, float]:
        """Return between which scores nearly all are, of each kind of pair.

        A few images that resemble nothing make the whole span much wider.
        """
        ends = [
            np.quantile(scores, [0.001, 0.999])
            for scores in (self._edges, np.concatenate(self._genuine))
            if len(scores)
        ]
        if not ends:
            return self.span
        low, high = np.stack(ends, axis=1)
        return float(low.min()), float(high.max())

    def second_look(self) -> SecondLook:
        """Begin the second look at the same impostors."""
        counts = np.diff(self._below, prepend=0, append=self._impostor_pairs)
        return SecondLook(
            np.sort(np.concatenate(self._genuine)),
            self._edges,
            counts,
            self.span,
            self._fars,
        )


class SecondLook:
    """Finds thresholds among the impostors' scores; see :class:`FirstLook`."""

    def __init__(
        self,
        genuine: NDArray[np.float64],
        edges: NDArray[np.float64],
        counts: NDArray[np.int64],
        span: tuple[float, float],
        fars: tuple[float, ...],
    ) -> None:
        self._genuine = genuine
        self._fars = fars
        self._ends = np.concatenate([[-np.inf], edges, [np.inf]])
        # The impostors before each slot between two ends, and all of them.
        self._before = np.concatenate([[0], np.cumsum(counts)])
        self._total = int(self._before[-1])
        self.bins = np.linspace(span[0], max(span[1], span[0] + 1e-9), BINS + 1)
        self._in_bins = np.zeros(BINS, dtype=np.int64)
        self._half_wins = 0
        self._crossing = np.empty(0, dtype=np.int64)
        self._places = np.empty(0, dtype=np.int64)
        if len(genuine) and self._total:
            self._crossing = self._crossing_slots()
            self._places = self._curve_places()
        wanted = np.concatenate([self._places, self._refused_places()])
        slots = np.unique(np.concatenate([self._slots_of(wanted), self._crossing]))
        self._collected = _Collected(self._ends[slots], self._ends[slots + 1])

    def add(self, impostor: NDArray[np.float64]) -> None:
        """Take the scores of some impostor pairs."""
        if len(impostor) == 0:
            return
        ordered = np.sort(impostor)
        self._in_bins += _histogram(ordered, self.bins)
        self._collected.add(ordered)
        below = np.searchsorted(ordered, self._genuine)
        # Scores of both kinds are seldom equal, so few are searched twice.
        nearest = ordered[np.minimum(below, len(ordered) - 1)]
        tied = self._genuine[nearest == self._genuine]
        equal = np.searchsorted(ordered, tied, side="right")
        equal -= np.searchsorted(ordered, tied)
        self._half_wins += 2 * int(below.sum()) + int(equal.sum())

    def result(self) -> ScoreSummary:
        """Return the summary of all pairs."""
        auc, error, at = float("nan"), float("nan"), float("nan")
        threshold, fmr, fnmr = np.empty(0), np.empty(0), np.empty(0)
        self._collected.finish()
        if len(self._places):
            auc = self._half_wins / (2 * len(self._genuine) * self._total)
            error, at = self._equal_error()
            threshold = self._scores_at(self._places)
            fmr, fnmr = self._rates(threshold)
        return ScoreSummary(
            genuine_pairs=len(self._genuine),
            impostor_pairs=self._total,
            auc=auc,
            equal_error=error,
            equal_error_threshold=at,
            operating=tuple(self._operating(far) for far in self._fars),
            roc_threshold=threshold,
            roc_fmr=fmr,
            roc_fnmr=fnmr,
            edges=self.bins,
            genuine=_histogram(self._genuine, self.bins),
            impostor=self._in_bins,
        )

    # -- between which ends ------------------------------------------------------------

    def _crossing_slots(self) -> NDArray[np.int64]:
        """Return the slot in which the error rates cross, and the next one in use."""
        refused = np.searchsorted(self._genuine, self._ends)
        return crossing_bins(np.diff(refused), np.diff(self._before))

    def _curve_places(self) -> NDArray[np.int64]:
        """Return the places among the impostors where the curve is drawn, falling.

        They are even over the logarithm of the rate, since there the curve bends.
        """
        from_top = np.geomspace(1, self._total, CURVE_POINTS).astype(np.int64)
        return self._total - np.unique(from_top)

    def _refused_places(self) -> NDArray[np.int64]:
        """Return the places of the highest impostors that supported rates refuse."""
        places = [self._refused_place(far) for far in self._fars if self._holds(far)]
        return np.array([place for place in places if place >= 0], dtype=np.int64)

    def _refused_place(self, far: float) -> int:
        """Return the place of the highest impostor that may not pass; -1 if all may."""
        return self._total - 1 - int(np.floor(far * self._total + 1e-9))

    def _holds(self, far: float) -> bool:
        """Return whether enough impostor pairs support a rate."""
        return len(self._places) > 0 and far * self._total >= MIN_FALSE_ACCEPTS - 1e-9

    def _slots_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the slots that hold places among the impostors, ascending scores."""
        return np.searchsorted(self._before, places, side="right") - 1

    # -- scores there -----------------------------------------------------------------

    def _scores_at(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the scores at places among the impostors."""
        slots = self._slots_of(places)
        within = places - self._before[slots]
        return self._collected.at(self._ends[slots], within)

    def _rates(
        self, thresholds: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the error rates of thresholds that lie in collected slots."""
        slots = np.searchsorted(self._ends, thresholds, side="right") - 1
        below = self._before[slots]
        below = below + self._collected.count(self._ends[slots], thresholds)
        refused = np.searchsorted(self._genuine, thresholds)
        return (self._total - below) / self._total, refused / len(self._genuine)

    def _equal_error(self) -> tuple[float, float]:
        """Find where the error rates meet, in the slots that they cross in."""
        low, high = self._ends[self._crossing[0]], self._ends[self._crossing[-1] + 1]
        start, stop = np.searchsorted(self._genuine, [low, high])
        between = [self._genuine[start:stop], self._collected.between(low, high)]
        thresholds = np.unique(np.concatenate(between))
        fmr, fnmr = self._rates(thresholds)
        place, rate = closest(fmr, fnmr)
        return rate, float(thresholds[place])

    def _operating(self, far: float) -> OperatingPoint:
        """Return what is accepted at a wanted rate."""
        expected = far * self._total
        if not self._holds(far):
            return OperatingPoint(far, expected, False, float("nan"), float("nan"))
        place = self._refused_place(far)
        if place < 0:
            threshold = min(float(self.bins[0]), float(self._genuine[0]))
        else:
            refused = self._scores_at(np.array([place]))[0]
            threshold = float(np.nextafter(refused, np.inf))
        accepted = len(self._genuine) - np.searchsorted(self._genuine, threshold)
        return OperatingPoint(
            far, expected, True, threshold, float(accepted / len(self._genuine))
        )


class _Collected:
    """All scores between some pairs of ends, equal ones put together."""

    def __init__(self, lows: NDArray[np.float64], highs: NDArray[np.float64]) -> None:
        self._lows, self._highs = lows, highs
        self._parts: list[NDArray[np.float64]] = []
        self._waiting = 0
        self._values = np.empty(0)
        self._counts = np.empty(0, dtype=np.int64)
        self._first = np.zeros(1, dtype=np.int64)

    def add(self, ordered: NDArray[np.float64]) -> None:
        """Take those of some ascending scores that lie between the ends."""
        starts = np.searchsorted(ordered, self._lows)
        counts = np.searchsorted(ordered, self._highs) - starts
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        self._parts.append(ordered[np.repeat(starts, counts) + within])
        self._waiting += len(within)
        if self._waiting > _COLLECTED:
            self.finish()

    def finish(self) -> None:
        """Put equal scores together."""
        values = np.concatenate([self._values, *self._parts])
        counts = np.ones(len(values), dtype=np.int64)
        counts[: len(self._counts)] = self._counts
        self._parts, self._waiting = [], 0
        self._values, place = np.unique(values, return_inverse=True)
        self._counts = np.zeros(len(self._values), dtype=np.int64)
        np.add.at(self._counts, place, counts)
        self._first = np.concatenate([[0], np.cumsum(self._counts)])

    def between(self, low: float, high: float) -> NDArray[np.float64]:
        """Return the different scores from one end on, below another."""
        start, stop = np.searchsorted(self._values, [low, high])
        return self._values[start:stop]

    def count(
        self, low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Count the scores from one end on, below another, shape (T,)."""
        first = self._first[np.searchsorted(self._values, low)]
        return self._first[np.searchsorted(self._values, high)] - first

    def at(
        self, low: NDArray[np.float64], within: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the scores at places that count from ends on, shape (T,)."""
        place = self._first[np.searchsorted(self._values, low)] + within
        return self._values[np.searchsorted(self._first, place, side="right") - 1]


def _sampled_edges(comparisons: Comparisons) -> NDArray[np.float64]:
    """Return quantiles of the scores of a sample of pairs, ascending, all different.

    Where they are wrong, the second look collects more; its figures are the same.
    """
    generator = np.random.default_rng(0)
    chosen = []
    for items in (comparisons.candidates.queries, comparisons.candidates.gallery):
        size = min(_SAMPLE, len(items))
        chosen.append(np.sort(generator.choice(items, size, replace=False)))
    queries, gallery = chosen
    sampled = comparisons.with_gallery(gallery)
    scores = np.sort(
        np.concatenate(
            [
                np.concatenate(split_scores(sampled.labeled_scores(block), block))
                for block in sampled.blocks(queries)
            ]
        )
    )
    step = max(1, len(scores) // _EDGES)
    return np.unique(scores[::step])


def _histogram(
    ordered: NDArray[np.float64], bins: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Count ascending scores per bin, the last bin's upper end included."""
    ends = np.searchsorted(ordered, bins)
    ends[-1] = np.searchsorted(ordered, bins[-1], side="right")
    return np.diff(ends)
