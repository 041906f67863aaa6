"""How well embeddings agree with labels, and how likely a disagreement is an error.

Images, pairs of identities and identities are scored
(:mod:`fiftyone_sfam.audit.suspects.images`,
:mod:`fiftyone_sfam.audit.suspects.identities`), with the given labels and with labels
in which defects were planted. The comparison of both gives probabilities
(:mod:`fiftyone_sfam.audit.suspects.likelihood`). These functions work on arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.identities import (
    Division,
    divide,
    score_pairs,
    usual_nearness,
)
from fiftyone_sfam.audit.suspects.images import ImageFigures, measure_images
from fiftyone_sfam.audit.suspects.likelihood import (
    ENOUGH,
    Distances,
    Model,
    Scores,
    measure_distances,
    nearby,
    size_of,
)
from fiftyone_sfam.audit.suspects.nearest import Nearest, find_nearest
from fiftyone_sfam.audit.suspects.neighbors import (
    correct,
    find_links,
    linked_identities,
    reach,
    relabel,
    without,
)
from fiftyone_sfam.audit.suspects.planted import Planted, plant
from fiftyone_sfam.audit.suspects.space import Space, make_space, measure_genuine
from fiftyone_sfam.retrieval.indexed import Proposals
from fiftyone_sfam.retrieval.search import UNKNOWN

MISLABELED_MODEL = Model(-2.44, (2.45, 1.27), 0.044)
ONE_PERSON_MODEL = Model(-3.74, (0.67, 2.15, 0.41), 0.0145)
TWO_PERSONS_MODEL = Model(-0.79, (2.15, 1.79), 0.081)
"""Printed by ``make check-suspects``, from which they are copied."""

APART = 1.5
"""Least distance between planted and usual scores of images, in their common spread. If
it is smaller, the network does not tell the identities apart, and nothing is said of
their labels."""

# Distances beyond these say no more.
_ABOVE, _BELOW, _LABELS = (-6.0, 10.0), (-6.0, 3.0), (-15.0, 15.0)
# The same of likelihood ratios, as logarithms: of how two groups of images differ, and
# of the number of images: a large one speaks for two persons, and no number against it,
# as collections may limit it.
_EVIDENCE, _NUMBER = (-8.0, 8.0), (0.0, 2.0)
# What the difference of two groups may count above their nearest images.
_SLACK = 2.0
# Strength of a mislabeled image from which it counts by its logarithm.
_STRENGTH = 3.0
# Spread of the effect of labels of one person, in errors.
_EFFECT = 1.2
# Nearest other identities of an image with which its own is compared.
_PARTNERS = 5
_NONE = np.empty(0, dtype=np.int64)
# Planted defects of each kind that are enough, and rounds of planting at most.
_PLANTED = 100
_ROUNDS = 8


@dataclass(frozen=True)
class Pairs:
    """Pairs of identities that are near to each other."""

    codes: NDArray[np.int64]  # (P, 2)
    scores: NDArray[np.float64]  # as one person, (P,)
    effects: NDArray[np.float64]  # of their labels, in errors; NaN if unknown, (P,)


@dataclass(frozen=True)
class Figures:
    """Scores under one set of labels."""

    space: Space
    images: ImageFigures
    pairs: Pairs
    divisions: list[Division]

    def of_images(self) -> Scores:
        """Return the scores of images as mislabeled, and their sizes."""
        sizes = np.array([len(members) for members in self.space.members] + [0])
        others = sizes[self.images.other]
        return Scores(self.images.mislabel, size_of(self.images.own_images, others))

    def of_pairs(self) -> Scores:
        """Return the scores of pairs of identities as one person, and their sizes."""
        sizes = np.array([len(members) for members in self.space.members], dtype=int)
        first, second = self.pairs.codes.T
        return Scores(self.pairs.scores, size_of(sizes[first], sizes[second]))

    def of_divisions(self) -> Scores:
        """Return the scores of identities as two persons, and their sizes."""
        return self._of_divisions([division.score for division in self.divisions])

    def of_nearest(self) -> Scores:
        """Return how far the groups' nearest images are apart, and the sizes."""
        return self._of_divisions([-division.nearest for division in self.divisions])

    def _of_divisions(self, values: list[float]) -> Scores:
        sizes = [sum(map(len, division.groups)) for division in self.divisions]
        return Scores(np.array(values, dtype=float), np.log(sizes, dtype=float))


