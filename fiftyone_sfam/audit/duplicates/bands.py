"""Pairs of hashes within a Hamming distance, without comparing all with all.

A hash of 64 bits is split into four bands. If two hashes differ in at most ``radius``
bits, one of their bands differs in at most ``radius // 4`` bits (multi-index hashing;
Norouzi, Punjani and Fleet, 2012). So the hashes are sorted by each band, and each query
is compared with those whose band is equal but for these few bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.duplicates.hashes import count_bits

BANDS = 4
_WIDTH = 16
_VALUES = 2**_WIDTH
# Queries, and comparisons, of a block.
_QUERIES = 2**15
_COMPARISONS = 2**21

Matches = tuple[NDArray[np.int64], NDArray[np.int64]]


def near_hashes(
    queries: NDArray[np.uint64], hashes: NDArray[np.uint64], radius: int
) -> Iterator[Matches]:
    """Yield each query and hash that differ in at most ``radius`` bits, once.

    The pairs come in blocks of indices into the queries and into the hashes.
    """
    reach = radius // BANDS
    probes = _flips(reach)
    for band in range(BANDS):
        keys = _band(hashes, band)
        order = np.argsort(keys, kind="stable")
        bounds = np.searchsorted(keys[order], np.arange(_VALUES + 1))
        for start in range(0, len(queries), _QUERIES):
            rows = np.arange(start, min(start + _QUERIES, len(queries)))
            values = _band(queries[rows], band)
            for flip in probes:
                wanted = (values ^ flip).astype(np.int64)
                for left, right in _expanded(rows, order, bounds, wanted):
                    near = count_bits(queries[left] ^ hashes[right]) <= radius
                    left, right = left[near], right[near]
                    # A pair that is near in an earlier band was found there.
                    new = np.ones(len(left), dtype=bool)
                    for earlier in range(band):
                        differ = _band(queries[left], earlier) ^ _band(
                            hashes[right], earlier
                        )
                        new &= count_bits(differ.astype(np.uint64)) > reach
                    if new.any():
                        yield left[new], right[new]


def _flips(reach: int) -> list[np.uint16]:
    """List the numbers with at most ``reach`` ones."""
    return [
        np.uint16(sum(1 << bit for bit in bits))
        for ones in range(reach + 1)
        for bits in combinations(range(_WIDTH), ones)
    ]


def _band(hashes: NDArray[np.uint64], band: int) -> NDArray[np.uint16]:
    return ((hashes >> np.uint64(band * _WIDTH)) & np.uint64(_VALUES - 1)).astype(
        np.uint16
    )


def _expanded(
    rows: NDArray[np.int64],
    order: NDArray[np.int64],
    bounds: NDArray[np.int64],
    wanted: NDArray[np.int64],
) -> Iterator[Matches]:
    """Pair each row with the hashes whose band has the wanted value, in blocks."""
    starts, sizes = bounds[wanted], bounds[wanted + 1] - bounds[wanted]
    some = sizes > 0
    rows, starts, sizes = rows[some], starts[some], sizes[some]
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, np.arange(0, total, _COMPARISONS))
    for low, high in pairwise([*cuts.tolist(), len(rows)]):
        block = slice(low, high)
        within = np.arange(sizes[block].sum())
        shift = starts[block] - (np.cumsum(sizes[block]) - sizes[block])
        yield (
            np.repeat(rows[block], sizes[block]),
            order[np.repeat(shift, sizes[block]) + within],
        )
