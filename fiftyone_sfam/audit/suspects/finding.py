"""Findings and their sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fiftyone_sfam.data.text import counted, percent

MISLABELED = "mislabeled image"
SPLIT = "split identity"
MERGED = "merged identity"
DUPLICATE = "near-duplicate"
UNINFORMATIVE = "uninformative image"
HUB = "attracts strangers"
CROP = "bad crop"

THRESHOLD = 0.5
"""Score that reaches the threshold of a kind."""

KINDS = (MISLABELED, SPLIT, MERGED, DUPLICATE, HUB, CROP, UNINFORMATIVE)
"""Kinds of findings."""

PROBABLE = (MISLABELED, SPLIT, MERGED)
"""Kinds whose scores are probabilities."""

GROUP = "group"
"""Name of the evidence that lists the ids of one of the groups of an identity."""

Evidence = dict[str, float | str]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A suspected error in the data, for a person to check.

    Attributes
    ----------
    kind : str
        One of :data:`KINDS`.
    score : float
        From 0 to 1, where 0.5 is the threshold of every kind. For the kinds in
        :data:`PROBABLE`, the probability that there is an error, see
        :mod:`fiftyone_sfam.audit.suspects.likelihood`. For the others, how far the
        threshold is exceeded.
    sample_ids : tuple of str
        Unique samples of ``items``.
    items : tuple of int
        The suspected images, indices into the run's items. Mislabeled: images whose
        label is doubted. Split: all images of both identities. Merged: all images of
        the identity. Near-duplicate: the copies. Others: the image.
    pairs : tuple of int
        Pairs of the run that show the finding, nearest first. May be empty.
    identities : tuple of str
        Mislabeled: the label, then the suggested identity. Split: both identities.
        Near-duplicate: the images' identities. Others: the identity.
    evidence : dict of str to float or str
        Figures that support the finding.
    sentence : str
        The finding in words.
    proposal : str
        What to do, in words.
    changes : tuple of int
        Items whose identity the proposal changes, or that it drops.
    identity : str
        The new identity of ``changes``. Empty if the proposal names none.
    """

    kind: str
    score: float
    sample_ids: tuple[str, ...]
    items: tuple[int, ...]
    pairs: tuple[int, ...]
    identities: tuple[str, ...]
    evidence: Evidence = field(default_factory=dict)
    sentence: str = ""
    proposal: str = ""
    changes: tuple[int, ...] = ()
    identity: str = ""


def mislabeled_sentence(
    label: str, suggested: str, evidence: Evidence, metric: str
) -> str:
    """Say that images seem to belong to another identity."""
    count, label_images = int(evidence["images"]), int(evidence["own_images"])
    gain = float(evidence["other"]) - float(evidence["own"])
    is_nearer = gain > 0 if metric == "cosine" else gain < 0
    comparison = f"nearer to {suggested}"
    if not is_nearer:
        comparison = f"nearly as near to {suggested} as to {label}"
    text = (
        f"{counted(count, 'image')} labeled {label} {'is' if count == 1 else 'are'} "
        f"{comparison}: {nearness_name(metric)} {evidence['other']:.2f} to the nearest "
        f"images of {suggested}, {evidence['own']:.2f} to the nearest of {label}. "
        f"Compared with {counted(label_images, 'image')} of {label} and "
        f"{counted(int(evidence['other_images']), 'image')} of {suggested}"
    )
    if label_images == 1:
        text += (
            f"; {label} has only one other image, so either of the two may have the "
            "wrong label"
        )
    return text + "."


def split_sentence(names: tuple[str, str], evidence: Evidence, metric: str) -> str:
    """Say that two identities may be one person."""
    first, second = names
    nearness = nearness_name(metric)
    looks = "are look-alikes, or one person"
    text = (
        f"{first} and {second} {looks}: mean {nearness} {evidence['between']:.2f} "
        "between the identities"
    )
    if "within" in evidence:
        text += f" and {evidence['within']:.2f} within them"
    text += (
        f"; corrected for how near strangers are, {float(evidence['above']):.1f} "
        "standard deviations nearer than two persons usually are in this run"
    )
    if "below" in evidence:
        text += (
            f", and {_signed(float(evidence['below']))} of the images of one person "
            "under two names"
        )
    text += (
        f". Compared with {counted(int(evidence['first_images']), 'image')} of "
        f"{first} and {counted(int(evidence['second_images']), 'image')} of {second}"
    )
    if "background_share" in evidence:
        text += (
            "; the background carries "
            f"{percent(float(evidence['background_share']), 0)} of their similarity, "
            f"{percent(float(evidence['background_usual']), 0)} in true matches of "
            "this run"
        )
    if "names_alike" in evidence:
        text += f"; their names are alike: {evidence['names_alike']}"
    return text + "."


