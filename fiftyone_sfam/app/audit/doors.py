"""Doors: the pairs and the samples that are behind the marks of the audit panel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, TRUE_MATCH
from fiftyone_sfam.runs.run import Run


@dataclass(frozen=True)
class Door:
    """What opens when a mark is clicked."""

    title: str  # what it is, as plain text
    pairs: tuple[int, ...]  # pairs of the run to review, in the order of reviewing
    samples: tuple[str, ...]  # samples to show in the grid, each once


def to_pairs(
    run: Run, title: str, pairs: NDArray[np.integer], both: bool = False
) -> Door:
    """Make a door to pairs, and to their queries."""
    items = run.pairs.query[pairs]
    if both:
        items = np.stack([items, run.pairs.gallery[pairs]], axis=1).reshape(-1)
    return Door(title, tuple(np.asarray(pairs).tolist()), samples_of(run, items))


def to_queries(run: Run, title: str, queries: NDArray[np.integer]) -> Door:
    """Make a door to queries, with their first neighbors as pairs."""
    pairs = first_pairs(run, queries)
    order = np.argsort(run.pairs.outcome[pairs] != FALSE_MATCH, kind="stable")
    return Door(title, tuple(pairs[order].tolist()), samples_of(run, queries))


def to_samples(title: str, samples: Iterable[str]) -> Door:
    """Make a door to samples without pairs."""
    return Door(title, (), tuple(dict.fromkeys(samples)))


def to_outcome(run: Run, outcome: int) -> Door:
    """Make a door to the first neighbors of an outcome."""
    name = "true" if outcome == TRUE_MATCH else "false"
    chosen = (run.pairs.rank == 1) & (run.pairs.outcome == outcome)
    return to_pairs(run, f"{name} matches at rank 1", np.flatnonzero(chosen))


def first_pairs(run: Run, queries: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the pairs of rank 1 of queries, in the queries' order; some have none."""
    first = np.full(len(run.items), -1, dtype=np.int64)
    places = np.flatnonzero(run.pairs.rank == 1)
    first[run.pairs.query[places]] = places
    found = first[queries]
    return found[found >= 0]


def samples_of(run: Run, items: NDArray[np.integer]) -> tuple[str, ...]:
    """Return the samples of items, each once, in order."""
    return tuple(dict.fromkeys(np.asarray(run.items.sample_ids[items]).tolist()))
