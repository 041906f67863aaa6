"""The controls of the panel of pairs: what is shown, the queue, the verdicts.

FiftyOne's inputs have a mind of their own: some keep what was typed whatever the panel
says, and one whose value is changed by the panel may call its event with the old value.
So no input's value is ever changed. A choice has another name for each of its values,
and is another input; the fields of numbers and texts are given another name where they
have to be filled anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any
from zlib import crc32

from fiftyone.operators import types

from fiftyone_sfam.app.pairs.layout import (
    On,
    Plain,
    Style,
    button,
    flow,
    item,
    joined,
    text,
)
from fiftyone_sfam.app.pairs.state import (
    OPACITIES,
    RANKS,
    REVIEWED,
    PanelState,
    QueueSpec,
)
from fiftyone_sfam.data.text import percent
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import VERDICTS
from fiftyone_sfam.runs.selection import ORDERS, SUSPECTS

ANY = "any"
"""Value of a choice that leaves a condition open."""

THIRDS = "thirds"
"""Value of the choice of horizontal thirds as regions."""

RUN, MODEL, KIND = "controls.run", "controls.model", "controls.kind"
COLORS, OPACITY = "controls.colors", "controls.opacity"
SIGNED, IN_VIEW = "controls.signed", "queue.in_view"
ADVANCE, REGION = "verdicts.advance", "receipt.head.region"
"""Paths of the choices, before the value that is chosen."""

NUMBERS = ("min_similarity", "max_similarity")
"""Conditions that are fields of numbers."""

VERDICT_KEYS = dict(zip(VERDICTS, "gwslbo", strict=True))
"""Keys of the verdicts: *g* for good, and initials."""

KEYS_TEXT = (
    "Keys, with Alt (Alt+Shift in Firefox, Ctrl+Option on a Mac): **N** and **P** next "
    "and previous pair, **J** and **K** next and previous neighbor, **U** undo; "
    + ", ".join(f"**{key.upper()}** {name}" for name, key in VERDICT_KEYS.items())
    + "."
)


def place_name(state: PanelState) -> str:
    """Return the name of the number of the place in the queue."""
    return f"place_{state.turn}"


def own_path(state: PanelState) -> str:
    """Return the path of the field of a verdict in own words."""
    return f"verdicts.own_{state.turn}"


def choice_name(name: str, value: Any) -> str:
    """Return the name that a choice has while a value is chosen."""
    text = str(value)
    # Names are parts of paths: no dots, and no two values with one name.
    return f"{name}_{re.sub(r'[^A-Za-z0-9]', '', text)}_{crc32(text.encode()):x}"


def condition_of(path: str) -> str:
    """Return which condition of the queue the input at a path is of, "" if none."""
    name = path.rpartition(".")[2]
    found = (field.name for field in fields(QueueSpec))
    return next((one for one in found if f"{name}_".startswith(f"{one}_")), "")


def control_values(state: PanelState, shown: Plain) -> dict[str, Any]:
    """Return the value of every input by its path."""
    chosen, spec = shown["choices"], state.spec.to_dict()
    choices = {
        RUN: chosen["run"],
        MODEL: chosen["model"],
        KIND: chosen["kind"],
        COLORS: chosen["colors"],
        OPACITY: state.opacity,
        SIGNED: chosen["signed"],
        IN_VIEW: state.in_view,
        ADVANCE: state.advance,
        REGION: chosen["region"],
    }
    values: dict[str, Any] = {}
    for name, value in spec.items() if state.filtering else ():
        if name in NUMBERS:
            values[f"conditions.{name}"] = value
        else:
            choices[f"conditions.{name}"] = ANY if value is None else value
    values |= {choice_name(path, value): value for path, value in choices.items()}
    if shown["queue"]:
        values[f"queue.{place_name(state)}"] = shown["queue"]["place"] + 1
    return values


def add_controls(panel: types.Object, state: PanelState, shown: Plain, on: On) -> None:
    """Add the choices of run and map, and of how it is drawn."""
    choices = shown["choices"]
    row = panel.h_stack("controls", componentsProps=flow("8px 12px", "flex-end"))
    if choices["runs"]:
        named = [(key, key) for key in choices["runs"]]
        _choice(row, RUN, "Run", named, choices["run"], on("run"))
    if choices["models"]:
        models = [(name, name) for name in choices["models"]]
        _choice(row, MODEL, "Model", models, choices["model"], on("model"))
    kinds = [(kind, kind) for kind in choices["kinds"]]
    _choice(row, KIND, "Map", kinds, choices["kind"], on("kind"))
    palette = [(name, name.removesuffix("_r")) for name in choices["palette"]]
    _choice(row, COLORS, "Colors", palette, choices["colors"], on("colors"))
    opacities = [(value, percent(value, 0)) for value in OPACITIES]
    _choice(row, OPACITY, "Opacity", opacities, state.opacity, on("opacity"))
    if not choices["always_signed"]:
        _check(row, SIGNED, "Negative too", choices["signed"], on("signed"))


def add_queue(panel: types.Object, state: PanelState, shown: Plain, on: On) -> None:
    """Add where one is in the queue, the steps in it, and its conditions."""
    queue = shown["queue"]
    row = panel.h_stack("queue", componentsProps=flow())
    _step(row, "previous_pair", "◀ Pair", "p", on)
    name = place_name(state)
    row.int(
        name,
        min=1,
        max=max(1, queue["count"]),
        default=queue["place"] + 1,
        view=types.FieldView(
            label="Number of the pair",
            compact=True,
            componentsProps=joined(item("76px"), _small_field()),
        ),
        on_change=on("place"),
    )
    row.md(queue["of"], name="of_text", componentsProps=joined(text(), item()))
    _step(row, "next_pair", "Pair ▶", "n", on)
    if queue["by_query"]:
        _step(row, "previous_query", "◀ Query", None, on)
        _step(row, "next_query", "Query ▶", None, on)
    row.md(
        queue["reviewed"], name="reviewed_text", componentsProps=joined(text(), item())
    )
    row.btn(
        "filter",
        label="Filter and order" + (" ▴" if state.filtering else " ▾"),
        on_click=on("filter"),
        componentsProps=joined(button(queue["filtered"]), item()),
    )
    if queue["handed"]:
        row.md(
            queue["handed"], name="handed_text", componentsProps=joined(text(), item())
        )
        row.btn(
            "leave",
            label="Leave this queue",
            on_click=on("leave"),
            componentsProps=joined(button(), item()),
        )
    else:
        _check(row, IN_VIEW, "Only the view", state.in_view, on("in_view"))
    if state.filtering:
        _add_conditions(panel, state, shown, on)


def add_verdicts(panel: types.Object, state: PanelState, shown: Plain, on: On) -> None:
    """Add the verdicts that can be given on the pair."""
    verdict = shown["verdict"]
    row = panel.h_stack("verdicts", componentsProps=flow("6px"))
    row.md(verdict["head"], name="verdict_text", componentsProps=joined(text(), item()))
    for index, (name, key) in enumerate(VERDICT_KEYS.items()):
        row.btn(
            f"verdict_{index}",
            label=name,
            title=f"{name} (Alt+{key.upper()})",
            on_click=on("verdict"),
            params={"text": name},
            componentsProps=joined(button(verdict["chosen"] == name, key), item()),
        )
    row.str(
        own_path(state).rpartition(".")[2],
        view=types.FieldView(
            placeholder="own words",
            compact=True,
            label="own words",
            componentsProps=joined(item("130px"), _small_field()),
        ),
    )
    row.btn(
        "give",
        label="Give",
        title="Give the verdict in own words",
        on_click=on("own_verdict"),
        componentsProps=joined(button(), item()),
    )
    row.btn(
        "undo",
        label="Undo",
        title="Take the last verdict back (Alt+U)",
        disabled=not state.undo,
        on_click=on("undo"),
        componentsProps=joined(button(key="u"), item()),
    )
    _check(row, ADVANCE, "then the next", state.advance, on("advance"))


def add_actions(panel: types.Object, shown: Plain, on: On) -> None:
    """Add what else can be done with the pair."""
    row = panel.h_stack("actions", componentsProps=flow("6px"))
    for name, label, chosen in shown["actions"]:
        row.btn(
            name,
            label=label,
            on_click=on(name),
            componentsProps=joined(button(chosen), item()),
        )


def add_region_choice(row: types.Object, shown: Plain, on: On) -> None:
    """Add the choice of the receipt's regions."""
    fields = [
        (THIRDS, "thirds"),
        *((name, name) for name in shown["choices"]["fields"]),
    ]
    _choice(row, REGION, "Regions", fields, shown["choices"]["region"], on("region"))