def merged_sentence(name: str, evidence: Evidence, metric: str) -> str:
    """Say that an identity may be two persons."""
    larger, smaller = int(evidence["larger_group"]), int(evidence["smaller_group"])
    text = (
        f"{name} may be two persons: its images form groups of {larger} and {smaller}, "
        f"mean {nearness_name(metric)} "
    )
    if "within" in evidence:
        text += f"{evidence['within']:.2f} within and "
    text += (
        f"{evidence['between']:.2f} between the groups, "
        f"{float(evidence['above']):.1f} standard deviations more of a difference than "
        "is usual in this run"
    )
    if evidence["cameras"] == "separate":
        text += "; the groups share no camera, so the cameras may explain the gap"
    return text + "."


def duplicate_sentence(identities: Sequence[str], evidence: Evidence) -> str:
    """Say that images are copies of one picture."""
    names = " and ".join(identities) if identities else "no identity"
    text = (
        f"{counted(int(evidence['images']), 'image')} of {names} are nearly the "
        f"same picture ({evidence['form']}): their details correlate at "
        f"{float(evidence['likeness']):.2f}"
    )
    if evidence["across"]:
        text += f", across {evidence['across']}, so one leaks into the other"
    if len(identities) > 1:
        text += ", under different identities, so one label is wrong"
    return text + "."


def hub_sentence(name: str, evidence: Evidence, metric: str) -> str:
    """Say that an image is near to many identities."""
    owner = f"labeled {name}" if name else "without a label"
    text = (
        f"1 image {owner} attracts strangers: it is among the nearest images of "
        + counted(int(evidence["reach"]), "other identity", "other identities")
    )
    if "own" in evidence:
        text += (
            f", and its {nearness_name(metric)} to its own identity is "
            f"{evidence['own']:.2f}"
        )
    if "other" in evidence:
        text += (
            f"; the nearest other identity is {evidence['other_identity']} "
            f"({nearness_name(metric)} {evidence['other']:.2f})"
        )
    if "crop" in evidence:
        return text + f". It is badly cropped: {evidence['crop']}."
    return text + ". It may be badly cropped, blurred, or generic."


def crop_sentence(name: str, evidence: Evidence) -> str:
    """Say that the crop of an image is off."""
    owner = f"labeled {name}" if name else "without a label"
    return f"1 image {owner} is cropped unlike the others: {evidence['crop']}."


def uninformative_sentence(name: str, evidence: Evidence, metric: str) -> str:
    """Say that an image shows too little to recognize a person."""
    nearness = nearness_name(metric)
    reasons = []
    if "own" in evidence:
        reasons.append(
            f"its {nearness} to its own identity is {evidence['own']:.2f}, "
            f"{float(evidence['own_gap']):.1f} standard deviations worse than usual "
            f"(from {counted(int(evidence['own_images']), 'image')})"
        )
    if "other" in evidence:
        reasons.append(
            f"the nearest other identity is {evidence['other_identity']} "
            f"({nearness} {evidence['other']:.2f})"
        )
    if evidence["reason"] == "dull":
        reasons.append("it has far less detail than other images of this run")
    owner = f"labeled {name}" if name else "without a label"
    return (
        f"1 image {owner} may show too little to recognize a person: "
        f"{', '.join(reasons)}."
    )


def _signed(spreads: float) -> str:
    """Say how many standard deviations nearer or less near."""
    side = "nearer than the average" if spreads >= 0 else "less near than the average"
    return f"{abs(spreads):.1f} {side}"


def nearness_name(metric: str) -> str:
    """Return what nearness is called in sentences."""
    return "similarity" if metric == "cosine" else "distance"
