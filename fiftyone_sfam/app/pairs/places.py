"""From samples of the App to pairs of a run, and back."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
from pydantic import Field

from fiftyone_sfam.app.forms.parameters import Text, Whole
from fiftyone_sfam.app.pairs.run_question import RunQuestion, check_pairs
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
    shown: Whole | None = Field(None, ge=0, description="a whole number from 0")


class ShowQuestion(RunQuestion):
    """What the App is to show."""

    pair: Whole = Field(-1, ge=0, description="a whole number from 0")
    what: Text = ""


def answer_locate(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Find the pair to show for a sample or patch: the shown one if it is of it.

    Otherwise the pair of it as a query with its nearest neighbor.
    """
    question = LocateQuestion.read(ctx.params)
    run = question.load(ctx)
    item = item_of(run, question.sample)
    if item is None:
        return {"pair": None}
    shown = question.shown
    if shown is not None and shown < len(run.pairs) and item in _items(run, shown):
        # It may have been opened from the component.
        return {"pair": shown}
    pairs = run.pairs.of_query(item)
    return {"pair": int(pairs[0]) if len(pairs) else None}


def answer_show(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Show a pair in the grid, or open one of its samples."""
    question = ShowQuestion.read(ctx.params)
    run = question.load(ctx)
    [pair] = check_pairs(run, [question.pair])
    query, neighbor = _items(run, pair)
    shown = {GRID: [query, neighbor], QUERY: [query], NEIGHBOR: [neighbor]}
    if question.what not in shown:
        what = shorten(repr(question.what), 60)
        raise DataError(f"what is {what}; give one of {', '.join(shown)}.")
    items = shown[question.what]
    images = ItemImages(run, items)
    for item in items:
        # Raises if the sample or the detection was deleted.
        images.source(item)
    if question.what == GRID:
        ctx.ops.set_view(pair_samples(run, pair))
    else:
        ctx.ops.open_sample(id=str(run.items.sample_ids[items[0]]))
    return {}


def pair_samples(run: Run, pair: int) -> fo.DatasetView:
    """Return the two images of a pair as a view: samples, or patches of them."""
    items = _items(run, pair)
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
        pairs = run.pairs.of_query(query)
        for pair in pairs[run.pairs.gallery[pairs] == neighbor]:
            return int(pair)
    return None


def item_of(run: Run, sample_id: str) -> int | None:
    """Find the item of a patch or sample, a query if it has one; None if none."""
    found = run.items.index(sample_id)
    if found >= 0:
        return found
    items = run.items.indices_of_sample(sample_id)
    queries = [int(item) for item in items if len(run.pairs.of_query(int(item)))]
    return next(iter(queries or (int(item) for item in items)), None)


def _items(run: Run, pair: int) -> tuple[int, int]:
    """Return query and neighbor of a pair."""
    return int(run.pairs.query[pair]), int(run.pairs.gallery[pair])