# --------------------------------------------------------------------------------------
# Parts
# --------------------------------------------------------------------------------------


def _add_conditions(
    panel: types.Object, state: PanelState, shown: Plain, on: On
) -> None:
    """Add the conditions and the order of the queue."""
    choices, spec = shown["choices"], state.spec.to_dict()
    row = panel.h_stack("conditions", componentsProps=flow("8px 12px", "flex-end"))
    event = on("condition")
    orders = {
        name: label
        for name, label in ORDERS.items()
        if name != SUSPECTS or choices["suspects"]
    }
    cameras = [(ANY, "any"), *((name, name) for name in choices["cameras"])]
    kinds = [(ANY, "any"), *((name, name) for name in choices["suspects"])]
    outcomes = [(ANY, "any"), *((name, name) for name in OUTCOMES)]
    reviewed = [(ANY, "any"), *REVIEWED.items()]
    for name, label, listed in (
        ("order", "Order", list(orders.items())),
        ("outcome", "Outcome", outcomes),
        ("ranks", "Ranks", list(RANKS.items())),
        ("reviewed", "Reviewed", reviewed),
        ("query_camera", "Query's camera", cameras if choices["cameras"] else []),
        ("neighbor_camera", "Neighbor's camera", cameras if choices["cameras"] else []),
        ("suspect", "Suspects", kinds if choices["suspects"] else []),
    ):
        if listed:
            value = ANY if spec[name] is None else spec[name]
            _choice(row, f"conditions.{name}", label, listed, value, event)
    for name, label in (
        ("min_similarity", "Similarity from"),
        ("max_similarity", "Similarity up to"),
    ):
        row.float(
            name,
            default=spec[name],
            view=types.FieldView(
                label=label,
                componentsProps=joined(item("96px"), _small_field(0.05), _label()),
            ),
            on_change=event,
        )


