"""What a report's tables are made of: texts, and the exact values behind them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fiftyone_sfam.audit.statistics.bootstrap import Estimate

Kind = Literal["text", "name", "number"]

UNKNOWN = "unknown"
"""What is shown of a figure that is not known."""

MAX_ROWS = 200
"""Most rows that a table shows."""

# What changes the direction of the text behind it.
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")
# One folder or more, as paths begin on either kind of system.
_FOLDERS = re.compile(r"(?:[A-Za-z]:)?(?:[\\/][^\\/\s'\"<>|:*?]+)+[\\/](?=[^\\/\s])")


@dataclass(frozen=True)
class Shown:
    """A cell."""

    text: str  # what is shown
    kind: Kind = "text"
    value: float | int | None = None  # the exact value of a number


NOTHING = Shown("")
"""What is shown where there can be no figure."""


@dataclass(frozen=True)
class Table:
    """A table."""

    head: tuple[str, ...]  # names of its columns
    rows: tuple[tuple[Shown, ...], ...]  # its rows
    left_out: int = 0  # rows that there are beyond those


def table(
    head: Sequence[str], rows: Iterable[Sequence[Shown]], most: int = MAX_ROWS
) -> Table:
    """Make a table of the first rows."""
    listed = [tuple(row) for row in rows]
    return Table(tuple(head), tuple(listed[:most]), max(0, len(listed) - most))


def text(value: Any) -> Shown:
    """Show a text of our own."""
    return Shown("" if value is None else str(value))


def name(value: Any, nothing: str = "none") -> Shown:
    """Show a text of the dataset's, as an identity."""
    return Shown(nothing) if value is None else Shown(str(value), "name")


def count(value: int) -> Shown:
    """Show a number of things."""
    return Shown(f"{value:,}", "number", int(value))


def number(value: float | None, digits: int = 3) -> Shown:
    """Show a number with some digits behind the point."""
    if value is None or math.isnan(value):
        return Shown(UNKNOWN, "number")
    return Shown(_rounded(value, digits), "number", float(value))


def percent(value: float | None, digits: int = 1) -> Shown:
    """Show a share from 0 to 1."""
    if value is None or math.isnan(value):
        return Shown(UNKNOWN, "number")
    return Shown(f"{_rounded(100 * value, digits)}\u00a0%", "number", float(value))


def share(value: float, low: float, high: float) -> Shown:
    """Show a share with its interval, both from 0 to 1."""
    shown = percent(value)
    if shown.value is None or math.isnan(low) or math.isnan(high):
        return shown
    ends = f"{_rounded(100 * low, 1)} to {_rounded(100 * high, 1)}"
    return Shown(f"{shown.text} ({ends})", "number", shown.value)


def _rounded(value: float, digits: int) -> str:
    """Round a number for people: with a true minus sign, and none before zero."""
    if abs(value) >= 1e6:
        return f"{value:.3g}".replace("-", "−")
    shown = f"{value:.{digits}f}"
    return shown.lstrip("-") if float(shown) == 0 else shown.replace("-", "−")


def estimate(value: Estimate) -> Shown:
    """Show a share with its interval."""
    return share(value.value, value.low, value.high)


def prose(sentence: str, names: Iterable[str | None] = ()) -> str:
    """Keep names in a sentence from turning its direction."""
    shown = _DIRECTIONS.sub("\ufffd", sentence)
    found = {_DIRECTIONS.sub("\ufffd", one) for one in names if one is not None}
    for one in sorted(found, key=len, reverse=True):
        if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in one):
            shown = shown.replace(one, f"\u2068{one}\u2069")
    return shown


def without_folders(value: str, path: str = "") -> str:
    """Cut the folders off all paths in a text."""
    if path:
        value = value.replace(path, file_name(path))
    return _FOLDERS.sub("", value)


def file_name(path: str) -> str:
    """Return a file's name, whatever kind of system its path is of."""
    return re.split(r"[\\/]", path)[-1]
