"""Texts from the data in Markdown, which FiftyOne's own elements show."""

from __future__ import annotations

from fiftyone_sfam.data.text import escape_markdown, shorten

MOST_SHOWN = 40
"""Characters of a text from the data that are shown."""


def as_text(text: str, *, most: int | None = MOST_SHOWN) -> str:
    """Turn a text from the data into Markdown that shows it as it is."""
    return escape_markdown(text if most is None else shorten(text, most))
