"""What an event of the panel of pairs begins with, and where it can go from there."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.pairs.maps import CONTRAST, QUERY, SideName, kinds_of
from fiftyone_sfam.app.pairs.state import (
    MOST_UNDONE,
    PanelState,
    QueueSpec,
    Undo,
    build_queue,
    ids_in_view,
    next_query,
    place_of,
    place_of_query,
    without_spot,
    without_why,
)
from fiftyone_sfam.app.panel_state import Queue, get_queue
from fiftyone_sfam.data.items import all_samples
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.review.verdicts import (
    Verdict,
    get_verdicts,
    restore_verdict,
    set_verdict,
)
from fiftyone_sfam.runs.run import Run

FRESH_SECONDS = 1800.0
"""How old a queue may be that a panel takes up when it is opened."""


@dataclass(frozen=True)
class Page:
    """A run and what is shown of it, while one event is answered."""

    ctx: foo.ExecutionContext  # of the event
    run: Run  # the run
    state: PanelState  # what was shown when the event began

    @cached_property
    def verdicts(self) -> dict[int, Verdict]:
        """The verdicts of the run by pair."""
        return get_verdicts(self.run)

    @cached_property
    def handed(self) -> Queue | None:
        """The queue that another panel has handed over, if it is this one's."""
        if self.state.handed is None:
            return None
        found = get_queue(self.ctx, self.run)
        return found if found and found.created == self.state.handed else None

    @cached_property
    def queue(self) -> NDArray[np.int64]:
        """The pairs of the queue, in order."""
        if self.handed is not None:
            return np.asarray(self.handed.pairs, dtype=np.int64)
        view = ids_in_view(self.ctx.view) if self.state.in_view else None
        return build_queue(self.run, self.state.spec, frozenset(self.verdicts), view)

    @property
    def kind(self) -> str:
        """The kind of map that is shown."""
        kind = self.state.kind
        return kind if kind in kinds_of(self.run) else self.run.config.kinds[0]

    def with_state(self, state: PanelState) -> Page:
        """Return the page with another state, its queue and verdicts read anew."""
        return Page(self.ctx, self.run, state)

    # -- where to go -------------------------------------------------------------------

    def settled(self) -> PanelState:
        """Return the state with a pair that there is, the first of the queue if none.

        Everything that may have changed since the state was made is looked at here:
        the run, its queue, the pair's place in it.
        """
        state, queue = self.state, self.queue
        if state.handed is not None and self.handed is None:
            state = replace(state, handed=None)
        pair = state.pair
        if pair is None or pair >= len(self.run.pairs):
            return self._at(state, min(state.place, max(len(queue) - 1, 0)))
        place = place_of(queue, pair)
        if place is None:
            place = min(state.place, max(len(queue) - 1, 0))
        return replace(state, place=place)

    def stepped(self, by: int) -> PanelState:
        """Go on by some places of the queue."""
        at = self.settled()
        # What follows a pair that has left the queue has taken its place there.
        left = by > 0 and self._has_left(at.pair)
        return self.placed(at.place + by - int(left))

    def placed(self, place: int) -> PanelState:
        """Go to a place of the queue, bounded to those that there are."""
        last = max(len(self.queue) - 1, 0)
        return self._at(self.state, min(max(place, 0), last))

    def stepped_query(self, by: int) -> PanelState:
        """Go to the next query of the queue, or the previous one."""
        at = self.settled()
        if not len(self.queue):
            return at
        return self.placed(next_query(self.run, self.queue, at.place, by))

    def neighbor(self, place: int) -> PanelState:
        """Go to one of the query's pairs, nearest first, bounded to those there are."""
        pairs = self.run.pairs.of_query(self.item)
        return self.at_pair(int(pairs[min(max(place, 0), len(pairs) - 1)]))

    def stepped_neighbor(self, by: int) -> PanelState:
        """Go to the next neighbor of the query, or the previous one."""
        pairs = self.run.pairs.of_query(self.item)
        now = self.settled().pair
        return self.neighbor(int(np.flatnonzero(pairs == now)[0]) + by)

    def at_pair(self, pair: int) -> PanelState:
        """Go to a pair, in the queue or beside another one of its query there."""
        return self._moved(self.state, pair, self._nearest_place(pair))

    def at_query(self, item: int) -> PanelState | None:
        """Go to a query's pair in the queue, or else to its nearest; None if none."""
        pairs = self.run.pairs.of_query(item)
        if not len(pairs):
            return None
        place = place_of_query(self.run, self.queue, item)
        return self.at_pair(int(pairs[0])) if place is None else self.placed(place)

    def with_why(self) -> PanelState:
        """Show the missed true match, and the contrast with it."""
        state = without_spot(self.state)
        kind = self.with_state(state).kind
        contrast = CONTRAST if CONTRAST in kinds_of(self.run) else kind
        return replace(state, why=True, kind=contrast, before=kind, channel=None)

    def filtered(self, spec: QueueSpec) -> PanelState:
        """Go to the first pair of another queue."""
        state = replace(self.state, spec=spec, handed=None)
        return self.with_state(state).placed(0)

    @property
    def item(self) -> int:
        """The query that is shown."""
        pair = self.settled().pair
        return int(self.run.pairs.query[0 if pair is None else pair])

    # -- verdicts ----------------------------------------------------------------------

    def give(self, verdict: str) -> PanelState:
        """Give a verdict on the pair that is shown, and go on if that is wanted."""
        run, state = self.run, self.state
        if state.pair is None or state.selected:
            raise DataError("verdicts are on pairs of a run; choose one first.")
        previous = set_verdict(run, state.pair, verdict)
        done = Undo(run.config.uid, state.pair, previous)
        state = replace(state, undo=(*state.undo, done)[-MOST_UNDONE:])
        # The verdict may have taken the pair out of the queue: it is listed anew.
        after = self.with_state(state)
        return after.stepped(1) if state.advance else after.settled()

    def take_back(self) -> PanelState:
        """Take the last verdict back, and show its pair again."""
        run, state = self.run, self.state
        if not state.undo:
            raise DataError("there is no verdict of this panel to take back.")
        *earlier, last = state.undo
        if last.uid != run.config.uid:
            raise DataError(
                "the last verdict was on a pair of another run; choose that run first."
            )
        restore_verdict(run, last.pair, last.previous)
        state = replace(state, undo=tuple(earlier))
        return self.with_state(state).at_pair(last.pair)

    # -- following the App -------------------------------------------------------------

    def following(self) -> PanelState | None:
        """Go to what is selected or open in the App; None if that is nothing new."""
        chosen = [str(one) for one in self.ctx.selected or []]
        if self.ctx.current_sample:
            return self._following_current(str(self.ctx.current_sample))
        if len(chosen) == 2:
            pair = stored_pair(self.run, chosen[0], chosen[1])
            if pair is None:
                return replace(self.state, selected=(chosen[0], chosen[1]))
            return replace(self.at_pair(pair), selected=())
        if len(chosen) == 1:
            item = item_of(self.run, chosen[0])
            found = None if item is None else self.at_query(item)
            return None if found is None else replace(found, selected=())
        return replace(self.state, selected=()) if self.state.selected else None

    def taking_up(self, opening: bool) -> PanelState | None:
        """Go to the first pair of a queue that was handed over; None if none was."""
        found = get_queue(self.ctx, self.run)
        if found is None or found.created <= self.state.known:
            return None
        state = replace(self.state, known=found.created)
        if not found.pairs or (opening and time.time() - found.created > FRESH_SECONDS):
            return state if opening else None
        state = replace(state, handed=found.created, selected=())
        return self.with_state(state).placed(0)

    def opened(self) -> PanelState:
        """Begin: with a queue that was handed over, or what is selected or open."""
        taken = self.taking_up(opening=True)
        if taken is not None and taken.handed != self.state.handed:
            return taken
        page = self if taken is None else self.with_state(taken)
        return page.following() or page.settled()

    def viewed(self) -> PanelState | None:
        """Keep to a new view; None if that changes nothing."""
        taken = self.taking_up(opening=False)
        if taken is not None or not self.state.in_view or self.state.selected:
            return taken
        state, shown = self.settled(), self.ctx.panel.get_state("shown.queue") or {}
        if len(self.queue) == shown.get("count") and state == self.state:
            return None
        return self._inside(state)

    def keeping_to_view(self, in_view: bool) -> PanelState | None:
        """Keep the queue to the App's view, or not; None if that is so already."""
        if in_view == self.state.in_view:
            return None
        page = self.with_state(replace(self.state, in_view=in_view))
        return page._inside(page.settled())

    def _inside(self, state: PanelState) -> PanelState:
        """Go to the first pair of the queue from a pair that it has not."""
        inside = place_of(self.queue, -1 if state.pair is None else state.pair)
        beside = inside is None and len(self.queue) and self.handed is None
        return self.placed(0) if beside else state

    def _following_current(self, sample_id: str) -> PanelState | None:
        item = item_of(self.run, sample_id)
        if item is None:
            return None
        pair = self.state.pair
        if pair is not None and pair < len(self.run.pairs):
            pairs = self.run.pairs
            shown = (int(pairs.query[pair]), int(pairs.gallery[pair]))
            if item in shown and not self.state.selected:
                # Opened from here: the pair is still what is looked at.
                return None
        found = self.at_query(item)
        return None if found is None else replace(found, selected=())

    # -- how ---------------------------------------------------------------------------

    def _nearest_place(self, pair: int) -> int:
        """Return the place of a pair, or else of its query, or else that of now."""
        found, now = place_of(self.queue, pair), self.state.place
        if found is not None:
            return found
        item = int(self.run.pairs.query[pair])
        if now < len(self.queue) and self.run.pairs.query[self.queue[now]] == item:
            return now
        first = place_of_query(self.run, self.queue, item)
        return now if first is None else first

    def _has_left(self, pair: int | None) -> bool:
        """Tell whether a pair was in the queue until its verdict was given."""
        spec = self.state.spec
        if pair is None or spec.reviewed is None or self.handed is not None:
            return False
        view = ids_in_view(self.ctx.view) if self.state.in_view else None
        before = build_queue(self.run, replace(spec, reviewed=None), view=view)
        return place_of(self.queue, pair) is None and (
            place_of(before, pair) is not None
        )

    def _at(self, state: PanelState, place: int) -> PanelState:
        """Go to a place of the queue; where it is empty, to the run's first pair."""
        pair = int(self.queue[place]) if len(self.queue) else state.pair
        if pair is None or pair >= len(self.run.pairs):
            pair = 0
        return self._moved(state, pair, place)

    def _moved(self, state: PanelState, pair: int, place: int) -> PanelState:
        """Show another pair; what was clicked on the last one is forgotten."""
        pairs, old = self.run.pairs, state.pair
        known = old is not None and old < len(pairs)
        same_query = known and pairs.query[old] == pairs.query[pair]
        state = replace(state, pair=pair, place=place)
        if pair == old:
            return state
        if not same_query:
            return without_spot(without_why(state))
        kept = state.spot is not None and state.spot.side == "query"
        return state if kept else without_spot(state)


