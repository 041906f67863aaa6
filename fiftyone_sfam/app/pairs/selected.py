"""The answer about two samples that are selected in the App."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
import numpy as np

from fiftyone_sfam.app.pairs.bounded import fill
from fiftyone_sfam.app.pairs.contributed import evidence_of, kept_pair
from fiftyone_sfam.app.pairs.maps import (
    EVIDENCE,
    LIVE,
    SELECTED_KINDS,
    describe_kinds,
    limits_of,
    thirds_receipt,
)
from fiftyone_sfam.app.pairs.places import stored_pair
from fiftyone_sfam.app.pairs.plain import label, sentence
from fiftyone_sfam.app.pairs.subjects import (
    SELECTED,
    SamplesQuestion,
    Subject,
    samples_subject,
)
from fiftyone_sfam.attribution.map_share import LEAST_SCORE, map_warnings, share_of
from fiftyone_sfam.retrieval.pairs import OUTCOMES, UNLABELED
from fiftyone_sfam.runs.maps import PairMaps
from fiftyone_sfam.runs.run import Run

Plain = dict[str, Any]


def answer_selected(ctx: foo.ExecutionContext) -> Plain:
    """Answer ``selected``: the pair of two samples, or the two explained at once.

    A pair that the run has is named only. Otherwise the run's stored contributions
    explain the two if there are any, or else the model: the one that is given, or that
    of the run.
    """
    question = SamplesQuestion.read(ctx.params)
    run = question.load(ctx)
    if run is not None:
        pair = stored_pair(run, *question.samples)
        if pair is not None:
            return {"pair": pair, "query": None}
    subject = samples_subject(ctx, question)
    return {"pair": None, "query": describe_two(subject)}


def describe_two(subject: Subject) -> Plain:
    """Describe two images as a query and its only neighbor."""
    stored = _stored(subject)
    if stored is None:
        numbers, maps, notes = _live(subject)
        kinds: tuple[str, ...] = SELECTED_KINDS
    else:
        numbers, maps, notes = stored
        kinds = (EVIDENCE, *LIVE)
    query = maps.query
    assert query is not None
    shares = thirds_receipt(query.maps[EVIDENCE], numbers["similarity"])
    neighbor = {
        "pair": SELECTED,
        "item": SELECTED,
        "rank": 1,
        **numbers,
        "outcome": OUTCOMES[UNLABELED],
        **_labels(subject, 1),
        "best_true": False,
        "margin": None,
        "verdict": None,
        "receipt": [share.to_json() for share in shares],
    }
    answer = {
        "item": SELECTED,
        **_labels(subject, 0),
        "count": 1,
        "neighbors": [neighbor],
        "limits": limits_of([maps.query, maps.gallery]),
        "kinds": describe_kinds(kinds),
        "notes": [sentence(note) for note in notes],
    }
    fill(answer, subject.images[0], subject.images[1:], [maps], 0)
    return answer


def _labels(subject: Subject, number: int) -> Plain:
    """Return the labels of an image, as the run has read them."""
    if subject.run is None or not subject.items:
        return {"identity": None, "camera": None}
    items, item = subject.run.items, subject.items[number]
    return {
        "identity": label(items.identities[item]),
        "camera": label(items.cameras[item]),
    }


Explained = tuple[dict[str, float], PairMaps, list[str]]


def _stored(subject: Subject) -> Explained | None:
    """Explain two images from stored contributions; None if there are none."""
    kept = subject.kept()
    if subject.run is None or None in kept:
        return None
    images = {number: one for number, one in enumerate(kept) if one is not None}
    pair = kept_pair(subject.run, 0, 1, images)
    if pair is None:
        return None
    ends = [images[number].contributions.embedding for number in (0, 1)]
    apart = 1 - pair.score
    if pair.metric == "euclidean":
        apart = float(np.linalg.norm(ends[0] - ends[1]))
    numbers = {"similarity": pair.score, "distance": apart}
    note = f"Explained from what the run '{label(subject.run.key)}' has stored."
    return numbers, evidence_of(pair), [note]


def _live(subject: Subject) -> Explained:
    """Explain two images by the model."""
    live, _ = subject.live([0])
    [(query, gallery)] = live.explained()
    score = float(live.scores[0])
    source = subject.source
    name = source.config.model if isinstance(source, Run) else source
    notes = [f"Explained now by the model '{label(name)}'."]
    if abs(score) >= LEAST_SCORE:
        share = max(share_of(score, side.remainder) for side in (query, gallery))
        notes += map_warnings(share, live.layer, "similarity score")
    numbers = {"similarity": score, "distance": float(live.distances[0])}
    return numbers, PairMaps(query, gallery), notes
