"""Findings about labels: mislabeled images, and split and merged identities."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.context import Context
from fiftyone_sfam.audit.suspects.finding import (
    GROUP,
    MERGED,
    MISLABELED,
    SPLIT,
    THRESHOLD,
    Evidence,
    Finding,
    merged_sentence,
    mislabeled_sentence,
    split_sentence,
)
from fiftyone_sfam.audit.suspects.identities import Division
from fiftyone_sfam.audit.suspects.images import UNLIKE_BOTH, USUAL_MEMBER
from fiftyone_sfam.audit.suspects.likelihood import probability
from fiftyone_sfam.audit.suspects.names import Names
from fiftyone_sfam.audit.suspects.pictures import Pixels
from fiftyone_sfam.audit.suspects.sources import BackgroundShare, BackgroundShares
from fiftyone_sfam.audit.suspects.space import upper
from fiftyone_sfam.data.text import counted

MOST_USES = 2
"""Findings in which one image is the witness."""

# Each spread of the background's share beyond this many above the usual one lowers the
# odds of one person by this much: two persons in front of one wall look like this.
_USUAL_SHARE, _MALUS = 2.0, 2.0
# Odds that the background cannot change.
_HOPELESS = -4.0
# What groups that share no camera lose in odds: cameras may explain the difference.
_BY_CAMERA = 2.0
# Largest share of random pairs of names that are as much alike, for it to be said.
_TELLING = 0.05


@dataclass(frozen=True)
class LabelFindings:
    """Findings about labels, and the probabilities of all that was compared."""

    mislabeled: list[Finding]
    split: list[Finding]
    merged: list[Finding]
    label_scores: NDArray[np.float64]  # of each image, NaN if unknown, (N,)
    expected: dict[str, float]  # number of errors by kind, below the threshold as well


@dataclass(frozen=True)
class _Doubt:
    """Images with one label that seem to belong to one other identity."""

    label: int
    other: int
    images: list[int]
    score: float


def find_in_labels(
    context: Context,
    pixels: Pixels,
    background: BackgroundShares | None,
    min_score: float,
) -> LabelFindings:
    """Find errors of labels, each explained by one finding.

    An image of one identity that belongs to another one makes the identities look like
    one person, and its own like two. Two identities that are one person make each
    other's images look mislabeled. The likelier finding is kept, and an image is the
    witness of at most :data:`MOST_USES` findings.
    """
    measured = context.measured
    images = probability(measured.mislabeled())
    known = np.isfinite(measured.figures.images.mislabel)
    shares, pairs = _one_person(context, background)
    divisions = _two_persons(context)
    doubts = [
        doubt
        for doubt in _doubts(context, images, min_score)
        if not all(map(pixels.is_dull, doubt.images))
    ]
    # Images that are nobody's say nothing about their identity.
    doubtful = (
        (images >= THRESHOLD)
        | (measured.figures.images.uninformative >= 0)
        | (measured.figures.images.attracts >= 0)
        | pixels.is_badly_cropped(len(images))
    )
    divided = {
        division.identity
        for division, score in zip(measured.figures.divisions, divisions, strict=True)
        if score > THRESHOLD and not _explained(division, doubtful)
    }
    codes = measured.figures.pairs.codes
    one_person = {
        (first, second): float(pairs[row])
        for row, (first, second) in enumerate(codes.tolist())
        if not {first, second} & divided
    }
    doubts = [
        doubt
        for doubt in doubts
        if one_person.get(_ordered(doubt.label, doubt.other), 0.0) < doubt.score
    ]
    taken = {_ordered(doubt.label, doubt.other) for doubt in doubts}
    # An image counts as a witness in the likeliest findings.
    uses = Counter(dict.fromkeys(measured.hubs.tolist(), MOST_USES))
    compared = Names(context.names)
    mislabeled, split = [], []
    queue: list[tuple[float, int, _Doubt | int]] = [
        (-doubt.score, number, doubt) for number, doubt in enumerate(doubts)
    ]
    queue += [
        (-float(pairs[row]), len(doubts) + row, row)
        for row, (first, second) in enumerate(codes.tolist())
        if pairs[row] >= min_score
        and not {first, second} & divided
        and (first, second) not in taken
    ]
    for score, _, one in sorted(queue, key=lambda entry: entry[:2]):
        if isinstance(one, _Doubt):
            witness = _witness(context, one.images, one.other, uses)
            if witness is not None:
                mislabeled.append(_mislabeled(context, one, witness))
                uses[witness] += 1
            continue
        first, second = codes[one].tolist()
        ends = _closest(context, first, second, uses)
        if ends is not None:
            split.append(_split(context, one, -score, shares.get(one), ends, compared))
            uses.update(ends)
    unexplained = [
        row
        for row, division in enumerate(measured.figures.divisions)
        if not _explained(division, doubtful)
    ]
    merged = [
        _merged(context, row, float(divisions[row]))
        for row in unexplained
        if divisions[row] >= min_score
    ]
    scores = np.where(known, images, np.nan)
    return LabelFindings(
        mislabeled,
        split,
        merged,
        scores,
        {
            MISLABELED: float(np.nansum(scores)),
            SPLIT: float(pairs.sum()),
            MERGED: float(divisions[unexplained].sum()),
        },
    )


# --------------------------------------------------------------------------------------
# Probabilities
# --------------------------------------------------------------------------------------


def _suits(context: Context) -> NDArray[np.bool_]:
    """Return which images are usual in the identity that speaks against their label."""
    figures = context.measured.figures.images
    usual = np.maximum(USUAL_MEMBER, UNLIKE_BOTH * figures.own_gap)
    return figures.other_gap <= usual


def _doubts(
    context: Context, scores: NDArray[np.float64], min_score: float
) -> list[_Doubt]:
    """Group doubtful images by their label and the suggested identity."""
    figures, space = context.measured.figures.images, context.measured.space
    suits = _suits(context)
    groups: dict[tuple[int, int, bool], list[int]] = {}
    for image in np.flatnonzero(scores >= min_score).tolist():
        is_above = bool(scores[image] >= THRESHOLD)
        if is_above and not suits[image]:
            continue  # unusual in the other identity as well
        key = int(space.identities[image]), int(figures.other[image]), is_above
        # Images below the threshold do not share a finding with those above it.
        groups.setdefault(key, []).append(image)
    return [
        _Doubt(label, other, images, float(scores[images].max()))
        for (label, other, _), images in groups.items()
    ]


def _one_person(
    context: Context, background: BackgroundShares | None
) -> tuple[dict[int, BackgroundShare], NDArray[np.float64]]:
    """Return the background's shares and the probabilities of pairs of identities."""
    odds = context.measured.one_person()
    shares: dict[int, BackgroundShare] = {}
    if background is not None:
        codes = context.measured.figures.pairs.codes
        for row in np.flatnonzero(odds > _HOPELESS).tolist():
            first, second = (context.members(code) for code in codes[row].tolist())
            share = background.of(context.lookup.of(first, set(second)))
            if share is not None:
                shares[row] = share
                odds[row] -= background_malus(share)
    return shares, probability(odds)


