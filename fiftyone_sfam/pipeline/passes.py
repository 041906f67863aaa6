"""The two passes of a run, whoever does the work: what is left, and the sum of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.attribution.map_share import median_share
from fiftyone_sfam.data.images import Skipped
from fiftyone_sfam.data.items import Items
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.pipeline.engines.local import Engine, Work
from fiftyone_sfam.pipeline.shards import (
    Embedded,
    embedding_name,
    is_embedding,
    read_embedded,
    read_reasons,
    store_embedded,
)
from fiftyone_sfam.pipeline.streaming import COMPUTED, MapTask
from fiftyone_sfam.progress import Progress
from fiftyone_sfam.retrieval.embeddings import MISMATCH, Embeddings
from fiftyone_sfam.retrieval.pairs import Pairs
from fiftyone_sfam.runs.blobs import Arrays, BlobStore
from fiftyone_sfam.runs.plan import Plan
from fiftyone_sfam.runs.run_table import shard_name

# Recomputed embeddings after which it is decided whether they are the stored ones.
_ENOUGH = 16
# Blob that says so: what is gone on with need not be judged again.
_JUDGED = "judged"
# Blob with the digest of the pairs that are explained.
_PLANNED = "planned"


def embed_all(
    engine: Engine, work: Work, store: BlobStore, progress: Progress | None
) -> Embeddings:
    """Compute the embeddings of all items; those that are stored already are read."""
    size, total = work.batch_size, len(work.items)
    numbers = range(-(-total // size))
    names = store.names()
    stored = [number for number in numbers if embedding_name(number) in names]
    found = _Blocks(work)
    for number in stored:
        found.add(read_embedded(store, number))
        _report(progress, found.done, total, "embedding")
    left = sorted(set(numbers) - set(stored))
    for block in engine.embed(left):
        found.add(block)
        _report(progress, found.done, total, "embedding")
    return found.embeddings()


def keep_embeddings(work: Work, store: BlobStore, given: Embeddings) -> None:
    """Keep given embeddings with the run, in the same blocks as computed ones."""
    size, names = work.batch_size, store.names()
    for number, start in enumerate(range(0, len(work.items), size)):
        if embedding_name(number) not in names:
            block = Embedded(number, given.vectors[start : start + size], {})
            store_embedded(store, work.fingerprint, block)


def keep_plan(store: BlobStore, pairs: Pairs, fingerprint: str) -> None:
    """Keep which pairs the shards are made for; delete shards made for others.

    Which shard holds what follows from the pairs and the settings. An index may propose
    other neighbors when an interrupted run is gone on with, and the maps that it has
    stored are then those of other pairs.
    """
    digest = hashlib.sha256()
    for column in (pairs.query, pairs.gallery):
        digest.update(column.tobytes())
    own = np.frombuffer(digest.digest(), dtype=np.uint8)
    names = store.names()
    if _PLANNED in names and np.array_equal(store.get(_PLANNED)["digest"], own):
        return
    # Last of all the digest: until then an interruption leads here again.
    for name in sorted(names):
        if not is_embedding(name) and name != _PLANNED:
            store.delete_one(name)
    store.delete_one(_PLANNED)
    store.put(_PLANNED, {"digest": own}, fingerprint=fingerprint)


def explain_all(
    engine: Engine,
    work: Work,
    store: BlobStore,
    task: MapTask,
    progress: Progress | None,
) -> tuple[str, tuple[int, int, int], float | None]:
    """Compute the maps of all sides; shards that are stored already are left alone."""
    plan, names = task.plan, store.names()
    shards = range(plan.num_shards)
    todo = [number for number in shards if shard_name(number) not in names]
    done = len(plan.order) - sum(len(plan.images_of(number)) for number in todo)
    judge = None if _JUDGED in names else _Judge(work, task, shards)

    def hear(number: int, gaps: tuple[float, ...]) -> None:
        nonlocal judge
        if judge is not None and judge.hear(number, gaps):
            store.put(_JUDGED, {}, fingerprint=work.fingerprint)
            judge = None

    # Whoever was killed before the decision has left what it is decided by.
    for number in sorted(set(shards) - set(todo)):
        if judge is None:
            break
        hear(number, _gaps_of(store.get(shard_name(number))))
    for one in engine.explain(task, todo):
        hear(one.number, one.gaps)
        done += len(plan.images_of(one.number))
        _report(progress, done, len(plan.order), "explaining")
    reasons: dict[int, str] = {}
    for number in shards:
        facts = store.get(shard_name(number))
        channels, height, width = (int(v) for v in facts["map_shape"])
        if channels:
            layer = facts["layer"].tobytes().decode()
            share = median_share(facts["score"], facts["remainder"])
            return layer, (channels, height, width), share
        reasons |= read_reasons(facts)
    raise DataError(
        f"none of the {len(plan.order)} images could be explained; the first reason: "
        f"{reasons[min(reasons)]}"
    )


def collect(
    store: BlobStore,
    plan: Plan,
    pairs: Pairs,
    items: Items,
    skipped: tuple[Skipped, ...],
) -> tuple[list[Skipped], NDArray[np.float32]]:
    """Gather what the shards say of remainders and of images left out."""
    remainders = np.full(2 * len(pairs), np.nan, dtype=np.float32)
    left_out = {one.index: one for one in skipped}
    for number in range(plan.num_shards):
        shard = store.get(shard_name(number))
        remainders[shard["sides"]] = shard["remainder"]
        for place, reason in read_reasons(shard).items():
            left_out[place] = _skipped(items, place, reason)
    return [left_out[place] for place in sorted(left_out)], remainders.reshape(-1, 2)


class _Blocks:
    """Puts blocks of embeddings together as they come."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._vectors: NDArray[np.float32] | None = None
        self._reasons: dict[int, str] = {}
        self.done = 0

    def add(self, block: Embedded) -> None:
        """Enter a block; one without any readable image has no width."""
        count, width = block.vectors.shape
        if width:
            if self._vectors is None:
                shape = (len(self._work.items), width)
                self._vectors = np.zeros(shape, dtype=np.float32)
            start = block.number * self._work.batch_size
            self._vectors[start : start + count] = block.vectors
        self._reasons |= block.reasons
        self.done += count

    def embeddings(self) -> Embeddings:
        """Return what was entered."""
        items = self._work.items
        if self._vectors is None:
            reason = self._reasons[min(self._reasons)]
            raise DataError(
                f"none of the {len(items)} images could be embedded; the first "
                f"reason: {reason}"
            )
        usable = np.ones(len(items), dtype=bool)
        usable[list(self._reasons)] = False
        skipped = tuple(
            _skipped(items, index, self._reasons[index])
            for index in sorted(self._reasons)
        )
        return Embeddings(self._vectors, usable, skipped)