def _choice(
    row: types.Object,
    path: str,
    label: str,
    choices: Iterable[tuple[Any, str]],
    value: Any,
    event: Any,
) -> None:
    """Add a drop-down list."""
    view = types.DropdownView(
        label=label,
        componentsProps=joined(item("auto", minWidth="96px"), _label(), _small_list()),
    )
    for one, shown in choices:
        view.add_choice(one, label=shown)
    row.enum(
        choice_name(path, value).rpartition(".")[2],
        view.values(),
        label=label,
        default=value,
        view=view,
        on_change=event,
    )


def _check(row: types.Object, path: str, label: str, value: bool, event: Any) -> None:
    """Add a check box."""
    row.bool(
        choice_name(path, value).rpartition(".")[2],
        label=label,
        default=value,
        view=types.CheckboxView(
            label=label,
            componentsProps=joined(
                item(),
                {
                    "container": {"sx": {"margin": 0, "& p, & h6": _SMALL}},
                    "checkbox": {"size": "small", "sx": {"padding": "4px"}},
                },
            ),
        ),
        on_change=event,
    )


def _step(row: types.Object, name: str, label: str, key: str | None, on: On) -> None:
    """Add a button that steps through the queue."""
    told = name.replace("_", " ").capitalize()
    row.btn(
        name,
        label=label,
        title=told if key is None else f"{told} (Alt+{key.upper()})",
        on_click=on(name),
        componentsProps=joined(button(key=key), item()),
    )


_SMALL = {"fontSize": "0.8rem", "lineHeight": 1.3}


def _label() -> Style:
    """Return the style of the label above an input."""
    return {"container": {"sx": {"& > div:first-of-type p, & h6": _SMALL}}}


def _small_list() -> Style:
    """Return the style of a drop-down list that is as high as a button."""
    inner = {"& .MuiSelect-select": {"padding": "4px 28px 4px 8px", **_SMALL}}
    return {"select": {"sx": inner}}


def _small_field(step: float = 1) -> Style:
    return {
        "field": {
            "inputProps": {
                "step": step,
                "style": {"padding": "4px 8px", "fontSize": "0.85rem"},
            }
        }
    }
