"""Findings: what they are, and how they are said in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fiftyone_sfam.data.text import counted, percent

MISLABELED = "mislabeled image"
SPLIT = "split identity"
MERGED = "merged identity"
DUPLICATE = "near-duplicate"
UNINFORMATIVE = "uninformative image"

THRESHOLD = 0.5
"""Score from which on a finding of any kind is meant; weaker ones are asked for."""

KINDS = (MISLABELED, SPLIT, MERGED, DUPLICATE, UNINFORMATIVE)
"""Kinds of findings."""


@dataclass(frozen=True)
class Finding:
    """Something in the data that a person should look at.

    Attributes
    ----------
    kind : str
        One of :data:`KINDS`.
    score : float
        From 0 to 1; 0.5 is the threshold of every kind. It orders findings of one
        kind, and those of all kinds by how far they are above their thresholds. It is
        no probability.
    sample_ids : tuple of str
        Samples of ``items``, each once.
    items : tuple of int
        The images in question, indices into the run's items. Mislabeled: those whose
        label is doubted. Split: all of both identities. Merged: all of the identity.
        Near-duplicate: those that are one picture.
    pairs : tuple of int
        Pairs of the run that show it, nearest first; empty where none is stored.
    identities : tuple of str
        Mislabeled: the label, then the identity that suits better. Split: both. Merged
        and uninformative: the identity. Near-duplicate: those of the images.
    evidence : dict of str to float or str
        The figures that it rests on.
    sentence : str
        The finding in words, with what supports it.
    """

    kind: str
    score: float
    sample_ids: tuple[str, ...]
    items: tuple[int, ...]
    pairs: tuple[int, ...]
    identities: tuple[str, ...]
    evidence: dict[str, float | str] = field(default_factory=dict)
    sentence: str = ""


def mislabeled_sentence(
    label: str,
    suits: str,
    evidence: dict[str, float | str],
    metric: str,
) -> str:
    """Say that images seem to belong to another identity."""
    count, own = int(evidence["images"]), int(evidence["own_images"])
    whose = counted(count, "image")
    verb = "is" if count == 1 else "are"
    figure = nearness_name(metric)
    gain = float(evidence["other"]) - float(evidence["own"])
    nearer = gain > 0 if metric == "cosine" else gain < 0
    text = (
        f"{whose} labeled {label} {verb} {'nearer' if nearer else 'nearly as near'} "
        f"to {suits}{'' if nearer else ' as to its own identity'}: {figure} "
        f"{evidence['other']:.2f} to the nearest there, {evidence['own']:.2f} to the "
        f"nearest of {label}. This rests on {counted(own, 'image')} of {label} and "
        f"{counted(int(evidence['other_images']), 'image')} of {suits}"
    )
    if own == 1:
        text += (
            f"; with a single other image of {label} it is open which of the two is "
            "wrong"
        )
    return text + "."


def split_sentence(
    names: tuple[str, str],
    evidence: dict[str, float | str],
    metric: str,
) -> str:
    """Say that two identities may be one person."""
    first, second = names
    text = (
        f"{first} and {second} may be one person: the two names explain no more of "
        f"how alike the images are than names dealt out at random would "
        f"({float(evidence['names_z']):.1f} errors, where the nearest two identities "
        f"usually differ by {float(evidence['usual_z']):.0f}); mean "
        f"{nearness_name(metric)} {evidence['between']:.2f} between them"
    )
    if "within" in evidence:
        text += f" and {evidence['within']:.2f} within"
    text += (
        f". This rests on {counted(int(evidence['first_images']), 'image')} of "
        f"{first} and {counted(int(evidence['second_images']), 'image')} of {second}"
    )
    if "background_share" in evidence:
        text += (
            "; the background carries "
            f"{percent(float(evidence['background_share']), 0)} of their similarity, "
            f"{percent(float(evidence['background_usual']), 0)} in true matches of "
            "this run"
        )
    return text + "."


def merged_sentence(name: str, evidence: dict[str, float | str], metric: str) -> str:
    """Say that an identity may be two persons."""
    text = (
        f"{name} may be two persons: its images fall into groups of "
        f"{int(evidence['larger_group'])} and {int(evidence['smaller_group'])}, mean "
        f"{nearness_name(metric)} {evidence['within']:.2f} within and "
        f"{evidence['between']:.2f} between them, "
        f"{float(evidence['apart']):.1f} times as far apart as the nearest two "
        "identities usually are"
    )
    if evidence["cameras"] == "separate":
        text += "; no camera has images of both groups, so it may be the cameras"
    return text + "."


def duplicate_sentence(
    identities: Sequence[str], evidence: dict[str, float | str]
) -> str:
    """Say that images are one picture."""
    who = " and ".join(identities) if identities else "no identity"
    text = (
        f"{counted(int(evidence['images']), 'image')} of {who} are nearly the same "
        f"picture: their details correlate at {float(evidence['likeness']):.2f}"
    )
    if evidence["across"]:
        text += f", across {evidence['across']}, so one leaks into the other"
    if len(identities) > 1:
        text += ", under different identities, so one label is wrong"
    return text + "."


def uninformative_sentence(
    name: str, evidence: dict[str, float | str], metric: str
) -> str:
    """Say that an image shows nothing to recognize anyone by."""
    figure = nearness_name(metric)
    text = "1 image" + (f" labeled {name}" if name else " without a label")
    text += " may show too little to recognize anyone by: "
    reasons = []
    if evidence["reason"] == "hub":
        reasons.append(
            f"it is among the nearest strangers of {int(evidence['reach'])} other "
            "identities"
        )
    if "own" in evidence:
        reasons.append(
            f"it is {float(evidence['own_gap']):.1f} spreads less like its own "
            f"identity than is usual there ({figure} {evidence['own']:.2f}, from "
            f"{counted(int(evidence['own_images']), 'image')})"
        )
    if "other" in evidence:
        reasons.append(
            f"nearest stranger {evidence['other_identity']} ({figure} "
            f"{evidence['other']:.2f})"
        )
    if evidence["reason"] == "dull":
        reasons.append("its picture has far less detail than others of this run")
    return text + ", ".join(reasons) + "."


def nearness_name(metric: str) -> str:
    """Name what images are compared by."""
    return "similarity" if metric == "cosine" else "distance"
