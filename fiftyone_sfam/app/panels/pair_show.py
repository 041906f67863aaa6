"""From what is chosen to what the panel of pairs is given: texts and pictures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import fiftyone.operators as foo
import numpy as np

from fiftyone_sfam.app.choices import model_choices
from fiftyone_sfam.app.panels.pair_controls import THIRDS
from fiftyone_sfam.app.panels.pair_layout import (
    image_path,
    missed_path,
    places_path,
    strip_path,
)
from fiftyone_sfam.app.panels.pair_maps import (
    NEIGHBOR,
    QUERY,
    SIGNED,
    Spot,
    kinds_of,
)
from fiftyone_sfam.app.panels.pair_page import Page, by_query
from fiftyone_sfam.app.panels.pair_queue import QueueSpec, cameras_of, suspect_kinds
from fiftyone_sfam.app.panels.pair_sections import (
    CHANNELS_PATH,
    RECEIPT_PATH,
    channel_bars,
    channels_text,
)
from fiftyone_sfam.app.panels.pair_selected import (
    SELECTED_KINDS,
    SelectedView,
    selected_file,
    view_selected,
)
from fiftyone_sfam.app.panels.pair_state import PanelState
from fiftyone_sfam.app.panels.pair_style import as_text
from fiftyone_sfam.app.panels.pair_texts import (
    Plain,
    as_sentence,
    color_bar,
    large_text,
    lines,
    missed_text,
    neighbor_caption,
    not_on_map,
    query_caption,
    range_scope,
    receipt_text,
    strip_text,
)
from fiftyone_sfam.app.panels.pair_view import Channels, Large, QueryView, view_query
from fiftyone_sfam.app.panels.receipt import receipt_bars
from fiftyone_sfam.audit.region_fields import region_fields
from fiftyone_sfam.errors import DataError, ModelError, RunError
from fiftyone_sfam.runs import Run, list_runs

_MARK = "#ffffff"


@dataclass(frozen=True)
class Shown:
    """What the panel is given.

    Attributes
    ----------
    text : dict
        Texts and sizes, small, for the layout.
    pictures : dict
        Pictures and Plotly traces by their paths in the panel's data.
    problem : str or None
        Why there is nothing to show, as Markdown.
    """

    text: Plain
    pictures: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


def show_page(page: Page) -> Shown:
    """Show a pair of a run, or two selected samples in its place.

    Parameters
    ----------
    page : Page
        With a settled state.

    Returns
    -------
    Shown
        All of it, or why that cannot be.
    """
    run, state = page.run, page.state
    try:
        if not state.selected:
            return show_pair(page)
        view, problem = _selected(page.ctx, run, state)
    except RunError as error:
        return Shown({}, problem=as_sentence(str(error)))
    return show_selected(view, state, [], problem, list_runs(run.dataset), run.key)


def show_without_run(ctx: foo.ExecutionContext, state: PanelState) -> Shown:
    """Show two selected samples of a dataset without runs; else nothing."""
    if not state.selected:
        return Shown({})
    models, problem = model_choices()
    names = [name for name, _ in models]
    view = None
    if state.model in names:
        view, problem = _selected(ctx, str(state.model), state)
    elif problem is None:
        problem = "choose the model that is to explain the two selected samples."
    return show_selected(view, state, names, problem, [], None)


def _selected(
    ctx: foo.ExecutionContext, model: str | Run, state: PanelState
) -> tuple[SelectedView | None, str | None]:
    """Explain two selected samples, or say why that cannot be."""
    kind = selected_kind(state)
    try:
        one, other = (selected_file(ctx, chosen) for chosen in state.selected)
        wanted = state.wanted(kind)
        return view_selected(model, (one, other), wanted, state.look(kind)), None
    except (DataError, ModelError) as error:
        return None, str(error)


def show_pair(page: Page) -> Shown:
    """Show a pair of a run.

    Parameters
    ----------
    page : Page
        With a settled state.

    Returns
    -------
    Shown
        All of it.

    Raises
    ------
    SfamError
        If the run cannot be read.
    """
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
    notes = [as_sentence(note) for note in view.notes]
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
        "channels": _channels_text(view.channels),
        "verdict": _verdict(page, pair),
        "actions": _actions(state, _is_missed(view)),
    }
    pictures = {
        **_large_pictures(QUERY, view.query, state.spot),
        **_large_pictures(NEIGHBOR, view.neighbor, state.spot),
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


def show_selected(
    view: SelectedView | None,
    state: PanelState,
    models: list[str],
    problem: str | None,
    runs: list[str],
    run: str | None,
) -> Shown:
    """Show two selected samples.

    Parameters
    ----------
    view : SelectedView or None
        What the model makes of them; None where there is none, or it failed.
    state : PanelState
        What is chosen.
    models : list of str
        Models to choose from; none where the run's is taken.
    problem : str or None
        Why there is no view.
    runs : list of str
        Keys of the dataset's runs.
    run : str or None
        The run whose model is taken.

    Returns
    -------
    Shown
        All of it.
    """
    kind = selected_kind(state)
    choices = {
        "run": run,
        "runs": runs,
        "model": state.model if models else None,
        "models": models,
        "kind": kind,
        "kinds": list(SELECTED_KINDS),
        "palette": list(state.palette(kind)),
        "colors": state.look(kind).colors,
        "signed": state.signed,
        "always_signed": kind in SIGNED,
        "region": THIRDS,
        "fields": [],
        "cameras": [],
        "suspects": [],
    }
    text: Plain = {
        "choices": choices,
        "queue": None,
        "notes": [as_sentence(problem)] if problem else [],
        "sides": None,
        "actions": [],
    }
    if view is None:
        return Shown(text)
    importance = view.live.pairs.importance(0) if state.channels else None
    channels = None if importance is None else Channels(importance)
    text |= {
        "notes": [as_sentence(note) for note in view.notes],
        "sides": {
            QUERY: large_text(
                view.query, lines("**First selected**", not_on_map(view.remainders[0]))
            ),
            NEIGHBOR: large_text(
                view.neighbor,
                lines(
                    "**Second selected**",
                    f"similarity {view.similarity:.4f}, distance {view.distance:.4f}",
                    not_on_map(view.remainders[1]),
                ),
            ),
        },
        "bar": color_bar(view.maps, state.look(kind), "one range for both images")
        if view.query.side or view.neighbor.side
        else None,
        "receipt": receipt_text(view.receipt),
        "channels": _channels_text(channels),
        "actions": _selected_actions(state),
    }
    pictures = {
        **_large_pictures(QUERY, view.query, state.spot),
        **_large_pictures(NEIGHBOR, view.neighbor, state.spot),
        RECEIPT_PATH: receipt_bars(view.receipt),
    }
    if importance is not None:
        pictures[CHANNELS_PATH] = channel_bars(importance, state.channel)
    return Shown(text, pictures)


def selected_kind(state: PanelState) -> str:
    """Return the kind of map that is shown of two selected samples."""
    return state.kind if state.kind in SELECTED_KINDS else SELECTED_KINDS[0]


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


def _channels_text(channels: Channels | None) -> Plain | None:
    """Describe the list of channels."""
    if channels is None:
        return None
    if channels.importance is None:
        return {"text": as_sentence(channels.note or ""), "count": 0}
    return {
        "text": channels_text(channels.importance),
        "count": len(channels.importance),
    }


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


def _selected_actions(state: PanelState) -> list[tuple[str, str, bool]]:
    cleared = [("clear_point", "Clear point", True)] if state.spot else []
    return [*cleared, ("leave_selected", "Leave these two", False)]


# --------------------------------------------------------------------------------------
# Pictures
# --------------------------------------------------------------------------------------


def _large_pictures(side: str, large: Large, spot: Spot | None) -> dict[str, Any]:
    """Return a large image and what can be clicked over it."""
    found: dict[str, Any] = {image_path(side): large.picture.url}
    if large.places is not None:
        chosen = spot if spot is not None and spot.side == side else None
        found[places_path(side)] = place_traces(large, chosen)
    return found


def place_traces(large: Large, spot: Spot | None) -> list[dict[str, Any]]:
    """Draw what can be clicked over an image: the cells of its map, and a mark.

    Parameters
    ----------
    large : Large
        The image.
    spot : Spot or None
        The place of it that was clicked.

    Returns
    -------
    list of dict
        Plotly traces in relative coordinates of the image: the values, which are not
        seen but beside the pointer, and the frame of the place.
    """
    left, top, right, bottom = large.places or (0.0, 0.0, 1.0, 1.0)
    rows, columns = large.shape
    width, height = (right - left) / columns, (bottom - top) / rows
    values = np.zeros((rows, columns), dtype=np.float32)
    hover = "click<extra></extra>"
    if large.side is not None:
        values, hover = large.side.values, "%{z:+.4g}<extra></extra>"
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
        "line": {"color": _MARK, "width": 3},
        "hoverinfo": "skip",
        "visible": spot is not None,
    }
    return [cells, frame]
