"""Suspects: labels and images of a run that a person should check, ranked.

Labels are judged by :mod:`fiftyone_sfam.audit.suspects.measures`, and pixels by
:mod:`fiftyone_sfam.audit.suspects.pixels` and
:mod:`fiftyone_sfam.audit.suspects.crops`. These definitions are specific to this
project. :mod:`fiftyone_sfam.audit.duplicates` finds copies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.fields import slice_values
from fiftyone_sfam.audit.suspects.context import Context
from fiftyone_sfam.audit.suspects.finding import (
    CROP,
    DUPLICATE,
    HUB,
    KINDS,
    MERGED,
    MISLABELED,
    PROBABLE,
    SPLIT,
    THRESHOLD,
    UNINFORMATIVE,
    Finding,
)
from fiftyone_sfam.audit.suspects.labels import find_in_labels
from fiftyone_sfam.audit.suspects.measures import APART, measure
from fiftyone_sfam.audit.suspects.pictures import (
    find_bad_crops,
    find_duplicates,
    find_hubs,
    find_uninformative,
)
from fiftyone_sfam.audit.suspects.reading import measure_pixels
from fiftyone_sfam.audit.suspects.sources import (
    AUTO,
    BackgroundShares,
    IndexProposals,
    PairLookup,
    choose_region_field,
    suspects_path,
    write_suspects,
)
from fiftyone_sfam.data.notebook import NotebookResult
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.retrieval.search import UNKNOWN, encode
from fiftyone_sfam.runs.blobs import Arrays, from_json_array, json_array
from fiftyone_sfam.runs.results import restore
from fiftyone_sfam.runs.run import Run

__all__ = [
    "CROP",
    "DUPLICATE",
    "HUB",
    "KINDS",
    "MERGED",
    "MIN_SCORE",
    "MISLABELED",
    "SPLIT",
    "UNINFORMATIVE",
    "Finding",
    "Suspects",
    "find_suspects",
    "load_suspects",
]

RESULT = "suspects"
"""Name of the stored result."""

MIN_SCORE = THRESHOLD
"""The threshold of every kind."""

_EARLIER = (
    "These findings were stored by an earlier version: their scores are no "
    "probabilities, and they propose nothing. Find the suspects again."
)


@dataclass(frozen=True, kw_only=True)
class Suspects(NotebookResult):
    """The findings in a run.

    Attributes
    ----------
    findings : tuple of Finding
        The findings, highest scores first.
    kinds : tuple of str
        Kinds that were searched.
    min_score : float
        Least score of the findings.
    region_field : str or None
        Field that separates the background, if any.
    split_field : str or None
        Field that defines the splits, if any.
    limits : tuple of str
        Sentences about what could not be checked, and why.
    expected : dict of str to float
        How many errors of the kinds in :data:`PROBABLE` there are to be expected: the
        sum of the probabilities, also of those below ``min_score``.
    label_scores : ndarray of float32
        Probability that the label of each of the run's items is wrong, shape (N,); NaN
        if unknown. All are 0 if labels are not judged, as ``limits`` then says.
    created : str
        UTC time in ISO 8601 format.
    """

    findings: tuple[Finding, ...]
    kinds: tuple[str, ...]
    min_score: float
    region_field: str | None
    split_field: str | None
    limits: tuple[str, ...]
    expected: dict[str, float] = field(default_factory=dict)
    label_scores: NDArray[np.float32] = field(compare=False)
    created: str

    def __len__(self) -> int:
        return len(self.findings)

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        """Return the findings of a kind, highest scores first."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each searched kind."""
        counts = Counter(finding.kind for finding in self.findings)
        return {kind: counts[kind] for kind in self.kinds}


