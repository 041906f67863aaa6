"""What the texts, notes and times of verdicts may be."""

from __future__ import annotations

import unicodedata
from datetime import datetime

from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.errors import DataError

MAX_TEXT, MAX_NOTE = 200, 2000
"""Maximum numbers of characters of a verdict and of a note."""


def clean_text(text: str) -> str:
    """Return the text of a verdict without surrounding white space; raise if invalid.

    A text must not begin with a dollar sign, because FiftyOne would read the tag as the
    name of a field.
    """
    clean = text.strip() if isinstance(text, str) else ""
    if (
        len(clean) > MAX_TEXT
        or not _is_visible(clean)
        or _has_controls(clean, "")
        or clean.startswith("$")
    ):
        raise DataError(
            f"{shorten(ascii(text), 60)} cannot be a verdict; give one line of 1 to "
            f"{MAX_TEXT} characters, without control characters, that does not begin "
            "with $."
        )
    return clean


def clean_note(note: str) -> str:
    """Return a note without surrounding white space; raise if it is invalid."""
    clean = note.strip() if isinstance(note, str) else None
    if clean is None or len(clean) > MAX_NOTE or _has_controls(clean, "\n\r\t"):
        raise DataError(
            f"{shorten(ascii(note), 60)} cannot be the note of a verdict; give a text "
            f"of at most {MAX_NOTE} characters without control characters."
        )
    return clean


def clean_time(time: str) -> str:
    """Return the time of a verdict in the recorded format; raise if it is invalid."""
    try:
        return datetime.fromisoformat(time).isoformat(timespec="milliseconds")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{shorten(ascii(time), 60)} cannot be the time of a verdict; give a time "
            "in ISO 8601."
        ) from error


def _has_controls(text: str, allowed: str) -> bool:
    """Return whether a text has control characters, line breaks or surrogates."""
    kinds = {unicodedata.category(char) for char in text if char not in allowed}
    return bool(kinds & {"Cc", "Cs", "Zl", "Zp"})


def _is_visible(text: str) -> bool:
    """Return whether a text has a visible character."""
    return any(unicodedata.category(char)[0] not in "CZ" for char in text)
