"""The result of a comparison of two runs, and how it is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.comparison.groups import Groups, pack_groups, unpack_groups
from fiftyone_sfam.audit.comparison.places import PlaceChange, RegionChange
from fiftyone_sfam.audit.evaluation.fields import slice_values
from fiftyone_sfam.audit.evaluation.slices import group_by_value
from fiftyone_sfam.audit.statistics.bootstrap import Estimate
from fiftyone_sfam.data.notebook import PlottedResult
from fiftyone_sfam.runs.blobs import Arrays
from fiftyone_sfam.runs.results import Result, list_results, restore
from fiftyone_sfam.runs.run import Run, list_runs, load_run

RESULT = "comparison_"
"""The result of a run is named by this and the key of the other run."""


@dataclass(frozen=True)
class FigureChange:
    """A figure of two runs.

    Attributes
    ----------
    name : str
        ``"rank-1"``, ``"mAP"``, ``"equal error rate"`` or ``"TAR at FAR ..."``.
    first, second : float
        The figure in either run, over the shared images, in [0, 1].
    difference : Estimate
        ``second - first``, with a paired 95 % interval.
    """

    name: str
    first: float
    second: float
    difference: Estimate


@dataclass(frozen=True, kw_only=True)
class Comparison(PlottedResult):
    """What differs between two runs over the same images.

    Differences are the second run's figures less the first run's.

    Attributes
    ----------
    first_key, second_key : str
        Keys of the runs.
    first_model, second_model : str
        Names of their models.
    images : int
        Number of images that both runs compared.
    only : tuple of int
        Numbers of images that only one of the runs compared; they are left out.
    query : ndarray of int64
        The Q queries that have a true match, as items of either run, shape (Q, 2).
    first_match : ndarray of int64
        Rank of each query's nearest true match in either run, from 1, shape (Q, 2).
    average_precision : ndarray of float64
        Of each query in either run, shape (Q, 2).
    figures : tuple of FigureChange
        Rank-1, mAP, equal error rate, and the share of genuine pairs that is accepted
        at each false accept rate that both runs support.
    groups : dict of str to tuple of GroupChange
        ``"identity"``, ``"camera"`` if there are some, and the fields of the slices:
        their groups, those that changed most surely first.
    regions : tuple of RegionChange
        The largest difference first; empty if a run has no evidence maps.
    field : str or None
        Field that the regions come from; None for stripes.
    places : PlaceChange or None
        By cell of a grid over the image; None if a run has no evidence maps.
    pairs : ndarray of int64
        Pairs that regions and places are compared on, of either run, shape (2, P).
    pair_rule : {"stored", "true"}
        Which these are.
    resamples, seed : int
        Of the intervals, which draw the queries.
    created : str
        When, in UTC, ISO 8601.
    """

    first_key: str
    second_key: str
    first_model: str
    second_model: str
    images: int
    only: tuple[int, int]
    query: NDArray[np.int64]
    first_match: NDArray[np.int64]
    average_precision: NDArray[np.float64]
    figures: tuple[FigureChange, ...]
    groups: Groups
    regions: tuple[RegionChange, ...]
    field: str | None
    places: PlaceChange | None
    pairs: NDArray[np.int64]
    pair_rule: str
    resamples: int
    seed: int
    created: str

    @cached_property
    def change(self) -> NDArray[np.float64]:
        """Change of each query's average precision, shape (Q,)."""
        return self.average_precision[:, 1] - self.average_precision[:, 0]

    @property
    def gained(self) -> NDArray[np.int64]:
        """Rows of the queries that only the second run gets right at rank 1."""
        right = self.first_match == 1
        return self._strongest(~right[:, 0] & right[:, 1])

    @property
    def lost(self) -> NDArray[np.int64]:
        """Rows of the queries that only the first run gets right at rank 1."""
        right = self.first_match == 1
        return self._strongest(right[:, 0] & ~right[:, 1])

    @property
    def changed(self) -> NDArray[np.int64]:
        """Rows of the queries that changed: first those whose outcome did."""
        outcomes = np.concatenate([self.gained, self.lost])
        order = np.argsort(-np.abs(self.change[outcomes]), kind="stable")
        rest = self._strongest(self.change != 0)
        return np.concatenate([outcomes[order], rest[~np.isin(rest, outcomes)]])

    def rows_of(self, first: Run, field: str, value: str) -> NDArray[np.int64]:
        """Return the rows of the queries of a group."""
        values = dict(label_columns(first)).get(field) or slice_values(first, field)
        groups = group_by_value(values, self.query[:, 0])
        members = groups.get(value, np.empty(0, dtype=np.int64))
        return np.flatnonzero(np.isin(self.query[:, 0], members))

    def _strongest(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the rows of queries, the largest change of precision first."""
        rows = np.flatnonzero(chosen)
        return rows[np.argsort(-np.abs(self.change[rows]), kind="stable")]


def load_comparison(first: Run, second: Run) -> Comparison | None:
    """Read the stored comparison of two runs.

    Parameters
    ----------
    first, second : Run
        The runs, in the order in which they were compared.

    Returns
    -------
    Comparison or None
        None if they were not compared since either was made. ``first.results.delete``
        deletes the result ``"comparison_KEY"``, where ``KEY`` is the second run's key.
    """
    names = _names(first).get(second.config.uid)
    return _load(first, second, names) if names else None


def load_comparisons(run: Run) -> tuple[Comparison, ...]:
    """Read the comparisons of a run with runs that are as they were, by key."""
    found = _names(run)
    others = [load_run(run.dataset, key) for key in list_runs(run.dataset)]
    return tuple(
        _load(run, other, found[other.config.uid])
        for other in others
        if other.config.uid in found
    )


def compared_keys(run: Run) -> list[str]:
    """List the runs that a run was compared with, in either order."""
    uid, others = run.config.uid, set()
    for first, _, settings in list_results(run.dataset, RESULT):
        both = {first, str(settings["second_uid"])}
        others |= both - {uid} if uid in both else set()
    keys = list_runs(run.dataset) if others else []
    return [key for key in keys if load_run(run.dataset, key).config.uid in others]


def same_pair(run: Run, pair: int, other: Run) -> int | None:
    """Find the pair of the same two images in another run; None if it has none."""
    query, gallery = (
        other.items.index(str(run.items.ids[column[pair]]))
        for column in (run.pairs.query, run.pairs.gallery)
    )
    of_query = other.pairs.of_query(query) if query >= 0 else np.empty(0, np.int64)
    found = of_query[other.pairs.gallery[of_query] == gallery].tolist()
    return int(found[0]) if found else None


def label_columns(run: Run) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield identities and cameras, if there are some."""
    for name, column in (
        ("identity", run.items.identities),
        ("camera", run.items.cameras),
    ):
        if any(value is not None for value in column):
            yield name, [() if value is None else (value,) for value in column]


# --------------------------------------------------------------------------------------
# Storing
# --------------------------------------------------------------------------------------


def save_comparison(first: Run, second: Run, comparison: Comparison) -> None:
    """Store a comparison as a result of the first run."""
    values = vars(comparison)
    config = {
        "second_uid": second.config.uid,
        "figures": [asdict(figure) for figure in comparison.figures],
        "regions": [asdict(region) for region in comparison.regions],
        **{
            name: values[name]
            for name in (
                "images",
                "only",
                "field",
                "pair_rule",
                "resamples",
                "seed",
            )
        },
    }
    arrays: Arrays = {
        name: values[name]
        for name in ("query", "first_match", "average_precision", "pairs")
    }
    if comparison.places is not None:
        arrays |= {f"places_{k}": v for k, v in vars(comparison.places).items()}
    arrays |= pack_groups(comparison.groups)
    name = RESULT + second.key
    first.results.save(name, config, arrays)
    # A run that was renamed has left a result of another name.
    for old in _names(first)[second.config.uid]:
        if old != name:
            first.results.delete(old)


def _names(run: Run) -> dict[str, list[str]]:
    """Return the names of a run's comparisons by the unique id of the other run."""
    names: dict[str, list[str]] = {}
    for uid, name, settings in list_results(run.dataset, RESULT):
        if uid == run.config.uid:
            names.setdefault(settings["second_uid"], []).append(name)
    return names


def _load(first: Run, second: Run, names: list[str]) -> Comparison:
    """Read a comparison; of several names, that of the other run's key is newer."""
    newest = RESULT + second.key
    result = first.results.load(newest if newest in names else names[0])
    assert result is not None
    return _restored(result, first, second)


def _restored(result: Result, first: Run, second: Run) -> Comparison:
    """Restore a comparison; the runs may have been renamed."""
    config, arrays = result.config, result.arrays

    def with_estimate(kind: type, row: dict) -> object:
        return kind(**{**row, "difference": Estimate(**row["difference"])})

    places = None
    if "places_shares" in arrays:
        places = PlaceChange(
            *(arrays[f"places_{k}"] for k in ("shares", "low", "high"))
        )
    values = {
        **config,
        **{name: array for name, array in arrays.items() if name != "group_names"},
        "first_key": first.key,
        "second_key": second.key,
        "first_model": first.config.model,
        "second_model": second.config.model,
        "figures": [with_estimate(FigureChange, row) for row in config["figures"]],
        "regions": [with_estimate(RegionChange, row) for row in config["regions"]],
        "groups": unpack_groups(arrays),
        "places": places,
        "created": result.created,
    }
    return restore(Comparison, values)
