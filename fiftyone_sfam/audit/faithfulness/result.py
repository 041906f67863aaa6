"""The result of a check of faithfulness, in figures and sentences."""

from __future__ import annotations

import math
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fiftyone_sfam.audit.faithfulness.curves import (
    Curves,
    area,
    decision_estimate,
    mean_estimate,
    ratio_estimate,
    verification_accuracy,
)
from fiftyone_sfam.audit.statistics.bootstrap import Estimate
from fiftyone_sfam.data.notebook import PlottedResult
from fiftyone_sfam.retrieval.pairs import TRUE_MATCH, UNLABELED
from fiftyone_sfam.runs.map_check import (
    FEWEST_QUERIES,
    KindCheck,
    MapCheck,
    renew_check,
)
from fiftyone_sfam.runs.results import restore
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import SCALES

RESULT = "faithfulness"
"""Name of the stored result."""

PATH, SCALED, EVIDENCE, SFAM = "path", "path of several scales", "evidence", "sfam"
ACTIVATION, CENTER, CHANCE = "plain activation", "centre prior", "random"
NAMES = {SCALES: SCALED}
"""Maps that runs store under other names."""

BASELINES = (ACTIVATION, CENTER, CHANCE)
"""Maps that every check includes for comparison."""

DECIDED_AT = 0.3
"""Fraction of hidden or shown pixels at which decisions are compared."""

_SIDES = {"query": "the query", "gallery": "the neighbor", "both": "both images"}
ALL_FILLS: Final = "all"
"""Stands for all fills."""

_FILLS = {
    "blur": "blurred",
    "mean": "hidden by its mean color",
    "inpaint": "filled in",
    "patches": "covered by another image",
}
_SETTINGS = (
    *("kind", "side", "fills", "model", "layer", "threshold", "seed"),
    *("names", "skipped", "sentence"),
)
_COLUMNS = (
    *("pairs", "queries", "outcome", "deletion", "insertion", "by_fill", "rank"),
    *("specificity", "stability", "remainder"),
)


@dataclass(frozen=True, kw_only=True)
class MapFigures:
    """Figures of one kind of map.

    Attributes
    ----------
    name : str
        The map.
    margin : Estimate
        Area under insertion minus area under deletion, in units of the similarity; the
        mean over fills.
    by_fill : dict of str to Estimate
        The same under each fill.
    over_chance, over_activation : Estimate
        Mean effect of the map's order, relative to random maps and to the plain
        activation, see :meth:`Faithfulness.effects`.
    decisions : Estimate
        Area under the balanced verification accuracy at the threshold of original
        images, while the first pixels are hidden step by step, from none to all: the
        mean accuracy, over fills as well. Smaller is better. Without labels, NaN.
    accuracy_hidden, accuracy_shown : float
        Balanced verification accuracy with the first :data:`DECIDED_AT` of the pixels
        hidden or shown. NaN without labels.
    rank_kept : float
        Fraction of the true matches of rank 1 that keep it with these pixels hidden.
    specificity : float
        Mean correlation of maps towards two partners; 1 for maps that ignore the
        partner.
    stability : float
        Mean correlation with the maps of the image with a little noise.
    remainder : float
        Mean magnitude of the score's part that is not on the map, relative to the
        score. NaN for maps that do not add up to the score.
    """

    name: str
    margin: Estimate
    by_fill: dict[str, Estimate]
    decisions: Estimate
    over_chance: Estimate
    over_activation: Estimate
    accuracy_hidden: float
    accuracy_shown: float
    rank_kept: float
    specificity: float
    stability: float
    remainder: float


