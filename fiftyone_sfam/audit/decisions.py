"""Accepted and rejected pairs at a threshold, beside true and false matches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.evaluate import load_evaluation
from fiftyone_sfam.audit.statistics.cells import Table, count, number, percent, text
from fiftyone_sfam.data.notebook import NotebookResult
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, TRUE_MATCH
from fiftyone_sfam.retrieval.search import UNKNOWN
from fiftyone_sfam.runs.maps import PairMaps, SideMaps
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import SEARCH

if TYPE_CHECKING:
    from fiftyone_sfam.attribution.pair import PairExplanation
    from fiftyone_sfam.network.metric import Metric
    from fiftyone_sfam.runs.contributions import StoredPair

NAME = "decisions"
"""Name of the stored result."""

DECISION = "decision"
"""Kind of map that explains a decision."""

DECISIONS = ("true accept", "false reject", "false accept", "true reject")
"""Outcomes of a decision: of pairs of one identity, then of two."""


@dataclass(frozen=True, kw_only=True)
class Decisions(NotebookResult):
    """Which pairs of a run are accepted at a threshold.

    Attributes
    ----------
    threshold : float
        Score from which pairs are accepted.
    far : float, optional
        False accept rate that the threshold was chosen for, over all pairs that the
        evaluation compared; None if the threshold was given.
    score_name : str
        Quantity of the threshold: similarity, or negative distance.
    outcomes : ndarray of int8
        Index into ``DECISIONS`` of each pair of the run, shape (P,); -1 for pairs
        without two identities.
    nearest : dict of str to int, optional
        First neighbors of the queries by outcome; None for a list without ranks.
    every : dict of str to int
        All pairs of the run by outcome.
    """

    threshold: float
    far: float | None
    score_name: str
    outcomes: NDArray[np.int8]
    nearest: dict[str, int] | None
    every: dict[str, int]

    def pairs(self, outcome: str) -> NDArray[np.int64]:
        """Return the indices of the pairs with an outcome.

        Parameters
        ----------
        outcome : {"true accept", "false reject", "false accept", "true reject"}
            The outcome.

        Returns
        -------
        ndarray of int64
            Indices into the columns of ``run.pairs``.

        Raises
        ------
        DataError
            If there is no such outcome.
        """
        if outcome not in DECISIONS:
            raise DataError(
                f"unknown outcome {outcome!r}; use one of {', '.join(DECISIONS)}."
            )
        return np.flatnonzero(self.outcomes == DECISIONS.index(outcome))

    def similarities(self, run: Run) -> NDArray[np.float64]:
        """Return the similarity from which each pair is accepted.

        Parameters
        ----------
        run : Run
            The run.

        Returns
        -------
        ndarray of float64
            Shape (P,): what :meth:`fiftyone_sfam.PairExplanation.decision` takes. For
            the cosine it is the threshold; for Euclidean embeddings it depends on their
            lengths, and is NaN for images with the same embedding.
        """
        pairs = run.pairs
        with np.errstate(invalid="ignore", divide="ignore"):
            squares = pairs.distance**2 / (1 - pairs.similarity)
        return similarity_at(self.threshold, run.config.metric, squares)


def similarity_at(
    threshold: float, metric: Metric, squares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the similarity at a threshold of pairs with given squared lengths.

    Parameters
    ----------
    threshold : float
        Similarity for the cosine, negative distance for Euclidean embeddings.
    metric : {"cosine", "euclidean"}
        Metric of the run.
    squares : ndarray of float64
        Sum of the squared lengths of the two embeddings of each pair, shape (P,).

    Returns
    -------
    ndarray of float64
        Shape (P,).
    """
    if metric == "cosine":
        return np.full(len(squares), threshold)
    return 1 - threshold**2 / squares


def decide_pairs(
    run: Run, *, threshold: float | None = None, far: float | None = None
) -> Decisions:
    """Set the threshold of a run, which stays with it.

    It replaces an earlier one. Panel and report show the four outcomes from then on.
    Why a pair is accepted or rejected is explained by
    :meth:`fiftyone_sfam.PairExplanation.decision` and, from stored contributions, by
    :meth:`fiftyone_sfam.runs.contributions.StoredPair.decision`.

    Parameters
    ----------
    run : Run
        The run.
    threshold : float, optional
        Score from which pairs are accepted: the similarity for the cosine, the negative
        distance for Euclidean embeddings.
    far : float, optional
        Instead, a false accept rate in (0, 1): the least threshold is taken that
        accepts no larger share of the impostor pairs of the run's evaluation, or of a
        given list.

    Returns
    -------
    Decisions
        The outcome of each pair.

    Raises
    ------
    DataError
        If not exactly one of the two is given, the value cannot be used, or the run was
        not evaluated.
    """
    if (threshold is None) == (far is None):
        raise DataError("give either a threshold or a false accept rate (far).")
    if far is not None:
        threshold = find_threshold(run, far)
    if threshold is None or not math.isfinite(threshold):
        raise DataError(f"the threshold is {threshold}; give a finite number.")
    run.results.check_fields(NAME, [])
    config = {"threshold": float(threshold), "far": far}
    run.results.save(NAME, config, {}, [])
    stored = load_decisions(run)
    assert stored is not None
    return stored


