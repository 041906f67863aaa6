"""What regions carry on average, in groups of pairs.

A share of the score is a ratio of sums: what a region carries in all pairs of a group,
over what these pairs score. So a pair with a score near zero, whose own ratio says
nothing, does not spoil the group's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.statistics.bootstrap import (
    QUANTILES,
    RESAMPLES,
    resampled_sums,
)
from fiftyone_sfam.data.text import percent
from fiftyone_sfam.retrieval.pairs import OUTCOMES

REMAINDER = "not on the map"
"""Name of the row of what no region carries."""

OUTCOME, CAMERAS = "outcome", "camera pair"
"""Groups that every labeled run can make."""

TRUE, FALSE, UNKNOWN = OUTCOMES

FEWEST_QUERIES = 5
"""Fewer queries get no interval: what they vary by cannot be told from them."""

_NAN = float("nan")
_PLURALS = {TRUE: "true matches", FALSE: "false matches", UNKNOWN: "unlabeled pairs"}


@dataclass(frozen=True)
class Cell:
    """What one region carries in one group of pairs.

    Attributes
    ----------
    groups : tuple of (str, str)
        What the pairs have in common, as ``(("outcome", "false match"),)``.
    region : str
        Name of the region, or :data:`REMAINDER`.
    pairs, queries : int
        Pairs of the group, and their queries.
    value : float
        What the region carries of a pair on average, in units of the similarity.
    share : float
        The same as share of the score; the shares of all regions and of the remainder
        add up to 1. NaN where the mean score is not positive.
    low, high : float
        95 % interval of ``share``; NaN below :data:`FEWEST_QUERIES` queries.
    of_evidence : float
        Share of what the map carries, without the remainder; NaN for the remainder and
        where the map carries nothing positive.
    area : float
        Mean share of the area; NaN for the remainder.
    """

    groups: tuple[tuple[str, str], ...]
    region: str
    pairs: int
    queries: int
    value: float
    share: float
    low: float
    high: float
    of_evidence: float
    area: float


def aggregate(
    regions: Sequence[str],
    shares: NDArray[np.floating],
    scores: NDArray[np.floating],
    areas: NDArray[np.floating],
    queries: NDArray[np.integer],
    groups: Mapping[str, Sequence[str | None]],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Cell, ...]:
    """Average what regions carry, in groups of pairs."""
    known = ~np.isnan(shares).any(axis=1)
    cells: list[Cell] = []
    for key, rows in _grouped(groups, known):
        cells += _group_cells(
            key,
            regions,
            shares[rows].astype(np.float64),
            scores[rows].astype(np.float64),
            areas[rows],
            queries[rows],
            resamples,
            seed,
        )
    return tuple(cells)


def ratio_interval(
    parts: NDArray[np.float64],
    wholes: NDArray[np.float64],
    resamples: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Put 95 % intervals around ratios of sums, by the bootstrap."""
    count = len(wholes)
    if count < FEWEST_QUERIES:
        nothing = np.full(parts.shape[1], _NAN)
        return nothing, nothing
    sums = np.concatenate([parts, wholes[:, None]], axis=1)
    sums = resampled_sums(sums, count, resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = sums[:, :-1] / sums[:, -1:]
    low, high = np.quantile(ratios, QUANTILES, axis=0)
    return low, high


def sentence(cell: Cell, other: Cell | None = None) -> str:
    """Say what a region carries in one group, and in another."""
    text = f"{cell.region} carries {_percent(cell)} of the score in {_group(cell)}"
    if other is not None:
        text += f", {_percent(other)} in {_group(other)}"
    return text


def find_cell(cells: Sequence[Cell], region: str, **groups: str) -> Cell | None:
    """Find a cell by its region and its groups."""
    wanted = {name.replace("_", " "): value for name, value in groups.items()}
    for cell in cells:
        named = {name.replace("_", " "): value for name, value in cell.groups}
        if cell.region == region and named == wanted:
            return cell
    return None


# --------------------------------------------------------------------------------------


def _grouped(
    groups: Mapping[str, Sequence[str | None]], known: NDArray[np.bool_]
) -> Iterator[tuple[tuple[tuple[str, str], ...], NDArray[np.int64]]]:
    """Yield the groups that occur, each with its pairs."""
    members: dict[tuple[str, ...], list[int]] = {}
    columns = list(groups.values())
    for row in np.flatnonzero(known).tolist():
        named = (column[row] for column in columns)
        key = tuple(one for one in named if one is not None)
        if len(key) == len(columns):
            members.setdefault(key, []).append(row)
    for key in sorted(members):
        yield (
            tuple(zip(groups, key, strict=True)),
            np.array(members[key], dtype=np.int64),
        )


def _group_cells(
    key: tuple[tuple[str, str], ...],
    regions: Sequence[str],
    shares: NDArray[np.float64],
    scores: NDArray[np.float64],
    areas: NDArray[np.floating],
    queries: NDArray[np.integer],
    resamples: int,
    seed: int,
) -> Iterator[Cell]:
    """Make the cells of one group."""
    columns = np.column_stack([shares, scores - shares.sum(axis=1)])
    names, place = np.unique(queries, return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1] + 1))
    np.add.at(sums, place, np.column_stack([columns, scores]))
    low, high = ratio_interval(sums[:, :-1], sums[:, -1], resamples, seed)
    values, score = columns.mean(axis=0), float(scores.mean())
    carried = float(values[:-1].sum())
    area = (*areas.mean(axis=0, dtype=np.float64), _NAN)
    for number, region in enumerate((*regions, REMAINDER)):
        value = float(values[number])
        yield Cell(
            key,
            region,
            len(scores),
            len(names),
            value,
            value / score if score > 0 else _NAN,
            float(low[number]) if score > 0 else _NAN,
            float(high[number]) if score > 0 else _NAN,
            value / carried if carried > 0 and number < len(regions) else _NAN,
            float(area[number]),
        )


def _percent(cell: Cell) -> str:
    if np.isnan(cell.share):
        return "no telling what share"
    return percent(cell.share, 0)


def _group(cell: Cell) -> str:
    """Describe a group of pairs in words."""
    named = dict(cell.groups)
    outcome = named.pop(OUTCOME, None)
    text = "all pairs" if outcome is None else _PLURALS.get(outcome, outcome)
    parts: list[str] = []
    phrases: dict[str, Callable[[str], str]] = {
        CAMERAS: lambda value: f"of cameras {value}",
        "camera": lambda value: f"of camera {value}",
        "identity": lambda value: f"of identity {value}",
    }
    for name, value in named.items():
        phrase = phrases.get(name)
        parts.append(phrase(value) if phrase else f"with {name} {value}")
    return " ".join([text, *parts])
