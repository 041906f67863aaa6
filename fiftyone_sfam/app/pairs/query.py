"""Answers about one query of a run: its neighbors with their maps, and its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

import fiftyone.operators as foo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.forms.parameters import Text, Whole, whole
from fiftyone_sfam.app.pairs.bounded import fill
from fiftyone_sfam.app.pairs.contributed import pair_maps, with_contrast
from fiftyone_sfam.app.pairs.maps import (
    EVIDENCE,
    describe_kinds,
    kinds_of,
    limits_of,
    receipt,
)
from fiftyone_sfam.app.pairs.pictures import LARGEST, ShownImage, item_images
from fiftyone_sfam.app.pairs.plain import sentence
from fiftyone_sfam.app.pairs.run_question import (
    Plain,
    RunQuestion,
    check_number,
    check_pairs,
    describe_pairs,
    from_zero,
    item_labels,
)
from fiftyone_sfam.audit.regions.fields import Grid, read_regions, region_fields
from fiftyone_sfam.audit.regions.partitions import Regions, stripes
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import TRUE_MATCH
from fiftyone_sfam.runs.maps import PairMaps
from fiftyone_sfam.runs.run import Run

MOST_SHOWN = 50
"""Neighbors of a query that are shown, beside the nearest true match."""


class QueryQuestion(RunQuestion):
    """The query of a pair."""

    pair: Whole = from_zero(-1)
    region: Text | None = None  # field that divides images for the receipts


class PictureQuestion(RunQuestion):
    """One image of a run."""

    item: Whole = from_zero(-1)
    size: Whole = whole(LARGEST, 1, LARGEST)


def answer_query(ctx: foo.ExecutionContext) -> Plain:
    """Answer ``query``: all that is shown of the query of a pair, in at most 250 kB."""
    question = QueryQuestion.read(ctx.params)
    run = question.load(ctx)
    [pair] = check_pairs(run, [question.pair])
    item = int(run.pairs.query[pair])
    pairs = run.pairs.of_query(item)
    outcomes = run.pairs.outcome[pairs]
    true = next(iter(np.flatnonzero(outcomes == TRUE_MATCH).tolist()), None)
    places = _shown_places(run, pairs, pair, true)
    shown = [int(pairs[place]) for place in places]
    nearest = None if true is None else places.index(true)
    stored = pair_maps(run, tuple(shown))
    maps = with_contrast(stored, nearest)
    regions, notes = _regions(run, item, stored, question.region)
    answer = {
        "item": item,
        **item_labels(run, item),
        "neighbors": _neighbors(run, shown, nearest, stored, regions),
        "limits": limits_of(maps),
        "kinds": describe_kinds(kinds_of(run, true is not None), run.map_check),
        "notes": notes,
    }
    items = [item, *(one["item"] for one in answer["neighbors"])]
    fill(answer, _images(run, items, stored), maps, shown.index(pair))
    return answer


def answer_picture(ctx: foo.ExecutionContext) -> Plain:
    """Answer ``picture``: one image of a run, as large as asked for."""
    question = PictureQuestion.read(ctx.params)
    run, item = question.load(ctx), question.item
    check_number(f"run '{run.key}'", "image", item, len(run.items))
    [image] = item_images(run, [item])
    return {"picture": asdict(image.picture(question.size))}


def _shown_places(
    run: Run, pairs: NDArray[np.int64], chosen: int, true: int | None
) -> list[int]:
    """Choose which of a query's pairs are shown: near ones, and those in any case."""
    near = np.flatnonzero(run.pairs.rank[pairs] <= run.config.k)[:MOST_SHOWN].tolist()
    asked = np.flatnonzero(pairs == chosen).tolist()
    return sorted({*near, *asked, *([] if true is None else [true])})


def _neighbors(
    run: Run,
    shown: Sequence[int],
    nearest: int | None,
    maps: Sequence[PairMaps],
    regions: Regions | None,
) -> list[Plain]:
    """Describe neighbors, without their pictures and maps."""
    neighbors = describe_pairs(run, shown)
    ahead = None if nearest is None else neighbors[nearest]["similarity"]
    for place, (one, both) in enumerate(zip(neighbors, maps, strict=True)):
        item, similarity = int(run.pairs.gallery[one["pair"]]), one["similarity"]
        one |= {
            "item": item,
            **item_labels(run, item),
            "distance": float(run.pairs.distance[one["pair"]]),
            "best_true": place == nearest,
            "margin": None if ahead is None else ahead - similarity,
            "receipt": receipt(both.query, similarity, regions),
        }
    return neighbors


def _regions(
    run: Run, item: int, maps: Sequence[PairMaps], field: str | None
) -> tuple[Regions | None, list[str]]:
    """Divide the query on the grid of its maps, and say why it is not by the field."""
    sides = [one.query for one in maps if one.query and EVIDENCE in one.query.maps]
    if not sides:
        return None, []
    grid, notes = Grid.of(sides[0]), []
    try:
        if field is not None:
            return _by_field(run, item, grid, field), []
    except DataError as error:
        notes = [f"{sentence(error)} The receipt is by thirds instead."]
    return stripes(grid.height, grid.width), notes


def _by_field(run: Run, item: int, grid: Grid, field: str) -> Regions:
    """Divide an image by a field; raise a DataError if the field does not divide it."""
    if field not in region_fields(run):
        raise DataError(
            f"the field '{field}' no longer divides images into regions; choose "
            "another."
        )
    found = read_regions(run, {item: grid}, field)
    if item not in found.regions:
        raise DataError(
            f"this image has no regions in the field '{field}': {found.missing[item]}"
        )
    return found.regions[item]


def _images(
    run: Run, items: Sequence[int], maps: Sequence[PairMaps]
) -> list[ShownImage]:
    """Find the images of the query and its neighbors, and why maps are missing."""
    without = [all(one.query is None for one in maps)]
    without += [one.gallery is None for one in maps]
    reasons = {image.index: image.reason for image in run.skipped}
    return [
        replace(image, problem=reasons.get(item, "there is no map of this image."))
        if image.file is not None and no_maps
        else image
        for image, item, no_maps in zip(
            item_images(run, items), items, without, strict=True
        )
    ]
