"""How good a retrieval is, by the field's own measures, exact over all pairs.

Identification: CMC, mAP and mINP of every query's ranking of the whole gallery
(M. Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook",
2021, for mINP). Verification: the error rates of a threshold on the similarity, over
all pairs of images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.errors import DataError
from fiftyone_sfam.protocol import Protocol
from fiftyone_sfam.retrieval import UNKNOWN, Candidates, are_duplicates

_BLOCK_BYTES = 64 * 2**20
# Keys that differ by less are taken as equal, since their order is rounding.
_DECIMALS = 12
MAX_PAIRS = 30_000_000
"""Most pairs whose scores are kept one by one."""


@dataclass(frozen=True)
class Identification:
    """How each query's ranking of the gallery does.

    Only queries with a true match in their gallery count, as in Market-1501's protocol.

    Attributes
    ----------
    query : ndarray of int64
        Image of each query that counts, shape (Q,).
    average_precision : ndarray of float64
        Mean of the precision at the ranks of its true matches, shape (Q,).
    inverse_negative_penalty : ndarray of float64
        Number of true matches over the rank of the last one, shape (Q,).
    first_match : ndarray of int64
        Rank of the nearest true match, from 1, shape (Q,).
    without_match : int
        Labeled queries that have no true match to find.
    """

    query: NDArray[np.int64]
    average_precision: NDArray[np.float64]
    inverse_negative_penalty: NDArray[np.float64]
    first_match: NDArray[np.int64]
    without_match: int

    def cmc(self, ranks: int) -> NDArray[np.float64]:
        """Compute the cumulative match characteristic.

        Parameters
        ----------
        ranks : int
            Number of ranks.

        Returns
        -------
        ndarray of float64
            Share of queries with a true match up to rank 1, 2, ..., shape (ranks,).
        """
        counts = np.bincount(
            np.minimum(self.first_match, ranks + 1), minlength=ranks + 2
        )
        return np.cumsum(counts[1 : ranks + 1]) / max(1, len(self.query))

    @property
    def mean_average_precision(self) -> float:
        """The mean of the queries' average precision; NaN without queries."""
        return _mean(self.average_precision)

    @property
    def mean_inverse_negative_penalty(self) -> float:
        """The mean of the queries' inverse negative penalty; NaN without queries."""
        return _mean(self.inverse_negative_penalty)


