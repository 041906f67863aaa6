"""How the panel of pairs looks: colors, and the styles that FiftyOne's views take."""

from __future__ import annotations

import html
from typing import Any

from fiftyone_sfam.data.text import escape_markdown, shorten
from fiftyone_sfam.retrieval.pairs import OUTCOMES

OUTCOME_COLORS = dict(zip(OUTCOMES, ("#1a85ff", "#d41159", "#8a8a8a"), strict=True))
"""Colors of true matches, false matches and the rest; the color-blind can tell them."""

MARKS = dict(zip(OUTCOMES, ("✓", "✗", "?"), strict=True))
"""What says the same as the colors."""

ACCENT = "#ff6d04"
"""FiftyOne's own color of what is chosen."""

MOST_SHOWN = 40
"""Characters of an identity or another text from the data that are shown."""

Style = dict[str, Any]


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
