"""Which identities, cameras and slices changed more than the other queries did.

A group of a few queries changes the most by chance alone, the more so the more groups
are looked at. So a group's change of the average precision is compared with that of all
other queries, and shrunk towards it as for shortcuts, see
:mod:`fiftyone_sfam.audit.regions.shortcut_scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.slices import Values, group_by_value
from fiftyone_sfam.audit.regions.shortcut_scores import score_groups
from fiftyone_sfam.data.text import counted, percent, points_between, short
from fiftyone_sfam.runs.blobs import Arrays, from_json_array, json_array


@dataclass(frozen=True, kw_only=True)
class GroupChange:
    """How the queries of a group changed.

    Attributes
    ----------
    value : str
        What the queries have in common.
    queries : int
        Number of queries.
    gained, lost : int
        Queries that only the second, and that only the first run gets right at rank 1.
    first, second : float
        Mean average precision in either run.
    change : float
        ``second - first``.
    expected : float
        Mean change of all other queries; NaN if there are none.
    effect, low, high : float
        ``change - expected``, shrunk towards zero, and its 95 % interval.
    """

    value: str
    queries: int
    gained: int
    lost: int
    first: float
    second: float
    change: float
    expected: float
    effect: float
    low: float
    high: float

    @property
    def distance(self) -> float:
        """How far the interval is from zero; not positive if it holds zero."""
        return float(np.nanmax([self.low, -self.high, -1.0]))

    def sentence(self, field: str) -> str:
        """Return the change in words."""
        queries = counted(self.queries, "query", "queries")
        return (
            f"{field} {short(self.value)}: mAP from {percent(self.first)} to "
            f"{percent(self.second)}, {100 * self.change:+.1f} points, where the other "
            f"queries have {100 * self.expected:+.1f}: "
            f"{points_between(self.effect, self.low, self.high)} beyond them, from "
            f"{queries}."
        )


Groups = dict[str, tuple[GroupChange, ...]]
"""Field to its groups, those that changed most surely first."""


def compare_groups(
    values: Values,
    items: NDArray[np.int64],
    average_precision: NDArray[np.float64],
    first_match: NDArray[np.int64],
) -> tuple[GroupChange, ...]:
    """Compare the groups of queries, whose figures have shape (Q, 2)."""
    groups = group_by_value(values, items)
    place = {item: row for row, item in enumerate(items.tolist())}
    rows = [[place[item] for item in members.tolist()] for members in groups.values()]
    codes = np.repeat(np.arange(len(rows)), [len(members) for members in rows])
    queries = np.concatenate([np.empty(0, dtype=np.int64), *rows]).astype(np.int64)
    change = average_precision[:, 1] - average_precision[:, 0]
    same = np.zeros(len(queries), dtype=np.int64)
    scores = score_groups(
        codes, queries, same, change[queries], np.ones(len(queries)), len(rows)
    )
    right = first_match == 1
    found = []
    for number, (value, members) in enumerate(zip(groups, rows, strict=True)):
        first, second = average_precision[members].mean(axis=0).tolist()
        found.append(
            GroupChange(
                value=value,
                queries=len(members),
                gained=int((~right[members, 0] & right[members, 1]).sum()),
                lost=int((right[members, 0] & ~right[members, 1]).sum()),
                first=first,
                second=second,
                change=second - first,
                expected=float(scores.expected[number]),
                effect=float(scores.shrunk[number]),
                low=float(scores.low[number]),
                high=float(scores.high[number]),
            )
        )
    return tuple(sorted(found, key=lambda group: (-group.distance, -group.queries)))


_NUMBERS = tuple(field.name for field in fields(GroupChange))[1:]
_COUNTS = ("queries", "gained", "lost")


def pack_groups(groups: Groups) -> Arrays:
    """Turn groups into arrays."""
    rows: Sequence[GroupChange] = [
        row for of_field in groups.values() for row in of_field
    ]
    names = [[field, [row.value for row in rows]] for field, rows in groups.items()]
    numbers = [[asdict(row)[name] for name in _NUMBERS] for row in rows]
    return {
        "group_names": json_array(names),
        "group_numbers": np.array(numbers, dtype=np.float64).reshape(-1, len(_NUMBERS)),
    }


def unpack_groups(arrays: Arrays) -> Groups:
    """Restore groups from :func:`pack_groups`."""
    numbers = iter(arrays["group_numbers"].tolist())

    def group(value: str) -> GroupChange:
        columns = dict(zip(_NUMBERS, next(numbers), strict=True))
        counts = {name: int(columns.pop(name)) for name in _COUNTS}
        return GroupChange(value=value, **counts, **columns)

    return {
        field: tuple(group(value) for value in values)
        for field, values in from_json_array(arrays["group_names"])
    }
