"""Check how faithful the maps are for a model and its images.

A sample of a run's pairs is explained again. The images are hidden and shown in the
order of each map, and the network measures the effect on the similarity. Three
baselines are included: random maps, a blob in the middle of the image, and the plain
activation, which ignores the partner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fiftyone_sfam.audit.faithfulness.maps import ImageMasker, at_layer
from fiftyone_sfam.audit.faithfulness.masks import (
    FILLS,
    STEPS,
    Fill,
    MaskedEmbeddings,
    check_steps,
    equal_error_threshold,
    partner_ranks,
    similarity_curves,
)
from fiftyone_sfam.audit.faithfulness.result import (
    ALL_FILLS,
    EVIDENCE,
    NAMES,
    Faithfulness,
    save_faithfulness,
)
from fiftyone_sfam.audit.regions.causal import check_model
from fiftyone_sfam.audit.statistics.bootstrap import check_seed
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.models.wrap import ModelLike, as_model
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import Metric, similarity
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, GALLERY, QUERY, TRUE_MATCH
from fiftyone_sfam.runs.run import Run

Sides = Literal["query", "gallery", "both"]
SIDES: tuple[Sides, ...] = ("query", "gallery", "both")
PAIRS = 100
PHASE = "masking"
AUTO = "auto"
"""Use the last layer of each resolution."""


def check_faithfulness(
    run: Run,
    model: ModelLike | None = None,
    pairs: int | Sequence[int] = PAIRS,
    *,
    side: Sides = "query",
    fill: Fill | Literal["all"] = ALL_FILLS,
    layers: Sequence[str] | str = (),
    steps: int = STEPS,
    batch_size: int = 32,
    seed: int = 0,
    save: bool = True,
    progress: bool | Progress | None = False,
) -> Faithfulness:
    """Mask images in the order of their maps and measure the similarity.

    Parameters
    ----------
    run : Run
        The run.
    model : EmbeddingModel, str, FiftyOne model, or torch.nn.Module, optional
        The model that the run was made with, or its name. By default, the model is
        loaded by the name that the run stores.
    pairs : int or sequence of int
        Number of pairs to draw, or the pairs. Queries are drawn at random. Each adds
        its nearest neighbor and, if stored, the nearest one with the opposite outcome.
    side : {"query", "gallery", "both"}
        Images to mask.
    fill : {"all", "blur", "mean", "inpaint", "patches"}
        How pixels are hidden: blurred, in the mean color of the image, filled in
        smoothly from the pixels around them, or by the same places of an image of
        another identity. By default the figures are means over all four, each of which
        takes as many passes through the network.
    layers : sequence of str or "auto"
        Further layers at which the evidence is computed. ``"auto"`` uses the last layer
        of each resolution. See :func:`best_layer`.
    steps : int
        Steps of a curve, at least 2.
    batch_size : int
        Images per forward pass.
    seed : int
        Seed of all draws.
    save : bool
        Store the check as the run's result ``"faithfulness"``. With all fills and 16
        queries or more, it also renews :attr:`fiftyone_sfam.Run.map_check`.
    progress : bool or callable, optional
        As for :func:`fiftyone_sfam.explain_retrieval`; counts images.

    Returns
    -------
    Faithfulness
        Curves, figures with intervals over queries, and a verdict in words.

    Raises
    ------
    ModelError
        If the model's weights are not those of the run.
    DataError
        If an option is invalid, or no pair can be checked.
    """
    if side not in SIDES:
        raise DataError(f"unknown side {side!r}; use one of {', '.join(SIDES)}.")
    if fill not in (ALL_FILLS, *FILLS):
        raise DataError(
            f"unknown fill {fill!r}; use one of {', '.join((ALL_FILLS, *FILLS))}."
        )
    check_steps(steps)
    check_seed(seed)
    masker = ImageMasker(
        run=run,
        model=model_of(run, model),
        fills=FILLS if fill == ALL_FILLS else (fill,),
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        layers=layers,
    )
    chosen = _chosen_pairs(run, pairs, seed)
    sides = (QUERY, GALLERY) if side == "both" else (SIDES.index(side),)
    sides_of = _sides_by_item(run, chosen, sides)
    with reporting(progress) as report:
        for done in masker.mask(sides_of):
            if report is not None:
                report(done, len(sides_of), PHASE)
    result = _measure(run, masker, chosen, sides)
    if save:
        save_faithfulness(run, result)
    return result


def best_layer(result: Faithfulness) -> str:
    """Return the layer whose evidence is the most faithful in a check.

    Parameters
    ----------
    result : Faithfulness
        A check with further ``layers``.

    Returns
    -------
    str
        One of these layers, or the run's layer.
    """
    for figures in result.figures:
        if figures.name == EVIDENCE:
            break
        if figures.name.startswith(at_layer("")):
            return figures.name.removeprefix(at_layer(""))
    return result.layer


def _chosen_pairs(
    run: Run, wanted: int | Sequence[int], seed: int
) -> NDArray[np.int64]:
    """Draw pairs, or check the given ones."""
    table = run.pairs
    if not isinstance(wanted, int):
        given = np.unique(np.asarray(list(wanted), dtype=np.int64))
        if len(given) == 0 or given[0] < 0 or given[-1] >= len(table):
            raise DataError(
                f"the pairs of run '{run.key}' are numbered from 0 to "
                f"{len(table) - 1}; use some of these."
            )
        return given
    if wanted < 1:
        raise DataError(f"pairs is {wanted!r}; use a whole number from 1.")
    queries = np.unique(table.query)
    opposite = {TRUE_MATCH: FALSE_MATCH, FALSE_MATCH: TRUE_MATCH}
    drawn: list[int] = []
    for query in np.random.default_rng(seed).permutation(queries).tolist():
        pairs = table.of_query(query)
        outcomes = table.outcome[pairs]
        contrary = pairs[outcomes == opposite.get(int(outcomes[0]), -1)]
        drawn += [int(pairs[0]), *contrary[:1].tolist()]
        if len(drawn) >= wanted:
            break
    return np.sort(np.array(drawn[:wanted], dtype=np.int64))


def _sides_by_item(
    run: Run, pairs: NDArray[np.int64], sides: tuple[int, ...]
) -> dict[int, list[int]]:
    """List the sides of pairs that each masked item is on."""
    items = run.pairs.sides()
    by_item: dict[int, list[int]] = {}
    for pair in pairs.tolist():
        for side in sides:
            item = int(items[2 * pair + side])
            by_item.setdefault(item, []).append(2 * pair + side)
    return by_item


# --------------------------------------------------------------------------------------
# Measuring
# --------------------------------------------------------------------------------------


def _measure(
    run: Run, masker: ImageMasker, chosen: NDArray[np.int64], sides: tuple[int, ...]
) -> Faithfulness:
    """Turn masked embeddings into curves and ranks."""
    kept = [
        pair
        for pair in chosen.tolist()
        if all(2 * pair + side in masker.masked for side in sides)
    ]
    if not kept:
        raise DataError(
            "none of the pairs can be checked; the first image was skipped because: "
            f"{next(iter(masker.skipped.values()))}"
        )
    embeddings = torch.from_numpy(run.embeddings())
    metric: Metric = masker.model.metric
    table, items = run.pairs, run.pairs.sides()
    curves, ranks = [], []
    for pair in kept:
        of_pair = []
        for number, masked in enumerate(masker.masked[2 * pair + sides[0]]):
            partners: Tensor | MaskedEmbeddings
            if len(sides) == 2:
                partners = masker.masked[2 * pair + 1][number]
            else:
                partner = embeddings[items[2 * pair + (1 - sides[0])]]
                partners = partner.expand(len(masker.names), -1)
            of_fill = similarity_curves(masked, partners, metric)
            of_pair.append((of_fill.deletion, of_fill.insertion))
        curves.append(of_pair)
        first = masker.masked[2 * pair + sides[0]][0]
        ranks.append(_ranks(run, first, pair, sides, embeddings, metric))
    # Fill, deletion or insertion, map, pair, step.
    by_fill = np.moveaxis(np.array(curves, dtype=np.float64), 0, 3)
    deletion, insertion = by_fill.mean(axis=0).astype(np.float32)
    return Faithfulness(
        kind=NAMES.get(run.config.kinds[0], run.config.kinds[0]),
        names=masker.names,
        side="both" if len(sides) == 2 else SIDES[sides[0]],
        fills=tuple(masker.fills),
        model=run.config.model,
        layer=run.config.layer,
        threshold=_threshold(run, table.query[kept], embeddings, metric),
        pairs=np.array(kept, dtype=np.int64),
        queries=table.query[kept].astype(np.int64),
        outcome=table.outcome[kept],
        deletion=deletion,
        insertion=insertion,
        by_fill=by_fill.astype(np.float32),
        rank=np.stack(ranks, axis=1).astype(np.int32),
        specificity=_mean(masker.specificity),
        stability=_mean(masker.stability),
        remainder=_mean(masker.remainder),
        skipped=masker.skipped,
        seed=masker.seed,
    )


def _ranks(
    run: Run,
    masked: MaskedEmbeddings,
    pair: int,
    sides: tuple[int, ...],
    embeddings: Tensor,
    metric: Metric,
) -> NDArray[np.int64]:
    """Return a true match's rank among other identities; zeros for other pairs."""
    if sides != (QUERY,) or run.pairs.outcome[pair] != TRUE_MATCH:
        return np.zeros(masked.deletion.shape[:2], dtype=np.int64)
    query, partner = int(run.pairs.query[pair]), int(run.pairs.gallery[pair])
    identities = np.array([str(name) for name in run.items.identities])
    candidates = run.items.is_gallery & (identities != identities[query])
    return np.stack(
        [
            partner_ranks(steps, embeddings, partner, candidates, metric)
            for steps in masked.deletion
        ]
    )


def _threshold(
    run: Run, queries: NDArray[np.integer], embeddings: Tensor, metric: Metric
) -> float:
    """Return the threshold of equal errors of the queries against the gallery."""
    identities = np.array([name or "" for name in run.items.identities])
    genuine, impostor = [], []
    for query in np.unique(queries).tolist():
        scores = similarity(embeddings[query], embeddings, metric).numpy()
        usable = run.items.is_gallery & (identities != "") & (identities[query] != "")
        usable[query] = False
        same = identities == identities[query]
        genuine.append(scores[usable & same])
        impostor.append(scores[usable & ~same])
    both = np.concatenate(genuine), np.concatenate(impostor)
    if min(map(len, both)) == 0:
        return float("nan")
    return equal_error_threshold(*both)


def _mean(rows: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Average known values over images; NaN if there are none."""
    values = np.stack(rows)
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def model_of(run: Run, model: ModelLike | None) -> EmbeddingModel:
    """Return the run's model, at the run's layer."""
    if model is None:
        from fiftyone_sfam.models import load_named

        # A stored name may come with a dataset from elsewhere.
        loaded = load_named(run.config.model)
    else:
        loaded = as_model(model)
    check_model(run, loaded)
    return loaded.with_layer(run.config.layer)
