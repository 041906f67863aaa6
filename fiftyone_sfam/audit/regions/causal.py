"""Does a region matter as much as the ledger says? The region is changed to find out.

The ledger splits a similarity by a linear account of the network's head. What the
network would say of another image is a different question, and this module asks it: a
region of one side's image is blurred, filled or replaced, the image is embedded again,
and the measured drop of the similarity stands beside the ledger's claim. As a control
the same is done to a region of the same area elsewhere: the region's own mask, rolled
to a random place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fiftyone_sfam.audit.regions.causal_lab import RegionLab
from fiftyone_sfam.audit.regions.images import CHANGES, Change, RegionImages, make_fills
from fiftyone_sfam.audit.regions.ledger import EVIDENCE, Ledger, load_ledger
from fiftyone_sfam.audit.regions.partitions import BACKGROUND
from fiftyone_sfam.audit.statistics.bootstrap import (
    Correlation,
    check_seed,
    rank_correlation,
)
from fiftyone_sfam.errors import DataError, ModelError, RunError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import similarity
from fiftyone_sfam.progress import Progress, reporting
from fiftyone_sfam.retrieval.pairs import GALLERY, QUERY
from fiftyone_sfam.runs.blobs import Arrays, unpack_maps
from fiftyone_sfam.runs.run import Run
from fiftyone_sfam.runs.run_table import shard_name

RESULT = "regions_causal"
"""Name of the stored result."""

Side = Literal["query", "gallery"]
LIMIT = 200
PHASE = "changing"

_FACTS = ("region", "field", "change", "side")
_CORRELATIONS = (
    "correlation",
    "share_correlation",
    "control_correlation",
    "crossed_correlation",
    "area_correlation",
)
_COLUMNS = (
    "pairs",
    "items",
    "score",
    "area",
    "claim",
    "drop",
    "control_claim",
    "control_drop",
)


@dataclass(frozen=True)
class CausalCheck:
    """Claims of a ledger beside what changing the region did, for L pairs.

    Attributes
    ----------
    region : str
        Region that was changed.
    field : str or None
        Field that it comes from; None for stripes.
    change : {"replace", "mean", "blur"}
        What was done to it.
    side : {"query", "gallery"}
        Image of the pair that was changed.
    pairs, items : ndarray of int64
        The pairs, and the image of each that was changed, shape (L,).
    score : ndarray of float64
        Similarity before, shape (L,).
    area : ndarray of float64
        Share of the map's area that the region covers, shape (L,).
    claim : ndarray of float64
        What the ledger says that the region carries, in units of the similarity, shape
        (L,).
    drop : ndarray of float64
        By how much the similarity fell, shape (L,).
    control_claim, control_drop : ndarray of float64
        The same for a region of the same area at a random place, shape (L,).
    skipped : dict of int to str
        Images that could not be changed, and why.
    correlation : Correlation
        Of ``claim`` with ``drop``.
    share_correlation : Correlation
        Of both as shares of the score.
    control_correlation : Correlation
        Of ``control_claim`` with ``control_drop``: the ledger at random regions.
    crossed_correlation : Correlation
        Of ``claim`` with ``control_drop``: what the claim would tell if the place did
        not matter.
    area_correlation : Correlation
        Of ``area`` with ``drop``: what could be told without a ledger.
    """

    region: str
    field: str | None
    change: Change
    side: Side
    pairs: NDArray[np.int64]
    items: NDArray[np.int64]
    score: NDArray[np.float64]
    area: NDArray[np.float64]
    claim: NDArray[np.float64]
    drop: NDArray[np.float64]
    control_claim: NDArray[np.float64]
    control_drop: NDArray[np.float64]
    skipped: dict[int, str]
    correlation: Correlation
    share_correlation: Correlation
    control_correlation: Correlation
    crossed_correlation: Correlation
    area_correlation: Correlation

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def sentence(self) -> str:
        """The finding in words."""
        done = {"replace": "replaced", "mean": "painted over", "blur": "blurred"}
        return (
            f"with the {self.region} of the {self.side} image {done[self.change]}, the "
            f"similarity falls by {self.drop.mean():.3f} on average, where the ledger "
            f"says that it carries {self.claim.mean():.3f}; rank correlation of the "
            f"two {self.correlation}, {len(self)} pairs; the same area at a random "
            f"place: it falls by {self.control_drop.mean():.3f} where the ledger says "
            f"{self.control_claim.mean():.3f}."
        )


def check_causally(
    run: Run,
    model: EmbeddingModel | str,
    pairs: Sequence[int] | None = None,
    *,
    ledger: Ledger | None = None,
    region: str = BACKGROUND,
    change: Change = "replace",
    side: Side = "query",
    draws: int = 3,
    limit: int = LIMIT,
    batch_size: int = 32,
    seed: int = 0,
    save: bool = True,
    progress: bool | Progress | None = False,
) -> CausalCheck:
    """Change a region of images, and compare the drop with the ledger's claim.

    Parameters
    ----------
    run : Run
        The run.
    model : EmbeddingModel or str
        The model that it was made with, or its name.
    pairs : sequence of int, optional
        Pairs to check; None takes those of rank 1.
    ledger : Ledger, optional
        The ledger to check; None takes the stored one.
    region : str
        One of its regions.
    change : {"replace", "mean", "blur"}
        ``replace`` puts the same region of another image there (of another identity,
        where known), and its mean color where that image has something else;
        ``mean`` paints it in the mean color of the run's images; ``blur`` blurs it.
    side : {"query", "gallery"}
        Image of the pair that is changed.
    draws : int
        How often a replacement, and the place of the control, is drawn anew; the drops
        are averaged.
    limit : int
        Most pairs; of more, so many are drawn.
    batch_size : int
        Images per forward pass.
    seed : int
        Seed of all draws.
    save : bool
        Store the check as the run's result ``"regions_causal"``.
    progress : bool or callable, optional
        As for :func:`fiftyone_sfam.explain_retrieval`; counts images.

    Returns
    -------
    CausalCheck
        Claims and drops.

    Raises
    ------
    ModelError
        If the model's weights are not the run's.
    RunError
        If there is no ledger.
    DataError
        If an option cannot be used, or no pair can be checked.
    """
    if isinstance(model, str):
        from fiftyone_sfam.models import load_model

        model = load_model(model)
    check_model(run, model)
    _check_options(change, side, draws, limit)
    ledger = ledger or load_ledger(run)
    if ledger is None:
        raise RunError(
            f"the run '{run.key}' has no ledger to check; make one with build_ledger."
        )
    which = QUERY if side == "query" else GALLERY
    check_seed(seed)
    generator = np.random.default_rng(seed)
    rows = _chosen_rows(ledger, pairs, ledger.column(region), which, limit, generator)
    items = _sides(ledger, which)[rows]
    images = RegionImages(run, ledger.field, len(ledger.regions), region)
    known = np.flatnonzero(ledger.item_area[:, ledger.column(region)] > 0)
    fills = make_fills(images, change, known.tolist(), generator)
    embeddings = torch.from_numpy(run.embeddings())
    lab = RegionLab(run, model, images, fills, draws, seed)
    with reporting(progress) as report:
        wanted = np.unique(items).tolist()
        for done in lab.change(wanted, embeddings, batch_size):
            if report is not None:
                report(done, len(wanted), PHASE)
    kept = np.array([item in lab.found for item in items.tolist()])
    if not kept.any():
        raise DataError(
            "none of the pairs can be checked; the first: "
            f"{next(iter(lab.skipped.values()))}"
        )
    columns = _measure(run, ledger, lab, rows[kept], which, region, embeddings)
    values: dict[str, Any] = {**columns, **_correlations(columns, seed)}
    check = CausalCheck(
        region, ledger.field, change, side, skipped=lab.skipped, **values
    )
    if save:
        _save(run, check)
    return check


def load_causal_check(run: Run) -> CausalCheck | None:
    """Read the stored check of a run."""
    result = run.results.load(RESULT)
    if result is None:
        return None
    values: dict[str, Any] = {
        **{name: result.config[name] for name in _FACTS},
        **{name: Correlation(**result.config[name]) for name in _CORRELATIONS},
        **{name: result.arrays[name] for name in _COLUMNS},
    }
    skipped = {int(item): text for item, text in result.config["skipped"].items()}
    return CausalCheck(skipped=skipped, **values)


# --------------------------------------------------------------------------------------
# Measuring
# --------------------------------------------------------------------------------------


def _measure(
    run: Run,
    ledger: Ledger,
    lab: RegionLab,
    rows: NDArray[np.int64],
    which: int,
    region: str,
    embeddings: torch.Tensor,
) -> dict[str, NDArray[Any]]:
    """Compare what changed with what the ledger says."""
    items, partners = _sides(ledger, which)[rows], _sides(ledger, 1 - which)[rows]
    evidence = _evidence(run, ledger.pairs[rows], which)
    column = ledger.column(region)
    metric = run.config.metric
    measured = []
    for place, (item, partner) in enumerate(
        zip(items.tolist(), partners.tolist(), strict=True)
    ):
        one, other = lab.found[item], embeddings[partner]
        before = float(similarity(one.original, other, metric))
        after = similarity(one.changed, other, metric).numpy()
        beside = similarity(one.control, other, metric).numpy()
        claimed = (one.controls * evidence[place]).sum(axis=(1, 2))
        measured.append(
            (before, before - after.mean(), claimed.mean(), before - beside.mean())
        )
    score, drop, control_claim, control_drop = np.array(measured, np.float64).T
    return {
        "pairs": ledger.pairs[rows],
        "items": items,
        "score": score,
        "area": ledger.item_area[items, column].astype(np.float64),
        "claim": ledger.shares[rows, which, column].astype(np.float64),
        "drop": drop,
        "control_claim": control_claim,
        "control_drop": control_drop,
    }


def _evidence(run: Run, pairs: NDArray[np.int64], which: int) -> NDArray[np.float32]:
    """Read one side's evidence maps of some pairs, shard by shard."""
    shards, rows = run.locate(2 * np.asarray(pairs, dtype=np.int64) + which)
    places = list(zip(shards.tolist(), rows.tolist(), strict=True))
    maps = np.zeros((len(pairs), *run.config.map_shape[1:]), dtype=np.float32)
    for number in sorted({shard for shard, _ in places}):
        shard = run.store.get(shard_name(number))
        for place, (of_shard, row) in enumerate(places):
            if of_shard == number:
                chosen = slice(row, row + 1)
                maps[place] = unpack_maps(
                    shard[f"{EVIDENCE}_values"][chosen],
                    shard[f"{EVIDENCE}_scale"][chosen],
                )[0]
    return maps


