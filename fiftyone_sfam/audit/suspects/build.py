"""From figures to findings: one per image, and one per pair of identities."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.finding import (
    DUPLICATE,
    MERGED,
    MISLABELED,
    SPLIT,
    UNINFORMATIVE,
    Finding,
    duplicate_sentence,
    merged_sentence,
    mislabeled_sentence,
    split_sentence,
    uninformative_sentence,
)
from fiftyone_sfam.audit.suspects.identities import (
    SAME,
    Division,
    IdentityPair,
    compare_identities,
    divide_identities,
    rival_level,
)
from fiftyone_sfam.audit.suspects.images import (
    MISLABEL_THRESHOLD,
    ImageFigures,
    measure_images,
)
from fiftyone_sfam.audit.suspects.pixels import ALIKE, DULL
from fiftyone_sfam.audit.suspects.regions import BackgroundShare, BackgroundShares
from fiftyone_sfam.audit.suspects.sources import PairLookup
from fiftyone_sfam.audit.suspects.space import (
    Levels,
    Nearest,
    Space,
    confidence,
    find_nearest,
    make_space,
    measure_levels,
)
from fiftyone_sfam.retrieval.search import UNKNOWN
from fiftyone_sfam.runs.run import Run


@dataclass(frozen=True)
class Measured:
    """What embeddings and labels say of N images."""

    space: Space  # the images
    levels: Levels  # how near images of one person are
    nearest: Nearest  # the images' neighbors
    images: ImageFigures  # for and against each label
    pairs: list[IdentityPair]  # identities that are near to each other
    divisions: list[Division]  # identities in two groups


def measure(
    embeddings: NDArray[np.floating],
    metric: str,
    identities: NDArray[np.int64],
    cameras: NDArray[np.int64],
    report: Callable[[int, int], None] | None = None,
) -> Measured:
    """Compare images with their own identities and with others."""
    space = make_space(embeddings, metric, identities, cameras)
    levels = measure_levels(space)
    nearest = find_nearest(space, report)
    images = measure_images(space, levels, nearest)
    suspected = np.where(images.is_mislabeled, images.other, UNKNOWN)
    pairs = compare_identities(space, levels, nearest, suspected)
    divisions = divide_identities(space, levels, rival_level(space, pairs), suspected)
    return Measured(space, levels, nearest, images, pairs, divisions)


# Margins above the thresholds that are half way to certainty.
_SPREADS = MISLABEL_THRESHOLD
_ERRORS = 1.0
_GAP = 0.5
_LIKENESS = (1 - ALIKE) / 2

# How the background's share counts in the search for split identities: up to so many
# spreads above what is usual it speaks for one person, an error each; beyond it speaks
# against it, twice as loud, since that is what two persons before one wall look like.
_USUAL_SHARE = 2.0
_MOST_BONUS, _MALUS = 1.5, 2.0
# Pairs whose margin is worse than this cannot be saved by their background.
_HOPELESS = -2 * _MOST_BONUS


@dataclass(frozen=True)
class Context:
    """What findings are built from."""

    run: Run  # the run
    used: NDArray[np.int64]  # item of each image that was compared, shape (N,)
    names: tuple[str, ...]  # names of the identities, by code
    measured: Measured  # the figures
    lookup: PairLookup  # finds the pairs of the run

    def members(self, identity: int) -> tuple[int, ...]:
        """Return the items of an identity."""
        members = self.measured.space.members[identity]
        return tuple(self.used[members].tolist())

    def shown(self, nearness: float) -> float:
        """Return a nearness as it is shown: a similarity or a distance."""
        return nearness if self.run.config.metric == "cosine" else -nearness

    def finding(
        self,
        kind: str,
        score: float,
        items: Iterable[int],
        pairs: tuple[int, ...],
        identities: tuple[str, ...],
        evidence: dict[str, float | str],
        sentence: str,
    ) -> Finding:
        """Complete a finding with its samples."""
        items = tuple(sorted(items))
        samples = dict.fromkeys(str(self.run.items.sample_ids[item]) for item in items)
        return Finding(
            kind, score, tuple(samples), items, pairs, identities, evidence, sentence
        )


@dataclass
class Pixels:
    """What the pixels of some images say."""

    dullness: dict[int, float] = field(default_factory=dict)
    alike: list[list[int]] = field(default_factory=list)
    likeness: dict[tuple[int, int], float] = field(default_factory=dict)


def image_scores(measured: Measured) -> NDArray[np.float64]:
    """Score how much each image's label is doubted."""
    strength = measured.images.mislabel
    known = np.isfinite(strength)
    scores = np.full(len(strength), np.nan)
    scores[known] = confidence(strength[known] - MISLABEL_THRESHOLD, _SPREADS)
    return scores


