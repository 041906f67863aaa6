"""From what is chosen to what the panel of pairs is given: texts and pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fiftyone_sfam.app.pairs.controls import THIRDS
from fiftyone_sfam.app.pairs.layout import missed_path, strip_path
from fiftyone_sfam.app.pairs.maps import NEIGHBOR, QUERY, SIGNED, kinds_of, receipt_bars
from fiftyone_sfam.app.pairs.page import Page, by_query
from fiftyone_sfam.app.pairs.sections import CHANNELS_PATH, RECEIPT_PATH, channel_bars
from fiftyone_sfam.app.pairs.show_selected import explained_selected, show_selected
from fiftyone_sfam.app.pairs.shown import Shown, channels_shown, large_pictures
from fiftyone_sfam.app.pairs.state import (
    PanelState,
    QueueSpec,
    cameras_of,
    suspect_kinds,
)
from fiftyone_sfam.app.pairs.style import as_text
from fiftyone_sfam.app.pairs.texts import (
    Plain,
    as_sentence,
    color_bar,
    large_text,
    missed_text,
    neighbor_caption,
    query_caption,
    range_scope,
    receipt_text,
    strip_text,
)
from fiftyone_sfam.app.pairs.view import QueryView, view_query
from fiftyone_sfam.audit.regions.fields import region_fields
from fiftyone_sfam.errors import RunError
from fiftyone_sfam.runs.run import list_runs


def show_page(page: Page) -> Shown:
    """Show a pair of a run, or two selected samples in its place."""
    run, state = page.run, page.state
    try:
        if not state.selected:
            return show_pair(page)
        view, problem = explained_selected(page.ctx, run, state)
    except RunError as error:
        return Shown({}, problem=as_sentence(str(error)))
    return show_selected(view, state, [], problem, list_runs(run.dataset), run.key)


def show_pair(page: Page) -> Shown:
    """Show a pair of a run."""
    run, state, kind = page.run, page.state, page.kind
    pair = state.pair or 0
    item = int(run.pairs.query[pair])
    chosen = int(np.flatnonzero(run.pairs.of_query(item) == pair)[0])
    look = state.look(kind)
    view = view_query(
        run,
        item,
        chosen,
        state.wanted(kind),
        look,
        region_field=state.region,
        why=state.why,
        channels=state.channels,
    )
    notes = [as_sentence(note) for note in (*run.warnings, *view.notes)]
    if not len(page.queue):
        notes.insert(0, _empty(page))
    text = {
        "choices": _choices(page),
        "queue": _queue(page),
        "notes": notes,
        "sides": {
            QUERY: large_text(view.query, query_caption(view)),
            NEIGHBOR: large_text(view.neighbor, neighbor_caption(view)),
        },
        "bar": _bar(view, state, kind),
        "strip": strip_text(view),
        "missed": missed_text(view) if view.missed else None,
        "receipt": receipt_text(view.receipt),
        "channels": channels_shown(view.channels),
        "verdict": _verdict(page, pair),
        "actions": _actions(state, _is_missed(view)),
    }
    pictures = {
        **large_pictures(QUERY, view.query, state.spot),
        **large_pictures(NEIGHBOR, view.neighbor, state.spot),
        **{
            strip_path(index): one.thumbnail.url
            for index, one in enumerate(view.neighbors)
        },
        RECEIPT_PATH: receipt_bars(view.receipt),
    }
    if view.missed is not None:
        pictures[missed_path("query")] = view.missed.query.url
        pictures[missed_path("true")] = view.missed.true.url
    if view.channels is not None and view.channels.importance is not None:
        pictures[CHANNELS_PATH] = channel_bars(view.channels.importance, state.channel)
    return Shown(text, pictures)


# --------------------------------------------------------------------------------------
# Texts
# --------------------------------------------------------------------------------------


def _choices(page: Page) -> Plain:
    """Return what can be chosen, and what is."""
    run, state, kind = page.run, page.state, page.kind
    fields = region_fields(run)
    return {
        "run": run.key,
        "runs": list_runs(run.dataset),
        "model": None,
        "models": [],
        "kind": kind,
        "kinds": list(kinds_of(run)),
        "palette": list(state.palette(kind)),
        "colors": state.look(kind).colors,
        "signed": state.signed,
        "always_signed": kind in SIGNED,
        "region": state.region if state.region in fields else THIRDS,
        "fields": fields,
        "cameras": list(cameras_of(run)) if state.filtering else [],
        "suspects": list(suspect_kinds(run)) if state.filtering else [],
    }


def _queue(page: Page) -> Plain:
    """Describe the queue and where the pair is in it."""
    state, queue = page.state, page.queue
    done = int(np.isin(queue, list(page.verdicts)).sum())
    beside = "" if (queue == state.pair).any() else " (beside it)"
    handed = page.handed
    return {
        "place": state.place,
        "count": len(queue),
        "of": f"of {len(queue):,}{beside if len(queue) else ''}",
        "reviewed": f"{done:,} of {len(queue):,} reviewed",
        "by_query": by_query(state),
        "filtered": state.spec != QueueSpec(),
        "handed": None if handed is None else f"**{as_text(handed.title)}**",
    }


def _empty(page: Page) -> str:
    """Say why a queue is empty, and what to do."""
    if page.handed is not None:
        return "This queue has no pairs: leave it."
    if (
        page.state.in_view
        and page.with_state(replace(page.state, in_view=False)).queue.size
    ):
        return (
            "No query of this queue is in the App's view: change the view, or take "
            "the tick from *Only the view*."
        )
    return "No pair fulfills these conditions: change them under *Filter and order*."


def _bar(view: QueryView, state: PanelState, kind: str) -> Plain | None:
    """Describe the colors; None where nothing is drawn."""
    if view.query.side is None and view.neighbor.side is None:
        return None
    return color_bar(view.maps, state.look(kind), range_scope(view))


def _verdict(page: Page, pair: int) -> Plain:
    """Describe the verdict that the pair has."""
    found = page.verdicts.get(pair)
    if found is None:
        return {"head": "**Verdict**", "chosen": None}
    return {"head": f"**Verdict: {as_text(found.text)}**", "chosen": found.text}


def _is_missed(view: QueryView) -> bool:
    """Tell whether there is a true match that is not the neighbor shown."""
    return view.margin is not None and not view.chosen.best_true


def _actions(state: PanelState, missed: bool) -> list[tuple[str, str, bool]]:
    """List what can be done with the pair: event, label, whether it is on."""
    actions = []
    if missed or state.why:
        why = "Leave the true match" if state.why else "Why not the true match?"
        actions.append(("why", why, state.why))
    if state.spot is not None:
        actions.append(("clear_point", "Clear point", True))
    return [
        *actions,
        ("show_in_grid", "Show in grid", False),
        ("open_query", "Open query", False),
        ("open_neighbor", "Open neighbor", False),
    ]