@dataclass(frozen=True)
class Measured:
    """Scores of N images and their identities, and how far they are from usual."""

    figures: Figures
    nearest: Nearest
    hubs: NDArray[np.int64]  # images that attract strangers: witnesses for nobody
    image_distances: Distances  # (N,)
    pair_distances: Distances  # (P,)
    division_distances: Distances  # of each division
    nearest_distances: Distances  # of the nearest images of the groups
    number_distances: Distances  # of the numbers of images in each division

    @property
    def space(self) -> Space:
        """The images with their labels."""
        return self.figures.space

    @property
    def apart(self) -> float:
        """How far planted errors of single labels are from the usual, in spreads.

        Infinite if no identity has two images.
        """
        apart = self.image_distances.apart[np.isfinite(self.figures.images.mislabel)]
        return float(np.median(apart)) if len(apart) else np.inf

    def image_features(self) -> NDArray[np.float64]:
        """Return what speaks for a wrong label of each image, (N, 2)."""
        strength = np.arcsinh(self.figures.images.mislabel / _STRENGTH)
        below = np.clip(self.image_distances.below, *_BELOW)
        return np.stack([strength, below], axis=1)

    def pair_features(self) -> NDArray[np.float64]:
        """Return what speaks for one person under two names, (P, 3)."""
        above = np.clip(self.pair_distances.above, *_ABOVE)
        below = np.clip(self.pair_distances.below, *_BELOW)
        labels = np.clip(self._random_labels(), *_LABELS)
        return np.stack([above, below, labels], axis=1)

    def division_features(self) -> NDArray[np.float64]:
        """Return what speaks for two persons under one name, (I, 2).

        Groups may differ because a person is seen from the side; some images are then
        nearer to the other group than those of two persons are, and it counts no more
        than these allow.
        """
        allowed = self.nearest_distances.evidence + _SLACK
        difference = np.minimum(self.division_distances.evidence, allowed)
        difference = np.clip(difference, *_EVIDENCE)
        number = np.clip(self.number_distances.evidence, *_NUMBER)
        return np.stack([difference, number], axis=1)

    def mislabeled(self) -> NDArray[np.float64]:
        """Return the logarithms of the odds that images are mislabeled, (N,)."""
        known = np.isfinite(self.figures.images.mislabel)
        odds = np.full(len(known), -np.inf)
        odds[known] = self._odds(MISLABELED_MODEL, self.image_features()[known])
        return odds

    def one_person(self) -> NDArray[np.float64]:
        """Return the logarithms of the odds that pairs of identities are one, (P,)."""
        return self._odds(ONE_PERSON_MODEL, self.pair_features())

    def two_persons(self) -> NDArray[np.float64]:
        """Return the logarithms of the odds that divided identities are two."""
        return self._odds(TWO_PERSONS_MODEL, self.division_features())

    def _odds(self, model: Model, features: NDArray[np.float64]) -> NDArray[np.float64]:
        odds = model.odds(features)
        return odds if self.apart >= APART else np.full(len(odds), -np.inf)

    def _random_labels(self) -> NDArray[np.float64]:
        """Compare the effect of labels with that of random and with usual ones.

        The logarithm of the ratio of two normal densities; 0 if there are too few
        images to tell.
        """
        effects, sizes = self.figures.pairs.effects, self.figures.of_pairs().sizes
        usual = _usual_pairs(self.figures, effects)
        if len(usual) < ENOUGH:
            return np.zeros(len(effects))
        center, scale = nearby(usual, sizes)
        scale = np.maximum(scale, 1.0)
        ratio = (
            ((effects - center) / scale) ** 2 / 2
            - (effects / _EFFECT) ** 2 / 2
            + np.log(scale / _EFFECT)
        )
        return np.where(np.isfinite(ratio), ratio, 0.0)


def measure(
    embeddings: NDArray[np.floating],
    metric: str,
    identities: NDArray[np.int64],
    cameras: NDArray[np.int64],
    report: Callable[[int, int], None] | None = None,
    propose: Proposals | None = None,
) -> Measured:
    """Compare images with their own identities and with others.

    ``report`` and ``propose`` are those of
    :func:`fiftyone_sfam.audit.suspects.nearest.find_nearest`.
    """
    space = make_space(embeddings, metric, identities, cameras)
    return measure_near(space, find_nearest(space, report, propose))


