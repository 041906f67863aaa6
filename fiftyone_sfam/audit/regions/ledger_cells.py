"""Averages of a ledger in groups of pairs.

A share of the score is a ratio of sums: what a region carries in all pairs of a group,
divided by the sum of their scores. A pair with a score near zero, whose own ratio is
meaningless, therefore has little weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
"""Name of the row for the part of the score that no region carries."""

OUTCOME, CAMERAS = "outcome", "camera pair"
"""Groups that every labeled run has."""

TRUE, FALSE, UNKNOWN = OUTCOMES

FEWEST_QUERIES = 5
"""Least number of queries for an interval."""

_NAN = float("nan")
_PLURALS = {TRUE: "true matches", FALSE: "false matches", UNKNOWN: "unlabeled pairs"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What one region carries in one group of pairs.

    Attributes
    ----------
    groups : tuple of (str, str)
        Names and values that the pairs share: ``(("outcome", "false match"),)``.
    region : str
        Name of the region, or :data:`REMAINDER`.
    pairs, queries : int
        Number of pairs in the group, and of their queries.
    value : float
        Mean part of the similarity that the region carries.
    share : float
        ``value`` as a fraction of the mean score. The shares of all regions and of the
        remainder add up to 1. NaN if the mean score is not positive.
    low, high : float
        95 % interval of ``share``; NaN below :data:`FEWEST_QUERIES` queries.
    of_evidence : float
        ``value`` as a fraction of what all regions carry. NaN for the remainder, and
        if all regions together carry nothing positive.
    area : float
        Mean fraction of the area; NaN for the remainder.
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
    """Average what regions carry in groups of pairs."""
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
    """Compute 95 % intervals of ratios of sums by the bootstrap."""
    if len(wholes) < FEWEST_QUERIES:
        unknown = np.full(parts.shape[1], _NAN)
        return unknown, unknown
    sums = np.concatenate([parts, wholes[:, None]], axis=1)
    sums = resampled_sums(sums, len(wholes), resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = sums[:, :-1] / sums[:, -1:]
    low, high = np.quantile(ratios, QUANTILES, axis=0)
    return low, high


def sentence(cell: Cell, compared: Cell | None = None) -> str:
    """Say what a region carries in one group, or in two."""
    text = f"{cell.region} carries {_percent(cell)} of the score in {_group(cell)}"
    if compared is not None:
        text += f", {_percent(compared)} in {_group(compared)}"
    return text


def find_cell(cells: Sequence[Cell], region: str, **groups: str) -> Cell | None:
    """Return the cell of a region and of groups, such as ``outcome=TRUE``."""
    wanted = {name.replace("_", " "): value for name, value in groups.items()}
    for cell in cells:
        cell_groups = {name.replace("_", " "): value for name, value in cell.groups}
        if cell.region == region and cell_groups == wanted:
            return cell
    return None


def _grouped(
    groups: Mapping[str, Sequence[str | None]], known: NDArray[np.bool_]
) -> Iterator[tuple[tuple[tuple[str, str], ...], NDArray[np.int64]]]:
    """Yield the groups that occur, each with its rows."""
    members: dict[tuple[str, ...], list[int]] = {}
    columns = list(groups.values())
    for row in np.flatnonzero(known).tolist():
        values = (column[row] for column in columns)
        key = tuple(value for value in values if value is not None)
        if len(key) == len(columns):
            members.setdefault(key, []).append(row)
    for key in sorted(members):
        yield tuple(zip(groups, key, strict=True)), np.array(members[key], np.int64)


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
    """Yield the cells of one group."""
    parts = np.column_stack([shares, scores - shares.sum(axis=1)])
    unique, index = np.unique(queries, return_inverse=True)
    sums = np.zeros((len(unique), parts.shape[1] + 1))
    np.add.at(sums, index, np.column_stack([parts, scores]))
    low, high = ratio_interval(sums[:, :-1], sums[:, -1], resamples, seed)
    values, score = parts.mean(axis=0), float(scores.mean())
    carried = float(values[:-1].sum())
    area = (*areas.mean(axis=0, dtype=np.float64), _NAN)
    for number, region in enumerate((*regions, REMAINDER)):
        value = float(values[number])
        yield Cell(
            groups=key,
            region=region,
            pairs=len(scores),
            queries=len(unique),
            value=value,
            share=value / score if score > 0 else _NAN,
            low=float(low[number]) if score > 0 else _NAN,
            high=float(high[number]) if score > 0 else _NAN,
            of_evidence=(
                value / carried if carried > 0 and region != REMAINDER else _NAN
            ),
            area=float(area[number]),
        )


def _percent(cell: Cell) -> str:
    if np.isnan(cell.share):
        return "an unknown share"
    return percent(cell.share, 0)


def _group(cell: Cell) -> str:
    """Describe a group of pairs in words."""
    groups = dict(cell.groups)
    outcome = groups.pop(OUTCOME, None)
    text = "all pairs" if outcome is None else _PLURALS.get(outcome, outcome)
    phrases = {CAMERAS: "of cameras", "camera": "of camera", "identity": "of identity"}
    parts = [
        f"{phrases.get(name, f'with {name}')} {value}" for name, value in groups.items()
    ]
    return " ".join([text, *parts])
