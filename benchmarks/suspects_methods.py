"""The ranking of find_suspects; copies have a check of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from suspects_planted import CROP, LINKED, MERGED, MISLABELED, SPLIT
from suspects_rivals import Images, Ranking, pairs_of

from fiftyone_sfam.audit.suspects.crops import measure_crops
from fiftyone_sfam.audit.suspects.measures import (
    ONE_PERSON_MODEL,
    TWO_PERSONS_MODEL,
    Measured,
    measure,
)
from fiftyone_sfam.audit.suspects.neighbors import Links, correct, find_links

# What a link loses per nearer link of either image, in spreads of the links.
RIVAL = 0.4


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
    """Rank images by how much likelier another framing is than the usual one."""
    copies = {image: copy.astype(np.float32) for image, copy in enumerate(small)}
    return measure_crops(copies, len(small)).strength
