"""Texts for the component: plain, because React escapes them, and of bounded length."""

from __future__ import annotations

from typing import overload

from fiftyone_sfam.app.forms.choices import for_user
from fiftyone_sfam.data.text import shorten

MAX_LABEL = 200
"""Most characters of a text from the data: an identity, a camera, a name."""

MAX_SENTENCE = 2000
"""Most characters of a message."""


@overload
def label(text: str) -> str: ...


@overload
def label(text: None) -> None: ...


def label(text: str | None) -> str | None:
    """Cut a text from the data to :data:`MAX_LABEL` characters; None stays None."""
    return None if text is None else shorten(text, MAX_LABEL)


def sentence(message: object) -> str:
    """Turn a message into a sentence for users, without folders of the server."""
    text = for_user(message)
    return shorten(text[:1].upper() + text[1:], MAX_SENTENCE)
