"""Links between identities: images of two identities that look like one person.

*Corrected nearness.* Some images, such as badly cropped ones, are near to images of
many strangers (hubs). So three quarters of what two images have to their ten nearest
strangers is subtracted from their nearness, as in cross-domain similarity local scaling
(Conneau et al., "Word translation without parallel data", 2018), with less weight,
because one's nearest strangers may be the same person under another name::

    c(i, j) = s(i, j) - 3/4 (r(i) + r(j)) / 2

*Score of a link.* Three quarters of the largest ``c`` of two identities, and a quarter
of the mean of the few largest.

*Probability.* Each identity has one best link. Most are between strangers, and then the
scores are maxima, with a Gumbel distribution. It is estimated from the second to fourth
best links, which are between strangers even if the best one is not: for maxima, the
distances between those of rank ``k`` and ``k + 1`` have the mean
``scale / k``. Scores of one person are distributed as the nearest pairs within
identities are, taken as normal.
The share of linked identities follows from the mixture of the two by expectation
maximization. Nothing is taken from other collections, so a network that cannot tell
persons apart gives low probabilities instead of false ones.

*What to do.* If one image makes the link, and is farther from the rest of its identity,
it belongs to the other identity. Otherwise both identities may be one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.suspects.space import Nearest, Space
from fiftyone_sfam.retrieval.search import UNKNOWN

# Nearest strangers, and the weight of what an image has to them.
_DENSITY, _WEIGHT = 10, 0.75
# Weight of the mean of the largest few, and their number.
_SEVERAL, _FEW = 0.25, 4
# Identities to which an identity's link is measured.
_PARTNERS = 4
# Quantiles of the scores of strangers that determine their distribution.
_LOW, _HIGH = 0.25, 0.9
# Steps of an exponential distribution that stand for it.
_STEPS = (np.arange(100) + 0.5) / 100
# Share of deviations within one standard deviation.
_WITHIN = 0.6827
# First estimate, and bound, of the share of linked identities.
_SHARE, _MOST_LINKED = 0.05, 0.5
_ROUNDS = 50
# Identities, and images near to their own identity, from which something is estimated.
_LEAST_IDENTITIES, _LEAST_GENUINE = 8, 8
# Images of an identity that are compared at once.
_ROWS = 1024
# Links in which one image may be a witness.
_MOST_WITNESSED = 2


@dataclass(frozen=True, kw_only=True)
class Link:
    """A pair of identities with images that look like one person.

    Attributes
    ----------
    first, second : int
        Codes of the identities.
    witnesses : tuple of int
        The nearest image of either, which show the link.
    nearness : float
        Nearness of the two, as in the space.
    score : float
        Corrected nearness.
    probability : float
        That both have images of one person, from 0 to 1.
    rest : tuple of float
        Corrected nearness of the rest of either witness's identity, to the witness or
        to the other identity; NaN for the only image of an identity.
    moved : int
        The witness that belongs to the other identity, or UNKNOWN if both identities
        may be one.
    """

    first: int
    second: int
    witnesses: tuple[int, int]
    nearness: float
    score: float
    probability: float
    rest: tuple[float, float]
    moved: int


@dataclass(frozen=True)
class _Scores:
    """Distributions of the scores of strangers, and of one person."""

    location: float  # of a Gumbel distribution
    scale: float
    center: float  # of a normal distribution
    spread: float
    share: float  # of linked identities

    def odds(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logarithm of the odds of one person, without its monotony."""
        gumbel = (scores - self.location) / self.scale
        normal = (scores - self.center) / self.spread
        strangers = -gumbel - np.exp(-gumbel) - np.log(self.scale)
        one = -0.5 * normal**2 - np.log(self.spread * np.sqrt(2 * np.pi))
        return np.log(self.share / (1 - self.share)) + one - strangers

    def probability(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of one person, which grows with the score.

        Below the usual scores of strangers a normal distribution would have the heavier
        tail, so the odds fall there as they do for an exponential one.
        """
        start = self.location + self.scale
        grid = np.linspace(start, max(start, float(scores.max(initial=start))), 1000)
        odds = np.maximum.accumulate(self.odds(grid))
        found = np.interp(scores, grid, odds)
        found -= np.maximum(start - scores, 0) / self.scale
        return np.asarray(1 / (1 + np.exp(-np.clip(found, -50, 50))))

    def likelier_strangers(self, score: float) -> bool:
        """Return whether a score is likelier between strangers than within identities.

        Half of the identities would be linked.
        """
        even = replace(self, share=0.5)
        return bool(even.probability(np.array([score]))[0] < 0.5)


def link_identities(
    space: Space, nearest: Nearest, excluded: NDArray[np.bool_] | None = None
) -> list[Link]:
    """Link each identity with those that it is nearest to.

    Parameters
    ----------
    space : Space
        Embeddings and labels of N images.
    nearest : Nearest
        The nearest strangers of each image.
    excluded : ndarray of bool, optional
        Images that are no witnesses, shape (N,).

    Returns
    -------
    list of Link
        The most probable first. No image is a witness in more than two of those at the
        top: further links of it are measured without it.
    """
    usable = np.ones(len(space), dtype=bool) if excluded is None else ~excluded
    density = _Density(space, nearest)
    measured = [
        link
        for pair in _candidates(space, nearest, density, usable)
        if (link := _measure(space, density, usable, *pair)) is not None
    ]
    scores = _fit(space, density, measured)
    measured = _with_probability(_by_score(measured), scores)
    return _with_few_witnesses(space, density, usable, measured, scores)


class _Density:
    """Mean nearness of images to their nearest strangers."""

    def __init__(self, space: Space, nearest: Nearest) -> None:
        known = nearest.others[:, :_DENSITY] != UNKNOWN
        near = np.where(known, nearest.others_nearness[:, :_DENSITY], 0.0)
        self.values = near.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        self._space = space
        self.own = self._own()

    def corrected(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Correct the nearness of images to images, shape (rows, columns)."""
        density = self.values[rows][:, None] + self.values[columns]
        return self._space.nearness(rows, columns) - _WEIGHT / 2 * density

    def _own(self) -> NDArray[np.float64]:
        """Return the corrected nearness to the nearest other of one's own identity."""
        own = np.full(len(self._space), np.nan)
        for code, members in enumerate(self._space.members):
            if len(members) < 2:
                continue
            compared = self._space.some_members(code)
            for rows in np.array_split(members, -(-len(members) // _ROWS)):
                near = self.corrected(rows, compared)
                near[rows[:, None] == compared] = -np.inf
                own[rows] = near.max(axis=1)
        return own


def _candidates(
    space: Space, nearest: Nearest, density: _Density, usable: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """List the pairs of each identity with those that its images are nearest to."""
    valid = (nearest.others != UNKNOWN) & usable[nearest.others] & usable[:, None]
    valid &= space.identities[:, None] != UNKNOWN
    images, places = np.nonzero(valid)
    if len(images) == 0:
        return []
    partners = nearest.others[images, places]
    own, other = space.identities[images], space.identities[partners]
    both = density.values[images] + density.values[partners]
    scores = nearest.others_nearness[images, places] - _WEIGHT / 2 * both
    low, high = np.minimum(own, other), np.maximum(own, other)
    count = len(space.members)
    codes, groups = np.unique(low * count + high, return_inverse=True)
    best = np.full(len(codes), -np.inf)
    np.maximum.at(best, groups, scores)
    # Of each identity, the pairs with the highest scores.
    ends = np.concatenate([codes // count, codes % count])
    pairs = np.concatenate([np.arange(len(codes))] * 2)
    order = np.lexsort((-best[pairs], ends))
    starts = np.searchsorted(ends[order], ends[order])
    chosen = np.unique(pairs[order][np.arange(len(order)) - starts < _PARTNERS])
    return [(int(code // count), int(code % count)) for code in codes[chosen]]


def _measure(
    space: Space,
    density: _Density,
    usable: NDArray[np.bool_],
    first: int,
    second: int,
) -> Link | None:
    """Measure the link of two identities; None without usable images."""
    members = space.some_members(first), space.some_members(second)
    corrected = density.corrected(*members)
    kept = [usable[images] for images in members]
    if not (kept[0].any() and kept[1].any()):
        return None
    scores = corrected[np.ix_(*kept)]
    rows, columns = (images[keep] for images, keep in zip(members, kept, strict=True))
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    few = min(_FEW, max(scores.shape))
    several = np.sort(scores, axis=None)[-few:].mean()
    witnesses = int(rows[row]), int(columns[column])
    return Link(
        first=first,
        second=second,
        witnesses=witnesses,
        nearness=float(space.nearness(rows[[row]], columns[[column]])[0, 0]),
        score=float((1 - _SEVERAL) * scores.max() + _SEVERAL * several),
        probability=0.0,
        rest=_rest(density, members, corrected, witnesses),
        moved=UNKNOWN,
    )


def _rest(
    density: _Density,
    members: tuple[NDArray[np.int64], NDArray[np.int64]],
    corrected: NDArray[np.float64],
    witnesses: tuple[int, int],
) -> tuple[float, float]:
    """Return how near the rest of either identity is, to its witness or beyond."""
    found = []
    for images, near, witness in zip(
        members, (corrected, corrected.T), witnesses, strict=True
    ):
        others = near[images != witness]
        nearest = float(others.max()) if len(others) else np.nan
        found.append(max(nearest, float(density.own[witness])))
    return found[0], found[1]


def _fit(space: Space, density: _Density, links: list[Link]) -> _Scores | None:
    """Estimate the distributions of scores; None if there are too few of them."""
    found: list[list[float]] = [[] for _ in space.members]
    for link in links:
        found[link.first].append(link.score)
        found[link.second].append(link.score)
    ranked = [sorted(scores, reverse=True) for scores in found if scores]
    best = np.array([scores[0] for scores in ranked])
    genuine = density.own[np.isfinite(density.own)]
    gaps = [
        (rank + 1) * (scores[rank] - scores[rank + 1])
        for scores in ranked
        for rank in range(1, min(_PARTNERS, len(scores)) - 1)
    ]
    seconds = np.array([scores[1] for scores in ranked if len(scores) > 1])
    if len(seconds) < _LEAST_IDENTITIES or len(genuine) < _LEAST_GENUINE or not gaps:
        return None
    center = float(np.median(genuine))
    least = 1e-6 * max(1.0, abs(center))
    # The best of strangers is the second best and an exponential distance.
    strangers = seconds[:, None] - max(float(np.mean(gaps)), least) * np.log(_STEPS)
    low, high = np.quantile(strangers, (_LOW, _HIGH))
    places = [-np.log(-np.log(quantile)) for quantile in (_LOW, _HIGH)]
    scale = max(float(high - low) / (places[1] - places[0]), least)
    spread = max(float(np.quantile(np.abs(genuine - center), _WITHIN)), least)
    location = float(low) - scale * places[0]
    fitted = _Scores(location, scale, center, spread, _SHARE)
    for _ in range(_ROUNDS):
        linked = np.where(best > location + scale, fitted.probability(best), 0.0)
        share = float(np.clip(linked.mean(), 0.5 / len(best), _MOST_LINKED))
        if abs(share - fitted.share) < 1e-6:
            break
        fitted = replace(fitted, share=share)
    return fitted


def _by_score(links: list[Link]) -> list[Link]:
    return sorted(links, key=lambda link: (-link.score, link.first, link.second))


def _with_probability(links: list[Link], scores: _Scores | None) -> list[Link]:
    if scores is None or not links:
        return links
    found = scores.probability(np.array([link.score for link in links]))
    return [
        replace(link, probability=float(p), moved=_moved(link, scores))
        for link, p in zip(links, found, strict=True)
    ]


def _moved(link: Link, scores: _Scores) -> int:
    """Return the witness that belongs to the other identity, or UNKNOWN.

    The rest of its identity is as near as strangers are.
    """
    rest = np.array(link.rest)
    if np.isnan(rest).all():
        return UNKNOWN
    place = int(np.nanargmin(rest))
    is_stranger = rest[place] < link.score and scores.likelier_strangers(rest[place])
    return link.witnesses[place] if is_stranger else UNKNOWN


def _with_few_witnesses(
    space: Space,
    density: _Density,
    usable: NDArray[np.bool_],
    links: list[Link],
    scores: _Scores | None,
) -> list[Link]:
    """Measure links without images that are witnesses of two better ones."""
    seen: dict[int, int] = {}
    kept: list[Link] = []
    for link in links:
        used = [w for w in link.witnesses if seen.get(w, 0) >= _MOST_WITNESSED]
        if used:
            others = usable.copy()
            others[[image for image, n in seen.items() if n >= _MOST_WITNESSED]] = False
            again = _measure(space, density, others, link.first, link.second)
            if again is None or again.score > link.score:
                continue
            link = _with_probability([again], scores)[0]
        for witness in link.witnesses:
            seen[witness] = seen.get(witness, 0) + 1
        kept.append(link)
    return _by_score(kept)
