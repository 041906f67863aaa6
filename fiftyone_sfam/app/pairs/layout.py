"""Where the panel of pairs shows its pictures, and the styles of its elements.

The layout holds texts and sizes only; pictures are data, which the App is sent beside
it, at the paths that the functions here name. The App draws every element of a panel
anew, several times per event, so what can be said in one element is not said in three.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from fiftyone_sfam.app.pairs.maps import NEIGHBOR, QUERY
from fiftyone_sfam.data.text import escape_markdown, shorten
from fiftyone_sfam.retrieval.pairs import OUTCOMES

Plain = dict[str, Any]
"""Plain data that goes to the App and comes back."""

On = Callable[[str], Callable[[foo.ExecutionContext], Any]]
"""Returns the event of the panel that has a name."""

# Widths at which a large image that has less room is drawn smaller, as shares of its
# own width. CSS cannot divide lengths, so the scale goes in steps.
_STEPS = 16


_CAPTION_WIDTH = 92


OUTCOME_COLORS = dict(zip(OUTCOMES, ("#1a85ff", "#d41159", "#8a8a8a"), strict=True))
"""Colors of true matches, false matches and the rest; the color-blind can tell them."""

MARKS = dict(zip(OUTCOMES, ("✓", "✗", "?"), strict=True))
"""What says the same as the colors."""

ACCENT = "#ff6d04"
"""FiftyOne's own color of what is chosen."""

MOST_SHOWN = 40
"""Characters of an identity or another text from the data that are shown."""

Style = dict[str, Any]


def image_path(side: str) -> str:
    """Return the path of the data of a large image."""
    return f"pair.{side}.stage.image"


def places_path(side: str) -> str:
    """Return the path of the data of what can be clicked over a large image."""
    return f"pair.{side}.stage.places"


def strip_path(index: int) -> str:
    """Return the path of the data of a neighbor of the strip."""
    return f"strip.neighbor_{index}"


def missed_path(side: str) -> str:
    """Return the path of the data of one of the two images of a missed true match."""
    return f"missed.both.{side}.image"


def add_pair(panel: types.Object, shown: Plain, on: On) -> None:
    """Add the two large images, side by side however narrow the pane is."""
    row = panel.h_stack(
        "pair",
        componentsProps={
            "grid": {
                "sx": {
                    "display": "flex",
                    "flexWrap": "nowrap",
                    "gap": "12px",
                    # Captions may take another line on one side than on the other.
                    "alignItems": "flex-end",
                }
            }
        },
    )
    sides = shown["sides"]
    most = max(one["caption"].count("\n") + 1 for one in sides.values())
    for side in (QUERY, NEIGHBOR):
        _add_large(row, side, sides[side], most, on)
    bar = shown.get("bar")
    if bar:
        _add_bar(panel, bar)


def add_strip(panel: types.Object, shown: Plain, on: On) -> None:
    """Add the query's neighbors, and the steps from one to the next."""
    strip = shown["strip"]
    head = panel.h_stack("strip_head", componentsProps=flow())
    head.md(strip["head"], name="strip_text", componentsProps=joined(text(), item()))
    for name, label, key in (
        ("previous_neighbor", "◀ Neighbor", "k"),
        ("next_neighbor", "Neighbor ▶", "j"),
    ):
        head.btn(
            name,
            label=label,
            title=f"{name.replace('_', ' ').capitalize()} (Alt+{key.upper()})",
            on_click=on(name),
            componentsProps=joined(button(key=key), item()),
        )
    row = panel.h_stack("strip", componentsProps=flow("8px", "flex-start"))
    for index, one in enumerate(strip["neighbors"]):
        _add_neighbor(row, index, one, on)


def add_missed(panel: types.Object, missed: Plain) -> None:
    """Add the query beside its true match, with what sets them apart."""
    box = panel.v_stack("missed", componentsProps=column("8px"))
    box.md(missed["head"], name="missed_text", componentsProps=text())
    both = box.h_stack("both", componentsProps=flow("12px", "flex-start"))
    for side in ("query", "true"):
        one = missed[side]
        part = both.v_stack(
            side, componentsProps=joined(column(), item(f"{one['size'][0]}px"))
        )
        if one["there"]:
            part.img(
                "image",
                width=f"{one['size'][0]}px",
                height=f"{one['size'][1]}px",
                alt_text=f"The {side} image with what sets it apart",
            )
        part.md(one["caption"], name="caption", componentsProps=text("0.8rem"))