@dataclass(frozen=True, kw_only=True)
class Faithfulness(PlottedResult):
    """Similarities of P pairs while images are masked in the order of K maps.

    Attributes
    ----------
    kind : str
        The map that the run shows and that the verdict is about.
    names : tuple of str
        The maps, including the baselines.
    side : {"query", "gallery", "both"}
        Masked images.
    fills : tuple of {"blur", "mean", "inpaint", "patches"}
        How pixels were hidden, F ways.
    model, layer : str
        The network, and the layer of its maps.
    threshold : float
        Similarity of equal errors of original images; NaN without labels.
    pairs, queries : ndarray of int64
        The pairs and their query items, shape (P,).
    outcome : ndarray of int8
        Index into :data:`fiftyone_sfam.retrieval.pairs.OUTCOMES`, shape (P,).
    deletion, insertion : ndarray of float32
        Similarities, the mean over fills, shape (K, P, T + 1).
    by_fill : ndarray of float32
        Similarities under each fill, of deletion and insertion, shape
        (F, 2, K, P, T + 1).
    rank : ndarray of int32
        Rank of the partner among other identities under deletion with the first fill,
        shape (K, P, T + 1).
        0 if the pair is not a true match, or the query is not the only masked image.
    specificity, stability, remainder : ndarray of float64
        As in :class:`MapFigures`, shape (K,).
    skipped : dict of int to str
        Reason for each item that could not be masked.
    seed : int
        Seed of all draws.
    """

    kind: str
    names: tuple[str, ...]
    side: str
    fills: tuple[str, ...]
    model: str
    layer: str
    threshold: float
    pairs: NDArray[np.int64]
    queries: NDArray[np.int64]
    outcome: NDArray[np.int8]
    deletion: NDArray[np.float32]
    insertion: NDArray[np.float32]
    by_fill: NDArray[np.float32]
    rank: NDArray[np.int32]
    specificity: NDArray[np.float64]
    stability: NDArray[np.float64]
    remainder: NDArray[np.float64]
    skipped: dict[int, str]
    seed: int

    def __len__(self) -> int:
        return len(self.pairs)

    def curves(self, name: str) -> Curves:
        """Return the curves of one map, each of shape (P, T + 1)."""
        index = self.names.index(name)
        return Curves(
            self.deletion[index].astype(np.float64),
            self.insertion[index].astype(np.float64),
        )

    def curves_of_fill(self, name: str, fill: str) -> Curves:
        """Return the curves of one map under one fill, each of shape (P, T + 1)."""
        number, index = self.fills.index(fill), self.names.index(name)
        deletion, insertion = self.by_fill[number, :, index].astype(np.float64)
        return Curves(deletion, insertion)

    def effects(self, name: str) -> NDArray[np.float64]:
        """Return the mean change of the similarity along both curves, shape (P,).

        Deletion counts down from the original image, insertion up from the hidden
        image. The effect of a random order is about the difference of the two
        similarities. That of a perfect order is twice the difference.
        """
        curves = self.curves(name)
        fallen = curves.deletion[:, 0] - area(curves.deletion)
        risen = area(curves.insertion) - curves.insertion[:, 0]
        return np.asarray(fallen + risen)

    @cached_property
    def figures(self) -> tuple[MapFigures, ...]:
        """Figures of all maps, the largest margin first."""
        figures = [self._measure(index) for index in range(len(self.names))]
        return tuple(sorted(figures, key=lambda of_map: -of_map.margin.value))

    def figures_of(self, name: str) -> MapFigures:
        """Return the figures of one map."""
        return next(figures for figures in self.figures if figures.name == name)

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """The verdict in sentences."""
        sentences = (
            self._verdict(),
            self._center_sentence(),
            self._best_sentence(),
            self._fill_sentence(),
        )
        return tuple(filter(None, sentences))

    @property
    def sentence(self) -> str:
        """The verdict in one paragraph."""
        return " ".join(self.sentences)

    def _verdict(self) -> str:
        figures = self.figures_of(self.kind)
        chance, activation = figures.over_chance, figures.over_activation
        start = f"On this model, the {self.kind} maps "
        if math.isnan(chance.value) or math.isnan(activation.value):
            return (
                f"{start}cannot be judged: hiding whole images hardly lowers the "
                f"similarity of these {len(self):,} pairs."
            )
        return (
            f"{start}find what matters {_times(chance, 'chance')}, and "
            f"{_times(activation, 'a map that ignores the partner')}; {len(self):,} "
            f"pairs, {_SIDES[self.side]} {self._filled} step by step."
        )

    @property
    def _filled(self) -> str:
        """Say how pixels are hidden."""
        if len(self.fills) == 1:
            return _FILLS[self.fills[0]]
        ways = [_FILLS[fill] for fill in self.fills]
        return f"{', '.join(ways[:-1])} or {ways[-1]}"

    def _center_sentence(self) -> str:
        gain = self.gain(self.kind, CENTER)
        if gain.high < 0:
            return "A blob in the middle of the image does better."
        if not gain.low > 0:
            return (
                "They may not do better than a blob in the middle of the image: the "
                "difference is not significant."
            )
        return ""

    def _best_sentence(self) -> str:
        best = next(of.name for of in self.figures if of.name not in BASELINES)
        if best == self.kind or not self.gain(best, self.kind).low > 0:
            return ""
        times = self.figures_of(best).over_chance.value
        return f"The maps '{best}' do better here: {times:.2f} x chance."

    def _fill_sentence(self) -> str:
        """Name the fills under which another map is significantly better."""
        names = [of.name for of in self.figures if of.name not in BASELINES]
        others = {}
        for fill in self.fills if len(self.fills) > 1 else ():
            best = max(names, key=lambda n: self.figures_of(n).by_fill[fill].value)
            if best != names[0] and self.gain(best, names[0], fill).low > 0:
                others[fill] = best
        if not others:
            return ""
        parts = [f"'{best}' with {fill}" for fill, best in others.items()]
        return (
            f"The fill decides: '{names[0]}' is first in the mean, but "
            f"{', '.join(parts)}."
        )

    def gain(self, name: str, reference: str, fill: str | None = None) -> Estimate:
        """Estimate by how much the margin of a map exceeds that of another."""
        first, second = (
            self.curves(one) if fill is None else self.curves_of_fill(one, fill)
            for one in (name, reference)
        )
        margins = first.margin - second.margin
        return mean_estimate(margins, self.queries, seed=self.seed)

    def _measure(self, index: int) -> MapFigures:
        name = self.names[index]
        hidden, shown = self._accuracies(index)
        return MapFigures(
            name=name,
            margin=mean_estimate(
                self.curves(name).margin, self.queries, seed=self.seed
            ),
            by_fill={
                fill: mean_estimate(
                    self.curves_of_fill(name, fill).margin,
                    self.queries,
                    seed=self.seed,
                )
                for fill in self.fills
            },
            decisions=self._decisions(index),
            over_chance=self._ratio(name, CHANCE),
            over_activation=self._ratio(name, ACTIVATION),
            accuracy_hidden=hidden,
            accuracy_shown=shown,
            rank_kept=self._rank_kept(index),
            specificity=float(self.specificity[index]),
            stability=float(self.stability[index]),
            remainder=float(self.remainder[index]),
        )

    def _ratio(self, name: str, reference: str) -> Estimate:
        return ratio_estimate(
            self.effects(name), self.effects(reference), self.queries, seed=self.seed
        )

    @property
    def _step(self) -> int:
        return max(1, round(DECIDED_AT * (self.deletion.shape[2] - 1)))

    def _accuracies(self, index: int) -> tuple[float, float]:
        known = self.outcome != UNLABELED
        genuine = self.outcome[known] == TRUE_MATCH
        if math.isnan(self.threshold) or genuine.all() or not genuine.any():
            return float("nan"), float("nan")
        scores = self.by_fill[:, :, index][:, :, known, self._step]
        hidden, shown = (
            verification_accuracy(of_curve.T, genuine, self.threshold).mean()
            for of_curve in scores.swapaxes(0, 1)
        )
        return float(hidden), float(shown)

    def _decisions(self, index: int) -> Estimate:
        known = self.outcome != UNLABELED
        if math.isnan(self.threshold):
            return Estimate()
        accepted = self.by_fill[:, 0, index][:, known] >= self.threshold
        return decision_estimate(
            accepted.mean(axis=0),
            self.outcome[known] == TRUE_MATCH,
            self.queries[known],
            seed=self.seed,
        )

    def _rank_kept(self, index: int) -> float:
        first = self.rank[index, :, 0] == 1
        if not first.any():
            return float("nan")
        return float((self.rank[index, first, self._step] == 1).mean())


