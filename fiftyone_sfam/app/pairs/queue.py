"""The queue of the component: which pairs are in it, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from bson import json_util
from fiftyone.core.collections import SampleCollection
from fiftyone.core.patches import EvaluationPatchesView
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from fiftyone_sfam.app.forms.parameters import Parameters, Text
from fiftyone_sfam.app.pairs.encode import encode
from fiftyone_sfam.app.pairs.plain import label
from fiftyone_sfam.app.pairs.run_question import RunQuestion
from fiftyone_sfam.audit.decisions import DECISIONS, load_decisions, stored_threshold
from fiftyone_sfam.audit.suspects.search import load_suspects
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import get_verdicts
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
"""Ranks that can be chosen, and their labels."""

LISTED = {FIRST: "all pairs of the list"}
"""The choice in a run of a list without ranks, where it leaves no condition."""

TO_REVIEW, DONE = "open", "done"
REVIEWED = {TO_REVIEW: "not reviewed yet", DONE: "reviewed"}
"""States of review that can be chosen, and their labels; a verdict can be too."""

ANY_OUTCOME = (*OUTCOMES, *DECISIONS)
"""Outcomes that can be chosen: by the labels, or by labels and threshold."""

MAX_QUEUE = 500_000
"""Most pairs of a queue that are sent."""


def _one_of(options: Sequence[str]) -> AfterValidator:
    """Refuse any text but the options."""

    def check(text: str) -> str:
        if text not in options:
            raise ValueError
        return text

    return AfterValidator(check)


def _listed(default: str | None, options: Sequence[str]) -> Any:
    return Field(default, description=f"one of {', '.join(options)}")


def _number() -> Any:
    return Field(None, allow_inf_nan=False, description="a finite number")


class Spec(Parameters):
    """Which pairs are in a queue, and in which order; None leaves a condition open."""

    outcome: Annotated[str, _one_of(ANY_OUTCOME)] | None = _listed(None, ANY_OUTCOME)
    ranks: Annotated[str, _one_of(list(RANKS))] = _listed(FIRST, list(RANKS))
    min_similarity: float | None = _number()  # inclusive
    max_similarity: float | None = _number()  # inclusive
    query_camera: Text | None = None  # as :func:`label` cuts it, like other labels
    neighbor_camera: Text | None = None
    identity: Text | None = None  # of the query
    suspect: Text | None = None  # kind of finding that the pairs take part in
    reviewed: Text | None = None  # one of :data:`REVIEWED`, or the text of a verdict
    order: Annotated[str, _one_of(list(ORDERS))] = _listed(RUN, list(ORDERS))
    in_view: bool = False  # only queries of the App's view


class QueueQuestion(RunQuestion):
    """Which queue is asked for."""

    spec: dict[str, Any] = Field({}, description="the conditions of a queue")


@dataclass(frozen=True, eq=False)
class InView:
    """The samples and labels of a view, compared by object identity."""

    ids: frozenset[str]  # ids of its samples, or of its patches
    parents: frozenset[str] = frozenset()  # ids of the samples that its patches are of


def answer_queue(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """List the pairs of a queue, with the item of each query."""
    question = QueueQuestion.read(ctx.params)
    run, spec = question.load(ctx), Spec.read(question.spec)
    verdicts = {pair: given.text for pair, given in get_verdicts(run).items()}
    view = ids_in_view(ctx.view) if spec.in_view else None
    queue = build_queue(run, spec, verdicts, view)
    note = None
    if not len(queue):
        outside = view is not None and len(build_queue(run, spec, verdicts)) > 0
        note = (
            "No query of this queue is in the App's view: change the view, or do not "
            "keep the queue to it."
            if outside
            else "No pair meets these conditions: relax them."
        )
    elif len(queue) > MAX_QUEUE:
        note = (
            f"The first {MAX_QUEUE:,} of {len(queue):,} pairs are listed: choose "
            "stricter conditions to see others."
        )
        queue = queue[:MAX_QUEUE]
    return {
        "pairs": encode(queue, "i4"),
        "queries": encode(run.pairs.query[queue], "i4"),
        "reviewed": int(np.isin(queue, list(verdicts)).sum()),
        "note": note,
    }


def build_queue(
    run: Run,
    spec: Spec,
    verdicts: Mapping[int, str] | None = None,
    view: InView | None = None,
) -> NDArray[np.int64]:
    """List the pairs of a queue: an array that is not to be changed.

    ``verdicts`` are texts by pair, and ``view`` has the queries to keep, see
    :func:`ids_in_view`; whether the spec asks for them is not looked at.
    """
    marked = [
        pair
        for pair, text in (verdicts or {}).items()
        # Verdicts change the queue only where it asks for them.
        if spec.reviewed in REVIEWED or text == spec.reviewed
    ]
    threshold = stored_threshold(run) if spec.outcome in DECISIONS else None
    return _built(run, spec, frozenset(marked), view, threshold)


def suspect_kinds(run: Run) -> tuple[str, ...]:
    """Return the kinds of findings that have pairs; none where nothing was sought."""
    return tuple(dict.fromkeys(kind for kind, pairs in _suspects(run) if pairs))


def ids_in_view(view: SampleCollection) -> InView | None:
    """Return what a view has; None if it is the whole dataset."""
    if not isinstance(view, fo.DatasetView) or not view._stages:
        return None
    # Stages of similarity have ids as the database has them.
    stages = json_util.dumps(view._serialize(include_uuids=False), sort_keys=True)
    return _in_view(view._root_dataset.name, stages, _last_change(view))


@lru_cache(maxsize=8)
def _built(
    run: Run,
    spec: Spec,
    marked: frozenset[int],
    view: InView | None,
    _threshold: float | None,  # so that another one builds another queue
) -> NDArray[np.int64]:
    asked = spec.query_camera or spec.neighbor_camera
    cameras = [label(one) for one in run.items.cameras] if asked else ()
    conditions = PairFilter(
        spec.outcome if spec.outcome in OUTCOMES else None,
        {FIRST: 1, NEAREST: run.config.k, ALL: None}[spec.ranks]
        if run.ranked
        else None,
        spec.min_similarity,
        spec.max_similarity,
        label(spec.query_camera),
        label(spec.neighbor_camera),
    )
    found = select_pairs(run.pairs, conditions, cameras)
    if spec.outcome in DECISIONS:
        found = found[np.isin(found, _decided(run, str(spec.outcome)))]
    if spec.identity is not None:
        wanted = label(spec.identity)
        named = np.array([label(one) == wanted for one in run.items.identities], bool)
        found = found[named[run.pairs.query[found]]]
    if spec.suspect is not None:
        sought = [pairs for kind, pairs in _suspects(run) if kind == spec.suspect]
        found = found[np.isin(found, [pair for pairs in sought for pair in pairs])]
    if spec.reviewed is not None:
        done = np.isin(found, list(marked))
        found = found[~done if spec.reviewed == TO_REVIEW else done]
    if view is not None:
        found = found[items_in_view(run, view)[run.pairs.query[found]]]
    first = _suspects(run) if spec.order == SUSPECTS else ()
    suspects = [pair for _, pairs in first for pair in pairs]
    queue = order_pairs(run.pairs, found, spec.order, suspects)
    queue.setflags(write=False)
    return queue


def _decided(run: Run, outcome: str) -> NDArray[np.int64]:
    """Return the pairs with an outcome at the run's threshold; none without one."""
    decisions = load_decisions(run)
    return np.empty(0, np.int64) if decisions is None else decisions.pairs(outcome)