def find_threshold(run: Run, far: float) -> float:
    """Return the threshold of a run at a false accept rate, without storing it."""
    if not 0 < far < 1:
        raise DataError(f"far is {far}; give a rate between 0 and 1.")
    if run.config.pair_source != SEARCH:
        return _threshold_in_list(run, far)
    evaluation = load_evaluation(run)
    if evaluation is None:
        raise DataError(
            f"a threshold at a false accept rate needs the evaluation of the run "
            f"'{run.key}'; evaluate it first, or give a threshold."
        )
    threshold = evaluation.verification.threshold_for(far)
    if math.isnan(threshold):
        impostors = evaluation.verification.impostor_pairs
        raise DataError(
            f"no threshold of the run '{run.key}' accepts so few impostors as a false "
            f"accept rate of {far:g} ({impostors:,} impostor pairs); give a larger "
            "rate, or a threshold."
        )
    return threshold


def load_decisions(run: Run) -> Decisions | None:
    """Read the decisions at the stored threshold of a run.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    Decisions or None
        None if no threshold was set.
    """
    result = run.results.load(NAME)
    if result is None:
        return None
    threshold, far = result.config["threshold"], result.config["far"]
    pairs = run.pairs
    cosine = run.config.metric == "cosine"
    rejected = (_scores(run) < threshold).astype(np.int8)
    outcomes = np.full(len(pairs), UNKNOWN, dtype=np.int8)
    for code, first in ((TRUE_MATCH, 0), (FALSE_MATCH, 2)):
        # A false match is rejected rightly, a true one wrongly.
        of_kind = pairs.outcome == code
        outcomes[of_kind] = first + rejected[of_kind]
    return Decisions(
        threshold=threshold,
        far=far,
        score_name="similarity" if cosine else "negative distance",
        outcomes=outcomes,
        nearest=_counts(outcomes[pairs.rank == 1]) if run.ranked else None,
        every=_counts(outcomes),
    )


def stored_threshold(run: Run) -> float | None:
    """Return the threshold of a run without reading its pairs; None if none was set."""
    result = run.results.load(NAME)
    return None if result is None else float(result.config["threshold"])


def decision_of(pair: StoredPair | PairExplanation, threshold: float) -> Sequence[Any]:
    """Explain a decision about a pair, both sides; positive speaks for acceptance."""
    squares = np.sum(np.square(pair.embeddings, dtype=np.float64), keepdims=True)
    [similarity] = similarity_at(threshold, pair.metric, squares.ravel())
    return pair.decision(float(similarity))


def decision_maps(pair: StoredPair, threshold: float) -> PairMaps:
    """Return the maps that explain a decision by stored contributions."""
    return PairMaps(
        *(
            SideMaps({DECISION: s.evidence}, s.score, math.nan, s.crop, s.size)
            for s in decision_of(pair, threshold)
        )
    )


def decisions_table(found: Decisions) -> Table:
    """Return the outcomes of the pairs of a run."""
    counted = {"all pairs of the run": found.every}
    if found.nearest is not None:
        counted = {"first neighbors": found.nearest, **counted}
    head = ["outcome"]
    rows = [[text(outcome)] for outcome in DECISIONS]
    for title, counts in counted.items():
        total = sum(counts.values()) or None
        head += [title, "share" if len(head) == 1 else "their share"]
        for row, outcome in zip(rows, DECISIONS, strict=True):
            share = total and counts[outcome] / total
            row += [count(counts[outcome]), percent(share)]
    return Table(tuple(head), tuple(map(tuple, rows)))


def decisions_sentence(found: Decisions) -> str:
    """Say how the pairs of a run are decided."""
    chosen = "" if found.far is None else f" (false accept rate {100 * found.far:g} %)"
    counts, of = found.nearest, "first neighbors"
    if counts is None:
        counts, of = found.every, "pairs of the list"
    return (
        f"Pairs are accepted from a {found.score_name} of "
        f"{number(found.threshold).text}{chosen}: of the {of}, "
        f"{counts['true accept']:,} true matches and "
        f"{counts['false accept']:,} false ones are accepted, "
        f"{counts['false reject']:,} true and "
        f"{counts['true reject']:,} false ones rejected."
    )


def _scores(run: Run) -> NDArray[np.float64]:
    """Return the scores of the pairs, rounded as those of the evaluation."""
    pairs, cosine = run.pairs, run.config.metric == "cosine"
    return np.round(pairs.similarity if cosine else -pairs.distance, 12)


def _counts(outcomes: NDArray[np.int8]) -> dict[str, int]:
    return {
        name: int(np.count_nonzero(outcomes == code))
        for code, name in enumerate(DECISIONS)
    }


def _threshold_in_list(run: Run, far: float) -> float:
    """Return the least score of a given list with a false accept rate."""
    scores, false = np.unique(_scores(run)), run.pairs.outcome == FALSE_MATCH
    impostors = np.sort(_scores(run)[false])
    accepted = len(impostors) - np.searchsorted(impostors, scores)
    enough = scores[accepted <= far * len(impostors)]
    if not len(impostors) or not len(enough):
        raise DataError(
            f"no threshold of the run '{run.key}' accepts so few pairs of two "
            f"identities as a false accept rate of {far:g} ({len(impostors):,} such "
            "pairs in the list); give a larger rate, or a threshold."
        )
    return float(enough[0])
