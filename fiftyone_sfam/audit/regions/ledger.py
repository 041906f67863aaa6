"""The ledger of a run: the part of each similarity that each image region carries.

For each side of a pair, ``sum over regions + remainder = similarity``. The regions'
parts are sums of the stored evidence maps. The remainder is the part that the head adds
and no map can carry, plus the rounding of stored maps.

A position of the feature map sees more of the image than its own cell: next to a
person, it partly sees the person. Shares are therefore meant for comparing pairs and
groups. :mod:`fiftyone_sfam.audit.regions.causal` measures what happens without a
region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.fields import item_values
from fiftyone_sfam.audit.regions.fields import (
    STRIPES,
    Grid,
    check_region_field,
    read_regions,
    shard_grids,
)
from fiftyone_sfam.audit.regions.ledger_cells import (
    CAMERAS,
    OUTCOME,
    Cell,
    aggregate,
)
from fiftyone_sfam.audit.regions.partitions import (
    BACKGROUND,
    Regions,
    check_stripes,
    split,
)
from fiftyone_sfam.audit.statistics.bootstrap import RESAMPLES, check_seed
from fiftyone_sfam.data.notebook import PlottedResult
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.retrieval.pairs import OUTCOMES, QUERY
from fiftyone_sfam.runs.blobs import (
    Arrays,
    from_json_array,
    json_array,
    unpack_maps,
)
from fiftyone_sfam.runs.results import restore
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_table import shard_name

RESULT = "regions"
"""Name of the stored result."""

EVIDENCE = "evidence"
PHASE = "splitting"

# Images whose regions are in memory at once.
_BLOCK_IMAGES = 512


@dataclass(frozen=True, kw_only=True)
class Ledger(PlottedResult):
    """The parts of the similarities of L pairs that regions carry.

    Attributes
    ----------
    field : str or None
        Field that the regions come from; None for stripes.
    regions : tuple of str
        Names of the R regions.
    pairs : ndarray of int64
        Increasing indices into the run's pairs, shape (L,).
    query, gallery : ndarray of int32
        Images of the pairs, indices into the run's items, shape (L,).
    rank : ndarray of int32
        Rank of the gallery image, shape (L,).
    outcome : ndarray of int8
        Index into :data:`fiftyone_sfam.retrieval.pairs.OUTCOMES`, shape (L,).
    score : ndarray of float64
        Similarity, shape (L,).
    shares : ndarray of float32
        Part of the similarity that each region carries on the query's and on the
        gallery image's side, shape (L, 2, R); NaN if that image has no regions.
    item_area : ndarray of float32
        Fraction of each image's map that a region covers, shape (N, R); NaN if the
        image has no regions or is in none of the pairs.
    missing : dict of int to str
        Reason for each image without regions.
    cells : tuple of Cell
        Averages on the query's side: by outcome, by outcome and camera pair, and by
        outcome and each further group.
    """

    field: str | None
    regions: tuple[str, ...]
    pairs: NDArray[np.int64]
    query: NDArray[np.int32]
    gallery: NDArray[np.int32]
    rank: NDArray[np.int32]
    outcome: NDArray[np.int8]
    score: NDArray[np.float64]
    shares: NDArray[np.float32]
    item_area: NDArray[np.float32]
    missing: dict[int, str]
    cells: tuple[Cell, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def remainder(self) -> NDArray[np.float64]:
        """Part of the similarity that no region carries, by side, shape (L, 2)."""
        return self.score[:, None] - self.shares.sum(axis=2, dtype=np.float64)

    @property
    def area(self) -> NDArray[np.float32]:
        """Fraction of the map that each region covers, by side, shape (L, 2, R)."""
        return self.item_area[np.stack([self.query, self.gallery], axis=1)]

    @property
    def without_regions(self) -> int:
        """Number of pairs with an image that has no regions."""
        return int(np.isnan(self.shares).any(axis=(1, 2)).sum())

    def row(self, pair: int) -> int | None:
        """Return the row of a pair of the run; None if it is not in the ledger."""
        row = int(np.searchsorted(self.pairs, pair))
        return row if row < len(self.pairs) and self.pairs[row] == pair else None

    def column(self, region: str) -> int:
        """Return the index of a region.

        Raises
        ------
        DataError
            If the ledger has no such region.
        """
        if region not in self.regions:
            raise DataError(
                f"the ledger has no region '{region}'; its regions are "
                f"{', '.join(self.regions)}."
            )
        return self.regions.index(region)


def build_ledger(
    run: Run,
    field: str | None = None,
    *,
    max_rank: int | None = None,
    stripes: int = STRIPES,
    by: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
    save: bool = True,
    progress: bool | Progress | None = False,
) -> Ledger:
    """Split the similarities of a run by regions and store the result.

    Parameters
    ----------
    run : Run
        A run with ``evidence`` maps.
    field : str, optional
        Field that divides the images, one of
        :func:`fiftyone_sfam.audit.regions.fields.region_fields`. By default, images are
        divided into horizontal stripes.
    max_rank : int, optional
        Largest rank of the pairs. By default all pairs are used, including the nearest
        true matches that are not among the k neighbors.
    stripes : int
        Number of stripes.
    by : sequence of str
        Further groups for the averages, see :func:`pair_groups`.
    resamples : int
        Bootstrap draws per interval.
    seed : int
        Seed of the draws.
    save : bool
        Store the ledger as the run's result ``"regions"``.
    progress : bool or callable, optional
        As for :func:`fiftyone_sfam.explain_retrieval`; counts images.

    Returns
    -------
    Ledger
        The ledger.

    Raises
    ------
    RunError
        If the run stores no evidence maps.
    DataError
        If the field or a group cannot be used, or no pair remains.
    """
    check_evidence(run)
    check_seed(seed)
    check_region_field(run, field)
    check_stripes(stripes)
    groups = _groups(run, by)
    labels = {name: pair_groups(run, name) for group in groups for name in group}
    pairs = _chosen_pairs(run, max_rank)
    shares = _Shares(run, pairs)
    plan = run.plan
    with reporting(progress) as report:
        step = max(1, _BLOCK_IMAGES // plan.shard_images)
        for start in range(0, plan.num_shards, step):
            stop = min(start + step, plan.num_shards)
            _read_shards(run, range(start, stop), field, stripes, shares)
            if report is not None:
                report(int(plan.bounds[stop]), len(plan.order), PHASE)
    ledger = _ledger(run, pairs, field=field, missing=shares.missing, **shares.arrays())
    cells: list[Cell] = []
    for group in groups:
        columns = {name: [labels[name][pair] for pair in pairs] for name in group}
        cells += summarize(ledger, columns, resamples=resamples, seed=seed)
    ledger = replace(ledger, cells=tuple(cells))
    if save:
        settings = {
            "max_rank": max_rank,
            "stripes": stripes,
            "by": list(by),
            "resamples": resamples,
            "seed": seed,
        }
        _save(run, ledger, settings)
    return ledger


def load_ledger(run: Run) -> Ledger | None:
    """Read the stored ledger of a run.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    Ledger or None
        None if no ledger is stored.
    """
    result = run.results.load(RESULT)
    if result is None:
        return None
    config, arrays = result.config, result.arrays
    missing = from_json_array(arrays["missing"])
    return _ledger(
        run,
        arrays["pairs"],
        field=config["field"],
        regions=tuple(config["regions"]),
        shares=arrays["shares"],
        item_area=arrays["item_area"],
        missing={int(item): reason for item, reason in missing.items()},
        cells=tuple(restore(Cell, cell) for cell in config["cells"]),
    )


def summarize(
    ledger: Ledger,
    groups: Mapping[str, Sequence[str | None]],
    *,
    side: int = QUERY,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Cell, ...]:
    """Average a ledger in groups of pairs."""
    items = ledger.query if side == QUERY else ledger.gallery
    return aggregate(
        ledger.regions,
        ledger.shares[:, side],
        ledger.score,
        ledger.item_area[items],
        ledger.query,
        groups,
        resamples,
        seed,
    )


def pair_groups(run: Run, name: str) -> list[str | None]:
    """Return the group of each pair of a run; None for a pair in no group.

    ``name`` is ``"outcome"``, ``"camera pair"``, or an attribute of the query:
    ``"camera"``, ``"identity"``, or a field of its sample or detection.
    """
    pairs, items = run.pairs, run.items
    if name == OUTCOME:
        return [OUTCOMES[code] for code in pairs.outcome.tolist()]
    ends = list(zip(pairs.query.tolist(), pairs.gallery.tolist(), strict=True))
    if name == CAMERAS:
        cameras = items.cameras
        return [
            None
            if cameras[query] is None or cameras[gallery] is None
            else f"{cameras[query]}-{cameras[gallery]}"
            for query, gallery in ends
        ]
    columns = {"camera": items.cameras, "identity": items.identities}
    if name in columns:
        values = columns[name]
    else:
        values = tuple(
            None if value in (None, "") else str(value)
            for value in item_values(run, name, "group")
        )
    return [values[query] for query, _ in ends]


def check_evidence(run: Run) -> None:
    """Raise if a run has no maps that add up to the score."""
    if EVIDENCE not in run.config.kinds:
        kinds = ", ".join(run.config.kinds)
        raise RunError(
            f"the run '{run.key}' stores {kinds} maps, which do not add up to the "
            "score; run explain_retrieval again with 'evidence' among its kinds."
        )


# --------------------------------------------------------------------------------------
# Reading shards
# --------------------------------------------------------------------------------------


class _Shares:
    """Shares and areas by region; a region's columns are added when it first occurs."""

    def __init__(self, run: Run, pairs: NDArray[np.int64]) -> None:
        self._row_of_pair = np.full(len(run.pairs), -1, dtype=np.int64)
        self._row_of_pair[pairs] = np.arange(len(pairs))
        self._shape = (len(pairs), 2)
        self._known = np.zeros(self._shape, dtype=bool)
        self._known_items = np.zeros(len(run.items), dtype=bool)
        self._shares: dict[str, NDArray[np.float32]] = {}
        self._areas: dict[str, NDArray[np.float32]] = {}
        self.missing: dict[int, str] = {}

    def contains(self, sides: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which sides belong to the pairs of the ledger."""
        return self._row_of_pair[sides // 2] >= 0

    def add(
        self,
        item: int,
        sides: NDArray[np.int64],
        evidence: NDArray[np.float32],
        regions: Regions,
    ) -> None:
        """Split the maps of one image, shape (S, h, w), by regions."""
        rows, side = self._row_of_pair[sides // 2], sides % 2
        self._known[rows, side] = True
        self._known_items[item] = True
        parts, area = split(evidence, regions), regions.area
        for number, name in enumerate(regions.names):
            if name not in self._shares:
                self._shares[name] = np.zeros(self._shape, dtype=np.float32)
                self._areas[name] = np.zeros(len(self._known_items), dtype=np.float32)
            self._shares[name][rows, side] = parts[:, number]
            self._areas[name][item] = area[number]

    def arrays(self) -> dict[str, Any]:
        """Return regions, shares (L, 2, R) and areas of items (N, R)."""
        names = sorted(self._shares, key=lambda name: name == BACKGROUND)
        if not names:
            reason = next(iter(self.missing.values()), "no image could be read.")
            raise DataError(f"none of the images has regions; the first: {reason}")
        shares = np.stack([self._shares[name] for name in names], axis=2)
        areas = np.stack([self._areas[name] for name in names], axis=1)
        shares[~self._known] = np.nan
        areas[~self._known_items] = np.nan
        return {"regions": tuple(names), "shares": shares, "item_area": areas}


def _read_shards(
    run: Run, numbers: range, field: str | None, stripes: int, shares: _Shares
) -> None:
    """Add the maps of some shards to the shares."""
    shards: list[tuple[int, Arrays]] = []
    grids: dict[int, Grid] = {}
    for number in numbers:
        shard = run.store.get(shard_name(number))
        sides, image = run.plan.sides_of(number)
        chosen = np.flatnonzero(shares.contains(sides) & ~np.isnan(shard["score"]))
        if len(chosen) == 0:
            # A shard of broken images has no maps at all.
            continue
        used = set(run.plan.images_of(number)[image[chosen]].tolist())
        in_shard = shard_grids(run, number, shard)
        grids |= {item: grid for item, grid in in_shard.items() if item in used}
        arrays = {
            "sides": sides[chosen],
            "image": image[chosen],
            "values": shard[f"{EVIDENCE}_values"][chosen],
            "scale": shard[f"{EVIDENCE}_scale"][chosen],
        }
        shards.append((number, arrays))
    divided = read_regions(run, grids, field, stripes)
    shares.missing |= divided.missing
    for number, arrays in shards:
        images = run.plan.images_of(number)
        # The sides of an image are adjacent.
        bounds = np.searchsorted(arrays["image"], np.arange(len(images) + 1))
        for index, item in enumerate(images.tolist()):
            rows = slice(bounds[index], bounds[index + 1])
            if item in divided.regions and rows.stop > rows.start:
                evidence = unpack_maps(arrays["values"][rows], arrays["scale"][rows])
                shares.add(item, arrays["sides"][rows], evidence, divided.regions[item])


# --------------------------------------------------------------------------------------
# Groups, and storing
# --------------------------------------------------------------------------------------


def _groups(run: Run, by: Sequence[str]) -> list[tuple[str, ...]]:
    """List the combinations of groups that a ledger is averaged in."""
    names = [name for name in dict.fromkeys(by) if name not in (OUTCOME, CAMERAS)]
    if any(camera is not None for camera in run.items.cameras):
        names.insert(0, CAMERAS)
    return [(OUTCOME,), *((OUTCOME, name) for name in names)]


def _chosen_pairs(run: Run, max_rank: int | None) -> NDArray[np.int64]:
    """Return the pairs up to a rank."""
    if max_rank is None:
        return np.arange(len(run.pairs))
    chosen = np.flatnonzero(run.pairs.rank <= max_rank)
    if len(chosen) == 0:
        raise DataError(f"no pair has a rank up to {max_rank}; use 1 or more.")
    return chosen


def _ledger(run: Run, pairs: NDArray[np.int64], **values: Any) -> Ledger:
    """Complete a ledger with the columns of the run."""
    columns = run.pairs
    return Ledger(
        pairs=pairs,
        query=columns.query[pairs],
        gallery=columns.gallery[pairs],
        rank=columns.rank[pairs],
        outcome=columns.outcome[pairs],
        score=columns.similarity[pairs],
        **{"cells": (), **values},
    )


def _save(run: Run, ledger: Ledger, settings: Mapping[str, Any]) -> None:
    config = {
        **settings,
        "field": ledger.field,
        "regions": list(ledger.regions),
        "pairs": len(ledger),
        "pairs_without_regions": ledger.without_regions,
        "images_without_regions": len(ledger.missing),
        "cells": [asdict(cell) for cell in ledger.cells],
    }
    missing = {str(item): reason for item, reason in ledger.missing.items()}
    arrays: Arrays = {
        "pairs": ledger.pairs,
        "shares": ledger.shares,
        "item_area": ledger.item_area,
        "missing": json_array(missing),
    }
    run.results.save(RESULT, config, arrays)
