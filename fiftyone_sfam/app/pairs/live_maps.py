"""Answers with maps that are asked for: of differences, channels and paths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import fiftyone.operators as foo
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fiftyone_sfam.app.forms.parameters import Whole
from fiftyone_sfam.app.pairs.bounded import MOST_BYTES, MOST_CELLS, fit_maps
from fiftyone_sfam.app.pairs.contributed import difference_of, kept_pair
from fiftyone_sfam.app.pairs.maps import (
    CHANNEL,
    DIFFERENCE,
    PATH,
    SIGNED,
    Map,
    averaged,
    limit_of,
    unit_of,
)
from fiftyone_sfam.app.pairs.pictures import MIDDLE, MOST_PICTURE_BYTES
from fiftyone_sfam.app.pairs.plain import sentence
from fiftyone_sfam.app.pairs.run_question import PairNumbers, RunQuestion, at_most
from fiftyone_sfam.app.pairs.subjects import (
    MOST_AT_ONCE,
    SamplesQuestion,
    Subject,
    pairs_subject,
    read_subject,
    samples_subject,
)
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.maps import PairMaps, SideMaps

Plain = dict[str, Any]

MOST_PAIRS = 60
"""Pairs of one question."""

MOST_CHANNELS = 12
"""Channels that are listed."""

# Bytes of the JSON around the notes and maps, and around the maps of each pair.
_AROUND, _PAIR = 1000, 400

NO_MAPS = PairMaps(None, None)

Kind = Literal["difference", "path", "channel"]


def _channel() -> Any:
    return Field(None, ge=0, le=2**31, description="a whole number from 0")


class LiveQuestion(RunQuestion):
    """Maps of pairs of a run."""

    pairs: PairNumbers = at_most(MOST_PAIRS)
    kind: Kind = "difference"
    channel: Whole | None = _channel()


class LiveSamplesQuestion(SamplesQuestion):
    """Maps of two selected samples."""

    kind: Kind = "difference"
    channel: Whole | None = _channel()


def answer_live(ctx: foo.ExecutionContext) -> Plain:
    """Answer ``live``: maps of pairs of one query, or of two selected samples."""
    question: LiveQuestion | LiveSamplesQuestion
    if ctx.params.get("samples"):
        question = LiveSamplesQuestion.read(ctx.params)
        subject = samples_subject(ctx, question)
    else:
        question = LiveQuestion.read(ctx.params)
        subject = pairs_subject(question.load(ctx), question.pairs)
    notes: list[str] = []
    if question.kind == DIFFERENCE:
        maps = differences(subject, notes)
    elif question.kind == PATH:
        maps = [path(subject, notes)]
    elif question.channel is None:
        raise DataError("channel is missing; give a whole number from 0.")
    else:
        maps = channel_maps(subject, question.channel, notes)
    return _described(subject, question.kind, question.channel, maps, notes)


def answer_channels(ctx: foo.ExecutionContext) -> Plain:
    """Answer ``channels``: the channels that matter most for a pair."""
    subject = read_subject(ctx)
    live, _ = subject.live([0])
    importance = live.importance(0)
    return {
        "channels": [
            {"channel": channel, "value": float(importance[channel])}
            for channel in most_important(importance).tolist()
        ],
        "text": channels_text(importance),
    }


def most_important(importance: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the channels of the largest absolute importance, largest first."""
    return np.argsort(-np.abs(importance), kind="stable")[:MOST_CHANNELS]


def channels_text(importance: NDArray[np.float32]) -> str:
    """Say how much of the similarity the listed channels carry."""
    listed = importance[most_important(importance)]
    return (
        f"The {len(listed)} of {len(importance):,} channels that matter most add "
        f"{float(listed.sum()):+.3f} to a similarity of which the map carries "
        f"{float(importance.sum()):+.3f}. Click one to see it on both images."
    )


# --------------------------------------------------------------------------------------
# Kinds
# --------------------------------------------------------------------------------------


