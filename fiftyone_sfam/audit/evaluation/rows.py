"""An evaluation as tables and sentences, the same wherever it is shown."""

from __future__ import annotations

from collections.abc import Sequence

from fiftyone_sfam.audit.evaluation.evaluate import Evaluation
from fiftyone_sfam.audit.evaluation.scores import MIN_FALSE_ACCEPTS, OperatingPoint
from fiftyone_sfam.audit.evaluation.slices import PairSliceRow, SliceRow
from fiftyone_sfam.audit.statistics.cells import (
    Shown,
    Table,
    count,
    estimate,
    name,
    number,
    percent,
    text,
)

_CAMERA_RULES = {
    "protocol": "Pairs are those that the run's protocol compares.",
    "all": "All pairs are compared, whatever their cameras.",
    "cross": "No pairs of one camera are compared.",
    "single": "No pairs of two cameras are compared.",
}
_RANKS = (5, 10)


def measures_table(evaluation: Evaluation) -> Table:
    """Return the figures of all queries."""
    ranked, scores = evaluation.identification, evaluation.verification
    overall = evaluation.overall
    cmc = (
        ranked.cmc(max(_RANKS)).tolist() if len(ranked.query) else [None] * max(_RANKS)
    )
    rows = {
        "rank-1": estimate(overall.rank1),
        **{f"rank-{rank}": percent(cmc[rank - 1]) for rank in _RANKS},
        "mAP": estimate(overall.mean_average_precision),
        "mINP": estimate(overall.mean_inverse_negative_penalty),
        "queries with a true match": count(len(ranked.query)),
        "labeled queries without one": count(ranked.without_match),
        "equal error rate": estimate(overall.equal_error),
        "its threshold": number(scores.equal_error_threshold, 4),
        "AUC": number(scores.auc, 4),
        "genuine pairs": count(scores.genuine_pairs),
        "impostor pairs": count(scores.impostor_pairs),
    }
    return Table(
        ("measure", "value (95 % interval)"),
        tuple((text(title), cell) for title, cell in rows.items()),
    )


def operating_table(points: Sequence[OperatingPoint]) -> Table:
    """Return what is accepted at false accept rates, and what supports that."""
    rows = (
        (
            Shown(f"{100 * point.far:g} %", "number", point.far),
            percent(point.tar, 2),
            number(point.threshold, 4),
            Shown(f"{point.expected:,.1f}", "number", point.expected),
            text("yes" if point.supported else "no: too few impostor pairs"),
        )
        for point in points
    )
    head = ("FAR", "TAR", "threshold", "expected false accepts", "supported")
    return Table(head, tuple(rows))


def slices_table(slices: Sequence[SliceRow]) -> Table:
    """Return slices of the queries."""
    rows = (
        (
            name(row.value),
            count(row.queries),
            estimate(row.rank1),
            estimate(row.mean_average_precision),
            estimate(row.mean_inverse_negative_penalty),
            estimate(row.equal_error),
        )
        for row in slices
    )
    head = ("value", "queries", "rank-1", "mAP", "mINP", "equal error rate")
    return Table(head, tuple(rows))


def pair_slices_table(field: str, slices: Sequence[PairSliceRow]) -> Table:
    """Return slices of queries with parts of the gallery."""
    rows = (
        (
            name(row.query_value),
            name(row.gallery_value),
            count(row.genuine),
            count(row.impostor),
            estimate(row.equal_error),
        )
        for row in slices
    )
    sides = f"query's {field}", f"neighbor's {field}"
    return Table((*sides, "genuine", "impostor", "equal error rate"), tuple(rows))


def slice_tables(evaluation: Evaluation) -> list[tuple[str, Table]]:
    """Return the tables of all slices and pair slices with their titles."""
    return [
        *(
            (f"By {field}", slices_table(rows))
            for field, rows in evaluation.slices.items()
        ),
        *(
            (f"By {field} of query and neighbor", pair_slices_table(field, rows))
            for field, rows in evaluation.pair_slices.items()
        ),
    ]


def sentences(evaluation: Evaluation) -> tuple[str, ...]:
    """Say how an evaluation was made."""
    cameras = evaluation.cameras
    return (
        _CAMERA_RULES.get(cameras, f"Camera rule: {cameras}."),
        f"Intervals are 95 %, from {evaluation.resamples:,} draws of the queries (seed "
        f"{evaluation.seed}).",
        f"A false accept rate is supported from {MIN_FALSE_ACCEPTS} expected false "
        "accepts on.",
        f"Evaluated {evaluation.created}.",
    )
