"""Suspects: labels and images of a run that a person should look at, ranked.

What counts as usual is measured in the run itself, see the modules that this one calls:
:mod:`fiftyone_sfam.audit.suspects.images` for wrong labels and images of nothing,
:mod:`fiftyone_sfam.audit.suspects.identities` for persons and identities that are not
one to one, :mod:`fiftyone_sfam.audit.suspects.pixels` for pictures that are there
twice. All of it is this project's definition.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.evaluation.fields import slice_values
from fiftyone_sfam.audit.suspects.build import (
    Context,
    Pixels,
    find_duplicates,
    find_merged,
    find_mislabeled,
    find_split,
    find_uninformative,
    image_scores,
    measure,
)
from fiftyone_sfam.audit.suspects.finding import (
    DUPLICATE,
    KINDS,
    MERGED,
    MISLABELED,
    SPLIT,
    THRESHOLD,
    UNINFORMATIVE,
    Finding,
)
from fiftyone_sfam.audit.suspects.identities import MIN_GROUP
from fiftyone_sfam.audit.suspects.pixels import (
    ALIKE,
    detail,
    dullness,
    groups_of,
    likeness,
    read_small,
)
from fiftyone_sfam.audit.suspects.regions import (
    AUTO,
    BackgroundShares,
    choose_region_field,
)
from fiftyone_sfam.audit.suspects.sources import (
    PairLookup,
    picture_reader,
    some_items,
    suspects_path,
    write_suspects,
)
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.retrieval.search import UNKNOWN, encode
from fiftyone_sfam.runs.blobs import Arrays
from fiftyone_sfam.runs.run import Run

__all__ = [
    "DUPLICATE",
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

# Pairs of near images whose pixels are compared, the nearest ones.
_MOST_PIXEL_PAIRS = 3000
# Doubtful images whose pixels are looked at, and others that tell what is usual.
_MOST_DOUBTFUL = 500
_USUAL_IMAGES = 100
# How near to the threshold an image of nothing is looked at, in spreads.
_NEARLY = -3.0


@dataclass(frozen=True)
class Suspects:
    """What was found in a run.

    Attributes
    ----------
    findings : tuple of Finding
        Those of the highest scores first.
    kinds : tuple of str
        Kinds that were looked for.
    min_score : float
        Least score of the findings.
    region_field : str or None
        Field that told the background, if any.
    split_field : str or None
        Field that told the splits, if any.
    limits : tuple of str
        What could not be judged, and why; a sentence each.
    label_scores : ndarray of float32
        How much the label of each of the run's items is doubted, from 0 to 1, shape
        (N,); NaN where there is nothing to compare with.
    created : str
        When, in UTC, ISO 8601.
    """

    findings: tuple[Finding, ...]
    kinds: tuple[str, ...]
    min_score: float
    region_field: str | None
    split_field: str | None
    limits: tuple[str, ...]
    label_scores: NDArray[np.float32] = field(compare=False)
    created: str

    def __len__(self) -> int:
        return len(self.findings)

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        """Return the findings of a kind, highest scores first."""
        return tuple(one for one in self.findings if one.kind == kind)

    def counts(self) -> dict[str, int]:
        """Return how many findings there are of each kind that was looked for."""
        found = Counter(one.kind for one in self.findings)
        return {kind: found[kind] for kind in self.kinds}


def find_suspects(
    run: Run,
    *,
    kinds: Sequence[str] | None = None,
    min_score: float = MIN_SCORE,
    region_field: str | None = AUTO,
    split_field: str | None = None,
    progress: bool | Progress | None = None,
) -> Suspects:
    """Find labels and images of a run that are probably wrong, and store them.

    They take the place of earlier ones. Every image of the run gets the field
    ``KEY_suspects`` with the kinds of findings that it is part of (on the detections
    where these were compared).

    A *mislabeled image* is nearer to another identity than to its own, and would be a
    usual image there. A *split identity* is one person under two names, which explain
    nothing of how alike the images are. A *merged identity* falls into two groups as
    far apart as two persons. *Near-duplicates* are found by their embeddings and told
    by their pixels. An *uninformative image* is like nobody, or like many, or has no
    detail.

    Images without an identity can be near-duplicates only, or near to many. An only
    image of an identity cannot be mislabeled, but its identity can be another's.
    Identities of fewer than four images are not divided. Junk identities, and images
    that are neither query nor gallery, are left out; distractors have no identity.

    Parameters
    ----------
    run : Run
        The run.
    kinds : sequence of str, optional
        Of :data:`KINDS`; None looks for all.
    min_score : float
        Least score of a finding, from 0 up to 1. At 0.5, the default, a kind's own
        threshold is reached; lower ones list what is less suspect too.
    region_field : str, optional
        Field that divides images into background and person, see
        :func:`fiftyone_sfam.audit.regions.fields.region_fields`: two identities whose
        similarity rests on the background more than is usual are no split identity.
        The default takes the stored ledger's, or the first that can serve; None does
        without.
    split_field : str, optional
        Field (or ``tags``) whose values no near-duplicates should cross; None takes
        that of the run's protocol, if it has one.
    progress : bool, callable or None
        As in :func:`fiftyone_sfam.explain_retrieval`.

    Returns
    -------
    Suspects
        The findings.

    Raises
    ------
    DataError
        If a kind, the score or a field cannot be used.
    RunError
        If a field of another origin is in the way.
    """
    kinds = _checked(kinds, min_score)
    run.results.check_fields(RESULT, [suspects_path(run)])
    region_field = choose_region_field(run, region_field)
    if split_field is None:
        split_field = run.config.protocol["split_field"]
    splits = None if split_field is None else list(slice_values(run, split_field))
    with reporting(progress) as report:

        def told(done: int, total: int) -> None:
            if report is not None:
                report(done, total, "comparing")

        context = _context(run, told)
        pixels, unread = _look(context, kinds)
    background = None if region_field is None else BackgroundShares(run, region_field)
    split = find_split(context, background, min(min_score, MIN_SCORE))
    found = {
        MISLABELED: find_mislabeled(context, pixels, split, min_score),
        SPLIT: [one for one in split if one.score >= min_score],
        MERGED: find_merged(context, min_score),
        DUPLICATE: find_duplicates(context, pixels, splits, min_score),
        UNINFORMATIVE: find_uninformative(context, pixels, min_score),
    }
    findings = [one for kind in kinds for one in found[kind]]
    findings.sort(key=lambda one: (-one.score, KINDS.index(one.kind), one.sample_ids))
    label_scores = np.full(len(run.items), np.nan, dtype=np.float32)
    label_scores[context.used] = image_scores(context.measured)
    limits = (*_limits(context, kinds, region_field), *unread)
    config = {
        "kinds": list(kinds),
        "min_score": min_score,
        "region_field": region_field,
        "split_field": split_field,
        "limits": list(limits),
        "counts": dict(Counter(one.kind for one in findings)),
    }
    text = json.dumps([asdict(one) for one in findings]).encode()
    arrays: Arrays = {
        "findings": np.frombuffer(text, dtype=np.uint8),
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
        None if they were never looked for.
    """
    result = run.results.load(RESULT)
    if result is None:
        return None
    findings = json.loads(result.arrays["findings"].tobytes().decode())
    listed = ("sample_ids", "items", "pairs", "identities")
    return Suspects(
        tuple(
            Finding(**{**one, **{name: tuple(one[name]) for name in listed}})
            for one in findings
        ),
        tuple(result.config["kinds"]),
        result.config["min_score"],
        result.config["region_field"],
        result.config["split_field"],
        tuple(result.config["limits"]),
        result.arrays["label_scores"],
        result.created,
    )


