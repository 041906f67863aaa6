"""Error rates of slices: each query's scores in bins, and exact rates where they cross.

The bins show where the error rates of any set of queries cross. One more pass
collects the scores in the crossing bins of all sets at once, a small part of all, and
finds each rate among them exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.blocks import Block, Comparisons, split_scores
from fiftyone_sfam.audit.evaluation.scores import FirstLook
from fiftyone_sfam.audit.statistics.bootstrap import crossing_bins, equal_error
from fiftyone_sfam.retrieval.search import UNKNOWN

_BINS = 256
# Bin of pairs that are left out, and of queries that are in no slice.
_OUT, _NOWHERE = -1, -2
# Most scores of one slice that are collected at once.
_KEPT = 10_000_000

Watch = Callable[[int], None]
"""Is called with the number of queries that were compared."""

SliceError = tuple[int, int, float]
"""Genuine comparisons, impostor comparisons, and the equal error rate."""


class ScoreTable:
    """Each query's comparisons per bin of the score."""

    def __init__(self, comparisons: Comparisons, low: float, high: float) -> None:
        queries = comparisons.candidates.queries
        self._span = low, high
        self._place = np.full(len(comparisons.scaled), UNKNOWN)
        self._place[queries] = np.arange(len(queries))
        self._genuine = np.zeros((len(queries), _BINS), dtype=np.uint32)
        self._impostor = np.zeros((len(queries), _BINS), dtype=np.uint32)

    def like_for(self, comparisons: Comparisons) -> ScoreTable:
        """Return an empty table with the same bins for other comparisons."""
        return ScoreTable(comparisons, *self._span)

    def bins(self, scores: NDArray[np.float64]) -> NDArray[np.int16]:
        """Return the bin of each score, -1 where it is -inf, in the same shape."""
        low, high = self._span
        bins = (scores - low) * (_BINS / max(high - low, 1e-12))
        np.clip(bins, 0, _BINS - 1, out=bins)
        codes = bins.astype(np.int16)
        np.putmask(codes, scores == -np.inf, _OUT)
        return codes

    def add(self, block: Block, scores: NDArray[np.float64]) -> None:
        """Count the scores that verification looks at, -inf where left out."""
        places, rows = self._place[block.queries], len(block.queries)
        bins = self.bins(scores)
        own = _count(block.row, bins[block.row, block.column], rows)
        self._genuine[places] = own
        self._impostor[places] = _count(np.arange(rows)[:, None], bins, rows) - own

    def of(
        self, queries: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return some queries' genuine and impostor comparisons, shapes (Q, B)."""
        places = self._place[queries]
        return self._genuine[places], self._impostor[places]


def equal_errors_of(
    comparisons: Comparisons,
    table: ScoreTable,
    groups: Sequence[NDArray[np.int64]],
    watch: Watch | None = None,
) -> list[SliceError]:
    """Find the exact equal error rates of sets of queries."""
    crossings = [_crossing(*table.of(queries)) for queries in groups]
    owners, values = _collect(comparisons, table, groups, crossings, watch)
    errors: list[SliceError] = []
    for place, (queries, crossing) in enumerate(zip(groups, crossings, strict=True)):
        if crossing.held > _KEPT:
            # Seldom: much of the slice has one score.
            errors.append(_streamed_error(comparisons, queries))
            continue
        parts = []
        for owner, value in zip(owners, values, strict=True):
            start, stop = np.searchsorted(owner, [place, place + 1])
            parts.append(np.sort(value[start:stop]))
        error = crossing.equal_error(*parts)
        errors.append((crossing.genuine, crossing.impostor, error))
    return errors


@dataclass(frozen=True)
class _Crossing:
    """Where the error rates of a slice cross."""

    genuine: int  # comparisons
    impostor: int  # comparisons
    bins: tuple[int, int]  # the bin where they cross and the next one in use
    before: tuple[int, int]
    held: int  # comparisons in them

    def equal_error(
        self, genuine: NDArray[np.float64], impostor: NDArray[np.float64]
    ) -> float:
        """Find the rate among the scores in the crossing bins, ascending."""
        counts = self.genuine, self.impostor
        return equal_error(genuine, impostor, self.before, counts)[0]


def _crossing(genuine: NDArray[np.uint32], impostor: NDArray[np.uint32]) -> _Crossing:
    """Find the bins in which the error rates of some queries cross."""
    own, other = (table.sum(axis=0, dtype=np.int64) for table in (genuine, impostor))
    counts = int(own.sum()), int(other.sum())
    if 0 in counts:
        return _Crossing(*counts, (_NOWHERE, _NOWHERE), (0, 0), 0)
    bins = crossing_bins(own, other)
    first, second = (*bins.tolist(), _NOWHERE)[:2]
    before = int(own[:first].sum()), int(other[:first].sum())
    held = int((own + other)[bins].sum())
    return _Crossing(*counts, (first, second), before, held)


def _collect(
    comparisons: Comparisons,
    table: ScoreTable,
    groups: Sequence[NDArray[np.int64]],
    crossings: Sequence[_Crossing],
    watch: Watch | None,
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float64]]]:
    """Collect the scores in the slices' crossing bins."""
    size = len(comparisons.scaled)
    layers = [
        _Layer(size, groups, crossings, places) for places in _layers(size, groups)
    ]
    queries = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *groups]))
    owners: list[list[NDArray[np.int64]]] = [[], []]
    values: list[list[NDArray[np.float64]]] = [[], []]
    for block in comparisons.blocks(queries):
        scores = comparisons.labeled_scores(block)
        bins = table.bins(scores)
        own = np.full_like(bins, _OUT)
        own[block.row, block.column] = bins[block.row, block.column]
        bins[block.row, block.column] = _OUT
        for layer in layers:
            for kind, places in enumerate((own, bins)):
                row, column = layer.find(block.queries, places)
                owners[kind].append(layer.owner[block.queries[row]])
                values[kind].append(scores[row, column])
        if watch is not None:
            watch(len(block.queries))
    return _in_order(owners, values)


