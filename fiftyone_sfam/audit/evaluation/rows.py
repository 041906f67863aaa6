"""Slices as arrays, to store them."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.slices import PairSliceRow, SliceRow
from fiftyone_sfam.audit.statistics.bootstrap import Estimate
from fiftyone_sfam.runs.arrays import Arrays

Slices = dict[str, tuple[SliceRow, ...]]
PairSlices = dict[str, tuple[PairSliceRow, ...]]


def pack_slices(slices: Slices, pair_slices: PairSlices) -> Arrays:
    """Turn slices into arrays."""
    rows = [row for one in slices.values() for row in one]
    pair_rows = [row for one in pair_slices.values() for row in one]
    texts = {
        "slices": [
            [field, [row.value for row in one]] for field, one in slices.items()
        ],
        "pair_slices": [
            [field, [[row.query_value, row.gallery_value] for row in one]]
            for field, one in pair_slices.items()
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
        "texts": np.frombuffer(json.dumps(texts).encode(), dtype=np.uint8),
        "slice_numbers": np.array(numbers, dtype=np.float64).reshape(-1, 15),
        "pair_numbers": np.array(pair_numbers, dtype=np.float64).reshape(-1, 5),
        **_pack_items("slice", [row.items for row in rows]),
        **_pack_items("pair", [row.items for row in pair_rows]),
    }


def unpack_slices(arrays: Arrays) -> tuple[Slices, PairSlices]:
    """Restore slices from :func:`pack_slices`."""
    texts = json.loads(arrays["texts"].tobytes().decode())
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
        value,
        items,
        int(queries),
        Estimate(*rest[0:3]),
        Estimate(*rest[3:6]),
        Estimate(*rest[6:9]),
        int(genuine),
        int(impostor),
        Estimate(*rest[9:12]),
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
    lengths = np.array([len(one) for one in items], dtype=np.int64)
    empty = np.empty(0, dtype=np.int64)
    return {
        f"{name}_items": np.concatenate([empty, *items]),
        f"{name}_lengths": lengths,
    }


def _unpack_items(arrays: Arrays, name: str) -> Any:
    ends = np.cumsum(arrays[f"{name}_lengths"])
    return iter(np.split(arrays[f"{name}_items"], ends[:-1]) if len(ends) else [])
