"""Every query against the whole gallery, block by block, under a protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.rules import Alike, ExclusionRule
from fiftyone_sfam.retrieval.search import UNKNOWN, Candidates, are_duplicates

CameraRule = Literal["protocol", "all", "cross", "single"]
"""Which pairs of cameras an evaluation compares, see :class:`Comparisons`."""

BLOCK_BYTES = 64 * 2**20
"""Bytes of one block of scores; some four times that are in use at once."""

# Scores that differ by less are taken as equal, since their order is rounding.
_DECIMALS = 12


@dataclass(frozen=True)
class Block:
    """Queries and their scores with the whole gallery; true matches by row, column."""

    queries: NDArray[np.int64]  # the query images, shape (R,)
    scores: NDArray[np.float64]  # larger is nearer
    row: NDArray[np.int64]  # (M,)
    column: NDArray[np.int64]  # (M,)


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """Embeddings and the pairs to compare; made by :func:`compare`."""

    raw: NDArray[np.floating]  # embeddings, shape (N, D)
    scaled: NDArray[np.float64]
    norms: NDArray[np.float64]  # lengths of the embeddings, shape (N,)
    candidates: Candidates  # queries, gallery and labels
    protocol: Protocol  # which pairs are left out
    metric: str  # scores are cosine similarities, or negative distances
    cameras: CameraRule  # protocol: rankings leave out what the protocol does
    block_bytes: int = BLOCK_BYTES  # bytes of one block of scores

    def with_gallery(self, gallery: NDArray[np.int64]) -> Comparisons:
        """Return the comparisons with a part of the gallery."""
        return replace(self, candidates=replace(self.candidates, gallery=gallery))

    def blocks(self, queries: NDArray[np.int64] | None = None) -> Iterator[Block]:
        """Yield the queries in blocks."""
        candidates = self.candidates
        gallery = candidates.gallery
        queries = candidates.queries if queries is None else queries
        whole = len(gallery) == len(self.scaled)
        others = self.scaled if whole else self.scaled[gallery]
        place = np.full(len(self.scaled), UNKNOWN)
        place[gallery] = np.arange(len(gallery))
        alike = Alike(candidates.identities[gallery])
        rows = max(1, self.block_bytes // (8 * max(1, len(gallery))))
        for start in range(0, len(queries), rows):
            block = queries[start : start + rows]
            scores = self._scores(block, others)
            if self.protocol.exclude_self:
                itself = np.flatnonzero(place[block] != UNKNOWN)
                scores[itself, place[block[itself]]] = -np.inf
            row, column = alike.find(candidates.identities[block])
            self._leave_out(block, scores)
            match = candidates.is_true_match(block[row], gallery[column])
            match &= scores[row, column] > -np.inf
            yield Block(block, scores, row[match], column[match])

    def labeled_scores(self, block: Block) -> NDArray[np.float64]:
        """Return the scores that verification uses, -inf for the others."""
        candidates = self.candidates
        gallery = candidates.gallery
        scores = block.scores.copy()
        scores[candidates.identities[block.queries] == UNKNOWN] = -np.inf
        scores[:, candidates.identities[gallery] == UNKNOWN] = -np.inf
        for rule in self._rules:
            out = rule.holds_for_others(block.queries[:, None], gallery)
            np.putmask(scores, out, -np.inf)
        return scores

    def pair_scores(
        self, block: Block
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the scores of a block's pairs of one identity, and of two."""
        scores = self.labeled_scores(block)
        self.drop_mirrored(block, scores)
        return split_scores(scores, block)

    def drop_mirrored(self, block: Block, scores: NDArray[np.float64]) -> None:
        """Leave out, in place, pairs that the row of another query holds too."""
        gallery = self.candidates.gallery
        is_query = np.zeros(len(self.scaled), dtype=bool)
        is_query[self.candidates.queries] = True
        mirrored = is_query[gallery]
        in_gallery = np.zeros(len(self.scaled), dtype=bool)
        in_gallery[gallery] = True
        before = np.searchsorted(gallery, block.queries)
        for row in np.flatnonzero(in_gallery[block.queries]):
            seen = scores[row, : before[row]]
            seen[mirrored[: before[row]]] = -np.inf

    @property
    def _rules(self) -> tuple[ExclusionRule, ...]:
        """The protocol's rules; other camera rules replace those with a camera."""
        rules = self.candidates.rules
        return tuple(r for r in rules if self.cameras == "protocol" or not r.of_camera)

    def _scores(
        self, block: NDArray[np.int64], others: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Compare some queries with the gallery's embeddings."""
        scores = self.scaled[block] @ others.T
        if self.metric == "euclidean":
            squares = self.norms[self.candidates.gallery] ** 2
            scores *= -2
            scores += squares
            scores += (self.norms[block] ** 2)[:, None]
            np.maximum(scores, 0, out=scores)
            np.negative(np.sqrt(scores, out=scores), out=scores)
        return np.round(scores, _DECIMALS, out=scores)

    def _leave_out(self, block: NDArray[np.int64], scores: NDArray[np.float64]) -> None:
        """Leave pairs out of the scores."""
        cameras, gallery = self.candidates.cameras, self.candidates.gallery
        for rule in self._rules:
            np.putmask(scores, rule.holds(block[:, None], gallery), -np.inf)
        if self.cameras in ("cross", "single"):
            mine = cameras[block][:, None]
            same = (mine == cameras[gallery]) & (mine != UNKNOWN)
            out = same if self.cameras == "cross" else ~same
            np.putmask(scores, out, -np.inf)
        if self.protocol.exclude_duplicates:
            for place, query in enumerate(block):
                # Far more than rounding allows, so that few are compared one by one.
                top = 1 - 1e-9
                if self.metric == "euclidean":
                    top = -1e-5 * float(self.norms[query])
                near = np.flatnonzero(scores[place] >= top)
                same = are_duplicates(self.raw, int(query), gallery[near])
                scores[place, near[same]] = -np.inf


def compare(
    embeddings: NDArray[np.floating],
    candidates: Candidates,
    protocol: Protocol,
    metric: str = "cosine",
    cameras: CameraRule = "protocol",
    block_bytes: int = BLOCK_BYTES,
) -> Comparisons:
    """Make embeddings ready to be compared."""
    if cameras not in get_args(CameraRule):
        raise DataError(
            f"unknown camera rule {cameras!r}; use one of "
            f"{', '.join(get_args(CameraRule))}."
        )
    if cameras in ("cross", "single") and (candidates.cameras == UNKNOWN).all():
        raise DataError(
            f"the camera rule '{cameras}' needs cameras, and no image has one; make "
            "the run with a camera field."
        )
    scaled = np.array(embeddings, dtype=np.float64)
    norms = np.linalg.norm(scaled, axis=1)
    if metric == "cosine":
        # Images that could not be read have zeros, and take no part.
        scaled /= np.where(norms == 0, 1.0, norms)[:, None]
    return Comparisons(
        raw=np.asarray(embeddings),
        scaled=scaled,
        norms=norms,
        candidates=candidates,
        protocol=protocol,
        metric=metric,
        cameras=cameras,
        block_bytes=block_bytes,
    )


def split_scores(
    scores: NDArray[np.float64], block: Block
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Split scores into genuine and impostor ones."""
    genuine = scores[block.row, block.column]
    scores[block.row, block.column] = -np.inf
    return genuine[genuine > -np.inf], scores[scores > -np.inf]
