"""From two selected samples to what the panel of pairs is given."""

from __future__ import annotations

import fiftyone.operators as foo

from fiftyone_sfam.app.forms.choices import model_choices
from fiftyone_sfam.app.pairs.controls import THIRDS
from fiftyone_sfam.app.pairs.maps import NEIGHBOR, QUERY, SIGNED, receipt_bars
from fiftyone_sfam.app.pairs.sections import CHANNELS_PATH, RECEIPT_PATH, channel_bars
from fiftyone_sfam.app.pairs.selected import (
    SELECTED_KINDS,
    SelectedView,
    selected_file,
    view_selected,
)
from fiftyone_sfam.app.pairs.shown import Shown, channels_shown, large_pictures
from fiftyone_sfam.app.pairs.state import PanelState
from fiftyone_sfam.app.pairs.texts import (
    Plain,
    as_sentence,
    color_bar,
    large_text,
    lines,
    not_on_map,
    receipt_text,
)
from fiftyone_sfam.app.pairs.view import Channels
from fiftyone_sfam.errors import DataError, ModelError
from fiftyone_sfam.runs.run import Run


def show_without_run(ctx: foo.ExecutionContext, state: PanelState) -> Shown:
    """Show two selected samples of a dataset without runs; else nothing."""
    if not state.selected:
        return Shown({})
    models, problem = model_choices()
    names = [name for name, _ in models]
    view = None
    if state.model in names:
        view, problem = explained_selected(ctx, str(state.model), state)
    elif problem is None:
        problem = "choose the model that is to explain the two selected samples."
    return show_selected(view, state, names, problem, [], None)


def explained_selected(
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


def show_selected(
    view: SelectedView | None,
    state: PanelState,
    models: list[str],
    problem: str | None,
    runs: list[str],
    run: str | None,
) -> Shown:
    """Show two selected samples."""
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
        "channels": channels_shown(channels),
        "actions": _actions(state),
    }
    pictures = {
        **large_pictures(QUERY, view.query, state.spot),
        **large_pictures(NEIGHBOR, view.neighbor, state.spot),
        RECEIPT_PATH: receipt_bars(view.receipt),
    }
    if importance is not None:
        pictures[CHANNELS_PATH] = channel_bars(importance, state.channel)
    return Shown(text, pictures)


def selected_kind(state: PanelState) -> str:
    """Return the kind of map that is shown of two selected samples."""
    return state.kind if state.kind in SELECTED_KINDS else SELECTED_KINDS[0]


def _actions(state: PanelState) -> list[tuple[str, str, bool]]:
    cleared = [("clear_point", "Clear point", True)] if state.spot else []
    return [*cleared, ("leave_selected", "Leave these two", False)]
