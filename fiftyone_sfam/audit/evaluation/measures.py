"""The usual measures of a retrieval, exact over all pairs.

Identification: CMC, mAP and mINP of every query's ranking of the whole gallery
(M. Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook",
2021, for mINP). Verification: the error rates of a threshold on the similarity, over
all pairs of images, see :mod:`fiftyone_sfam.audit.evaluation.scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.blocks import (
    Block,
    Comparisons,
    split_scores,
)
from fiftyone_sfam.audit.evaluation.scores import FARS, FirstLook, ScoreSummary
from fiftyone_sfam.audit.evaluation.slices_scores import ScoreTable
from fiftyone_sfam.retrieval.search import UNKNOWN


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
            matches = np.arange(1, len(ranks) + 1)
            self._rows.append(
                (
                    int(query),
                    float((matches / ranks).mean()),
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
    """Result of two passes over all pairs."""

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
