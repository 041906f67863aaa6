"""Parameters of operators as a client sends them: of any type until they are read.

A form's own bounds are for people; whoever talks to the server directly is held by
these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.errors import DataError

MAX_TEXT = 10_000
"""Most characters of a text."""

MAX_CHOSEN = 50
"""Most fields or values that are taken of a list."""

MAX_SEED = 2**32 - 1


def whole_number(
    params: Mapping[str, Any],
    name: str,
    default: int,
    *,
    least: int = 1,
    most: int,
) -> int:
    """Read a whole number of an operator's parameters."""
    value = params.get(name)
    return default if value is None else checked_whole(name, value, least, most)


def real_number(
    params: Mapping[str, Any], name: str, default: float, *, least: float, most: float
) -> float:
    """Read a number of an operator's parameters, as :func:`whole_number` does."""
    value = params.get(name)
    if value is None:
        return default
    if not is_number(value) or not least <= value <= most:
        raise DataError(
            f"{name} is {shown_value(value)}; a number from {least:g} to {most:g} is "
            "needed."
        )
    return float(value)


def some_texts(params: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Read a list of texts of an operator's parameters; empty where there is none."""
    values = params.get(name)
    if values is None or values == "":
        return ()
    listed = isinstance(values, (list, tuple)) and len(values) <= MAX_CHOSEN
    if not listed or not all(map(is_text, values)):
        raise DataError(f"{name} has to be a list of at most {MAX_CHOSEN} texts.")
    return tuple(values)


def one_text(params: Mapping[str, Any], name: str) -> str | None:
    """Read a text of an operator's parameters; None where there is none."""
    value = params.get(name)
    if value is None or value == "":
        return None
    if not is_text(value):
        raise DataError(f"{name} has to be a text of at most {MAX_TEXT} characters.")
    return value


def checked_whole(name: str, value: Any, least: int, most: int) -> int:
    """Check a whole number, as :func:`whole_number` does."""
    # The bounds come first: neither NaN nor infinity is within them.
    if not is_number(value) or not least <= value <= most or value != int(value):
        raise DataError(
            f"{name} is {shown_value(value)}; a whole number from {least} to {most} is "
            "needed."
        )
    return int(value)


def shown_value(value: Any) -> str:
    """Show a value in a message, whatever a client has sent."""
    return shorten(repr(value), 60)


def is_text(value: Any) -> bool:
    """Tell whether a parameter is a text that the database can keep."""
    return (
        isinstance(value, str)
        and len(value) <= MAX_TEXT
        and "\0" not in value
        and not any("\ud800" <= letter <= "\udfff" for letter in value)
    )


def is_number(value: Any) -> bool:
    """Tell whether a parameter is a number; neither true nor false is one."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