def find_suspects(
    run: Run,
    *,
    kinds: Sequence[str] | None = None,
    min_score: float = MIN_SCORE,
    region_field: str | None = AUTO,
    split_field: str | None = None,
    progress: bool | Progress | None = None,
) -> Suspects:
    """Find labels and images of a run that are probably wrong, and store the findings.

    The findings replace earlier ones. The field ``KEY_suspects`` lists the kinds of
    findings of each image of the run. If the run compared detections, the field is on
    the detections.

    A *mislabeled image* is nearer to another identity than to its own, and usual among
    the images of that identity. A *split identity* is one person under two names: the
    images of either are nearer to the other than two persons are in this run, as near
    as images of one person whose name was divided for a test. Look-alikes, such as
    twins, can be as near. A *merged identity* consists of two groups that are as far
    apart as two persons. The scores of these three kinds are probabilities, from a
    logistic regression that was fitted on errors planted in real images; their sums are
    the expected numbers of errors. *Near-duplicates* are copies of one picture: the
    same file, or recompressed, resized, recolored, mirrored or cropped by up to 10 % of
    each side. They are searched among all images by perceptual hashes and embeddings,
    and confirmed by their pixels. An image that *attracts strangers* is among the
    nearest images of many identities, often because it is badly cropped or blurred. An
    *uninformative image* is near to no identity, or has no detail.

    Nearness is corrected for how near an image is to strangers. An image that attracts
    strangers is evidence for no other finding, and an image is the witness of at most
    two findings. Identities of one and two images take part: each can be split, and an
    identity of two images can be merged. The only image of an identity cannot be
    mislabeled. An image without an identity can only be a near-duplicate, or attract
    strangers. Junk identities, and images that are neither query nor gallery, are
    ignored. Distractors have no identity.

    All images are compared, or, if a similarity index proposed the neighbors of the
    run, those that it proposes.

    Parameters
    ----------
    run : Run
        The run.
    kinds : sequence of str, optional
        Kinds to search, from :data:`KINDS`. By default, all.
    min_score : float
        Least score of a finding, in [0, 1). The default, 0.5, is the threshold of each
        kind: labels are more likely wrong than right. A lower value also lists weaker
        findings.
    region_field : str, optional
        Field that divides images into background and person, one of
        :func:`fiftyone_sfam.audit.regions.fields.region_fields`. If the background
        carries an unusual share of the similarity of two identities, they are not a
        split identity. By default, the field of the stored ledger, or else the first
        field that divides images. None ignores the background.
    split_field : str, optional
        Field (or ``tags``) with the splits that near-duplicates should not cross. By
        default, the split field of the run's protocol.
    progress : bool, callable or None
        As for :func:`fiftyone_sfam.explain_retrieval`.

    Returns
    -------
    Suspects
        The findings.

    Raises
    ------
    DataError
        If a kind, the score or a field is invalid.
    RunError
        If the dataset has a field ``KEY_suspects`` that does not belong to the run.
    """
    kinds = _checked(kinds, min_score)
    run.results.check_fields(RESULT, [suspects_path(run)])
    region_field = choose_region_field(run, region_field)
    if split_field is None:
        split_field = run.config.protocol["split_field"]
    splits = None if split_field is None else list(slice_values(run, split_field))
    with reporting(progress) as report:

        def reported(phase: str) -> Callable[[int, int], None]:
            def step(done: int, total: int) -> None:
                if report is not None:
                    report(done, total, phase)

            return step

        context, index_limits = _context(run, reported("comparing"))
        pixels, pixel_limits = measure_pixels(run, context, kinds, reported("reading"))
    background = None if region_field is None else BackgroundShares(run, region_field)
    labels = find_in_labels(context, pixels, background, min_score)
    by_kind = {
        MISLABELED: labels.mislabeled,
        SPLIT: labels.split,
        MERGED: labels.merged,
        DUPLICATE: find_duplicates(context, pixels, splits, min_score),
        HUB: find_hubs(context, pixels, min_score),
        UNINFORMATIVE: find_uninformative(context, pixels, min_score),
    }
    explained = {
        item
        for kind in (HUB, UNINFORMATIVE)
        for finding in by_kind[kind]
        for item in finding.items
        if finding.score >= THRESHOLD
    }
    by_kind[CROP] = find_bad_crops(context, pixels, explained, min_score)
    findings = [finding for kind in kinds for finding in by_kind[kind]]
    findings.sort(key=lambda f: (-f.score, KINDS.index(f.kind), f.sample_ids))
    label_scores = np.full(len(run.items), np.nan, dtype=np.float32)
    label_scores[context.used] = labels.label_scores
    limits = (*_limits(context, kinds, region_field), *index_limits, *pixel_limits)
    config = {
        "kinds": list(kinds),
        "min_score": min_score,
        "region_field": region_field,
        "split_field": split_field,
        "limits": list(limits),
        "expected": {kind: labels.expected[kind] for kind in kinds if kind in PROBABLE},
        "counts": dict(Counter(finding.kind for finding in findings)),
    }
    arrays: Arrays = {
        "findings": json_array([asdict(finding) for finding in findings]),
        "label_scores": label_scores,
    }
    run.results.save(RESULT, config, arrays, [suspects_path(run)], finished=False)
    write_suspects(run, _kinds_of_items(findings))
    run.results.finish(RESULT)
    stored = load_suspects(run)
    assert stored is not None
    return stored


def load_suspects(run: Run) -> Suspects | None:
    """Read the stored suspects of a run.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    Suspects or None
        None if none are stored.
    """
    result = run.results.load(RESULT)
    if result is None:
        return None
    stored = from_json_array(result.arrays["findings"])
    findings = [restore(Finding, values) for values in stored]
    columns = {"label_scores": result.arrays["label_scores"], "findings": findings}
    if "expected" not in result.config:
        columns["limits"] = [*result.config["limits"], _EARLIER]
    return restore(Suspects, {**result.config, **columns, "created": result.created})