def background_malus(share: BackgroundShare) -> float:
    """Return by how much the background lowers the odds of one person."""
    return _MALUS * max(share.z - _USUAL_SHARE, 0.0)


def _two_persons(context: Context) -> NDArray[np.float64]:
    """Return the probabilities that divided identities are two persons."""
    odds = context.measured.two_persons()
    separate = [
        _by_camera(context, division) for division in context.measured.figures.divisions
    ]
    return probability(odds - _BY_CAMERA * np.array(separate, dtype=float))


def _by_camera(context: Context, division: Division) -> bool:
    """Return whether two groups share no camera."""
    cameras = context.measured.space.cameras
    first, second = ({*cameras[group].tolist()} - {-1} for group in division.groups)
    return bool(first and second and not first & second)


def _explained(division: Division, doubtful: NDArray[np.bool_]) -> bool:
    """Return whether a group consists of mislabeled images, or of nobody's."""
    return any(doubtful[group].all() for group in division.groups)


# --------------------------------------------------------------------------------------
# Witnesses
# --------------------------------------------------------------------------------------


def _witness(
    context: Context, images: list[int], other: int, uses: Counter[int]
) -> int | None:
    """Return the nearest image of an identity that is not a witness too often."""
    members = context.measured.space.some_members(other)
    near = context.measured.space.nearness(np.array(images), members).max(axis=0)
    for place in np.argsort(-near, kind="stable"):
        if uses[int(members[place])] < MOST_USES:
            return int(members[place])
    return None


def _closest(
    context: Context, first: int, second: int, uses: Counter[int]
) -> tuple[int, int] | None:
    """Return the nearest images of two identities that are not used too often."""
    space = context.measured.space
    sides = [
        np.array(
            [image for image in space.some_members(code) if uses[image] < MOST_USES]
        )
        for code in (first, second)
    ]
    if not all(map(len, sides)):
        return None
    near = space.nearness(*sides)
    row, column = np.unravel_index(int(np.argmax(near)), near.shape)
    return int(sides[0][row]), int(sides[1][column])


# --------------------------------------------------------------------------------------
# Findings
# --------------------------------------------------------------------------------------


