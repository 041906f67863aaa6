"""Measure maps on a small sample of pairs, for a run that checks or chooses its own.

Each query is masked once, with 21 % or 79 % of its pixels and under one of the fills.
These take turns: the mean over queries is then the mean over fills, and the area
between the curves by the rule of Gauss and Legendre with two points, at a small part of
the passes of a whole curve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    hide,
    pixel_ranks,
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
from fiftyone_sfam.network.heads import LinearizedHead
from fiftyone_sfam.network.metric import Metric, similarity
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

SHARES = ((1 - 3**-0.5) / 2, (1 + 3**-0.5) / 2)
"""Shares of the pixels that are hidden or shown: the points of the rule."""


def passes_per_query(maps: int) -> int:
    """Return the passes that masking an image in the order of some maps takes."""
    original_and_hidden = 2
    return original_and_hidden + 2 * (maps + len(BASELINES))


def whole_turns(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first of some pairs, so that each fill and share has as many."""
    turn = len(FILLS) * len(SHARES)
    return pairs[: len(pairs) // turn * turn]


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
        head: LinearizedHead,
        model: EmbeddingModel,
        image: Tensor,
        partner: Tensor,
        maps: Mapping[str, Tensor],
        hiding: Hiding,
    ) -> None:
        """Mask a query.

        Parameters
        ----------
        query : int
            Number of the query.
        head : LinearizedHead
            The image at the layer of the plain activation.
        model : EmbeddingModel
            The network.
        image : Tensor
            Prepared image, shape (3, H, W).
        partner : Tensor
            Embedding of the other image, shape (D,).
        maps : mapping of str to Tensor
            Maps toward the partner, any resolution, shape (h, w).
        hiding : Hiding
            How pixels are hidden.
        """
        size = (int(image.shape[-2]), int(image.shape[-1]))
        shape = (int(head.feature_map.shape[2]), int(head.feature_map.shape[3]))
        ranked = {
            **{name: values[None] for name, values in maps.items()},
            ACTIVATION: plain_activation(head.feature_map),
            CENTER: center_prior(size)[None],
            CHANCE: random_maps(1, shape, self.seed + query),
        }
        stacked = [upsample(one.detach().cpu(), size) for one in ranked.values()]
        ranks = pixel_ranks(torch.cat(stacked), size, self.seed)
        first = ranks < round(hiding.share * size[0] * size[1])
        masks = torch.cat([torch.ones_like(first[:1]), first, ~first]).to(image.device)
        embeddings = torch.cat(
            [
                model.embed(hide(image, some, hiding.fill, hiding.other)).float().cpu()
                for some in masks.split(self.batch_size)
            ]
        )
        embeddings = torch.cat([head.embedding.detach().float().cpu(), embeddings])
        scores = similarity(embeddings.double(), partner.double(), self.metric).numpy()
        # Without a similarity, say of a hidden image that is embedded as zero, none of
        # the figures is known.
        if not np.isfinite(scores).all():
            return
        hidden, shown = scores[2:].reshape(2, -1)
        self._queries.append(query)
        self._margins.append(dict(zip(ranked, (shown - hidden).tolist(), strict=True)))
        self._spans.append(float(scores[0] - scores[1]))

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


@dataclass(frozen=True)
class Hiding:
    """How pixels of an image are hidden."""

    fill: Fill
    share: float
    other: Tensor | None  # image (3, H, W) whose patches hide them


def hiding_of(
    number: int,
    image_of: Callable[[int], Tensor],
    donors: Mapping[int, int],
    query: int,
) -> Hiding:
    """Choose how a query is hidden by its number in the sample.

    Without an image of another identity, whose patches hide it, it is blurred.
    """
    fill = FILLS[number % len(FILLS)]
    share = SHARES[number // len(FILLS) % len(SHARES)]
    if fill == PATCHES and query in donors:
        return Hiding(fill, share, image_of(donors[query]))
    return Hiding("blur" if fill == PATCHES else fill, share, None)


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
            f"it, which takes {100 * PASSES_SHARE:.0f} % of them: {needed:,} are needed"
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
    return whole_turns(pairs)


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
    read = item_reader(run, {*queries, *donors.values()})
    models = ItemModels(run, model, queries)
    vectors = torch.from_numpy(run.embeddings())

    def image_of(item: int) -> Tensor:
        return model.prepare(read(item)[0])

    stored = run.many_maps(pairs.tolist())
    for number, (query, partner, maps) in enumerate(
        zip(queries, partners, stored, strict=True)
    ):
        if maps.query is None or set(maps.query.maps) != set(run.config.kinds):
            continue
        try:
            image, one = image_of(query), models.of(query)
            hiding = hiding_of(number, image_of, donors, query)
            head = one.linearize(image[None])
            embedding = head.embedding[0].detach().float().cpu()
            check_embedding(embedding, vectors[query], sample.metric)
        except DataError:
            # The file is gone or has changed since it was explained.
            continue
        ranked = {kind: torch.from_numpy(v) for kind, v in maps.query.maps.items()}
        sample.add(query, head, one, image, vectors[partner], ranked, hiding)
