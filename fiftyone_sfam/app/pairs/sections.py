"""What the panel of pairs shows below the pair: the receipt, the channels, the keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from fiftyone.operators import types
from numpy.typing import NDArray

from fiftyone_sfam.app.pairs.controls import KEYS_TEXT, add_region_choice
from fiftyone_sfam.app.pairs.layout import On, paragraphs
from fiftyone_sfam.app.pairs.maps import receipt_layout
from fiftyone_sfam.app.pairs.state import PanelState
from fiftyone_sfam.app.pairs.style import (
    ACCENT,
    as_label,
    button,
    column,
    flow,
    item,
    joined,
    text,
)
from fiftyone_sfam.app.pairs.texts import Plain

MOST_CHANNELS = 12
"""Channels that are listed."""

POSITIVE, NEGATIVE = "#b2182b", "#2166ac"
"""The ends of the first diverging color map."""

_CHANNEL = "ch "

RECEIPT_PATH, CHANNELS_PATH = "receipt.bars", "channels.bars"


def add_receipt(panel: types.Object, shown: Plain, on: On) -> None:
    """Add the receipt: its title, its bar, and what each part is worth."""
    receipt = shown["receipt"]
    box = panel.v_stack("receipt", componentsProps=column("2px"))
    head = box.h_stack("head", componentsProps=flow("12px", "flex-end"))
    head.md(
        receipt["title"], name="title", componentsProps=joined(text("0.95rem"), item())
    )
    if shown["choices"]["fields"]:
        add_region_choice(head, shown, on)
    box.plot(
        "bars",
        layout=receipt_layout(),
        height="64px",
        width="100%",
        config={"displayModeBar": False, "scrollZoom": False},
    )
    parts = receipt["parts"]
    square = {
        "content": '""',
        "flex": "none",
        "width": "10px",
        "height": "10px",
        "marginRight": "6px",
    }
    box.md(
        paragraphs(f"{part['name']} {part['text']}" for part in parts),
        name="legend",
        componentsProps=text(
            "0.8rem",
            display="flex",
            flexWrap="wrap",
            gap="2px 14px",
            **{
                # FiftyOne's own heading of the element, which is empty.
                "& > div": {"display": "none"},
                "&& p": {"display": "flex", "alignItems": "center"},
                "& p::before": square,
                **{
                    f"& p:nth-of-type({index + 1})::before": {
                        "backgroundColor": part["color"]
                    }
                    for index, part in enumerate(parts)
                },
            },
        ),
    )


def add_channels(panel: types.Object, state: PanelState, shown: Plain, on: On) -> None:
    """Add the most important channels, or the button that lists them."""
    box = panel.v_stack("channels", componentsProps=column("2px"))
    head = box.h_stack("head", componentsProps=flow())
    head.btn(
        "channels",
        label="Most important channels" + (" ▴" if state.channels else " ▾"),
        on_click=on("channels"),
        componentsProps=joined(button(), item()),
    )
    if state.channel is not None:
        head.btn(
            "clear_channel",
            label=f"Leave channel {state.channel}",
            on_click=on("clear_channel"),
            componentsProps=joined(button(True), item()),
        )
    if not state.channels:
        return
    channels = shown.get("channels") or {}
    box.md(channels.get("text", ""), name="text", componentsProps=text("0.8rem"))
    if channels.get("count"):
        box.plot(
            "bars",
            layout=_channels_layout(),
            height="170px",
            width="100%",
            config={"displayModeBar": False, "scrollZoom": False},
            on_click=on("channel"),
        )


def add_keys(panel: types.Object) -> None:
    """Add what can be done with the keyboard."""
    panel.md(
        KEYS_TEXT,
        name="keys",
        componentsProps=text("0.75rem", color="text.secondary", marginTop="8px"),
    )


def most_important(importance: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the channels of the largest absolute importance, largest first."""
    return np.argsort(-np.abs(importance), kind="stable")[:MOST_CHANNELS]


def channel_bars(
    importance: NDArray[np.float32], chosen: int | None
) -> list[dict[str, Any]]:
    """Draw the most important channels."""
    listed = most_important(importance)
    values = importance[listed]
    return [
        {
            "type": "bar",
            "x": [f"{_CHANNEL}{channel}" for channel in listed],
            "y": [float(value) for value in values],
            "hovertext": [
                f"channel {channel}: {value:+.4f}"
                for channel, value in zip(listed, values, strict=True)
            ],
            "name": as_label("importance"),
            "marker": {
                "color": [POSITIVE if value >= 0 else NEGATIVE for value in values],
                "line": {
                    "color": ACCENT,
                    "width": [3 if channel == chosen else 0 for channel in listed],
                },
            },
            "hoverinfo": "text",
        }
    ]


def channel_clicked(params: Mapping[str, Any]) -> int | None:
    """Read which channel's bar was clicked; None if it was none."""
    name = str(params.get("x", ""))
    number = name.removeprefix(_CHANNEL)
    return int(number) if name != number and number.isdecimal() else None


def channels_text(importance: NDArray[np.float32]) -> str:
    """Say how much of the similarity the listed channels carry."""
    listed = importance[most_important(importance)]
    return (
        f"The {len(listed)} of {len(importance)} channels that matter most add "
        f"{float(listed.sum()):+.3f} to a similarity of which the map carries "
        f"{float(importance.sum()):+.3f}. Click one to see it on both images."
    )


def _channels_layout() -> Plain:
    return {
        "xaxis": {"type": "category", "fixedrange": True, "tickangle": -45},
        "yaxis": {"fixedrange": True, "nticks": 5},
        "margin": {"l": 44, "r": 8, "t": 6, "b": 40},
        "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
