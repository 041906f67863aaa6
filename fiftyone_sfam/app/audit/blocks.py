"""The blocks that a page of the audit panel is made of, and how FiftyOne draws them.

A page is a list of blocks. What a block needs to be laid out is plain data, which the
App keeps as the panel's state and sends back with every event; what it shows (the
traces of a figure, the rows of a table) goes to the App once, as the panel's data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.audit.evaluation.display import Figure
from fiftyone_sfam.audit.statistics.cells import Table
from fiftyone_sfam.data.text import escape_markdown, short

BODY = "body"
HEIGHT = 300
"""Height of a figure, in pixels."""

Handler = Callable[[foo.ExecutionContext], Any]
Handlers = Mapping[str, Handler]
Layout = Mapping[str, Any]

_SMALL = "0.85rem"
_BORDER = "rgba(var(--fo-palette-common-onBackgroundChannel) / 0.2)"
# As many columns as fit; a block is never wider than the panel.
_BODY_STYLE = {
    "display": "grid",
    "gridTemplateColumns": "repeat(auto-fit, minmax(min(100%, 420px), 1fr))",
    "gap": "20px 24px",
    "alignItems": "start",
    "pb": 4,
}
_CARDS_STYLE = {
    "display": "grid",
    "gridTemplateColumns": "repeat(auto-fit, minmax(98px, 1fr))",
    "gap": 1,
}
_CARD_STYLE = {
    "width": "100%",
    "height": "100%",
    "display": "block",
    "textAlign": "left",
    "textTransform": "none",
    "px": 1.25,
    "py": 0.75,
    # Not the shorthand, which would come after the color of FiftyOne's button.
    "borderWidth": "1px",
    "borderStyle": "solid",
    "borderColor": _BORDER,
    "borderRadius": 1,
    "boxShadow": "none",
    "bgcolor": "background.level2",
    "&:hover": {"borderColor": "primary.main", "bgcolor": "background.level2"},
    "& p": {
        "whiteSpace": "pre-line",
        "fontSize": "0.78rem",
        "lineHeight": 1.45,
        "fontWeight": 400,
        "color": "text.secondary",
    },
    "& p::first-line": {
        "fontSize": "1.15rem",
        "fontWeight": 600,
        "color": "var(--fo-palette-text-primary)",
    },
}
_SMALL_BUTTON = {
    "textTransform": "none",
    "boxShadow": "none",
    "py": 0.25,
    "px": 1.25,
    "& p": {"fontSize": _SMALL},
}


@dataclass(frozen=True)
class Card:
    """A figure with its name; a click opens its images if it has a mark."""

    value: str  # formatted figure
    label: str  # name of the figure
    hint: str  # what it is, in a sentence
    mark: str = ""  # name of the mark that a click opens


@dataclass(frozen=True)
class Block:
    """A part of a page."""

    kind: str  # cards, plot, table, text, choice, slider, buttons or component
    name: str  # name of its property, of no other on the page
    settings: dict[str, Any] = field(default_factory=dict)
    content: Any = None  # what it shows, if that goes to the App as data
    value: Any = None  # what is chosen, of a control
    wide: bool = False  # whether it takes the whole width

    @property
    def path(self) -> str:
        """Where the App keeps its content or its value."""
        return f"{BODY}.{self.name}_block.{self.name}"

    def layout(self) -> dict[str, Any]:
        """Return what the panel's state has to hold to lay it out."""
        return {
            "kind": self.kind,
            "name": self.name,
            "wide": self.wide,
            "value": self.value,
            **self.settings,
        }


# --------------------------------------------------------------------------------------
# Making blocks
# --------------------------------------------------------------------------------------


def cards(name: str, listed: Sequence[Card]) -> Block:
    """Return a block of cards."""
    return Block("cards", name, {"cards": [vars(card) for card in listed]}, wide=True)


