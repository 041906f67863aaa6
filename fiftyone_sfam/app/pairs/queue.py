"""The queue of the panel of pairs: which pairs, in which order, and where one is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone.core.collections import SampleCollection
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.search import load_suspects
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.selection import (
    ORDERS,
    RUN,
    SUSPECTS,
    PairFilter,
    order_pairs,
    select_pairs,
)

FIRST, NEAREST, ALL = "1", "k", "all"
RANKS = {
    FIRST: "rank 1",
    NEAREST: "the k nearest",
    ALL: "all, and true matches beyond k",
}
"""Ranks that can be chosen, and what they are called."""

TO_REVIEW, DONE = "open", "done"
REVIEWED = {TO_REVIEW: "not reviewed yet", DONE: "reviewed"}
"""What can be asked of a review, and what it is called."""


@dataclass(frozen=True)
class QueueSpec:
    """What is in a queue, and in which order."""

    outcome: str | None = None  # one of :data:`fiftyone_sfam.retrieval.pairs.OUTCOMES`
    ranks: str = FIRST  # one of :data:`RANKS`
    min_similarity: float | None = None  # range of the similarity
    max_similarity: float | None = None  # range of the similarity
    query_camera: str | None = None  # cameras
    neighbor_camera: str | None = None  # cameras
    suspect: str | None = None  # kind of finding that the pairs take part in
    reviewed: str | None = None  # one of :data:`REVIEWED`
    order: str = RUN  # one of :data:`fiftyone_sfam.runs.selection.ORDERS`

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QueueSpec:
        """Read what came from the App; what makes no sense there is left open."""
        chosen = {
            field.name: values[field.name]
            for field in fields(cls)
            if field.name in values and _makes_sense(field.name, values[field.name])
        }
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class InView:
    """The samples and labels of a view, told apart from others by which object it is."""

    ids: frozenset[str]  # ids of its samples, or of its patches
    parents: frozenset[str] = frozenset()  # ids of the samples that its patches are of


def build_queue(
    run: Run,
    spec: QueueSpec,
    reviewed: frozenset[int] = frozenset(),
    view: InView | None = None,
) -> NDArray[np.int64]:
    """List the pairs of a queue."""
    # Verdicts change the queue only where it asks for them.
    return _built(run, spec, reviewed if spec.reviewed else frozenset(), view)


def place_of(queue: NDArray[np.int64], pair: int) -> int | None:
    """Return where a pair is in a queue, from 0; None if it is not."""
    found = np.flatnonzero(queue == pair)
    return int(found[0]) if len(found) else None


def place_of_query(run: Run, queue: NDArray[np.int64], item: int) -> int | None:
    """Return where the first pair of a query is in a queue; None if there is none."""
    found = np.flatnonzero(run.pairs.query[queue] == item)
    return int(found[0]) if len(found) else None


def next_query(run: Run, queue: NDArray[np.int64], place: int, step: int) -> int:
    """Return the place of the next pair, or the previous, that is of another query."""
    queries = run.pairs.query[queue]
    found = place
    while 0 <= found < len(queue) and queries[found] == queries[place]:
        found += step
    return found if 0 <= found < len(queue) else place


def queries_of(run: Run) -> NDArray[np.int64]:
    """Return the items that are queries, in the order of the run."""
    return _queries(run)


def cameras_of(run: Run) -> tuple[str, ...]:
    """Return the cameras of a run's items, sorted."""
    return tuple(sorted({one for one in run.items.cameras if one is not None}))


def suspect_kinds(run: Run) -> tuple[str, ...]:
    """Return the kinds of findings that have pairs; none where nothing was sought."""
    return tuple(
        kind
        for kind in dict.fromkeys(kind for kind, _ in _suspects(run))
        if any(pairs for one, pairs in _suspects(run) if one == kind)
    )


def ids_in_view(view: SampleCollection) -> InView | None:
    """Return what a view has; None if it is the whole dataset."""
    if not isinstance(view, fo.DatasetView) or not view._stages:
        return None
    stages = json.dumps(view._serialize(include_uuids=False), sort_keys=True)
    return _in_view(view._root_dataset.name, stages, _last_change(view))


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def _built(
    run: Run, spec: QueueSpec, reviewed: frozenset[int], view: InView | None
) -> NDArray[np.int64]:
    conditions = PairFilter(
        spec.outcome,
        {FIRST: 1, NEAREST: run.config.k, ALL: None}[spec.ranks],
        spec.min_similarity,
        spec.max_similarity,
        spec.query_camera,
        spec.neighbor_camera,
    )
    found = select_pairs(run.pairs, conditions, run.items.cameras)
    if spec.suspect is not None:
        wanted = [pairs for kind, pairs in _suspects(run) if kind == spec.suspect]
        found = found[np.isin(found, [pair for pairs in wanted for pair in pairs])]
    if spec.reviewed is not None:
        done = np.isin(found, list(reviewed))
        found = found[done if spec.reviewed == DONE else ~done]
    if view is not None:
        found = found[_seen(run, view)[run.pairs.query[found]]]
    suspects = [
        pair
        for _, pairs in (_suspects(run) if spec.order == SUSPECTS else ())
        for pair in pairs
    ]
    queue = order_pairs(run.pairs, found, spec.order, suspects)
    queue.setflags(write=False)
    return queue


def _seen(run: Run, view: InView) -> NDArray[np.bool_]:
    """Tell which items a view has."""
    items = run.items
    if items.label_ids is None:
        return np.isin(items.sample_ids, list(view.ids | view.parents))
    seen = np.isin(items.label_ids, list(view.ids))
    return seen | np.isin(items.sample_ids, list(view.ids))


@lru_cache(maxsize=4)
def _queries(run: Run) -> NDArray[np.int64]:
    return np.unique(run.pairs.query).astype(np.int64)


def _suspects(run: Run) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return kind and pairs of the findings, the most suspect first."""
    key = f"{run.key}_suspects"
    if key not in run.dataset.list_runs():
        return ()
    stored = run.dataset.get_run_info(key)
    return _read_suspects(run, str(stored.timestamp))


@lru_cache(maxsize=4)
def _read_suspects(run: Run, _stamp: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    # They are sought again now and then; the time tells one result from the next.
    found = load_suspects(run)
    if found is None:
        return ()
    return tuple((one.kind, one.pairs) for one in found.findings)


def _last_change(view: fo.DatasetView) -> str:
    """Return when the samples of a view's dataset last changed."""
    # By the index that every dataset has on this field.
    latest = view._root_dataset.sort_by("last_modified_at", reverse=True).limit(1)
    return str(latest.values("last_modified_at"))


@lru_cache(maxsize=4)
def _in_view(dataset_name: str, stages: str, _changed: str) -> InView:
    dataset = fo.load_dataset(dataset_name)
    view = fo.DatasetView._build(dataset, json.loads(stages))
    if not view.has_field("sample_id"):
        return InView(frozenset(view.values("id")))
    ids, parents = view.values(["id", "sample_id"])
    return InView(frozenset(ids), frozenset(str(one) for one in parents if one))


_TEXTS = {
    "outcome": OUTCOMES,
    "ranks": tuple(RANKS),
    "reviewed": tuple(REVIEWED),
    "order": tuple(ORDERS),
}


def _makes_sense(name: str, value: Any) -> bool:
    """Tell whether a value can be one of a queue's conditions."""
    if name in ("ranks", "order"):
        return value in _TEXTS[name]
    if value is None:
        return True
    if name in ("min_similarity", "max_similarity"):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return isinstance(value, str) and value in _TEXTS.get(name, (value,))
