"""How good a retrieval is, by the field's own measures, exact over all pairs.

Identification: CMC, mAP and mINP of every query's ranking of the whole gallery
(M. Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook",
2021, for mINP). Verification: the error rates of a threshold on the similarity, over
all pairs of images; here with every score at hand, in ``evaluation_scores`` for any
number of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.blocks import (
    Block,
    CameraRule,
    Comparisons,
    compare,
    split_scores,
)
from fiftyone_sfam.audit.evaluation.scores import FARS, FirstLook, ScoreSummary
from fiftyone_sfam.audit.evaluation.slices_scores import ScoreTable
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.search import UNKNOWN, Candidates

MAX_PAIRS = 30_000_000
"""Most pairs whose scores are kept one by one."""


@dataclass(frozen=True)
class Identification:
    """How each query's ranking of the gallery does.

    Only queries with a true match in their gallery count, as in Market-1501's protocol.
    """

    query: NDArray[np.int64]  # image of each query that counts, shape (Q,)
    average_precision: NDArray[np.float64]  # (Q,)
    inverse_negative_penalty: NDArray[np.float64]  # (Q,)
    first_match: NDArray[np.int64]  # rank of the nearest true match, from 1, shape (Q,)
    without_match: int  # labeled queries that have no true match to find

    def cmc(self, ranks: int) -> NDArray[np.float64]:
        """Compute the cumulative match characteristic."""
        counts = np.bincount(
            np.minimum(self.first_match, ranks + 1), minlength=ranks + 2
        )
        return np.cumsum(counts[1 : ranks + 1]) / max(1, len(self.query))

    @property
    def mean_average_precision(self) -> float:
        """The mean of the queries' average precision; NaN without queries."""
        return _mean(self.average_precision)

    @property
    def mean_inverse_negative_penalty(self) -> float:
        """The mean of the queries' inverse negative penalty; NaN without queries."""
        return _mean(self.inverse_negative_penalty)


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


class Ranker:
    """Measures the rankings of queries, block by block."""

    def __init__(self, comparisons: Comparisons) -> None:
        self._identities = comparisons.candidates.identities
        self._rows: list[tuple[int, float, float, int]] = []
        self._without = 0

    def add(self, block: Block) -> None:
        """Measure the rankings of a block's queries."""
        # Each row ascending, which tells how many images are ahead of a true match.
        ordered = np.sort(block.scores, axis=1)
        starts = np.searchsorted(block.row, np.arange(len(block.queries) + 1))
        for row, query in enumerate(block.queries):
            if self._identities[query] == UNKNOWN:
                continue
            column = block.column[starts[row] : starts[row + 1]]
            if len(column) == 0:
                self._without += 1
                continue
            ranks = _ranks(block.scores[row], ordered[row], column)
            found = np.arange(1, len(ranks) + 1)
            self._rows.append(
                (
                    int(query),
                    float((found / ranks).mean()),
                    float(len(ranks) / ranks[-1]),
                    int(ranks[0]),
                )
            )

    def result(self) -> Identification:
        """Return the measures of all queries that were added."""
        columns = list(zip(*self._rows, strict=True)) or [()] * 4
        return Identification(
            np.array(columns[0], dtype=np.int64),
            np.array(columns[1], dtype=np.float64),
            np.array(columns[2], dtype=np.float64),
            np.array(columns[3], dtype=np.int64),
            self._without,
        )


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
    count = len(candidates.queries) * len(candidates.gallery)
    if count > MAX_PAIRS:
        raise DataError(
            f"{count:,} pairs are too many to keep their scores (at most "
            f"{MAX_PAIRS:,}); use summarize_scores."
        )
    comparisons = compare(embeddings, candidates, protocol, metric, cameras)
    genuine, impostor = [np.empty(0)], [np.empty(0)]
    for block in comparisons.blocks():
        own, other = comparisons.pair_scores(block)
        genuine.append(own)
        impostor.append(other)
    return Verification(
        np.sort(np.concatenate(genuine)), np.sort(np.concatenate(impostor))
    )


def _ranks(
    scores: NDArray[np.float64],
    ordered: NDArray[np.float64],
    column: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return the ranks of some gallery images among all of a query's, ascending."""
    own = scores[column]
    after = np.searchsorted(ordered, own, side="right")
    if (after - np.searchsorted(ordered, own) == 1).all():
        return np.sort(len(ordered) - after + 1)
    # Equal scores are ranked by the index of the image.
    places = np.empty(len(scores), dtype=np.int64)
    places[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    return np.sort(places[column]) + 1


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


@dataclass(frozen=True)
class Measures:
    """What two passes over all pairs find."""

    identification: Identification  # measures of every query
    scores: ScoreSummary  # of all pairs
    table: ScoreTable  # each query's comparisons by score, for slices and intervals


def measure(
    comparisons: Comparisons,
    fars: Sequence[float] = FARS,
    watch: Callable[[int, str], None] | None = None,
) -> Measures:
    """Rank every query's gallery and sum up the scores of all pairs.

    20,000 embeddings of 512 numbers, 400 million comparisons, take about 40 seconds of
    one core and less than a gigabyte. Memory is that of the embeddings in double
    precision, of some five blocks of scores, of 8 bytes per genuine pair and of 2
    kilobytes per query, whatever the number of pairs.
    """
    ranker, first = Ranker(comparisons), FirstLook(comparisons, fars)
    for block in comparisons.blocks():
        ranker.add(block)
        first.add(*comparisons.pair_scores(block))
        if watch is not None:
            watch(len(block.queries), "ranking")
    second = first.second_look()
    table = ScoreTable(comparisons, *first.bulk())
    for block in comparisons.blocks():
        scores = comparisons.labeled_scores(block)
        table.add(block, scores)
        comparisons.drop_mirrored(block, scores)
        second.add(split_scores(scores, block)[1])
        if watch is not None:
            watch(len(block.queries), "verifying")
    return Measures(ranker.result(), second.result(), table)