# --------------------------------------------------------------------------------------
# Parts
# --------------------------------------------------------------------------------------


def _checked(kinds: Sequence[str] | None, min_score: float) -> tuple[str, ...]:
    """Check what was asked for; return the kinds in their order."""
    if isinstance(kinds, str):
        raise DataError(f"kinds is the text {kinds!r}; give a list of kinds.")
    chosen = KINDS if kinds is None else tuple(kinds)
    unknown = [kind for kind in chosen if kind not in KINDS]
    if unknown or not chosen:
        raise DataError(f"kinds is {list(chosen)!r}; choose from {', '.join(KINDS)}.")
    if not 0 <= min_score < 1:
        raise DataError(f"min_score is {min_score}; give a number from 0 up to 1.")
    return tuple(kind for kind in KINDS if kind in chosen)


def _context(run: Run, told: Callable[[int, int], None]) -> Context:
    """Compare the images of a run."""
    items, protocol = run.items, run.config.protocol
    embeddings = run.embeddings()
    # Images that could not be read have zeros.
    used = np.flatnonzero((items.is_query | items.is_gallery) & embeddings.any(axis=1))
    if len(used) == 0:
        raise DataError(f"the run '{run.key}' has no image with an embedding.")
    nobody = {*protocol["junk"], *protocol["distractors"]}
    identities = [items.identities[item] for item in used]
    names = [None if name in nobody else name for name in identities]
    measured = measure(
        embeddings[used],
        run.config.metric,
        encode(names),
        encode([items.cameras[item] for item in used]),
        told,
    )
    codes = tuple(dict.fromkeys(name for name in names if name is not None))
    return Context(run, used, codes, measured, PairLookup(run.pairs))


