"""Rows of the queue's list: labels, verdicts and small pictures of some pairs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import fiftyone.operators as foo

from fiftyone_sfam.app.pairs.pictures import SMALL, item_images, read_ahead
from fiftyone_sfam.app.pairs.run_question import (
    PairNumbers,
    RunQuestion,
    at_most,
    check_pairs,
    describe_pairs,
    item_labels,
    items_of,
)

MAX_ROWS = 60
"""Most pairs of one answer."""


class RowsQuestion(RunQuestion):
    """Which rows are asked for."""

    pairs: PairNumbers = at_most(MAX_ROWS)


def answer_rows(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Describe some pairs, in the order in which they are asked for."""
    question = RowsQuestion.read(ctx.params)
    run = question.load(ctx)
    chosen = check_pairs(run, question.pairs)
    sides = [items_of(run, pair) for pair in chosen]
    items = sorted({item for both in sides for item in both})
    images = dict(zip(items, item_images(run, items), strict=True))
    read_ahead([(image, SMALL) for image in images.values()])
    rows = []
    for row, both in zip(describe_pairs(run, chosen), sides, strict=True):
        query, neighbor = (item_labels(run, item) for item in both)
        row |= query | {"neighbor_identity": neighbor["identity"]}
        row["pictures"] = [asdict(images[item].picture(SMALL)) for item in both]
        rows.append(row)
    return {"rows": rows}
