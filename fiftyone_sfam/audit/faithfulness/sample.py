"""Measure maps on a small sample of pairs, for a run that checks or chooses its own.

Each query is masked once, at half of its pixels, under one of the fills, which take
turns: the mean over queries is then the mean over fills, at a fourth of its passes.
Simpson's rule over the original image, the half-hidden and the hidden one gives the
area under a curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fiftyone_sfam.audit.faithfulness.curves import mean_estimate, ratio_estimate
from fiftyone_sfam.audit.faithfulness.maps import (
    center_prior,
    draw_donors,
    plain_activation,
    random_maps,
)
from fiftyone_sfam.audit.faithfulness.masks import (
    FILLS,
    PATCHES,
    Fill,
    masked_embeddings,
    similarity_curves,
    upsample,
)
from fiftyone_sfam.audit.faithfulness.result import (
    ACTIVATION,
    BASELINES,
    CENTER,
    CHANCE,
)
from fiftyone_sfam.audit.regions.causal import check_embedding
from fiftyone_sfam.audit.regions.images import item_reader
from fiftyone_sfam.audit.statistics.bootstrap import Estimate
from fiftyone_sfam.data.text import counted
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import Metric
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH
from fiftyone_sfam.runs.images import ItemModels
from fiftyone_sfam.runs.map_check import (
    FEWEST_QUERIES,
    PASSES_SHARE,
    KindCheck,
    MapCheck,
)
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_config import FALSE_RANK1

QUERIES = 100
"""Queries of the largest sample."""

# A curve has its two ends and the middle.
_STEPS = 2


def passes_per_query(maps: int) -> int:
    """Return the passes that masking an image in the order of some maps takes."""
    ends_and_layer = 3
    return ends_and_layer + 2 * (_STEPS - 1) * (maps + len(BASELINES))


@dataclass
class Sample:
    """Pairs whose queries were masked in the order of several maps.

    Attributes
    ----------
    metric : {"cosine", "euclidean"}
        The similarity.
    batch_size : int
        Images per forward pass.
    seed : int
        Seed of the random maps and of all draws.
    """

    metric: Metric
    batch_size: int = 32
    seed: int = 0
    _queries: list[int] = field(default_factory=list)
    _margins: list[dict[str, float]] = field(default_factory=list)
    _spans: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._queries)

    def add(
        self,
        query: int,
        model: EmbeddingModel,
        image: Tensor,
        partner: Tensor,
        maps: Mapping[str, Tensor],
        fill: Fill,
        other: Tensor | None,
    ) -> None:
        """Mask a query.

        Parameters
        ----------
        query : int
            Number of the query.
        model : EmbeddingModel
            The network, at the layer of the plain activation.
        image : Tensor
            Prepared image, shape (3, H, W).
        partner : Tensor
            Embedding of the other image, shape (D,).
        maps : mapping of str to Tensor
            Maps toward the partner, any resolution, shape (h, w).
        fill : {"blur", "mean", "inpaint", "patches"}
            How pixels are hidden.
        other : Tensor or None
            Image whose patches hide them, shape (3, H, W).
        """
        size = (int(image.shape[-2]), int(image.shape[-1]))
        feature_map = model.linearize(image[None]).feature_map
        shape = (int(feature_map.shape[2]), int(feature_map.shape[3]))
        ranked = {
            **{name: values[None] for name, values in maps.items()},
            ACTIVATION: plain_activation(feature_map),
            CENTER: center_prior(size)[None],
            CHANCE: random_maps(1, shape, self.seed + query),
        }
        masked = masked_embeddings(
            model.embed,
            image,
            torch.cat([upsample(one.detach().cpu(), size) for one in ranked.values()]),
            steps=_STEPS,
            fill=fill,
            other=other,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        curves = similarity_curves(masked, partner.expand(len(ranked), -1), self.metric)
        hidden, shown = curves.deletion, curves.insertion
        # Without a similarity, say of a hidden image that is embedded as zero, none of
        # the figures is known.
        if not (np.isfinite(hidden).all() and np.isfinite(shown).all()):
            return
        margins = (_area(shown) - _area(hidden)).tolist()
        self._queries.append(query)
        self._margins.append(dict(zip(ranked, margins, strict=True)))
        self._spans.append(float(hidden[0, 0] - hidden[0, -1]))

    @property
    def names(self) -> tuple[str, ...]:
        """The maps, with the baselines; empty without queries."""
        return tuple(self._margins[0]) if self._margins else ()

    def margin(self, name: str) -> Estimate:
        """Estimate the margin of insertion over deletion of a map."""
        return mean_estimate(self._column(name), self._numbers, seed=self.seed)

    def gain(self, name: str, reference: str) -> Estimate:
        """Estimate by how much the margin of a map exceeds that of another."""
        difference = self._column(name) - self._column(reference)
        return mean_estimate(difference, self._numbers, seed=self.seed)

    def over_chance(self, name: str) -> Estimate:
        """Estimate the effect of a map's order relative to a random one."""
        spans = np.array(self._spans)
        return ratio_estimate(
            spans + self._column(name),
            spans + self._column(CHANCE),
            self._numbers,
            seed=self.seed,
        )

    def best(self, names: Sequence[str]) -> str:
        """Return the best of several maps; the first unless another is certainly so."""
        first = names[0]
        better = [name for name in names[1:] if self.gain(name, first).low > 0]
        return max(better, key=lambda name: self.margin(name).value, default=first)

    @property
    def _numbers(self) -> NDArray[np.int64]:
        return np.array(self._queries, dtype=np.int64)

    def _column(self, name: str) -> NDArray[np.float64]:
        return np.array([margins[name] for margins in self._margins])


