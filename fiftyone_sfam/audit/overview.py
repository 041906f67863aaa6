"""The figures of one run at a glance: computed once, stored with the run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation import Identification, identify, verify
from fiftyone_sfam.protocol import Protocol
from fiftyone_sfam.records import FALSE_MATCH, TRUE_MATCH
from fiftyone_sfam.retrieval import Candidates, encode
from fiftyone_sfam.runs import Run
from fiftyone_sfam.storage import Arrays

BLOB = "overview"
BINS = 400

_PAIRS_AT_ONCE = 1000


@dataclass(frozen=True)
class Overview:
    """What retrieval and verification of a run's images reach.

    Attributes
    ----------
    identification : Identification
        Measures of every query.
    edges : ndarray of float64
        Edges of the bins of scores, shape (BINS + 1,).
    genuine, impostor : ndarray of int64
        Pairs of one identity and of two per bin, shape (BINS,).
    roc_fmr, roc_fnmr, roc_threshold : ndarray of float64
        Error rates of thresholds on the score, by falling threshold, shape (T,).
    auc, equal_error, equal_error_threshold : float
        Of the verification; NaN where one kind of pair is missing.
    score_name : str
        What is on the axis: the similarity, or the negative distance.
    evidence : ndarray of float32 or None
        Average evidence of the query towards its nearest neighbor, of true and of
        false matches, shape (2, h, w); None if the run stores no evidence.
    """

    identification: Identification
    edges: NDArray[np.float64]
    genuine: NDArray[np.int64]
    impostor: NDArray[np.int64]
    roc_fmr: NDArray[np.float64]
    roc_fnmr: NDArray[np.float64]
    roc_threshold: NDArray[np.float64]
    auc: float
    equal_error: float
    equal_error_threshold: float
    score_name: str
    evidence: NDArray[np.float32] | None


def candidates_of(run: Run) -> Candidates:
    """Restore who was compared with whom.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    Candidates
        As the run has used them.
    """
    items = run.items
    distractors = set(run.config.protocol["distractors"])
    return Candidates(
        encode(list(items.identities)),
        encode(list(items.cameras)),
        np.flatnonzero(items.is_query),
        np.flatnonzero(items.is_gallery),
        np.array([one in distractors for one in items.identities], dtype=bool),
    )


def overview(run: Run) -> Overview:
    """Evaluate a run, or read what was found before.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    Overview
        Exact over all pairs of the run's images, not only the stored ones.

    Raises
    ------
    DataError
        If there are too many pairs to keep their scores.
    """
    if BLOB not in run.store.names():
        run.store.put(BLOB, _computed(run))
    return _restored(run.store.get(BLOB), run.config.metric)


def _computed(run: Run) -> Arrays:
    """Evaluate a run."""
    candidates = candidates_of(run)
    protocol = Protocol.from_dict(run.config.protocol)
    embeddings, metric = run.embeddings(), run.config.metric
    ranked = identify(embeddings, candidates, protocol, metric)
    scores = verify(embeddings, candidates, protocol, metric)
    both = np.concatenate([scores.genuine, scores.impostor])
    low, high = (both.min(), both.max()) if len(both) else (0.0, 1.0)
    edges = np.linspace(low, max(high, low + 1e-9), BINS + 1)
    error, at = float("nan"), float("nan")
    thresholds = np.empty(0)
    if len(scores.genuine) and len(scores.impostor):
        error, at = scores.equal_error()
        # Where the curve bends: at impostors' scores, evenly over the log of the rate.
        places = np.unique(
            np.geomspace(1, len(scores.impostor), 300).astype(np.int64) - 1
        )
        thresholds = scores.impostor[::-1][places]
    fmr, fnmr = scores.rates(thresholds)
    return {
        "query": ranked.query,
        "average_precision": ranked.average_precision,
        "inverse_negative_penalty": ranked.inverse_negative_penalty,
        "first_match": ranked.first_match,
        "edges": edges,
        "genuine": np.histogram(scores.genuine, edges)[0],
        "impostor": np.histogram(scores.impostor, edges)[0],
        "roc_fmr": fmr,
        "roc_fnmr": fnmr,
        "roc_threshold": thresholds,
        **_average_evidence(run),
        "numbers": np.array([ranked.without_match, scores.auc, error, at]),
    }


def _restored(arrays: Arrays, metric: str) -> Overview:
    """Read an overview out of its arrays."""
    without, auc, error, at = (float(value) for value in arrays["numbers"])
    return Overview(
        Identification(
            arrays["query"],
            arrays["average_precision"],
            arrays["inverse_negative_penalty"],
            arrays["first_match"],
            int(without),
        ),
        arrays["edges"],
        arrays["genuine"],
        arrays["impostor"],
        arrays["roc_fmr"],
        arrays["roc_fnmr"],
        arrays["roc_threshold"],
        auc,
        error,
        at,
        "similarity" if metric == "cosine" else "negative distance",
        arrays.get("evidence"),
    )


def _average_evidence(run: Run) -> Arrays:
    """Average the evidence of the queries' first pairs, by outcome."""
    kind = "evidence"
    if kind not in run.config.kinds:
        return {}
    sums = np.zeros((2, *run.config.map_shape[1:]), dtype=np.float64)
    counts = np.zeros(2)
    first = np.flatnonzero(run.pairs.rank == 1)
    for start in range(0, len(first), _PAIRS_AT_ONCE):
        chosen = first[start : start + _PAIRS_AT_ONCE]
        for pair, maps in zip(chosen, run.many_maps(chosen), strict=True):
            outcome = int(run.pairs.outcome[pair])
            if outcome in (TRUE_MATCH, FALSE_MATCH) and maps.query is not None:
                sums[outcome] += maps.query.maps[kind]
                counts[outcome] += 1
    averages = sums / np.maximum(counts, 1)[:, None, None]
    return {"evidence": averages.astype(np.float32)}
