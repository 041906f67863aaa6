"""Findings about pictures: copies, hubs, and images that show too little."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.duplicates.copies import ALIKE, FORMS
from fiftyone_sfam.audit.duplicates.find import Copy
from fiftyone_sfam.audit.suspects.context import Context
from fiftyone_sfam.audit.suspects.crops import DOUBTFUL, CropFigures, crop_reason
from fiftyone_sfam.audit.suspects.finding import (
    CROP,
    DUPLICATE,
    HUB,
    UNINFORMATIVE,
    Evidence,
    Finding,
    crop_sentence,
    duplicate_sentence,
    hub_sentence,
    uninformative_sentence,
)
from fiftyone_sfam.audit.suspects.pixels import DULL, groups_of
from fiftyone_sfam.audit.suspects.space import confidence
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.retrieval.search import UNKNOWN

# Margins above the thresholds that give a score of 0.75.
_SPREADS = 5.0
_CROP_SPREADS = 3.0
_LIKENESS = (1 - ALIKE) / 2


@dataclass
class Pixels:
    """Measures of the pixels of some images."""

    dullness: dict[int, float] = field(default_factory=dict)  # by image
    copies: tuple[Copy, ...] = ()  # pairs of images
    crops: CropFigures | None = None

    def is_dull(self, image: int) -> bool:
        """Return whether an image is known to have no detail."""
        return self.dullness.get(image, 0.0) >= DULL

    def is_badly_cropped(self, count: int) -> NDArray[np.bool_]:
        """Return which of ``count`` images have crops that are off, (count,)."""
        if self.crops is None:
            return np.zeros(count, dtype=bool)
        return self.crops.is_doubtful

    def crop_reason(self, image: int) -> str:
        """Say how an image is cropped, if its crop is off; else an empty string."""
        if self.crops is None or not self.crops.is_doubtful[image]:
            return ""
        return crop_reason(self.crops, image)


def find_hubs(context: Context, pixels: Pixels, min_score: float) -> list[Finding]:
    """Find images that are near to many identities."""
    figures = context.measured.figures.images
    margins = figures.attracts
    findings = []
    # An image that is far from all is told as that.
    for image in np.flatnonzero(margins > figures.uninformative).tolist():
        score = float(confidence(margins[image], _SPREADS))
        if score < min_score:
            continue
        name, item = context.name_of(image), int(context.used[image])
        evidence = _image_evidence(context, image)
        reason = pixels.crop_reason(image)
        if reason:
            evidence["crop"] = reason
        findings.append(
            context.finding(
                HUB,
                score,
                [item],
                context.lookup.of([item]),
                (name,) if name else (),
                evidence,
                hub_sentence(name, evidence, context.metric),
                proposal="Crop the image again, or drop it.",
                changes=[item],
            )
        )
    return findings


def find_bad_crops(
    context: Context, pixels: Pixels, explained: Collection[int], min_score: float
) -> list[Finding]:
    """Find images whose crops are off, without the items that are ``explained``."""
    findings: list[Finding] = []
    if pixels.crops is None or not pixels.crops.aligned:
        return findings
    strength = pixels.crops.strength
    for image in np.flatnonzero((strength > 0) & (pixels.crops.gain > 0)).tolist():
        score = float(confidence(strength[image] - DOUBTFUL, _CROP_SPREADS))
        item = int(context.used[image])
        if score < min_score or pixels.is_dull(image) or item in explained:
            continue
        name = context.name_of(image)
        evidence: Evidence = {
            "crop": crop_reason(pixels.crops, image),
            "strength": float(strength[image]),
        }
        findings.append(
            context.finding(
                CROP,
                score,
                [item],
                context.lookup.of([item]),
                (name,) if name else (),
                evidence,
                crop_sentence(name, evidence),
                proposal="Crop the image again, or drop it.",
                changes=[item],
            )
        )
    return findings


def find_uninformative(
    context: Context, pixels: Pixels, min_score: float
) -> list[Finding]:
    """Find images that show too little to recognize a person."""
    figures = context.measured.figures.images
    margins = np.where(
        figures.attracts > figures.uninformative, -np.inf, figures.uninformative
    )
    for image, dullness in pixels.dullness.items():
        if dullness >= DULL:
            margins[image] = max(margins[image], dullness - DULL)
    findings = []
    for image in np.flatnonzero(np.isfinite(margins)).tolist():
        score = float(confidence(margins[image], _SPREADS))
        if score < min_score:
            continue
        item = int(context.used[image])
        name = context.name_of(image)
        evidence = _uninformative_evidence(context, pixels, image)
        findings.append(
            context.finding(
                UNINFORMATIVE,
                score,
                [item],
                context.lookup.of([item]),
                (name,) if name else (),
                evidence,
                uninformative_sentence(name, evidence, context.metric),
                proposal="Drop the image.",
                changes=[item],
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
                proposal=_keep_one(names, len(items)),
            )
        )
    return findings


def _keep_one(names: tuple[str, ...], images: int) -> str:
    """Say what to do with copies."""
    if len(names) > 1:
        return f"Keep one image, under the right one of {len(names)} identities."
    return f"Keep one image, and drop {counted(images - 1, 'copy', 'copies')}."


def _uninformative_evidence(context: Context, pixels: Pixels, image: int) -> Evidence:
    evidence = _image_evidence(context, image)
    dullness = pixels.dullness.get(image)
    evidence["reason"] = "dull" if dullness is not None and dullness >= DULL else "far"
    if dullness is not None:
        evidence["dullness"] = dullness
    return evidence


def _image_evidence(context: Context, image: int) -> Evidence:
    figures = context.measured.figures.images
    evidence: Evidence = {
        "reach": float(figures.reach[image]),
        "own_images": float(figures.own_images[image]),
    }
    if np.isfinite(figures.own[image]):
        own = int(context.measured.space.identities[image])
        evidence["own"] = context.similarity(image, own)
        evidence["own_gap"] = float(figures.own_gap[image])
    other = int(figures.other[image])
    if other != UNKNOWN:
        evidence["other"] = context.similarity(image, other)
        evidence["other_identity"] = context.names[other]
    return evidence


def _across(splits: list[tuple[str, ...]] | None, items: list[int]) -> str:
    """Name the splits of images; an empty string if there is only one."""
    if splits is None:
        return ""
    values = {tuple(sorted(splits[item])) for item in items}
    if len(values) < 2:
        return ""
    return " and ".join(sorted(", ".join(value) or "none" for value in values))