def place_clicked(params: dict[str, Any]) -> tuple[int, int] | None:
    """Read row and column of a place that was clicked; None if it was no place."""
    index = params.get("idx")
    if not isinstance(index, list) or len(index) != 2:
        return None
    row, column = index
    whole = isinstance(row, int) and isinstance(column, int)
    return (row, column) if whole and row >= 0 and column >= 0 else None


def sample_of(page: Page, side: SideName) -> str:
    """Return the sample of one of the two images that are shown."""
    pair, pairs = page.settled().pair or 0, page.run.pairs
    item = (pairs.query if side == QUERY else pairs.gallery)[pair]
    return str(page.run.items.sample_ids[item])


def pair_samples(page: Page) -> fo.DatasetView:
    """Return the two images that are shown as a view: samples, or patches of them."""
    run, pair = page.run, page.settled().pair or 0
    items = [int(run.pairs.query[pair]), int(run.pairs.gallery[pair])]
    samples = all_samples(run.dataset).select(
        [str(run.items.sample_ids[item]) for item in items], ordered=True
    )
    field = run.config.patches_field
    if field is None or run.items.label_ids is None:
        return samples
    patches = samples.to_patches(field)
    return patches.select([str(run.items.label_ids[item]) for item in items])


def stored_pair(run: Run, one: str, other: str) -> int | None:
    """Find the pair of a run that is of two samples or detections."""
    first, second = item_of(run, one), item_of(run, other)
    if first is None or second is None:
        return None
    for query, neighbor in ((first, second), (second, first)):
        pairs = run.pairs.of_query(query)
        for pair in pairs[run.pairs.gallery[pairs] == neighbor]:
            return int(pair)
    return None


def item_of(run: Run, sample_id: str) -> int | None:
    """Find the item of a detection or sample, a query if it has one; None if none."""
    found = run.items.index(sample_id)
    if found >= 0:
        return found
    items = run.items.indices_of_sample(sample_id)
    queries = [int(item) for item in items if len(run.pairs.of_query(int(item)))]
    return next(iter(queries or (int(item) for item in items)), None)
