"""Where on the image two models find their scores: shares by region and by place.

Both are sums of the query side's evidence over pairs, divided by the sum of the pairs'
scores, as in a ledger. By place, the maps of both models are spread over a common grid
of the image: each cell of a map is divided among the cells of the grid that it
overlaps, by area, so the sums stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.regions.ledger import (
    EVIDENCE,
    Ledger,
    build_ledger,
    load_ledger,
)
from fiftyone_sfam.audit.regions.ledger_cells import REMAINDER
from fiftyone_sfam.audit.regions.partitions import overlaps
from fiftyone_sfam.audit.statistics.bootstrap import Estimate
from fiftyone_sfam.audit.statistics.paired import share_differences
from fiftyone_sfam.retrieval.pairs import QUERY
from fiftyone_sfam.runs.blobs import unpack_maps
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_table import shard_name


@dataclass(frozen=True)
class RegionChange:
    """What a region carries of the scores of two models.

    Attributes
    ----------
    region : str
        Name of the region, or ``"not on the map"``.
    first, second : float
        Its share of the score in either run. The shares of a run add up to 1.
    difference : Estimate
        ``second - first``, with a simultaneous 95 % interval over all regions.
    """

    region: str
    first: float
    second: float
    difference: Estimate


@dataclass(frozen=True)
class PlaceChange:
    """What the cells of a grid of h x w cells over the image carry of the scores."""

    shares: NDArray[np.float64]  # of either run's scores, shape (2, h, w)
    low: NDArray[np.float64]  # simultaneous 95 % intervals of the difference, (h, w)
    high: NDArray[np.float64]

    @property
    def difference(self) -> NDArray[np.float64]:
        """The second run's shares less the first one's, shape (h, w)."""
        return np.asarray(self.shares[1] - self.shares[0])


def has_evidence(runs: tuple[Run, Run]) -> bool:
    """Return whether both runs store maps that add up to the score."""
    return all(EVIDENCE in run.config.kinds for run in runs)


def ledger_of(run: Run, field: str | None) -> Ledger:
    """Return the stored ledger if it is of the field and of all pairs; else make one.

    A ledger that is made here is not stored, as it might replace one of another field.
    """
    stored = load_ledger(run)
    if stored is not None and stored.field == field and len(stored) == len(run.pairs):
        return stored
    return build_ledger(run, field, save=False)


def compare_regions(
    ledgers: tuple[Ledger, Ledger],
    pairs: NDArray[np.int64],
    resamples: int,
    seed: int,
) -> tuple[RegionChange, ...]:
    """Compare regions over pairs, shape (2, P), the largest difference first."""
    names = list(dict.fromkeys(name for one in ledgers for name in one.regions))
    rows = [
        np.searchsorted(ledger.pairs, of_run)
        for ledger, of_run in zip(ledgers, pairs, strict=True)
    ]
    parts = []
    for ledger, of_run in zip(ledgers, rows, strict=True):
        shares = np.zeros((len(of_run), len(names) + 1))
        columns = [names.index(name) for name in ledger.regions]
        shares[:, columns] = ledger.shares[of_run, QUERY]
        shares[:, -1] = ledger.remainder[of_run, QUERY]
        parts.append(shares)
    scores = [
        ledger.score[of_run] for ledger, of_run in zip(ledgers, rows, strict=True)
    ]
    known = ~np.isnan(parts).any(axis=(0, 2))
    queries = ledgers[0].query[rows[0]]
    carried, other, wholes = (
        _by_query(values[known], queries[known])
        for values in (*parts, np.stack(scores, axis=1))
    )
    value, low, high = share_differences(carried, other, wholes, resamples, seed)
    changes = [
        RegionChange(
            name,
            float(value[0, place]),
            float(value[1, place]),
            Estimate(
                float(value[1, place] - value[0, place]),
                float(low[place]),
                float(high[place]),
            ),
        )
        for place, name in enumerate((*names, REMAINDER))
    ]
    # Not on the map is a difference of the heads, not of a place: it comes last.
    return tuple(
        sorted(
            changes,
            key=lambda one: (one.region == REMAINDER, -abs(one.difference.value)),
        )
    )


def compare_places(
    runs: tuple[Run, Run], pairs: NDArray[np.int64], resamples: int, seed: int
) -> PlaceChange:
    """Compare the cells of the coarser grid over pairs, shape (2, P)."""
    height, width = (
        min(sizes)
        for sizes in zip(*(run.config.map_shape[1:] for run in runs), strict=True)
    )
    known = ~np.isnan(
        [run.remainders[of_run, QUERY] for run, of_run in _zip(runs, pairs)]
    )
    pairs = pairs[:, known.all(axis=0)]
    queries = runs[0].pairs.query[pairs[0]]
    unique, place = np.unique(queries, return_inverse=True)
    sums = np.zeros((2, len(unique), height * width))
    for total, (run, of_run) in zip(sums, _zip(runs, pairs), strict=True):
        _add_evidence(run, of_run, place, total.reshape(-1, height, width))
    scores = np.stack(
        [run.pairs.similarity[of_run] for run, of_run in _zip(runs, pairs)]
    )
    value, low, high = share_differences(
        sums[0], sums[1], _by_query(scores.T, queries), resamples, seed
    )
    return PlaceChange(
        value.reshape(2, height, width),
        low.reshape(height, width),
        high.reshape(height, width),
    )


def on_grid(
    maps: NDArray[np.floating],
    crop: tuple[float, float, float, float],
    height: int,
    width: int,
) -> NDArray[np.float64]:
    """Spread maps of a crop over a grid of the image; (..., h, w) to (..., H, W).

    What the network saw beyond the image, as padding, is on no cell.
    """
    left, top, right, bottom = crop

    def part(low: float, high: float, cells: int, count: int) -> NDArray[np.float64]:
        edges = (np.linspace(0, 1, cells + 1) - low) / (high - low) * count
        return overlaps(edges, count)

    rows = part(top, bottom, height, maps.shape[-2])
    columns = part(left, right, width, maps.shape[-1])
    return np.asarray(rows @ maps.astype(np.float64) @ columns.T)


def _add_evidence(
    run: Run,
    pairs: NDArray[np.int64],
    place: NDArray[np.int64],
    total: NDArray[np.float64],
) -> None:
    """Add the evidence of pairs' query sides to the places of their queries."""
    place_of = np.full(len(run.pairs), -1, dtype=np.int64)
    place_of[pairs] = place
    for number in range(run.plan.num_shards):
        sides, image = run.plan.sides_of(number)
        chosen = np.flatnonzero((sides % 2 == QUERY) & (place_of[sides // 2] >= 0))
        if not len(chosen):
            continue
        shard = run.store.get(shard_name(number))
        maps = unpack_maps(
            shard[f"{EVIDENCE}_values"][chosen], shard[f"{EVIDENCE}_scale"][chosen]
        )
        crops, which = np.unique(
            shard["crop"][image[chosen]], axis=0, return_inverse=True
        )
        for row, crop in enumerate(crops.tolist()):
            same = which.reshape(-1) == row
            spread = on_grid(maps[same], tuple(crop), *total.shape[1:])
            np.add.at(total, place_of[sides[chosen[same]] // 2], spread)


def _by_query(
    values: NDArray[np.float64], queries: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Sum the rows of each query."""
    unique, place = np.unique(queries, return_inverse=True)
    sums = np.zeros((len(unique), values.shape[1]))
    np.add.at(sums, place, values)
    return sums


def _zip(
    runs: tuple[Run, Run], pairs: NDArray[np.int64]
) -> list[tuple[Run, NDArray[np.int64]]]:
    """Return each run with its pairs."""
    return list(zip(runs, pairs, strict=True))
