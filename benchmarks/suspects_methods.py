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
from fiftyone_sfam.retrieval.search import UNKNOWN

# What counts of the lead of an identity over the next one, and of the logarithm of the
# odds of the findings between two identities, and the least odds. Chosen on worlds of
# other seeds.
_LEAD, _FINDINGS, _LEAST = 0.25, 0.5, -8.0


def rank_ours(images: Images) -> tuple[Ranking, Measured]:
    """Rank by the odds of find_suspects, and crops by pixels if there are any."""
    measured = measure(
        images.embeddings, images.metric, images.identities, images.cameras
    )
    figures = measured.figures
    groups = len(figures.space.members)
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
    links = link_scores(find_links(corrected, measured.nearest), images.identities)
    scores = {
        MISLABELED: figures.images.mislabel,
        SPLIT: split,
        LINKED: pairs_of(images, links) + _FINDINGS * found_between(measured),
        MERGED: merged,
    }
    if images.small is not None:
        scores[CROP] = rank_crops(images.small)
    flagged = measured.mislabeled() >= 0
    return Ranking(scores, links, flagged), measured


def link_scores(found: Links, identities: NDArray[np.int64]) -> NDArray[np.float64]:
    """Score pairs of images of different identities, in spreads, (N, N).

    The corrected nearness, and a part of its lead over that of either image to the next
    identity, as an image is one person's. The spread is the standard deviation of the
    images' best links.
    """
    count, groups = len(identities), int(identities.max()) + 1
    best = found.nearness[:, 0]
    values = found.nearness / float(np.std(best[np.isfinite(best)]))
    known = np.isfinite(values)
    links = np.full((count, count), -np.inf)
    leads = np.repeat(np.where(known, values, np.inf).min(axis=1), groups)
    leads = leads.reshape(count, groups) - values[:, :1]
    for image, others in enumerate(found.images):
        own = values[image, known[image]]
        others = others[known[image]]
        links[image, others] = own
        # The nearest identity leads over the second one, the others trail behind it.
        rivals = np.full(len(own), own[0])
        rivals[0] = own[min(1, len(own) - 1)]
        leads[image, identities[others]] = own - rivals
    leads = leads[:, identities]
    return np.maximum(links, links.T) + _LEAD * (leads + leads.T)


def found_between(measured: Measured) -> NDArray[np.float64]:
    """Return the logarithms of the odds of findings between two identities, (C, C).

    That both are one person, or that an image of one belongs to the other one. Where
    labels are not judged, all pairs have the least odds.
    """
    groups = len(measured.space.members)
    first, second = measured.figures.pairs.codes.T
    one_person, moved = np.full((2, groups, groups), _LEAST)
    one_person[first, second] = measured.one_person()
    others = measured.figures.images.other
    judged = others != UNKNOWN
    np.maximum.at(
        moved,
        (measured.space.identities[judged], others[judged]),
        measured.mislabeled()[judged],
    )
    odds = np.logaddexp(
        np.maximum(one_person, one_person.T), np.maximum(moved, moved.T)
    )
    return np.maximum(odds, _LEAST)


def rank_crops(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Rank images by how much likelier another framing is than the usual one."""
    copies = {image: copy.astype(np.float32) for image, copy in enumerate(small)}
    return measure_crops(copies, len(small)).strength