@dataclass(frozen=True)
class Verification:
    """The similarities of pairs of one identity, and of two.

    Attributes
    ----------
    genuine, impostor : ndarray of float64
        Similarities (of the metric ``euclidean``: negative distances), ascending.
    """

    genuine: NDArray[np.float64]
    impostor: NDArray[np.float64]

    def rates(
        self, thresholds: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Compute the error rates of thresholds.

        Parameters
        ----------
        thresholds : ndarray of float64
            A pair is accepted if its score is at least the threshold, shape (T,).

        Returns
        -------
        fmr, fnmr : ndarray of float64
            Share of impostor pairs that are accepted, and of genuine pairs that are
            not, shapes (T,).
        """
        accepted = len(self.impostor) - np.searchsorted(self.impostor, thresholds)
        refused = np.searchsorted(self.genuine, thresholds)
        return (
            accepted / max(1, len(self.impostor)),
            refused / max(1, len(self.genuine)),
        )

    @property
    def auc(self) -> float:
        """Chance that a genuine pair scores above an impostor pair; ties count half."""
        if len(self.genuine) == 0 or len(self.impostor) == 0:
            return float("nan")
        below = np.searchsorted(self.impostor, self.genuine, side="left")
        up_to = np.searchsorted(self.impostor, self.genuine, side="right")
        return float((below + up_to).mean() / 2 / len(self.impostor))

    def equal_error(self) -> tuple[float, float]:
        """Find where the two error rates meet.

        Returns
        -------
        rate, threshold : float
            Mean of both rates at the threshold where they differ least.
        """
        thresholds = np.unique(np.concatenate([self.genuine, self.impostor]))
        fmr, fnmr = self.rates(thresholds)
        best = int(np.abs(fmr - fnmr).argmin())
        return float((fmr[best] + fnmr[best]) / 2), float(thresholds[best])

    def threshold_for(self, fmr: float) -> float:
        """Find the least threshold that accepts no more than a share of impostors.

        Parameters
        ----------
        fmr : float
            Accepted share of impostor pairs, from 0 to 1.

        Returns
        -------
        float
            The threshold; just above the highest impostor where none may pass.
        """
        allowed = int(np.floor(fmr * len(self.impostor) + 1e-9))
        if allowed >= len(self.impostor):
            return float(min(self.impostor.min(initial=np.inf), self.genuine[0]))
        # The first refused impostor, counted from the highest.
        return float(np.nextafter(self.impostor[-1 - allowed], np.inf))


def identify(
    embeddings: NDArray[np.floating],
    candidates: Candidates,
    protocol: Protocol,
    metric: str = "cosine",
) -> Identification:
    """Rank the whole gallery for every query, and measure the rankings.

    Parameters
    ----------
    embeddings : ndarray
        Shape (N, D), finite, and not zero for the metric ``cosine``.
    candidates : Candidates
        Queries, gallery and labels.
    protocol : Protocol
        Which pairs are left out.
    metric : {"cosine", "euclidean"}
        What the gallery is ranked by.

    Returns
    -------
    Identification
        The measures of every labeled query.
    """
    queries, precisions, penalties, firsts = [], [], [], []
    without = 0
    for block, keys in _keys(embeddings, candidates, protocol, metric):
        for row, query in enumerate(block):
            if candidates.identities[query] == UNKNOWN:
                continue
            admitted = np.flatnonzero(np.isfinite(keys[row]))
            order = admitted[np.lexsort((admitted, -keys[row, admitted]))]
            others = candidates.gallery[order]
            matches = candidates.is_true_match(np.full(len(others), query), others)
            ranks = np.flatnonzero(matches) + 1
            if len(ranks) == 0:
                without += 1
                continue
            found = np.arange(1, len(ranks) + 1)
            queries.append(query)
            precisions.append(float((found / ranks).mean()))
            penalties.append(len(ranks) / ranks[-1])
            firsts.append(ranks[0])
    return Identification(
        np.array(queries, dtype=np.int64),
        np.array(precisions, dtype=np.float64),
        np.array(penalties, dtype=np.float64),
        np.array(firsts, dtype=np.int64),
        without,
    )


def verify(
    embeddings: NDArray[np.floating],
    candidates: Candidates,
    protocol: Protocol,
    metric: str = "cosine",
) -> Verification:
    """Collect the similarities of all pairs of labeled images.

    A pair of two images that are both query and gallery counts once. Where the
    protocol names a camera field, pairs from one camera are left out, genuine and
    impostor alike.

    Parameters
    ----------
    embeddings : ndarray
        Shape (N, D), finite, and not zero for the metric ``cosine``.
    candidates : Candidates
        Queries, gallery and labels.
    protocol : Protocol
        Which pairs are left out.
    metric : {"cosine", "euclidean"}
        How pairs are compared.

    Returns
    -------
    Verification
        The scores.

    Raises
    ------
    DataError
        If there are more than :data:`MAX_PAIRS` pairs.
    """
    count = len(candidates.queries) * len(candidates.gallery)
    if count > MAX_PAIRS:
        raise DataError(
            f"{count:,} pairs are too many to keep their scores (at most "
            f"{MAX_PAIRS:,}); evaluate a view of fewer images."
        )
    both = np.zeros(len(embeddings), dtype=bool)
    both[candidates.queries] = True
    in_gallery = np.zeros(len(embeddings), dtype=bool)
    in_gallery[candidates.gallery] = True
    both &= in_gallery
    genuine, impostor = [], []
    others = candidates.gallery
    for block, keys in _keys(embeddings, candidates, protocol, metric):
        mine = block[:, None]
        keep = np.isfinite(keys)
        keep &= (candidates.identities[mine] != UNKNOWN) & (
            candidates.identities[others] != UNKNOWN
        )
        keep &= ~(both[mine] & both[others] & (others < mine))
        if protocol.camera_field is not None:
            cameras = candidates.cameras
            keep &= (cameras[mine] != cameras[others]) | (cameras[mine] == UNKNOWN)
        same = candidates.is_true_match(
            np.broadcast_to(mine, keep.shape), np.broadcast_to(others, keep.shape)
        )
        genuine.append(keys[keep & same])
        impostor.append(keys[keep & ~same])
    empty = np.empty(0)
    return Verification(
        np.sort(np.concatenate([empty, *genuine])),
        np.sort(np.concatenate([empty, *impostor])),
    )


def _keys(
    embeddings: NDArray[np.floating],
    candidates: Candidates,
    protocol: Protocol,
    metric: str,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Yield blocks of queries with their keys, -inf where the protocol leaves out."""
    raw = np.asarray(embeddings, dtype=np.float64)
    norms = np.linalg.norm(raw, axis=1)
    gallery = candidates.gallery
    others = raw[gallery]
    if metric == "cosine":
        others = others / norms[gallery][:, None]
    rows = max(1, _BLOCK_BYTES // (8 * max(1, len(gallery))))
    for start in range(0, len(candidates.queries), rows):
        block = candidates.queries[start : start + rows]
        if metric == "cosine":
            keys = (raw[block] / norms[block][:, None]) @ others.T
        else:
            squares = norms[block][:, None] ** 2 + norms[gallery] ** 2
            keys = -np.sqrt(np.maximum(squares - 2 * raw[block] @ others.T, 0))
        keys = np.round(keys, _DECIMALS)
        keys[candidates.left_out(block, protocol)] = -np.inf
        if protocol.exclude_duplicates:
            for row, query in enumerate(block):
                # Far more than rounding allows, so that few are compared one by one.
                top = 1 - 1e-9 if metric == "cosine" else -1e-5 * norms[query]
                near = np.flatnonzero(keys[row] >= top)
                same = are_duplicates(raw, int(query), gallery[near])
                keys[row, near[same]] = -np.inf
        yield block, keys


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
