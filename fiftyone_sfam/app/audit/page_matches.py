"""The page of false matches: by camera pair and identity, and equal errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.audit import page_given
from fiftyone_sfam.app.audit.blocks import Block, choice_block, plot_block, text_block
from fiftyone_sfam.app.audit.choices import (
    Choices,
    Mark,
    Opened,
    Params,
    Selection,
    one_of,
    place_of,
    to_pairs,
)
from fiftyone_sfam.app.audit.page_overview import NO_IDENTITIES
from fiftyone_sfam.app.audit.results import stored
from fiftyone_sfam.app.audit.view import grid_figure, row_figure
from fiftyone_sfam.audit.evaluation.display import FALSE_COLOR, Figure
from fiftyone_sfam.audit.evaluation.evaluate import Evaluation, load_evaluation
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


@dataclass(frozen=True)
class _Grid:
    """Pair slices as a table of values by values; None where there is no slice."""

    names: tuple[str, ...]
    rows: tuple[tuple[PairSliceRow | None, ...], ...]


def page(run: Run, chosen: Choices) -> list[Block]:
    """Return the blocks of the page."""
    matches = tallies(run)
    if not len(matches.false):
        counts = run.counts
        labeled = counts["true match"] + counts["false match"] > 0
        text = NO_IDENTITIES
        if labeled:
            text = "Every first neighbor is a true match." if run.ranked else _NONE
        return [text_block("none", text), *_error_blocks(run, chosen)]
    blocks = []
    if not run.ranked:
        blocks.append(text_block("listed", _ACCEPTED))
    if any(camera is not None for camera in run.items.cameras):
        hint = "Click a cell: its false matches."
        if len(matches.cameras) < matches.all_cameras:
            hint += (
                f" The {len(matches.cameras)} of {matches.all_cameras} with the most."
            )
        figure = camera_figure(matches)
        blocks.append(plot_block("cameras", "By camera pair", hint, figure))
    shown = counted(len(matches.identities), "identity", "identities")
    blocks.append(
        plot_block(
            "identities",
            "By identity",
            f"The {shown} with the most. Click a bar: its false matches.",
            identity_figure(matches),
            height=max(160, 60 + 18 * len(matches.identities)),
        )
    )
    return [*blocks, *_error_blocks(run, chosen)]


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


# --------------------------------------------------------------------------------------
# Figures
# --------------------------------------------------------------------------------------


def camera_figure(matches: Tallies) -> Figure:
    """Draw the false matches by the cameras of query and neighbor."""
    names = [short(name) for name in matches.cameras]
    return grid_figure(
        names,
        matches.by_camera.tolist(),
        [
            [
                f"query {row}, neighbor {column}: {_matches(count)}"
                for column, count in zip(names, counts, strict=True)
            ]
            for row, counts in zip(names, matches.by_camera, strict=True)
        ],
        ("neighbor's camera", "query's camera"),
    )


def _matches(count: int) -> str:
    return counted(int(count), "false match", "false matches")


def identity_figure(matches: Tallies) -> Figure:
    """Draw the identities with the most false matches."""
    return row_figure(
        matches.identities,
        matches.by_identity.tolist(),
        "queries with a false match",
        FALSE_COLOR,
    )


def _error_blocks(run: Run, chosen: Choices) -> list[Block]:
    """Return the equal error by pairs of slices, where that was evaluated."""
    evaluation = stored(run, load_evaluation)
    if evaluation is None or not evaluation.pair_slices:
        return []
    name = one_of(chosen.pair_slices, evaluation.pair_slices)
    grid = _grid(evaluation, name)
    shown = [short(value) for value in grid.names]
    figure = grid_figure(
        shown,
        [
            [
                None
                if row is None or np.isnan(row.equal_error.value)
                else 100 * row.equal_error.value
                for row in rows
            ]
            for rows in grid.rows
        ],
        [
            [
                _error_text(row, query, neighbor)
                for row, neighbor in zip(rows, shown, strict=True)
            ]
            for rows, query in zip(grid.rows, shown, strict=True)
        ],
        (f"neighbor's {short(name)}", f"query's {short(name)}"),
    )
    hint = "Equal error, in percent, of all pairs. Click a cell: its stored pairs."
    block = plot_block("errors", f"Equal error by {short(name)} pair", hint, figure)
    fields = [(field, field) for field in evaluation.pair_slices]
    if len(fields) == 1:
        return [block]
    return [choice_block("pair_slices", "Pairs of", fields, name), block]


def _grid(evaluation: Evaluation, name: str) -> _Grid:
    rows = evaluation.pair_slices[name]
    size: dict[str, int] = {}
    for row in rows:
        for value in (row.query_value, row.gallery_value):
            size[value] = size.get(value, 0) + row.genuine + row.impostor
    largest = sorted(size, key=lambda value: -size[value])[:SHOWN_CAMERAS]
    names = tuple(sorted(largest))
    by_values = {(row.query_value, row.gallery_value): row for row in rows}
    return _Grid(
        names,
        tuple(
            tuple(by_values.get((first, second)) for second in names) for first in names
        ),
    )


def _error_text(row: PairSliceRow | None, query: str, neighbor: str) -> str:
    if row is None:
        return f"query {query}, neighbor {neighbor}: not compared"
    error = row.equal_error
    return (
        f"query {query}, neighbor {neighbor}: equal error "
        f"{percent_between(error.value, error.low, error.high)}, "
        f"{counted(row.genuine, 'pair')} of one identity, {row.impostor:,} of two"
    )


# --------------------------------------------------------------------------------------
# Selections
# --------------------------------------------------------------------------------------


def camera_selection(run: Run, row: int, column: int) -> Selection:
    """Open the false matches between two cameras of the figure."""
    matches = tallies(run)
    query = matches.camera_of[run.pairs.query[matches.false]]
    gallery = matches.camera_of[run.pairs.gallery[matches.false]]
    names = quoted(matches.cameras[row]), quoted(matches.cameras[column])
    title = f"false matches of camera {names[0]} with camera {names[1]}"
    return to_pairs(run, title, matches.false[(query == row) & (gallery == column)])


def identity_selection(run: Run, place: int) -> Selection:
    """Open the false matches of an identity of the figure."""
    matches = tallies(run)
    own = matches.identity_of[run.pairs.query[matches.false]] == place
    title = f"false matches of {quoted(matches.identities[place])}"
    return to_pairs(run, title, matches.false[own])


def _on_camera(run: Run, params: Params, chosen: Choices) -> Opened:
    row, column = params["idx"]
    return Opened(camera_selection(run, int(row), int(column)))


def _on_identity(run: Run, params: Params, chosen: Choices) -> Opened:
    return Opened(identity_selection(run, place_of(params)))


def _on_error(run: Run, params: Params, chosen: Choices) -> Opened:
    evaluation = stored(run, load_evaluation)
    if evaluation is None:
        return Opened()
    name = one_of(chosen.pair_slices, evaluation.pair_slices)
    row, column = params["idx"]
    slice_row = _grid(evaluation, name).rows[int(row)][int(column)]
    if slice_row is None:
        return Opened()
    values = quoted(slice_row.query_value), quoted(slice_row.gallery_value)
    title = f"{short(name)} {values[0]} with {values[1]}"
    others = [
        pair_slice.items
        for pair_slice in evaluation.pair_slices[name]
        if pair_slice.query_value == slice_row.gallery_value
    ]
    return Opened(_between(run, title, slice_row.items, others))


def _between(
    run: Run, title: str, queries: NDArray[np.int64], others: list[NDArray[np.int64]]
) -> Selection:
    """Open the stored pairs of queries with others, false matches first."""
    pairs = run.pairs
    inside = np.isin(pairs.query, queries)
    if others:
        inside &= np.isin(pairs.gallery, np.concatenate(others))
    chosen = np.flatnonzero(inside)
    order = np.argsort(pairs.outcome[chosen] != FALSE_MATCH, kind="stable")
    return to_pairs(run, title, chosen[order])


MARKS: Mapping[str, Mark] = {
    "cameras": _on_camera,
    "identities": _on_identity,
    "errors": _on_error,
}
"""Effects of clicks, by the name of the block."""


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
