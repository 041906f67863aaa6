"""Rows of the queue's list: labels, verdicts and small pictures of some pairs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import fiftyone.operators as foo
import numpy as np

from fiftyone_sfam.app.pairs.pictures import ImageFile, image_file
from fiftyone_sfam.app.pairs.plain import label, sentence
from fiftyone_sfam.app.pairs.run_question import (
    PairNumbers,
    RunQuestion,
    at_most,
    check_pairs,
)
from fiftyone_sfam.attribution.render import data_url, fitted
from fiftyone_sfam.data.images import load_in_background, read_shrunk
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import get_verdicts
from fiftyone_sfam.runs.images import ItemImages
from fiftyone_sfam.runs.run import Run

MAX_ROWS = 60
"""Most pairs of one answer."""

ROW_BOX = (64, 96)
"""Largest width and height of a picture, in pixels."""

_READERS = 4  # threads that read images


class RowsQuestion(RunQuestion):
    """Which rows are asked for."""

    pairs: PairNumbers = at_most(MAX_ROWS)


def answer_rows(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Describe some pairs, in the order in which they are asked for."""
    question = RowsQuestion.read(ctx.params)
    run = question.load(ctx)
    chosen = check_pairs(run, question.pairs)
    pairs, items = run.pairs, run.items
    verdicts = get_verdicts(run, chosen)
    sides = [(int(pairs.query[pair]), int(pairs.gallery[pair])) for pair in chosen]
    pictures = _pictures(run, sorted({item for both in sides for item in both}))
    rows = []
    for pair, (query, neighbor) in zip(chosen, sides, strict=True):
        given = verdicts.get(pair)
        rows.append(
            {
                "pair": pair,
                "query": query,
                "neighbor": neighbor,
                "rank": int(pairs.rank[pair]),
                "similarity": float(pairs.similarity[pair]),
                "outcome": OUTCOMES[pairs.outcome[pair]],
                "identity": label(items.identities[query]),
                "camera": label(items.cameras[query]),
                "neighbor_identity": label(items.identities[neighbor]),
                "neighbor_camera": label(items.cameras[neighbor]),
                "verdict": None if given is None else given.text,
                "pictures": [pictures[query], pictures[neighbor]],
            }
        )
    return {"rows": rows}


def _pictures(run: Run, items: list[int]) -> dict[int, dict[str, Any]]:
    """Return small pictures of items; without an image, the reason."""
    images = ItemImages(run, items)

    def load(item: int) -> dict[str, Any]:
        return _small(image_file(*images.source(item)))

    return {
        one.index: one.value or _missing(one.reason or "")
        for one in load_in_background(items, load, _READERS)
    }


@lru_cache(maxsize=512)
def _small(file: ImageFile) -> dict[str, Any]:
    if file.box is None:
        image, full = read_shrunk(file.path, max(ROW_BOX))
    else:
        image = file.read()
        full = image.size
    # Never enlarged.
    small = fitted(image, *np.minimum(ROW_BOX, image.size).tolist())
    return {
        "url": data_url(small, "JPEG"),
        "width": small.width,
        "height": small.height,
        "full": list(full),
        "problem": None,
    }


def _missing(reason: str) -> dict[str, Any]:
    """Return what is shown in place of an image that cannot be read."""
    return {
        "url": "",
        "width": ROW_BOX[0],
        "height": ROW_BOX[1],
        "full": [0, 0],
        "problem": sentence(reason),
    }
