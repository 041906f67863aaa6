"""All figures of all pairs in two passes: rankings and counts, then thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fiftyone_sfam.audit.evaluation.blocks import Comparisons, split_scores
from fiftyone_sfam.audit.evaluation.measures import Identification, Ranker
from fiftyone_sfam.audit.evaluation.scores import FARS, FirstLook, ScoreSummary
from fiftyone_sfam.audit.evaluation.slices_scores import ScoreTable


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