def _mislabeled(context: Context, doubt: _Doubt, witness: int) -> Finding:
    figures, space = context.measured.figures.images, context.measured.space
    images = doubt.images
    items = context.used[images].tolist()
    label, suggested = context.names[doubt.label], context.names[doubt.other]

    def mean(identity: int) -> float:
        return float(np.mean([context.similarity(image, identity) for image in images]))

    evidence: Evidence = {
        "images": float(len(items)),
        "own": mean(doubt.label),
        "other": mean(doubt.other),
        "own_gap": float(figures.own_gap[images].mean()),
        "other_gap": float(figures.other_gap[images].mean()),
        "strength": float(figures.mislabel[images].max()),
        "own_images": float(figures.own_images[images[0]]),
        "other_images": float(len(space.members[doubt.other])),
        "witness": str(context.ids[context.used[witness]]),
    }
    partners = {*context.members(doubt.label), *context.members(doubt.other)}
    return context.finding(
        MISLABELED,
        doubt.score,
        items,
        context.lookup.of(items, partners),
        (label, suggested),
        evidence,
        mislabeled_sentence(label, suggested, evidence, context.metric),
        proposal=f"Relabel {counted(len(items), 'image')} as {suggested}.",
        changes=items,
        identity=suggested,
    )


def _split(
    context: Context,
    row: int,
    score: float,
    share: BackgroundShare | None,
    ends: tuple[int, int],
    compared: Names,
) -> Finding:
    measured = context.measured
    first, second = measured.figures.pairs.codes[row].tolist()
    names = (context.names[first], context.names[second])
    members = context.members(first), context.members(second)
    evidence = _split_evidence(context, row, share)
    evidence["witness"] = " ".join(
        str(context.ids[context.used[image]]) for image in ends
    )
    likeness = compared.likeness(first, second)
    if likeness is not None and likeness.chance <= _TELLING:
        evidence["names_alike"] = likeness.kind
    # The identity with fewer images gets the name of the other one, as in the fixes.
    kept, renamed = sorted((0, 1), key=lambda side: (-len(members[side]), names[side]))
    return context.finding(
        SPLIT,
        score,
        members[0] + members[1],
        context.lookup.of(members[0], set(members[1])),
        names,
        evidence,
        split_sentence(names, evidence, context.metric),
        proposal=(
            f"Merge: relabel {counted(len(members[renamed]), 'image')} of "
            f"{names[renamed]} as {names[kept]}."
        ),
        changes=members[renamed],
        identity=names[kept],
    )


def _split_evidence(
    context: Context, row: int, share: BackgroundShare | None
) -> Evidence:
    measured = context.measured
    first, second = measured.figures.pairs.codes[row].tolist()
    images = [measured.space.some_members(code) for code in (first, second)]
    between = measured.space.raw_nearness(*images)
    within = np.concatenate(
        [upper(measured.space.raw_nearness(side, side)) for side in images]
    )
    distances = measured.pair_distances
    evidence: Evidence = {
        "first_images": float(len(measured.space.members[first])),
        "second_images": float(len(measured.space.members[second])),
        "between": context.displayed(float(between.mean())),
        "above": float(distances.above[row]),
    }
    if len(within):
        evidence["within"] = context.displayed(float(within.mean()))
    if np.isfinite(distances.apart[row]):
        evidence["below"] = float(distances.below[row])
    if share is not None:
        evidence |= {
            "background_share": share.share,
            "background_usual": share.usual,
            "background_z": share.z,
            "background_pairs": float(share.pairs),
        }
    return evidence


def _merged(context: Context, row: int, score: float) -> Finding:
    measured = context.measured
    division = measured.figures.divisions[row]
    larger, smaller = (context.used[group].tolist() for group in division.groups)
    name = context.names[division.identity]
    space = measured.space
    within = np.concatenate(
        [upper(space.raw_nearness(group, group)) for group in division.groups]
    )
    between = space.raw_nearness(*division.groups)
    evidence: Evidence = {
        "larger_group": float(len(larger)),
        "smaller_group": float(len(smaller)),
        "between": context.displayed(float(between.mean())),
        "above": float(measured.division_distances.above[row]),
        "cameras": "separate" if _by_camera(context, division) else "shared or unknown",
        GROUP: " ".join(str(context.ids[item]) for item in smaller),
    }
    if len(within):
        evidence["within"] = context.displayed(float(within.mean()))
    return context.finding(
        MERGED,
        score,
        context.members(division.identity),
        context.lookup.of(larger, set(smaller)),
        (name,),
        evidence,
        merged_sentence(name, evidence, context.metric),
        proposal=f"Give {counted(len(smaller), 'image')} a new identity.",
        changes=smaller,
    )


def _ordered(first: int, second: int) -> tuple[int, int]:
    return (first, second) if first < second else (second, first)
