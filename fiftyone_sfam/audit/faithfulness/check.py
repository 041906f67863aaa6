"""How far to trust the maps on a user's own model and images.

A sample of a run's pairs is explained anew, the images are hidden and shown in the
order of each map, and the network says what that does to the similarity. Beside the
maps stand three that know less: random ones, a blob in the middle, and the plain
activation, which ignores the partner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fiftyone_sfam.audit.faithfulness.lab import Lab
from fiftyone_sfam.audit.faithfulness.masks import (
    FILLS,
    STEPS,
    Fill,
    MaskedEmbeddings,
    equal_error_threshold,
    partner_ranks,
    similarity_curves,
)
from fiftyone_sfam.audit.faithfulness.result import Faithfulness
from fiftyone_sfam.audit.regions.causal import check_model
from fiftyone_sfam.audit.statistics.bootstrap import check_seed
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import Metric, similarity
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.retrieval.pairs import FALSE_MATCH, GALLERY, QUERY, TRUE_MATCH
from fiftyone_sfam.runs.run import Run

RESULT = "faithfulness"
"""Name of the stored result."""

Sides = Literal["query", "gallery", "both"]
SIDES: tuple[Sides, ...] = ("query", "gallery", "both")
PAIRS = 100
PHASE = "masking"
AUTO = "auto"
"""Stands for the last layer of each resolution."""

_FACTS = ("kind", "side", "fill", "model", "layer", "threshold", "seed")
_COLUMNS = (
    "pairs",
    "queries",
    "outcome",
    "deletion",
    "insertion",
    "rank",
    "specificity",
    "stability",
    "remainder",
)


def check_faithfulness(
    run: Run,
    model: EmbeddingModel | str | None = None,
    pairs: int | Sequence[int] = PAIRS,
    *,
    side: Sides = "query",
    fill: Fill = "blur",
    layers: Sequence[str] | str = (),
    steps: int = STEPS,
    batch_size: int = 32,
    seed: int = 0,
    save: bool = True,
    progress: bool | Progress | None = False,
) -> Faithfulness:
    """Mask images in the order of their maps, and see what the similarity does.

    Parameters
    ----------
    run : Run
        The run.
    model : EmbeddingModel or str, optional
        The model that it was made with, or its name; None loads it by the run's.
    pairs : int or sequence of int
        How many pairs to draw, or which. Drawn queries bring their nearest neighbor
        and, where it is stored, their nearest neighbor of the other outcome.
    side : {"query", "gallery", "both"}
        Images that are masked.
    fill : {"blur", "mean", "inpaint"}
        What hides pixels.
    layers : sequence of str or "auto"
        Other layers to try the evidence at; ``"auto"`` takes the last layer of each
        resolution. See :func:`best_layer`.
    steps : int
        Steps of a curve, at least 2.
    batch_size : int
        Images per forward pass.
    seed : int
        Seed of all draws.
    save : bool
        Store the check as the run's result ``"faithfulness"``.
    progress : bool or callable, optional
        As for :func:`fiftyone_sfam.explain_retrieval`; counts images.

    Returns
    -------
    Faithfulness
        Curves, figures with intervals over queries, and a verdict in words.

    Raises
    ------
    ModelError
        If the model's weights are not the run's.
    DataError
        If an option cannot be used, or no pair can be checked.
    """
    _check_options(side, fill, steps)
    model = _model(run, model)
    check_seed(seed)
    chosen = _chosen_pairs(run, pairs, seed)
    sides = (QUERY, GALLERY) if side == "both" else (SIDES.index(side),)
    lab = Lab(run, model, fill, steps, batch_size, seed, layers)
    with reporting(progress) as report:
        jobs = _jobs(run, chosen, sides)
        for done in lab.work(jobs):
            if report is not None:
                report(done, len(jobs), PHASE)
    found = _measure(run, lab, chosen, sides)
    if save:
        _save(run, found)
    return found


def load_faithfulness(run: Run) -> Faithfulness | None:
    """Read the stored check of a run.

    Parameters
    ----------
    run : Run
        The run.

    Returns
    -------
    Faithfulness or None
        None if there was none.
    """
    result = run.results.load(RESULT)
    if result is None:
        return None
    config = result.config
    values: dict[str, Any] = {
        **{name: config[name] for name in _FACTS},
        **{name: result.arrays[name] for name in _COLUMNS},
    }
    skipped = {int(item): text for item, text in config["skipped"].items()}
    return Faithfulness(names=tuple(config["names"]), skipped=skipped, **values)


def best_layer(found: Faithfulness) -> str:
    """Return the layer whose evidence was the most faithful in a check."""
    for figures in found.figures:
        name = figures.name
        if name == "evidence":
            break
        if name.startswith("evidence at "):
            return name.removeprefix("evidence at ")
    return found.layer


# --------------------------------------------------------------------------------------
# Pairs
# --------------------------------------------------------------------------------------


def _chosen_pairs(
    run: Run, wanted: int | Sequence[int], seed: int
) -> NDArray[np.int64]:
    """Draw the pairs, or check those that were named."""
    table = run.pairs
    if not isinstance(wanted, int):
        chosen = np.unique(np.asarray(list(wanted), dtype=np.int64))
        if len(chosen) == 0 or chosen[0] < 0 or chosen[-1] >= len(table):
            raise DataError(
                f"the pairs of run '{run.key}' are numbered from 0 to "
                f"{len(table) - 1}; name some of these."
            )
        return chosen
    if wanted < 1:
        raise DataError(f"pairs is {wanted!r}; a whole number from 1 is needed.")
    queries = np.unique(table.query)
    found: list[int] = []
    for query in np.random.default_rng(seed).permutation(queries).tolist():
        found += _first_of_each(run, query)
        if len(found) >= wanted:
            break
    return np.sort(np.array(found[:wanted], dtype=np.int64))


def _first_of_each(run: Run, query: int) -> list[int]:
    """Return a query's nearest pair, and the nearest of the other outcome."""
    pairs = run.pairs.of_query(query)
    outcomes = run.pairs.outcome[pairs]
    others = {TRUE_MATCH: FALSE_MATCH, FALSE_MATCH: TRUE_MATCH}
    other = pairs[outcomes == others.get(int(outcomes[0]), -1)]
    return [int(pairs[0]), *other[:1].tolist()]


