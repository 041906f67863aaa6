"""What all questions about a run have in common: which run, and which of its pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

import fiftyone.operators as foo
from pydantic import Field

from fiftyone_sfam.app.forms.parameters import Parameters, Text, Whole
from fiftyone_sfam.app.pairs.plain import label, sentence
from fiftyone_sfam.app.panel_state import current_run
from fiftyone_sfam.data.text import counted, shorten
from fiftyone_sfam.errors import DataError, RunError, SfamError
from fiftyone_sfam.retrieval.pairs import OUTCOMES
from fiftyone_sfam.review.verdicts import get_verdicts
from fiftyone_sfam.runs.run import Run

Plain = dict[str, Any]
Questions = Mapping[str, Callable[[foo.ExecutionContext], Plain]]
"""What answers each question of a component."""

PairNumbers = Annotated[tuple[Annotated[Whole, Field(ge=0)], ...], Field(strict=False)]
"""Indices into the columns of a run's pairs; bound it with :func:`at_most`."""


class StaleRunError(RunError):
    """The run of a question is gone, or another run has its key now."""


class RunQuestion(Parameters):
    """A question about a run."""

    run: Text = ""  # key of the run
    uid: Text = ""  # unique id of the run, which another run of the same key has not

    def load(self, ctx: foo.ExecutionContext) -> Run:
        """Load the run; raise a StaleRunError if it is not the one that is shown."""
        run = None if ctx.dataset is None else current_run(ctx.dataset, self.run)
        if run is None or run.config.uid != self.uid:
            raise StaleRunError(
                f"the run '{shorten(self.run, 100)}' was deleted or made again since "
                "it was opened."
            )
        return run


def answer_question(ctx: foo.ExecutionContext, questions: Questions) -> Plain:
    """Answer a question with plain data, or say why there is no answer."""
    name = ctx.params.get("question")
    try:
        if not isinstance(name, str) or name not in questions:
            raise DataError(
                f"there is no question {shorten(repr(name), 60)}; ask one of "
                f"{', '.join(questions)}."
            )
        return questions[name](ctx)
    except SfamError as error:
        stale = isinstance(error, StaleRunError)
        return {"problem": sentence(error), "stale": stale}


def at_most(most: int) -> Any:
    """Bound a field of type :data:`PairNumbers`."""
    wanted = f"a list of at most {most:,} pairs, each a whole number from 0"
    return Field((), max_length=most, description=wanted)


def from_zero(default: int | None) -> Any:
    """Bound a field of type ``Whole``."""
    return Field(default, ge=0, description="a whole number from 0")


def check_pairs(run: Run, pairs: Iterable[int]) -> list[int]:
    """Return pairs of a run, each once; raise a DataError if the run has not all."""
    chosen = list(dict.fromkeys(pairs))
    for pair in chosen:
        check_number(f"run '{run.key}'", "pair", pair, len(run.pairs))
    return chosen


def check_number(owner: str, noun: str, number: int, count: int) -> None:
    """Raise a DataError if a number is not that of one of so many pairs or images."""
    if not 0 <= number < count:
        raise DataError(
            f"the {owner} has {counted(count, noun)}, numbered from 0; there is no "
            f"{noun} {shorten(str(number), 30)}."
        )


def items_of(run: Run, pair: int) -> tuple[int, int]:
    """Return the items of a pair: its query and its neighbor."""
    return int(run.pairs.query[pair]), int(run.pairs.gallery[pair])


def item_labels(run: Run, item: int) -> Plain:
    """Return the labels of an image, as the run has read them."""
    identity, camera = run.items.identities[item], run.items.cameras[item]
    return {"identity": label(identity), "camera": label(camera)}


def _list_score(run: Run, pair: int) -> float | None:
    """Return the own score that a given list has of a pair; None if it has none."""
    if run.given is None:
        return None
    score = float(run.given.listed.score[run.given.row[pair]])
    return None if math.isnan(score) else score


def describe_pairs(run: Run, chosen: Sequence[int]) -> list[Plain]:
    """Describe pairs, without their images."""
    pairs, verdicts = run.pairs, get_verdicts(run, chosen)
    return [
        {
            "pair": pair,
            "rank": int(pairs.rank[pair]),
            "similarity": float(pairs.similarity[pair]),
            "list_score": _list_score(run, pair),
            "outcome": OUTCOMES[pairs.outcome[pair]],
            "verdict": verdicts[pair].text if pair in verdicts else None,
        }
        for pair in chosen
    ]
