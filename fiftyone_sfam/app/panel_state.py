"""State that the panels share: the shown run, and queues of pairs."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from bson import ObjectId
from fiftyone.operators import ExecutionStore

from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run, list_runs, load_run


def current_run(dataset: fo.Dataset, key: str | None) -> Run | None:
    """Load a run, or reuse a loaded one; None if there is no such run."""
    if not key or key not in list_runs(dataset):
        return None
    run = _loaded(dataset.name, key, load_run(dataset, key).config.uid)
    # The App's server makes a new dataset object for every event; only that object
    # knows the results that were stored since the run was loaded.
    run.dataset = dataset
    return run


def choose_run(ctx: foo.ExecutionContext) -> None:
    """Keep the run of the panel's state if it exists; otherwise choose the first."""
    keys = list_runs(ctx.dataset)
    key = ctx.panel.get_state("run")
    ctx.panel.set_state("run", key if key in keys else next(iter(keys), None))


@lru_cache(maxsize=4)
def _loaded(dataset_name: str, key: str, uid: str) -> Run:
    # The uid differs between runs that had the same key.
    return load_run(fo.load_dataset(dataset_name), key)


STORE = "fiftyone_sfam/queue"
"""Name of the execution store, one per dataset, for all its runs."""

KEPT_SECONDS = 7 * 24 * 3600
"""How long a queue is kept."""


@dataclass(frozen=True)
class Queue:
    """Pairs of a run, in the order of their review."""

    title: str  # a few words about the pairs
    pairs: tuple[int, ...]  # indices into the columns of the run's pairs
    created: float


def put_queue(
    ctx: foo.ExecutionContext, run: Run, pairs: Iterable[int], title: str
) -> Queue:
    """Give the panel of pairs a queue, which replaces the previous one."""
    chosen = tuple(dict.fromkeys(int(pair) for pair in pairs))
    for pair in chosen:
        if not 0 <= pair < len(run.pairs):
            raise DataError(
                f"the run '{run.key}' has {counted(len(run.pairs), 'pair')}, numbered "
                f"from 0; there is no pair {pair} to put into a queue."
            )
    queue = Queue(title, chosen, time.time())
    store, key = ctx.store(STORE), _key(ctx, run)
    before = store.get(key)
    # The pairs are stored first, so that no head without pairs is ever read.
    store.set(_pairs_key(key, queue.created), _packed(chosen), ttl=KEPT_SECONDS)
    head = {"title": title, "created": queue.created}
    store.set(key, head, ttl=KEPT_SECONDS)
    if before is not None:
        store.delete(_pairs_key(key, before["created"]))
    return queue


def get_queue(ctx: foo.ExecutionContext, run: Run) -> Queue | None:
    """Return the queue of a run; None if there is none."""
    key = _key(ctx, run)
    head = ctx.store(STORE).get(key)
    if head is None:
        return None
    created = float(head["created"])
    pairs = _read(str(run.dataset._doc.id), _pairs_key(key, created))
    return None if pairs is None else Queue(str(head["title"]), pairs, created)


def _key(ctx: foo.ExecutionContext, run: Run) -> str:
    return f"{run.config.uid}/{ctx.user_id or 'anyone'}"


def _pairs_key(key: str, created: float) -> str:
    return f"{key}/{created!r}"


@lru_cache(maxsize=4)
def _read(dataset_id: str, key: str) -> tuple[int, ...] | None:
    # The key contains the time of the queue, so its value never changes.
    text = ExecutionStore.create(STORE, ObjectId(dataset_id)).get(key)
    return None if text is None else _unpacked(text)


def _packed(pairs: tuple[int, ...]) -> str:
    """Encode pairs as text, which the database stores as one value."""
    return base64.b64encode(np.asarray(pairs, dtype="<i4").tobytes()).decode()


def _unpacked(text: str) -> tuple[int, ...]:
    """Decode pairs from :func:`_packed`."""
    return tuple(np.frombuffer(base64.b64decode(text), dtype="<i4").tolist())
