"""Tables of a result: the texts that are shown, and the exact values behind them.

The command line, the report and the panel lay the same tables out.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fiftyone_sfam.audit.statistics.bootstrap import Estimate
from fiftyone_sfam.data import text as text_of

Kind = Literal["text", "name", "number"]

MAX_ROWS = 200
"""Most rows that a table shows."""

# Characters that change the direction of the text after them.
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")


@dataclass(frozen=True)
class Shown:
    """A cell."""

    text: str  # what is shown
    kind: Kind = "text"
    value: float | int | None = None  # the exact value of a number


NOTHING = Shown("")
"""Cell of a figure that does not exist."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under names."""

    head: tuple[str, ...]
    rows: tuple[tuple[Shown, ...], ...]
    left_out: int = 0  # rows beyond those

    def first(self, most: int = MAX_ROWS) -> Table:
        """Return the first rows."""
        left_out = max(0, len(self.rows) - most)
        return Table(self.head, self.rows[:most], self.left_out + left_out)

    def columns(self, titles: Mapping[str, str]) -> Table:
        """Return some of the columns, with other titles."""
        places = [self.head.index(name) for name in titles]
        rows = tuple(tuple(row[place] for place in places) for row in self.rows)
        return Table(tuple(titles.values()), rows, self.left_out)

    def texts(self) -> list[list[str]]:
        """Return the rows as texts."""
        return [[cell.text for cell in row] for row in self.rows]


def table(
    head: Sequence[str], rows: Iterable[Sequence[Shown]], most: int = MAX_ROWS
) -> Table:
    """Make a table of the first rows."""
    return Table(tuple(head), tuple(tuple(row) for row in rows)).first(most)


def text(value: Any) -> Shown:
    """Show a text of this package."""
    return Shown("" if value is None else str(value))


def name(value: Any, nothing: str = "none") -> Shown:
    """Show a text of the dataset, such as an identity."""
    return Shown(nothing) if value is None else Shown(str(value), "name")


def count(value: int) -> Shown:
    """Show a number of things."""
    return Shown(f"{value:,}", "number", int(value))


def number(value: float | None, digits: int = 3) -> Shown:
    """Show a number with some digits behind the point."""
    return _number(value, text_of.number(value, digits))


def percent(value: float | None, digits: int = 1) -> Shown:
    """Show a share from 0 to 1."""
    return _number(value, text_of.percent(value, digits))


def share(value: float, low: float, high: float) -> Shown:
    """Show a share with its interval, both from 0 to 1."""
    return _number(value, text_of.percent_between(value, low, high))


def _number(value: float | None, shown: str) -> Shown:
    known = None if value is None or math.isnan(value) else float(value)
    return Shown(shown, "number", known)


def estimate(value: Estimate) -> Shown:
    """Show a share with its interval."""
    return share(value.value, value.low, value.high)


def points(value: Estimate) -> Shown:
    """Show a difference of shares, in points, with its interval."""
    return _number(value.value, text_of.points_between(*vars(value).values()))


def prose(sentence: str, names: Iterable[str | None] = ()) -> str:
    """Keep names in a sentence from turning its direction."""
    shown = _DIRECTIONS.sub("\ufffd", sentence)
    names_shown = {
        _DIRECTIONS.sub("\ufffd", isolated)
        for isolated in names
        if isolated is not None
    }
    for isolated in sorted(names_shown, key=len, reverse=True):
        if any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in isolated):
            shown = shown.replace(isolated, f"\u2068{isolated}\u2069")
    return shown
