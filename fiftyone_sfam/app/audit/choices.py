"""Choices in the audit panel, and the pairs and samples that a click opens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, TRUE_MATCH
from fiftyone_sfam.runs.run import Run


@dataclass(frozen=True)
class Selection:
    """Pairs and samples that a click opens."""

    title: str  # what it is, as plain text
    pairs: tuple[int, ...]  # pairs of the run to review, in the order of reviewing
    samples: tuple[str, ...]  # samples to show in the grid, each once


def to_pairs(
    run: Run, title: str, pairs: NDArray[np.integer], both: bool = False
) -> Selection:
    """Select pairs, and to their queries."""
    items = run.pairs.query[pairs]
    if both:
        items = np.stack([items, run.pairs.gallery[pairs]], axis=1).reshape(-1)
    return Selection(title, tuple(np.asarray(pairs).tolist()), samples_of(run, items))


def to_queries(run: Run, title: str, queries: NDArray[np.integer]) -> Selection:
    """Select queries, with their first neighbors as pairs."""
    pairs = first_pairs(run, queries)
    order = np.argsort(run.pairs.outcome[pairs] != FALSE_MATCH, kind="stable")
    return Selection(title, tuple(pairs[order].tolist()), samples_of(run, queries))


def to_outcome(run: Run, outcome: int) -> Selection:
    """Select the first neighbors of an outcome, or all pairs of a list with it."""
    chosen = run.pairs.outcome == outcome
    if not run.ranked:
        name = "one identity" if outcome == TRUE_MATCH else "two identities"
        return to_pairs(run, f"pairs of {name}", np.flatnonzero(chosen))
    name = "true" if outcome == TRUE_MATCH else "false"
    first = chosen & (run.pairs.rank == 1)
    return to_pairs(run, f"{name} matches at rank 1", np.flatnonzero(first))


def first_pairs(run: Run, queries: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the pairs of rank 1 of queries, in the queries' order; some have none."""
    first = np.full(len(run.items), -1, dtype=np.int64)
    places = np.flatnonzero(run.pairs.rank == 1)
    first[run.pairs.query[places]] = places
    pairs_of_queries = first[queries]
    return pairs_of_queries[pairs_of_queries >= 0]


def samples_of(run: Run, items: NDArray[np.integer]) -> tuple[str, ...]:
    """Return the samples of items, each once, in order."""
    return tuple(dict.fromkeys(np.asarray(run.items.sample_ids[items]).tolist()))


OVERVIEW = "overview"
"""The first page of the panel."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Choices in the panel; None stands for the first one."""

    page: str = OVERVIEW  # the page
    threshold: float | None = None  # threshold on the score
    slices: str | None = None
    pair_slices: str | None = None
    region: str | None = None  # region that is looked at
    shortcut: int | None = None  # place of the shortcut whose maps are shown
    other: str | None = None  # key of the run that is compared
    group: str | None = None  # field whose groups are compared

    @classmethod
    def from_state(cls, read: Callable[[str], Any]) -> Choices:
        """Restore what is chosen out of the panel's state."""
        values = {name: read(name) for name in CHOSEN}
        return cls(
            **{name: value for name, value in values.items() if value is not None}
        )


CHOSEN = tuple(choice.name for choice in fields(Choices))
"""Names under which the panel's state keeps what is chosen."""


@dataclass(frozen=True)
class Opened:
    """Effect of a click."""

    selection: Selection | None = None
    chosen: dict[str, Any] = field(default_factory=dict)


Params = Mapping[str, Any]
"""Parameters that the App sends with a click."""

Mark = Callable[[Run, Params, Choices], Opened]
"""Returns the effect of a click."""


def one_of(name: str | None, names: Iterable[str]) -> str:
    """Return the chosen one of some names, or else the first."""
    listed = list(names)
    return name if name is not None and name in listed else listed[0]


def place_of(params: Params) -> int:
    """Return the place of the bar, the point or the row that was clicked."""
    return int(params["row"] if "row" in params else params["idx"])
