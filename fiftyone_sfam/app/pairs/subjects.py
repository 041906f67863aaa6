"""The two images that are explained: a pair of a run, or two selected samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import fiftyone.operators as foo
from pydantic import Field

from fiftyone_sfam.app.forms.parameters import Text, Whole
from fiftyone_sfam.app.pairs.maps import Map
from fiftyone_sfam.app.pairs.pictures import (
    MIDDLE,
    ImageFile,
    Picture,
    ShownImage,
    image_file,
    item_images,
)
from fiftyone_sfam.app.pairs.run_question import (
    RunQuestion,
    check_pairs,
    from_zero,
    items_of,
)
from fiftyone_sfam.app.selected import selected_inputs, selected_part
from fiftyone_sfam.data.inputs import ReadInputs
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.contributions import StoredPair, find_images, stored_pair
from fiftyone_sfam.runs.images import item_inputs
from fiftyone_sfam.runs.maps import PairMaps, SideMaps
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone_sfam.attribution.pair import PairExplanation

    Explained = StoredPair | PairExplanation

Found = TypeVar("Found")

SELECTED = -1
"""Stands for the pair of two selected samples."""

SCORE_TOLERANCE = 0.005
"""How far a live similarity may be from the stored one before that is said."""

_TWO = "a list of the ids of two samples"


class SubjectQuestion(RunQuestion):
    """A question about a pair of a run, or about two selected samples."""

    pair: Whole = from_zero(-1)
    samples: Annotated[tuple[Text, Text], Field(strict=False)] | None = Field(
        None, description=_TWO
    )
    model: Text | None = None  # that explains the samples instead of the run's

    def subject(self, ctx: foo.ExecutionContext) -> Subject:
        """Find what the question is about."""
        if self.samples is not None:
            return samples_subject(ctx, self)
        run = self.load(ctx)
        [pair] = check_pairs(run, [self.pair])
        items = items_of(run, pair)
        return Subject(
            run,
            float(run.pairs.similarity[pair]),
            tuple(item_images(run, items)),
            run,
            items,
            partial(item_inputs, run, items),
        )

    def load_given(self, ctx: foo.ExecutionContext) -> Run | None:
        """Load the run, if one is given."""
        return self.load(ctx) if self.run else None


@dataclass(frozen=True)
class Subject:
    """A query (number 0) and its neighbor (number 1)."""

    source: Run | str  # whose model explains them: a run, or a model by its name
    similarity: float | None  # as the run has stored it
    images: tuple[ShownImage, ...]
    run: Run | None  # that may keep contributions of them
    items: tuple[int, ...]  # of the run; empty if it has not both
    inputs: ReadInputs

    def explain(
        self, make: Callable[[Explained], Found]
    ) -> tuple[Explained, Found, list[str]]:
        """Explain the images by what is stored of both, or else by the model.

        Returns the explained pair, what is made of it, and what has to be said.
        """
        run, items = self.run, self.items
        kept = {} if run is None else find_images(run, items)
        if run is not None and items and kept.keys() >= {*items}:
            pair = stored_pair([kept[item] for item in items], run)
            return pair, make(pair), []
        return self.live(lambda live: (live, make(live), self.score_notes(live.score)))

    def live(self, make: Callable[[PairExplanation], Found]) -> Found:
        """Explain the images by the model, and return what is made of that."""
        from fiftyone_sfam.app.pairs.live import LOCK, live_pair

        files = self.file(0), self.file(1)
        with LOCK:
            return make(live_pair(self.source, files, self.inputs))

    def maps(self, sides: Iterable[Any], values: Iterable[dict[str, Map]]) -> PairMaps:
        """Return maps of both images in the form of those that runs store."""
        query, gallery = (
            SideMaps(maps, side.score, side.remainder, side.crop, picture.full)
            for side, maps, picture in zip(sides, values, self._pictures, strict=True)
        )
        return PairMaps(query, gallery)

    def file(self, number: int) -> ImageFile:
        """Return the file of an image; raise a DataError if it cannot be read."""
        file, problem = self.images[number].file, self._pictures[number].problem
        if file is None or problem is not None:
            which = "the query" if number == 0 else "the neighbor"
            reason = problem or "it is missing."
            raise DataError(f"{which} has no image: {reason[:1].lower()}{reason[1:]}")
        return file

    @property
    def _pictures(self) -> list[Picture]:
        # Small pictures are shown, so they are read once only.
        return [image.picture(MIDDLE) for image in self.images]

    def score_notes(self, live: float) -> list[str]:
        """Say so if a live similarity is far from the stored one."""
        stored = self.similarity
        if stored is None or abs(live - stored) <= SCORE_TOLERANCE:
            return []
        return [
            f"The similarity is {live:.4f} now and was {stored:.4f} in the run: an "
            "image, a field that the model reads or the preprocessing has changed "
            "since. Repeat the run to compare like with like."
        ]


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
        None,
        tuple(ShownImage(image_file(*selected_part(ctx, one))) for one in ids),
        run if known else None,
        tuple(items) if min(items, default=-1) >= 0 else (),
        partial(selected_inputs, ctx, ids),
    )