def plot(
    name: str,
    title: str,
    hint: str,
    figure: Figure,
    *,
    height: int = HEIGHT,
    wide: bool = False,
) -> Block:
    """Return a block of a figure."""
    settings = {
        "title": title,
        "hint": hint,
        "layout": figure.layout,
        "height": height,
        "select": figure.layout.get("dragmode") == "select",
    }
    return Block("plot", name, settings, figure.data, wide=wide)


def table(name: str, title: str, hint: str, result: Table) -> Block:
    """Return a block of a result's table."""
    names = [re.sub(r"\W+", "_", column).lower() for column in result.head]
    rows = [
        {
            "id": str(place),
            **{
                key: short(cell.text) if cell.kind == "name" else cell.text
                for key, cell in zip(names, row, strict=True)
            },
        }
        for place, row in enumerate(result.rows)
    ]
    columns = [
        [key, short(column, 32)] for key, column in zip(names, result.head, strict=True)
    ]
    settings = {"title": title, "hint": hint, "columns": columns}
    return Block("table", name, settings, rows, wide=True)


def text(name: str, markdown: str) -> Block:
    """Return a block of text."""
    return Block("text", name, {"markdown": markdown}, wide=True)


def warnings(texts: Iterable[str]) -> list[Block]:
    """Return blocks of warnings."""
    return [
        text(f"warning_{number}", f"**{escape_markdown(one)}**")
        for number, one in enumerate(texts)
    ]


def choice(name: str, label: str, values: Iterable[str], value: str) -> Block:
    """Return a block of a drop-down list."""
    settings = {"label": label, "choices": [[one, one] for one in values]}
    return Block("choice", name, settings, value=value, wide=True)


def slider(name: str, label: str, low: float, high: float, value: float) -> Block:
    """Return a block of a slider."""
    settings = {"label": label, "low": low, "high": high}
    return Block("slider", name, settings, value=value, wide=True)


def buttons(name: str, listed: Sequence[tuple[str, str, dict[str, Any]]]) -> Block:
    """Return a block of buttons: label, name of the event's handler, parameters."""
    settings = [
        {"label": label, "handler": handler, "params": params}
        for label, handler, params in listed
    ]
    return Block("buttons", name, {"buttons": settings}, wide=True)


def operators(name: str, **labels: str) -> Block:
    """Return a block of buttons that open the forms of operators, by their names."""
    return buttons(
        name,
        [(label, "on_operator", {"operator": one}) for one, label in labels.items()],
    )


def component(name: str, view: str, **settings: Any) -> Block:
    """Return a block of a component of the plugin's bundle, with what it is given."""
    settings = {"component": view, "settings": settings}
    return Block("component", name, settings, wide=True)


# --------------------------------------------------------------------------------------
# Drawing
# --------------------------------------------------------------------------------------


