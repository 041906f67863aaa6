"""From what is chosen to what the panel of pairs is given: texts and pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import fiftyone.operators as foo
import numpy as np

from fiftyone_sfam.app.forms.choices import model_choices
from fiftyone_sfam.app.pairs.controls import THIRDS
from fiftyone_sfam.app.pairs.layout import (
    Plain,
    as_text,
    image_path,
    missed_path,
    places_path,
    strip_path,
)
from fiftyone_sfam.app.pairs.maps import NEIGHBOR, QUERY, SIGNED, Map, Spot, kinds_of
from fiftyone_sfam.app.pairs.page import Page
from fiftyone_sfam.app.pairs.pictures import Box
from fiftyone_sfam.app.pairs.render import (
    CHANNELS_PATH,
    RECEIPT_PATH,
    channel_bars,
    channels_text,
    receipt_bars,
    receipt_text,
)
from fiftyone_sfam.app.pairs.state import (
    FIRST,
    PanelState,
    QueueSpec,
    cameras_of,
    suspect_kinds,
)
from fiftyone_sfam.app.pairs.texts import (
    as_sentence,
    color_bar,
    missed_text,
    neighbor_caption,
    picture_text,
    query_caption,
    range_scope,
    selected_captions,
    strip_text,
)
from fiftyone_sfam.app.pairs.view import (
    SELECTED_KINDS,
    Channels,
    PairView,
    selected_file,
    view_query,
    view_selected,
)
from fiftyone_sfam.app.selected import selected_inputs
from fiftyone_sfam.audit.regions.fields import region_fields
from fiftyone_sfam.errors import DataError, ModelError, RunError
from fiftyone_sfam.runs.run import Run, list_runs

MARK = "#ffffff"


@dataclass(frozen=True)
class Shown:
    """What the panel is given."""

    text: Plain  # texts and sizes, small, for the layout
    pictures: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None  # why there is nothing to show, as Markdown


def show_page(page: Page) -> Shown:
    """Show a pair of a run, or two selected samples in its place."""
    run, state = page.run, page.state
    try:
        if not state.selected:
            return _show_pair(page)
        view, problem = _explained_selected(page.ctx, run, state)
    except RunError as error:
        return Shown({}, problem=as_sentence(str(error)))
    return _show_selected(
        view, state, problem, run=run.key, runs=list_runs(run.dataset)
    )


def show_without_run(ctx: foo.ExecutionContext, state: PanelState) -> Shown:
    """Show two selected samples of a dataset without runs; else nothing."""
    if not state.selected:
        return Shown({})
    models, problem = model_choices()
    names = [name for name, _ in models]
    view = None
    if state.model in names:
        view, problem = _explained_selected(ctx, str(state.model), state)
    elif problem is None:
        problem = "choose the model that is to explain the two selected samples."
    model = state.model if names else None
    return _show_selected(view, state, problem, model=model, models=names)


def selected_kind(state: PanelState) -> str:
    """Return the kind of map that is shown of two selected samples."""
    return state.kind if state.kind in SELECTED_KINDS else SELECTED_KINDS[0]


def place_traces(
    places: Box, shape: tuple[int, int], values: Map | None, spot: Spot | None
) -> list[dict[str, Any]]:
    """Draw what can be clicked over an image: the cells of its map, and a mark."""
    left, top, right, bottom = places
    rows, columns = shape
    width, height = (right - left) / columns, (bottom - top) / rows
    hover = "%{z:+.4g}<extra></extra>"
    if values is None:
        values, hover = np.zeros(shape, dtype=np.float32), "click<extra></extra>"
    cells = {
        "type": "heatmap",
        "z": [[float(f"{value:.4g}") for value in row] for row in values],
        "x0": left + width / 2,
        "dx": width,
        "y0": top + height / 2,
        "dy": height,
        "opacity": 0,
        "showscale": False,
        "hovertemplate": hover,
    }
    x0, y0 = left, top
    if spot is not None:
        x0, y0 = left + spot.column * width, top + spot.row * height
    frame = {
        "type": "scatter",
        "mode": "lines",
        "x": [x0, x0 + width, x0 + width, x0, x0],
        "y": [y0, y0, y0 + height, y0 + height, y0],
        "line": {"color": MARK, "width": 3},
        "hoverinfo": "skip",
        "visible": spot is not None,
    }
    return [cells, frame]


# --------------------------------------------------------------------------------------
# A pair of a run, and two selected samples
# --------------------------------------------------------------------------------------


def _show_pair(page: Page) -> Shown:
    """Show a pair of a run."""
    run, state, kind = page.run, page.state, page.kind
    pair = state.pair or 0
    item = int(run.pairs.query[pair])
    view = view_query(
        run,
        item,
        int(np.flatnonzero(run.pairs.of_query(item) == pair)[0]),
        state.wanted(kind),
        state.look(kind),
        region_field=state.region,
        why=state.why,
        channels=state.channels,
    )
    notes = [as_sentence(note) for note in (*run.warnings, *view.notes)]
    if not len(page.queue):
        notes.insert(0, _empty(page))
    fields = region_fields(run)
    choices = _choices(
        state,
        kind,
        kinds_of(run),
        run=run.key,
        runs=list_runs(run.dataset),
        region=state.region if state.region in fields else THIRDS,
        fields=fields,
        cameras=list(cameras_of(run)) if state.filtering else [],
        suspects=list(suspect_kinds(run)) if state.filtering else [],
    )
    captions = query_caption(view), neighbor_caption(view)
    both = _show_both(view, captions, state, kind, range_scope(view))
    missed = view.margin is not None and not view.chosen.best_true
    text = {
        **both.text,
        "choices": choices,
        "queue": _queue(page),
        "notes": notes,
        "strip": strip_text(view),
        "missed": missed_text(view) if view.missed else None,
        "verdict": _verdict(page, pair),
        "actions": _actions(state, missed),
    }
    pictures = {
        **both.pictures,
        **{
            strip_path(index): neighbor.thumbnail.url
            for index, neighbor in enumerate(view.neighbors)
        },
    }
    if view.missed is not None:
        pictures[missed_path("query")] = view.missed.query.url
        pictures[missed_path("true")] = view.missed.true.url
    return Shown(text, pictures)


def _explained_selected(
    ctx: foo.ExecutionContext, model: str | Run, state: PanelState
) -> tuple[PairView | None, str | None]:
    """Explain two selected samples, or say why that cannot be."""
    kind = selected_kind(state)
    try:
        first, second = (selected_file(ctx, chosen) for chosen in state.selected)
        view = view_selected(
            model,
            (first, second),
            state.wanted(kind),
            state.look(kind),
            channels=state.channels,
            read_inputs=partial(selected_inputs, ctx, state.selected),
        )
    except (DataError, ModelError) as error:
        return None, str(error)
    return view, None


def _show_selected(
    view: PairView | None, state: PanelState, problem: str | None, **choices: Any
) -> Shown:
    """Show two selected samples."""
    kind = selected_kind(state)
    text: Plain = {
        "choices": _choices(state, kind, SELECTED_KINDS, **choices),
        "queue": None,
        "notes": [as_sentence(problem)] if problem else [],
        "sides": None,
        "actions": [],
    }
    if view is None:
        return Shown(text)
    scope = "one range for both images"
    both = _show_both(view, selected_captions(view), state, kind, scope)
    cleared = [("clear_point", "Clear point", True)] if state.spot else []
    text |= {
        **both.text,
        "notes": [as_sentence(note) for note in view.notes],
        "actions": [*cleared, ("leave_selected", "Leave these two", False)],
    }
    return Shown(text, both.pictures)


def _show_both(
    view: PairView, captions: tuple[str, str], state: PanelState, kind: str, scope: str
) -> Shown:
    """Show the two images, and what their similarity is made of."""
    sides: Plain = {}
    pictures: dict[str, Any] = {RECEIPT_PATH: receipt_bars(view.receipt)}
    for side, picture, caption in zip(
        (QUERY, NEIGHBOR), (view.query, view.neighbor), captions, strict=True
    ):
        clickable = picture.places is not None
        sides[side] = {**picture_text(picture, caption), "clickable": clickable}
        pictures[image_path(side)] = picture.url
        if picture.places is not None:
            spot = state.spot if state.spot and state.spot.side == side else None
            pictures[places_path(side)] = place_traces(
                picture.places, view.shape, picture.values, spot
            )
    if isinstance(view.channels, np.ndarray):
        pictures[CHANNELS_PATH] = channel_bars(view.channels, state.channel)
    drawn = view.query.values is not None or view.neighbor.values is not None
    text = {
        "sides": sides,
        "bar": color_bar(view.maps, state.look(kind), scope) if drawn else None,
        "receipt": receipt_text(view.receipt),
        "channels": _channels(view.channels),
    }
    return Shown(text, pictures)


# --------------------------------------------------------------------------------------
# Texts
# --------------------------------------------------------------------------------------


def _choices(
    state: PanelState, kind: str, kinds: Iterable[str], **others: Any
) -> Plain:
    """Return what can be chosen, and what is."""
    return {
        "run": None,
        "runs": [],
        "model": None,
        "models": [],
        "kind": kind,
        "kinds": list(kinds),
        "palette": list(state.palette(kind)),
        "colors": state.look(kind).colors,
        "signed": state.signed,
        "always_signed": kind in SIGNED,
        "region": THIRDS,
        "fields": [],
        "cameras": [],
        "suspects": [],
        **others,
    }


def _channels(channels: Channels | None) -> Plain | None:
    """Describe the list of channels."""
    if channels is None:
        return None
    if isinstance(channels, str):
        return {"text": as_sentence(channels), "count": 0}
    return {"text": channels_text(channels), "count": len(channels)}


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
        "by_query": state.handed is not None or state.spec.ranks != FIRST,
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


def _verdict(page: Page, pair: int) -> Plain:
    """Describe the verdict that the pair has."""
    found = page.verdicts.get(pair)
    if found is None:
        return {"head": "**Verdict**", "chosen": None}
    return {"head": f"**Verdict: {as_text(found.text)}**", "chosen": found.text}


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
