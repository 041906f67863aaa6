"""Texts of the audit panel: numbers as people read them, names as nothing but names."""

from __future__ import annotations

import html
import math

NO_LABEL = "(none)"
UNKNOWN = "–"
"""Stands where there is no figure."""

_SHOWN = 24
# Left-to-right text goes on as it was after a name that is written right to left.
_ISOLATE, _POP = "\u2068", "\u2069"
_MARKUP = frozenset("\\`*_{}[]()#+-.!|~<>&$:")


def short(name: str | None, length: int = _SHOWN) -> str:
    """Return a name on one line and of bounded length."""
    if name is None:
        return NO_LABEL
    one_line = " ".join(name[: 4 * length].split())
    if len(one_line) <= length and len(name) <= 4 * length:
        return one_line
    return one_line[: length - 1] + "…"


def quoted(name: str | None, length: int = _SHOWN) -> str:
    """Return a short name for a sentence; its direction of writing stays its own."""
    return _ISOLATE + short(name, length) + _POP


def for_plotly(text: str) -> str:
    """Escape a text for Plotly, which takes some HTML as markup."""
    return html.escape(text, quote=False)


def for_markdown(text: str) -> str:
    """Escape a text for Markdown, nothing in it taken as markup."""
    return "".join(f"\\{one}" if one in _MARKUP else one for one in text)


def percent(value: float, digits: int = 1) -> str:
    """Return a share as percentage."""
    return UNKNOWN if math.isnan(value) else f"{100 * value:.{digits}f} %"


def percent_between(value: float, low: float, high: float) -> str:
    """Return a share and its interval as percentages."""
    if math.isnan(value):
        return UNKNOWN
    if math.isnan(low) or math.isnan(high):
        return percent(value)
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"
