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


class VerdictQuestion(RunQuestion):
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


def answer_verdict(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Give a verdict on pairs; return what there was before."""
    question = VerdictQuestion.read(ctx.params)
    run = question.load(ctx)
    pairs = check_pairs(run, question.pairs)
    if not pairs:
        raise DataError("no pair is chosen to get the verdict.")
    text = clean_text(question.verdict)
    set_them = partial(set_verdicts, run, pairs, text)
    return _written(ctx, run, dict.fromkeys(pairs, text), set_them)


def answer_undo(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Restore the verdicts that pairs had; return those that they have had since."""
    question = UndoQuestion.read(ctx.params)
    run = question.load(ctx)
    restored: dict[int, Verdict | None] = {}
    for values in question.entries:
        entry = Entry.read(values)
        [pair] = check_pairs(run, [entry.pair])
        restored[pair] = None
        if entry.verdict is not None:
            before = PreviousVerdict.read(entry.verdict)
            restored[pair] = Verdict(pair, **before.model_dump())
    if not restored:
        raise DataError("there is no verdict to take back.")
    texts = {pair: None if one is None else one.text for pair, one in restored.items()}
    return _written(ctx, run, texts, partial(restore_verdicts, run, restored))


def _written(
    ctx: foo.ExecutionContext,
    run: Run,
    texts: Mapping[int, str | None],
    write: Callable[[], Mapping[int, Verdict | None]],
) -> dict[str, Any]:
    """Write verdicts; return them, and those before."""
    field = run.key + VERDICT_FIELD_ENDING
    known = run.dataset.has_sample_field(field)
    previous = write()
    if not known and run.dataset.has_sample_field(field):
        # The App does not know the field yet.
        ctx.ops.reload_dataset()
    return {
        "verdicts": [{"pair": pair, "verdict": text} for pair, text in texts.items()],
        "previous": [
            {"pair": pair, "verdict": None if one is None else asdict(one)}
            for pair, one in previous.items()
        ],
    }