def _look(context: Context, kinds: Sequence[str]) -> tuple[Pixels, tuple[str, ...]]:
    """Look at the pixels of images that embeddings point at."""
    doubtful = _doubtful(context) if {MISLABELED, UNINFORMATIVE} & {*kinds} else []
    twins, left = _twins(context) if DUPLICATE in kinds else ([], 0)
    usual: list[int] = []
    if doubtful:
        chosen = some_items(context.run, context.used, _USUAL_IMAGES)
        usual = np.flatnonzero(np.isin(context.used, chosen)).tolist()
    wanted = sorted({*doubtful, *usual, *(image for pair in twins for image in pair)})
    read = picture_reader(context.run, context.used[wanted].tolist())
    copies, missing = read_small(wanted, lambda image: read(int(context.used[image])))
    pixels = Pixels()
    for one, other in twins:
        if one in copies and other in copies:
            alike = min(likeness(copies[one], copies[other]))
            if alike >= ALIKE:
                pixels.likeness[one, other] = alike
    pixels.alike = groups_of(pixels.likeness)
    pixels.dullness = dullness(
        {image: detail(copies[image]) for image in doubtful if image in copies},
        np.array([detail(copies[image]) for image in usual if image in copies]),
    )
    limits = []
    if left:
        limits.append(
            f"The pixels of the nearest {_MOST_PIXEL_PAIRS:,} pairs were compared; "
            f"{left:,} less near ones may be near-duplicates too."
        )
    if missing:
        limits.append(
            f"Of {len(wanted)} pictures to look at, {len(missing)} could not be read; "
            f"the first: {next(iter(missing.values()))}"
        )
    return pixels, tuple(limits)


def _doubtful(context: Context) -> list[int]:
    """List the images that look mislabeled or uninformative, or nearly so."""
    figures = context.measured.images
    strength = np.where(figures.is_mislabeled, figures.mislabel, figures.uninformative)
    chosen = np.flatnonzero(figures.is_mislabeled | (strength >= _NEARLY))
    return chosen[np.argsort(-strength[chosen])][:_MOST_DOUBTFUL].tolist()


def _twins(context: Context) -> tuple[list[tuple[int, int]], int]:
    """List the pairs that may be one picture, and count those that are too many.

    They are nearer than two images of one person usually are.
    """
    nearest, levels = context.measured.nearest, context.measured.levels
    least = -np.inf if np.isnan(levels.genuine) else levels.genuine
    near: dict[tuple[int, int], float] = {}
    for image, row in enumerate(nearest.twins.tolist()):
        for other, value in zip(row, nearest.twin_nearness[image], strict=True):
            if other != UNKNOWN and value >= least:
                near[min(image, other), max(image, other)] = float(value)
    ranked = sorted(near, key=lambda pair: -near[pair])
    return ranked[:_MOST_PIXEL_PAIRS], max(0, len(ranked) - _MOST_PIXEL_PAIRS)


def _limits(
    context: Context, kinds: Sequence[str], region_field: str | None
) -> tuple[str, ...]:
    """Say what could not be judged."""
    space = context.measured.space
    sizes = np.array([len(members) for members in space.members], dtype=int)
    nameless = int((space.identities == UNKNOWN).sum())
    few = int((sizes < 2 * MIN_GROUP).sum())
    single = int((sizes == 1).sum())
    limits = []
    if len(sizes) == 0:
        limits.append("No image has an identity: only near-duplicates were looked for.")
    elif nameless:
        limits.append(
            f"{nameless} images have no identity, or that of a distractor: they can "
            "be near-duplicates, or near to many, and nothing else."
        )
    if single:
        limits.append(
            f"{single} identities have a single image, whose label nothing of its own "
            "supports: it cannot be mislabeled, but its identity can be another's."
        )
    if few and MERGED in kinds:
        limits.append(
            f"{few} identities have fewer than {2 * MIN_GROUP} images and were not "
            "divided."
        )
    cameras = {*space.cameras.tolist()} - {UNKNOWN}
    if len(cameras) < 2:
        why = "All images come from one camera" if cameras else "No cameras are known"
        limits.append(
            f"{why}: what looks like one person may be one camera's view of several."
        )
    if region_field is None and SPLIT in kinds and len(sizes):
        limits.append(
            "No field tells the background: two identities before the same background "
            "may look like one person."
        )
    return tuple(limits)


def _kinds_of_items(findings: Sequence[Finding]) -> dict[int, list[str]]:
    """List the kinds of findings that each item is part of."""
    kinds: dict[int, set[str]] = {}
    for one in findings:
        for item in one.items:
            kinds.setdefault(item, set()).add(one.kind)
    return {
        item: [kind for kind in KINDS if kind in found] for item, found in kinds.items()
    }
