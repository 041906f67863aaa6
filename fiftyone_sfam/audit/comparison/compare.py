"""Two models on the same images: which queries changed, in which groups, and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.comparison.groups import (
    Groups,
    compare_groups,
    pack_groups,
    unpack_groups,
)
from fiftyone_sfam.audit.comparison.places import (
    PlaceChange,
    RegionChange,
    compare_places,
    compare_regions,
    has_evidence,
    ledger_of,
)
from fiftyone_sfam.audit.comparison.shared import (
    Shared,
    measure_shared,
    share_images,
    shared_pairs,
    true_pairs,
)
from fiftyone_sfam.audit.evaluation.fields import slice_values
from fiftyone_sfam.audit.evaluation.measures import Measures
from fiftyone_sfam.audit.evaluation.scores import FARS
from fiftyone_sfam.audit.regions.fields import check_region_field, region_fields
from fiftyone_sfam.audit.regions.ledger import check_evidence, load_ledger
from fiftyone_sfam.audit.statistics.bootstrap import (
    RESAMPLES,
    Estimate,
    check_seed,
)
from fiftyone_sfam.audit.statistics.paired import mean_differences, rate_differences
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.runs.blobs import Arrays
from fiftyone_sfam.runs.results import Result, restore
from fiftyone_sfam.runs.run import Run, list_runs, load_run

RESULT = "comparison_"
"""The result of a run is named by this and the key of the other run."""

PairRule = Literal["stored", "true"]
"""Which pairs the places are compared on, see :func:`compare_runs`."""


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
class Comparison:
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

    def _strongest(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the rows of queries, the largest change of precision first."""
        rows = np.flatnonzero(chosen)
        return rows[np.argsort(-np.abs(self.change[rows]), kind="stable")]


def compare_runs(
    first: Run,
    second: Run,
    *,
    slices: Sequence[str] = (),
    regions: str | None = None,
    pairs: PairRule = "stored",
    fars: Sequence[float] = FARS,
    resamples: int = RESAMPLES,
    seed: int = 0,
    save: bool = True,
    progress: bool | Progress | None = None,
) -> Comparison:
    """Compare two models over the same images and protocol.

    All pairs of the images of both runs are compared with either model's embeddings.
    Intervals are paired: a draw takes the same queries for both runs.

    Parameters
    ----------
    first, second : Run
        Two runs of one dataset.
    slices : sequence of str
        Fields whose values are groups of queries, beside identities and cameras.
    regions : str, optional
        Field of masks, detections or keypoints that divides the images into regions.
        By default the field of both stored ledgers, or else the field that fits best,
        or else horizontal stripes.
    pairs : {"stored", "true"}
        Pairs that regions and places are compared on. ``stored``: the pairs that both
        runs have stored. ``true``: each query with its nearest true match in either
        run, which need not be the same image.
    fars : sequence of float
        False accept rates.
    resamples, seed : int
        Draws of the intervals, and their seed.
    save : bool
        Store the comparison as a result of the first run.
    progress : bool, callable or None
        As in :func:`fiftyone_sfam.explain_retrieval`.

    Returns
    -------
    Comparison
        What differs.

    Raises
    ------
    DataError
        If the runs differ in protocol, dataset or labels, share less than half of their
        images or no query with a true match, or a field or rate cannot be used.
    RunError
        If ``regions`` are wanted, and a run stores no evidence maps.
    """
    runs = (first, second)
    _check(slices, pairs, resamples, seed)
    shared = share_images(runs)
    if regions is not None:
        for run in runs:
            check_evidence(run)
        check_region_field(first, regions)
    fields = [name for name, _ in _label_columns(first)]
    sliced = {name: slice_values(first, name) for name in slices if name not in fields}
    with reporting(progress) as report:
        measures = []
        total = 2 * int(shared.is_query.sum())
        for side, run in enumerate(runs):
            done = 0

            def watch(queries: int, phase: str, key: str = run.key) -> None:
                nonlocal done
                done += queries
                if report is not None:
                    report(min(done, total), total, f"comparing {key}")

            items = shared.items[side]
            measures.append(measure_shared(run, items, shared, tuple(fars), watch))
    first_measures, second_measures = measures
    query, first_match, precision = _queries(runs, shared, measures)
    if not len(query):
        raise DataError(
            f"no query of the runs '{first.key}' and '{second.key}' has a true match "
            "in the shared gallery, so there is nothing to compare."
        )
    groups = {
        name: compare_groups(values, query[:, 0], precision, first_match)
        for name, values in (*_label_columns(first), *sliced.items())
    }
    chosen = (shared_pairs if pairs == "stored" else true_pairs)(runs, shared)
    field, changes, places = None, (), None
    if has_evidence(runs) and chosen.shape[1]:
        field = _region_field(runs) if regions is None else regions
        ledgers = ledger_of(first, field), ledger_of(second, field)
        changes = compare_regions(ledgers, chosen, resamples, seed)
        places = compare_places(runs, chosen, resamples, seed)
    comparison = Comparison(
        first_key=first.key,
        second_key=second.key,
        first_model=first.config.model,
        second_model=second.config.model,
        images=shared.items.shape[1],
        only=shared.only,
        query=query,
        first_match=first_match,
        average_precision=precision,
        figures=_figures(
            shared,
            first_measures,
            second_measures,
            first_match,
            precision,
            resamples,
            seed,
        ),
        groups=groups,
        regions=changes,
        field=field,
        places=places,
        pairs=chosen,
        pair_rule=pairs,
        resamples=resamples,
        seed=seed,
        created="",
    )
    if not save:
        return comparison
    _save(first, second, comparison)
    stored = load_comparison(first, second)
    assert stored is not None
    return stored


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
    found = dict(_results(first))
    result = found.get(second.config.uid)
    return None if result is None else _restored(result, first, second)


