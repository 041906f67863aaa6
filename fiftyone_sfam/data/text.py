"""Texts for people: numbers, shares, long names, Markdown and paths."""

from __future__ import annotations

import math
import re
from typing import Any

NOT_KNOWN = "unknown"
"""Stands for a number that is not known."""

NO_LABEL = "(none)"
"""Stands for a label that is not known."""

# They join letters and emoji, and print nothing themselves.
_JOINERS = "\u200c\u200d"
_MARKUP = frozenset("\\`*_{}[]()#+-.!|~<>&$:")
# One or more folders, as paths begin on Windows and elsewhere.
_FOLDERS = re.compile(r"(?:[A-Za-z]:)?(?:[\\/][^\\/\s'\"<>|:*?]+)+[\\/](?=[^\\/\s])")


def label_text(value: Any) -> str | None:
    """Return a label as text; None if it is missing, NaN or empty."""
    if value is None or value == "":
        return None
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if value.is_integer():
            return str(int(value))
    return str(value)


def number_text(text: str) -> str:
    """Return a label as that of the number that it spells; others stay as they are."""
    for kind in (int, float):
        try:
            return label_text(kind(text)) or text
        except ValueError:
            continue
    return text


def number(value: float | None, digits: int = 4) -> str:
    """Round a number; a rounded zero has no sign."""
    if value is None or math.isnan(value):
        return NOT_KNOWN
    if abs(value) >= 1e6:
        return f"{value:.3g}"
    shown = f"{value:.{digits}f}"
    return shown.lstrip("-") if float(shown) == 0 else shown


def percent(value: float | None, digits: int = 1) -> str:
    """Show a share as a percentage."""
    if value is None or math.isnan(value):
        return NOT_KNOWN
    return f"{number(100 * value, digits)} %"


def percent_between(value: float, low: float, high: float) -> str:
    """Show a share and its interval as percentages."""
    shown = percent(value)
    if math.isnan(value) or math.isnan(low) or math.isnan(high):
        return shown
    return f"{shown} ({number(100 * low, 1)} to {number(100 * high, 1)})"


def points_between(value: float, low: float, high: float) -> str:
    """Show a difference of shares with its interval in points, with signs."""
    if math.isnan(value):
        return NOT_KNOWN
    shown, *ends = (f"{round(100 * one, 1) + 0.0:+.1f}" for one in (value, low, high))
    return shown if math.isnan(low + high) else f"{shown} ({' to '.join(ends)})"


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def shorten(text: str, length: int) -> str:
    """Cut a text to a number of characters, the last one an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def one_line(text: object, length: int = 100) -> str:
    """Return a text on one line, shortened, without characters that do not print."""
    line = " ".join(str(text).split())
    printed = (c if c.isprintable() or c in _JOINERS else "\ufffd" for c in line)
    return shorten("".join(printed), length)


def short(name: str | None, length: int = 24) -> str:
    """Return a name on one line and of bounded length."""
    return NO_LABEL if name is None else one_line(name, length)


def quoted(name: str | None, length: int = 24) -> str:
    """Return a short name for a sentence, isolated from its direction of writing."""
    return f"\u2068{short(name, length)}\u2069"


def escape_markdown(text: str) -> str:
    """Escape a text so that Markdown shows it as it is."""
    return "".join(f"\\{letter}" if letter in _MARKUP else letter for letter in text)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without its final full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def type_and_first_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message, if it has one."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"


def file_name(path: str) -> str:
    """Return the name of a file, with slashes or backslashes in its path."""
    return re.split(r"[\\/]", path)[-1]


def without_folders(text: str, path: str = "") -> str:
    """Cut the folders off all paths in a text."""
    if path:
        text = text.replace(path, file_name(path))
    return _FOLDERS.sub("", text)