def styled(**styles: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a view that style its parts."""
    return {"componentsProps": {part: {"sx": style} for part, style in styles.items()}}


def render_blocks(
    panel: types.Object, blocks: Sequence[Layout], handlers: Handlers
) -> None:
    """Add blocks to a panel."""
    body = panel.grid(BODY, **styled(grid=_BODY_STYLE))
    for block in blocks:
        span: dict[str, Any] = {"gridColumn": "1 / -1"} if block["wide"] else {}
        if block["kind"] == "slider":
            # FiftyOne leaves more room around a slider than a figure above it needs.
            span["my"] = "-22px"
        holder = body.v_stack(
            f"{block['name']}_block",
            gap=0.5,
            **styled(
                item={"minWidth": 0, **span},
                grid={"gridTemplateColumns": "minmax(0, 1fr)"},
            ),
        )
        if block.get("title"):
            view = types.HeaderView(
                label=block["title"], description=block["hint"] or None
            )
            holder.view(f"{block['name']}_title", view)
        _DRAWN[block["kind"]](holder, block, handlers)


def small_button(
    row: types.Object,
    name: str,
    label: str,
    on_click: Handler,
    params: Mapping[str, Any] | None = None,
) -> None:
    """Add a button of the size of text."""
    row.btn(
        name,
        label=label,
        on_click=on_click,
        params=dict(params or {}),
        **styled(button=_SMALL_BUTTON, item={"width": "auto"}),
    )


def _draw_cards(holder: types.Object, block: Layout, handlers: Handlers) -> None:
    grid = holder.grid(block["name"], **styled(grid=_CARDS_STYLE))
    for place, card in enumerate(block["cards"]):
        # What is behind a card is opened by the card; a bare figure is no button.
        dead: dict[str, Any] = {} if card["mark"] else {"pointerEvents": "none"}
        grid.btn(
            f"card_{place}",
            label=f"{card['value']}\n{card['label']}",
            title=card["hint"],
            on_click=handlers["on_mark"] if card["mark"] else None,
            params={"mark": card["mark"]},
            **styled(button={**_CARD_STYLE, **dead}, container={"height": "100%"}),
        )


def _draw_plot(holder: types.Object, block: Layout, handlers: Handlers) -> None:
    holder.plot(
        block["name"],
        layout=block["layout"],
        height=f"{block['height']}px",
        width="100%",
        config={"displayModeBar": False, "scrollZoom": False},
        on_click=handlers["on_mark"],
        on_selected=handlers["on_mark"] if block["select"] else None,
    )


def _draw_table(holder: types.Object, block: Layout, handlers: Handlers) -> None:
    cell = {"fontSize": _SMALL, "py": 0.6, "px": 1, "verticalAlign": "top"}
    view = types.TableView(
        on_click_row=handlers["on_mark"],
        **styled(
            table={
                "minWidth": "100%",
                "& tbody tr": {"cursor": "pointer"},
                "& tbody tr:hover": {"bgcolor": "action.hover"},
            },
            tableContainer={
                "maxHeight": 420,
                "overflow": "auto",
                "boxShadow": "none",
                "border": "1px solid",
                "borderColor": _BORDER,
            },
            tableHeadCell={**cell, "fontWeight": 600},
            tableBodyCell=cell,
        ),
    )
    for key, label in block["columns"]:
        view.add_column(key, label=label)
    holder.list(block["name"], types.Object(), view=view)


def _draw_text(holder: types.Object, block: Layout, handlers: Handlers) -> None:
    holder.md(block["markdown"], name=block["name"])


def _draw_choice(holder: types.Object, block: Layout, handlers: Handlers) -> None:
    view = types.DropdownView(**styled(item={"maxWidth": 320}))
    for value, label in block["choices"]:
        view.add_choice(value, label=label)
    holder.enum(
        block["name"],
        view.values(),
        label=block["label"],
        default=block["value"],
        view=view,
        on_change=handlers["on_choice"],
    )


def _draw_slider(holder: types.Object, block: Layout, handlers: Handlers) -> None:
    holder.float(
        block["name"],
        min=block["low"],
        max=block["high"],
        default=block["value"],
        label=block["label"],
        view=types.SliderView(value_precision=3),
        on_change=handlers["on_choice"],
    )


def _draw_buttons(holder: types.Object, block: Layout, handlers: Handlers) -> None:
    row = holder.grid(
        block["name"],
        **styled(grid={"display": "flex", "flexWrap": "wrap", "gap": 1}),
    )
    for place, button in enumerate(block["buttons"]):
        handler, params = handlers[button["handler"]], button["params"]
        small_button(row, f"button_{place}", button["label"], handler, params)


def _draw_component(holder: types.Object, block: Layout, handlers: Handlers) -> None:
    view = types.View(
        component=block["component"],
        composite_view=True,
        ask=handlers["ask"],
        mark=handlers["on_mark"],
        **block["settings"],
    )
    holder.define_property(block["name"], types.Object(), view=view)


_DRAWN: Mapping[str, Callable[[types.Object, Layout, Handlers], None]] = {
    "cards": _draw_cards,
    "plot": _draw_plot,
    "table": _draw_table,
    "text": _draw_text,
    "choice": _draw_choice,
    "slider": _draw_slider,
    "buttons": _draw_buttons,
    "component": _draw_component,
}