class _Layer:
    """Slices without a query in common."""

    def __init__(
        self,
        size: int,
        groups: Sequence[NDArray[np.int64]],
        crossings: Sequence[_Crossing],
        places: Sequence[int],
    ) -> None:
        self.owner = np.full(size, UNKNOWN)
        self._wanted = np.full((2, size), _NOWHERE, dtype=np.int16)
        for place in places:
            self.owner[groups[place]] = place
            if crossings[place].held <= _KEPT:
                bins = np.array(crossings[place].bins, dtype=np.int16)
                self._wanted[:, groups[place]] = bins[:, None]

    def find(
        self, queries: NDArray[np.int64], bins: NDArray[np.int16]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows and columns of the scores in wanted bins."""
        first, second = self._wanted[:, queries, None]
        row, column = np.nonzero((bins == first) | (bins == second))
        return row, column


def _layers(size: int, groups: Sequence[NDArray[np.int64]]) -> list[list[int]]:
    """Sort slices into layers, so that no query is twice in one of them."""
    layers: list[list[int]] = []
    taken: list[NDArray[np.bool_]] = []
    for place, queries in enumerate(groups):
        free = (n for n, used in enumerate(taken) if not used[queries].any())
        layer = next(free, len(layers))
        if layer == len(layers):
            layers.append([])
            taken.append(np.zeros(size, dtype=bool))
        layers[layer].append(place)
        taken[layer][queries] = True
    return layers


def _in_order(
    owners: list[list[NDArray[np.int64]]], values: list[list[NDArray[np.float64]]]
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float64]]]:
    """Sort collected scores by slice."""
    columns: tuple[list[NDArray[np.int64]], list[NDArray[np.float64]]] = ([], [])
    for owner, value in zip(owners, values, strict=True):
        of_slice = np.concatenate([np.empty(0, dtype=np.int64), *owner])
        order = np.argsort(of_slice, kind="stable")
        columns[0].append(of_slice[order])
        columns[1].append(np.concatenate([np.empty(0), *value])[order])
    return columns


def _streamed_error(comparisons: Comparisons, queries: NDArray[np.int64]) -> SliceError:
    """Return counts and equal error of a slice in two passes of its own."""
    first = FirstLook(comparisons, ())
    for block in comparisons.blocks(queries):
        first.add(*split_scores(comparisons.labeled_scores(block), block))
    second = first.second_look()
    for block in comparisons.blocks(queries):
        second.add(split_scores(comparisons.labeled_scores(block), block)[1])
    summary = second.result()
    return summary.genuine_pairs, summary.impostor_pairs, summary.equal_error


def _count(
    row: NDArray[np.int64], bins: NDArray[np.int16], rows: int
) -> NDArray[np.int64]:
    """Count by row and bin, without those that are left out, shape (rows, B)."""
    # Scores that are left out come before the first bin.
    places = row * (_BINS + 1) + 1 + bins
    counts = np.bincount(places.ravel(), minlength=rows * (_BINS + 1))
    return counts.reshape(rows, _BINS + 1)[:, 1:]
