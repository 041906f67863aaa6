"""The ledger of a run: what each region of an image carries of each similarity.

For a pair and one of its sides, ``sum over regions + remainder = similarity``. The
regions' parts come from the stored evidence maps. The remainder is what is left: what
the head adds that no map can carry, and what the stored bits of the map do not add up
to.

A share is what the head takes from places of the feature map, and such a place sees
more of the image than its own cell: what lies beside a person is in part a view of the
person. So shares compare, between pairs and groups; what would happen without a region
is another question, which :mod:`fiftyone_sfam.audit.regions.causal` asks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.regions.fields import (
    STRIPES,
    check_region_field,
    read_regions,
    shard_grids,
)
from fiftyone_sfam.audit.regions.labels import Grid
from fiftyone_sfam.audit.regions.ledger_cells import (
    CAMERAS,
    OUTCOME,
    Cell,
    aggregate,
)
from fiftyone_sfam.audit.regions.partitions import BACKGROUND, Regions, split
from fiftyone_sfam.audit.statistics.bootstrap import RESAMPLES, check_seed
from fiftyone_sfam.data.items import all_samples, detections_prefix, label_path
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.retrieval.pairs import OUTCOMES, QUERY
from fiftyone_sfam.runs.blobs import Arrays, unpack_maps
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_table import shard_name

RESULT = "regions"
"""Name of the stored result."""

EVIDENCE = "evidence"
PHASE = "splitting"

# Images whose regions are in memory at once.
_IMAGES_AT_ONCE = 512


@dataclass(frozen=True)
class Ledger:
    """What regions carry of the similarity of L pairs.

    Attributes
    ----------
    field : str or None
        Field that the regions come from; None for stripes.
    regions : tuple of str
        Names of the R regions.
    pairs : ndarray of int64
        The pairs, rising indices into the run's pairs, shape (L,).
    query, gallery : ndarray of int32
        Their images, indices into the run's items, shape (L,).
    rank : ndarray of int32
        Rank of the gallery image, shape (L,).
    outcome : ndarray of int8
        Index into :data:`fiftyone_sfam.retrieval.pairs.OUTCOMES`, shape (L,).
    score : ndarray of float64
        Similarity, shape (L,).
    shares : ndarray of float32
        What each region carries, in units of the similarity, on the query's and the
        gallery image's side, shape (L, 2, R); NaN where a side has no regions.
    item_area : ndarray of float32
        Share of each image's map that a region covers, shape (N, R); NaN where it has
        no regions or takes no part.
    missing : dict of int to str
        The images that have no regions, and why.
    cells : tuple of Cell
        What regions carry on average on the query's side, by outcome, by outcome and
        camera pair, and by outcome and whatever else was asked for.
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
        """What no region carries, of each side, shape (L, 2)."""
        return self.score[:, None] - self.shares.sum(axis=2, dtype=np.float64)

    @property
    def area(self) -> NDArray[np.float32]:
        """Share of the map that each region covers, of each side, shape (L, 2, R)."""
        return self.item_area[np.stack([self.query, self.gallery], axis=1)]

    @property
    def without_regions(self) -> int:
        """Number of pairs of which one side or both have no regions."""
        return int(np.isnan(self.shares).any(axis=(1, 2)).sum())

    def row(self, pair: int) -> int | None:
        """Return the row of a pair of the run; None if it is not in the ledger."""
        place = int(np.searchsorted(self.pairs, pair))
        found = place < len(self.pairs) and self.pairs[place] == pair
        return place if found else None

    def column(self, region: str) -> int:
        """Return the place of a region.

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
    """Split the similarities of a run by regions, and store what was found.

    Parameters
    ----------
    run : Run
        A run with ``evidence`` maps.
    field : str, optional
        Field that divides the images, see
        :func:`fiftyone_sfam.audit.regions.fields.region_fields`; None divides them into
        horizontal stripes.
    max_rank : int, optional
        Largest rank of the pairs; None takes all, also the nearest true matches that
        are not among the k.
    stripes : int
        Number of stripes.
    by : sequence of str
        Further groups of the averages, see :func:`pair_groups`.
    resamples : int
        Draws per interval.
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
        If the field or a group cannot be used, or no pair is left.
    """
    check_evidence(run)
    check_seed(seed)
    check_region_field(run, field)
    if stripes < 1:
        raise DataError(f"an image has no {stripes} stripes; use 1 or more.")
    groups = _groups(run, by)
    labels = {name: pair_groups(run, name) for group in groups for name in group}
    chosen = _chosen_pairs(run, max_rank)
    books = _Books(run, chosen)
    with reporting(progress) as report:
        for start, stop in _spans(run.plan.num_shards, run.plan.shard_images):
            _enter_shards(run, range(start, stop), field, stripes, books)
            if report is not None:
                report(int(run.plan.bounds[stop]), len(run.plan.order), PHASE)
    ledger = _assembled(run, field, chosen, books.arrays(), books.missing, ())
    cells: list[Cell] = []
    for group in groups:
        columns = {name: [labels[name][pair] for pair in chosen] for name in group}
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
        run.results.save(RESULT, _config(ledger, settings), _arrays(ledger))
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
        None if none was stored.
    """
    result = run.results.load(RESULT)
    if result is None:
        return None
    config, arrays = result.config, dict(result.arrays)
    missing = json.loads(arrays.pop("missing").tobytes().decode())
    cells = [
        Cell(**{**one, "groups": tuple((name, value) for name, value in one["groups"])})
        for one in config["cells"]
    ]
    return _assembled(
        run,
        config["field"],
        arrays.pop("pairs"),
        (tuple(config["regions"]), arrays["shares"], arrays["item_area"]),
        {int(item): reason for item, reason in missing.items()},
        tuple(cells),
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
    """Return what the pairs of a run can be grouped by."""
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
    own = {"camera": items.cameras, "identity": items.identities}
    of_items = own[name] if name in own else _item_values(run, name)
    return [of_items[query] for query, _ in ends]


def check_evidence(run: Run) -> None:
    """Refuse a run whose maps do not add up to the score."""
    if EVIDENCE not in run.config.kinds:
        kinds = ", ".join(run.config.kinds)
        raise RunError(
            f"the run '{run.key}' stores {kinds} maps, which do not add up to the "
            "score; run explain_retrieval again with 'evidence' among its kinds."
        )


# --------------------------------------------------------------------------------------
# Reading shards
# --------------------------------------------------------------------------------------


class _Books:
    """Columns that grow by one whenever a region shows up for the first time."""

    def __init__(self, run: Run, chosen: NDArray[np.int64]) -> None:
        self._row_of_pair = np.full(len(run.pairs), -1, dtype=np.int64)
        self._row_of_pair[chosen] = np.arange(len(chosen))
        self._shape = (len(chosen), 2)
        self._known = np.zeros(self._shape, dtype=bool)
        self._known_items = np.zeros(len(run.items), dtype=bool)
        self._shares: dict[str, NDArray[np.float32]] = {}
        self._areas: dict[str, NDArray[np.float32]] = {}
        self.missing: dict[int, str] = {}

    def wanted(self, sides: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which sides belong to the pairs of the ledger."""
        return self._row_of_pair[sides // 2] >= 0

    def enter(
        self,
        item: int,
        sides: NDArray[np.int64],
        evidence: NDArray[np.float32],
        regions: Regions,
    ) -> None:
        """Split the maps of one image."""
        rows, which = self._row_of_pair[sides // 2], sides % 2
        self._known[rows, which] = True
        self._known_items[item] = True
        parts, area = split(evidence, regions), regions.area
        for number, name in enumerate(regions.names):
            if name not in self._shares:
                self._shares[name] = np.zeros(self._shape, dtype=np.float32)
                self._areas[name] = np.zeros(len(self._known_items), dtype=np.float32)
            self._shares[name][rows, which] = parts[:, number]
            self._areas[name][item] = area[number]

    def arrays(
        self,
    ) -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32]]:
        """Return names of regions, shares (L, 2, R) and areas of items (N, R)."""
        names = sorted(self._shares, key=lambda name: name == BACKGROUND)
        if not names:
            reason = next(iter(self.missing.values()), "no image could be read.")
            raise DataError(f"none of the images has regions; the first: {reason}")
        shares = np.stack([self._shares[name] for name in names], axis=2)
        areas = np.stack([self._areas[name] for name in names], axis=1)
        shares[~self._known] = np.nan
        areas[~self._known_items] = np.nan
        return tuple(names), shares, areas


def _spans(shards: int, shard_images: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of shards whose regions fit in memory at once."""
    step = max(1, _IMAGES_AT_ONCE // shard_images)
    for start in range(0, shards, step):
        yield start, min(start + step, shards)


def _enter_shards(
    run: Run, numbers: range, field: str | None, stripes: int, books: _Books
) -> None:
    """Enter the maps of some shards."""
    kept: list[tuple[int, Arrays]] = []
    grids: dict[int, Grid] = {}
    for number in numbers:
        shard = run.store.get(shard_name(number))
        sides, image = run.plan.sides_of(number)
        chosen = np.flatnonzero(books.wanted(sides) & ~np.isnan(shard["score"]))
        if len(chosen) == 0:
            # A shard of broken images has no maps at all.
            continue
        used = set(run.plan.images_of(number)[image[chosen]].tolist())
        found = shard_grids(run, number, shard)
        grids |= {item: grid for item, grid in found.items() if item in used}
        arrays = {
            "sides": sides[chosen],
            "image": image[chosen],
            "values": shard[f"{EVIDENCE}_values"][chosen],
            "scale": shard[f"{EVIDENCE}_scale"][chosen],
        }
        kept.append((number, arrays))
    read = read_regions(run, grids, field, stripes)
    books.missing |= read.missing
    for number, arrays in kept:
        images = run.plan.images_of(number)
        # The sides of an image lie together.
        bounds = np.searchsorted(arrays["image"], np.arange(len(images) + 1))
        for place, item in enumerate(images.tolist()):
            rows = slice(bounds[place], bounds[place + 1])
            if item in read.regions and rows.stop > rows.start:
                evidence = unpack_maps(arrays["values"][rows], arrays["scale"][rows])
                books.enter(item, arrays["sides"][rows], evidence, read.regions[item])


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def _groups(run: Run, by: Sequence[str]) -> list[tuple[str, ...]]:
    """List what the averages of a ledger are grouped by."""
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
        raise DataError(f"no pair has a rank up to {max_rank}; give 1 or more.")
    return chosen


def _item_values(run: Run, name: str) -> list[str | None]:
    """Read a field of the samples, or of their detections, by item."""
    dataset, patches_field = run.dataset, run.config.patches_field
    view = all_samples(dataset)
    ids, wanted = "id", run.items.sample_ids
    path = ""
    if patches_field is not None:
        prefix = detections_prefix(dataset, patches_field)
        if dataset.get_field(prefix + name) is not None:
            path = label_path(view, name, "group", prefix)
            ids, wanted = prefix + "id", run.items.ids
    path = path or label_path(view, name, "group")
    known: dict[str, Any] = {}
    for one, value in zip(*view.values([ids, path]), strict=True):
        if isinstance(one, list):
            known |= dict(zip(one, value or [None] * len(one), strict=True))
        else:
            known[str(one)] = value
    found = [known.get(str(item)) for item in wanted]
    return [None if value in (None, "") else str(value) for value in found]


def _assembled(
    run: Run,
    field: str | None,
    pairs: NDArray[np.int64],
    books: tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32]],
    missing: dict[int, str],
    cells: tuple[Cell, ...],
) -> Ledger:
    """Make a ledger of what was found, with the columns that the run has."""
    regions, shares, item_area = books
    columns = run.pairs
    return Ledger(
        field,
        regions,
        pairs,
        columns.query[pairs],
        columns.gallery[pairs],
        columns.rank[pairs],
        columns.outcome[pairs],
        columns.similarity[pairs],
        shares,
        item_area,
        missing,
        cells,
    )


def _config(ledger: Ledger, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain part of a ledger, to store."""
    return {
        **settings,
        "field": ledger.field,
        "regions": list(ledger.regions),
        "pairs": len(ledger),
        "pairs_without_regions": ledger.without_regions,
        "images_without_regions": len(ledger.missing),
        "cells": [asdict(cell) for cell in ledger.cells],
    }


def _arrays(ledger: Ledger) -> Arrays:
    """Return the arrays of a ledger, to store."""
    missing = {str(item): reason for item, reason in ledger.missing.items()}
    return {
        "pairs": ledger.pairs,
        "shares": ledger.shares,
        "item_area": ledger.item_area,
        "missing": np.frombuffer(json.dumps(missing).encode(), dtype=np.uint8),
    }
