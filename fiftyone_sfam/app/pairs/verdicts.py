"""Verdicts on pairs: give one to many pairs at once, and take it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import fiftyone.operators as foo
from pydantic import Field

from fiftyone_sfam.app.forms.parameters import Parameters, Text, Whole
from fiftyone_sfam.app.pairs.run_question import (
    PairNumbers,
    RunQuestion,
    at_most,
    check_pairs,
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

    pair: Whole = Field(-1, ge=0, description="a whole number from 0")
    verdict: dict[str, Any] | None = Field(None, description="a verdict, or null")


def answer_verdict(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Give a verdict on pairs; return what there was before."""
    question = VerdictQuestion.read(ctx.params)
    run = question.load(ctx)
    pairs = check_pairs(run, question.pairs)
    if not pairs:
        raise DataError("no pair is chosen to get the verdict.")
    text = clean_text(question.verdict)
    known = _has_field(run)
    previous = set_verdicts(run, pairs, text)
    _reload(ctx, run, known)
    return _given(dict.fromkeys(pairs, text), previous)


def answer_undo(ctx: foo.ExecutionContext) -> dict[str, Any]:
    """Restore the verdicts that pairs had; return those that they have had since."""
    question = UndoQuestion.read(ctx.params)
    run = question.load(ctx)
    restored: dict[int, Verdict | None] = {}
    for values in question.entries:
        entry = Entry.read(values)
        [pair] = check_pairs(run, [entry.pair])
        verdict = None
        if entry.verdict is not None:
            before = PreviousVerdict.read(entry.verdict)
            verdict = Verdict(pair, **before.model_dump())
        restored[pair] = verdict
    if not restored:
        raise DataError("there is no verdict to take back.")
    known = _has_field(run)
    previous = restore_verdicts(run, restored)
    _reload(ctx, run, known)
    texts = {pair: None if one is None else one.text for pair, one in restored.items()}
    return _given(texts, previous)


def _given(
    texts: Mapping[int, str | None], previous: Mapping[int, Verdict | None]
) -> dict[str, Any]:
    """Return the answer: the verdicts now, and those before."""
    return {
        "verdicts": [{"pair": pair, "verdict": text} for pair, text in texts.items()],
        "previous": [
            {"pair": pair, "verdict": None if one is None else asdict(one)}
            for pair, one in previous.items()
        ],
    }


def _has_field(run: Run) -> bool:
    field = run.key + VERDICT_FIELD_ENDING
    return bool(run.dataset.has_sample_field(field))


def _reload(ctx: foo.ExecutionContext, run: Run, known: bool) -> None:
    """Tell the App of the field of verdicts if it is new."""
    if not known and _has_field(run):
        ctx.ops.reload_dataset()