def _jobs(
    run: Run, pairs: NDArray[np.int64], sides: tuple[int, ...]
) -> dict[int, list[int]]:
    """List, for each image that is masked, the sides that it is on."""
    items = run.pairs.sides()
    jobs: dict[int, list[int]] = {}
    for pair in pairs.tolist():
        for side in sides:
            jobs.setdefault(int(items[2 * pair + side]), []).append(2 * pair + side)
    return jobs


# --------------------------------------------------------------------------------------
# Measuring
# --------------------------------------------------------------------------------------


def _measure(
    run: Run, lab: Lab, chosen: NDArray[np.int64], sides: tuple[int, ...]
) -> Faithfulness:
    """Turn masked embeddings into curves and ranks."""
    kept = [
        pair
        for pair in chosen.tolist()
        if all(2 * pair + side in lab.masked for side in sides)
    ]
    if not kept:
        raise DataError(
            "none of the pairs can be checked; the first: "
            f"{next(iter(lab.skipped.values()))}"
        )
    embeddings = torch.from_numpy(run.embeddings())
    metric: Metric = lab.model.metric
    table, items = run.pairs, run.pairs.sides()
    deletion, insertion, ranks = [], [], []
    for pair in kept:
        first = lab.masked[2 * pair + sides[0]]
        if len(sides) == 2:
            curves = similarity_curves(first, lab.masked[2 * pair + 1], metric)
        else:
            other = embeddings[items[2 * pair + (1 - sides[0])]]
            curves = similarity_curves(first, other.expand(len(lab.names), -1), metric)
        deletion.append(curves.deletion)
        insertion.append(curves.insertion)
        ranks.append(_ranks(run, first, pair, sides, embeddings, metric))
    return Faithfulness(
        kind=run.config.kinds[0],
        names=lab.names,
        side="both" if len(sides) == 2 else SIDES[sides[0]],
        fill=lab.fill,
        model=run.config.model,
        layer=run.config.layer,
        threshold=_threshold(run, table.query[kept], embeddings, metric),
        pairs=np.array(kept, dtype=np.int64),
        queries=table.query[kept].astype(np.int64),
        outcome=table.outcome[kept],
        deletion=np.stack(deletion, axis=1).astype(np.float32),
        insertion=np.stack(insertion, axis=1).astype(np.float32),
        rank=np.stack(ranks, axis=1).astype(np.int32),
        specificity=_mean(lab.specificity),
        stability=_mean(lab.stability),
        remainder=_mean(lab.remainder),
        skipped=lab.skipped,
        seed=lab.seed,
    )


