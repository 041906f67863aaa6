"""The ranking of find_suspects, and of crops by small pixels.

Crops need pixels: small copies of 32 x 32 gray values, aligned with the median of the
collection, as crops of one kind are framed alike. Copies have a check of their own,
``check_duplicates.py``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from suspects_planted import CROP, LINKED, MERGED, MISLABELED, SPLIT
from suspects_rivals import Images, Ranking, pairs_of

from fiftyone_sfam.audit.suspects.measures import (
    ONE_PERSON_MODEL,
    TWO_PERSONS_MODEL,
    Measured,
    measure,
)
from fiftyone_sfam.audit.suspects.neighbors import Links, correct, find_links

# What a link loses per nearer link of either image, in spreads of the links.
RIVAL = 0.4
_ANGLES = (-45, -30, -15, 15, 30, 45)
_SHIFT = 8


def rank_ours(images: Images) -> tuple[Ranking, Measured]:
    """Rank by the odds of find_suspects, and crops by pixels if there are any."""
    measured = measure(
        images.embeddings, images.metric, images.identities, images.cameras
    )
    figures = measured.figures
    count, groups = len(images.identities), len(figures.space.members)
    split = np.full((groups, groups), -np.inf)
    first, second = figures.pairs.codes.T
    split[first, second] = split[second, first] = ONE_PERSON_MODEL.odds(
        measured.pair_features()
    )
    merged = np.full(groups, -np.inf)
    merged[[division.identity for division in figures.divisions]] = (
        TWO_PERSONS_MODEL.odds(measured.division_features())
    )
    corrected = correct(figures.space, measured.nearest, by_identity=False)
    links = link_scores(find_links(corrected, measured.nearest), count)
    scores = {
        MISLABELED: figures.images.mislabel,
        SPLIT: split,
        LINKED: pairs_of(images, links),
        MERGED: merged,
    }
    if images.small is not None:
        scores[CROP] = rank_crops(images.small)
    flagged = measured.mislabeled() >= 0
    return Ranking(scores, links, flagged), measured


def link_scores(found: Links, count: int) -> NDArray[np.float64]:
    """Score links; an image's second and later links lose, as it is one person's.

    Either image of a link may have nearer links; each of them costs RIVAL spreads.
    The spread is the standard deviation of the images' best links.
    """
    links = np.full((count, count), -np.inf)
    ranks = np.full((count, count), float(found.images.shape[1]))
    for image, (others, values) in enumerate(
        zip(found.images, found.nearness, strict=True)
    ):
        known = others >= 0
        links[image, others[known]] = values[known]
        ranks[image, others[known]] = np.arange(known.sum())
    step = RIVAL * float(
        np.std(found.nearness[:, 0][np.isfinite(found.nearness[:, 0])])
    )
    return links - step * (ranks + ranks.T)


def rank_crops(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Rank images by how much better they fit the median when moved or turned."""
    from scipy.ndimage import rotate

    gray = small.astype(np.float64).mean(axis=3)
    values = _contrast(gray)
    usual = np.median(values, axis=0)[None]
    base = _agreement(values, usual)
    moved = np.full(len(gray), -1.0)
    side = gray.shape[1]
    for down in range(-_SHIFT, _SHIFT + 1, 2):
        for right in range(-_SHIFT, _SHIFT + 1, 2):
            rows, fixed_rows = _overlap(down, side)
            columns, fixed_columns = _overlap(right, side)
            part = values[:, rows, columns]
            agreement = _agreement(part, usual[:, fixed_rows, fixed_columns])
            share = part.shape[1] * part.shape[2] / side**2
            moved = np.maximum(moved, agreement * np.sqrt(share))
    inner = slice(6, side - 6)
    turned = np.full(len(gray), -1.0)
    for angle in _ANGLES:
        other = rotate(gray, angle, (2, 1), reshape=False, order=1, mode="nearest")
        agreement = _agreement(
            _contrast(other)[:, inner, inner], usual[:, inner, inner]
        )
        turned = np.maximum(turned, agreement)
    center = _agreement(values[:, inner, inner], usual[:, inner, inner])
    return _spreads(moved - base) + _spreads(turned - center)


def _overlap(shift: int, side: int) -> tuple[slice, slice]:
    return (
        slice(max(0, shift), side + min(0, shift)),
        slice(max(0, -shift), side + min(0, -shift)),
    )


def _contrast(gray: NDArray[np.float64]) -> NDArray[np.float64]:
    """Remove slow changes of brightness, and level out the contrast."""
    from scipy.ndimage import gaussian_filter

    gray = gray - gaussian_filter(gray, (0, 6, 6))
    scale = np.sqrt(gaussian_filter(gray**2, (0, 6, 6))) + 4
    return gaussian_filter(gray / scale, (0, 1, 1))


def _agreement(
    values: NDArray[np.float64], usual: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Correlate each image with one."""
    values = values - values.mean(axis=(1, 2), keepdims=True)
    usual = usual - usual.mean()
    lengths = np.square(values).sum(axis=(1, 2)) * np.square(usual).sum()
    return (values * usual).sum(axis=(1, 2)) / np.sqrt(lengths + 1e-9)


def _spreads(values: NDArray[np.float64]) -> NDArray[np.float64]:
    away = values - np.median(values)
    return np.clip(away / (1.48 * np.median(np.abs(away)) + 1e-9), -6, 6)
