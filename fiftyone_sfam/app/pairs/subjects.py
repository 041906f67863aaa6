"""What is explained: pairs of one query of a run, or two selected samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import fiftyone.operators as foo
import numpy as np
from pydantic import Field

from fiftyone_sfam.app.forms.parameters import Text, Whole
from fiftyone_sfam.app.pairs.pictures import (
    MIDDLE,
    ImageFile,
    ShownImage,
    image_file,
    item_images,
)
from fiftyone_sfam.app.pairs.run_question import (
    PairNumbers,
    RunQuestion,
    at_most,
    check_pairs,
    from_zero,
)
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

MOST_PAIRS = 60
"""Pairs of one question."""

MOST_AT_ONCE = 12
"""Neighbors that a model runs on at once."""

SCORE_TOLERANCE = 0.005
"""How far a live similarity may be from the stored one before that is said."""

_TWO = "a list of the ids of two samples"


class SubjectQuestion(RunQuestion):
    """A question about pairs of one query of a run, or about two selected samples."""

    pair: Whole | None = from_zero(None)
    pairs: PairNumbers = at_most(MOST_PAIRS)
    samples: Annotated[tuple[Text, Text], Field(strict=False)] | None = Field(
        None, description=_TWO
    )
    model: Text | None = None  # that explains the samples instead of the run's

    def subject(self, ctx: foo.ExecutionContext) -> Subject:
        """Find what the question is about."""
        if self.samples is not None:
            return samples_subject(ctx, self)
        asked = self.pairs if self.pair is None else (self.pair,)
        return pairs_subject(self.load(ctx), asked)

    def load_given(self, ctx: foo.ExecutionContext) -> Run | None:
        """Load the run, if one is given."""
        return self.load(ctx) if self.run else None


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
    inputs: Callable[[Sequence[int]], ReadInputs]  # what reads those of images

    def live(self, places: Sequence[int]) -> tuple[LivePairs, list[int]]:
        """Run the model on the query and those of some neighbors that can be read.

        Returns what it was run on, and the place of each of its neighbors.
        """
        from fiftyone_sfam.app.pairs.live import live_pairs

        places = self.readable(places)
        numbers = [0, *(place + 1 for place in places)]
        files = tuple(self.file(number) for number in numbers)
        return live_pairs(self.source, files, self.inputs(numbers)), places

    def readable(self, places: Sequence[int]) -> list[int]:
        """Return the places of those neighbors whose images can be read."""
        self.file(0)
        there = [place for place in places if not self._problem(place + 1)]
        if places and not there:
            if len(places) == 1:
                self.file(places[0] + 1)
            raise DataError("none of the neighbors' images can be read.")
        return there

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
        return self.images[number].picture(MIDDLE).problem

    def kept(self) -> dict[int, KeptImage]:
        """Read the stored contributions of images, by number, where there are any."""
        found = find_images(self.run, self.items) if self.run else {}
        return {
            number: found[item]
            for number, item in enumerate(self.items)
            if item in found
        }


def score_notes(scores: Iterable[tuple[float | None, float]]) -> list[str]:
    """Say which live similarity is the furthest from the stored one, if it is far."""
    gaps = [(abs(old - now), old, now) for old, now in scores if old is not None]
    gap, stored, live = max(gaps, default=(0.0, 0.0, 0.0))
    if gap <= SCORE_TOLERANCE:
        return []
    return [
        f"The similarity is {live:.4f} now and was {stored:.4f} in the run: an image, "
        "a field that the model reads or the preprocessing has changed since. Repeat "
        "the run to compare like with like."
    ]


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
        lambda numbers: partial(item_inputs, run, [items[one] for one in numbers]),
    )


def samples_subject(ctx: foo.ExecutionContext, question: SubjectQuestion) -> Subject:
    """Explain two selected samples by the model that is given, or by that of a run."""
    ids, run = question.samples, question.load_given(ctx)
    if ids is None or not all(ids):
        raise DataError(f"samples has to be {_TWO}.")
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
        lambda numbers: partial(selected_inputs, ctx, [ids[one] for one in numbers]),
    )
