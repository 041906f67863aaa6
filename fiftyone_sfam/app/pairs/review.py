"""Verdicts from the panel of pairs: giving one, going on, and taking it back."""

from __future__ import annotations

from dataclasses import replace

from fiftyone_sfam.app.pairs.page import Page
from fiftyone_sfam.app.pairs.state import MOST_UNDONE, PanelState, Undo
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.review.store import VERDICT_FIELD_ENDING
from fiftyone_sfam.review.verdicts import restore_verdict, set_verdict


def give(page: Page, verdict: str) -> PanelState:
    """Give a verdict on the pair that is shown, and go on if that is wanted."""
    run, state = page.run, page.state
    if state.pair is None or state.selected:
        raise DataError("verdicts are on pairs of a run; choose one first.")
    previous = set_verdict(run, state.pair, verdict)
    done = Undo(run.config.uid, state.pair, previous)
    state = replace(state, undo=(*state.undo, done)[-MOST_UNDONE:])
    # The verdict may have taken the pair out of the queue: it is listed anew.
    after = page.with_state(state)
    return after.stepped(1) if state.advance else after.settled()


def take_back(page: Page) -> PanelState:
    """Take the last verdict back, and show its pair again."""
    run, state = page.run, page.state
    if not state.undo:
        raise DataError("there is no verdict of this panel to take back.")
    *earlier, last = state.undo
    if last.uid != run.config.uid:
        raise DataError(
            "the last verdict was on a pair of another run; choose that run first."
        )
    restore_verdict(run, last.pair, last.previous)
    state = replace(state, undo=tuple(earlier))
    return page.with_state(state).at_pair(last.pair)


def has_verdict_field(page: Page) -> bool:
    """Tell whether the App knows the field of the run's verdicts."""
    return page.run.dataset.has_sample_field(page.run.key + VERDICT_FIELD_ENDING)