def _ranks(
    run: Run,
    masked: MaskedEmbeddings,
    pair: int,
    sides: tuple[int, ...],
    embeddings: Tensor,
    metric: Metric,
) -> NDArray[np.int64]:
    """Follow a true match's rank among strangers; zeros for any other pair."""
    shape = masked.deletion.shape[:2]
    if sides != (QUERY,) or run.pairs.outcome[pair] != TRUE_MATCH:
        return np.zeros(shape, dtype=np.int64)
    query, partner = int(run.pairs.query[pair]), int(run.pairs.gallery[pair])
    identities = np.array([str(one) for one in run.items.identities])
    strangers = run.items.is_gallery & (identities != identities[query])
    return np.stack(
        [
            partner_ranks(one, embeddings, partner, strangers, metric)
            for one in masked.deletion
        ]
    )


def _threshold(
    run: Run, queries: NDArray[np.integer], embeddings: Tensor, metric: Metric
) -> float:
    """Find the threshold of equal errors of the queries against the gallery."""
    identities = np.array([one or "" for one in run.items.identities])
    genuine, impostor = [], []
    for query in np.unique(queries).tolist():
        scores = similarity(embeddings[query], embeddings, metric).numpy()
        able = run.items.is_gallery & (identities != "") & (identities[query] != "")
        able[query] = False
        same = identities == identities[query]
        genuine.append(scores[able & same])
        impostor.append(scores[able & ~same])
    both = np.concatenate(genuine), np.concatenate(impostor)
    if min(map(len, both)) == 0:
        return float("nan")
    return equal_error_threshold(*both)


def _mean(rows: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Average what is known over images; NaN where nothing is."""
    values = np.stack(rows)
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def _check_options(side: str, fill: str, steps: int) -> None:
    """Refuse options that cannot be used."""
    if side not in SIDES:
        raise DataError(f"unknown side {side!r}; use one of {', '.join(SIDES)}.")
    if fill not in FILLS:
        raise DataError(f"unknown fill {fill!r}; use one of {', '.join(FILLS)}.")
    if steps < 2:
        raise DataError(f"steps is {steps!r}; a whole number from 2 is needed.")


def _model(run: Run, model: EmbeddingModel | str | None) -> EmbeddingModel:
    """Return the run's model, at the run's layer."""
    if model is None or isinstance(model, str):
        from fiftyone_sfam.models import load_model

        model = load_model(model or run.config.model)
    check_model(run, model)
    return model.with_layer(run.config.layer)


def _save(run: Run, found: Faithfulness) -> None:
    """Store a check as a result of the run."""
    config: dict[str, Any] = {
        **{name: getattr(found, name) for name in _FACTS},
        "names": list(found.names),
        "skipped": {str(item): text for item, text in found.skipped.items()},
        "sentence": found.sentence,
        "figures": [asdict(one) for one in found.figures],
    }
    run.results.save(RESULT, config, {name: getattr(found, name) for name in _COLUMNS})
