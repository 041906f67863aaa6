"""The values that the terms of a protocol's rules compare, as whole numbers."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import fiftyone as fo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.data.protocol import Within
from fiftyone_sfam.data.text import label_text
from fiftyone_sfam.errors import DataError

DATES: tuple[type[fo.Field], ...] = (fo.DateField, fo.DateTimeField)
"""Types of fields that hold times."""

MISSING = np.iinfo(np.int64).min
"""Stands for a missing value."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def read_term(term: str | Within, values: list[Any]) -> NDArray[np.int64]:
    """Return numbers that a term compares: codes of a field, or times.

    Parameters
    ----------
    term : str or Within
        A field, or a span of time.
    values : list
        Of the field, one per image; None where missing.

    Returns
    -------
    ndarray of int64
        Shape (N,); codes in the order of their first appearance, microseconds since
        1970 for spans, :data:`MISSING` for missing values.

    Raises
    ------
    DataError
        If a value of a span's field is not a time.
    """
    if isinstance(term, Within):
        times = (_microseconds(term.field, value) for value in values)
        return np.fromiter(times, dtype=np.int64, count=len(values))
    codes: dict[str, int] = {}
    texts = (_day_or_text(value) for value in values)
    coded = (
        MISSING if text is None else codes.setdefault(text, len(codes))
        for text in texts
    )
    return np.fromiter(coded, dtype=np.int64, count=len(values))


def span_of(term: Within) -> int:
    """Return the longest span of a term in microseconds."""
    return round(term.seconds * 1e6)


def _day_or_text(value: Any) -> str | None:
    """Return a label as text; of a time, its day."""
    if isinstance(value, datetime):
        return _in_utc(value).date().isoformat()
    return value.isoformat() if isinstance(value, date) else label_text(value)


def _microseconds(field: str, value: Any) -> int:
    """Return a time in microseconds since 1970."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, str):
        # Python 3.10 does not read the Z.
        text = value.removesuffix("Z") + "+00:00" * value.endswith("Z")
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            value = text
    if not isinstance(value, date):
        raise DataError(
            f"the field '{field}' has the value {value!r}, which is not a time; a span "
            "needs a field of dates, or text such as 2024-05-31 or 2024-05-31T12:30."
        )
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    return (_in_utc(value) - _EPOCH) // timedelta(microseconds=1)


def _in_utc(value: datetime) -> datetime:
    """Return a time in UTC; one without a zone is taken to be that."""
    if value.tzinfo is None:
        return value.replace(tzinfo=timezone.utc)
    return value.astimezone(timezone.utc)
