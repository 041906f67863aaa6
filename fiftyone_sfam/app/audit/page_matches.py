"""The page of false matches: by camera pair and identity, and equal errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.audit import blocks, page_given
from fiftyone_sfam.app.audit.blocks import Block
from fiftyone_sfam.app.audit.choices import (
    Choices,
    Mark,
    Opened,
    Params,
    one_of,
    place_of,
    to_pairs,
)
from fiftyone_sfam.app.audit.page_overview import NO_IDENTITIES
from fiftyone_sfam.app.audit.results import needed, stored
from fiftyone_sfam.app.audit.view import grid_figure, row_figure
from fiftyone_sfam.audit.evaluation.display import FALSE_COLOR, Figure
from fiftyone_sfam.audit.evaluation.evaluate import load_evaluation
from fiftyone_sfam.audit.evaluation.slices import PairSliceRow
from fiftyone_sfam.data.text import NO_LABEL, counted, percent_between, quoted, short
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH
from fiftyone_sfam.runs.run import Run

SHOWN_IDENTITIES = 20
SHOWN_CAMERAS = 24

_ACCEPTED = (
    "The pairs of two identities that the threshold of the equal error rate accepts."
)
_NONE = "The threshold of the equal error rate accepts no pair of two identities."


@dataclass(frozen=True, kw_only=True)
class Tallies:
    """The false matches of a run, counted.

    They are first neighbors, or accepted pairs of a given list.
    """

    false: NDArray[np.int64]  # pairs, shape (F,)
    cameras: tuple[str, ...]  # the cameras with the most false matches, by name
    by_camera: NDArray[np.int64]
    all_cameras: int  # number of cameras that there are
    identities: tuple[str, ...]
    by_identity: NDArray[np.int64]  # their numbers
    camera_of: NDArray[np.int64]  # (N,)
    identity_of: NDArray[np.int64]  # (N,)


def page(run: Run, chosen: Choices) -> list[Block]:
    """Return the blocks of the page."""
    matches = tallies(run)
    if not len(matches.false):
        counts = run.counts
        labeled = counts["true match"] + counts["false match"] > 0
        text = NO_IDENTITIES
        if labeled:
            text = "Every first neighbor is a true match." if run.ranked else _NONE
        return [blocks.text("none", text), *_errors(run, chosen)]
    shown = [] if run.ranked else [blocks.text("listed", _ACCEPTED)]
    if any(camera is not None for camera in run.items.cameras):
        hint = "Click a cell: its false matches."
        if len(matches.cameras) < matches.all_cameras:
            hint += (
                f" The {len(matches.cameras)} of {matches.all_cameras} with the most."
            )
        shown.append(
            blocks.plot("cameras", "By camera pair", hint, _camera_figure(matches))
        )
    count = counted(len(matches.identities), "identity", "identities")
    counts = matches.by_identity.tolist()
    axis = "queries with a false match"
    shown.append(
        blocks.plot(
            "identities",
            "By identity",
            f"The {count} with the most. Click a bar: its false matches.",
            row_figure(matches.identities, counts, axis, FALSE_COLOR),
            height=max(160, 60 + 18 * len(matches.identities)),
        )
    )
    return [*shown, *_errors(run, chosen)]


@lru_cache(maxsize=4)
def tallies(run: Run) -> Tallies:
    """Count the false matches of a run; a run is never changed, so this is kept."""
    pairs, items = run.pairs, run.items
    wrong = pairs.rank == 1 if run.ranked else page_given.accepted(run)
    false = np.flatnonzero(wrong & (pairs.outcome == FALSE_MATCH))
    query, gallery = pairs.query[false], pairs.gallery[false]
    names, camera = _codes(items.cameras)
    involved = np.bincount(camera[query], minlength=len(names))
    involved += np.bincount(camera[gallery], minlength=len(names))
    cameras = np.sort(np.argsort(-involved, kind="stable")[:SHOWN_CAMERAS])
    camera_of = _places(cameras, len(names))[camera]
    rows, columns = camera_of[query], camera_of[gallery]
    inside = (rows >= 0) & (columns >= 0)
    by_camera = np.zeros((len(cameras), len(cameras)), dtype=np.int64)
    np.add.at(by_camera, (rows[inside], columns[inside]), 1)
    people, identity = _codes(items.identities)
    counts = np.bincount(identity[query], minlength=len(people))
    order = np.argsort(-counts, kind="stable")[:SHOWN_IDENTITIES]
    order = order[counts[order] > 0]
    return Tallies(
        false=false,
        cameras=tuple(names[place] for place in cameras),
        by_camera=by_camera,
        all_cameras=len(names),
        identities=tuple(people[place] for place in order),
        by_identity=counts[order].astype(np.int64),
        camera_of=camera_of,
        identity_of=_places(order, len(people))[identity],
    )


def _codes(labels: tuple[str | None, ...]) -> tuple[list[str], NDArray[np.int64]]:
    """Give each label the place of its name, in order."""
    filled = [NO_LABEL if label is None else label for label in labels]
    names = sorted(set(filled))
    place = {name: number for number, name in enumerate(names)}
    codes = np.fromiter((place[label] for label in filled), np.int64, len(filled))
    return names, codes


def _places(chosen: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the place of each of ``count`` numbers among the chosen, or -1."""
    positions = np.full(count, -1, dtype=np.int64)
    positions[chosen] = np.arange(len(chosen))
    return positions


