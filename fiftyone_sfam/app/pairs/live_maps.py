"""Answers with maps that are asked for: of differences, channels and paths."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import fiftyone.operators as foo
import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.app.forms.parameters import Whole
from fiftyone_sfam.app.pairs.bounded import MOST_BYTES, MOST_CELLS, fit_maps
from fiftyone_sfam.app.pairs.contributed import difference_of, kept_pair
from fiftyone_sfam.app.pairs.maps import (
    CHANNEL,
    PATH,
    SIGNED,
    Map,
    averaged,
    limit_of,
    unit_of,
)
from fiftyone_sfam.app.pairs.pictures import MIDDLE
from fiftyone_sfam.app.pairs.plain import sentence
from fiftyone_sfam.app.pairs.run_question import from_zero
from fiftyone_sfam.app.pairs.subjects import (
    MOST_AT_ONCE,
    Subject,
    SubjectQuestion,
    score_notes,
)
from fiftyone_sfam.audit.decisions import DECISION, decision_maps, stored_threshold
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.runs.contributions import StoredPair
from fiftyone_sfam.runs.maps import PairMaps, SideMaps

if TYPE_CHECKING:
    from fiftyone_sfam.app.pairs.live import LivePairs

Plain = dict[str, Any]
Explained = tuple[list[PairMaps], list[str]]  # maps of each pair, and what to say

MOST_CHANNELS = 12
"""Channels that are listed."""

# Bytes of the JSON around the notes and maps, and around the maps of each pair.
_AROUND, _PAIR = 1000, 400

_NO_MAPS = PairMaps(None, None)


class LiveQuestion(SubjectQuestion):
    """Which maps are asked for."""

    kind: Literal["decision", "difference", "path", "channel"] = "difference"
    channel: Whole | None = from_zero(None)


def answer_live(ctx: foo.ExecutionContext) -> Plain:
    """Answer ``live``: maps of pairs of one query, or of two selected samples."""
    question = LiveQuestion.read(ctx.params)
    kind, channel = question.kind, question.channel
    subject = question.subject(ctx)
    if kind == CHANNEL and channel is None:
        raise DataError("channel is missing; give a whole number from 0.")
    if kind == PATH:
        maps, notes = _path(subject)
    elif kind == CHANNEL:
        maps, notes = _computed(subject, lambda live: live.channel(int(channel or 0)))
    elif kind == DECISION:
        at = _threshold(subject)
        maps, notes = _stored(subject, lambda pair: decision_maps(pair, at)) or (
            _computed(subject, lambda live: live.decision(at))
        )
    else:
        maps, notes = _stored(subject, difference_of) or (
            _computed(subject, lambda live: live.difference())
        )
    notes = [sentence(note) for note in notes]
    values = [
        side.maps[kind] for pair in maps for side in (pair.query, pair.gallery) if side
    ]
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


def answer_channels(ctx: foo.ExecutionContext) -> Plain:
    """Answer ``channels``: the channels that matter most for a pair."""
    live, _ = SubjectQuestion.read(ctx.params).subject(ctx).live([0])
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


def _threshold(subject: Subject) -> float:
    """Return the threshold of the run that the pairs are of."""
    run = subject.run
    threshold = None if run is None else stored_threshold(run)
    if threshold is None:
        raise DataError(
            "there is no threshold that the pair is accepted or rejected at; set one "
            "with the operator 'SFAM: decide pairs'."
        )
    return threshold


def _stored(
    subject: Subject, explain: Callable[[StoredPair], PairMaps]
) -> Explained | None:
    """Explain each pair by stored contributions, if there are any."""
    kept, places = subject.kept(), range(len(subject.pairs))
    pairs = [kept_pair(subject.run, 0, place + 1, kept) for place in places]
    if not any(pairs):
        return None
    return [explain(pair) if pair else _NO_MAPS for pair in pairs], []


def _path(subject: Subject) -> Explained:
    """Explain one pair by the path of several scales."""
    from fiftyone_sfam.app.pairs.live import live_paths

    if len(subject.pairs) != 1:
        raise DataError("a path is of one pair at a time.")
    files = subject.file(0), subject.file(1)
    both = live_paths(subject.source, files, subject.inputs([0, 1]))
    sides = (
        SideMaps(
            {PATH: averaged(side.path, MOST_CELLS)},
            side.score,
            side.remainder,
            side.crop,
            image.picture(MIDDLE).full,
        )
        for side, image in zip(both, subject.images, strict=True)
    )
    return [PairMaps(*sides)], score_notes([(subject.similarity[0], both[0].score)])


def _computed(
    subject: Subject, explain: Callable[[LivePairs], list[PairMaps]]
) -> Explained:
    """Compute maps with the model."""
    maps, scores = [_NO_MAPS] * len(subject.pairs), []
    readable = subject.readable(range(len(maps)))
    for start in range(0, len(readable), MOST_AT_ONCE):
        live, places = subject.live(readable[start : start + MOST_AT_ONCE])
        found = explain(live)
        for place, pair, score in zip(places, found, live.scores, strict=True):
            maps[place] = pair
            scores.append((subject.similarity[place], float(score)))
    return maps, score_notes(scores)


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
