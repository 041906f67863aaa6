"""From samples of the App to pairs of a run, and back."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import fiftyone.operators as foo

from fiftyone_sfam.app.forms.parameters import Text, Whole
from fiftyone_sfam.app.pairs.run_question import (
    RunQuestion,
    check_pairs,
    from_zero,
    items_of,
)
from fiftyone_sfam.data.items import all_samples
from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.images import ItemImages
from fiftyone_sfam.runs.run import Run

GRID, QUERY, NEIGHBOR = "grid", "query", "neighbor"
"""What the App can be asked to show of a pair."""


class LocateQuestion(RunQuestion):
    """Which sample is looked for."""

    sample: Text = ""  # id of a sample or of a patch
    shown: Whole | None = from_zero(None)


class ShowQuestion(RunQuestion):
    """What the App is to show."""

    pair: Whole = from_zero(-1)
    what: Text = ""


def answer_locate(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Find the pair to show for a sample or patch: the shown one if it is of it.

    Otherwise the pair of it as a query with its nearest neighbor.
    """
    question = LocateQuestion.read(ctx.params)
    run, shown = question.load(ctx), question.shown
    item = item_of(run, question.sample)
    if item is None:
        return {"pair": None}
    if shown is not None and shown < len(run.pairs) and item in items_of(run, shown):
        # It may have been opened from the component.
        return {"pair": shown}
    return {"pair": next(iter(run.pairs.of_query(item).tolist()), None)}


def answer_show(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Show a pair in the grid, or open one of its samples."""
    question = ShowQuestion.read(ctx.params)
    run = question.load(ctx)
    [pair] = check_pairs(run, [question.pair])
    query, neighbor = items_of(run, pair)
    shown = {GRID: [query, neighbor], QUERY: [query], NEIGHBOR: [neighbor]}
    if question.what not in shown:
        what = shorten(repr(question.what), 60)
        raise DataError(f"what is {what}; give one of {', '.join(shown)}.")
    items = shown[question.what]
    images = ItemImages(run, items)
    for item in items:
        images.source(item)  # raises if the sample or the detection is gone
    if question.what == GRID:
        ctx.ops.set_view(pair_samples(run, pair))
    else:
        ctx.ops.open_sample(id=str(run.items.sample_ids[items[0]]))
    return {}


def pair_samples(run: Run, pair: int) -> fo.DatasetView:
    """Return the two images of a pair as a view: samples, or patches of them."""
    items = items_of(run, pair)
    samples = all_samples(run.dataset).select(
        [str(run.items.sample_ids[item]) for item in items], ordered=True
    )
    field = run.config.patches_field
    if field is None or run.items.label_ids is None:
        return samples
    patches = samples.to_patches(field)
    return patches.select([str(run.items.label_ids[item]) for item in items])


def stored_pair(run: Run, one: str, other: str) -> int | None:
    """Find the pair of a run that is of two samples or patches; None if none."""
    first, second = item_of(run, one), item_of(run, other)
    if first is None or second is None:
        return None
    for query, neighbor in ((first, second), (second, first)):
        for pair in run.pairs.of_query(query).tolist():
            if run.pairs.gallery[pair] == neighbor:
                return int(pair)
    return None


def item_of(run: Run, sample_id: str) -> int | None:
    """Find the item of a patch or sample, a query if it has one; None if none."""
    found = run.items.index(sample_id)
    if found >= 0:
        return found
    items = [int(item) for item in run.items.indices_of_sample(sample_id)]
    queries = [item for item in items if len(run.pairs.of_query(item))]
    return next(iter(queries or items), None)
