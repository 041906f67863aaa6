"""The images, queries and pairs that two runs share, and what keeps them apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.blocks import compare
from fiftyone_sfam.audit.evaluation.measures import Measures, measure
from fiftyone_sfam.audit.evaluation.overview import candidates_of
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import TRUE_MATCH
from fiftyone_sfam.retrieval.search import UNKNOWN
from fiftyone_sfam.runs.run import Run

LEAST_SHARED = 0.5
"""Least share of the larger run's images that the other run must have, too."""


@dataclass(frozen=True)
class Shared:
    """The C images that both runs compared."""

    items: NDArray[np.int64]  # index into the items of either run, shape (2, C)
    is_query: NDArray[np.bool_]  # in both runs, shape (C,)
    is_gallery: NDArray[np.bool_]  # in both runs, shape (C,)
    is_labeled: NDArray[np.bool_]  # whether they have an identity, shape (C,)
    only: tuple[int, int]  # images that only one of the runs compared

    def places(self, run: Run, side: int) -> NDArray[np.int64]:
        """Return the place among the shared images of each item, or UNKNOWN."""
        places = np.full(len(run.items), UNKNOWN)
        places[self.items[side]] = np.arange(self.items.shape[1])
        return places


def common_rows(
    first: NDArray[Any], second: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the values that two columns share, and their rows in either, (2, C)."""
    values, rows, others = np.intersect1d(
        first, second, assume_unique=True, return_indices=True
    )
    return values, np.stack([rows, others])


def share_images(runs: tuple[Run, Run]) -> Shared:
    """Find the images of both runs; raise if the runs cannot be compared."""
    first, second = runs
    _check_settings(first, second)
    used = [run.items.is_query | run.items.is_gallery for run in runs]
    ids = [run.items.ids[chosen] for run, chosen in zip(runs, used, strict=True)]
    _, places = common_rows(ids[0], ids[1])
    items = np.stack(
        [
            np.flatnonzero(chosen)[place]
            for chosen, place in zip(used, places, strict=True)
        ]
    )
    items = items[:, np.argsort(items[0])]
    counts = [len(of_run) for of_run in ids]
    if items.shape[1] < LEAST_SHARED * max(counts) or not items.shape[1]:
        raise DataError(
            f"the runs '{first.key}' and '{second.key}' share "
            f"{counted(items.shape[1], 'image')} of {counts[0]:,} and {counts[1]:,}; "
            "make both runs over the same images."
        )
    _check_labels(runs, items)
    return Shared(
        items,
        first.items.is_query[items[0]] & second.items.is_query[items[1]],
        first.items.is_gallery[items[0]] & second.items.is_gallery[items[1]],
        np.array([first.items.identities[item] is not None for item in items[0]]),
        (counts[0] - items.shape[1], counts[1] - items.shape[1]),
    )


def measure_shared(
    run: Run,
    items: NDArray[np.int64],
    shared: Shared,
    fars: tuple[float, ...],
    watch: Callable[[int, str], None] | None = None,
) -> Measures:
    """Measure a run on the shared queries and the shared gallery."""
    candidates = replace(
        candidates_of(run),
        queries=np.sort(items[shared.is_query]),
        gallery=np.sort(items[shared.is_gallery]),
    )
    protocol = Protocol.from_dict(run.config.protocol)
    comparisons = compare(run.embeddings(), candidates, protocol, run.config.metric)
    return measure(comparisons, fars, watch)


def shared_pairs(runs: tuple[Run, Run], shared: Shared) -> NDArray[np.int64]:
    """Return the pairs that both runs stored, as indices of either, shape (2, P)."""
    keys, numbers = [], []
    for side, run in enumerate(runs):
        places = shared.places(run, side)
        query, gallery = places[run.pairs.query], places[run.pairs.gallery]
        number = np.flatnonzero((query != UNKNOWN) & (gallery != UNKNOWN))
        keys.append(query[number] * shared.items.shape[1] + gallery[number])
        numbers.append(number)
    _, places_of = common_rows(keys[0], keys[1])
    return np.stack(
        [number[place] for number, place in zip(numbers, places_of, strict=True)]
    )


def true_pairs(runs: tuple[Run, Run], shared: Shared) -> NDArray[np.int64]:
    """Return the nearest true pair of each query in either run, shape (2, P)."""
    queries, numbers = [], []
    for side, run in enumerate(runs):
        columns, places = run.pairs, shared.places(run, side)
        gallery = places[columns.gallery] != UNKNOWN
        number = np.flatnonzero((columns.outcome == TRUE_MATCH) & gallery)
        number = number[np.lexsort((columns.rank[number], columns.query[number]))]
        query, first = np.unique(places[columns.query[number]], return_index=True)
        queries.append(query[query != UNKNOWN])
        numbers.append(number[first][query != UNKNOWN])
    _, rows = common_rows(queries[0], queries[1])
    return np.stack([number[row] for number, row in zip(numbers, rows, strict=True)])


def _check_settings(first: Run, second: Run) -> None:
    """Raise if the runs do not answer the same question."""
    names = f"the runs '{first.key}' and '{second.key}'"
    if first.config.uid == second.config.uid:
        raise DataError(f"'{first.key}' is one run; name two runs to compare.")
    if first.dataset._doc.id != second.dataset._doc.id:
        raise DataError(
            f"{names} are of two datasets, '{first.dataset.name}' and "
            f"'{second.dataset.name}'; compare runs of one dataset."
        )
    rules = [
        {
            **Protocol.from_dict(run.config.protocol).to_dict(),
            "patches_field": run.config.patches_field,
        }
        for run in (first, second)
    ]
    differ = [
        f"{name} is {value!r} and {rules[1][name]!r}"
        for name, value in rules[0].items()
        if value != rules[1][name]
    ]
    if differ:
        raise DataError(
            f"{names} follow different protocols: {'; '.join(differ)}. Make one of "
            "them again with the protocol of the other."
        )


def _check_labels(runs: tuple[Run, Run], items: NDArray[np.int64]) -> None:
    """Raise if an image had another label when the second run was made."""
    for what, columns in (
        ("identity", [run.items.identities for run in runs]),
        ("camera", [run.items.cameras for run in runs]),
    ):
        differ = [
            (one, other)
            for one, other in items.T.tolist()
            if columns[0][one] != columns[1][other]
        ]
        if differ:
            one, other = differ[0]
            raise DataError(
                f"{counted(len(differ), 'image')} had another {what} when "
                f"'{runs[1].key}' was made than for '{runs[0].key}', first the image "
                f"{runs[0].items.ids[one]} with {columns[0][one]!r} and "
                f"{columns[1][other]!r}; make the older run again."
            )
