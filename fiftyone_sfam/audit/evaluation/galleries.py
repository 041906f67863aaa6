"""Evaluation with a few random gallery images per identity, averaged over draws.

The first protocol of CUHK03 has one gallery image per identity: W. Li et al.,
"DeepReID: Deep Filter Pairing Neural Network for Person Re-Identification", CVPR 2014.
That of SYSU-MM01 has one, or ten, per identity and camera: A. Wu et al., "RGB-Infrared
Cross-Modality Person Re-Identification", ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.blocks import Block, Comparisons
from fiftyone_sfam.audit.evaluation.measures import Ranker
from fiftyone_sfam.retrieval.search import UNKNOWN, Candidates

RANKS = 20
"""Ranks of the cumulative match characteristic."""


@dataclass(frozen=True, kw_only=True)
class RandomGalleries:
    """Measures of T draws of a gallery.

    For each query, a draw takes ``shots`` images of every identity, or of every
    combination of the fields ``per``, at random from those that the protocol compares
    with the query. Images without an identity or another value of these fields, and
    distractors, stay in the gallery.

    Attributes
    ----------
    shots : int
        Gallery images per identity.
    seed : int
        Of the draws.
    cmc : ndarray of float64
        Cumulative match characteristic, shape (T, 20).
    mean_average_precision, mean_inverse_negative_penalty : ndarray of float64
        Means over the queries with a true match to find, shape (T,).
    per : tuple of str
        Fields of whose values images are drawn; empty for the identity alone.
    """

    shots: int
    seed: int
    cmc: NDArray[np.float64]
    mean_average_precision: NDArray[np.float64]
    mean_inverse_negative_penalty: NDArray[np.float64]
    per: tuple[str, ...] = ()


def measure_galleries(
    comparisons: Comparisons, watch: Callable[[int, str], None] | None = None
) -> RandomGalleries:
    """Measure the random galleries that a protocol asks for."""
    protocol, candidates = comparisons.protocol, comparisons.candidates
    assert protocol.gallery_shots is not None
    draws = [
        _Draw(candidates, np.random.default_rng((protocol.seed, draw)))
        for draw in range(protocol.draws)
    ]
    rankers = [Ranker(comparisons) for _ in draws]
    for block in comparisons.blocks():
        for draw, ranker in zip(draws, rankers, strict=True):
            ranker.add(draw.of(block, protocol.gallery_shots))
        if watch is not None:
            watch(len(block.queries), "drawing galleries")
    found = [ranker.result() for ranker in rankers]
    return RandomGalleries(
        shots=protocol.gallery_shots,
        seed=protocol.seed,
        cmc=np.array([one.cmc(RANKS) for one in found]),
        mean_average_precision=np.array([one.mean_average_precision for one in found]),
        mean_inverse_negative_penalty=np.array(
            [one.mean_inverse_negative_penalty for one in found]
        ),
        per=protocol.gallery_per,
    )


class _Draw:
    """A random order of the gallery, of which each group's first images count."""

    def __init__(self, candidates: Candidates, generator: np.random.Generator) -> None:
        gallery = candidates.gallery
        groups = candidates.groups
        groups = (candidates.identities if groups is None else groups)[gallery]
        alone = (groups == UNKNOWN) | candidates.distractors[gallery]
        # Numbers that no group has, a different one for each image.
        groups = np.where(alone, -2 - np.arange(len(gallery)), groups)
        self._order = np.lexsort((generator.permutation(len(gallery)), groups))
        ordered = groups[self._order]
        self._first = np.searchsorted(ordered, ordered)

    def of(self, block: Block, shots: int) -> Block:
        """Return a block whose scores are -inf but for the images drawn."""
        allowed = block.scores[:, self._order] > -np.inf
        before = np.cumsum(allowed, axis=1, dtype=np.int32) - allowed
        drawn = np.empty_like(allowed)
        drawn[:, self._order] = allowed & (before - before[:, self._first] < shots)
        kept = drawn[block.row, block.column]
        return replace(
            block,
            scores=np.where(drawn, block.scores, -np.inf),
            row=block.row[kept],
            column=block.column[kept],
        )