def _area(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the area under curves of three points by Simpson's rule."""
    return np.asarray(curves @ np.array([1, 4, 1]) / 6)


def fills_of(donors: Mapping[int, int], queries: Sequence[int]) -> tuple[Fill, ...]:
    """Return the fills that all queries can be hidden by."""
    if all(query in donors for query in queries):
        return FILLS
    return tuple(fill for fill in FILLS if fill != PATCHES)


# --------------------------------------------------------------------------------------
# The check of a run
# --------------------------------------------------------------------------------------


def check_stored_maps(
    run: Run,
    model: EmbeddingModel,
    passes: int,
    *,
    batch_size: int = 32,
    seed: int = 0,
) -> MapCheck:
    """Measure the maps that a run stores on a sample of its pairs.

    Parameters
    ----------
    run : Run
        The run; it need not be finished, but its maps are stored.
    model : EmbeddingModel
        The run's model, at the run's layer.
    passes : int
        Passes of images through the network that the run took. The check takes at most
        a twentieth of them.
    batch_size : int
        Images per forward pass.
    seed : int
        Seed of all draws.

    Returns
    -------
    MapCheck
        Without figures if the sample would be too small to say anything.
    """
    kinds = run.config.kinds
    per_query = passes_per_query(len(kinds))
    affordable = int(PASSES_SHARE * passes) // per_query
    if affordable < FEWEST_QUERIES:
        needed = ceil(FEWEST_QUERIES * per_query / PASSES_SHARE)
        return MapCheck(
            reason=f"a run of {passes:,} passes through the network is too small for "
            f"it, which takes {PASSES_SHARE:.0%} of them and at least {needed:,}"
        )
    pairs = _drawn_pairs(run, min(affordable, QUERIES), seed)
    sample, names = Sample(run.config.metric, batch_size, seed), list(kinds)
    _mask(run, model, pairs, sample)
    if len(sample) < FEWEST_QUERIES:
        found = counted(len(sample), "pair")
        return MapCheck(
            reason=f"{found} could be masked, and {FEWEST_QUERIES} are needed"
        )
    best = sample.best(names)
    return MapCheck(
        kinds=tuple(_kind_check(sample, kind) for kind in names),
        pairs=len(sample),
        queries=len(sample),
        best=None if best == names[0] else best,
    )


def _kind_check(sample: Sample, kind: str) -> KindCheck:
    chance = astuple(sample.over_chance(kind))
    return KindCheck(
        kind=kind,
        chance=chance if np.isfinite(chance).all() else None,
        gain=astuple(sample.gain(kind, CENTER)),
        center=sample.margin(CENTER).value,
    )


def _drawn_pairs(run: Run, count: int, seed: int) -> NDArray[np.int64]:
    """Draw queries, each with its nearest neighbor; of a list, with its nearest."""
    first = run.pairs.rank == 1
    if run.config.path_kinds and run.config.path_pairs == FALSE_RANK1:
        first &= run.pairs.outcome == FALSE_MATCH
    pairs = np.random.default_rng(seed).permutation(np.flatnonzero(first))[:count]
    # Each fill has as many.
    return pairs[: len(pairs) // len(FILLS) * len(FILLS)]


def _mask(
    run: Run, model: EmbeddingModel, pairs: NDArray[np.int64], sample: Sample
) -> None:
    """Mask the queries of pairs in the order of their stored maps."""
    queries, partners = (
        np.asarray(column)[pairs].tolist()
        for column in (run.pairs.query, run.pairs.gallery)
    )
    usable = np.ones(len(run.items), dtype=bool)
    usable[[image.index for image in run.skipped]] = False
    involved = {q: [q, p] for q, p in zip(queries, partners, strict=True)}
    donors = draw_donors(run.items.identities, usable, involved, sample.seed)
    fills = fills_of(donors, queries)
    read = item_reader(run, {*queries, *donors.values()})
    models, vectors = (
        ItemModels(run, model, queries),
        torch.from_numpy(run.embeddings()),
    )
    stored = run.many_maps(pairs.tolist())
    for number, (query, partner, maps) in enumerate(
        zip(queries, partners, stored, strict=True)
    ):
        if maps.query is None or set(maps.query.maps) != set(run.config.kinds):
            continue
        fill = fills[number % len(fills)]
        try:
            image = model.prepare(read(query)[0])
            other = model.prepare(read(donors[query])[0]) if fill == PATCHES else None
            one = models.of(query)
            embedding = one.embed(image[None])[0].cpu()
            check_embedding(embedding, vectors[query], sample.metric)
        except DataError:
            # The file is gone or has changed since it was explained.
            continue
        ranked = {kind: torch.from_numpy(v) for kind, v in maps.query.maps.items()}
        sample.add(query, one, image, vectors[partner], ranked, fill, other)
