"""The layout of the panel of pairs as a whole, with the receipt and the channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fiftyone.operators import types
from numpy.typing import NDArray

from fiftyone_sfam.app.pairs import controls as pair_controls
from fiftyone_sfam.app.pairs import layout as pair_layout
from fiftyone_sfam.app.pairs.layout import (
    ACCENT,
    On,
    Plain,
    Style,
    as_label,
    as_text,
    button,
    column,
    flow,
    item,
    joined,
    paragraphs,
    text,
)
from fiftyone_sfam.app.pairs.maps import Share
from fiftyone_sfam.app.pairs.state import PanelState
from fiftyone_sfam.data.text import percent

EMPTY_TEXT = (
    "### No explained run yet\n\nExplain the dataset's retrieval first: every query "
    "gets its nearest neighbors, with heatmaps of both sides. Or select two samples in "
    "the grid, and they are explained at once."
)

MOST_CHANNELS = 12
"""Channels that are listed."""

POSITIVE, NEGATIVE = "#b2182b", "#2166ac"
"""The ends of the first diverging color map."""

_CHANNEL = "ch "

RECEIPT_PATH, CHANNELS_PATH = "receipt.bars", "channels.bars"

COLORS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#f0e442",
)
"""The Okabe-Ito palette, which the color-blind can tell apart."""

_REMAINDER_COLOR = "#999999"


def lay_out(
    state: PanelState, shown: Plain | None, problem: str | None, on: On
) -> types.Property:
    """Lay the panel out."""
    panel = types.Object()
    note = text(borderLeft=f"3px solid {ACCENT}", paddingLeft="8px", paddingY="2px")
    if problem:
        panel.md(problem, name="problem_text", componentsProps=note)
    elif not shown:
        panel.md(EMPTY_TEXT, name="empty_text", componentsProps=text("0.95rem"))
        panel.btn(
            "explain",
            label="Explain retrieval",
            on_click=on("explain"),
            componentsProps=joined(button(), item("fit-content")),
        )
    if shown:
        pair_controls.add_controls(panel, state, shown, on)
        if shown["queue"]:
            pair_controls.add_queue(panel, state, shown, on)
        for index, message in enumerate(shown["notes"]):
            panel.md(message, name=f"note_{index}", componentsProps=note)
        if shown["sides"]:
            _add_pair(panel, state, shown, on)
    return types.Property(panel, view=types.VStackView(componentsProps=_root()))


def receipt_bars(shares: Sequence[Share]) -> list[dict[str, Any]]:
    """Draw the parts of a similarity one behind the other."""
    return [
        {
            "type": "bar",
            "orientation": "h",
            "x": [share.value],
            "y": [""],
            "name": as_label(share.name),
            "marker": {"color": color},
            "hovertemplate": _hover(share),
        }
        for share, color in zip(shares, share_colors(shares), strict=True)
    ]


def share_colors(shares: Sequence[Share]) -> tuple[str, ...]:
    """Return the colors of the parts; what no region carries is gray."""
    return (*COLORS[: len(shares) - 1], _REMAINDER_COLOR) if shares else ()


def share_text(share: Share) -> str:
    """Say what a part is worth, and how much of the area it has."""
    area = f" ({percent(share.area, 0)} of the area)" if share.area else ""
    # No minus in front of what is nothing.
    return f"{round(share.value, 3) + 0.0:+.3f}{area}"


def receipt_text(shares: tuple[Share, ...]) -> Plain | None:
    """Describe the receipt; None without one."""
    if not shares:
        return None
    total = sum(share.value for share in shares)
    return {
        "title": f"Similarity {total:.4f} by place on the query",
        "parts": [
            {
                "name": as_text(share.name),
                "text": share_text(share),
                "color": color,
            }
            for share, color in zip(shares, share_colors(shares), strict=True)
        ],
    }


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


# --------------------------------------------------------------------------------------
# Parts
# --------------------------------------------------------------------------------------


def _add_pair(panel: types.Object, state: PanelState, shown: Plain, on: On) -> None:
    """Lay the pair out, and what is told about it."""
    pair_layout.add_pair(panel, shown, on)
    if shown.get("verdict"):
        pair_controls.add_verdicts(panel, state, shown, on)
    pair_controls.add_actions(panel, shown, on)
    if shown.get("missed"):
        pair_layout.add_missed(panel, shown["missed"])
    if shown.get("strip"):
        pair_layout.add_strip(panel, shown, on)
    if shown.get("receipt"):
        _add_receipt(panel, shown, on)
    _add_channels(panel, state, shown, on)
    if shown.get("verdict"):
        panel.md(
            pair_controls.KEYS_TEXT,
            name="keys",
            componentsProps=text("0.75rem", color="text.secondary", marginTop="8px"),
        )


def _add_receipt(panel: types.Object, shown: Plain, on: On) -> None:
    """Add the receipt: its title, its bar, and what each part is worth."""
    receipt = shown["receipt"]
    box = panel.v_stack("receipt", componentsProps=column("2px"))
    head = box.h_stack("head", componentsProps=flow("12px", "flex-end"))
    head.md(
        receipt["title"], name="title", componentsProps=joined(text("0.95rem"), item())
    )
    if shown["choices"]["fields"]:
        pair_controls.add_region_choice(head, shown, on)
    box.plot(
        "bars",
        layout=_receipt_layout(),
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


def _add_channels(panel: types.Object, state: PanelState, shown: Plain, on: On) -> None:
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


def _receipt_layout() -> Plain:
    return {
        "barmode": "relative",
        "showlegend": False,
        "xaxis": {"zeroline": True, "fixedrange": True, "nticks": 8},
        "yaxis": {"visible": False, "fixedrange": True},
        "margin": {"l": 8, "r": 8, "t": 4, "b": 24},
        "bargap": 0.2,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }


def _channels_layout() -> Plain:
    return {
        "xaxis": {"type": "category", "fixedrange": True, "tickangle": -45},
        "yaxis": {"fixedrange": True, "nticks": 5},
        "margin": {"l": 44, "r": 8, "t": 6, "b": 40},
        "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }


def _root() -> Style:
    return {
        "container": {"sx": {"width": "100%"}},
        "grid": {
            "sx": {
                "display": "flex",
                "flexDirection": "column",
                "alignItems": "stretch",
                "gap": "10px",
                "padding": "12px",
                "width": "100%",
                "maxWidth": "860px",
            }
        },
    }


def _hover(share: Share) -> str:
    """Return what Plotly shows beside the pointer."""
    area = f"<br>{percent(share.area, 0)} of the area" if share.area else ""
    return f"{as_label(share.name)}: {share.value:+.4f}{area}<extra></extra>"