def measure_near(space: Space, nearest: Nearest) -> Measured:
    """Compare images with their own identities and with those near to them."""
    reached = reach(space, nearest)
    figures = measure_labels(space, nearest, reached)
    hubs = np.flatnonzero(figures.images.attracts >= 0)
    if len(hubs):
        nearest = without(nearest, hubs)
        figures = measure_labels(space, nearest, reached, hubs)
    planted = _measure_planted(space, nearest)
    divisions, nearest_images = figures.of_divisions(), figures.of_nearest()
    return Measured(
        figures,
        nearest,
        hubs,
        measure_distances(figures.of_images(), _usual_images(figures), planted[0]),
        measure_distances(
            figures.of_pairs(),
            _usual_pairs(figures, figures.pairs.scores),
            planted[1],
        ),
        measure_distances(divisions, divisions, planted[2]),
        measure_distances(nearest_images, nearest_images, planted[3]),
        measure_distances(*map(_numbers, (divisions, divisions, planted[2]))),
    )


def measure_labels(
    space: Space,
    nearest: Nearest,
    reached: NDArray[np.int64],
    hubs: NDArray[np.int64] = _NONE,
    only: Planted | None = None,
) -> Figures:
    """Score images, pairs of identities, and identities; of these two, all or some.

    Two identities are compared if an image of one, other than a hub, has the other one
    among its nearest.
    """
    by_identity = correct(space, nearest, by_identity=True)
    images = measure_images(
        by_identity,
        measure_genuine(by_identity),
        find_links(by_identity, nearest).images,
        reached,
    )
    by_image = correct(space, nearest, by_identity=False)
    links = find_links(by_image, nearest, _PARTNERS)
    links.images[hubs] = UNKNOWN
    codes = linked_identities(space, links)
    divided = [code for code, members in enumerate(space.members) if len(members) > 1]
    if only is not None:
        wanted = {tuple(sorted(pair)) for pair in only.split.tolist()}
        chosen = [tuple(pair) in wanted for pair in codes.tolist()]
        codes = codes[np.array(chosen, dtype=bool)]
        divided = only.merged.tolist()
    usual = usual_nearness(by_identity)
    divisions = [divide(by_identity, code, usual) for code in divided]
    pairs = Pairs(codes, *score_pairs(by_image, codes))
    return Figures(space, images, pairs, divisions)


def _usual_images(figures: Figures) -> Scores:
    scores = figures.of_images()
    known = np.isfinite(scores.values)
    return Scores(scores.values[known], scores.sizes[known])


def _numbers(scores: Scores) -> Scores:
    """Return the numbers of images, as logarithms, as scores."""
    return Scores(scores.sizes, np.zeros(len(scores)))


def _usual_pairs(figures: Figures, values: NDArray[np.float64]) -> Scores:
    """Select the second and third best pairs of each identity; the best may be one."""
    scores = figures.of_pairs()
    owners = figures.pairs.codes.T.ravel()
    order = np.lexsort((-np.tile(scores.values, 2), owners))
    owners = owners[order]
    place = np.arange(len(owners)) - np.searchsorted(owners, owners)
    values, sizes = np.tile(values, 2)[order], np.tile(scores.sizes, 2)[order]
    chosen = ((place == 1) | (place == 2)) & np.isfinite(values)
    return Scores(values[chosen], sizes[chosen])


def _measure_planted(space: Space, nearest: Nearest) -> tuple[Scores, ...]:
    """Score planted defects: moved images, split and (twice) merged identities."""
    generator = np.random.default_rng(0)
    parts: tuple[list[Scores], ...] = ([], [], [], [])
    for _ in range(_ROUNDS):
        planted = plant(space, generator)
        relabeled = relabel(space, nearest, planted.space)
        figures = measure_labels(
            planted.space, relabeled, reach(planted.space, relabeled), only=planted
        )
        found = _scores_of(planted, figures)
        for part, scores in zip(parts, found, strict=True):
            part.append(scores)
        if all(sum(map(len, part)) >= _PLANTED for part in parts):
            break
    return tuple(Scores.joined(part) for part in parts)


def _scores_of(planted: Planted, figures: Figures) -> tuple[Scores, ...]:
    """Select the scores of what was planted."""
    images = figures.of_images()
    moved = planted.moved[np.isfinite(images.values[planted.moved])]
    return (
        Scores(images.values[moved], images.sizes[moved]),
        figures.of_pairs(),
        figures.of_divisions(),
        figures.of_nearest(),
    )
