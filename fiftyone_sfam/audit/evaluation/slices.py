"""How retrieval does in parts of the data: by camera, attribute, split or identity.

A slice is a set of queries, which search the whole gallery; a pair slice is a set of
queries that search a part of it. In both, verification is over *comparisons* of a query
with a gallery image. Two images that are both query and gallery are two comparisons,
one for each, because queries are what the intervals draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.blocks import Comparisons
from fiftyone_sfam.audit.evaluation.measures import Identification
from fiftyone_sfam.audit.evaluation.slices_scores import (
    ScoreTable,
    Watch,
    equal_errors_of,
)
from fiftyone_sfam.audit.statistics.bootstrap import (
    Estimate,
    equal_error_estimate,
    mean_estimates,
)
from fiftyone_sfam.errors import DataError

NO_VALUE = "(none)"
"""Name of the slice of images without a value."""

OVERALL = "(all)"
"""Name of the slice of all queries."""

MAX_PAIR_VALUES = 100
"""Most values of a field whose pair slices are looked at."""

Values = Sequence[tuple[str, ...]]
"""What each image has: nothing, one value or, as with tags, several."""


@dataclass(frozen=True)
class SliceRow:
    """The figures of the queries of one slice."""

    value: str  # what the queries have in common
    items: NDArray[np.int64]
    queries: int  # those of them that have a true match in their gallery, and so count
    rank1: Estimate  # their figures, from 0 to 1
    mean_average_precision: Estimate  # their figures, from 0 to 1
    mean_inverse_negative_penalty: Estimate  # their figures, from 0 to 1
    genuine: int
    impostor: int
    equal_error: Estimate  # of these comparisons


@dataclass(frozen=True)
class PairSliceRow:
    """The figures of the comparisons of one slice's queries with another's gallery."""

    query_value: str  # what the query, and what the gallery image has
    gallery_value: str  # what the query, and what the gallery image has
    items: NDArray[np.int64]  # the labeled queries, indices into the run's items
    genuine: int  # comparisons of one identity, and of two
    impostor: int  # comparisons of one identity, and of two
    equal_error: Estimate  # of these comparisons


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn."""

    resamples: int  # number of draws
    seed: int  # seed of the draws


def group_by_value(
    values: Values, items: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Sort images into slices."""
    groups: dict[str, list[int]] = {}
    for item in items:
        for value in values[item] or (NO_VALUE,):
            groups.setdefault(value, []).append(int(item))
    ordered = sorted(groups.items(), key=lambda one: (-len(one[1]), one[0]))
    return {value: np.array(members, dtype=np.int64) for value, members in ordered}


def evaluate_slices(
    fields: dict[str, dict[str, NDArray[np.int64]]],
    identification: Identification,
    comparisons: Comparisons,
    table: ScoreTable,
    resampling: Resampling,
    watch: Watch | None = None,
) -> dict[str, tuple[SliceRow, ...]]:
    """Evaluate slices of the queries, however small.

    One more pass over all pairs serves all slices of all fields.
    """
    members = [items for groups in fields.values() for items in groups.values()]
    errors = iter(equal_errors_of(comparisons, table, members, watch))
    found = {}
    for field, groups in fields.items():
        rows = []
        for value, items in groups.items():
            genuine, impostor, error = next(errors)
            estimate = equal_error_estimate(
                error, *table.of(items), resampling.resamples, resampling.seed
            )
            counts = genuine, impostor
            rows.append(
                make_row(value, items, identification, counts, estimate, resampling)
            )
        found[field] = tuple(rows)
    return found


def make_row(
    value: str,
    items: NDArray[np.int64],
    identification: Identification,
    counts: tuple[int, int],
    equal_error: Estimate,
    resampling: Resampling,
) -> SliceRow:
    """Measure the rankings of a slice's queries, and put its figures together."""
    chosen = np.isin(identification.query, items)
    rank1, precision, penalty = mean_estimates(
        np.stack(
            [
                identification.first_match[chosen] == 1,
                identification.average_precision[chosen],
                identification.inverse_negative_penalty[chosen],
            ]
        ).astype(np.float64),
        resampling.resamples,
        resampling.seed,
    )
    return SliceRow(
        value,
        items,
        int(chosen.sum()),
        rank1,
        precision,
        penalty,
        *counts,
        equal_error,
    )


def evaluate_pair_slices(
    name: str,
    groups: dict[str, NDArray[np.int64]],
    gallery_groups: dict[str, NDArray[np.int64]],
    comparisons: Comparisons,
    table: ScoreTable,
    resampling: Resampling,
    watch: Watch | None = None,
) -> tuple[PairSliceRow, ...]:
    """Evaluate the verification of each slice's queries with each slice's gallery."""
    most = max(len(groups), len(gallery_groups))
    if most > MAX_PAIR_VALUES:
        raise DataError(
            f"the field '{name}' has {most:,} values, and its pair slices can be "
            f"looked at up to {MAX_PAIR_VALUES}; slice by it without pairs."
        )
    rows = []
    for gallery_value, gallery in gallery_groups.items():
        part = comparisons.with_gallery(gallery)
        scores = table.like_for(part)
        for block in part.blocks():
            scores.add(block, part.labeled_scores(block))
        errors = equal_errors_of(part, scores, list(groups.values()), watch)
        for (value, items), (genuine, impostor, error) in zip(
            groups.items(), errors, strict=True
        ):
            estimate = equal_error_estimate(
                error, *scores.of(items), resampling.resamples, resampling.seed
            )
            rows.append(
                PairSliceRow(value, gallery_value, items, genuine, impostor, estimate)
            )
    return tuple(rows)
