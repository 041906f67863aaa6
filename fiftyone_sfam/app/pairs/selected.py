"""The answer about two samples that are selected in the App."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fiftyone.operators as foo
import numpy as np

from fiftyone_sfam.app.pairs.bounded import fill
from fiftyone_sfam.app.pairs.maps import (
    EVIDENCE,
    SFAM,
    describe_kinds,
    limits_of,
    live_kinds,
    receipt,
)
from fiftyone_sfam.app.pairs.places import stored_pair
from fiftyone_sfam.app.pairs.plain import label, sentence
from fiftyone_sfam.app.pairs.run_question import Plain, item_labels
from fiftyone_sfam.app.pairs.subjects import (
    SELECTED,
    Subject,
    SubjectQuestion,
    samples_subject,
)
from fiftyone_sfam.audit.regions.partitions import stripes
from fiftyone_sfam.retrieval.pairs import OUTCOMES, UNLABELED
from fiftyone_sfam.runs.contributions import StoredPair
from fiftyone_sfam.runs.run import Run

if TYPE_CHECKING:
    from fiftyone_sfam.app.pairs.subjects import Explained


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
    pair, _, _ = subject.explain(lambda pair: None)
    kinds = (EVIDENCE,) if isinstance(pair, StoredPair) else (SFAM, EVIDENCE)
    sides = pair.query, pair.gallery
    maps = subject.maps(sides, ({k: getattr(side, k) for k in kinds} for side in sides))
    thirds = stripes(*pair.query.evidence.shape)
    labels: list[Plain] = [{"identity": None, "camera": None}] * 2
    if subject.run is not None and subject.items:
        labels = [item_labels(subject.run, item) for item in subject.items]
    neighbor = {
        "pair": SELECTED,
        "item": SELECTED,
        "rank": 1,
        "similarity": pair.score,
        "distance": _distance(pair),
        "outcome": OUTCOMES[UNLABELED],
        **labels[1],
        "best_true": False,
        "margin": None,
        "verdict": None,
        "list_score": None,
        "receipt": receipt(maps.query, pair.score, thirds),
    }
    run = subject.source if isinstance(subject.source, Run) else None
    answer = {
        "item": SELECTED,
        **labels[0],
        "neighbors": [neighbor],
        "limits": limits_of([maps]),
        "kinds": describe_kinds([*kinds, *live_kinds(run)]),
        "notes": [sentence(note) for note in _notes(subject, pair)],
    }
    fill(answer, subject.images, [maps], 0)
    return answer


def _distance(pair: Explained) -> float:
    """Return the metric's distance of two images."""
    if pair.metric == "euclidean":
        return float(np.linalg.norm(np.subtract(*pair.embeddings)))
    return 1 - pair.score


def _notes(subject: Subject, pair: Explained) -> list[str]:
    """Say what explains two images, and how much of it."""
    if isinstance(pair, StoredPair):
        key = subject.run.key if subject.run else ""
        return [f"Explained from what the run '{label(key)}' has stored."]
    source = subject.source
    name = source.config.model if isinstance(source, Run) else source
    return [f"Explained now by the model '{label(name)}'.", *pair.warnings]