def _checked(kinds: Sequence[str] | None, min_score: float) -> tuple[str, ...]:
    """Check the options; return the kinds in order."""
    if isinstance(kinds, str):
        raise DataError(f"kinds is the string {kinds!r}; use a list of kinds.")
    chosen = KINDS if kinds is None else tuple(kinds)
    unknown = [kind for kind in chosen if kind not in KINDS]
    if unknown or not chosen:
        raise DataError(f"kinds is {list(chosen)!r}; choose from {', '.join(KINDS)}.")
    if not 0 <= min_score < 1:
        raise DataError(
            f"min_score is {min_score}; use a number that is at least 0 and below 1."
        )
    return tuple(kind for kind in KINDS if kind in chosen)


def _context(
    run: Run, report: Callable[[int, int], None]
) -> tuple[Context, tuple[str, ...]]:
    """Measure the images of a run; return also what limits the comparison."""
    items, protocol = run.items, run.config.protocol
    embeddings = run.embeddings()
    # Images that could not be read have zeros.
    used = np.flatnonzero((items.is_query | items.is_gallery) & embeddings.any(axis=1))
    if len(used) == 0:
        raise DataError(f"the run '{run.key}' has no image with an embedding.")
    ignored = {*protocol["junk"], *protocol["distractors"]}
    identities = [items.identities[item] for item in used]
    names = [None if name in ignored else name for name in identities]
    proposals, limits = _proposals(run, used)
    measured = measure(
        embeddings[used],
        run.config.metric,
        encode(names),
        encode([items.cameras[item] for item in used]),
        report,
        proposals,
    )
    codes = tuple(dict.fromkeys(name for name in names if name is not None))
    context = Context(
        items.ids,
        items.sample_ids,
        run.config.metric,
        used,
        codes,
        measured,
        PairLookup(run.pairs),
    )
    return context, limits


def _proposals(
    run: Run, used: NDArray[np.int64]
) -> tuple[IndexProposals | None, tuple[str, ...]]:
    """Open the index that proposed the run's neighbors, if one did; say what follows.

    Without the index, all images are compared.
    """
    if run.config.neighbors != "index":
        return None, ()
    key = run.config.embeddings
    try:
        proposals = IndexProposals(run, used)
    except DataError as error:
        return None, (
            f"The similarity index '{key}', which proposed the neighbors of the run, "
            f"cannot be used, so all images were compared: {error}",
        )
    return proposals, (
        f"Images were compared with those that the similarity index '{key}' proposes "
        "as their neighbors: what it misses is not found. Images of one identity were "
        "all compared.",
    )


def _limits(
    context: Context, kinds: Sequence[str], region_field: str | None
) -> tuple[str, ...]:
    """Say what could not be checked."""
    space = context.measured.space
    sizes = np.array([len(members) for members in space.members], dtype=int)
    unlabeled = int((space.identities == UNKNOWN).sum())
    single = int((sizes == 1).sum())
    limits = []
    if len(sizes) == 0:
        limits.append("No image has an identity: only near-duplicates were searched.")
    elif unlabeled:
        limits.append(
            f"Images without an identity, or of distractors: {unlabeled}. They can "
            "only be found as near-duplicates, or as near to many identities."
        )
    if single:
        limits.append(
            f"Identities with a single image: {single}. The image cannot be found "
            "mislabeled, but the identity can be found split."
        )
    if context.measured.apart < APART:
        limits.append(
            "This network does not tell these identities apart: labels that were "
            "exchanged for a test do not stand out "
            f"({context.measured.apart:.1f} standard deviations; at least {APART:g} "
            "are needed). Labels are not judged."
        )
    cameras = {*space.cameras.tolist()} - {UNKNOWN}
    if len(cameras) < 2:
        reason = "All images come from one camera" if cameras else "Cameras are unknown"
        limits.append(
            f"{reason}: several persons on one camera may look like one person."
        )
    if region_field is None and SPLIT in kinds and len(sizes):
        limits.append(
            "No field separates the background: two identities in front of the same "
            "background may look like one person."
        )
    return tuple(limits)


def _kinds_of_items(findings: Sequence[Finding]) -> dict[int, list[str]]:
    """List the kinds of findings that each item is part of."""
    kinds: dict[int, set[str]] = {}
    for finding in findings:
        for item in finding.items:
            kinds.setdefault(item, set()).add(finding.kind)
    return {item: sorted(names, key=KINDS.index) for item, names in kinds.items()}
