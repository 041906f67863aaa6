"""Findings from measures: one per image, and one per pair of identities."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.duplicates.copies import ALIKE, FORMS
from fiftyone_sfam.audit.duplicates.find import Copy
from fiftyone_sfam.audit.suspects.finding import (
    DUPLICATE,
    GROUP,
    MERGED,
    MISLABELED,
    SPLIT,
    THRESHOLD,
    UNINFORMATIVE,
    Evidence,
    Finding,
    duplicate_sentence,
    merged_sentence,
    mislabeled_sentence,
    split_sentence,
    uninformative_sentence,
)
from fiftyone_sfam.audit.suspects.measures import (
    MISLABEL_THRESHOLD,
    SAME,
    Division,
    IdentityPair,
    Measured,
)
from fiftyone_sfam.audit.suspects.names import Names
from fiftyone_sfam.audit.suspects.pixels import DULL, groups_of
from fiftyone_sfam.audit.suspects.sources import (
    BackgroundShare,
    BackgroundShares,
    PairLookup,
)
from fiftyone_sfam.audit.suspects.space import confidence
from fiftyone_sfam.retrieval.search import UNKNOWN
from fiftyone_sfam.runs.run import Run

# Margins above the thresholds that give a score of 0.75.
_SPREADS = MISLABEL_THRESHOLD
_ERRORS = 1.0
_GAP = 0.5
_LIKENESS = (1 - ALIKE) / 2

# The background's share in the search for split identities: each spread below this many
# spreads above the usual share counts one error for one person; each spread beyond it
# counts twice against, since two persons in front of the same wall look like this.
_USUAL_SHARE = 2.0
_MOST_BONUS, _MALUS = 1.5, 2.0
# Largest share of random pairs of names that are as much alike, for it to be said.
_TELLING = 0.05
# Margin below which the background cannot change the result.
_HOPELESS = -2 * _MOST_BONUS


@dataclass(frozen=True)
class Context:
    """The run and the measures that findings are built from."""

    run: Run
    used: NDArray[np.int64]  # item of each compared image, shape (N,)
    names: tuple[str, ...]  # of the identities, by code
    measured: Measured
    lookup: PairLookup

    def members(self, identity: int) -> tuple[int, ...]:
        """Return the items of an identity."""
        members = self.measured.space.members[identity]
        return tuple(self.used[members].tolist())

    def displayed(self, nearness: float) -> float:
        """Return a nearness as a similarity or a distance."""
        return nearness if self.run.config.metric == "cosine" else -nearness

    def finding(
        self,
        kind: str,
        score: float,
        items: Iterable[int],
        pairs: tuple[int, ...],
        identities: tuple[str, ...],
        evidence: Evidence,
        sentence: str,
    ) -> Finding:
        """Complete a finding with its samples."""
        items = tuple(sorted(items))
        samples = dict.fromkeys(str(self.run.items.sample_ids[item]) for item in items)
        return Finding(
            kind=kind,
            score=score,
            sample_ids=tuple(samples),
            items=items,
            pairs=pairs,
            identities=identities,
            evidence=evidence,
            sentence=sentence,
        )


@dataclass
class Pixels:
    """Measures of the pixels of some images."""

    dullness: dict[int, float] = field(default_factory=dict)  # by image
    copies: tuple[Copy, ...] = ()  # pairs of images


def image_scores(measured: Measured) -> NDArray[np.float64]:
    """Score how doubtful each image's label is; NaN if unknown."""
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
        division.identity
        for division in context.measured.divisions
        if _division_score(division) > THRESHOLD
    }
    findings = []
    compared = Names(context.names)
    for pair in context.measured.pairs:
        if pair.first in divided or pair.second in divided:
            continue
        first, second = context.members(pair.first), context.members(pair.second)
        pairs = context.lookup.of(first, set(second))
        share = None
        if background is not None and pairs and pair.margin > _HOPELESS:
            share = background.of(pairs)
        score = split_score(pair, share)
        if score < min_score:
            continue
        names = (context.names[pair.first], context.names[pair.second])
        evidence = _split_evidence(context, pair, share)
        likeness = compared.likeness(pair.first, pair.second)
        if likeness is not None and likeness.chance <= _TELLING:
            evidence["names_alike"] = likeness.kind
        sentence = split_sentence(names, evidence, context.run.config.metric)
        items = first + second
        findings.append(
            context.finding(SPLIT, score, items, pairs, names, evidence, sentence)
        )
    return findings