class _Judge:
    """Decides by the first images whether the embeddings are the model's.

    The first ones in the order of the shards, whoever is done first: so every engine
    decides alike.
    """

    def __init__(self, work: Work, task: MapTask, todo: Sequence[int]) -> None:
        self._model = work.model.name
        self._own = task.config.embeddings == COMPUTED
        self._waiting = list(reversed(todo))
        self._heard: dict[int, tuple[float, ...]] = {}
        self._gaps: list[float] = []

    def hear(self, number: int, gaps: tuple[float, ...]) -> bool:
        """Take in one shard; return whether it is decided now.

        Raises if half of enough embeddings are not the model's.
        """
        self._heard[number] = gaps
        while self._waiting and self._waiting[-1] in self._heard:
            self._gaps += self._heard.pop(self._waiting.pop())
            if len(self._gaps) >= _ENOUGH or not self._waiting:
                self._check(np.array(self._gaps))
                return True
        return False

    def _check(self, gaps: NDArray[np.float64]) -> None:
        """Refuse embeddings of which half are not the model's: they are another's."""
        off = ~(gaps <= MISMATCH)
        if len(off) == 0 or off.mean() < 0.5:
            return
        what = (
            "the model gives other embeddings on a second pass; it is not deterministic"
            if self._own
            else "they were made by another model, other weights or another "
            "preprocessing; compute them again, or name the right model"
        )
        raise DataError(
            f"the stored embeddings do not match model '{self._model}': "
            f"{int(off.sum())} of the first {len(off)} recomputed ones differ "
            f"(median 1 - similarity {np.median(gaps):.3g}, accepted "
            f"{MISMATCH:g}); {what}."
        )


def _gaps_of(shard: Arrays) -> tuple[float, ...]:
    """Return how far a shard's embeddings were off; old shards do not say."""
    return tuple(shard["gaps"].tolist()) if "gaps" in shard else ()


def _skipped(items: Items, index: int, reason: str) -> Skipped:
    """Record an image that could not be used."""
    return Skipped(index, items.ids[index], items.filepaths[index], reason)


def _report(progress: Progress | None, done: int, total: int, phase: str) -> None:
    if progress is not None:
        progress(done, total, phase)