def paragraphs(texts: Iterable[str]) -> str:
    """Return Markdown with a paragraph for each text."""
    return "\n\n".join(one.strip() for one in texts)


# --------------------------------------------------------------------------------------
# Parts
# --------------------------------------------------------------------------------------


def _add_large(
    row: types.Object, side: str, one: Plain, caption_lines: int, on: On
) -> None:
    """Add a large image with its caption, and what can be clicked over it."""
    width, height = one["size"]
    part = row.v_stack(
        side,
        componentsProps=joined(
            column(),
            item(
                f"{width}px",
                flex=f"0 1 {width}px",
                minWidth=0,
                # What is in it can ask for its width.
                containerType="inline-size",
            ),
        ),
    )
    part.md(
        one["caption"],
        name="caption",
        componentsProps=text(minHeight=f"{1.5 * caption_lines}em", lineHeight=1.5),
    )
    if not one["there"]:
        part.md(
            "No image to show",
            name="nothing",
            componentsProps=text(
                border="1px dashed",
                borderColor="divider",
                padding="24px 8px",
                textAlign="center",
                color="text.secondary",
            ),
        )
        return
    stage = part.v_stack("stage", componentsProps=_stage(width, height))
    stage.img(
        "image",
        width=f"{width}px",
        height=f"{height}px",
        alt_text=f"The {side} with its map",
        componentsProps={"image": {"style": {"display": "block"}}},
    )
    if one["clickable"]:
        stage.plot(
            "places",
            layout=_places_layout(width, height),
            width=f"{width}px",
            height=f"{height}px",
            config={"displayModeBar": False, "scrollZoom": False, "doubleClick": False},
            on_click=on(f"{side}_place"),
            componentsProps={
                "item": {
                    "sx": {
                        "position": "absolute",
                        "inset": 0,
                        "& .nsewdrag": {"cursor": "crosshair"},
                    }
                }
            },
        )


def _add_bar(panel: types.Object, bar: Plain) -> None:
    """Add the color bar: its gradient, its ticks and their unit."""
    gradient = {
        "content": '""',
        "flex": "0 0 100%",
        "height": "12px",
        "borderRadius": "2px",
        "background": bar["gradient"],
    }
    panel.md(
        paragraphs(tick.replace("-", "−") for tick in bar["ticks"]),
        name="bar",
        componentsProps=text(
            "0.75rem",
            width="min(100%, 480px)",
            display="flex",
            flexWrap="wrap",
            justifyContent="space-between",
            **{
                "&::before": gradient,
                # FiftyOne's own heading of the element, which is empty.
                "& > div": {"display": "none"},
            },
        ),
    )
    panel.md(
        bar["unit"],
        name="unit",
        componentsProps=joined(
            text("0.75rem", color="text.secondary"), item("auto", marginTop="-8px")
        ),
    )


def _add_neighbor(row: types.Object, index: int, one: Plain, on: On) -> None:
    """Add a neighbor of the strip, underlined in the color of its outcome."""
    width, height = one["size"]
    caption = ("▶ " if one["chosen"] else "") + one["caption"]
    params = {"place": one["place"]}
    if not one["there"]:
        part = row.v_stack(
            f"neighbor_{index}",
            componentsProps=joined(column("2px"), item(f"{_CAPTION_WIDTH}px")),
        )
        part.btn(
            "open",
            label="Show",
            on_click=on("neighbor"),
            params=params,
            componentsProps=button(one["chosen"]),
        )
        part.md(caption, name="caption", componentsProps=text("0.75rem"))
        return
    row.img(
        f"neighbor_{index}",
        width=f"{width}px",
        height=f"{height}px",
        alt_text=f"Neighbor {one['place'] + 1} with its map",
        label=caption,
        on_click=on("neighbor"),
        params=params,
        componentsProps={
            # FiftyOne makes an element as high as its picture alone.
            "item": {
                "sx": {
                    "width": f"{max(width, _CAPTION_WIDTH)}px",
                    "height": "auto !important",
                }
            },
            # What FiftyOne writes above a picture is read better below it.
            "container": {
                "sx": {
                    "display": "flex",
                    "flexDirection": "column-reverse",
                    "justifyContent": "flex-end",
                    "height": "auto",
                }
            },
            "header": {
                "label": {
                    "sx": {
                        "fontSize": "0.75rem",
                        "lineHeight": 1.4,
                        "marginTop": "4px",
                        "overflowWrap": "anywhere",
                        "& p": {"margin": 0, "fontSize": "inherit"},
                    }
                }
            },
            "image": {
                "style": {
                    "display": "block",
                    "cursor": "pointer",
                    "width": f"{width}px",
                    "height": f"{height}px",
                    "boxSizing": "content-box",
                    "borderBottom": f"4px solid {one['color']}",
                    "outline": f"2px solid {ACCENT}" if one["chosen"] else "none",
                    "outlineOffset": "1px",
                }
            },
        },
    )