def find_merged(context: Context, min_score: float) -> list[Finding]:
    """Find identities that may be two persons."""
    findings = []
    for division in context.measured.divisions:
        score = _division_score(division)
        if score < min_score:
            continue
        larger, smaller = (context.used[group].tolist() for group in division.groups)
        name = context.names[division.identity]
        evidence: Evidence = {
            "larger_group": float(len(larger)),
            "smaller_group": float(len(smaller)),
            "within": context.displayed(division.within),
            "between": context.displayed(division.between),
            "apart": division.apart,
            "gap": division.gap,
            "cameras": "separate" if division.by_camera else "shared or unknown",
            GROUP: " ".join(str(context.run.items.ids[item]) for item in smaller),
        }
        findings.append(
            context.finding(
                MERGED,
                score,
                context.members(division.identity),
                context.lookup.of(larger, set(smaller)),
                (name,),
                evidence,
                merged_sentence(name, evidence, context.run.config.metric),
            )
        )
    return findings


def find_mislabeled(
    context: Context, pixels: Pixels, split: list[Finding], min_score: float
) -> list[Finding]:
    """Find images that seem to belong to another identity."""
    figures, space = context.measured.images, context.measured.space
    scores = image_scores(context.measured)
    is_mislabeled = figures.is_mislabeled
    one_person = {
        frozenset(finding.identities) for finding in split if finding.score >= THRESHOLD
    }
    groups: dict[tuple[int, int, bool], list[int]] = {}
    for image in np.flatnonzero(scores >= min_score).tolist():
        label, suggested = int(space.identities[image]), int(figures.other[image])
        is_above = bool(scores[image] >= THRESHOLD)
        if is_above and not is_mislabeled[image]:
            continue  # unusual in the other identity as well
        if pixels.dullness.get(image, 0.0) >= DULL:
            continue
        if frozenset((context.names[label], context.names[suggested])) in one_person:
            continue
        # Images below the threshold do not share a finding with those above it.
        groups.setdefault((label, suggested, is_above), []).append(image)
    return [
        _mislabeled(context, label, suggested, images, float(scores[images].max()))
        for (label, suggested, _), images in groups.items()
    ]


