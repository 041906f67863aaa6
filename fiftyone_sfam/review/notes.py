"""Verdicts about labels, and notes that name an identity."""

from __future__ import annotations

import re

WRONG, SAME, APART, FINE = "wrong label", "same person", "look-alike", "fine"
"""The verdicts about labels."""

_NAMED = re.compile(r"^\s*(query|neighbor)\s*:\s*(.*?)\s*$", re.IGNORECASE)


def named_in(note: str) -> list[tuple[str, str]]:
    """Return the sides of a pair, query or neighbor, that a note names, in order."""
    lines = map(_NAMED.match, note.splitlines())
    return [(line[1].lower(), line[2]) for line in lines if line is not None]


def name_in_note(side: str, name: str) -> str:
    """Return the line of a note that names a side; empty if it cannot be read back."""
    line = f"{side}: {name}"
    return line if named_in(line) == [(side, name)] else ""
