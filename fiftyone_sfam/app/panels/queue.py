"""The queue of pairs to work through, handed from one panel to another.

Panels know nothing of each other's state. What the audit panel wants looked at is kept
in FiftyOne's execution store, one queue per dataset, run and user, where the panel of
pairs finds it when it is opened or when the view changes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import fiftyone.operators as foo
from fiftyone.operators import ExecutionStore

from fiftyone_sfam.runs import Run

STORE = "fiftyone_sfam/queue"
"""Name of the execution store."""

MAX_PAIRS = 20_000
"""Most pairs of a queue: one document of the store ends at 16 MB."""

_SECONDS_KEPT = 7 * 24 * 3600


@dataclass(frozen=True)
class Queue:
    """Pairs in the order in which they are to be looked at.

    Attributes
    ----------
    title : str
        What they have in common.
    pairs : tuple of int
        Indices into the run's pairs.
    created : float
        When it was filled, in seconds since the epoch: a later one is a newer one.
    """

    title: str
    pairs: tuple[int, ...]
    created: float


def put_queue(
    ctx: foo.ExecutionContext, run: Run, pairs: Iterable[int], title: str
) -> Queue:
    """Fill the queue of a run, in place of what it held.

    Parameters
    ----------
    ctx : fiftyone.operators.ExecutionContext
        Whose queue it is, where FiftyOne knows its users.
    run : Run
        The run.
    pairs : iterable of int
        Indices into its pairs; those after the first :data:`MAX_PAIRS` are left out.
    title : str
        What they have in common.

    Returns
    -------
    Queue
        The queue as it is stored.
    """
    chosen = tuple(int(pair) for pair in pairs)[:MAX_PAIRS]
    queue = Queue(title, chosen, time.time())
    _store(ctx).set(
        _key(ctx, run),
        {"title": title, "pairs": list(chosen), "created": queue.created},
        ttl=_SECONDS_KEPT,
    )
    return queue


def get_queue(ctx: foo.ExecutionContext, run: Run) -> Queue | None:
    """Read the queue of a run.

    Parameters
    ----------
    ctx : fiftyone.operators.ExecutionContext
        Whose queue it is.
    run : Run
        The run.

    Returns
    -------
    Queue or None
        None if it was never filled, or long ago.
    """
    stored = _store(ctx).get(_key(ctx, run))
    if stored is None:
        return None
    count = len(run.pairs)
    pairs = tuple(int(pair) for pair in stored["pairs"] if 0 <= int(pair) < count)
    return Queue(str(stored["title"]), pairs, float(stored["created"]))


def _store(ctx: foo.ExecutionContext) -> ExecutionStore:
    return ExecutionStore.create(STORE, ctx.dataset._doc.id)


def _key(ctx: foo.ExecutionContext, run: Run) -> str:
    """Name the queue; a run that takes another's place starts without one."""
    return f"{run.config.uid}/{ctx.user_id or 'anyone'}"
