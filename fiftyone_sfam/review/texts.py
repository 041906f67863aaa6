"""Which texts can be verdicts and notes."""

from __future__ import annotations

import unicodedata
from datetime import datetime

from fiftyone_sfam.errors import DataError

MAX_TEXT, MAX_NOTE = 200, 2000
"""Most characters of a verdict and of a note."""


def clean_text(text: str) -> str:
    """Return a verdict's text without white space around it, or refuse it.

    FiftyOne takes a tag with a dollar sign in front for a field's name, and does not
    find it; commas and everything else may stand in a tag.
    """
    clean = text.strip() if isinstance(text, str) else ""
    if (
        len(clean) > MAX_TEXT
        or not _is_visible(clean)
        or _has_controls(clean, "")
        or clean.startswith("$")
    ):
        raise DataError(
            f"{_shortened(text)} cannot be a verdict; give one line of 1 to {MAX_TEXT} "
            "characters, without control characters and without a $ in front."
        )
    return clean


def clean_note(note: str) -> str:
    """Return a note without white space around it, or refuse it."""
    clean = note.strip() if isinstance(note, str) else None
    if clean is None or len(clean) > MAX_NOTE or _has_controls(clean, "\n\r\t"):
        raise DataError(
            f"{_shortened(note)} cannot be the note of a verdict; give a text of at "
            f"most {MAX_NOTE} characters without control characters."
        )
    return clean


def clean_time(time: str) -> str:
    """Return the time of a verdict as it is recorded, or refuse it."""
    try:
        return datetime.fromisoformat(time).isoformat(timespec="milliseconds")
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{_shortened(time)} cannot be the time of a verdict; give a time in ISO "
            "8601."
        ) from error


def _has_controls(text: str, allowed: str) -> bool:
    """Tell whether a text has line breaks, controls, or what is no character."""
    kinds = {unicodedata.category(one) for one in text if one not in allowed}
    return bool(kinds & {"Cc", "Cs", "Zl", "Zp"})


def _is_visible(text: str) -> bool:
    """Tell whether a text has something to be seen, beside joiners and spaces."""
    return any(unicodedata.category(one)[0] not in "CZ" for one in text)


def _shortened(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
