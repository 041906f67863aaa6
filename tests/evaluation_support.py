"""Evaluations with every score at hand, to compare the package's figures with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.blocks import CameraRule, Comparisons, compare
from fiftyone_sfam.audit.evaluation.measures import Identification, Ranker
from fiftyone_sfam.audit.evaluation.scores import FARS, FirstLook, ScoreSummary
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.retrieval.search import Candidates


@dataclass(frozen=True)
class Verification:
    """The similarities of pairs of one identity, and of two."""

    genuine: NDArray[np.float64]
    impostor: NDArray[np.float64]

    def rates(
        self, thresholds: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Compute the error rates of thresholds."""
        accepted = len(self.impostor) - np.searchsorted(self.impostor, thresholds)
        refused = np.searchsorted(self.genuine, thresholds)
        return (
            accepted / max(1, len(self.impostor)),
            refused / max(1, len(self.genuine)),
        )

    @property
    def auc(self) -> float:
        """Chance that a genuine pair scores above an impostor pair; ties count half."""
        if len(self.genuine) == 0 or len(self.impostor) == 0:
            return float("nan")
        below = np.searchsorted(self.impostor, self.genuine, side="left")
        up_to = np.searchsorted(self.impostor, self.genuine, side="right")
        return float((below + up_to).mean() / 2 / len(self.impostor))

    def equal_error(self) -> tuple[float, float]:
        """Find where the two error rates meet."""
        kinds = self.genuine, self.impostor
        if len(self.genuine) == 0 or len(self.impostor) == 0:
            return float("nan"), float("nan")
        # Accepted less refused falls from score to score: it is least just before or
        # just after it turns negative.
        found = [(one, self._last_accepting(one)) for one in kinds]
        last = max(float(one[place]) for one, place in found if place >= 0)
        places = [int(np.searchsorted(one, last, side="right")) for one in kinds]
        after = [
            float(one[place])
            for one, place in zip(kinds, places, strict=True)
            if place < len(one)
        ]
        thresholds = np.array([last, *([min(after)] if after else [])])
        fmr, fnmr = self.rates(thresholds)
        best = int(np.abs(fmr - fnmr).argmin())
        return float((fmr[best] + fnmr[best]) / 2), float(thresholds[best])

    def _last_accepting(self, scores: NDArray[np.float64]) -> int:
        """Return the place of the last score with no less accepted than refused.

        Without such a score, -1.
        """
        low, high = -1, len(scores)
        while high - low > 1:
            middle = (low + high) // 2
            fmr, fnmr = self.rates(scores[middle : middle + 1])
            low, high = (middle, high) if fmr[0] >= fnmr[0] else (low, middle)
        return low

    def threshold_for(self, fmr: float) -> float:
        """Find the least threshold that accepts no more than a share of impostors."""
        allowed = int(np.floor(fmr * len(self.impostor) + 1e-9))
        if allowed >= len(self.impostor):
            lowest = (one.min(initial=np.inf) for one in (self.genuine, self.impostor))
            return float(min(lowest))
        # The first refused impostor, counted from the highest.
        return float(np.nextafter(self.impostor[-1 - allowed], np.inf))


def identify(
    embeddings: NDArray[np.floating],
    candidates: Candidates,
    protocol: Protocol,
    metric: str = "cosine",
    cameras: CameraRule = "protocol",
) -> Identification:
    """Rank the whole gallery for every query, and measure the rankings.

    Images of equal score are ranked by their index. Junk images are no candidates and
    are ranked nowhere; a distractor takes its rank and matches nobody.
    """
    comparisons = compare(embeddings, candidates, protocol, metric, cameras)
    ranker = Ranker(comparisons)
    for block in comparisons.blocks():
        ranker.add(block)
    return ranker.result()


def verify(
    embeddings: NDArray[np.floating],
    candidates: Candidates,
    protocol: Protocol,
    metric: str = "cosine",
    cameras: CameraRule = "protocol",
) -> Verification:
    """Collect the similarities of all pairs of labeled images.

    A pair of two images that are both query and gallery counts once. Where the protocol
    leaves out the query's identity on its own camera, pairs from one camera are left
    out, genuine and impostor alike.
    """
    comparisons = compare(embeddings, candidates, protocol, metric, cameras)
    genuine, impostor = [np.empty(0)], [np.empty(0)]
    for block in comparisons.blocks():
        own, other = comparisons.pair_scores(block)
        genuine.append(own)
        impostor.append(other)
    return Verification(
        np.sort(np.concatenate(genuine)), np.sort(np.concatenate(impostor))
    )


def summarize_scores(
    comparisons: Comparisons, fars: Sequence[float] = FARS
) -> ScoreSummary:
    """Sum up the scores of all pairs."""
    first = FirstLook(comparisons, fars)
    for block in comparisons.blocks():
        first.add(*comparisons.pair_scores(block))
    second = first.second_look()
    for block in comparisons.blocks():
        second.add(comparisons.pair_scores(block)[1])
    return second.result()
