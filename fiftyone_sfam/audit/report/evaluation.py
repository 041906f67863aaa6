"""The report's part on how good the retrieval is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fiftyone_sfam.audit.evaluation.evaluate import Evaluation
from fiftyone_sfam.audit.evaluation.scores import MIN_FALSE_ACCEPTS, ScoreSummary
from fiftyone_sfam.audit.evaluation.slices import PairSliceRow, SliceRow
from fiftyone_sfam.audit.report.cells import (
    Table,
    count,
    estimate,
    name,
    number,
    percent,
    table,
    text,
)
from fiftyone_sfam.audit.report.figures import (
    Figure,
    cmc_figure,
    roc_figure,
    score_figure,
)

_CAMERA_RULES = {
    "protocol": "Pairs are those that the run's protocol compares.",
    "all": "All pairs are compared, whatever their cameras.",
    "cross": "No pairs of one camera are compared.",
    "single": "No pairs of two cameras are compared.",
}
_RANKS = (5, 10)


@dataclass(frozen=True)
class EvaluationPart:
    """The evaluation."""

    figures: tuple[Figure, ...]  # its curves
    measures: Table
    operating: Table
    slices: tuple[tuple[str, Table], ...]  # titles and tables of its slices
    notes: tuple[str, ...]  # how it was made


def evaluation_part(found: Evaluation) -> EvaluationPart:
    """Show an evaluation."""
    slices = [(f"By {field}", _slices(rows)) for field, rows in found.slices.items()]
    slices += [
        (f"By {field} of query and neighbor", _pair_slices(field, rows))
        for field, rows in found.pair_slices.items()
    ]
    scores = found.verification
    return EvaluationPart(
        (
            cmc_figure(found.identification),
            score_figure(scores, found.score_name),
            roc_figure(scores),
        ),
        _measures(found),
        _operating(scores),
        tuple(slices),
        (
            _CAMERA_RULES.get(found.cameras, f"Camera rule: {found.cameras}."),
            f"Intervals are 95 %, from {found.resamples:,} draws of the queries (seed "
            f"{found.seed}).",
            f"A false accept rate is supported from {MIN_FALSE_ACCEPTS} expected false "
            "accepts on.",
            f"Evaluated {found.created}.",
        ),
    )


def _measures(found: Evaluation) -> Table:
    """Show the figures of the whole."""
    ranked, scores, overall = found.identification, found.verification, found.overall
    cmc = ranked.cmc(max(_RANKS))
    known = len(ranked.query) > 0
    rows = [
        (text("rank-1"), estimate(overall.rank1)),
        *(
            (text(f"rank-{rank}"), percent(float(cmc[rank - 1]) if known else None))
            for rank in _RANKS
        ),
        (text("mAP"), estimate(overall.mean_average_precision)),
        (text("mINP"), estimate(overall.mean_inverse_negative_penalty)),
        (text("queries with a true match"), count(len(ranked.query))),
        (text("labeled queries without one"), count(ranked.without_match)),
        (text("equal error rate"), estimate(overall.equal_error)),
        (text("its threshold"), number(scores.equal_error_threshold, 4)),
        (text("AUC"), number(scores.auc, 4)),
        (text("genuine pairs"), count(scores.genuine_pairs)),
        (text("impostor pairs"), count(scores.impostor_pairs)),
    ]
    return table(("measure", "value (95 % interval)"), rows)


def _operating(scores: ScoreSummary) -> Table:
    """Show what passes at wanted false accept rates, and what supports that."""
    head = ("FAR", "TAR", "threshold", "expected false accepts", "supported")
    return table(
        head,
        [
            (
                number(point.far, 4),
                percent(point.tar, 2),
                number(point.threshold, 4),
                number(point.expected, 1),
                text("yes" if point.supported else "no: too few impostor pairs"),
            )
            for point in scores.operating
        ],
    )


def _slices(rows: Sequence[SliceRow]) -> Table:
    """Show slices of the queries."""
    head = ("value", "queries", "rank-1", "mAP", "mINP", "equal error rate")
    return table(
        head,
        [
            (
                name(row.value),
                count(row.queries),
                estimate(row.rank1),
                estimate(row.mean_average_precision),
                estimate(row.mean_inverse_negative_penalty),
                estimate(row.equal_error),
            )
            for row in rows
        ],
    )


def _pair_slices(field: str, rows: Sequence[PairSliceRow]) -> Table:
    """Show slices of queries with parts of the gallery."""
    head = (f"query's {field}", f"neighbor's {field}", "genuine", "impostor")
    return table(
        (*head, "equal error rate"),
        [
            (
                name(row.query_value),
                name(row.gallery_value),
                count(row.genuine),
                count(row.impostor),
                estimate(row.equal_error),
            )
            for row in rows
        ],
    )
