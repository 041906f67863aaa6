"""Verdicts on pairs: give one to many pairs at once, and take it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import fiftyone.operators as foo
from pydantic import Field

from fiftyone_sfam.app.forms.parameters import Parameters, Text, Whole
from fiftyone_sfam.app.pairs.run_question import (
    PairNumbers,
    Plain,
    RunQuestion,
    at_most,
    check_pairs,
    from_zero,
)
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.review.store import VERDICT_FIELD_ENDING
from fiftyone_sfam.review.texts import clean_text
from fiftyone_sfam.review.verdicts import Verdict, restore_verdicts, set_verdicts
from fiftyone_sfam.runs.run import Run

MAX_VERDICTS = 1000
"""Most pairs that get a verdict at once."""


class RepeatableQuestion(RunQuestion):
    """A question that is harmless to repeat, where its answer was lost."""

    request_id: Annotated[Text, Field(max_length=64)] = Field(
        "", description="a text of at most 64 characters"
    )


class VerdictQuestion(RepeatableQuestion):
    """The verdict on some pairs."""

    pairs: PairNumbers = at_most(MAX_VERDICTS)
    verdict: Text = ""


class UndoQuestion(RunQuestion):
    """What there was before, as the answer to a verdict said it."""

    entries: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = Field(
        (),
        max_length=MAX_VERDICTS,
        description=f"the previous verdicts of at most {MAX_VERDICTS:,} pairs",
    )

    def previous(self, run: Run) -> dict[int, Verdict | None]:
        """Return the verdicts to restore by pair; None where there was none."""
        restored: dict[int, Verdict | None] = {}
        for values in self.entries:
            entry = Entry.read(values)
            [pair] = check_pairs(run, [entry.pair])
            restored[pair] = None
            if entry.verdict is not None:
                before = PreviousVerdict.read(entry.verdict)
                restored[pair] = Verdict(pair, **before.model_dump())
        return restored


class PreviousVerdict(Parameters):
    """A verdict in an answer, see :class:`fiftyone_sfam.review.verdicts.Verdict`."""

    query_id: Text = ""
    neighbor_id: Text = ""
    text: Text = ""
    note: Text = ""
    created: Text = ""


class Entry(Parameters):
    """The previous verdict of a pair; None if there was none."""

    pair: Whole = from_zero(-1)
    verdict: dict[str, Any] | None = Field(None, description="a verdict, or null")


def answer_verdict(ctx: foo.ExecutionContext) -> Plain:
    """Give a verdict on pairs; return what there was before."""
    question = VerdictQuestion.read(ctx.params)
    run = question.load(ctx)
    pairs = check_pairs(run, question.pairs)
    if not pairs:
        raise DataError("no pair is chosen to get the verdict.")
    text = clean_text(question.verdict)
    write = partial(set_verdicts, run, pairs, text, request_id=question.request_id)
    return _given(dict.fromkeys(pairs, text), write_verdicts(ctx, run, write))


def answer_undo(ctx: foo.ExecutionContext) -> Plain:
    """Restore the verdicts that pairs had; return those that they have had since."""
    question = UndoQuestion.read(ctx.params)
    run = question.load(ctx)
    restored = question.previous(run)
    if not restored:
        raise DataError("there is no verdict to take back.")
    texts = {pair: None if one is None else one.text for pair, one in restored.items()}
    write = partial(restore_verdicts, run, restored)
    return _given(texts, write_verdicts(ctx, run, write))


def write_verdicts(
    ctx: foo.ExecutionContext,
    run: Run,
    write: Callable[[], Mapping[int, Verdict | None]],
) -> list[Plain]:
    """Write verdicts; return those before, as an undo takes them."""
    field = run.key + VERDICT_FIELD_ENDING
    known = run.dataset.has_sample_field(field)
    previous = write()
    if not known and run.dataset.has_sample_field(field):
        # The App does not know the field yet.
        ctx.ops.reload_dataset()
    return [
        {"pair": pair, "verdict": one and asdict(one)} for pair, one in previous.items()
    ]


def _given(texts: Mapping[int, str | None], previous: list[Plain]) -> Plain:
    return {"verdicts": list(texts.items()), "previous": previous}
