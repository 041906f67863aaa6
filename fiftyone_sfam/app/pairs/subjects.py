"""What is explained: pairs of one query of a run, or two selected samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import fiftyone.operators as foo
import numpy as np
from pydantic import Field

from fiftyone_sfam.app.forms.parameters import Parameters, Text, Whole
from fiftyone_sfam.app.pairs.pictures import (
    MIDDLE,
    MOST_PICTURE_BYTES,
    ImageFile,
    ShownImage,
    image_file,
    item_images,
)
from fiftyone_sfam.app.pairs.run_question import RunQuestion, check_pairs
from fiftyone_sfam.app.selected import selected_inputs, selected_part
from fiftyone_sfam.data.inputs import ReadInputs
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.contributions import KeptImage, find_images
from fiftyone_sfam.runs.images import item_inputs
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone_sfam.app.pairs.live import LivePairs

SELECTED = -1
"""Stands for the pair of two selected samples."""

MOST_AT_ONCE = 12
"""Neighbors that a model runs on at once."""

Two = Annotated[tuple[Text, Text], Field(strict=False)]


class PairQuestion(RunQuestion):
    """A pair of a run."""

    pair: Whole = Field(-1, ge=0, description="a whole number from 0")


class SamplesQuestion(Parameters):
    """Two selected samples or patches, and the model that explains them."""

    samples: Two = Field(("", ""), description="a list of the ids of two samples")
    run: Text | None = None  # key of a run, whose model explains them
    uid: Text | None = None
    model: Text | None = None  # name of a model that explains them instead

    def load(self, ctx: foo.ExecutionContext) -> Run | None:
        """Load the run, if one is given."""
        if self.run is None:
            return None
        return RunQuestion(run=self.run, uid=self.uid or "").load(ctx)


@dataclass(frozen=True)
class Subject:
    """A query, and the neighbors that it is compared with.

    Images are numbered: image 0 is the query, and image ``place + 1`` the neighbor at a
    place.
    """

    source: Run | str  # whose model explains them: a run, or a model by its name
    pairs: tuple[int, ...]  # of the run, one per neighbor; SELECTED for two samples
    similarity: tuple[float | None, ...]  # as the run has stored it
    images: tuple[ShownImage, ...]
    run: Run | None  # that may keep contributions of them
    items: tuple[int, ...]  # of the run, one per image; empty if it has not all
    columns: partial[Any]  # reads further inputs of images by their numbers

    def live(self, places: Sequence[int]) -> tuple[LivePairs, dict[int, int]]:
        """Run the model on the query and those of some neighbors that can be read.

        Returns what it was run on, and the number of the neighbor at each place.
        """
        from fiftyone_sfam.app.pairs.live import live_pairs

        numbers = self.readable(places)
        files = tuple(self.file(number) for number in numbers)
        live = live_pairs(self.source, files, self.read_inputs(numbers))
        return live, {number - 1: at for at, number in enumerate(numbers[1:])}

    def readable(self, places: Sequence[int]) -> list[int]:
        """Return the numbers of the query and of neighbors whose images there are."""
        self.file(0)
        there = [place + 1 for place in places if not self._problem(place + 1)]
        if places and not there:
            if len(places) == 1:
                self.file(places[0] + 1)
            raise DataError("none of the neighbors' images can be read.")
        return [0, *there]

    def read_inputs(self, numbers: Sequence[int]) -> ReadInputs:
        """Return what reads the model's further inputs of images."""
        return partial(self.columns, list(numbers))

    def file(self, number: int) -> ImageFile:
        """Return the file of an image; raise a DataError if it cannot be read."""
        file, problem = self.images[number].file, self._problem(number)
        if file is None or problem is not None:
            which = "the query" if number == 0 else "the neighbor"
            reason = problem or "it is missing."
            raise DataError(f"{which} has no image: {reason[:1].lower()}{reason[1:]}")
        return file

    def _problem(self, number: int) -> str | None:
        # The small picture is one that is shown, so it is read once only.
        return self.images[number].picture(MIDDLE, MOST_PICTURE_BYTES).problem

    def kept(self) -> list[KeptImage | None]:
        """Read the stored contributions of the images; None where there are none."""
        if self.run is None or not self.items:
            return [None] * len(self.images)
        found = find_images(self.run, self.items)
        return [found.get(item) for item in self.items]


def read_subject(ctx: foo.ExecutionContext) -> Subject:
    """Read which two images a question is about."""
    if ctx.params.get("samples"):
        return samples_subject(ctx, SamplesQuestion.read(ctx.params))
    question = PairQuestion.read(ctx.params)
    return pairs_subject(question.load(ctx), [question.pair])


def pairs_subject(run: Run, pairs: Sequence[int]) -> Subject:
    """Explain pairs of one query of a run."""
    pairs = check_pairs(run, pairs)
    queries = np.unique(run.pairs.query[pairs])
    if len(queries) != 1:
        raise DataError("the pairs have to be of one query, and at least one.")
    items = [int(queries[0]), *(int(one) for one in run.pairs.gallery[pairs])]
    return Subject(
        run,
        tuple(pairs),
        tuple(float(one) for one in run.pairs.similarity[pairs]),
        tuple(item_images(run, items)),
        run,
        tuple(items),
        partial(_inputs_of_items, run, items),
    )


def samples_subject(ctx: foo.ExecutionContext, question: SamplesQuestion) -> Subject:
    """Explain two selected samples by the model that is given, or by that of a run."""
    ids, run = question.samples, question.load(ctx)
    if not all(ids):
        raise DataError("samples has to be a list of the ids of two samples.")
    source: Run | str | None = question.model or run
    if source is None:
        raise DataError("choose a model that explains the two samples.")
    # Another model has other contributions than the run.
    known = run is not None and question.model in (None, run.config.model)
    items = [run.items.index(one) for one in ids] if run and known else []
    return Subject(
        source,
        (SELECTED,),
        (None,),
        tuple(ShownImage(image_file(*selected_part(ctx, one))) for one in ids),
        run if known else None,
        tuple(items) if min(items, default=-1) >= 0 else (),
        partial(_inputs_of_samples, ctx, ids),
    )


def _inputs_of_items(
    run: Run, items: Sequence[int], numbers: Sequence[int], fields: Any
) -> Any:
    return item_inputs(run, [items[number] for number in numbers], fields)


def _inputs_of_samples(
    ctx: foo.ExecutionContext, ids: Sequence[str], numbers: Sequence[int], fields: Any
) -> Any:
    return selected_inputs(ctx, [ids[number] for number in numbers], fields)
