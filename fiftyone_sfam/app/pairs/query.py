"""Answers about one query of a run: its neighbors with their maps, and its images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import fiftyone.operators as foo
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fiftyone_sfam.app.forms.parameters import Text, Whole
from fiftyone_sfam.app.pairs.bounded import fill
from fiftyone_sfam.app.pairs.contributed import pair_maps, with_contrast
from fiftyone_sfam.app.pairs.maps import (
    CONTRAST,
    describe_kinds,
    item_regions,
    kinds_of,
    limits_of,
    receipt,
)
from fiftyone_sfam.app.pairs.pictures import (
    LARGEST,
    MOST_PICTURE_BYTES,
    ShownImage,
    item_images,
)
from fiftyone_sfam.app.pairs.plain import label, sentence
from fiftyone_sfam.app.pairs.run_question import RunQuestion, check_pairs
from fiftyone_sfam.audit.regions.partitions import Regions
from fiftyone_sfam.data.text import counted, shorten
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.pairs import OUTCOMES, TRUE_MATCH
from fiftyone_sfam.review.verdicts import get_verdicts
from fiftyone_sfam.runs.maps import PairMaps, SideMaps
from fiftyone_sfam.runs.run import Run

Plain = dict[str, Any]

MOST_SHOWN = 50
"""Neighbors of a query that are shown, beside the nearest true match."""

_WHOLE = "a whole number from 0"


class QueryQuestion(RunQuestion):
    """The query of a pair."""

    pair: Whole = Field(-1, ge=0, description=_WHOLE)
    region: Text | None = None  # field that divides images for the receipts


class PictureQuestion(RunQuestion):
    """One image of a run."""

    item: Whole = Field(-1, ge=0, description=_WHOLE)
    size: Whole = Field(
        LARGEST,
        ge=1,
        le=LARGEST,
        description=f"a whole number from 1 to {LARGEST}",
    )


def answer_query(ctx: foo.ExecutionContext) -> Plain:
    """Answer ``query``: everything that is shown of the query of a pair."""
    question = QueryQuestion.read(ctx.params)
    run = question.load(ctx)
    [pair] = check_pairs(run, [question.pair])
    return describe_query(run, pair, question.region)


def answer_picture(ctx: foo.ExecutionContext) -> Plain:
    """Answer ``picture``: one image of a run, as large as asked for."""
    question = PictureQuestion.read(ctx.params)
    run, item = question.load(ctx), question.item
    if not 0 <= item < len(run.items):
        raise DataError(
            f"the run '{run.key}' has {counted(len(run.items), 'image')}, numbered "
            f"from 0; there is no image {shorten(str(item), 30)}."
        )
    [image] = item_images(run, [item])
    return {"picture": image.picture(question.size, MOST_PICTURE_BYTES).to_json()}


def describe_query(run: Run, pair: int, region: str | None = None) -> Plain:
    """Describe the query of a pair, in at most 250 kB of JSON."""
    item = int(run.pairs.query[pair])
    pairs = run.pairs.of_query(item)
    outcomes = run.pairs.outcome[pairs]
    true = next(iter(np.flatnonzero(outcomes == TRUE_MATCH).tolist()), None)
    places = shown_places(run, pairs, pair, true)
    shown = [int(pairs[place]) for place in places]
    nearest = None if true is None else places.index(true)
    stored = pair_maps(run, tuple(shown))
    maps = with_contrast(stored, nearest)
    notes: list[str] = []
    regions = _regions(run, item, [one.query for one in stored], region, notes)
    kinds = [one for one in kinds_of(run) if one != CONTRAST or true is not None]
    answer = {
        "item": item,
        "identity": label(run.items.identities[item]),
        "camera": label(run.items.cameras[item]),
        "count": len(pairs),
        "neighbors": _neighbors(run, shown, nearest, stored, regions),
        "limits": limits_of(
            [side for one in maps for side in (one.query, one.gallery)]
        ),
        "kinds": describe_kinds(kinds),
        "notes": notes,
    }
    gallery = [int(other) for other in run.pairs.gallery[shown]]
    images = _images(run, [item, *gallery], stored)
    fill(answer, images[0], images[1:], maps, shown.index(pair))
    return answer


def shown_places(
    run: Run, pairs: NDArray[np.int64], chosen: int, true: int | None
) -> list[int]:
    """Choose which of a query's pairs are shown: near ones, and those in any case."""
    near = np.flatnonzero(run.pairs.rank[pairs] <= run.config.k)[:MOST_SHOWN].tolist()
    asked = np.flatnonzero(pairs == chosen).tolist()
    return sorted({*near, *asked, *([] if true is None else [true])})


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def _neighbors(
    run: Run,
    shown: Sequence[int],
    nearest: int | None,
    maps: Sequence[PairMaps],
    regions: Regions | None,
) -> list[Plain]:
    """Describe neighbors, without their pictures and maps."""
    pairs, items = run.pairs, run.items
    verdicts = get_verdicts(run, shown)
    ahead = None if nearest is None else float(pairs.similarity[shown[nearest]])
    neighbors = []
    for place, (pair, both) in enumerate(zip(shown, maps, strict=True)):
        item, similarity = int(pairs.gallery[pair]), float(pairs.similarity[pair])
        verdict = verdicts.get(pair)
        neighbors.append(
            {
                "pair": pair,
                "item": item,
                "rank": int(pairs.rank[pair]),
                "similarity": similarity,
                "distance": float(pairs.distance[pair]),
                "outcome": OUTCOMES[pairs.outcome[pair]],
                "identity": label(items.identities[item]),
                "camera": label(items.cameras[item]),
                "best_true": place == nearest,
                "margin": None if ahead is None else ahead - similarity,
                "verdict": None if verdict is None else verdict.text,
                "receipt": [
                    share.to_json()
                    for share in receipt(both.query, similarity, regions)
                ],
            }
        )
    return neighbors


def _regions(
    run: Run,
    item: int,
    sides: Sequence[SideMaps | None],
    field: str | None,
    notes: list[str],
) -> Regions | None:
    """Divide the query; by thirds where the field does not divide it."""
    try:
        return item_regions(run, item, sides, field)
    except DataError as error:
        notes.append(f"{sentence(error)} The receipt is by thirds instead.")
        return item_regions(run, item, sides, None)


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
