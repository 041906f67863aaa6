"""Answers with maps that are asked for: differences, channels, paths, other runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import fiftyone.operators as foo
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fiftyone_sfam.app.forms.parameters import Text, Whole
from fiftyone_sfam.app.pairs.bounded import MOST_BYTES, MOST_CELLS, fit_maps
from fiftyone_sfam.app.pairs.contributed import pair_maps
from fiftyone_sfam.app.pairs.maps import (
    CHANNEL,
    COMPARED,
    DIFFERENCE,
    EVIDENCE,
    LIVE,
    Map,
    averaged,
    limit_of,
    stored_kinds,
    typical,
)
from fiftyone_sfam.app.pairs.plain import sentence
from fiftyone_sfam.app.pairs.run_question import Plain, check_number, from_zero
from fiftyone_sfam.app.pairs.subjects import Subject, SubjectQuestion
from fiftyone_sfam.app.panel_state import current_run
from fiftyone_sfam.audit.comparison.result import compared_keys, same_pair
from fiftyone_sfam.audit.decisions import DECISION, decision_of, stored_threshold
from fiftyone_sfam.data.text import shorten
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import SCALES

# Both sides of a pair, their maps, and what has to be said.
Found = tuple[Sequence[Any], list[Map], list[str]]

MOST_CHANNELS = 12
"""Channels that are listed."""

# Bytes of the JSON around the notes and maps.
_AROUND = 1400


class LiveQuestion(SubjectQuestion):
    """Which maps are asked for."""

    kind: Text = Field(
        DIFFERENCE,
        pattern=rf"^({'|'.join(LIVE)}|{COMPARED}.*)$",
        description=f"one of {', '.join(LIVE)}, or {COMPARED} with the key of a run",
    )
    channel: Whole | None = from_zero(None)


def answer_live(ctx: foo.ExecutionContext) -> Plain:
    """Answer ``live``: maps of a pair of a run, or of two selected samples."""
    question = LiveQuestion.read(ctx.params)
    subject, kind = question.subject(ctx), question.kind
    if kind == SCALES:
        sides, values, said = _path(subject)
    elif kind == CHANNEL:
        sides, values, said = _channel(subject, question.channel)
    elif kind == DECISION:
        sides, values, said = _decision(subject)
    elif kind.startswith(COMPARED):
        sides, values, said = _of_other(subject, question)
    else:
        _, sides, said = subject.explain(lambda pair: pair.difference())
        values = [sides[0].evidence, -sides[1].evidence]
    notes = [sentence(note) for note in said]
    maps = subject.maps(sides, ({kind: one} for one in values))
    free = MOST_BYTES - _AROUND - len(json.dumps(notes))
    [(query, neighbor)] = fit_maps([maps], None, free)
    return {
        "query_side": query,
        "neighbor_side": neighbor,
        "limit": limit_of(typical(values) if kind == SCALES else values),
        "notes": notes,
    }


def answer_channels(ctx: foo.ExecutionContext) -> Plain:
    """Answer ``channels``: the channels that matter most for a pair."""
    subject = SubjectQuestion.read(ctx.params).subject(ctx)
    importance = subject.live(lambda pair: pair.query.cis)
    return {
        "channels": [
            {"channel": channel, "value": float(importance[channel])}
            for channel in most_important(importance).tolist()
        ]
    }


def most_important(importance: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the channels of the largest absolute importance, largest first."""
    return np.argsort(-np.abs(importance), kind="stable")[:MOST_CHANNELS]


def _path(subject: Subject) -> Found:
    """Explain the images by the path of several scales."""
    from fiftyone_sfam.app.pairs.live import live_path

    files = subject.file(0), subject.file(1)
    sides = live_path(subject.source, files, subject.inputs)
    maps = [averaged(side.path, MOST_CELLS) for side in sides]
    return sides, maps, subject.score_notes(sides[0].score)


def _channel(subject: Subject, channel: int | None) -> Found:
    """Return the activation of a channel on both images."""
    if channel is None:
        raise DataError("channel is missing; give a whole number from 0.")
    pair = subject.live(lambda pair: pair)
    check_number("layer", "channel", channel, len(pair.query.cis))
    maps = [pair.channel(channel, "query"), pair.channel(channel, "gallery")]
    return (pair.query, pair.gallery), maps, subject.score_notes(pair.score)


def _decision(subject: Subject) -> Found:
    """Explain why the images are accepted or rejected at the run's threshold."""
    threshold = None if subject.run is None else stored_threshold(subject.run)
    if threshold is None:
        raise DataError(
            "there is no threshold that the pair is accepted or rejected at; set one "
            "with the operator 'SFAM: decide pairs'."
        )

    _, sides, notes = subject.explain(lambda pair: decision_of(pair, threshold))
    return sides, [side.evidence for side in sides], notes


def _of_other(subject: Subject, question: LiveQuestion) -> Found:
    """Explain the pair by another run that its own was compared with."""
    run, key = subject.run, question.kind.removeprefix(COMPARED)
    known = run is not None and key in compared_keys(run)
    other = current_run(run.dataset, key) if run is not None and known else None
    if run is None or other is None:
        raise DataError(f"the run was not compared with a run '{shorten(key, 100)}'.")
    number = None if question.samples else same_pair(run, question.pair, other)
    if number is not None and EVIDENCE in stored_kinds(other):
        [maps] = pair_maps(other, (number,))
        if maps.query is not None and maps.gallery is not None:
            sides: Sequence[Any] = (maps.query, maps.gallery)
            values = [side.maps[EVIDENCE] for side in sides]
            return sides, values, [_placed(key, sides[0].score, other, number)]
    items = [other.items.index(str(run.items.ids[item])) for item in subject.items]
    there = tuple(items) if min(items, default=-1) >= 0 else ()
    asked = replace(subject, source=other, run=other, items=there, similarity=None)
    _, sides, _ = asked.explain(lambda pair: (pair.query, pair.gallery))
    note = _placed(key, sides[0].score, other, number)
    return sides, [side.evidence for side in sides], [note]


def _placed(key: str, similarity: float, run: Run, pair: int | None) -> str:
    """Say how similar a pair is in another run, and at which rank."""
    rank = "" if pair is None else f", at rank {run.pairs.rank[pair]:,}"
    return f"In '{key}', the similarity is {similarity:.4f}{rank}."
