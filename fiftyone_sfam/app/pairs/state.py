"""What the panel of pairs is showing, as the App keeps it between two events."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone.core.collections import SampleCollection
from numpy.typing import NDArray

from fiftyone_sfam.app.pairs.maps import CHANNEL, CONTRAST, POINT, SIGNED, Spot, Wanted
from fiftyone_sfam.app.pairs.pictures import Look
from fiftyone_sfam.attribution.render import DIVERGING, SEQUENTIAL
from fiftyone_sfam.audit.suspects.search import load_suspects
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import Verdict
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


@dataclass(frozen=True, kw_only=True)
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
    """The samples and labels of a view, compared by object identity."""

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


OPACITIES = (0.0, 0.3, 0.6, 0.8, 1.0)
MOST_UNDONE = 20
"""Verdicts that can be taken back one after the other."""


@dataclass(frozen=True)
class Undo:
    """A verdict that can be taken back."""

    uid: str  # unique id of the run
    pair: int  # the pair
    previous: Verdict | None  # what there was before


@dataclass(frozen=True, kw_only=True)
class PanelState:
    """What is shown, and what was chosen."""

    uid: str | None = None  # unique id of the run that the rest is about
    pair: int | None = None  # the pair of the run
    place: int = 0  # where the panel is in its queue, from 0: where the pair is, or was
    kind: str | None = None  # kind of map
    signed: bool = False  # show negative values too
    colors: str | None = None  # color map
    opacity: float = 0.6  # of the maps
    region: str | None = None  # field of the receipt's regions
    spot: Spot | None = None  # place that was clicked
    before: str | None = None  # kind of map that was shown before a place was clicked
    channels: bool = False  # whether the most important channels are listed
    channel: int | None = None  # channel whose activation is shown
    why: bool = False  # whether the missed true match is shown
    spec: QueueSpec = field(default_factory=QueueSpec)  # what the queue has
    filtering: bool = False  # whether the queue's conditions are shown
    in_view: bool = True  # whether the queue has only queries of the App's view
    handed: float | None = None
    known: float = 0.0  # when the last queue was made that was handed over and seen
    advance: bool = True  # whether a verdict turns to the next pair
    selected: tuple[str, ...] = ()
    model: str | None = None  # model that explains them if the dataset has no runs
    undo: tuple[Undo, ...] = ()  # verdicts that can be taken back, the last one last
    turn: int = 0
    step: int = 0  # number of events so far, which tells newer states from older ones

    @classmethod
    def from_dict(cls, values: Any) -> PanelState:
        """Read what came from the App; what makes no sense there is the default."""
        if not isinstance(values, Mapping):
            return cls()
        chosen: dict[str, Any] = {}
        for one in fields(cls):
            if one.name in values:
                value = _read(one.name, values[one.name])
                if value is not _NONSENSE:
                    chosen[one.name] = value
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def wanted(self, kind: str) -> Wanted:
        """Return which map is to be shown, of the kind where nothing else is chosen."""
        if self.channel is not None:
            return Wanted(CHANNEL, channel=self.channel)
        return Wanted(kind, spot=self.spot if kind == POINT else None)

    def look(self, kind: str) -> Look:
        """Return how maps of a kind are drawn."""
        palette = self.palette(kind)
        colors = self.colors if self.colors in palette else palette[0]
        return Look(self.opacity, self.signed, colors)

    def palette(self, kind: str) -> tuple[str, ...]:
        """Return the color maps that fit a kind of map."""
        return DIVERGING if self.signed or kind in SIGNED else SEQUENTIAL


def with_spot(state: PanelState, kind: str, spot: Spot) -> PanelState:
    """Show what a place is matched with, in place of the kind that is shown."""
    before = state.before if kind == POINT else kind
    return replace(state, kind=POINT, spot=spot, before=before, channel=None)


def without_spot(state: PanelState) -> PanelState:
    """Show again what was shown before a place was clicked."""
    if state.spot is None:
        return state
    kind = state.before if state.kind == POINT else state.kind
    return replace(state, spot=None, kind=kind, before=None)


def without_why(state: PanelState) -> PanelState:
    """Show again what was shown before the missed true match."""
    if not state.why:
        return state
    kind = state.before if state.kind == CONTRAST else state.kind
    return replace(state, why=False, kind=kind, before=None)


def of_run(state: PanelState, uid: str) -> PanelState:
    """Forget what is about another run: where one was in it, and what was clicked."""
    if state.uid == uid:
        return state
    state = replace(without_spot(without_why(state)), uid=uid)
    return replace(state, pair=None, place=0, handed=None, channel=None, selected=())


_NONSENSE = object()


def _read(name: str, value: Any) -> Any:
    """Read one value, or say that it makes no sense."""
    if name in ("spot", "spec", "undo", "selected"):
        return _READERS[name](value)
    default = PanelState.__dataclass_fields__[name].default
    if isinstance(default, bool):
        return value if isinstance(value, bool) else _NONSENSE
    if name in ("pair", "channel") and value is None:
        return None
    if name in ("pair", "channel", "place", "turn", "step"):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return value if whole and value >= 0 else _NONSENSE
    if name in ("opacity", "known", "handed"):
        return _read_number(name, value)
    return value if value is None or isinstance(value, str) else _NONSENSE


def _read_number(name: str, value: Any) -> Any:
    if name == "handed" and value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        return _NONSENSE
    return min(max(float(value), 0.0), 1.0) if name == "opacity" else float(value)


def _read_spot(value: Any) -> Any:
    if value is None:
        return None
    try:
        spot = Spot(value["side"], int(value["row"]), int(value["column"]))
    except (KeyError, TypeError, ValueError):
        return _NONSENSE
    return spot if spot.side in ("query", "neighbor") else _NONSENSE


def _read_spec(value: Any) -> Any:
    return QueueSpec.from_dict(value) if isinstance(value, Mapping) else _NONSENSE


def _read_undo(value: Any) -> Any:
    try:
        return tuple(
            Undo(
                str(one["uid"]),
                int(one["pair"]),
                None if one["previous"] is None else Verdict(**one["previous"]),
            )
            for one in value
        )
    except (KeyError, TypeError, ValueError):
        return _NONSENSE


def _read_selected(value: Any) -> Any:
    ids = isinstance(value, (list, tuple)) and all(isinstance(i, str) for i in value)
    return tuple(value) if ids and len(value) in (0, 2) else _NONSENSE


_READERS = {
    "spot": _read_spot,
    "spec": _read_spec,
    "undo": _read_undo,
    "selected": _read_selected,
}


MOST_PANELS = 64
"""Panels that are remembered."""

RECENT_SECONDS = 30.0
"""How long an event can be under way. A panel that is opened later, by somebody else or
after a reload of the page, has a state of its own."""


@dataclass
class _Session:
    lock: threading.RLock = field(default_factory=threading.RLock)
    state: dict[str, Any] = field(default_factory=dict)
    step: int = -1
    time: float = 0.0


@lru_cache(maxsize=1)
def sessions() -> Sessions:
    """Return the sessions of this process.

    FiftyOne makes a new object of a panel's class for every event.
    """
    return Sessions()


class Sessions:
    """What was last answered to each of the panels that are open."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def in_turn(self, panel_id: str | None) -> Iterator[None]:
        """Wait for the other events of a panel."""
        with self._session(panel_id).lock:
            yield

    def newer(self, panel_id: str | None, step: int) -> dict[str, Any]:
        """Return the state that a panel has been given lately, if it is a newer one."""
        session = self._session(panel_id)
        recent = time.monotonic() - session.time < RECENT_SECONDS
        return dict(session.state) if recent and session.step > step else {}

    def keep(self, panel_id: str | None, step: int, state: dict[str, Any]) -> None:
        """Remember the state that a panel is given, by its paths."""
        session = self._session(panel_id)
        session.state, session.step = dict(state), step
        session.time = time.monotonic()

    def _session(self, panel_id: str | None) -> _Session:
        key = panel_id or ""
        with self._lock:
            session = self._sessions.setdefault(key, _Session())
            self._sessions.move_to_end(key)
            while len(self._sessions) > MOST_PANELS:
                self._sessions.popitem(last=False)
            return session