def load_comparisons(run: Run) -> tuple[Comparison, ...]:
    """Read the comparisons of a run with runs that are as they were, by key."""
    found = dict(_results(run))
    others = [load_run(run.dataset, key) for key in list_runs(run.dataset)]
    return tuple(
        _restored(found[other.config.uid], run, other)
        for other in others
        if other.config.uid in found
    )


# --------------------------------------------------------------------------------------
# Queries, figures and groups
# --------------------------------------------------------------------------------------


def _check(slices: Sequence[str], pairs: str, resamples: int, seed: int) -> None:
    """Raise if a setting cannot be used."""
    if isinstance(slices, str):
        raise DataError(f"slices is the text {slices!r}; give a list of fields.")
    if pairs not in get_args(PairRule):
        raise DataError(
            f"pairs is {pairs!r}; use one of {', '.join(get_args(PairRule))}."
        )
    if resamples < 1:
        raise DataError(f"resamples is {resamples}; draw at least once.")
    check_seed(seed)


def _label_columns(run: Run) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield identities and cameras, if there are some."""
    for name, column in (
        ("identity", run.items.identities),
        ("camera", run.items.cameras),
    ):
        if any(value is not None for value in column):
            yield name, [() if value is None else (value,) for value in column]


def _queries(
    runs: tuple[Run, Run], shared: Shared, measures: Sequence[Measures]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the queries that count in both runs, first matches and precisions."""
    ranked = [one.identification for one in measures]
    places = [
        shared.places(run, side)[of_run.query]
        for side, (run, of_run) in enumerate(zip(runs, ranked, strict=True))
    ]
    both, *rows = np.intersect1d(*places, assume_unique=True, return_indices=True)
    columns = [
        (of_run.first_match[row], of_run.average_precision[row])
        for of_run, row in zip(ranked, rows, strict=True)
    ]
    matches, precisions = (
        np.stack(column, axis=1) for column in zip(*columns, strict=True)
    )
    return shared.items[:, both].T, matches, precisions


def _figures(
    shared: Shared,
    first: Measures,
    second: Measures,
    first_match: NDArray[np.int64],
    precision: NDArray[np.float64],
    resamples: int,
    seed: int,
) -> tuple[FigureChange, ...]:
    """Compare the figures of all queries."""
    by_query = np.stack([first_match == 1, precision])
    rows: list[tuple[str, float, float]] = [
        (name, *values.mean(axis=0).tolist())
        for name, values in zip(("rank-1", "mAP"), by_query, strict=True)
    ]
    estimates = mean_differences(by_query[:, :, 0], by_query[:, :, 1], resamples, seed)
    scores = first.scores, second.scores
    rates = [("equal error rate", *(one.equal_error for one in scores))]
    points = [
        (one.far, one.tar, other.tar)
        for one, other in zip(*(of_run.operating for of_run in scores), strict=True)
        if one.supported and other.supported
    ]
    rates += [(f"TAR at FAR {100 * far:g} %", *tars) for far, *tars in points]
    queries = shared.items[:, shared.is_query & shared.is_labeled]
    tables = [
        of_run.table.of(items)
        for of_run, items in zip((first, second), queries, strict=True)
    ]
    estimates += rate_differences(
        *tables,
        [after - before for _, before, after in rates],
        [far for far, *_ in points],
        resamples,
        seed,
    )
    return tuple(
        FigureChange(*row, estimate)
        for row, estimate in zip((*rows, *rates), estimates, strict=True)
    )


def _region_field(runs: tuple[Run, Run]) -> str | None:
    """Choose what divides the images into regions."""
    stored = [load_ledger(run) for run in runs]
    fields = {ledger.field for ledger in stored if ledger is not None}
    if None not in stored and len(fields) == 1:
        return fields.pop()
    return next(iter(region_fields(runs[0])), None)


# --------------------------------------------------------------------------------------
# Storing
# --------------------------------------------------------------------------------------


def _save(first: Run, second: Run, comparison: Comparison) -> None:
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
    # A run that was renamed, or made anew, has left a result of another name.
    for uid, result in _results(first):
        if uid == second.config.uid:
            first.results.delete(result.name)
    first.results.save(RESULT + second.key, config, arrays)


def _results(run: Run) -> Iterator[tuple[str, Result]]:
    """Yield the stored comparisons with the unique ids of the other runs."""
    for name in run.results.names():
        if name.startswith(RESULT):
            result = run.results.load(name)
            assert result is not None
            yield result.config["second_uid"], result


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