def find_split(
    context: Context, background: BackgroundShares | None, min_score: float
) -> list[Finding]:
    """Find identities that may be one person."""
    divided = {
        one.identity for one in context.measured.divisions if _division_score(one) > 0.5
    }
    found = []
    for pair in context.measured.pairs:
        if pair.first in divided or pair.second in divided:
            continue
        items = context.members(pair.first) + context.members(pair.second)
        pairs = context.lookup.of(
            context.members(pair.first), set(context.members(pair.second))
        )
        share = None
        if background is not None and pairs and pair.margin > _HOPELESS:
            share = background.of(pairs)
        score = split_score(pair, share)
        if score < min_score:
            continue
        names = (context.names[pair.first], context.names[pair.second])
        evidence = _split_evidence(context, pair, share)
        sentence = split_sentence(names, evidence, context.run.config.metric)
        found.append(
            context.finding(SPLIT, score, items, pairs, names, evidence, sentence)
        )
    return found


def find_merged(context: Context, min_score: float) -> list[Finding]:
    """Find identities that may be two persons."""
    found = []
    for one in context.measured.divisions:
        score = _division_score(one)
        if score < min_score:
            continue
        larger, smaller = (context.used[group].tolist() for group in one.groups)
        name = context.names[one.identity]
        evidence: dict[str, float | str] = {
            "larger_group": float(len(larger)),
            "smaller_group": float(len(smaller)),
            "within": context.shown(one.within),
            "between": context.shown(one.between),
            "apart": one.apart,
            "gap": one.gap,
            "cameras": "separate" if one.by_camera else "shared or unknown",
            "group": " ".join(str(context.run.items.ids[item]) for item in smaller),
        }
        found.append(
            context.finding(
                MERGED,
                score,
                context.members(one.identity),
                context.lookup.of(larger, set(smaller)),
                (name,),
                evidence,
                merged_sentence(name, evidence, context.run.config.metric),
            )
        )
    return found


def find_mislabeled(
    context: Context, pixels: Pixels, split: list[Finding], min_score: float
) -> list[Finding]:
    """Find images that seem to belong to another identity."""
    figures, space = context.measured.images, context.measured.space
    scores = image_scores(context.measured)
    one_person = {frozenset(one.identities) for one in split if one.score >= 0.5}
    groups: dict[tuple[int, int, bool], list[int]] = {}
    for image in np.flatnonzero(scores >= min_score).tolist():
        label, suits = int(space.identities[image]), int(figures.other[image])
        if scores[image] >= 0.5 and not figures.is_mislabeled[image]:
            continue  # it does not suit the other identity either
        if pixels.dullness.get(image, 0.0) >= DULL:
            continue
        if frozenset((context.names[label], context.names[suits])) in one_person:
            continue
        # What does not reach the threshold says nothing about what does.
        groups.setdefault((label, suits, scores[image] >= 0.5), []).append(image)
    return [
        _mislabeled(context, label, suits, images, float(scores[images].max()))
        for (label, suits, _), images in groups.items()
    ]


def find_uninformative(
    context: Context, pixels: Pixels, min_score: float
) -> list[Finding]:
    """Find images that show nothing to recognize anyone by."""
    figures = context.measured.images
    margins = figures.uninformative
    for image, dullness in pixels.dullness.items():
        if dullness >= DULL:
            margins[image] = max(margins[image], dullness - DULL)
    found = []
    for image in np.flatnonzero(np.isfinite(margins)).tolist():
        score = float(confidence(margins[image], _SPREADS))
        if score < min_score:
            continue
        item = int(context.used[image])
        label = int(context.measured.space.identities[image])
        name = context.names[label] if label != UNKNOWN else ""
        evidence = _uninformative_evidence(context, pixels, image)
        found.append(
            context.finding(
                UNINFORMATIVE,
                score,
                [item],
                context.lookup.of([item]),
                (name,) if name else (),
                evidence,
                uninformative_sentence(name, evidence, context.run.config.metric),
            )
        )
    return found