def _places_layout(width: int, height: int) -> Plain:
    """Return the layout of a plot that lies over an image, pixel by pixel."""
    axis = {
        "visible": False,
        "fixedrange": True,
        "automargin": False,
        "showgrid": False,
        "zeroline": False,
    }
    return {
        "width": width,
        "height": height,
        "autosize": False,
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0, "pad": 0},
        "xaxis": {**axis, "range": [0, 1]},
        "yaxis": {**axis, "range": [1, 0]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hovermode": "closest",
        "showlegend": False,
        "dragmode": False,
    }


def _stage(width: int, height: int) -> Style:
    """Return the style of an image and its overlay, scaled together to fit.

    Plotly keeps the size that it was drawn in, and allows for being scaled as a whole.
    """
    rules: Style = {
        "display": "block",
        "position": "relative",
        "width": f"{width}px",
        "height": f"{height}px",
        "transformOrigin": "0 0",
    }
    for step in range(_STEPS, 2, -1):
        scale = (step - 1) / _STEPS
        rules[f"@container (max-width: {width * step / _STEPS - 0.5:g}px)"] = {
            "transform": f"scale({scale:g})",
            "marginBottom": f"{height * (scale - 1):g}px",
        }
    return {"grid": {"sx": rules}}


# --------------------------------------------------------------------------------------
# Texts from the data, and styles
# --------------------------------------------------------------------------------------


def as_text(text: str | None, *, most: int | None = MOST_SHOWN) -> str:
    """Turn a text from the data into Markdown that shows it as it is."""
    if text is None:
        return "(no identity)"
    return escape_markdown(text if most is None else shorten(text, most))


def as_label(text: str) -> str:
    """Turn a text from the data into one that Plotly shows as it is.

    Plotly draws some HTML tags in its texts, and ``%{...}`` in its templates.
    """
    return html.escape(shorten(text, MOST_SHOWN)).replace("%{", "%\u200b{")


def flow(gap: str = "8px", align: str = "center") -> Style:
    """Return the style of a row that wraps where the pane is narrow."""
    return {
        "grid": {
            "sx": {
                "display": "flex",
                "flexWrap": "wrap",
                "gap": gap,
                "alignItems": align,
                "justifyContent": "flex-start",
            }
        }
    }


def column(gap: str = "4px") -> Style:
    """Return the style of a column that is as wide as what it is in."""
    return {
        "grid": {
            "sx": {
                "display": "flex",
                "flexDirection": "column",
                "gap": gap,
                "alignItems": "stretch",
            }
        }
    }


def item(width: str = "auto", **rules: Any) -> Style:
    """Return the style of an element as an item of a row."""
    return {"item": {"sx": {"width": width, "minWidth": 0, **rules}}}


def text(size: str = "0.85rem", **rules: Any) -> Style:
    """Return the style of a text, without the margins of Markdown's paragraphs."""
    rules = {"fontSize": size, "lineHeight": 1.4, "overflowWrap": "anywhere", **rules}
    # FiftyOne's own rules for paragraphs are as strong as one "&".
    inner = {"margin": 0, "fontSize": "inherit"}
    return {"container": {"sx": {**rules, "&&& p": inner}}}


def button(chosen: bool = False, key: str | None = None) -> Style:
    """Return the style of a button."""
    rules: Style = {
        "minWidth": 0,
        "padding": "2px 10px",
        "fontSize": "0.85rem",
        "whiteSpace": "nowrap",
        # FiftyOne's tertiary buttons are gray on gray in both themes.
        "color": "text.primary",
        "&.Mui-disabled": {
            "color": "text.disabled",
            "backgroundColor": "transparent",
            "boxShadow": "inset 0 0 0 1px currentColor",
        },
    }
    if chosen:
        rules["boxShadow"] = f"inset 0 0 0 2px {ACCENT}"
    found: Style = {"button": {"sx": rules}}
    if key is not None:
        found["button"]["accessKey"] = key
    return found


def joined(*styles: Style) -> Style:
    """Put styles of different parts of an element together."""
    return {name: value for style in styles for name, value in style.items()}