def differences(subject: Subject, notes: list[str]) -> list[PairMaps]:
    """Explain what sets each pair apart, from stored contributions if there are any."""
    kept = dict(enumerate(subject.kept()))
    there = {number: image for number, image in kept.items() if image is not None}
    if subject.run is not None and 0 in there and len(there) > 1:
        pairs = [
            kept_pair(subject.run, 0, place + 1, there)
            for place in range(len(subject.pairs))
        ]
        return [NO_MAPS if pair is None else difference_of(pair) for pair in pairs]
    return _computed(subject, None, notes)


def channel_maps(subject: Subject, channel: int, notes: list[str]) -> list[PairMaps]:
    """Return the activation of a channel on the images of each pair."""
    return _computed(subject, channel, notes)


def path(subject: Subject, notes: list[str]) -> PairMaps:
    """Explain one pair by the path of several scales."""
    from fiftyone_sfam.app.pairs.live import live_paths, score_problem

    if len(subject.pairs) != 1:
        raise DataError("a path is of one pair at a time.")
    files = subject.file(0), subject.file(1)
    both = live_paths(subject.source, files, subject.read_inputs([0, 1]))
    stored = subject.similarity[0]
    problem = None if stored is None else score_problem(stored, both[0].score)
    notes += [problem] if problem else []
    return PairMaps(
        *(
            SideMaps(
                {PATH: averaged(side.path, MOST_CELLS)},
                side.score,
                side.remainder,
                side.crop,
                image.picture(MIDDLE, MOST_PICTURE_BYTES).full,
            )
            for side, image in zip(both, subject.images, strict=True)
        )
    )


def _computed(
    subject: Subject, channel: int | None, notes: list[str]
) -> list[PairMaps]:
    """Compute maps with the model: the difference, or the activation of a channel."""
    from fiftyone_sfam.app.pairs.live import score_problem

    maps = [NO_MAPS] * len(subject.pairs)
    readable = [number - 1 for number in subject.readable(range(len(maps)))[1:]]
    gaps: list[tuple[float, str]] = []
    for start in range(0, len(readable), MOST_AT_ONCE):
        live, numbers = subject.live(readable[start : start + MOST_AT_ONCE])
        if channel is None:
            kind, (queries, others) = DIFFERENCE, live.difference()
        else:
            kind, (query, others) = CHANNEL, live.channel(channel)
            queries = (query,) * live.count
        for place, number in numbers.items():
            maps[place] = PairMaps(
                live.side(0, number, {kind: queries[number]}),
                live.side(number + 1, number, {kind: others[number]}),
            )
            stored, score = subject.similarity[place], float(live.scores[number])
            problem = None if stored is None else score_problem(stored, score)
            if stored is not None and problem is not None:
                gaps.append((abs(stored - score), problem))
    # Of several, the one that has changed most says it for all.
    notes += [max(gaps)[1]] if gaps else []
    return maps


# --------------------------------------------------------------------------------------
# Answers
# --------------------------------------------------------------------------------------


def _described(
    subject: Subject,
    kind: str,
    channel: int | None,
    maps: Sequence[PairMaps],
    notes: Sequence[str],
) -> Plain:
    """Describe maps, see ``LiveMaps`` in ``types.ts``."""
    values = [
        side.maps[kind] for pair in maps for side in (pair.query, pair.gallery) if side
    ]
    notes = [sentence(note) for note in notes]
    free = MOST_BYTES - _AROUND - len(json.dumps(notes)) - _PAIR * len(maps)
    sides = fit_maps(maps, None, free)
    # Most layers have no negative activations; of one that has, all is shown.
    negative = kind == CHANNEL and any(one.min() < 0 for one in values)
    return {
        "kind": kind,
        "maps": [
            {"pair": pair, "query_side": both[0], "neighbor_side": both[1]}
            for pair, both in zip(subject.pairs, sides, strict=True)
        ],
        "limit": limit_of(_typical(values) if kind == PATH else values),
        "signed": kind in SIGNED or negative,
        "unit": unit_of(kind, channel),
        "notes": notes,
    }


def _typical(maps: Sequence[Map]) -> list[Map]:
    """Cut maps of pixels at the value that one pixel in a hundred exceeds.

    A few pixels at edges would make all others too weak to be seen.
    """
    if not maps:
        return []
    most = float(
        np.percentile(np.abs(np.concatenate([one.ravel() for one in maps])), 99)
    )
    return [np.clip(one, -most, most) for one in maps]