# --------------------------------------------------------------------------------------
# Figures
# --------------------------------------------------------------------------------------


def _camera_figure(matches: Tallies) -> Figure:
    """Draw the false matches by the cameras of query and neighbor."""
    names = [short(name) for name in matches.cameras]
    values = matches.by_camera.tolist()
    texts = [
        [
            f"query {row}, neighbor {column}: "
            f"{counted(count, 'false match', 'false matches')}"
            for column, count in zip(names, counts, strict=True)
        ]
        for row, counts in zip(names, values, strict=True)
    ]
    return grid_figure(names, values, texts, ("neighbor's camera", "query's camera"))


Cells = list[list[PairSliceRow | None]]


def _errors(run: Run, chosen: Choices) -> list[Block]:
    """Return the equal error by pairs of slices, where that was evaluated."""
    evaluation = stored(run, load_evaluation)
    if evaluation is None or not evaluation.pair_slices:
        return []
    name = one_of(chosen.pair_slices, evaluation.pair_slices)
    values, cells = _grid(evaluation.pair_slices[name])
    names, by = [short(value) for value in values], short(name)
    errors = [
        [
            None
            if cell is None or np.isnan(cell.equal_error.value)
            else 100 * cell.equal_error.value
            for cell in row
        ]
        for row in cells
    ]
    texts = [
        [
            f"query {query}, neighbor {neighbor}: {_error_text(cell)}"
            for cell, neighbor in zip(row, names, strict=True)
        ]
        for row, query in zip(cells, names, strict=True)
    ]
    figure = grid_figure(names, errors, texts, (f"neighbor's {by}", f"query's {by}"))
    hint = "Equal error, in percent, of all pairs. Click a cell: its stored pairs."
    block = blocks.plot("errors", f"Equal error by {by} pair", hint, figure)
    if len(evaluation.pair_slices) == 1:
        return [block]
    choice = blocks.choice("pair_slices", "Pairs of", evaluation.pair_slices, name)
    return [choice, block]


def _grid(rows: tuple[PairSliceRow, ...]) -> tuple[list[str], Cells]:
    """Return the largest values, and pair slices as a table of values by values."""
    size: dict[str, int] = {}
    for row in rows:
        for value in (row.query_value, row.gallery_value):
            size[value] = size.get(value, 0) + row.genuine + row.impostor
    names = sorted(sorted(size, key=lambda value: -size[value])[:SHOWN_CAMERAS])
    found = {(row.query_value, row.gallery_value): row for row in rows}
    return names, [[found.get((one, other)) for other in names] for one in names]


def _error_text(row: PairSliceRow | None) -> str:
    if row is None:
        return "not compared"
    error = row.equal_error
    return (
        f"equal error {percent_between(error.value, error.low, error.high)}, "
        f"{counted(row.genuine, 'pair')} of one identity, {row.impostor:,} of two"
    )


# --------------------------------------------------------------------------------------
# Clicks
# --------------------------------------------------------------------------------------


def _on_camera(run: Run, params: Params, chosen: Choices) -> Opened:
    """Open the false matches between two cameras of the figure."""
    matches, (row, column) = tallies(run), map(int, params["idx"])
    query = matches.camera_of[run.pairs.query[matches.false]]
    gallery = matches.camera_of[run.pairs.gallery[matches.false]]
    names = quoted(matches.cameras[row]), quoted(matches.cameras[column])
    title = f"false matches of camera {names[0]} with camera {names[1]}"
    inside = (query == row) & (gallery == column)
    return Opened(to_pairs(run, title, matches.false[inside]))


def _on_identity(run: Run, params: Params, chosen: Choices) -> Opened:
    """Open the false matches of an identity of the figure."""
    matches, place = tallies(run), place_of(params)
    own = matches.identity_of[run.pairs.query[matches.false]] == place
    title = f"false matches of {quoted(matches.identities[place])}"
    return Opened(to_pairs(run, title, matches.false[own]))


def _on_error(run: Run, params: Params, chosen: Choices) -> Opened:
    """Open the stored pairs of two slices, false matches first."""
    slices = needed(run, load_evaluation).pair_slices
    name = one_of(chosen.pair_slices, slices)
    row, column = map(int, params["idx"])
    cell = _grid(slices[name])[1][row][column]
    if cell is None:
        return Opened()
    values, pairs = (quoted(cell.query_value), quoted(cell.gallery_value)), run.pairs
    others = [
        one.items for one in slices[name] if one.query_value == cell.gallery_value
    ]
    inside = np.isin(pairs.query, cell.items)
    if others:
        inside &= np.isin(pairs.gallery, np.concatenate(others))
    found = np.flatnonzero(inside)
    order = np.argsort(pairs.outcome[found] != FALSE_MATCH, kind="stable")
    title = f"{short(name)} {values[0]} with {values[1]}"
    return Opened(to_pairs(run, title, found[order]))


MARKS: Mapping[str, Mark] = {
    "cameras": _on_camera,
    "identities": _on_identity,
    "errors": _on_error,
}
"""Effects of clicks, by the name of the block."""
