"""The figures of one run at a glance: computed once, stored with the run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.blocks import compare
from fiftyone_sfam.audit.evaluation.measures import Identification, measure
from fiftyone_sfam.audit.evaluation.scores import ScoreSummary
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, QUERY, TRUE_MATCH
from fiftyone_sfam.retrieval.rules import compile_rules, gallery_groups
from fiftyone_sfam.retrieval.search import Candidates, encode
from fiftyone_sfam.runs.blobs import Arrays, unpack_maps
from fiftyone_sfam.runs.results import restore
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import SEARCH
from fiftyone_sfam.runs.run_table import shard_name

BLOB = "overview"

LARGE_PAIRS = 5_000_000
"""Pairs of images from which :func:`overview` is too slow for an event of a panel."""


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Figures of the retrieval and verification of a run's images."""

    identification: Identification  # measures of every query
    edges: NDArray[np.float64]  # edges of the bins of scores, shape (BINS + 1,)
    genuine: NDArray[np.int64]  # (BINS,)
    impostor: NDArray[np.int64]  # (BINS,)
    roc_fmr: NDArray[np.float64]  # (T,)
    roc_fnmr: NDArray[np.float64]  # (T,)
    roc_threshold: NDArray[np.float64]  # (T,)
    auc: float  # of the verification
    equal_error: float  # of the verification
    equal_error_threshold: float  # of the verification
    score_name: str  # similarity, or negative distance
    evidence: NDArray[np.float32] | None  # (2, h, w)


def candidates_of(run: Run) -> Candidates:
    """Restore queries, gallery and labels of a run."""
    if run.config.pair_source != SEARCH:
        raise RunError(
            f"the pairs of the run '{run.key}' were given as a list, so there is no "
            "ranked gallery to evaluate; verify_pairs measures the list, and "
            "explain_retrieval makes runs of nearest neighbors."
        )
    items, protocol = run.items, Protocol.from_dict(run.config.protocol)
    distractors = set(protocol.distractors)
    codes = encode(list(items.identities)), encode(list(items.cameras))
    return Candidates(
        *codes,
        np.flatnonzero(items.is_query),
        np.flatnonzero(items.is_gallery),
        np.array(
            [identity in distractors for identity in items.identities], dtype=bool
        ),
        compile_rules(protocol, *codes, items.terms),
        gallery_groups(protocol, *codes, items.terms),
    )


def stored_overview(run: Run) -> Overview | None:
    """Read the stored overview; None if there is none."""
    if BLOB not in run.store.names():
        return None
    return _restored(run.store.get(BLOB), run.config.metric)


def compared_pairs(run: Run) -> int:
    """Return how many pairs of a query and a gallery image an overview looks at."""
    return int(run.items.is_query.sum()) * int(run.items.is_gallery.sum())


def overview(run: Run) -> Overview:
    """Read the stored overview, or evaluate the run.

    Evaluating looks at every pair of images twice; from :data:`LARGE_PAIRS`
    pairs on it belongs into a delegated operation, see
    :func:`fiftyone_sfam.audit.evaluation.evaluate.evaluate_retrieval`.
    """
    stored = stored_overview(run)
    if stored is not None:
        return stored
    comparisons = compare(
        run.embeddings(),
        candidates_of(run),
        Protocol.from_dict(run.config.protocol),
        run.config.metric,
    )
    measures = measure(comparisons)
    return store_overview(run, measures.identification, measures.scores)


def store_overview(
    run: Run, identification: Identification, scores: ScoreSummary
) -> Overview:
    """Store an overview of figures that are known."""
    arrays = {
        "query": identification.query,
        "average_precision": identification.average_precision,
        "inverse_negative_penalty": identification.inverse_negative_penalty,
        "first_match": identification.first_match,
        "edges": scores.edges,
        "genuine": scores.genuine,
        "impostor": scores.impostor,
        "roc_fmr": scores.roc_fmr,
        "roc_fnmr": scores.roc_fnmr,
        "roc_threshold": scores.roc_threshold,
        **_average_evidence(run),
        "numbers": np.array(
            [
                identification.without_match,
                scores.auc,
                scores.equal_error,
                scores.equal_error_threshold,
            ]
        ),
    }
    run.store.put(BLOB, arrays)
    return _restored(arrays, run.config.metric)


def _restored(arrays: Arrays, metric: str) -> Overview:
    """Read an overview out of its arrays."""
    without, auc, error, at = arrays["numbers"].tolist()
    values = {
        "evidence": None,
        **arrays,
        "without_match": int(without),
        "auc": auc,
        "equal_error": error,
        "equal_error_threshold": at,
        "score_name": "similarity" if metric == "cosine" else "negative distance",
    }
    identification = restore(Identification, values)
    return restore(Overview, {**values, "identification": identification})


def _average_evidence(run: Run) -> Arrays:
    """Average the evidence of the queries' first pairs, by outcome.

    Each shard is read once, and only if the query side of such a pair lies in it.
    """
    kind = "evidence"
    if kind not in run.config.kinds:
        return {}
    sums = np.zeros((2, *run.config.map_shape[1:]), dtype=np.float64)
    counts = np.zeros(2)
    pairs = run.pairs
    for number in range(run.plan.num_shards):
        sides, _ = run.plan.sides_of(number)
        outcome = pairs.outcome[sides // 2]
        of_first = (sides % 2 == QUERY) & (pairs.rank[sides // 2] == 1)
        rows = np.flatnonzero(of_first & np.isin(outcome, (TRUE_MATCH, FALSE_MATCH)))
        if len(rows) == 0:
            continue
        shard = run.store.get(shard_name(number))
        rows = rows[~np.isnan(shard["score"][rows])]
        if len(rows) == 0:
            # A shard of broken images has no maps at all.
            continue
        maps = unpack_maps(shard[f"{kind}_values"][rows], shard[f"{kind}_scale"][rows])
        np.add.at(sums, outcome[rows], maps)
        np.add.at(counts, outcome[rows], 1)
    averages = sums / np.maximum(counts, 1)[:, None, None]
    return {"evidence": averages.astype(np.float32)}
