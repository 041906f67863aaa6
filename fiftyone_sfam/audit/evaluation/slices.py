"""How retrieval does in parts of the data: by camera, attribute, split or identity.

A slice is a set of queries, which search the whole gallery; a pair slice is a set of
queries that search a part of it. In both, verification is over *comparisons* of a query
with a gallery image. Two images that are both query and gallery are two comparisons,
one for each, because queries are what the intervals draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

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
from fiftyone_sfam.runs.blobs import Arrays, from_json_array, json_array

NO_VALUE = "(none)"
"""Name of the slice of images without a value."""

OVERALL = "(all)"
"""Name of the slice of all queries."""

MAX_PAIR_VALUES = 100
"""Most values of a field whose pair slices are looked at."""

Values = Sequence[tuple[str, ...]]
"""Values of each image: none, one or, for tags, several."""


@dataclass(frozen=True, kw_only=True)
class SliceRow:
    """The figures of the queries of one slice."""

    value: str  # value that the queries have in common
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

    query_value: str  # value of the query
    gallery_value: str  # value of the gallery image
    items: NDArray[np.int64]  # the labeled queries, indices into the run's items
    genuine: int  # comparisons of one identity
    impostor: int  # comparisons of two identities
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
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
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
    by_field = {}
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
        by_field[field] = tuple(rows)
    return by_field


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
    genuine, impostor = counts
    return SliceRow(
        value=value,
        items=items,
        queries=int(chosen.sum()),
        rank1=rank1,
        mean_average_precision=precision,
        mean_inverse_negative_penalty=penalty,
        genuine=genuine,
        impostor=impostor,
        equal_error=equal_error,
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


Slices = dict[str, tuple[SliceRow, ...]]
PairSlices = dict[str, tuple[PairSliceRow, ...]]


def pack_slices(slices: Slices, pair_slices: PairSlices) -> Arrays:
    """Turn slices into arrays."""
    rows = [row for of_field in slices.values() for row in of_field]
    pair_rows = [row for of_field in pair_slices.values() for row in of_field]
    texts = {
        "slices": [
            [field, [row.value for row in of_field]]
            for field, of_field in slices.items()
        ],
        "pair_slices": [
            [field, [[row.query_value, row.gallery_value] for row in of_field]]
            for field, of_field in pair_slices.items()
        ],
    }
    numbers = [
        [
            row.queries,
            row.genuine,
            row.impostor,
            *astuple(row.rank1),
            *astuple(row.mean_average_precision),
            *astuple(row.mean_inverse_negative_penalty),
            *astuple(row.equal_error),
        ]
        for row in rows
    ]
    pair_numbers = [
        [row.genuine, row.impostor, *astuple(row.equal_error)] for row in pair_rows
    ]
    return {
        "texts": json_array(texts),
        "slice_numbers": np.array(numbers, dtype=np.float64).reshape(-1, 15),
        "pair_numbers": np.array(pair_numbers, dtype=np.float64).reshape(-1, 5),
        **_pack_items("slice", [row.items for row in rows]),
        **_pack_items("pair", [row.items for row in pair_rows]),
    }


def unpack_slices(arrays: Arrays) -> tuple[Slices, PairSlices]:
    """Restore slices from :func:`pack_slices`."""
    texts = from_json_array(arrays["texts"])
    items, numbers = _unpack_items(arrays, "slice"), iter(arrays["slice_numbers"])
    slices: Slices = {}
    for field, values in texts["slices"]:
        slices[field] = tuple(
            _slice_row(value, next(items), next(numbers).tolist()) for value in values
        )
    items, numbers = _unpack_items(arrays, "pair"), iter(arrays["pair_numbers"])
    pair_slices: PairSlices = {}
    for field, values in texts["pair_slices"]:
        pair_slices[field] = tuple(
            _pair_row(query_value, gallery_value, next(items), next(numbers).tolist())
            for query_value, gallery_value in values
        )
    return slices, pair_slices


def _slice_row(value: str, items: NDArray[np.int64], numbers: list[float]) -> SliceRow:
    queries, genuine, impostor, *rest = numbers
    return SliceRow(
        value=value,
        items=items,
        queries=int(queries),
        rank1=Estimate(*rest[0:3]),
        mean_average_precision=Estimate(*rest[3:6]),
        mean_inverse_negative_penalty=Estimate(*rest[6:9]),
        genuine=int(genuine),
        impostor=int(impostor),
        equal_error=Estimate(*rest[9:12]),
    )


def _pair_row(
    query_value: str,
    gallery_value: str,
    items: NDArray[np.int64],
    numbers: list[float],
) -> PairSliceRow:
    genuine, impostor, *rest = numbers
    return PairSliceRow(
        query_value, gallery_value, items, int(genuine), int(impostor), Estimate(*rest)
    )


def _pack_items(name: str, items: list[NDArray[np.int64]]) -> Arrays:
    lengths = np.array([len(item) for item in items], dtype=np.int64)
    empty = np.empty(0, dtype=np.int64)
    return {
        f"{name}_items": np.concatenate([empty, *items]),
        f"{name}_lengths": lengths,
    }


def _unpack_items(arrays: Arrays, name: str) -> Any:
    ends = np.cumsum(arrays[f"{name}_lengths"])
    return iter(np.split(arrays[f"{name}_items"], ends[:-1]) if len(ends) else [])
