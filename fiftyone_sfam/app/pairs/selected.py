"""The answer about two samples that are selected in the App."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
import numpy as np

from fiftyone_sfam.app.pairs.bounded import fill
from fiftyone_sfam.app.pairs.contributed import evidence_of, kept_pair
from fiftyone_sfam.app.pairs.maps import (
    EVIDENCE,
    describe_kinds,
    limits_of,
    live_kinds,
    receipt,
)
from fiftyone_sfam.app.pairs.places import stored_pair
from fiftyone_sfam.app.pairs.plain import label, sentence
from fiftyone_sfam.app.pairs.run_question import item_labels
from fiftyone_sfam.app.pairs.subjects import (
    SELECTED,
    Subject,
    SubjectQuestion,
    samples_subject,
)
from fiftyone_sfam.attribution.map_share import LEAST_SCORE, map_warnings, share_of
from fiftyone_sfam.audit.regions.partitions import stripes
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
    question = SubjectQuestion.read(ctx.params)
    run = question.load_given(ctx)
    if run is not None and question.samples is not None:
        pair = stored_pair(run, *question.samples)
        if pair is not None:
            return {"pair": pair, "query": None}
    return {"pair": None, "query": _describe(samples_subject(ctx, question))}


def _describe(subject: Subject) -> Plain:
    """Describe two images as a query and its only neighbor."""
    numbers, maps, notes = _stored(subject) or _live(subject)
    query = maps.query
    assert query is not None
    thirds = stripes(*query.maps[EVIDENCE].shape)
    labels: list[Plain] = [{"identity": None, "camera": None}] * 2
    if subject.run is not None and subject.items:
        labels = [item_labels(subject.run, item) for item in subject.items]
    neighbor = {
        "pair": SELECTED,
        "item": SELECTED,
        "rank": 1,
        **numbers,
        "outcome": OUTCOMES[UNLABELED],
        **labels[1],
        "best_true": False,
        "margin": None,
        "verdict": None,
        "receipt": receipt(query, numbers["similarity"], thirds),
    }
    run = subject.source if isinstance(subject.source, Run) else None
    answer = {
        "item": SELECTED,
        **labels[0],
        "count": 1,
        "neighbors": [neighbor],
        "limits": limits_of([maps]),
        "kinds": describe_kinds([*query.maps, *live_kinds(run)]),
        "notes": [sentence(note) for note in notes],
    }
    fill(answer, subject.images, [maps], 0)
    return answer


Explained = tuple[dict[str, float], PairMaps, list[str]]


def _stored(subject: Subject) -> Explained | None:
    """Explain two images from stored contributions; None if there are none."""
    run, kept = subject.run, subject.kept()
    pair = kept_pair(run, 0, 1, kept)
    if run is None or pair is None:
        return None
    apart = 1 - pair.score
    if pair.metric == "euclidean":
        ends = [kept[number].contributions.embedding for number in (0, 1)]
        apart = float(np.linalg.norm(ends[0] - ends[1]))
    numbers = {"similarity": pair.score, "distance": apart}
    note = f"Explained from what the run '{label(run.key)}' has stored."
    return numbers, evidence_of(pair), [note]


def _live(subject: Subject) -> Explained:
    """Explain two images by the model."""
    live, _ = subject.live([0])
    [maps] = live.explained()
    score = float(live.scores[0])
    source = subject.source
    name = source.config.model if isinstance(source, Run) else source
    notes = [f"Explained now by the model '{label(name)}'."]
    if abs(score) >= LEAST_SCORE:
        share = max(
            share_of(score, side.remainder)
            for side in (maps.query, maps.gallery)
            if side is not None
        )
        notes += map_warnings(share, live.layer, "similarity score")
    return {"similarity": score, "distance": float(live.distances[0])}, maps, notes
