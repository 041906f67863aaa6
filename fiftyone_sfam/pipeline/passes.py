"""The two passes of a run: embed the images, then explain the pairs.

Each pass skips the blobs that an interrupted run has stored, and gathers the results of
all of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.render import shared_range
from fiftyone_sfam.data.images import Skipped
from fiftyone_sfam.data.items import Items
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.pipeline.contributing import agreement_of
from fiftyone_sfam.pipeline.engines import Engine, Work
from fiftyone_sfam.pipeline.shards import (
    Embedded,
    Explained,
    embedding_name,
    is_embedding,
    read_embedded,
    read_explained,
    store_embedded,
)
from fiftyone_sfam.pipeline.streaming import COMPUTED, MapTask
from fiftyone_sfam.progress import Progress
from fiftyone_sfam.retrieval.embeddings import Embeddings
from fiftyone_sfam.retrieval.indexed import IndexSearch, find_proposed_neighbors
from fiftyone_sfam.retrieval.matches import possible_matches
from fiftyone_sfam.retrieval.pairs import Pairs, count_outcomes, make_pairs
from fiftyone_sfam.retrieval.search import (
    UNKNOWN,
    Candidates,
    find_neighbors,
    select_candidates,
)
from fiftyone_sfam.runs.blobs import BlobStore
from fiftyone_sfam.runs.run_table import shard_name

# Number of recomputed embeddings that show whether the stored ones are the model's.
_ENOUGH = 16
# Blob that is stored once they are known to be.
_JUDGED = "judged"
# Blob with the digest of the pairs that are explained.
_PLANNED = "planned"
CHOSEN = "chosen"
"""Blob with what was chosen by measurement before the run."""


# --------------------------------------------------------------------------------------
# Embeddings
# --------------------------------------------------------------------------------------


def embed_all(engine: Engine, work: Work, progress: Progress | None) -> Embeddings:
    """Compute the embeddings of all items; those that are stored already are read."""
    store, total = work.store, len(work.items)
    numbers = range(-(-total // work.batch_size))
    names = store.names()
    stored = [number for number in numbers if embedding_name(number) in names]
    blocks = _Blocks(work.items, work.batch_size)
    for number in stored:
        blocks.add(read_embedded(store, number))
        _report(progress, blocks.done, total, "embedding")
    for block in engine.embed(sorted(set(numbers) - set(stored))):
        blocks.add(block)
        _report(progress, blocks.done, total, "embedding")
    return blocks.embeddings()


def keep_embeddings(work: Work, given: Embeddings) -> None:
    """Store given embeddings with the run, in the same blocks as computed ones."""
    size, names = work.batch_size, work.store.names()
    for number, start in enumerate(range(0, len(work.items), size)):
        if embedding_name(number) not in names:
            block = Embedded(number, given.vectors[start : start + size], {})
            store_embedded(work.store, block)


class _Blocks:
    """Gathers blocks of embeddings in any order."""

    def __init__(self, items: Items, size: int) -> None:
        self._items, self._size = items, size
        self._vectors: NDArray[np.float32] | None = None
        self._reasons: dict[int, str] = {}
        self.done = 0

    def add(self, block: Embedded) -> None:
        """Add a block; one without any readable image has width 0."""
        count, width = block.vectors.shape
        if width:
            if self._vectors is None:
                self._vectors = np.zeros((len(self._items), width), dtype=np.float32)
            start = block.number * self._size
            self._vectors[start : start + count] = block.vectors
        self._reasons |= block.reasons
        self.done += count

    def embeddings(self) -> Embeddings:
        """Return the embeddings of all blocks."""
        items, reasons = self._items, self._reasons
        if self._vectors is None:
            raise DataError(
                f"none of the {len(items)} images could be embedded; the first "
                f"reason: {reasons[min(reasons)]}"
            )
        usable = np.ones(len(items), dtype=bool)
        usable[list(reasons)] = False
        return Embeddings(self._vectors, usable, _skipped(items, reasons))


# --------------------------------------------------------------------------------------
# Pairs
# --------------------------------------------------------------------------------------


def find_pairs(
    items: Items,
    embeddings: Embeddings,
    protocol: Protocol,
    k: int,
    metric: str,
    index: IndexSearch | None,
) -> tuple[Pairs, Candidates, dict[str, int]]:
    """Find the pairs to explain, among the whole gallery or what an index proposes.

    The last value counts the queries by the outcome of their first neighbor.
    """
    candidates = _usable(candidates_of(items, protocol), embeddings)
    if index is None:
        neighbors = find_neighbors(embeddings.vectors, candidates, protocol, k, metric)
        has_match = neighbors.true_index != UNKNOWN
    else:
        has_match = possible_matches(candidates, protocol, embeddings.vectors)
        neighbors = find_proposed_neighbors(
            embeddings.vectors, candidates, protocol, k, index, metric
        )
    pairs = make_pairs(neighbors, candidates)
    if len(pairs) == 0:
        raise DataError(
            "the protocol leaves no pair to compare: every gallery image is left out "
            "for every query; widen the view or relax the protocol."
        )
    possible = np.zeros(len(items), dtype=bool)
    possible[candidates.queries[has_match]] = True
    labeled = np.zeros(len(items), dtype=bool)
    labeled[candidates.queries] = candidates.identities[candidates.queries] != UNKNOWN
    return pairs, candidates, count_outcomes(pairs, possible, labeled)


def candidates_of(items: Items, protocol: Protocol) -> Candidates:
    """Select queries and gallery among items by a protocol."""
    return select_candidates(
        protocol, items.identities, items.cameras, items.splits, items.terms
    )


def _usable(candidates: Candidates, embeddings: Embeddings) -> Candidates:
    """Leave out the images without an embedding."""
    usable = embeddings.usable
    queries = candidates.queries[usable[candidates.queries]]
    gallery = candidates.gallery[usable[candidates.gallery]]
    for name, left in (("queries", queries), ("gallery images", gallery)):
        if len(left) == 0:
            raise DataError(
                f"none of the {name} has an embedding; the first reason: "
                f"{embeddings.skipped[0].reason}"
            )
    return replace(candidates, queries=queries, gallery=gallery)


def keep_plan(store: BlobStore, pairs: Pairs) -> None:
    """Store a digest of the pairs of the shards; delete the shards of other pairs.

    The pairs and the settings determine the content of each shard. When an interrupted
    run is resumed, an index may propose other neighbors than before.
    """
    digest = hashlib.sha256()
    for column in (pairs.query, pairs.gallery):
        digest.update(column.tobytes())
    current = np.frombuffer(digest.digest(), dtype=np.uint8)
    names = store.names()
    if _PLANNED in names and np.array_equal(store.get(_PLANNED)["digest"], current):
        return
    # The digest last: after an interruption before it, this is repeated.
    for name in sorted(names):
        if not is_embedding(name) and name not in (_PLANNED, CHOSEN):
            store.delete_one(name)
    store.delete_one(_PLANNED)
    store.put(_PLANNED, {"digest": current})


# --------------------------------------------------------------------------------------
# Maps
# --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunMaps:
    """The summary of all shards of a run with P pairs."""

    layer: str
    map_shape: tuple[int, int, int]
    share_on_map: float | None  # of the first shard that has maps
    heatmap_range: float  # value that heatmaps show at full strength
    remainders: NDArray[np.float32]  # (P, 2), NaN for sides without a map
    skipped: tuple[Skipped, ...]  # images without embedding or without maps
    contribution_dims: int | None  # directions of their basis; None without one
    contribution_bytes: int | None  # per image; None if the run keeps none
    contribution_agreement: tuple[float, float] | None  # least and median correlation


def explain_all(
    engine: Engine,
    work: Work,
    task: MapTask,
    skipped: tuple[Skipped, ...],
    progress: Progress | None,
) -> RunMaps:
    """Compute the maps of all sides; of stored shards only the summaries are read."""
    plan, names = task.plan, work.store.names()
    numbers = range(plan.num_shards)
    stored = [number for number in numbers if shard_name(number) in names]
    left = [number for number in numbers if shard_name(number) not in names]
    shards = _Shards(task)
    check = None if _JUDGED in names else _ModelCheck(work.model.name, task)
    done = sum(len(plan.images_of(number)) for number in stored)

    def add(shard: Explained) -> None:
        nonlocal check
        shards.add(shard)
        if check is not None and check.add(shard):
            work.store.put(_JUDGED, {})
            check = None

    kind = task.settings.heatmap_kind
    for shard in read_explained(work.store, task.pairs, kind, stored):
        add(shard)
    for shard in engine.explain(task, left):
        add(shard)
        done += len(plan.images_of(shard.number))
        _report(progress, done, len(plan.order), "explaining")
    return shards.maps(work.items, skipped)


class _Shards:
    """Gathers the summaries of shards in any order."""

    def __init__(self, task: MapTask) -> None:
        self._plan, self._basis = task.plan, task.basis
        self._remainders = np.full(2 * len(task.pairs), np.nan, dtype=np.float32)
        self._largest: list[NDArray[np.float32]] = []
        self._reasons: dict[int, str] = {}
        self._first: Explained | None = None
        self._bytes = np.zeros(2, dtype=np.int64)  # their sum, and number of images
        self._agreement: list[NDArray[np.float32]] = []

    def add(self, shard: Explained) -> None:
        """Add a shard."""
        sides, _ = self._plan.sides_of(shard.number)
        self._remainders[sides] = shard.remainders
        self._largest.append(shard.largest)
        self._reasons |= shard.reasons
        sizes = shard.contribution_bytes
        self._bytes += sizes.sum(), np.count_nonzero(sizes)
        self._agreement.append(shard.agreement)
        if shard.map_shape[0] and (
            self._first is None or shard.number < self._first.number
        ):
            self._first = shard

    def maps(self, items: Items, skipped: tuple[Skipped, ...]) -> RunMaps:
        """Return the summary of all shards; raise if none has maps."""
        first = self._first
        if first is None:
            raise DataError(
                f"none of the {len(self._plan.order)} images could be explained; the "
                f"first reason: {self._reasons[min(self._reasons)]}"
            )
        reasons = {image.index: image.reason for image in skipped} | self._reasons
        return RunMaps(
            first.layer,
            first.map_shape,
            first.share,
            shared_range(np.concatenate(self._largest)),
            self._remainders.reshape(-1, 2),
            _skipped(items, reasons),
            None if self._basis is None else len(self._basis),
            round(self._bytes[0] / self._bytes[1]) if self._bytes[1] else None,
            agreement_of(self._agreement),
        )


class _ModelCheck:
    """Checks on the first images that the embeddings in use are the model's.

    The first images in the order of the shards, whichever shard is done first, so that
    every engine gives the same answer.
    """

    def __init__(self, model: str, task: MapTask) -> None:
        self._model = model
        self._tolerance = task.tolerance
        self._computed = task.settings.embeddings == COMPUTED
        self._expected = list(range(task.plan.num_shards - 1, -1, -1))
        self._waiting: dict[int, tuple[float, ...]] = {}
        self._gaps: list[float] = []

    def add(self, shard: Explained) -> bool:
        """Add a shard; return whether the check has passed, raise if it has failed."""
        self._waiting[shard.number] = shard.gaps
        while self._expected and self._expected[-1] in self._waiting:
            self._gaps += self._waiting.pop(self._expected.pop())
            if len(self._gaps) >= _ENOUGH or not self._expected:
                self._check(np.array(self._gaps))
                return True
        return False

    def _check(self, gaps: NDArray[np.float64]) -> None:
        """Raise if half of the embeddings are not the model's."""
        differ = ~(gaps <= self._tolerance.gap)
        if len(differ) == 0 or differ.mean() < 0.5:
            return
        cause = (
            "the model gives other embeddings on a second pass; it is not deterministic"
            if self._computed
            else "they were made by another model, other weights or another "
            "preprocessing; compute them again, or name the right model"
        )
        raise DataError(
            f"the stored embeddings do not match model '{self._model}': "
            f"{int(differ.sum())} of the first {len(differ)} recomputed ones differ "
            f"(median 1 - similarity {np.median(gaps):.3g}, accepted "
            f"{self._tolerance}); {cause}."
        )


def _skipped(items: Items, reasons: dict[int, str]) -> tuple[Skipped, ...]:
    """List the images that could not be used."""
    return tuple(
        Skipped(index, items.ids[index], items.filepaths[index], reasons[index])
        for index in sorted(reasons)
    )


def _report(progress: Progress | None, done: int, total: int, phase: str) -> None:
    if progress is not None:
        progress(done, total, phase)
