"""Evaluation of a run: computed once, stored with it, written on its queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.blocks import CameraRule, Comparisons, compare
from fiftyone_sfam.audit.evaluation.fields import (
    measure_paths,
    slice_values,
    write_measures,
)
from fiftyone_sfam.audit.evaluation.galleries import (
    RandomGalleries,
    measure_galleries,
)
from fiftyone_sfam.audit.evaluation.measures import Identification, Measures, measure
from fiftyone_sfam.audit.evaluation.overview import (
    candidates_of,
    overview,
    store_overview,
)
from fiftyone_sfam.audit.evaluation.scores import FARS, OperatingPoint, ScoreSummary
from fiftyone_sfam.audit.evaluation.slices import (
    OVERALL,
    PairSliceRow,
    PairSlices,
    Resampling,
    SliceRow,
    Slices,
    Values,
    evaluate_pair_slices,
    evaluate_slices,
    group_by_value,
    make_row,
    pack_slices,
    unpack_slices,
)
from fiftyone_sfam.audit.statistics.bootstrap import (
    RESAMPLES,
    check_seed,
    equal_error_estimate,
)
from fiftyone_sfam.data.notebook import PlottedResult
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.retrieval.search import UNKNOWN
from fiftyone_sfam.runs.blobs import Arrays
from fiftyone_sfam.runs.results import restore
from fiftyone_sfam.runs.run import Run

NAME = "evaluation"
"""Name of the stored result."""

# Arrays of the random galleries.
_DRAWN = ("cmc", "mean_average_precision", "mean_inverse_negative_penalty")


@dataclass(frozen=True, kw_only=True)
class Evaluation(PlottedResult):
    """How good a run's retrieval is, exact over all pairs of its images.

    Attributes
    ----------
    identification : Identification
        Measures of every query that counts.
    verification : ScoreSummary
        Of all pairs of labeled images; two images that are both query and gallery are
        one pair.
    overall : SliceRow
        All labeled queries as one slice, with intervals.
    slices : dict of str to tuple of SliceRow
        Field to its slices, the largest first.
    pair_slices : dict of str to tuple of PairSliceRow
        Field to the slices of queries with parts of the gallery.
    cameras : str
        Which pairs were compared, see
        :class:`fiftyone_sfam.audit.evaluation.blocks.Comparisons`.
    score_name : str
        Quantity of the thresholds: similarity, or negative distance.
    resamples, seed : int
        Of the intervals.
    created : str
        When, in UTC, ISO 8601.
    galleries : RandomGalleries, optional
        Measures with random galleries, if the protocol of the run asks for them with
        ``gallery_shots``.
    """

    identification: Identification
    verification: ScoreSummary
    overall: SliceRow
    slices: dict[str, tuple[SliceRow, ...]]
    pair_slices: dict[str, tuple[PairSliceRow, ...]]
    cameras: str
    score_name: str
    resamples: int
    seed: int
    created: str
    galleries: RandomGalleries | None = None


def evaluate_retrieval(
    run: Run,
    *,
    slices: Sequence[str] = (),
    pair_slices: Sequence[str] = (),
    cameras: CameraRule = "protocol",
    fars: Sequence[float] = FARS,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: bool | Progress | None = None,
) -> Evaluation:
    """Evaluate a run over all pairs of its images, and store the result.

    It replaces an earlier evaluation of the run. The queries also get the fields
    ``KEY_ap``, average precision, and ``KEY_first_match``, rank of the nearest true
    match (on the detections if these were compared), None for queries that do not
    count. The data of the audit panel are stored as well.

    All pairs are compared twice, once more where there are slices, and twice more for
    each field of pair slices; see
    :func:`fiftyone_sfam.audit.evaluation.measures.measure` for time and memory.

    Parameters
    ----------
    run : Run
        The run.
    slices : sequence of str
        Fields whose values are slices of the queries, see
        :func:`fiftyone_sfam.audit.evaluation.fields.slice_values`.
    pair_slices : sequence of str
        Fields whose values are slices of both sides, as a camera field for the figures
        of each pair of cameras.
    cameras : {"protocol", "all", "cross", "single"}
        Which pairs are compared. ``protocol``: what the run's protocol says, and for
        verification no pairs that a rule would leave out if they had one identity, such
        as those of one camera. The others replace the rules with a camera: ``all``:
        cameras do not matter. ``cross``: no pairs of one camera at all. ``single``: no
        pairs of two cameras.
    fars : sequence of float
        False accept rates to find thresholds for.
    resamples, seed : int
        Draws of the intervals, and their seed.
    progress : bool, callable or None
        As in :func:`fiftyone_sfam.explain_retrieval`.

    Returns
    -------
    Evaluation
        The evaluation.

    Raises
    ------
    DataError
        If a field or a rate cannot be used, or no image of the run has an identity.
    RunError
        If a field of another origin is in the way.
    """
    paths = measure_paths(run)
    run.results.check_fields(NAME, paths)
    for name, fields in (("slices", slices), ("pair_slices", pair_slices)):
        if isinstance(fields, str):
            raise DataError(f"{name} is the text {fields!r}; give a list of fields.")
    check_seed(seed)
    if resamples < 1:
        raise DataError(f"resamples is {resamples}; draw at least once.")
    candidates = candidates_of(run)
    if (candidates.identities == UNKNOWN).all():
        raise DataError(
            f"no image of the run '{run.key}' has an identity, so there is nothing to "
            "evaluate against; make a run with an identity field."
        )
    sliced = {field: slice_values(run, field) for field in slices}
    paired = {field: slice_values(run, field) for field in pair_slices}
    comparisons = compare(
        run.embeddings(),
        candidates,
        Protocol.from_dict(run.config.protocol),
        run.config.metric,
        cameras,
    )
    resampling = Resampling(resamples, seed)
    with reporting(progress) as report:
        watch = _Watch(report, len(candidates.queries))
        measures = measure(comparisons, fars, watch)
        rows = {
            OVERALL: (_overall(comparisons, measures, resampling),),
            **_slices(comparisons, measures, sliced, resampling, watch),
        }
        pair_rows = _pair_slices(comparisons, measures, paired, resampling, watch)
        galleries = None
        if comparisons.protocol.gallery_shots is not None:
            galleries = measure_galleries(comparisons, watch)
    config: dict[str, Any] = {
        "cameras": cameras,
        "resamples": resamples,
        "seed": seed,
        "without_match": measures.identification.without_match,
        "rank1": float(measures.identification.cmc(1)[0]),
        "mean_average_precision": measures.identification.mean_average_precision,
        "mean_inverse_negative_penalty": (
            measures.identification.mean_inverse_negative_penalty
        ),
        "auc": measures.scores.auc,
        "equal_error": measures.scores.equal_error,
        "equal_error_threshold": measures.scores.equal_error_threshold,
    }
    arrays = _pack(measures, rows, pair_rows)
    if galleries is not None:
        config["galleries"] = {
            "shots": galleries.shots,
            "seed": galleries.seed,
            "per": list(galleries.per),
        }
        arrays |= {f"galleries_{name}": getattr(galleries, name) for name in _DRAWN}
    run.results.save(NAME, config, arrays, paths, finished=False)
    write_measures(run, measures.identification)
    run.results.finish(NAME)
    if cameras == "protocol":
        store_overview(run, measures.identification, measures.scores)
    else:
        overview(run)
    stored = load_evaluation(run)
    assert stored is not None
    return stored


def load_evaluation(run: Run) -> Evaluation | None:
    """Read the stored evaluation of a run.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    Evaluation or None
        None if it was not evaluated yet.
    """
    result = run.results.load(NAME)
    if result is None:
        return None
    arrays = result.arrays
    galleries = None
    if "galleries" in result.config:
        drawn: dict[str, Any] = {n: arrays[f"galleries_{n}"] for n in _DRAWN}
        settings = result.config["galleries"]
        per = tuple(settings.get("per", ()))  # not in evaluations of earlier versions
        galleries = RandomGalleries(**{**settings, "per": per}, **drawn)
    slices, pair_slices = unpack_slices(arrays)
    (overall,) = slices.pop(OVERALL)
    values = {
        **result.config,
        **arrays,
        "genuine_pairs": int(arrays["genuine"].sum()),
        "impostor_pairs": int(arrays["impostor"].sum()),
        "operating": [
            OperatingPoint(far, expected, bool(supported), threshold, tar)
            for far, expected, supported, threshold, tar in arrays["operating"].tolist()
        ],
        "overall": overall,
        "slices": slices,
        "pair_slices": pair_slices,
        "score_name": (
            "similarity" if run.config.metric == "cosine" else "negative distance"
        ),
        "created": result.created,
        "galleries": galleries,
    }
    parts = {
        "identification": restore(Identification, values),
        "verification": restore(ScoreSummary, values),
    }
    return restore(Evaluation, {**values, **parts})


# --------------------------------------------------------------------------------------
# Slices
# --------------------------------------------------------------------------------------


class _Watch:
    """Adds up the queries of a phase and reports them."""

    def __init__(self, report: Progress | None, total: int) -> None:
        self._report = report
        self._total = total
        self._done = 0
        self._phase = ""

    def __call__(self, queries: int, phase: str) -> None:
        if phase != self._phase:
            self._phase, self._done = phase, 0
        # An image with several tags is compared for each.
        self._done = min(self._done + queries, self._total)
        if self._report is not None:
            self._report(self._done, self._total, phase)


def _labeled_queries(comparisons: Comparisons) -> NDArray[np.int64]:
    """Return the queries with an identity."""
    candidates = comparisons.candidates
    labeled = candidates.identities[candidates.queries] != UNKNOWN
    return candidates.queries[labeled]


def _overall(
    comparisons: Comparisons, measures: Measures, resampling: Resampling
) -> SliceRow:
    """Take all labeled queries as one slice."""
    items = _labeled_queries(comparisons)
    genuine, impostor = measures.table.of(items)
    return make_row(
        OVERALL,
        items,
        measures.identification,
        (int(genuine.sum()), int(impostor.sum())),
        equal_error_estimate(
            measures.scores.equal_error,
            genuine,
            impostor,
            resampling.resamples,
            resampling.seed,
        ),
        resampling,
    )


def _slices(
    comparisons: Comparisons,
    measures: Measures,
    values: dict[str, Values],
    resampling: Resampling,
    watch: _Watch,
) -> Slices:
    """Evaluate the slices of fields."""
    if not values:
        return {}
    queries = _labeled_queries(comparisons)
    return evaluate_slices(
        {field: group_by_value(column, queries) for field, column in values.items()},
        measures.identification,
        comparisons,
        measures.table,
        resampling,
        partial(watch, phase="slicing"),
    )


def _pair_slices(
    comparisons: Comparisons,
    measures: Measures,
    values: dict[str, Values],
    resampling: Resampling,
    watch: _Watch,
) -> PairSlices:
    """Evaluate the pair slices of fields."""
    queries = _labeled_queries(comparisons)
    return {
        field: evaluate_pair_slices(
            field,
            group_by_value(of_items, queries),
            group_by_value(of_items, comparisons.candidates.gallery),
            comparisons,
            measures.table,
            resampling,
            partial(watch, phase=f"comparing pairs of {field}"),
        )
        for field, of_items in values.items()
    }


# --------------------------------------------------------------------------------------
# Storage
# --------------------------------------------------------------------------------------


def _pack(measures: Measures, slices: Slices, pair_slices: PairSlices) -> Arrays:
    """Turn an evaluation into arrays."""
    ranked, scores = measures.identification, measures.scores
    operating = [astuple(point) for point in scores.operating]
    return {
        "query": ranked.query,
        "average_precision": ranked.average_precision,
        "inverse_negative_penalty": ranked.inverse_negative_penalty,
        "first_match": ranked.first_match,
        "operating": np.array(operating, dtype=np.float64).reshape(-1, 5),
        "roc_threshold": scores.roc_threshold,
        "roc_fmr": scores.roc_fmr,
        "roc_fnmr": scores.roc_fnmr,
        "edges": scores.edges,
        "genuine": scores.genuine,
        "impostor": scores.impostor,
        **pack_slices(slices, pair_slices),
    }