def find_uninformative(
    context: Context, pixels: Pixels, min_score: float
) -> list[Finding]:
    """Find images that show too little to recognize a person."""
    figures = context.measured.images
    margins = figures.uninformative
    for image, dullness in pixels.dullness.items():
        if dullness >= DULL:
            margins[image] = max(margins[image], dullness - DULL)
    findings = []
    for image in np.flatnonzero(np.isfinite(margins)).tolist():
        score = float(confidence(margins[image], _SPREADS))
        if score < min_score:
            continue
        item = int(context.used[image])
        label = int(context.measured.space.identities[image])
        name = context.names[label] if label != UNKNOWN else ""
        evidence = _uninformative_evidence(context, pixels, image)
        findings.append(
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
    return findings


def find_duplicates(
    context: Context,
    pixels: Pixels,
    splits: list[tuple[str, ...]] | None,
    min_score: float,
) -> list[Finding]:
    """Find images that are copies of one picture."""
    findings = []
    groups = groups_of((copy.first, copy.second) for copy in pixels.copies)
    group_of = {image: row for row, group in enumerate(groups) for image in group}
    copies: list[list[Copy]] = [[] for _ in groups]
    for copy in pixels.copies:
        copies[group_of[copy.first]].append(copy)
    for group, links in zip(groups, copies, strict=True):
        likeness = max(copy.likeness for copy in links)
        forms = {copy.form for copy in links}
        score = float(confidence(likeness - ALIKE, _LIKENESS))
        if score < min_score:
            continue
        items = context.used[group].tolist()
        labels = context.measured.space.identities[group].tolist()
        names = tuple(
            dict.fromkeys(context.names[code] for code in labels if code != UNKNOWN)
        )
        evidence: Evidence = {
            "images": float(len(items)),
            "likeness": likeness,
            "form": " and ".join(sorted(forms, key=FORMS.index)),
            "across": _across(splits, items),
        }
        findings.append(
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
    return findings


# --------------------------------------------------------------------------------------
# Scores and evidence
# --------------------------------------------------------------------------------------


def split_score(pair: IdentityPair, share: BackgroundShare | None) -> float:
    """Score two identities as one person."""
    margin = pair.margin
    if share is not None:
        away = _USUAL_SHARE - share.z
        bonus = min(max(away, 0.0), _MOST_BONUS)
        malus = _MALUS * min(away, 0.0)
        # The bonus makes up for a small effect of the labels, but not for low support.
        margin = min(SAME + bonus - pair.z, pair.support) + malus
    return float(confidence(margin, _ERRORS)) if np.isfinite(margin) else 0.0


def _division_score(division: Division) -> float:
    margin = division.margin
    return float(confidence(margin, _GAP)) if np.isfinite(margin) else 0.0


def _split_evidence(
    context: Context, pair: IdentityPair, share: BackgroundShare | None
) -> Evidence:
    evidence: Evidence = {
        "first_images": float(pair.images[0]),
        "second_images": float(pair.images[1]),
        "between": context.displayed(pair.between),
        "names_effect": pair.effect,
        "names_z": pair.z,
        "usual_z": pair.usual_z,
    }
    if np.isfinite(pair.within):
        evidence["within"] = context.displayed(pair.within)
    if share is not None:
        evidence |= {
            "background_share": share.share,
            "background_usual": share.usual,
            "background_z": share.z,
            "background_pairs": float(share.pairs),
        }
    return evidence


def _mislabeled(
    context: Context, label: int, suggested: int, images: list[int], score: float
) -> Finding:
    """Build the finding of images with one label and one suggested identity."""
    figures, space = context.measured.images, context.measured.space
    items = context.used[images].tolist()
    names = (context.names[label], context.names[suggested])
    evidence: Evidence = {
        "images": float(len(items)),
        "own": context.displayed(float(figures.own[images].mean())),
        "other": context.displayed(float(figures.other_nearness[images].mean())),
        "own_gap": float(figures.own_gap[images].mean()),
        "other_gap": float(figures.other_gap[images].mean()),
        "strength": float(figures.mislabel[images].max()),
        "own_images": float(figures.own_images[images[0]]),
        "other_images": float(len(space.members[suggested])),
    }
    partners = {*context.members(label), *context.members(suggested)}
    return context.finding(
        MISLABELED,
        score,
        items,
        context.lookup.of(items, partners),
        names,
        evidence,
        mislabeled_sentence(*names, evidence, context.run.config.metric),
    )


def _uninformative_evidence(context: Context, pixels: Pixels, image: int) -> Evidence:
    figures = context.measured.images
    dullness = pixels.dullness.get(image)
    # Without an own identity, the gap is NaN.
    reason = "far" if figures.hub[image] <= figures.own_gap[image] else "hub"
    if dullness is not None and dullness >= DULL:
        reason = "dull"
    evidence: Evidence = {
        "reason": reason,
        "reach": float(figures.reach[image]),
        "own_images": float(figures.own_images[image]),
    }
    if np.isfinite(figures.own[image]):
        evidence["own"] = context.displayed(float(figures.own[image]))
        evidence["own_gap"] = float(figures.own_gap[image])
    if figures.other[image] != UNKNOWN:
        evidence["other"] = context.displayed(float(figures.other_nearness[image]))
        evidence["other_identity"] = context.names[int(figures.other[image])]
    if dullness is not None:
        evidence["dullness"] = dullness
    return evidence


def _across(splits: list[tuple[str, ...]] | None, items: list[int]) -> str:
    """Name the splits of images; an empty string if there is only one."""
    if splits is None:
        return ""
    values = {tuple(sorted(splits[item])) for item in items}
    if len(values) < 2:
        return ""
    return " and ".join(sorted(", ".join(value) or "none" for value in values))