# --------------------------------------------------------------------------------------
# Helpers
# --------------------------------------------------------------------------------------


def check_model(run: Run, model: EmbeddingModel) -> None:
    """Refuse a model that the run was not made with."""
    found = model.weights_hash()
    if found != run.config.weights_hash:
        raise ModelError(
            f"the weights of model '{model.name}' ({found}) are not those that the run "
            f"'{run.key}' was made with ('{run.config.model}', "
            f"{run.config.weights_hash}); give that model, or make a new run."
        )


def _check_options(change: str, side: str, draws: int, limit: int) -> None:
    """Refuse options that cannot be used."""
    if change not in CHANGES:
        raise DataError(f"unknown change {change!r}; use one of {', '.join(CHANGES)}.")
    if side not in ("query", "gallery"):
        raise DataError(f"unknown side {side!r}; use query or gallery.")
    for name, value in (("draws", draws), ("limit", limit)):
        if value < 1:
            raise DataError(f"{name} is {value!r}; a whole number from 1 is needed.")


def _chosen_rows(
    ledger: Ledger,
    pairs: Sequence[int] | None,
    column: int,
    which: int,
    limit: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Choose the rows of a ledger that are checked, in order."""
    if pairs is None:
        wanted = ledger.rank == 1
    else:
        wanted = np.isin(ledger.pairs, np.asarray(list(pairs), dtype=np.int64))
    rows = np.flatnonzero(wanted & ~np.isnan(ledger.shares[:, which, column]))
    if len(rows) == 0:
        raise DataError(
            "none of the pairs is in the ledger with regions on this side; choose "
            "others."
        )
    if len(rows) > limit:
        rows = np.sort(generator.choice(rows, limit, replace=False))
    return rows


def _sides(ledger: Ledger, which: int) -> NDArray[np.int64]:
    """Return the images of one side of a ledger's pairs."""
    return (ledger.query if which == QUERY else ledger.gallery).astype(np.int64)


def _correlations(
    columns: dict[str, NDArray[Any]], seed: int
) -> dict[str, Correlation]:
    """Correlate claims with drops, and what they are compared with."""
    claim, drop, score = columns["claim"], columns["drop"], columns["score"]
    positive = score > 0
    pairs = {
        "correlation": (claim, drop),
        "control_correlation": (columns["control_claim"], columns["control_drop"]),
        "crossed_correlation": (claim, columns["control_drop"]),
        "area_correlation": (columns["area"], drop),
    }
    items = columns["items"]
    found = {
        name: rank_correlation(one, other, items, seed)
        for name, (one, other) in pairs.items()
    }
    found["share_correlation"] = rank_correlation(
        claim[positive] / score[positive],
        drop[positive] / score[positive],
        items[positive],
        seed,
    )
    return found


def _save(run: Run, check: CausalCheck) -> None:
    """Store a check as a result of the run."""
    skipped = {str(item): text for item, text in check.skipped.items()}
    config = {
        **{name: getattr(check, name) for name in _FACTS},
        **{name: asdict(getattr(check, name)) for name in _CORRELATIONS},
        "skipped": skipped,
        "sentence": check.sentence,
    }
    arrays: Arrays = {name: getattr(check, name) for name in _COLUMNS}
    run.results.save(RESULT, config, arrays)
