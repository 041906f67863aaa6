"""Two selected samples, explained at once by a model, with or without a run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import fiftyone.operators as foo
from fiftyone.core.patches import PatchesView

from fiftyone_sfam.app.pairs.live import live_pairs, live_pairs_of_run
from fiftyone_sfam.app.pairs.maps import (
    DIFFERENCE,
    EVIDENCE,
    POINT,
    Live,
    Share,
    ShownMaps,
    Wanted,
    live_maps,
    no_maps,
    thirds_receipt,
)
from fiftyone_sfam.app.pairs.pictures import ImageFile, Look, draw, image_file
from fiftyone_sfam.app.pairs.view import Large
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run

SELECTED_KINDS = ("sfam", EVIDENCE, DIFFERENCE, POINT)
"""Kinds of map that two images have on their own."""


@dataclass(frozen=True)
class SelectedView:
    """Two selected images."""

    query: Large  # the images with their maps
    neighbor: Large  # the images with their maps
    similarity: float  # of the two
    distance: float  # of the two
    remainders: tuple[float, float]  # what the evidence maps cannot carry
    receipt: tuple[Share, ...]  # the similarity by horizontal thirds of the first image
    maps: ShownMaps  # what is drawn, with its range and unit
    live: Live  # what the model makes of the two
    notes: tuple[str, ...]  # what has to be said


def view_selected(
    model: str | Run,
    files: tuple[ImageFile, ImageFile],
    wanted: Wanted,
    look: Look | None = None,
) -> SelectedView:
    """Explain two images at once."""
    look, notes = look or Look(), []
    if isinstance(model, str):
        pairs = live_pairs(model, files)
    else:
        pairs = live_pairs_of_run(model, files)
    live = Live(pairs, {0: 0})
    if wanted.kind == POINT and wanted.spot is None:
        notes.append(
            "Click a place on either image: the other one shows what the place is "
            "matched with."
        )
        maps = no_maps(1, wanted, look.signed)
    else:
        maps = live_maps(live, 1, 0, wanted, look.signed)
    look = replace(look, signed=maps.signed)
    (evidence, *_), _ = pairs.sides(EVIDENCE)
    score = float(pairs.scores[0])
    one, other = (
        Large(draw(file, side, maps.limit, look), side, crop, pairs.map_shape)
        for file, side, crop in zip(
            files, (maps.query[0], maps.neighbors[0]), pairs.crops, strict=True
        )
    )
    return SelectedView(
        one,
        other,
        score,
        float(pairs.distances[0]),
        pairs.remainders(0),
        thirds_receipt(evidence, score),
        maps,
        live,
        tuple(notes),
    )


def selected_file(ctx: foo.ExecutionContext, sample_id: str) -> ImageFile:
    """Find the image of a selected sample, or of a selected patch of one."""
    patches = isinstance(ctx.view, PatchesView)
    try:
        sample = (ctx.view if patches else ctx.dataset)[sample_id]
    except KeyError as error:
        raise DataError(
            f"there is no sample '{sample_id}' any more; select two again."
        ) from error
    if not patches:
        return image_file(sample.filepath)
    return image_file(sample.filepath, sample[ctx.view.patches_field].bounding_box)


def stored_pair(run: Run, one: str, other: str) -> int | None:
    """Find the pair of a run that is of two samples or detections."""
    first, second = item_of(run, one), item_of(run, other)
    if first is None or second is None:
        return None
    for query, neighbor in ((first, second), (second, first)):
        pairs = run.pairs.of_query(query)
        for pair in pairs[run.pairs.gallery[pairs] == neighbor]:
            return int(pair)
    return None


def item_of(run: Run, sample_id: str) -> int | None:
    """Find the item of a detection or sample, a query if it has one; None if none."""
    found = run.items.index(sample_id)
    if found >= 0:
        return found
    items = run.items.indices_of_sample(sample_id)
    queries = [int(item) for item in items if len(run.pairs.of_query(int(item)))]
    return next(iter(queries or (int(item) for item in items)), None)