def load_faithfulness(run: Run) -> Faithfulness | None:
    """Read the stored check of a run.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    Faithfulness or None
        None if there is none.
    """
    result = run.results.load(RESULT)
    if result is None:
        return None
    skipped = {int(item): reason for item, reason in result.config["skipped"].items()}
    values = {**result.config, **result.arrays, "skipped": skipped}
    if "fills" not in values:  # An earlier version had one.
        values["fills"] = (values["fill"],)
        values["by_fill"] = np.stack([values["deletion"], values["insertion"]])[None]
    return restore(Faithfulness, values)


def save_faithfulness(run: Run, result: Faithfulness) -> None:
    """Store a check with its run.

    If it is about the mean over all fills, and has enough queries, it takes the place
    of the check that the run has made of a few of its pairs.
    """
    config = {
        **{name: getattr(result, name) for name in _SETTINGS},
        "figures": [asdict(figures) for figures in result.figures],
    }
    run.results.save(RESULT, config, {name: getattr(result, name) for name in _COLUMNS})
    enough = len(np.unique(result.queries)) >= FEWEST_QUERIES
    if len(result.fills) == len(_FILLS) and enough:
        renew_check(run, _map_check(run, result))


def _map_check(run: Run, result: Faithfulness) -> MapCheck:
    """Return what a check says of the kinds of map that a run stores."""
    names = {kind: NAMES.get(kind, kind) for kind in run.config.kinds}
    kinds = tuple(_kind_check(result, kind, name) for kind, name in names.items())
    best = next(f.name for f in result.figures if f.name in names.values())
    (best_kind,) = (kind for kind, name in names.items() if name == best)
    is_better = result.gain(best, names[kinds[0].kind]).low > 0
    return MapCheck(
        kinds=kinds,
        pairs=len(result),
        queries=len(np.unique(result.queries)),
        best=best_kind if is_better else None,
    )


def _kind_check(result: Faithfulness, kind: str, name: str) -> KindCheck:
    chance = astuple(result.figures_of(name).over_chance)
    return KindCheck(
        kind=kind,
        chance=chance if np.isfinite(chance).all() else None,
        gain=astuple(result.gain(name, CENTER)),
        center=result.figures_of(CENTER).margin.value,
    )


def _times(ratio: Estimate, reference: str) -> str:
    """Say what a ratio is, and whether it is above 1."""
    interval = ""
    if not math.isnan(ratio.low):
        interval = f" (95 % interval {ratio.low:.2f} to {ratio.high:.2f})"
    if ratio.low > 1:
        return f"{ratio.value:.2f} x better than {reference}{interval}"
    text = f"{ratio.value:.2f} x as well as {reference}{interval}"
    if ratio.high < 1:
        return f"{text}, which is worse"
    return f"{text}, which is not significantly better"