def find_duplicates(
    context: Context,
    pixels: Pixels,
    splits: list[tuple[str, ...]] | None,
    min_score: float,
) -> list[Finding]:
    """Find images that are one picture."""
    found = []
    for group in pixels.alike:
        likeness = max(
            value
            for pair, value in pixels.likeness.items()
            if pair[0] in group and pair[1] in group
        )
        score = float(confidence(likeness - ALIKE, _LIKENESS))
        if score < min_score:
            continue
        items = context.used[group].tolist()
        labels = context.measured.space.identities[group].tolist()
        names = tuple(
            dict.fromkeys(context.names[one] for one in labels if one != UNKNOWN)
        )
        evidence: dict[str, float | str] = {
            "images": float(len(items)),
            "likeness": likeness,
            "across": _across(splits, items),
        }
        found.append(
            context.finding(
                DUPLICATE,
                score,
                items,
                context.lookup.of(items, set(items)),
                names,
                evidence,
                duplicate_sentence(names, evidence),
            )
        )
    return found


# --------------------------------------------------------------------------------------
# Scores and evidence
# --------------------------------------------------------------------------------------


def split_score(pair: IdentityPair, share: BackgroundShare | None) -> float:
    """Score a pair of identities as one person."""
    margin = pair.margin
    if share is not None:
        away = _USUAL_SHARE - share.z
        bonus = min(max(away, 0.0), _MOST_BONUS)
        malus = _MALUS * min(away, 0.0)
        # A usual background makes up for names that explain a little, not for more.
        margin = min(SAME + bonus - pair.z, pair.support) + malus
    return float(confidence(margin, _ERRORS)) if np.isfinite(margin) else 0.0


def _division_score(one: Division) -> float:
    return float(confidence(one.margin, _GAP)) if np.isfinite(one.margin) else 0.0


def _split_evidence(
    context: Context, pair: IdentityPair, share: BackgroundShare | None
) -> dict[str, float | str]:
    evidence: dict[str, float | str] = {
        "first_images": float(pair.images[0]),
        "second_images": float(pair.images[1]),
        "between": context.shown(pair.between),
        "names_effect": pair.effect,
        "names_z": pair.z,
        "usual_z": pair.usual_z,
    }
    if np.isfinite(pair.within):
        evidence["within"] = context.shown(pair.within)
    if share is not None:
        evidence |= {
            "background_share": share.share,
            "background_usual": share.usual,
            "background_z": share.z,
            "background_pairs": float(share.pairs),
        }
    return evidence


def _mislabeled(
    context: Context, label: int, suits: int, images: list[int], score: float
) -> Finding:
    """Build the finding of images of one label that suit one other identity."""
    figures, space = context.measured.images, context.measured.space
    items = context.used[images].tolist()
    names = (context.names[label], context.names[suits])
    evidence: dict[str, float | str] = {
        "images": float(len(items)),
        "own": context.shown(float(figures.own[images].mean())),
        "other": context.shown(float(figures.other_nearness[images].mean())),
        "own_gap": float(figures.own_gap[images].mean()),
        "other_gap": float(figures.other_gap[images].mean()),
        "strength": float(figures.mislabel[images].max()),
        "own_images": float(figures.own_images[images[0]]),
        "other_images": float(len(space.members[suits])),
    }
    partners = {*context.members(label), *context.members(suits)}
    return context.finding(
        MISLABELED,
        score,
        items,
        context.lookup.of(items, partners),
        names,
        evidence,
        mislabeled_sentence(*names, evidence, context.run.config.metric),
    )


def _uninformative_evidence(
    context: Context, pixels: Pixels, image: int
) -> dict[str, float | str]:
    figures = context.measured.images
    dullness = pixels.dullness.get(image)
    reason = "hub" if figures.hub[image] > figures.own_gap[image] else "far"
    if np.isnan(figures.own_gap[image]):
        reason = "hub"
    if dullness is not None and dullness >= DULL:
        reason = "dull"
    evidence: dict[str, float | str] = {
        "reason": reason,
        "reach": float(figures.reach[image]),
        "own_images": float(figures.own_images[image]),
    }
    if np.isfinite(figures.own[image]):
        evidence["own"] = context.shown(float(figures.own[image]))
        evidence["own_gap"] = float(figures.own_gap[image])
    if figures.other[image] != UNKNOWN:
        evidence["other"] = context.shown(float(figures.other_nearness[image]))
        evidence["other_identity"] = context.names[int(figures.other[image])]
    if dullness is not None:
        evidence["dullness"] = dullness
    return evidence


def _across(splits: list[tuple[str, ...]] | None, items: list[int]) -> str:
    """Name the splits that images are spread over; nothing if that is one."""
    if splits is None:
        return ""
    values = {tuple(sorted(splits[item])) for item in items}
    if len(values) < 2:
        return ""
    named = sorted(", ".join(value) or "none" for value in values)
    return " and ".join(named)
