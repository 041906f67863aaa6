"""Candidates for find_suspects: corrected nearness, and crops by small copies.

Labels and identities are ranked by functions of ``suspects_corrected.py``, crops by the
library's strengths. Copies have a check of their own, ``check_duplicates.py``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from suspects_corrected import (
    Links,
    correct,
    find_links,
    linked_identities,
    one_person_score,
    two_persons_score,
    usual_nearness,
)
from suspects_planted import CROP, LINKED, MERGED, MISLABELED, SPLIT
from suspects_rivals import Images, Ranking, pairs_of

from fiftyone_sfam.audit.suspects.crops import measure_crops
from fiftyone_sfam.audit.suspects.measures import measure_images
from fiftyone_sfam.audit.suspects.space import (
    find_nearest,
    make_space,
    measure_genuine,
)

# What a link loses per nearer link of either image, in spreads of the links.
RIVAL = 0.4


def rank_corrected(images: Images, rival: float = RIVAL) -> Ranking:
    """Rank with corrected nearness, and with pixels if there are any."""
    space = make_space(
        images.embeddings, images.metric, images.identities, images.cameras
    )
    count, groups = len(space), len(space.members)
    by_identity = correct(space, by_identity=True)
    nearest = replace(find_nearest(space), others=find_links(by_identity).images)
    figures = measure_images(by_identity, measure_genuine(by_identity), nearest)

    by_image = correct(space, by_identity=False)
    found = find_links(by_image)
    links = link_scores(found, count, rival)
    split = np.full((groups, groups), -np.inf)
    for first, second in linked_identities(space, found):
        score = one_person_score(by_image, first, second)
        split[first, second] = split[second, first] = score
    merged = np.full(groups, -np.inf)
    usual = usual_nearness(by_identity)
    for code, members in enumerate(space.members):
        if len(members) > 1:
            merged[code] = two_persons_score(by_identity, code, usual).score
    scores = {
        MISLABELED: figures.mislabel,
        SPLIT: split,
        LINKED: pairs_of(images, links),
        MERGED: merged,
    }
    if images.small is not None:
        scores[CROP] = rank_crops(images.small)
    return Ranking(scores, links)


def link_scores(found: Links, count: int, rival: float) -> NDArray[np.float64]:
    """Score links; an image's second and later links lose, as it is one person's.

    Either image of a link may have nearer links; each of them costs ``rival`` spreads.
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
    step = rival * float(
        np.std(found.nearness[:, 0][np.isfinite(found.nearness[:, 0])])
    )
    return links - step * (ranks + ranks.T)


def rank_crops(small: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Rank images by how much likelier another framing is than the usual one."""
    copies = {image: copy.astype(np.float32) for image, copy in enumerate(small)}
    return measure_crops(copies, len(small)).strength
