"""Two models on the same images: which queries changed, in which groups, and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.comparison.groups import (
    compare_groups,
)
from fiftyone_sfam.audit.comparison.places import (
    RegionChange,
    compare_places,
    compare_regions,
    has_evidence,
    ledger_of,
)
from fiftyone_sfam.audit.comparison.result import (
    Comparison,
    FigureChange,
    label_columns,
    load_comparison,
    save_comparison,
)
from fiftyone_sfam.audit.comparison.shared import (
    Shared,
    common_rows,
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
    check_seed,
)
from fiftyone_sfam.audit.statistics.paired import mean_differences, rate_differences
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.runs.run import Run

PairRule = Literal["stored", "true"]
"""Which pairs the places are compared on, see :func:`compare_runs`."""


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
    fields = [name for name, _ in label_columns(first)]
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
        for name, values in (*label_columns(first), *sliced.items())
    }
    chosen = (shared_pairs if pairs == "stored" else true_pairs)(runs, shared)
    field, places = None, None
    changes: tuple[RegionChange, ...] = ()
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
    save_comparison(first, second, comparison)
    stored = load_comparison(first, second)
    assert stored is not None
    return stored


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


def _queries(
    runs: tuple[Run, Run], shared: Shared, measures: Sequence[Measures]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the queries that count in both runs, first matches and precisions."""
    ranked = [one.identification for one in measures]
    places = [
        shared.places(run, side)[of_run.query]
        for side, (run, of_run) in enumerate(zip(runs, ranked, strict=True))
    ]
    both, rows = common_rows(places[0], places[1])
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
    estimates = mean_differences(by_query[:, :, 0], by_query[:, :, 1], resamples, seed)
    means = by_query.mean(axis=1)
    rates = [("equal error rate", first.scores.equal_error, second.scores.equal_error)]
    fars = []
    for one, other in zip(first.scores.operating, second.scores.operating, strict=True):
        if one.supported and other.supported:
            fars.append(one.far)
            rates.append((f"TAR at FAR {100 * one.far:g} %", one.tar, other.tar))
    queries = shared.items[:, shared.is_query & shared.is_labeled]
    estimates += rate_differences(
        first.table.of(queries[0]),
        second.table.of(queries[1]),
        [after - before for _, before, after in rates],
        fars,
        resamples,
        seed,
    )
    rows = [
        (name, float(mean[0]), float(mean[1]))
        for name, mean in zip(("rank-1", "mAP"), means, strict=True)
    ]
    return tuple(
        FigureChange(name, before, after, estimate)
        for (name, before, after), estimate in zip(
            [*rows, *rates], estimates, strict=True
        )
    )


def _region_field(runs: tuple[Run, Run]) -> str | None:
    """Choose what divides the images into regions."""
    stored = [load_ledger(run) for run in runs]
    fields = {ledger.field for ledger in stored if ledger is not None}
    if None not in stored and len(fields) == 1:
        return fields.pop()
    return next(iter(region_fields(runs[0])), None)