def items_in_view(run: Run, view: InView) -> NDArray[np.bool_]:
    """Tell which items of a run a view has."""
    items, ids = run.items, list(view.ids)
    if items.label_ids is None:
        return np.isin(items.sample_ids, [*ids, *view.parents])
    return np.isin(items.label_ids, ids) | np.isin(items.sample_ids, ids)


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
    return tuple((one.kind, one.pairs) for one in found.findings) if found else ()


def _last_change(view: fo.DatasetView) -> str:
    """Return when the samples of a view's dataset last changed."""
    # By the index that every dataset has on this field.
    latest = view._root_dataset.sort_by("last_modified_at", reverse=True).limit(1)
    return str(latest.values("last_modified_at"))


@lru_cache(maxsize=4)
def _in_view(dataset_name: str, stages: str, _changed: str) -> InView:
    dataset = fo.load_dataset(dataset_name)
    view = fo.DatasetView._build(dataset, json_util.loads(stages))
    if not view.has_field("sample_id"):
        return InView(frozenset(view.values("id")))
    ids, parents = view.values(["id", "sample_id"])
    if isinstance(view, EvaluationPatchesView):
        # A patch of a match has the id of one of its two labels.
        for field in (view.gt_field, view.pred_field):
            _, path = view._get_label_field_path(field, "id")
            ids += view.values(path, unwind=True)
    return InView(frozenset(ids), frozenset(str(one) for one in parents if one))
